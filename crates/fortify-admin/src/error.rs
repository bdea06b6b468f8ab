//! The refusals of the admin interface, and how they become answers.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::accounts::AccountsError;
use fortify_core::entropy::EntropyError;
use fortify_core::sqlite::FileError;
use fortify_reputation::ReputationError;
use fortify_store::StoreError;

/// Why a request is refused. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The request is not authenticated.
    #[error("log in at /admin/login, or send a valid API token as Authorization: Bearer")]
    Unauthenticated,
    /// Name, password or code are wrong. The message does not say which.
    #[error("name, password or one-time code are not right; try again")]
    BadLogin,
    /// The setup token is wrong or was already used.
    #[error(
        "the setup token is not right or was used; use the one that the gate printed at its first \
         start, or create an account with: fortify admin add"
    )]
    BadSetup,
    /// The role is too low.
    #[error("this takes the role {0}; ask an admin")]
    Role(super::identity::Role),
    /// The form lacks the token that our pages put into it.
    #[error(
        "the form was not sent from a page of this session; load the page again and send it from there"
    )]
    Form,
    /// There were too many wrong passwords.
    #[error(
        "too many wrong passwords; wait {} s, or use the unix socket, which never waits: fortify status",
        .0.as_secs().max(1)
    )]
    Wait(Duration),
    /// The request is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// The object does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The address does not take this method.
    #[error("this address takes another method; GET /admin/api/v1/openapi.json lists all")]
    Method,
    /// The request contradicts the current state.
    #[error("{0}")]
    Conflict(String),
    /// The body is too long.
    #[error("the request is too large; send at most 32 KiB")]
    TooLarge,
    /// A limit on concurrent work is reached.
    #[error("busy: {0}; try again in a second")]
    Busy(&'static str),
    /// A component does not work.
    #[error("{0}")]
    Unavailable(String),
}

/// The body of a refusal.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Problem {
    /// A fixed, machine-readable code.
    pub code: &'static str,
    /// What happened and what to do, for people.
    pub message: String,
}

impl AdminError {
    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated | Self::BadLogin | Self::BadSetup => StatusCode::UNAUTHORIZED,
            Self::Role(_) | Self::Form => StatusCode::FORBIDDEN,
            Self::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The machine-readable code, which is also the metric's label.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::BadLogin => "bad_login",
            Self::BadSetup => "bad_setup",
            Self::Role(_) => "role",
            Self::Form => "form",
            Self::Wait(_) => "wait",
            Self::BadRequest(_) => "bad_request",
            Self::NotFound(_) => "not_found",
            Self::Method => "method",
            Self::Conflict(_) => "conflict",
            Self::TooLarge => "too_large",
            Self::Busy(_) => "busy",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Seconds to wait before a retry.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            // Rounded up, so that a retry is never too early.
            Self::Wait(wait) => Some(wait.as_millis().div_ceil(1000).max(1) as u64),
            Self::Busy(_) => Some(1),
            _ => None,
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        if let Self::Unavailable(error) = &self {
            tracing::error!(error, "answered an operator with 503");
        }
        let problem = Problem { code: self.code(), message: self.to_string() };
        let mut response = super::response::json(self.status(), &problem);
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<AccountsError> for AdminError {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::NoUser | AccountsError::NoToken => Self::NotFound(error.to_string()),
            AccountsError::Exists
            | AccountsError::LastAdmin
            | AccountsError::TooMany
            | AccountsError::SetUp => Self::Conflict(error.to_string()),
            AccountsError::BadSetup => Self::BadSetup,
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<ReputationError> for AdminError {
    fn from(error: ReputationError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<FileError> for AdminError {
    fn from(error: FileError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<EntropyError> for AdminError {
    fn from(error: EntropyError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

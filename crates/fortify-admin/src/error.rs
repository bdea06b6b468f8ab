//! Why the admin interface refuses, and the one place where that becomes an answer.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::accounts::AccountsError;
use fortify_core::entropy::EntropyError;
use fortify_core::sqlite::FileError;
use fortify_engine::reputation::ReputationError;
use fortify_store::StoreError;

/// Why an operator does not get what they asked for. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody known is asking.
    #[error(
        "log in at /admin/login, or send an API token that is in force as Authorization: Bearer"
    )]
    Unauthenticated,
    /// Name, password and code are not those of an account. Which of them is not said.
    #[error("name, password or one-time code are not right; try again")]
    BadLogin,
    /// The setup token is not right, or was used.
    #[error(
        "the setup token is not right or was used; use the one that the gate showed at its first \
         start, or make an account with: fortify admin add"
    )]
    BadSetup,
    /// The role is not enough.
    #[error("this takes the role {0}; ask an admin")]
    Role(super::identity::Role),
    /// A form without the token that our own pages put into it.
    #[error(
        "the form was not sent from a page of this session; load the page again and send it from there"
    )]
    Form,
    /// Too many wrong passwords.
    #[error(
        "too many wrong passwords; wait {} s, or use the unix socket, which never waits: fortify status",
        .0.as_secs().max(1)
    )]
    Wait(Duration),
    /// The request cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The address takes another method.
    #[error("this address takes another method; GET /admin/api/v1/openapi.json lists all")]
    Method,
    /// What is asked contradicts how things stand.
    #[error("{0}")]
    Conflict(String),
    /// More was sent than any form has.
    #[error("the request is too large; send at most 32 KiB")]
    TooLarge,
    /// Everything that could be done at once is being done.
    #[error("busy: {0}; try again in a second")]
    Busy(&'static str),
    /// A part does not work.
    #[error("{0}")]
    Unavailable(String),
}

/// The body of an answer that refuses.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Problem {
    /// A fixed word for programs.
    pub code: &'static str,
    /// For people: what to do.
    pub message: String,
}

impl AdminError {
    /// The status.
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

    /// The word for programs, and in the metric.
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

    /// Seconds after which trying again makes sense.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            // Rounded up: who comes at the second is not too early.
            Self::Wait(wait) => Some(wait.as_millis().div_ceil(1000).max(1) as u64),
            Self::Busy(_) => Some(1),
            _ => None,
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        if let Self::Unavailable(error) = &self {
            tracing::error!(error, "an operator was answered with 503");
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

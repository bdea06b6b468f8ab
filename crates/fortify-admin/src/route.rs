//! One address of the admin interface: its path, who may use it, and what answers.

use axum::http::Method;
use axum::response::{IntoResponse as _, Response};

use super::error::AdminError;
use super::handler::{Describe, Handler, Operation};
use super::identity::Role;

/// The prefix of the API's paths.
pub const API: &str = "/admin/api/v1";

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone: the answer reveals nothing about this gate.
    Public,
    /// Anyone who sends a form that one of our own pages served before log-in.
    Form,
    /// Holders of this role or a higher one.
    Role(Role),
}

/// One address.
#[derive(Clone)]
pub struct Route {
    /// GET or POST.
    pub method: Method,
    /// The path; names in braces are arguments.
    pub path: String,
    /// Who may use it.
    pub access: Access,
    /// Its purpose, in one line.
    pub summary: &'static str,
    /// The function that answers.
    pub handler: Handler,
    /// The schema of its arguments.
    pub takes: Describe,
    /// The schema of its result; `None` if the result is not JSON.
    pub gives: Option<Describe>,
    /// Turns a refusal into an answer: JSON, or a page of the dashboard.
    pub refuse: fn(AdminError) -> Response,
}

impl Route {
    /// A route of the API, at `path` under [`API`]: it refuses in JSON.
    pub(super) fn api(
        method: Method,
        path: &str,
        access: Access,
        summary: &'static str,
        operation: Operation,
    ) -> Self {
        let Operation { handler, takes, gives } = operation;
        Self {
            method,
            path: format!("{API}{path}"),
            access,
            summary,
            handler,
            takes,
            gives,
            refuse,
        }
    }

    /// A page of the dashboard, at `path` under `/admin`; `refuse` writes its refusals, which are pages too.
    pub(super) fn page(
        method: Method,
        path: &str,
        access: Access,
        summary: &'static str,
        operation: Operation,
        refuse: fn(AdminError) -> Response,
    ) -> Self {
        let Operation { handler, takes, gives } = operation;
        Self {
            method,
            path: format!("/admin{path}"),
            access,
            summary,
            handler,
            takes,
            gives,
            refuse,
        }
    }
}

/// A refusal in JSON.
pub(super) fn refuse(error: AdminError) -> Response {
    error.into_response()
}

//! The dashboard: pages of plain HTML over the same operations as the API.
//!
//! A page is a `Route::page`, made with [`raw`] from a function that calls an operation and writes HTML. No page
//! has a script. Forms carry the session's token in a hidden field `csrf` and are sent with POST. After a change
//! the browser is redirected with 303; after an error it gets the form's page again, with the error.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - `view`: head, navigation and security policy of every page; times and numbers as text;
//! - `plot`: a chart with its description; `qr`: a QR code;
//! - `entry`: log-in, log-out and the first account; `account`: the user's own password and one-time codes;
//! - `overview`, `dial`, `circuits`, `challenges`, `behaviour`, `audit`, `config`, `maintenance`, `users`: one page each,
//!   with its forms;
//! - this file: the table of pages, and refusals as pages.

mod account;
mod audit;
mod behaviour;
mod challenges;
mod circuits;
mod config;
mod dial;
mod entry;
mod maintenance;
mod overview;
mod plot;
mod qr;
mod users;
mod view;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::error::AdminError;
use super::handler::{Context, raw};
use super::identity::Role;
use super::route::{Access, Route};

/// The header with a refusal's machine-readable code, which the API has in the body.
const CODE: HeaderName = HeaderName::from_static("x-fortify-code");

/// Every page.
pub(super) fn routes() -> Vec<Route> {
    use Access::{Form, Public};
    const VIEWER: Access = Access::Role(Role::Viewer);
    const OPERATOR: Access = Access::Role(Role::Operator);
    const ADMIN: Access = Access::Role(Role::Admin);
    vec![
        get("/login", Public, "Log in", entry::login),
        post("/login", Form, "Log in", entry::log_in),
        get("/setup", Public, "Create the first account", entry::setup),
        post("/setup", Form, "Create the first account", entry::set_up),
        post("/logout", VIEWER, "Log out", entry::log_out),
        get("/account", VIEWER, "Your account", account::show),
        post("/account/password", VIEWER, "Change your password", account::password),
        post("/account/totp", VIEWER, "Set up or turn off your one-time codes", account::totp),
        get("", VIEWER, "State of the gate", overview::show),
        get("/dial", VIEWER, "Threat level", dial::show),
        post("/dial/set", OPERATOR, "Set the threat level", dial::set),
        post("/dial/pin", OPERATOR, "Pin the threat level", dial::pin),
        post("/dial/auto", OPERATOR, "Return the threat level to automatic control", dial::auto),
        get("/circuits", VIEWER, "Circuits", circuits::list),
        get("/circuits/find", VIEWER, "Find a circuit", circuits::find),
        post("/circuits/flush", OPERATOR, "Reset many circuits", circuits::flush),
        get("/circuits/{circuit}", VIEWER, "One circuit, explained", circuits::show),
        post("/circuits/{circuit}/ban", OPERATOR, "Ban a circuit", circuits::ban),
        post("/circuits/{circuit}/promote", OPERATOR, "Trust a circuit", circuits::promote),
        post("/circuits/{circuit}/reset", OPERATOR, "Reset a circuit", circuits::reset),
        post("/circuits/{circuit}/kill", OPERATOR, "Close a circuit through tor", circuits::kill),
        post("/sessions/revoke", OPERATOR, "Revoke a visitor's session", circuits::revoke),
        get("/challenges", VIEWER, "How challenges are answered", challenges::show),
        get("/challenges/sample", VIEWER, "A sample picture", challenges::sample),
        get("/behaviour", VIEWER, "Behaviour of circuits", behaviour::show),
        get("/audit", VIEWER, "Record of changes", audit::show),
        get("/config", VIEWER, "Current configuration", config::show),
        get("/maintenance", VIEWER, "Maintenance of the site", maintenance::show),
        post(
            "/maintenance/on",
            OPERATOR,
            "Have visitors told that the site is being worked on",
            maintenance::begin,
        ),
        post("/maintenance/off", OPERATOR, "Let visitors in again", maintenance::end),
        get("/users", ADMIN, "Accounts and tokens", users::show),
        post("/users", ADMIN, "Create an account", users::add),
        post("/users/{name}/role", ADMIN, "Change a role", users::role),
        post("/users/{name}/password", ADMIN, "Set a password", users::password),
        post("/users/{name}/totp", ADMIN, "Set up or turn off one-time codes", users::totp),
        post("/users/{name}/remove", ADMIN, "Remove an account", users::remove),
        post("/tokens", ADMIN, "Create an API token", users::add_token),
        post("/tokens/{id}/revoke", ADMIN, "Revoke an API token", users::revoke_token),
    ]
}

fn get<A, F, Fut>(path: &str, access: Access, summary: &'static str, page: F) -> Route
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    F: Fn(Context, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, AdminError>> + Send,
{
    Route::page(Method::GET, path, access, summary, raw(page, |response| response), refuse)
}

fn post<A, F, Fut>(path: &str, access: Access, summary: &'static str, page: F) -> Route
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    F: Fn(Context, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, AdminError>> + Send,
{
    Route::page(Method::POST, path, access, summary, raw(page, |response| response), refuse)
}

/// A refusal as a page. Without authentication it redirects to the log-in.
pub(super) fn refuse(error: AdminError) -> Response {
    if matches!(error, AdminError::Unauthenticated) {
        let mut response = view::go("/admin/login", None);
        response.headers_mut().insert(CODE, HeaderValue::from_static(error.code()));
        return response;
    }
    let (title, link) = match error {
        AdminError::NotFound(_) => ("Not found", ("/admin", "Go to the overview")),
        AdminError::Role(_) => ("Not allowed with this role", ("/admin", "Go to the overview")),
        AdminError::Form => ("The form has expired", ("/admin", "Start again")),
        _ => ("Something went wrong", ("/admin", "Go to the overview")),
    };
    let page = view::message(title, &error.to_string(), link);
    view::because(page, error)
}

/// The status and headers of a refusal in the API, for a page that says the same.
fn answer_of(error: AdminError) -> (StatusCode, HeaderMap) {
    let code = error.code();
    let (mut parts, _body) = error.into_response().into_parts();
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(CODE, HeaderValue::from_static(code));
    (parts.status, parts.headers)
}

//! The dashboard: pages of plain HTML over the same operations as the API.
//!
//! A page is a [`Route::page`] in `routes`, made with [`raw`] from a function that calls an operation and
//! writes HTML. There is no script on any of them. Forms carry the session's token in a hidden field `csrf`
//! and are sent with POST to a page of ours; after a change the browser is sent on with 303, and what went
//! wrong is said on the page that the form is on.
//!
//! # Layout
//!
//! - this file: the table of pages, and how a refusal looks;
//! - `view`: what pages share: head and navigation, policy, times and numbers as people read them;
//! - `plot`: a chart with its words; `qr`: a QR code;
//! - `entry`: in and out, the first account; `account`: one's own password and codes;
//! - `overview`, `dial`, `circuits`, `challenges`, `behaviour`, `audit`, `config`, `users`: one page each,
//!   with its forms.

mod account;
mod audit;
mod behaviour;
mod challenges;
mod circuits;
mod config;
mod dial;
mod entry;
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

/// The word for programs of a refusal, which in the API is in its body.
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
        get("/setup", Public, "Make the first account", entry::setup),
        post("/setup", Form, "Make the first account", entry::set_up),
        post("/logout", VIEWER, "Log out", entry::log_out),
        get("/account", VIEWER, "One's own account", account::show),
        post("/account/password", VIEWER, "Change one's password", account::password),
        post("/account/totp", VIEWER, "Begin with one-time codes anew", account::totp),
        get("", VIEWER, "How the gate is doing", overview::show),
        get("/dial", VIEWER, "The threat dial", dial::show),
        post("/dial/set", OPERATOR, "Turn the dial by hand", dial::set),
        post("/dial/pin", OPERATOR, "Hold the dial", dial::pin),
        post("/dial/auto", OPERATOR, "Give the dial back to itself", dial::auto),
        get("/circuits", VIEWER, "Circuits", circuits::list),
        get("/circuits/find", VIEWER, "Look for a circuit", circuits::find),
        post("/circuits/flush", OPERATOR, "Take standings back", circuits::flush),
        get("/circuits/{circuit}", VIEWER, "A circuit, explained", circuits::show),
        post("/circuits/{circuit}/ban", OPERATOR, "Refuse a circuit", circuits::ban),
        post("/circuits/{circuit}/promote", OPERATOR, "Favour a circuit", circuits::promote),
        post("/circuits/{circuit}/reset", OPERATOR, "Take a ban or favour back", circuits::reset),
        post("/circuits/{circuit}/kill", OPERATOR, "Have tor close a circuit", circuits::kill),
        post("/sessions/revoke", OPERATOR, "End a visitor's session", circuits::revoke),
        get("/challenges", VIEWER, "How challenges are answered", challenges::show),
        get("/challenges/sample", VIEWER, "A picture of a level", challenges::sample),
        get("/behaviour", VIEWER, "What circuits look like", behaviour::show),
        get("/audit", VIEWER, "What was changed", audit::show),
        get("/config", VIEWER, "The configuration in force", config::show),
        get("/users", ADMIN, "Accounts and tokens", users::show),
        post("/users", ADMIN, "Make an account", users::add),
        post("/users/{name}/role", ADMIN, "Change a role", users::role),
        post("/users/{name}/password", ADMIN, "Set a password", users::password),
        post("/users/{name}/totp", ADMIN, "Set or drop one-time codes", users::totp),
        post("/users/{name}/remove", ADMIN, "Remove an account", users::remove),
        post("/tokens", ADMIN, "Make an API token", users::add_token),
        post("/tokens/{id}/revoke", ADMIN, "End an API token", users::revoke_token),
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

/// A refusal as a page: who is not logged in goes to the log-in.
pub(super) fn refuse(error: AdminError) -> Response {
    if matches!(error, AdminError::Unauthenticated) {
        let mut response = view::go("/admin/login", None);
        response.headers_mut().insert(CODE, HeaderValue::from_static(error.code()));
        return response;
    }
    let (title, link) = match error {
        AdminError::NotFound(_) => ("There is no such thing", ("/admin", "To the overview")),
        AdminError::Role(_) => ("Not with this role", ("/admin", "To the overview")),
        AdminError::Form => ("The form was too old", ("/admin", "Begin again")),
        _ => ("This did not work", ("/admin", "To the overview")),
    };
    let page = view::message(title, &error.to_string(), link);
    view::because(page, error)
}

/// Takes the status and what goes with it from a refusal in the API's form, for a page that says the same.
fn answer_of(error: AdminError) -> (StatusCode, HeaderMap) {
    let code = error.code();
    let (mut parts, _body) = error.into_response().into_parts();
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(CODE, HeaderValue::from_static(code));
    (parts.status, parts.headers)
}

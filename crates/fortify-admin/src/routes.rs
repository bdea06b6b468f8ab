//! Every address of the admin interface, in one table.
//!
//! The router, the check of roles, the OpenAPI document and the test of all roles against all routes are made
//! from it, so none of them can miss a route. A route without [`Access`] does not compile, and `access` is the
//! only way to a handler.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use bytes::Bytes;
use tower_http::catch_panic::CatchPanicLayer;

use super::access::{self, Ingress};
use super::error::AdminError;
use super::handler::{Context, Nothing, operation, raw, with_cookies};
use super::identity::Role;
use super::operations::{
    audit, behaviour, challenges, circuits, config, dial, explain, maintenance, metrics, reload,
    sessions, status, tokens, users,
};
use super::response::json_text;
use super::route::refuse;
pub use super::route::{API, Access, Route};
use super::{SharedAdmin, login, openapi, pages};

/// Every route.
#[must_use]
pub fn routes() -> Vec<Route> {
    use Access::{Form, Public};
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const VIEWER: Access = Access::Role(Role::Viewer);
    const OPERATOR: Access = Access::Role(Role::Operator);
    const ADMIN: Access = Access::Role(Role::Admin);
    let api = Route::api;
    let mut all = vec![
        api(GET, "/openapi.json", Public, "This document", raw(openapi_document, |text| text)),
        api(GET, "/login", Public, "A CSRF token for the log-in form", with_cookies(login::before)),
        api(POST, "/login", Form, "Log in", with_cookies(login::log_in)),
        api(POST, "/setup", Form, "Create the first account", with_cookies(login::set_up)),
        api(POST, "/logout", VIEWER, "Log out", with_cookies(login::log_out)),
        api(GET, "/me", VIEWER, "Who is asking", operation(login::me)),
        api(
            POST,
            "/me/password",
            VIEWER,
            "Change your password",
            with_cookies(users::own_password),
        ),
        api(
            POST,
            "/me/totp",
            VIEWER,
            "Set up or turn off your one-time codes",
            with_cookies(users::own_totp),
        ),
        api(GET, "/status", VIEWER, "State of the gate", operation(status::show)),
        api(
            GET,
            "/traffic",
            VIEWER,
            "Traffic of the last hour, every ten seconds",
            operation(status::traffic),
        ),
        api(
            GET,
            "/dial",
            VIEWER,
            "Threat level, and what each level requires",
            operation(dial::get),
        ),
        api(
            GET,
            "/dial/history",
            VIEWER,
            "Last changes of the threat level",
            operation(dial::history),
        ),
        api(POST, "/dial/set", OPERATOR, "Set the threat level", operation(dial::set)),
        api(
            POST,
            "/dial/auto",
            OPERATOR,
            "Return the threat level to automatic control",
            operation(dial::auto),
        ),
        api(POST, "/dial/pin", OPERATOR, "Pin the threat level", operation(dial::pin)),
        api(GET, "/circuits", VIEWER, "Circuits, the latest first", operation(circuits::list)),
        api(POST, "/circuits/flush", OPERATOR, "Reset many circuits", operation(circuits::flush)),
        api(GET, "/circuits/{circuit}", VIEWER, "Status of a circuit", operation(circuits::show)),
        api(
            GET,
            "/circuits/{circuit}/explain",
            VIEWER,
            "What the gate would do with a circuit now, and why",
            operation(explain::explain),
        ),
        api(POST, "/circuits/{circuit}/ban", OPERATOR, "Ban a circuit", operation(circuits::ban)),
        api(
            POST,
            "/circuits/{circuit}/promote",
            OPERATOR,
            "Trust a circuit",
            operation(circuits::promote),
        ),
        api(
            POST,
            "/circuits/{circuit}/reset",
            OPERATOR,
            "Reset a circuit",
            operation(circuits::reset),
        ),
        api(
            POST,
            "/circuits/{circuit}/kill",
            OPERATOR,
            "Close a circuit through tor",
            operation(circuits::kill),
        ),
        api(
            POST,
            "/sessions/revoke",
            OPERATOR,
            "Revoke a visitor's session",
            operation(sessions::revoke),
        ),
        api(GET, "/challenges", VIEWER, "How challenges are answered", operation(challenges::show)),
        api(GET, "/behaviour", VIEWER, "Behaviour of circuits", operation(behaviour::show)),
        api(GET, "/audit", VIEWER, "Record of changes, the latest first", operation(audit::show)),
        api(
            GET,
            "/audit/export",
            VIEWER,
            "The complete record of changes as JSON lines",
            raw(audit::export, |text| text),
        ),
        api(GET, "/maintenance", VIEWER, "Maintenance of the site", operation(maintenance::get)),
        api(
            POST,
            "/maintenance/on",
            OPERATOR,
            "Have visitors told that the site is being worked on",
            operation(maintenance::begin),
        ),
        api(
            POST,
            "/maintenance/off",
            OPERATOR,
            "Let visitors in again",
            operation(maintenance::end),
        ),
        api(GET, "/metrics", VIEWER, "Metrics for Prometheus", raw(metrics::show, |text| text)),
        api(GET, "/config", VIEWER, "Current configuration", operation(config::show)),
        api(POST, "/reload", ADMIN, "Reload the configuration", operation(reload::reload)),
        api(GET, "/users", ADMIN, "Accounts", operation(users::list)),
        api(POST, "/users", ADMIN, "Create an account", operation(users::add)),
        api(POST, "/users/{name}/role", ADMIN, "Change a role", operation(users::role)),
        api(POST, "/users/{name}/password", ADMIN, "Set a password", operation(users::password)),
        api(
            POST,
            "/users/{name}/totp",
            ADMIN,
            "Set up or turn off one-time codes",
            operation(users::totp),
        ),
        api(POST, "/users/{name}/remove", ADMIN, "Remove an account", operation(users::remove)),
        api(GET, "/tokens", ADMIN, "API tokens", operation(tokens::list)),
        api(POST, "/tokens", ADMIN, "Create an API token", operation(tokens::add)),
        api(POST, "/tokens/{id}/revoke", ADMIN, "Revoke an API token", operation(tokens::revoke)),
    ];
    all.extend(pages::routes());
    all
}

/// The router of one listener.
pub(super) fn router(admin: &SharedAdmin, ingress: Ingress) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let path = route.path.clone();
        router = router.route(&path, endpoint(admin.clone(), ingress, route));
    }
    router
        .method_not_allowed_fallback(async || refuse(AdminError::Method))
        .fallback(async |request: Request| {
            // The bare address leads to the dashboard.
            if request.method() == Method::GET && matches!(request.uri().path(), "/" | "/admin/") {
                return Redirect::to("/admin").into_response();
            }
            let nothing =
                "nothing at this address; GET /admin/api/v1/openapi.json lists all addresses";
            refuse(AdminError::NotFound(nothing.to_owned()))
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(guard_answer))
}

/// The only place that leads to a handler.
fn endpoint(admin: SharedAdmin, ingress: Ingress, route: Route) -> MethodRouter {
    let filter = if route.method == Method::GET { MethodFilter::GET } else { MethodFilter::POST };
    let route = Arc::new(route);
    on(filter, move |request: Request| {
        let (admin, route) = (admin.clone(), route.clone());
        async move { access::answer(admin, ingress, &route, request).await }
    })
}

/// The payload of the panic is not passed on: it may contain secrets.
fn panicked(_what: Box<dyn std::any::Any + Send>) -> Response {
    refuse(AdminError::Unavailable("a handler panicked; please report this".to_owned()))
}

/// Adds security headers to every answer: browsers may not cache, frame, sniff or run anything.
async fn guard_answer(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Pages of the dashboard set their own.
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    ));
    response
}

/// `GET /admin/api/v1/openapi.json`.
async fn openapi_document(_: Context, _: Nothing) -> Result<Response, AdminError> {
    Ok(json_text(openapi_text()))
}

/// The OpenAPI document as it is sent. Anyone may ask for it and it takes a while to generate, so it is generated
/// once.
fn openapi_text() -> Bytes {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        serde_json::to_vec(&openapi::document(&routes())).unwrap_or_default().into()
    });
    TEXT.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_openapi_document_is_generated_once() {
        assert!(openapi_text().len() > 1000);
        let same = openapi_text().as_ptr() == openapi_text().as_ptr();
        assert!(same, "generated for each request");
    }
}

//! Which address leads where, and through what every request passes on its way.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use crate::addresses::AUTH;
use crate::app::{App, SharedApp};
use crate::error::{self, Asked, WebError};
use crate::maintenance::Notice;
use crate::{addresses, auth, challenge, enter, probes, protect, session, simple_api};

/// Addresses that go on: supervisors', and the question of nginx, which [`crate::auth`] answers itself.
const GO_ON: [&str; 5] = ["/health", "/ready", "/metrics", "/api/status", AUTH];

/// The gate as a service.
///
/// Layers run from the outside in: maintenance, and the body of a fault; a panic, which would be a
/// mistake of ours, becomes such a fault instead of a broken connection. They are one layer to axum,
/// which boxes every route again for each. Handlers bound the bodies that they read, and the rest is
/// streamed: none uses an extractor, so axum's own limit never applies.
pub fn router(app: SharedApp) -> Router {
    let layers = ServiceBuilder::new()
        .layer(middleware::from_fn_with_state(app.clone(), edge))
        .layer(CatchPanicLayer::custom(panicked));
    Router::new()
        .route("/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .route("/captcha/generate", post(challenge::generate))
        .route("/captcha/{file}", get(challenge::picture))
        .route("/validate-captcha", post(challenge::validate))
        .route("/api/captcha-image", get(simple_api::image))
        .route("/verify-captcha", post(simple_api::verify))
        .route("/api/status", get(simple_api::status))
        .route("/api/session", get(session::show))
        .route("/api/session/logout", post(session::log_out))
        .route(addresses::ENTER, get(enter::enter))
        .route(addresses::TURN, get(enter::turn))
        .route(AUTH, any(auth::auth))
        .method_not_allowed_fallback(error::wrong_method)
        .fallback(protect::pass)
        .layer(layers)
        .with_state(app)
}

/// What was thrown stays untold: it may hold what the handler held.
fn panicked(_what: Box<dyn std::any::Any + Send>) -> Response {
    WebError::Unavailable("a handler panicked; please report this".to_owned()).into_response()
}

/// Answers visitors during maintenance, before anything is read about them, and gives faults their body.
async fn edge(State(app): State<SharedApp>, request: Request, next: Next) -> Response {
    let asked = Asked::of(&request);
    let response = match notice(&app, &request) {
        Some(notice) => WebError::Maintenance(Box::new(notice)).into_response(),
        None => next.run(request).await,
    };
    asked.render(&app, response)
}

/// What visitors are told in place of an answer, if there is maintenance.
fn notice(app: &App, request: &Request) -> Option<Notice> {
    let now = app.clock.now();
    let maintenance = app.maintenance.at(now)?;
    let goes_on = GO_ON.contains(&request.uri().path());
    (!goes_on).then(|| Notice::of(&maintenance, now))
}

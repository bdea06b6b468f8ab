//! Which address leads where, and through what every request passes on its way.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::addresses::AUTH;
use crate::app::SharedApp;
use crate::error::{self, WebError};
use crate::maintenance::Notice;
use crate::{addresses, auth, challenge, enter, probes, protect, session, simple_api};

/// Addresses that go on: supervisors', and the question of nginx, which [`crate::auth`] answers itself.
const GO_ON: [&str; 5] = ["/health", "/ready", "/metrics", "/api/status", AUTH];

/// The gate as a service.
///
/// Layers run from the outside in: faults get their body from [`error::render`]; a panic, which
/// would be a mistake of ours, becomes such a fault instead of a broken connection; handlers bound
/// the bodies that they read themselves, and the rest is streamed.
pub fn router(app: SharedApp) -> Router {
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
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), hold_during_maintenance))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(app.clone(), error::render))
        .with_state(app)
}

/// What was thrown stays untold: it may hold what the handler held.
fn panicked(_what: Box<dyn std::any::Any + Send>) -> Response {
    WebError::Unavailable("a handler panicked; please report this".to_owned()).into_response()
}

/// Answers visitors during maintenance, before anything is read about them.
async fn hold_during_maintenance(
    State(app): State<SharedApp>,
    request: Request,
    next: Next,
) -> Response {
    if GO_ON.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let now = app.clock.now();
    match app.maintenance.at(now) {
        None => next.run(request).await,
        Some(maintenance) => {
            WebError::Maintenance(Box::new(Notice::of(&maintenance, now))).into_response()
        }
    }
}

//! What supervisors ask: alive, ready, and in numbers.

use std::sync::atomic::Ordering;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use crate::app::{App, SharedApp};
use crate::error::WebError;
use crate::pages;
use fortify_config::OperatorEndpoints;
use fortify_core::circuit::{CIRCUIT_HEADER, Connection};
use fortify_core::telemetry::exposition::Format;

/// Headers by which a proxy tells that a request is not its own.
const FORWARDED: [&str; 7] = [
    CIRCUIT_HEADER,
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "forwarded",
    "via",
];

/// `GET /health`: the process answers.
pub async fn health() -> Response {
    pages::json(StatusCode::OK, &serde_json::json!({"status": "ok"}))
}

/// `GET /ready`: the store answers and a picture can be drawn; 503 until both do. The state of `HAProxy` and of the
/// file of circuit statuses is reported but does not change the status: requests are served without them.
///
/// # Errors
///
/// [`WebError::NotFound`] for everybody but a supervisor on a trusted address.
pub async fn ready(
    State(app): State<SharedApp>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    require_supervisor(&app, &connection, &headers)?;
    let readiness = app.readiness().await;
    let status =
        if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(pages::json(status, &readiness))
}

/// `GET /metrics`, for Prometheus, and in the older text form for everybody else.
///
/// # Errors
///
/// As [`ready`].
pub async fn metrics(
    State(app): State<SharedApp>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    require_supervisor(&app, &connection, &headers)?;
    exposition(&app, &headers).await.map_err(|e| WebError::Unavailable(e.to_string()))
}

/// Everything that is counted, as it is now, in the form that `headers` ask for: for whoever was let in.
///
/// # Errors
///
/// When it cannot be written, which would be a mistake of ours.
pub async fn exposition(app: &App, headers: &HeaderMap) -> Result<Response, std::fmt::Error> {
    app.engine.update_gauges().await;
    app.admin_damages().for_each(|damage| app.metrics.engine.files.damaged(damage));
    app.metrics.web.set_admin_unavailable(app.admin_unavailable.load(Ordering::Relaxed));
    app.metrics.web.set_maintenance(app.maintenance.at(app.clock.now()).is_some());
    if app.config.haproxy.endpoint.is_some() {
        app.metrics.haproxy.set_lag(app.engine.reputation().lag());
    }
    let text = app.metrics.encode()?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::wanted(accept);
    Ok(pages::text(StatusCode::OK, format.content_type(), format.write(text)))
}

/// The numbers help whoever attacks, so they are for those who ask from a trusted address on their
/// own behalf: a request that a proxy passed on for a visitor is a visitor's.
fn require_supervisor(
    app: &SharedApp,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<(), WebError> {
    let server = &app.config.server;
    let own = server.operator_endpoints == OperatorEndpoints::Local
        && server.trusted_proxies.trusts(&connection.peer)
        && connection.proxy_line.is_none()
        && !FORWARDED.iter().any(|name| headers.contains_key(*name));
    if own { Ok(()) } else { Err(WebError::NotFound) }
}

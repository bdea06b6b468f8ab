//! The question of another server, nginx with `auth_request`, about each request.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

use crate::app::SharedApp;
use crate::error::WebError;
use crate::pages;
use crate::responses::renew;
use crate::visitor::Visitor;
use fortify_engine::behaviour::Outcome;
use fortify_engine::decision::{Decision, Grant};
use fortify_engine::session::Session;
use fortify_http::proxy::cookies_for_service;

/// Names the session to the service behind nginx, without a way back to its cookie.
const SUBJECT: HeaderName = HeaderName::from_static("x-fortify-subject");
/// The level at which the session was earned, 1 to 10.
const LEVEL: HeaderName = HeaderName::from_static("x-fortify-level");
/// The request's cookies without ours: what nginx sends to the service. To take ours out, nginx would need
/// patterns, and those take quadratic time for a header of blanks.
const COOKIE: HeaderName = HeaderName::from_static("x-fortify-cookie");

/// Whether a request may pass: 204, 401 or 403, because nginx takes every other status of a sub-request for
/// a pass or a fault.
///
/// A 204 says whose request it is and which cookies the service may see, and brings the cookie of a session
/// that moved. Which method asks
/// does not matter, nor what was asked for: the session alone decides. `X-Original-URI` and
/// `X-Original-Method` are read only to be counted ([`fortify_engine::behaviour`]).
///
/// # Errors
///
/// Faults of the store, as 503: nginx refuses on it, with 500.
pub async fn auth(
    State(app): State<SharedApp>,
    visitor: Result<Visitor, WebError>,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    // At its own address, for the page that says so.
    if app.maintenance.at(app.clock.now()).is_some() {
        if let Ok(visitor) = &visitor {
            visitor.client.skip();
        }
        return Ok(pages::empty(StatusCode::UNAUTHORIZED));
    }
    let visitor = match visitor {
        Ok(visitor) => visitor,
        Err(WebError::Circuit(_) | WebError::Banned(_)) => {
            return Ok(pages::empty(StatusCode::FORBIDDEN));
        }
        Err(fault) => return Err(fault),
    };
    let grant = match app.engine.admit(&visitor.client).await? {
        Decision::Admit(grant) => grant,
        Decision::Challenge(_) | Decision::SlowDown(_) => {
            // It comes to its own address next, for the challenge or for the page that says to wait.
            visitor.client.skip();
            return Ok(pages::empty(StatusCode::UNAUTHORIZED));
        }
        Decision::Refuse(_) => return Ok(pages::empty(StatusCode::FORBIDDEN)),
    };
    visitor.client.record(Outcome::Passed(None));
    let mut response = pages::empty(StatusCode::NO_CONTENT);
    // Whoever is admitted, with a session or without: what has no such header reaches the service without
    // any cookie.
    if let Some(cookies) = cookies_for_service(&headers) {
        response.headers_mut().insert(COOKIE, cookies);
    }
    if let Grant::Session(admitted) = &grant {
        name_session(&mut response, &app.engine.subject(&admitted.session), &admitted.session);
    }
    app.engine.note_exchange(&visitor.client, &grant);
    renew(&app, &visitor, &mut response);
    Ok(response)
}

fn name_session(response: &mut Response, subject: &str, session: &Session) {
    if let Ok(subject) = HeaderValue::from_str(subject) {
        response.headers_mut().insert(SUBJECT, subject);
    }
    response.headers_mut().insert(LEVEL, HeaderValue::from(u16::from(session.threat_level)));
}

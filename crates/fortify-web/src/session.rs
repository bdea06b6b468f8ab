//! A visitor's own session: its state, and its end.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use crate::app::SharedApp;
use crate::error::WebError;
use crate::pages::{self, Message};
use crate::responses::renew;
use crate::return_to::FRONT;
use crate::same_origin;
use crate::visitor::Visitor;
use crate::wants::Wants;
use fortify_engine::decision::{Decision, Grant};

/// How a session stands.
#[derive(Serialize)]
struct Shown {
    status: &'static str,
    /// The level at which the session was earned.
    level: u8,
    /// Seconds since the Unix epoch.
    expires_at: u64,
    /// Seconds.
    expires_in: u64,
}

/// `GET /api/session`: for those who have one.
///
/// # Errors
///
/// [`WebError::ChallengeRequired`] for everybody else, [`WebError::SlowDown`] for who is too fast.
pub async fn show(State(app): State<SharedApp>, visitor: Visitor) -> Result<Response, WebError> {
    let decision = app.engine.check(&visitor.client).await?;
    let admitted = match &decision {
        Decision::Admit(Grant::Session(admitted)) => admitted,
        Decision::SlowDown(slow) => return Err(WebError::SlowDown(*slow)),
        _ => return Err(WebError::ChallengeRequired),
    };
    let session = &admitted.session;
    let status = Shown {
        status: "admitted",
        level: session.threat_level,
        expires_at: session.expires_at.as_secs(),
        expires_in: app.clock.now().until(session.expires_at).as_secs(),
    };
    let mut response = pages::json(StatusCode::OK, &status);
    renew(&app, &visitor, &mut response);
    Ok(response)
}

/// `POST /api/session/logout`: revokes the session and takes its cookie away.
///
/// # Errors
///
/// [`WebError::Forbidden`] without a session, or when another site's page asks for it; faults of
/// the store, after which the session is still in force.
pub async fn log_out(
    State(app): State<SharedApp>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    let from_elsewhere =
        headers.contains_key(header::ORIGIN) && !same_origin::is_same_origin(&headers);
    // Also one that is not enough to be let in.
    let session = app.engine.session(&visitor.client).await?;
    let (Some(admitted), false) = (session, from_elsewhere) else {
        return Err(WebError::Forbidden);
    };
    app.engine.log_out(&visitor.client, &admitted.session).await?;
    let mut response = match visitor.wants {
        Wants::Json => pages::json(StatusCode::OK, &serde_json::json!({"success": true})),
        Wants::Page => {
            let locale = app.locales.negotiate(visitor.language.as_deref());
            let (title, text) = (locale.text("left-title"), locale.text("left-text"));
            let page = Message::new(&title, &text);
            pages::message(StatusCode::OK, locale, &page.link(FRONT, &locale.text("left-link")))
        }
    };
    pages::set_cookies(&mut response, visitor.jar.end());
    Ok(response)
}

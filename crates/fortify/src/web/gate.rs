//! Every request that is not for this gate itself: let through, or met with a challenge.

use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use tokio::time::Instant;

use super::cookies::Hint;
use super::form;
use super::pages::{self, ChallengePage, Message};
use super::return_to::ReturnTo;
use super::visitor::{Visitor, Wants};
use super::{carried, same_origin};
use crate::app::{App, SharedApp};
use crate::error::WebError;
use crate::session::Session;

/// Where a visitor whose cookies are in question is sent, to come back as one of this site.
pub const ENTER: &str = "/_fortify/enter";

static SEC_FETCH_DEST: LazyLock<header::HeaderName> =
    LazyLock::new(|| header::HeaderName::from_static("sec-fetch-dest"));

/// Whether a request may pass. A fault of this side is neither: it is an error, and refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The visitor has a session.
    Admit(Session),
    /// The visitor has none.
    Challenge,
}

/// Decides about one request.
///
/// # Errors
///
/// When the store cannot say whether the session is in force.
pub async fn decide(app: &App, visitor: &Visitor) -> Result<Decision, WebError> {
    let started = Instant::now();
    let decided = match &visitor.cookies.session {
        None => Ok(Decision::Challenge),
        Some(token) => match app.sessions.check(token, visitor.circuit).await {
            Ok(Ok(session)) => Ok(Decision::Admit(session)),
            Ok(Err(rejection)) => {
                app.metrics.session_rejected(rejection.label());
                Ok(Decision::Challenge)
            }
            Err(error) => Err(error.into()),
        },
    };
    let label = match &decided {
        Ok(Decision::Admit(_)) => "admit",
        Ok(Decision::Challenge) => "challenge",
        Err(_) => "error",
    };
    app.metrics.decision(started.elapsed(), label);
    decided
}

/// The gate in proxy mode.
///
/// # Errors
///
/// Faults of the store or of the service behind.
pub async fn pass(
    State(app): State<SharedApp>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, WebError> {
    match decide(&app, &visitor).await? {
        Decision::Admit(_) => match &app.upstream {
            Some(upstream) => Ok(upstream.forward(request, visitor.forwarded).await?),
            None => Err(WebError::NotFound),
        },
        Decision::Challenge => meet(&app, &visitor, request).await,
    }
}

/// The same question, asked by another server: 204, 401 or 403, because nginx takes every other
/// status of a sub-request for a pass or a fault.
///
/// # Errors
///
/// Faults of the store, as 503: nginx refuses on it.
pub async fn auth(State(app): State<SharedApp>, visitor: Visitor) -> Result<Response, WebError> {
    Ok(pages::empty(match decide(&app, &visitor).await? {
        Decision::Admit(_) => StatusCode::NO_CONTENT,
        Decision::Challenge => StatusCode::UNAUTHORIZED,
    }))
}

/// Where a visitor comes back to as one of this site, so that `SameSite=Strict` gives up the
/// cookie: after a link from another site, or after an answer without a cookie.
///
/// # Errors
///
/// As [`pass`].
pub async fn enter(
    State(app): State<SharedApp>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, WebError> {
    let query = request.uri().query().unwrap_or_default();
    let fields = form::parse(query.as_bytes()).unwrap_or_default();
    let to = ReturnTo::parse(form::only(&fields, "to").unwrap_or_default());
    match decide(&app, &visitor).await? {
        Decision::Admit(_) => Ok(pages::see_other(to.as_str())),
        Decision::Challenge if visitor.cookies.hint.is_none() => {
            Ok(cookies_off(&app, &visitor, &to))
        }
        Decision::Challenge => challenge(&app, &visitor, &to, None, false).await,
    }
}

/// Says that cookies are off, and how to go on.
#[must_use]
pub fn cookies_off(app: &App, visitor: &Visitor, to: &ReturnTo) -> Response {
    let locale = app.locales.negotiate(visitor.language.as_deref());
    let (title, text) = (locale.text("cookies-title"), locale.text("cookies-text"));
    let retry = locale.text("cookies-retry");
    let page = Message::new(&title, &text).link(to.as_str(), &retry);
    pages::message(app.challenge_status(), locale, &page)
}

/// What a visitor without a session gets in place of the page.
async fn meet(app: &App, visitor: &Visitor, request: Request) -> Result<Response, WebError> {
    if visitor.wants == Wants::Json || !shows_pages(request.method(), request.headers()) {
        // A picture or a style sheet of a page would show nobody a challenge.
        return Err(WebError::Forbidden);
    }
    let asked_for = ReturnTo::of(request.uri());
    if matches!(*request.method(), Method::GET) {
        if visitor.cookies.session.is_none() && visitor.cookies.hint == Some(Hint::Member) {
            return Ok(bounce(app, visitor, &asked_for));
        }
        return challenge(app, visitor, &asked_for, None, false).await;
    }
    let back = same_origin::referring_page(request.headers()).unwrap_or_default();
    match carry(app, visitor, &asked_for, request).await? {
        Some(sealed) => challenge(app, visitor, &asked_for, Some(&sealed), false).await,
        None => challenge(app, visitor, &ReturnTo::parse(&back), None, true).await,
    }
}

/// Whether the answer to this request is something that a person reads.
fn shows_pages(method: &Method, headers: &HeaderMap) -> bool {
    let navigates = headers.get(&*SEC_FETCH_DEST).is_none_or(|dest| {
        matches!(dest.as_bytes(), b"document" | b"iframe" | b"frame" | b"embed" | b"object")
    });
    navigates && *method != Method::HEAD
}

/// Seals the request's form, if it is one that may be carried.
async fn carry(
    app: &App,
    visitor: &Visitor,
    action: &ReturnTo,
    request: Request,
) -> Result<Option<String>, WebError> {
    let (parts, body) = request.into_parts();
    let carries = parts.method == Method::POST
        && same_origin::is_same_origin(&parts.headers)
        && form::is_urlencoded(&parts.headers);
    if !carries {
        return Ok(None);
    }
    match form::read_body(body, carried::MAX_FORM_BYTES).await {
        Ok(body) => Ok(carried::seal(&app.keys, &*app.clock, visitor.circuit, action, &body)),
        Err(WebError::TooLarge) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A page of this site that comes back at once: the visitor probably has a session, and the cookie
/// stayed behind because another site caused the request.
fn bounce(app: &App, visitor: &Visitor, to: &ReturnTo) -> Response {
    let locale = app.locales.negotiate(visitor.language.as_deref());
    let (title, text) = (locale.text("moment-title"), locale.text("moment-text"));
    let (label, back) = (locale.text("moment-link"), format!("{ENTER}?to={}", to.encode()));
    let page = Message::new(&title, &text).link(&back, &label).goes_on();
    pages::message(app.challenge_status(), locale, &page)
}

async fn challenge(
    app: &App,
    visitor: &Visitor,
    return_to: &ReturnTo,
    carried: Option<&str>,
    form_lost: bool,
) -> Result<Response, WebError> {
    let (issued, media) = app.challenges.issue_with_picture(visitor.circuit).await?;
    let page = ChallengePage {
        issued: &issued,
        media: &media,
        return_to,
        carried,
        notice: None,
        form_lost,
    };
    Ok(challenge_page(app, visitor, &page))
}

/// A challenge page and the cookie that will tell whether this browser keeps cookies.
#[must_use]
pub fn challenge_page(app: &App, visitor: &Visitor, page: &ChallengePage<'_>) -> Response {
    let locale = app.locales.negotiate(visitor.language.as_deref());
    let mut response = pages::challenge(app.challenge_status(), locale, page);
    pages::set_cookies(&mut response, [visitor.jar.hint(Hint::Seen)]);
    response
}

/// An address of ours that was asked with another method than it takes.
pub async fn wrong_method(_body: Body) -> WebError {
    WebError::MethodNotAllowed
}

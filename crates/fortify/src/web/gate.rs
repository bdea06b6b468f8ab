//! Every request that is not for this gate itself: let through, or met with a challenge.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::time::Instant;

use super::cookies::{Hint, Jar};
use super::form;
use super::pages::{self, ChallengePage, FormFate, Message};
use super::return_to::ReturnTo;
use super::visitor::{Visitor, Wants};
use super::{carried, consequence, demand, same_origin, turn};
use crate::app::{App, SharedApp};
use crate::behaviour::Outcome;
use crate::challenge::policy::Wish;
use crate::decision::{Reason, Verdict};
use crate::reputation::Standing;
use crate::session::{Admitted, Rejection};
use crate::telemetry::metrics::GateDecision;
use crate::web::error::WebError;

/// Where a visitor whose cookies are in question is sent, to come back as one of this site.
pub const ENTER: &str = "/_fortify/enter";

/// Where another server asks about each request.
pub const AUTH: &str = "/_fortify/auth";

/// Names the session to the service behind nginx, without a way back to its cookie.
const SUBJECT: HeaderName = HeaderName::from_static("x-fortify-subject");
/// The level at which the session was earned, 1 to 10.
const LEVEL: HeaderName = HeaderName::from_static("x-fortify-level");

/// What a browser wants an answer for: a page, or something that a page loads.
pub(super) const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Whether a request may pass. A fault of this side is neither: it is an error, and refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The visitor has a session; [`renew`] gives the answer its cookie.
    Admit(Admitted),
    /// The visitor has none, and its circuit is favoured.
    Favoured,
    /// The visitor has none, or none that is enough.
    Challenge,
}

/// Decides about one request.
///
/// # Errors
///
/// When the store cannot say whether the session is in force.
pub async fn decide(app: &App, visitor: &Visitor) -> Result<Decision, WebError> {
    let started = Instant::now();
    let decided = find_session(app, visitor).await;
    let label = match &decided {
        Ok(Decision::Admit(_)) => GateDecision::Admit,
        Ok(Decision::Favoured) => GateDecision::Favoured,
        Ok(Decision::Challenge) => GateDecision::Challenge,
        Err(_) => GateDecision::Error,
    };
    app.metrics.decision(started.elapsed(), label);
    decided
}

async fn find_session(app: &App, visitor: &Visitor) -> Result<Decision, WebError> {
    let found = session(app, visitor).await?;
    let (verdict, reasons) = demand::decide(app, visitor, found.is_some());
    app.metrics.decided(&reasons);
    tracing::debug!(?verdict, reasons = %words(&reasons), "decided");
    match (verdict, found) {
        (Verdict::Admit, Some(admitted)) => {
            stay_favoured(app, visitor);
            Ok(Decision::Admit(admitted))
        }
        (Verdict::Admit, None) => {
            // No session was asked about, and another node may have banned the circuit since.
            app.store.is_current()?;
            Ok(Decision::Favoured)
        }
        (Verdict::Challenge(_), _) => Ok(Decision::Challenge),
    }
}

/// The session of `visitor` that is in force here, whether or not it is enough.
///
/// # Errors
///
/// When the store cannot say whether it is in force.
pub(super) async fn session(app: &App, visitor: &Visitor) -> Result<Option<Admitted>, WebError> {
    let rejected = |rejection: Rejection| {
        app.metrics.session_rejected(rejection.label());
        if rejection == Rejection::Shared {
            tracing::info!("a session was used from a circuit that it had left, and is ended");
        }
    };
    let found = app.sessions.check(&visitor.cookies.sessions, visitor.circuit, rejected).await?;
    if found.as_ref().is_some_and(|admitted| admitted.moved) {
        app.metrics.session_moved();
    }
    Ok(found)
}

fn words(reasons: &[Reason]) -> String {
    reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// Favours a circuit for longer that is favoured and has a session, once half of its time has passed: who
/// uses the site stays favoured.
fn stay_favoured(app: &App, visitor: &Visitor) {
    let Some(circuit) = visitor.id.tor() else { return };
    let now = app.clock.now();
    let row = app.reputation.row(circuit).filter(|row| row.standing == Standing::Vip);
    if row.is_some_and(|row| now.until(row.until) < app.config.reputation.vip / 2) {
        consequence::keep_favoured(app, circuit);
    }
}

/// Gives the visitor the cookie of a session that moved, with the answer to whatever was asked. It
/// lasts as long as the session does.
pub fn renew(app: &App, visitor: &Visitor, admitted: &Admitted, response: &mut Response) {
    let Some(token) = &admitted.reissued else {
        return;
    };
    let lifetime = app.clock.now().until(admitted.session.expires_at);
    let jar = Jar { lifetime, ..visitor.jar };
    pages::set_cookies(response, [jar.session(token.expose())]);
    // Whatever the service said of its page, no cache may hand the cookie to somebody else.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// The gate in proxy mode; and in front of nothing, the page that nginx shows for a denial, at the
/// address and with the form that the visitor sent.
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
        Decision::Admit(admitted) => {
            let mut response = forward(&app, &visitor, request).await?;
            renew(&app, &visitor, &admitted, &mut response);
            Ok(response)
        }
        Decision::Favoured => forward(&app, &visitor, request).await,
        Decision::Challenge => meet(&app, &visitor, request).await,
    }
}

async fn forward(app: &App, visitor: &Visitor, request: Request) -> Result<Response, WebError> {
    let upstream = app.upstream.as_ref().ok_or(WebError::NotFound)?;
    let started = Instant::now();
    let answer = upstream.forward(request, visitor.forwarded.clone()).await;
    app.metrics.upstream(started.elapsed());
    let answer = answer.inspect_err(|_fault| app.threat.signals().upstream_error());
    let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
    visitor.came(Outcome::Passed(status));
    Ok(answer?)
}

/// The same question, asked by another server: 204, 401 or 403, because nginx takes every other
/// status of a sub-request for a pass or a fault.
///
/// A 204 says whose request it is, and brings the cookie of a session that moved. Which method asks
/// does not matter, nor what was asked for: the session alone decides. `X-Original-URI` and
/// `X-Original-Method` are read only to be counted ([`crate::behaviour`]).
///
/// # Errors
///
/// Faults of the store, as 503: nginx refuses on it, with 500.
pub async fn auth(
    State(app): State<SharedApp>,
    visitor: Result<Visitor, WebError>,
) -> Result<Response, WebError> {
    let visitor = match visitor {
        Ok(visitor) => visitor,
        Err(WebError::Circuit(_) | WebError::Banned(_)) => {
            return Ok(pages::empty(StatusCode::FORBIDDEN));
        }
        Err(fault) => return Err(fault),
    };
    let admitted = match decide(&app, &visitor).await? {
        Decision::Admit(admitted) => admitted,
        Decision::Favoured => {
            // There is no session whose subject and level could be told.
            visitor.came(Outcome::Passed(None));
            return Ok(pages::empty(StatusCode::NO_CONTENT));
        }
        Decision::Challenge => {
            if let Some(sighting) = &visitor.sighting {
                // At its own address, for the challenge.
                sighting.comes_again();
            }
            return Ok(pages::empty(StatusCode::UNAUTHORIZED));
        }
    };
    visitor.came(Outcome::Passed(None));
    let mut response = pages::empty(StatusCode::NO_CONTENT);
    let subject = app.pseudonyms.subject(admitted.session.id.to_bytes());
    if let Ok(subject) = HeaderValue::from_str(&subject) {
        response.headers_mut().insert(SUBJECT, subject);
    }
    let level = HeaderValue::from(u16::from(admitted.session.threat_level));
    response.headers_mut().insert(LEVEL, level);
    renew(&app, &visitor, &admitted, &mut response);
    Ok(response)
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
    if let Some(passed) = pass_on(&app, &visitor, &to).await? {
        return Ok(passed);
    }
    if visitor.cookies.hint.is_none() {
        return Ok(cookies_off(&app, &visitor, &to));
    }
    challenge(&app, &visitor, &to, FormFate::None).await
}

/// To the page asked for, for a visitor who is let in.
async fn pass_on(
    app: &App,
    visitor: &Visitor,
    to: &ReturnTo,
) -> Result<Option<Response>, WebError> {
    let mut response = pages::see_other(to.as_str());
    match decide(app, visitor).await? {
        Decision::Admit(admitted) => renew(app, visitor, &admitted, &mut response),
        Decision::Favoured => {}
        Decision::Challenge => return Ok(None),
    }
    Ok(Some(response))
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
    if *request.method() == Method::GET {
        let asked_for = ReturnTo::of(request.uri());
        if visitor.cookies.sessions.is_empty() && visitor.cookies.hint == Some(Hint::Member) {
            return Ok(bounce(app, visitor, &asked_for));
        }
        return challenge(app, visitor, &asked_for, FormFate::None).await;
    }
    let back = same_origin::referring_page(request.headers()).unwrap_or_default();
    let back = ReturnTo::parse(&back);
    let carried = carry(app, visitor, request).await?;
    // Whoever has to wait in line comes back to the page with the form, not to where it was sent.
    turn::take(app, visitor, None, &back).await?;
    match carried {
        Some((action, sealed)) => draw(app, visitor, &action, FormFate::Carried(&sealed)).await,
        None => draw(app, visitor, &back, FormFate::Lost).await,
    }
}

/// Whether the answer to this request is something that a person reads.
fn shows_pages(method: &Method, headers: &HeaderMap) -> bool {
    // In a frame the page would not be shown: it refuses to be framed.
    let navigates = headers.get(SEC_FETCH_DEST).is_none_or(|dest| dest.as_bytes() == b"document");
    navigates && *method != Method::HEAD
}

/// Seals the request's form with the address it was sent to, if it is one that may be carried.
async fn carry(
    app: &App,
    visitor: &Visitor,
    request: Request,
) -> Result<Option<(ReturnTo, String)>, WebError> {
    let (parts, body) = request.into_parts();
    let carries = parts.method == Method::POST
        && same_origin::is_same_origin(&parts.headers)
        && form::is_urlencoded(&parts.headers);
    // Sent on to another address than its own, a form would tell a stranger what it holds.
    let Some(action) = ReturnTo::exactly(&parts.uri).filter(|_| carries) else {
        return Ok(None);
    };
    let body = match form::read_body(body, carried::MAX_FORM_BYTES).await {
        Ok(body) => body,
        Err(WebError::TooLarge) => return Ok(None),
        Err(error) => return Err(error),
    };
    let sealed = carried::seal(&app.keys, &*app.clock, visitor.circuit, &action, &body);
    Ok(sealed.map(|sealed| (action, sealed)))
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

/// Where one who waits in turn comes back.
///
/// # Errors
///
/// As [`pass`].
pub async fn turn(
    State(app): State<SharedApp>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, WebError> {
    let query = request.uri().query().unwrap_or_default();
    let fields = form::parse(query.as_bytes()).unwrap_or_default();
    let to = ReturnTo::parse(form::only(&fields, "to").unwrap_or_default());
    if let Some(passed) = pass_on(&app, &visitor, &to).await? {
        return Ok(passed);
    }
    turn::take(&app, &visitor, form::only(&fields, "ticket"), &to).await?;
    draw(&app, &visitor, &to, FormFate::None).await
}

async fn challenge(
    app: &App,
    visitor: &Visitor,
    return_to: &ReturnTo,
    form: FormFate<'_>,
) -> Result<Response, WebError> {
    turn::take(app, visitor, None, return_to).await?;
    draw(app, visitor, return_to, form).await
}

async fn draw(
    app: &App,
    visitor: &Visitor,
    return_to: &ReturnTo,
    form: FormFate<'_>,
) -> Result<Response, WebError> {
    let asking = demand::next(app, visitor, Wish::Any).await?;
    let (issued, media) = consequence::issue_with_picture(app, visitor, asking.order).await?;
    let page = ChallengePage {
        issued: &issued,
        media: &media,
        return_to,
        notice: None,
        form,
        wish: Wish::Any,
        stage: (asking.stage, asking.stages),
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
pub async fn wrong_method() -> WebError {
    WebError::MethodNotAllowed
}

//! Every request that is not for this gate itself: let through, or met with a challenge.

use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use crate::addresses::ENTER;
use crate::app::{App, SharedApp};
use crate::challenge::{self, Around};
use crate::cookies::Hint;
use crate::error::WebError;
use crate::form::BodyError;
use crate::pages::{self, FormFate, Message};
use crate::responses::renew;
use crate::return_to::ReturnTo;
use crate::visitor::Visitor;
use crate::wants::SEC_FETCH_DEST;
use crate::wants::Wants;
use crate::{carried, form, same_origin};
use fortify_engine::behaviour::Outcome;
use fortify_engine::budget::Slow;
use fortify_engine::decision::{Decision, Grant, Requirement};
use fortify_engine::issue::IssueRequest;
use fortify_http::proxy::ProxyError;
use fortify_http::server::{Cutter, Held, SlotHandle};

/// The header in which nginx says what it was told about a request that it sends here instead of to the service.
const DENIED: HeaderName = HeaderName::from_static("x-fortify-denied");

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
    // Behind nginx, the request was paid for when nginx asked about it.
    let decision = match app.upstream {
        Some(_) => app.engine.admit(&visitor.client).await?,
        None => app.engine.check(&visitor.client).await?,
    };
    match decision {
        Decision::Admit(grant) => {
            if let Some(slot) = request.extensions().get::<SlotHandle>() {
                slot.admit();
            }
            let mut response = forward(&app, &visitor, &grant, request).await?;
            renew(&app, &visitor, &mut response);
            Ok(response)
        }
        Decision::Challenge(requirement) => {
            let met = meet(&app, &visitor, requirement, request).await;
            let mut response = met.unwrap_or_else(IntoResponse::into_response);
            renew(&app, &visitor, &mut response);
            Ok(response)
        }
        Decision::SlowDown(slow) => {
            let mut response = WebError::SlowDown(slow).into_response();
            renew(&app, &visitor, &mut response);
            Ok(response)
        }
        Decision::Refuse(refusal) => Err(refusal.into()),
    }
}

async fn forward(
    app: &App,
    visitor: &Visitor,
    grant: &Grant,
    request: Request,
) -> Result<Response, WebError> {
    let Some(upstream) = &app.upstream else { return unforwarded(app, grant, &request) };
    let cutter = request.extensions().get::<Cutter>().cloned().unwrap_or_default();
    let exchange = app.engine.begin_exchange(&visitor.client, grant, move || cutter.cut());
    let started = Instant::now();
    let (session, forwarded) = (grant.session().id.to_bytes(), visitor.forwarded.clone());
    // An upload takes as long as its sender does, which says nothing about the service.
    let uploads = !request.body().is_end_stream();
    let answer = upstream.forward_for(session, request, forwarded).await;
    app.metrics.upstream.answered(started.elapsed());
    if answer.is_ok() && !uploads {
        app.engine.upstream_answered(started.elapsed());
    }
    // What the proxy itself refuses is no failure of the service.
    let failed =
        |fault: &ProxyError| !matches!(fault, ProxyError::BadRequest | ProxyError::Busy(_));
    if answer.as_ref().is_err_and(failed) {
        app.engine.upstream_failed();
    }
    let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
    visitor.client.record(Outcome::Passed(status));
    let mut answer = answer?;
    match kind_of(answer.headers()) {
        Kind::Asset => app.engine.refund(&visitor.client),
        Kind::Page if answer.status().is_success() => app.engine.surcharge(&visitor.client),
        Kind::Page | Kind::Other => {}
    }
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        exchange.becomes_tunnel();
    }
    answer.extensions_mut().insert(Held::new(exchange));
    Ok(answer)
}

/// What an admitted request gets from a gate that only answers nginx.
///
/// # Errors
///
/// [`WebError::SlowDown`], if nginx was told so: there may be room again since then. [`WebError::NotFound`], if nginx was
/// told nothing.
fn unforwarded(app: &App, grant: &Grant, request: &Request) -> Result<Response, WebError> {
    if app.engine.was_too_fast(grant) {
        return Err(WebError::SlowDown(Slow::briefly()));
    }
    // Since nginx was told no, the visitor was let in, by another tab or on another node.
    let was_denied = request.headers().contains_key(DENIED);
    let here = ReturnTo::exactly(request.uri()).filter(|_| was_denied);
    here.map(|here| pages::again(here.as_str())).ok_or(WebError::NotFound)
}

/// What a visitor without a session gets in place of the page.
async fn meet(
    app: &App,
    visitor: &Visitor,
    requirement: Requirement,
    request: Request,
) -> Result<Response, WebError> {
    if visitor.wants == Wants::Json || !shows_pages(request.method(), request.headers()) {
        // A picture or a style sheet of a page would show nobody a challenge.
        return Err(WebError::ChallengeRequired);
    }
    let first = IssueRequest::first(requirement);
    if *request.method() == Method::GET {
        let asked_for = ReturnTo::of(request.uri());
        if visitor.client.credentials.sessions.is_empty() && visitor.hint == Some(Hint::Member) {
            return Ok(bounce(app, visitor, &asked_for));
        }
        return challenge::page(app, visitor, first, Around::page(&asked_for)).await;
    }
    let back = same_origin::referring_page(request.headers()).unwrap_or_default();
    let back = ReturnTo::parse(&back);
    let carried = carry(app, visitor, request).await?;
    let (return_to, form) = match &carried {
        Some((action, sealed)) => (action, FormFate::Carried(sealed)),
        None => (&back, FormFate::Lost),
    };
    // Whoever has to wait in line comes back to the page with the form, not to where it was sent.
    let around = Around { return_to, back: &back, notice: None, form };
    challenge::page(app, visitor, first, around).await
}

/// What an answer of the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A part of a page, which costs less; here nobody has to believe the visitor.
    Asset,
    /// What people and programs read.
    Page,
    /// It does not say, or is a file of any kind.
    Other,
}

fn kind_of(headers: &HeaderMap) -> Kind {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    let (family, _) = kind.split_once('/').unwrap_or_default();
    match (family, kind.as_str()) {
        ("image" | "font" | "audio" | "video", _)
        | (
            _,
            "text/css"
            | "text/javascript"
            | "text/vtt"
            | "application/javascript"
            | "application/x-javascript"
            | "application/wasm"
            | "application/manifest+json"
            | "application/font-woff"
            | "application/font-woff2"
            | "application/vnd.ms-fontobject",
        ) => Kind::Asset,
        ("" | "multipart", _) | (_, "application/octet-stream" | "binary/octet-stream") => {
            Kind::Other
        }
        _ => Kind::Page,
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
        Err(BodyError::TooLarge) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let keys = app.engine.keys();
    let sealed = carried::seal(keys, &*app.clock, visitor.client.tag, &action, &body);
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_part_of_a_page_is_what_the_service_says_it_is() {
        let of = |kind| {
            let kind = HeaderValue::from_static(kind);
            kind_of(&HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]))
        };
        for kind in ["image/png", "IMAGE/SVG+xml; charset=x", "font/woff2", "text/css", "video/mp4"]
        {
            assert_eq!(of(kind), Kind::Asset, "{kind}");
        }
        for kind in ["text/html", "application/json", "text/plain", "x/text/css"] {
            assert_eq!(of(kind), Kind::Page, "{kind}");
        }
        for kind in ["image", "", "application/octet-stream"] {
            assert_eq!(of(kind), Kind::Other, "{kind}");
        }
        assert_eq!(kind_of(&HeaderMap::new()), Kind::Other);
    }
}

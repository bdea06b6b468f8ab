//! The one edge where a fault becomes an answer.
//!
//! Below this edge every module has its own error enum. Here they become one of a few answers that
//! tell a visitor what to do and nothing else; what happened goes to the log, for the operator.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::answers::EndedEarly;
use crate::app::App;
use crate::form::BodyError;
use crate::i18n::{Locale, whole_seconds};
use crate::maintenance::Notice;
use crate::pages::{self, Message};
use crate::queue::Queued;
use crate::return_to::{FRONT, ReturnTo};
use crate::same_origin;
use crate::wants::Wants;
use fortify_core::circuit::CircuitError;
use fortify_engine::EngineError;
use fortify_engine::budget::Slow;
use fortify_engine::challenge::ChallengeError;
use fortify_engine::client::IdentifyError;
use fortify_engine::decision::Refusal;
use fortify_engine::issue::Wait;
use fortify_http::proxy::ProxyError;

/// What a visitor is told to wait when a part of this gate does not work: long enough not to
/// pile up, short enough that a repaired gate is found at once. Seconds.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(5);

/// The same while the service is down. Whether it is up again costs no visitor a try, so this only spreads the load of
/// those who wait.
const RETRY_AFTER_DOWN: Duration = Duration::from_secs(10);

/// The same of whoever fetches one picture again and again: there will be another by then.
const RETRY_AFTER_SEEN: Duration = Duration::from_secs(60);

/// Tells a script of a page that the gate answered in place of the service: `required`, that a challenge has to be solved,
/// which reloading the page shows, or `slow-down`, that the request may be sent again after `Retry-After`.
pub(super) const FORTIFY_CHALLENGE: HeaderName = HeaderName::from_static("fortify-challenge");

/// The value of [`FORTIFY_CHALLENGE`] with every challenge.
pub(super) const CHALLENGE_REQUIRED: HeaderValue = HeaderValue::from_static("required");

/// Why a request is not answered as it hoped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WebError {
    /// The request cannot be read; the text names what, for the metric.
    #[error("malformed request: {0}")]
    BadRequest(&'static str),
    /// Who is asking cannot be told.
    #[error("no circuit: {}", .0.label())]
    Circuit(CircuitError),
    /// For visitors with a session.
    #[error("no session")]
    Forbidden,
    /// The same, for a request that cannot show a challenge: a script's, or a part of a page.
    #[error("challenge required")]
    ChallengeRequired,
    /// The session requests more pages than it may.
    #[error("too fast")]
    SlowDown(Slow),
    /// There is no such address, or not for this visitor.
    #[error("not found")]
    NotFound,
    /// The address is there and takes another method.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// More was sent than the address takes.
    #[error("body too large")]
    TooLarge,
    /// What was sent did not come in time.
    #[error("body too slow")]
    TooSlow,
    /// Too many wrong answers.
    #[error("must wait")]
    MustWait(Duration),
    /// The circuit is banned, for so long still.
    #[error("banned")]
    Banned(Duration),
    /// The circuit asked for as many challenges as it may.
    #[error("too many challenges")]
    TooMany(Duration),
    /// More challenges are wanted than drawn: it waits in turn.
    #[error("queued")]
    Queued(Box<Queued>),
    /// Everything that could be done at once is being done.
    #[error("busy: {0}")]
    Busy(String),
    /// A part of this gate does not work. The text is for the log.
    #[error("{0}")]
    Unavailable(String),
    /// An operator has visitors told that the site is being worked on.
    #[error("maintenance")]
    Maintenance(Box<Notice>),
    /// The service behind the gate has more to do than it can.
    #[error("the service is busy")]
    ServiceBusy,
    /// The service behind the gate accepts no connections.
    #[error("the service is down")]
    ServiceDown,
    /// The service behind the gate does not work. The text is for the log.
    #[error("upstream: {0}")]
    BadGateway(String),
    /// The service behind the gate is too slow.
    #[error("upstream: no answer in time")]
    GatewayTimeout,
}

impl WebError {
    /// The status and the message ids that a visitor gets.
    const fn answer(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest(_) | Self::Circuit(_) => {
                (StatusCode::BAD_REQUEST, "bad-request-title", "bad-request-text")
            }
            Self::Forbidden | Self::ChallengeRequired => {
                (StatusCode::FORBIDDEN, "refused-title", "refused-text")
            }
            Self::SlowDown(_) => (StatusCode::TOO_MANY_REQUESTS, "slow-title", "slow-text"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found-title", "not-found-text"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-title", "method-text")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large-title", "too-large-text"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too-slow-title", "too-slow-text"),
            Self::MustWait(_) => (StatusCode::TOO_MANY_REQUESTS, "wait-title", "wait-text"),
            Self::Banned(_) => (StatusCode::FORBIDDEN, "wait-title", "wait-text"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "wait-title", "many-text"),
            Self::Queued(_) => (StatusCode::SERVICE_UNAVAILABLE, "queue-title", "queue-text"),
            Self::Busy(_) | Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable-title", "unavailable-text")
            }
            Self::Maintenance(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "maintenance-title", "maintenance-text")
            }
            Self::ServiceBusy => (StatusCode::SERVICE_UNAVAILABLE, "busy-title", "busy-text"),
            Self::ServiceDown => (StatusCode::SERVICE_UNAVAILABLE, "down-title", "down-text"),
            Self::BadGateway(_) => (StatusCode::BAD_GATEWAY, "gateway-title", "gateway-text"),
            Self::GatewayTimeout => (StatusCode::GATEWAY_TIMEOUT, "gateway-title", "gateway-text"),
        }
    }

    /// Whether the same page may be there after a while; otherwise only the front page leads on.
    const fn passes(&self) -> bool {
        matches!(
            self,
            Self::TooSlow
                | Self::MustWait(_)
                | Self::Banned(_)
                | Self::TooMany(_)
                | Self::SlowDown(_)
                | Self::Queued(_)
                | Self::Busy(_)
                | Self::Unavailable(_)
                | Self::Maintenance(_)
                | Self::ServiceBusy
                | Self::ServiceDown
                | Self::BadGateway(_)
                | Self::GatewayTimeout
        )
    }

    /// The name in the metric.
    const fn label(&self) -> &'static str {
        match self {
            Self::BadRequest(what) => what,
            Self::Circuit(_) => "circuit",
            Self::Forbidden => "forbidden",
            Self::ChallengeRequired => "challenge_required",
            Self::SlowDown(_) => "slow_down",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::MustWait(_) => "must_wait",
            Self::Banned(_) => "banned",
            Self::TooMany(_) => "too_many",
            Self::Queued(_) => "queued",
            Self::Busy(_) => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Maintenance(_) => "maintenance",
            Self::ServiceBusy => "service_busy",
            Self::ServiceDown => "service_down",
            Self::BadGateway(_) => "bad_gateway",
            Self::GatewayTimeout => "gateway_timeout",
        }
    }

    /// The value of [`FORTIFY_CHALLENGE`], if the answer has one.
    const fn challenge_header(&self) -> Option<HeaderValue> {
        match self {
            Self::ChallengeRequired => Some(CHALLENGE_REQUIRED),
            Self::SlowDown(_) => Some(HeaderValue::from_static("slow-down")),
            _ => None,
        }
    }

    /// What a person reads. A form that came too fast is sent again by reloading.
    fn words<'a>(&self, locale: Locale<'a>, text: &str, sends: bool) -> Cow<'a, str> {
        match self {
            Self::MustWait(wait) | Self::Banned(wait) | Self::TooMany(wait) => {
                locale.text_of_wait(text, *wait, None)
            }
            Self::Queued(queued) => match queued.place.odds {
                Some(odds) => locale.text_of_draw(odds, queued.place.refresh),
                None => locale.text_of_wait(text, queued.place.estimate, Some(queued.place.ahead)),
            },
            Self::SlowDown(slow) => {
                let text = if sends { "slow-form-text" } else { text };
                let mut words = locale.text_of_wait(text, slow.wait, None).into_owned();
                if let Some(wait) = slow.full_rate_in {
                    words.push(' ');
                    words += &locale.text_of_wait("slow-throttled-text", wait, None);
                }
                words.into()
            }
            Self::Maintenance(notice) => match &notice.message {
                Some(message) => message.clone().into(),
                None => locale.text(text),
            },
            _ => locale.text(text),
        }
    }

    /// What a program reads: nothing about pages.
    fn words_for_program<'a>(&self, locale: Locale<'a>, text: &str) -> Cow<'a, str> {
        match self {
            Self::SlowDown(slow) => locale.text_of_wait("slow-program-text", slow.wait, None),
            Self::Forbidden | Self::ChallengeRequired => locale.text("required-program-text"),
            _ => self.words(locale, text, false),
        }
    }

    /// Why there is no challenge now, for one who comes back to `page` if it has to queue.
    pub(super) fn waiting(wait: Wait, page: &ReturnTo) -> Self {
        match wait {
            Wait::Failures(wait) => Self::MustWait(wait),
            Wait::TooMany(wait) => Self::TooMany(wait),
            Wait::Queued(place, ticket) => {
                Self::Queued(Box::new(Queued { place, ticket, to: page.clone() }))
            }
        }
    }

    /// The same as an answer whose link leads to `page`.
    pub(super) fn leading_to(self, page: ReturnTo) -> Response {
        let mut response = self.into_response();
        response.extensions_mut().insert(page);
        response
    }

    /// Seconds after which trying again makes sense.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::MustWait(wait) | Self::Banned(wait) | Self::TooMany(wait) => {
                Some(whole_seconds(*wait))
            }
            Self::SlowDown(slow) => Some(whole_seconds(slow.wait)),
            Self::Queued(queued) => Some(whole_seconds(queued.place.refresh)),
            Self::Busy(_) => Some(1),
            Self::Unavailable(_) => Some(RETRY_AFTER_FAULT.as_secs()),
            Self::Maintenance(notice) => Some(notice.retry_after()),
            Self::ServiceBusy => Some(RETRY_AFTER_FAULT.as_secs()),
            Self::ServiceDown => Some(RETRY_AFTER_DOWN.as_secs()),
            _ => None,
        }
    }
}

impl IntoResponse for WebError {
    /// An answer without a body: `Asked::render` gives it one, because only there is it known what
    /// the visitor reads.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.answer().0;
        response.extensions_mut().insert(self);
        response
    }
}

/// What a request says about the answer that it can be given, should it fail.
pub(crate) struct Asked {
    wants: Wants,
    language: Option<HeaderValue>,
    page: ReturnTo,
    /// Whether it is a form.
    sends: bool,
}

impl Asked {
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            wants: Wants::of(request.uri().path(), request.headers()),
            language: request.headers().get(header::ACCEPT_LANGUAGE).cloned(),
            page: page_asked_for(request),
            sends: *request.method() == Method::POST,
        }
    }

    /// Gives a [`WebError`] that comes up from a handler its body, as a page or as JSON, counts it,
    /// and tells the operator of one that is this side's fault.
    pub(crate) fn render(self, app: &App, mut response: Response) -> Response {
        match response.extensions_mut().remove() {
            Some(error) => self.render_error(app, response, error),
            None => response,
        }
    }

    fn render_error(self, app: &App, mut response: Response, error: WebError) -> Response {
        let Self { wants, language, page, sends } = self;
        let page = response.extensions_mut().remove().unwrap_or(page);
        // A session that moved gets its new cookie with whatever is answered.
        let cookies: Vec<_> =
            response.headers().get_all(header::SET_COOKIE).iter().cloned().collect();
        app.metrics.web.error(error.label());
        match &error {
            WebError::Unavailable(_) => tracing::error!(%error, "a request was answered with 503"),
            WebError::BadGateway(_) | WebError::GatewayTimeout => {
                tracing::warn!(%error, "the protected service did not answer; check [upstream] url");
            }
            _ => tracing::debug!(%error, "a request was refused"),
        }
        let (status, title, text) = error.answer();
        let locale = app.locales.negotiate(language.as_ref().and_then(|value| value.to_str().ok()));
        let retry_after = error.retry_after();
        let mut response = match wants {
            Wants::Json => {
                let text = error.words_for_program(locale, text);
                let mut body = serde_json::json!({"success": false, "message": text});
                if let (WebError::Queued(queued), Some(body)) = (&error, body.as_object_mut()) {
                    body.insert("ticket".to_owned(), queued.ticket.expose().into());
                    body.insert("ahead".to_owned(), queued.place.ahead.into());
                    body.insert("refresh".to_owned(), queued.place.refresh.as_secs().into());
                    if let Some(odds) = queued.place.odds {
                        body.insert("one_in".to_owned(), odds.into());
                    }
                }
                pages::json(status, &body)
            }
            Wants::Page => {
                let text = error.words(locale, text, sends);
                // A page without a way on would be the end of the visit.
                let (to, label) = match &error {
                    WebError::Queued(queued) => (queued.address(), locale.text("moment-link")),
                    _ if error.passes() => (page.as_str().to_owned(), locale.text("wait-retry")),
                    _ => (FRONT.to_owned(), locale.text("left-link")),
                };
                let title = locale.text(title);
                let mut message = Message::new(&title, &text).link(&to, &label);
                // Going on would be a visit to another page, and the form would be gone.
                let kept = sends && matches!(error, WebError::SlowDown(_));
                if let (true, false, Some(seconds)) = (error.passes(), kept, retry_after) {
                    message = message.goes_on_after(seconds);
                }
                pages::message(status, locale, &message)
            }
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        for cookie in cookies {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        if let Some(value) = error.challenge_header() {
            response.headers_mut().insert(FORTIFY_CHALLENGE, value);
        }
        if matches!(error, WebError::TooSlow) {
            // The rest of the body may be on its way for hours.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// An address of ours that was asked with another method than it takes.
pub async fn wrong_method() -> WebError {
    WebError::MethodNotAllowed
}

/// The page that the visitor asked for, or sent a form from: what a link can ask for again.
fn page_asked_for(request: &Request) -> ReturnTo {
    if *request.method() == Method::GET {
        return ReturnTo::of(request.uri());
    }
    ReturnTo::parse(&same_origin::referring_page(request.headers()).unwrap_or_default())
}

impl From<CircuitError> for WebError {
    fn from(error: CircuitError) -> Self {
        Self::Circuit(error)
    }
}

impl From<EndedEarly> for WebError {
    fn from(ended: EndedEarly) -> Self {
        Self::Unavailable(ended.to_string())
    }
}

impl From<BodyError> for WebError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::Broken => Self::BadRequest("body"),
            BodyError::TooSlow => Self::TooSlow,
        }
    }
}

impl From<IdentifyError> for WebError {
    fn from(error: IdentifyError) -> Self {
        match error {
            IdentifyError::Banned(left) => Self::Banned(left),
            IdentifyError::Store(error) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<Refusal> for WebError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Banned(left) => Self::Banned(left),
            Refusal::Unidentified => Self::Forbidden,
        }
    }
}

impl From<EngineError> for WebError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Challenge(ChallengeError::FetchedTooOften) => {
                Self::TooMany(RETRY_AFTER_SEEN)
            }
            EngineError::Challenge(ChallengeError::Busy) => Self::Busy(error.to_string()),
            EngineError::Challenge(_)
            | EngineError::Store(_)
            | EngineError::Session(_)
            | EngineError::Keys(_)
            | EngineError::Reputation(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<ProxyError> for WebError {
    fn from(error: ProxyError) -> Self {
        match error {
            ProxyError::Timeout => Self::GatewayTimeout,
            ProxyError::BadRequest => Self::BadRequest("proxy"),
            ProxyError::Down => Self::ServiceDown,
            ProxyError::Busy(_) => Self::ServiceBusy,
            ProxyError::Unreachable(_) | ProxyError::BadResponse => {
                Self::BadGateway(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i18n::Locales;

    #[test]
    fn every_fault_has_its_words() {
        let locales = Locales::load().unwrap();
        let locale = locales.negotiate(None);
        for error in [
            WebError::BadRequest("x"),
            WebError::Circuit(CircuitError::Missing),
            WebError::Unavailable(String::new()),
            WebError::GatewayTimeout,
            WebError::ServiceBusy,
            WebError::ServiceDown,
            WebError::Forbidden,
            WebError::ChallengeRequired,
            WebError::NotFound,
            WebError::MethodNotAllowed,
            WebError::TooLarge,
            WebError::MustWait(Duration::ZERO),
            WebError::Banned(Duration::ZERO),
            WebError::TooMany(Duration::ZERO),
            WebError::Busy(String::new()),
            WebError::BadGateway(String::new()),
        ] {
            let (_, title, text) = error.answer();
            assert_ne!(locale.text(title), title);
            assert_ne!(locale.text(text), text);
        }
    }
}

//! The reverse proxy to the protected service.
//!
//! Both bodies are streamed, so that uploads and downloads cost no memory. Headers that only a proxy may set are
//! removed from a visitor's request, and Fortify's cookies in both directions.
//!
//! # Layout
//!
//! - this file: [`Upstream`] and [`ProxyError`];
//! - `breaker`: whether a server of the service is down (pure);
//! - `connect`: connections to the service's servers, and `tls`: their certificates;
//! - `headers`: which headers pass, and which are replaced (pure);
//! - `placed`: a request that holds its place at the service until it is answered;
//! - `activity`: the time since the last transfer;
//! - `tunnel`: a WebSocket between visitor and service.

mod activity;
mod breaker;
mod connect;
mod headers;
mod placed;
#[cfg(test)]
mod tests;
mod tls;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use tokio::time::{sleep, timeout};

use crate::config::UpstreamConfig;
use crate::limiter::{Busy, Figures, HELD_FOR_BODY, HELD_LONGEST, Places, SessionKey};
use crate::metrics::UpstreamMetrics;
use activity::{Activity, Sent, ToldBody, WatchedBody};
use connect::{Answered, Connector, Servers};
use placed::Placed;

pub use connect::connect;
pub use headers::{Forwarded, OUR_COOKIES, Proto, cookies_for_service};
pub use tls::TlsError;

/// How long an unused connection to the service is kept: less than the shortest common keep-alive of services
/// (Node.js: 5 s), so that a request rarely uses one that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The read buffer in bytes, into which the head of a response must fit: as long a head as a visitor may send.
/// Services with many cookies send a few KiB; nginx allows 4 to 8 KiB by default.
const MAX_BUFFER: usize = 40 * 1024;

/// The host of requests whose visitor named none, which only HTTP/1.0 allows.
const NO_HOST: Authority = Authority::from_static("localhost");

/// A client for the protected service.
#[derive(Clone, Debug)]
pub struct Upstream {
    clients: Arc<Clients>,
    /// `None` if the number of requests is not limited.
    places: Option<Places>,
}

/// What a request is sent with.
#[derive(Debug)]
struct Clients {
    servers: Arc<Servers>,
    /// One for each server, with its own pool of connections.
    pooled: Vec<Client<Connector, Body>>,
    /// Makes a new connection for each request, to any server.
    unpooled: Client<Connector, Body>,
    response_timeout: Duration,
    metrics: UpstreamMetrics,
}

impl Upstream {
    /// A client for the configured service; `None` if neither `upstream.url` nor `upstream.urls` is set. It connects
    /// at the first request.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if a server is reached over TLS and its certificates cannot be read.
    pub fn new(
        config: &UpstreamConfig,
        metrics: UpstreamMetrics,
    ) -> Result<Option<Self>, TlsError> {
        if config.servers.is_empty() {
            return Ok(None);
        }
        let servers = Servers::new(config, metrics.clone())?;
        let builder = || {
            let mut builder = Client::builder(TokioExecutor::new());
            builder
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(POOL_IDLE)
                .http1_max_buf_size(MAX_BUFFER);
            builder
        };
        let pooled = (0..config.servers.len())
            .map(|server| builder().build(Connector::to(&servers, server)))
            .collect();
        let unpooled = builder().pool_max_idle_per_host(0).build(Connector::to_any(&servers));
        let response_timeout = config.response_timeout;
        let places = (config.max_concurrent > 0)
            .then(|| Places::new(config.max_concurrent, metrics.clone()));
        let clients = Arc::new(Clients { servers, pooled, unpooled, response_timeout, metrics });
        Ok(Some(Self { clients, places }))
    }

    /// Whether no server of the service accepts connections. It is found out again every few seconds.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.clients.servers.are_down()
    }

    /// The limit of requests that the service works on at once, and how far it is used; `None` without one.
    #[must_use]
    pub fn figures(&self) -> Option<Figures> {
        self.places.as_ref().map(Places::figures)
    }

    /// As [`Self::forward`], once it is the turn of this session: one that uses the service little goes first.
    ///
    /// Its place is held until the head of the answer came, also when the caller gives up and drops this: most services
    /// work on for a visitor who has gone away, and who asks and hangs up must not load them without bound.
    ///
    /// # Errors
    ///
    /// As [`Self::forward`], and [`ProxyError::Busy`] if its turn does not come.
    pub async fn forward_for(
        &self,
        session: SessionKey,
        mut request: Request<Body>,
        forwarded: Forwarded,
    ) -> Result<Response<Body>, ProxyError> {
        let Some(places) = self.places.as_ref().filter(|_| !self.is_down()) else {
            return self.forward(request, forwarded).await;
        };
        // How long an upload takes is the visitor's doing.
        let kind = (request.body().is_end_stream())
            .then(|| places.kind(request.method(), request.uri().path()));
        let place = places.enter(session).await.map_err(ProxyError::Busy)?;
        let sent = kind.is_none().then(|| {
            let (body, sent) = ToldBody::new(std::mem::take(request.body_mut()));
            *request.body_mut() = Body::new(body);
            sent
        });
        let clients = self.clients.clone();
        let answer = async move { clients.forward(request, forwarded).await };
        Placed::new((place, kind), holding(sent), answer).await
    }

    /// Forwards a request, and returns the response as soon as its head has arrived.
    ///
    /// A connection of the pool may be closed by the service at the moment when it is used. A request without a
    /// body that changes nothing (RFC 9110, section 9.2.1) is then sent once more, on a new connection; every other
    /// request gets a new connection from the start, because nobody could tell whether the service acted on it.
    ///
    /// A WebSocket upgrade is supported: the response is the service's 101, and a task copies bytes both ways
    /// once the visitor's connection has switched.
    ///
    /// # Errors
    ///
    /// A [`ProxyError`] if there is no response to pass on. If the response breaks off later, its body ends with
    /// an error, and with it the visitor's connection.
    pub async fn forward(
        &self,
        request: Request<Body>,
        forwarded: Forwarded,
    ) -> Result<Response<Body>, ProxyError> {
        self.clients.forward(request, forwarded).await
    }
}

impl Clients {
    async fn forward(
        &self,
        mut request: Request<Body>,
        forwarded: Forwarded,
    ) -> Result<Response<Body>, ProxyError> {
        let websocket = headers::asks_for_websocket(&request);
        let visitor = websocket.then(|| hyper::upgrade::on(&mut request));
        let activity = Activity::new();
        let request = Self::outgoing(request, &forwarded, websocket, &activity)?;
        if self.servers.are_down() {
            return Err(ProxyError::Down);
        }
        let mut response = tokio::select! {
            biased;
            response = self.send(request, websocket) => response?,
            () = activity.quiet_for(self.response_timeout) => return Err(ProxyError::Timeout),
        };
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switching {
            let visitor = visitor.filter(|_| headers::names_websocket(response.headers()));
            let visitor = visitor.ok_or(ProxyError::BadResponse)?;
            tokio::spawn(tunnel::run(visitor, hyper::upgrade::on(&mut response)));
        }
        let (parts, body) = response.into_parts();
        let mut answer = Response::new(Body::new(body));
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = headers::of_response(parts.headers, switching);
        Ok(answer)
    }

    async fn send(
        &self,
        request: Request<Body>,
        websocket: bool,
    ) -> Result<Response<Incoming>, ProxyError> {
        let response = self.attempt(request, websocket).await?;
        if let Some(answered) = response.extensions().get::<Answered>() {
            answered.set();
        }
        Ok(response)
    }

    async fn attempt(
        &self,
        request: Request<Body>,
        websocket: bool,
    ) -> Result<Response<Incoming>, ProxyError> {
        let Some(again) = (!websocket).then(|| copy_of(&request)).flatten() else {
            return self.unpooled.request(request).await.map_err(classify);
        };
        let client = self.servers.next().and_then(|server| self.pooled.get(server));
        let client = client.unwrap_or(&self.unpooled);
        match client.request(request).await {
            Ok(response) => Ok(response),
            Err(error) if self.may_send_again(&error) => {
                self.metrics.sent_again();
                self.unpooled.request(again).await.map_err(classify)
            }
            Err(error) => Err(classify(error)),
        }
    }

    /// Whether the request failed because its connection had grown stale, or because its server went down and there is
    /// another.
    fn may_send_again(&self, error: &legacy::Error) -> bool {
        if error.is_connect() {
            return !self.servers.are_down() && self.pooled.len() > 1;
        }
        let stale = error.connect_info().is_some_and(Answered::of);
        stale && hyper_error(error).is_none_or(|error| !error.is_user() && !error.is_parse())
    }

    /// The request for the service: HTTP/1.1, to the service's address, with the visitor's path and query
    /// unchanged and without Fortify's extensions.
    fn outgoing(
        request: Request<Body>,
        forwarded: &Forwarded,
        websocket: bool,
        activity: &Activity,
    ) -> Result<Request<Body>, ProxyError> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().filter(|_| parts.method != Method::CONNECT);
        let path = path.ok_or(ProxyError::BadRequest)?.clone();
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        let host = hosts.next();
        let absolute = parts.uri.authority().map(Authority::as_str);
        if hosts.next().is_some() || absolute.is_some_and(|name| !is_host(host, name)) {
            // Two names for one site: the service and a proxy before it may disagree.
            return Err(ProxyError::BadRequest);
        }
        let mut outgoing = Request::new(Body::new(WatchedBody::new(body, activity.clone())));
        *outgoing.method_mut() = parts.method;
        *outgoing.uri_mut() = Self::uri(path)?;
        *outgoing.version_mut() = Version::HTTP_11;
        *outgoing.headers_mut() = headers::of_request(parts.headers, forwarded, websocket);
        Ok(outgoing)
    }

    fn uri(path: PathAndQuery) -> Result<Uri, ProxyError> {
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(NO_HOST)
            .path_and_query(path)
            .build()
            .map_err(|_invalid| ProxyError::BadRequest)
    }
}

/// Resolves when a request has held its place for as long as it may; `sent` is its body, if it has one.
async fn holding(sent: Option<Sent>) {
    if let Some(mut sent) = sent
        && timeout(HELD_FOR_BODY, sent.wait()).await.is_err()
    {
        return;
    }
    sleep(HELD_LONGEST).await;
}

fn is_host(host: Option<&http::HeaderValue>, name: &str) -> bool {
    host.is_some_and(|host| host.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
}

/// The same request, if it may be sent twice: it has no body, and asks for nothing to be changed.
fn copy_of(request: &Request<Body>) -> Option<Request<Body>> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !safe || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Why there is no response from the service.
///
/// Visitors see a status and a page; details are in the log only.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The service could not be connected to: a 502.
    #[error("the service cannot be reached: {}", cause(.0))]
    Unreachable(#[source] legacy::Error),
    /// Every server refused its last connections, and none was tried for this request: a 503.
    #[error("the service is down")]
    Down,
    /// The service works on as much as it can, and others came first: a 503.
    #[error("the service is busy: {}", .0.label())]
    Busy(Busy),
    /// The service did not begin its answer in time: a 504.
    #[error("the service did not answer in time")]
    Timeout,
    /// The service closed early, or sent what is no HTTP, or too large a head: a 502.
    #[error("the service gave no proper answer")]
    BadResponse,
    /// The request cannot be sent on, or its body broke off: a 400.
    #[error("the request cannot be sent on")]
    BadRequest,
}

impl ProxyError {
    /// A fixed word for a metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Down => "down",
            Self::Busy(_) => "busy",
            Self::Timeout => "timeout",
            Self::BadResponse => "bad_response",
            Self::BadRequest => "bad_request",
        }
    }
}

/// The innermost reason: what the layers above say of it is that there was one.
fn cause(error: &legacy::Error) -> &dyn std::error::Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

fn classify(error: legacy::Error) -> ProxyError {
    if error.is_connect() {
        return ProxyError::Unreachable(error);
    }
    match hyper_error(&error) {
        // hyper counts a body that fails as its user's error, and the body is the visitor's.
        Some(error) if error.is_user() => ProxyError::BadRequest,
        _ => {
            tracing::debug!(?error, "no proper answer from the service");
            ProxyError::BadResponse
        }
    }
}

fn hyper_error(error: &legacy::Error) -> Option<&hyper::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

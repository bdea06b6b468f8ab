//! The reverse proxy to the protected service.
//!
//! Both bodies are streamed, so that uploads and downloads cost no memory. Headers that only a proxy may set are
//! removed from a visitor's request, and Fortify's cookies in both directions.
//!
//! # Layout
//!
//! - this file: [`Upstream`] and [`ProxyError`];
//! - `headers`: which headers pass, and which are replaced (pure);
//! - `activity`: the time since the last transfer;
//! - `tunnel`: a WebSocket between visitor and service.

mod activity;
mod headers;
#[cfg(test)]
mod tests;
mod tunnel;

use std::time::Duration;

use axum::body::Body;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::config::UpstreamConfig;
use activity::{Activity, WatchedBody};

pub use headers::{Forwarded, OUR_COOKIES, Proto};

/// How long an unused connection to the service is kept: less than the shortest common keep-alive of services
/// (Node.js: 5 s), so that a request rarely uses one that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The read buffer in bytes, into which the head of a response must fit. Services with many cookies send a few
/// KiB; nginx allows 4 to 8 KiB by default.
const MAX_BUFFER: usize = 64 * 1024;

/// A client for the protected service.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: Client<HttpConnector, Body>,
    authority: Authority,
    response_timeout: Duration,
}

impl Upstream {
    /// A client for the configured service; `None` if `upstream.url` is not set. It connects at the first
    /// request.
    #[must_use]
    pub fn new(config: &UpstreamConfig) -> Option<Self> {
        let authority = config.authority.clone()?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(config.connect_timeout));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(MAX_BUFFER)
            .build(connector);
        Some(Self { client, authority, response_timeout: config.response_timeout })
    }

    /// Forwards a request, and returns the response as soon as its head has arrived.
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
        mut request: Request<Body>,
        forwarded: Forwarded,
    ) -> Result<Response<Body>, ProxyError> {
        let websocket = headers::asks_for_websocket(&request);
        let visitor = websocket.then(|| hyper::upgrade::on(&mut request));
        let activity = Activity::new();
        let request = self.outgoing(request, &forwarded, websocket, &activity)?;
        let mut response = tokio::select! {
            biased;
            response = self.client.request(request) => response.map_err(classify)?,
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

    /// The request for the service: HTTP/1.1, to the service's address, with the visitor's path and query
    /// unchanged and without Fortify's extensions.
    fn outgoing(
        &self,
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
        *outgoing.uri_mut() = self.uri(path)?;
        *outgoing.version_mut() = Version::HTTP_11;
        *outgoing.headers_mut() = headers::of_request(parts.headers, forwarded, websocket);
        Ok(outgoing)
    }

    fn uri(&self, path: PathAndQuery) -> Result<Uri, ProxyError> {
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|_invalid| ProxyError::BadRequest)
    }
}

fn is_host(host: Option<&http::HeaderValue>, name: &str) -> bool {
    host.is_some_and(|host| host.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
}

/// Why there is no response from the service.
///
/// Visitors see a status and a page; details are in the log only.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The service could not be connected to: a 502.
    #[error("the service cannot be reached: {0}")]
    Unreachable(#[source] legacy::Error),
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
            Self::Timeout => "timeout",
            Self::BadResponse => "bad_response",
            Self::BadRequest => "bad_request",
        }
    }
}

fn classify(error: legacy::Error) -> ProxyError {
    if error.is_connect() {
        return ProxyError::Unreachable(error);
    }
    let source = std::error::Error::source(&error);
    match source.and_then(|source| source.downcast_ref::<hyper::Error>()) {
        // hyper counts a body that fails as its user's error, and the body is the visitor's.
        Some(error) if error.is_user() => ProxyError::BadRequest,
        _ => {
            tracing::debug!(?error, "no proper answer from the service");
            ProxyError::BadResponse
        }
    }
}

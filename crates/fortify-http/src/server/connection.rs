//! One connection, from its PROXY line to its last request.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt};

use super::body::{BodyExpired, TimedBody};
use super::cut::{Cutter, Held};
use super::framing::Framing;
use super::slots::{Slot, SlotHandle};
use super::stream::{GuardedStream, Progress, Socket};
use super::{Events, Limits, MAX_HEAD, ServerEvent, Stage};
use fortify_core::circuit::{
    self, CircuitError, MAX_PROXY_LINE, PeerAddress, ProxySource, parse_proxy_line,
};

/// The buffer of each direction in bytes: bounds what one connection costs, and holds the longest head.
const MAX_BUFFER: usize = 40 * 1024;

/// How long a connection without a request stays open when the server stops. A client may be about to use it, and would
/// lose the request; the response to it says that it is the last.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// The shared state of all connections of a server.
pub(super) struct Context<S> {
    pub(super) service: S,
    pub(super) limits: Limits,
    pub(super) events: Events,
}

/// Serves one connection to its end. Its slot is held as long as the socket.
pub(super) async fn run<S>(
    context: Arc<Context<S>>,
    mut socket: Socket,
    peer: PeerAddress,
    slot: Slot,
    mut stage: watch::Receiver<Stage>,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let (mut proxy_line, mut ahead) = (None, Bytes::new());
    if context.limits.proxy_protocol {
        let opening = tokio::select! {
            biased;
            opening = open(&context, &mut socket) => opening,
            () = slot.cutter().fired() => None,
            () = drained(&mut stage) => None,
        };
        let Some((source, rest)) = opening else {
            return;
        };
        if slot.belongs_to(&source).is_err() {
            (context.events)(ServerEvent::CircuitFull);
            return;
        }
        (proxy_line, ahead) = (Some(source), rest);
    }
    let (handle, cutter) = (slot.handle(), slot.cutter().clone());
    let progress = Progress::new(handle.clone());
    let shared = (context.limits.clone(), Arc::clone(&context.events));
    let ends = (stage.clone(), cutter.fired());
    let mut stream = GuardedStream::new(socket, ahead, progress.clone(), shared, slot, ends);
    let mut cut = pin!(cutter.fired());
    let head = tokio::select! {
        biased;
        head = stream.head() => head,
        () = cut.as_mut() => return,
        () = drained(&mut stage) => return,
    };
    if let Err(error) = head {
        (context.events)(ServerEvent::ConnectionFailed);
        tracing::debug!(%error, "no request came");
        return;
    }
    let connection = circuit::Connection { peer, proxy_line };
    let service = service_fn(|request: Request<Incoming>| {
        let from = (connection.clone(), cutter.clone(), handle.clone());
        respond(Arc::clone(&context), from, progress.clone(), request)
    });
    let http = builder().serve_connection(TokioIo::new(stream), service);
    let mut http = pin!(http.with_upgrades());
    let outcome = 'served: {
        tokio::select! {
            outcome = http.as_mut() => break 'served outcome,
            () = cut.as_mut() => return,
            () = reached(&mut stage, Stage::Draining) => progress.drain(),
        }
        tokio::select! {
            outcome = http.as_mut() => break 'served outcome,
            () = cut.as_mut() => return,
            () = reached(&mut stage, Stage::Cutting) => return,
            () = sleep(LAST_REQUEST) => http.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            outcome = http.as_mut() => break 'served outcome,
            () = cut.as_mut() => return,
            () = reached(&mut stage, Stage::Cutting) => return,
        }
    };
    if let Err(error) = outcome {
        (context.events)(ServerEvent::ConnectionFailed);
        // hyper's messages say what failed, never what was sent.
        tracing::debug!(%error, "connection failed");
    }
}

/// Resolves when the shutdown has reached this stage, or the server is gone.
async fn reached(stage: &mut watch::Receiver<Stage>, at: Stage) {
    drop(stage.wait_for(|stage| *stage >= at).await);
}

/// Resolves when the shutdown has begun and a request that was on its way then has had the time to come.
async fn drained(stage: &mut watch::Receiver<Stage>) {
    reached(stage, Stage::Draining).await;
    let _cut_or_over = timeout(LAST_REQUEST, reached(stage, Stage::Cutting)).await;
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // The stream has separate deadlines for idling and for heads.
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD)
        // hyper's limit of 100 headers stands: setting it, even to 100, moves them to the heap.
        .max_buf_size(MAX_BUFFER);
    builder
}

/// Reads the PROXY line, and returns it with the bytes after it; `None` if there is none.
async fn open<S>(context: &Context<S>, socket: &mut Socket) -> Option<(ProxySource, Bytes)> {
    let event = match timeout(context.limits.header_timeout, read_proxy_line(socket)).await {
        Ok(Ok(opening)) => return Some(opening),
        Ok(Err(_)) => ServerEvent::ProxyLineRefused,
        Err(_) => ServerEvent::HeaderTimeout,
    };
    (context.events)(event);
    None
}

async fn read_proxy_line(socket: &mut Socket) -> Result<(ProxySource, Bytes), CircuitError> {
    let mut buffer = Vec::with_capacity(MAX_PROXY_LINE);
    loop {
        if let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let rest = buffer.split_off(end + 1);
            return Ok((parse_proxy_line(&buffer)?, rest.into()));
        }
        let room = MAX_PROXY_LINE.saturating_sub(buffer.len());
        // Never more than the longest line: the rest belongs to the HTTP parser.
        let read = (&mut *socket).take(room as u64).read_buf(&mut buffer).await;
        if !matches!(read, Ok(1..)) {
            return Err(CircuitError::BadProxyLine);
        }
    }
}

/// Handles one request, unless its length is ambiguous, and closes the connection if nothing may follow.
async fn respond<S>(
    context: Arc<Context<S>>,
    (connection, cutter, slot): (circuit::Connection, Cutter, SlotHandle),
    progress: Progress,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let framing = progress.begin();
    let answer = |mut response: Response<Body>| {
        let held = response.extensions_mut().remove::<Held>();
        Ok(response.map(|body| AnswerBody { body, progress: progress.clone(), _held: held }))
    };
    if framing == Framing::Refused {
        (context.events)(ServerEvent::FramingRefused);
        return answer(closing(plain(StatusCode::BAD_REQUEST, "Bad request.\n")));
    }
    let expired = Arc::new(AtomicBool::new(false));
    let timeout = context.limits.body_timeout;
    let mut request =
        request.map(|body| Body::new(TimedBody::new(body, timeout, Arc::clone(&expired))));
    request.extensions_mut().insert(connection);
    request.extensions_mut().insert(cutter);
    request.extensions_mut().insert(slot);
    request.extensions_mut().insert(BodyExpired(Arc::clone(&expired)));
    let mut response = match context.service.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if expired.load(Ordering::Relaxed) {
        // Whatever the service answered to half a body.
        (context.events)(ServerEvent::BodyTimeout);
        let message = "The request took too long to send.\n";
        return answer(closing(plain(StatusCode::REQUEST_TIMEOUT, message)));
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        progress.tunnel(response.extensions_mut().remove::<Held>());
        return answer(response);
    }
    let is_last = framing == Framing::Chunked || progress.is_draining();
    answer(if is_last { closing(response) } else { response })
}

fn plain(status: StatusCode, message: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(message));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The body of a response. The idle deadline starts when it is dropped.
struct AnswerBody {
    body: Body,
    progress: Progress,
    _held: Option<Held>,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        ready!(self.progress.poll_room(cx));
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.progress.took(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.progress.end();
    }
}

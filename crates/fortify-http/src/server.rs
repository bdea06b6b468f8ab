//! The accept loop, with a limit on every resource that a client can hold.
//!
//! `axum::serve` sets no timer, so its header timeout never fires, and a few thousand clients that send a byte a
//! minute exclude all others. Here every wait for a client has a deadline.
//!
//! # Layout
//!
//! - this file: [`serve`], its [`Limits`], its events;
//! - `listener`: binding a TCP or unix socket ([`Listener`]);
//! - `connection`: one connection, from its PROXY line to its last request;
//! - `cut`: cutting one connection from outside;
//! - `slots`: who holds a slot among the connections, and who leaves when they run short;
//! - `stream`: a socket with deadlines, a lingering close and a slot;
//! - `framing`: the lengths in raw heads, before the HTTP parser normalises them;
//! - `body`: a request body with a minimum rate.

mod body;
mod connection;
mod cut;
mod framing;
mod listener;
mod slots;
mod stream;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use tokio::sync::watch;
use tokio::time;
use tower::Service;

use crate::config::ServerConfig;

pub use body::BodyExpired;
pub use cut::{Cutter, Held};
pub use listener::{BindError, Listener, LocalAddress};
pub use slots::SlotHandle;

use connection::Context;
use slots::{Slot, Slots};

/// The most bytes of start line and headers together: 32 KB from the visitor, what nginx allows by default, and
/// what proxies in front add. Beyond it hyper answers 431.
const MAX_HEAD: usize = 40 * 1024;

/// The longest pause after a failed accept, as when no file descriptors are left.
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long connections may take to end after they were cut.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Connections that one circuit may hold: a number that may change while the server runs. Clones are the same number.
#[derive(Clone, Debug)]
pub struct CircuitLimit(Arc<AtomicUsize>);

impl CircuitLimit {
    /// At first `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(most)))
    }

    /// The number in force.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// From now on `most`. What a circuit holds already stays.
    pub fn set(&self, most: usize) {
        self.0.store(most, Ordering::Relaxed);
    }
}

/// The limits on clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time. A further one takes the slot of one that is least missed, or waits.
    pub max_connections: usize,
    /// Connections of one of tor's circuits, where connections start with a PROXY line; further ones are closed.
    pub max_connections_per_circuit: CircuitLimit,
    /// For the PROXY line, and again from the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// How long a request body may stall, or crawl below 500 bytes a second.
    pub body_timeout: Duration,
    /// Between two requests, and for a response that the peer does not read.
    pub idle_timeout: Duration,
    /// For running requests at shutdown, before they are cut.
    pub drain: Duration,
    /// Whether every connection starts with a PROXY v1 line.
    pub proxy_protocol: bool,
}

impl From<&ServerConfig> for Limits {
    fn from(config: &ServerConfig) -> Self {
        Self {
            max_connections: config.max_connections,
            max_connections_per_circuit: CircuitLimit::new(config.max_connections_per_circuit),
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            idle_timeout: config.idle_timeout,
            drain: config.drain,
            proxy_protocol: config.proxy_protocol,
        }
    }
}

/// An event of the accept loop, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerEvent {
    /// A connection was accepted.
    Opened,
    /// A connection, or the tunnel it became, has ended.
    Closed,
    /// A connection could not be accepted.
    AcceptFailed,
    /// A connection did not start with a PROXY v1 line, and was closed.
    ProxyLineRefused,
    /// A circuit held as many connections as it may, and a further one was closed.
    CircuitFull,
    /// A connection was closed to make room for another.
    Displaced,
    /// The PROXY line or the headers of a request did not come in time.
    HeaderTimeout,
    /// A connection was idle for too long.
    IdleTimeout,
    /// A request body was too slow.
    BodyTimeout,
    /// A peer did not read what was sent to it.
    WriteTimeout,
    /// A request with an ambiguous length (`Content-Length` with `Transfer-Encoding`, or either of them twice or
    /// malformed) was refused.
    FramingRefused,
    /// The HTTP parser or the connection failed.
    ConnectionFailed,
}

impl ServerEvent {
    /// A fixed word for a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::AcceptFailed => "accept_failed",
            Self::ProxyLineRefused => "proxy_line_refused",
            Self::CircuitFull => "circuit_full",
            Self::Displaced => "displaced",
            Self::HeaderTimeout => "header_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::FramingRefused => "framing_refused",
            Self::ConnectionFailed => "connection_failed",
        }
    }
}

/// The receiver of events.
pub type Events = Arc<dyn Fn(ServerEvent) + Send + Sync>;

/// The result of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that were still busy after [`Limits::drain`] and were cut, including tunnels.
    pub cut: usize,
}

/// The stage of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    Draining,
    Cutting,
}

/// Serves until `shutdown` resolves, then lets running requests finish and cuts the rest.
///
/// Every request carries a [`circuit::Connection`](fortify_core::circuit::Connection) and a [`SlotHandle`] in its
/// extensions, and can be upgraded. A request in flight or a tunnel counts as a connection until its socket
/// is closed.
pub async fn serve<S>(
    listener: Listener,
    service: S,
    limits: Limits,
    events: Events,
    shutdown: impl Future<Output = ()>,
) -> DrainReport
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let slots = Arc::new(Slots::new(&limits, Arc::clone(&events)));
    let (stage, watched) = watch::channel(Stage::Serving);
    let drain_for = limits.drain;
    let context = Arc::new(Context { service, limits, events: Arc::clone(&events) });
    tokio::pin!(shutdown);
    let mut failures = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = next(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((socket, peer, slot)) => {
                failures = 0;
                let context = Arc::clone(&context);
                tokio::spawn(connection::run(context, socket, peer, slot, watched.clone()));
            }
            Err(error) => {
                events(ServerEvent::AcceptFailed);
                if of_the_peer(&error) {
                    continue;
                }
                tracing::warn!(%error, "cannot accept connections, trying again");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = time::sleep(pause(failures)) => failures += 1,
                }
            }
        }
    }
    // From here on the kernel refuses connections, so that a load balancer in front notices at once.
    drop(listener);
    drain(&slots, &stage, drain_for).await
}

/// The next connection and its slot. One at most waits for a slot; others are not accepted meanwhile and cost
/// nothing.
async fn next(
    listener: &Listener,
    slots: &Arc<Slots>,
) -> io::Result<(stream::Socket, fortify_core::circuit::PeerAddress, Slot)> {
    let (socket, peer) = listener.accept().await?;
    Ok((socket, peer, slots.take().await))
}

/// Whether an error concerns one peer that went away, and not the listener.
fn of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn pause(failures: u32) -> Duration {
    Duration::from_millis(5).saturating_mul(1 << failures.min(10)).min(MAX_ACCEPT_PAUSE)
}

async fn drain(slots: &Slots, stage: &watch::Sender<Stage>, longest: Duration) -> DrainReport {
    stage.send_replace(Stage::Draining);
    if time::timeout(longest, slots.all_free()).await.is_ok() {
        return DrainReport { cut: 0 };
    }
    let cut = slots.taken();
    stage.send_replace(Stage::Cutting);
    if time::timeout(CUT_GRACE, slots.all_free()).await.is_err() {
        tracing::warn!("some connections did not end when they were cut");
    }
    DrainReport { cut }
}

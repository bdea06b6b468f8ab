//! Connections to the servers of the service, each with its breaker.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Extensions, Uri};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tower::Service;

use super::breaker::{Breaker, is_of_this_machine};
use super::tls::{self, TlsError};
use crate::config::{UpstreamConfig, UpstreamServer};
use crate::metrics::UpstreamMetrics;
use crate::tcp;

/// The pause before a second attempt, after one that was refused at once: enough for a service that is restarted by
/// its supervisor while its socket stays, and not felt by visitors.
const SECOND_ATTEMPT: Duration = Duration::from_millis(100);

/// A first attempt that failed later than this is not made a second time, so that nobody waits for two timeouts.
const FAILED_AT_ONCE: Duration = Duration::from_secs(1);

/// All servers of the service.
pub(super) struct Servers {
    all: Vec<Server>,
    /// Whose turn it is.
    turn: AtomicUsize,
    connect_timeout: Duration,
    /// The moment that breakers count from.
    started: Instant,
    metrics: UpstreamMetrics,
}

struct Server {
    /// For the log.
    name: String,
    address: Address,
    breaker: Mutex<Breaker>,
}

enum Address {
    Tcp { host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)> },
    Unix(PathBuf),
}

impl Servers {
    pub(super) fn new(
        config: &UpstreamConfig,
        metrics: UpstreamMetrics,
    ) -> Result<Arc<Self>, TlsError> {
        let all = config.servers.iter().map(|server| Server::new(server, config));
        let servers = Self {
            all: all.collect::<Result<_, _>>()?,
            turn: AtomicUsize::new(0),
            connect_timeout: config.connect_timeout,
            started: Instant::now(),
            metrics,
        };
        servers.publish();
        Ok(Arc::new(servers))
    }

    /// Whether no server accepts connections.
    pub(super) fn are_down(&self) -> bool {
        self.all.iter().all(|server| server.breaker().is_open())
    }

    /// The server whose turn it is among those that accept connections; `None` if there is none.
    pub(super) fn next(&self) -> Option<usize> {
        let accepts = |at: &usize| self.all.get(*at).is_some_and(|it| !it.breaker().is_open());
        let accepting = (0..self.all.len()).filter(accepts).count();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(accepting)?;
        // Between the two counts one may have gone down.
        (0..self.all.len()).filter(accepts).nth(turn)
    }

    /// Connects to the server `only`, or to the first that accepts, and says which that is.
    async fn connect(self: &Arc<Self>, only: Option<usize>) -> io::Result<(usize, Stream)> {
        if let Some(only) = only {
            return Ok((only, self.connect_to(only).await?));
        }
        let mut failed = None;
        // Each failure either opens a breaker or comes from a server that is not asked again here.
        for _ in 0..self.all.len() {
            let Some(next) = self.next() else { break };
            match self.connect_to(next).await {
                Ok(stream) => return Ok((next, stream)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| io::ErrorKind::NotConnected.into()))
    }

    /// Connects to one server, at the second attempt if the first failed at once.
    async fn connect_to(self: &Arc<Self>, at: usize) -> io::Result<Stream> {
        let began = Instant::now();
        match self.attempt(at).await {
            Err(_) if began.elapsed() < FAILED_AT_ONCE => {
                sleep(SECOND_ATTEMPT).await;
                self.attempt(at).await
            }
            first => first,
        }
    }

    async fn attempt(self: &Arc<Self>, at: usize) -> io::Result<Stream> {
        let server = self.all.get(at).ok_or(io::ErrorKind::NotFound)?;
        let began = self.started.elapsed();
        let dialled = timeout(self.connect_timeout, server.dial()).await;
        let dialled = dialled.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        match &dialled {
            Ok(_) => self.succeeded(server),
            Err(error) => self.failed(at, server, began, error),
        }
        dialled
    }

    fn failed(self: &Arc<Self>, at: usize, server: &Server, began: Duration, error: &io::Error) {
        if is_of_this_machine(error) {
            tracing::debug!(server = server.name, %error, "this machine has no connection left");
            return;
        }
        let (opened, wants_prober) = {
            let mut breaker = server.breaker();
            (breaker.failed(began), breaker.wants_prober())
        };
        if opened {
            tracing::warn!(server = server.name, %error, "the protected service is down; check [upstream]");
            self.metrics.breaker("opened");
            self.publish();
        } else {
            tracing::debug!(server = server.name, %error, "no connection");
        }
        if wants_prober {
            tokio::spawn(probe(Arc::downgrade(self), at));
        }
    }

    /// The server `at` answered a request.
    fn answered(&self, at: usize) {
        if let Some(server) = self.all.get(at) {
            self.succeeded(server);
        }
    }

    fn succeeded(&self, server: &Server) {
        if server.breaker().succeeded(self.started.elapsed()) {
            tracing::info!(server = server.name, "the protected service accepts connections again");
            self.metrics.breaker("closed");
            self.publish();
        }
    }

    fn publish(&self) {
        let down = self.all.iter().filter(|server| server.breaker().is_open()).count();
        self.metrics.servers(self.all.len() - down, down);
    }
}

/// Connects to a server whose breaker is open until it accepts, or until nobody needs to know any more.
///
/// Boxed, because an attempt that opens a breaker starts this, and this makes attempts.
fn probe(servers: Weak<Servers>, at: usize) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        loop {
            let next = servers.upgrade().and_then(|servers| {
                let server = servers.all.get(at)?;
                server.breaker().next_probe()
            });
            let Some(wait) = next else { return };
            sleep(wait).await;
            let Some(servers) = servers.upgrade() else { return };
            drop(servers.attempt(at).await);
        }
    })
}

impl Server {
    fn new(server: &UpstreamServer, config: &UpstreamConfig) -> Result<Self, TlsError> {
        let address = match (server, server.host_and_port()) {
            (UpstreamServer::Unix(path), _) => Address::Unix(path.clone()),
            (_, None) => return Err(TlsError::NoCertificate(PathBuf::new())),
            (UpstreamServer::Http(_), Some((host, port))) => {
                Address::Tcp { host: host.to_owned(), port, tls: None }
            }
            (UpstreamServer::Https(_), Some((host, port))) => {
                let ca = config.tls_ca.clone().unwrap_or_default();
                let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(bare).map_err(|_invalid| {
                    TlsError::SetUp(rustls::Error::General(format!(
                        "{host} is no name for a certificate"
                    )))
                })?;
                let tls = Some((tls::connector(&ca)?, name));
                Address::Tcp { host: host.to_owned(), port, tls }
            }
        };
        Ok(Self { name: server.to_string(), address, breaker: Mutex::default() })
    }

    async fn dial(&self) -> io::Result<Stream> {
        match &self.address {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp { host, port, tls } => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let stream = TcpStream::connect((host, *port)).await?;
                tcp::set_up(&stream)?;
                match tls {
                    None => Ok(Box::new(stream)),
                    Some((tls, name)) => Ok(Box::new(tls.connect(name.clone(), stream).await?)),
                }
            }
        }
    }

    /// Whole after any panic: every change to it is one call.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|server| &server.name)).finish()
    }
}

/// Connects to the service for hyper's client. What it is asked for does not matter: its servers are known.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    servers: Arc<Servers>,
    only: Option<usize>,
}

impl Connector {
    /// Connects to this server.
    pub(super) fn to(servers: &Arc<Servers>, server: usize) -> Self {
        Self { servers: servers.clone(), only: Some(server) }
    }

    /// Connects to any server.
    pub(super) fn to_any(servers: &Arc<Servers>) -> Self {
        Self { servers: servers.clone(), only: None }
    }
}

impl Service<Uri> for Connector {
    type Response = ServiceConnection;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<ServiceConnection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { servers, only } = self.clone();
        Box::pin(async move {
            let (at, stream) = servers.connect(only).await?;
            let answered = Answered { servers, at, before: Arc::default() };
            Ok(ServiceConnection { stream: TokioIo::new(stream), answered })
        })
    }
}

/// Connects to one server as the proxy would: for checks.
///
/// # Errors
///
/// What went wrong, certificates included.
pub async fn connect(
    server: &UpstreamServer,
    config: &UpstreamConfig,
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
    let server = Server::new(server, config).map_err(io::Error::other)?;
    server.dial().await
}

/// Whether a connection has brought an answer before. If it then fails, it may have been stale.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    servers: Arc<Servers>,
    /// The server that it leads to.
    at: usize,
    before: Arc<AtomicBool>,
}

impl Answered {
    /// An answer came, so the server is there, however many new connections it refused.
    pub(super) fn set(&self) {
        self.before.store(true, Ordering::Relaxed);
        self.servers.answered(self.at);
    }

    /// Whether the connection that failed had answered.
    pub(super) fn of(connection: &Connected) -> bool {
        let mut extensions = Extensions::new();
        connection.get_extras(&mut extensions);
        extensions.get::<Self>().is_some_and(|answered| answered.before.load(Ordering::Relaxed))
    }
}

/// The most bytes of an answer that are read at once: hyper doubles its buffer, up to what the longest head needs,
/// whenever a read fills it, and each part of a download that is hardly read then holds as much. Less than 16 KiB, which
/// it therefore keeps.
const MAX_PART: usize = 16 * 1024 - 1;

/// A stream of any kind.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

type Stream = Box<dyn Duplex>;

/// A connection to a server of the service.
pub(super) struct ServiceConnection {
    stream: TokioIo<Stream>,
    answered: Answered,
}

impl Connection for ServiceConnection {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.answered.clone())
    }
}

impl Read for ServiceConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut part = [const { MaybeUninit::uninit() }; MAX_PART];
        let most = buffer.remaining().min(MAX_PART);
        let mut part = ReadBuf::uninit(&mut part[..most]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, part.unfilled()))?;
        buffer.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for ServiceConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

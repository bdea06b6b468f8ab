//! `fortify serve`.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use fortify_captcha::AnswerMode;
use fortify_http::server::Listener;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};

use super::{CliError, ConfigArgs};
use crate::daemon::Daemon;
use crate::doctor::{CheckStatus, descriptors};
use fortify_admin::operations::reload;
use fortify_admin::{AdminListeners, SharedAdmin};
use fortify_config::{Config, SecureCookie, WrittenConfig};
use fortify_core::circuit::IdentityMode;
use fortify_core::clock::SystemClock;
use fortify_core::entropy::SystemEntropy;
use fortify_core::telemetry::logs;
use fortify_web::app::App;
use fortify_web::reload::{Live, Source};

/// Runs the gate until SIGTERM or SIGINT.
pub(super) fn serve(args: ConfigArgs, env: Vec<(String, String)>) -> Result<(), CliError> {
    // Before there are threads: it takes variables out of the environment.
    let inherited = inherited().map_err(inherited_failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::Failed(format!("cannot start threads: {e}")))?;
    // Before anything that takes time: without a handler, a reload while the gate starts would end it.
    let signals = {
        let _runtime = runtime.enter();
        Signals::watch().map_err(|e| CliError::Failed(format!("cannot watch signals: {e}")))?
    };
    let source: Source = Box::new(move || args.read(env.clone()));
    let (config, written) = source().map_err(CliError::Config)?;
    logs::init(&config.log).map_err(CliError::failed)?;
    logs::hide_panics();
    runtime.block_on(run(config, written, source, signals, inherited))
}

async fn run(
    config: Config,
    written: WrittenConfig,
    source: Source,
    signals: Signals,
    inherited: Option<InheritedSocket>,
) -> Result<(), CliError> {
    warn(&config);
    let app = App::build(Arc::new(config), Arc::new(SystemClock), Arc::new(SystemEntropy))
        .map_err(CliError::failed)?;
    let live = Arc::new(Live::new(app, written, Some(source)));
    let gate = match inherited {
        Some(socket) => {
            Daemon::on(socket.listener().map_err(inherited_failed)?, live.clone()).await
        }
        None => Daemon::with_live(live.clone()).await,
    };
    let gate = gate.map_err(CliError::failed)?;
    let Signals { hangup, terminate, interrupt } = signals;
    let admin = gate.admin().map(|listeners| listeners.admin().clone());
    let reloading = tokio::spawn(reload_on(hangup, live, admin));
    let notice = gate.admin().map(|it| it.setup_notice(io::stderr().is_terminal())).transpose();
    if let Some(notice) = notice.map_err(CliError::failed)?.flatten() {
        // It may contain a secret for the operator who starts the gate: not for the log.
        let _nowhere_left_to_say_it = writeln!(io::stderr(), "fortify: {}", notice.line().expose());
    }
    tracing::info!(listening = %gate.address(), "the gate is open");
    if let Some(address) = gate.admin().and_then(AdminListeners::address) {
        tracing::info!(address = %address, "the admin interface is open");
    }
    notify_manager(NotifyState::Ready);
    let watchdog = sd_notify::watchdog_enabled().map(|within| tokio::spawn(feed_watchdog(within)));
    let stop = async {
        until(terminate, interrupt).await;
        notify_manager(NotifyState::Stopping);
    };
    let drained = gate.run(stop).await;
    reloading.abort();
    watchdog.inspect(JoinHandle::abort);
    tracing::info!(cut = drained.cut, "the gate is closed");
    Ok(())
}

/// The socket that the service manager opened for visitors. It stays open while the gate starts again: connections wait,
/// and none is refused.
enum InheritedSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl InheritedSocket {
    fn listener(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => Listener::inherited_tcp(listener),
            Self::Unix(listener) => Listener::inherited_unix(listener),
        }
    }
}

/// Takes that socket, if there is one (`LISTEN_FDS`).
fn inherited() -> io::Result<Option<InheritedSocket>> {
    let mut sockets = ListenFd::from_env();
    match sockets.len() {
        0 => return Ok(None),
        1 => {}
        // On the others visitors would wait for ever.
        more => return Err(io::Error::other(format!("there are {more}, and one is used"))),
    }
    Ok(match sockets.take_tcp_listener(0) {
        Ok(listener) => listener.map(InheritedSocket::Tcp),
        Err(_another_kind) => sockets.take_unix_listener(0)?.map(InheritedSocket::Unix),
    })
}

fn inherited_failed(error: io::Error) -> CliError {
    CliError::Failed(format!(
        "cannot use the socket that the service manager opened: {error}; see ListenStream in fortify.socket"
    ))
}

/// Tells the service manager, if there is one.
fn notify_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Tells the service manager that threads still run tasks: it starts the gate again otherwise.
async fn feed_watchdog(within: Duration) {
    loop {
        notify_manager(NotifyState::Watchdog);
        sleep(within / 3).await;
    }
}

/// The signals that a gate takes. What comes before it is ready is not lost.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Reloads the configuration at every SIGHUP. The result is in the log, and in the audit if there is one.
async fn reload_on(mut hangup: Signal, live: Arc<Live>, admin: Option<SharedAdmin>) {
    while hangup.recv().await.is_some() {
        match &admin {
            Some(admin) => reload::by_signal(admin).await,
            None => drop(live.reload_and_tell().await),
        }
    }
}

/// Warns of settings that are valid but often a mistake.
fn warn(config: &Config) {
    match config.session.secure {
        SecureCookie::On => {}
        SecureCookie::Off => {
            tracing::warn!("session.secure = \"off\": cookies travel without the Secure attribute")
        }
        SecureCookie::Auto => tracing::warn!(
            "session.secure = \"auto\": on plain-http hosts that are neither onion nor loopback, \
             cookies travel without the Secure attribute"
        ),
    }
    let server = &config.server;
    let one_visitor = config.security.identity == IdentityMode::Peer
        && !server.proxy_protocol
        && (server.socket.is_some() || server.host.is_loopback());
    if one_visitor {
        tracing::warn!(
            "security.identity = \"peer\" on a loopback address or a socket: behind tor or a proxy all \
             visitors look alike, and the wrong answers of one make all of them wait; use \"circuit\", or \
             server.proxy_protocol"
        );
    }
    if config.haproxy.endpoint.is_some() && config.security.identity == IdentityMode::Peer {
        tracing::warn!(
            "[haproxy] is set and security.identity is \"peer\": HAProxy's table holds circuits, so nothing is \
             sent to it; use \"circuit\", or remove haproxy.socket_path and haproxy.address"
        );
    }
    if config.captcha.mode == AnswerMode::Choice {
        tracing::warn!(
            "captcha.mode = \"choice\": texts, sums and colour words are only shown in swirl or motion, at every \
             level and regardless of captcha.carrier_weights, and visitors who ask for still pictures get \
             letters instead of sums; guesses often succeed, see docs/guessing.md"
        );
    }
    let files = descriptors::check_own(config);
    if files.status == CheckStatus::Warn {
        let advice = files.advice.unwrap_or_default();
        tracing::warn!("{}, or connections will not be accepted: {advice}", files.found);
    }
    if config.upstream.servers.is_empty() {
        tracing::warn!("upstream.url is not set: admitted visitors get 404 for every page");
    }
}

async fn until(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("finishing open requests");
}

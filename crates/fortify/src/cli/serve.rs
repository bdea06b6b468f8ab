//! `fortify serve`.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use fortify_captcha::AnswerMode;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{CliError, ConfigArgs};
use crate::daemon::Daemon;
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
    let source: Source = Box::new(move || args.read(env.clone()));
    let (config, written) = source().map_err(CliError::Config)?;
    logs::init(&config.log).map_err(CliError::failed)?;
    logs::hide_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::Failed(format!("cannot start threads: {e}")))?;
    runtime.block_on(run(config, written, source))
}

async fn run(config: Config, written: WrittenConfig, source: Source) -> Result<(), CliError> {
    warn(&config);
    let app = App::build(Arc::new(config), Arc::new(SystemClock), Arc::new(SystemEntropy))
        .map_err(CliError::failed)?;
    let live = Arc::new(Live::new(app, written, Some(source)));
    let gate = Daemon::with_live(live.clone()).await.map_err(CliError::failed)?;
    let hangup = signal(SignalKind::hangup())
        .map_err(|e| CliError::Failed(format!("cannot watch signals: {e}")))?;
    let admin = gate.admin().map(|listeners| listeners.admin().clone());
    let reloading = tokio::spawn(reload_on(hangup, live, admin));
    let stop = stop_signal().map_err(|e| CliError::Failed(format!("cannot watch signals: {e}")))?;
    let notice = gate.admin().map(|it| it.setup_notice(io::stderr().is_terminal())).transpose();
    if let Some(notice) = notice.map_err(CliError::failed)?.flatten() {
        // It may contain a secret for the operator who starts the gate: not for the log.
        let _nowhere_left_to_say_it = writeln!(io::stderr(), "fortify: {}", notice.line().expose());
    }
    tracing::info!(listening = %gate.address(), "the gate is open");
    if let Some(address) = gate.admin().and_then(AdminListeners::address) {
        tracing::info!(address = %address, "the admin interface is open");
    }
    let drained = gate.run(stop).await;
    reloading.abort();
    tracing::info!(cut = drained.cut, "the gate is closed");
    Ok(())
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
    if config.upstream.servers.is_empty() {
        tracing::warn!("upstream.url is not set: admitted visitors get 404 for every page");
    }
}

fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("finishing open requests");
    })
}

//! A gate: built, bound, and then run until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::metrics::DaemonMetrics;
use fortify_admin::{AdminListeners, AdminStartError};
use fortify_config::{Config, WrittenConfig};
use fortify_core::clock::{Clock, Jumps};
use fortify_core::entropy::Entropy;
use fortify_haproxy::client::Client;
use fortify_haproxy::reconciler::Reconciler;
use fortify_http::server::{
    self, BindError, DrainReport, Limits, Listener, LocalAddress, ServerEvent,
};
use fortify_tor::{Tor, TorEvent, TorEvents};
use fortify_web::app::{App, BuildError, SharedApp};
use fortify_web::reload::{Live, Routes};

/// How often the clock and the key file are looked at, so that `fortify keys rotate` needs no restart.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);

/// A gate that holds its address and waits to be run.
#[derive(Debug)]
pub struct Daemon {
    live: Arc<Live>,
    listener: Listener,
    admin: Option<AdminListeners>,
    metrics: DaemonMetrics,
}

/// Why a gate does not start. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A part of it cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Its address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin interface.
    #[error(transparent)]
    Admin(#[from] AdminStartError),
}

impl Daemon {
    /// Builds the gate and takes its address, so that a gate that cannot work says so at once.
    ///
    /// # Errors
    ///
    /// [`StartError`], with what to do.
    pub async fn bind(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, StartError> {
        let app = App::build(config, clock, entropy)?;
        Self::with_app(app).await
    }

    /// As [`Self::bind`], for an [`App`] that the caller built.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub async fn with_app(app: SharedApp) -> Result<Self, StartError> {
        Self::with_live(Arc::new(Live::new(app, WrittenConfig::default(), None))).await
    }

    /// As [`Self::bind`], for a gate whose configuration can be read again.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub async fn with_live(live: Arc<Live>) -> Result<Self, StartError> {
        let app = live.app();
        let listener = Listener::bind(&app.config.server).await?;
        let admin = AdminListeners::bind(&live).await?;
        let metrics = app.metrics.register(DaemonMetrics::register);
        metrics.set_started(app.started);
        Ok(Self { live, listener, admin, metrics })
    }

    /// The state that its requests share, and how it is reconfigured.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The admin interface, where there is one.
    #[must_use]
    pub const fn admin(&self) -> Option<&AdminListeners> {
        self.admin.as_ref()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> LocalAddress {
        self.listener.local_addr()
    }

    /// Answers requests until `stop` is done, then finishes what is under way.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> DrainReport {
        let app = self.live.app();
        let keys = tokio::spawn(housekeeping(app.clone(), self.metrics.clone()));
        let haproxy = start_haproxy(&app);
        let threat = start_dial(&self.live);
        let tor = start_tor(&app).await;
        let limits = Limits::from(&app.config.server);
        let metrics = app.metrics.server.clone();
        let count = Arc::new(move |event: ServerEvent| metrics.event(event));
        // Operators may look until the last visitor is gone.
        let (stopping, stopped) = watch::channel(false);
        let admin = self.admin.map(|admin| tokio::spawn(admin.run(stopped)));
        let report = server::serve(self.listener, Routes(self.live), limits, count, stop).await;
        stopping.send_replace(true);
        if let Some(admin) = admin {
            let _a_panic_was_told_already = admin.await;
        }
        keys.abort();
        if let Some(haproxy) = haproxy {
            haproxy.abort();
        }
        threat.iter().chain(&tor).for_each(JoinHandle::abort);
        report
    }
}

/// Starts keeping `HAProxy`'s table as wanted, where one is configured.
fn start_haproxy(app: &SharedApp) -> Option<JoinHandle<std::convert::Infallible>> {
    let haproxy = &app.config.haproxy;
    let client = Client::new(haproxy.endpoint.clone()?);
    // Not told yet: from now on it is known that there is one.
    app.metrics.haproxy.set_up(false);
    let (reputation, health) = (app.engine.reputation().clone(), app.haproxy.clone());
    let (table, metrics) = (haproxy.table.clone(), app.metrics.haproxy.clone());
    let reconciler = Reconciler::new(client, table, reputation, health, metrics);
    Some(tokio::spawn(reconciler.run()))
}

/// Starts to turn the threat dial, and has everything else follow it.
fn start_dial(live: &Arc<Live>) -> [JoinHandle<()>; 2] {
    let threat = live.app().engine.threat().clone();
    let (mut changed, following) = (threat.changed(), live.clone());
    let follow = async move {
        while changed.changed().await.is_ok() {
            following.app().engine.apply_level();
        }
    };
    [tokio::spawn(follow), tokio::spawn(threat.run())]
}

/// Starts to watch tor where the configuration says so, and waits a moment for its first word, so
/// that visitors with a session need not solve again because Fortify was restarted.
async fn start_tor(app: &SharedApp) -> Vec<JoinHandle<()>> {
    let Some((tor, watcher)) = app.tor.as_ref().and_then(|tor| Some((tor, tor.take_watcher()?)))
    else {
        return Vec::new();
    };
    // The listener is there before there is anything to hear.
    let forgetting = tokio::spawn(forget_closed(app.clone(), tor.clone(), tor.events()));
    let watching = tokio::spawn(watcher.run(tor.clone()));
    tor.first_attempt().await;
    vec![forgetting, watching]
}

/// Drops what is kept about circuits that are no more.
async fn forget_closed(app: SharedApp, tor: Arc<Tor>, mut events: TorEvents) {
    while let Some(event) = events.next(&tor).await {
        match event {
            TorEvent::NewGeneration(boot) => app.engine.tor_restarted(boot).await,
            TorEvent::CircuitClosed(circuit) => app.engine.circuit_closed(circuit).await,
        }
    }
}

/// Tells of a clock that was set, and reads the key file again when it changed. A file that cannot be read leaves the keys as they
/// are; it is said once per change of mind, not every few seconds.
async fn housekeeping(app: SharedApp, metrics: DaemonMetrics) {
    let jumps = Jumps::of(&*app.clock);
    let mut tick = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complained = false;
    loop {
        tick.tick().await;
        if let Some(jump) = jumps.look(&*app.clock) {
            let (direction, seconds) = (jump.direction(), jump.size().as_secs());
            metrics.clock_jumped(direction);
            tracing::warn!(
                direction,
                seconds,
                "the clock was set, or the machine slept: bans and waits last as long as was said, \
                 sessions end by the new time"
            );
        }
        if let Some(report) = app.engine.end_of_learning() {
            tracing::info!(
                circuits = report.found(),
                requests = report.stricter(),
                of = report.requests,
                "the first day is over: circuits that look like no visitor get stricter challenges from now \
                 on; so many would have since the start (behaviour.mode = \"observe\" only watches)"
            );
        }
        match app.engine.refresh_keys() {
            Ok(true) => tracing::info!("the signing keys were rotated"),
            Ok(false) => complained = false,
            Err(error) if !complained => {
                complained = true;
                tracing::error!(%error, "the signing keys cannot be read again; the old ones stay");
            }
            Err(_same_as_before) => {}
        }
    }
}

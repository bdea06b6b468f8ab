//! A gate as a process: built, bound to its addresses, and run until it is stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, sleep, timeout};

use crate::metrics::DaemonMetrics;
use crate::on_change::OnChange;
use fortify_admin::{AdminListeners, AdminStartError};
use fortify_config::{Config, WrittenConfig};
use fortify_core::clock::{Clock, Jumps};
use fortify_core::entropy::Entropy;
use fortify_engine::upkeep::KeyNews;
use fortify_haproxy::client::Client;
use fortify_haproxy::reconciler::Reconciler;
use fortify_http::server::{
    self, BindError, CircuitLimit, DrainReport, Limits, Listener, LocalAddress, ServerEvent,
};
use fortify_tor::metrics::TorFigures;
use fortify_tor::{Tor, TorEvent, TorEvents};
use fortify_web::app::{App, BuildError, SharedApp};
use fortify_web::reload::{Live, Routes};

/// How often the clock and the key file are checked, so that `fortify keys rotate` needs no restart.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);

/// How long connections wait at the start for the store to be read, so that a restart refuses nobody for what it has not
/// heard yet. With the time in which the process before finished, a connection waits at most 2 s.
const FIRST_READ: Duration = Duration::from_millis(800);

/// How often what circuits answered and sessions spent is written: a gate that is killed loses at most that much of it.
const KEEPING_INTERVAL: Duration = Duration::from_secs(5);

/// How long the last writing may take at the end: a disk that hangs must not keep the process.
const LAST_KEEPING: Duration = Duration::from_secs(5);

/// How often exchanges are looked through for those whose session was ended: they are cut within two seconds, of
/// which the store may take some to hear of it.
const CUTTING_INTERVAL: Duration = Duration::from_secs(1);

/// How often the level's limit of connections is taken over: a circuit that the level no longer allows as many does not
/// get many more meanwhile.
const LEVEL_INTERVAL: Duration = Duration::from_secs(1);

/// How often each tunnel's session pays for it: a tunnel costs a page a minute.
const TUNNEL_MINUTE: Duration = Duration::from_secs(60);

/// A gate that is bound to its addresses, ready to run.
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
    /// A component cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It cannot listen on its address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin interface cannot start.
    #[error(transparent)]
    Admin(#[from] AdminStartError),
}

impl Daemon {
    /// Builds the gate and binds its addresses, so that a gate that cannot work fails at once.
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
    /// If it cannot listen on its addresses.
    pub async fn with_app(app: SharedApp) -> Result<Self, StartError> {
        Self::with_live(Arc::new(Live::new(app, WrittenConfig::default(), None))).await
    }

    /// As [`Self::bind`], for a gate whose configuration can be reloaded.
    ///
    /// # Errors
    ///
    /// If it cannot listen on its addresses.
    pub async fn with_live(live: Arc<Live>) -> Result<Self, StartError> {
        let listener = Listener::bind(&live.app().config.server).await?;
        Self::on(listener, live).await
    }

    /// As [`Self::with_live`], on a socket that is open already.
    ///
    /// # Errors
    ///
    /// If the admin interface cannot listen on its addresses.
    pub async fn on(listener: Listener, live: Arc<Live>) -> Result<Self, StartError> {
        let app = live.app();
        let admin = AdminListeners::bind(&live).await?;
        let metrics = app.metrics.register(DaemonMetrics::register);
        metrics.set_started(app.started);
        Ok(Self { live, listener, admin, metrics })
    }

    /// The state that its requests share, and its reconfiguration.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The admin interface, if it is on.
    #[must_use]
    pub const fn admin(&self) -> Option<&AdminListeners> {
        self.admin.as_ref()
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> LocalAddress {
        self.listener.local_addr()
    }

    /// Answers requests until `stop` completes, then finishes open requests.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> DrainReport {
        let app = self.live.app();
        let keys = tokio::spawn(housekeeping(app.clone(), self.metrics.clone()));
        let keeping = tokio::spawn(keep(self.live.clone()));
        let cutting = tokio::spawn(cut_ended(self.live.clone()));
        let charging = tokio::spawn(charge_tunnels(self.live.clone()));
        let telling = tokio::spawn(tell_changes(self.live.clone()));
        let haproxy = start_haproxy(&app);
        let threat = start_dial(&self.live);
        let figures = start_figures(&app);
        let tor = start_tor(&app).await;
        let limits = Limits::from(&app.config.server);
        let of_circuits = limits.max_connections_per_circuit.clone();
        let most = of_circuits.get();
        // Before the first connection.
        of_circuits.set(allowed_by_level(&self.live, most));
        let following = tokio::spawn(follow_level(self.live.clone(), of_circuits, most));
        read_store(&app).await;
        let metrics = app.metrics.server.clone();
        let slots = app.engine.threat().clone();
        let count = Arc::new(move |event: ServerEvent| {
            metrics.event(event);
            // A circuit that holds as many as it may says nothing of the others' slots.
            if matches!(event, ServerEvent::Displaced | ServerEvent::AcceptFailed) {
                slots.signals().turned_away();
            }
        });
        // The admin interface stays open until the last visitor's request is done.
        let (stopping, stopped) = watch::channel(false);
        let admin = self.admin.map(|admin| tokio::spawn(admin.run(stopped)));
        let live = self.live.clone();
        let report = server::serve(self.listener, Routes(self.live), limits, count, stop).await;
        stopping.send_replace(true);
        if let Some(admin) = admin {
            let _a_panic_was_logged_already = admin.await;
        }
        keys.abort();
        keeping.abort();
        cutting.abort();
        charging.abort();
        telling.abort();
        following.abort();
        if let Some(haproxy) = haproxy {
            haproxy.abort();
        }
        threat.iter().chain(&tor).chain(&figures).for_each(JoinHandle::abort);
        if timeout(LAST_KEEPING, live.app().engine.keep()).await.is_err() {
            tracing::error!(
                seconds = LAST_KEEPING.as_secs(),
                "the disk did not take the last budgets and answers in time; a restart knows those of five seconds ago"
            );
        }
        report
    }
}

/// Starts the task that keeps `HAProxy`'s table up to date, if one is configured.
fn start_haproxy(app: &SharedApp) -> Option<JoinHandle<std::convert::Infallible>> {
    let haproxy = &app.config.haproxy;
    let client = Client::new(haproxy.endpoint.clone()?);
    // Not up to date yet, but from now on the metric exists.
    app.metrics.haproxy.set_up(false);
    let (reputation, health) = (app.engine.reputation().clone(), app.haproxy.clone());
    let (table, metrics) = (haproxy.table.clone(), app.metrics.haproxy.clone());
    let reconciler = Reconciler::new(client, table, reputation, health, metrics);
    Some(tokio::spawn(reconciler.run()))
}

/// Starts the control of the threat level, and applies its changes to everything else.
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

/// Starts to watch tor, if `tor.control` is set, and waits a moment for the first connection, so that visitors with a
/// session need not solve another challenge because Fortify was restarted.
async fn start_tor(app: &SharedApp) -> Vec<JoinHandle<()>> {
    let Some((tor, watcher)) = app.tor.as_ref().and_then(|tor| Some((tor, tor.take_watcher()?)))
    else {
        return Vec::new();
    };
    // Subscribed before the first event.
    let forgetting = tokio::spawn(forget_closed(app.clone(), tor.clone(), tor.events()));
    let watching = tokio::spawn(watcher.run(tor.clone()));
    tor.first_attempt().await;
    vec![forgetting, watching]
}

/// Waits until this node knows which sessions were ended and which circuits are banned: before, it admits nobody. Without
/// a store it goes on, and says so to everybody who asks.
async fn read_store(app: &SharedApp) {
    let known = async {
        while !app.engine.is_current() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let _the_store_says_why_not = timeout(FIRST_READ, known).await;
}

/// Starts to read tor's own figures for the dial, if `tor.metrics_address` is set.
fn start_figures(app: &SharedApp) -> Option<JoinHandle<()>> {
    let (port, threat) = (app.tor_metrics.clone()?, app.engine.threat().clone());
    let tell = move |tor: TorFigures| threat.signals().tor(tor.effort, tor.queued, tor.rejected);
    Some(tokio::spawn(port.run(tell)))
}

/// Drops the state of circuits that tor has closed.
async fn forget_closed(app: SharedApp, tor: Arc<Tor>, mut events: TorEvents) {
    while let Some(event) = events.next(&tor).await {
        match event {
            TorEvent::NewGeneration(boot) => app.engine.tor_restarted(boot).await,
            TorEvent::CircuitClosed(circuit) => app.engine.circuit_closed(circuit).await,
        }
    }
}

/// Calls `threat.on_change` when the state of the site or the kind of attack changes.
async fn tell_changes(live: Arc<Live>) {
    let app = live.app();
    let hook = match OnChange::start() {
        Ok(hook) => hook,
        Err(error) => {
            tracing::error!(%error, "threat.on_change cannot be called");
            return;
        }
    };
    let mut judged = app.engine.threat().judged();
    let mut before = *judged.borrow_and_update();
    while judged.changed().await.is_ok() {
        let now = *judged.borrow_and_update();
        if (now.state, now.kind) == (before.state, before.kind) {
            continue;
        }
        let app = live.app();
        let command = app.config.threat.on_change.clone();
        if !command.is_empty() {
            hook.call(command, before, now, app.engine.dial().level, app.clock.now());
        }
        before = now;
    }
}

/// Has open tunnels pay for each minute of theirs. A task of its own: leases from a slow store must not delay what is cut.
async fn charge_tunnels(live: Arc<Live>) {
    let mut tick = tokio::time::interval(TUNNEL_MINUTE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        live.app().engine.clone().charge_tunnels().await;
    }
}

/// Keeps the number of connections that a circuit may hold at what the level in force allows.
async fn follow_level(live: Arc<Live>, limit: CircuitLimit, most: usize) {
    let mut tick = tokio::time::interval(LEVEL_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        limit.set(allowed_by_level(&live, most));
    }
}

/// How many connections a circuit may hold at the level in force; at most `most`, which the server allows.
fn allowed_by_level(live: &Live, most: usize) -> usize {
    let of_level = live.app().engine.threat().policy().connections_per_circuit;
    most.min(usize::try_from(of_level).unwrap_or(usize::MAX))
}

/// Cuts exchanges whose session was ended, and has tor close the circuits of those that another server carries.
async fn cut_ended(live: Arc<Live>) {
    let app = live.app();
    let closes = app.tor.clone().filter(|_| app.upstream.is_none());
    if closes.is_some() {
        app.engine.keep_circuits();
    }
    let mut tick = tokio::time::interval(CUTTING_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let engine = live.app().engine.clone();
        if let Err(error) = engine.cut_ended().await {
            // Nobody is admitted meanwhile.
            tracing::debug!(%error, "it is not known which exchanges to cut");
        }
        let Some(tor) = &closes else { continue };
        let ended = engine.take_ended_circuits().await.unwrap_or_default();
        if ended.is_empty() {
            continue;
        }
        let tor = tor.clone();
        // One after the other: tor takes only so many orders at once.
        tokio::spawn(async move {
            for circuit in ended {
                if let Err(error) = tor.close_circuit(circuit).await {
                    tracing::warn!(%error, "could not close a circuit whose session was ended; what it downloads goes on");
                }
            }
        });
    }
}

/// Writes what has to outlast a restart. A task of its own: a disk that hangs holds up nothing else.
async fn keep(live: Arc<Live>) {
    let mut tick = tokio::time::interval(KEEPING_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        live.app().engine.keep().await;
    }
}

/// Tells the operator of what other nodes do with the keys.
fn tell_of_keys(news: KeyNews) {
    match news.followed {
        Ok(true) => tracing::info!("another node rotated the signing keys; this one follows"),
        Ok(false) => {}
        Err(error) => tracing::error!(
            %error,
            "cannot follow a rotation of the signing keys: a minute after it, other nodes refuse what is signed here"
        ),
    }
    match news.foreign {
        Some(true) => tracing::error!(
            "another node has other signing keys, so each challenges the visitors of the other: copy keys.json in \
             storage.data_dir of one node to all, and restart those that had another"
        ),
        Some(false) => tracing::info!("all nodes have the same signing keys again"),
        None => {}
    }
}

/// Reports jumps of the clock, and reloads the key file when it has changed. If it cannot be read, the keys stay as
/// they are, and this is logged once, not every few seconds.
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
                "the clock was set, or the machine slept: bans and waits keep their duration, sessions expire by \
                 the new time"
            );
        }
        app.engine.sample_queue();
        if let Some(report) = app.engine.end_of_learning() {
            tracing::info!(
                circuits = report.found(),
                requests = report.stricter(),
                of = report.requests,
                "learning period over: suspicious circuits now get stricter challenges; since the start, this \
                 many would have got them (behaviour.mode = \"observe\" prevents it)"
            );
        }
        match app.engine.refresh_keys() {
            Ok(true) => tracing::info!("the signing keys were rotated"),
            Ok(false) => complained = false,
            Err(error) if !complained => {
                complained = true;
                tracing::error!(%error, "cannot reload the signing keys; the old ones stay in use");
            }
            Err(_same_as_before) => {}
        }
        if let Some(news) = app.engine.agree_on_keys().await {
            tell_of_keys(news);
        }
    }
}

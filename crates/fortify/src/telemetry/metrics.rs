//! Counters and latencies, in Prometheus' text form.
//!
//! Every label comes from a small fixed set; nothing that a visitor sends can become one. The
//! registry belongs to the [`Metrics`] that made it, so that two gates in one process count apart.
//!
//! What has few labels is there from the start, at zero: a rate over a series that only begins with
//! its first event misses that event. What an installation does not have (tor's control port,
//! `HAProxy`) is absent: 0 would look like an alarm.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use fortify_core::telemetry::process::ProcessCollector;
use crate::clock::Timestamp;
use crate::decision::Reason;

/// Bounds of the latency buckets in seconds: a decision takes tens of microseconds, a render
/// hundreds, and the requirement's limits are 200 and 500 ms.
const LATENCY_BUCKETS: [f64; 13] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.2, 0.5,
    2.0,
];

/// Bounds of how long people take to answer, in seconds; a challenge lasts 300 unless it is configured.
const ANSWER_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 7.0, 12.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0];

/// Bounds of how long the protected service takes to begin its answer, in seconds.
const UPSTREAM_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// As hoped: issued, drawn, solved.
    Ok,
    /// A wrong answer.
    Failed,
    /// The answer that only a program gives.
    Decoy,
    /// The circuit has to wait.
    Wait,
    /// A fault of this side.
    Error,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Ok, Self::Failed, Self::Decoy, Self::Wait, Self::Error];

    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Decoy => "decoy",
            Self::Wait => "wait",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVariant {
    variant: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPicture {
    variant: &'static str,
    carrier: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTask {
    variant: &'static str,
    level: u8,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVariant {
    variant: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLevel {
    level: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPick {
    variant: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDecision {
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEvent {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClass {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDirection {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFile {
    file: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStanding {
    standing: &'static str,
}

/// What the gate decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GateDecision {
    /// Let through with a session.
    Admit,
    /// Let through without one: its circuit is favoured.
    Favoured,
    /// Met with a challenge.
    Challenge,
    /// Refused without a challenge: its circuit is banned, or cannot be told.
    Refuse,
    /// Not decided, for a fault of this side; refused.
    Error,
}

impl GateDecision {
    const ALL: [Self; 5] =
        [Self::Admit, Self::Favoured, Self::Challenge, Self::Refuse, Self::Error];

    const fn label(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Favoured => "favoured",
            Self::Challenge => "challenge",
            Self::Refuse => "refuse",
            Self::Error => "error",
        }
    }
}

/// What became of commands to `HAProxy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandOutcome {
    /// In the table.
    Done,
    /// Refused, with a text.
    Refused,
    /// Not known: no connection, or no answer that is understood.
    Failed,
}

impl CommandOutcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWhom {
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unlabelled {}

/// Requests since the start, in sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Let through.
    pub admitted: u64,
    /// Met with a challenge.
    pub challenged: u64,
    /// Refused: banned circuits, and those that have to wait.
    pub refused: u64,
    /// Challenges answered rightly.
    pub solved: u64,
}

/// The instruments of one gate.
pub struct Metrics {
    registry: Registry,
    issued: Family<ByVariant, Counter>,
    issue_seconds: Histogram,
    rendered: Family<ByPicture, Counter>,
    render_seconds: Histogram,
    redeemed: Family<ByOutcome, Counter>,
    redeem_seconds: Histogram,
    wrong_picks: Family<ByPick, Counter>,
    decisions: Family<ByDecision, Counter>,
    decision_seconds: Histogram,
    decision_reasons: Family<ByReason, Counter>,
    admin_requests: Family<ByOutcome, Counter>,
    admin_logins: Family<ByOutcome, Counter>,
    admin_connections: Family<ByEvent, Counter>,
    rejected_sessions: Family<ByReason, Counter>,
    moved_sessions: Counter,
    rejected_circuits: Family<ByReason, Counter>,
    connection_events: Family<ByEvent, Counter>,
    errors: Family<ByReason, Counter>,
    active_challenges: Gauge,
    strained: Gauge,
    pictures_ready: Gauge,
    queue_waiting: Gauge,
    // Families, as those of tor below.
    haproxy_up: Family<Unlabelled, Gauge>,
    haproxy_lag: Family<Unlabelled, Gauge<f64, AtomicU64>>,
    haproxy_commands: Family<ByOutcome, Counter>,
    standings: Family<ByStanding, Gauge>,
    // A family, so that it is absent where there is no other node to tell.
    standings_untold: Family<Unlabelled, Gauge>,
    reputation_degraded: Gauge,
    standings_unwritten: Gauge,
    files_begun_anew: Family<ByFile, Gauge>,
    operators_shut_out: Gauge,
    clock_jumps: Family<ByDirection, Counter>,
    threat_level: Gauge,
    threat_changes: Family<ByWhom, Counter>,
    config_reloads: Family<ByOutcome, Counter>,
    behaviour_findings: Family<ByClass, Counter>,
    // Families, so that they are absent where tor is not watched: 0 would look like an alarm.
    tor_up: Family<Unlabelled, Gauge>,
    tor_restarts: Family<Unlabelled, Counter>,
    tor_circuits_closed: Family<Unlabelled, Counter>,
    answers: Family<ByTask, Counter>,
    answer_seconds: Family<OfVariant, Histogram, fn() -> Histogram>,
    sessions_issued: Family<ByLevel, Counter>,
    upstream_seconds: Histogram,
    store_up: Gauge,
    store_ping: Gauge<f64, AtomicU64>,
    renderer_up: Gauge,
    signing_key_created: Gauge,
    started: Gauge,
}

impl Metrics {
    /// Fresh instruments, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("fortify");
        let latency = || Histogram::new(LATENCY_BUCKETS);
        let metrics = Self {
            issued: Family::default(),
            issue_seconds: latency(),
            rendered: Family::default(),
            render_seconds: latency(),
            redeemed: Family::default(),
            redeem_seconds: latency(),
            wrong_picks: Family::default(),
            decisions: Family::default(),
            decision_seconds: latency(),
            decision_reasons: Family::default(),
            admin_requests: Family::default(),
            admin_logins: Family::default(),
            admin_connections: Family::default(),
            rejected_sessions: Family::default(),
            moved_sessions: Counter::default(),
            rejected_circuits: Family::default(),
            connection_events: Family::default(),
            errors: Family::default(),
            active_challenges: Gauge::default(),
            strained: Gauge::default(),
            pictures_ready: Gauge::default(),
            queue_waiting: Gauge::default(),
            haproxy_up: Family::default(),
            haproxy_lag: Family::default(),
            haproxy_commands: Family::default(),
            standings: Family::default(),
            standings_untold: Family::default(),
            reputation_degraded: Gauge::default(),
            standings_unwritten: Gauge::default(),
            files_begun_anew: Family::default(),
            operators_shut_out: Gauge::default(),
            clock_jumps: Family::default(),
            threat_level: Gauge::default(),
            threat_changes: Family::default(),
            config_reloads: Family::default(),
            behaviour_findings: Family::default(),
            tor_up: Family::default(),
            tor_restarts: Family::default(),
            tor_circuits_closed: Family::default(),
            answers: Family::default(),
            answer_seconds: Family::new_with_constructor(|| Histogram::new(ANSWER_BUCKETS)),
            sessions_issued: Family::default(),
            upstream_seconds: Histogram::new(UPSTREAM_BUCKETS),
            store_up: Gauge::default(),
            store_ping: Gauge::default(),
            renderer_up: Gauge::default(),
            signing_key_created: Gauge::default(),
            started: Gauge::default(),
            registry: Registry::default(),
        };
        let m = &metrics;
        registry.register("challenges_issued", "Challenges issued", m.issued.clone());
        registry.register("renders", "Pictures drawn", m.rendered.clone());
        registry.register("redeems", "Answers judged", m.redeemed.clone());
        registry.register(
            "wrong_picks",
            "Wrong choices picked, by what they are beside the answer",
            m.wrong_picks.clone(),
        );
        registry.register("decisions", "Requests decided at the gate", m.decisions.clone());
        registry.register(
            "decision_reasons",
            "Reasons of decisions at the gate",
            m.decision_reasons.clone(),
        );
        registry.register(
            "admin_requests",
            "Requests of operators, by how they ended",
            m.admin_requests.clone(),
        );
        registry.register("admin_logins", "Log-ins of operators", m.admin_logins.clone());
        registry.register(
            "admin_connection_events",
            "Connections of operators opened and closed, and those that a limit ended",
            m.admin_connections.clone(),
        );
        registry.register(
            "sessions_rejected",
            "Session cookies that were not accepted",
            m.rejected_sessions.clone(),
        );
        registry.register(
            "session_moves",
            "Sessions that moved to another circuit",
            m.moved_sessions.clone(),
        );
        registry.register(
            "circuits_rejected",
            "Requests whose circuit could not be told",
            m.rejected_circuits.clone(),
        );
        registry.register(
            "connection_events",
            "Connections opened and closed, and those that a limit ended",
            m.connection_events.clone(),
        );
        registry.register("errors", "Requests that ended in a fault", m.errors.clone());
        registry.register(
            "active_challenges",
            "Challenges that wait for an answer",
            m.active_challenges.clone(),
        );
        registry.register(
            "renders_strained",
            "1 while only plain pictures are drawn, because drawing takes too long",
            m.strained.clone(),
        );
        registry.register("pictures_ready", "Pictures drawn ahead", m.pictures_ready.clone());
        registry.register(
            "queue_waiting",
            "Places in the queue for a challenge that are not called yet",
            m.queue_waiting.clone(),
        );
        registry.register(
            "haproxy_up",
            "1 while HAProxy's table is kept as wanted",
            m.haproxy_up.clone(),
        );
        registry.register_with_unit(
            "haproxy_lag",
            "Age of the oldest ban or favour that is not in HAProxy's table yet",
            Unit::Seconds,
            m.haproxy_lag.clone(),
        );
        registry.register(
            "haproxy_commands",
            "Commands sent to HAProxy",
            m.haproxy_commands.clone(),
        );
        registry.register("standings", "Circuits by how they stand", m.standings.clone());
        registry.register(
            "standings_untold",
            "Bans, favours and resets that other nodes are not told yet",
            m.standings_untold.clone(),
        );
        registry.register(
            "reputation_degraded",
            "1 while the disk does not take bans and favours; they are in force in memory",
            m.reputation_degraded.clone(),
        );
        registry.register(
            "standings_unwritten",
            "Bans and favours that are in memory alone",
            m.standings_unwritten.clone(),
        );
        registry.register(
            "files_begun_anew",
            "1 for a file that was damaged, and is a new one, since this process started",
            m.files_begun_anew.clone(),
        );
        registry.register(
            "operators_shut_out",
            "1 where the operator's side is not served, because its file cannot be used",
            m.operators_shut_out.clone(),
        );
        registry.register(
            "clock_jumps",
            "How often the system's clock was set by more than a minute",
            m.clock_jumps.clone(),
        );
        registry.register("threat_level", "Where the threat dial stands", m.threat_level.clone());
        registry.register(
            "threat_changes",
            "Turns of the threat dial, by whom: itself, an operator, another node",
            m.threat_changes.clone(),
        );
        registry.register(
            "config_reloads",
            "Times that the configuration was read again, by outcome",
            m.config_reloads.clone(),
        );
        registry.register(
            "behaviour_findings",
            "Circuits that look like no visitor, by what they look like",
            m.behaviour_findings.clone(),
        );
        registry.register(
            "tor_up",
            "1 while tor's control port is connected and its epoch confirmed",
            m.tor_up.clone(),
        );
        registry.register(
            "tor_restarts",
            "How often another tor was met than before",
            m.tor_restarts.clone(),
        );
        registry.register(
            "tor_circuits_closed",
            "Visitors' circuits that tor said were closed",
            m.tor_circuits_closed.clone(),
        );
        m.register_health(&mut registry);
        let mut seconds = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        seconds(
            "issue",
            "Time to draw up and keep a challenge, without its picture",
            &m.issue_seconds,
        );
        seconds("render", "Time to draw a picture, waiting included", &m.render_seconds);
        seconds("redeem", "Time to take and judge an answer", &m.redeem_seconds);
        seconds("decision", "Time to decide about a request", &m.decision_seconds);
        seconds(
            "upstream",
            "Time until the protected service begins its answer",
            &m.upstream_seconds,
        );
        m.begin_at_zero();
        Self { registry, ..metrics }
    }

    /// What people get done, and whether this gate and what it needs are well.
    fn register_health(&self, registry: &mut Registry) {
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this program", version);
        registry.register(
            "answers",
            "Answers to challenges that were there, by what was asked",
            self.answers.clone(),
        );
        registry.register_with_unit(
            "answer",
            "Time from a challenge to its right answer",
            Unit::Seconds,
            self.answer_seconds.clone(),
        );
        registry.register(
            "sessions_issued",
            "Sessions earned, by the level in force",
            self.sessions_issued.clone(),
        );
        registry.register("store_up", "1 while the store answers", self.store_up.clone());
        registry.register_with_unit(
            "store_ping",
            "How long the store took to say so",
            Unit::Seconds,
            self.store_ping.clone(),
        );
        registry.register("renderer_up", "1 once a picture was drawn", self.renderer_up.clone());
        registry.register_with_unit(
            "signing_key_created_timestamp",
            "When the key was made that signs sessions",
            Unit::Seconds,
            self.signing_key_created.clone(),
        );
        registry.register_with_unit(
            "process_start_time",
            "When this process was ready, since the epoch",
            Unit::Seconds,
            self.started.clone(),
        );
        registry.register_collector(Box::new(ProcessCollector::of_this_process()));
    }

    fn begin_at_zero(&self) {
        for outcome in Outcome::ALL.map(Outcome::label) {
            drop(self.redeemed.get_or_create(&ByOutcome { outcome }));
        }
        for decision in GateDecision::ALL.map(GateDecision::label) {
            drop(self.decisions.get_or_create(&ByDecision { decision }));
        }
    }

    /// A challenge was kept, or was not.
    pub fn issue(&self, took: Duration, variant: &'static str, outcome: Outcome) {
        self.issue_seconds.observe(took.as_secs_f64());
        self.issued.get_or_create(&ByVariant { variant, outcome: outcome.label() }).inc();
    }

    /// A picture was drawn, or was not.
    pub fn render(
        &self,
        took: Duration,
        variant: &'static str,
        carrier: &'static str,
        outcome: Outcome,
    ) {
        self.render_seconds.observe(took.as_secs_f64());
        self.rendered
            .get_or_create(&ByPicture { variant, carrier, outcome: outcome.label() })
            .inc();
    }

    /// Whether only plain pictures are drawn, because drawing takes too long.
    pub fn set_strained(&self, strained: bool) {
        self.strained.set(i64::from(strained));
    }

    /// How many wait in turn.
    pub fn set_queue_waiting(&self, count: u64) {
        self.queue_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many pictures are drawn ahead.
    pub fn set_pictures_ready(&self, count: usize) {
        self.pictures_ready.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// An answer was judged.
    pub fn redeem(&self, took: Duration, outcome: Outcome) {
        self.redeem_seconds.observe(took.as_secs_f64());
        self.redeemed.get_or_create(&ByOutcome { outcome: outcome.label() }).inc();
    }

    /// A wrong choice was picked: `kind` says what it is beside the answer.
    pub fn wrong_pick(&self, variant: &'static str, kind: &'static str) {
        self.wrong_picks.get_or_create(&ByPick { variant, kind }).inc();
    }

    /// An answer was given to a challenge of this task at this level, which was there.
    pub fn answer(&self, variant: &'static str, level: u8, outcome: Outcome) {
        let outcome = outcome.label();
        self.answers.get_or_create(&ByTask { variant, level, outcome }).inc();
    }

    /// A right answer came so long after its challenge.
    pub fn answered_after(&self, took: Duration, variant: &'static str) {
        self.answer_seconds.get_or_create(&OfVariant { variant }).observe(took.as_secs_f64());
    }

    /// A session was earned at this level.
    pub fn session_issued(&self, level: u8) {
        self.sessions_issued.get_or_create(&ByLevel { level }).inc();
    }

    /// The protected service began its answer, or there was none.
    pub fn upstream(&self, took: Duration) {
        self.upstream_seconds.observe(took.as_secs_f64());
    }

    /// Whether the store answers, how long it took, and whether pictures can be drawn.
    pub fn set_ready(&self, store: bool, ping: Duration, renderer: bool) {
        self.store_up.set(i64::from(store));
        self.store_ping.set(ping.as_secs_f64());
        self.renderer_up.set(i64::from(renderer));
    }

    /// When the key was made that signs.
    pub fn set_signing_key_created(&self, at: Timestamp) {
        self.signing_key_created.set(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
    }

    /// When this process was ready.
    pub fn set_started(&self, at: Timestamp) {
        self.started.set(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
    }

    /// The gate decided about a request.
    pub fn decision(&self, took: Duration, decision: GateDecision) {
        self.decision_seconds.observe(took.as_secs_f64());
        self.decisions.get_or_create(&ByDecision { decision: decision.label() }).inc();
    }

    /// A request was refused before there was anything to decide: its circuit is banned, or cannot be
    /// told. It takes no time, and a flood of them must not hide how long decisions take.
    pub fn refused(&self) {
        let decision = GateDecision::Refuse.label();
        self.decisions.get_or_create(&ByDecision { decision }).inc();
    }

    /// Why the gate decided as it did.
    pub fn decided(&self, reasons: &[Reason]) {
        for reason in reasons {
            self.decision_reasons.get_or_create(&ByReason { reason: reason.as_str() }).inc();
        }
    }

    /// How often each reason was one.
    #[must_use]
    pub fn decision_reasons(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: Reason| {
            let reason = reason.as_str();
            (reason, self.decision_reasons.get_or_create(&ByReason { reason }).get())
        };
        Reason::all().into_iter().map(count).collect()
    }

    /// Requests since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let decided = |decision| self.decisions.get_or_create(&ByDecision { decision }).get();
        let ended =
            |error: &'static str| self.errors.get_or_create(&ByReason { reason: error }).get();
        let outcome = Outcome::Ok.label();
        Totals {
            admitted: decided("admit") + decided("favoured"),
            challenged: decided("challenge"),
            refused: ended("banned") + ended("must_wait") + ended("too_many"),
            solved: self.redeemed.get_or_create(&ByOutcome { outcome }).get(),
        }
    }

    /// A request of an operator ended so.
    pub fn admin_request(&self, outcome: &'static str) {
        self.admin_requests.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// An operator tried to log in.
    pub fn admin_login(&self, outcome: &'static str) {
        self.admin_logins.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// The operators' accept loop saw something.
    pub fn admin_connection(&self, event: &'static str) {
        self.admin_connections.get_or_create(&ByEvent { event }).inc();
    }

    /// A session cookie was not accepted.
    pub fn session_rejected(&self, reason: &'static str) {
        self.rejected_sessions.get_or_create(&ByReason { reason }).inc();
    }

    /// A session moved to another circuit.
    pub fn session_moved(&self) {
        self.moved_sessions.inc();
    }

    /// A request's circuit could not be told.
    pub fn circuit_rejected(&self, reason: &'static str) {
        self.rejected_circuits.get_or_create(&ByReason { reason }).inc();
    }

    /// The accept loop saw something.
    pub fn connection_event(&self, event: &'static str) {
        self.connection_events.get_or_create(&ByEvent { event }).inc();
    }

    /// A request ended in a fault.
    pub fn error(&self, reason: &'static str) {
        self.errors.get_or_create(&ByReason { reason }).inc();
    }

    /// Whether `HAProxy`'s table is kept as wanted.
    pub fn set_haproxy_up(&self, up: bool) {
        self.haproxy_up.get_or_create(&Unlabelled {}).set(i64::from(up));
    }

    /// How long the oldest change has waited to be in `HAProxy`'s table.
    pub fn set_haproxy_lag(&self, lag: Duration) {
        self.haproxy_lag.get_or_create(&Unlabelled {}).set(lag.as_secs_f64());
    }

    /// So many commands to `HAProxy` ended so.
    pub fn haproxy_commands(&self, count: usize, outcome: CommandOutcome) {
        let labels = ByOutcome { outcome: outcome.label() };
        self.haproxy_commands.get_or_create(&labels).inc_by(count as u64);
    }

    /// How many circuits stand so.
    pub fn set_standings(&self, standing: &'static str, count: usize) {
        let gauge = self.standings.get_or_create(&ByStanding { standing });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many changes of standings wait to be told to other nodes.
    pub fn set_standings_untold(&self, count: usize) {
        let gauge = self.standings_untold.get_or_create(&Unlabelled {});
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether the disk does not take bans and favours, and how many are in memory alone.
    pub fn set_unwritten(&self, degraded: bool, count: usize) {
        self.reputation_degraded.set(i64::from(degraded));
        self.standings_unwritten.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A file was damaged, and is a new one.
    pub fn file_begun_anew(&self, file: &'static str) {
        self.files_begun_anew.get_or_create(&ByFile { file }).set(1);
    }

    /// Whether operators are shut out.
    pub fn set_operators_shut_out(&self, shut_out: bool) {
        self.operators_shut_out.set(i64::from(shut_out));
    }

    /// The system's clock was set.
    pub fn clock_jumped(&self, direction: &'static str) {
        self.clock_jumps.get_or_create(&ByDirection { direction }).inc();
    }

    /// Where the threat dial stands.
    pub fn set_threat_level(&self, level: u8) {
        self.threat_level.set(level.into());
    }

    /// The threat dial was turned.
    pub fn threat_changed(&self, by: &'static str, level: u8) {
        self.set_threat_level(level);
        self.threat_changes.get_or_create(&ByWhom { by }).inc();
    }

    /// The configuration was read again, or was not good.
    pub fn config_reload(&self, ok: bool) {
        let outcome = if ok { Outcome::Ok } else { Outcome::Error }.label();
        self.config_reloads.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// A circuit was found to be something.
    pub fn behaviour_finding(&self, class: &'static str) {
        self.behaviour_findings.get_or_create(&ByClass { class }).inc();
    }

    /// How many challenges wait for an answer.
    pub fn set_active_challenges(&self, count: u64) {
        self.active_challenges.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether tor is watched. From the first call on, all three figures about tor are shown.
    pub fn set_tor_up(&self, up: bool) {
        self.tor_up.get_or_create(&Unlabelled {}).set(i64::from(up));
        self.tor_restarts.get_or_create(&Unlabelled {}).inc_by(0);
        self.tor_circuits_closed.get_or_create(&Unlabelled {}).inc_by(0);
    }

    /// Another tor was met than before.
    pub fn tor_restarted(&self) {
        self.tor_restarts.get_or_create(&Unlabelled {}).inc();
    }

    /// Tor closed a visitor's circuit.
    pub fn tor_circuit_closed(&self) {
        self.tor_circuits_closed.get_or_create(&Unlabelled {}).inc();
    }

    /// All of it, in the text form that Prometheus reads.
    ///
    /// # Errors
    ///
    /// When an instrument cannot be written as text, which none of these can fail to be.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.redeem(Duration::from_micros(40), Outcome::Failed);
        metrics.issue(Duration::from_micros(40), "arithmetic", Outcome::Ok);
        metrics.decision(Duration::from_micros(40), GateDecision::Admit);
        metrics.answer("arithmetic", 3, Outcome::Failed);
        let text = metrics.encode().unwrap();
        for line in [
            r#"fortify_redeems_total{outcome="failed"} 1"#,
            r#"fortify_challenges_issued_total{variant="arithmetic",outcome="ok"} 1"#,
            r#"fortify_decisions_total{decision="admit"} 1"#,
            r#"fortify_redeem_seconds_bucket{le="0.00005"} 1"#,
            "fortify_render_seconds_count 0",
            // Nothing was refused, and that is said.
            r#"fortify_decisions_total{decision="refuse"} 0"#,
            r#"fortify_answers_total{variant="arithmetic",level="3",outcome="failed"} 1"#,
            concat!(r#"fortify_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
            "fortify_process_open_fds ",
            "fortify_process_resident_memory_bytes ",
            "fortify_process_cpu_seconds_total ",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }

    #[test]
    fn what_is_not_installed_is_absent() {
        let text = Metrics::new().encode().unwrap();
        for name in ["\nfortify_haproxy_up ", "\nfortify_haproxy_lag_seconds ", "\nfortify_tor_up "]
        {
            assert!(!text.contains(name), "{text}");
        }
    }
}

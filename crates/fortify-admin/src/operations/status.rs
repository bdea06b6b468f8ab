//! The state of the gate.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::AdminError;
use crate::figures::{self, Sample};
use crate::handler::{Context, Nothing};
use fortify_core::clock::Timestamp;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::verdict::{AttackKind, State, Verdict};
use fortify_web::app::{ComponentHealth, Readiness};

/// The period that rates are averaged over.
const WINDOW: Duration = Duration::from_secs(60);

/// The most reasons in an answer.
const TOP: usize = 8;

/// The state of the gate.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    /// The program's version.
    pub version: &'static str,
    /// The time of this report, in ms since the Unix epoch.
    pub at: Timestamp,
    /// Seconds since the gate was started.
    pub uptime_seconds: u64,
    /// The threat level.
    pub level: u8,
    /// How it is controlled: `auto`, `manual` or `pinned`.
    pub mode: &'static str,
    /// The state of the site: `calm`, `busy` or `under_attack`.
    pub state: &'static str,
    /// The kind of attack: `never_answered`, `wrong_answers`, `behaviour` or `exhausting`.
    pub attack: Option<&'static str>,
    /// The state in words, with the circuits and requests of an attack.
    pub verdict: String,
    /// What was done about it; empty if nothing.
    pub done: String,
    /// What the operator may do; empty if nothing.
    pub advice: &'static str,
    /// Whether the gate can serve visitors.
    pub ready: bool,
    /// Whether visitors are told that the site is being worked on.
    pub maintenance: bool,
    /// Everything that it needs or uses.
    pub dependencies: Vec<Dependency>,
    /// The files that were found damaged since the start.
    pub damaged: Vec<DamagedFile>,
    /// Requests since the start.
    pub totals: Totals,
    /// Requests a second over the last minute, or as much of it as the gate has run.
    pub per_second: Rates,
    /// Challenges without an answer yet.
    pub active_challenges: u64,
    /// Visitors who wait for a challenge.
    pub queue: u64,
    /// Pictures drawn ahead.
    pub pictures_ready: u64,
    /// Trusted circuits.
    pub trusted: u64,
    /// Banned circuits.
    pub banned: u64,
    /// Operators who are logged in.
    pub admin_sessions: u64,
    /// The reasons for decisions about requests, the most frequent first.
    pub reasons: Vec<ReasonCount>,
}

/// One thing that the gate needs or uses.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Dependency {
    /// `store`, `renderer`, `reputation` (the file of circuits' status), `haproxy`, `tor` or `upstream` (the
    /// protected service).
    pub name: &'static str,
    /// Its state.
    pub state: Health,
    /// Whether the gate is unready without it.
    pub required: bool,
}

/// A file that was found damaged.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DamagedFile {
    /// Its name in `storage.data_dir`.
    pub file: &'static str,
    /// How many records were lost; null if that cannot be told.
    pub lost: Option<u64>,
}

/// The state of a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It works.
    Ok,
    /// It does not work.
    Down,
    /// It is not configured.
    Off,
}

/// Requests since the start.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Totals {
    /// Requests that were admitted.
    pub admitted: u64,
    /// Requests that were answered with a challenge.
    pub challenged: u64,
    /// Requests that were refused.
    pub refused: u64,
}

/// Requests a second.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Rates {
    /// Requests that were admitted.
    pub admitted: f64,
    /// Requests that were answered with a challenge.
    pub challenged: f64,
    /// Requests that were refused.
    pub refused: f64,
}

/// A reason and its number of requests.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReasonCount {
    /// The reason.
    pub reason: &'static str,
    /// Requests.
    pub count: u64,
}

/// Reports the state of the gate.
///
/// # Errors
///
/// None at present.
pub async fn show(context: Context, _: Nothing) -> Result<Status, AdminError> {
    let app = context.app();
    let (dial, readiness, sample) =
        (app.engine.dial(), app.readiness().await, figures::now(app).await);
    let before = context.admin.figures.since(sample.at, WINDOW).unwrap_or(sample);
    let counts = app.engine.status_counts();
    let verdict = app.engine.threat().verdict();
    let queue = app.engine.queue_length();
    let mut reasons: Vec<_> = (app.metrics.decision_reasons().into_iter())
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| ReasonCount { reason, count })
        .collect();
    reasons.sort_by(|a, b| b.count.cmp(&a.count).then(a.reason.cmp(b.reason)));
    reasons.truncate(TOP);
    Ok(Status {
        version: env!("CARGO_PKG_VERSION"),
        at: sample.at,
        uptime_seconds: app.started.until(sample.at).as_secs(),
        level: dial.level.get(),
        mode: dial.mode.as_str(),
        state: verdict.state.as_str(),
        attack: verdict.kind.map(AttackKind::as_str),
        verdict: verdict.to_string(),
        done: done(verdict, dial.level, app.engine.threat().start(), queue),
        advice: verdict.advice(),
        ready: readiness.is_ready(),
        damaged: (readiness.damaged.iter())
            .map(|damage| DamagedFile { file: damage.file, lost: damage.lost })
            .collect(),
        maintenance: app.maintenance.at(app.clock.now()).is_some(),
        dependencies: dependencies(readiness),
        totals: Totals {
            admitted: sample.admitted,
            challenged: sample.challenged,
            refused: sample.refused,
        },
        per_second: rates(&before, &sample),
        active_challenges: sample.active_challenges,
        queue,
        pictures_ready: app.engine.pictures_ready() as u64,
        trusted: counts.trusted as u64,
        banned: counts.banned as u64,
        admin_sessions: context.admin.sessions.count() as u64,
        reasons,
    })
}

/// What was done about the state of the site.
fn done(verdict: Verdict, level: ThreatLevel, rest: ThreatLevel, queue: u64) -> String {
    if verdict.state == State::Calm {
        return String::new();
    }
    let level = match level > rest {
        true => format!("the level was raised from {rest} to {level}"),
        false => format!("the level is {level}"),
    };
    match queue {
        0 => level,
        _ => format!("{level}, and visitors queue, newcomers with at least half of the challenges"),
    }
}

fn rates(before: &Sample, now: &Sample) -> Rates {
    let seconds = before.at.until(now.at).as_secs_f64();
    let rate = |before: u64, now: u64| {
        if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
    };
    Rates {
        admitted: rate(before.admitted, now.admitted),
        challenged: rate(before.challenged, now.challenged),
        refused: rate(before.refused, now.refused),
    }
}

fn dependencies(readiness: Readiness) -> Vec<Dependency> {
    let health = |works| if works { Health::Ok } else { Health::Down };
    let haproxy = match readiness.haproxy {
        ComponentHealth::Off => Health::Off,
        ComponentHealth::Ok => Health::Ok,
        ComponentHealth::Degraded => Health::Down,
    };
    let upstream = readiness.upstream.map_or(Health::Off, |it| health(it == ComponentHealth::Ok));
    let tor = readiness.tor.map_or(Health::Off, |tor| health(tor == ComponentHealth::Ok));
    let figures = readiness.tor_metrics.map_or(Health::Off, |it| health(it == ComponentHealth::Ok));
    [
        ("store", health(readiness.store), true),
        ("renderer", health(readiness.renderer), true),
        ("reputation", health(readiness.reputation == ComponentHealth::Ok), false),
        ("haproxy", haproxy, false),
        ("tor", tor, false),
        ("tor_metrics", figures, false),
        ("upstream", upstream, false),
    ]
    .map(|(name, state, required)| Dependency { name, state, required })
    .into()
}

/// The traffic of the last hour.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Traffic {
    /// A sample for every ten seconds, the oldest first. Its counts are totals since the start.
    pub samples: Vec<Sample>,
}

/// Reports the traffic of the last hour.
///
/// # Errors
///
/// None at present.
pub async fn traffic(context: Context, _: Nothing) -> Result<Traffic, AdminError> {
    Ok(Traffic { samples: context.admin.figures.all() })
}

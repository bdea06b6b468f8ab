//! How the gate is doing.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::AdminError;
use crate::figures::{self, Sample};
use crate::handler::{Context, Nothing};
use fortify_core::clock::Timestamp;
use fortify_web::app::{ComponentHealth, Readiness};

/// Over what rates are told.
const WINDOW: Duration = Duration::from_secs(60);

/// Reasons that are shown.
const TOP: usize = 8;

/// How the gate is doing.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    /// The program's version.
    pub version: &'static str,
    /// When this was the case, ms since the Unix epoch.
    pub at: Timestamp,
    /// Seconds since the gate was started.
    pub uptime_seconds: u64,
    /// Where the dial stands.
    pub level: u8,
    /// Who may turn it: `auto`, `manual` or `pinned`.
    pub mode: &'static str,
    /// Whether the gate can do its work.
    pub ready: bool,
    /// Each thing that it needs or uses.
    pub dependencies: Vec<Dependency>,
    /// Requests since the start.
    pub totals: Totals,
    /// Requests a second over the last minute, or as much of it as the gate has run.
    pub per_second: Rates,
    /// Challenges that wait for an answer.
    pub active_challenges: u64,
    /// Visitors who wait for a challenge.
    pub queue: u64,
    /// Pictures drawn ahead.
    pub pictures_ready: u64,
    /// Circuits that are trusted.
    pub trusted: u64,
    /// Circuits that are banned.
    pub banned: u64,
    /// Operators who are logged in.
    pub admin_sessions: u64,
    /// Why requests were decided as they were, the most frequent first.
    pub reasons: Vec<ReasonCount>,
}

/// One thing that the gate needs or uses.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Dependency {
    /// `store`, `renderer`, `reputation` (the file of standings), `haproxy` or `tor`.
    pub name: &'static str,
    /// How it is.
    pub state: Health,
    /// Whether the gate is unready without it.
    pub required: bool,
}

/// How a dependency is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It works.
    Ok,
    /// It does not.
    Down,
    /// It is not configured.
    Off,
}

/// Requests since the start.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Totals {
    /// Let through.
    pub admitted: u64,
    /// Met with a challenge.
    pub challenged: u64,
    /// Refused.
    pub refused: u64,
}

/// Requests a second.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Rates {
    /// Let through.
    pub admitted: f64,
    /// Met with a challenge.
    pub challenged: f64,
    /// Refused.
    pub refused: f64,
}

/// How often there was a reason.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReasonCount {
    /// The word.
    pub reason: &'static str,
    /// Requests.
    pub count: u64,
}

/// How the gate is doing.
///
/// # Errors
///
/// None now.
pub async fn show(context: Context, _: Nothing) -> Result<Status, AdminError> {
    let app = context.app();
    let (dial, readiness, sample) =
        (app.engine.dial(), app.readiness().await, figures::now(app).await);
    let before = context.admin.figures.since(sample.at, WINDOW).unwrap_or(sample);
    let counts = app.engine.status_counts();
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
        ready: readiness.is_ready(),
        dependencies: dependencies(readiness),
        totals: Totals {
            admitted: sample.admitted,
            challenged: sample.challenged,
            refused: sample.refused,
        },
        per_second: rates(&before, &sample),
        active_challenges: sample.active_challenges,
        queue: app.engine.queue_length(),
        pictures_ready: app.engine.pictures_ready() as u64,
        trusted: counts.trusted as u64,
        banned: counts.banned as u64,
        admin_sessions: context.admin.sessions.count() as u64,
        reasons,
    })
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
    let tor = readiness.tor.map_or(Health::Off, |tor| health(tor == ComponentHealth::Ok));
    [
        ("store", health(readiness.store), true),
        ("renderer", health(readiness.renderer), true),
        ("reputation", health(readiness.reputation == ComponentHealth::Ok), false),
        ("haproxy", haproxy, false),
        ("tor", tor, false),
    ]
    .map(|(name, state, required)| Dependency { name, state, required })
    .into()
}

/// The last hour.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Traffic {
    /// One every ten seconds, the oldest first; sums since the start.
    pub samples: Vec<Sample>,
}

/// The last hour.
///
/// # Errors
///
/// None now.
pub async fn traffic(context: Context, _: Nothing) -> Result<Traffic, AdminError> {
    Ok(Traffic { samples: context.admin.figures.all() })
}

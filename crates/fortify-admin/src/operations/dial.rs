//! The threat level: shown and changed.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::AdminError;
use crate::handler::{Context, Nothing, line, reason};
use crate::identity::Principal;
use fortify_core::clock::Timestamp;
use fortify_engine::operator::Reach;
use fortify_engine::threat::history::{ChangedBy, DialChange, DialRow, MAX_NAME, MAX_REASON};
use fortify_engine::threat::table::{Admits, LevelPolicy};
use fortify_engine::threat::{Dial, ThreatLevel};

/// The message when the threat level is pinned.
pub const PINNED: &str = "the dial is pinned; return it to automatic control first (fortify dial auto), or pin it at the level you want";

/// The most changes in one answer.
const MOST_TURNS: u64 = 1000;

/// The threat level and its control.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DialView {
    /// The threat level.
    pub level: u8,
    /// How it is controlled: `auto`, `manual` or `pinned`.
    pub mode: &'static str,
    /// Seconds for which automatic control is paused.
    pub paused_seconds: u64,
    /// What each level requires, the lowest first.
    pub table: Vec<LevelRow>,
    /// After a change: `cluster`, or `node` if the other nodes could not be told yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// After a change that another took the place of meanwhile: by whom, in the words of the history. The level is the one
    /// in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overruled_by: Option<String>,
}

/// What a level requires.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LevelRow {
    /// The level, 1 to 10.
    pub level: u8,
    /// The number of challenges in a row.
    pub stages: u8,
    /// Seconds to answer a challenge.
    pub challenge_ttl_seconds: u64,
    /// Challenges that a circuit may request in an hour.
    pub challenges_per_hour: u32,
    /// Seconds for which a session lasts.
    pub session_ttl_seconds: u64,
    /// What admits a request, a session or a trusted circuit: `either`, `session` or `both`.
    pub admits: &'static str,
    /// Pages a minute that a session may request.
    pub pages_per_minute: u32,
    /// Pages that a session may request at once, after a pause.
    pub page_burst: u32,
    /// Pages that a session may request in all.
    pub pages_per_session: u32,
    /// Sessions that a circuit may earn in an hour at the full rate.
    pub sessions_per_hour: u32,
    /// Connections that a circuit may hold open.
    pub connections_per_circuit: u32,
    /// The weights of the tasks; empty for the level's defaults.
    pub variants: Vec<Weight>,
    /// The weights of the renderings; empty for the level's defaults.
    pub carriers: Vec<Weight>,
}

/// A name and its weight in a random choice.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Weight {
    /// Its name.
    pub name: &'static str,
    /// Its weight.
    pub weight: u32,
}

/// A change of the threat level by hand.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The new level, 1 to 10.
    pub level: u8,
    /// Why, for the audit.
    pub reason: String,
}

/// The return to automatic control.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoRequest {
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// The length of the history.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// How many of the latest changes: 100 by default, at most 1,000.
    pub last: Option<u64>,
}

/// Changes of the threat level.
#[derive(Debug, Serialize, JsonSchema)]
pub struct History {
    /// The oldest first.
    pub turns: Vec<DialRow>,
}

/// Reports the threat level, and what each level requires.
///
/// # Errors
///
/// None at present.
pub async fn get(context: Context, _: Nothing) -> Result<DialView, AdminError> {
    Ok(view(&context, context.app().engine.dial()))
}

/// The last changes, with their causes.
///
/// # Errors
///
/// Faults of the file.
pub async fn history(context: Context, args: Last) -> Result<History, AdminError> {
    let last = args.last.unwrap_or(100).min(MOST_TURNS);
    Ok(History { turns: context.app().engine.dial_history(last).await? })
}

/// Sets the threat level by hand.
///
/// # Errors
///
/// [`AdminError::Conflict`] if it is pinned; faults of the file, and then it has not changed.
pub async fn set(context: Context, args: Turn) -> Result<DialView, AdminError> {
    let (level, now) = (level(args.level)?, context.app().clock.now());
    turn(&context, &reason(&args.reason)?, move |dial| dial.set(level, now)).await
}

/// Returns the threat level to automatic control.
///
/// # Errors
///
/// Faults of the file, and then it has not changed.
pub async fn auto(context: Context, args: AutoRequest) -> Result<DialView, AdminError> {
    let why = line("reason", args.reason.as_deref().unwrap_or_default())?;
    turn(&context, &why, |dial| Some(dial.auto())).await
}

/// Pins the threat level.
///
/// # Errors
///
/// Faults of the file, and then it has not changed.
pub async fn pin(context: Context, args: Turn) -> Result<DialView, AdminError> {
    let level = level(args.level)?;
    turn(&context, &reason(&args.reason)?, move |dial| Some(dial.pin(level))).await
}

/// The change is in the dial's own file, with its author, before it takes effect. The audit reads it from there.
async fn turn(
    context: &Context,
    reason: &str,
    decide: impl FnOnce(Dial) -> Option<Dial> + Send + 'static,
) -> Result<DialView, AdminError> {
    let why = why(context.principal()?, context.app().clock.now(), reason);
    match context.app().engine.change_dial(why, decide).await? {
        Some(dial) => {
            let reach = Some(context.reach("dial.turn", &dial.level.get().to_string()).await);
            let engine = &context.app().engine;
            let now = engine.dial();
            let is_overruled = (now.level, now.mode) != (dial.level, dial.mode);
            let author = engine.dial_author().filter(|_| is_overruled).map(|by| by.to_string());
            // Automatic control that was returned to goes on from there.
            let overruled_by = author.filter(|by| *by != ChangedBy::Auto.label());
            Ok(DialView { reach, overruled_by, ..view(context, now) })
        }
        None => Err(AdminError::Conflict(PINNED.to_owned())),
    }
}

fn level(number: u8) -> Result<ThreatLevel, AdminError> {
    let level = ThreatLevel::new(number);
    level.ok_or_else(|| {
        AdminError::BadRequest(format!("level: {number} does not exist; use 1 to 10"))
    })
}

fn view(context: &Context, dial: Dial) -> DialView {
    let app = context.app();
    of(&dial, app.clock.now(), |level| app.engine.policy_at(level))
}

/// The state of `dial` at `now`, with the policy of every level.
pub fn of(
    dial: &Dial,
    now: Timestamp,
    policy: impl Fn(ThreatLevel) -> Arc<LevelPolicy>,
) -> DialView {
    DialView {
        level: dial.level.get(),
        mode: dial.mode.as_str(),
        paused_seconds: dial.pause(now).as_secs(),
        table: ThreatLevel::ALL.map(|level| row(&policy(level))).into(),
        reach: None,
        overruled_by: None,
    }
}

/// The author and reason of a change by hand.
pub fn why(principal: &Principal, at: Timestamp, reason: &str) -> DialChange {
    let mut by = format!("{} by {}", principal.name, principal.auth_method.as_str());
    by.truncate(by.floor_char_boundary(MAX_NAME));
    let mut reason = reason.to_owned();
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    DialChange { at, by: ChangedBy::Operator(by), reason, signals: None }
}

/// What a level requires, for an answer.
#[must_use]
pub fn row(policy: &LevelPolicy) -> LevelRow {
    let weight = |name, weight: u32| Weight { name, weight };
    LevelRow {
        level: policy.level.get(),
        stages: policy.stages,
        challenge_ttl_seconds: policy.challenge_ttl.as_secs(),
        challenges_per_hour: policy.challenges_per_hour,
        session_ttl_seconds: policy.session_ttl.as_secs(),
        admits: match policy.admits {
            Admits::Either => "either",
            Admits::Session => "session",
            Admits::Both => "both",
        },
        pages_per_minute: policy.pages_per_minute,
        page_burst: policy.page_burst,
        pages_per_session: policy.pages_per_session,
        sessions_per_hour: policy.sessions_per_hour,
        connections_per_circuit: policy.connections_per_circuit,
        variants: policy.variants.iter().map(|(it, n)| weight(it.as_str(), *n)).collect(),
        carriers: policy.carriers.iter().map(|(it, n)| weight(it.as_str(), *n)).collect(),
    }
}

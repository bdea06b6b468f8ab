//! The threat dial: looked at and turned.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::AdminError;
use crate::handler::{Context, Nothing, line, reason};
use crate::identity::Principal;
use fortify_core::clock::Timestamp;
use fortify_engine::threat::history::{ChangedBy, DialChange, DialRow, MAX_NAME, MAX_REASON};
use fortify_engine::threat::table::{Admits, LevelPolicy};
use fortify_engine::threat::{Dial, ThreatLevel};

/// What is said of a dial that does not turn.
pub const PINNED: &str = "the dial is pinned; give it back to itself first (fortify dial auto), or pin it at the level you want";

/// Turns that are given at most.
const MOST_TURNS: u64 = 1000;

/// The dial.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DialView {
    /// Where it stands.
    pub level: u8,
    /// Who may turn it: `auto`, `manual` or `pinned`.
    pub mode: &'static str,
    /// Seconds for which it does not turn by itself.
    pub paused_seconds: u64,
    /// What each level asks, the mildest first.
    pub table: Vec<LevelRow>,
}

/// What a level asks.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LevelRow {
    /// 1 to 10.
    pub level: u8,
    /// Challenges one after another.
    pub stages: u8,
    /// How long a challenge can be answered.
    pub challenge_ttl_seconds: u64,
    /// Challenges that a circuit may ask for in an hour.
    pub challenges_per_hour: u32,
    /// How long a session lasts that is earned then.
    pub session_ttl_seconds: u64,
    /// What admits: `either`, `session` or `both`.
    pub admits: &'static str,
    /// How often each task is asked; empty for the level's own weights.
    pub variants: Vec<Weight>,
    /// How often each carrier is used; empty for the level's own weights.
    pub carriers: Vec<Weight>,
}

/// How often something is chosen.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Weight {
    /// Its name.
    pub name: &'static str,
    /// Its weight.
    pub weight: u32,
}

/// A turn by hand.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// 1 to 10.
    pub level: u8,
    /// Why, for the audit.
    pub reason: String,
}

/// The dial given back to itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoRequest {
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// How many.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// How many of the latest, 100 unless given and at most 1,000.
    pub last: Option<u64>,
}

/// Turns of the dial.
#[derive(Debug, Serialize, JsonSchema)]
pub struct History {
    /// The oldest first.
    pub turns: Vec<DialRow>,
}

/// Where the dial stands, and what each level asks.
///
/// # Errors
///
/// None now.
pub async fn get(context: Context, _: Nothing) -> Result<DialView, AdminError> {
    Ok(view(&context, context.app().engine.dial()))
}

/// The last turns, with their causes.
///
/// # Errors
///
/// Faults of the file.
pub async fn history(context: Context, args: Last) -> Result<History, AdminError> {
    let last = args.last.unwrap_or(100).min(MOST_TURNS);
    Ok(History { turns: context.app().engine.dial_history(last).await? })
}

/// Turns the dial by hand.
///
/// # Errors
///
/// [`AdminError::Conflict`] where it is pinned; faults of the file, and then it was not turned.
pub async fn set(context: Context, args: Turn) -> Result<DialView, AdminError> {
    let (level, now) = (level(args.level)?, context.app().clock.now());
    turn(&context, &reason(&args.reason)?, move |dial| dial.set(level, now)).await
}

/// Gives the dial back to itself.
///
/// # Errors
///
/// Faults of the file, and then it was not turned.
pub async fn auto(context: Context, args: AutoRequest) -> Result<DialView, AdminError> {
    let why = line("reason", args.reason.as_deref().unwrap_or_default())?;
    turn(&context, &why, |dial| Some(dial.auto())).await
}

/// Holds the dial at a level.
///
/// # Errors
///
/// Faults of the file, and then it was not turned.
pub async fn pin(context: Context, args: Turn) -> Result<DialView, AdminError> {
    let level = level(args.level)?;
    turn(&context, &reason(&args.reason)?, move |dial| Some(dial.pin(level))).await
}

/// The turn is in the dial's own file, with who and by what means, before it takes effect: the audit reads
/// it from there.
async fn turn(
    context: &Context,
    reason: &str,
    decide: impl FnOnce(Dial) -> Option<Dial> + Send + 'static,
) -> Result<DialView, AdminError> {
    let why = why(context.principal()?, context.app().clock.now(), reason);
    match context.app().engine.change_dial(why, decide).await? {
        Some(dial) => Ok(view(context, dial)),
        None => Err(AdminError::Conflict(PINNED.to_owned())),
    }
}

fn level(number: u8) -> Result<ThreatLevel, AdminError> {
    let level = ThreatLevel::new(number);
    level.ok_or_else(|| AdminError::BadRequest(format!("level: {number} is none, use 1 to 10")))
}

fn view(context: &Context, dial: Dial) -> DialView {
    let app = context.app();
    of(&dial, app.clock.now(), |level| app.engine.policy_at(level))
}

/// `dial` as it stands at `now`, by the levels' table.
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
    }
}

/// What is written beside a turn by hand.
pub fn why(principal: &Principal, at: Timestamp, reason: &str) -> DialChange {
    let mut by = format!("{} by {}", principal.name, principal.auth_method.as_str());
    by.truncate(by.floor_char_boundary(MAX_NAME));
    let mut reason = reason.to_owned();
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    DialChange { at, by: ChangedBy::Operator(by), reason, signals: None }
}

/// What a level asks, for people and programs.
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
        variants: policy.variants.iter().map(|(it, n)| weight(it.as_str(), *n)).collect(),
        carriers: policy.carriers.iter().map(|(it, n)| weight(it.as_str(), *n)).collect(),
    }
}

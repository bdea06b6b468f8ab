//! What the gate would do with a circuit now, and why: from the function that decides, not a copy of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::circuits::{self, Circuit, OfCircuit};
use crate::admin::directory::named;
use crate::admin::error::AdminError;
use crate::admin::handler::Context;
use crate::behaviour::Look;
use crate::decision::Verdict;
use crate::reputation::Standing;
use crate::web::demand;

/// The windows in which challenges of a circuit are counted.
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What the gate would do with a circuit, and why.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Explanation {
    /// The circuit, and how it stands.
    pub circuit: Circuit,
    /// The level in force.
    pub level: u8,
    /// What happens to a request without a session.
    pub without_session: Decided,
    /// What happens to one with a session that is in force on this circuit.
    pub with_session: Decided,
    /// How it answered challenges; nothing where it gave no answer lately.
    pub conduct: Option<ConductView>,
    /// Wrong answers that are not forgotten yet.
    pub failures: u32,
    /// How long it waits for its next challenge.
    pub wait_seconds: u64,
    /// Challenges that it asked for; nothing where the store does not tell.
    pub asked: Option<Asked>,
    /// What its requests look like; nothing where none was counted lately.
    pub behaviour: Option<Look>,
}

/// What happens to a request.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Decided {
    /// `admit`, `challenge`, `wait` (it is owed a challenge, and has to wait for it: after wrong answers, or
    /// because it asked for as many as it may) or `refuse` (it is banned).
    pub verdict: &'static str,
    /// Why.
    pub reasons: Vec<&'static str>,
    /// Challenges one after another; 0 where none is asked.
    pub stages: u8,
    /// Whether they are of a harder kind.
    pub hard: bool,
    /// Seconds until it changes by itself, where it waits or is banned.
    pub seconds: Option<u64>,
}

/// How a circuit answered.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConductView {
    /// Points now; see `ban_at`.
    pub points: f32,
    /// Points at which it is banned.
    pub ban_at: f32,
    /// Right answers.
    pub solved: u32,
    /// Wrong answers.
    pub failed: u32,
    /// Why its answers look like a program's.
    pub suspicions: Vec<&'static str>,
}

/// Challenges that a circuit asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Asked {
    /// In the last minute.
    pub minute: u32,
    /// How many it may.
    pub minute_most: u32,
    /// In the last hour.
    pub hour: u32,
    /// How many it may.
    pub hour_most: u32,
}

/// Explains a circuit.
///
/// # Errors
///
/// [`AdminError::BadRequest`] where it is not named; faults of the store.
pub async fn explain(context: Context, args: OfCircuit) -> Result<Explanation, AdminError> {
    let named = named(&context, &args.circuit).await?;
    let (app, tag) = (context.app(), named.tag);
    let now = app.clock.now();
    let row = named.tor.and_then(|circuit| app.reputation.row(circuit));
    let (failures, wait) = (app.store.failures(tag).await?, app.challenges.wait(tag).await?);
    let banned = row.filter(|row| row.standing == Standing::Banned);
    // One that was reset has its wrong answers forgiven with its next request.
    let wait = wait.filter(|_| row.is_none_or(|row| row.standing != Standing::Reset));
    let asked = app.store.asked(tag, [MINUTE, HOUR]).await?.map(|[minute, hour]| Asked {
        minute,
        minute_most: app.config.limits.challenges_per_minute,
        hour,
        hour_most: app.threat.policy().challenges_per_hour,
    });
    let too_many = asked
        .as_ref()
        .is_some_and(|asked| asked.minute >= asked.minute_most || asked.hour >= asked.hour_most);
    let decided = |session| {
        if let Some(row) = banned {
            let (reasons, seconds) = (vec![row.reason.as_str()], now.until(row.until).as_secs());
            return Decided {
                verdict: "refuse",
                reasons,
                stages: 0,
                hard: false,
                seconds: Some(seconds),
            };
        }
        let (verdict, reasons) = demand::foresee(app, tag, named.tor, session);
        let reasons = reasons.iter().map(|reason| reason.as_str()).collect();
        match (verdict, wait) {
            (Verdict::Admit, _) => {
                Decided { verdict: "admit", reasons, stages: 0, hard: false, seconds: None }
            }
            (Verdict::Challenge(demand), wait) => Decided {
                verdict: if wait.is_some() || too_many { "wait" } else { "challenge" },
                reasons,
                stages: demand.stages,
                hard: demand.hard,
                seconds: wait.map(|wait| wait.as_secs()),
            },
        }
    };
    let scoring = &app.config.reputation.scoring;
    let conduct = app.conducts.of(tag).map(|conduct| ConductView {
        points: conduct.points(scoring, now),
        ban_at: scoring.ban,
        solved: conduct.solved(),
        failed: conduct.failed(),
        suspicions: conduct.suspicions(scoring, now).map(|suspicion| suspicion.as_str()).collect(),
    });
    Ok(Explanation {
        level: app.threat.level().get(),
        without_session: decided(false),
        with_session: decided(true),
        conduct,
        failures: failures.count,
        wait_seconds: wait.map_or(0, |wait| wait.as_secs()),
        asked,
        behaviour: app.behaviour.look(tag),
        circuit: circuits::view(&context, named),
    })
}

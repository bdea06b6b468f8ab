//! What circuits look like, and what would have been done about it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::error::AdminError;
use crate::admin::handler::{Context, Nothing};
use crate::behaviour::Report;
use crate::decision::{self, Facts};

/// What circuits look like.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Behaviour {
    /// What was counted since the start.
    pub report: Report,
    /// What is asked now of a circuit without a session that looks like any of the classes; with the mode
    /// `observe` it is what would be asked.
    pub found: Asked,
    /// What is asked of any other.
    pub others: Asked,
}

/// What is asked of a circuit.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Asked {
    /// Challenges one after another.
    pub stages: u8,
    /// Whether they are of a harder kind.
    pub hard: bool,
}

/// What circuits look like.
///
/// # Errors
///
/// None now.
pub async fn show(context: Context, _: Nothing) -> Result<Behaviour, AdminError> {
    let app = context.app();
    let policy = app.threat.policy();
    let asked = |finding| {
        let demand = decision::demand(&Facts {
            session: false,
            favoured: Some(false),
            suspicions: &[],
            finding,
            stages: policy.stages,
            admits: policy.admits,
        });
        Asked { stages: demand.stages, hard: demand.hard }
    };
    let found = asked(Some(crate::behaviour::Class::Scraping));
    Ok(Behaviour { report: app.behaviour.report(), found, others: asked(None) })
}

//! What circuits look like, and what would have been done about it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use fortify_engine::behaviour::{Class, Report};

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
    let asked = |class| {
        let requirement = app.engine.requirement_of(class);
        Asked { stages: requirement.stages, hard: requirement.harder }
    };
    let found = asked(Some(Class::Scraping));
    Ok(Behaviour { report: app.engine.behaviour_report(), found, others: asked(None) })
}

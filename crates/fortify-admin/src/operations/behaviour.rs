//! The behaviour of circuits, and what is or would be done about it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use fortify_engine::behaviour::{Class, Report};

/// The report on the behaviour of circuits.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Behaviour {
    /// Counts since the start.
    pub report: Report,
    /// What a suspicious circuit without a session must solve now, or would have to solve in the mode `observe`.
    pub found: Asked,
    /// What any other circuit without a session must solve.
    pub others: Asked,
}

/// What a circuit must solve.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Asked {
    /// The number of challenges in a row.
    pub stages: u8,
    /// Whether they are of a stricter kind.
    pub hard: bool,
}

/// Reports the behaviour of circuits.
///
/// # Errors
///
/// None at present.
pub async fn show(context: Context, _: Nothing) -> Result<Behaviour, AdminError> {
    let app = context.app();
    let asked = |class| {
        let requirement = app.engine.requirement_of(class);
        Asked { stages: requirement.stages, hard: requirement.harder }
    };
    let found = asked(Some(Class::Scraping));
    Ok(Behaviour { report: app.engine.behaviour_report(), found, others: asked(None) })
}

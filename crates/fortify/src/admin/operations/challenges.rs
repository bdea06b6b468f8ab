//! How challenges are answered.

use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::error::AdminError;
use crate::admin::handler::{Context, Nothing};
use crate::challenge::tally::Figures;

/// How challenges are answered.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Challenges {
    /// Of each task, carrier and level that was asked since the start, by this node.
    pub kinds: Vec<Figures>,
    /// Of all of them.
    pub all: Figures,
}

/// How challenges are answered.
///
/// # Errors
///
/// None now.
pub async fn show(context: Context, _: Nothing) -> Result<Challenges, AdminError> {
    let (kinds, all) = context.app().challenges.tally().figures();
    Ok(Challenges { kinds, all })
}

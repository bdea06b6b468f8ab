//! How challenges are answered.

use fortify_captcha::Media;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use fortify_engine::challenge::ChallengeError;
use fortify_engine::challenge::tally::Figures;
use fortify_engine::threat::ThreatLevel;

/// Figures about answers to challenges.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Challenges {
    /// The figures of each task, rendering and level that this node has issued since its start.
    pub kinds: Vec<Figures>,
    /// The figures of all of them together.
    pub all: Figures,
}

/// Reports how challenges are answered.
///
/// # Errors
///
/// None at present.
pub async fn show(context: Context, _: Nothing) -> Result<Challenges, AdminError> {
    let (kinds, all) = context.app().engine.answer_figures();
    Ok(Challenges { kinds, all })
}

/// A picture as visitors get it at a level, in the current style. No challenge is stored, and the answer is
/// discarded.
///
/// # Errors
///
/// [`AdminError::BadRequest`] if there is no such level; [`AdminError::Busy`] if the renderer is at its limit.
pub async fn sample(context: Context, level: u8) -> Result<Media, AdminError> {
    let none = || AdminError::BadRequest(format!("level: {level} does not exist; use 1 to 10"));
    let level = ThreatLevel::new(level).ok_or_else(none)?;
    let closed = |_closed| AdminError::Unavailable("no picture can be drawn".to_owned());
    let _place = context.admin.samples.acquire().await.map_err(closed)?;
    let app = context.app();
    app.engine.sample(level).await.map_err(|error| match error {
        ChallengeError::Busy => AdminError::Busy("pictures are being drawn for visitors"),
        error => AdminError::Unavailable(error.to_string()),
    })
}

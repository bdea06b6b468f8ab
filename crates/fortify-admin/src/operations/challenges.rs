//! How challenges are answered.

use fortify_captcha::Media;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use fortify_engine::challenge::ChallengeError;
use fortify_engine::challenge::tally::Figures;
use fortify_engine::threat::ThreatLevel;

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
    let (kinds, all) = context.app().engine.answer_figures();
    Ok(Challenges { kinds, all })
}

/// A picture as visitors get it at a level, in the style in force. It is asked of nobody: no challenge is kept,
/// and its answer is thrown away.
///
/// # Errors
///
/// [`AdminError::BadRequest`] where there is no such level; [`AdminError::Busy`] where as many pictures are
/// being drawn as may be.
pub async fn sample(context: Context, level: u8) -> Result<Media, AdminError> {
    let none = || AdminError::BadRequest(format!("level: {level} is none, use 1 to 10"));
    let level = ThreatLevel::new(level).ok_or_else(none)?;
    let closed = |_closed| AdminError::Unavailable("no picture can be drawn".to_owned());
    let _place = context.admin.samples.acquire().await.map_err(closed)?;
    let app = context.app();
    app.engine.sample(level).await.map_err(|error| match error {
        ChallengeError::Busy => AdminError::Busy("pictures are being drawn for visitors"),
        error => AdminError::Unavailable(error.to_string()),
    })
}

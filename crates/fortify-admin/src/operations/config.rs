//! The current configuration, without secrets.

use schemars::JsonSchema;
use serde::Serialize;

use super::dial::{LevelRow, row};
use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use fortify_engine::threat::ThreatLevel;

/// The current configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConfigView {
    /// Each key and its value, by section. Files with secrets are named, not read.
    pub sections: Vec<Section>,
    /// What each level requires, with the settings made for it.
    pub levels: Vec<LevelRow>,
}

/// One section.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Section {
    /// Its name in the file.
    pub name: &'static str,
    /// Its keys.
    pub keys: Vec<Key>,
}

/// One key.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// Its value, as text.
    pub value: String,
}

/// Reports the current configuration.
///
/// # Errors
///
/// None at present.
pub async fn show(context: Context, _: Nothing) -> Result<ConfigView, AdminError> {
    let app = context.app();
    let sections = (app.config.shown().into_iter())
        .map(|(name, keys)| {
            let keys = keys.into_iter().map(|(name, value)| Key { name, value }).collect();
            Section { name, keys }
        })
        .collect();
    let levels = ThreatLevel::ALL.map(|level| row(&app.engine.policy_at(level))).into();
    Ok(ConfigView { sections, levels })
}

//! The declared order of the crates, and the exceptions to it: `layers.toml`.

use crate::analysis::Level;
use crate::{Error, read};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// The content of `layers.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// The most lines that a crate may have, without its tests.
    pub max_lines: usize,
    /// Crates that only tests and development use. They may use every crate, and others may have
    /// them as dev-dependencies.
    #[serde(default)]
    pub dev_only: BTreeSet<String>,
    /// Crates that are listed and do not exist yet.
    #[serde(default)]
    pub pending: BTreeSet<String>,
    /// The other crates, from bottom to top.
    #[serde(default, rename = "layer")]
    pub layers: Vec<Layer>,
    /// Circles that are known and tolerated.
    #[serde(default, rename = "known_circle")]
    pub known_circles: Vec<KnownCircle>,
    /// Crates that are known to be too large, and tolerated.
    #[serde(default, rename = "known_large")]
    pub known_large: Vec<KnownLarge>,
}

/// A crate and what it may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The crate.
    #[serde(rename = "crate")]
    pub name: String,
    /// The crates of the workspace that it may use, all of them listed before it.
    pub may_use: BTreeSet<String>,
}

/// A circle that is tolerated as it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownCircle {
    /// The crate.
    #[serde(rename = "crate")]
    pub name: String,
    /// Its files, from the folder of the crate.
    #[serde(default)]
    pub files: BTreeSet<String>,
    /// Its modules, if it is a circle of modules and not of files.
    #[serde(default)]
    pub modules: BTreeSet<String>,
}

impl KnownCircle {
    /// What it is made of.
    pub fn level(&self) -> Level {
        if self.files.is_empty() { Level::Modules } else { Level::Files }
    }

    /// Its files or modules.
    pub fn members(&self) -> &BTreeSet<String> {
        if self.files.is_empty() { &self.modules } else { &self.files }
    }
}

/// A crate that is tolerated up to a size above the limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownLarge {
    /// The crate.
    #[serde(rename = "crate")]
    pub name: String,
    /// The most lines that it may have, without its tests.
    pub max_lines: usize,
}

impl Layers {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// [`Error`] if it cannot be read or contradicts itself.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(&read(path)?).map_err(|message| Error::Toml { path: path.to_owned(), message })
    }

    /// Parses and checks the text of a file.
    ///
    /// # Errors
    ///
    /// A sentence on what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let layers: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        layers.validate()?;
        Ok(layers)
    }

    /// What a crate may use; `None` if it is no layer.
    pub fn may_use(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.layers.iter().find(|layer| layer.name == name).map(|layer| &layer.may_use)
    }

    /// All crates listed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let layers = self.layers.iter().map(|layer| layer.name.as_str());
        layers.chain(self.dev_only.iter().map(String::as_str))
    }

    fn validate(&self) -> Result<(), String> {
        let mut below = BTreeSet::new();
        for layer in &self.layers {
            if let Some(used) = layer.may_use.iter().find(|used| !below.contains(used.as_str())) {
                return Err(format!(
                    "{name} may use {used}, which is not listed before it",
                    name = layer.name
                ));
            }
            if self.dev_only.contains(&layer.name) || !below.insert(layer.name.as_str()) {
                return Err(format!("{} is listed twice", layer.name));
            }
        }
        if let Some(known) =
            self.known_circles.iter().find(|it| it.files.is_empty() == it.modules.is_empty())
        {
            return Err(format!("a known circle of {} needs files or modules", known.name));
        }
        let unlisted = |name: &&String| self.names().all(|listed| listed != name.as_str());
        match self.pending.iter().find(unlisted) {
            Some(name) => Err(format!("{name} is pending and is no layer")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_may_use_only_what_is_below_it() {
        let text = "max_lines = 1\n[[layer]]\ncrate = \"a\"\nmay_use = [\"b\"]\n[[layer]]\ncrate = \"b\"\nmay_use = []\n";
        assert_eq!(Layers::parse(text).unwrap_err(), "a may use b, which is not listed before it");
    }

    #[test]
    fn a_crate_is_listed_once() {
        let text = "max_lines = 1\ndev_only = [\"a\"]\n[[layer]]\ncrate = \"a\"\nmay_use = []\n";
        assert_eq!(Layers::parse(text).unwrap_err(), "a is listed twice");
    }

    #[test]
    fn what_is_pending_is_listed() {
        let text = "max_lines = 1\npending = [\"a\"]\n";
        assert_eq!(Layers::parse(text).unwrap_err(), "a is pending and is no layer");
    }
}

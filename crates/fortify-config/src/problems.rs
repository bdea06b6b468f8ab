//! The problems of a configuration: collected while it is read and checked, reported together.

use std::fmt;

use super::Config;
use super::origin::{Origins, Place};

/// Everything that is wrong with a configuration, one line per problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// The problems, one line each, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// The problems found so far, each with its place.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<(Place, String)>);

impl Problems {
    /// Only this problem.
    pub(super) fn one(place: Place, message: String) -> Self {
        Self(vec![(place, message)])
    }

    /// Notes what is wrong with a key that is known.
    pub(super) fn push(&mut self, origins: &Origins, key: &str, message: impl fmt::Display) {
        self.0.push((origins.place(key), format!("{key}: {message}")));
    }

    /// Notes a problem of a place that is not that of a key.
    pub(super) fn push_at(&mut self, place: Place, message: String) {
        self.0.push((place, message));
    }

    /// `config`, if nothing is wrong with it.
    pub(super) fn into_result(mut self, config: Config) -> Result<Config, ConfigError> {
        if self.0.is_empty() {
            return Ok(config);
        }
        self.0.sort();
        Err(self.into())
    }
}

impl From<Problems> for ConfigError {
    fn from(problems: Problems) -> Self {
        let lines = problems.0.iter().map(|(place, message)| {
            // Whatever was quoted from a file stays on its one line.
            format!("{place}: {message}").replace(['\n', '\r'], " ")
        });
        Self { problems: lines.collect() }
    }
}

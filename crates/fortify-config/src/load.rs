//! From a file and the environment to a checked [`Config`].

use std::path::Path;

use serde::Deserialize;
use serde_path_to_error::Segment;
use toml::de::{DeTable, ValueDeserializer};
use toml::{Table, Value};

use super::origin::{Origins, Place, Variable, line_of};
use super::problems::{ConfigError, Problems};
use super::raw::RawConfig;
use super::{Config, WrittenConfig, validate};

/// The prefix of environment variables that set keys: `FORTIFY__SECTION__KEY`.
pub const ENVIRONMENT_PREFIX: &str = "FORTIFY__";

impl Config {
    /// Reads the file, applies the environment and checks the result.
    ///
    /// Without a path the defaults take the file's place. A variable `FORTIFY__SECTION__KEY` overrides
    /// `section.key`; its value is read as a TOML scalar or array if it is one, otherwise as text. The
    /// environment is passed in, never read here.
    ///
    /// # Errors
    ///
    /// All problems, each with file and line or variable, key, and what to do. If the file cannot be read or is
    /// not TOML, that is the only problem.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::load_written(path, env).map(|(config, _)| config)
    }

    /// As [`Self::load`], and also returns the keys that were written.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn load_written(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, WrittenConfig), ConfigError> {
        let (config, table, problems) = load(path, env)?;
        Ok((problems.into_result(config)?, WrittenConfig::new(table)))
    }

    /// As [`Self::load`], but with the default for each key that is wrong; `None` if the file cannot be read or is
    /// not TOML. For diagnosis only: the service never runs with such a configuration.
    pub fn load_leniently(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> (Option<Self>, Option<ConfigError>) {
        match load(path, env) {
            Ok((config, _, problems)) => (Some(config.clone()), problems.into_result(config).err()),
            Err(error) => (None, Some(error)),
        }
    }
}

/// What the environment may not set, because it names a program to run.
const FILE_ONLY: [(&str, &str); 1] = [("threat", "on_change")];

/// Reads everything: the configuration, with the default for each key that is wrong, the table it was
/// made from, and the problems.
fn load(
    path: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(Config, Table, Problems), ConfigError> {
    let mut problems = Problems::default();
    let (mut table, mut origins) = match path {
        Some(path) => read(path)?,
        None => (Table::new(), Origins::default()),
    };
    overlay(&mut table, &mut origins, env, &mut problems);
    let raw = deserialise(table.clone(), &origins, &mut problems);
    let config = validate::validate(raw, &origins, &mut problems);
    Ok((config, table, problems))
}

fn read(path: &Path) -> Result<(Table, Origins), ConfigError> {
    let file = path.display().to_string();
    let fail = |place: Place, message: String| ConfigError::from(Problems::one(place, message));
    let text = std::fs::read_to_string(path).map_err(|error| {
        let advice = "give the path of a readable TOML file in UTF-8";
        fail(Place::File(file.clone()), format!("cannot be read ({error}), {advice}"))
    })?;
    let syntax = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        let message = format!("not valid TOML: {}, correct this line", error.message());
        fail(Place::Line(file.clone(), line), message)
    };
    let origins = Origins::of_file(&file, &text, DeTable::parse(&text).map_err(syntax)?.get_ref());
    let table = toml::from_str(&text).map_err(syntax)?;
    Ok((table, origins))
}

fn overlay(
    table: &mut Table,
    origins: &mut Origins,
    env: impl IntoIterator<Item = (String, String)>,
    problems: &mut Problems,
) {
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
            continue;
        };
        let Some((section, key)) = rest
            .split_once("__")
            .filter(|(section, key)| !section.is_empty() && !key.is_empty() && !key.contains("__"))
        else {
            let message = "is not of the form FORTIFY__SECTION__KEY, rename or unset it";
            problems.push_at(Place::Variable(name), message.to_owned());
            continue;
        };
        let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
        if FILE_ONLY.contains(&(section.as_str(), key.as_str())) {
            let message = format!("sets {section}.{key}, which the file alone may set, unset it");
            problems.push_at(Place::Variable(name), message);
            continue;
        }
        let slot = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        // A file in which the section is no table at all is reported for that.
        let Value::Table(keys) = slot else { continue };
        keys.insert(key.clone(), scalar(&value));
        origins.set_by(&format!("{section}.{key}"), Variable { name, value });
    }
}

/// The value as a number, boolean, quoted text or list if it is one, otherwise as text.
fn scalar(text: &str) -> Value {
    let parsed = ValueDeserializer::parse(text).and_then(Value::deserialize);
    match parsed {
        Ok(Value::Table(_) | Value::Datetime(_)) | Err(_) => Value::String(text.to_owned()),
        Ok(value) => value,
    }
}

/// Deserialises the table. Notes each key that is wrong, and continues without it.
fn deserialise(mut table: Table, origins: &Origins, problems: &mut Problems) -> RawConfig {
    loop {
        let error = match serde_path_to_error::deserialize(Value::Table(table.clone())) {
            Ok(raw) => return raw,
            Err(error) => error,
        };
        let mut names = error.path().iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            _ => None,
        });
        let (section, key) = (names.next().unwrap_or_default(), names.next());
        let removed = match (&key, table.get_mut(&section)) {
            (Some(key), Some(Value::Table(keys))) => {
                let name = format!("{section}.{key}");
                match (keys.remove(key), origins.variable(&name)) {
                    // FORTIFY__SERVER__SOCKET_MODE=660 looks like a number and is meant as text.
                    (Some(value), Some(variable)) if !value.is_str() => {
                        keys.insert(key.clone(), Value::String(variable.value.clone()));
                        continue;
                    }
                    (removed, _) => removed,
                }
            }
            _ => table.remove(&section),
        };
        let path = error.path().to_string();
        // A key of a table in a list is named in full, any other element by the list's name.
        let name = match key {
            _ if path.contains("].") => path,
            Some(key) => format!("{section}.{key}"),
            None => section,
        };
        problems.push(origins, &name, plain(error.inner().message()));
        if removed.is_none() {
            // Nothing to remove: the result is not used anyway, because there are problems.
            return RawConfig::default();
        }
    }
}

/// The deserialiser's message in terms of the file.
fn plain(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let known = rest.split_once(", expected ").map_or("nothing", |(_, known)| known);
        let known = known.trim_start_matches("one of ").replace('`', "");
        return format!("not known, remove it or use one of: {known}");
    }
    let message = message.lines().next().unwrap_or_default();
    message
        .replace("expected i64", "use a whole number")
        .replace("expected a string", "use text in quotes")
        .replace("expected a boolean", "use true or false")
        .replace("expected a sequence", "use a list such as [\"a\", \"b\"]")
        .replace("expected a section", "write a section")
}

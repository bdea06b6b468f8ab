//! The origin of each key: a line of the file, or an environment variable.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The origin of every key that was set, by its dotted name (`section.key`).
#[derive(Debug, Default)]
pub(super) struct Origins {
    file: Option<String>,
    lines: BTreeMap<String, usize>,
    variables: BTreeMap<String, Variable>,
}

/// An environment variable that set a key.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

impl Origins {
    /// Notes the line of every section and key of a parsed file.
    pub(super) fn of_file(file: &str, text: &str, table: &DeTable<'_>) -> Self {
        let mut lines = BTreeMap::new();
        for (section, value) in table {
            lines.insert(section.get_ref().to_string(), line_of(text, section.span().start));
            let DeValue::Table(keys) = value.get_ref() else {
                continue;
            };
            for (key, value) in keys {
                let name = format!("{}.{}", section.get_ref(), key.get_ref());
                if let DeValue::Array(tables) = value.get_ref() {
                    of_tables(&mut lines, &name, text, tables.as_ref());
                }
                lines.insert(name, line_of(text, key.span().start));
            }
        }
        Self { file: Some(file.to_owned()), lines, variables: BTreeMap::new() }
    }

    /// Notes that a variable overrides this key.
    pub(super) fn set_by(&mut self, key: &str, variable: Variable) {
        self.variables.insert(key.to_owned(), variable);
    }

    /// The variable that set this key, if one did.
    pub(super) fn variable(&self, key: &str) -> Option<&Variable> {
        self.variables.get(key)
    }

    /// The place of this key, or else of the table that contains it.
    pub(super) fn place(&self, key: &str) -> Place {
        let listed = key.split('[').next().unwrap_or(key);
        if let Some(variable) = self.variables.get(listed) {
            return Place::Variable(variable.name.clone());
        }
        let section = key.split('.').next().unwrap_or(key);
        let table = key.rsplit_once('.').map_or(section, |(table, _)| table);
        let line = [key, table, section].into_iter().find_map(|name| self.lines.get(name));
        match (&self.file, line) {
            (Some(file), Some(line)) => Place::Line(file.clone(), *line),
            (file, _) => self
                .first_variable_of(section)
                .unwrap_or_else(|| file.clone().map_or(Place::Defaults, Place::File)),
        }
    }

    /// A section that is not in the file may exist because of a variable.
    fn first_variable_of(&self, section: &str) -> Option<Place> {
        let mut keys = self.variables.iter();
        let (_, variable) = keys.find(|(key, _)| key.split('.').next() == Some(section))?;
        Some(Place::Variable(variable.name.clone()))
    }
}

/// Notes the line of each table in a list, and of its keys: `section.key[0].inner`.
fn of_tables(
    lines: &mut BTreeMap<String, usize>,
    name: &str,
    text: &str,
    tables: &[Spanned<DeValue<'_>>],
) {
    for (index, table) in tables.iter().enumerate() {
        let name = format!("{name}[{index}]");
        if let DeValue::Table(keys) = table.get_ref() {
            for key in keys.keys() {
                let inner = format!("{name}.{}", key.get_ref());
                lines.insert(inner, line_of(text, key.span().start));
            }
        }
        lines.insert(name, line_of(text, table.span().start));
    }
}

/// The line, counted from 1, of a byte of the text.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// The place of a problem. Ordered as problems are shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The file as a whole.
    File(String),
    /// A line of it.
    Line(String, usize),
    /// An environment variable.
    Variable(String),
    /// The defaults.
    Defaults,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{file}"),
            Self::Line(file, line) => write!(f, "{file}:{line}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Defaults => write!(f, "embedded default"),
        }
    }
}

//! Prints answers: as the API's JSON, or as text.
//!
//! Styles are always written; standard output removes them unless it is a terminal, and with `NO_COLOR` (see
//! [`main`](super::main)). Control characters are removed from values, so that no reason or name can control the
//! terminal.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use cookie::time::OffsetDateTime;
use serde_json::Value;

use super::CliError;

/// For names of fields and heads of tables.
pub(super) const HEAD: Style = Style::new().bold();
/// For a good state.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// For a state that deserves a look.
pub(super) const MIND: Style = AnsiColor::Yellow.on_default();
/// For a bad state.
pub(super) const BAD: Style = AnsiColor::Red.on_default();

/// The output format.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Format {
    /// Print JSON, as the admin API answers it.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Writes an answer as JSON, or as text by `read`.
pub(super) fn write(
    format: Format,
    value: &Value,
    out: &mut dyn Write,
    read: impl FnOnce(&Value, &mut dyn Write) -> io::Result<()>,
) -> Result<(), CliError> {
    let written = match format.json {
        true => writeln!(out, "{value}"),
        false => read(value, out),
    };
    written.map_err(|e| CliError::output(&e))
}

/// Writes a field: its name and its value.
pub(super) fn line(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    styled(out, name, value, Style::new())
}

/// As [`line`], with a style for the value.
pub(super) fn styled(out: &mut dyn Write, name: &str, value: &str, style: Style) -> io::Result<()> {
    let (name, value) = (plain(name), plain(value));
    writeln!(out, "{HEAD}{name:<16}{HEAD:#} {style}{value}{style:#}")
}

/// The head of a table.
pub(super) fn head(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "{HEAD}{}{HEAD:#}", text.trim_end())
}

/// Writes a row of a table.
pub(super) fn row(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "{}", plain(text).trim_end())
}

/// `text` without control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text in an answer; a dash if it is absent.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// A list of texts in an answer, joined with commas; `None` if it is empty.
pub(super) fn words(list: &Value) -> Option<String> {
    let words: Vec<_> = list.as_array()?.iter().filter_map(Value::as_str).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// A time in an answer, in UTC.
pub(super) fn time(millis: &Value) -> String {
    let seconds = millis.as_u64().and_then(|millis| i64::try_from(millis / 1000).ok());
    let Some(at) = seconds.and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok()) else {
        return "-".to_owned();
    };
    let (date, month) = (at.date(), u8::from(at.month()));
    let (hour, minute, second) = at.to_hms();
    format!("{}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}Z", date.year(), date.day())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_in_utc() {
        assert_eq!(time(&json!(1_800_000_000_123_u64)), "2027-01-15 08:00:00Z");
        assert_eq!(time(&json!(0)), "1970-01-01 00:00:00Z");
        for odd in [json!(null), json!("x"), json!(u64::MAX)] {
            assert_eq!(time(&odd), "-");
        }
    }

    #[test]
    fn values_cannot_control_the_terminal() {
        let mut out = Vec::new();
        row(&mut out, "a\x1b[31mred\u{9b}2J\r\nb").unwrap();
        assert_eq!(out, b"a [31mred 2J  b\n");
    }
}

//! Findings as text for operators and as JSON for monitors.

use std::io::{self, Write};

use super::{CheckStatus, Finding};

/// Writes findings as text: one line each, followed by the advice if there is any.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn text(findings: &[Finding], colour: bool, out: &mut dyn Write) -> io::Result<()> {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        let word = format!("{:<8}", finding.status.as_str());
        let word = if colour { painted(&word, finding.status) } else { word };
        writeln!(out, "{word} {:<width$}  {}", finding.check, finding.found)?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "{:width$}-> {advice}", "", width = 9)?;
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.status == verdict).count();
    let [ok, warn, fail, skipped] =
        [CheckStatus::Ok, CheckStatus::Warn, CheckStatus::Fail, CheckStatus::Skipped].map(count);
    writeln!(out, "\n{ok} ok, {warn} warnings, {fail} failed, {skipped} skipped")
}

/// Writes findings as JSON: one object a line.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn json(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    findings.iter().try_for_each(|finding| writeln!(out, "{}", serde_json::json!(finding)))
}

/// `word` in one of the terminal's own colours.
fn painted(word: &str, verdict: CheckStatus) -> String {
    let code = match verdict {
        CheckStatus::Ok => "32",
        CheckStatus::Warn => "33",
        CheckStatus::Fail => "31",
        CheckStatus::Skipped => "2",
    };
    format!("\x1b[{code}m{word}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![Finding::ok("a", "well"), Finding::fail("b.c", "ill", "mend it")]
    }

    #[test]
    fn the_text_has_a_line_and_the_advice() {
        let mut out = Vec::new();
        text(&findings(), false, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ok       a    well\nfail     b.c  ill\n         -> mend it\n\n\
             1 ok, 0 warnings, 1 failed, 0 skipped\n"
        );
    }

    #[test]
    fn there_is_no_colour_unless_requested() {
        let mut out = Vec::new();
        text(&findings(), true, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("\x1b[31mfail"));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let mut out = Vec::new();
        json(&findings(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines[0],
            serde_json::json!({"check": "a", "status": "ok", "found": "well", "advice": null})
        );
        assert_eq!(lines[1]["advice"], "mend it");
    }
}

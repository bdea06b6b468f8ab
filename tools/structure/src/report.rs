//! What is printed: a summary for people, JSON for programs, lists to paste into `layers.toml`.

use crate::analysis::{Circle, Crate};
use crate::check::Finding;
use crate::manifest::DependencyKind;
use serde::Serialize;
use std::fmt;

/// An analysis and what the check made of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The crates, in alphabetical order.
    pub crates: Vec<Crate>,
    /// What fails the check.
    pub findings: Vec<Finding>,
    /// What does not fail it and should be known.
    pub notes: Vec<String>,
}

/// The summary of a [`Report`].
#[derive(Debug)]
pub struct Summary<'a> {
    /// What is summed up.
    pub report: &'a Report,
    /// Whether each circle is followed by the imports that make it.
    pub imports: bool,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crates = &self.report.crates;
        writeln!(
            f,
            "{:<20} {:>7} {:>7} {:>6} {:>7} {:>8} {:>7} {:>8}",
            "crate", "lines", "code", "files", "arrows", "modules", "arrows", "circles"
        )?;
        for member in crates {
            row(f, member)?;
        }
        totals(f, crates)?;
        writeln!(f, "\nArrows between crates (dev-dependencies in brackets):")?;
        for member in crates {
            writeln!(f, "  {} -> {}", member.name, uses(member))?;
        }
        self.circles(f)
    }
}

impl Summary<'_> {
    fn circles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nCircles:")?;
        for member in &self.report.crates {
            for circle in &member.circles {
                let (size, word) = (circle.members.len(), circle.level.word());
                writeln!(f, "  {}: {size} {word}", member.name)?;
                self.circle(f, circle)?;
            }
        }
        if self.report.crates.iter().all(|member| member.circles.is_empty()) {
            writeln!(f, "  none")?;
        }
        Ok(())
    }

    fn circle(&self, f: &mut fmt::Formatter<'_>, circle: &Circle) -> fmt::Result {
        for name in &circle.members {
            writeln!(f, "    {name}")?;
        }
        if self.imports {
            for place in &circle.uses {
                writeln!(f, "      {place}")?;
            }
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, member: &Crate) -> fmt::Result {
    writeln!(
        f,
        "{:<20} {:>7} {:>7} {:>6} {:>7} {:>8} {:>7} {:>8}",
        member.name,
        member.lines,
        member.code_lines,
        member.files,
        member.file_arrows,
        member.modules,
        member.module_arrows,
        member.circles.len()
    )
}

fn totals(f: &mut fmt::Formatter<'_>, crates: &[Crate]) -> fmt::Result {
    let arrows = |kind| crates.iter().map(|it| it.depends_on(kind).len()).sum::<usize>();
    writeln!(
        f,
        "{} crates, {} lines, {} without tests, {} arrows between crates and {} of tests, \
         {} circles",
        crates.len(),
        crates.iter().map(|it| it.lines).sum::<usize>(),
        crates.iter().map(|it| it.code_lines).sum::<usize>(),
        arrows(DependencyKind::Normal) + arrows(DependencyKind::Build),
        arrows(DependencyKind::Dev),
        crates.iter().map(|it| it.circles.len()).sum::<usize>(),
    )
}

fn uses(member: &Crate) -> String {
    let mut normal = member.depends_on(DependencyKind::Normal);
    normal.extend(member.depends_on(DependencyKind::Build));
    let tests = member.depends_on(DependencyKind::Dev);
    let tests: Vec<_> = tests.iter().map(|name| format!("[{name}]")).collect();
    let all: Vec<_> = normal.into_iter().chain(tests.iter().map(String::as_str)).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

/// The circles as `[[known_circle]]` tables, to be pasted into `layers.toml`.
pub fn known_circles(crates: &[Crate]) -> String {
    let tables = crates
        .iter()
        .flat_map(|member| member.circles.iter().map(|circle| known_circle(&member.name, circle)));
    tables.collect::<Vec<_>>().join("\n")
}

fn known_circle(name: &str, circle: &Circle) -> String {
    let names: String = circle.members.iter().map(|name| format!("    \"{name}\",\n")).collect();
    format!("[[known_circle]]\ncrate = \"{name}\"\n{} = [\n{names}]\n", circle.level.word())
}

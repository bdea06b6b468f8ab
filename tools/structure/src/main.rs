//! Checks the direction of dependencies in a workspace; see the library of this package.

use anyhow::Context as _;
use clap::Parser;
use fortify_structure::report::{Report, Summary, known_circles};
use fortify_structure::{analyse_and_check, layers::Layers};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Checks which crate and which file uses which, and fails on what the layers do not allow.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of the workspace
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Declared layers [default: tools/structure/layers.toml in the workspace]
    #[arg(long)]
    layers: Option<PathBuf>,
    /// Print crates, lines, arrows and circles
    #[arg(long)]
    summary: bool,
    /// Print the summary, with the imports that make each circle
    #[arg(long)]
    circles: bool,
    /// Print everything as JSON
    #[arg(long, conflicts_with_all = ["summary", "circles"])]
    json: bool,
    /// Print the circles there are, to be pasted into the layers, and check nothing
    #[arg(long, conflicts_with_all = ["summary", "circles", "json"])]
    known: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let path = arguments.layers.clone();
    let path = path.unwrap_or_else(|| arguments.root.join("tools/structure/layers.toml"));
    let layers = Layers::load(&path)?;
    let report = analyse_and_check(&arguments.root, &layers)?;
    let text = render(&arguments, &report)?;
    std::io::stdout().write_all(text.as_bytes()).context("cannot print")?;
    let failed = !arguments.known && !report.findings.is_empty();
    if failed {
        let text = failure(&report);
        std::io::stderr().write_all(text.as_bytes()).context("cannot print")?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn render(arguments: &Arguments, report: &Report) -> anyhow::Result<String> {
    if arguments.known {
        return Ok(known_circles(&report.crates));
    }
    if arguments.json {
        return Ok(serde_json::to_string_pretty(report)? + "\n");
    }
    let mut text = String::new();
    if arguments.summary || arguments.circles {
        text += &Summary { report, imports: arguments.circles }.to_string();
    }
    for note in &report.notes {
        text += &format!("\nnote: {note}\n");
    }
    Ok(text)
}

fn failure(report: &Report) -> String {
    let findings: String = report.findings.iter().map(|finding| format!("\n{finding}\n")).collect();
    format!("\n{} against the layers:\n{findings}", report.findings.len())
}

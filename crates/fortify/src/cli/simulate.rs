//! `fortify simulate`: how the threat level reacts to recorded attacks.

mod trace;

use std::io::{self, Write};

use super::CliError;
use fortify_engine::threat::ThreatLevel;
use trace::{Played, Trace, play};

/// One level in the bar.
const STEP: &str = "##";

/// The arguments of `fortify simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The attack to simulate; all of them by default.
    #[arg(long)]
    trace: Option<Trace>,
    /// Print JSON, one object for each attack.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    let start = ThreatLevel::new(2).ok_or_else(|| CliError::Failed("no level 2".to_owned()))?;
    for trace in Trace::ALL.into_iter().filter(|trace| args.trace.is_none_or(|t| t == *trace)) {
        let played = play(trace, start);
        let written = match args.json {
            true => writeln!(out, "{}", serde_json::json!(played)),
            false => draw(&played, out),
        };
        written.map_err(|e| CliError::output(&e))?;
    }
    Ok(())
}

fn draw(played: &Played, out: &mut dyn Write) -> io::Result<()> {
    let Played { trace, start, highest, rises, falls, minutes } = played;
    writeln!(out, "{trace:?}: from {start} to {highest}; {rises} rises, {falls} falls")?;
    writeln!(out, "{:>6} {:>5} {:>9}", "MINUTE", "LEVEL", "PRESSURE")?;
    for minute in minutes {
        let bar = STEP.repeat(minute.level.get().into());
        let (number, level, pressure) = (minute.minute, minute.level, minute.pressure);
        writeln!(out, "{number:>6} {level:>5} {pressure:>7} %  {bar}")?;
    }
    Ok(())
}

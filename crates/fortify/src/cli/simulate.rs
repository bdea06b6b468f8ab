//! `fortify simulate`: how the threat dial turns under attacks, before there is one.

mod trace;

use std::io::{self, Write};

use super::CliError;
use fortify_engine::threat::ThreatLevel;
use trace::{Played, Trace, play};

/// Characters of the bar of one level.
const STEP: &str = "##";

/// What to play.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One attack; all of them unless given.
    #[arg(long)]
    trace: Option<Trace>,
    /// As JSON, one object a trace.
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

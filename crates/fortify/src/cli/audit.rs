//! `fortify audit`: the record of changes, from the running gate or from its files.

use std::io::{self, Write};

use serde_json::Value;

use super::CliError;
use super::remote::{Backend, backend};
use super::show::{self, Format, text, time};
use fortify_admin::operations::audit::MOST;
use fortify_config::Config;

/// The arguments of `fortify audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many records to show, counted from the latest.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=MOST))]
    last: u64,
    /// Print every record as JSON lines, the oldest first.
    #[arg(long, conflicts_with_all = ["last", "json"])]
    export: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(
    args: &Args,
    by: String,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let backend = backend(config, by)?;
    if args.export {
        let lines = match &backend {
            Backend::Remote(gate) => gate.get_raw("/audit/export")?.to_vec(),
            Backend::Offline(files) => files.export()?,
        };
        // The latest comes first.
        let mut lines: Vec<_> = lines.split_inclusive(|byte| *byte == b'\n').collect();
        lines.reverse();
        return out.write_all(&lines.concat()).map_err(|e| CliError::output(&e));
    }
    let audit = match &backend {
        Backend::Remote(gate) => gate.get(&format!("/audit?limit={}", args.last))?,
        Backend::Offline(files) => files.audit(args.last)?,
    };
    show::write(args.format, &audit, out, table)
}

/// Prints the latest record last, next to the prompt.
fn table(audit: &Value, out: &mut dyn Write) -> io::Result<()> {
    let title = format!("{:<21} {:<24} {:<20} {:<28} REASON", "AT", "WHO", "WHAT", "CHANGE");
    show::head(out, &title)?;
    for record in audit["records"].as_array().into_iter().flatten().rev() {
        let [who, what, change] = match text(&record["kind"]) {
            "turn" => [
                text(&record["by"]).to_owned(),
                "dial".to_owned(),
                format!("{} > {}, {}", record["from"], record["to"], text(&record["mode"])),
            ],
            "refused" => [
                "-".to_owned(),
                format!("refused {}", text(&record["what"])),
                format!("{} in a minute", record["count"]),
            ],
            _ => [
                format!("{} by {}", text(&record["principal"]), text(&record["auth_method"])),
                text(&record["action"]).to_owned(),
                changed(record),
            ],
        };
        let (at, reason) = (time(&record["at"]), record["reason"].as_str().unwrap_or_default());
        show::row(out, &format!("{at:<21} {who:<24} {what:<20} {change:<28} {reason}"))?;
    }
    Ok(())
}

/// The target, with the old and the new value if they are known.
fn changed(record: &Value) -> String {
    let word = |key: &str| record[key].as_str().unwrap_or_default();
    match (word("target"), word("from"), word("to")) {
        (target, "", "") => target.to_owned(),
        (target, from, to) => format!("{target}: {from} > {to}"),
    }
}

//! `fortify keys list` and `fortify keys rotate`.

use std::io::Write;

use clap::Subcommand;

use super::CliError;
use super::files::Files;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::entropy::SystemEntropy;
use crate::session::key_ring::{KeyInfo, KeyRing};

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show each key's id, age and use; never its secret.
    List,
    /// Make a new signing key. The old one goes on verifying until the last session that it signed
    /// has ended, so nobody is logged out. A running gate notices within seconds.
    Rotate,
}

pub(super) fn run(
    action: &Action,
    by: String,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let ring = KeyRing::load(&config.storage.data_dir).map_err(CliError::failed)?;
    if matches!(action, Action::Rotate) {
        // Named by the key that signs no more from now on. Before it is done, as every change is.
        let signing = ring.list().into_iter().find(|key| key.retired_at.is_none());
        let files = Files::of(config, by);
        files.log(&files.entry("keys.rotate", &signing.map(|key| key.id).unwrap_or_default()))?;
        ring.rotate(config.session.ttl, &SystemClock, &SystemEntropy).map_err(CliError::failed)?;
    }
    table(&ring.list(), SystemClock.now(), out).map_err(|e| CliError::output(&e))
}

fn table(keys: &[KeyInfo], now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{:<10} {:<10} {:>14}", "KEY", "USE", "AGE (HOURS)")?;
    for key in keys {
        let used_for = if key.retired_at.is_none() { "signs" } else { "verifies" };
        let hours = key.created_at.until(now).as_secs() / 3600;
        writeln!(out, "{:<10} {used_for:<10} {hours:>14}", key.id)?;
    }
    Ok(())
}

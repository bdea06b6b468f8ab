//! The growth of the log while as many requests are refused as the machine makes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fortify_testkit::servers::free_address;
use serde_json::json;
use tokio::time::sleep;

use super::gate::{Gate, tell, write_config};
use super::load::{Load, Sender};
use super::{Ground, Outcome, SESSIONS_ONLY};
use crate::client::address;
use crate::cost::cpu_time;
use crate::service::PEOPLE;

/// How long each case is measured.
const LENGTH: Duration = Duration::from_secs(20);

/// Connections, each of another circuit.
const CONNECTIONS: u32 = 16;

/// The most bytes that the log may grow by in a minute.
const MOST_BYTES: f64 = 1_000_000.0;

/// Lines in JSON: they are the longest.
const LOG: &str = "[log]\nformat = \"json\"\n";

pub(super) async fn play(program: &Path) -> Result<Vec<Outcome>> {
    Ok(vec![
        without_redis(program).await?,
        without_service(program).await?,
        banned_and_over_limit(program).await?,
    ])
}

async fn without_redis(program: &Path) -> Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("fortify-endure-").tempdir()?;
    let front = free_address();
    let storage = format!("backend = \"redis\"\nurl = \"redis://{}\"\n", free_address());
    let config =
        write_config(folder.path(), front.port(), &storage, &format!("{SESSIONS_ONLY}{LOG}"))?;
    let gate = Gate::start(program, &config, None)?;
    let senders = (100..100 + CONNECTIONS).map(|it| Sender::stranger(front, it, PEOPLE));
    measure("without Redis", gate, senders).await
}

async fn without_service(program: &Path) -> Result<Outcome> {
    let mut ground = Ground::new().await?;
    let (front, gate) = start(&ground, program)?;
    let people = ground.let_in(front, 100..100 + CONNECTIONS).await?;
    drop(ground.service.take());
    let senders = people.iter().map(|browser| Sender::member(front, browser, PEOPLE));
    measure("without the service", gate, senders).await
}

async fn banned_and_over_limit(program: &Path) -> Result<Outcome> {
    let ground = Ground::new().await?;
    let (front, gate) = start(&ground, program)?;
    let config = ground.folder.path().join("gate/fortify.toml");
    // Every other circuit; the rest soon have asked for more challenges than they may.
    for circuit in (100..100 + CONNECTIONS).step_by(2) {
        tell(program, &config, &["circuits", "ban", &address(circuit)])?;
    }
    let senders = (100..100 + CONNECTIONS).map(|it| Sender::stranger(front, it, PEOPLE));
    measure("banned and over the limit", gate, senders).await
}

/// A gate over `ground` that logs in JSON.
fn start(ground: &Ground, program: &Path) -> Result<(SocketAddr, Gate)> {
    let front = free_address();
    let config = ground.config("gate", front.port())?;
    let text = std::fs::read_to_string(&config)? + LOG;
    std::fs::write(&config, text)?;
    Ok((front, Gate::start(program, &config, None)?))
}

async fn measure(
    case: &'static str,
    mut gate: Gate,
    senders: impl Iterator<Item = Sender>,
) -> Result<Outcome> {
    let before = gate.log().len();
    let used = || Some((cpu_time(gate.id()).ok()?, cpu_time(std::process::id()).ok()?));
    let ((gate_before, own_before), begun) = (used().context("the gate is gone")?, Instant::now());
    let mut load = Load::default();
    load.flood(senders);
    sleep(LENGTH).await;
    let (gate_after, own_after) = used().context("the gate is gone")?;
    let seconds = begun.elapsed().as_secs_f64();
    let (tally, rate) = load.end();
    // What was left out is told within a second; it belongs to the growth.
    sleep(Duration::from_millis(1100)).await;
    let log = gate.log();
    let grown = log.get(before..).unwrap_or_default();
    let per_minute = grown.len() as f64 * 60.0 / seconds;
    let refused = tally.requests - tally.admitted;
    let share = |from: u64, to: u64| (to.saturating_sub(from) as f64 / 1e7 / seconds).round();
    let figures = json!({
        "refused_per_second": (rate * refused as f64 / tally.requests.max(1) as f64).round(),
        "seconds": seconds.round(), "log_bytes_per_minute": per_minute.round(),
        "log_lines": grown.lines().count(),
        "longest_line_bytes": grown.lines().map(str::len).max(),
        "gate_cpu_percent": share(gate_before, gate_after),
        "generator_cpu_percent": share(own_before, own_after),
        "answers": tally.others,
    });
    let bars = [
        ("the log grows by at most 1 MB a minute", per_minute <= MOST_BYTES),
        ("what is sent is refused", refused > 0 && refused * 100 >= tally.requests * 99),
        ("the gate is alive", gate.is_alive()),
    ];
    Ok(Outcome::new("log", case, figures, &bars))
}

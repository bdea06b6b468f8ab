//! SIGHUP at any time from the start on: the gate lives, and what was written before the signal is in force.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::Outcome;
use super::gate::{Gate, write_config};
use crate::client::{fire, single};
use crate::numbers::Dice;

/// Starts, each with one signal.
const STARTS: u64 = 200;

/// In seconds, the latest signal of every other start after the handler is there; for the others it is the time that a
/// start takes and half as much again.
const SOON: f64 = 0.03;

/// How long what was written may take to be in force.
const PATIENCE: Duration = Duration::from_secs(10);

/// The status of challenges before and after: every circuit sees it.
const BEFORE: u16 = 403;
const AFTER: u16 = 429;

pub(super) async fn play(program: &Path) -> Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("fortify-endure-").tempdir()?;
    let write = |status: u16| {
        let more = format!("[captcha]\nchallenge_status = {status}\n");
        write_config(folder.path(), 0, "", &more)
    };
    let (mut dice, mut wrong) = (Dice(7), Vec::new());
    let (mut alive, mut right, mut early) = (0, 0, 0);
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    Gate::start(program, &write(BEFORE)?, None)?.stop()?;
    let takes = begun.elapsed().as_secs_f64() * 1.5;
    for start in 0..STARTS {
        let mut gate = Gate::spawn(program, &write(BEFORE)?, None)?;
        gate.catches_hangups()?;
        let latest = if start % 2 == 0 { SOON } else { takes };
        let after = dice.seconds((0.0, latest));
        sleep(after).await;
        write(AFTER)?;
        early += u64::from(!gate.log().contains("the gate is open"));
        gate.signal(Signal::HUP).context("it is gone before the signal")?;
        let signalled = Instant::now();
        let seen = match gate.address() {
            Ok(address) => timeout(PATIENCE, in_force(address)).await.is_ok(),
            Err(_) => false,
        };
        slowest = slowest.max(signalled.elapsed());
        let lives = gate.is_alive();
        (alive, right) = (alive + u64::from(lives), right + u64::from(lives && seen));
        if !lives || !seen {
            wrong.push(format!("{after:?} after the handler: {}", gate.log()));
        }
    }
    // One says what is wrong; the counts say how often.
    wrong.truncate(1);
    let figures = json!({
        "starts": STARTS, "alive": alive, "right": right, "signals_before_open": early,
        "latest_signal_ms": (takes.max(SOON) * 1000.0).round(),
        "slowest_in_force_ms": slowest.as_millis() as u64, "wrong": wrong,
    });
    let bars = [
        ("every gate is alive", alive == STARTS),
        ("every gate has what was written", right == STARTS),
        ("some signals come before the gate is open", early > 0),
    ];
    Ok(Outcome::new("sighup", "while it starts", figures, &bars))
}

/// Asks on fresh circuits until challenges have the later status.
async fn in_force(address: SocketAddr) {
    for circuit in 100.. {
        if fire(address, circuit, &single("/")).await == Ok(AFTER) {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

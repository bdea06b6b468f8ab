//! Restarts and upgrades under load, on a socket that is held open as a service manager does.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tokio::time::sleep;

use super::gate::Gate;
use super::load::{Load, Sender};
use super::{Ground, Outcome};
use crate::service::PEOPLE;

/// Restarts of a case.
const RESTARTS: usize = 10;

/// Sessions, each with a circuit and one connection at a time.
const SESSIONS: u32 = 32;

/// Requests a second of all together.
const RATE: f64 = 2000.0;

/// The longest that anybody may wait, in milliseconds.
const LONGEST_MS: u64 = 2000;

/// How long load is carried between restarts.
const BETWEEN: Duration = Duration::from_secs(1);

pub(super) async fn play(program: &Path, old: Option<&Path>) -> Result<Vec<Outcome>> {
    let mut outcomes = vec![case("same program", program, program).await?];
    if let Some(old) = old {
        outcomes.push(case("upgrade", program, old).await?);
    }
    Ok(outcomes)
}

/// Alternates two programs; the second starts first.
async fn case(name: &'static str, program: &Path, old: &Path) -> Result<Outcome> {
    let ground = Ground::new().await?;
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let front = socket.local_addr()?;
    let config = ground.config("gate", front.port())?;
    let mut gate = Gate::start(old, &config, Some(&socket))?;
    let people = ground.let_in(front, 100..100 + SESSIONS).await?;
    let senders = people.iter().enumerate().map(|(number, browser)| {
        // One in four is passed on to the service, whose workers are few.
        let proxied = format!("{PEOPLE}asset{number}.png");
        let path = if number % 4 == 0 { proxied.as_str() } else { "/_fortify/auth" };
        Sender::member(front, browser, path)
    });
    let mut load = Load::default();
    load.pace(senders, RATE / f64::from(SESSIONS));
    let mut longest = Duration::ZERO;
    for restart in 0..RESTARTS {
        sleep(BETWEEN).await;
        let stopped = Instant::now();
        gate.stop()?;
        gate = Gate::start(if restart % 2 == 0 { program } else { old }, &config, Some(&socket))?;
        longest = longest.max(stopped.elapsed());
    }
    sleep(BETWEEN).await;
    let (tally, rate) = load.end();
    gate.stop()?;
    let bars = [
        ("no request fails", tally.failed == 0),
        ("no connection is refused", tally.refused == 0),
        ("no session is turned away", tally.turned_away == 0),
        ("nobody waits more than 2 s", tally.slowest_ms <= LONGEST_MS),
        ("2,000 requests a second", rate >= RATE * 0.95),
    ];
    let figures = json!({
        "restarts": RESTARTS, "requests_per_second": rate.round(), "seen": tally,
        "longest_without_gate_ms": longest.as_millis() as u64,
    });
    Ok(Outcome::new("restart", name, figures, &bars))
}

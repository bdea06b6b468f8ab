//! Rotations of the signing keys on one of three nodes over a Redis, under load.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fortify_keys::KeyRing;
use fortify_testkit::servers::free_address;
use serde_json::json;
use tokio::time::sleep;

use super::gate::{Gate, tell};
use super::load::{Load, Sender};
use super::{Ground, Outcome};

/// Nodes.
const NODES: u32 = 3;

/// Rotations; the ring holds eight keys.
const ROTATIONS: u32 = 5;

/// Sessions from before the first rotation; each is used at every node.
const SESSIONS: u32 = 24;

/// Requests a second with those sessions; with sessions that are added there are more.
const RATE: f64 = 1200.0;

/// The least requests a second for the trial to count.
const LEAST_RATE: f64 = 1000.0;

/// How long the other nodes may take to follow.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn play(program: &Path) -> Result<Outcome> {
    let ground = Ground::new().await?;
    let data = |node: u32| ground.folder.path().join(format!("node{node}/data"));
    let (mut gates, mut fronts, mut configs) = (Vec::new(), Vec::new(), Vec::<PathBuf>::new());
    for node in 0..NODES {
        let front = free_address();
        let config = ground.config(&format!("node{node}"), front.port())?;
        if node > 0 {
            fs::copy(data(0).join("keys.json"), data(node).join("keys.json"))?;
        }
        gates.push(Gate::start(program, &config, None)?);
        fronts.push(front);
        configs.push(config);
    }
    let everywhere = |people: Vec<crate::client::Browser>| -> Vec<Sender> {
        let at = |front: &SocketAddr| {
            let front = *front;
            people.iter().map(move |who| Sender::member(front, who, "/_fortify/auth"))
        };
        fronts.iter().flat_map(at).collect()
    };
    let (mut load, mut circuit) = (Load::default(), 100);
    let pace = RATE / f64::from(SESSIONS * NODES);
    for front in &fronts {
        let come = SESSIONS / NODES;
        let people = ground.let_in(*front, circuit..circuit + come).await?;
        circuit += come;
        load.pace(everywhere(people), pace);
    }
    let (mut slowest, mut joined) = (Duration::ZERO, 0);
    for rotation in 1..=ROTATIONS {
        tell(program, &configs[0], &["keys", "rotate"])?;
        let (rotated, note) = (Instant::now(), KeyRing::load(&data(0))?.note());
        loop {
            // Whoever comes in at a node that has the key, or has not heard of it, is let in by the others.
            for front in &fronts {
                load.pace(everywhere(ground.let_in(*front, circuit..circuit + 1).await?), pace);
                circuit += 1;
                joined += 1;
            }
            let follow = |node| KeyRing::load(&data(node)).is_ok_and(|ring| ring.note() == note);
            if (0..NODES).all(follow) {
                break;
            }
            ensure!(rotated.elapsed() < PATIENCE, "rotation {rotation}: not all nodes follow");
            sleep(Duration::from_secs(1)).await;
        }
        slowest = slowest.max(rotated.elapsed());
        sleep(Duration::from_secs(1)).await;
    }
    let (tally, rate) = load.end();
    for gate in gates {
        gate.stop()?;
    }
    let bars = [
        ("no session is refused", tally.turned_away == 0),
        ("no request fails", tally.failed == 0 && tally.refused == 0),
        ("1,000 requests a second", rate >= LEAST_RATE),
    ];
    let figures = json!({
        "nodes": NODES, "rotations": ROTATIONS, "requests_per_second": rate.round(),
        "sessions": SESSIONS, "sessions_from_rotations": joined, "seen": tally,
        "slowest_following_ms": slowest.as_millis() as u64,
    });
    Ok(Outcome::new("rotation", "one of three nodes", figures, &bars))
}

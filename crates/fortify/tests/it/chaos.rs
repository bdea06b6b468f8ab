//! Three gates over a Redis, or a Redis Cluster, to which everything happens that happens to one, people who use them
//! meanwhile, and a history of what was acknowledged to them.
//!
//! `make test` plays every fault of one Redis once; `make chaos` plays those of both `ROUNDS` times.

mod faults;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fortify_captcha::Answer;
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Clock as _;
use fortify_reputation::StatusReason;
use fortify_testkit::redis::until;
use fortify_testkit::{Reply, TestGate, Visitor};

use crate::cluster::{another, at, gate};
use faults::{Topology, Victims};

/// By when what was acknowledged holds on every node, or nobody is admitted: `docs/redis.md`.
const EVERYWHERE: Duration = Duration::from_secs(2);

/// How long people use the gates between two faults.
const CALM: Duration = Duration::from_millis(1500);

/// The most of each kind that is looked at again.
const KEPT: usize = 200;

/// A session that was ended, and who had it.
struct Ended {
    what: &'static str,
    visitor: Visitor,
    number: u32,
    at: Instant,
}

/// A right answer that earned a session.
#[derive(Clone)]
struct Answered {
    number: u32,
    page: Reply,
    answer: String,
}

#[derive(Default)]
struct History {
    ended: Vec<Ended>,
    answered: Vec<Answered>,
    /// Which sessions each token earned.
    sessions: HashMap<String, HashSet<String>>,
    violations: Vec<String>,
}

struct World {
    gates: Vec<TestGate>,
    history: Mutex<History>,
    numbers: AtomicU32,
    over: AtomicBool,
    /// What happens to Redis.
    fault: Mutex<&'static str>,
    /// Since when, until a second after every gate is ready again.
    shaken: Mutex<Option<Instant>>,
    checks: AtomicU32,
    replays: AtomicU32,
}

impl World {
    fn any(&self, by: u32) -> &TestGate {
        &self.gates[by as usize % self.gates.len()]
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    fn accuse(&self, what: String) {
        let fault = *self.fault.lock().unwrap();
        self.history().violations.push(format!("{what} (last fault: {fault})"));
    }

    /// Notes the session that an answer earned, if it did.
    fn earned(&self, page: &Reply, reply: &Reply) -> bool {
        let Some(session) = session_of(reply) else { return false };
        let mut history = self.history();
        let of_token = history.sessions.entry(page.field("token")).or_default();
        of_token.insert(session);
        let many = of_token.len() > 1;
        drop(history);
        if many {
            self.accuse("one answer earned two sessions".to_owned());
        }
        true
    }

    /// Comes in, with the same answer at two gates at once, and sometimes leaves or is banned.
    async fn visit(&self) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let gate = self.any(number);
        let mut visitor = at(gate, &gate.visitor(), number);
        let page = visitor.get("/").await;
        let Some(token) = page.try_field("token") else { return };
        let token = token.parse().unwrap();
        let record = gate.app.engine.parts().store.challenge(&token).await;
        let Ok(Some(record)) = record else { return };
        let answer = Answer::decode(record.answer.expose()).unwrap().reveal();
        let mut one = at(self.any(number + 1), &visitor, number);
        let mut two = at(self.any(number + 2), &visitor, number);
        let (first, second) = tokio::join!(
            gate.submit(&mut one, &page, &answer),
            gate.submit(&mut two, &page, &answer)
        );
        let (first, second) = (self.earned(&page, &first), self.earned(&page, &second));
        if !first && !second {
            return;
        }
        let member = if first { one } else { two };
        let answered = Answered { number, page, answer };
        keep(&mut self.history().answered, answered);
        match number % 4 {
            0 => self.leave(member, number).await,
            1 => self.ban(member, number).await,
            _ => {}
        }
    }

    async fn leave(&self, member: Visitor, number: u32) {
        let mut leaving = at(self.any(number / 4), &member, number);
        if leaving.post_form("/api/session/logout", &[]).await.status == StatusCode::OK {
            let ended =
                Ended { what: "a session logged out", visitor: member, number, at: Instant::now() };
            keep(&mut self.history().ended, ended);
        }
    }

    async fn ban(&self, member: Visitor, number: u32) {
        let gate = self.any(number / 4);
        let (until, parts) =
            (gate.clock.now().after(Duration::from_secs(3600)), gate.app.engine.parts());
        let circuit = TorCircuit::from_parts(0, 0, number);
        if parts.reputation.ban(circuit, until, StatusReason::Score).await.is_err() {
            return;
        }
        // The others have heard of it 2 s after it was published: until then it counts at this gate.
        while parts.replication.pending() != Some(0) {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            tokio::task::yield_now().await;
        }
        let ended = Ended { what: "a banned circuit", visitor: member, number, at: Instant::now() };
        keep(&mut self.history().ended, ended);
    }

    /// Has somebody who is out ask again, and an answer that was good sent once more.
    async fn check(&self, round: u32) {
        let again = {
            // What Redis lost a moment after it was acknowledged is written back by the gate that knows it: a fraction of
            // a second after Redis is back, in which another may have come first (`docs/redis.md`).
            let shaken = *self.shaken.lock().unwrap();
            let history = self.history();
            let is_old = |ended: &&Ended| {
                ended.at.elapsed() > EVERYWHERE
                    && shaken.is_none_or(|since| ended.at + Duration::from_millis(200) < since)
            };
            let old = history.ended.iter().filter(is_old);
            let old: Vec<_> = old.map(|it| (it.what, it.visitor.clone(), it.number)).collect();
            old.get(round as usize % old.len().max(1)).cloned()
        };
        if let Some((what, visitor, number)) = again {
            let reply = at(self.any(round), &visitor, number).get("/").await;
            // A gate that refuses everybody says nothing.
            let says = reply.status != StatusCode::SERVICE_UNAVAILABLE;
            self.checks.fetch_add(u32::from(says), Ordering::Relaxed);
            if reply.status == StatusCode::OK {
                self.accuse(format!("{what} was admitted"));
            }
        }
        let answered = {
            let history = self.history();
            history.answered.get(round as usize % history.answered.len().max(1)).cloned()
        };
        if let Some(Answered { number, page, answer }) = answered {
            let gate = self.any(round / 3);
            let mut stranger = at(gate, &gate.visitor(), number);
            let reply = gate.submit(&mut stranger, &page, &answer).await;
            let is_judged = reply.is_challenge() || reply.admits();
            self.replays.fetch_add(u32::from(is_judged), Ordering::Relaxed);
            self.earned(&page, &reply);
        }
    }
}

/// Keeps the latest.
fn keep<T>(all: &mut Vec<T>, one: T) {
    if all.len() == KEPT {
        all.remove(0);
    }
    all.push(one);
}

/// The session of the cookie that a response sets.
fn session_of(reply: &Reply) -> Option<String> {
    let cookies = reply.set_cookies();
    let cookie = cookies.iter().find_map(|cookie| cookie.strip_prefix("cerberus_session="))?;
    let claims = URL_SAFE_NO_PAD.decode(cookie.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["session_id"].as_str()?.to_owned())
}

#[expect(clippy::print_stdout, reason = "a measurement")]
async fn play(topology: Topology, rounds: usize) {
    let mut victims = Victims::start(topology).await;
    let one = gate(&victims.config(), |_| {}).await;
    let two = another(&victims.config(), &one, |_| {}).await;
    let three = another(&victims.config_of_last(), &one, |_| {}).await;
    victims.harms(three.clock.clone());
    let world = Arc::new(World {
        gates: vec![one, two, three],
        history: Mutex::default(),
        numbers: AtomicU32::new(1),
        over: AtomicBool::new(false),
        fault: Mutex::new("none"),
        shaken: Mutex::new(None),
        checks: AtomicU32::new(0),
        replays: AtomicU32::new(0),
    });
    let mut people = Vec::new();
    for person in 0..4 {
        people.push(tokio::spawn(come(world.clone())));
        people.push(tokio::spawn(look(world.clone(), person)));
    }
    let earned = || world.history().sessions.len();
    for round in 0..rounds {
        for &fault in topology.faults() {
            tokio::time::sleep(CALM).await;
            *world.fault.lock().unwrap() = fault;
            *world.shaken.lock().unwrap() = Some(Instant::now());
            let harmed = tokio::task::spawn_blocking(move || {
                victims.harm(fault);
                victims
            });
            victims = harmed.await.unwrap();
            let (over, before) = (Instant::now(), earned());
            until("all gates to be ready", || async {
                for gate in &world.gates {
                    if !gate.app.readiness().await.is_ready() {
                        return false;
                    }
                }
                true
            })
            .await;
            until("somebody to come in again", || async { earned() > before }).await;
            let heals = over.elapsed().as_millis();
            tokio::time::sleep(Duration::from_secs(1)).await;
            *world.shaken.lock().unwrap() = None;
            println!(
                r#"{{"test":"chaos","redis":"{topology:?}","round":{round},"fault":"{fault}","heals_ms":{heals}}}"#
            );
        }
    }
    // What was acknowledged last is looked at too.
    tokio::time::sleep(EVERYWHERE + CALM).await;
    world.over.store(true, Ordering::Relaxed);
    for person in people {
        person.await.unwrap();
    }
    let (checks, replays) =
        (world.checks.load(Ordering::Relaxed), world.replays.load(Ordering::Relaxed));
    let history = world.history();
    println!(
        r#"{{"test":"chaos","redis":"{topology:?}","sessions":{},"ended":{},"asked_again":{checks},"answers_again":{replays},"violations":{}}}"#,
        history.sessions.len(),
        history.ended.len(),
        history.violations.len()
    );
    assert!(history.violations.is_empty(), "{:#?}", history.violations);
    let least = 20 * rounds;
    assert!(history.sessions.len() >= least && history.ended.len() >= 10, "too little happened");
    assert!(checks as usize >= least && replays as usize >= least, "too little was looked at");
}

/// People who come in, one after the other.
async fn come(world: Arc<World>) {
    while !world.over.load(Ordering::Relaxed) {
        world.visit().await;
    }
}

/// Somebody who looks at what was acknowledged.
async fn look(world: Arc<World>, mut round: u32) {
    while !world.over.load(Ordering::Relaxed) {
        world.check(round).await;
        round = round.wrapping_add(5);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_whatever_happens_to_redis_what_was_acknowledged_holds() {
    play(Topology::One, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: make chaos"]
async fn chaos() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    for topology in [Topology::One, Topology::Cluster] {
        play(topology, rounds.unwrap_or(20)).await;
    }
}

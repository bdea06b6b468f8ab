//! Several gates over one Redis share bans, trust and answers.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use fortify_config::{RedisConfig, StorageBackend};
use fortify_core::circuit::{CircuitId, IdentityMode, TorCircuit};
use fortify_core::clock::{Clock as _, SystemClock};
use fortify_core::entropy::SystemEntropy;
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::operator::Reach;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::history::{ChangedBy, DialChange};
use fortify_engine::threat::table::{Admits, LevelOverride};
use fortify_keys::KeyRing;
use fortify_reputation::answer_history::{AnswerEvent, Suspicion};
use fortify_reputation::status_db::{StatusDb, Write};
use fortify_reputation::{CircuitStatus, StatusReason, StatusRow};
use fortify_store::record::Session;
use fortify_store::{KEYS_AGE, StoreError};
use fortify_testkit::redis::{Cluster, Redis, until};
use fortify_testkit::store::ProbedStore;
use fortify_testkit::{Parts, TestGate, Visitor, fields, memory_store};

const HOUR: Duration = Duration::from_secs(3600);

/// A gate that is ready; `change` comes last.
pub(crate) async fn gate(redis: &RedisConfig, change: impl FnOnce(&mut Parts)) -> TestGate {
    let test_gate = unready(redis, change).await;
    until("the gate to be ready", || async { test_gate.app.readiness().await.is_ready() }).await;
    test_gate
}

async fn unready(redis: &RedisConfig, change: impl FnOnce(&mut Parts)) -> TestGate {
    TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.storage.backend = StorageBackend::Redis;
        parts.config.storage.redis = redis.clone();
        change(parts);
    })
    .await
}

/// Another gate of `one`'s site, with a data directory that `prepare` may fill before.
pub(crate) async fn another(
    redis: &RedisConfig,
    one: &TestGate,
    prepare: impl FnOnce(&Path),
) -> TestGate {
    let keys = one.app.config.storage.data_dir.join("keys.json");
    gate(redis, |parts| {
        let data_dir = &parts.config.storage.data_dir;
        std::fs::create_dir_all(data_dir).unwrap();
        std::fs::copy(&keys, data_dir.join("keys.json")).unwrap();
        parts.config.threat.levels = one.app.config.threat.levels.clone();
        parts.config.upstream = one.app.config.upstream.clone();
        parts.config.reputation.scoring = one.app.config.reputation.scoring;
        prepare(data_dir);
    })
    .await
}

fn circuit(number: u32) -> TorCircuit {
    TorCircuit::from_parts(0, 0, number)
}

fn tag(test_gate: &TestGate, number: u32) -> CircuitTag {
    test_gate.app.engine.parts().pseudonyms.tag(&CircuitId::Header(circuit(number)))
}

/// The same browser on a circuit, at a gate.
pub(crate) fn at(test_gate: &TestGate, visitor: &Visitor, number: u32) -> Visitor {
    let mut visitor = visitor.clone().circuit(&circuit(number).address().to_string());
    visitor.address = test_gate.address;
    visitor
}

async fn ban(test_gate: &TestGate, number: u32) {
    let until = test_gate.clock.now().after(HOUR);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .ban(circuit(number), until, StatusReason::Score)
        .await
        .unwrap();
}

async fn reset(test_gate: &TestGate, number: u32) {
    let (status, until) = (CircuitStatus::Normal, test_gate.clock.now().after(HOUR));
    let reputation = &test_gate.app.engine.parts().reputation;
    reputation.set(circuit(number), status, until, StatusReason::Operator).await.unwrap();
}

/// Waits until a circuit stands so at a gate.
async fn stands(test_gate: &TestGate, number: u32, status: Option<CircuitStatus>) {
    let what = format!("circuit {number} to be {status:?}");
    until(&what, || async {
        test_gate.app.engine.parts().reputation.status(circuit(number)) == status
    })
    .await;
}

/// Waits until nothing waits to be told.
async fn all_told(test_gate: &TestGate) {
    until("all to be told", || async {
        test_gate.app.engine.parts().replication.pending() == Some(0)
    })
    .await;
}

async fn is_banned(visitor: &Visitor) -> bool {
    let reply = visitor.clone().get("/").await;
    reply.status == StatusCode::FORBIDDEN && reply.header("retry-after").is_some()
}

/// One server, and a cluster of three.
enum Servers {
    Single(Redis),
    Cluster(Cluster),
}

impl Servers {
    fn each() -> [Self; 2] {
        [Self::Single(Redis::start(&[])), Self::Cluster(Cluster::start())]
    }

    fn config(&self) -> RedisConfig {
        match self {
            Self::Single(redis) => redis.config(),
            Self::Cluster(cluster) => cluster.config(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ban_at_one_gate_counts_at_the_other_and_so_does_its_end() {
    for servers in Servers::each() {
        let config = servers.config();
        let one = gate(&config, |_| {}).await;
        let two = another(&config, &one, |_| {}).await;
        // With a session too.
        let mut member = at(&one, &one.visitor(), 7);
        let page = member.get("/").await;
        assert!(one.solve(&mut member, &page).await.admits());
        let member = at(&two, &member, 7);
        assert_eq!(member.clone().get("/").await.status, StatusCode::OK);
        ban(&one, 7).await;
        let took = until("the ban at the other gate", || is_banned(&member)).await;
        println!(r#"{{"test":"a ban is heard","ms":{:.1}}}"#, took.as_secs_f64() * 1e3);
        // It is in the other gate's file, too.
        let mut file = StatusDb::open_existing(&two.app.config.storage.data_dir, 10).unwrap();
        let rows = file.load(two.clock.now()).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].0.status, CircuitStatus::Banned);
        // The operator at the other gate takes it back, at the same instant by both clocks.
        reset(&two, 7).await;
        stands(&one, 7, None).await;
        assert!(!is_banned(&at(&one, &member, 7)).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_who_was_banned_or_logged_out_after_a_snapshot_stays_out_when_redis_comes_back_from_it()
 {
    let mut redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    let mut members = Vec::new();
    for number in [1, 2, 3] {
        let mut member = at(&one, &one.visitor(), number);
        let page = member.get("/").await;
        assert!(one.solve(&mut member, &page).await.admits());
        members.push(member);
    }
    all_told(&one).await;
    // Trust in all three, which the snapshot has; what comes after it, it has not.
    assert_eq!(redis.tell(&["SAVE"]), "+OK");
    let [left, banned, stayed] = &mut members[..] else { unreachable!() };
    let cookies = left.clone();
    assert_eq!(left.post_form("/api/session/logout", &[]).await.status, StatusCode::OK);
    ban(&one, 2).await;
    ban(&one, 4).await;
    all_told(&one).await;
    redis.kill();
    redis.run();
    let again = || async { one.app.readiness().await.is_ready() };
    until("the gate to be ready again", again).await;
    let two = another(&redis.config(), &one, |_| {}).await;
    for (number, status) in [(2, Some(CircuitStatus::Banned)), (4, Some(CircuitStatus::Banned))] {
        for test_gate in [&one, &two] {
            stands(test_gate, number, status).await;
        }
    }
    for test_gate in [&one, &two] {
        assert!(at(test_gate, &cookies, 1).get("/").await.is_challenge(), "logged out");
        assert!(at(test_gate, &cookies, 5).get("/").await.is_challenge(), "logged out");
        assert!(is_banned(&at(test_gate, banned, 2)).await);
        assert_eq!(at(test_gate, stayed, 3).get("/").await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_solves_at_one_gate_under_threat_is_admitted_at_the_other() {
    for servers in Servers::each() {
        let config = servers.config();
        let both = |parts: &mut Parts| {
            let both = |level| LevelOverride {
                admits: Some(Admits::Both),
                stages: Some(1),
                ..LevelOverride::of(level)
            };
            parts.config.threat.levels = ThreatLevel::ALL.map(both).to_vec();
        };
        let one = gate(&config, both).await;
        let two = another(&config, &one, |_| {}).await;
        let mut visitor = at(&one, &one.visitor(), 9);
        let page = visitor.get("/").await;
        assert!(one.solve(&mut visitor, &page).await.admits());
        let visitor = at(&two, &visitor, 9);
        let admitted = || async { visitor.clone().get("/").await.status == StatusCode::OK };
        until("the visitor to be admitted", admitted).await;
        // Who leaves is not trusted anywhere any more.
        assert_eq!(
            two.app.engine.parts().reputation.status(circuit(9)),
            Some(CircuitStatus::Trusted)
        );
        visitor.clone().post_form("/api/session/logout", &[]).await;
        stands(&one, 9, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_command_line_says_beside_one_gate_counts_at_the_other() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    let two = another(&redis.config(), &one, |_| {}).await;
    // The command reads the time of the machine.
    for test_gate in [&one, &two] {
        test_gate.clock.set(SystemClock.now());
    }
    let file = one.data_dir.path().join("fortify.toml");
    let data_dir = one.app.config.storage.data_dir.display();
    std::fs::write(&file, format!("[storage]\ndata_dir = \"{data_dir}\"\n")).unwrap();
    let circuits = |action: &str| {
        let address = circuit(5).address().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fortify"));
        command.args(["circuits", "--config", file.to_str().unwrap(), action, &address]);
        assert!(command.status().unwrap().success());
    };
    circuits("ban");
    stands(&two, 5, Some(CircuitStatus::Banned)).await;
    circuits("reset");
    stands(&two, 5, None).await;
    circuits("promote");
    stands(&two, 5, Some(CircuitStatus::Trusted)).await;
    ban(&two, 6).await;
    stands(&one, 6, Some(CircuitStatus::Banned)).await;
    let address = circuit(6).address().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fortify"));
    command.args(["circuits", "--config", file.to_str().unwrap(), "reset", &address]);
    assert!(command.status().unwrap().success());
    stands(&two, 6, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_tells_whether_the_other_nodes_hear_of_it() {
    let mut redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    let two = another(&redis.config(), &one, |_| {}).await;
    let engine = &one.app.engine;
    let pin = async |level| {
        let why = DialChange {
            at: one.clock.now(),
            by: ChangedBy::Operator("a".to_owned()),
            reason: "test".to_owned(),
            signals: None,
        };
        let level = ThreatLevel::new(level).unwrap();
        engine.change_dial(why, move |dial| Some(dial.pin(level))).await.unwrap();
    };
    ban(&one, 1).await;
    assert_eq!(engine.reach().await, Reach::Cluster);
    pin(4).await;
    assert_eq!(engine.reach().await, Reach::Cluster);
    for change in ["ban", "dial", "revoke"] {
        redis.kill();
        until("the loss to be noticed", || async { !one.app.readiness().await.store }).await;
        match change {
            "ban" => ban(&one, 2).await,
            "dial" => pin(7).await,
            _ => {
                let session = Session::sample(7, one.clock.now().after(HOUR));
                assert_eq!(engine.revoke(&session).await.unwrap(), Reach::Node);
            }
        }
        assert_eq!(engine.reach().await, Reach::Node, "{change}");
        redis.run();
        until("the other to be told", || async { engine.reach_now() == Reach::Cluster }).await;
    }
    stands(&two, 2, Some(CircuitStatus::Banned)).await;
    until("the other to turn", || async { two.app.engine.dial().level.get() == 7 }).await;

    let alone = TestGate::start().await;
    ban(&alone, 1).await;
    assert_eq!(alone.app.engine.reach().await, Reach::Cluster, "one node is all of them");
}

/// Rotates the keys as `fortify keys rotate` does, beside a gate that runs.
fn rotate(test_gate: &TestGate) -> KeyRing {
    let config = &test_gate.app.config;
    let ring = KeyRing::load(&config.storage.data_dir).unwrap();
    ring.rotate(config.session.ttl, &*test_gate.clock, &SystemEntropy).unwrap();
    ring
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rotation_on_one_of_three_nodes_refuses_no_session_on_any() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    let two = another(&redis.config(), &one, |_| {}).await;
    let three = another(&redis.config(), &one, |_| {}).await;
    let gates = [&one, &two, &three];
    let (mut people, mut number) = (Vec::new(), 0);
    for _ in 0..2 {
        let ring = rotate(&one);
        let follows = |test_gate: &TestGate| {
            KeyRing::load(&test_gate.app.config.storage.data_dir).unwrap().note() == ring.note()
        };
        // Until all have followed somebody comes in at each of them, and everybody is let in by all.
        loop {
            let done = gates.into_iter().all(follows);
            for test_gate in gates {
                number += 1;
                let mut visitor = at(test_gate, &test_gate.visitor(), number);
                let page = visitor.get("/").await;
                test_gate.solve(&mut visitor, &page).await;
                people.push((visitor, number));
            }
            for (visitor, number) in &people {
                for test_gate in gates {
                    let reply = at(test_gate, visitor, *number).get("/api/session").await;
                    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
                }
            }
            if done {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    for test_gate in gates {
        assert!(!test_gate.app.engine.health().await.foreign_keys);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_with_other_keys_is_noticed_until_it_has_the_same() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    let stranger = gate(&redis.config(), |_| {}).await;
    let says = |test_gate: &TestGate| {
        let mut visitor = test_gate.visitor();
        async move { visitor.get("/ready").await.text().contains(r#""keys":"degraded""#) }
    };
    for test_gate in [&one, &stranger] {
        until("the other keys to be noticed", || says(test_gate)).await;
    }
    assert!(one.visitor().get("/metrics").await.text().contains("fortify_keys_foreign 1\n"));
    stranger.stop().await;
    let late = another(&redis.config(), &one, |_| {}).await;
    // What the stranger said counts for a minute.
    for test_gate in [&one, &late] {
        test_gate.clock.advance(KEYS_AGE + Duration::from_secs(1));
    }
    until("it to be over", || async { !says(&one).await && !says(&late).await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gate_that_starts_late_knows_the_statuses_in_force() {
    for servers in Servers::each() {
        let config = servers.config();
        let one = gate(&config, |_| {}).await;
        // More than one page of what Redis keeps.
        for number in 0..2500 {
            let until = one.clock.now().after(HOUR);
            one.app
                .engine
                .parts()
                .reputation
                .trust_in_background(circuit(10_000 + number), Session::sample(1, until), until)
                .unwrap();
        }
        ban(&one, 1).await;
        all_told(&one).await;
        let two = another(&config, &one, |_| {}).await;
        // It is ready when it knows, not before.
        assert_eq!(
            two.app.engine.parts().reputation.status(circuit(1)),
            Some(CircuitStatus::Banned)
        );
        assert_eq!(two.app.engine.parts().reputation.counts().trusted, 2500);
        assert!(is_banned(&at(&two, &two.visitor(), 1)).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ban_while_redis_is_away_counts_here_and_is_told_later() {
    let mut redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    let two = another(&redis.config(), &one, |_| {}).await;
    ban(&one, 1).await;
    stands(&two, 1, Some(CircuitStatus::Banned)).await;
    redis.kill();
    until("the loss to be noticed", || async { !one.app.readiness().await.store }).await;
    ban(&one, 2).await;
    assert!(is_banned(&at(&one, &one.visitor(), 2)).await);
    let seen = || async {
        let metrics = one.visitor().get("/metrics").await.text();
        metrics
            .lines()
            .any(|line| line.starts_with("fortify_replication_pending") && line.ends_with(" 1"))
    };
    until("the metric to say so", seen).await;
    // Empty: what both hold is in it again, for those who come later.
    redis.run();
    stands(&two, 2, Some(CircuitStatus::Banned)).await;
    all_told(&one).await;
    all_told(&two).await;
    let three = another(&redis.config(), &one, |_| {}).await;
    for number in [1, 2] {
        stands(&three, number, Some(CircuitStatus::Banned)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ban_that_was_not_told_before_a_restart_is_told_after_it() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    let until = one.clock.now().after(HOUR);
    let two = another(&redis.config(), &one, |data_dir| {
        let mut file = StatusDb::open(data_dir, 10, one.clock.now()).unwrap();
        let (status, since) = (CircuitStatus::Banned, one.clock.now());
        let row = StatusRow::new(circuit(3), status, since, until, StatusReason::Failures);
        file.apply(&[Write { yields: true, ..Write::of(row) }], since).unwrap();
    })
    .await;
    stands(&one, 3, Some(CircuitStatus::Banned)).await;
    drop(two);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_operators_word_is_not_overwritten_by_a_late_older_ban() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    let (before, second) = (one.clock.now(), Duration::from_secs(1));
    one.clock.advance(second);
    reset(&one, 4).await;
    // After the reset the visitor solves a challenge: Redis then has trust, to which a ban does not yield.
    one.clock.advance(second);
    let until_then = one.clock.now().after(HOUR);
    one.app
        .engine
        .parts()
        .reputation
        .trust(circuit(4), Session::sample(4, until_then), until_then)
        .await
        .unwrap();
    reset(&one, 5).await;
    all_told(&one).await;
    // A gate that was cut off since before comes with its bans.
    let two = another(&redis.config(), &one, |data_dir| {
        let mut file = StatusDb::open(data_dir, 10, before).unwrap();
        let (status, until) = (CircuitStatus::Banned, before.after(HOUR * 4));
        for number in [4, 5] {
            let circuit = circuit(number);
            let row = StatusRow::new(circuit, status, before, until, StatusReason::Score);
            file.apply(&[Write { yields: true, ..Write::of(row) }], before).unwrap();
        }
    })
    .await;
    stands(&two, 4, Some(CircuitStatus::Trusted)).await;
    stands(&two, 5, None).await;

    // Both cut off: a ban at one, and later at the other a reset after which the visitor solved.
    redis.signal(rustix::process::Signal::STOP);
    two.clock.set(one.clock.now());
    ban(&two, 6).await;
    one.clock.advance(second);
    reset(&one, 6).await;
    one.clock.advance(second);
    one.app
        .engine
        .parts()
        .reputation
        .trust(circuit(6), Session::sample(6, until_then), until_then)
        .await
        .unwrap();
    redis.signal(rustix::process::Signal::CONT);
    stands(&two, 6, Some(CircuitStatus::Trusted)).await;
    all_told(&one).await;
    all_told(&two).await;
    stands(&one, 6, Some(CircuitStatus::Trusted)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reset_is_used_up_once_for_all_gates() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), |parts| parts.config.security.max_captcha_failures = 3).await;
    let two = another(&redis.config(), &one, |_| {}).await;
    ban(&one, 8).await;
    stands(&two, 8, Some(CircuitStatus::Banned)).await;
    reset(&one, 8).await;
    let forgiven = || async {
        let row = two.app.engine.parts().reputation.row(circuit(8));
        row.is_some_and(|row| row.status == CircuitStatus::Normal)
    };
    until("the reset at the other gate", forgiven).await;
    assert!(at(&one, &one.visitor(), 8).get("/").await.is_challenge());
    let used = || async { two.app.engine.parts().reputation.row(circuit(8)).is_none() };
    until("the other gate to know that it is used up", used).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_04_a_gate_behind_another_tor_does_not_take_its_circuits_for_its_own() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), suspicious).await;
    let two = gate(&redis.config(), |parts| {
        let keys = one.app.config.storage.data_dir.join("keys.json");
        let data_dir = &parts.config.storage.data_dir;
        std::fs::create_dir_all(data_dir).unwrap();
        std::fs::copy(&keys, data_dir.join("keys.json")).unwrap();
        parts.config.tor.instance = 1;
        suspicious(parts);
    })
    .await;
    let three = another(&redis.config(), &one, |_| {}).await;
    ban(&one, 21).await;
    stands(&three, 21, Some(CircuitStatus::Banned)).await;
    // That a circuit is no more is said by the tor that it was of.
    let until_then = one.clock.now().after(HOUR);
    one.app
        .engine
        .parts()
        .reputation
        .trust(circuit(23), Session::sample(23, until_then), until_then)
        .await
        .unwrap();
    stands(&three, 23, Some(CircuitStatus::Trusted)).await;
    let closed = one.app.engine.parts().reputation.set(
        circuit(23),
        CircuitStatus::Normal,
        until_then,
        StatusReason::Closed,
    );
    closed.await.unwrap();
    all_told(&one).await;
    // What comes after them was heard after them.
    one.app.engine.parts().replication.record(tag(&one, 22), AnswerEvent::Bot);
    for other in [&two, &three] {
        let heard = || async {
            !other.app.engine.parts().answer_histories.suspicions(tag(&one, 22)).is_empty()
        };
        until("the event to be applied", heard).await;
    }
    assert_eq!(two.app.engine.parts().reputation.status_of_number(21), None);
    assert_eq!(
        three.app.engine.parts().reputation.status(circuit(23)),
        Some(CircuitStatus::Trusted)
    );
}

/// Answers that look like a program's count, as they do unless a test says otherwise.
fn suspicious(parts: &mut Parts) {
    parts.config.reputation.scoring.suspects = true;
}

/// Fills in what no person sees.
async fn fall_into_the_trap(test_gate: &TestGate, number: u32) -> StatusCode {
    let mut visitor = at(test_gate, &test_gate.visitor(), number);
    let page = visitor.get("/").await;
    let token = page.field("token");
    let names = fortify_web::traps::names(&token);
    let form = fields(&[("token", &token), ("answer", "NO"), (&names[0], "http://x")]);
    visitor.post_form("/validate-captcha", &form).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_circuit_does_at_two_gates_adds_up_to_one_ban() {
    for servers in Servers::each() {
        let config = servers.config();
        let one = gate(&config, suspicious).await;
        let two = another(&config, &one, |_| {}).await;
        fall_into_the_trap(&one, 11).await;
        assert_eq!(
            one.app.engine.parts().reputation.status(circuit(11)),
            None,
            "five points of ten"
        );
        let suspects = |test_gate: &TestGate| {
            test_gate.app.engine.parts().answer_histories.suspicions(tag(test_gate, 11))
                == [Suspicion::Bot]
        };
        let took = until("the other gate to suspect it", || async { suspects(&two) }).await;
        println!(r#"{{"test":"an event is applied","ms":{:.1}}}"#, took.as_secs_f64() * 1e3);
        assert!(suspects(&one));
        fall_into_the_trap(&two, 11).await;
        stands(&two, 11, Some(CircuitStatus::Banned)).await;
        stands(&one, 11, Some(CircuitStatus::Banned)).await;
        assert!(is_banned(&at(&one, &one.visitor(), 11)).await);

        // Times, too; and a gate that starts late has them. None counts twice where it was.
        for (number, test_gate) in [&one, &two, &one].into_iter().enumerate() {
            let took = Duration::from_millis(1000 + 200 * number as u64);
            test_gate
                .app
                .engine
                .parts()
                .replication
                .record(tag(test_gate, 12), AnswerEvent::Solved(took));
        }
        let quick = |test_gate: &TestGate| {
            test_gate.app.engine.parts().answer_histories.suspicions(tag(test_gate, 12))
                == [Suspicion::Quick]
        };
        until("three answers at both", || async { quick(&one) && quick(&two) }).await;
        one.app.engine.parts().replication.record(tag(&one, 13), AnswerEvent::Bot);
        let three = another(&config, &one, |_| {}).await;
        let heard = |test_gate: &TestGate| {
            test_gate.app.engine.parts().answer_histories.suspicions(tag(test_gate, 13))
                == [Suspicion::Bot]
        };
        until("the late gate to know", || async { quick(&three) && heard(&three) }).await;
        assert!(one.app.engine.parts().replication.record(tag(&one, 13), AnswerEvent::Bot));
        let again = AnswerEvent::Failed;
        until("both events at the third", || async {
            three.app.engine.parts().answer_histories.record(tag(&three, 13), again)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_events_is_counted_twice_where_it_was_done() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), suspicious).await;
    let two = another(&redis.config(), &one, |_| {}).await;
    for _ in 0..9 {
        assert!(!one.app.engine.parts().replication.record(tag(&one, 14), AnswerEvent::Failed));
    }
    // What comes after them was heard after them.
    two.app.engine.parts().replication.record(tag(&two, 15), AnswerEvent::Bot);
    one.app.engine.parts().replication.record(tag(&one, 16), AnswerEvent::Bot);
    let suspects = |test_gate: &TestGate, number| {
        test_gate.app.engine.parts().answer_histories.suspicions(tag(test_gate, number))
            == [Suspicion::Bot]
    };
    until("both to hear", || async { suspects(&one, 15) && suspects(&two, 16) }).await;
    two.app.engine.parts().replication.record(tag(&two, 17), AnswerEvent::Bot);
    until("one more", || async { suspects(&one, 17) }).await;
    assert!(
        one.app.engine.parts().replication.record(tag(&one, 14), AnswerEvent::Failed),
        "the tenth bans"
    );
    assert!(
        !one.app.engine.parts().replication.record(tag(&one, 16), AnswerEvent::Failed),
        "six points"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_event_counts_again_when_redis_restarts_with_its_data() {
    let mut redis = Redis::start(&[]);
    let one = gate(&redis.config(), suspicious).await;
    let two = another(&redis.config(), &one, |_| {}).await;
    let record = |test_gate: &TestGate, number, event| {
        test_gate.app.engine.parts().replication.record(tag(test_gate, number), event)
    };
    for _ in 0..5 {
        assert!(!record(&one, 14, AnswerEvent::Failed));
    }
    let suspects = |number| {
        two.app.engine.parts().answer_histories.suspicions(tag(&two, number)) == [Suspicion::Bot]
    };
    record(&one, 16, AnswerEvent::Bot);
    until("the other to hear", || async { suspects(16) }).await;
    assert_eq!(redis.tell(&["SAVE"]), "+OK");
    redis.kill();
    until("the loss to be noticed", || async { !two.app.readiness().await.store }).await;
    redis.run();
    for test_gate in [&one, &two] {
        let ready = || async { test_gate.app.readiness().await.is_ready() };
        until("the gate to be ready again", ready).await;
    }
    // What comes after them is heard after them.
    record(&one, 17, AnswerEvent::Bot);
    until("one more", || async { suspects(17) }).await;
    for _ in 0..4 {
        assert!(!record(&two, 14, AnswerEvent::Failed), "counted twice");
    }
    assert!(record(&two, 14, AnswerEvent::Failed), "the tenth bans");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gate_that_missed_rows_reads_everything() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    let two = another(&redis.config(), &one, |_| {}).await;
    ban(&one, 0x41).await;
    stands(&two, 0x41, Some(CircuitStatus::Banned)).await;
    // Another circuit's row, and an entry that is not the next: the log had been cut.
    let script = "
        local rows, log = 'fortify:{status}:rows', 'fortify:{status}:log'
        local name = redis.call('HKEYS', rows)[1]
        redis.call('HSET', rows, string.sub(name, 1, 9) .. 'B', redis.call('HGET', rows, name))
        local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1][2]
        redis.call('XADD', log, '*', 'n', last[2] + 5, 'r', last[4])
        return 1";
    assert_eq!(redis.tell(&["EVAL", script, "0"]), ":1");
    stands(&two, 0x42, Some(CircuitStatus::Banned)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gate_that_does_not_know_who_is_banned_admits_nobody() {
    let redis = Redis::start(&[]);
    assert!(redis.tell(&["SET", "fortify:{status}:rows", "x"]).starts_with("+OK"));
    let test_gate = unready(&redis.config(), |parts| {
        let any =
            |level| LevelOverride { admits: Some(Admits::Either), ..LevelOverride::of(level) };
        parts.config.threat.levels = ThreatLevel::ALL.map(any).to_vec();
    })
    .await;
    let until_then = test_gate.clock.now().after(HOUR);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .trust(circuit(1), Session::sample(1, until_then), until_then)
        .await
        .unwrap();
    let mut visitor = at(&test_gate, &test_gate.visitor(), 1);
    // The rest of the store works.
    let said = || async {
        let said = test_gate.app.engine.parts().store.ping().await.unwrap_err().to_string();
        said.contains("it is not known which circuits are banned")
    };
    until("the reason", said).await;
    assert_eq!(visitor.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    redis.tell(&["DEL", "fortify:{status}:rows"]);
    until("the gate to be ready", || async { test_gate.app.readiness().await.is_ready() }).await;
    assert_eq!(visitor.get("/").await.status, StatusCode::OK, "trusted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_kept_goes_when_its_time_is_over() {
    let redis = Redis::start(&[]);
    let one = gate(&redis.config(), |_| {}).await;
    // By Redis' clock what is banned here is over, and by the gate's not yet. That a circuit is no more is
    // told to nobody.
    let probe = circuit(9999);
    let (then, reputation) = (one.clock.now().after(HOUR), &one.app.engine.parts().reputation);
    reputation.set(probe, CircuitStatus::Normal, then, StatusReason::Closed).await.unwrap();
    one.clock.jump(SystemClock.now().before(HOUR * 2));
    let then = one.clock.now().after(HOUR);
    until("the gate to follow", || async {
        reputation.row(probe).is_some_and(|row| row.until == then)
    })
    .await;
    for number in 0..150 {
        ban(&one, number).await;
    }
    reset(&one, 3).await;
    all_told(&one).await;
    let rows = || redis.tell(&["HLEN", "fortify:{status}:rows"]);
    let ends = |status: &str| redis.tell(&["ZCARD", &format!("fortify:{{status}}:ends:{status}")]);
    until("the rows", || async { rows() == ":150" }).await;
    assert_eq!((ends("banned"), ends("reset")), (":149".to_owned(), ":1".to_owned()));
    one.clock.advance(HOUR + Duration::from_secs(60));
    for number in [1000, 1001] {
        ban(&one, number).await;
        all_told(&one).await;
    }
    until("the rows to go", || async { rows() == ":2" }).await;
    assert_eq!((ends("banned"), ends("reset")), (":2".to_owned(), ":0".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_documented_rights_are_enough() {
    let docs = include_str!("../../../../docs/redis.md");
    let rule = docs.split("```acl\n").nth(1).unwrap().split("\n```").next().unwrap();
    let rule = rule.replace("PASSWORD", "right").replace("\\\n", " ");
    let words: Vec<_> = rule.split_whitespace().skip(1).collect();
    for servers in Servers::each() {
        let nodes: Vec<&Redis> = match &servers {
            Servers::Single(redis) => vec![redis],
            Servers::Cluster(cluster) => cluster.nodes.iter().collect(),
        };
        for node in &nodes {
            assert_eq!(node.tell(&[&["ACL", "SETUSER"], &words[..]].concat()), "+OK");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "right\n").unwrap();
        let user = Some(words[0].to_owned());
        let config = RedisConfig { user, password_file: Some(file), ..servers.config() };
        let one = gate(&config, |_| {}).await;
        let two = another(&config, &one, |_| {}).await;
        for number in 0..3 {
            ban(&one, number).await;
            one.app.engine.parts().replication.record(tag(&one, number), AnswerEvent::Bot);
            stands(&two, number, Some(CircuitStatus::Banned)).await;
            one.clock.advance(HOUR * 2);
        }
        all_told(&one).await;
        for node in nodes {
            assert_eq!(node.tell(&["ACL", "LOG"]), "*0", "a command was denied");
        }
    }
}

/// The number of pages that pass of as many as are asked for at both gates at once.
async fn flood(gates: [&TestGate; 2], visitor: &Visitor, pages: usize) -> usize {
    let at_one = |gate: &TestGate| {
        let mut visitor = at(gate, visitor, 1);
        async move {
            let mut passed = 0;
            for _ in 0..pages {
                passed += usize::from(visitor.get("/articles/1").await.status == StatusCode::OK);
            }
            passed
        }
    };
    let [here, there] = gates;
    let (here, there) = tokio::join!(at_one(here), at_one(there));
    here + there
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_at_full_speed_on_two_nodes_spends_one_budget() {
    let servers = Servers::Single(Redis::start(&[]));
    let row = |level| LevelOverride {
        challenges_per_hour: Some(10_000),
        admits: Some(Admits::Either),
        pages_per_minute: Some(60),
        page_burst: Some(40),
        pages_per_session: Some(120),
        sessions_per_hour: Some(5),
        ..LevelOverride::of(level)
    };
    let levels = ThreatLevel::ALL.map(row).to_vec();
    let one = gate(&servers.config(), |parts| parts.config.threat.levels = levels).await;
    let two = another(&servers.config(), &one, |_| ()).await;
    let mut visitor = at(&one, &one.visitor(), 1);
    let page = visitor.get("/").await;
    assert_eq!(one.solve(&mut visitor, &page).await.status, StatusCode::SEE_OTHER);

    // A lease is four pages, and a node holds at most one and a half that it cannot spend.
    let burst = flood([&one, &two], &visitor, 100).await;
    assert!((28..=40).contains(&burst), "{burst} pages at once");
    let pass = |seconds| [&one, &two].map(|gate| gate.clock.advance(Duration::from_secs(seconds)));
    pass(20);
    let in_twenty = flood([&one, &two], &visitor, 60).await;
    assert!((8..=20 + 12).contains(&in_twenty), "{in_twenty} pages in 20 s");
    assert!(burst + in_twenty <= 60);
    let mut all = burst + in_twenty;
    for _ in 0..10 {
        pass(60);
        all += flood([&one, &two], &visitor, 60).await;
    }
    assert!((96..=120).contains(&all), "{all} of 120 pages, of which four are kept for assets");
    // A node that never saw the session knows it too, also where nothing is paid.
    let three = another(&servers.config(), &one, |_| ()).await;
    let asked = at(&three, &visitor, 1).get_with("/api/session", &[]).await;
    assert_eq!(asked.status, StatusCode::FORBIDDEN, "{}", asked.text());
    for gate in [&one, &two, &three] {
        assert!(at(gate, &visitor, 1).get("/articles/1").await.is_challenge());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_store_leases_nothing_spends_what_it_holds_and_then_refuses() {
    let away = Arc::new(AtomicBool::new(false));
    let probe = away.clone();
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        // Over a store of its own, as if it were shared.
        parts.config.storage.backend = StorageBackend::Redis;
        std::fs::create_dir_all(&parts.config.storage.data_dir).unwrap();
        let store = Arc::new(memory_store(&parts.config.storage.data_dir));
        let fails = move |verb: &'static str| match verb {
            "lease_budget" if probe.load(Ordering::Relaxed) => {
                Err(StoreError::Unavailable("away".to_owned()))
            }
            _ => Ok(()),
        };
        parts.store = Some(ProbedStore::new(store, Box::new(fails)));
        let row = |level| LevelOverride {
            page_burst: Some(100),
            pages_per_minute: Some(60),
            pages_per_session: Some(1000),
            ..LevelOverride::of(level)
        };
        parts.config.threat.levels = ThreatLevel::ALL.map(row).to_vec();
    })
    .await;
    let mut visitor = at(&test_gate, &test_gate.visitor(), 1);
    let page = visitor.get("/").await;
    assert_eq!(test_gate.solve(&mut visitor, &page).await.status, StatusCode::SEE_OTHER);
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
    away.store(true, Ordering::Relaxed);
    let mut passed = 0;
    while visitor.get("/articles/1").await.status == StatusCode::OK {
        passed += 1;
    }
    assert!(passed < 25, "{passed}: two leases of ten, and what opened the budget");
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::SERVICE_UNAVAILABLE);
    away.store(false, Ordering::Relaxed);
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
}

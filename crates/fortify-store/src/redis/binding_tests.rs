//! Sessions that move, with several nodes and failures of Redis.

use std::sync::Arc;
use std::time::Duration;

use super::follower::MAX_STALENESS;
use super::tests::server::{Cluster, Redis, until};
use super::tests::{fixture, ready, step};
use super::*;
use crate::contract;
use fortify_core::entropy::SystemEntropy;

fn session() -> SessionId {
    SessionId::random(&SystemEntropy).unwrap()
}

fn circuit(number: u8) -> CircuitTag {
    CircuitTag::from_bytes([number; 16])
}

async fn stands(store: &RedisStore, session: SessionId, status: SessionState) -> bool {
    store.session_state(session).await.is_ok_and(|found| found == status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_17_a_move_reaches_other_nodes_and_use_where_it_left_ends_it_on_all() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start());
    for config in [redis.config(), cluster.config()] {
        let (one, two) = (fixture(&config, 3).await, fixture(&config, 3).await);
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let moving = session();
            assert_eq!(
                one.store.move_session(moving, step(1, 2)).await.unwrap(),
                MoveOutcome::Moved
            );
            let lives = SessionState::BoundTo(circuit(2));
            let met = || stands(&two.store, moving, lives);
            slowest = slowest.max(until("the other node to know", met).await);
            let shared = two.store.move_session(moving, step(1, 1)).await.unwrap();
            assert_eq!(shared, MoveOutcome::Shared);
            let ended = || stands(&one.store, moving, SessionState::Revoked);
            slowest = slowest.max(until("the end to be known", ended).await);
            let again = one.store.move_session(moving, step(2, 3)).await.unwrap();
            assert_eq!(again, MoveOutcome::Revoked);
        }
        assert!(slowest < MAX_STALENESS, "{slowest:?}");
        println!(r#"{{"test":"moves","slowest_ms":{:.1}}}"#, slowest.as_secs_f64() * 1e3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_17_a_node_that_did_not_hear_yet_decides_by_what_redis_knows() {
    let redis = Redis::start(&[]);
    let (one, two) = (fixture(&redis.config(), 3).await, fixture(&redis.config(), 3).await);
    // It no longer receives anything, and takes what it has for current.
    two.store.follower.abort();
    let in_an_hour = tokio::time::Instant::now() + Duration::from_secs(3600);
    two.store.fresh.confirm(in_an_hour);
    let moving = session();
    for (from, to) in [(1, 2), (2, 3)] {
        let moved = one.store.move_session(moving, step(from, to)).await.unwrap();
        assert_eq!(moved, MoveOutcome::Moved);
    }
    // Its visitor, with the newest cookie, is not a second holder.
    assert_eq!(
        two.store.move_session(moving, step(2, 3)).await.unwrap(),
        MoveOutcome::AlreadyBound
    );
    assert_eq!(two.store.move_session(moving, step(1, 4)).await.unwrap(), MoveOutcome::Moved);
    assert_eq!(two.store.move_session(moving, step(1, 5)).await.unwrap(), MoveOutcome::Refused);
    assert_eq!(two.store.move_session(moving, step(9, 2)).await.unwrap(), MoveOutcome::Shared);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_17_of_simultaneous_moves_on_two_nodes_as_many_as_may_succeed() {
    let redis = Redis::start(&[]);
    let beds = [fixture(&redis.config(), 3).await, fixture(&redis.config(), 3).await];
    for most in [1, 3] {
        let moving = session();
        let barrier = Arc::new(tokio::sync::Barrier::new(64));
        let moves: Vec<_> = (0..64)
            .map(|number| {
                let store = beds[usize::from(number) % 2].store.clone();
                let (barrier, step) =
                    (barrier.clone(), MoveRequest { most, ..step(1, 10 + number) });
                tokio::spawn(async move {
                    barrier.wait().await;
                    (step.to, store.move_session(moving, step).await.unwrap())
                })
            })
            .collect();
        let mut reached = Vec::new();
        for one in moves {
            match one.await.unwrap() {
                (to, MoveOutcome::Moved) => reached.push(to),
                (_, other) => assert_eq!(other, MoveOutcome::Refused),
            }
        }
        assert_eq!(reached.len(), most as usize);
        until("both to have the session on one circuit", || async {
            let [one, two] =
                [&beds[0], &beds[1]].map(|fixture| fixture.store.moves.binding(&moving));
            one.moves().len() == reached.len() && one.encode() == two.encode()
        })
        .await;
        let SessionState::BoundTo(now) = beds[0].store.session_state(moving).await.unwrap() else {
            panic!("it lives nowhere");
        };
        assert!(reached.contains(&now));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_a_circuit_that_was_left_stays_left_when_redis_comes_back_empty() {
    let mut redis = Redis::start(&[]);
    let (one, two) = (fixture(&redis.config(), 3).await, fixture(&redis.config(), 3).await);
    let sessions: Vec<_> = (0..50).map(|_| session()).collect();
    for moving in &sessions {
        for (from, to) in [(1, 2), (2, 3)] {
            let moved = one.store.move_session(*moving, step(from, to)).await.unwrap();
            assert_eq!(moved, MoveOutcome::Moved);
        }
    }
    redis.kill();
    for fixture in [&one, &two] {
        until("the loss to be noticed", || async { fixture.store.ping().await.is_err() }).await;
        assert!(fixture.store.move_session(session(), step(1, 2)).await.is_err());
        let away = fixture.store.move_session(sessions[0], step(3, 4)).await;
        assert!(away.is_err(), "moved without Redis: {away:?}");
    }
    redis.run();
    ready(&one.store).await;
    ready(&two.store).await;
    // A new node reads their bindings from Redis; the other nodes still know them.
    let new = fixture(&redis.config(), 3).await;
    let mut beds = [&one, &two, &new].into_iter().cycle();
    for moving in &sessions {
        for fixture in [&one, &two, &new] {
            assert!(stands(&fixture.store, *moving, SessionState::BoundTo(circuit(3))).await);
        }
        let (fixture, other) = (beds.next().unwrap(), beds.next().unwrap());
        // The third of three moves is allowed, and the fourth is refused.
        assert_eq!(
            fixture.store.move_session(*moving, step(1, 4)).await.unwrap(),
            MoveOutcome::Moved
        );
        assert_eq!(
            other.store.move_session(*moving, step(4, 5)).await.unwrap(),
            MoveOutcome::Refused
        );
        assert_eq!(
            other.store.move_session(*moving, step(1, 2)).await.unwrap(),
            MoveOutcome::Shared
        );
        assert!(stands(&other.store, *moving, SessionState::Revoked).await);
    }
    // A flush closes no connection and is noticed all the same.
    assert_eq!(redis.tell(&["FLUSHALL"]), "+OK");
    let key = "fortify:{revocations}:moves";
    until("the log to be written back", || async { redis.tell(&["EXISTS", key]) == ":1" }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_27_a_circuit_that_was_left_stays_left_over_a_restart_of_everything() {
    let mut redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 3).await;
    let moving = session();
    assert_eq!(fixture.store.move_session(moving, step(1, 2)).await.unwrap(), MoveOutcome::Moved);
    let (clock, data_dir) = (fixture.clock.clone(), fixture.data_dir.path());
    fixture.store.follower.abort();
    redis.kill();
    redis.run();
    let entropy = Arc::new(SystemEntropy);
    let again = RedisStore::open(clock, entropy, &redis.config(), 3, data_dir).unwrap();
    ready(&again).await;
    assert_eq!(again.session_state(moving).await.unwrap(), SessionState::BoundTo(circuit(2)));
    assert_eq!(redis.tell(&["XLEN", "fortify:{revocations}:moves"]), ":1");
    assert_eq!(again.move_session(moving, step(1, 1)).await.unwrap(), MoveOutcome::Shared);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_17_what_redis_drops_for_want_of_memory_the_nodes_still_know() {
    let redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 3).await;
    let (moving, once) = (session(), |from, to| MoveRequest { most: 1, ..step(from, to) });
    let key = fixture.store.keys.binding(moving);
    assert_eq!(fixture.store.move_session(moving, step(1, 2)).await.unwrap(), MoveOutcome::Moved);
    assert_eq!(redis.tell(&["DEL", &key]), ":1");
    assert_eq!(fixture.store.move_session(moving, once(2, 3)).await.unwrap(), MoveOutcome::Refused);
    assert_eq!(fixture.store.move_session(moving, step(2, 3)).await.unwrap(), MoveOutcome::Moved);
    assert_eq!(redis.tell(&["STRLEN", &key]), ":128", "both moves are there again");
    assert_eq!(fixture.store.move_session(moving, step(3, 1)).await.unwrap(), MoveOutcome::Shared);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_is_kept_as_long_as_it_lives_and_a_little_longer() {
    let redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 3).await;
    let moving = session();
    fixture.store.move_session(moving, step(1, 2)).await.unwrap();
    let ttl = redis.tell(&["PTTL", &fixture.store.keys.binding(moving)]);
    let ttl: u64 = ttl.trim_start_matches(':').parse().unwrap();
    assert!((3_600_000..=3_605_000).contains(&ttl), "{ttl} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_log_of_moves_refuses_one_and_loses_what_ended() {
    let redis = Redis::start(&[]);
    let mut fixture = fixture(&redis.config(), 3).await;
    Arc::get_mut(&mut fixture.store).unwrap().most_moves = 2;
    let sessions = [(); 3].map(|()| session());
    for moving in &sessions[..2] {
        assert_eq!(
            fixture.store.move_session(*moving, step(1, 2)).await.unwrap(),
            MoveOutcome::Moved
        );
    }
    let refused = fixture.store.move_session(sessions[2], step(1, 2)).await.unwrap();
    assert_eq!(refused, MoveOutcome::Refused);
    assert!(stands(&fixture.store, sessions[2], SessionState::Unmoved).await);
    fixture.store.revoke_session(sessions[2], step(1, 2).until).await.expect("log-outs have room");

    let over = Duration::from_secs(3600);
    let next = MoveRequest { until: contract::START.after(over * 2), ..step(1, 2) };
    fixture.clock.advance(over);
    let early = fixture.store.move_session(session(), next).await.unwrap();
    assert_eq!(early, MoveOutcome::Refused, "another node's clock may be behind");
    fixture.clock.advance(GRACE);
    assert_eq!(fixture.store.move_session(session(), next).await.unwrap(), MoveOutcome::Moved);
    assert_eq!(redis.tell(&["XLEN", "fortify:{revocations}:moves"]), ":1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_what_is_no_move_is_a_refusal() {
    let redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 3).await;
    for value in ["x", &"x".repeat(64), &"x".repeat(65)] {
        let moving = session();
        let key = fixture.store.keys.binding(moving);
        redis.tell(&["SET", &key, value]);
        let said = fixture.store.move_session(moving, step(1, 2)).await.unwrap_err().to_string();
        assert!(said.contains("storage.prefix") && !said.contains("xx"), "{said}");
        redis.tell(&["DEL", &key]);
        redis.tell(&["LPUSH", &key, value]);
        let said = fixture.store.move_session(moving, step(1, 2)).await.unwrap_err().to_string();
        assert!(said.contains("WRONGTYPE"), "{said}");
        assert!(stands(&fixture.store, moving, SessionState::Unmoved).await);
    }
    assert!(fixture.store.ping().await.is_ok(), "one bad value is not the end of the store");
    // An entry of the log that cannot be read may be any session's move.
    redis.tell(&["XADD", "fortify:{revocations}:moves", "*", "m", "x", "u", "1"]);
    until("everybody to be refused", || async {
        fixture.store.session_state(session()).await.is_err()
    })
    .await;
}

//! A whole gate over a real Redis that is killed, emptied, filled and stopped under it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use fortify_captcha::{Answer, Carrier};
use fortify_config::{RedisConfig, StorageBackend};
use fortify_core::circuit::IdentityMode;
use fortify_core::entropy::{SystemEntropy, random_bytes};
use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::{ChallengeRecord, ChallengeToken, Place, Secret};
use fortify_testkit::redis::{PATIENCE, Redis, until};
use fortify_testkit::{Reply, TestGate, Visitor, fields};

/// What a visitor is promised: a refusal within the store's deadline, and some for the machine.
const IN_TIME: Duration = Duration::from_millis(600);

async fn gate(redis: &Redis) -> TestGate {
    let test_gate = TestGate::with(|parts| {
        parts.config.storage.backend = StorageBackend::Redis;
        parts.config.storage.redis = redis.config();
    })
    .await;
    is_ready(&test_gate).await;
    test_gate
}

async fn is_ready(test_gate: &TestGate) -> Duration {
    until("the gate to be ready", || async { test_gate.app.readiness().await.is_ready() }).await
}

/// Asks for a page and solves its challenge, as far as the gate lets it.
async fn way_in(test_gate: &TestGate, visitor: &mut Visitor) -> Reply {
    let page = visitor.get("/").await;
    let Some(token) = page.try_field("token") else { return page };
    let token = token.parse().unwrap();
    let Ok(Some(record)) = test_gate.app.engine.parts().store.challenge(&token).await else {
        return page;
    };
    let answer = Answer::decode(record.answer.expose()).unwrap().reveal();
    test_gate.submit(visitor, &page, &answer).await
}

fn is_refusal(reply: &Reply) -> bool {
    reply.status == StatusCode::SERVICE_UNAVAILABLE && reply.header("retry-after").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_redis_killed_under_load_and_started_empty_admits_nobody_meanwhile() {
    let mut redis = Redis::start(&[]);
    let test_gate = Arc::new(gate(&redis).await);
    let mut member = test_gate.admitted().await;
    let mut left = test_gate.admitted().await;
    let cookies = left.cookies.clone();
    assert_eq!(left.post_form("/api/session/logout", &[]).await.status, StatusCode::OK);

    let (away, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let counts = Arc::new([const { AtomicU32::new(0) }; 3]);
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (test_gate, away, over) = (test_gate.clone(), away.clone(), over.clone());
            let counts = counts.clone();
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    // Only what began and ended while Redis was away was without it for certain.
                    let began_away = away.load(Ordering::SeqCst);
                    let (mut visitor, started) = (test_gate.visitor(), Instant::now());
                    let reply = way_in(&test_gate, &mut visitor).await;
                    let without = began_away && away.load(Ordering::SeqCst);
                    if without {
                        assert!(!reply.admits(), "a session without a store");
                        assert!(is_refusal(&reply), "{}", reply.status);
                        assert!(started.elapsed() < IN_TIME, "{:?}", started.elapsed());
                    }
                    let admitted = usize::from(reply.admits());
                    counts[if without { 2 } else { admitted }].fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let count = |which: usize| counts[which].load(Ordering::SeqCst);
    until("some to be admitted", || async { count(1) > 100 }).await;
    redis.kill();
    away.store(true, Ordering::SeqCst);
    until("many to be refused", || async { count(2) > 100 }).await;
    // A session is believed for a while without news, and then no more.
    let mut asking = member.clone();
    let refused = Instant::now();
    while !is_refusal(&asking.get("/").await) {
        assert!(refused.elapsed() < Duration::from_secs(4), "believed for too long");
    }
    assert!(!test_gate.app.readiness().await.store);

    away.store(false, Ordering::SeqCst);
    redis.run();
    let started = Instant::now();
    let back = is_ready(&test_gate).await;
    let before = count(1);
    until("somebody to be admitted again", || async { count(1) > before }).await;
    let admits = started.elapsed();
    assert!(admits < Duration::from_secs(3), "{admits:?}");
    over.store(true, Ordering::SeqCst);
    for one in load {
        one.await.unwrap();
    }
    assert_eq!(member.get("/").await.status, StatusCode::OK, "a session did not outlive Redis");
    let mut thief = test_gate.visitor();
    thief.cookies = cookies;
    assert!(thief.get("/").await.is_challenge(), "a log-out did not outlive Redis");
    println!(
        r#"{{"test":"redis killed under load","admitted":{},"refused_meanwhile":{},"ready_ms":{:.0},"admits_ms":{:.0}}}"#,
        count(1),
        count(2),
        back.as_secs_f64() * 1e3,
        admits.as_secs_f64() * 1e3
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_every_address_is_refused_with_503_while_the_store_is_away() {
    let mut redis = Redis::start(&[]);
    let test_gate = gate(&redis).await;
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    let token = page.field("token");
    redis.kill();
    until("the loss to be noticed", || async { !test_gate.app.readiness().await.store }).await;
    let json = serde_json::json!({"challenge_id": token, "solution": "ACDEFH"});
    let answer = fields(&[("answer", "ACDEFH"), ("token", &token), ("return_to", "/")]);
    let replies = [
        visitor.get("/").await,
        visitor.get(&format!("/captcha/{token}.png")).await,
        visitor.get("/api/captcha-image?challenge=new").await,
        visitor.send(Method::POST, "/captcha/generate", &[], axum::body::Body::empty()).await,
        visitor.post_json("/verify-captcha", &json).await,
        visitor.post_form("/validate-captcha", &answer).await,
    ];
    for (number, reply) in replies.iter().enumerate() {
        assert!(is_refusal(reply), "{number}: {} {}", reply.status, reply.text());
        assert!(!reply.text().contains("Redis"), "told a visitor what is behind");
    }
    assert_eq!(visitor.get("/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(visitor.get("/health").await.status, StatusCode::OK);
    redis.run();
    is_ready(&test_gate).await;
    assert!(way_in(&test_gate, &mut test_gate.visitor()).await.admits());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_a_hostile_token_never_reaches_a_key() {
    let redis = Redis::start(&[]);
    let test_gate = gate(&redis).await;
    let mut monitor = TcpStream::connect(("127.0.0.1", redis.port)).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut visitor = test_gate.visitor();
    let long = "h0st1le".repeat(10_000);
    let hostile = [
        "h0st1le",
        "h0st1le\r\nFLUSHALL\r\n",
        "*h0st1le*",
        "{h0st1le}",
        "../h0st1le",
        "h0st1le:fortify:captcha:",
        "h0st1le\u{0}",
        "h0st1leAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "h0st1leAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB",
        &long[..20_000],
    ];
    for token in hostile {
        let answer = fields(&[("answer", "ACDEFH"), ("token", token), ("return_to", "/")]);
        visitor.post_form("/validate-captcha", &answer).await;
        let json = serde_json::json!({"challenge_id": token, "solution": "ACDEFH"});
        visitor.post_json("/verify-captcha", &json).await;
        let path = percent_encoding::utf8_percent_encode(
            &token[..token.len().min(500)],
            percent_encoding::NON_ALPHANUMERIC,
        );
        visitor.get(&format!("/captcha/{path}.png")).await;
    }
    assert!(redis.tell(&["SET", "end-of-the-test", "1"]).starts_with("+OK"));
    let (mut seen, mut buffer) = (String::new(), [0; 65_536]);
    monitor.set_read_timeout(Some(PATIENCE)).unwrap();
    while !seen.contains("end-of-the-test") {
        let length = monitor.read(&mut buffer).unwrap();
        assert!(length > 0, "the monitor was closed");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    assert!(seen.contains("fortify:captcha:"), "the commands were not seen");
    assert!(!seen.contains("h0st1le"), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_gates_over_one_redis_are_one() {
    let redis = Redis::start(&[]);
    let one = gate(&redis).await;
    let keys = one.app.config.storage.data_dir.join("keys.json");
    let two = TestGate::with(|parts| {
        parts.config.storage.backend = StorageBackend::Redis;
        parts.config.storage.redis = redis.config();
        // Nodes of one site share their keys.
        let data_dir = &parts.config.storage.data_dir;
        std::fs::create_dir_all(data_dir).unwrap();
        std::fs::copy(&keys, data_dir.join("keys.json")).unwrap();
    })
    .await;
    is_ready(&two).await;

    // Issued by one, drawn and solved at the other.
    let mut visitor = one.visitor();
    let page = visitor.get("/").await;
    visitor.address = two.address;
    let picture = visitor.get(&format!("/captcha/{}.png", page.field("token"))).await;
    assert_eq!(picture.status, StatusCode::OK);
    let answer = one.answer(&page.field("token")).await;
    assert!(two.submit(&mut visitor, &page, &answer).await.admits());
    visitor.address = one.address;
    assert_eq!(visitor.get("/").await.status, StatusCode::OK);

    // Logged out at one, out at the other.
    let mut thief = two.visitor();
    thief.cookies = visitor.cookies.clone();
    assert_eq!(visitor.post_form("/api/session/logout", &[]).await.status, StatusCode::OK);
    let refused = || {
        let mut thief = thief.clone();
        async move { thief.get("/").await.is_challenge() }
    };
    until("the other gate to know", refused).await;
}

/// The same browser on another circuit, at another node.
fn on(visitor: &Visitor, circuit: usize, test_gate: &TestGate) -> Visitor {
    let mut visitor = visitor.clone().circuit(&format!("fc00:dead:beef:4dad::{circuit:x}"));
    visitor.address = test_gate.address;
    visitor
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_17_a_session_moves_at_one_gate_and_is_over_where_it_left_at_another() {
    let redis = Redis::start(&[]);
    let config = redis.config();
    let change = |parts: &mut fortify_testkit::Parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.storage.backend = StorageBackend::Redis;
        parts.config.storage.redis = config.clone();
    };
    let one = TestGate::with(change).await;
    is_ready(&one).await;
    let keys = one.app.config.storage.data_dir.join("keys.json");
    let two = TestGate::with(|parts| {
        change(parts);
        let data_dir = &parts.config.storage.data_dir;
        std::fs::create_dir_all(data_dir).unwrap();
        std::fs::copy(&keys, data_dir.join("keys.json")).unwrap();
    })
    .await;
    is_ready(&two).await;

    let mut first = on(&one.visitor(), 1, &one);
    assert!(way_in(&one, &mut first).await.admits());
    let mut second = on(&first, 2, &one);
    assert_eq!(second.get("/").await.status, StatusCode::OK, "it does not move");
    assert_ne!(second.cookies["cerberus_session"], first.cookies["cerberus_session"]);
    // Its new cookie is good at the other gate at once, heard of or not.
    assert_eq!(on(&second, 2, &two).get("/").await.status, StatusCode::OK);
    let left = || async { on(&first, 1, &two).get("/").await.is_challenge() };
    until("the circuit that was left to be refused", left).await;
    let ended = || async { on(&second, 2, &one).get("/").await.is_challenge() };
    until("the session to be over", ended).await;
}

/// Challenges that the requirement names.
const MANY: usize = 100_000;

/// How many put them at once.
const WORKERS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_thousand_challenges_take_at_most_64_mb() {
    // The largest record there is (eight letters, a moving picture, and what only programs read)
    // and the most keys for it: each circuit has one.
    let redis = Redis::start(&[]);
    let test_gate = TestGate::with(|parts| {
        parts.config.storage.backend = StorageBackend::Redis;
        // What is measured is memory: a busy machine may take its time.
        parts.config.storage.redis = RedisConfig { timeout: PATIENCE, ..redis.config() };
        parts.config.captcha.level = 10;
        parts.config.captcha.length = 8;
        parts.config.captcha.carrier_weights = vec![(Carrier::Motion, 1)];
    })
    .await;
    is_ready(&test_gate).await;
    let page = test_gate.visitor().get("/").await;
    let token = page.field("token").parse().unwrap();
    let sample =
        Arc::new(test_gate.app.engine.parts().store.challenge(&token).await.unwrap().unwrap());
    assert!(sample.decoy.is_some());

    let before: u64 = redis.info("used_memory").parse().unwrap();
    let started = Instant::now();
    let workers = (0..WORKERS).map(|_| {
        let (app, sample) = (test_gate.app.clone(), sample.clone());
        tokio::spawn(async move {
            for _ in 0..MANY / WORKERS {
                let record = ChallengeRecord {
                    circuit: CircuitTag::from_bytes(random_bytes(&SystemEntropy).unwrap()),
                    seed: Secret::new(random_bytes(&SystemEntropy).unwrap()),
                    ..(*sample).clone()
                };
                let token = ChallengeToken::random(&SystemEntropy).unwrap();
                app.engine
                    .parts()
                    .store
                    .put_challenge(&token, record, Place::Beside(None))
                    .await
                    .unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let used: u64 = redis.info("used_memory").parse().unwrap();
    println!(
        r#"{{"test":"live challenges in redis","challenges":{MANY},"per_circuit":1,"{}","used_memory_mb":{:.1},"bytes_each":{},"puts_per_s":{:.0}}}"#,
        redis.info("db0").split(',').next().unwrap_or_default().replace('=', "\":\""),
        used as f64 / 1e6,
        (used - before) / MANY as u64,
        MANY as f64 / started.elapsed().as_secs_f64()
    );
    assert!(used <= 64_000_000, "{used} bytes");
}

//! How long the gate takes: to judge an answer and to decide about a request, in process and over
//! HTTP on loopback. One JSON line each; `/health` beside them is what HTTP alone costs here.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints and may stop"
)]

use std::time::{Duration, Instant};

use fortify_captcha::Answer;
use fortify_config::{RedisAddress, RedisServer, StorageBackend};
use fortify_core::circuit::{AddressBlock, CircuitId, PeerAddress};
use fortify_engine::challenge::policy::ChallengeRequest;
use fortify_engine::challenge::{RedeemOutcome, Redeemed, Submission};
use fortify_store::record::{ChallengeToken, Place};
use fortify_testkit::TestGate;

/// Samples of each line: enough for a 99th percentile of ten values beyond it.
const SAMPLES: usize = 2_000;

/// Rounds over HTTP of one minute of the bed's clock, two challenges each: fewer than the bed lets one
/// visitor ask for.
const ROUNDS_A_MINUTE: usize = 400;

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let test_gate = TestGate::with(|parts| parts.config.captcha.max_active = 100_000).await;
    redeem_in_process(&test_gate, "in process").await;
    decide_in_process(&test_gate, "in process").await;
    over_http(&test_gate).await;
    test_gate.stop().await;
    over_redis().await;
}

/// What a store of its own process costs beside one in Redis on this machine: over TCP, and over a
/// socket.
async fn over_redis() {
    if std::process::Command::new("redis-server").arg("--version").output().is_err() {
        println!(r#"{{"bench":"redis","skipped":"redis-server is not installed"}}"#);
        return;
    }
    let redis = fortify_testkit::redis::Redis::start(&[]);
    let socket = RedisAddress::Unix(redis.socket());
    for (place, address) in
        [("redis over tcp", redis.config().servers[0].address.clone()), ("redis, socket", socket)]
    {
        let test_gate = TestGate::with(|parts| {
            parts.config.storage.backend = StorageBackend::Redis;
            parts.config.storage.redis.servers = vec![RedisServer { address, database: 0 }];
        })
        .await;
        fortify_testkit::redis::until("redis", || async {
            test_gate.app.engine.parts().store.ping().await.is_ok()
        })
        .await;
        redeem_in_process(&test_gate, place).await;
        decide_in_process(&test_gate, place).await;
        test_gate.stop().await;
    }
}

async fn redeem_in_process(test_gate: &TestGate, place: &str) {
    let peer = AddressBlock::of(&PeerAddress::Tcp([127, 0, 0, 1].into()));
    let circuit = test_gate.app.engine.parts().pseudonyms.tag(&CircuitId::Peer(peer));
    let mut times = Vec::with_capacity(SAMPLES);
    let mut issue = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let started = Instant::now();
        let issued = test_gate
            .app
            .engine
            .parts()
            .challenges
            .issue(circuit, ChallengeRequest::default(), false, Place::Beside(None))
            .await
            .unwrap();
        issue.push(started.elapsed());
        let Ok((issued, _)) = issued else { panic!("another challenge stays") };
        let answer = answer(test_gate, &issued.token).await;
        let token = issued.token.encode();
        let started = Instant::now();
        let redeemed = test_gate
            .app
            .engine
            .parts()
            .challenges
            .redeem(Submission { token: &token, answer: &answer, trapped: false }, circuit, false)
            .await
            .unwrap();
        times.push(started.elapsed());
        let Redeemed::Checked(redemption) = redeemed else { panic!("it is gone") };
        assert!(matches!(redemption.redeemed, RedeemOutcome::Solved { .. }));
    }
    print("issue", place, issue);
    print("redeem", place, times);
}

async fn decide_in_process(test_gate: &TestGate, place: &str) {
    let peer = AddressBlock::of(&PeerAddress::Tcp([127, 0, 0, 1].into()));
    let circuit = test_gate.app.engine.parts().pseudonyms.tag(&CircuitId::Peer(peer));
    let tokens = [test_gate.app.engine.parts().sessions.mint(circuit, 5).unwrap().token];
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let started = Instant::now();
        let session =
            test_gate.app.engine.parts().sessions.check(&tokens, circuit, |_| {}).await.unwrap();
        times.push(started.elapsed());
        assert!(session.is_some());
    }
    print("decision", place, times);
}

async fn over_http(test_gate: &TestGate) {
    let mut visitor = test_gate.admitted().await;
    let mut health = Vec::with_capacity(SAMPLES);
    let mut decision = Vec::with_capacity(SAMPLES);
    let mut redeem = Vec::with_capacity(SAMPLES);
    let mut page = Vec::with_capacity(SAMPLES);
    let mut stranger = test_gate.visitor();
    for round in 1..=SAMPLES {
        if round % ROUNDS_A_MINUTE == 0 {
            test_gate.clock.advance(Duration::from_secs(60));
        }
        health.push(timed(visitor.get("/health")).await);
        decision.push(timed(visitor.get("/_fortify/auth")).await);
        page.push(timed(stranger.get("/")).await);
        let image = stranger.get("/api/captcha-image?challenge=new").await;
        let id = image.header("x-challenge-id").unwrap();
        let solution = answer(test_gate, &id.parse().unwrap()).await;
        let body = serde_json::json!({"challenge_id": id, "solution": solution});
        redeem.push(timed(stranger.clone().post_json("/verify-captcha", &body)).await);
    }
    print("health", "http", health);
    print("decision", "http", decision);
    print("redeem", "http", redeem);
    print("challenge page", "http", page);
}

async fn answer(test_gate: &TestGate, token: &ChallengeToken) -> String {
    let record = test_gate.app.engine.parts().store.challenge(token).await.unwrap().unwrap();
    Answer::decode(record.answer.expose()).unwrap().reveal()
}

async fn timed(request: impl Future<Output = fortify_testkit::Reply>) -> Duration {
    let started = Instant::now();
    let reply = request.await;
    let took = started.elapsed();
    assert!(!reply.status.is_server_error());
    took
}

fn print(what: &str, place: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |quantile: f64| {
        let index = ((times.len() - 1) as f64 * quantile) as usize;
        times[index].as_secs_f64() * 1e6
    };
    println!(
        r#"{{"bench":"{what}","where":"{place}","samples":{},"p50_us":{:.1},"p99_us":{:.1}}}"#,
        times.len(),
        at(0.5),
        at(0.99)
    );
}

//! Challenges and connections asked for without end.
//!
//! Cases 18 and 24. SECURITY.md: **One circuit cannot use up what others need**.

use fortify_engine::threat::history::{ChangedBy, DialChange};
use fortify_engine::threat::{Mode, ThreatLevel};
use fortify_testkit::wait::until;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_18_a_flood_of_challenge_requests_costs_another_circuit_nothing() {
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.captcha.max_active = 100;
        parts.config.captcha.max_active_per_circuit = 3;
    })
    .await;
    let mut victim = test_gate.visitor().circuit(CIRCUIT);
    let page = victim.get("/").await;
    let mut loud = test_gate.visitor().circuit("fc00:dead:beef:4dad::bad");
    for _ in 0..500 {
        loud.send(Method::POST, "/captcha/generate", &[], Body::empty()).await;
    }
    assert!(test_gate.app.engine.parts().store.active_challenges().await.unwrap() <= 4);
    assert!(test_gate.solve(&mut victim, &page).await.admits());
}

/// A gate behind tor itself, at a level that stays.
async fn behind_tor(level: u8, most: usize) -> TestGate {
    TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.server.proxy_protocol = true;
        parts.config.server.max_connections_per_circuit = most;
        // However slow the machine is, what is held stays.
        parts.config.server.idle_timeout = Duration::from_secs(600);
        parts.config.threat.mode = Mode::Manual;
        parts.config.threat.level = ThreatLevel::new(level);
    })
    .await
}

/// Connections of a circuit that were answered and stay open: as many as it gets.
async fn connections_of(test_gate: &TestGate, circuit: u16) -> Vec<TcpStream> {
    let head = format!(
        "PROXY TCP6 fc00:dead:beef:4dad::1:{circuit:x} ::1 1 80\r\n\
         GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    );
    let mut held = Vec::new();
    loop {
        let mut socket = TcpStream::connect(test_gate.address).await.unwrap();
        let _closed_early = socket.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        let answered =
            tokio::time::timeout(Duration::from_secs(60), socket.read_exact(&mut answer));
        if answered.await.expect("neither answered nor closed").is_err() {
            return held;
        }
        assert_eq!(answer, *b"HTTP/1.1 200");
        held.push(socket);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_a_circuit_holds_as_many_connections_as_the_level_allows() {
    let test_gate = behind_tor(2, 1000).await;
    let before = connections_of(&test_gate, 1).await;
    assert_eq!(before.len(), 32);

    let change = DialChange {
        at: test_gate.clock.now(),
        by: ChangedBy::Operator("anna".to_owned()),
        reason: "a flood".to_owned(),
        signals: None,
    };
    let severe = ThreatLevel::new(9).unwrap();
    let turned = test_gate.app.engine.change_dial(change, move |dial| Some(dial.pin(severe))).await;
    assert!(turned.unwrap().is_some());
    let circuits = std::sync::atomic::AtomicU16::new(2);
    until("a circuit holds 16", async || {
        let circuit = circuits.fetch_add(1, Ordering::SeqCst);
        connections_of(&test_gate, circuit).await.len() == 16
    })
    .await;
    // What was open is open still.
    for mut socket in before {
        socket.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut text = Vec::new();
        while text.windows(12).filter(|bytes| bytes == b"HTTP/1.1 200").count() < 1 {
            assert_ne!(socket.read_buf(&mut text).await.unwrap(), 0, "an open one was closed");
        }
    }
    test_gate.stop().await;

    // The level may allow more than the server does.
    let test_gate = behind_tor(2, 20).await;
    assert_eq!(connections_of(&test_gate, 1).await.len(), 20);
}

//! What was acknowledged, over restarts and clocks that jump.
//!
//! Case 27. SECURITY.md: **A log-out holds**, and **A ban holds**.

use super::*;

/// A day forward, and back to an hour before.
#[tokio::test(flavor = "multi_thread")]
async fn abuse_27_a_clock_that_jumps_mints_no_session_forgets_no_ban_and_is_told() {
    let test_gate = TestGate::start().await;
    let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3600));
    let mut known = test_gate.admitted().await;
    let banned = fortify_core::circuit::TorCircuit::from_parts(0, 0, 7);
    let (until, reason) =
        (test_gate.clock.now().after(hour), fortify_reputation::StatusReason::Operator);
    test_gate.app.engine.parts().reputation.ban(banned, until, reason).await.unwrap();
    let told = async |line: &str| {
        eventually(line, || test_gate.app.metrics.encode().unwrap().contains(line)).await;
    };
    let now = test_gate.clock.now();
    let ways = [
        (now.after(day), r#"clock_jumps_total{direction="forward"} 1"#),
        (now.before(hour), r#"clock_jumps_total{direction="back"} 1"#),
    ];
    for (to, line) in ways {
        test_gate.clock.jump(to);
        assert!(known.get("/").await.is_challenge(), "a session of another time");
        assert!(test_gate.visitor().get("/").await.is_challenge());
        assert!(test_gate.app.engine.parts().reputation.status(banned).is_some());
        told(line).await;
        assert!(test_gate.app.engine.parts().reputation.status(banned).is_some());
    }
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_27_a_log_out_holds_over_a_restart() {
    let test_gate = TestGate::start().await;
    let mut member = test_gate.admitted().await;
    let cookies = member.cookies.clone();
    assert_eq!(member.post_form("/api/session/logout", &[]).await.status, StatusCode::OK);
    let data_dir = test_gate.app.config.storage.data_dir.clone();
    let kept_alive = &test_gate.data_dir;
    let again = TestGate::with(|parts| parts.config.storage.data_dir = data_dir).await;
    let mut thief = again.visitor();
    thief.cookies = cookies;
    assert!(thief.get("/").await.is_challenge(), "the session is back");
    assert!(kept_alive.path().exists());
}

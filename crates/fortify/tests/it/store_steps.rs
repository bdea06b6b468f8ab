//! Each verb of the engine reads each fact once: the steps of the store that one request costs.

use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use fortify_testkit::store::ProbedStore;
use fortify_testkit::{TestGate, memory_store};

type Steps = Arc<Mutex<Vec<&'static str>>>;

/// A gate whose store keeps a list of its steps.
async fn watched() -> (TestGate, Steps) {
    let (dir, steps) = (tempfile::tempdir().unwrap(), Steps::default());
    let memory = Arc::new(memory_store(dir.path()));
    let seen = steps.clone();
    let probe = move |verb| {
        // Nobody asks for these two: the dial follows the store by itself, and gauges are read.
        if !matches!(verb, "set_dial" | "active_challenges") {
            seen.lock().unwrap().push(verb);
        }
        Ok(())
    };
    let store = ProbedStore::new(memory, Box::new(probe));
    (TestGate::with(|parts| parts.store = Some(store)).await, steps)
}

fn taken(steps: &Steps) -> Vec<&'static str> {
    std::mem::take(&mut *steps.lock().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_meets_a_challenge_asks_for_failures_once() {
    let (gate, steps) = watched().await;
    let page = gate.visitor().get("/").await;
    assert!(page.try_field("token").is_some());
    assert_eq!(taken(&steps), ["failures", "acquire_quota", "put_challenge"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_brings_the_next_challenge() {
    let (gate, steps) = watched().await;
    let mut visitor = gate.visitor();
    let page = visitor.get("/").await;
    taken(&steps);
    let next = gate.submit(&mut visitor, &page, "NONSENSE").await;
    assert!(next.try_field("token").is_some());
    assert_eq!(
        taken(&steps),
        [
            "failures",
            "take_challenge",
            "record_failure",
            "settle_challenge",
            "failures",
            "challenge",
            "acquire_quota",
            "put_challenge"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_answer_and_the_next_request_take_no_step_more_than_they_need() {
    let (gate, steps) = watched().await;
    let mut visitor = gate.visitor();
    let page = visitor.get("/").await;
    let answer = gate.answer(&page.field("token")).await;
    taken(&steps);
    let granted = gate.submit(&mut visitor, &page, &answer).await;
    assert_eq!(granted.status, StatusCode::SEE_OTHER);
    assert_eq!(taken(&steps), ["failures", "take_challenge", "settle_challenge"]);
    assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    // Of the session, and of all those of its circuit; both from memory.
    assert_eq!(taken(&steps), ["session_state", "revoked_until"]);
}

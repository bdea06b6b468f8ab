//! What is counted of the requests that a running gate answers.

use axum::http::StatusCode;
use fortify_engine::behaviour::{Class, Mode};
use fortify_testkit::TestGate;

async fn test_gate(mode: Mode) -> TestGate {
    TestGate::with(|parts| parts.config.behaviour.mode = mode).await
}

fn found(test_gate: &TestGate, class: Class) -> u64 {
    let report = test_gate.app.engine.parts().behaviour.report();
    report.classes.iter().filter(|found| found.class == class).map(|found| found.circuits).sum()
}

#[tokio::test]
async fn each_request_is_counted_once_with_the_services_answer() {
    let test_gate = test_gate(Mode::Observe).await;
    let mut member = test_gate.admitted().await;
    let before = test_gate.app.engine.parts().behaviour.report().requests;
    for _ in 0..3 {
        // The service has no such page.
        assert_eq!(member.get("/wp-login.php").await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(test_gate.app.engine.parts().behaviour.report().requests, before + 3);
    assert_eq!(found(&test_gate, Class::Probing), 1);
    test_gate.stop().await;
}

#[tokio::test]
async fn nginx_asks_about_what_the_visitor_asked_for_and_what_comes_again_counts_then() {
    let test_gate = test_gate(Mode::Act).await;
    let before = test_gate.app.engine.parts().behaviour.report().requests;
    let scan = [("x-original-uri", "/.git/config"), ("x-original-method", "GET")];
    for _ in 0..3 {
        let denied = test_gate.visitor().get_with("/_fortify/auth", &scan).await;
        assert_eq!(denied.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(
        test_gate.app.engine.parts().behaviour.report().requests,
        before,
        "counted here and again at its address"
    );
    let mut member = test_gate.admitted().await;
    for _ in 0..3 {
        let passed = member.get_with("/_fortify/auth", &scan).await;
        assert_eq!(passed.status, StatusCode::NO_CONTENT, "a finding alone refused somebody");
    }
    assert_eq!(found(&test_gate, Class::Probing), 1);
    test_gate.stop().await;
}

#[tokio::test]
async fn pictures_in_a_page_make_its_reader_no_scanner() {
    let test_gate = test_gate(Mode::Observe).await;
    let mut member = test_gate.admitted().await;
    for _ in 0..5 {
        member.get_with("/.env", &[("sec-fetch-dest", "image")]).await;
    }
    assert_eq!(found(&test_gate, Class::Probing), 0);
    test_gate.stop().await;
}

#[tokio::test]
async fn challenges_that_nobody_answers_are_farming() {
    let test_gate = test_gate(Mode::Observe).await;
    for _ in 0..20 {
        test_gate.visitor().get("/").await;
    }
    assert_eq!(found(&test_gate, Class::ChallengeFarming), 1);
    test_gate.stop().await;
}

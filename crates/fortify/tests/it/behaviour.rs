//! What is counted of the requests that a running gate answers.

use axum::http::StatusCode;
use fortify_engine::behaviour::{Class, Mode};
use fortify_testkit::Bed;

async fn bed(mode: Mode) -> Bed {
    Bed::with(|parts| parts.config.behaviour.mode = mode).await
}

fn found(bed: &Bed, class: Class) -> u64 {
    let report = bed.app.engine.parts().behaviour.report();
    report.classes.iter().filter(|found| found.class == class).map(|found| found.circuits).sum()
}

#[tokio::test]
async fn each_request_is_counted_once_with_the_services_answer() {
    let bed = bed(Mode::Observe).await;
    let mut member = bed.admitted().await;
    let before = bed.app.engine.parts().behaviour.report().requests;
    for _ in 0..3 {
        // The service has no such page.
        assert_eq!(member.get("/wp-login.php").await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(bed.app.engine.parts().behaviour.report().requests, before + 3);
    assert_eq!(found(&bed, Class::Probing), 1);
    bed.stop().await;
}

#[tokio::test]
async fn nginx_asks_about_what_the_visitor_asked_for_and_what_comes_again_counts_then() {
    let bed = bed(Mode::Act).await;
    let before = bed.app.engine.parts().behaviour.report().requests;
    let scan = [("x-original-uri", "/.git/config"), ("x-original-method", "GET")];
    for _ in 0..3 {
        let denied = bed.visitor().get_with("/_fortify/auth", &scan).await;
        assert_eq!(denied.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(
        bed.app.engine.parts().behaviour.report().requests,
        before,
        "counted here and again at its address"
    );
    let mut member = bed.admitted().await;
    for _ in 0..3 {
        let passed = member.get_with("/_fortify/auth", &scan).await;
        assert_eq!(passed.status, StatusCode::NO_CONTENT, "a finding alone refused somebody");
    }
    assert_eq!(found(&bed, Class::Probing), 1);
    bed.stop().await;
}

#[tokio::test]
async fn pictures_in_a_page_make_its_reader_no_scanner() {
    let bed = bed(Mode::Observe).await;
    let mut member = bed.admitted().await;
    for _ in 0..5 {
        member.get_with("/.env", &[("sec-fetch-dest", "image")]).await;
    }
    assert_eq!(found(&bed, Class::Probing), 0);
    bed.stop().await;
}

#[tokio::test]
async fn challenges_that_nobody_answers_are_farming() {
    let bed = bed(Mode::Observe).await;
    for _ in 0..20 {
        bed.visitor().get("/").await;
    }
    assert_eq!(found(&bed, Class::ChallengeFarming), 1);
    bed.stop().await;
}

//! A visitor who has to wait, and one who is asked several times.

use std::time::Duration;

use axum::http::StatusCode;
use fortify_core::allowance::Rate;
use fortify_e2e::{Kind, Options};
use fortify_engine::limits::waits::FailureWaits;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::table::LevelOverride;

use crate::visit::{Outcome, Visit, WRONG};

crate::in_both_browsers!(
    a_wait_is_shown_and_ends_by_itself,
    a_visitor_in_line_gets_a_challenge_when_it_is_their_turn,
    three_pictures_in_a_row_are_counted_on_the_page,
);

async fn a_wait_is_shown_and_ends_by_itself(kind: Kind) -> Outcome {
    let visit = Visit::with(kind, Options::default(), |parts| {
        if let Some(waits) = FailureWaits::new([0, 0, 3, 300].map(Duration::from_secs).to_vec()) {
            parts.config.limits.failure_waits = waits;
        }
    })
    .await?;
    let browser = &visit.browser;
    visit.open("/articles/2").await?;
    for _ in 0..3 {
        visit.challenge().await?;
        visit.answer(WRONG).await?;
    }
    browser.wait_for("main > a").await?;
    assert_eq!(browser.text("h1").await?, "Please wait");
    assert!(browser.text("main p").await?.contains("3 seconds"));
    assert!(!browser.has("form").await?, "asks for an answer that does not count");
    visit.take_picture(&format!("wait-{kind:?}")).await?;

    // Nothing is pressed: the page goes on by itself.
    visit.test_gate.clock.advance(Duration::from_secs(3));
    visit.challenge().await?;
    visit.answer(WRONG).await?;

    // The next wait is longer. Too early: the same page, and still one way on.
    browser.wait_for("main > a").await?;
    assert!(browser.text("main p").await?.contains("5 minutes"));
    browser.follow("main > a").await?;
    browser.wait_for("main > a").await?;
    assert_eq!(browser.text("h1").await?, "Please wait");

    visit.test_gate.clock.advance(Duration::from_secs(300));
    browser.follow("main > a").await?;
    // The page first asked for is not forgotten over the waits.
    visit.solve("article").await?;
    assert_eq!(browser.url().await?, visit.url("/articles/2"));
    visit.end().await
}

async fn a_visitor_in_line_gets_a_challenge_when_it_is_their_turn(kind: Kind) -> Outcome {
    let visit = Visit::with(kind, Options::default(), |parts| {
        parts.config.limits.service = Rate { per_minute: 60, per_second: 60 };
    })
    .await?;
    // Others take what may come at once; those who do not come back are before nobody.
    for number in 0..25 {
        let reply = visit.test_gate.visitor().get("/").await;
        let given = reply.is_challenge();
        assert_eq!(given, number < 21, "{}", reply.status);
        assert!(given || reply.status == StatusCode::SERVICE_UNAVAILABLE);
    }
    let browser = &visit.browser;
    visit.open("/articles/2").await?;
    browser.wait_for("main > a").await?;
    assert_eq!(browser.text("h1").await?, "You are in line");
    assert!(browser.text("main p").await?.contains("You are next"));
    visit.take_picture(&format!("line-{kind:?}")).await?;

    // Nothing is pressed: the page asks again by itself.
    visit.test_gate.clock.advance(Duration::from_secs(10));
    visit.solve("article").await?;
    visit.end().await
}

async fn three_pictures_in_a_row_are_counted_on_the_page(kind: Kind) -> Outcome {
    let visit = Visit::with(kind, Options::default(), |parts| {
        let three = |level| LevelOverride { stages: Some(3), ..LevelOverride::of(level) };
        parts.config.threat.levels = ThreatLevel::ALL.map(three).to_vec();
    })
    .await?;
    let browser = &visit.browser;
    visit.open("/articles/2").await?;
    for stage in 1..=2 {
        let token = visit.challenge().await?;
        assert!(browser.text("main").await?.contains(&format!("Picture {stage} of 3")));
        visit.answer(&visit.test_gate.answer(&token).await).await?;
        browser.wait_for(&format!("input[name=token]:not([value='{token}'])")).await?;
    }
    assert!(browser.text("main").await?.contains("Picture 3 of 3"));
    visit.take_picture(&format!("stages-{kind:?}")).await?;
    visit.solve("article").await?;
    visit.end().await
}

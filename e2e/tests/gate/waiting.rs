//! A visitor with too many wrong answers.

use std::time::Duration;

use fortify_e2e::{Kind, Options};

use crate::visit::{Outcome, Visit, WRONG};

crate::in_both_browsers!(too_many_wrong_answers_lead_to_a_page_that_says_how_long_to_wait);

async fn too_many_wrong_answers_lead_to_a_page_that_says_how_long_to_wait(kind: Kind) -> Outcome {
    const FAILURES: u32 = 3;
    let visit = Visit::with(kind, Options::default(), |parts| {
        parts.config.security.max_captcha_failures = FAILURES;
    })
    .await?;
    let browser = &visit.browser;
    visit.open("/articles/2").await?;
    for _ in 0..FAILURES {
        visit.challenge().await?;
        visit.answer(WRONG).await?;
    }
    browser.wait_for("main > a").await?;
    assert_eq!(browser.text("h1").await?, "Please wait");
    assert!(browser.text("main p").await?.contains("60 minutes"));
    assert!(!browser.has("form").await?, "asks for an answer that does not count");
    visit.take_picture(&format!("wait-{kind:?}")).await?;

    // Too early: the same page, and still one way on.
    browser.follow("main > a").await?;
    browser.wait_for("main > a").await?;
    assert_eq!(browser.text("h1").await?, "Please wait");

    visit.bed.clock.advance(Duration::from_secs(3600));
    browser.follow("main > a").await?;
    visit.solve("#welcome").await?;
    visit.end().await
}

//! A form that meets the challenge.

use std::time::Duration;

use axum::http::Method;
use fortify_e2e::Kind;

use crate::visit::{Outcome, Visit, WRONG};

crate::in_both_browsers!(a_form_whose_session_ended_waits_and_goes_on_unchanged);

async fn a_form_whose_session_ended_waits_and_goes_on_unchanged(kind: Kind) -> Outcome {
    let visit = Visit::start(kind).await?;
    let (test_gate, browser) = (&visit.test_gate, &visit.browser);
    visit.enter().await?;
    browser.follow("a[href='/guestbook']").await?;
    browser.fill("#name", "Ada & \"Grace\"").await?;
    browser.fill("#message", "a < b\n<c> + d = é % 5").await?;
    test_gate.clock.advance(Duration::from_secs(3600));
    test_gate.site.seen().clear();

    browser.follow("#sign button").await?;
    visit.challenge().await?;
    assert_eq!(
        browser.text("[role=status]").await?,
        "The form that you sent waits here and goes on after the check."
    );
    visit.take_picture(&format!("form-{kind:?}")).await?;
    visit.answer(WRONG).await?;
    visit.challenge().await?;
    assert!(browser.has("[role=status]").await?, "a wrong answer does not lose the form");

    visit.solve("form[action='/guestbook'] button").await?;
    assert!(test_gate.site.seen().is_empty(), "sent on without the visitor's button");
    assert_eq!(browser.count("button").await?, 1);
    visit.take_picture(&format!("resume-{kind:?}")).await?;
    browser.follow("form[action='/guestbook'] button").await?;

    browser.wait_for(".entry").await?;
    assert_eq!(browser.url().await?, visit.url("/guestbook"));
    assert_eq!(browser.text(".entry strong").await?, "Ada & \"Grace\"");
    assert_eq!(browser.text(".entry p").await?, "a < b\n<c> + d = é % 5");
    let seen = test_gate.site.seen().at("/guestbook");
    let methods: Vec<_> = seen.iter().map(|request| request.method.clone()).collect();
    assert_eq!(methods, [Method::POST, Method::GET]);
    assert_eq!(
        seen.first().map(|request| String::from_utf8_lossy(&request.body).into_owned()).as_deref(),
        Some("name=Ada+%26+%22Grace%22&message=a+%3C+b%0D%0A%3Cc%3E+%2B+d+%3D+%C3%A9+%25+5"),
        "not byte for byte what the browser would have sent at first"
    );
    visit.end().await
}

//! A browser that keeps no cookies.

use fortify_e2e::{Kind, Options};

use crate::visit::{Outcome, Visit};

crate::in_both_browsers!(a_visitor_without_cookies_is_told_and_not_sent_round);

async fn a_visitor_without_cookies_is_told_and_not_sent_round(kind: Kind) -> Outcome {
    let options = Options { cookies: false, ..Options::default() };
    let visit = Visit::with(kind, options, |_| {}).await?;
    let browser = &visit.browser;
    visit.open("/articles/2").await?;
    for round in 1..=2 {
        visit.solve("main > a").await?;
        assert_eq!(browser.text("h1").await?, "Cookies are off", "round {round}");
        assert!(!browser.has("[http-equiv]").await?, "the page goes on by itself");
        visit.take_picture(&format!("cookies-off-{kind:?}")).await?;
        browser.follow("main > a").await?;
        visit.challenge().await?;
        assert_eq!(browser.url().await?, visit.url("/articles/2"));
        // One for the page asked for, and one for each answer, each page that says that cookies are off and each that
        // asks again: every request was the visitor's own step.
        assert_eq!(visit.decisions("challenge").await, 1 + 3 * round);
    }
    assert!(visit.test_gate.site.seen().is_empty());
    visit.end().await
}

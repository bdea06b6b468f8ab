//! Visitors whom another web site sends.

use axum::Router;
use axum::http::Method;
use axum::response::Redirect;
use axum::routing::get;
use fortify_e2e::{Kind, Options};

use crate::visit::{Outcome, Visit, listen, other_site};

crate::in_both_browsers!(
    a_link_from_another_site_leads_a_member_straight_to_the_page,
    a_form_from_another_site_is_not_carried,
    a_page_that_sends_its_visitors_to_another_site_does_so_after_the_challenge,
);

async fn a_link_from_another_site_leads_a_member_straight_to_the_page(kind: Kind) -> Outcome {
    let visit = Visit::start(kind).await?;
    let browser = &visit.browser;
    visit.enter().await?;
    let refused = visit.decisions("challenge").await;
    visit.test_gate.site.seen().clear();

    let target = visit.url("/articles/2");
    let page = format!("<!doctype html><title>Other</title><a href=\"{target}\">Read</a>");
    browser.goto(&other_site(page).await).await?;
    browser.follow("a").await?;

    browser.wait_for("article").await?;
    assert_eq!(browser.url().await?, target);
    assert_eq!(visit.decisions("challenge").await, refused + 1, "one bounce, and only one");
    assert_eq!(visit.test_gate.site.seen().at("/articles/2").len(), 1);
    let open = visit.test_gate.app.engine.parts().store.active_challenges().await;
    assert!(matches!(open, Ok(0)), "challenges after it: {open:?}");
    visit.end().await
}

async fn a_form_from_another_site_is_not_carried(kind: Kind) -> Outcome {
    let visit = Visit::start(kind).await?;
    let browser = &visit.browser;
    visit.enter().await?;

    let page = format!(
        "<!doctype html><title>Other</title><form method=\"post\" action=\"{}\">\
         <input name=\"name\" value=\"Mallory\"><input name=\"message\" value=\"forged\">\
         <button>Win a prize</button></form>",
        visit.url("/guestbook")
    );
    browser.goto(&other_site(page).await).await?;
    browser.submit("form").await?;

    visit.challenge().await?;
    assert!(!browser.has("input[name=carried]").await?);
    assert!(!browser.source().await?.contains("forged"));
    assert_eq!(
        browser.text("[role=status]").await?,
        "What you sent was not delivered and is not kept here. After the check, please send it \
         again."
    );
    visit.take_picture(&format!("form-elsewhere-{kind:?}")).await?;
    visit.solve("#welcome").await?;
    assert_eq!(browser.url().await?, visit.url("/"));
    let posts =
        visit.test_gate.site.seen().requests().into_iter().filter(|r| r.method == Method::POST);
    assert_eq!(posts.count(), 0, "the backend got a form from another site");
    visit.end().await
}

/// Chromium holds the policy's `form-action` against every redirect that a form leads to.
async fn a_page_that_sends_its_visitors_to_another_site_does_so_after_the_challenge(
    kind: Kind,
) -> Outcome {
    let there = other_site("<!doctype html><title>Other</title><h2>There</h2>".to_owned()).await;
    let target = there.clone();
    let moved = get(async move || Redirect::to(&target));
    let service = listen(Router::new().route("/moved", moved)).await;
    let visit = Visit::with(kind, Options::default(), |parts| {
        parts.service_at(service);
    })
    .await?;
    visit.open("/moved").await?;
    visit.solve("h2").await?;
    assert_eq!(visit.browser.url().await?, there);
    visit.end().await
}

//! From the first page to the last, with the keyboard alone.

use fortify_e2e::{Key, Kind};

use crate::visit::{ANOTHER, CONTINUE, INPUT, Outcome, Visit, WRONG};

crate::in_both_browsers!(
    a_visitor_gets_in_and_lands_on_the_page_first_asked_for,
    another_picture_costs_no_failure,
    the_keyboard_reaches_the_field_then_both_buttons,
);

async fn a_visitor_gets_in_and_lands_on_the_page_first_asked_for(kind: Kind) -> Outcome {
    let visit = Visit::start(kind).await?;
    let (test_gate, browser) = (&visit.test_gate, &visit.browser);

    visit.open("/articles/2").await?;
    let first = visit.challenge().await?;
    assert_picture_is_shown(&visit).await?;
    assert_eq!(browser.count(INPUT).await?, 1);
    browser.wait_for_focus(INPUT).await?;
    assert!(!browser.has("[role=alert]").await?);
    assert!(test_gate.site.seen().is_empty(), "the backend saw a stranger");
    visit.take_picture(&format!("challenge-{kind:?}")).await?;

    visit.answer(WRONG).await?;
    let second = visit.challenge().await?;
    assert_ne!(first, second);
    assert_eq!(
        browser.text("[role=alert]").await?,
        "That was not right, or it took too long. Here is a new one."
    );
    browser.wait_for_focus(INPUT).await?;
    assert_picture_is_shown(&visit).await?;
    visit.take_picture(&format!("wrong-{kind:?}")).await?;

    visit.solve("article").await?;
    assert_eq!(browser.url().await?, visit.url("/articles/2"));
    assert_eq!(browser.text("h1").await?, "How to read a tide table");
    assert_eq!(test_gate.site.seen().len(), 1);

    let challenges = visit.decisions("challenge").await;
    for (path, there) in [("/", "#welcome"), ("/guestbook", "#sign"), ("/articles/2", "article")] {
        visit.open(path).await?;
        assert!(browser.has(there).await?, "{path}");
    }
    assert_eq!(visit.decisions("challenge").await, challenges);
    visit.end().await
}

async fn another_picture_costs_no_failure(kind: Kind) -> Outcome {
    let options = fortify_e2e::Options::default();
    let visit =
        Visit::with(kind, options, |parts| parts.config.security.max_captcha_failures = 1).await?;
    visit.open("/guestbook").await?;
    for round in 0..3 {
        let old = visit.challenge().await?;
        // What is half typed is not sent as an answer.
        visit.browser.fill(INPUT, WRONG).await?;
        visit.browser.follow(ANOTHER).await?;
        assert_ne!(visit.challenge().await?, old, "round {round}");
        assert!(!visit.browser.has("[role=alert]").await?, "nothing went wrong");
        assert_eq!(visit.browser.text("[role=status]").await?, "Here is another picture.");
        visit.browser.wait_for_focus(INPUT).await?;
    }
    visit.take_picture(&format!("another-{kind:?}")).await?;
    visit.solve("#sign").await?;
    visit.end().await
}

async fn the_keyboard_reaches_the_field_then_both_buttons(kind: Kind) -> Outcome {
    let visit = Visit::start(kind).await?;
    let browser = &visit.browser;
    visit.open("/").await?;
    let first = visit.challenge().await?;
    for focused in [INPUT, CONTINUE, ANOTHER] {
        browser.wait_for_focus(focused).await?;
        if focused != ANOTHER {
            browser.press(Key::Tab).await?;
        }
    }
    assert_eq!(browser.css_value(ANOTHER, "outline-style").await?, "solid", "the focus is seen");
    visit.take_picture(&format!("focus-{kind:?}")).await?;

    browser.press_to_follow(Key::Enter).await?;
    let second = visit.challenge().await?;
    assert_ne!(first, second);
    browser.fill(INPUT, &visit.test_gate.answer(&second).await).await?;
    browser.press(Key::Tab).await?;
    browser.press_to_follow(Key::Enter).await?;
    browser.wait_for("#welcome").await?;
    visit.end().await
}

/// A picture that the browser has decoded, in its own size or larger.
async fn assert_picture_is_shown(visit: &Visit) -> Outcome {
    let browser = &visit.browser;
    let source = browser.attribute("img", "src").await?.unwrap_or_default();
    assert!(source.starts_with("data:image/png;base64,"), "not in the page itself");
    let natural_width = browser.number("img", "naturalWidth").await?;
    let natural_height = browser.number("img", "naturalHeight").await?;
    assert!(natural_width >= 200.0 && natural_height >= 60.0, "not decoded");
    let (_, _, width, height) = browser.rectangle("img").await?;
    assert!(width >= natural_width, "shown {width} px wide of {natural_width}");
    let (ratio, natural_ratio) = (width / height, natural_width / natural_height);
    assert!((ratio / natural_ratio - 1.0).abs() < 0.03, "{ratio} for {natural_ratio}");
    Ok(())
}

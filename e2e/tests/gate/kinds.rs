//! Every kind of challenge on the page: typed, picked, and exchanged for another kind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

use fortify_captcha::{AnswerMode, Carrier, Variant};
use fortify_e2e::{BrowserError, Key, Kind, Options};
use fortify_store::record::ChallengeRecord;

use crate::layout::{BORDER_CONTRAST, TEXT_CONTRAST, TOUCH, contrast};
use crate::visit::{CONTINUE, INPUT, Outcome, Visit, WRONG};
use fortify_testkit::Parts;

/// What every page says after an answer that does not count, whatever was wrong with it.
pub(crate) const FAILURE: &str = "That was not right, or it took too long. Here is a new one.";

crate::in_both_browsers!(
    every_kind_lets_in_who_types_what_it_shows,
    every_kind_lets_in_who_picks_what_it_shows,
    the_keyboard_alone_picks,
    a_kind_that_a_visitor_cannot_read_is_exchanged,
);

/// Only Chromium shows a page as narrow as this.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_narrow_phone_no_kind_is_cut_off() -> Outcome {
    let options = Options { viewport: (320, 640), ..Options::default() };
    let mut visit = Visit::with(Kind::Chromium, options, |_| {}).await?;
    for (variant, carrier) in kinds(AnswerMode::Choice) {
        visit = visit.move_on(|parts| draw(parts, variant, carrier, AnswerMode::Choice)).await?;
        visit.open("/").await?;
        visit.challenge().await?;
        visit.take_picture(&format!("kind-{variant}-{carrier}-choice-narrow")).await?;
        let browser = &visit.browser;
        assert_eq!(browser.number("html", "clientWidth").await?, 320.0);
        let wide = browser.number("html", "scrollWidth").await?;
        assert!(wide <= 320.0, "{variant} in {carrier} scrolls sideways: {wide} px");
        for css in ["img", "fieldset", "legend", CONTINUE] {
            let (left, _, width, _) = browser.rectangle(css).await?;
            assert!(left >= 0.0 && left + width <= 320.0, "{css}: {left} + {width}");
        }
        assert_targets_are_large(&visit).await?;
        if carrier == Carrier::Motion {
            // A row of tiles has 180 dots, which leaves each a px.
            let px = if variant == Variant::PatternCompletion { 1.0 } else { 2.0 };
            assert_dots_are_squares(&visit, px).await?;
        }
    }
    visit.end().await
}

/// Three px are what the moving kind is made for; most phones have the width for it.
#[tokio::test(flavor = "multi_thread")]
async fn on_most_phones_dots_are_as_large_as_on_a_screen() -> Outcome {
    let options = Options { viewport: (390, 700), ..Options::default() };
    let visit = Visit::with(Kind::Chromium, options, |parts| {
        draw(parts, Variant::DistortedText, Carrier::Motion, AnswerMode::Typed);
    })
    .await?;
    visit.open("/").await?;
    visit.challenge().await?;
    visit.take_picture("kind-distorted_text-motion-phone").await?;
    assert!(visit.browser.number("html", "scrollWidth").await? <= 390.0, "scrolls sideways");
    assert_dots_are_squares(&visit, 3.0).await?;
    visit.end().await
}

async fn every_kind_lets_in_who_types_what_it_shows(kind: Kind) -> Outcome {
    let mut visit = Visit::start(kind).await?;
    for (variant, carrier) in kinds(AnswerMode::Typed) {
        visit = visit.move_on(|parts| draw(parts, variant, carrier, AnswerMode::Typed)).await?;
        let name = format!("{variant} in {carrier}");
        visit.open("/articles/2").await?;
        let record = record(&visit).await?;
        assert_eq!((&*record.variant, &*record.carrier), (variant.as_str(), carrier.as_str()));
        assert_picture_is_large_and_sharp(&visit, carrier).await?;
        visit.browser.wait_for_focus(INPUT).await?;
        visit.take_picture(&format!("kind-{variant}-{carrier}-{kind:?}")).await?;

        visit.answer(WRONG).await?;
        visit.challenge().await?;
        assert_eq!(visit.browser.text("[role=alert]").await?, FAILURE, "{name}");
        assert!(visit.test_gate.site.seen().is_empty(), "{name}: the backend saw a stranger");
        visit.solve("article").await?;
        assert_eq!(visit.browser.url().await?, visit.url("/articles/2"), "{name}");
    }
    visit.end().await
}

async fn every_kind_lets_in_who_picks_what_it_shows(kind: Kind) -> Outcome {
    let mut visit = Visit::start(kind).await?;
    for (variant, carrier) in kinds(AnswerMode::Choice) {
        visit = visit.move_on(|parts| draw(parts, variant, carrier, AnswerMode::Choice)).await?;
        let name = format!("{variant} in {carrier}");
        visit.open("/articles/2").await?;
        let token = visit.challenge().await?;
        assert_picture_is_large_and_sharp(&visit, carrier).await?;
        assert!(visit.browser.has("fieldset > legend:first-child").await?, "{name}: no question");
        assert!(!visit.browser.text("legend").await?.is_empty(), "{name}");
        assert_targets_are_large(&visit).await?;
        assert_targets_are_seen(&visit).await?;
        let page = visit.test_gate.visitor().get("/").await.text();
        let picture = page.split("base64,").nth(1).unwrap().split('"').next().unwrap();
        let rest = page.len() - picture.len();
        assert!(rest < 10_000, "{name}: {rest} bytes without the picture");
        visit.take_picture(&format!("kind-{variant}-{carrier}-choice-{kind:?}")).await?;

        let right = visit.test_gate.answer(&token).await;
        visit.browser.click(&format!("{PICK}:not([value='{right}'])")).await?;
        visit.browser.follow(CONTINUE).await?;
        let token = visit.challenge().await?;
        assert_eq!(visit.browser.text("[role=alert]").await?, FAILURE, "{name}");
        assert!(visit.test_gate.site.seen().is_empty(), "{name}: the backend saw a stranger");

        let right = visit.test_gate.answer(&token).await;
        visit.browser.click(&format!("{PICK}[value='{right}']")).await?;
        visit.browser.follow(CONTINUE).await?;
        visit.browser.wait_for("article").await?;
        assert_eq!(visit.browser.url().await?, visit.url("/articles/2"), "{name}");
    }
    visit.end().await
}

async fn the_keyboard_alone_picks(kind: Kind) -> Outcome {
    let options = Options { dark: true, ..Options::default() };
    let visit = Visit::with(kind, options, |parts| {
        draw(parts, Variant::ObjectRecognition, Carrier::Ink, AnswerMode::Choice);
    })
    .await?;
    let browser = &visit.browser;
    visit.open("/guestbook").await?;
    let token = visit.challenge().await?;
    let right = visit.test_gate.answer(&token).await;
    browser.wait_for_focus(PICK).await?;
    assert!(!browser.has(&format!("{PICK}:checked")).await?, "picked before the visitor did");

    // Space picks the first one, arrows go on to the next.
    browser.press(Key::Space).await?;
    for _ in 1..browser.count(PICK).await? {
        if browser.attribute_of_focused("value").await?.as_ref() == Some(&right) {
            break;
        }
        browser.press(Key::Down).await?;
    }
    assert_eq!(browser.attribute_of_focused("value").await?, Some(right.clone()));
    assert_eq!(browser.attribute(&format!("{PICK}:checked"), "value").await?, Some(right));
    assert_eq!(browser.css_value(&format!("{PICK}:checked"), "outline-style").await?, "solid");
    assert_targets_are_seen(&visit).await?;
    let picked = "fieldset .choice:has(:checked)";
    let words = browser.css_value(picked, "color").await?;
    let behind = browser.css_value(picked, "background-color").await?;
    assert!(contrast(&words, &behind) >= TEXT_CONTRAST, "{words} on {behind}");
    visit.take_picture(&format!("picked-{kind:?}")).await?;

    browser.press(Key::Tab).await?;
    browser.wait_for_focus(CONTINUE).await?;
    browser.press_to_follow(Key::Enter).await?;
    browser.wait_for("#sign").await?;
    visit.end().await
}

async fn a_kind_that_a_visitor_cannot_read_is_exchanged(kind: Kind) -> Outcome {
    const STILL: &str = "button[name=another][value=still]";
    const LETTERS: &str = "button[name=another][value=letters]";
    let visit = Visit::with(kind, Options::default(), |parts| {
        draw(parts, Variant::Arithmetic, Carrier::Motion, AnswerMode::Typed);
        // None of it is a failure.
        parts.config.security.max_captcha_failures = 1;
    })
    .await?;
    let browser = &visit.browser;
    visit.open("/guestbook").await?;
    assert_eq!(record(&visit).await?.carrier, "motion");
    assert_eq!(browser.text(STILL).await?, "Show one that does not move");
    assert_eq!(browser.text(LETTERS).await?, "Show letters instead");
    browser.fill(INPUT, WRONG).await?;
    browser.follow(STILL).await?;
    assert_eq!(record(&visit).await?.carrier, "ink");
    assert!(!browser.has(STILL).await? && !browser.has("img.dots").await?);
    assert_eq!(browser.text("[role=status]").await?, "Here is another picture.");
    visit.take_picture(&format!("still-{kind:?}")).await?;

    visit.open("/guestbook").await?;
    assert_eq!(record(&visit).await?.variant, "arithmetic");
    browser.follow(LETTERS).await?;
    assert_eq!(record(&visit).await?.variant, "distorted_text");
    assert!(!browser.has(LETTERS).await?, "offers what it shows");
    visit.take_picture(&format!("letters-{kind:?}")).await?;
    visit.solve("#sign").await?;
    visit.end().await
}

/// What is picked from.
const PICK: &str = "fieldset input[type=radio]";

fn kinds(mode: AnswerMode) -> impl Iterator<Item = (Variant, Carrier)> {
    let pairs = Variant::ALL.into_iter().flat_map(|v| Carrier::ALL.map(|c| (v, c)));
    pairs.filter(move |(variant, carrier)| carrier.carries(*variant, mode))
}

/// A gate that draws one kind.
pub(crate) fn draw(parts: &mut Parts, variant: Variant, carrier: Carrier, mode: AnswerMode) {
    parts.config.captcha.variant_weights = vec![(variant, 1)];
    parts.config.captcha.carrier_weights = vec![(carrier, 1)];
    parts.config.captcha.mode = mode;
    parts.config.captcha.drawn_ahead = 0;
}

/// What the gate keeps of the challenge on the page.
pub(crate) async fn record(visit: &Visit) -> Result<ChallengeRecord, BrowserError> {
    let token = visit.challenge().await?.parse().unwrap();
    Ok(visit
        .test_gate
        .app
        .engine
        .parts()
        .store
        .challenge(&token)
        .await
        .unwrap()
        .expect("a live challenge"))
}

/// Nothing of it is lost to scaling: it is shown at its own size at least, and dots as squares.
async fn assert_picture_is_large_and_sharp(visit: &Visit, carrier: Carrier) -> Outcome {
    let browser = &visit.browser;
    let (left, _, width, height) = browser.rectangle("img").await?;
    let border = 2.0 * border(visit, "img").await?;
    let (width, height) = (width - border, height - border);
    let own = browser.number("img", "naturalWidth").await?;
    let own_height = browser.number("img", "naturalHeight").await?;
    assert!(left >= 0.0 && width >= own, "{carrier}: shown {width} px wide of {own}");
    assert!(width >= 300.0 && height >= 100.0, "{carrier}: {width} x {height} px");
    assert!((width / height * own_height / own - 1.0).abs() < 0.03, "{carrier}: distorted");
    if carrier == Carrier::Motion {
        assert_dots_are_squares(visit, 3.0).await?;
        assert!(browser.text("#look").await?.starts_with("This picture moves."));
    }
    Ok(())
}

/// A dot is `px` wide and high, with nothing between one and the next.
async fn assert_dots_are_squares(visit: &Visit, px: f64) -> Outcome {
    let browser = &visit.browser;
    assert_eq!(browser.css_value("img", "image-rendering").await?, "pixelated");
    let (left, _, width, height) = browser.rectangle("img").await?;
    let border = 2.0 * border(visit, "img").await?;
    let wide = (width - border) / browser.number("img", "naturalWidth").await?;
    let high = (height - border) / browser.number("img", "naturalHeight").await?;
    assert!(left >= 0.0 && left + width <= browser.number("html", "clientWidth").await?);
    assert!((wide - px).abs() < 0.001 && (high - px).abs() < 0.001, "a dot is {wide} x {high} px");
    Ok(())
}

/// px of an element's border on each side.
pub(crate) async fn border(visit: &Visit, css: &str) -> Result<f64, BrowserError> {
    let width = visit.browser.css_value(css, "border-left-width").await?;
    Ok(width.trim_end_matches("px").parse().unwrap())
}

/// Each thing to pick, with its words, is as high as a finger.
async fn assert_targets_are_large(visit: &Visit) -> Outcome {
    let picks = visit.browser.count(PICK).await?;
    assert!(picks >= 4, "{picks} to pick from");
    for nth in 1..=picks {
        let label = format!("fieldset .choice:nth-of-type({nth})");
        let (_, _, width, height) = visit.browser.rectangle(&label).await?;
        assert!(width >= TOUCH && height >= TOUCH, "{label} is {width} x {height} px");
    }
    Ok(())
}

/// In the colours of the page, question, words and edges stand out.
async fn assert_targets_are_seen(visit: &Visit) -> Outcome {
    let card = visit.browser.css_value("main", "background-color").await?;
    let parts = [
        ("legend", "color", TEXT_CONTRAST),
        ("fieldset .choice", "color", TEXT_CONTRAST),
        ("fieldset .choice", "border-top-color", BORDER_CONTRAST),
    ];
    for (css, property, least) in parts {
        let colour = visit.browser.css_value(css, property).await?;
        assert!(contrast(&colour, &card) >= least, "{css}: {colour} on {card}");
    }
    Ok(())
}

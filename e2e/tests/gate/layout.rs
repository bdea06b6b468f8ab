//! What a visitor sees: on a phone, much enlarged, in the dark, and without the style.

use fortify_e2e::{Browser, Kind, Options};

use crate::visit::{ANOTHER, CONTINUE, INPUT, Outcome, Visit, WRONG, other_site};

/// CSS px: the least that a finger hits (WCAG 2.5.5).
pub(crate) const TOUCH: f64 = 44.0;

/// The least contrast of text (WCAG 1.4.3), and of what shows where a field is (1.4.11).
pub(crate) const TEXT_CONTRAST: f64 = 4.5;
pub(crate) const BORDER_CONTRAST: f64 = 3.0;

crate::in_both_browsers!(
    every_page_is_legible_in_the_light,
    every_page_is_legible_in_the_dark,
    at_four_hundred_percent_nothing_is_cut_off,
);

/// Only Chromium shows a page as narrow as this.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_narrow_phone_nothing_is_cut_off() -> Outcome {
    for dark in [false, true] {
        let options = Options { viewport: (320, 640), dark, ..Options::default() };
        let visit = Visit::with(Kind::Chromium, options, |_| {}).await?;
        let name = if dark { "narrow-dark" } else { "narrow" };
        walk_through(&visit, name).await?;
        visit.end().await?;
    }
    Ok(())
}

/// The order of the elements alone tells what to do: without the style, as in a text browser.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_style_the_page_reads_from_top_to_bottom() -> Outcome {
    let options = Options { viewport: (320, 640), ..Options::default() };
    let visit = Visit::with(Kind::Chromium, options, |_| {}).await?;
    let mut visitor = visit.test_gate.visitor();
    let first = visitor.get("/").await;
    let page = visit.test_gate.submit(&mut visitor, &first, WRONG).await.text();
    let (head, rest) = page.split_once("<style>").unwrap_or_default();
    let (_style, body) = rest.split_once("</style>").unwrap_or_default();
    visit.browser.goto(&other_site(format!("{head}{body}")).await).await?;
    visit.take_picture("without-style").await?;

    let mut above = 0.0;
    for css in ["h1", "[role=alert]", "img", "label", INPUT, CONTINUE, "#hint"] {
        let (left, top, width, height) = visit.browser.rectangle(css).await?;
        assert!(width > 0.0 && height > 0.0 && left >= 0.0, "{css} is not shown");
        assert!(top >= above, "{css} stands above what comes before it");
        above = top;
    }
    // The widest is the picture, in its own size.
    assert!(visit.browser.number("html", "scrollWidth").await? <= 340.0);
    visit.end().await
}

async fn every_page_is_legible_in_the_light(kind: Kind) -> Outcome {
    let visit = Visit::start(kind).await?;
    assert_contrast(&visit).await?;
    walk_through(&visit, &format!("light-{kind:?}")).await?;
    visit.end().await
}

async fn every_page_is_legible_in_the_dark(kind: Kind) -> Outcome {
    let options = Options { dark: true, ..Options::default() };
    let visit = Visit::with(kind, options, |_| {}).await?;
    assert_contrast(&visit).await?;
    walk_through(&visit, &format!("dark-{kind:?}")).await?;
    visit.end().await
}

/// A screen of 1280 x 800 px at 400 % is one of 320 x 200 px. Firefox makes no window as narrow:
/// its least, 500 px or so, is what it is shown at here.
async fn at_four_hundred_percent_nothing_is_cut_off(kind: Kind) -> Outcome {
    let options = Options { viewport: (320, 200), zoom: 4, ..Options::default() };
    let visit = Visit::with(kind, options, |_| {}).await?;
    walk_through(&visit, &format!("zoom-{kind:?}")).await?;
    visit.end().await
}

/// Measures the challenge, the next one with its message, and the page that says that it is over.
async fn walk_through(visit: &Visit, name: &str) -> Outcome {
    visit.open("/articles/2").await?;
    visit.challenge().await?;
    assert_fits(&visit.browser, &["img", INPUT, CONTINUE, ANOTHER]).await?;
    assert_input_is_in_sight(&visit.browser).await?;
    visit.take_picture(&format!("challenge-{name}")).await?;

    visit.answer(WRONG).await?;
    visit.challenge().await?;
    assert_fits(&visit.browser, &["[role=alert]", "img", INPUT, CONTINUE, ANOTHER]).await?;
    visit.take_picture(&format!("wrong-{name}")).await
}

/// Nothing is wider than the window, and what is pressed is as high as a finger.
async fn assert_fits(browser: &Browser, elements: &[&str]) -> Outcome {
    let window = browser.number("html", "clientWidth").await?;
    assert!(window >= 300.0, "{window} px");
    assert!(
        browser.number("html", "scrollWidth").await? <= window,
        "scrolls sideways at {window} px"
    );
    for css in ["main", "h1", "label", "#hint"].iter().chain(elements) {
        let (left, _, width, height) = browser.rectangle(css).await?;
        assert!(width > 0.0 && left >= 0.0 && left + width <= window, "{css}: {left} + {width}");
        if [INPUT, CONTINUE, ANOTHER].contains(css) {
            assert!(height >= TOUCH && width >= TOUCH, "{css} is {height} px high");
        }
    }
    Ok(())
}

/// The page opens where the visitor types, also where not all of it fits the window; and where
/// the window has any room for it, with the picture that is to be read.
async fn assert_input_is_in_sight(browser: &Browser) -> Outcome {
    // The page is scrolled to what gets the focus.
    browser.wait_for_focus(INPUT).await?;
    let scrolled = browser.number("html", "scrollTop").await?;
    let window = browser.number("html", "clientHeight").await?;
    let (_, top, _, height) = browser.rectangle(INPUT).await?;
    assert!(
        top >= scrolled && top + height <= scrolled + window,
        "field at {top}, window from {scrolled}, {window} px high"
    );
    let (_, top, _, height) = browser.rectangle("img").await?;
    if window >= 200.0 {
        let seen = (top + height - scrolled).min(height) / height;
        assert!(seen > 0.75, "of the picture {seen:.2} is in the window");
    }
    Ok(())
}

async fn assert_contrast(visit: &Visit) -> Outcome {
    visit.open("/").await?;
    visit.challenge().await?;
    visit.answer(WRONG).await?;
    visit.challenge().await?;
    let on_card =
        ["h1", "label", "#hint", ANOTHER].map(|css| (css, "color", "main", TEXT_CONTRAST));
    let own = ["[role=alert]", INPUT, CONTINUE].map(|css| (css, "color", css, TEXT_CONTRAST));
    let border = [(INPUT, "border-top-color", "main", BORDER_CONTRAST)];
    for (css, property, behind, least) in on_card.into_iter().chain(own).chain(border) {
        let front = visit.browser.css_value(css, property).await?;
        let back = visit.browser.css_value(behind, "background-color").await?;
        let contrast = contrast(&front, &back);
        assert!(contrast >= least, "{css}: {front} on {back} is {contrast:.2}");
    }
    Ok(())
}

/// The contrast of two colours that a browser gives as `rgb(r, g, b)` or `rgba(r, g, b, 1)`, by
/// WCAG; 0 where one is see-through.
pub(crate) fn contrast(one: &str, other: &str) -> f64 {
    let (Some(one), Some(other)) = (luminance(one), luminance(other)) else { return 0.0 };
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

fn luminance(colour: &str) -> Option<f64> {
    let (_, numbers) = colour.strip_suffix(')')?.split_once('(')?;
    let numbers: Vec<f64> =
        numbers.split(',').map(|number| number.trim().parse().ok()).collect::<Option<_>>()?;
    let [red, green, blue] = *numbers.first_chunk()?;
    if numbers.get(3).is_some_and(|alpha| *alpha < 1.0) {
        return None;
    }
    let linear = |channel: f64| {
        let share = channel / 255.0;
        if share <= 0.03928 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    Some(0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue))
}

#[test]
fn contrast_is_measured_as_wcag_does() {
    assert!((contrast("rgb(0, 0, 0)", "rgba(255, 255, 255, 1)") - 21.0).abs() < 0.01);
    assert!((contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") - 4.48).abs() < 0.01);
    assert!(contrast("rgb(0, 0, 0)", "rgba(0, 0, 0, 0)") < 1.0);
}

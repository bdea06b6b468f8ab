//! Every kind of challenge through a running gate: right, wrong, the decoy, picked, wished for, and
//! drawn too slowly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use fortify::app::App;
use fortify::challenge::renderer::Draw;
use fortify::clock::ManualClock;
use fortify::config::Config;
use fortify::entropy::SystemEntropy;
use fortify::pseudonym::CircuitTag;
use fortify::session::key_ring::KeyRing;
use fortify::store::record::{ChallengeRecord, ChallengeToken};
use fortify_captcha::{
    Answer, AnswerMode, Carrier, Generator, Puzzle, RenderError, Rendered, Seed, Spec, Style,
    StyleKey, Variant,
};
use support::{Bed, Parts, fields};

/// A bed that draws one kind.
async fn bed(variant: Variant, carrier: Carrier, more: impl FnOnce(&mut Parts)) -> Bed {
    Bed::with(|parts| {
        parts.config.captcha.variant_weights = vec![(variant, 1)];
        parts.config.captcha.carrier_weights = vec![(carrier, 1)];
        more(parts);
    })
    .await
}

fn kinds() -> impl Iterator<Item = (Variant, Carrier)> {
    let pairs = Variant::ALL.into_iter().flat_map(|v| Carrier::ALL.map(|c| (v, c)));
    pairs.filter(|(variant, carrier)| carrier.carries(*variant))
}

async fn record(bed: &Bed, token: &str) -> ChallengeRecord {
    let token: ChallengeToken = token.parse().unwrap();
    bed.app.store.challenge(&token).await.unwrap().expect("a live challenge")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_lets_in_whoever_reads_it_and_nobody_else() {
    for (variant, carrier) in kinds() {
        let bed = bed(variant, carrier, |_| {}).await;
        let mut visitor = bed.visitor();
        let page = visitor.get("/articles/1").await;
        let kept = record(&bed, &page.field("token")).await;
        assert_eq!((&*kept.variant, &*kept.carrier), (variant.as_str(), carrier.as_str()));
        let wrong = bed.submit(&mut visitor, &page, "quite wrong").await;
        assert!(wrong.is_challenge() && !wrong.admits(), "{variant} in {carrier}");
        let right = bed.solve(&mut visitor, &wrong).await;
        assert!(right.admits(), "{variant} in {carrier}");
        assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_lets_in_whoever_picks_the_right_one_and_nobody_else() {
    for (variant, carrier) in kinds() {
        let bed = bed(variant, carrier, |parts| {
            parts.config.captcha.mode = AnswerMode::Choice;
        })
        .await;
        let mut visitor = bed.visitor();
        let page = visitor.get("/").await;
        let values = picks(&page.text());
        assert!(values.len() >= 4, "{variant} in {carrier}: {values:?}");
        let answer = bed.answer(&page.field("token")).await;
        let other = values.iter().find(|value| **value != answer).unwrap();
        let wrong = bed.submit(&mut visitor, &page, other).await;
        assert!(!wrong.admits(), "{variant} in {carrier}");
        let answer = bed.answer(&wrong.field("token")).await;
        assert!(picks(&wrong.text()).contains(&answer), "{answer} cannot be picked");
        assert!(bed.submit(&mut visitor, &wrong, &answer).await.admits(), "{variant} in {carrier}");
    }
}

/// What the page's form can send.
fn picks(page: &str) -> Vec<String> {
    let radio = "type=\"radio\" name=\"answer\" value=\"";
    page.split(radio).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_program_reads_is_a_failure_like_any_other_and_is_counted() {
    for (variant, _) in kinds().filter(|(_, carrier)| *carrier == Carrier::Motion) {
        let bed = bed(variant, Carrier::Motion, |parts| {
            parts.config.security.max_captcha_failures = 2;
        })
        .await;
        let mut visitor = bed.visitor();
        let page = visitor.get("/").await;
        let decoy = record(&bed, &page.field("token")).await.decoy.expect("a decoy");
        let decoy = Answer::decode(decoy.expose()).unwrap().reveal();
        if variant == Variant::DistortedText {
            let text = page.text().replace(&page.field("token"), "");
            let picture = text.split("base64,").nth(1).unwrap().split('"').next().unwrap();
            assert!(!text.replace(picture, "").contains(&decoy), "the decoy is in the page");
        }
        let fooled = bed.submit(&mut visitor, &page, &decoy).await;
        assert!(fooled.is_challenge() && !fooled.admits());
        assert!(fooled.text().contains("That was not right"));
        let metrics = visitor.get("/metrics").await.text();
        assert!(metrics.contains("fortify_redeems_total{outcome=\"decoy\"} 1"), "{metrics}");
        let again = bed.submit(&mut visitor, &fooled, "wrong").await;
        assert_eq!(again.status, StatusCode::TOO_MANY_REQUESTS, "a decoy is no failure");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_locked_out_by_one_kind() {
    let moving = bed(Variant::DistortedText, Carrier::Motion, |_| {}).await;
    let (mut visitor, page) = start(&moving).await;
    assert!(page.text().contains("value=\"still\""));
    let still = another(&mut visitor, &page, "still").await;
    assert_eq!(record(&moving, &still.field("token")).await.carrier, "ink");
    let after = moving.submit(&mut visitor, &still, "wrong").await;
    assert_eq!(
        record(&moving, &after.field("token")).await.carrier,
        "ink",
        "the wish is forgotten"
    );

    let colours = bed(Variant::ColorTextMismatch, Carrier::Ink, |parts| {
        parts.config.security.max_captcha_failures = 1;
    })
    .await;
    let (mut visitor, page) = start(&colours).await;
    assert!(page.text().contains("value=\"letters\"") && !page.text().contains("value=\"still\""));
    let letters = another(&mut visitor, &page, "letters").await;
    assert_eq!(record(&colours, &letters.field("token")).await.variant, "distorted_text");
    assert!(!letters.text().contains("name=\"another\" value=\"letters\""));
    assert!(colours.solve(&mut visitor, &letters).await.admits(), "a wish cost a failure");
}

async fn start(bed: &Bed) -> (support::Visitor, support::Reply) {
    let mut visitor = bed.visitor();
    let page = visitor.get("/").await;
    (visitor, page)
}

async fn another(
    visitor: &mut support::Visitor,
    page: &support::Reply,
    wish: &str,
) -> support::Reply {
    let sent = fields(&[("token", &page.field("token")), ("return_to", "/"), ("another", wish)]);
    visitor.post_form("/validate-captcha", &sent).await
}

/// A generator that can be made slow.
struct Slow {
    generator: Generator,
    slow: Arc<AtomicBool>,
}

impl Draw for Slow {
    fn style(&self, key: &StyleKey) -> Style {
        self.generator.style(key)
    }

    fn render(&self, spec: &Spec, style: &Style, seed: &Seed) -> Result<Rendered, RenderError> {
        let started = Instant::now();
        let rendered = self.generator.render(spec, style, seed);
        while self.slow.load(Ordering::SeqCst) && started.elapsed() < Duration::from_millis(510) {
            std::hint::spin_loop();
        }
        rendered
    }

    fn puzzle(&self, spec: &Spec, seed: &Seed) -> Result<Puzzle, RenderError> {
        self.generator.puzzle(spec, seed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_slow_pictures_in_a_row_make_the_next_ones_plain_until_they_are_quick_again() {
    let slow = Arc::new(AtomicBool::new(true));
    let drawer = Arc::new(Slow { generator: Generator::new().unwrap(), slow: slow.clone() });
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(support::NOW));
    let mut config = Config::default();
    config.captcha.drawn_ahead = 0;
    config.captcha.level = 5;
    config.captcha.variant_weights = vec![(Variant::DistortedText, 1)];
    let keys = KeyRing::open(dir.path(), &*clock, &SystemEntropy).unwrap();
    let store = Arc::new(support::memory_store(dir.path()));
    let entropy = Arc::new(SystemEntropy);
    let app = App::over(Arc::new(config), keys, store, drawer, clock, entropy).unwrap();
    let circuit = CircuitTag::from_bytes([1; 16]);
    let next = async || {
        let wish = fortify::challenge::policy::Wish::Any;
        app.challenges.issue_with_picture(circuit, wish).await.unwrap().0
    };
    for _ in 0..10 {
        assert_eq!(next().await.variant, "distorted_text");
    }
    assert!(app.metrics.encode().unwrap().contains("fortify_renders_strained 1"));
    slow.store(false, Ordering::SeqCst);
    for _ in 0..10 {
        let plain = next().await;
        assert_eq!((plain.variant, plain.carrier), ("pattern_completion", "ink"));
    }
    assert_eq!(next().await.variant, "distorted_text");
    assert!(app.metrics.encode().unwrap().contains("fortify_renders_strained 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_take_pictures_that_were_drawn_ahead() {
    let bed = Bed::with(|parts| parts.config.captcha.drawn_ahead = 8).await;
    let started = Instant::now();
    while bed.app.challenges.pictures_ready() < 8 {
        assert!(started.elapsed() < Duration::from_secs(20), "the stock does not fill");
        tokio::task::yield_now().await;
    }
    let mut visitor = bed.visitor();
    let mut page = visitor.get("/").await;
    for _ in 0..20 {
        page = bed.submit(&mut visitor, &page, "wrong").await;
    }
    assert!(bed.solve(&mut visitor, &page).await.admits());
}

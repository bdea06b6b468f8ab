//! Every kind of challenge through a running gate: right, wrong, the decoy, picked, wished for, and
//! drawn too slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use fortify_captcha::{
    Answer, AnswerMode, Carrier, Choice, Generator, Level, Puzzle, RenderError, Rendered, Seed,
    Spec, Style, StyleKey, Variant,
};
use fortify_config::Config;
use fortify_core::clock::ManualClock;
use fortify_core::entropy::SystemEntropy;
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::challenge::policy::ChallengeRequest;
use fortify_engine::challenge::render::Render;
use fortify_engine::challenge::{RedeemOutcome, Redeemed, Submission};
use fortify_engine::limits::waits::FailureWaits;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::history::DialHistory;
use fortify_engine::threat::table::LevelOverride;
use fortify_keys::KeyRing;
use fortify_store::record::{ChallengeRecord, ChallengeToken, Place};
use fortify_testkit::wait::eventually;
use fortify_testkit::{Easel, Parts, TestGate, fields};
use fortify_web::app::App;

/// A bed that draws one kind.
async fn test_gate(variant: Variant, carrier: Carrier, more: impl FnOnce(&mut Parts)) -> TestGate {
    TestGate::with(|parts| {
        parts.config.captcha.variant_weights = vec![(variant, 1)];
        parts.config.captcha.carrier_weights = vec![(carrier, 1)];
        more(parts);
    })
    .await
}

fn kinds(mode: AnswerMode) -> impl Iterator<Item = (Variant, Carrier)> {
    let pairs = Variant::ALL.into_iter().flat_map(|v| Carrier::ALL.map(|c| (v, c)));
    pairs.filter(move |(variant, carrier)| carrier.carries(*variant, mode))
}

async fn record(test_gate: &TestGate, token: &str) -> ChallengeRecord {
    let token: ChallengeToken = token.parse().unwrap();
    test_gate.app.engine.parts().store.challenge(&token).await.unwrap().expect("a live challenge")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_lets_in_whoever_reads_it_and_nobody_else() {
    for (variant, carrier) in kinds(AnswerMode::Typed) {
        let test_gate = test_gate(variant, carrier, |_| {}).await;
        let mut visitor = test_gate.visitor();
        let page = visitor.get("/articles/1").await;
        let kept = record(&test_gate, &page.field("token")).await;
        assert_eq!((&*kept.variant, &*kept.carrier), (variant.as_str(), carrier.as_str()));
        let wrong = test_gate.submit(&mut visitor, &page, "quite wrong").await;
        assert!(wrong.is_challenge() && !wrong.admits(), "{variant} in {carrier}");
        let right = test_gate.solve(&mut visitor, &wrong).await;
        assert!(right.admits(), "{variant} in {carrier}: {} {}", right.status, right.text());
        assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_lets_in_whoever_picks_the_right_one_and_nobody_else() {
    for (variant, carrier) in kinds(AnswerMode::Choice) {
        let test_gate = test_gate(variant, carrier, |parts| {
            parts.config.captcha.mode = AnswerMode::Choice;
        })
        .await;
        let mut visitor = test_gate.visitor();
        let page = visitor.get("/").await;
        let values = picks(&page.text());
        assert!(values.len() >= 4, "{variant} in {carrier}: {values:?}");
        let answer = test_gate.answer(&page.field("token")).await;
        let other = values.iter().find(|value| **value != answer).unwrap();
        let wrong = test_gate.submit(&mut visitor, &page, other).await;
        assert!(!wrong.admits(), "{variant} in {carrier}");
        let answer = test_gate.answer(&wrong.field("token")).await;
        assert!(picks(&wrong.text()).contains(&answer), "{answer} cannot be picked");
        assert!(
            test_gate.submit(&mut visitor, &wrong, &answer).await.admits(),
            "{variant} in {carrier}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pick_is_counted_by_what_it_is_beside_the_answer() {
    let generator = Generator::new().unwrap();
    for (variant, carrier) in kinds(AnswerMode::Choice) {
        let test_gate = choice_bed(variant, carrier).await;
        let (mut visitor, page) = start(&test_gate).await;
        let puzzle = puzzle(&generator, &record(&test_gate, &page.field("token")).await);
        let at = puzzle.decoy_kinds.iter().position(Option::is_some).unwrap();
        let kind = puzzle.decoy_kinds[at].unwrap();
        test_gate.submit(&mut visitor, &page, &puzzle.choices[at].value()).await;
        let line = format!(
            "fortify_wrong_picks_total{{variant=\"{variant}\",kind=\"{}\"}} 1",
            kind.as_str()
        );
        assert_eq!(counted_picks(&mut visitor).await, [line], "{variant} in {carrier}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_a_wrong_pick_of_an_own_challenge_is_counted_as_one() {
    let generator = Generator::new().unwrap();
    let test_gate = choice_bed(Variant::DistortedText, Carrier::Swirl).await;
    let (mut visitor, page) = start(&test_gate).await;
    let kept = record(&test_gate, &page.field("token")).await;
    let made = puzzle(&generator, &kept);
    let wrong = made.choices.iter().map(Choice::value).find(|v| made.decoy_picked(v).is_some());
    let wrong = wrong.unwrap();

    let unknown = ChallengeToken::random(&SystemEntropy).unwrap();
    let old = ChallengeToken::random(&SystemEntropy).unwrap();
    let outdated = ChallengeRecord { renderer: kept.renderer + 1, ..kept.clone() };
    test_gate
        .app
        .engine
        .parts()
        .store
        .put_challenge(&old, outdated, Place::Beside(None))
        .await
        .unwrap();
    let foreign = ChallengeToken::random(&SystemEntropy).unwrap();
    let circuit = CircuitTag::from_bytes([7; 16]);
    let others = ChallengeRecord { circuit, ..kept.clone() };
    test_gate
        .app
        .engine
        .parts()
        .store
        .put_challenge(&foreign, others, Place::Beside(None))
        .await
        .unwrap();
    let typed = ChallengeToken::random(&SystemEntropy).unwrap();
    let mode = AnswerMode::Typed.as_str().into();
    test_gate
        .app
        .engine
        .parts()
        .store
        .put_challenge(&typed, ChallengeRecord { mode, ..kept.clone() }, Place::Beside(None))
        .await
        .unwrap();
    for token in [unknown, old, foreign, typed] {
        let circuit = kept.circuit;
        let redeemed = test_gate
            .app
            .engine
            .parts()
            .challenges
            .redeem(
                Submission { token: &token.encode(), answer: &wrong, trapped: false },
                circuit,
                true,
            )
            .await
            .unwrap();
        match redeemed {
            Redeemed::Gone => {}
            Redeemed::Checked(checked) => assert_eq!(checked.redeemed, RedeemOutcome::Failed),
            Redeemed::Again(_) => panic!("a wrong answer led to something"),
        }
    }
    let next = test_gate.submit(&mut visitor, &page, "no choice").await;
    assert!(test_gate.solve(&mut visitor, &next).await.admits());
    assert_eq!(counted_picks(&mut visitor).await, [""; 0]);
}

async fn choice_bed(variant: Variant, carrier: Carrier) -> TestGate {
    test_gate(variant, carrier, |parts| {
        parts.config.captcha.mode = AnswerMode::Choice;
        parts.config.security.max_captcha_failures = 100;
    })
    .await
}

fn puzzle(generator: &Generator, record: &ChallengeRecord) -> Puzzle {
    let level = Level::new(record.level).unwrap();
    let mut spec = Spec::new(record.variant.parse().unwrap(), level);
    spec = spec.with_carrier(record.carrier.parse().unwrap());
    (spec.mode, spec.length) = (record.mode.parse().unwrap(), record.length);
    generator.puzzle(&spec, &Seed::from_bytes(*record.seed.expose())).unwrap()
}

async fn counted_picks(visitor: &mut fortify_testkit::Visitor) -> Vec<String> {
    let metrics = visitor.get("/metrics").await.text();
    let picks = metrics.lines().filter(|line| line.starts_with("fortify_wrong_picks_total"));
    picks.map(str::to_owned).collect()
}

/// What the page's form can send.
fn picks(page: &str) -> Vec<String> {
    let radio = "type=\"radio\" name=\"answer\" value=\"";
    page.split(radio).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_program_reads_is_a_failure_like_any_other_and_is_counted() {
    for (variant, _) in kinds(AnswerMode::Typed).filter(|(_, carrier)| *carrier == Carrier::Motion)
    {
        let test_gate = test_gate(variant, Carrier::Motion, |parts| {
            let waits = [0, 60].map(Duration::from_secs).to_vec();
            parts.config.limits.failure_waits = FailureWaits::new(waits).unwrap();
        })
        .await;
        let mut visitor = test_gate.visitor();
        let page = visitor.get("/").await;
        let decoy = record(&test_gate, &page.field("token")).await.decoy.expect("a decoy");
        let decoy = Answer::decode(decoy.expose()).unwrap().reveal();
        if variant == Variant::DistortedText {
            let text = page.text().replace(&page.field("token"), "");
            let picture = text.split("base64,").nth(1).unwrap().split('"').next().unwrap();
            assert!(!text.replace(picture, "").contains(&decoy), "the decoy is in the page");
        }
        let fooled = test_gate.submit(&mut visitor, &page, &decoy).await;
        assert!(fooled.is_challenge() && !fooled.admits());
        assert!(fooled.text().contains("That was not right"));
        let metrics = visitor.get("/metrics").await.text();
        assert!(metrics.contains("fortify_redeems_total{outcome=\"decoy\"} 1"), "{metrics}");
        let again = test_gate.submit(&mut visitor, &fooled, "wrong").await;
        assert_eq!(again.status, StatusCode::TOO_MANY_REQUESTS, "a decoy is no failure");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_locked_out_by_one_kind() {
    let moving = test_gate(Variant::DistortedText, Carrier::Motion, |_| {}).await;
    let (mut visitor, page) = start(&moving).await;
    assert!(page.text().contains("value=\"still\""));
    let still = another(&mut visitor, &page, "still").await;
    assert_ne!(record(&moving, &still.field("token")).await.carrier, "motion");
    let after = moving.submit(&mut visitor, &still, "wrong").await;
    assert_ne!(
        record(&moving, &after.field("token")).await.carrier,
        "motion",
        "the wish is forgotten"
    );

    let colours = test_gate(Variant::ColorTextMismatch, Carrier::Ink, |parts| {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_is_not_plain_to_see_comes_with_what_to_look_for() {
    for (carrier, words) in [
        (Carrier::Ink, None),
        (Carrier::Swirl, Some("where its stripes change direction")),
        (Carrier::Motion, Some("This picture moves")),
    ] {
        for (mode, answers) in [(AnswerMode::Typed, "<input id"), (AnswerMode::Choice, "<fieldset")]
        {
            let test_gate = test_gate(Variant::ObjectRecognition, carrier, |parts| {
                parts.config.captcha.mode = mode;
            })
            .await;
            let page = start(&test_gate).await.1.text();
            let field = page.split(answers).nth(1).unwrap().split('>').next().unwrap();
            let described = if words.is_some() { "\"look hint\"" } else { "\"hint\"" };
            assert!(field.contains(&format!("aria-describedby={described}")), "{carrier}: {field}");
            let look = page.split("<p id=\"look\">").nth(1).map(|p| p.split('<').next().unwrap());
            assert_eq!(look.is_some(), words.is_some(), "{carrier}");
            assert!(look.is_none_or(|look| look.contains(words.unwrap())), "{carrier}: {look:?}");
        }
    }
}

async fn start(test_gate: &TestGate) -> (fortify_testkit::Visitor, fortify_testkit::Reply) {
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    (visitor, page)
}

async fn another(
    visitor: &mut fortify_testkit::Visitor,
    page: &fortify_testkit::Reply,
    preference: &str,
) -> fortify_testkit::Reply {
    let sent =
        fields(&[("token", &page.field("token")), ("return_to", "/"), ("another", preference)]);
    visitor.post_form("/validate-captcha", &sent).await
}

/// A generator that can be made slow.
struct Slow {
    generator: Generator,
    slow: Arc<AtomicBool>,
}

impl Render for Slow {
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
    let renderer = Arc::new(Slow { generator: Generator::new().unwrap(), slow: slow.clone() });
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(fortify_testkit::NOW));
    let mut config = Config::default();
    config.storage.data_dir = dir.path().to_owned();
    config.captcha.drawn_ahead = 0;
    config.captcha.level = 5;
    config.captcha.variant_weights = vec![(Variant::DistortedText, 1)];
    let keys = KeyRing::open(dir.path(), &*clock, &SystemEntropy).unwrap();
    let store = Arc::new(fortify_testkit::memory_store(dir.path()));
    let entropy = Arc::new(SystemEntropy);
    let app = App::over(Arc::new(config), keys, store, renderer, clock, entropy).unwrap();
    let circuit = CircuitTag::from_bytes([1; 16]);
    let next = async || {
        app.engine
            .parts()
            .challenges
            .issue(circuit, ChallengeRequest::default(), true, Place::Beside(None))
            .await
            .unwrap()
            .unwrap()
            .0
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

async fn stocked(test_gate: &TestGate) {
    eventually("the stock is full", || {
        test_gate.app.engine.parts().challenges.pictures_ready() >= 8
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_and_sessions_follow_the_dial() {
    let test_gate = TestGate::with(|parts| {
        parts.config.captcha.drawn_ahead = 8;
        let row = LevelOverride::of(ThreatLevel::MAX);
        let ttl = Some(Duration::from_secs(60));
        let variants = Some(vec![(Variant::Arithmetic, 1)]);
        parts.config.threat.levels = vec![LevelOverride { challenge_ttl: ttl, variants, ..row }];
    })
    .await;
    stocked(&test_gate).await;
    assert_eq!(test_gate.app.engine.parts().sessions.lifetime(), Duration::from_secs(3600));
    let mut changed = test_gate.app.engine.parts().threat.changed();
    let mut audit = DialHistory::open_existing(&test_gate.app.config.storage.data_dir).unwrap();
    audit.turn(None, |dial| Some(dial.pin(ThreatLevel::MAX))).unwrap();
    tokio::time::timeout(Duration::from_secs(20), changed.changed()).await.unwrap().unwrap();
    test_gate.app.engine.apply_level();
    let circuit = CircuitTag::from_bytes([1; 16]);
    for _ in 0..20 {
        let (issued, _) = test_gate
            .app
            .engine
            .parts()
            .challenges
            .issue(circuit, ChallengeRequest::default(), true, Place::Beside(None))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((issued.level, issued.variant), (10, "arithmetic"));
        assert_eq!(issued.expires_in, Duration::from_secs(60));
    }
    assert_eq!(test_gate.app.engine.parts().sessions.lifetime(), Duration::from_secs(900));
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    let solved = test_gate.solve(&mut visitor, &page).await;
    assert!(solved.set_cookies().iter().any(|cookie| cookie.contains("Max-Age=900")));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_take_pictures_that_were_drawn_ahead() {
    let easel = Easel::new();
    let test_gate = TestGate::with(|parts| {
        parts.config.captcha.drawn_ahead = 8;
        parts.renderer = Some(easel.clone());
    })
    .await;
    stocked(&test_gate).await;
    let held = easel.hold();
    for _ in 1..8 {
        assert!(test_gate.visitor().get("/").await.is_challenge());
    }
    let (mut visitor, page) = start(&test_gate).await;
    // The stock is used up: the ninth is drawn while its visitor waits, beside what the stock draws.
    assert_eq!(test_gate.app.engine.parts().challenges.pictures_ready(), 0);
    let mut ninth = test_gate.visitor();
    let asked = tokio::spawn(async move { ninth.get("/").await });
    easel.waiting(2).await;
    drop(held);
    assert!(asked.await.unwrap().is_challenge());
    assert!(test_gate.solve(&mut visitor, &page).await.admits());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pictures_of_all_stages_are_there_before_the_first_is_solved() {
    let easel = Easel::new();
    let test_gate = TestGate::with(|parts| {
        parts.config.captcha.drawn_ahead = 8;
        for row in &mut parts.config.threat.levels {
            row.stages = Some(3);
        }
        parts.renderer = Some(easel.clone());
    })
    .await;
    stocked(&test_gate).await;
    let _held = easel.hold();
    let (mut visitor, mut page) = start(&test_gate).await;
    for stage in 1..=3 {
        assert!(page.text().contains(&format!("Picture {stage} of 3")), "{}", page.text());
        page = test_gate.solve(&mut visitor, &page).await;
    }
    assert!(page.admits());
}

/// On one thread: were it drawing, nothing would be answered meanwhile.
#[tokio::test(flavor = "current_thread")]
async fn while_all_places_draw_others_are_sent_away_and_not_kept_waiting() {
    let easel = Easel::new();
    let test_gate = TestGate::with(|parts| {
        parts.config.captcha.drawn_ahead = 0;
        parts.config.captcha.max_concurrent_renders = 1;
        parts.renderer = Some(easel.clone());
    })
    .await;
    let held = easel.hold();
    let mut first = test_gate.visitor();
    let asked = tokio::spawn(async move { first.get("/").await });
    easel.waiting(1).await;
    let second = test_gate.visitor().get("/").await;
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE, "{}", second.text());
    assert_eq!(second.header("retry-after"), Some("1"));
    assert!(!asked.is_finished(), "the first one is drawn");
    drop(held);
    assert!(asked.await.unwrap().is_challenge());
    assert!(test_gate.visitor().get("/").await.is_challenge(), "its place is not free again");
}

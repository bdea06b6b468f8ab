//! The admin interface with browsers that run no scripts: from the first start to the log-out, and how its
//! pages look.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use fortify_admin::identity::{AuthMethod, Principal, Role};
use fortify_admin::totp::{self, SECRET_BYTES, TotpSecret};
use fortify_captcha::Carrier;
use fortify_core::circuit::{CircuitId, IdentityMode, TorCircuit};
use fortify_e2e::{Browser, Kind, Options};
use fortify_engine::behaviour::Mode;
use fortify_engine::decision::{Decision, Grant, Requirement};
use fortify_engine::threat::history::{ChangedBy, DialChange};
use fortify_engine::threat::signals::Signals;
use fortify_engine::threat::{Dial, ThreatLevel};
use fortify_reputation::StatusReason;
use fortify_store::record::{ChallengeToken, Secret, Session};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::layout::{BORDER_CONTRAST, TEXT_CONTRAST, contrast};
use crate::visit::{Outcome, Visit, listen};
use fortify_testkit::{NOW, Parts, TestGate};

const PASSWORD: &str = "four plain words here";
/// What tor calls circuits, without their numbers.
const CIRCUITS: &str = "fc00:dead:beef:4dad::";
const CIRCUIT: &str = "fc00:dead:beef:4dad::19";
const OTHER_CIRCUIT: &str = "fc00:dead:beef:4dad::20";
/// Where a log-in, a preview, a turn of the dial and so on are said to have worked.
const DONE: &str = "[role=status]";
const LOG_OUT: &str = "form[action='/admin/logout']";

crate::in_both_browsers!(
    an_operator_needs_no_scripts,
    charts_are_seen_with_and_without_svg,
    the_dashboard_is_legible_in_the_light,
    the_dashboard_is_legible_in_the_dark,
    the_dashboard_at_four_hundred_percent_is_whole,
);

/// Only Chromium shows a page as narrow as this.
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_on_a_narrow_phone_is_whole() -> Outcome {
    for dark in [false, true] {
        let options = Options { viewport: (320, 1400), dark, ..Options::default() };
        let visit = office(Kind::Chromium, options).await?;
        look_around(&visit, if dark { "narrow-dark" } else { "narrow" }).await?;
        visit.end().await?;
    }
    Ok(())
}

fn with_circuits(parts: &mut Parts) {
    parts.config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
    parts.config.security.identity = IdentityMode::Circuit;
    parts.config.behaviour.mode = Mode::Learn;
    // As an installation has it: the levels' own rows, tasks and carriers.
    parts.config.threat.levels = Vec::new();
    (parts.config.captcha.variant_weights, parts.config.captcha.carrier_weights) =
        (Vec::new(), Vec::new());
}

fn admin_url(test_gate: &TestGate, path: &str) -> String {
    format!("http://{}{path}", test_gate.admin_address.unwrap())
}

/// What stands before the gate as HAProxy does, and says from which circuit a visitor comes.
async fn from_circuit(test_gate: &TestGate, circuit: &'static str) -> String {
    let gate = test_gate.address;
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let relay = Router::new().fallback(async move |request: Request| {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        parts.uri = format!("http://{gate}{path}").parse().unwrap();
        parts.headers.insert("x-circuit-id", circuit.parse().unwrap());
        client.request(Request::from_parts(parts, body)).await.unwrap().into_response()
    });
    format!("http://{}/", listen(relay).await)
}

async fn an_operator_needs_no_scripts(kind: Kind) -> Outcome {
    let visit = Visit::with(kind, Options::default(), with_circuits).await?;
    let (test_gate, browser) = (&visit.test_gate, &visit.browser);
    let url = |path: &str| admin_url(test_gate, path);

    // The first start: the token makes an account, and the account gets one-time codes.
    browser.goto(&url("/admin")).await?;
    browser.follow("a[href='/admin/setup']").await?;
    browser.fill("#token", &test_gate.setup_token.clone().unwrap()).await?;
    browser.fill("#name", "ada").await?;
    browser.fill("#password", PASSWORD).await?;
    browser.submit("form").await?;
    assert!(browser.text(DONE).await?.contains("account is made"));
    browser.fill("#totp-password", PASSWORD).await?;
    browser.follow("button[name=on][value=true]").await?;
    browser.wait_for("#secret").await?;
    assert!(browser.number("img.qr", "naturalWidth").await? > 100.0, "no QR code");
    visit.take_picture(&format!("admin-enrolled-{kind:?}")).await?;
    let secret = unbase32(&browser.text("#secret").await?);
    browser.submit(LOG_OUT).await?;
    assert!(browser.text(DONE).await?.contains("logged out"));

    // In again, with a code.
    let code = totp::code_at(&secret, test_gate.app.clock.now());
    log_in(browser, "ada", PASSWORD, "000000").await?;
    assert!(browser.text("[role=alert]").await?.contains("not right"));
    log_in(browser, "ada", PASSWORD, &code).await?;
    browser.wait_for(".tiles").await?;

    // A visitor at level 5; then the dial is looked at, and turned.
    let visitors = from_circuit(test_gate, CIRCUIT).await;
    browser.goto(&visitors).await?;
    let token: ChallengeToken = visit.challenge().await?.parse().unwrap();
    assert_eq!(
        test_gate.app.engine.parts().store.challenge(&token).await.unwrap().unwrap().level,
        5
    );
    browser.goto(&url("/admin/dial")).await?;
    browser.follow("a[href='/admin/dial?level=7#turn']").await?;
    assert!(browser.text("#preview").await?.contains("From level 5 to 7"));
    assert_eq!(test_gate.app.engine.parts().threat.level().get(), 5, "a look turned it");
    browser.fill("#reason", "many new circuits & none solves").await?;
    browser.submit("#set").await?;
    assert!(browser.text(DONE).await?.contains("dial is turned"));
    assert_eq!(browser.text("#level").await?, "7");

    // What the next visitor gets is a picture of the new level: pictures that were drawn ahead are gone.
    let mut other = test_gate.visitor().circuit(OTHER_CIRCUIT);
    let token: ChallengeToken = other.get("/").await.field("token").parse().unwrap();
    let record = test_gate.app.engine.parts().store.challenge(&token).await.unwrap().unwrap();
    assert_eq!(record.level, 7);
    browser.goto(&visitors).await?;
    let token: ChallengeToken = visit.challenge().await?.parse().unwrap();
    let record = test_gate.app.engine.parts().store.challenge(&token).await.unwrap().unwrap();
    assert_eq!(record.level, 7);
    assert_ne!(record.carrier, Carrier::Ink.as_str(), "level 7 has no ink for letters");
    browser.goto(&url("/admin/audit")).await?;
    assert!(browser.text("main").await?.contains("many new circuits & none solves"));
    assert!(browser.text("main").await?.contains("5 → 7"));

    // The visitor's circuit is found, explained and banned.
    browser.goto(&url("/admin/circuits?which=seen")).await?;
    let name = tag_of(test_gate, CIRCUIT);
    browser.fill("#circuit", &name).await?;
    browser.submit("#find").await?;
    assert_eq!(browser.text("#stands").await?, "normal");
    browser.fill("#reason", "tries names").await?;
    browser.fill("#seconds", "600").await?;
    browser.follow("#change button.danger").await?;
    assert_eq!(browser.text("#stands").await?, "banned");
    visit.take_picture(&format!("admin-banned-{kind:?}")).await?;
    browser.goto(&visitors).await?;
    assert!(!browser.has("form").await?, "a banned circuit is asked something");
    let mut banned = test_gate.visitor().circuit(CIRCUIT);
    assert_eq!(banned.get("/").await.status, 403);
    assert!(test_gate.visitor().circuit(OTHER_CIRCUIT).get("/").await.is_challenge());

    // Out, and the cookie that was is good for nothing.
    browser.goto(&url("/admin")).await?;
    let cookies = browser.cookies().await?;
    let cookie = cookies.iter().find(|cookie| cookie.name() == "fortify_admin").unwrap();
    let (value, mut thief) =
        (cookie.value().to_owned(), fortify_testkit::Visitor::at(test_gate.admin_address.unwrap()));
    thief.cookies.insert("fortify_admin".to_owned(), value);
    assert_eq!(thief.clone().get("/admin").await.status, 200);
    browser.submit(LOG_OUT).await?;
    browser.goto(&url("/admin/audit")).await?;
    browser.wait_for("#password").await?;
    assert_eq!(thief.get("/admin").await.status, 303);
    visit.end().await
}

/// Firefox is as at Tor Browser's Safest level and shows no SVG; Chromium does.
async fn charts_are_seen_with_and_without_svg(kind: Kind) -> Outcome {
    let visit = office(kind, Options::default()).await?;
    visit.browser.goto(&admin_url(&visit.test_gate, "/admin?refresh=off")).await?;
    visit.browser.wait_for("figure .plot").await?;
    let (_, _, width, height) = visit.browser.rectangle("figure .plot img").await?;
    match kind {
        Kind::Firefox => assert!(width > 150.0 && height > 50.0, "{width} x {height}"),
        Kind::Chromium => assert!(width < 1.0 && height < 1.0, "twice: {width} x {height}"),
    }
    // In both, the line is there: a few hundred px of its colour, a few thousand of the area's.
    let [red, green, blue] = fortify_admin::chart::COLOUR;
    let near =
        |px: &[u8]| px.iter().zip([red, green, blue]).all(|(one, other)| one.abs_diff(other) < 24);
    let mut line = 0;
    let seen = visit.browser.see("figure", "to show its line", |picture| {
        line = rgb(picture).chunks(3).filter(|px| near(px)).count();
        line >= 100
    });
    seen.await?;
    assert!(line < 20_000, "{line} px of the line");
    visit.end().await
}

async fn the_dashboard_is_legible_in_the_light(kind: Kind) -> Outcome {
    let options = Options { viewport: (1280, 1300), ..Options::default() };
    let visit = office(kind, options).await?;
    look_around(&visit, &format!("light-{kind:?}")).await?;
    assert_contrast(&visit).await?;
    visit.end().await
}

async fn the_dashboard_is_legible_in_the_dark(kind: Kind) -> Outcome {
    let options = Options { viewport: (1280, 1300), dark: true, ..Options::default() };
    let visit = office(kind, options).await?;
    look_around(&visit, &format!("dark-{kind:?}")).await?;
    assert_contrast(&visit).await?;
    visit.end().await
}

/// A screen of 1280 x 800 px at 400 % is one of 320 x 200 px; Firefox' least is 500 px or so.
async fn the_dashboard_at_four_hundred_percent_is_whole(kind: Kind) -> Outcome {
    let options = Options { viewport: (320, 200), zoom: 4, ..Options::default() };
    let visit = office(kind, options).await?;
    look_around(&visit, &format!("zoom-{kind:?}")).await?;
    visit.end().await
}

/// An operator's browser before a gate that has had an hour.
async fn office(kind: Kind, options: Options) -> Result<Visit, fortify_e2e::BrowserError> {
    let visit = Visit::with(kind, options, with_circuits).await?;
    let test_gate = &visit.test_gate;
    let admin = test_gate.admin.clone().unwrap();
    let own =
        Principal { name: "test".to_owned(), role: Role::Admin, auth_method: AuthMethod::File };
    let password = Secret::new(PASSWORD.to_owned());
    let hash = fortify_admin::password::hash(&password, &**test_gate.app.engine.entropy()).unwrap();
    admin.accounts.add_user(&own, "ada", Role::Admin, &hash, NOW).unwrap();
    an_hour(test_gate).await;
    visit.browser.goto(&admin_url(test_gate, "/admin/login")).await?;
    visit.take_picture(&format!("admin-login-{kind:?}-{}", options.dark)).await?;
    log_in(&visit.browser, "ada", PASSWORD, "").await?;
    visit.browser.wait_for(".tiles").await?;
    Ok(visit)
}

/// An hour with an attack in it: what is counted, how the dial turned, circuits that were dealt with.
async fn an_hour(test_gate: &TestGate) {
    let (app, admin) = (&test_gate.app, test_gate.admin.clone().unwrap());
    let metrics = &app.metrics;
    for number in 1..=9_u32 {
        let mut visitor = test_gate.visitor().circuit(&format!("{CIRCUITS}{number}"));
        let page = visitor.get("/").await;
        if number < 7 {
            test_gate.clock.advance(Duration::from_secs(u64::from(4 + number)));
            test_gate.solve(&mut visitor, &page).await;
            visitor.get("/").await;
        } else {
            test_gate.submit(&mut visitor, &page, "WRONG-ANSWER").await;
        }
    }
    for tens in 0..360_u64 {
        test_gate.clock.advance(Duration::from_secs(10));
        let admit = Decision::Admit(Grant::Trusted(Session::sample(1, NOW)));
        let challenge = Decision::Challenge(Requirement { stages: 1, harder: false });
        // Two waves of visitors, and an attack from the 25th to the 40th minute.
        let attack = (150..240).contains(&tens);
        let wave = (tens as f64 / 40.0).sin() * 12.0 + (tens as f64 / 7.0).sin() * 5.0 + 24.0;
        let admitted = wave as u64;
        let challenged = if attack { 60 + tens % 17 * 3 } else { 5 + tens % 4 };
        let refused = if attack && tens > 165 { 45 + tens % 11 * 2 } else { tens % 2 };
        for _ in 0..admitted {
            metrics.engine.decision.decided(Duration::ZERO, Some(&admit));
        }
        for _ in 0..challenged {
            metrics.engine.decision.decided(Duration::ZERO, Some(&challenge));
        }
        for _ in 0..refused {
            metrics.web.error("banned");
        }
        let signals = Signals { new_circuits: 132, failing: 71, ..Signals::default() };
        let auto = Some(signals);
        let turn = match tens {
            152 => Some((7, ChangedBy::Auto, "pressure 110 % for 20 s", auto)),
            170 => Some((
                8,
                ChangedBy::Operator("ada by session".to_owned()),
                "bots on every page",
                None,
            )),
            255 => Some((6, ChangedBy::Auto, "quiet for 15 min", Some(Signals::default()))),
            330 => Some((5, ChangedBy::Auto, "quiet for 15 min", Some(Signals::default()))),
            _ => None,
        };
        if let Some((level, by, reason, signals)) = turn {
            let why = DialChange { at: app.clock.now(), by, reason: reason.to_owned(), signals };
            let level = ThreatLevel::new(level).unwrap();
            let turned = app
                .engine
                .parts()
                .threat
                .change_by_operator(why, move |dial| Some(Dial { level, ..dial.auto() }));
            turned.await.unwrap();
        }
        admin.count().await;
    }
    for number in [7_u32, 8, 9] {
        let circuit: TorCircuit = format!("{CIRCUITS}{number}").parse().unwrap();
        let circuit = circuit.during(app.boot());
        let until = app.clock.now().after(Duration::from_secs(1200));
        let reason = StatusReason::Operator;
        app.engine.parts().reputation.ban(circuit, until, reason).await.unwrap();
    }
    for number in [7, 3] {
        test_gate.visitor().circuit(&format!("{CIRCUITS}{number}")).get("/").await;
    }
}

/// Takes pictures of every page; none is wider than its window, and what is pressed can be hit.
async fn look_around(visit: &Visit, name: &str) -> Outcome {
    let (test_gate, browser) = (&visit.test_gate, &visit.browser);
    let circuit = format!("/admin/circuits/{}", tag_of(test_gate, &format!("{CIRCUITS}7")));
    for (what, path) in [
        ("overview", "/admin?refresh=off"),
        ("dial", "/admin/dial"),
        ("preview", "/admin/dial?level=9"),
        ("circuits", "/admin/circuits"),
        ("circuit", &circuit),
        ("challenges", "/admin/challenges?samples=true"),
        ("behaviour", "/admin/behaviour"),
        ("audit", "/admin/audit"),
        ("config", "/admin/config"),
        ("users", "/admin/users"),
        ("account", "/admin/account"),
    ] {
        browser.goto(&admin_url(test_gate, path)).await?;
        browser.wait_for("footer").await?;
        visit.take_picture(&format!("admin-{what}-{name}")).await?;
        let window = browser.number("html", "clientWidth").await?;
        let wide = browser.number("html", "scrollWidth").await?;
        assert!(wide <= window, "{path} is {wide} px wide in {window} px");
        for css in ["nav a", "main button", "main a.button"] {
            if browser.has(css).await? {
                let (left, _, width, height) = browser.rectangle(css).await?;
                assert!(left >= 0.0 && left + width <= window, "{path}: {css} at {left}");
                assert!(height >= 24.0 && width >= 24.0, "{path}: {css} is {width} x {height}");
            }
        }
    }
    Ok(())
}

async fn assert_contrast(visit: &Visit) -> Outcome {
    let (test_gate, browser) = (&visit.test_gate, &visit.browser);
    for (path, pairs) in [
        (
            "/admin?refresh=off",
            &[
                ("nav a:not([aria-current])", ".bar"),
                ("nav a[aria-current]", "nav a[aria-current]"),
                ("button.link", ".bar"),
                ("h1", "body"),
                (".top p", "body"),
                ("footer", "body"),
                (".tiles dt", ".tiles > div"),
                ("h3", ".card"),
                (".axis", ".card"),
                ("thead th", ".card"),
                (".card a", ".card"),
                (".tag", ".tag"),
                (".tag.good", ".tag.good"),
                (".tag.bad", ".tag.bad"),
                (".tag.plain", ".tag.plain"),
            ][..],
        ),
        (
            "/admin/dial?level=9&done=set",
            &[
                (".note.good", ".note.good"),
                ("button[type=submit]:not(.link)", "button[type=submit]:not(.link)"),
                ("button.second", ".card"),
                (".levels a", ".card"),
                (".levels a[aria-current]", ".levels a[aria-current]"),
                ("td.same", ".card"),
                ("tr.here td", "tr.here td"),
                ("label .soft", ".card"),
            ],
        ),
        ("/admin/users", &[("button.danger", "button.danger"), (".tag.warn", ".tag.warn")]),
    ] {
        browser.goto(&admin_url(test_gate, path)).await?;
        browser.wait_for("footer").await?;
        if path == "/admin/users" {
            browser.click("summary").await?;
        }
        for (front, back) in pairs {
            let ink = browser.css_value(front, "color").await?;
            let ground = browser.css_value(back, "background-color").await?;
            let contrast = contrast(&ink, &ground);
            assert!(contrast >= TEXT_CONTRAST, "{front} on {back}: {ink}, {ground}: {contrast:.2}");
        }
        if path == "/admin/users" {
            let edge = browser.css_value("#name", "border-top-color").await?;
            let ground = browser.css_value(".card", "background-color").await?;
            assert!(contrast(&edge, &ground) >= BORDER_CONTRAST, "{edge} on {ground}");
        }
    }
    Ok(())
}

async fn log_in(browser: &Browser, name: &str, password: &str, code: &str) -> Outcome {
    browser.fill("#name", name).await?;
    browser.fill("#password", password).await?;
    browser.fill("#code", code).await?;
    browser.submit("form").await
}

fn tag_of(test_gate: &TestGate, circuit: &str) -> String {
    let circuit = circuit.parse::<TorCircuit>().unwrap().during(test_gate.app.boot());
    test_gate.app.engine.parts().pseudonyms.tag(&CircuitId::Header(circuit)).hex()
}

fn unbase32(text: &str) -> TotpSecret {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: String =
        text.chars().map(|letter| format!("{:05b}", alphabet.find(letter).unwrap())).collect();
    let mut bytes = [0; SECRET_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&bits[at * 8..at * 8 + 8], 2).unwrap();
    }
    Secret::new(bytes)
}

/// The colours of a picture's px, one after another.
fn rgb(file: &[u8]) -> Vec<u8> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let channels = info.color_type.samples();
    bytes.chunks(channels).flat_map(|px| px[..3].to_vec()).collect()
}

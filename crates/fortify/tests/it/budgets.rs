//! One solve is a number of pages, and no more of them a minute than a person reads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use fortify_config::Config;
use fortify_core::circuit::{CircuitId, IdentityMode, TorCircuit};
use fortify_core::clock::Clock as _;
use fortify_core::entropy::SystemEntropy;
use fortify_engine::behaviour::{self, Outcome};
use fortify_engine::client::{Credentials, RequestHead};
use fortify_engine::decision::Decision;
use fortify_engine::session::Minted;
use fortify_engine::threat::table::{Admits, LevelOverride};
use fortify_engine::threat::{Mode, ThreatLevel};
use fortify_testkit::traffic::{self, Traffic};
use fortify_testkit::{Parts, Reply, TestGate, Visitor, fields};
use fortify_web::app::App;

const CIRCUIT: &str = "fc00:dead:beef:4dad::0:19";

/// A gate whose levels all have this budget: pages a minute, at once and in all.
async fn gate(budget: [u32; 3], change: impl FnOnce(&mut Parts)) -> TestGate {
    TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        let [per_minute, burst, pages] = budget;
        let row = |level| LevelOverride {
            challenges_per_hour: Some(10_000),
            admits: Some(Admits::Either),
            pages_per_minute: Some(per_minute),
            page_burst: Some(burst),
            pages_per_session: Some(pages),
            sessions_per_hour: Some(2),
            ..LevelOverride::of(level)
        };
        parts.config.threat.levels = ThreatLevel::ALL.map(row).to_vec();
        change(parts);
    })
    .await
}

async fn admitted(gate: &TestGate) -> Visitor {
    let mut visitor = gate.visitor().circuit(CIRCUIT);
    solve(gate, &mut visitor).await;
    visitor
}

/// Gets a challenge in place of the front page, and solves it.
async fn solve(gate: &TestGate, visitor: &mut Visitor) {
    let page = visitor.get("/").await;
    assert!(page.is_challenge(), "{}", page.status);
    assert_eq!(gate.solve(visitor, &page).await.status, StatusCode::SEE_OTHER);
}

async fn pages(visitor: &mut Visitor, count: usize) -> usize {
    let mut passed = 0;
    for _ in 0..count {
        passed += usize::from(visitor.get("/articles/1").await.status == StatusCode::OK);
    }
    passed
}

fn assert_says_to_wait(page: &Reply, seconds: &str) {
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(page.header("retry-after"), Some(seconds));
    assert_eq!(page.header("fortify-challenge"), Some("slow-down"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_solve_is_no_flood_and_who_waits_as_told_goes_on() {
    let gate = gate([60, 20, 1000], |_| ()).await;
    let mut visitor = admitted(&gate).await;
    assert_eq!(pages(&mut visitor, 200).await, 20);
    let page = visitor.get("/articles/1").await;
    assert_says_to_wait(&page, "2");
    let text = page.text();
    assert!(text.contains("Too many requests") && !text.contains("<script"), "{text}");
    assert!(text.contains(r#"http-equiv="refresh" content="2;url=/articles/1""#), "{text}");
    // Nor without the cookie, over the circuit that is trusted for the same session.
    let mut bare = gate.visitor().circuit(CIRCUIT);
    assert_says_to_wait(&bare.get("/articles/1").await, "2");
    // Somebody else's budget is their own.
    let mut other = gate.visitor().circuit("fc00:dead:beef:4dad::0:20");
    solve(&gate, &mut other).await;
    assert_eq!(pages(&mut other, 5).await, 5);
    gate.clock.advance(Duration::from_secs(2));
    assert_eq!(pages(&mut visitor, 2).await, 2);
    gate.clock.advance(Duration::from_secs(60));
    assert_eq!(pages(&mut visitor, 25).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_told_in_json_and_a_form_is_not_thrown_away() {
    let gate = gate([60, 4, 1000], |_| ()).await;
    let mut visitor = admitted(&gate).await;
    assert_eq!(pages(&mut visitor, 4).await, 4);
    let script = [("sec-fetch-dest", "empty"), ("accept", "*/*")];
    let reply = visitor.get_with("/poll", &script).await;
    assert_says_to_wait(&reply, "1");
    assert_eq!(reply.json()["success"], false);
    let message = reply.json()["message"].to_string();
    assert!(message.contains("Send this one again"), "{message}");
    let form = fields(&[("message", "hello")]);
    let page = visitor.post_form("/guestbook", &form).await;
    assert_says_to_wait(&page, "2");
    assert!(!page.text().contains("http-equiv"), "the browser would leave the form");
    assert!(page.text().contains("reload this page to send it again"), "{}", page.text());
    gate.clock.advance(Duration::from_secs(2));
    let sent = visitor.post_form("/guestbook", &form).await;
    // The service does not know the field; it was asked.
    assert_eq!(sent.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_kept_it_up_for_a_minute_has_no_session_any_more() {
    let gate = gate([30, 5, 10_000], |_| ()).await;
    let mut visitor = admitted(&gate).await;
    for _ in 0..180 {
        let page = visitor.get("/articles/1").await;
        gate.clock.advance(Duration::from_millis(400));
        if page.is_challenge() {
            // Neither the cookie nor the circuit opens anything now.
            let mut bare = gate.visitor().circuit(CIRCUIT);
            assert!(bare.get("/articles/1").await.is_challenge());
            return;
        }
    }
    panic!("a flood went on for 72 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_quota_is_renewed_in_place_and_the_form_goes_on() {
    let gate = gate([600, 100, 20], |_| ()).await;
    let mut visitor = admitted(&gate).await;
    assert_eq!(pages(&mut visitor, 30).await, 18, "two are kept for assets");
    let asset = [("sec-fetch-dest", "image")];
    let asset = visitor.get_with("/articles/1", &asset).await;
    assert_eq!(asset.status, StatusCode::OK, "of the last page");
    let form = fields(&[("message", "kept")]);
    let page = visitor.post_form("/guestbook", &form).await;
    assert!(page.is_challenge() && page.try_field("carried").is_some(), "{}", page.text());
    assert_eq!(page.header("fortify-challenge"), Some("required"));
    let mut bare = gate.visitor().circuit(CIRCUIT);
    assert!(bare.get("/articles/1").await.is_challenge(), "the circuit has no budget of its own");
    let resumed = gate.solve(&mut visitor, &page).await;
    assert!(resumed.text().contains("kept"), "{}", resumed.text());
    assert_eq!(pages(&mut visitor, 30).await, 18, "a new budget");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_beyond_those_of_an_hour_are_slow_and_their_visitor_is_told_why() {
    let gate = gate([600, 100, 20], |_| ()).await;
    let mut visitor = gate.visitor().circuit(CIRCUIT);
    for session in 1..=2 {
        solve(&gate, &mut visitor).await;
        assert_eq!(pages(&mut visitor, 30).await, 18, "session {session}");
    }
    solve(&gate, &mut visitor).await;
    assert_eq!(pages(&mut visitor, 30).await, 10, "a tenth of the burst");
    let page = visitor.get("/articles/1").await;
    assert_says_to_wait(&page, "1");
    let text = page.text();
    assert!(text.contains("New Tor circuit for this site") && text.contains("minutes"), "{text}");
    // Another circuit is not slower for it.
    let mut other = gate.visitor().circuit("fc00:dead:beef:4dad::0:20");
    solve(&gate, &mut other).await;
    assert_eq!(pages(&mut other, 30).await, 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_a_page_is_told_that_it_meets_the_gate_and_not_the_service() {
    let gate = gate([600, 100, 20], |_| ()).await;
    let mut visitor = gate.visitor().circuit(CIRCUIT);
    let script = [("sec-fetch-dest", "empty"), ("sec-fetch-mode", "cors"), ("accept", "*/*")];
    let asked = [&script[..], &[("accept", "application/json")]];
    for headers in asked {
        let reply = visitor.get_with("/poll", headers).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert_eq!(reply.header("fortify-challenge"), Some("required"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(reply.json()["message"].to_string().contains("challenge"));
    }
    let session = visitor.get_with("/api/session", &[("accept", "text/html")]).await;
    assert_eq!(session.json()["success"], false, "JSON whatever a program accepts");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_nginx_a_budget_is_paid_once_and_the_page_says_to_wait() {
    let gate = gate([60, 10, 1000], |parts| parts.config.upstream.servers = Vec::new()).await;
    let mut visitor = admitted(&gate).await;
    let about = [("x-original-uri", "/articles/1"), ("x-original-method", "GET")];
    for _ in 0..10 {
        let asked = visitor.get_with("/_fortify/auth", &about).await;
        assert_eq!(asked.status, StatusCode::NO_CONTENT);
    }
    let asked = visitor.get_with("/_fortify/auth", &about).await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert_says_to_wait(&visitor.get("/articles/1").await, "1");
    // There is room again before nginx has brought the request here.
    gate.clock.advance(Duration::from_millis(1500));
    assert_says_to_wait(&visitor.get("/articles/1").await, "1");
    let asked = visitor.get_with("/_fortify/auth", &about).await;
    assert_eq!(asked.status, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_tries_passwords_solves_before_each_further_log_in() {
    let gate = gate([6000, 1000, 10_000], |parts| {
        parts.config.behaviour.mode = behaviour::Mode::Act;
    })
    .await;
    let mut visitor = admitted(&gate).await;
    let form = fields(&[("user", "a"), ("password", "b")]);
    let mut page = visitor.post_form("/login", &form).await;
    for _ in 0..100 {
        if page.is_challenge() {
            break;
        }
        page = visitor.post_form("/login", &form).await;
    }
    assert!(page.is_challenge(), "a hundred passwords");
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK, "reading goes on");
    while page.is_challenge() {
        page = gate.solve(&mut visitor, &page).await;
    }
    assert!(page.text().contains("password"), "the form was kept: {}", page.text());
    assert!(!visitor.post_form("/login", &form).await.is_challenge(), "one log-in");
    assert!(visitor.post_form("/login", &form).await.is_challenge(), "and no second");
}

/// Plays what 3,000 people do in two hours to the engine, at `level` as shipped. Returns how many of them were refused
/// for their rate or had to solve before their session ended, and how many there were.
async fn people_at(level: u8, people: usize) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.storage.data_dir = dir.path().to_owned();
    config.captcha.drawn_ahead = 0;
    config.threat.level = ThreatLevel::new(level);
    config.threat.mode = Mode::Pinned;
    config.behaviour.mode = behaviour::Mode::Act;
    let clock = traffic::clock();
    let app = App::build(Arc::new(config), clock.clone(), Arc::new(SystemEntropy)).unwrap();
    let (engine, traffic) = (&app.engine, Traffic::new(7, people, 0));
    let (sessions, reputation) = (engine.parts().sessions, engine.parts().reputation);
    let mut held: Vec<Option<Minted>> = traffic.actors.iter().map(|_| None).collect();
    let mut met = BTreeSet::new();
    for event in &traffic.events {
        let Outcome::Passed(_) = event.outcome else { continue };
        clock.set(traffic::START.after(Duration::from_millis(event.at)));
        let tor = TorCircuit::from_parts(0, 0, event.actor as u32);
        loop {
            let cookie = held[event.actor].as_ref().map(|minted| minted.token.clone());
            let credentials =
                Credentials { sessions: cookie.into_iter().collect(), ..Credentials::default() };
            let head = RequestHead {
                target: Some(event.path.as_bytes()),
                post: event.post,
                writes: event.post,
                loaded: false,
                body_expired: None,
            };
            let client = engine.identify(CircuitId::Header(tor), credentials, &head).await.unwrap();
            let now = clock.now();
            let in_force = |minted: &Minted| now < minted.session.expires_at;
            match engine.admit(&client).await.unwrap() {
                Decision::Admit(_) => client.record(event.outcome),
                Decision::SlowDown(_) => drop(met.insert(event.actor)),
                Decision::Challenge(_) => {
                    if held[event.actor].as_ref().is_some_and(in_force) {
                        met.insert(event.actor);
                    }
                    client.skip();
                    let minted = sessions.mint(client.tag, level).unwrap();
                    let until = now.after(Duration::from_secs(7200));
                    reputation.trust(tor, minted.session, until).await.unwrap();
                    held[event.actor] = Some(minted);
                    continue;
                }
                Decision::Refuse(_) => unreachable!("nobody is banned"),
            }
            break;
        }
    }
    (met.len(), people)
}

/// `FORTIFY_PEOPLE=3000` for all of them; fewer by default, because a debug build takes its time.
#[tokio::test(flavor = "multi_thread")]
async fn people_meet_neither_limit_of_their_budgets() {
    let people = std::env::var("FORTIFY_PEOPLE").ok().and_then(|text| text.parse().ok());
    for (level, most) in [(5, 0.001), (8, 0.02)] {
        let (met, people) = people_at(level, people.unwrap_or(100)).await;
        println!("level {level}: {met} of {people} people met a limit");
        assert!(met as f64 <= most * people as f64, "level {level}: {met} of {people}");
    }
}

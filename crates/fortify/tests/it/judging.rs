//! Whom the gate asks more of, whom it has wait, and in which order.

use std::time::Duration;

use axum::http::StatusCode;
use fortify_captcha::Answer;
use fortify_core::allowance::Rate;
use fortify_core::circuit::{IdentityMode, TorCircuit};
use fortify_core::clock::Clock as _;
use fortify_core::entropy::SystemEntropy;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::table::{Admits, LevelOverride};
use fortify_reputation::{CircuitStatus, StatusReason};
use fortify_store::record::{ChallengeToken, Session};
use fortify_testkit::wait::eventually;
use fortify_testkit::{Parts, Reply, TestGate, Visitor, fields};
use serde_json::json;

/// A gate for circuits whose levels are as shipped, but for what `change` says.
async fn test_gate(change: impl FnOnce(&mut Parts)) -> TestGate {
    TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.threat.levels.clear();
        change(parts);
    })
    .await
}

fn circuit(number: u32) -> String {
    format!("fc00:dead:beef:4dad::{:x}:{:x}", number >> 16, number & 0xffff)
}

/// A level's row with some of it changed.
fn row(level: u8, change: impl FnOnce(&mut LevelOverride)) -> LevelOverride {
    let mut row = LevelOverride::of(ThreatLevel::new(level).unwrap());
    change(&mut row);
    row
}

/// Waits until as many circuits are trusted: that is written behind the answer's back.
async fn trusted(test_gate: &TestGate, circuits: usize) {
    eventually("so many are trusted", || {
        test_gate.app.engine.parts().reputation.counts().trusted >= circuits
    })
    .await;
}

/// Waits until all standings told so far are written: they are in their order.
async fn written(test_gate: &TestGate) {
    let other = TorCircuit::from_parts(0, 0, u32::MAX);
    let (status, reason) = (CircuitStatus::Trusted, StatusReason::Operator);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .set(other, status, test_gate.clock.now(), reason)
        .await
        .unwrap();
}

/// What is in front of people between two pages.
async fn read_for(test_gate: &TestGate, millis: u64) {
    test_gate.clock.advance(Duration::from_millis(millis));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_challenges_in_a_row_lead_to_one_session() {
    let test_gate = test_gate(|parts| {
        parts.config.captcha.level = 9;
        parts.config.threat.levels = vec![row(9, |row| row.stages = Some(3))];
    })
    .await;
    let mut visitor = test_gate.visitor().circuit(&circuit(1));
    let first = visitor.get("/articles/1").await;
    assert!(first.text().contains("Picture 1 of 3"));
    let second = test_gate.solve(&mut visitor, &first).await;
    assert!(!second.admits() && second.text().contains("Picture 2 of 3"));
    assert!(second.text().contains("That was right"));
    assert!(!visitor.get("/articles/1").await.text().contains("Article"));

    // A wrong answer costs no stage, and a page that is asked for again goes on where it was.
    let wrong = test_gate.submit(&mut visitor, &second, "NO").await;
    assert!(wrong.text().contains("Picture 2 of 3"));
    let again = visitor.get("/articles/1").await;
    assert!(again.text().contains("Picture 2 of 3"));
    let third = test_gate.solve(&mut visitor, &again).await;
    assert!(third.text().contains("Picture 3 of 3"));
    let before = visitor.clone();
    let done = test_gate.solve(&mut visitor, &third).await;
    assert!(done.admits());
    assert_eq!(done.header("location"), Some("/articles/1"));
    assert!(!visitor.cookies.contains_key("captcha_stage_1"));
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);

    // Of answers that come at once with the same stages one is a session.
    let mut visitor = test_gate.visitor().circuit(&circuit(9));
    let first = visitor.get("/").await;
    let second = test_gate.solve(&mut visitor, &first).await;
    let third = test_gate.solve(&mut visitor, &second).await;
    let mut pages = vec![third];
    for _ in 0..2 {
        pages.push(visitor.get("/").await);
    }
    // All of them before the first is sent: it may be the same challenge.
    let mut forms = Vec::new();
    for page in &pages {
        let token = page.field("token");
        forms.push(fields(&[("token", &token), ("answer", &test_gate.answer(&token).await)]));
    }
    let mut answers = Vec::new();
    for form in forms {
        let mut visitor = visitor.clone();
        answers.push(tokio::spawn(async move {
            visitor.post_form("/validate-captcha", &form).await;
            visitor.cookies.remove("cerberus_session")
        }));
    }
    let mut sessions = Vec::new();
    for answer in answers {
        sessions.push(answer.await.unwrap().expect("a session"));
    }
    sessions.dedup();
    assert_eq!(sessions.len(), 1, "of three at once");

    // The stages of a row that is done are good for nothing.
    let mut replayed = before;
    assert!(replayed.get("/").await.text().contains("Picture 1 of 3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_16_a_stage_is_its_circuits_and_needs_its_cookie() {
    let test_gate = test_gate(|parts| parts.config.captcha.level = 9).await;
    let mut visitor = test_gate.visitor().circuit(&circuit(1));
    let first = visitor.get("/").await;
    let second = test_gate.solve(&mut visitor, &first).await;
    assert!(second.text().contains("Picture 2 of 2"));

    // Another circuit with the same cookies stands at the beginning.
    let mut thief = visitor.clone().circuit(&circuit(2));
    let theirs = thief.get("/").await;
    assert!(theirs.text().contains("Picture 1 of 2"));
    assert!(!test_gate.solve(&mut thief, &theirs).await.admits());

    // Without the cookie the second answer is a first one.
    let mut forgetful = visitor.clone();
    forgetful.cookies.remove("captcha_stage_1").unwrap();
    let answered = test_gate.solve(&mut forgetful, &second).await;
    assert!(!answered.admits() && answered.text().contains("Picture 2 of 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stages_of_the_simple_api() {
    let test_gate = test_gate(|parts| parts.config.captcha.level = 9).await;
    let mut visitor = test_gate.visitor().circuit(&circuit(1));
    let issued = visitor.post_json("/captcha/generate", &json!({})).await.json();
    assert_eq!((&issued["stage"], &issued["stages"]), (&1.into(), &2.into()));
    let mut token = issued["token"].as_str().unwrap().to_owned();
    for stage in 1..=2 {
        let body = json!({"challenge_id": token, "solution": test_gate.answer(&token).await});
        let reply = visitor.post_json("/verify-captcha", &body).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.admits(), stage == 2, "{}", reply.text());
        if stage == 1 {
            let next = &reply.json()["next"];
            assert_eq!((&next["stage"], &next["stages"]), (&2.into(), &2.into()));
            token = next["token"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_nobody_sees_is_filled_in_by_programs_alone() {
    let test_gate = test_gate(|parts| parts.config.captcha.level = 5).await;
    let mut bot = test_gate.visitor().circuit(&circuit(1));
    for round in 0..2 {
        let page = bot.get("/").await;
        let token = page.field("token");
        let mut form = fields(&[("token", &token), ("answer", &test_gate.answer(&token).await)]);
        // Whatever is there is filled in.
        let names = fortify_web::traps::names(&token);
        assert!(names.iter().all(|name| page.text().contains(&format!("name=\"{name}\""))));
        form.extend(names.map(|name| (name, "http://spam.example".to_owned())));
        let reply = bot.post_form("/validate-captcha", &form).await;
        assert!(!reply.admits(), "the right answer of a program");
        if round == 0 {
            assert!(reply.is_challenge() && reply.text().contains("That was not right"));
        }
    }
    assert_eq!(bot.get("/").await.status, StatusCode::FORBIDDEN);
    assert!(!bot.get("/").await.is_challenge(), "two answers of a bot, and no ban");
    assert!(test_gate.visitor().circuit(&circuit(2)).get("/").await.is_challenge());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_22_who_answers_like_a_program_is_asked_once_more_and_let_in() {
    let test_gate = test_gate(|parts| parts.config.reputation.scoring.suspects = true).await;
    // A person takes a while, and gets in with one answer.
    let mut person = test_gate.visitor().circuit(&circuit(1));
    let page = person.get("/").await;
    read_for(&test_gate, 6000).await;
    assert!(test_gate.solve(&mut person, &page).await.admits());
    assert_eq!(test_gate.app.engine.parts().reputation.penalised(), []);

    // An answer that comes with its page costs one more, of a harder kind.
    let mut quick = test_gate.visitor().circuit(&circuit(2));
    let page = quick.get("/").await;
    read_for(&test_gate, 300).await;
    let next = test_gate.solve(&mut quick, &page).await;
    assert!(!next.admits() && next.text().contains("Picture 2 of 2"));
    assert_eq!(test_gate.app.engine.parts().reputation.penalised().len(), 1, "HAProxy is not told");
    let token: ChallengeToken = next.field("token").parse().unwrap();
    let record = test_gate.app.engine.parts().store.challenge(&token).await.unwrap().unwrap();
    assert_eq!(record.level, 6);
    assert!(["object_recognition", "pattern_completion"].contains(&&*record.variant));
    // A picture that is fetched late is answered late.
    let mut late = test_gate.visitor().circuit(&circuit(3));
    let asked = late.post_json("/captcha/generate", &json!({})).await.json();
    read_for(&test_gate, 9000).await;
    assert_eq!(late.get(asked["image"].as_str().unwrap()).await.status, StatusCode::OK);
    read_for(&test_gate, 300).await;
    let id = asked["token"].as_str().unwrap();
    let answer = json!({"challenge_id": id, "solution": test_gate.answer(id).await});
    let more = late.post_json("/verify-captcha", &answer).await;
    assert_eq!(more.json()["message"], "One more", "timed from when it was asked for");

    // Whoever does not answer it is neither in nor trusted.
    written(&test_gate).await;
    assert!(test_gate.visitor().circuit(&circuit(2)).get("/articles/1").await.is_challenge());
    read_for(&test_gate, 6000).await;
    assert!(test_gate.solve(&mut quick, &next).await.admits(), "an honest quick one is locked out");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_calm_times_a_trusted_circuit_needs_no_cookie() {
    let calm = test_gate(|_| {}).await;
    let mut visitor = calm.visitor().circuit(&circuit(1));
    let page = visitor.get("/articles/1").await;
    assert!(calm.solve(&mut visitor, &page).await.admits());
    trusted(&calm, 1).await;
    let mut bare = calm.visitor().circuit(&circuit(1));
    assert_eq!(bare.get("/articles/1").await.status, StatusCode::OK);
    assert_eq!(bare.get("/_fortify/auth").await.status, StatusCode::NO_CONTENT);
    assert!(calm.visitor().circuit(&circuit(2)).get("/articles/1").await.is_challenge());
    // Who leaves is not let in for having been here.
    assert_eq!(visitor.post_json("/api/session/logout", &json!({})).await.status, StatusCode::OK);
    assert!(bare.get("/articles/1").await.is_challenge());
}

#[tokio::test(flavor = "multi_thread")]
async fn under_threat_a_session_and_a_trusted_circuit_are_both_needed() {
    let severe = test_gate(|parts| {
        parts.config.captcha.level = 6;
        parts.config.session.max_moves = 3;
    })
    .await;
    let mut visitor = severe.visitor().circuit(&circuit(1));
    let page = visitor.get("/articles/1").await;
    assert!(severe.solve(&mut visitor, &page).await.admits());
    trusted(&severe, 1).await;
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
    let mut bare = severe.visitor().circuit(&circuit(1));
    assert!(bare.get("/articles/1").await.is_challenge(), "a trusted circuit alone");
    let mut moved = visitor.clone().circuit(&circuit(2));
    assert!(moved.get("/articles/1").await.is_challenge(), "a session alone");
    // Who uses the site stays trusted for longer than the half hour.
    let mut home = severe.visitor().circuit(&circuit(3));
    let page = home.get("/").await;
    assert!(severe.solve(&mut home, &page).await.admits());
    let reputation = &severe.app.engine.parts().reputation;
    eventually("the circuit is trusted", || {
        reputation.status(TorCircuit::from_parts(0, 0, 3)) == Some(CircuitStatus::Trusted)
    })
    .await;
    for _ in 0..4 {
        severe.clock.advance(Duration::from_secs(600));
        assert_eq!(home.get("/articles/1").await.status, StatusCode::OK);
        written(&severe).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_has_as_many_challenges_a_minute_and_an_hour_as_it_may() {
    let test_gate = test_gate(|parts| {
        parts.config.limits.challenges_per_minute = 10;
        parts.config.captcha.level = 5;
    })
    .await;
    let mut loud = test_gate.visitor().circuit(&circuit(1));
    let mut page = loud.get("/").await;
    let mut shown = 1;
    for minute in 0..4 {
        for _ in 0..12 {
            let next = fields(&[("token", &page.field("token")), ("another", "1")]);
            let reply = loud.post_form("/validate-captcha", &next).await;
            if reply.is_challenge() {
                shown += 1;
                page = reply;
            } else {
                assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
                assert!(reply.text().contains("many pictures"));
            }
        }
        assert_eq!(shown, (10 * (minute + 1)).min(30), "10 a minute and 30 an hour at level 5");
        test_gate.clock.advance(Duration::from_secs(60));
    }
    assert!(test_gate.visitor().circuit(&circuit(2)).get("/").await.is_challenge());
    test_gate.clock.advance(Duration::from_secs(3600));
    assert!(loud.get("/").await.is_challenge());
}

/// A wish costs what a challenge costs: otherwise it would be the way to look for an easy one.
#[tokio::test(flavor = "multi_thread")]
async fn another_kind_is_a_challenge_like_any_other() {
    let test_gate = test_gate(|parts| {
        parts.config.limits.challenges_per_minute = 10;
        parts.config.captcha.level = 5;
    })
    .await;
    for (number, preference) in (1..).zip(["letters", "still", "1"]) {
        let mut visitor = test_gate.visitor().circuit(&circuit(number));
        let mut page = visitor.get("/").await;
        let ask = |page: &Reply| {
            fields(&[("token", &page.field("token")), ("return_to", "/"), ("another", preference)])
        };
        for shown in 2..=10 {
            page = visitor.post_form("/validate-captcha", &ask(&page)).await;
            assert!(page.is_challenge(), "{preference}: {shown}");
        }
        let refused = visitor.post_form("/validate-captcha", &ask(&page)).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{preference}");
        assert!(
            refused.text().contains("many pictures") && refused.header("retry-after").is_some()
        );
        // What is there is shown, and can still be answered.
        assert_eq!(visitor.get("/").await.field("token"), page.field("token"), "{preference}");
        assert!(test_gate.solve(&mut visitor, &page).await.admits(), "{preference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_25_answers_to_nothing_do_not_turn_the_dial() {
    let test_gate = test_gate(|_| {}).await;
    let made_up = ChallengeToken::random(&SystemEntropy).unwrap().encode();
    let body = json!({"challenge_id": made_up, "solution": "ACDEFH"});
    for number in 0..20 {
        let mut bot = test_gate.visitor().circuit(&circuit(number));
        assert_eq!(bot.post_json("/verify-captcha", &body).await.status, StatusCode::FORBIDDEN);
    }
    let signals = test_gate.app.engine.parts().threat.signals();
    assert_eq!(signals.sample(0).failing, 0);
    // A wrong answer to a challenge does.
    let mut visitor = test_gate.visitor().circuit(&circuit(99));
    let page = visitor.get("/").await;
    test_gate.submit(&mut visitor, &page, "WRONG").await;
    assert_eq!(signals.sample(0).failing, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_session_can_end_it_also_where_it_is_not_enough() {
    let test_gate = test_gate(|parts| parts.config.captcha.level = 6).await;
    let mut visitor = test_gate.visitor().circuit(&circuit(1));
    let page = visitor.get("/").await;
    assert!(test_gate.solve(&mut visitor, &page).await.admits());
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
    let trusted = TorCircuit::from_parts(0, 0, 1);
    test_gate.app.engine.parts().reputation.end_trust(trusted).await.unwrap();
    assert!(visitor.get("/articles/1").await.is_challenge());
    let mut later = visitor.clone();
    assert_eq!(visitor.post_json("/api/session/logout", &json!({})).await.status, StatusCode::OK);
    let until = test_gate.clock.now().after(Duration::from_secs(600));
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .trust(trusted, Session::sample(1, until), until)
        .await
        .unwrap();
    assert!(later.get("/articles/1").await.is_challenge(), "the session is still in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_takes_no_ban_back() {
    let test_gate = test_gate(|_| {}).await;
    let banned = TorCircuit::from_parts(0, 0, 1);
    let until = test_gate.clock.now().after(Duration::from_secs(600));
    test_gate.app.engine.parts().reputation.ban(banned, until, StatusReason::Score).await.unwrap();
    test_gate.app.engine.parts().reputation.end_trust(banned).await.unwrap();
    assert_eq!(test_gate.app.engine.parts().reputation.status(banned), Some(CircuitStatus::Banned));
}

/// The address at which a page that waits asks again.
fn ask_again(reply: &Reply) -> Option<(u64, String)> {
    let text = reply.text();
    let refresh = text.split("http-equiv=\"refresh\" content=\"").nth(1)?.split('"').next()?;
    let (seconds, address) = refresh.split_once(";url=")?;
    Some((seconds.parse().ok()?, address.replace("&amp;", "&").replace("&#38;", "&")))
}

/// Comes back as its page says until it gets a challenge: after how many seconds.
async fn waits_for_a_challenge(test_gate: &TestGate, visitor: &mut Visitor, at_most: u64) -> u64 {
    let mut reply = visitor.get("/articles/1").await;
    let mut waited = 0;
    while !reply.is_challenge() {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.text());
        assert!(reply.text().contains("You are in line"), "{}", reply.text());
        let (seconds, address) = ask_again(&reply).unwrap();
        test_gate.clock.advance(Duration::from_secs(seconds));
        waited += seconds;
        assert!(waited <= at_most, "still waits after {waited} s");
        reply = visitor.get(&address).await;
    }
    let return_to = reply.field("return_to");
    assert_eq!(return_to, "/articles/1");
    waited
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_services_own_number_visitors_wait_in_turn() {
    let test_gate = test_gate(|parts| {
        parts.config.limits.service = Rate { per_minute: 30, per_second: 30 };
    })
    .await;
    for number in 0..11 {
        assert!(test_gate.visitor().circuit(&circuit(100 + number)).get("/").await.is_challenge());
    }
    // All is given out. Who comes first is first, and a ticket is no good for anybody else.
    let mut first = test_gate.visitor().circuit(&circuit(1));
    let mut second = test_gate.visitor().circuit(&circuit(2));
    let place = first.get("/articles/1").await;
    assert!(place.text().contains("You are next"), "{}", place.text());
    assert_eq!(place.header("retry-after"), Some("3"));
    let (_, ticket) = ask_again(&place).unwrap();
    let behind = second.get("/articles/1").await;
    assert_eq!(behind.header("retry-after"), Some("3"));
    let mut thief = test_gate.visitor().circuit(&circuit(3));
    assert!(!thief.get(&ticket).await.is_challenge(), "another circuit's ticket");
    test_gate.clock.advance(Duration::from_secs(4));
    let called = first.get(&ticket).await;
    let again = first.get(&ticket).await;
    assert_eq!(called.field("token"), again.field("token"), "a ticket was good for two");

    // A form that meets the line leads back to the page that it was on.
    let mut writer = test_gate.visitor().circuit(&circuit(6));
    let sent = writer.post_form("/guestbook", &fields(&[("name", "Ada")])).await;
    let (_, address) = ask_again(&sent).unwrap();
    assert!(!address.contains("to=%2Fguestbook"), "{address}");

    // As JSON.
    let mut program = test_gate.visitor().circuit(&circuit(4));
    let told = program.post_json("/captcha/generate", &json!({})).await;
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told.json()["refresh"], 3);
    let ticket = told.json()["ticket"].as_str().unwrap().to_owned();
    test_gate.clock.advance(Duration::from_secs(5));
    let body = json!({ "ticket": ticket });
    let issued = program.post_json("/captcha/generate", &body).await;
    assert_eq!(issued.status, StatusCode::OK, "{}", issued.text());
}

/// 2,000 requests for challenges a second from 400 circuits, and a person who comes meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abuse_18_a_flood_makes_a_newcomer_wait_for_ten_seconds_at_most() {
    let test_gate = test_gate(|parts| {
        parts.config.limits.challenges_per_minute = 10;
        parts.config.limits.service = Rate { per_minute: 1000, per_second: 1000 };
        parts.config.captcha.drawn_ahead = 0;
    })
    .await;
    let mut flood: Vec<(Visitor, Option<String>)> = (0..400)
        .map(|number| {
            let mut bot = test_gate.visitor().circuit(&circuit(1000 + number));
            bot.headers.insert("accept", "application/json".parse().unwrap());
            (bot, None)
        })
        .collect();
    let mut drawn = 0;
    for second in 0..20_u32 {
        // Each of the 400 asks five times in the second; what is refused costs no picture.
        for _ in 0..5 {
            let asks = flood.drain(..).map(|(mut bot, token)| {
                tokio::spawn(async move {
                    let got = match &token {
                        None => bot.post_json("/captcha/generate", &json!({})).await.json(),
                        Some(token) => {
                            let next = fields(&[("token", token), ("another", "1")]);
                            bot.post_form("/validate-captcha", &next).await.json()["next"].clone()
                        }
                    };
                    let next = got["token"].as_str().map(str::to_owned);
                    let drawn = next.is_some() && next != token;
                    (bot, next.or(token), drawn)
                })
            });
            for ask in asks.collect::<Vec<_>>() {
                let (bot, token, got) = ask.await.unwrap();
                drawn += u32::from(got);
                flood.push((bot, token));
            }
        }
        test_gate.clock.advance(Duration::from_secs(1));
        if second % 5 == 2 {
            let mut person = test_gate.visitor().circuit(&circuit(5000 + second));
            let waited = waits_for_a_challenge(&test_gate, &mut person, 10).await;
            println!("in second {second} of the flood a newcomer waited {waited} s");
        }
    }
    println!(
        "{drawn} challenges went to the flood; {} wait",
        test_gate.app.engine.parts().limits.waiting()
    );
    assert!(drawn <= 1000, "{drawn} challenges in less than a minute");
}

/// What one of a kind of visitors got in an hour.
#[derive(Default)]
struct Hour {
    visitors: u32,
    admitted: u32,
    requests: u32,
    extra: u32,
}

async fn answer_of(test_gate: &TestGate, page: &Reply) -> String {
    let token: ChallengeToken = page.field("token").parse().unwrap();
    let record = test_gate.app.engine.parts().store.challenge(&token).await.unwrap().unwrap();
    Answer::decode(record.answer.expose()).unwrap().reveal()
}

/// Each kind against the real gate for a simulated hour; the table in docs/decisions.md.
#[tokio::test(flavor = "multi_thread")]
async fn people_get_in_and_guessers_do_not() {
    let test_gate = test_gate(|parts| {
        parts.config.reputation.scoring.suspects = true;
        parts.config.limits.challenges_per_minute = 10;
        parts.config.limits.failure_waits = fortify_engine::limits::waits::FailureWaits::default();
        parts.config.security.max_captcha_failures = 5;
        parts.config.threat.levels = ThreatLevel::ALL
            .map(|level| LevelOverride {
                admits: Some(Admits::Session),
                ..LevelOverride::of(level)
            })
            .to_vec();
    })
    .await;
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let start = test_gate.clock.clone();
    let mut table = Vec::new();

    // People: 5 to 25 s for a picture, one answer in twelve wrong, then a visit of pages.
    let mut people = Hour::default();
    for number in 0..60 {
        let mut person = test_gate.visitor().circuit(&circuit(10_000 + number));
        let mut page = person.get("/").await;
        people.visitors += 1;
        let mut challenges = 0;
        while page.is_challenge() && challenges < 4 {
            challenges += 1;
            let answer = match random(12) {
                0 => "WRONG".to_owned(),
                _ => answer_of(&test_gate, &page).await,
            };
            start.advance(Duration::from_millis(5000 + random(20_000)));
            page = test_gate.submit(&mut person, &page, &answer).await;
        }
        people.admitted += u32::from(page.admits());
        people.extra += u32::from(challenges > 2);
        for _ in 0..3 {
            people.requests += u32::from(person.get("/articles/1").await.status == StatusCode::OK);
        }
    }
    assert!(people.admitted * 100 >= people.visitors * 98, "{} people", people.admitted);
    assert!(people.extra * 50 <= people.visitors, "{} had more than one extra", people.extra);
    table.push(("a person", people));

    // A bot that guesses: six letters at random, for an hour, as often as it may.
    let mut guesser = Hour { visitors: 1, ..Hour::default() };
    let mut bot = test_gate.visitor().circuit(&circuit(20_000));
    let end = test_gate.clock.now().after(Duration::from_secs(3600));
    while test_gate.clock.now() < end {
        let page = bot.get("/").await;
        guesser.requests += 1;
        if page.is_challenge() {
            let guess: String = (0..6).map(|_| char::from(b'A' + random(26) as u8)).collect();
            guesser.admitted += u32::from(test_gate.submit(&mut bot, &page, &guess).await.admits());
        }
        start.advance(Duration::from_secs(10));
    }
    assert_eq!(guesser.admitted, 0);
    table.push(("a bot that guesses", guesser));

    // Bots that read every picture: in 300 ms, and after a jittered 8 s; with a session each time.
    for (name, number, least, jitter) in [
        ("a bot that reads, in 300 ms", 30_000, 300, 1),
        ("a bot that reads, after a jittered 8 s", 40_000, 7000, 2000),
    ] {
        let mut reader = Hour { visitors: 1, ..Hour::default() };
        let mut bot = test_gate.visitor().circuit(&circuit(number));
        let end = test_gate.clock.now().after(Duration::from_secs(3600));
        while test_gate.clock.now() < end {
            bot.cookies.clear();
            let mut page = bot.get("/").await;
            reader.requests += 1;
            let mut challenges = 0;
            while page.is_challenge() && challenges < 4 {
                challenges += 1;
                let answer = answer_of(&test_gate, &page).await;
                start.advance(Duration::from_millis(least + random(jitter)));
                page = test_gate.submit(&mut bot, &page, &answer).await;
            }
            reader.admitted += u32::from(page.admits());
            reader.extra += u32::from(challenges > 1);
            start.advance(Duration::from_secs(18));
        }
        // The hour's challenges bound it, and from the fifth answer on each session costs two.
        assert!(reader.admitted <= 60, "{name}: {}", reader.admitted);
        assert!(
            reader.extra * 2 >= reader.admitted,
            "{name}: {} of {}",
            reader.extra,
            reader.admitted
        );
        table.push((name, reader));
    }

    // A farm: 200 circuits that collect challenges and answer none.
    let mut farm = Hour { visitors: 200, ..Hour::default() };
    let mut challenges = 0;
    for number in 0..200 {
        let mut bot = test_gate.visitor().circuit(&circuit(50_000 + number));
        let mut page = bot.get("/").await;
        for _ in 0..12 {
            farm.requests += 1;
            if page.is_challenge() {
                challenges += 1;
                let next = fields(&[("token", &page.field("token")), ("another", "1")]);
                page = bot.post_form("/validate-captcha", &next).await;
            }
        }
        start.advance(Duration::from_secs(1));
    }
    assert!(challenges <= 200 * 10);
    table.push(("a farm of 200 circuits", farm));

    println!(
        "| Who | Visitors | Asked | Sessions | With an extra challenge |\n|---|---|---|---|---|"
    );
    for (name, hour) in table {
        let Hour { visitors, requests, admitted, extra } = hour;
        println!("| {name} | {visitors} | {requests} | {admitted} | {extra} |");
    }
}

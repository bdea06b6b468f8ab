//! The way in, from the first page to the last, over real sockets.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use fortify_engine::limits::waits::FailureWaits;
use fortify_testkit::{Reply, TestGate, fields};

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_solves_once_and_lands_on_the_page_first_asked_for() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();

    let page = visitor.get("/articles/1?from=link").await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(test_gate.site.seen().is_empty(), "the backend saw a stranger");

    let again = test_gate.submit(&mut visitor, &page, "WRONG-ANSWER").await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    assert!(again.text().contains("That was not right"));
    assert_ne!(again.field("token"), page.field("token"));
    assert!(!again.admits());
    // The browser has to show it again when the visitor goes back.
    assert_eq!(again.header("cache-control"), Some("private, no-cache"));

    let landed = test_gate.solve(&mut visitor, &again).await;
    assert_eq!(landed.status, StatusCode::SEE_OTHER);
    assert_eq!(landed.header("cache-control"), Some("no-store"));
    assert_eq!(landed.header("location"), Some("/articles/1?from=link"));

    for path in ["/articles/1?from=link", "/", "/guestbook"] {
        let page = visitor.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(!page.is_challenge());
    }
    assert_eq!(test_gate.site.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_small_and_says_what_it_needs_to() {
    let test_gate = TestGate::start().await;
    let page = test_gate.visitor().get("/").await;
    let text = page.text();
    let picture = text.split("base64,").nth(1).unwrap().split('"').next().unwrap();
    assert!(text.len() - picture.len() < 10_000, "{} bytes", text.len() - picture.len());
    assert!(!text.contains("<script") && !text.contains("<svg"), "a script or an SVG");
    assert!(!text.contains(" style=\""), "the policy forbids inline style attributes");
    for needed in [
        "lang=\"en\"",
        "width=device-width",
        "autofocus",
        "label for=\"answer\"",
        "alt=\"Picture",
        "aria-describedby",
        "name=\"return_to\" value=\"/\"",
    ] {
        assert!(text.contains(needed), "{needed}");
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; img-src data:; style-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    // Browsers would hold it against the service's own redirects after the right answer.
    assert!(!policy.contains("form-action"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_on_the_page_is_the_picture_at_its_address() {
    use base64::Engine as _;
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    let text = page.text();
    let inline = text.split("base64,").nth(1).unwrap().split('"').next().unwrap();
    let inline = base64::engine::general_purpose::STANDARD.decode(inline).unwrap();
    let path = format!("/captcha/{}.png", page.field("token"));
    for _ in 0..2 {
        let fetched = visitor.get(&path).await;
        assert_eq!(fetched.status, StatusCode::OK);
        assert_eq!(fetched.header("content-type"), Some("image/png"));
        assert_eq!(fetched.header("cache-control"), Some("no-store"));
        assert_eq!(fetched.body, inline);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_picture_costs_no_failure_and_ends_the_first() {
    let test_gate = TestGate::with(|parts| parts.config.security.max_captcha_failures = 1).await;
    let mut visitor = test_gate.visitor();
    let first = visitor.get("/guestbook").await;
    let answer = test_gate.answer(&first.field("token")).await;
    let token = first.field("token");
    let another = visitor
        .post_form(
            "/validate-captcha",
            &fields(&[
                ("token", &token),
                ("answer", ""),
                ("another", "1"),
                ("return_to", "/guestbook"),
            ]),
        )
        .await;
    assert!(another.is_challenge());
    assert!(!another.text().contains("That was not right"));
    assert_eq!(another.field("return_to"), "/guestbook");
    let late = test_gate.submit(&mut visitor.clone(), &first, &answer).await;
    assert!(!late.admits(), "the first challenge was still good");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_challenge_is_a_wrong_answer() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    let answer = test_gate.answer(&page.field("token")).await;
    test_gate.clock.advance(Duration::from_secs(300));
    let reply = test_gate.submit(&mut visitor, &page, &answer).await;
    assert!(reply.is_challenge() && !reply.admits());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_answer_makes_a_circuit_wait_longer_and_nobody_else() {
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = fortify_core::circuit::IdentityMode::Circuit;
        parts.config.security.max_captcha_failures = 5;
        parts.config.limits.failure_waits = FailureWaits::default();
    })
    .await;
    let mut guesser = test_gate.visitor().circuit("fc00:dead:beef:4dad::1");
    // How long it waits after each wrong answer, and the status of a page meanwhile: it is banned from
    // the fifth on.
    for (seconds, words, status) in [
        (0, "", StatusCode::FORBIDDEN),
        (0, "", StatusCode::FORBIDDEN),
        (30, " 30 seconds,", StatusCode::TOO_MANY_REQUESTS),
        (120, " 2 minutes,", StatusCode::TOO_MANY_REQUESTS),
        (300, " 5 minutes,", StatusCode::FORBIDDEN),
        (900, " 15 minutes,", StatusCode::FORBIDDEN),
        (900, " 15 minutes,", StatusCode::FORBIDDEN),
    ] {
        let page = guesser.get("/articles/1?a=b").await;
        let (good, answer) = (page.clone(), test_gate.answer(&page.field("token")).await);
        let next = guesser.get("/articles/2").await;
        let reply = test_gate.submit(&mut guesser, &next, "NO").await;
        if seconds == 0 {
            assert!(reply.is_challenge() && !reply.admits());
            continue;
        }
        assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(reply.header("retry-after"), Some(&*seconds.to_string()));
        assert!(reply.text().contains(words), "{}", reply.text());
        let back = format!("content=\"{seconds};url=/articles/2\"");
        assert!(reply.text().contains(&back), "the page first asked for is lost: {}", reply.text());
        test_gate.clock.advance(Duration::from_secs(seconds - 1));
        let wait = guesser.get("/articles/1?a=b").await;
        assert_eq!((wait.status, wait.header("retry-after")), (status, Some("1")));
        assert!(wait.text().contains("http-equiv=\"refresh\" content=\"1;url=/articles/1?a=b\""));
        assert!(wait.text().contains("href=\"/articles/1?a=b\""), "no way to try again");
        let right = test_gate.submit(&mut guesser, &good, &answer).await;
        assert!(!right.admits(), "a right answer while it waits");
        let mut other = test_gate.visitor().circuit("fc00:dead:beef:4dad::2");
        assert!(other.get("/").await.is_challenge());
        test_gate.clock.advance(Duration::from_secs(1));
    }
    let page = guesser.get("/").await;
    assert!(test_gate.solve(&mut guesser, &page).await.admits(), "who waited is not let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_another_site_finds_the_session_with_one_bounce() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.admitted().await;
    // What a browser does on a request that another site caused: the strict cookie stays behind.
    let mut linked = visitor.clone();
    linked.cookies.remove("cerberus_session").unwrap();
    let bounce = linked.get("/articles/2?x=1&y=2").await;
    assert!(!bounce.is_challenge());
    assert!(bounce.text().contains("http-equiv=\"refresh\""));
    let text = bounce.text();
    let enter = text.split("href=\"").nth(1).unwrap().split('"').next().unwrap();
    let enter = enter.replace("&#38;", "&");
    assert!(enter.starts_with("/_fortify/enter?to="), "{enter}");
    // The page that came back is of this site, so the next request carries the cookie.
    let back = visitor.get(&enter).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER);
    assert_eq!(back.header("location"), Some("/articles/2?x=1&y=2"));

    // A visitor whose session is gone is challenged there, and not sent round again.
    let challenged = linked.get(&enter).await;
    assert!(challenged.is_challenge());
    assert_eq!(challenged.field("return_to"), "/articles/2?x=1&y=2");
    assert!(linked.get("/").await.is_challenge(), "still bounced after the hint was taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_met_the_challenge_goes_on_after_it() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    visitor.get("/guestbook").await;
    let sent = fields(&[("name", "Ada & \"Bob\""), ("message", "a < b\r\nc + d = é")]);
    let page = visitor.post_form("/guestbook", &sent).await;
    assert!(page.is_challenge());
    assert!(page.text().contains("waits here"));
    let again = test_gate.submit(&mut visitor, &page, "WRONG").await;
    assert!(again.try_field("carried").is_some(), "a wrong answer lost the form");

    let resume = test_gate.solve(&mut visitor, &again).await;
    assert_eq!(resume.status, StatusCode::OK);
    assert!(resume.admits());
    assert!(resume.text().contains("action=\"/guestbook\""));
    assert!(test_gate.site.seen().is_empty(), "sent on without the visitor's button");
    let received: Vec<_> =
        sent.iter().map(|(name, _)| (name.clone(), resume.field(name))).collect();
    assert_eq!(received, sent);
    let done = visitor.post_form("/guestbook", &received).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    let seen = test_gate.site.seen().last().unwrap();
    assert_eq!(seen.body, fortify_testkit::form(&sent).into_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_from_elsewhere_is_never_carried() {
    let test_gate = TestGate::start().await;
    let own = format!("http://{}", test_gate.address);
    let large = format!("message={}", "x".repeat(16 * 1024));
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
    let long = format!("/guestbook?x={}", "x".repeat(2100));
    for address in ["//guestbook", "/captcha/guestbook", &long] {
        let sent = fields(&[("name", "a"), ("message", "secret")]);
        let page = test_gate.visitor().post_form(address, &sent).await;
        assert_eq!(page.try_field("carried"), None, "{address:.20} would be sent elsewhere");
    }
    let cases: [Case<'_>; 7] = [
        ("another site", "name=a", &[("origin", "http://evil.onion")]),
        ("no word of where from", "name=a", &[]),
        ("an opaque origin", "name=a", &[("origin", "null")]),
        ("a contradiction", "name=a", &[("origin", &own), ("sec-fetch-site", "cross-site")]),
        ("too large", &large, &[("origin", &own)]),
        (
            "not a form",
            "{}",
            &[("origin", &own), ("content-type", "application/json; charset=utf-8")],
        ),
        ("not text", "a=%ff", &[("origin", &own)]),
    ];
    for (why, body, headers) in cases {
        let page = test_gate.visitor().post_body("/guestbook", body, headers).await;
        assert!(page.is_challenge(), "{why}");
        assert_eq!(page.try_field("carried"), None, "{why}");
        assert!(page.text().contains("please send it again"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carried_form_counts_only_from_a_page_of_this_site() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    visitor.get("/").await;
    let page = visitor.post_form("/guestbook", &fields(&[("name", "a"), ("message", "b")])).await;
    let body = fortify_testkit::form(&fields(&[
        ("token", &page.field("token")),
        ("answer", &test_gate.answer(&page.field("token")).await),
        ("carried", &page.field("carried")),
        ("return_to", "/"),
    ]));
    let reply = visitor.post_body("/validate-captcha", &body, &[]).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "an unknown page drove the form on");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_all_the_way() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    let challenge = visitor.send(Method::POST, "/captcha/generate", &[], "".into()).await;
    assert_eq!(challenge.status, StatusCode::OK);
    let json = challenge.json();
    assert_eq!(json["variant"], "distorted_text");
    assert_eq!(json["level"], 5);
    assert_eq!(json["mode"], "typed");
    assert_eq!(json["question"], "Type the 6 characters that you see");
    assert_eq!(json["choices"], serde_json::json!([]));
    assert_eq!(json["expires_in"], 300);
    assert_eq!((&json["stage"], &json["stages"]), (&1.into(), &1.into()));
    let token = json["token"].as_str().unwrap();
    assert_eq!(json["image"], format!("/captcha/{token}.png"));
    assert_eq!(visitor.get(json["image"].as_str().unwrap()).await.status, StatusCode::OK);

    let submit = async |visitor: &mut fortify_testkit::Visitor, token: &str, answer: &str| {
        let body = fortify_testkit::form(&fields(&[("token", token), ("answer", answer)]));
        visitor.post_body("/validate-captcha", &body, &[("accept", "application/json")]).await
    };
    let wrong = submit(&mut visitor, token, "NO").await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert_eq!(wrong.json()["message"], "Verification failed");
    let next = wrong.json()["next"]["token"].as_str().unwrap().to_owned();
    let right = submit(&mut visitor, &next, &test_gate.answer(&next).await).await;
    assert_eq!(right.status, StatusCode::OK);
    assert_eq!(right.json()["success"], true);
    assert!(right.admits());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simple_api() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    let image = visitor.get("/api/captcha-image?challenge=new").await;
    assert_eq!(image.status, StatusCode::OK);
    assert_eq!(image.header("content-type"), Some("image/png"));
    assert_eq!(image.header("cache-control"), Some("no-store"));
    assert!(image.body.starts_with(b"\x89PNG"));
    let id = image.header("x-challenge-id").unwrap().to_owned();
    let answer = test_gate.answer(&id).await;
    let verify = |solution: &str| serde_json::json!({"challenge_id": id, "solution": solution});

    let right = visitor.post_json("/verify-captcha", &verify(&answer)).await;
    assert_eq!(right.status, StatusCode::OK);
    assert_eq!(right.json(), serde_json::json!({"success": true, "message": "Access granted"}));
    assert!(right.admits());
    let replay = test_gate.visitor().post_json("/verify-captcha", &verify(&answer)).await;
    assert_eq!(replay.status, StatusCode::FORBIDDEN);
    assert_eq!(
        replay.json(),
        serde_json::json!({"success": false, "message": "Verification failed"})
    );
    for query in ["", "?challenge=old", "?challenge=new&challenge=new", "?x=1"] {
        let refused = test_gate.visitor().get(&format!("/api/captcha-image{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
    }
    assert_eq!(test_gate.visitor().get("/api/status").await.json()["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_shows_itself_and_ends_for_good() {
    let test_gate = TestGate::start().await;
    assert_eq!(test_gate.visitor().get("/api/session").await.status, StatusCode::FORBIDDEN);
    let mut visitor = test_gate.admitted().await;
    test_gate.clock.advance(Duration::from_secs(600));
    let status = visitor.get("/api/session").await;
    assert_eq!(
        status.json(),
        serde_json::json!({"status": "admitted", "level": 5, "expires_in": 3000,
            "expires_at": fortify_testkit::NOW.as_secs() + 3600})
    );
    let mut thief = visitor.clone();
    let elsewhere =
        visitor.post_body("/api/session/logout", "", &[("origin", "http://evil.onion")]).await;
    assert_eq!(elsewhere.status, StatusCode::FORBIDDEN);
    let left = visitor.post_form("/api/session/logout", &[]).await;
    assert_eq!(left.status, StatusCode::OK);
    assert!(!visitor.cookies.contains_key("cerberus_session"));
    assert!(thief.get("/").await.is_challenge(), "the cookie still admits");
    assert_eq!(thief.get("/api/session").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_page_gets_no_challenge() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    let json = visitor.get_with("/data", &[("accept", "application/json")]).await;
    assert_eq!(
        (json.status, json.json()["success"].as_bool()),
        (StatusCode::FORBIDDEN, Some(false))
    );
    for dest in ["image", "style", "empty", "iframe", "object"] {
        let part = visitor.get_with("/logo.png", &[("sec-fetch-dest", dest)]).await;
        assert_eq!(part.status, StatusCode::FORBIDDEN);
        assert!(!part.is_challenge(), "{dest}");
    }
    let head = visitor.send(Method::HEAD, "/", &[], "".into()).await;
    assert_eq!(head.status, StatusCode::FORBIDDEN);
    assert_eq!(test_gate.app.engine.parts().store.active_challenges().await.unwrap(), 0);
    assert!(test_gate.site.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn supervisors_are_answered_and_visitors_are_not() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    visitor.get("/").await;
    assert_eq!(visitor.get("/health").await.status, StatusCode::OK);
    let ready = visitor.get("/ready").await;
    assert_eq!(ready.status, StatusCode::OK);
    assert_eq!(
        ready.json(),
        serde_json::json!({
            "store": true, "renderer": true, "haproxy": "off", "reputation": "ok", "upstream": "ok",
        })
    );
    let metrics = visitor.get("/metrics").await;
    for name in [
        "fortify_challenges_issued_total",
        "fortify_issue_seconds_bucket",
        "fortify_render_seconds_bucket",
        "fortify_redeem_seconds_bucket",
        "fortify_decision_seconds_bucket",
        "fortify_decisions_total{decision=\"challenge\"} 1",
        "fortify_connection_events_total{event=\"opened\"}",
    ] {
        assert!(metrics.text().contains(name), "{name} is missing:\n{}", metrics.text());
    }
    for forwarded in ["x-circuit-id", "x-forwarded-for", "forwarded", "via"] {
        for path in ["/ready", "/metrics"] {
            let reply = visitor.get_with(path, &[(forwarded, "fc00:dead:beef:4dad::1")]).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path} with {forwarded}");
        }
    }
    let distrustful = TestGate::with(|parts| {
        parts.config.server.trusted_proxies =
            fortify_core::circuit::TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
    })
    .await;
    assert_eq!(distrustful.visitor().get("/metrics").await.status, StatusCode::NOT_FOUND);
    let silent = TestGate::with(|parts| {
        parts.config.server.operator_endpoints = fortify_config::OperatorEndpoints::Off;
    })
    .await;
    assert_eq!(silent.visitor().get("/metrics").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_refuses_the_methods_that_it_does_not_take() {
    let test_gate = TestGate::start().await;
    for (method, path) in [
        (Method::GET, "/validate-captcha"),
        (Method::GET, "/verify-captcha"),
        (Method::DELETE, "/captcha/x.png"),
        (Method::POST, "/api/session"),
        (Method::GET, "/api/session/logout"),
    ] {
        let reply: Reply = test_gate.visitor().send(method.clone(), path, &[], "".into()).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
    }
    assert!(test_gate.site.seen().is_empty());
}

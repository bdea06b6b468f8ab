//! Double clicks, lost answers, reloads and many tabs: over the embedded store, and over two nodes with one Redis.
//!
//! Each at levels 3, 7 and 10: what a person does with a browser over a slow circuit gets that person in, and gets nobody
//! else in.

use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use fortify_config::StorageBackend;
use fortify_core::circuit::{CircuitId, IdentityMode, TorCircuit};
use fortify_engine::challenge::RECEIPT_LIFETIME;
use fortify_engine::threat::Mode;
use fortify_testkit::redis::{Redis, until};
use fortify_testkit::store::ProbedStore;
use fortify_testkit::{Parts, Reply, TestGate, Visitor, fields, memory_store};
use serde_json::json;

const LEVELS: [u8; 3] = [3, 7, 10];

/// One node, or two over one Redis.
struct Site {
    nodes: Vec<TestGate>,
    _redis: Option<Redis>,
}

fn as_shipped(parts: &mut Parts, level: u8) {
    parts.config.captcha.level = level;
    parts.config.captcha.max_active_per_circuit = 3;
    parts.config.security.identity = IdentityMode::Circuit;
    parts.config.limits.challenges_per_minute = 10;
    parts.config.threat.levels.clear();
    // The dial would go down while a test lets time pass.
    parts.config.threat.mode = Mode::Pinned;
}

impl Site {
    async fn embedded(level: u8) -> Self {
        let node = TestGate::with(|parts| as_shipped(parts, level)).await;
        Self { nodes: vec![node], _redis: None }
    }

    async fn shared(level: u8) -> Self {
        let redis = Redis::start(&[]);
        let node = async |keys: Option<&std::path::Path>| {
            let node = TestGate::with(|parts| {
                as_shipped(parts, level);
                parts.config.storage.backend = StorageBackend::Redis;
                // A machine with a load of 20 is not what these tests are about.
                let timeout = Duration::from_secs(5);
                parts.config.storage.redis =
                    fortify_config::RedisConfig { timeout, ..redis.config() };
                if let Some(keys) = keys {
                    let data_dir = &parts.config.storage.data_dir;
                    std::fs::create_dir_all(data_dir).unwrap();
                    std::fs::copy(keys, data_dir.join("keys.json")).unwrap();
                }
            })
            .await;
            until("a node to be ready", || async { node.app.readiness().await.is_ready() }).await;
            node
        };
        let first = node(None).await;
        let second = node(Some(&first.app.config.storage.data_dir.join("keys.json"))).await;
        Self { nodes: vec![first, second], _redis: Some(redis) }
    }

    async fn both(level: u8) -> [Self; 2] {
        [Self::embedded(level).await, Self::shared(level).await]
    }

    fn first(&self) -> &TestGate {
        &self.nodes[0]
    }

    fn visitor(&self, circuit: u32) -> Visitor {
        self.first().visitor().circuit(&address(circuit))
    }

    /// The same browser, whose next request reaches another node, if there is one.
    fn elsewhere(&self, visitor: &Visitor) -> Visitor {
        let mut visitor = visitor.clone();
        visitor.address = self.nodes.last().unwrap().address;
        visitor
    }

    fn pass(&self, time: Duration) {
        for node in &self.nodes {
            node.clock.advance(time);
        }
    }

    async fn failures(&self, circuit: u32) -> u32 {
        let parts = self.first().app.engine.parts();
        let tag = parts.pseudonyms.tag(&CircuitId::Header(TorCircuit::from_parts(0, 0, circuit)));
        parts.store.failures(tag).await.unwrap().count
    }

    /// Right answers that the first node knows of.
    fn solved(&self, circuit: u32) -> u32 {
        let parts = self.first().app.engine.parts();
        let tag = parts.pseudonyms.tag(&CircuitId::Header(TorCircuit::from_parts(0, 0, circuit)));
        parts.answer_histories.get(tag).map_or(0, |history| history.solved())
    }

    /// Solves every challenge of the chain that `page` begins.
    async fn solve_all(&self, visitor: &mut Visitor, mut page: Reply) -> Reply {
        while page.is_challenge() {
            page = self.first().solve(visitor, &page).await;
        }
        page
    }
}

fn address(circuit: u32) -> String {
    TorCircuit::from_parts(0, 0, circuit).address().to_string()
}

fn session(reply: &Reply) -> Option<String> {
    let cookies = reply.set_cookies();
    let session = cookies.iter().find(|cookie| cookie.starts_with("cerberus_session=e"))?;
    session.split(';').next().map(str::to_owned)
}

fn stages(level: u8) -> u32 {
    if level == 10 { 3 } else { 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_answer_again_is_the_same_session_for_a_minute() {
    for level in LEVELS {
        for site in Site::both(level).await {
            let mut visitor = site.visitor(1);
            let mut page = visitor.get("/articles/1").await;
            let last = loop {
                let answer = site.first().answer(&page.field("token")).await;
                // Before the first response is there, the button is pressed again.
                let mut twice = site.elsewhere(&visitor);
                let (mut again, gate) = (visitor.clone(), site.first());
                let (one, two, three) = tokio::join!(
                    gate.submit(&mut visitor, &page, &answer),
                    gate.submit(&mut twice, &page, &answer),
                    gate.submit(&mut again, &page, &answer),
                );
                for other in [&two, &three] {
                    assert_eq!(other.status, one.status, "level {level}: {}", other.text());
                    assert_eq!(session(other), session(&one), "level {level}");
                    assert_eq!(other.header("location"), one.header("location"));
                    assert_eq!(other.try_field("token"), one.try_field("token"), "level {level}");
                }
                let before = std::mem::replace(&mut page, one);
                if !page.is_challenge() {
                    break (again, before, answer);
                }
            };
            assert!(page.admits() && page.header("location") == Some("/articles/1"));
            assert_eq!(site.solved(1), stages(level), "level {level}: counted twice");
            assert_eq!(site.failures(1).await, 0);

            // The response was lost: the page is sent again, without its cookie.
            let (_, form, answer) = last;
            let (mut lost, mut stranger) = (site.visitor(1), site.visitor(2));
            site.pass(RECEIPT_LIFETIME - Duration::from_secs(1));
            let again = site.first().submit(&mut lost, &form, &answer).await;
            assert_eq!(session(&again), session(&page), "level {level}: {}", again.text());
            assert!(!site.first().submit(&mut stranger, &form, &answer).await.admits());
            let mut other = site.visitor(1);
            let wrong = site.first().submit(&mut other, &form, "WRONG").await;
            assert!(!wrong.admits(), "level {level}: another answer");
            assert_eq!(site.failures(1).await, 0);
            assert_eq!(lost.get("/articles/1").await.status, StatusCode::OK);

            // Not for longer, and not after a log-out.
            let mut late = site.visitor(1);
            site.pass(Duration::from_secs(1));
            assert!(
                !site.first().submit(&mut late, &form, &answer).await.admits(),
                "level {level}"
            );
            let mut leaver = site.visitor(3);
            let page = leaver.get("/").await;
            let mut form = page.clone();
            let mut next = page;
            while next.is_challenge() {
                form = next;
                next = site.first().solve(&mut leaver, &form).await;
            }
            let left = leaver.post_json("/api/session/logout", &json!({})).await;
            assert_eq!(left.status, StatusCode::OK);
            let mut back = site.visitor(3);
            // What was right before.
            let reply = site.first().submit(&mut back, &form, "ACDEFH").await;
            assert!(!reply.admits() && reply.is_challenge(), "level {level}: {}", reply.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_log_out_the_same_answer_is_none() {
    for site in Site::both(7).await {
        let mut visitor = site.visitor(1);
        let page = visitor.get("/").await;
        let answer = site.first().answer(&page.field("token")).await;
        assert!(site.first().submit(&mut visitor, &page, &answer).await.admits());
        let mut again = site.visitor(1);
        assert!(site.first().submit(&mut again, &page, &answer).await.admits());
        let left = visitor.post_json("/api/session/logout", &json!({})).await;
        assert_eq!(left.status, StatusCode::OK);
        let mut back = site.visitor(1);
        let reply = site.first().submit(&mut back, &page, &answer).await;
        assert!(!reply.admits() && reply.is_challenge(), "{}", reply.text());
    }
}

/// Browsers close the connection of the first click when the second one sends the form again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_counts_although_its_connection_was_closed_while_it_was_checked() {
    let connection: Arc<Mutex<Option<TcpStream>>> = Arc::default();
    let dir = tempfile::tempdir().unwrap();
    let closing = connection.clone();
    let probe = move |verb| {
        if verb == "take_challenge" {
            drop(closing.lock().unwrap().take());
        }
        Ok(())
    };
    let store = ProbedStore::new(Arc::new(memory_store(dir.path())), Box::new(probe));
    // Where a session needs a trusted circuit too, the answer waits for the disk.
    let gate = TestGate::with(|parts| {
        as_shipped(parts, 7);
        parts.store = Some(store);
    })
    .await;
    let mut visitor = gate.visitor().circuit(&address(1));
    let page = visitor.get("/").await;
    let answer = gate.answer(&page.field("token")).await;
    let form = fields(&[("token", &page.field("token")), ("answer", &answer), ("return_to", "/")]);
    let body = fortify_testkit::form(&form);
    let request = format!(
        "POST /validate-captcha HTTP/1.1\r\nHost: site.onion\r\nX-Circuit-ID: {}\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nCookie: cerberus_hint=seen\r\n\r\n{body}",
        address(1),
        body.len(),
    );
    let mut first = TcpStream::connect(gate.address).unwrap();
    *connection.lock().unwrap() = Some(first.try_clone().unwrap());
    std::io::Write::write_all(&mut first, request.as_bytes()).unwrap();
    drop(first);
    until("the first click to be read", || async { connection.lock().unwrap().is_none() }).await;
    let reply = gate.submit(&mut visitor, &page, &answer).await;
    assert!(reply.admits(), "{}", reply.text());
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eleven_tabs_show_one_challenge_and_a_right_answer_counts_in_any() {
    for level in LEVELS {
        for site in Site::both(level).await {
            let mut visitor = site.visitor(1);
            let tabs: Vec<_> = (0..11)
                .map(|number| {
                    // A restored window: all at once, and without a cookie.
                    let mut tab = site.visitor(1);
                    if number % 2 == 1 {
                        tab = site.elsewhere(&tab);
                    }
                    tokio::spawn(async move { tab.get(&format!("/articles/{number}")).await })
                })
                .collect();
            let mut pages = Vec::new();
            for tab in tabs {
                pages.push(tab.await.unwrap());
            }
            for page in &pages {
                assert_eq!(page.try_field("token"), pages[0].try_field("token"), "level {level}");
                assert_eq!(picture(page), picture(&pages[0]), "other bytes at level {level}");
            }
            // As often as somebody loads it again.
            for _ in 0..30 {
                let page = visitor.get("/articles/1").await;
                assert_eq!(page.try_field("token"), pages[0].try_field("token"), "level {level}");
            }
            let reply = site.first().solve(&mut visitor, &pages[7]).await;
            let done = site.solve_all(&mut visitor, reply).await;
            assert!(done.admits() && done.header("location") == Some("/articles/7"));
            // The other tabs are sent on, whatever is in their forms.
            for (number, page) in pages.iter().enumerate() {
                let sent = site.first().submit(&mut visitor, page, "WRONG").await;
                assert_eq!(sent.status, StatusCode::SEE_OTHER, "level {level}");
                let to = format!("/articles/{number}");
                assert_eq!(sent.header("location"), Some(&*to));
                assert!(!sent.set_cookies().iter().any(|cookie| cookie.contains("=seen")));
            }
            assert_eq!(visitor.cookies["cerberus_hint"], "member");
            assert_eq!(site.failures(1).await, 0);
            assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
        }
    }
}

fn picture(page: &Reply) -> String {
    page.text().split("base64,").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

fn another(page: &Reply, kind: &str) -> Vec<(String, String)> {
    fields(&[("token", &page.field("token")), ("return_to", "/"), ("another", kind)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_form_whose_challenge_was_used_up_shows_the_live_one_and_counts_for_nothing() {
    for level in LEVELS {
        for site in Site::both(level).await {
            let mut visitor = site.visitor(1);
            let old = visitor.get("/").await;
            let answer = site.first().answer(&old.field("token")).await;
            let new = visitor.post_form("/validate-captcha", &another(&old, "1")).await;
            assert_ne!(new.field("token"), old.field("token"));
            // In the tab that was left behind: the right answer, and another picture.
            let stale = site.first().submit(&mut visitor, &old, &answer).await;
            assert_eq!(stale.field("token"), new.field("token"), "level {level}");
            assert!(stale.text().contains("did not count"), "{}", stale.text());
            let mut other = site.elsewhere(&visitor);
            let again = other.post_form("/validate-captcha", &another(&old, "letters")).await;
            assert_eq!(
                again.field("token"),
                new.field("token"),
                "level {level}: drawn for nothing"
            );
            assert_eq!(site.failures(1).await, 0);

            // A wrong answer that is sent twice is one.
            let (mut twice, gate) = (other.clone(), site.first());
            let (one, two) = tokio::join!(
                gate.submit(&mut visitor, &new, "WRONG"),
                gate.submit(&mut twice, &new, "WRONG"),
            );
            assert_eq!(one.field("token"), two.field("token"), "level {level}");
            assert_eq!(site.failures(1).await, 1, "level {level}: counted twice");
            let done = site.solve_all(&mut visitor, one).await;
            assert!(done.admits(), "level {level}: {}", done.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_18_challenges_that_are_drawn_count_and_no_stage_draws_them_for_nothing() {
    for level in LEVELS {
        for site in Site::both(level).await {
            let mut visitor = site.visitor(1);
            let mut page = visitor.get("/").await;
            if stages(level) > 1 {
                page = site.first().solve(&mut visitor, &page).await;
            }
            let mut drawn = 1;
            let refused = loop {
                let next = visitor.post_form("/validate-captcha", &another(&page, "1")).await;
                if !next.is_challenge() {
                    break next;
                }
                assert_ne!(next.field("token"), page.field("token"));
                page = next;
                drawn += 1;
            };
            assert_eq!(
                (drawn, refused.status),
                (10, StatusCode::TOO_MANY_REQUESTS),
                "level {level}"
            );
            // What is there is shown and can be answered.
            assert_eq!(visitor.get("/").await.field("token"), page.field("token"));
            assert!(site.solve_all(&mut visitor, page).await.admits(), "level {level}");
        }
    }
}

/// The answer to the first stage, sent again, leads to the second stage's challenge, and after a wrong answer to that one
/// not to another one for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn abuse_18_a_stage_that_is_replayed_draws_no_free_challenge() {
    for site in Site::both(10).await {
        let mut visitor = site.visitor(1);
        let first = visitor.get("/").await;
        let answer = site.first().answer(&first.field("token")).await;
        let mut replayer = visitor.clone();
        let second = site.first().submit(&mut visitor, &first, &answer).await;
        let again = site.first().submit(&mut replayer, &first, &answer).await;
        assert_eq!(again.field("token"), second.field("token"));
        assert!(again.text().contains("Picture 2 of 3"), "{}", again.text());
        let mut page = again;
        for drawn in 2..=10 {
            page = replayer.post_form("/validate-captcha", &another(&page, "1")).await;
            assert!(page.is_challenge(), "{drawn}");
        }
        site.first()
            .app
            .engine
            .parts()
            .store
            .take_challenge(&page.field("token").parse().unwrap())
            .await
            .unwrap();
        let free = site.first().submit(&mut replayer, &first, &answer).await;
        assert_eq!(free.status, StatusCode::TOO_MANY_REQUESTS, "{}", free.text());
    }
}

/// Many people may have one address: the tabs of one browser show one challenge, and other browsers show their own.
#[tokio::test(flavor = "multi_thread")]
async fn at_an_address_each_browser_has_its_own_challenge() {
    let gate = TestGate::with(|parts| {
        as_shipped(parts, 7);
        parts.config.security.identity = IdentityMode::Peer;
    })
    .await;
    let (mut one, mut other) = (gate.visitor(), gate.visitor());
    let (page, theirs) = (one.get("/").await, other.get("/").await);
    assert_ne!(page.field("token"), theirs.field("token"));
    assert_eq!(one.get("/articles/1").await.field("token"), page.field("token"));
    assert_eq!(picture(&one.get("/articles/1").await), picture(&page));
    let next = other.post_form("/validate-captcha", &another(&theirs, "1")).await;
    assert_ne!(next.field("token"), theirs.field("token"));
    assert_eq!(one.get("/articles/1").await.field("token"), page.field("token"));

    // A double click is one session, and nobody else at the address gets it.
    let answer = gate.answer(&page.field("token")).await;
    let mut twice = one.clone();
    let granted = gate.submit(&mut one, &page, &answer).await;
    assert!(granted.admits());
    assert_eq!(session(&gate.submit(&mut twice, &page, &answer).await), session(&granted));
    assert!(!gate.submit(&mut other, &page, &answer).await.admits(), "another browser's session");
    assert!(!gate.submit(&mut gate.visitor(), &page, &answer).await.admits());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_timed_from_when_its_picture_was_shown_first() {
    let gate = TestGate::with(|parts| {
        as_shipped(parts, 5);
        parts.config.reputation.scoring.suspects = true;
    })
    .await;
    let mut visitor = gate.visitor().circuit(&address(1));
    let page = visitor.get("/").await;
    gate.clock.advance(Duration::from_secs(9));
    let mut tab = gate.visitor().circuit(&address(1));
    assert_eq!(tab.get("/").await.field("token"), page.field("token"));
    gate.clock.advance(Duration::from_millis(300));
    assert!(gate.solve(&mut visitor, &page).await.admits(), "taken for a program");
}

/// Whoever gave no answer waits for five minutes at most, whatever was drawn; whoever guesses waits out the hour.
#[tokio::test(flavor = "multi_thread")]
async fn abuse_18_who_gave_no_wrong_answer_waits_for_five_minutes_at_most() {
    for site in Site::both(7).await {
        for guesses in [false, true] {
            let mut visitor = site.visitor(u32::from(guesses) + 1);
            let mut page = visitor.get("/").await;
            if guesses {
                page = site.first().submit(&mut visitor, &page, "WRONG").await;
            }
            while page.is_challenge() {
                page = visitor.post_form("/validate-captcha", &another(&page, "1")).await;
            }
            // Those of a minute are over, those of the hour are not.
            site.pass(Duration::from_secs(301));
            let mut page = visitor.get("/").await;
            if guesses {
                assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
                continue;
            }
            assert!(page.is_challenge(), "{}", page.text());
            page = visitor.post_form("/validate-captcha", &another(&page, "1")).await;
            assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS, "one at a time");
            let wait: u64 = page.header("retry-after").unwrap().parse().unwrap();
            assert!((240..=300).contains(&wait), "{wait}");
            assert!(page.text().contains("5 minutes"), "{}", page.text());
        }
    }
}

/// Pictures on another site's page, and scripts there: nothing is drawn for them, and nothing of the visitor's is lost.
#[tokio::test(flavor = "multi_thread")]
async fn abuse_18_another_sites_page_uses_up_no_challenge() {
    for identity in [IdentityMode::Circuit, IdentityMode::Peer] {
        let gate = TestGate::with(|parts| {
            as_shipped(parts, 7);
            parts.config.security.identity = identity;
        })
        .await;
        let mut visitor = gate.visitor().circuit(&address(1));
        let page = visitor.get("/").await;
        // The browser sends no cookies of ours with these.
        let mut elsewhere = gate.visitor().circuit(&address(1));
        let site = ("sec-fetch-site", "cross-site");
        for _ in 0..10 {
            for (path, mode) in [
                ("/api/captcha-image?challenge=new", "no-cors"),
                ("/articles/1", "no-cors"),
                ("/articles/1", "cors"),
                ("/_fortify/enter?to=/", "no-cors"),
                ("/_fortify/turn?to=/", "no-cors"),
            ] {
                let reply = elsewhere.get_with(path, &[site, ("sec-fetch-mode", mode)]).await;
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}");
                assert!(!reply.is_challenge(), "{path} {mode}");
            }
            let body = json!({"challenge_id": page.field("token"), "solution": "WRONG"});
            elsewhere.headers.insert("origin", "http://evil.onion".parse().unwrap());
            for path in ["/captcha/generate", "/verify-captcha"] {
                let reply = elsewhere.post_json(path, &body).await;
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}");
            }
            elsewhere.headers.remove("origin");
        }
        assert_eq!(visitor.get("/").await.field("token"), page.field("token"));
        // A link there leads here.
        let link = [site, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert!(elsewhere.get_with("/", &link).await.is_challenge());
        assert!(gate.solve(&mut visitor, &page).await.admits());
    }
}

/// A page that sends no referrer has `Origin: null` on its own forms: they are kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_a_page_without_a_referrer_is_kept() {
    let gate = TestGate::with(|parts| as_shipped(parts, 7)).await;
    let mut visitor = gate.visitor().circuit(&address(1));
    let headers = [("origin", "null"), ("sec-fetch-site", "same-origin")];
    let page = visitor.post_body("/guestbook", "name=Ada", &headers).await;
    assert!(page.try_field("carried").is_some(), "{}", page.text());
    let foreign = [("origin", "null"), ("sec-fetch-site", "cross-site")];
    let page = visitor.post_body("/guestbook", "name=Ada", &foreign).await;
    assert!(page.try_field("carried").is_none(), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_18_a_wish_needs_the_challenge_that_is_there_and_holds_from_then_on() {
    for site in Site::both(10).await {
        let kind = async |token: &str| {
            let store = site.first().app.engine.parts().store;
            let record = store.challenge(&token.parse().unwrap()).await.unwrap().unwrap();
            (record.variant.into_owned(), record.carrier.into_owned())
        };
        let mut visitor = site.visitor(1);
        let page = visitor.get("/").await;
        // With any other token it is no wish, as a form and as JSON.
        let made_up = fields(&[("token", "A".repeat(43).as_str()), ("another", "letters")]);
        let same = visitor.post_form("/validate-captcha", &made_up).await;
        assert_eq!(same.field("token"), page.field("token"));
        for body in [json!({"another": "letters"}), json!({"another": "letters", "token": "x"})] {
            let same = visitor.post_json("/captcha/generate", &body).await.json();
            assert_eq!(same["token"], json!(page.field("token")));
        }
        let body = json!({"another": "letters", "token": page.field("token")});
        let letters = visitor.post_json("/captcha/generate", &body).await.json();
        let token = letters["token"].as_str().unwrap().to_owned();
        assert_ne!(token, page.field("token"));
        assert_eq!(kind(&token).await.0, "distorted_text");
        // The next stage is of the same kind, and nothing in a form says so.
        let shown = visitor.get("/").await;
        assert_eq!(shown.field("token"), token);
        assert!(shown.try_field("preference").is_none());
        let mut plain = site.visitor(2);
        let next = site.first().solve(&mut visitor, &shown).await;
        assert_eq!(kind(&next.field("token")).await.0, "distorted_text");
        let page = plain.get("/").await;
        let still = plain.post_form("/validate-captcha", &another(&page, "still")).await;
        assert_ne!(kind(&still.field("token")).await.1, "motion");
        let wrong = site.first().submit(&mut plain, &still, "WRONG").await;
        assert_ne!(kind(&wrong.field("token")).await.1, "motion", "forgotten after a wrong answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_are_told_and_the_second_asks_for_objects_or_patterns() {
    let gate = TestGate::with(|parts| {
        as_shipped(parts, 3);
        let waits = [0, 0, 30, 120].map(Duration::from_secs).to_vec();
        parts.config.limits.failure_waits =
            fortify_engine::limits::waits::FailureWaits::new(waits).unwrap();
    })
    .await;
    let mut visitor = gate.visitor().circuit(&address(1));
    let page = visitor.get("/").await;
    assert!(!page.text().contains("wrong answer"), "{}", page.text());
    let one = gate.submit(&mut visitor, &page, "WRONG").await;
    assert!(one.text().contains("One wrong answer counts so far"), "{}", one.text());
    assert!(one.text().contains("without a wait"), "{}", one.text());
    let record = async |page: &Reply| {
        let token = page.field("token").parse().unwrap();
        gate.app.engine.parts().store.challenge(&token).await.unwrap().unwrap()
    };
    assert_eq!(record(&one).await.variant, "distorted_text");
    let two = gate.submit(&mut visitor, &one, "WRONG").await;
    assert!(two.text().contains("2 wrong answers count so far"), "{}", two.text());
    assert!(two.text().contains("a wait of 30 seconds"), "{}", two.text());
    let asked = record(&two).await;
    assert!(["object_recognition", "pattern_completion"].contains(&&*asked.variant));
    assert_eq!(asked.level, 3, "after two slips a person gets a higher level");
    let json = visitor.post_json("/captcha/generate", &json!({})).await.json();
    assert_eq!((&json["wrong_answers"], &json["next_wrong_answer_waits"]), (&2.into(), &30.into()));
    assert!(gate.solve(&mut visitor, &two).await.admits());

    // First tries are kept.
    let mut other = gate.visitor().circuit(&address(2));
    let page = other.get("/").await;
    assert!(gate.solve(&mut other, &page).await.admits());
    let parts = gate.app.engine.parts();
    let history = |number| {
        let circuit = CircuitId::Header(TorCircuit::from_parts(0, 0, number));
        parts.answer_histories.get(parts.pseudonyms.tag(&circuit)).unwrap()
    };
    assert_eq!((history(1).solved(), history(1).first_tries()), (1, 0));
    assert_eq!((history(2).solved(), history(2).first_tries()), (1, 1));
    let metrics = gate.visitor().get("/metrics").await.text();
    assert!(metrics.contains("fortify_first_tries_total 1"), "{metrics}");
}

/// Another picture that has to wait in line is of the kind that was wished for, when its turn has come.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_waits_in_line_is_not_forgotten() {
    let gate = TestGate::with(|parts| {
        as_shipped(parts, 10);
        let rate = fortify_core::allowance::Rate { per_minute: 3, per_second: 3 };
        parts.config.limits.service = rate;
    })
    .await;
    let mut visitor = gate.visitor().circuit(&address(1));
    let page = visitor.get("/").await;
    // Others take the rest.
    for number in 2.. {
        if !gate.visitor().circuit(&address(number)).get("/").await.is_challenge() {
            break;
        }
    }
    let mut line = visitor.post_form("/validate-captcha", &another(&page, "letters")).await;
    assert_eq!(
        visitor.get("/").await.field("token"),
        page.field("token"),
        "what is there is shown"
    );
    let mut asked = 0;
    while !line.is_challenge() {
        assert_eq!(line.status, StatusCode::SERVICE_UNAVAILABLE, "{}", line.text());
        let text = line.text();
        let refresh = text.split("http-equiv=\"refresh\" content=\"").nth(1).unwrap();
        let (seconds, rest) = refresh.split_once(";url=").unwrap();
        gate.clock.advance(Duration::from_secs(seconds.parse().unwrap()));
        let address = rest.split('"').next().unwrap().replace("&amp;", "&").replace("&#38;", "&");
        line = visitor.get(&address).await;
        asked += 1;
        assert!(asked < 100, "still in line");
    }
    assert_ne!(line.field("token"), page.field("token"));
    let token = line.field("token").parse().unwrap();
    let record = gate.app.engine.parts().store.challenge(&token).await.unwrap().unwrap();
    assert_eq!(record.variant, "distorted_text", "the wish was forgotten in line");
}

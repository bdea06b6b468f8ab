//! Abuse cases against a running gate, each under its number in the list of abuse cases.
//!
//! Those that are settled below HTTP are tested beside the code, under the same names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use fortify::circuit::IdentityMode;
use fortify::clock::{Clock as _, Timestamp};
use fortify::config::SecureCookie;
use fortify::entropy::{Entropy, EntropyError, SystemEntropy};
use fortify::pseudonym::CircuitTag;
use fortify::store::memory::MemoryStore;
use fortify::store::record::{
    Asked, Bound, ChallengeRecord, ChallengeToken, DialRecord, Failures, Move, Moved, SessionId,
    Standing,
};
use fortify::store::{StateStore, StoreError};
use fortify::web::traps;
use fortify_testkit::wait::eventually;
use fortify_testkit::{Bed, Reply, Visitor, fields};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

const CIRCUIT: &str = "fc00:dead:beef:4dad::0:19";

async fn circuit_bed() -> Bed {
    Bed::with(|parts| parts.config.security.identity = IdentityMode::Circuit).await
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_01_another_spelling_of_a_token_is_another_token() {
    let bed = Bed::start().await;
    let mut visitor = bed.visitor();
    let page = visitor.get("/").await;
    let token = page.field("token");
    let answer = bed.answer(&token).await;
    let last = token.chars().last().unwrap();
    // 43 characters hold 258 bits, two more than the token: the last one has four spellings.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).unwrap();
    let twin = alphabet.chars().nth(index ^ 1).unwrap();
    let spellings = [
        format!("{}{twin}", &token[..42]),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}A"),
        token.to_lowercase(),
    ];
    for spelling in spellings {
        let reply = visitor
            .post_form("/validate-captcha", &fields(&[("token", &spelling), ("answer", &answer)]))
            .await;
        assert!(!reply.admits(), "{spelling}");
        let picture = visitor.get(&format!("/captcha/{}.png", spelling.replace(' ', "%20"))).await;
        assert_eq!(picture.status, StatusCode::NOT_FOUND);
    }
    assert!(bed.submit(&mut visitor, &page, &answer).await.admits(), "the token was spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_05_a_circuit_comes_from_a_trusted_peer_once_or_not_at_all() {
    let bed = circuit_bed().await;
    let mut visitor = bed.visitor();
    assert_eq!(visitor.get("/").await.status, StatusCode::BAD_REQUEST, "no header");
    for odd in ["", "19", "::19", "127.0.0.1", "fc00:dead:beef:4dad::1:0:19", "a, b"] {
        let reply = visitor.get_with("/", &[("x-circuit-id", odd)]).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{odd}");
        let api = visitor
            .send(Method::POST, "/captcha/generate", &[("x-circuit-id", odd)], Body::empty())
            .await;
        assert_eq!(api.status, StatusCode::BAD_REQUEST, "{odd}");
    }
    let twice = raw(
        &bed,
        format!("GET / HTTP/1.1\r\nHost: x\r\nX-Circuit-ID: {CIRCUIT}\r\nX-Circuit-ID: {CIRCUIT}\r\nConnection: close\r\n\r\n"),
    )
    .await;
    assert!(twice.starts_with("HTTP/1.1 400"), "{twice}");
    assert!(visitor.get_with("/", &[("x-circuit-id", CIRCUIT)]).await.is_challenge());

    let distrustful = Bed::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.server.trusted_proxies =
            fortify::circuit::TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
    })
    .await;
    let mut stranger = distrustful.visitor().circuit(CIRCUIT);
    assert_eq!(stranger.get("/").await.status, StatusCode::BAD_REQUEST, "an untrusted peer");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_05_an_address_visitor_cannot_write_itself_a_circuit() {
    let bed = Bed::start().await;
    let mut visitor = bed.visitor();
    let page = visitor.get_with("/", &[("x-circuit-id", CIRCUIT)]).await;
    // Answered under another header, and still the same visitor: the header is not looked at.
    let reply = bed.solve(&mut visitor, &page).await;
    assert!(reply.admits());
    let seen = visitor.get_with("/echo", &[("x-circuit-id", CIRCUIT)]).await;
    assert_eq!(seen.status, StatusCode::OK);
    assert!(!seen.text().to_lowercase().contains("x-circuit-id"), "{}", seen.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_06_without_a_session_nothing_reaches_the_backend() {
    let bed = Bed::start().await;
    let admitted = bed.admitted().await;
    let good = admitted.cookies["cerberus_session"].clone();
    let tampered: String = {
        let mut bytes = good.clone().into_bytes();
        let middle = bytes.len() / 2;
        bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let other_gate = Bed::start().await;
    let foreign = other_gate.admitted().await.cookies["cerberus_session"].clone();
    let cookies = [
        String::new(),
        "other=1".to_owned(),
        "cerberus_session=".to_owned(),
        format!("cerberus_session={tampered}"),
        format!("cerberus_session={foreign}"),
        format!("CERBERUS_SESSION={good}"),
        format!("cerberus_session={}", &good[..good.len() - 1]),
        format!("cerberus_hint={good}"),
    ];
    for cookie in &cookies {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
            for path in
                ["/", "/guestbook", "/%2e%2e/guestbook", "//guestbook", "/captcha", "/api/x"]
            {
                let method: Method = method.parse().unwrap();
                let headers = [("cookie", cookie.as_str())];
                let reply =
                    bed.visitor().send(method.clone(), path, &headers, Body::from("a=b")).await;
                assert!(
                    reply.status.is_client_error(),
                    "{method} {path} with {cookie:.30}: {}",
                    reply.status
                );
            }
        }
    }
    bed.clock.advance(Duration::from_secs(3600));
    let expired = admitted.clone().get("/").await;
    assert!(expired.is_challenge(), "an expired cookie");
    assert!(bed.site.seen().is_empty(), "{:?}", bed.site.seen().last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_07_of_64_simultaneous_right_answers_one_is_a_session() {
    let bed = Bed::start().await;
    for _ in 0..5 {
        let page = bed.visitor().get("/").await;
        let token = page.field("token");
        let answer = bed.answer(&token).await;
        let barrier = Arc::new(tokio::sync::Barrier::new(64));
        let tries: Vec<_> = (0..64)
            .map(|_| {
                let (mut visitor, barrier) = (bed.visitor(), barrier.clone());
                let body = fields(&[("token", &token), ("answer", &answer)]);
                tokio::spawn(async move {
                    // The connection stands before the race begins.
                    visitor.get("/health").await;
                    barrier.wait().await;
                    visitor.post_form("/validate-captcha", &body).await.admits()
                })
            })
            .collect();
        let mut sessions = 0;
        for one in tries {
            sessions += usize::from(one.await.unwrap());
        }
        assert_eq!(sessions, 1);
    }
}

/// A store that can be made to fail, over one that works.
#[derive(Debug)]
struct Faulty {
    store: MemoryStore,
    fails: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
}

impl Faulty {
    fn check(&self) -> Result<(), StoreError> {
        assert!(!self.panics.load(Ordering::SeqCst), "a mistake, made by a test");
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("unplugged by a test".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl StateStore for Faulty {
    async fn put_challenge(
        &self,
        token: &ChallengeToken,
        record: ChallengeRecord,
    ) -> Result<(), StoreError> {
        self.check()?;
        self.store.put_challenge(token, record).await
    }
    async fn challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError> {
        self.check()?;
        self.store.challenge(token).await
    }
    async fn take_challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError> {
        self.check()?;
        self.store.take_challenge(token).await
    }
    async fn record_failure(
        &self,
        circuit: CircuitTag,
        decay: Duration,
    ) -> Result<Failures, StoreError> {
        self.check()?;
        self.store.record_failure(circuit, decay).await
    }
    async fn failures(&self, circuit: CircuitTag) -> Result<Failures, StoreError> {
        self.check()?;
        self.store.failures(circuit).await
    }
    async fn forget_failures(&self, circuit: CircuitTag) -> Result<(), StoreError> {
        self.check()?;
        self.store.forget_failures(circuit).await
    }
    async fn ask(&self, circuit: CircuitTag, bounds: [Bound; 2]) -> Result<Asked, StoreError> {
        self.check()?;
        self.store.ask(circuit, bounds).await
    }
    async fn revoke_session(&self, session: SessionId, until: Timestamp) -> Result<(), StoreError> {
        self.check()?;
        self.store.revoke_session(session, until).await
    }
    async fn standing(&self, session: SessionId) -> Result<Standing, StoreError> {
        self.check()?;
        self.store.standing(session).await
    }
    async fn move_session(&self, session: SessionId, step: Move) -> Result<Moved, StoreError> {
        self.check()?;
        self.store.move_session(session, step).await
    }
    async fn set_dial(&self, dial: DialRecord) -> Result<DialRecord, StoreError> {
        self.check()?;
        self.store.set_dial(dial).await
    }
    fn dial(&self) -> watch::Receiver<Option<DialRecord>> {
        self.store.dial()
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.check()
    }
    async fn active_challenges(&self) -> Result<u64, StoreError> {
        self.check()?;
        self.store.active_challenges().await
    }
}

async fn faulty_bed() -> (Bed, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    (bed_over(fails.clone(), Arc::default()).await, fails)
}

async fn bed_over(fails: Arc<AtomicBool>, panics: Arc<AtomicBool>) -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let store = Faulty { store: fortify_testkit::memory_store(dir.path()), fails, panics };
    Bed::with(|parts| parts.store = Some(Arc::new(store))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_a_mistake_of_ours_is_a_503_and_not_the_end() {
    let panics = Arc::new(AtomicBool::new(false));
    let bed = bed_over(Arc::default(), panics.clone()).await;
    let mut member = bed.admitted().await;
    panics.store(true, Ordering::SeqCst);
    let reply = member.get("/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text().contains("<h1>") && !reply.text().contains("mistake, made"));
    panics.store(false, Ordering::SeqCst);
    assert_eq!(member.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_a_store_that_fails_admits_nobody_and_heals_by_itself() {
    let (bed, fails) = faulty_bed().await;
    let mut member = bed.admitted().await;
    let mut visitor = bed.visitor();
    let page = visitor.get("/").await;
    let answer = bed.answer(&page.field("token")).await;
    let id = page.field("token");
    let solution = serde_json::json!({"challenge_id": id, "solution": answer});

    fails.store(true, Ordering::SeqCst);
    let seen = bed.site.seen().len();
    let refused = [
        visitor.clone().get("/").await,
        member.get("/").await,
        member.get("/_fortify/auth").await,
        bed.submit(&mut visitor.clone(), &page, &answer).await,
        visitor.clone().post_json("/verify-captcha", &solution).await,
        visitor.clone().get("/api/captcha-image?challenge=new").await,
        visitor.clone().send(Method::POST, "/captcha/generate", &[], Body::empty()).await,
        visitor.clone().get(&format!("/captcha/{id}.png")).await,
        member.clone().post_form("/api/session/logout", &[]).await,
        bed.visitor().get("/ready").await,
    ];
    for (step, reply) in refused.iter().enumerate() {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "step {step}");
        assert!(!reply.admits(), "step {step}");
        if step < 9 {
            assert_eq!(reply.header("retry-after"), Some("5"), "step {step}");
            assert!(!reply.text().contains("unplugged"), "step {step} tells what happened");
        }
    }
    assert_eq!(bed.site.seen().len(), seen, "the backend saw a request");
    assert_eq!(bed.visitor().get("/health").await.status, StatusCode::OK);

    fails.store(false, Ordering::SeqCst);
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    assert!(bed.submit(&mut visitor, &page, &answer).await.admits());
}

/// Randomness that can run out.
#[derive(Debug)]
struct Dry(Arc<AtomicBool>);

impl Entropy for Dry {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        if self.0.load(Ordering::SeqCst) { Err(EntropyError) } else { SystemEntropy.fill(buffer) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_a_store_that_fails_lets_nobody_in_behind_nginx() {
    let (bed, fails) = faulty_bed().await;
    let nginx = fortify_testkit::servers::Nginx::start(bed.address, bed.site.address());
    let mut member = Visitor::at(nginx.address);
    let page = member.get("/").await;
    assert!(bed.solve(&mut member, &page).await.admits());
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    bed.site.seen().clear();
    fails.store(true, Ordering::SeqCst);
    for mut visitor in [member.clone(), Visitor::at(nginx.address)] {
        let refused = visitor.get("/").await;
        assert!(!refused.status.is_success(), "{}", refused.text());
        assert!(bed.site.seen().is_empty());
    }
    assert_eq!(member.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    fails.store(false, Ordering::SeqCst);
    assert_eq!(member.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_without_randomness_there_is_no_session_and_no_challenge() {
    let dry = Arc::new(AtomicBool::new(false));
    let source = Arc::new(Dry(dry.clone()));
    let bed = Bed::with(|parts| parts.entropy = source).await;
    let mut visitor = bed.visitor();
    let page = visitor.get("/").await;
    let answer = bed.answer(&page.field("token")).await;
    dry.store(true, Ordering::SeqCst);
    let right = bed.submit(&mut visitor, &page, &answer).await;
    assert_eq!(right.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!right.admits());
    assert_eq!(visitor.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_11_a_right_answer_never_leads_to_another_site() {
    let bed = Bed::start().await;
    for (address, expected) in [
        ("/articles/1?a=b", "/articles/1?a=b"),
        ("//evil", "/"),
        ("/\\evil", "/"),
        ("javascript:alert(1)", "/"),
        ("http://evil/", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("%2f%2fevil", "/"),
        ("/%2f%2fevil", "/%2f%2fevil"),
        ("", "/"),
    ] {
        let mut visitor = bed.visitor();
        let page = visitor.get("/").await;
        let token = page.field("token");
        let answer = bed.answer(&token).await;
        let sent = fields(&[("token", &token), ("answer", &answer), ("return_to", address)]);
        let reply = visitor.post_form("/validate-captcha", &sent).await;
        assert_eq!(reply.header("location"), Some(expected), "{address:?}");
        let to = percent_encoding::utf8_percent_encode(address, percent_encoding::NON_ALPHANUMERIC);
        let entered = visitor.get(&format!("/_fortify/enter?to={to}")).await;
        assert_eq!(entered.header("location"), Some(expected), "{address:?}");
    }
    let long = format!("/{}", "a".repeat(8 * 1024 - 100));
    assert_eq!(bed.visitor().get(&long).await.field("return_to"), "/");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_12_a_denial_to_auth_request_is_401_and_a_fault_is_no_2xx() {
    let (bed, fails) = faulty_bed().await;
    let mut member = bed.admitted().await;
    assert_eq!(member.get("/_fortify/auth").await.status, StatusCode::NO_CONTENT);
    for cookie in ["", "cerberus_session=x", "cerberus_session=a.b.c", "cerberus_hint=member"] {
        let denied = bed.visitor().get_with("/_fortify/auth", &[("cookie", cookie)]).await;
        assert_eq!(denied.status, StatusCode::UNAUTHORIZED, "{cookie}");
    }
    fails.store(true, Ordering::SeqCst);
    assert_eq!(member.get("/_fortify/auth").await.status, StatusCode::SERVICE_UNAVAILABLE);

    let circuits = circuit_bed().await;
    for odd in ["", "19"] {
        let denied = circuits.visitor().get_with("/_fortify/auth", &[("x-circuit-id", odd)]).await;
        assert_eq!(denied.status, StatusCode::FORBIDDEN, "no circuit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_13_a_challenge_is_answered_and_seen_by_its_own_circuit_alone() {
    let bed = circuit_bed().await;
    let mut visitor = bed.visitor().circuit(CIRCUIT);
    let mut stranger = bed.visitor().circuit("fc00:dead:beef:4dad::0:20");
    let page = visitor.get("/").await;
    let picture = format!("/captcha/{}.png", page.field("token"));
    assert_eq!(stranger.get(&picture).await.status, StatusCode::NOT_FOUND);
    assert_eq!(visitor.get(&picture).await.status, StatusCode::OK);
    // Each look is a drawing.
    for _ in 1..10 {
        assert_eq!(visitor.get(&picture).await.status, StatusCode::OK);
    }
    assert_eq!(visitor.get(&picture).await.status, StatusCode::TOO_MANY_REQUESTS);
    let answer = bed.answer(&page.field("token")).await;
    assert!(!bed.submit(&mut stranger, &page, &answer).await.admits());

    let page = visitor.get("/").await;
    assert!(bed.solve(&mut visitor, &page).await.admits());
}

/// A reply with everything that may differ between two failures taken out.
fn shape(reply: &Reply) -> (StatusCode, BTreeSet<String>, String) {
    let headers = reply
        .headers
        .iter()
        .filter(|(name, _)| !["content-length", "date"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    let mut text = reply.text();
    if let Some(token) = reply.try_field("token") {
        text = text.replace(&token, "TOKEN");
        let picture = text.split("base64,").nth(1).unwrap().split('"').next().unwrap().to_owned();
        text = text.replace(&picture, "PICTURE");
        for name in traps::names(&token) {
            text = text.replace(&name, "TRAP");
        }
    }
    (reply.status, headers, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_14_every_failed_answer_looks_like_every_other() {
    let bed = circuit_bed().await;
    let answer_of = async |page: &Reply| bed.answer(&page.field("token")).await;
    let new = || bed.visitor().circuit(CIRCUIT);
    let (mut stranger, mut visitor) = (bed.visitor().circuit("fc00:dead:beef:4dad::2"), new());

    let page = visitor.get("/").await;
    let wrong = bed.submit(&mut visitor, &page, "WRONG").await;
    let used = bed.submit(&mut visitor, &page, "WRONG").await;
    let token = ChallengeToken::random(&SystemEntropy).unwrap().encode();
    let submit = async |visitor: &mut Visitor, token: &str, answer: &str| {
        let sent = fields(&[("token", token), ("answer", answer), ("return_to", "/")]);
        visitor.post_form("/validate-captcha", &sent).await
    };
    let unknown = submit(&mut visitor, &token, "ACDEFH").await;
    let malformed = submit(&mut visitor, "no token", "ACDEFH").await;
    let theirs = stranger.get("/").await;
    let foreign = bed.submit(&mut visitor, &theirs, &answer_of(&theirs).await).await;
    let page = visitor.get("/").await;
    let empty = submit(&mut visitor, &page.field("token"), "").await;
    let page = visitor.get("/").await;
    let answer = answer_of(&page).await;
    bed.clock.advance(Duration::from_secs(300));
    let expired = bed.submit(&mut visitor, &page, &answer).await;
    for (name, reply) in [
        ("used", used),
        ("unknown", unknown),
        ("malformed", malformed),
        ("foreign", foreign),
        ("empty", empty),
        ("expired", expired),
    ] {
        assert_eq!(shape(&reply), shape(&wrong), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_16_failures_follow_the_circuit_and_not_the_cookie() {
    let bed = Bed::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.security.max_captcha_failures = 5;
    })
    .await;
    for _ in 0..5 {
        let mut fresh = bed.visitor().circuit(CIRCUIT);
        let page = fresh.get("/").await;
        bed.submit(&mut fresh, &page, "NO").await;
    }
    let fresh = bed.visitor().circuit("fc00:dead:beef:4dad::19").get("/").await;
    assert_eq!(fresh.status, StatusCode::FORBIDDEN);
    assert!(!fresh.is_challenge(), "a new browser starts anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_16_another_sites_page_cannot_use_up_a_visitors_tries() {
    let bed = Bed::with(|parts| parts.config.security.max_captcha_failures = 2).await;
    let mut visitor = bed.visitor();
    let page = visitor.get("/").await;
    let body = fortify_testkit::form(&fields(&[("token", &page.field("token")), ("answer", "NO")]));
    for headers in [[("origin", "http://evil.onion")], [("sec-fetch-site", "cross-site")]] {
        for _ in 0..5 {
            let refused = visitor.post_body("/validate-captcha", &body, &headers).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN);
            assert!(!refused.is_challenge());
        }
    }
    assert!(bed.solve(&mut visitor, &page).await.admits(), "the challenge was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_16_an_answer_to_nothing_locks_nobody_out() {
    let bed = Bed::with(|parts| {
        parts.config.security.max_captcha_failures = 2;
        parts.config.captcha.max_active_per_circuit = 3;
    })
    .await;
    let mut visitor = bed.visitor();
    let mut tabs = Vec::new();
    for _ in 0..8 {
        tabs.push(visitor.get("/").await);
    }
    // Five of eight tabs are older than a circuit may have; the visitor tries those first.
    for tab in &tabs[..5] {
        assert!(bed.submit(&mut visitor, tab, "ACDEFH").await.is_challenge());
    }
    assert!(visitor.get("/").await.is_challenge(), "locked out for old tabs");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_18_a_flood_of_challenge_requests_costs_another_circuit_nothing() {
    let bed = Bed::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.captcha.max_active = 100;
        parts.config.captcha.max_active_per_circuit = 3;
    })
    .await;
    let mut victim = bed.visitor().circuit(CIRCUIT);
    let page = victim.get("/").await;
    let mut loud = bed.visitor().circuit("fc00:dead:beef:4dad::bad");
    for _ in 0..500 {
        loud.send(Method::POST, "/captcha/generate", &[], Body::empty()).await;
    }
    assert!(bed.app.store.active_challenges().await.unwrap() <= 4);
    assert!(bed.solve(&mut victim, &page).await.admits());
}

/// A day forward, and back to an hour before.
#[tokio::test(flavor = "multi_thread")]
async fn abuse_27_a_clock_that_jumps_mints_no_session_forgets_no_ban_and_is_told() {
    let bed = Bed::start().await;
    let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3600));
    let mut known = bed.admitted().await;
    let banned = fortify::circuit::TorCircuit::from_parts(0, 0, 7);
    let (until, reason) = (bed.clock.now().after(hour), fortify::reputation::Reason::Operator);
    bed.app.reputation.ban(banned, until, reason).await.unwrap();
    let told = async |line: &str| {
        eventually(line, || bed.app.metrics.encode().unwrap().contains(line)).await;
    };
    let now = bed.clock.now();
    let ways = [
        (now.after(day), r#"clock_jumps_total{direction="forward"} 1"#),
        (now.before(hour), r#"clock_jumps_total{direction="back"} 1"#),
    ];
    for (to, line) in ways {
        bed.clock.jump(to);
        assert!(known.get("/").await.is_challenge(), "a session of another time");
        assert!(bed.visitor().get("/").await.is_challenge());
        assert!(bed.app.reputation.standing(banned).is_some());
        told(line).await;
        assert!(bed.app.reputation.standing(banned).is_some());
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_27_a_log_out_holds_over_a_restart() {
    let bed = Bed::start().await;
    let mut member = bed.admitted().await;
    let cookies = member.cookies.clone();
    assert_eq!(member.post_form("/api/session/logout", &[]).await.status, StatusCode::OK);
    let data_dir = bed.app.config.storage.data_dir.clone();
    let kept_alive = &bed.data_dir;
    let again = Bed::with(|parts| parts.config.storage.data_dir = data_dir).await;
    let mut thief = again.visitor();
    thief.cookies = cookies;
    assert!(thief.get("/").await.is_challenge(), "the session is back");
    assert!(kept_alive.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_23_a_visitor_with_cookies_off_is_told_and_not_looped() {
    let bed = Bed::start().await;
    let mut visitor = bed.visitor();
    visitor.keeps_cookies = false;
    let page = visitor.get("/articles/1").await;
    let solved = bed.solve(&mut visitor, &page).await;
    assert_eq!(solved.status, StatusCode::SEE_OTHER);
    let enter = solved.header("location").unwrap().to_owned();
    assert!(enter.starts_with("/_fortify/enter?to="), "{enter}");
    let told = visitor.get(&enter).await;
    assert!(told.text().contains("Cookies are off"));
    assert!(!told.is_challenge());
    assert!(told.header("location").is_none() && !told.text().contains("refresh"), "a loop");
    assert!(told.text().contains("href=\"/articles/1\""));

    // A page of somebody else's, in a browser that keeps cookies: the same step lets in.
    let mut embedded = bed.visitor();
    let image = embedded.get("/api/captcha-image?challenge=new").await;
    let id = image.header("x-challenge-id").unwrap().to_owned();
    let sent = fields(&[("token", &id), ("answer", &bed.answer(&id).await)]);
    let solved = embedded.post_form("/validate-captcha", &sent).await;
    let entered = embedded.get(solved.header("location").unwrap()).await;
    assert_eq!((entered.status, entered.header("location")), (StatusCode::SEE_OTHER, Some("/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_23_the_cookies_are_guarded_as_the_configuration_says() {
    for (secure, host, expected) in [
        (SecureCookie::On, "abc.onion", true),
        (SecureCookie::On, "example.org", true),
        (SecureCookie::Off, "abc.onion", false),
        (SecureCookie::Auto, "abc.onion", true),
        (SecureCookie::Auto, "example.org", false),
    ] {
        let bed = Bed::with(|parts| parts.config.session.secure = secure).await;
        let mut visitor = bed.visitor();
        visitor.headers.insert("host", host.parse().unwrap());
        let page = visitor.get("/").await;
        let reply = bed.solve(&mut visitor, &page).await;
        assert!(reply.admits());
        for cookie in reply.set_cookies() {
            assert_eq!(cookie.contains("; Secure"), expected, "{secure:?} {host}: {cookie}");
            assert!(cookie.contains("; HttpOnly"), "{cookie}");
            assert!(cookie.contains("; Path=/"), "{cookie}");
            assert!(!cookie.contains("Domain") && !cookie.contains("Partitioned"), "{cookie}");
            let strict = cookie.starts_with("cerberus_session=");
            assert_eq!(cookie.contains("SameSite=Strict"), strict, "{cookie}");
            assert!(cookie.contains("Max-Age=3600"), "{cookie}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_23_a_changed_key_is_a_challenge_and_not_a_fault() {
    let bed = Bed::start().await;
    let mut member = bed.admitted().await;
    let lifetime = bed.app.sessions.lifetime();
    bed.app.keys.rotate(lifetime, &*bed.clock, &SystemEntropy).unwrap();
    assert_eq!(member.get("/").await.status, StatusCode::OK, "a rotation logged somebody out");
    bed.app.keys.rotate(Duration::ZERO, &*bed.clock, &SystemEntropy).unwrap();
    let challenged = member.get("/").await;
    assert!(challenged.is_challenge());
    assert!(bed.solve(&mut member, &challenged).await.admits(), "the way in is open");
    assert_eq!(member.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_odd_input_gets_a_clean_4xx() {
    let bed = Bed::start().await;
    let own = format!("http://{}", bed.address);
    let many: String = (0..100_000).map(|i| format!("f{i}=1&")).collect();
    let large = format!("token=a&answer={}", "x".repeat(1 << 20));
    let odd_fields = (0..300).map(|i| format!("f{i}=1")).collect::<Vec<_>>().join("&");
    let forms: [(&str, &str, u16); 9] = [
        ("1 MiB", &large, 413),
        ("100,000 fields", &many, 413),
        ("300 fields", &odd_fields, 400),
        ("nothing", "", 400),
        ("no answer", "token=abc", 400),
        ("a field twice", "token=a&token=b&answer=c", 400),
        ("invalid UTF-8", "token=a&answer=%ff%fe", 400),
        ("a NUL", "token=a&answer=%00", 400),
        ("no form", "{\"token\":1}", 400),
    ];
    for (name, body, status) in forms {
        let reply = bed.visitor().post_body("/validate-captcha", body, &[("origin", &own)]).await;
        assert_eq!(reply.status.as_u16(), status, "{name}");
        assert!(reply.text().contains("<h1>"), "{name} has no page");
    }
    let too_long = format!("{{\"challenge_id\":\"{}\",\"solution\":\"x\"}}", "a".repeat(5000));
    for (name, body, status) in [
        ("too long", too_long.as_str(), 413),
        ("nothing", "", 400),
        ("not JSON", "{", 400),
        ("a field twice", r#"{"challenge_id":"a","challenge_id":"b","solution":"c"}"#, 400),
        ("a field more", r#"{"challenge_id":"a","solution":"c","x":1}"#, 400),
        ("a number", r#"{"challenge_id":1,"solution":"c"}"#, 400),
        ("a lone surrogate", r#"{"challenge_id":"\ud800","solution":"c"}"#, 400),
        ("depth", &"[".repeat(4000), 400),
    ] {
        let headers = [("content-type", "application/json")];
        let reply = bed.visitor().post_body("/verify-captcha", body, &headers).await;
        assert_eq!(reply.status.as_u16(), status, "{name}");
        assert_eq!(reply.json()["success"], false, "{name}");
    }
    let wrong_type = bed.visitor().post_body("/verify-captcha", "{}", &[]).await;
    assert_eq!(wrong_type.status, StatusCode::BAD_REQUEST);
    let languages: String = (0..2_000).map(|i| format!("x{i},")).collect();
    for language in ["und", "*", ",,;q=", &languages] {
        let reply = bed.visitor().get_with("/", &[("accept-language", language)]).await;
        assert!(reply.text().contains("lang=\"en\""), "{language:.20}");
    }
    let chosen = serde_json::json!({"level": 1});
    let generate = bed.visitor().post_json("/captcha/generate", &chosen).await;
    assert_eq!(generate.status, StatusCode::BAD_REQUEST, "the visitor chose the level");
    assert!(bed.site.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_odd_bytes_on_the_wire_get_a_clean_4xx_or_a_closed_connection() {
    let bed = Bed::with(|parts| {
        parts.config.server.header_timeout = Duration::from_millis(300);
        parts.config.server.body_timeout = Duration::from_millis(300);
    })
    .await;
    let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let form = "POST /validate-captcha HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    for (name, bytes) in [
        ("no HTTP", "\x16\x03\x01\r\n\r\n".to_owned()),
        ("a NUL in a header", format!("{head}X: a\0b\r\n\r\n")),
        ("64 KiB of header", format!("{head}X: {}\r\n\r\n", "a".repeat(64 * 1024))),
        ("10,000 headers", format!("{head}{}\r\n", "X: a\r\n".repeat(10_000))),
        ("slow headers", "GET / HTTP/1.1\r\nHost:".to_owned()),
        ("a slow body", format!("{form}Content-Length: 100\r\n\r\ntoken=")),
        ("a slow chunk", format!("{form}Transfer-Encoding: chunked\r\n\r\n5\r\ntok")),
        ("two lengths", format!("{form}Content-Length: 5\r\nContent-Length: 6\r\n\r\ntoken=")),
        (
            "CL and TE",
            format!("{form}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
    ] {
        let reply = raw(&bed, bytes).await;
        let status = reply.split(' ').nth(1).unwrap_or_default();
        let refused = status.starts_with('4') && !reply.contains("name=\"token\"");
        assert!(reply.is_empty() || refused, "{name}: {reply:.80}");
    }
    assert!(bed.visitor().get("/").await.is_challenge(), "the gate is gone");
    assert!(bed.site.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_strange_and_still_sound_requests_are_treated_like_any_other() {
    let bed = Bed::start().await;
    let member = bed.admitted().await;
    let session = &member.cookies["cerberus_session"];
    let long = "a".repeat(8192);
    for target in ["/../../etc/passwd", "/%00", "/a%0d%0ab", "/%", "/\"<>", &format!("/{long}")] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let stranger = raw(&bed, format!("{head}\r\n")).await;
        assert!(stranger.starts_with("HTTP/1.1 4"), "{target:.20}: {stranger:.80}");
        assert!(!stranger.contains("<>\""), "{target:.20} is in the page as it came");
    }
    assert_eq!(bed.site.seen().len(), 0);
    let head =
        b"GET /guestbook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: city=Z\xfcrich; ";
    let cookie = format!("cerberus_session={session}; \u{e9}=;;\r\n\r\n");
    let admitted = raw(&bed, [head.as_slice(), cookie.as_bytes()].concat()).await;
    assert!(admitted.starts_with("HTTP/1.1 200"), "a strange cookie locked out: {admitted:.80}");
}

/// Sends bytes and reads until the gate closes, within a bound.
async fn raw(bed: &Bed, bytes: impl AsRef<[u8]>) -> String {
    let mut socket = TcpStream::connect(bed.address).await.unwrap();
    // A gate that has seen enough may close before it has read all of it.
    let _closed_early = socket.write_all(bytes.as_ref()).await;
    let mut reply = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut reply)).await;
    let _reset_counts_as_closed = read.expect("the connection stayed open for 20 s");
    String::from_utf8_lossy(&reply).into_owned()
}

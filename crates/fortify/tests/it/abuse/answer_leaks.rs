//! Answers, keys, seeds and circuits that get out, and failures that say why.
//!
//! Case 14. SECURITY.md: **Answers, seeds, keys, tokens and raw circuits**, and **One failure**.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fortify_config::{LogConfig, LogFormat, LogLevel};
use fortify_core::circuit::{CircuitId, IdentityMode, TorCircuit};
use fortify_core::entropy::SystemEntropy;
use fortify_store::record::ChallengeToken;
use fortify_testkit::{Reply, TestGate, Visitor, fields, process};
use fortify_web::traps;

/// The raw circuit, and its spellings.
const CIRCUIT: &str = "fc00:dead:beef:4dad::7a3f:19c4";
const CIRCUIT_NUMBER: u32 = 0x7a3f_19c4;
/// Where its session moves to.
const OTHER_CIRCUIT: &str = "fc00:dead:beef:4dad::51c2:a9b7";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What must not get out, each with a name for the failure.
#[derive(Default)]
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    fn add(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        assert!(bytes.as_ref().len() >= 6, "{name} is short enough to be met by chance");
        self.0.push((name.to_owned(), bytes.as_ref().to_owned()));
    }

    /// Binary secrets, in every dress they could wear.
    fn add_binary(&mut self, name: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        self.add(name, bytes);
        self.add(&format!("{name} in hexadecimal"), hex.to_uppercase());
        self.add(&format!("{name} in hexadecimal"), hex);
        self.add(&format!("{name} in base64"), STANDARD.encode(bytes));
        self.add(&format!("{name} in base64url"), URL_SAFE_NO_PAD.encode(bytes));
        self.add(&format!("{name} as a list"), format!("{bytes:?}").trim_matches(['[', ']']));
    }

    fn assert_absent(&self, place: &str, bytes: &[u8]) {
        for (name, secret) in &self.0 {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{name} is in {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_14_nothing_secret_is_in_any_byte_or_line_of_a_full_flow() {
    let name =
        concat!(module_path!(), "::abuse_14_nothing_secret_is_in_any_byte_or_line_of_a_full_flow");
    if !process::is_own(name) {
        return;
    }
    let log = Log::default();
    let config = LogConfig { level: LogLevel::Trace, format: LogFormat::Json };
    let writer = log.clone();
    let subscriber = fortify_core::telemetry::logs::subscriber(&config, move || writer.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.security.max_captcha_failures = 5;
    })
    .await;
    let mut secrets = Secrets::default();
    let mut replies: Vec<Reply> = Vec::new();
    let mut visitor = test_gate.visitor().circuit(CIRCUIT);

    let keys = std::fs::read_to_string(test_gate.data_dir.path().join("data/keys.json")).unwrap();
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    for text in [&keys["pseudonym_key"], &keys["root"]] {
        secrets.add_binary("a key", &URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap());
    }
    secrets.add("the circuit", CIRCUIT);
    secrets.add("the circuit's number", CIRCUIT_NUMBER.to_string());
    secrets.add("the circuit's number", "7a3f19c4");
    secrets.add("the circuit's number", "7a3f:19c4");

    // A page, its picture, a wrong answer, the JSON way, a form on its way, the right answer,
    // pages behind, a logout, nonsense, too many failures.
    let page = visitor.get("/articles/1").await;
    let mut learn = Vec::from([page.field("token")]);
    replies.push(visitor.get(&format!("/captcha/{}.png", page.field("token"))).await);
    replies.push(page.clone());
    let answers = answers(&test_gate, &learn).await;
    let wrong = test_gate.submit(&mut visitor, &page, "NONSENSE").await;
    learn.push(wrong.field("token"));
    let json = visitor.send(Method::POST, "/captcha/generate", &[], "".into()).await;
    learn.push(json.json()["token"].as_str().unwrap().to_owned());
    let image = visitor.get("/api/captcha-image?challenge=new").await;
    learn.push(image.header("x-challenge-id").unwrap().to_owned());
    let form = visitor.post_form("/guestbook", &fields(&[("name", "a"), ("message", "b")])).await;
    learn.push(form.field("token"));
    for (name, secret) in answers.into_iter().chain(self::answers(&test_gate, &learn[1..]).await) {
        match secret {
            Secret::Text(text) => {
                secrets.add(name, &text);
                secrets.add(name, text.to_lowercase());
            }
            Secret::Bytes(bytes) => secrets.add_binary(name, &bytes),
        }
    }
    let solved = test_gate.solve(&mut visitor, &form).await;
    assert!(solved.admits());
    let token = visitor.cookies["cerberus_session"].clone();
    replies.extend([wrong, json, image, form, solved]);
    for path in ["/", "/echo", "/api/session", "/api/status", "/_fortify/auth", "/nowhere"] {
        replies.push(visitor.get(path).await);
    }
    // The session moves to another circuit, is used on both, and ends.
    let mut moved = visitor.clone().circuit(OTHER_CIRCUIT);
    replies.push(moved.get("/_fortify/auth").await);
    replies.push(moved.get("/echo").await);
    let moved_token = moved.cookies["cerberus_session"].clone();
    assert_ne!(moved_token, token);
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    let id = URL_SAFE_NO_PAD.decode(claims["session_id"].as_str().unwrap()).unwrap();
    secrets.add_binary("a session's id", &id);
    secrets.add("the other circuit", OTHER_CIRCUIT);
    secrets.add("the other circuit's number", "51c2a9b7");
    secrets.add("the other circuit's number", 0x51c2_a9b7_u32.to_string());
    replies.push(visitor.get("/_fortify/auth").await);
    let again = visitor.get("/").await;
    learn.push(again.field("token"));
    let solved = test_gate.solve(&mut visitor, &again).await;
    assert!(solved.admits());
    let last_token = visitor.cookies["cerberus_session"].clone();
    replies.extend([again, solved]);
    let left = visitor.post_form("/api/session/logout", &[]).await;
    assert!(left.status.is_success());
    replies.push(left);
    replies.push(visitor.post_body("/validate-captcha", "token=%ff", &[]).await);
    for _ in 0..5 {
        let sent = fields(&[("token", &learn[2]), ("answer", "NONSENSE")]);
        replies.push(visitor.post_form("/validate-captcha", &sent).await);
    }
    replies.push(test_gate.visitor().get("/").await);
    let mut supervisor = test_gate.visitor();
    for path in ["/health", "/ready", "/metrics"] {
        replies.push(supervisor.get(path).await);
    }
    test_gate
        .app
        .engine
        .parts()
        .keys
        .rotate(test_gate.app.engine.parts().sessions.lifetime(), &*test_gate.clock, &SystemEntropy)
        .unwrap();

    for (index, reply) in replies.iter().enumerate() {
        let place = format!("the body of reply {index}");
        secrets.assert_absent(&place, &reply.body);
        let headers = format!("{:?}", reply.headers);
        secrets.assert_absent(&format!("the headers of reply {index}"), headers.as_bytes());
        assert!(!headers.contains("x-answer"));
        if reply.body.starts_with(b"\x89PNG") {
            assert_only_picture_chunks(&reply.body);
        }
    }
    for request in test_gate.site.seen().requests() {
        let seen = format!("{:?}", request.headers);
        secrets.assert_absent("what the backend saw", seen.as_bytes());
        for token in [&token, &moved_token, &last_token] {
            assert!(!seen.contains(token), "the backend saw the session");
        }
    }
    // Tokens and cookies may leave in replies, never in a log.
    for token in [&token, &moved_token, &last_token] {
        secrets.add("a session", token);
    }
    for token in &learn {
        secrets.add("a challenge token", token);
    }
    let debug = format!("{:?}", test_gate.app);
    secrets.assert_absent("the app's Debug", debug.as_bytes());
    test_gate.stop().await;
    let log = log.0.lock().unwrap().clone();
    assert!(!log.is_empty(), "nothing was logged: the test looks at the wrong place");
    secrets.assert_absent("the log", &log);
}

enum Secret {
    Text(String),
    Bytes(Vec<u8>),
}

/// The answers and seeds of challenges, from the store.
async fn answers(test_gate: &TestGate, tokens: &[String]) -> Vec<(&'static str, Secret)> {
    let mut found = Vec::new();
    for token in tokens {
        let token: ChallengeToken = token.parse().unwrap();
        let record = test_gate.app.engine.parts().store.challenge(&token).await.unwrap().unwrap();
        found.push(("an answer", Secret::Text(test_gate.answer(&token.encode()).await)));
        found.push(("a seed", Secret::Bytes(record.seed.expose().to_vec())));
    }
    found
}

/// A PNG that holds its picture and nothing else.
fn assert_only_picture_chunks(png: &[u8]) {
    let mut at = 8;
    while at + 8 <= png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let kind = std::str::from_utf8(&png[at + 4..at + 8]).unwrap();
        assert!(["IHDR", "PLTE", "IDAT", "IEND"].contains(&kind), "a chunk {kind}");
        at += 12 + length;
    }
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
async fn abuse_14_every_answer_that_counts_for_nothing_looks_like_every_other() {
    let test_gate = super::circuit_bed().await;
    let answer_of = async |page: &Reply| test_gate.answer(&page.field("token")).await;
    let new = || test_gate.visitor().circuit(super::CIRCUIT);
    let (mut stranger, mut visitor) =
        (test_gate.visitor().circuit("fc00:dead:beef:4dad::2"), new());

    let page = visitor.get("/").await;
    let wrong = test_gate.submit(&mut visitor, &page, "WRONG").await;
    let used = test_gate.submit(&mut visitor, &page, "WRONG").await;
    let token = ChallengeToken::random(&SystemEntropy).unwrap().encode();
    let submit = async |visitor: &mut Visitor, token: &str, answer: &str| {
        let sent = fields(&[("token", token), ("answer", answer), ("return_to", "/")]);
        visitor.post_form("/validate-captcha", &sent).await
    };
    let unknown = submit(&mut visitor, &token, "ACDEFH").await;
    let malformed = submit(&mut visitor, "no token", "ACDEFH").await;
    // Each wrong answer is a first one, because the page says how many count.
    let forget = async || {
        let parts = test_gate.app.engine.parts();
        let circuit = CircuitId::Header(TorCircuit::from_parts(0, 0, 0x19));
        parts.store.forget_failures(parts.pseudonyms.tag(&circuit)).await.unwrap();
    };
    let theirs = stranger.get("/").await;
    forget().await;
    let foreign = test_gate.submit(&mut visitor, &theirs, &answer_of(&theirs).await).await;
    let page = visitor.get("/").await;
    forget().await;
    let empty = submit(&mut visitor, &page.field("token"), "").await;
    let page = visitor.get("/").await;
    let answer = answer_of(&page).await;
    test_gate.clock.advance(Duration::from_secs(300));
    let expired = test_gate.submit(&mut visitor, &page, &answer).await;
    // What is checked and not right.
    for (name, reply) in [("foreign", foreign), ("empty", empty)] {
        assert_eq!(shape(&reply), shape(&wrong), "{name}");
    }
    // What names no challenge of this circuit, and counts for nothing.
    for (name, reply) in [("unknown", unknown), ("malformed", malformed), ("expired", expired)] {
        assert_eq!(shape(&reply), shape(&used), "{name}");
    }
}

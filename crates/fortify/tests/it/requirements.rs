//! The names of the requirements work as they are written there: the example `fortify.toml`, the addresses,
//! the cookie and its claims, the stick table, and the form of the Redis keys.
//! `docs/design/requirements-names.md` lists all of them, with those that cannot work as written.

use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fortify_captcha::{Answer, Variant};
use fortify_config::Config;
use fortify_haproxy::client::Endpoint;
use fortify_testkit::program::{fortify, listening, output};
use fortify_testkit::redis::Redis;
use fortify_testkit::servers::{Haproxy, free_address};
use fortify_testkit::wait::eventually;
use fortify_testkit::{Reply, Visitor};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The example of the first requirement document, "Configuration Management", to the letter.
const EXAMPLE: &str = r#"[server]
host = "127.0.0.1"
port = 10002

[captcha]
ttl_seconds = 300
difficulty = "low"
length = 6

[haproxy]
socket_path = "/var/run/haproxy.sock"
table_name = "tor_ingress"

[security]
max_captcha_failures = 5
reputation_decay_seconds = 3600
"#;

/// A circuit, as `HAProxy` hands it over in `X-Circuit-ID`. The documents use names such as
/// `test-circuit-123`, which cannot work: tor gives circuits these addresses, and Fortify accepts no others,
/// because the text ends up in a command to `HAProxy`.
const CIRCUIT: &str = "fc00:dead:beef:4dad::19";

/// The example with what belongs to the host replaced. Each replacement has to find its line.
fn adapted(socket: &Path, dir: &Path, more: &str) -> String {
    let mut text = EXAMPLE.to_owned();
    for (line, instead) in [
        // Gates of other tests run beside this one: any free port.
        ("port = 10002", "port = 0".to_owned()),
        // The HAProxy of this test, and not one that the host may run.
        (
            "socket_path = \"/var/run/haproxy.sock\"",
            format!("socket_path = \"{}\"", socket.display()),
        ),
    ] {
        assert!(text.contains(line), "{line}");
        text = text.replace(line, &instead);
    }
    // The example leaves these out. By default the data is in /var/lib/fortify and the admin interface on
    // port 10009, which a test must not touch.
    let data = dir.join("data");
    text + &format!(
        "\n[storage]\ndata_dir = \"{}\"\n{more}\n[admin]\nlisten = \"\"\n",
        data.display()
    )
}

/// The program with a configuration; asked to stop when dropped.
struct Gate {
    address: SocketAddr,
    child: Child,
    _log: BufReader<ChildStderr>,
}

impl Gate {
    fn start(dir: &Path, text: &str) -> Self {
        let path = dir.join("fortify.toml");
        std::fs::write(&path, text).unwrap();
        let mut command = fortify(&["serve", "--config", path.to_str().unwrap()]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        Self { address: listening(&mut log), child, _log: log }
    }

    fn visitor(&self) -> Visitor {
        Visitor::at(self.address).circuit(CIRCUIT)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ended = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ended = self.child.wait();
    }
}

#[test]
fn the_example_file_is_valid_as_it_is_written_and_every_key_takes_effect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fortify.toml");
    std::fs::write(&path, EXAMPLE).unwrap();
    let checked = output(&mut fortify(&["check-config", "--config", path.to_str().unwrap()]));
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));

    // Every value of the example but the socket is also the default: so each is changed here too.
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), []).unwrap()
    };
    let config = load(EXAMPLE);
    assert_eq!(config.server.host.to_string(), "127.0.0.1");
    assert_eq!(config.server.port, 10002);
    assert_eq!(config.captcha.ttl, Duration::from_secs(300));
    assert_eq!(config.captcha.level, 2);
    assert_eq!(config.captcha.length, 6);
    assert_eq!(config.haproxy.endpoint, Some(Endpoint::Unix("/var/run/haproxy.sock".into())));
    assert_eq!(config.haproxy.table.as_str(), "tor_ingress");
    assert_eq!(config.security.max_captcha_failures, 5);
    assert_eq!(config.security.reputation_decay, Duration::from_secs(3600));
    for (line, instead) in [
        ("host = \"127.0.0.1\"", "host = \"127.0.0.2\""),
        ("port = 10002", "port = 10003"),
        ("ttl_seconds = 300", "ttl_seconds = 299"),
        ("difficulty = \"low\"", "difficulty = \"medium\""),
        ("difficulty = \"low\"", "difficulty = \"high\""),
        ("length = 6", "length = 8"),
        ("/var/run/haproxy.sock", "/var/run/haproxy2.sock"),
        ("tor_ingress", "tor_egress"),
        ("max_captcha_failures = 5", "max_captcha_failures = 6"),
        ("reputation_decay_seconds = 3600", "reputation_decay_seconds = 3601"),
    ] {
        assert!(EXAMPLE.contains(line), "{line}");
        assert_ne!(load(&EXAMPLE.replace(line, instead)), config, "{instead}");
    }
}

#[tokio::test]
async fn the_example_file_starts_the_service_and_its_addresses_answer() {
    let dir = tempfile::tempdir().unwrap();
    let haproxy = Haproxy::start(free_address());
    let gate = Gate::start(dir.path(), &adapted(&haproxy.socket, dir.path(), ""));
    let mut visitor = gate.visitor();

    assert_eq!(visitor.get("/health").await.status, StatusCode::OK);
    eventually_ok(&mut visitor).await;

    let image = visitor.get("/api/captcha-image?challenge=new").await;
    assert_eq!(image.status, StatusCode::OK);
    assert_eq!(image.header("content-type"), Some("image/png"));
    assert_eq!(image.header("cache-control"), Some("no-store"));
    // Of the two forms of a token in the documents, 16 hexadecimal digits and 32 random bytes as base64url,
    // the second is in use everywhere: 64 bits can be guessed.
    let token = image.header("x-challenge-id").unwrap().to_owned();
    assert_eq!(URL_SAFE_NO_PAD.decode(&token).unwrap().len(), 32);

    let picture = visitor.get(&format!("/captcha/{token}.png")).await;
    assert_eq!(
        (picture.status, picture.header("content-type")),
        (StatusCode::OK, Some("image/png"))
    );

    let wrong = json!({"challenge_id": token, "solution": "MOCK_SOLUTION"});
    let wrong = visitor.post_json("/verify-captcha", &wrong).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    // "Invalid solution" in one place and, because it tells less, "Verification failed" in another.
    assert_eq!(wrong.json(), json!({"success": false, "message": "Verification failed"}));

    let challenge = visitor.post_json("/captcha/generate", &json!({})).await;
    assert_eq!(challenge.status, StatusCode::OK);
    let (token, image) = (&challenge.json()["token"], &challenge.json()["image"]);
    assert_eq!(image, &json!(format!("/captcha/{}.png", token.as_str().unwrap())));

    // A browser gets the form of the second document: where it leads and what its fields are called.
    let page = visitor.get("/").await;
    assert!(page.text().contains("action=\"/validate-captcha\""), "{}", page.text());
    assert!(page.is_challenge() && page.text().contains("name=\"answer\""), "{}", page.text());
    let form = [("token".to_owned(), page.field("token")), ("answer".to_owned(), "no".to_owned())];
    let wrong = visitor.post_form("/validate-captcha", &form).await;
    assert!(wrong.is_challenge(), "{}: {}", wrong.status, wrong.text());

    // Without `X-Circuit-ID` nothing is verified.
    let mut nobody = Visitor::at(gate.address);
    let body = json!({"challenge_id": "x", "solution": "x"});
    let refused = nobody.post_json("/verify-captcha", &body).await;
    assert_eq!(
        (refused.status, &refused.json()["success"]),
        (StatusCode::BAD_REQUEST, &json!(false))
    );
}

/// Asks `/api/status` until it says that all is well, which takes until `HAProxy`'s table was read.
async fn eventually_ok(visitor: &mut Visitor) {
    let status = || {
        let mut visitor = visitor.clone();
        async move {
            let reply = visitor.get("/api/status").await;
            let ok = reply.status == StatusCode::OK;
            if ok { Ok(()) } else { Err(reply.text()) }
        }
    };
    fortify_testkit::wait::until_ok("/api/status to be ok", status).await;
}

#[tokio::test]
async fn an_answer_earns_the_cookie_and_the_place_in_the_table_that_are_written_there() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start(&[]));
    let haproxy = Haproxy::start(free_address());
    // The documents do not say how Redis is configured. The empty prefix gives keys the form that they show;
    // with the shipped one, they are `fortify:captcha:<token>`.
    let storage =
        format!("backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\nprefix = \"\"\n", redis.port);
    let gate = Gate::start(dir.path(), &adapted(&haproxy.socket, dir.path(), &storage));
    let mut visitor = gate.visitor();
    eventually_ok(&mut visitor).await;

    let challenge = visitor.send(Method::POST, "/captcha/generate", &[], Body::empty()).await;
    let mut token = challenge.json()["token"].as_str().unwrap().to_owned();
    let stored = stored(&redis, &token);
    assert!(stored["variant"].as_str().unwrap().parse::<Variant>().is_ok(), "{stored}");
    assert!(stored["created_at"].as_f64().unwrap() > 1.7e9, "{stored}");
    assert_eq!(stored["ttl"], 300);
    // A keyed hash of the circuit: its number never leaves the host.
    assert_eq!(stored["circuit_id"].as_str().map(str::len), Some(22), "{stored}");

    let granted = loop {
        let answer = answer(&redis, &token);
        let solution = json!({"challenge_id": token, "solution": answer});
        let reply = visitor.post_json("/verify-captcha", &solution).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let first = redis.tell(&["GETRANGE", &format!("captcha:{token}"), "0", "0"]);
        assert!(!first.contains('{'), "used once");
        match reply.json()["next"]["token"].as_str() {
            // An answer within milliseconds looks like a program's, and costs one more challenge.
            Some(next) => token = next.to_owned(),
            None => break reply,
        }
    };
    assert_eq!(granted.json(), json!({"success": true, "message": "Access granted"}));

    let cookie = session_cookie(&granted);
    let attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    for attribute in ["Max-Age=3600", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(attributes.contains(&attribute), "{attribute}: {cookie}");
    }
    let jwt: Vec<&str> = cookie["cerberus_session=".len()..].split([';', '.']).collect();
    let (header, claims) = (part(jwt[0]), part(jwt[1]));
    assert_eq!(header["alg"], "HS256");
    let seconds = |name: &str| claims[name].as_u64().unwrap();
    assert_eq!(seconds("expires_at") - seconds("issued_at"), 3600, "{claims}");
    assert_eq!(claims["captcha_solved"], true);
    // The level of the last challenge: one more where an answer within milliseconds asked for a harder one.
    assert!((2..=3).contains(&seconds("threat_level")), "{claims}");
    // The same keyed hash, not the circuit itself.
    assert_eq!(claims["circuit_id"], stored["circuit_id"]);

    // The circuit is trusted: gpc0 is 1 in the table `tor_ingress`.
    eventually("the circuit to be trusted", || haproxy.gpc0(CIRCUIT) == Some(1)).await;
    let session = visitor.get("/api/session").await;
    assert_eq!(session.status, StatusCode::OK, "{}", session.text());
}

/// The value of `captcha:<token>`.
fn stored(redis: &Redis, token: &str) -> Value {
    serde_json::from_str(&redis.tell(&["GET", &format!("captcha:{token}")])).unwrap()
}

/// The right answer to the challenge `token`.
fn answer(redis: &Redis, token: &str) -> String {
    Answer::decode(stored(redis, token)["answer"].as_str().unwrap()).unwrap().reveal()
}

fn session_cookie(reply: &Reply) -> String {
    let cookies = reply.set_cookies();
    let session = cookies.iter().find(|cookie| cookie.starts_with("cerberus_session="));
    (*session.unwrap_or_else(|| panic!("no session in {cookies:?}"))).to_owned()
}

/// A part of a JWT.
fn part(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

//! The admin interface over real sockets: who gets in to what, and what that changes for visitors.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use fortify_admin::SharedAdmin;
use fortify_admin::accounts::UserChange;
use fortify_admin::identity::{AuthMethod, Principal, Role};
use fortify_admin::log::{Entry, LogCursor, LogPage, RefusalKind};
use fortify_admin::routes::{API, Access, Route, routes};
use fortify_admin::totp::{self, TotpSecret};
use fortify_config::AdminSocket;
use fortify_core::circuit::IdentityMode;
use fortify_store::record::Secret;
use fortify_testkit::{NOW, Parts, Reply, TestGate, Visitor, fields, form};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

const PASSWORD: &str = "four plain words here";
const CIRCUIT: &str = "fc00:dead:beef:4dad::19";

/// A gate for circuits, with both doors for operators, and an account of each role.
struct Office {
    test_gate: TestGate,
    socket: PathBuf,
}

impl Office {
    async fn open() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Parts)) -> Self {
        let test_gate = TestGate::with(|parts| {
            parts.config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
            parts.config.admin.socket = AdminSocket::InDataDir;
            parts.config.security.identity = IdentityMode::Circuit;
            change(parts);
        })
        .await;
        let socket = test_gate.data_dir.path().join("data/admin.sock");
        let office = Self { test_gate, socket };
        let hash = office.hash(PASSWORD).await;
        for role in Role::ALL {
            office.admin().accounts.add_user(&own(), role.as_str(), role, &hash, NOW).unwrap();
        }
        office
    }

    /// As an office of which nobody has the key yet.
    async fn untouched() -> (TestGate, Visitor) {
        let test_gate = TestGate::with(|parts| {
            parts.config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
        })
        .await;
        let operator = Visitor::at(test_gate.admin_address.unwrap());
        (test_gate, operator)
    }

    async fn hash(&self, password: &str) -> String {
        let secret = Secret::new(password.to_owned());
        fortify_admin::password::hash(&secret, &**self.test_gate.app.engine.entropy()).unwrap()
    }

    fn admin(&self) -> &SharedAdmin {
        self.test_gate.admin.as_ref().unwrap()
    }

    /// Somebody at the port, whom nobody knows.
    fn stranger(&self) -> Visitor {
        Visitor::at(self.test_gate.admin_address.unwrap())
    }

    /// A token of `role` that ends in an hour.
    fn token(&self, role: Role) -> String {
        let accounts = &self.admin().accounts;
        let expires = NOW.after(Duration::from_secs(3600));
        let made = accounts.add_token(
            &own(),
            role,
            "test",
            NOW,
            expires,
            &**self.test_gate.app.engine.entropy(),
        );
        made.unwrap().text.expose().clone()
    }

    fn with_token(&self, role: Role) -> Visitor {
        let mut operator = self.stranger();
        let bearer = format!("Bearer {}", self.token(role));
        operator.headers.insert("authorization", bearer.parse().unwrap());
        operator
    }

    /// Somebody who is logged in, and the token of their forms.
    async fn logged_in(&self, name: &str) -> (Visitor, String) {
        let mut operator = self.stranger();
        let reply = log_in(&mut operator, name, PASSWORD, None).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let csrf = reply.json()["csrf"].as_str().unwrap().to_owned();
        (operator, csrf)
    }

    /// A request through the socket.
    async fn over_socket(&self, method: Method, path: &str, args: Option<Value>) -> Reply {
        let stream = tokio::net::UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let body = args.map(|args| args.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{API}{path}"))
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("x-fortify-operator", "ada")
            .body(Body::from(body))
            .unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// The pseudonym of a circuit.
    async fn pseudonym(&self, circuit: &str) -> String {
        let shown = self.over_socket(Method::GET, &format!("/circuits/{circuit}"), None).await;
        shown.json()["circuit"].as_str().unwrap().to_owned()
    }

    fn visitor(&self) -> Visitor {
        self.test_gate.visitor().circuit(CIRCUIT)
    }
}

fn own() -> Principal {
    Principal { name: "test".to_owned(), role: Role::Admin, auth_method: AuthMethod::File }
}

/// The latest of the log.
fn kept(office: &Office) -> LogPage {
    let before = NOW.after(Duration::from_secs(60));
    office.admin().accounts.kept(before, &LogCursor::LATEST, 1000).unwrap()
}

async fn log_in(operator: &mut Visitor, name: &str, password: &str, code: Option<&str>) -> Reply {
    let args = json!({"name": name, "password": password, "code": code});
    operator.post_json(&format!("{API}/login"), &args).await
}

fn code_of(reply: &Reply) -> String {
    // A page has its words for people in its body.
    if let Some(code) = reply.header("x-fortify-code") {
        return code.to_owned();
    }
    if reply.status.is_redirection() {
        return String::new();
    }
    reply.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// An address of a route, with something in the place of its arguments.
fn address(route: &Route) -> String {
    let tag = "00112233445566778899aabbccddeeff";
    ["circuit", "name", "id"].iter().fold(route.path.clone(), |path, name| {
        path.replace(&format!("{{{name}}}"), if *name == "circuit" { tag } else { "nobody" })
    })
}

/// Everybody who may come, by what means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Nobody,
    Token(Role),
    Session(Role),
    Expired,
    Revoked,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_whom_its_row_says_and_nobody_else() {
    let office = Office::open().await;
    let accounts = &office.admin().accounts;
    let entropy = office.test_gate.app.engine.entropy().clone();
    let at = |seconds| NOW.after(Duration::from_secs(seconds));
    let expired = accounts.add_token(&own(), Role::Admin, "", NOW, at(0), &*entropy).unwrap();
    let revoked = accounts.add_token(&own(), Role::Admin, "", NOW, at(3600), &*entropy).unwrap();
    accounts.revoke_token(&own(), &revoked.token.id, NOW).unwrap();
    let mut callers = vec![(Caller::Nobody, office.stranger())];
    for (caller, made) in [(Caller::Expired, expired), (Caller::Revoked, revoked)] {
        let mut operator = office.stranger();
        let bearer = format!("Bearer {}", made.text.expose());
        operator.headers.insert("authorization", bearer.parse().unwrap());
        callers.push((caller, operator));
    }
    for role in Role::ALL {
        callers.push((Caller::Token(role), office.with_token(role)));
    }
    let all = routes();
    let distinct: BTreeSet<_> = all.iter().map(|it| (it.method.as_str(), &it.path)).collect();
    assert_eq!(distinct.len(), all.len(), "an address is there twice");
    assert!(all.len() > 30);
    for role in Role::ALL {
        callers.push((Caller::Session(role), office.stranger()));
    }
    for (caller, operator) in callers {
        // Logging out ends what the following routes need.
        let mut kept = operator;
        let mut csrf = None;
        for route in &all {
            if let Caller::Session(role) = caller
                && (csrf.is_none() || route.path.ends_with("/login") || kept.cookies.is_empty())
            {
                let (fresh, token) = office.logged_in(role.as_str()).await;
                (kept, csrf) = (fresh, Some(token));
            }
            let (path, mut asking) = (address(route), kept.clone());
            asking.keeps_cookies = false;
            let reply = if route.method == Method::GET {
                asking.get(&path).await
            } else {
                let csrf = csrf.clone().unwrap_or_default();
                let headers =
                    [("content-type", "application/json"), ("x-fortify-csrf", csrf.as_str())];
                asking.send(Method::POST, &path, &headers, Body::from("{}")).await
            };
            let role = match caller {
                Caller::Token(role) | Caller::Session(role) => Some(role),
                Caller::Nobody | Caller::Expired | Caller::Revoked => None,
            };
            let what =
                format!("{caller:?} {} {path}: {} {}", route.method, reply.status, reply.text());
            let code = if reply.status.is_success() { String::new() } else { code_of(&reply) };
            match (route.access, role) {
                (Access::Public | Access::Form, _) => {
                    assert!(
                        !["unauthenticated", "role", "form"].contains(&code.as_str()),
                        "{what}"
                    );
                }
                (Access::Role(_), None) => {
                    // A browser is sent to the log-in.
                    let is_page = !route.path.starts_with(API);
                    let sent = is_page && reply.header("location") == Some("/admin/login");
                    assert!(sent || reply.status == StatusCode::UNAUTHORIZED, "{what}");
                    assert_eq!(code, "unauthenticated", "{what}");
                }
                (Access::Role(least), Some(role)) if role < least => {
                    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{what}");
                    assert_eq!(code, "role", "{what}");
                }
                (Access::Role(_), Some(_)) => {
                    // Let in: whatever is said about such arguments, the handler says it.
                    assert!(
                        !["unauthenticated", "role", "form"].contains(&code.as_str()),
                        "{what}"
                    );
                    assert_ne!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
                }
            }
            if route.path.ends_with("/logout") {
                csrf = None;
            }
        }
    }
    // The other method is none, and the gate has none of it.
    for route in &all {
        let other = if route.method == Method::GET { Method::DELETE } else { Method::PUT };
        let reply = office.stranger().send(other, &address(route), &[], Body::empty()).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{}", route.path);
        let mut visitor = office.visitor();
        visitor.headers.insert("authorization", "Bearer x".parse().unwrap());
        let reply = visitor.send(route.method.clone(), &address(route), &[], Body::empty()).await;
        assert!(!reply.text().contains("unauthenticated") && reply.status != StatusCode::OK);
    }
    let reply = office.stranger().get("/admin/api/v1/nothing").await;
    assert_eq!((reply.status, code_of(&reply).as_str()), (StatusCode::NOT_FOUND, "not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_describes_every_route() {
    let office = Office::open().await;
    let document = office.stranger().get(&format!("{API}/openapi.json")).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    for route in routes().iter().filter(|route| route.path.starts_with(API)) {
        let method = route.method.as_str().to_ascii_lowercase();
        let operation = &document["paths"][&route.path][&method];
        assert_eq!(operation["summary"], route.summary, "{} {}", route.method, route.path);
        for name in route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|it| it["name"] == name && it["in"] == "path"), "{name}");
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let body = &document["paths"][format!("{API}/dial/set")]["post"]["requestBody"];
    let schema = &body["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["level", "reason"]), "{schema}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setup_token_makes_one_account_and_no_second() {
    let (test_gate, mut operator) = Office::untouched().await;
    let token = test_gate.setup_token.clone().expect("a token at the first start");
    let set_up =
        |token: &str, name: &str| json!({"token": token, "name": name, "password": PASSWORD});
    let path = format!("{API}/setup");
    let before = operator.get(&format!("{API}/login")).await.json();
    assert_eq!(before["awaits_setup"], true);
    let reply = operator.post_json(&path, &set_up("wrong", "ada")).await;
    assert_eq!((reply.status, code_of(&reply).as_str()), (StatusCode::UNAUTHORIZED, "bad_setup"));
    let short = json!({"token": token, "name": "ada", "password": "short"});
    assert_eq!(operator.post_json(&path, &short).await.status, StatusCode::BAD_REQUEST);
    let reply = operator.post_json(&path, &set_up(&token, "ada")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.json()["role"], "admin");
    assert_eq!(operator.get(&format!("{API}/me")).await.json()["name"], "ada");
    let mut second = Visitor::at(test_gate.admin_address.unwrap());
    let reply = second.post_json(&path, &set_up(&token, "eve")).await;
    assert_eq!(code_of(&reply), "bad_setup");
    assert_eq!(second.get(&format!("{API}/login")).await.json()["awaits_setup"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_takes_name_password_and_a_code_that_counts_once() {
    let office = Office::open().await;
    let secret = TotpSecret::new(*b"12345678901234567890");
    let enrolled = TotpSecret::new(*b"12345678901234567890");
    let accounts = &office.admin().accounts;
    accounts.change_user(&own(), "admin", &UserChange::Totp(Some(enrolled)), NOW).unwrap();
    let code = totp::code_at(&secret, office.test_gate.app.clock.now());
    let mut operator = office.stranger();
    let mut said = BTreeSet::new();
    for (name, password, code) in [
        ("nobody", PASSWORD, None),
        ("viewer", "another password", None),
        ("admin", PASSWORD, None),
        ("admin", PASSWORD, Some("000000")),
        ("admin", "another password", Some(code.as_str())),
        ("admin\r\nx: y", PASSWORD, None),
        ("", "", None),
    ] {
        let reply = log_in(&mut operator, name, password, code).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name}");
        assert!(reply.set_cookies().is_empty());
        said.insert(reply.text());
    }
    assert_eq!(said.len(), 1, "the answers tell what was wrong: {said:?}");
    let reply = log_in(&mut operator, "admin", PASSWORD, Some(&code)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let reply = log_in(&mut office.stranger(), "admin", PASSWORD, Some(&code)).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "a code counted twice");
    office.test_gate.clock.advance(Duration::from_secs(30));
    let code = totp::code_at(&secret, office.test_gate.app.clock.now());
    let both = tokio::join!(
        async { log_in(&mut office.stranger(), "admin", PASSWORD, Some(&code)).await },
        async { log_in(&mut office.stranger(), "admin", PASSWORD, Some(&code)).await },
    );
    let ok = [both.0.status, both.1.status].iter().filter(|it| **it == StatusCode::OK).count();
    assert_eq!(ok, 1, "of two at once with one code");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_password_cannot_try_every_code_while_the_account_waits() {
    let office = Office::open().await;
    let secret = || TotpSecret::new(*b"12345678901234567890");
    let enrolled = UserChange::Totp(Some(secret()));
    office.admin().accounts.change_user(&own(), "admin", &enrolled, NOW).unwrap();
    let code = || totp::code_at(&secret(), office.test_gate.app.clock.now());
    let mut guesser = office.stranger();
    for _ in 0..5 {
        let reply = log_in(&mut guesser, "admin", PASSWORD, Some("000000")).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
    for _ in 0..50 {
        let reply = log_in(&mut guesser, "admin", PASSWORD, Some("000000")).await;
        assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    }
    let reply = log_in(&mut guesser, "admin", PASSWORD, Some(&code())).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "a code too many was looked at");
    // One look is earned; who uses it up with a wrong code has none for the right one.
    office.test_gate.clock.advance(Duration::from_secs(10));
    for code in ["000000", &code()] {
        let reply = log_in(&mut guesser, "admin", PASSWORD, Some(code)).await;
        assert_ne!(reply.status, StatusCode::OK);
    }
    office.test_gate.clock.advance(Duration::from_secs(10));
    let reply = log_in(&mut guesser, "admin", PASSWORD, Some(&code())).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_a_new_id_and_ends_when_it_should() {
    let office = Office::open().await;
    let me = format!("{API}/me");
    let mut operator = office.stranger();
    // An id that somebody planted.
    operator.cookies.insert("fortify_admin".to_owned(), "planted".to_owned());
    let reply = log_in(&mut operator, "viewer", PASSWORD, None).await;
    let cookie = reply.set_cookies()[0].to_owned();
    assert!(cookie.starts_with("fortify_admin="), "{cookie}");
    for word in ["HttpOnly", "SameSite=Strict", "Path=/admin"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "over plain http browsers drop it");
    assert_ne!(operator.cookies["fortify_admin"], "planted");
    let first = operator.clone();
    log_in(&mut operator, "viewer", PASSWORD, None).await;
    assert_ne!(first.cookies["fortify_admin"], operator.cookies["fortify_admin"]);
    assert_eq!(operator.get(&me).await.status, StatusCode::OK);
    assert_eq!(first.clone().get(&me).await.status, StatusCode::UNAUTHORIZED, "the former id");
    // Over TLS, as the proxy beside the gate says.
    let mut over_tls = office.stranger();
    over_tls.headers.insert("x-forwarded-proto", "https".parse().unwrap());
    let reply = log_in(&mut over_tls, "viewer", PASSWORD, None).await;
    assert!(reply.set_cookies()[0].contains("Secure"));
    // Log-out, idleness, the end of the day, another role, removal.
    let (mut leaving, csrf) = office.logged_in("viewer").await;
    let gone = leaving.clone();
    let headers = [("x-fortify-csrf", csrf.as_str())];
    leaving.send(Method::POST, &format!("{API}/logout"), &headers, Body::empty()).await;
    assert!(!leaving.cookies.contains_key("fortify_admin"));
    assert_eq!(gone.clone().get(&me).await.status, StatusCode::UNAUTHORIZED);
    office.test_gate.clock.advance(Duration::from_secs(14 * 60));
    assert_eq!(operator.get(&me).await.status, StatusCode::OK);
    office.test_gate.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(operator.get(&me).await.status, StatusCode::UNAUTHORIZED, "idle");
    let accounts = &office.admin().accounts;
    let hash = office.hash(PASSWORD).await;
    for change in [
        UserChange::Role(Role::Operator),
        UserChange::Password(hash),
        UserChange::Totp(None),
        UserChange::Remove,
    ] {
        let (mut operator, _) = office.logged_in("viewer").await;
        accounts.change_user(&own(), "viewer", &change, NOW).unwrap();
        assert_eq!(operator.get(&me).await.status, StatusCode::UNAUTHORIZED);
    }
    let error = accounts.change_user(&own(), "admin", &UserChange::Remove, NOW).unwrap_err();
    assert!(error.to_string().contains("last admin"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_counts_from_a_page_of_its_own_session_alone() {
    let office = Office::open().await;
    let path = format!("{API}/dial/set");
    let (operator, csrf) = office.logged_in("operator").await;
    let (_, foreign) = office.logged_in("admin").await;
    let level = office.test_gate.app.engine.parts().threat.level().get();
    for token in [None, Some(""), Some("0".repeat(64).as_str()), Some(foreign.as_str())] {
        let mut given = fields(&[("level", "7"), ("reason", "test")]);
        given.extend(token.map(|token| ("csrf".to_owned(), token.to_owned())));
        let reply = operator.clone().post_form(&path, &given).await;
        assert_eq!((reply.status, code_of(&reply).as_str()), (StatusCode::FORBIDDEN, "form"));
        let body = form(&given);
        let typed = [("content-type", "text/plain")];
        let reply = operator.clone().send(Method::POST, &path, &typed, Body::from(body)).await;
        assert!(!reply.status.is_success());
        let json = json!({"level": 7, "reason": "test"});
        assert_eq!(operator.clone().post_json(&path, &json).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(
        office.test_gate.app.engine.parts().threat.level().get(),
        level,
        "a forged form turned the dial"
    );
    let given = fields(&[("level", "7"), ("reason", "test"), ("csrf", &csrf)]);
    let reply = operator.clone().post_form(&path, &given).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(office.test_gate.app.engine.parts().threat.level().get(), 7);
    // The form before log-in has a token of its own, or is JSON, which no form can be.
    let (login, mut browser) = (format!("{API}/login"), office.stranger());
    let before = browser.get(&login).await.json()["csrf"].as_str().unwrap().to_owned();
    let fill = |csrf: &str| fields(&[("name", "viewer"), ("password", PASSWORD), ("csrf", csrf)]);
    let other = office.stranger().get(&login).await.json()["csrf"].as_str().unwrap().to_owned();
    for token in ["", &other, &csrf] {
        let reply = browser.clone().post_form(&login, &fill(token)).await;
        assert_eq!(code_of(&reply), "form", "{token}");
    }
    assert_eq!(code_of(&office.stranger().post_form(&login, &fill(&before)).await), "form");
    assert_eq!(browser.post_form(&login, &fill(&before)).await.status, StatusCode::OK);
    let refused = kept(&office).refusals;
    assert!(refused.iter().any(|it| it.what == "form" && it.count >= 10), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_passwords_are_a_few_and_cost_a_few_lines() {
    let office = Office::open().await;
    let accounts = office.admin().accounts.clone();
    let secret = TotpSecret::new(*b"12345678901234567890");
    accounts
        .change_user(
            &own(),
            "admin",
            &UserChange::Totp(Some(TotpSecret::new(*secret.expose()))),
            NOW,
        )
        .unwrap();
    let entries = || kept(&office).changes.len() + kept(&office).visits.len();
    let before = entries();
    let mut attackers = tokio::task::JoinSet::new();
    let metrics = office.test_gate.app.metrics.clone();
    for worker in 0..8_u32 {
        let mut attacker = office.stranger();
        attackers.spawn(async move {
            let (mut looked, mut waited) = (0, 0);
            for number in 0..1250_u32 {
                // One name, and others.
                let name = if number % 2 == 0 {
                    "admin".to_owned()
                } else {
                    format!("u{worker}-{number}")
                };
                let reply = log_in(&mut attacker, &name, "not the password", None).await;
                match reply.status {
                    StatusCode::UNAUTHORIZED => looked += 1,
                    StatusCode::TOO_MANY_REQUESTS => {
                        assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
                        waited += 1;
                    }
                    // More at once than are hashed.
                    StatusCode::SERVICE_UNAVAILABLE => {}
                    other => panic!("{other}"),
                }
            }
            (looked, waited)
        });
    }
    let (mut looked, mut waited) = (0, 0);
    while let Some(done) = attackers.join_next().await {
        let done = done.unwrap();
        looked += done.0;
        waited += done.1;
    }
    // Time stands still: what is looked at in a minute, and not one more.
    assert!(looked <= 30, "{looked} passwords were looked at");
    assert!(waited >= 9_900, "{waited}");
    let text = metrics.encode().unwrap();
    assert!(text.contains(&format!("fortify_admin_logins_total{{outcome=\"waiting\"}} {waited}")));
    assert_eq!(entries(), before, "a flood pushes changes out of the log");
    let refused = kept(&office).refusals;
    let count =
        |what: &str| refused.iter().filter(|it| it.what == what).map(|it| it.count).sum::<u64>();
    assert!(refused.len() <= 4, "{refused:?}");
    assert_eq!((count("login"), count("login_waiting")), (looked, waited));
    // The operator gets in all the same: with a code, with a token, over the socket.
    let reply = log_in(&mut office.stranger(), "admin", PASSWORD, None).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    let code = totp::code_at(&secret, office.test_gate.app.clock.now());
    let reply = log_in(&mut office.stranger(), "admin", PASSWORD, Some(&code)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert!(
        office.with_token(Role::Viewer).get(&format!("{API}/status")).await.status.is_success()
    );
    assert!(office.over_socket(Method::GET, "/status", None).await.status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_into_names_and_headers_stays_where_it_is() {
    let office = Office::open().await;
    let mut admin = office.with_token(Role::Admin);
    for name in ["eve\r\nSet-Cookie: x=y", "eve\n", "Eve", "eve x", "", "é"] {
        let args = json!({"name": name, "role": "admin", "password": PASSWORD});
        let reply = admin.post_json(&format!("{API}/users"), &args).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{name:?}");
    }
    let reason = "a\r\nSet-Cookie: x=y";
    for (path, args) in [
        ("/dial/set", json!({"level": 3, "reason": reason})),
        ("/dial/pin", json!({"level": 3, "reason": "a\u{0}b"})),
        ("/dial/set", json!({"level": 3, "reason": ""})),
        ("/dial/set", json!({"level": 3, "reason": "x".repeat(501)})),
        ("/dial/set", json!({"level": 11, "reason": "x"})),
        ("/dial/set", json!({"level": 3, "reason": "x", "mode": "auto"})),
        ("/circuits/flush", json!({"which": "banned", "reason": reason})),
        ("/tokens", json!({"role": "viewer", "label": reason})),
        ("/tokens", json!({"role": "root"})),
    ] {
        let reply = admin.post_json(&format!("{API}{path}"), &args).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path} {args}");
        assert!(reply.set_cookies().is_empty());
    }
    // What a proxy would say is believed of no role, source or name.
    let headers = [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-fortify-operator", "root"),
        ("x-forwarded-user", "admin"),
        ("forwarded", "for=127.0.0.1"),
        ("x-original-uri", "/admin/api/v1/openapi.json"),
        ("x-http-method-override", "GET"),
    ];
    let reply = office.stranger().get_with(&format!("{API}/status"), &headers).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    for header in
        ["cache-control", "x-frame-options", "x-content-type-options", "content-security-policy"]
    {
        assert!(reply.header(header).is_some(), "{header}");
    }
    let large = json!({"name": "a", "password": "x".repeat(40_000)});
    let reply = office.stranger().post_json(&format!("{API}/login"), &large).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_circuit_is_what_its_visitor_gets() {
    let office = Office::open().await;
    let mut operator = office.with_token(Role::Operator);
    let mut visitor = office.visitor();
    assert!(visitor.get("/").await.is_challenge());
    let name = office.pseudonym(CIRCUIT).await;
    assert_eq!(name.len(), 32);
    let seen = operator.get(&format!("{API}/circuits?which=seen")).await;
    assert!(seen.text().contains(&name), "{}", seen.text());
    assert!(!seen.text().contains("fc00") && !seen.text().contains("beef"));
    let at = |action: &str| format!("{API}/circuits/{name}/{action}");
    let explain = async |operator: &mut Visitor| operator.get(&at("explain")).await.json();
    let expect = async |operator: &mut Visitor, verdict: &str, status: StatusCode| {
        assert_eq!(explain(operator).await["without_session"]["decision"], verdict);
        let reply = office.visitor().get("/").await;
        assert_eq!(reply.status, status, "{verdict}: {}", reply.text());
        assert_eq!(reply.is_challenge(), verdict == "challenge");
    };
    expect(&mut operator, "challenge", StatusCode::FORBIDDEN).await;
    let why = json!({"seconds": 600, "reason": "a scraper"});
    let reply = operator.post_json(&at("ban"), &why).await;
    assert_eq!((reply.status, &reply.json()["status"]), (StatusCode::OK, &json!("banned")));
    expect(&mut operator, "refuse", StatusCode::FORBIDDEN).await;
    let list = operator.get(&format!("{API}/circuits?which=banned")).await.json();
    assert_eq!(list["circuits"][0]["circuit"], name.as_str());
    assert_eq!(operator.post_json(&at("reset"), &json!({})).await.status, StatusCode::OK);
    expect(&mut operator, "challenge", StatusCode::FORBIDDEN).await;
    // A trusted circuit is let in where the level says so; these beds ask for a session.
    let reply = operator.post_json(&at("promote"), &json!({"reason": "a friend"})).await;
    assert_eq!(reply.json()["status"], "vip");
    let status = explain(&mut operator).await["circuit"]["status"].clone();
    assert_eq!(status, "vip");
    let reply = operator.post_json(&at("kill"), &json!({})).await;
    assert_eq!((reply.status, code_of(&reply).as_str()), (StatusCode::CONFLICT, "conflict"));
    let flushed =
        operator.post_json(&format!("{API}/circuits/flush"), &json!({"which": "any"})).await;
    assert_eq!(flushed.json(), json!({"taken_back": 1, "left": 0, "reach": "cluster"}));
    assert_eq!(explain(&mut operator).await["circuit"]["status"], Value::Null);
    // By its address over the socket alone.
    let reply = operator.get(&format!("{API}/circuits/{CIRCUIT}")).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    // Nobody who may only look.
    let reply = office.with_token(Role::Viewer).post_json(&at("ban"), &json!({})).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let audit = operator.get(&format!("{API}/audit")).await.json();
    let records = audit["records"].as_array().unwrap();
    let ban = records.iter().find(|it| it["action"] == "circuit.ban").unwrap();
    assert_eq!(ban["target"], name.as_str());
    assert_eq!((&ban["from"], &ban["to"]), (&json!("normal"), &json!("banned for 600 s")));
    assert_eq!((&ban["reason"], &ban["auth_method"]), (&json!("a scraper"), &json!("token")));
    assert!(ban["principal"].as_str().unwrap().starts_with("token:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_circuit_is_admitted_where_either_is_enough_as_was_explained() {
    let office = Office::with(|parts| parts.config.threat.levels.clear()).await;
    let name = office.pseudonym(CIRCUIT).await;
    assert!(office.visitor().get("/").await.is_challenge());
    let promoted = office
        .over_socket(Method::POST, &format!("/circuits/{name}/promote"), Some(json!({})))
        .await;
    assert_eq!(promoted.status, StatusCode::OK, "{}", promoted.text());
    let explained =
        office.over_socket(Method::GET, &format!("/circuits/{name}/explain"), None).await;
    assert_eq!(explained.json()["without_session"]["decision"], "admit");
    assert_eq!(explained.json()["without_session"]["reasons"], json!(["trusted"]));
    assert_eq!(office.visitor().get("/").await.status, StatusCode::OK);
    // At 6 and above it takes a session too.
    let turned = json!({"level": 6, "reason": "an attack"});
    let reply = office.over_socket(Method::POST, "/dial/set", Some(turned)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let explained =
        office.over_socket(Method::GET, &format!("/circuits/{name}/explain"), None).await;
    assert_eq!(explained.json()["without_session"]["decision"], "challenge");
    assert_eq!(explained.json()["with_session"]["decision"], "admit");
    assert!(office.visitor().get("/").await.is_challenge());
    let audit = office.over_socket(Method::GET, "/audit?limit=5", None).await.json();
    assert_eq!(audit["records"][0]["by"], "operator:ada by socket", "{audit}");
    assert_eq!(audit["records"][0]["reason"], "an attack");
    let lines = office.over_socket(Method::GET, "/audit/export", None).await;
    let first = lines.text().lines().next().map(str::to_owned).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["kind"], "turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_audit_leave_nothing_out_that_has_the_same_time() {
    let office = Office::open().await;
    let accounts = &office.admin().accounts;
    // Time stands still: turns, changes, log-ins and refusals of one moment.
    for level in 3..=9 {
        let args = json!({"level": level, "reason": "test"});
        office.over_socket(Method::POST, "/dial/set", Some(args)).await;
    }
    let entry = |number: usize, action: &str| Entry::new(&own(), NOW, action, &number.to_string());
    let changes: Vec<_> = (0..700).map(|number| entry(number, "test")).collect();
    accounts.log_all(&changes).unwrap();
    accounts.log_all(&(0..40).map(|number| entry(number, "login")).collect::<Vec<_>>()).unwrap();
    for what in RefusalKind::ALL {
        accounts.refuse(what, NOW);
    }
    let mut viewer = office.with_token(Role::Viewer);
    let all = viewer.get(&format!("{API}/audit?limit=1000")).await.json();
    assert_eq!(all["next"], Value::Null);
    let all = all["records"].as_array().unwrap().clone();
    assert!(all.len() > 750, "{}", all.len());
    for limit in [1_usize, 7, 250] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("{API}/audit?limit={limit}&after={after}");
            let page = viewer.get(&path).await.json();
            let records = page["records"].as_array().unwrap();
            assert!(!records.is_empty() && records.len() <= limit);
            seen.extend(records.iter().cloned());
            let Some(next) = page["next"].as_str() else { break };
            assert!(seen.len() < all.len(), "pages without end");
            after = next.to_owned();
        }
        assert!(seen == all, "pages of {limit}: {} of {}", seen.len(), all.len());
    }
    let bad = viewer.get(&format!("{API}/audit?after=17")).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    // All of it comes in several parts.
    let lines = viewer.get(&format!("{API}/audit/export")).await;
    let lines: Vec<Value> =
        lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines == all, "exported {} of {}", lines.len(), all.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_looks_through_everything() {
    let office = Office::open().await;
    let mut viewer = office.with_token(Role::Viewer);
    let unknown = "/circuits/00112233445566778899aabbccddeeff";
    let scans = ["/circuits", "/circuits?which=seen", "/audit/export", unknown];
    let permit = office.admin().scan().unwrap();
    for path in scans {
        let reply = viewer.get(&format!("{API}{path}")).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!((code_of(&reply).as_str(), reply.header("retry-after")), ("busy", Some("1")));
    }
    for path in ["/status", "/audit", "/dial"] {
        assert_eq!(viewer.get(&format!("{API}{path}")).await.status, StatusCode::OK, "{path}");
    }
    drop(permit);
    for path in scans.into_iter().chain(scans) {
        assert_eq!(viewer.get(&format!("{API}{path}")).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_and_waits_are_explained_as_they_are_met() {
    let office = Office::with(|parts| {
        let waits = vec![Duration::ZERO, Duration::from_secs(60)];
        parts.config.limits.failure_waits =
            fortify_engine::limits::waits::FailureWaits::new(waits).unwrap();
    })
    .await;
    let name = office.pseudonym(CIRCUIT).await;
    let explain = async || {
        office.over_socket(Method::GET, &format!("/circuits/{name}/explain"), None).await.json()
    };
    assert_eq!(explain().await["without_session"]["decision"], "challenge");
    assert_eq!(explain().await["answer_history"], Value::Null);
    let mut visitor = office.visitor();
    for _ in 0..2 {
        let page = visitor.get("/").await;
        office.test_gate.submit(&mut visitor, &page, "wrong answer").await;
    }
    let explained = explain().await;
    assert_eq!(explained["without_session"]["decision"], "wait", "{explained}");
    assert_eq!((&explained["failures"], &explained["wait_seconds"]), (&json!(2), &json!(60)));
    assert_eq!(explained["answer_history"]["failed"], 2);
    assert!(explained["quota"]["minute"].as_u64().unwrap() >= 1);
    assert_eq!(visitor.get("/").await.status, StatusCode::TOO_MANY_REQUESTS);
    let challenges = office.over_socket(Method::GET, "/challenges", None).await.json();
    assert_eq!(challenges["all"]["failed"], 2, "{challenges}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitors_session_is_ended_by_its_cookie() {
    let office = Office::open().await;
    let mut visitor = office.visitor();
    let page = visitor.get("/").await;
    office.test_gate.solve(&mut visitor, &page).await;
    assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    let session = visitor.cookies["cerberus_session"].clone();
    let mut operator = office.with_token(Role::Operator);
    let path = format!("{API}/sessions/revoke");
    let reply = operator.post_json(&path, &json!({"session": "x"})).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    let reply = operator.post_json(&path, &json!({"session": session})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert!(visitor.get("/").await.is_challenge());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_is_answered_and_holds_no_secret() {
    let office = Office::open().await;
    let mut viewer = office.with_token(Role::Viewer);
    office.visitor().get("/").await;
    let status = viewer.get(&format!("{API}/status")).await.json();
    assert_eq!((&status["ready"], &status["totals"]["challenged"]), (&json!(true), &json!(1)));
    assert_eq!(status["reasons"][0], json!({"reason": "no session", "count": 1}));
    let dial = viewer.get(&format!("{API}/dial")).await.json();
    assert_eq!(dial["table"].as_array().unwrap().len(), 10);
    let config = viewer.get(&format!("{API}/config")).await.json();
    assert!(config["sections"].as_array().unwrap().len() >= 13);
    let mut admin = office.with_token(Role::Admin);
    for path in [
        "/status",
        "/traffic",
        "/dial",
        "/dial/history",
        "/circuits",
        "/challenges",
        "/behaviour",
        "/audit",
        "/audit/export",
        "/config",
        "/users",
        "/tokens",
        "/me",
    ] {
        let reply = admin.get(&format!("{API}{path}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        for secret in ["argon2", "fc00:", "fortify_a"] {
            assert!(!reply.text().contains(secret), "{path}: {}", reply.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_for_who_runs_the_gate() {
    let office = Office::open().await;
    let mode = std::fs::metadata(&office.socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let file = office.test_gate.data_dir.path().join("data/admin.sqlite");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let me = office.over_socket(Method::GET, "/me", None).await.json();
    let expected = json!({"name": "ada", "role": "admin", "auth_method": "socket", "csrf": null});
    assert_eq!(me, expected);
    let socket = office.socket.clone();
    let Office { test_gate, .. } = office;
    test_gate.stop().await;
    assert!(!socket.exists(), "the socket stays behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_written_down_is_not_made() {
    let office = Office::open().await;
    assert!(office.visitor().get("/").await.is_challenge());
    let name = office.pseudonym(CIRCUIT).await;
    let file = office.test_gate.data_dir.path().join("data/admin.sqlite");
    let other = rusqlite::Connection::open(file).unwrap();
    other.execute_batch("DROP TABLE log").unwrap();
    let path = format!("/circuits/{name}/ban");
    let reply = office.over_socket(Method::POST, &path, Some(json!({}))).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(office.visitor().get("/").await.is_challenge(), "banned without a record");
    let (name, add) = ("eve", json!({"name": "eve", "role": "viewer", "password": PASSWORD}));
    let reply = office.over_socket(Method::POST, "/users", Some(add)).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let users = office.over_socket(Method::GET, "/users", None).await;
    assert!(!users.text().contains(name));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_asked_for_too_much_is_explained_as_one() {
    let office = Office::with(|parts| parts.config.limits.challenges_per_minute = 2).await;
    let name = office.pseudonym(CIRCUIT).await;
    let mut visitor = office.visitor();
    let mut page = visitor.get("/").await;
    for (verdict, status) in
        [("challenge", StatusCode::FORBIDDEN), ("wait", StatusCode::TOO_MANY_REQUESTS)]
    {
        let path = format!("/circuits/{name}/explain");
        let explained = office.over_socket(Method::GET, &path, None).await.json();
        assert_eq!(explained["without_session"]["decision"], verdict, "{explained}");
        let another = [("token", page.field("token")), ("another", "1".to_owned())];
        let another = another.map(|(name, value)| (name.to_owned(), value));
        let next = visitor.post_form("/validate-captcha", &another).await;
        assert_eq!(next.status, status);
        if next.is_challenge() {
            page = next;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_told_over_the_socket_alone_and_only_where_they_are_asked_for() {
    let office = Office::open().await;
    let ban = format!("/circuits/{CIRCUIT}/ban");
    office.over_socket(Method::POST, &ban, Some(json!({}))).await;
    let list = office.over_socket(Method::GET, "/circuits", None).await;
    assert!(list.json()["circuits"][0]["known"] == true && !list.text().contains("fc00:"));
    let list = office.over_socket(Method::GET, "/circuits?addresses=true", None).await.json();
    assert_eq!(list["circuits"][0]["address"], CIRCUIT);
    let mut admin = office.with_token(Role::Admin);
    let reply = admin.get(&format!("{API}/circuits?addresses=true")).await;
    assert_eq!((reply.status, code_of(&reply).as_str()), (StatusCode::BAD_REQUEST, "bad_request"));
    let reply = admin.get(&format!("{API}/circuits?addresses=false")).await;
    assert!(reply.status == StatusCode::OK && !reply.text().contains("fc00:"), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_without_a_file_says_that_it_cannot_reload_and_writes_the_try_down() {
    let office = Office::open().await;
    let reply = office.over_socket(Method::POST, "/reload", Some(json!({}))).await;
    assert_eq!((reply.status, code_of(&reply).as_str()), (StatusCode::CONFLICT, "conflict"));
    let audit = office.over_socket(Method::GET, "/audit?limit=1", None).await.json();
    let last = &audit["records"][0];
    assert_eq!((&last["principal"], &last["action"]), (&json!("ada"), &json!("config.reload")));
    assert!(last["reason"].as_str().unwrap().contains("restart Fortify"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_is_read_with_a_token_where_the_gate_itself_tells_nobody() {
    let office = Office::with(|parts| {
        parts.config.server.operator_endpoints = fortify_config::OperatorEndpoints::Off;
    })
    .await;
    let mut prometheus = office.with_token(Role::Viewer);
    let told = prometheus.get(&format!("{API}/metrics")).await;
    assert_eq!(told.status, StatusCode::OK);
    assert!(told.text().contains("fortify_build_info"), "{}", told.text());
    assert!(told.header("content-type").unwrap().starts_with("text/plain"));
}

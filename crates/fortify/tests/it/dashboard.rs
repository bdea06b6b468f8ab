//! The dashboard as a browser without scripts meets it: what is on its pages, and what its forms do.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use fortify_admin::SharedAdmin;
use fortify_admin::accounts::UserChange;
use fortify_admin::identity::{AuthMethod, Principal, Role};
use fortify_admin::routes::{API, routes};
use fortify_admin::totp::{self, SECRET_BYTES, TotpSecret};
use fortify_config::StorageBackend;
use fortify_core::circuit::IdentityMode;
use fortify_engine::behaviour::Mode;
use fortify_engine::operator::Reach;
use fortify_store::record::Secret;
use fortify_testkit::redis::{Redis, until};
use fortify_testkit::{NOW, Parts, Reply, TestGate, Visitor, fields};

const PASSWORD: &str = "four plain words here";
const CIRCUIT: &str = "fc00:dead:beef:4dad::19";
/// What somebody might write where a reason is asked for.
const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=y>&amp;";

async fn office() -> TestGate {
    office_with(|_| {}).await
}

/// A gate for circuits with a door for operators, and an account of each role.
async fn office_with(change: impl FnOnce(&mut Parts)) -> TestGate {
    let test_gate = untouched(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        change(parts);
    })
    .await;
    let hash = fortify_admin::password::hash(
        &Secret::new(PASSWORD.to_owned()),
        &**test_gate.app.engine.entropy(),
    );
    let hash = hash.unwrap();
    for role in Role::ALL {
        admin(&test_gate).accounts.add_user(&own(), role.as_str(), role, &hash, NOW).unwrap();
    }
    test_gate
}

async fn untouched(change: impl FnOnce(&mut Parts)) -> TestGate {
    TestGate::with(|parts| {
        parts.config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
        change(parts);
    })
    .await
}

fn admin(test_gate: &TestGate) -> &SharedAdmin {
    test_gate.admin.as_ref().unwrap()
}

fn own() -> Principal {
    Principal { name: "test".to_owned(), role: Role::Admin, auth_method: AuthMethod::File }
}

fn stranger(test_gate: &TestGate) -> Visitor {
    Visitor::at(test_gate.admin_address.unwrap())
}

/// Sends a form from `page`, with the hidden field that is on it.
async fn send(operator: &mut Visitor, page: &Reply, to: &str, pairs: &[(&str, &str)]) -> Reply {
    let mut all = fields(pairs);
    all.push(("csrf".to_owned(), page.field("csrf")));
    operator.post_form(to, &all).await
}

async fn logged_in(test_gate: &TestGate, role: Role) -> Visitor {
    let mut operator = stranger(test_gate);
    let page = operator.get("/admin/login").await;
    let fields = [("name", role.as_str()), ("password", PASSWORD), ("code", "")];
    let reply = send(&mut operator, &page, "/admin/login", &fields).await;
    assert_eq!(reply.header("location"), Some("/admin"), "{}", reply.text());
    operator
}

/// A page for whoever is logged in, which must be one.
async fn page(operator: &mut Visitor, path: &str) -> Reply {
    let reply = operator.get(path).await;
    assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
    reply
}

/// The pseudonym of a circuit that was just seen.
async fn pseudonym(test_gate: &TestGate, operator: &mut Visitor) -> String {
    test_gate.visitor().circuit(CIRCUIT).get("/").await;
    let list = page(operator, "/admin/circuits?which=seen").await.text();
    let (_, rest) = list.split_once("href=\"/admin/circuits/").expect("a circuit");
    rest[..32].to_owned()
}

fn alert(reply: &Reply) -> String {
    let text = reply.text();
    let (_, rest) =
        text.split_once("role=\"alert\">").unwrap_or_else(|| panic!("no alert: {text}"));
    rest.split("</p>").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_html_without_scripts_and_says_so_to_the_browser() {
    let test_gate = office().await;
    let mut operator = logged_in(&test_gate, Role::Admin).await;
    let name = pseudonym(&test_gate, &mut operator).await;
    let mut seen = 0;
    for route in routes() {
        let skipped = ["/admin/login", "/admin/circuits/find", "/admin/challenges/sample"];
        let is_page = !route.path.starts_with(API) && route.method == Method::GET;
        if !is_page || skipped.contains(&route.path.as_str()) {
            continue;
        }
        let path = route.path.replace("{circuit}", &name);
        let reply = page(&mut operator, &path).await;
        let text = reply.text();
        assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("x-frame-options"), Some("DENY"));
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; img-src 'self' data:; style-src 'sha256-"));
        assert!(policy.contains("form-action 'self'") && !policy.contains("unsafe"), "{policy}");
        let (_, body) = text.split_once("</style>").unwrap();
        for tag in body.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
            assert!(!tag.starts_with("script") && !tag.contains(" style="), "{path}: <{tag}>");
            assert!(!tag.contains(" on") || tag.contains("name=\"on\""), "{path}: <{tag}>");
            for attribute in ["src=\"", "href=\"", "action=\""] {
                let value = tag.split(attribute).nth(1);
                let is_ours = |value: &str| {
                    ["/admin", "#", "data:image/png;base64,"].iter().any(|it| value.starts_with(it))
                };
                assert!(value.is_none_or(is_ours), "{path}: <{tag}>");
            }
        }
        assert_eq!(text.matches("<h1>").count(), 1, "{path}");
        assert!(text.contains("<html lang=\"en\">") && text.contains("<main id=\"main\">"));
        // Every table has its headings, every field its label.
        assert_eq!(text.matches("<table").count(), text.matches("<thead>").count(), "{path}");
        for id in text.split("<input id=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(text.contains(&format!("for=\"{id}\"")), "{path}: {id} has no label");
            assert_eq!(text.matches(&format!(" id=\"{id}\"")).count(), 1, "{path}: {id} twice");
        }
        seen += 1;
    }
    assert!(seen >= 10, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_account_is_made_and_enrolled_with_forms_alone() {
    let test_gate = untouched(|_| {}).await;
    let token = test_gate.setup_token.clone().expect("a token at the first start");
    let mut operator = stranger(&test_gate);
    assert!(page(&mut operator, "/admin/login").await.text().contains("/admin/setup"));
    let form = page(&mut operator, "/admin/setup").await;
    let wrong = [("token", "wrong"), ("name", "ada"), ("password", PASSWORD)];
    let reply = send(&mut operator, &form, "/admin/setup", &wrong).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert!(alert(&reply).contains("fortify admin add"), "says nothing of a way out");
    let right = [("token", token.as_str()), ("name", "ada"), ("password", PASSWORD)];
    let reply = send(&mut operator, &reply, "/admin/setup", &right).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), Some("/admin/account?done=setup"));

    let account = page(&mut operator, "/admin/account?done=setup").await;
    assert!(account.text().contains("The account is made."));
    let on = [("password", PASSWORD), ("on", "true")];
    let enrolled = send(&mut operator, &account, "/admin/account/totp", &on).await;
    assert_eq!(enrolled.status, StatusCode::OK, "{}", enrolled.text());
    let text = enrolled.text();
    let secret = text.split("id=\"secret\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert!(text.contains("otpauth://totp/Fortify:ada?secret=") && text.contains("class=\"qr\""));
    assert_eq!(enrolled.header("cache-control"), Some("no-store"));
    let secret = unbase32(&secret);

    let before = operator.clone();
    let reply = send(&mut operator, &enrolled, "/admin/logout", &[]).await;
    assert_eq!(reply.header("location"), Some("/admin/login?done=logout"));
    // The cookie that was is good for nothing.
    let mut before = before;
    let reply = before.get("/admin").await;
    assert_eq!(reply.header("location"), Some("/admin/login"));

    let form = page(&mut operator, "/admin/login?done=logout").await;
    let without = [("name", "ada"), ("password", PASSWORD), ("code", "")];
    let reply = send(&mut operator, &form, "/admin/login", &without).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    let code = totp::code_at(&secret, test_gate.app.clock.now());
    let with = [("name", "ada"), ("password", PASSWORD), ("code", code.as_str())];
    let reply = send(&mut operator, &reply, "/admin/login", &with).await;
    assert_eq!(reply.header("location"), Some("/admin"));
    assert!(page(&mut operator, "/admin").await.text().contains("ada"));
    // And there is nothing to set up any more.
    assert!(
        page(&mut stranger(&test_gate), "/admin/setup").await.text().contains("an account exists")
    );
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

#[tokio::test(flavor = "multi_thread")]
async fn every_page_says_while_changes_are_in_force_at_this_node_only() {
    let mut redis = Redis::start(&[]);
    let test_gate = office_with(|parts| {
        parts.config.storage.backend = StorageBackend::Redis;
        parts.config.storage.redis = redis.config();
    })
    .await;
    until("the gate to be ready", || async { test_gate.app.readiness().await.is_ready() }).await;
    let mut operator = logged_in(&test_gate, Role::Admin).await;
    let pages = ["/admin", "/admin/dial", "/admin/circuits"];
    let said = async |operator: &mut Visitor| {
        let mut said = Vec::new();
        for path in pages {
            let text = page(operator, path).await.text();
            said.push(text.contains(r#"<p class="note bad" role="status">The latest changes"#));
        }
        said
    };
    assert_eq!(said(&mut operator).await, [false; 3]);
    redis.kill();
    let dial = page(&mut operator, "/admin/dial").await;
    let turn = [("level", "7"), ("reason", "a rush")];
    assert!(send(&mut operator, &dial, "/admin/dial/pin", &turn).await.status.is_redirection());
    assert_eq!(said(&mut operator).await, [true; 3]);
    redis.run();
    let told = || async { test_gate.app.engine.reach_now() == Reach::Cluster };
    until("the other nodes to be told", told).await;
    assert_eq!(said(&mut operator).await, [false; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_wrote_is_text_on_every_page() {
    let test_gate = office().await;
    let mut operator = logged_in(&test_gate, Role::Admin).await;
    let name = pseudonym(&test_gate, &mut operator).await;
    let dial = page(&mut operator, "/admin/dial?level=7").await;
    let circuit = format!("/admin/circuits/{name}");
    let token = [("role", "viewer"), ("label", EVIL), ("days", "3")];
    for (to, pairs) in [
        ("/admin/dial/set".to_owned(), &[("level", "7"), ("reason", EVIL)][..]),
        (format!("{circuit}/ban"), &[("reason", EVIL), ("seconds", "60")]),
        ("/admin/tokens".to_owned(), &token),
    ] {
        let reply = send(&mut operator, &dial, &to, pairs).await;
        assert!(
            reply.status.is_success() || reply.status.is_redirection(),
            "{to} {}",
            reply.text()
        );
    }
    // What is not taken is said on the page, as text as well.
    let long = EVIL.repeat(20);
    for (to, pairs) in [
        ("/admin/dial/set", &[("level", EVIL), ("reason", "x")][..]),
        ("/admin/dial/set", &[("level", "7"), ("reason", &long)]),
        ("/admin/dial/set", &[("level", "7"), ("reason", "x"), (EVIL, "x")]),
        ("/admin/users", &[("name", EVIL), ("role", "viewer"), ("password", PASSWORD)]),
        ("/admin/users", &[("name", "x"), ("role", EVIL), ("password", PASSWORD)]),
        ("/admin/circuits/flush", &[("which", EVIL), ("reason", "x")]),
        ("/admin/sessions/revoke", &[("session", EVIL), ("reason", EVIL)]),
        ("/admin/users/<script>/remove", &[]),
        ("/admin/circuits/<script>/ban", &[]),
    ] {
        let to = to.replace('<', "%3C").replace('>', "%3E");
        let reply = send(&mut operator, &dial, &to, pairs).await;
        assert!(reply.status.is_client_error(), "{to}: {}", reply.status);
        assert_plain(&reply, &to);
    }
    let evil = "%3Cscript%3Ealert(1)%3C/script%3E";
    for path in [
        format!("/admin/circuits/find?circuit={evil}"),
        format!("/admin/circuits/{evil}"),
        format!("/admin/circuits?after={evil}"),
        format!("/admin/circuits?which={evil}"),
        format!("/admin/circuits?done={evil}"),
        format!("/admin/dial?level={evil}"),
        format!("/admin?refresh={evil}"),
        format!("/admin?{evil}=1"),
        format!("/admin/audit?after={evil}"),
        format!("/admin/login?done={evil}"),
    ] {
        assert_plain(&operator.get(&path).await, &path);
    }
    for (path, has) in [
        ("/admin", false),
        ("/admin/dial", true),
        ("/admin/audit", true),
        ("/admin/users", true),
        ("/admin/circuits", false),
        (circuit.as_str(), false),
    ] {
        let reply = page(&mut operator, path).await;
        assert_plain(&reply, path);
        assert_eq!(reply.text().contains("&#60;script&#62;alert(1)"), has, "{path}");
    }
}

/// No element and no attribute but ours.
fn assert_plain(reply: &Reply, what: &str) {
    let text = reply.text();
    for never in ["<script", "<img src=x", "\"'>"] {
        assert!(!text.contains(never), "{what}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_from_elsewhere_changes_nothing_and_is_explained() {
    let test_gate = office().await;
    let mut operator = logged_in(&test_gate, Role::Admin).await;
    let mut other = logged_in(&test_gate, Role::Admin).await;
    let foreign = page(&mut other, "/admin/dial?level=7").await.field("csrf");
    let level = test_gate.app.engine.parts().threat.level();
    for csrf in ["", "00", foreign.as_str()] {
        let pairs = fields(&[("level", "7"), ("reason", "x"), ("csrf", csrf)]);
        let reply = operator.post_form("/admin/dial/set", &pairs).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert_eq!(reply.header("x-fortify-code"), Some("form"));
        assert!(reply.text().contains("load the page again"), "{}", reply.text());
        assert_eq!(test_gate.app.engine.parts().threat.level(), level);
    }
    // Nor does one log anybody in, or out.
    let pairs = fields(&[("name", "viewer"), ("password", PASSWORD), ("csrf", &foreign)]);
    let reply = stranger(&test_gate).post_form("/admin/login", &pairs).await;
    assert_eq!(reply.header("x-fortify-code"), Some("form"));
    operator.post_form("/admin/logout", &[]).await;
    page(&mut operator, "/admin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_sees_no_forms_and_nobody_sees_what_is_not_theirs() {
    let test_gate = office().await;
    let (mut viewer, mut operator) =
        (logged_in(&test_gate, Role::Viewer).await, logged_in(&test_gate, Role::Operator).await);
    let name = pseudonym(&test_gate, &mut viewer).await;
    let paths = ["/admin", "/admin/dial?level=7", "/admin/circuits", "/admin/challenges"];
    let circuit = format!("/admin/circuits/{name}");
    for path in paths.into_iter().chain(["/admin/behaviour", "/admin/audit", &circuit]) {
        let text = page(&mut viewer, path).await.text();
        let posts: Vec<_> =
            text.split("method=\"post\" action=\"").skip(1).map(|rest| &rest[..13]).collect();
        assert_eq!(posts, ["/admin/logout"], "{path}");
        assert!(!text.contains("/admin/users"), "{path}");
    }
    let text = page(&mut operator, "/admin/dial?level=7").await.text();
    assert!(text.contains("action=\"/admin/dial/set\"") && !text.contains("/admin/users"));
    assert!(page(&mut operator, &circuit).await.text().contains("/ban\""));
    let form = page(&mut viewer, "/admin").await;
    let pairs = [("level", "7"), ("reason", "x")];
    let reply = send(&mut viewer, &form, "/admin/dial/set", &pairs).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert!(reply.text().contains("this takes the role operator"));
    assert_eq!(operator.get("/admin/users").await.status, StatusCode::FORBIDDEN);
    let bare = stranger(&test_gate).get("/").await;
    assert_eq!(bare.header("location"), Some("/admin"));
    let nobody = stranger(&test_gate).get("/admin/dial").await;
    assert_eq!(
        (nobody.status, nobody.header("location")),
        (StatusCode::SEE_OTHER, Some("/admin/login"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_on_the_page_and_counted() {
    let test_gate = office().await;
    let mut operator = stranger(&test_gate);
    let mut form = page(&mut operator, "/admin/login").await;
    for tries in 0..6 {
        let pairs = [("name", "viewer"), ("password", "another password"), ("code", "")];
        form = send(&mut operator, &form, "/admin/login", &pairs).await;
        let code = if tries < 5 { "bad_login" } else { "wait" };
        assert_eq!(form.header("x-fortify-code"), Some(code), "{tries}");
        assert_eq!(form.header("retry-after").is_some(), tries == 5);
        assert!(!alert(&form).is_empty() && !form.text().contains("another password"));
    }
    admin(&test_gate).accounts.keep_refusals().unwrap();
    let audit = page(&mut logged_in(&test_gate, Role::Admin).await, "/admin/audit").await.text();
    assert!(audit.contains("<td>login</td><td>5 in that minute"), "{audit}");
    assert!(audit.contains("<td>login_waiting</td><td>1 in that minute"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_turns_nothing_and_a_turn_is_in_the_history_and_the_audit() {
    let test_gate = office().await;
    let mut operator = logged_in(&test_gate, Role::Operator).await;
    let level = test_gate.app.engine.parts().threat.level();
    let preview = page(&mut operator, "/admin/dial?level=9").await;
    let text = preview.text();
    assert!(text.contains("From level 5 to 9"), "{text}");
    assert!(text.contains("Challenges in a row</th><td>1</td><td><strong>2</strong>"));
    assert_eq!(test_gate.app.engine.parts().threat.level(), level, "a look turned it");
    for same in ["/admin/dial?level=5", "/admin/dial?level=0", "/admin/dial?level=11"] {
        assert!(!page(&mut operator, same).await.text().contains("id=\"set\""), "{same}");
    }
    let blank = [("level", "9"), ("reason", "  ")];
    let reply = send(&mut operator, &preview, "/admin/dial/set", &blank).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(alert(&reply).contains("say why") && reply.text().contains("From level 5 to 9"));
    let pin = [("level", "9"), ("reason", "a flood of new circuits")];
    let reply = send(&mut operator, &preview, "/admin/dial/pin", &pin).await;
    assert_eq!(reply.header("location"), Some("/admin/dial?done=pin"));
    assert_eq!(test_gate.app.engine.parts().threat.level().get(), 9);
    let set = [("level", "3"), ("reason", "over")];
    let reply = send(&mut operator, &preview, "/admin/dial/set", &set).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(alert(&reply).contains("pinned"));
    let reply = send(&mut operator, &preview, "/admin/dial/auto", &[("reason", "")]).await;
    assert_eq!(reply.header("location"), Some("/admin/dial?done=auto"));
    let told = page(&mut operator, "/admin/dial?done=auto").await.text();
    assert!(told.contains("The threat level is under automatic control."));
    for text in [told, page(&mut operator, "/admin/audit").await.text()] {
        assert!(text.contains("a flood of new circuits") && text.contains("operator by session"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_is_found_explained_banned_and_given_back() {
    let test_gate = office().await;
    let mut operator = logged_in(&test_gate, Role::Operator).await;
    let name = pseudonym(&test_gate, &mut operator).await;
    let found = operator.get(&format!("/admin/circuits/find?circuit=%20{name}")).await;
    let path = found.header("location").unwrap().to_owned();
    assert_eq!(path, format!("/admin/circuits/{name}"));
    let form = page(&mut operator, &path).await;
    assert!(form.text().contains(">normal</span>"));
    let mut visitor = test_gate.visitor().circuit(CIRCUIT);
    assert!(visitor.get("/").await.is_challenge());
    for (what, seconds, stands) in
        [("ban", "60", "banned"), ("promote", "", "trusted"), ("reset", "", "normal")]
    {
        let pairs = [("reason", "a try"), ("seconds", seconds)];
        let reply = send(&mut operator, &form, &format!("{path}/{what}"), &pairs).await;
        let to = reply.header("location").unwrap_or_else(|| panic!("{what}: {}", reply.text()));
        assert_eq!(to, format!("{path}?done={what}"));
        let text = page(&mut operator, to).await.text();
        assert!(text.contains(&format!("id=\"stands\">{stands}</span>")), "{what}");
        assert_eq!(visitor.get("/").await.is_challenge(), what != "ban", "{what}");
    }
    let zero = [("reason", "a try"), ("seconds", "0")];
    let reply = send(&mut operator, &form, &format!("{path}/ban"), &zero).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(alert(&reply).contains("use 1 to") && reply.text().contains(&name));
    let reply = send(&mut operator, &form, &format!("{path}/kill"), &zero).await;
    assert!(alert(&reply).contains("set tor.control"));
    let reply = send(&mut operator, &form, "/admin/circuits/flush", &[("which", "seen")]).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    // No page has the circuit itself.
    for path in [path.as_str(), "/admin/circuits", "/admin/circuits?which=seen", "/admin/audit"] {
        assert!(!page(&mut operator, path).await.text().contains("4dad"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_pictures_are_no_challenges() {
    let test_gate = office().await;
    let mut viewer = logged_in(&test_gate, Role::Viewer).await;
    let text = page(&mut viewer, "/admin/challenges?samples=true").await.text();
    assert_eq!(text.matches("<img src=\"/admin/challenges/sample?level=").count(), 10);
    let plain = page(&mut viewer, "/admin/challenges").await.text();
    assert!(!plain.contains("<img"), "pictures are drawn for who did not ask");
    let mut pictures = Vec::new();
    for level in [1, 7, 7] {
        let path = format!("/admin/challenges/sample?level={level}");
        let reply = page(&mut viewer, &path).await;
        assert_eq!(reply.header("content-type"), Some("image/png"));
        assert!(reply.header("content-security-policy").unwrap().contains("default-src 'none'"));
        pictures.push(reply.body);
    }
    assert_ne!(pictures[1], pictures[2], "drawn once");
    assert_eq!(test_gate.app.engine.parts().store.active_challenges().await.unwrap(), 0);
    assert_eq!(test_gate.app.engine.parts().challenges.tally().figures().1.issued, 0);
    let reply = viewer.get("/admin/challenges/sample?level=11").await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_samples_takes_one_place_of_the_renderer() {
    let test_gate = office_with(|parts| parts.config.captcha.max_concurrent_renders = 1).await;
    let viewer = logged_in(&test_gate, Role::Viewer).await;
    let all = (1..=10).map(|level| {
        let mut viewer = viewer.clone();
        let path = format!("/admin/challenges/sample?level={level}");
        tokio::spawn(async move { viewer.get(&path).await.status })
    });
    for drawn in all.collect::<Vec<_>>() {
        assert_eq!(drawn.await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_renews_itself_until_it_is_told_not_to_or_was_forgotten() {
    let test_gate = office().await;
    let mut viewer = logged_in(&test_gate, Role::Viewer).await;
    let refresh = |text: &str| {
        let (_, rest) = text.split_once("http-equiv=\"refresh\" content=\"")?;
        Some(rest.split('"').next()?.to_owned())
    };
    for (path, expected) in [
        ("/admin", Some("10;url=/admin?auto=1")),
        ("/admin?auto=1", Some("10;url=/admin?auto=2")),
        ("/admin?auto=89", Some("10;url=/admin?auto=90")),
        ("/admin?auto=90", None),
        ("/admin?refresh=off", None),
        ("/admin/dial", None),
        ("/admin/audit", None),
    ] {
        let text = page(&mut viewer, path).await.text();
        assert_eq!(refresh(&text).as_deref(), expected, "{path}");
    }
    let text = page(&mut viewer, "/admin").await.text();
    for name in ["store", "renderer", "reputation", "haproxy", "tor"] {
        assert!(text.contains(&format!("<th scope=\"row\">{name}</th>")), "{name}");
    }
    // Each chart is there as SVG, and inside of it as PNG for who has none.
    assert_eq!(text.matches("<svg class=\"plot\"").count(), 3);
    assert_eq!(text.matches("<desc><img src=\"data:image/png;base64,iVBOR").count(), 3);
    assert!(text.len() < 80 * 1024, "{} bytes", text.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_day_says_what_would_have_been_done_and_when_it_begins_to_count() {
    let test_gate = office_with(|parts| parts.config.behaviour.mode = Mode::Learn).await;
    let mut viewer = logged_in(&test_gate, Role::Viewer).await;
    let text = page(&mut viewer, "/admin/behaviour").await.text();
    assert!(text.contains("What would have been done") && text.contains("count in 1 d"), "{text}");
    test_gate.clock.advance(Duration::from_secs(86_400));
    let mut viewer = logged_in(&test_gate, Role::Viewer).await;
    let text = page(&mut viewer, "/admin/behaviour").await.text();
    assert!(text.contains("What findings cost") && !text.contains("id=\"acts\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_tokens_are_made_and_ended() {
    let test_gate = office().await;
    let mut ada = logged_in(&test_gate, Role::Admin).await;
    let form = page(&mut ada, "/admin/users").await;
    let pairs = [("name", "eve"), ("role", "operator"), ("password", PASSWORD)];
    let reply = send(&mut ada, &form, "/admin/users", &pairs).await;
    assert_eq!(reply.header("location"), Some("/admin/users?done=account"));
    let reply = send(&mut ada, &form, "/admin/users", &pairs).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(!alert(&reply).is_empty() && reply.text().contains(">eve</th>"));
    let reply = send(&mut ada, &form, "/admin/users/eve/totp", &[("on", "true")]).await;
    assert!(reply.text().contains("otpauth://totp/Fortify:eve"), "{}", reply.text());
    for (path, pairs) in [
        ("/admin/users/eve/role", &[("role", "viewer")][..]),
        ("/admin/users/eve/password", &[("password", "another four words")]),
        ("/admin/users/eve/totp", &[("on", "false")]),
        ("/admin/users/eve/remove", &[]),
    ] {
        let reply = send(&mut ada, &form, path, pairs).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{path}: {}", reply.text());
    }
    // Nobody takes the last key away.
    let reply = send(&mut ada, &form, "/admin/users/admin/remove", &[]).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);

    let pairs = [("role", "viewer"), ("label", "scraper"), ("days", "3")];
    let reply = send(&mut ada, &form, "/admin/tokens", &pairs).await;
    let text = reply.text();
    let token = text.split("id=\"token\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let mut scraper = stranger(&test_gate);
    scraper.headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    page(&mut scraper, "/admin").await;
    let list = page(&mut ada, "/admin/users").await.text();
    assert!(!list.contains(&token), "shown twice");
    let (_, rest) = list.split_once("action=\"/admin/tokens/").unwrap();
    let path = format!("/admin/tokens/{}", rest.split('"').next().unwrap());
    let reply = send(&mut ada, &form, &path, &[]).await;
    assert_eq!(reply.header("location"), Some("/admin/users?done=token"));
    assert_eq!(scraper.get("/admin").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_password_changes_and_the_session_goes_on_anew() {
    let test_gate = office().await;
    let mut viewer = logged_in(&test_gate, Role::Viewer).await;
    let mut elsewhere = logged_in(&test_gate, Role::Viewer).await;
    let form = page(&mut viewer, "/admin/account").await;
    let wrong = [("password", "another password"), ("new_password", "four other words here")];
    let reply = send(&mut viewer, &form, "/admin/account/password", &wrong).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert!(!alert(&reply).is_empty());
    let right = [("password", PASSWORD), ("new_password", "four other words here")];
    let reply = send(&mut viewer, &form, "/admin/account/password", &right).await;
    assert_eq!(reply.header("location"), Some("/admin/account?done=password"));
    page(&mut viewer, "/admin/account?done=password").await;
    assert_eq!(elsewhere.get("/admin").await.status, StatusCode::SEE_OTHER);
    // An account that is gone is nobody at once.
    admin(&test_gate).accounts.change_user(&own(), "viewer", &UserChange::Remove, NOW).unwrap();
    assert_eq!(viewer.get("/admin").await.status, StatusCode::SEE_OTHER);
}

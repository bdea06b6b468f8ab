//! A real Prometheus, started from `deploy/prometheus/`, reads a running gate and answers every question
//! that the dashboard and the alerts ask.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::http::StatusCode;
use fortify_captcha::AnswerMode;
use fortify_core::circuit::IdentityMode;
use fortify_haproxy::client::Endpoint;
use fortify_testkit::servers::{Haproxy, Nginx, Process, check, command, deploy, free_address};
use fortify_testkit::wait::{until, until_ok};
use fortify_testkit::{TestGate, Visitor};
use serde_json::Value;

/// What is there only with something that this test does not run (tor's control port, a second node), or
/// after something that must not happen in it (a disk that refuses, a damaged file).
const MAY_BE_ABSENT: [&str; 12] = [
    "changes(fortify_threat_level",
    "fortify_tor_up",
    "fortify_tor_restarts_total",
    "fortify_tor_circuits_closed_total",
    "fortify_replication_pending",
    "fortify_circuit_status_unwritten",
    "fortify_reputation_degraded",
    "fortify_files_recreated",
    "fortify_files_damaged",
    "fortify_files_lost_records",
    "fortify_behaviour_findings_total",
    "fortify_threat_changes_total",
];

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_answers_every_question_of_the_dashboard_and_of_the_alerts() {
    let haproxy = Haproxy::start(free_address());
    let test_gate = busy_bed(&haproxy).await;
    let prometheus = Prometheus::start(test_gate.address);
    // A rate needs two samples, and the traffic has to lie between them.
    prometheus.wait_for(r#"count_over_time(up{job="fortify"}[1m]) >= 2"#).await;
    traffic(&test_gate).await;
    prometheus.wait_for(r#"sum(fortify_answers_total{outcome="failed"}) >= 4"#).await;
    prometheus.wait_for(r#"count_over_time(up{job="fortify"}[1m]) >= 4"#).await;

    let dashboard = dashboard();
    for expression in expressions_of(&dashboard) {
        let asked = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
        assert!(!asked.contains('$'), "a variable that this test does not know: {expression}");
        let found = prometheus.query(&asked).await;
        let absent = MAY_BE_ABSENT.iter().any(|name| asked.contains(name));
        assert!(absent || !found.is_empty(), "no data for {expression}");
    }
    // What the figures are, where it is known: the test would be content with empty lines otherwise.
    let admitted = prometheus.query(r#"sum(fortify_decisions_total{decision="admit"})"#).await;
    assert!(number(&admitted) >= 2.0, "{admitted:?}");
    let refused = prometheus.query(r#"fortify_decisions_total{decision="refuse"}"#).await;
    assert!(number(&refused) >= 1.0, "{refused:?}");

    let mut alerts = BTreeSet::new();
    for rule in prometheus.rules().await {
        prometheus.query(rule["query"].as_str().unwrap()).await;
        assert_eq!(rule["health"], "ok", "{rule:#}");
        // A gate in good health: nothing fires, nor is about to.
        assert_eq!(rule["state"], "inactive", "{rule:#}");
        check_advice(&rule);
        alerts.insert(rule["name"].as_str().unwrap().to_owned());
    }
    let tests = fs::read_to_string(deploy("prometheus/fortify.rules.test.yml")).unwrap();
    for alert in &alerts {
        for wanted in [format!("\"{alert} fires"), format!("\"{alert} does not fire")] {
            assert!(tests.contains(&wanted), "no test: {wanted}");
        }
    }
    assert!(alerts.len() >= 20, "{alerts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_say_about_the_metrics() {
    let haproxy = Haproxy::start(free_address());
    let test_gate = busy_bed(&haproxy).await;
    traffic(&test_gate).await;
    let reply = test_gate.visitor().get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut promtool = command("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; run `make setup`"));
    promtool.stdin.take().unwrap().write_all(&reply.body).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let said = [said.stdout, said.stderr].concat();
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    for line in reply.text().lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("fortify_"), "{line}");
    }
}

#[test]
fn promtool_accepts_the_configuration_and_the_alerts_do_as_their_tests_say() {
    let promtool = |args: &[&str]| {
        check(command("promtool").args(args).current_dir(deploy("prometheus")));
    };
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "fortify.rules.yml"]);
    promtool(&["test", "rules", "fortify.rules.test.yml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_gives_the_metrics_of_a_gate_on_a_socket_and_nothing_else() {
    let test_gate = TestGate::start().await;
    let metrics = free_address();
    let shipped = fs::read_to_string(deploy("prometheus/nginx-metrics.conf")).unwrap();
    let server = shipped.replace("127.0.0.1:10012", &metrics.to_string());
    assert_ne!(server, shipped);
    let _nginx =
        Nginx::start_with(free_address(), test_gate.address, test_gate.site.address(), &server);
    // As somebody would who means to be taken for a visitor, and for Prometheus.
    let mut asking = Visitor::at(metrics).circuit("fc00:dead:beef:4dad::1");
    let reply = asking.get("/metrics").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.text().contains("fortify_build_info{"), "{}", reply.text());
    for path in ["/", "/ready", "/metrics/", "/_fortify/auth", "/api/captcha-image"] {
        assert_eq!(asking.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    // Since 10.0; older ones are migrated.
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38);
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            // One variable chooses the nodes of every panel.
            assert!(expression.contains(r#"instance=~"$instance""#), "{expression}");
        }
        let place = &panel["gridPos"];
        let (x, width) = (place["x"].as_u64().unwrap(), place["w"].as_u64().unwrap());
        assert!(x + width <= 24, "{} is wider than the page", panel["title"]);
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|v| v["name"] == "datasource" && v["type"] == "datasource"));
}

/// A gate that asks visitors to pick, tells circuits apart, and tells `haproxy`.
async fn busy_bed(haproxy: &Haproxy) -> TestGate {
    let socket = haproxy.socket.clone();
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.captcha.mode = AnswerMode::Choice;
        parts.config.haproxy.endpoint = Some(Endpoint::Unix(socket));
    })
    .await;
    traffic(&test_gate).await;
    test_gate
}

/// One of everything that visitors do: let in, wrong, refused, without a circuit, with somebody else's
/// cookie.
async fn traffic(test_gate: &TestGate) {
    let mut person = test_gate.visitor().circuit("fc00:dead:beef:4dad::1");
    let page = person.get("/").await;
    assert!(test_gate.solve(&mut person, &page).await.admits());
    assert_eq!(person.get("/").await.status, StatusCode::OK);
    for number in 2..4 {
        let mut slip = test_gate.visitor().circuit(&format!("fc00:dead:beef:4dad::{number}"));
        let page = slip.get("/").await;
        let right = test_gate.answer(&page.field("token")).await;
        let wrong = choices(&page.text()).into_iter().find(|choice| *choice != right).unwrap();
        assert!(test_gate.submit(&mut slip, &page, &wrong).await.is_challenge());
    }
    let mut moved = person.clone();
    moved.headers.insert("x-circuit-id", "fc00:dead:beef:4dad::4".parse().unwrap());
    assert_eq!(moved.get("/").await.status, StatusCode::OK);
    let mut forged = test_gate.visitor().circuit("fc00:dead:beef:4dad::5");
    forged.cookies.insert("cerberus_session".to_owned(), "eyJ.e.x".to_owned());
    assert!(forged.get("/").await.is_challenge());
    assert_eq!(test_gate.visitor().get("/").await.status, StatusCode::BAD_REQUEST);
}

/// The values of the answers that a page lets one pick.
fn choices(page: &str) -> Vec<String> {
    let parts = page.split(r#"name="answer" value=""#).skip(1);
    parts.filter_map(|part| Some(part.split('"').next()?.to_owned())).collect()
}

fn dashboard() -> Value {
    let text = fs::read_to_string(deploy("grafana/fortify.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every expression in `part`, wherever it stands.
fn expressions_of(part: &Value) -> Vec<String> {
    match part {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value.as_str() {
                Some(expression) if name == "expr" => vec![expression.to_owned()],
                _ => expressions_of(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(expressions_of).collect(),
        _ => Vec::new(),
    }
}

/// Whoever is woken by an alert reads what it is, what to do, and where more of it stands: in a place
/// that is there.
fn check_advice(rule: &Value) {
    let said = |name: &str| rule["annotations"][name].as_str().unwrap_or_default();
    assert!(!said("summary").is_empty() && !said("action").is_empty(), "{rule:#}");
    let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
    assert!(["critical", "warning", "info"].contains(&severity), "{rule:#}");
    let (file, anchor) = said("guide").split_once('#').unwrap_or_else(|| panic!("{rule:#}"));
    let guide = fs::read_to_string(deploy("..").join(file)).unwrap();
    let headings = guide.lines().filter_map(|line| Some(line.strip_prefix('#')?.trim_matches('#')));
    let anchors: Vec<_> = headings.map(anchor_of).collect();
    assert!(anchors.iter().any(|known| known == anchor), "no heading {anchor} in {file}");
}

/// How a heading is linked to, as web sites for source code do it.
fn anchor_of(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .collect::<String>()
        .replace(' ', "-")
}

fn number(found: &[Value]) -> f64 {
    found[0]["value"][1].as_str().unwrap().parse().unwrap()
}

/// Prometheus with the shipped configuration, which scrapes each second.
struct Prometheus {
    address: SocketAddr,
    _process: Arc<Process>,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(gate: SocketAddr) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        write_configuration(folder.path(), gate);
        let mut prometheus: Command = command("prometheus");
        prometheus
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let log = folder.path().join("log");
        let process = Process::start(&mut prometheus, address, &log);
        Self { address, _process: Arc::new(process), _folder: folder }
    }

    /// Waits until `expression` has an answer.
    async fn wait_for(&self, expression: &str) {
        let answers = async || !self.query(expression).await.is_empty();
        until(&format!("an answer to {expression}"), answers).await;
    }

    /// The samples that answer `expression`.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded =
            percent_encoding::utf8_percent_encode(expression, percent_encoding::NON_ALPHANUMERIC);
        let reply = self.ask(&format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(reply["status"], "success", "{expression}: {reply:#}");
        reply["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Its alert rules, once each of them was evaluated.
    async fn rules(&self) -> Vec<Value> {
        until_ok("every rule is evaluated", async || {
            let reply = self.ask("/api/v1/rules?type=alert").await;
            let groups = reply["data"]["groups"].as_array().unwrap();
            let rules: Vec<Value> = groups
                .iter()
                .flat_map(|group| group["rules"].as_array().unwrap().clone())
                .collect();
            let all = rules.iter().all(|rule| rule["health"] != "unknown");
            if all { Ok(rules) } else { Err(format!("{reply:#}")) }
        })
        .await
    }

    async fn ask(&self, path: &str) -> Value {
        // It listens before it is ready.
        until_ok("Prometheus is ready", async || {
            let reply = Visitor::at(self.address).get(path).await;
            let ready = reply.status != StatusCode::SERVICE_UNAVAILABLE;
            if ready { Ok(reply.json()) } else { Err(reply.text()) }
        })
        .await
    }
}

/// The shipped configuration with `gate` in place of the address, and a second in place of fifteen.
fn write_configuration(folder: &Path, gate: SocketAddr) {
    let shipped = fs::read_to_string(deploy("prometheus/prometheus.yml")).unwrap();
    let config = shipped
        .replace("127.0.0.1:10002", &gate.to_string())
        .replace("_interval: 15s", "_interval: 1s");
    assert!(config.contains(&gate.to_string()) && !config.contains("15s"), "{config}");
    fs::write(folder.join("prometheus.yml"), config).unwrap();
    fs::copy(deploy("prometheus/fortify.rules.yml"), folder.join("fortify.rules.yml")).unwrap();
}

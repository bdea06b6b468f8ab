//! `fortify doctor` before real servers: a healthy stack, and one that is broken in each of many ways.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fortify_demo::DemoSite;
use fortify_testkit::redis::{Cluster, Redis};
use fortify_testkit::servers::{Haproxy, Nginx, Process, command, free_address};
use fortify_testkit::wait::wait_for;
use serde_json::Value;

/// Everything that a test may have running, in a folder of its own.
struct Stack {
    dir: tempfile::TempDir,
    gate: SocketAddr,
    /// Below `[server]` and `[storage]`, which every gate has.
    sections: String,
    storage: String,
    /// Added to the arguments.
    arguments: Vec<String>,
    proxy_protocol: bool,
    /// In place of loopback.
    trusted: Option<&'static str>,
    running: Option<Process>,
}

impl Stack {
    /// Nothing runs yet, and nothing is configured but where the gate is.
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            gate: free_address(),
            sections: String::new(),
            storage: String::new(),
            arguments: Vec::new(),
            proxy_protocol: false,
            trusted: None,
            running: None,
        }
    }

    fn section(mut self, text: &str) -> Self {
        self.sections.push_str(text);
        self.sections.push('\n');
        self
    }

    fn storage(mut self, text: &str) -> Self {
        self.storage.push_str(text);
        self.storage.push('\n');
        self
    }

    fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|text| (*text).to_owned()));
        self
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    fn file(&self) -> PathBuf {
        let path = self.dir.path().join("fortify.toml");
        let trusted = self.trusted.unwrap_or("127.0.0.0/8");
        let text = format!(
            "[server]\nhost = \"127.0.0.1\"\nport = {}\nmax_connections = 64\n\
             proxy_protocol = {}\ntrusted_proxies = [\"{trusted}\"]\n\
             [admin]\nlisten = \"\"\n[storage]\ndata_dir = \"{}\"\n{}{}",
            self.gate.port(),
            self.proxy_protocol,
            self.dir.path().join("data").display(),
            self.storage,
            self.sections
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        path
    }

    /// The gate, answering.
    fn started(mut self) -> Self {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_fortify"));
        serve.args(["serve", "--config"]).arg(self.file()).env_clear().stdin(Stdio::null());
        self.running = Some(Process::start(&mut serve, self.gate, &self.dir.path().join("log")));
        self
    }

    /// The gate was there, and is not any more.
    fn stopped(self) -> Self {
        let mut stack = self.started();
        // It answers visitors before it has opened the operators' file. Killed in between, it leaves a rollback
        // journal, by which the next start would undo whatever a test wrote there.
        let path = stack.data("admin.sock");
        wait_for("the gate to have opened all files", || path.exists());
        stack.running = None;
        stack
    }

    /// What the doctor says, with its exit code.
    fn examined(&self) -> Report {
        examined(&self.file(), &self.arguments)
    }
}

fn examined(file: &Path, arguments: &[String]) -> Report {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_fortify"));
    doctor.args(["doctor", "--json", "--config"]).arg(file).args(arguments);
    let started = Instant::now();
    let output = doctor.env_clear().stdin(Stdio::null()).output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(60), "it is bounded");
    let text = String::from_utf8(output.stdout).unwrap();
    let findings = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Report { findings, code: output.status.code().unwrap() }
}

#[derive(Debug)]
struct Report {
    findings: Vec<Value>,
    code: i32,
}

impl Report {
    fn of(&self, verdict: &str) -> Vec<&str> {
        let of = self.findings.iter().filter(|finding| finding["status"] == verdict);
        of.map(|finding| finding["check"].as_str().unwrap()).collect()
    }

    fn finding(&self, check: &str) -> &Value {
        let found = self.findings.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {:#?}", self.findings))
    }

    fn is_ok(&self, check: &str) {
        assert_eq!(self.finding(check)["status"], "ok", "{:#}", self.finding(check));
    }

    /// These checks fail and no other, and one of them names the cause and what mends it.
    fn fails(&self, checks: &[&str], cause: &str, mend: &str) {
        assert_eq!(self.of("fail"), checks, "{:#?}", self.findings);
        assert_eq!(self.code, 1);
        let named = self.findings.iter().any(|finding| {
            let says =
                |key: &str, words: &str| finding[key].as_str().is_some_and(|t| t.contains(words));
            finding["status"] == "fail" && says("found", cause) && says("advice", mend)
        });
        assert!(named, "neither {cause:?} nor {mend:?} in {:#?}", self.findings);
    }
}

/// A tor without a network, in a folder of its own.
struct Tor {
    dir: tempfile::TempDir,
    _process: Process,
}

impl Tor {
    fn start(service: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        fs::create_dir(dir.path().join("site")).unwrap();
        fs::set_permissions(dir.path().join("site"), PermissionsExt::from_mode(0o700)).unwrap();
        // Where it listens once it is up, beside the socket that Fortify uses.
        let port = free_address();
        let (path, torrc) = (dir.path().display(), dir.path().join("torrc"));
        let text = format!(
            "DataDirectory {path}/tor\nDisableNetwork 1\nSocksPort 0\nShutdownWaitLength 0\n\
             ControlPort {port}\nControlSocket {path}/control\nCookieAuthentication 1\n\
             CookieAuthFile {path}/cookie\nHiddenServiceDir {path}/site\n{service}\n"
        );
        fs::write(&torrc, text).unwrap();
        let defaults = dir.path().join("defaults");
        fs::write(&defaults, "").unwrap();
        let mut tor = command("tor");
        tor.args(["--quiet", "-f"]).arg(&torrc).arg("--defaults-torrc").arg(&defaults);
        let process = Process::start(&mut tor, port, &dir.path().join("log"));
        wait_for("tor's cookie", || dir.path().join("cookie").exists());
        Self { dir, _process: process }
    }

    fn section(&self) -> String {
        format!("[tor]\ncontrol = \"unix:{}/control\"", self.dir.path().display())
    }
}

/// `HAProxy` with a configuration that is not the shipped one.
struct OwnHaproxy {
    dir: tempfile::TempDir,
    address: SocketAddr,
    _process: Process,
}

impl OwnHaproxy {
    /// `level` of the socket, the table's backend, and what the frontend does before it passes on.
    fn start(level: &str, table: &str, rules: &str, behind: SocketAddr) -> Self {
        let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
        let config = dir.path().join("haproxy.cfg");
        let text = format!(
            "global\n    stats socket {}/socket mode 660 level {level}\n\
             defaults\n    mode http\n    timeout connect 2s\n    timeout client 9s\n    timeout server 9s\n\
             {table}\nfrontend tor_in\n    bind {address} accept-proxy\n{rules}\n    default_backend behind\n\
             backend behind\n    server one {behind}\n",
            dir.path().display()
        );
        fs::write(&config, text).unwrap();
        let mut haproxy = command("haproxy");
        haproxy.args(["-db", "-f"]).arg(&config);
        let process = Process::start(&mut haproxy, address, &dir.path().join("log"));
        Self { dir, address, _process: process }
    }

    fn section(&self) -> String {
        section_of(&self.dir.path().join("socket"))
    }
}

fn section_of(socket: &Path) -> String {
    format!("[haproxy]\nsocket_path = \"{}\"", socket.display())
}

const TABLE: &str =
    "backend tor_ingress\n    stick-table type ipv6 size 1m expire 30m store gpc0,gpc1";
const CIRCUIT: &str = "    http-request set-header X-Circuit-ID %[src]";

/// An nginx that is not the shipped one: `server` inside of its one server.
fn own_nginx(dir: &Path, server: &str) -> (SocketAddr, Process) {
    let (address, root) = (free_address(), dir.display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
        .concat();
    let text = format!(
        "pid {root}/nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
         server {{\nlisten {address};\n{server}\n}}\n}}\n"
    );
    let config = dir.join("nginx.conf");
    fs::write(&config, text).unwrap();
    let mut nginx = command("nginx");
    nginx.args(["-e", "stderr", "-g", "daemon off;", "-p"]).arg(dir).arg("-c").arg(config);
    (address, Process::start(&mut nginx, address, &dir.join("nginx.log")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_stack_has_no_failure() {
    let site = DemoSite::start().await.unwrap();
    let redis = Redis::start(&["--maxmemory", "64mb"]);
    let (gate, ingress) = (free_address(), free_address());
    let nginx = Nginx::start(gate, site.address());
    let haproxy = Haproxy::start_at(ingress, nginx.address);
    let service = format!("HiddenServicePort 80 {ingress}\nHiddenServiceExportCircuitID haproxy");
    let tor = Tor::start(&service);
    let mut stack = Stack::new()
        .storage(&format!("backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"", redis.port))
        .section(&section_of(&haproxy.socket))
        .section(&tor.section());
    stack.gate = gate;
    let stack = stack.started();
    wait_for("the gate to be ready", || stack.examined().finding("gate.ready")["status"] == "ok");
    // It was started before the gate, and asks again whether that is there.
    wait_for("HAProxy to find it", || stack.examined().finding("ingress")["status"] == "ok");
    let report = stack.examined();
    assert_eq!(report.of("fail"), [""; 0], "{:#?}", report.findings);
    assert_eq!(report.code, 0);
    for check in [
        "configuration",
        "user",
        "files.configuration",
        "files.data_dir",
        "files.data",
        "keys",
        "databases.reputation",
        "databases.audit",
        "databases.admin",
        "limits.files",
        "gate",
        "gate.trust",
        "haproxy",
        "haproxy.level",
        "haproxy.table",
        "haproxy.room",
        "ingress",
        "ingress.spoof",
        "nginx",
        "nginx.spoof",
        "redis",
        "redis.policy",
        "redis.memory",
        "redis.role",
        "redis.rights",
        "tor",
        "tor.service",
        "clock",
        "clock.redis",
        "clock.gate",
    ] {
        report.is_ok(check);
    }
    // nginx and the ingress were found by asking.
    let told = report.finding("nginx")["found"].as_str().unwrap();
    assert!(told.contains(&nginx.address.to_string()), "{told}");
    assert!(site.seen().is_empty(), "the service saw a probe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_straight_behind_tor_and_one_on_clearnet_are_well_too() {
    let site = DemoSite::start().await.unwrap();
    let upstream = format!("[upstream]\nurl = \"http://{}\"", site.address());
    let behind_tor = Stack { proxy_protocol: true, ..Stack::new() }.section(&upstream).started();
    let report = behind_tor.examined();
    assert_eq!(report.of("fail"), [""; 0], "{:#?}", report.findings);
    for check in ["gate", "gate.trust", "ingress", "ingress.spoof", "upstream"] {
        report.is_ok(check);
    }
    let clearnet = "[security]\nidentity = \"peer\"";
    let report = Stack::new().section(&upstream).section(clearnet).started().examined();
    assert_eq!(report.of("fail"), [""; 0], "{:#?}", report.findings);
    assert_eq!(report.finding("ingress.spoof")["status"], "skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_believes_everybody_is_named() {
    assert!(
        has_another_address(),
        "needs an address that is not loopback, with a route: ip addr add 192.0.2.2/24 dev lo"
    );
    let stack = Stack { trusted: Some("0.0.0.0/0"), ..Stack::new() }.started();
    let (cause, mend) = ("which is not loopback, is believed", "from server.trusted_proxies");
    stack.examined().fails(&["gate.trust"], cause, mend);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_whole_or_its_slots_are_missing() {
    let mut cluster = Cluster::start();
    let urls: Vec<_> =
        cluster.nodes.iter().map(|node| format!("\"redis://127.0.0.1:{}\"", node.port)).collect();
    let stack = Stack::new().storage(&format!("backend = \"redis\"\nurls = [{}]", urls.join(", ")));
    let report = stack.examined();
    for check in ["redis", "redis.policy", "redis.cluster", "redis.rights", "clock.redis"] {
        report.is_ok(check);
    }
    cluster.nodes[2].kill();
    let only = &cluster.nodes[0];
    wait_for("the loss to be seen", || only.tell(&["CLUSTER", "INFO"]).contains("state:fail"));
    let report = stack.examined();
    let failing = report.of("fail");
    assert!(failing.iter().any(|check| check.starts_with("redis")), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_lines_without_colour_where_there_is_no_terminal() {
    let stack = Stack::new().stopped();
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_fortify"));
    doctor.args(["doctor", "--config"]).arg(stack.file()).env_clear();
    let output = doctor.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("ok       configuration")), "{text}");
    assert!(text.contains("\n         -> start it: systemctl start fortify"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    assert_eq!(output.status.code(), Some(1));
    let usage = Command::new(env!("CARGO_BIN_EXE_fortify"))
        .args(["doctor", "--nginx", "nonsense"])
        .output()
        .unwrap();
    assert_eq!(usage.status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_does_not_run_is_named() {
    Stack::new().stopped().examined().fails(
        &["gate"],
        "nothing answers at 127.0.0.1",
        "systemctl start fortify",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_configuration_is_the_first_finding_and_not_the_end() {
    let stack = Stack::new().stopped().section("[captcha]\nlength = 99\nlenght = 6");
    let report = stack.examined();
    report.fails(
        &["configuration", "configuration", "gate"],
        "captcha.length: 99 is out of range",
        "fortify check-config",
    );
    assert_eq!(report.findings[0]["check"], "configuration");
    report.is_ok("keys");
    let unreadable = stack.dir.path().join("other.toml");
    fs::write(&unreadable, "[server").unwrap();
    let report = examined(&unreadable, &[]);
    report.fails(&["configuration"], "other.toml:1: not valid TOML", "fortify check-config");
    assert_eq!(report.of("skipped"), ["everything else"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_level_user_is_named() {
    let haproxy = OwnHaproxy::start("user", TABLE, CIRCUIT, free_address());
    let stack = Stack::new().section(&haproxy.section()).started();
    let report = stack.examined();
    report.fails(
        &["haproxy.level", "nginx"],
        "level \"user\": bans and trust are refused",
        "level operator",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_one_for_circuits_is_named() {
    for (table, cause, mend) in [
        (
            "backend tor_ingress\n    stick-table type ipv6 size 1m expire 30m store gpc1,conn_cur",
            "does not store gpc0",
            "store gpc0,gpc1",
        ),
        ("", "HAProxy has no table tor_ingress; it has none", "stick-table type ipv6"),
        (
            "backend circuits\n    stick-table type ipv6 size 1m expire 30m store gpc0,gpc1",
            "HAProxy has no table tor_ingress; it has circuits",
            "correct [haproxy] table_name",
        ),
        (
            "backend tor_ingress\n    stick-table type ip size 1m expire 30m store gpc0,gpc1",
            "has type ip, but circuits are IPv6",
            "type ipv6",
        ),
    ] {
        let stack = Stack::new();
        let haproxy = OwnHaproxy::start("operator", table, CIRCUIT, stack.gate);
        let stack = stack.section(&haproxy.section()).started();
        stack.examined().fails(&["haproxy.table"], cause, mend);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_that_lets_a_visitor_name_its_circuit_is_named() {
    for (rules, checks, cause, mend) in [
        (
            // Only for those who do not say themselves who they are.
            "    http-request set-header X-Circuit-ID %[src] unless { req.hdr(X-Circuit-ID) -m found }",
            &["ingress.spoof"][..],
            "that a visitor sends to 127.0.0.1",
            "del-header ^x[-_]circuit[-_]",
        ),
        (
            "",
            &["ingress"],
            "does not reach the gate: every visitor gets 400",
            "set-header X-Circuit-ID %[src]",
        ),
    ] {
        let stack = Stack::new();
        let haproxy = OwnHaproxy::start("operator", TABLE, rules, stack.gate);
        let ingress = haproxy.address.to_string();
        let stack = stack.section(&haproxy.section()).arguments(&["--ingress", &ingress]).started();
        stack.examined().fails(checks, cause, mend);
    }
}

/// Whether this machine has an address but loopback.
fn has_another_address() -> bool {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let routed = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    routed.is_ok_and(|address| !address.ip().is_loopback())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_that_passes_a_spoofed_circuit_is_named() {
    let gate = free_address();
    for server in [
        // Whatever the visitor wrote.
        "proxy_set_header X-Circuit-ID $http_x_circuit_id;",
        // From whomever.
        "set_real_ip_from 0.0.0.0/0;\nreal_ip_header X-Circuit-ID;\n\
         proxy_set_header X-Circuit-ID $remote_addr;",
    ] {
        let mut stack = Stack::new();
        stack.gate = gate;
        let proxy = format!("{server}\nlocation / {{ proxy_pass http://{gate}; }}");
        let (address, _nginx) = own_nginx(stack.dir.path(), &proxy);
        let url = format!("http://{address}");
        let report = stack.arguments(&["--nginx", &url]).started().examined();
        if has_another_address() {
            let (cause, mend) = ("a forged X-Circuit-ID from", "never $http_x_circuit_id");
            report.fails(&["nginx.spoof"], cause, mend);
        } else {
            // From loopback alone it is where HAProxy is, and the report says what it did not see.
            let told = report.finding("nginx.spoof")["found"].as_str().unwrap();
            assert!(told.contains("there is no other address"), "{told}");
        }
    }
    // A name that some take for it, and that HAProxy, if it is changed, may let through.
    let mut stack = Stack::new();
    stack.gate = gate;
    let proxy = format!(
        "underscores_in_headers on;\nset_real_ip_from 127.0.0.0/8;\nreal_ip_header X_Circuit_ID;\n\
         location / {{ proxy_set_header X-Circuit-ID $http_x_circuit_id; proxy_pass http://{gate}; }}"
    );
    let (address, _nginx) = own_nginx(stack.dir.path(), &proxy);
    let url = format!("http://{address}");
    let report = stack.arguments(&["--nginx", &url]).started().examined();
    assert_eq!(report.of("fail"), ["nginx.spoof"], "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_that_asks_no_gate_is_named() {
    let site = DemoSite::start().await.unwrap();
    let stack = Stack::new();
    let proxy = format!("location / {{ proxy_pass http://{}; }}", site.address());
    let (address, _nginx) = own_nginx(stack.dir.path(), &proxy);
    let url = format!("http://{address}");
    stack.arguments(&["--nginx", &url]).started().examined().fails(
        &["nginx"],
        "a visitor without a session gets a 200",
        "auth_request /_fortify/auth",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_forget_is_named() {
    let redis = Redis::start(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let url = format!("backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"", redis.port);
    let report = Stack::new().storage(&url).started().examined();
    report.fails(
        &["gate.ready", "redis.policy"],
        "maxmemory-policy allkeys-lru lets Redis evict log-outs",
        "config set maxmemory-policy volatile-ttl",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_too_few_rights_are_named() {
    let redis = Redis::start(&["--requirepass", "right"]);
    let stack = Stack::new();
    let file = stack.dir.path().join("password");
    let set = |text: &str, mode| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    };
    set("wrong", 0o600);
    let stack = stack.storage(&format!(
        "backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\npassword_file = \"{}\"",
        redis.port,
        file.display()
    ));
    let stack = stack.started();
    let report = stack.examined();
    report.fails(&["gate.ready", "redis"], "password is refused", "storage.password_file");
    let told = format!("{:?}", report.findings);
    assert!(!told.contains("wrong") && !told.contains("right"), "{told}");

    set("right", 0o644);
    wait_for("the gate to be ready", || stack.examined().finding("gate.ready")["status"] == "ok");
    stack.examined().fails(&["files.secrets"], "mode 0644 lets everyone read it", "chgrp ");

    let user = redis_user(&redis);
    let small = stack.dir.path().join("small");
    fs::write(&small, "small").unwrap();
    fs::set_permissions(&small, PermissionsExt::from_mode(0o600)).unwrap();
    let poor = Stack::new().storage(&format!(
        "backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\nuser = \"{user}\"\npassword_file = \"{}\"",
        redis.port,
        small.display()
    ));
    let report = poor.examined();
    let rights = report.finding("redis.rights");
    assert_eq!(rights["status"], "fail", "{rights}");
    assert!(rights["found"].as_str().unwrap().ends_with("may not: GETDEL"), "{rights}");
}

/// A user that lacks one command.
fn redis_user(redis: &Redis) -> &'static str {
    let made = Command::new("redis-cli")
        .args(["-p", &redis.port.to_string(), "-a", "right", "--no-auth-warning"])
        .args(["ACL", "SETUSER", "poor", "on", ">small", "~*", "+@all", "-getdel"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&made.stdout).contains("OK"), "{made:?}");
    "poor"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tor_that_does_not_let_in_or_does_not_tell_circuits_is_named() {
    let silent = Tor::start("HiddenServicePort 80 127.0.0.1:10000");
    Stack::new().section(&silent.section()).started().examined().fails(
        &["tor.service"],
        "does not export circuits: all visitors look alike",
        "HiddenServiceExportCircuitID haproxy",
    );
    // Root may read every file: one that is not there stands for one that may not be read.
    fs::remove_file(silent.dir.path().join("cookie")).unwrap();
    Stack::new().section(&silent.section()).started().examined().fails(
        &["tor"],
        "cannot read tor's cookie file",
        "CookieAuthFileGroupReadable 1",
    );
    let nobody = "[tor]\ncontrol = \"unix:/nonexistent/control\"";
    Stack::new().section(nobody).started().examined().fails(
        &["tor"],
        "cannot reach tor's control port unix:/nonexistent/control",
        "check that tor runs",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_others_may_read_are_named() {
    let stack = Stack::new().started();
    let keys = stack.data("keys.json");
    fs::set_permissions(&keys, PermissionsExt::from_mode(0o644)).unwrap();
    let report = stack.examined();
    report.fails(
        &["files.data", "keys"],
        "mode 0644 lets others read the signing keys",
        "chmod 600",
    );
    fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(stack.data(""), PermissionsExt::from_mode(0o755)).unwrap();
    stack.examined().fails(&["files.data_dir"], "lets everyone in", "chmod 700");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_named() {
    let stack = Stack::new().stopped();
    let path = stack.data("reputation.sqlite");
    // What was written last may be beside the file still.
    let whole = rusqlite::Connection::open(&path).unwrap();
    whole.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap_or_default();
    drop(whole);
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 8192, "nothing to damage");
    bytes[4096..].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    for name in ["reputation.sqlite-wal", "reputation.sqlite-shm"] {
        let _none = fs::remove_file(stack.data(name));
    }
    fs::write(stack.data("audit.sqlite.damaged-1800000000"), "x").unwrap();
    let name = stack.data("audit.sqlite.damaged-1800000000");
    fs::set_permissions(name, PermissionsExt::from_mode(0o600)).unwrap();
    let report = stack.examined();
    report.fails(
        &["databases.reputation", "gate"],
        "reputation.sqlite is damaged",
        "bans and trust are lost",
    );
    assert_eq!(report.finding("files.damaged")["status"], "warn");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_who_are_shut_out_are_named() {
    let stack = Stack::new().stopped();
    for name in ["admin.sqlite-wal", "admin.sqlite-shm"] {
        let _none = fs::remove_file(stack.data(name));
    }
    fs::write(stack.data("admin.sqlite"), vec![0x5a; 8192]).unwrap();
    stack.started().examined().fails(
        &["databases.admin", "gate.ready"],
        "the admin interface is unavailable",
        "restore a backup",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_is_named() {
    let nobody = free_address();
    let upstream = format!("[upstream]\nurl = \"http://{nobody}\"");
    Stack::new().section(&upstream).started().examined().fails(
        &["upstream"],
        "does not answer: Connection refused",
        "start the service, or correct upstream.url",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_behind_the_keys_is_named() {
    let stack = Stack::new().started();
    let path = stack.data("keys.json");
    let mut keys: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let made = keys["keys"][0]["created_at"].as_u64().unwrap();
    // As an earlier version wrote it, which had neither a checksum nor a root.
    keys["version"] = 1.into();
    keys["keys"][0]["secret"] = keys["root"].take();
    for newer in ["checksum", "root"] {
        keys.as_object_mut().unwrap().remove(newer);
    }
    keys["keys"][0]["created_at"] = (made + 86_400_000).into();
    fs::write(&path, keys.to_string()).unwrap();
    stack.examined().fails(
        &["clock"],
        "the signing key was made 23 h after",
        "timedatectl set-ntp",
    );
    keys["keys"][0]["created_at"] = (made - 91 * 86_400_000).into();
    fs::write(&path, keys.to_string()).unwrap();
    let report = stack.examined();
    assert_eq!(report.of("fail"), [""; 0], "{:#?}", report.findings);
    let old = report.finding("keys");
    assert_eq!(old["status"], "warn", "{old}");
    assert!(old["advice"].as_str().unwrap().contains("fortify keys rotate"), "{old}");
}

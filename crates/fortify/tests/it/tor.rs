//! The gate and tor's control port: with the real tor, and with one that says what a test wants.
//!
//! The real one runs without a network (`DisableNetwork 1`), in a folder of its own.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use fortify_admin::identity::{AuthMethod, Principal, Role};
use fortify_config::{ControlAddress, TorConfig};
use fortify_core::circuit::{IdentityMode, TorBoot, TorCircuit};
use fortify_core::clock::{Clock, SystemClock};
use fortify_engine::limits::waits::FailureWaits;
use fortify_haproxy::client::Endpoint;
use fortify_reputation::CircuitStatus;
use fortify_store::StateStore;
use fortify_testkit::servers::{Haproxy, free_address};
use fortify_testkit::wait::{PATIENCE as BOUND, eventually as until, until as until_async};
use fortify_testkit::{NOW, Parts, Reply, TestGate, Visitor, memory_store};
use fortify_tor::figures;
use fortify_tor::metrics::TorFigures;
use fortify_tor::{CloseOutcome, Tor, TorError, TorEvent};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{broadcast, watch};

const ONE: &str = "fc00:dead:beef:4dad::0:19";
const TWO: &str = "fc00:dead:beef:4dad::0:1a";
const THREE: &str = "fc00:dead:beef:4dad::7a3f:19c4";

/// A tor of our own, stopped by its process id at the end.
struct RealTor {
    dir: tempfile::TempDir,
    running: Option<Child>,
}

impl RealTor {
    /// Not started yet; `torrc` is added to what every test needs.
    fn new(torrc: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        // Tor puts its socket into no folder that others may look into.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
        let text = format!(
            "DataDirectory {0}/tor\nDisableNetwork 1\nSocksPort 0\nShutdownWaitLength 0\n\
             Log notice file {0}/log\n{1}\n",
            path.display(),
            torrc(path)
        );
        std::fs::write(path.join("torrc"), text).unwrap();
        std::fs::write(path.join("defaults"), "").unwrap();
        Self { dir, running: None }
    }

    /// With a cookie, over a unix socket: as Debian has it.
    fn with_cookie() -> Self {
        Self::new(|dir| format!("ControlSocket {}/control\nCookieAuthentication 1", dir.display()))
    }

    fn start(&mut self) {
        let _log_of_an_earlier_start = std::fs::remove_file(self.path("log"));
        let child = Command::new("tor")
            .args(["--quiet", "-f"])
            .arg(self.path("torrc"))
            .arg("--defaults-torrc")
            .arg(self.path("defaults"))
            .stdin(Stdio::null())
            .spawn()
            .expect("tor is not installed: run scripts/setup.sh test");
        self.running = Some(child);
    }

    /// Started, and its control port open.
    async fn started(mut self) -> Self {
        self.start();
        let log = self.path("log");
        let child = self.running.as_mut().unwrap();
        let opened = || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "tor ended: {:?}", std::fs::read_to_string(&log));
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("Opened Control"))
        };
        until("tor opens its control port", opened).await;
        self
    }

    fn kill(&mut self) {
        let mut child = self.running.take().expect("a running tor");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> ControlAddress {
        ControlAddress::Unix(self.path("control"))
    }

    fn config(&self) -> TorConfig {
        TorConfig { control: Some(self.socket()), ..TorConfig::default() }
    }

    /// Where `ControlPort auto` led.
    fn port(&self) -> ControlAddress {
        let text = std::fs::read_to_string(self.path("port")).unwrap();
        let port = text.lines().find_map(|line| line.strip_prefix("PORT=")).unwrap();
        ControlAddress::Tcp(port.parse().unwrap())
    }
}

impl Drop for RealTor {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
    }
}

/// A gate on circuits that watches the tor of `config` and keeps its data in `data`.
async fn gate(config: TorConfig, data: Option<&Path>) -> TestGate {
    TestGate::with(|parts| settings(parts, config, data)).await
}

fn settings(parts: &mut Parts, config: TorConfig, data: Option<&Path>) {
    parts.config.security.identity = IdentityMode::Circuit;
    parts.config.security.max_captcha_failures = 2;
    let waits = [0, 1800].map(Duration::from_secs).to_vec();
    parts.config.limits.failure_waits = FailureWaits::new(waits).unwrap();
    // What a circuit has is to be told from what a visitor takes along.
    parts.config.session.max_moves = 0;
    parts.config.tor = config;
    if let Some(data) = data {
        parts.config.storage.data_dir = data.to_owned();
    }
}

fn tor(test_gate: &TestGate) -> &Arc<Tor> {
    test_gate.app.tor.as_ref().expect("[tor] is configured")
}

async fn up(test_gate: &TestGate) -> TorBoot {
    until("tor is watched", || tor(test_gate).is_up()).await;
    test_gate.app.boot()
}

async fn down(test_gate: &TestGate) -> TorBoot {
    until("the end of tor is noticed", || !tor(test_gate).is_up()).await;
    test_gate.app.boot()
}

async fn admitted(test_gate: &TestGate, circuit: &str) -> Visitor {
    let mut visitor = test_gate.visitor().circuit(circuit);
    let page = visitor.get("/").await;
    assert_eq!(test_gate.solve(&mut visitor, &page).await.status, StatusCode::SEE_OTHER);
    assert!(is_in(&mut visitor).await);
    visitor
}

async fn is_in(visitor: &mut Visitor) -> bool {
    visitor.get("/").await.status == StatusCode::OK
}

/// Answers wrongly until it is refused.
async fn held_back(test_gate: &TestGate, circuit: &str) -> Visitor {
    let mut visitor = test_gate.visitor().circuit(circuit);
    for _ in 0..2 {
        let page = visitor.get("/").await;
        test_gate.submit(&mut visitor, &page, "NONSENSE").await;
    }
    assert!(waits(&mut visitor).await);
    visitor
}

async fn waits(visitor: &mut Visitor) -> bool {
    let reply = visitor.get("/").await;
    // Banned here, or held back for what it did at another node of the same store.
    let refused = [StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(&reply.status);
    refused && !reply.is_challenge()
}

async fn ready(test_gate: &TestGate) -> Reply {
    test_gate.visitor().get("/ready").await
}

async fn metric(test_gate: &TestGate, name: &str) -> Option<String> {
    let text = test_gate.visitor().get("/metrics").await.text();
    // An empty set of labels is written, and means the same as none.
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("{} "));
    value.map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_03_after_a_restart_of_tor_nobody_inherits_anything() {
    let mut real = RealTor::with_cookie().started().await;
    let test_gate = gate(real.config(), None).await;
    let first = up(&test_gate).await;
    let mut insider = admitted(&test_gate, ONE).await;
    let mut failed = held_back(&test_gate, TWO).await;
    let mut undecided = test_gate.visitor().circuit(THREE);
    let page = undecided.get("/").await;
    let answer = test_gate.answer(&page.field("token")).await;

    real.kill();
    let provisional = down(&test_gate).await;
    assert_ne!(provisional, first);
    assert!(!is_in(&mut insider).await, "a session went on");
    assert!(!waits(&mut failed).await, "failures went on");
    assert!(
        !test_gate.submit(&mut undecided, &page, &answer).await.admits(),
        "a challenge went on"
    );
    let mut early = admitted(&test_gate, ONE).await;

    let real = real.started().await;
    let second = up(&test_gate).await;
    assert!(second != first && second != provisional);
    for visitor in [&mut insider, &mut early] {
        assert!(!is_in(visitor).await, "a session of before went on");
    }
    assert!(!waits(&mut failed).await, "failures of before went on");
    let mut newcomer = admitted(&test_gate, ONE).await;
    assert!(is_in(&mut newcomer).await);
    assert_eq!(metric(&test_gate, "fortify_tor_restarts_total").await.as_deref(), Some("1"));
    assert_eq!(metric(&test_gate, "fortify_tor_up").await.as_deref(), Some("1"));
    test_gate.stop().await;
    drop(real);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_03_a_restart_of_fortify_alone_keeps_the_generation_and_one_of_both_does_not() {
    let mut real = RealTor::with_cookie().started().await;
    let data = real.path("data");
    let test_gate = gate(real.config(), Some(&data)).await;
    let first = up(&test_gate).await;
    let mut insider = admitted(&test_gate, ONE).await;
    test_gate.stop().await;

    let test_gate = gate(real.config(), Some(&data)).await;
    insider.address = test_gate.address;
    // No waiting: a gate that can reach tor knows it before it serves anybody.
    assert!(is_in(&mut insider).await, "the session was lost");
    assert_eq!(up(&test_gate).await, first);
    test_gate.stop().await;

    real.kill();
    let real = real.started().await;
    let test_gate = gate(real.config(), Some(&data)).await;
    insider.address = test_gate.address;
    assert!(!is_in(&mut insider).await, "the session went on");
    assert_ne!(up(&test_gate).await, first);
    assert_eq!(metric(&test_gate, "fortify_tor_restarts_total").await.as_deref(), Some("1"));
    let mode = std::fs::metadata(data.join("tor-generation.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_03_a_connection_that_broke_leads_back_to_the_same_tor_and_its_generation() {
    let real = RealTor::with_cookie().started().await;
    let relay = Relay::to(real.path("control"), real.path("relay"));
    let control = Some(ControlAddress::Unix(real.path("relay")));
    let test_gate = gate(TorConfig { control, ..TorConfig::default() }, None).await;
    let first = up(&test_gate).await;
    let mut insider = admitted(&test_gate, ONE).await;
    let mut seen = Vec::from([first]);
    for _ in 0..2 {
        relay.open(false);
        let provisional = down(&test_gate).await;
        assert!(!seen.contains(&provisional), "a provisional generation came twice");
        seen.push(provisional);
        assert!(!is_in(&mut insider).await, "it was not known which tor this is");
        let mut between = admitted(&test_gate, TWO).await;
        relay.open(true);
        assert_eq!(up(&test_gate).await, first, "the same tor has another generation");
        assert!(is_in(&mut insider).await, "the session was lost");
        assert!(!is_in(&mut between).await, "what was provisional went on");
    }
    assert_eq!(metric(&test_gate, "fortify_tor_restarts_total").await.as_deref(), Some("0"));
    test_gate.stop().await;
}

/// Stands between a gate and a tor, and lets through or not.
struct Relay {
    open: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    fn to(control: PathBuf, at: PathBuf) -> Self {
        let listener = UnixListener::bind(at).unwrap();
        let open = watch::Sender::new(true);
        let mut opened = open.subscribe();
        let task = tokio::spawn(async move {
            loop {
                opened.wait_for(|open| *open).await.unwrap();
                let (mut inner, _) = listener.accept().await.unwrap();
                let mut outer = UnixStream::connect(&control).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut inner, &mut outer) => {}
                    _ = opened.wait_for(|open| !*open) => {}
                }
            }
        });
        Self { open, task }
    }

    fn open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tor_requests_go_on_and_the_gate_is_degraded_until_it_heals() {
    let mut real = RealTor::with_cookie();
    let test_gate = gate(real.config(), None).await;
    let mut insider = admitted(&test_gate, ONE).await;
    let reply = ready(&test_gate).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.json()["tor"], "degraded");
    assert_eq!(metric(&test_gate, "fortify_tor_up").await.as_deref(), Some("0"));
    let order = tor(&test_gate).close_circuit(ONE.parse().unwrap()).await;
    assert!(matches!(order, Err(TorError::Down)));

    real = real.started().await;
    up(&test_gate).await;
    let reply = ready(&test_gate).await;
    assert_eq!((reply.status, reply.json()["tor"].clone()), (StatusCode::OK, "ok".into()));
    assert!(!is_in(&mut insider).await, "what was provisional went on");
    // The first tor that is met is no restart of another.
    assert_eq!(metric(&test_gate, "fortify_tor_restarts_total").await.as_deref(), Some("0"));

    // And again, from a gate that knows what the other state is.
    real.kill();
    down(&test_gate).await;
    let reply = ready(&test_gate).await;
    assert_eq!((reply.status, reply.json()["tor"].clone()), (StatusCode::OK, "degraded".into()));
    assert_eq!(metric(&test_gate, "fortify_tor_up").await.as_deref(), Some("0"));
    test_gate.stop().await;

    let unwatched = TestGate::start().await;
    let reply = ready(&unwatched).await.json();
    assert!(reply.get("tor").is_none(), "{reply}");
    assert_eq!(metric(&unwatched, "fortify_tor_up").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_04_the_same_number_of_two_tors_is_two_circuits() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    std::fs::create_dir(&one).unwrap();
    let store: Arc<dyn StateStore> = Arc::new(memory_store(&one));
    // Two nodes that share keys and a store, each behind a tor of its own.
    let node = |instance: u16, data: PathBuf| {
        let store = store.clone();
        TestGate::with(move |parts| {
            settings(parts, TorConfig { instance, ..TorConfig::default() }, Some(&data));
            parts.store = Some(store);
        })
    };
    let first = node(0, one.clone()).await;
    std::fs::create_dir(&two).unwrap();
    std::fs::copy(one.join("keys.json"), two.join("keys.json")).unwrap();
    let second = node(1, two.clone()).await;
    let sibling = node(0, two).await;

    let mut insider = admitted(&first, ONE).await;
    let mut failed = held_back(&first, TWO).await;
    for (test_gate, same) in [(&sibling, true), (&second, false)] {
        insider.address = test_gate.address;
        failed.address = test_gate.address;
        assert_eq!(is_in(&mut insider).await, same);
        assert_eq!(waits(&mut failed).await, same);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tor_lets_in_by_cookie_by_password_over_a_socket_and_over_tcp() {
    let hash = Command::new("tor").args(["--quiet", "--hash-password", "a \"secret\""]).output();
    let hash = String::from_utf8(hash.expect("tor is not installed").stdout).unwrap();
    let hash = hash.lines().last().unwrap().to_owned();
    let real = RealTor::new(|dir| {
        let dir = dir.display();
        format!(
            "ControlSocket {dir}/control\nControlPort auto\nControlPortWriteToFile {dir}/port\n\
             CookieAuthentication 1\nCookieAuthFile {dir}/biscuit\nHashedControlPassword {hash}"
        )
    });
    let real = real.started().await;
    until("tor says its port", || real.path("port").exists()).await;
    let (cookie_file, password_file) = (real.path("biscuit"), real.path("password"));
    let secret = |text: &str| {
        std::fs::write(&password_file, text).unwrap();
        std::fs::set_permissions(&password_file, PermissionsExt::from_mode(0o600)).unwrap();
    };
    secret("a \"secret\"\n");
    let ask = async |config: &TorConfig, address: &ControlAddress| {
        fortify_tor::status(config, address, &real.path("data")).await
    };
    let by_told_cookie = TorConfig::default();
    let by_cookie = TorConfig { cookie_file: Some(cookie_file.clone()), ..TorConfig::default() };
    let by_password =
        TorConfig { password_file: Some(password_file.clone()), ..TorConfig::default() };
    let process = real.running.as_ref().unwrap().id();
    for address in [real.socket(), real.port()] {
        for config in [&by_told_cookie, &by_cookie, &by_password] {
            let status = ask(config, &address).await.unwrap();
            assert_eq!(status.run.pid, process);
            assert!(status.version.starts_with("0."), "{}", status.version);
            assert_eq!(status.generation, None, "no gate was here");
        }
    }

    secret("another");
    let said = ask(&by_password, &real.socket()).await.unwrap_err().to_string();
    assert!(said.contains("HashedControlPassword") && !said.contains("another"), "{said}");
    let elsewhere = real.path("other");
    let by_another = TorConfig { cookie_file: Some(elsewhere.clone()), ..TorConfig::default() };
    std::fs::write(&elsewhere, [7; 32]).unwrap();
    let said = ask(&by_another, &real.port()).await.unwrap_err().to_string();
    assert!(said.contains("different tors") && said.contains("tor.cookie_file"), "{said}");
    std::fs::write(&elsewhere, [7; 31]).unwrap();
    let said = ask(&by_another, &real.port()).await.unwrap_err().to_string();
    assert!(said.contains("exactly 32 bytes"), "{said}");
    std::fs::remove_file(&elsewhere).unwrap();
    let said = ask(&by_another, &real.port()).await.unwrap_err().to_string();
    assert!(said.contains("CookieAuthFileGroupReadable 1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tor_that_asks_for_nothing_or_for_something_else_is_met_as_torrc_says() {
    let real = RealTor::new(|dir| format!("ControlSocket {}/control", dir.display()));
    let real = real.started().await;
    let data = real.path("data");
    let config = TorConfig::default();
    fortify_tor::status(&config, &real.socket(), &data).await.unwrap();
    let config = TorConfig { password_file: Some(real.path("torrc")), ..config };
    let said = fortify_tor::status(&config, &real.socket(), &data).await.unwrap_err();
    assert!(matches!(said, TorError::PasswordNeedless), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_03_bans_by_name_end_with_their_tor_in_haproxys_table_too() {
    let mut real = RealTor::with_cookie().started().await;
    let haproxy = Haproxy::start(free_address());
    let config = real.config();
    let test_gate = TestGate::with(|parts| {
        settings(parts, config, None);
        parts.config.haproxy.endpoint = Some(Endpoint::Unix(haproxy.socket.clone()));
    })
    .await;
    // The command reads the system's clock.
    test_gate.clock.set(SystemClock.now());
    up(&test_gate).await;
    let ControlAddress::Unix(control) = real.socket() else { panic!("another address") };
    let banned = Command::new(env!("CARGO_BIN_EXE_fortify"))
        .args(["circuits", "ban", ONE])
        .env("FORTIFY__STORAGE__DATA_DIR", &test_gate.app.config.storage.data_dir)
        .env("FORTIFY__TOR__CONTROL", format!("unix:{}", control.display()))
        .output()
        .unwrap();
    assert!(banned.status.success(), "{}", String::from_utf8_lossy(&banned.stderr));
    let gpc0 = || haproxy.gpc0("fc00:dead:beef:4dad::19");
    until("the ban is in the table", || gpc0() == Some(2)).await;
    let named = of_this_boot(&test_gate, ONE);
    assert_eq!(test_gate.app.engine.parts().reputation.status(named), Some(CircuitStatus::Banned));
    assert!(waits(&mut test_gate.visitor().circuit(ONE)).await, "a ban of another start of tor");

    real.kill();
    down(&test_gate).await;
    let real = real.started().await;
    up(&test_gate).await;
    until("the ban has left the table", || gpc0() == Some(0)).await;
    assert_eq!(test_gate.app.engine.parts().reputation.status(named), None);
    test_gate.stop().await;
    drop(real);
}

/// The program as an operator starts it, as another user where the tests run as root.
fn fortify(program: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).env_clear();
    if rustix::process::getuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_tor_and_says_which_permission_is_missing() {
    let open = "WorldWritable RelaxDirModeCheck";
    let real = RealTor::new(|dir| {
        format!(
            "ControlSocket {}/control {open}\nCookieAuthentication 1\nCookieAuthFile {0}/biscuit",
            dir.display()
        )
    });
    let mode = |path: PathBuf, mode: u32| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(real.path(""), 0o755);
    let real = real.started().await;
    until("tor writes its cookie", || real.path("biscuit").exists()).await;
    let program = real.path("fortify");
    std::fs::copy(env!("CARGO_BIN_EXE_fortify"), &program).unwrap();
    let (config, control) = (real.path("fortify.toml"), real.socket());
    let data = real.path("data");
    let text = format!("storage.data_dir = {data:?}\ntor.control = \"{control}\"\n");
    std::fs::write(&config, text).unwrap();
    let run = |args: &[&str]| {
        let all = [args, &["--config", config.to_str().unwrap()]].concat();
        let output = fortify(&program, &all);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };

    mode(real.path("biscuit"), 0o000);
    let (code, said) = run(&["tor", "status"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("biscuit") && said.contains("Permission denied"), "{said}");
    assert!(said.contains("CookieAuthFileGroupReadable 1"), "{said}");
    assert!(said.contains("debian-tor"), "{said}");
    mode(real.path("biscuit"), 0o644);
    let (code, said) = run(&["tor", "status"]);
    assert_eq!(code, 0, "{said}");
    let process = real.running.as_ref().unwrap().id().to_string();
    assert!(said.contains(&process) && said.contains("no gate has seen"), "{said}");
    for bad in ["127.0.0.1", "25", "fc00:dead:beef:4dad::19; SIGNAL HALT", "::1"] {
        let (code, said) = run(&["circuits", "kill", bad]);
        assert_eq!(code, 64, "{said}");
    }
    // Nobody but the owner, who the program is only where the tests do not run as root.
    let closed = if rustix::process::getuid().is_root() { 0o600 } else { 0o000 };
    mode(real.path("control"), closed);
    let (code, said) = run(&["tor", "status"]);
    assert!(code == 1 && said.contains("GroupWritable"), "{said}");
    std::fs::write(&config, "").unwrap();
    let (code, said) = run(&["tor", "status"]);
    assert!(code == 64 && said.contains("tor.control"), "{said}");
}

/// A control port that plays tor, for what the real one does not do without a network.
struct PlayedTor {
    dir: tempfile::TempDir,
    says: broadcast::Sender<String>,
    heard: Arc<Mutex<Vec<String>>>,
    /// Its process id: another one is another tor.
    pid: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl PlayedTor {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control")).unwrap();
        let (says, _) = broadcast::channel(4096);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let pid = Arc::new(AtomicU32::new(1));
        let (speaker, ears, pid_now) = (says.clone(), heard.clone(), pid.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (read, mut write) = stream.into_split();
                let mut lines = tokio::io::BufReader::new(read).lines();
                let mut says = speaker.subscribe();
                loop {
                    let answer = tokio::select! {
                        line = lines.next_line() => match line {
                            Ok(Some(line)) => {
                                ears.lock().unwrap().push(line.clone());
                                Self::answer(&line, pid_now.load(Ordering::SeqCst))
                            }
                            _ => break,
                        },
                        Ok(text) = says.recv() => text,
                    };
                    if write.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        Self { dir, says, heard, pid, task }
    }

    fn answer(line: &str, pid: u32) -> String {
        if line == "GETINFO uptime process/pid" {
            return format!("250-uptime=9\r\n250-process/pid={pid}\r\n250 OK\r\n");
        }
        match line {
            "PROTOCOLINFO 1" => "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250 OK\r\n",
            "CLOSECIRCUIT 25" => "650 CIRC 3 BUILT\r\n250 OK\r\n",
            "CLOSECIRCUIT 26" => "552 Unknown circuit \"26\"\r\n",
            "CLOSECIRCUIT 2050955716" => "512 Bad arguments: 2050955716\r\n",
            _ => "250 OK\r\n",
        }
        .to_owned()
    }

    fn config(&self) -> TorConfig {
        let control = Some(ControlAddress::Unix(self.dir.path().join("control")));
        TorConfig { control, ..TorConfig::default() }
    }

    fn say(&self, text: &str) {
        self.says.send(text.to_owned()).unwrap();
    }

    /// Tor tells of circuits only when it was asked to.
    async fn is_asked(&self) {
        let asked = || self.heard.lock().unwrap().iter().any(|line| line == "SETEVENTS CIRC");
        until("circuits are asked for", asked).await;
    }
}

impl Drop for PlayedTor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn of_this_boot(test_gate: &TestGate, address: &str) -> TorCircuit {
    address.parse::<TorCircuit>().unwrap().during(test_gate.app.boot())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_circuit_is_forgotten_and_others_are_not() {
    let played = PlayedTor::start();
    let test_gate = gate(played.config(), None).await;
    up(&test_gate).await;
    played.is_asked().await;
    let mut gone = held_back(&test_gate, ONE).await;
    let mut stays = held_back(&test_gate, TWO).await;
    let mut events = tor(&test_gate).events();
    played.say("650 CIRC 26 CLOSED PURPOSE=HS_SERVICE_INTRO REASON=FINISHED\r\n");
    played.say("650 CIRC 25 CLOSED $A~a PURPOSE=HS_SERVICE_REND REASON=DESTROYED\r\n");
    let event = tokio::time::timeout(BOUND, events.next(tor(&test_gate))).await.unwrap();
    assert_eq!(event, Some(TorEvent::CircuitClosed(of_this_boot(&test_gate, ONE))));
    let started = Instant::now();
    while waits(&mut gone).await {
        assert!(started.elapsed() < BOUND, "the closed circuit is not forgotten");
    }
    assert!(waits(&mut stays).await, "another circuit was forgotten");
    assert_eq!(metric(&test_gate, "fortify_tor_circuits_closed_total").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_falls_behind_loses_closed_circuits_and_no_generation() {
    let played = PlayedTor::start();
    let test_gate = gate(played.config(), None).await;
    up(&test_gate).await;
    played.is_asked().await;
    let mut slow = tor(&test_gate).events();
    let closed = "650 CIRC 7 CLOSED PURPOSE=HS_SERVICE_REND\r\n".repeat(3000);
    played.say(&closed);
    let counted =
        async || metric(&test_gate, "fortify_tor_circuits_closed_total").await.unwrap_or_default();
    until_async("3000 circuits are counted", async || counted().await == "3000").await;
    let mut slower = tor(&test_gate).events();
    let mut next = async || tokio::time::timeout(BOUND, slow.next(tor(&test_gate))).await.unwrap();
    assert!(matches!(next().await, Some(TorEvent::CircuitClosed(_))));

    // Another tor, and then so much that the news of it is lost.
    let first = test_gate.app.boot();
    played.pid.store(2, Ordering::SeqCst);
    played.say("nonsense\r\n");
    until("another tor is met", || tor(&test_gate).is_up() && test_gate.app.boot() != first).await;
    let asked = || {
        let heard = played.heard.lock().unwrap();
        heard.iter().filter(|line| *line == "SETEVENTS CIRC").count() == 2
    };
    until("circuits are asked for again", asked).await;
    played.say(&closed);
    until_async("6000 circuits are counted", async || counted().await == "6000").await;
    let told = tokio::time::timeout(BOUND, slower.next(tor(&test_gate))).await.unwrap();
    assert_eq!(told, Some(TorEvent::NewGeneration(test_gate.app.boot())));
    let told = tokio::time::timeout(BOUND, slower.next(tor(&test_gate))).await.unwrap();
    assert!(matches!(told, Some(TorEvent::CircuitClosed(_))), "the generation was told twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_is_closed_once_and_only_in_its_own_generation() {
    let played = PlayedTor::start();
    let test_gate = gate(played.config(), None).await;
    up(&test_gate).await;
    let close = async |circuit| tor(&test_gate).close_circuit(circuit).await;
    assert!(matches!(close(of_this_boot(&test_gate, ONE)).await, Ok(CloseOutcome::JustClosed)));
    assert!(matches!(close(of_this_boot(&test_gate, TWO)).await, Ok(CloseOutcome::AlreadyClosed)));
    let said = close(of_this_boot(&test_gate, THREE)).await.unwrap_err().to_string();
    assert!(said.contains("512") && !said.contains("2050955716"), "{said}");
    // Another generation's: that number is somebody else's now.
    assert!(matches!(close(ONE.parse().unwrap()).await, Ok(CloseOutcome::AlreadyClosed)));
    let heard = played.heard.lock().unwrap().clone();
    let orders = heard.iter().filter(|line| line.starts_with("CLOSECIRCUIT")).count();
    assert_eq!(orders, 3, "{heard:?}");
    assert!(tor(&test_gate).is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_27_behind_nginx_tor_closes_the_circuit_whose_session_ended_and_no_other() {
    for banned in [false, true] {
        let played = PlayedTor::start();
        let test_gate = TestGate::with(|parts| {
            settings(parts, played.config(), None);
            parts.config.upstream.servers = Vec::new();
        })
        .await;
        up(&test_gate).await;
        let [mut other, mut visitor] =
            [TWO, ONE].map(|circuit| test_gate.visitor().circuit(circuit));
        for one in [&mut other, &mut visitor] {
            let page = one.get("/").await;
            assert!(test_gate.solve(one, &page).await.admits());
            let asked = one.get("/_fortify/auth").await;
            assert_eq!(asked.status, StatusCode::NO_CONTENT);
        }
        let closed = || {
            let heard = played.heard.lock().unwrap();
            let orders = heard.iter().filter(|line| line.starts_with("CLOSECIRCUIT"));
            orders.cloned().collect::<Vec<_>>()
        };
        assert!(closed().is_empty());
        let started = Instant::now();
        if banned {
            let circuit = of_this_boot(&test_gate, ONE);
            let time = Duration::from_secs(1800);
            test_gate.app.engine.set_status(circuit, CircuitStatus::Banned, time).await.unwrap();
        } else {
            let left = visitor.post_form("/api/session/logout", &[]).await;
            assert_eq!(left.status, StatusCode::OK, "the answer does not arrive");
        }
        until("the circuit is closed", || !closed().is_empty()).await;
        println!(
            r#"{{"test":"closed by tor","banned":{banned},"ms":{}}}"#,
            started.elapsed().as_millis()
        );
        // Once, and nobody else's.
        test_gate.app.engine.take_ended_circuits().await.unwrap();
        assert!(test_gate.app.engine.take_ended_circuits().await.unwrap().is_empty());
        assert_eq!(closed(), ["CLOSECIRCUIT 25"]);
        assert_eq!(other.get("/_fortify/auth").await.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_from_the_control_port_degrades_the_gate_and_no_more() {
    let played = PlayedTor::start();
    let test_gate = gate(played.config(), None).await;
    up(&test_gate).await;
    for nonsense in ["HTTP/1.1 400 Bad Request\r\n".to_owned(), "6".repeat(200_000)] {
        let watched = test_gate.app.boot();
        let lost = played.says.receiver_count();
        assert_eq!(lost, 1);
        played.say(&nonsense);
        let heard = played.heard.clone();
        let asked = heard.lock().unwrap().iter().filter(|line| *line == "SETEVENTS CIRC").count();
        // It connects again, and finds the same tor.
        until("it connects again", || {
            heard.lock().unwrap().iter().filter(|line| *line == "SETEVENTS CIRC").count() > asked
        })
        .await;
        assert_eq!(up(&test_gate).await, watched);
        assert_eq!(ready(&test_gate).await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_tor_close_a_circuit_that_was_seen_and_learns_no_number() {
    let played = PlayedTor::start();
    let test_gate = TestGate::with(|parts| {
        settings(parts, played.config(), None);
        parts.config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    up(&test_gate).await;
    let who =
        Principal { name: "test".to_owned(), role: Role::Admin, auth_method: AuthMethod::File };
    let (expires, entropy) =
        (NOW.after(Duration::from_secs(3600)), test_gate.app.engine.entropy().clone());
    let accounts = test_gate.admin.as_ref().unwrap().accounts.clone();
    let token = accounts.add_token(&who, Role::Operator, "", NOW, expires, &*entropy).unwrap();
    let mut operator = Visitor::at(test_gate.admin_address.unwrap());
    let bearer = format!("Bearer {}", token.text.expose());
    operator.headers.insert("authorization", bearer.parse().unwrap());
    for (circuit, expected) in [(ONE, Some(true)), (TWO, Some(false)), (THREE, None)] {
        test_gate.visitor().circuit(circuit).get("/").await;
        let seen = operator.get("/admin/api/v1/circuits?which=seen&limit=10").await.json();
        let names = seen["circuits"].as_array().unwrap();
        let mut killed = Vec::new();
        for name in names.iter().map(|it| it["circuit"].as_str().unwrap()) {
            let path = format!("/admin/api/v1/circuits/{name}/kill");
            let reply = operator.post_json(&path, &serde_json::json!({"reason": "test"})).await;
            assert!(!reply.text().contains("2050955716"), "{}", reply.text());
            killed.push(reply.json()["closed"].as_bool());
        }
        assert!(killed.contains(&expected), "{circuit}: {killed:?}");
    }
    let heard = played.heard.lock().unwrap().clone();
    assert!(heard.iter().any(|line| line == "CLOSECIRCUIT 25"), "{heard:?}");
}

/// A gate that reads the metrics port at `address`.
async fn reading(address: SocketAddr) -> TestGate {
    TestGate::with(|parts| parts.config.tor.metrics_address = Some(address)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tors_own_figures_are_read_from_the_real_tor() {
    let address = free_address();
    // Tor opens no metrics port without a network: its network is an authority that nobody runs.
    let mut real = RealTor::new(|dir| {
        format!(
            "ControlSocket {0}/control\nDisableNetwork 0\nMetricsPort {address}\n\
             MetricsPortPolicy accept 127.0.0.1\nHiddenServiceDir {0}/site\nHiddenServicePort 80 127.0.0.1:9\n\
             HiddenServicePoWDefensesEnabled 1\n\
             DirAuthority none orport=9 127.0.0.1:9 0000000000000000000000000000000000000000",
            dir.display()
        )
    })
    .started()
    .await;
    until_async("tor's metrics port", || async { figures::read(address).await.is_ok() }).await;
    names_are_known(address).await;
    assert_eq!(figures::read(address).await.unwrap(), TorFigures::default());

    let test_gate = reading(address).await;
    let port = test_gate.app.tor_metrics.clone().expect("tor.metrics_address is set");
    until("the figures are read", || port.is_up()).await;
    assert_eq!(ready(&test_gate).await.json()["tor_metrics"], "ok");
    assert_eq!(metric(&test_gate, "fortify_tor_metrics_up").await.as_deref(), Some("1"));
    assert_eq!(metric(&test_gate, "fortify_tor_pow_suggested_effort").await.as_deref(), Some("0"));

    real.kill();
    let error = figures::read(address).await.unwrap_err().to_string();
    assert!(error.contains(&format!("MetricsPort {address}")), "{error}");
    test_gate.stop().await;
}

/// That the metrics port has every figure under the name by which it is looked for: one that is missing reads as 0.
async fn names_are_known(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let (mut text, mut part) = (String::new(), [0; 4096]);
    let names = [
        "\ntor_hs_pow_suggested_effort{",
        "\ntor_hs_rdv_pow_pqueue_count{",
        "\ntor_hs_intro_rejected_intro_req_count{",
    ];
    // Tor lists them in any order.
    while !names.iter().all(|name| text.contains(name)) {
        let read = tokio::time::timeout(BOUND, stream.read(&mut part)).await;
        let read = read.expect("every name is in the answer").unwrap();
        assert!(read > 0, "the answer ended without a name: {text}");
        text.push_str(&String::from_utf8_lossy(&part[..read]));
    }
}

/// A metrics port that gives `answer` to everybody, and then holds the connection open, as tor does.
async fn metrics_port(answer: impl Into<Vec<u8>>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let (listener, answer) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), answer.into());
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _request = stream.read(&mut [0; 1024]).await;
            let _gone = stream.write_all(&answer).await;
            open.push(stream);
        }
    });
    (address, serving)
}

fn as_of_tor(body: &str) -> String {
    format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metrics_port_that_answers_nonsense_degrades_and_tells_the_dial_nothing() {
    let endless =
        format!("HTTP/1.0 200 OK\r\n\r\n{}", "tor_hs_pow_suggested_effort 9\n".repeat(20_000));
    let cases = [
        ("what no HTTP server says".to_owned() + &"\0".repeat(300_000), "no figures of tor"),
        (as_of_tor("up 1\n"), "no figures of tor"),
        (endless, "no figures of tor"),
        (String::new(), "does not answer"),
    ];
    for (answer, words) in cases {
        let (address, serving) = metrics_port(answer).await;
        let said = figures::read(address).await.unwrap_err().to_string();
        assert!(said.contains(words) && said.contains("tor.metrics_address"), "{said}");
        serving.abort();
    }

    let (address, serving) = metrics_port(as_of_tor("up 1\n")).await;
    let test_gate = reading(address).await;
    let reply = ready(&test_gate).await;
    assert_eq!(
        (reply.status, reply.json()["tor_metrics"].clone()),
        (StatusCode::OK, "degraded".into())
    );
    assert_eq!(metric(&test_gate, "fortify_tor_metrics_up").await.as_deref(), Some("0"));
    serving.abort();
    test_gate.stop().await;

    let without = TestGate::start().await;
    assert!(ready(&without).await.json().get("tor_metrics").is_none());
    assert_eq!(metric(&without, "fortify_tor_metrics_up").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tor_holds_back_reaches_the_dial_and_turns_nothing_by_itself() {
    let body = "tor_hs_pow_suggested_effort{onion=\"a\"} 12\ntor_hs_rdv_pow_pqueue_count{onion=\"a\"} 300\n";
    let (address, serving) = metrics_port(as_of_tor(body)).await;
    let test_gate = reading(address).await;
    let port = test_gate.app.tor_metrics.clone().expect("tor.metrics_address is set");
    until("the figures are read", || port.is_up()).await;
    assert_eq!(metric(&test_gate, "fortify_tor_pow_suggested_effort").await.as_deref(), Some("12"));
    assert_eq!(metric(&test_gate, "fortify_tor_pow_queue").await.as_deref(), Some("300"));
    let threat = test_gate.app.engine.threat();
    let level = threat.dial().level;
    for _ in 0..12 {
        threat.sample().await;
    }
    let verdict = threat.verdict().to_string();
    assert!(verdict.starts_with("busy (tor: proof of work of effort 12, 300 "), "{verdict}");
    assert_eq!(threat.dial().level, level);
    serving.abort();
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_loses_its_slot_reaches_the_dial() {
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.server.proxy_protocol = true;
        parts.config.server.max_connections = 4;
    })
    .await;
    let signals = test_gate.app.engine.threat().signals();
    assert!(!signals.sample(0).is_strained());
    let mut held = Vec::new();
    // One more each time, because the dial takes samples of its own meanwhile.
    until("a connection that lost its slot is counted", || {
        held.push(std::net::TcpStream::connect(test_gate.address).unwrap());
        let sample = signals.sample(0);
        sample.turned_away > 0 && sample.is_strained()
    })
    .await;
    assert!(held.len() > 4, "cut while slots were free");
    drop(held);
    test_gate.stop().await;
}

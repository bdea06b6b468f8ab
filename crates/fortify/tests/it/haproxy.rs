//! A real `HAProxy` over the shipped configuration, between a visitor that speaks as tor does and a
//! running gate.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use fortify_core::circuit::{IdentityMode, TorCircuit};
use fortify_core::clock::{Clock as _, Timestamp};
use fortify_haproxy::client::Endpoint;
use fortify_reputation::{CircuitStatus, StatusReason};
use fortify_store::record::Session;
use fortify_testkit::wait::{PATIENCE, eventually, until_ok};
use fortify_testkit::{Parts, Reply, TestGate};
use hyper_util::rt::TokioIo;

/// The configuration that operators get.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/haproxy.cfg");

/// How many the requirement has in the table within 2 s.
const MANY: u32 = 10_000;

/// Less than the minute after which the whole table is compared anyway: what is told because a process is
/// new has been told by then.
const BEFORE_THE_MINUTE: Duration = Duration::from_secs(40);

/// What a visitor may take for something, long enough for a test that counts what is held meanwhile, however slow its
/// machine is.
const PATIENT: [(&str, &str); 6] = [
    ("timeout client 30s", "timeout client 10m"),
    ("timeout http-request 10s", "timeout http-request 10m"),
    ("timeout http-keep-alive 15s", "timeout http-keep-alive 10m"),
    ("timeout queue 10s", "timeout queue 10m"),
    ("wait-for-body time 10s", "wait-for-body time 10m"),
    ("wait-for-body time 30s", "wait-for-body time 10m"),
];

/// Debian installs it where only root looks.
fn program() -> &'static str {
    let debian = "/usr/sbin/haproxy";
    if Path::new(debian).exists() { debian } else { "haproxy" }
}

fn circuit(number: u32) -> TorCircuit {
    TorCircuit::from_parts(0, 0, number)
}

/// Ports that nobody has, as far as can be known.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A `HAProxy` of one's own. Ended, by its id, when dropped.
struct Haproxy {
    dir: tempfile::TempDir,
    ingress: SocketAddr,
    peers: u16,
    backend: SocketAddr,
    config: PathBuf,
    processes: Vec<Child>,
}

impl Haproxy {
    /// One that is not running yet.
    fn prepare(backend: SocketAddr) -> Self {
        let [ingress, peers] = free_ports();
        let (dir, ingress) = (tempfile::tempdir().unwrap(), ([127, 0, 0, 1], ingress).into());
        Self { dir, ingress, peers, backend, config: SHIPPED.into(), processes: Vec::new() }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("fortify.sock")
    }

    fn spawn(&mut self, args: &[&str]) {
        let child = Command::new(program())
            .args(["-db", "-f"])
            .arg(&self.config)
            .args(args)
            .env("FORTIFY_INGRESS", self.ingress.to_string())
            .env("FORTIFY_BACKEND", self.backend.to_string())
            .env("FORTIFY_STATS_SOCKET", self.socket())
            .env("FORTIFY_PEERS_BIND", format!("127.0.0.1:{}", self.peers))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy is installed: run scripts/setup.sh test");
        self.processes.push(child);
    }

    async fn start(&mut self) {
        self.spawn(&[]);
        eventually("haproxy answers", || {
            // It ends if somebody else has one of its ports for a moment.
            if self.processes.last_mut().unwrap().try_wait().unwrap().is_some() {
                self.processes.pop();
                self.spawn(&[]);
            }
            info(&self.socket()).is_some()
        })
        .await;
    }

    /// Another process takes over from the one that runs, and that one ends when it is done.
    async fn reload(&mut self) {
        let before = self.processes.last().unwrap().id().to_string();
        self.spawn(&["-sf", &before]);
        let pid = self.processes.last().unwrap().id();
        eventually("the new process answers", || info(&self.socket()) == Some(pid)).await;
    }

    /// Waits until of all processes only the last is left.
    async fn old_ones_end(&mut self) {
        let (_last, old) = self.processes.split_last_mut().unwrap();
        eventually("the processes before have ended", || {
            old.iter_mut().all(|process| process.try_wait().unwrap().is_some())
        })
        .await;
    }

    fn kill(&mut self) {
        for mut process in self.processes.drain(..) {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// `gpc0` of a circuit; `None` without an entry.
    fn gpc0(&self, number: u32) -> Option<u32> {
        let key = circuit(number).address();
        let answer = ask(&self.socket(), &format!("show table tor_ingress key {key}\n"))?;
        answer.split("gpc0=").nth(1)?.split([' ', '\n']).next()?.parse().ok()
    }

    /// `gpc1` of a circuit; `None` without an entry.
    fn gpc1(&self, number: u32) -> Option<u32> {
        let key = circuit(number).address();
        let answer = ask(&self.socket(), &format!("show table tor_ingress key {key}\n"))?;
        answer.split("gpc1=").nth(1)?.split([' ', '\n']).next()?.parse().ok()
    }

    /// How many of so many requests in a row are refused for their rate.
    async fn refused_of(&self, number: u32, requests: usize) -> usize {
        let mut refused = 0;
        for _ in 0..requests {
            let reply = self.request(number, Method::GET, "/health", "").await.unwrap();
            refused += usize::from(reply.status == StatusCode::TOO_MANY_REQUESTS);
        }
        refused
    }

    /// How many entries are banned.
    fn banned(&self) -> usize {
        let answer = ask(&self.socket(), "show table tor_ingress data.gpc0 eq 2\n");
        answer.map_or(0, |answer| answer.matches("key=").count())
    }

    async fn gpc0_becomes(&self, number: u32, value: u32) {
        let what = format!("gpc0 is {value}");
        eventually(&what, || self.gpc0(number) == Some(value)).await;
    }

    /// A request as tor hands it over: a PROXY line, then what the visitor sends. `None` when the
    /// connection is closed instead.
    async fn request(&self, number: u32, method: Method, path: &str, body: &str) -> Option<Reply> {
        let mut connection = self.connect(number).await?;
        let (status, headers, body) = connection.send(method, path, body).await?;
        Some(Reply { status, headers, body })
    }

    /// With some of the shipped numbers replaced by others.
    fn with(mut self, numbers: &[(&str, &str)]) -> Self {
        let mut text = std::fs::read_to_string(&self.config).unwrap();
        for (shipped, other) in numbers {
            assert!(text.contains(shipped), "{shipped}");
            text = text.replace(shipped, other);
        }
        self.config = self.dir.path().join("haproxy.cfg");
        std::fs::write(&self.config, text).unwrap();
        self
    }

    /// A connection that was sent so much, and that nothing is read from.
    async fn hold(&self, number: u32, sent: &str) -> tokio::net::TcpStream {
        use tokio::io::AsyncWriteExt as _;
        let mut stream = tokio::net::TcpStream::connect(self.ingress).await.unwrap();
        let line = format!("PROXY TCP6 {} ::1 1 80\r\n{sent}", circuit(number).address());
        stream.write_all(line.as_bytes()).await.unwrap();
        stream
    }

    /// How many connections the circuits hold that are not trusted.
    fn held_by_strangers(&self) -> usize {
        let answer = ask(&self.socket(), "show table strangers_in_all\n").unwrap();
        let count = answer.split("conn_cur=").nth(1);
        count.map_or(0, |count| count.split_whitespace().next().unwrap().parse().unwrap())
    }

    /// What a circuit gets at `/health`; `None` when it is refused.
    async fn visit(&self, number: u32) -> Option<StatusCode> {
        Some(self.request(number, Method::GET, "/health", "").await?.status)
    }

    fn trust(&self, number: u32) {
        let line = format!("set table tor_ingress key {} data.gpc0 1\n", circuit(number).address());
        assert_eq!(ask(&self.socket(), &line).unwrap(), "\n");
    }

    async fn connect(&self, number: u32) -> Option<Through> {
        use tokio::io::AsyncWriteExt as _;
        let mut stream = tokio::net::TcpStream::connect(self.ingress).await.ok()?;
        let (high, low) = (number >> 16, number & 0xffff);
        // Tor's own spelling, which is not the canonical one.
        let line = format!("PROXY TCP6 fc00:dead:beef:4dad::{high:x}:{low:x} ::1 {low} 80\r\n");
        stream.write_all(line.as_bytes()).await.ok()?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(Through { sender })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ended_already = process.kill();
            let _ended_already = process.wait();
        }
    }
}

/// One connection through `HAProxy`.
struct Through {
    sender: hyper::client::conn::http1::SendRequest<Body>,
}

impl Through {
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Option<(StatusCode, HeaderMap, Vec<u8>)> {
        use http_body_util::BodyExt as _;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "abc.onion")
            .header("origin", "http://abc.onion")
            // Forged, in the spellings that servers take for it.
            .header("x-circuit-id", "fc00:dead:beef:4dad::bad")
            .header("x_circuit_id", "fc00:dead:beef:4dad::bad")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = tokio::time::timeout(PATIENCE, self.sender.send_request(request));
        let (parts, body) = response.await.expect("no answer in time").ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes().to_vec();
        Some((parts.status, parts.headers, body))
    }
}

/// What the Runtime API answers to one line.
fn ask(socket: &Path, line: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(line.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The id of the process that answers.
fn info(socket: &Path) -> Option<u32> {
    let answer = ask(socket, "show info\n")?;
    answer.lines().find_map(|line| line.strip_prefix("Pid: "))?.parse().ok()
}

/// A gate that tells the `HAProxy` in front of it.
async fn stack() -> (TestGate, Haproxy) {
    let [port] = free_ports();
    let haproxy = Haproxy::prepare(([127, 0, 0, 1], port).into());
    let socket = haproxy.socket();
    let test_gate = TestGate::with(|parts: &mut Parts| {
        parts.config.server.port = port;
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.security.max_captcha_failures = 5;
        parts.config.haproxy.endpoint = Some(Endpoint::Unix(socket));
    })
    .await;
    (test_gate, haproxy)
}

fn in_half_an_hour(test_gate: &TestGate) -> Timestamp {
    test_gate.clock.now().after(Duration::from_secs(1800))
}

/// The circuits from 1 to [`MANY`], banned, as fast as the disk takes them.
async fn ban_many(test_gate: &TestGate) {
    let until = in_half_an_hour(test_gate);
    let bans: Vec<_> = (1..=MANY)
        .map(|number| {
            let reputation = test_gate.app.engine.parts().reputation.clone();
            tokio::spawn(async move {
                reputation.ban(circuit(number), until, StatusReason::Failures).await.unwrap();
            })
        })
        .collect();
    for ban in bans {
        ban.await.unwrap();
    }
}

async fn haproxy_is(test_gate: &TestGate, word: &str) {
    until_ok(&format!("haproxy is {word}"), async || {
        let ready = test_gate.visitor().get("/ready").await;
        assert_eq!(ready.status, StatusCode::OK, "requests go on, so the gate is ready");
        if ready.json()["haproxy"] == word { Ok(()) } else { Err(ready.text()) }
    })
    .await;
}

fn answer_form(page: &Reply, answer: &str) -> String {
    let fields = fortify_testkit::fields(&[("token", &page.field("token")), ("answer", answer)]);
    fortify_testkit::form(&fields)
}

#[test]
fn the_shipped_configuration_is_valid() {
    let checked = Command::new(program()).args(["-c", "-f", SHIPPED]).output();
    let checked = checked.expect("haproxy is installed: run scripts/setup.sh test");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && !said.contains("WARNING"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_solves_is_trusted_and_one_that_guesses_is_refused() {
    let (test_gate, mut haproxy) = stack().await;
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;

    let page = haproxy.request(0x19, Method::GET, "/", "").await.unwrap();
    assert!(page.is_challenge());
    let answer = test_gate.answer(&page.field("token")).await;
    let form = answer_form(&page, &answer);
    let solved = haproxy.request(0x19, Method::POST, "/validate-captcha", &form).await.unwrap();
    assert!(solved.admits(), "{}", solved.text());
    let started = Instant::now();
    haproxy.gpc0_becomes(0x19, 1).await;
    println!("trust is in the table {:?} after the answer", started.elapsed());

    // Held open from before the ban.
    let mut open = haproxy.connect(0x2_001a).await.unwrap();
    assert!(open.send(Method::GET, "/", "").await.is_some());
    for failure in 1..=5 {
        let page = haproxy.request(0x2_001a, Method::GET, "/", "").await.unwrap();
        let form = answer_form(&page, "NO");
        let wrong = haproxy.request(0x2_001a, Method::POST, "/validate-captcha", &form).await;
        let expected =
            if failure < 5 { StatusCode::FORBIDDEN } else { StatusCode::TOO_MANY_REQUESTS };
        assert_eq!(wrong.unwrap().status, expected);
    }
    let started = Instant::now();
    haproxy.gpc0_becomes(0x2_001a, 2).await;
    println!("a ban is in the table {:?} after the answer", started.elapsed());
    assert!(haproxy.request(0x2_001a, Method::GET, "/", "").await.is_none(), "not refused");
    assert!(open.send(Method::GET, "/", "").await.is_none(), "an open connection goes on");
    assert!(haproxy.request(0x1b, Method::GET, "/", "").await.is_some(), "another is refused");

    let (until, reason) = (in_half_an_hour(&test_gate), StatusReason::Operator);
    let banned = circuit(0x2_001a);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .set(banned, CircuitStatus::Normal, until, reason)
        .await
        .unwrap();
    haproxy.gpc0_becomes(0x2_001a, 0).await;
    let back = haproxy.request(0x2_001a, Method::GET, "/", "").await.unwrap();
    assert!(back.is_challenge(), "who was forgiven has to wait: {}", back.text());
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_the_table_follows_a_session_that_moves_and_one_that_ends() {
    let (test_gate, mut haproxy) = stack().await;
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    let on = |visitor: &fortify_testkit::Visitor, number| {
        visitor.clone().circuit(&circuit(number).address().to_string())
    };
    let mut visitor = on(&test_gate.visitor(), 0x31);
    let page = visitor.get("/").await;
    assert!(test_gate.solve(&mut visitor, &page).await.admits());
    haproxy.gpc0_becomes(0x31, 1).await;
    let started = Instant::now();
    let mut moved = on(&visitor, 0x32);
    assert_eq!(moved.get("/").await.status, StatusCode::OK);
    haproxy.gpc0_becomes(0x31, 0).await;
    println!(
        "trust of the circuit that was left is out of the table after {:?}",
        started.elapsed()
    );
    haproxy.gpc0_becomes(0x32, 1).await;
    let started = Instant::now();
    let session = test_gate.app.engine.read_session(&moved.cookies["cerberus_session"]).unwrap();
    test_gate.app.engine.revoke(&session).await.unwrap();
    haproxy.gpc0_becomes(0x32, 0).await;
    println!("trust of a revoked session is out of the table after {:?}", started.elapsed());
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_22_haproxy_is_strict_with_those_who_answer_like_programs_for_a_while() {
    let (test_gate, haproxy) = stack().await;
    // However long the requests of this test take, they are counted together.
    let mut haproxy = haproxy.with(&[("rate(10s)", "rate(10m)")]);
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    let until = in_half_an_hour(&test_gate);
    let [suspect, trusted, person, plain] = [1, 2, 3, 4];
    for number in [trusted, person] {
        test_gate
            .app
            .engine
            .parts()
            .reputation
            .trust(circuit(number), Session::sample(1, until), until)
            .await
            .unwrap();
    }
    for number in [suspect, trusted] {
        test_gate.app.engine.parts().reputation.penalise(circuit(number), until);
        eventually("it has its strikes", || haproxy.gpc1(number) == Some(10)).await;
    }
    assert_eq!(haproxy.gpc0(trusted), Some(1), "a penalty ends no trust");
    assert_eq!(haproxy.refused_of(suspect, 40).await, 10);
    assert_eq!(haproxy.refused_of(plain, 40).await, 0);
    assert_eq!(haproxy.refused_of(trusted, 110).await, 10);
    assert_eq!(haproxy.refused_of(person, 110).await, 0);

    // A right answer does not clear what HAProxy itself counted; an operator's reset does.
    let struck = 5;
    let key = circuit(struck).address();
    let set = format!("set table tor_ingress key {key} data.gpc1 12\n");
    assert!(ask(&haproxy.socket(), &set).is_some());
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .trust(circuit(struck), Session::sample(1, until), until)
        .await
        .unwrap();
    haproxy.gpc0_becomes(struck, 1).await;
    assert_eq!(haproxy.gpc1(struck), Some(12), "an answer takes strikes away");
    let (status, reason) = (CircuitStatus::Normal, StatusReason::Operator);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .set(circuit(struck), status, until, reason)
        .await
        .unwrap();
    eventually("it is forgiven", || haproxy.gpc1(struck) == Some(0)).await;

    // A process that knows nothing is told.
    haproxy.kill();
    haproxy.start().await;
    eventually("it has them again", || haproxy.gpc1(suspect) == Some(10)).await;
    test_gate.app.engine.parts().reputation.lift_penalty(circuit(trusted));
    eventually("its strikes are gone", || haproxy.gpc1(trusted) == Some(0)).await;
    test_gate.clock.set(until);
    eventually("a penalty ends by itself", || haproxy.gpc1(suspect) == Some(0)).await;
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_ends_in_the_table_when_it_ends() {
    let (test_gate, mut haproxy) = stack().await;
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    let until = in_half_an_hour(&test_gate);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .ban(circuit(7), until, StatusReason::Failures)
        .await
        .unwrap();
    haproxy.gpc0_becomes(7, 2).await;
    test_gate.clock.set(until);
    haproxy.gpc0_becomes(7, 0).await;
    assert!(haproxy.request(7, Method::GET, "/", "").await.unwrap().is_challenge());
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_03_what_a_former_tors_circuit_had_is_taken_back_and_its_successors_ban_stays() {
    let (test_gate, mut haproxy) = stack().await;
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    let (reputation, until) =
        (&test_gate.app.engine.parts().reputation, in_half_an_hour(&test_gate));
    let before = |number| TorCircuit::from_parts(0, 1, number);
    let after = |number| TorCircuit::from_parts(0, 2, number);
    for number in [7, 8] {
        reputation.ban(before(number), until, StatusReason::Failures).await.unwrap();
        haproxy.gpc0_becomes(number, 2).await;
    }
    reputation.ban(after(7), until, StatusReason::Failures).await.unwrap();
    // Late: the successor of one is banned already.
    for number in [7, 8] {
        reputation
            .set(before(number), CircuitStatus::Normal, until, StatusReason::Closed)
            .await
            .unwrap();
    }
    haproxy.gpc0_becomes(8, 0).await;
    assert_eq!(haproxy.gpc0(7), Some(2), "a ban was taken back with that of another circuit");
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_27_ten_thousand_bans_are_told_at_once_and_again_to_every_process_that_follows() {
    let (test_gate, mut haproxy) = stack().await;
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    let all = MANY as usize;

    let started = Instant::now();
    ban_many(&test_gate).await;
    let acknowledged = started.elapsed();
    eventually("all bans are in the table", || haproxy.banned() == all).await;
    let told = started.elapsed();
    println!("10,000 bans: acknowledged in {acknowledged:?}, in the table in {told:?}");
    assert_eq!(test_gate.app.engine.parts().reputation.lag(), Duration::ZERO);

    haproxy.kill();
    haproxy_is(&test_gate, "degraded").await;
    let started = Instant::now();
    haproxy.start().await;
    let answers = started.elapsed();
    eventually("all are back", || haproxy.banned() == all).await;
    println!(
        "killed and started: it answers after {answers:?}, all back after {:?}",
        started.elapsed()
    );

    let started = Instant::now();
    haproxy.reload().await;
    let answers = started.elapsed();
    eventually("all are back", || haproxy.banned() == all).await;
    println!("reloaded: it answers after {answers:?}, all back after {:?}", started.elapsed());
    haproxy_is(&test_gate, "ok").await;
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_20_no_ban_of_those_that_come_during_a_reload_is_lost() {
    let (test_gate, mut haproxy) = stack().await;
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    let until = in_half_an_hour(&test_gate);
    let reputation = test_gate.app.engine.parts().reputation.clone();
    // One after the other, from before the reload until after it.
    let (made, enough) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (counter, end) = (made.clone(), enough.clone());
    let bans = tokio::spawn(async move {
        while !end.load(Ordering::SeqCst) {
            let number = counter.load(Ordering::SeqCst) + 1;
            reputation.ban(circuit(number), until, StatusReason::Failures).await.unwrap();
            counter.store(number, Ordering::SeqCst);
        }
    });
    let more = async |what: &str| {
        let goal = made.load(Ordering::SeqCst) + 100;
        eventually(what, || made.load(Ordering::SeqCst) >= goal).await;
    };
    more("bans come before the reload").await;
    haproxy.reload().await;
    more("bans come after the reload").await;
    enough.store(true, Ordering::SeqCst);
    bans.await.unwrap();
    let all = made.load(Ordering::SeqCst) as usize;
    let took = eventually("all are there", || haproxy.banned() == all).await;
    println!("{all} bans around a reload: all there {took:?} after the last");
    // And stay, through what the process before teaches: it does so until it ends.
    haproxy.old_ones_end().await;
    eventually("all are still there", || haproxy.banned() == all).await;
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_20_a_connection_held_across_a_reload_hides_no_ban() {
    use std::io::{Read as _, Write as _};
    let (test_gate, mut haproxy) = stack().await;
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    let mut held = UnixStream::connect(haproxy.socket()).unwrap();
    held.set_read_timeout(Some(PATIENCE)).unwrap();
    held.write_all(b"prompt\n").unwrap();
    let mut prompt = [0; 3];
    held.read_exact(&mut prompt).unwrap();
    haproxy.reload().await;
    // It keeps the process before alive, which would still say yes to anything.
    held.write_all(b"show info\n").unwrap();
    let mut said = vec![0; 16 * 1024];
    let length = held.read(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said[..length]).contains("Stopping: 1"));
    let until = in_half_an_hour(&test_gate);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .ban(circuit(9), until, StatusReason::Failures)
        .await
        .unwrap();
    haproxy.gpc0_becomes(9, 2).await;
    assert!(haproxy.request(9, Method::GET, "/", "").await.is_none(), "the ban did not count");
    drop(held);
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_20_without_haproxy_requests_go_on_bans_count_and_it_heals() {
    let (test_gate, mut haproxy) = stack().await;
    // A gate starts as degraded: what it says once it has met one counts.
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    haproxy.kill();
    haproxy_is(&test_gate, "degraded").await;
    let mut visitor = test_gate.visitor().circuit("fc00:dead:beef:4dad::1");
    let page = visitor.get("/").await;
    assert!(test_gate.solve(&mut visitor, &page).await.admits());
    assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    let until = in_half_an_hour(&test_gate);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .ban(circuit(2), until, StatusReason::Failures)
        .await
        .unwrap();
    let mut banned = test_gate.visitor().circuit("fc00:dead:beef:4dad::2");
    for path in ["/", "/_fortify/auth", "/captcha/generate", "/api/captcha-image"] {
        let method = if path == "/captcha/generate" { Method::POST } else { Method::GET };
        let refused = banned.send(method, path, &[], Body::empty()).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!refused.is_challenge());
    }
    test_gate.clock.advance(Duration::from_secs(3));
    let metrics = test_gate.visitor().get("/metrics").await.text();
    for line in [
        "fortify_haproxy_up{} 0",
        // Once for each path.
        "fortify_decisions_total{decision=\"refuse\"} 4",
        "fortify_haproxy_lag_seconds{} 3",
        "fortify_circuit_status{status=\"banned\"} 1",
        "fortify_circuit_status{status=\"vip\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }

    let started = Instant::now();
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    println!("healed {:?} after haproxy was started", started.elapsed());
    haproxy.gpc0_becomes(1, 1).await;
    haproxy.gpc0_becomes(2, 2).await;
    let metrics = test_gate.visitor().get("/metrics").await.text();
    for line in [
        "fortify_haproxy_up{} 1",
        "fortify_haproxy_lag_seconds{} 0",
        "fortify_haproxy_commands_total{outcome=\"ok\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_20_a_process_that_is_new_is_told_everything_at_once_and_not_within_the_minute() {
    let (test_gate, mut haproxy) = stack().await;
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    let until = in_half_an_hour(&test_gate);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .ban(circuit(3), until, StatusReason::Failures)
        .await
        .unwrap();
    haproxy.gpc0_becomes(3, 2).await;
    let start = "set table tor_ingress key fc00:dead:beef:4dad::";
    let write = |haproxy: &Haproxy, line: &str| {
        assert_eq!(ask(&haproxy.socket(), &format!("{line}\n")).unwrap(), "\n");
    };
    let normal = |haproxy: &Haproxy, number| haproxy.gpc0(number).is_none_or(|value| value == 0);
    // The table is compared again soon after a process was told. Once that is done, it is not for a minute,
    // so that nothing but a new process can be the reason below.
    write(&haproxy, &format!("{start}4 data.gpc0 1"));
    eventually("the table is compared for the second time", || normal(&haproxy, 4)).await;

    write(&haproxy, "clear table tor_ingress");
    write(&haproxy, &format!("{start}5 data.gpc0 1"));
    write(&haproxy, &format!("{start}6 data.gpc0 7"));
    let changed = Instant::now();
    haproxy.reload().await;
    haproxy.gpc0_becomes(3, 2).await;
    eventually("unwanted entries are normal", || normal(&haproxy, 5) && normal(&haproxy, 6)).await;
    let took = changed.elapsed();
    assert!(took < BEFORE_THE_MINUTE, "the new process was not told; healed after {took:?}");
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_reaches_the_table_of_a_running_gate() {
    let (test_gate, mut haproxy) = stack().await;
    haproxy.start().await;
    haproxy_is(&test_gate, "ok").await;
    // The command reads the system's clock.
    test_gate.clock.set(fortify_core::clock::SystemClock.now());
    let data_dir = test_gate.app.config.storage.data_dir.clone();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fortify"))
            .arg("circuits")
            .args(args)
            .env("FORTIFY__STORAGE__DATA_DIR", &data_dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let address = "fc00:dead:beef:4dad::2:19";
    let started = Instant::now();
    run(&["ban", address]);
    haproxy.gpc0_becomes(0x2_0019, 2).await;
    println!("banned by the command line and in the table in {:?}", started.elapsed());
    assert!(run(&["show", address]).contains(" banned (operator), 1"));
    let list = run(&["list"]);
    assert!(list.contains("banned") && !list.contains("fc00") && !list.contains("2:19"), "{list}");
    assert!(run(&["list", "--show-circuits"]).contains(address));
    run(&["promote", address, "--seconds", "90"]);
    haproxy.gpc0_becomes(0x2_0019, 1).await;
    run(&["reset", "fc00:dead:beef:4dad::0002:0019"]);
    haproxy.gpc0_becomes(0x2_0019, 0).await;
    assert!(run(&["show", address]).ends_with(" normal\n"));
    assert_eq!(run(&["list"]).lines().count(), 1, "a reset is listed");
    test_gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_there_is_degraded_and_not_down() {
    // The shipped configuration but for the table's name, so that there is one to be lost.
    let shipped = std::fs::read_to_string(SHIPPED).unwrap();
    let renamed = shipped.replace("tor_ingress", "another");
    assert_ne!(shipped, renamed);
    let mut haproxy = Haproxy::prepare(([127, 0, 0, 1], 9).into());
    let config = haproxy.dir.path().join("another.cfg");
    std::fs::write(&config, renamed).unwrap();
    haproxy.config = config.clone();
    haproxy.start().await;
    let socket = haproxy.socket();
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.haproxy.endpoint = Some(Endpoint::Unix(socket));
        parts.config.haproxy.table = "another".parse().unwrap();
    })
    .await;
    haproxy_is(&test_gate, "ok").await;
    haproxy.config = SHIPPED.into();
    haproxy.reload().await;
    haproxy.old_ones_end().await;
    haproxy_is(&test_gate, "degraded").await;
    let until = in_half_an_hour(&test_gate);
    test_gate
        .app
        .engine
        .parts()
        .reputation
        .ban(circuit(2), until, StatusReason::Failures)
        .await
        .unwrap();
    assert_eq!(
        test_gate.app.engine.parts().reputation.status(circuit(2)),
        Some(CircuitStatus::Banned)
    );
    test_gate.clock.advance(Duration::from_secs(3));
    let metrics = test_gate.visitor().get("/metrics").await.text();
    assert!(metrics.contains("fortify_haproxy_lag_seconds{} 3"), "{metrics}");
    // With the table it is well again.
    haproxy.config = config;
    haproxy.reload().await;
    haproxy_is(&test_gate, "ok").await;
    test_gate.stop().await;
}

/// Something behind `HAProxy` where a request for `/hold` waits for ever, and how many do.
async fn holding() -> (SocketAddr, Arc<AtomicU32>) {
    let held = Arc::new(AtomicU32::new(0));
    let count = held.clone();
    let hold = axum::routing::any(move || {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<StatusCode>()
    });
    // The body is read: closing with bytes unread would reset the connection, and the answer could be lost with it.
    let here = |_: axum::body::Bytes| async { "here" };
    let router = axum::Router::new().route("/hold", hold).fallback(here);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_a_circuit_holds_as_many_connections_as_a_browser_needs_and_no_more() {
    let (behind, _held) = holding().await;
    let mut haproxy = Haproxy::prepare(behind).with(&PATIENT);
    haproxy.start().await;
    // Tabs with their pictures and sockets, all on one circuit.
    let mut shared = Vec::new();
    for _ in 0..32 {
        let mut connection = haproxy.connect(1).await.unwrap();
        assert!(connection.send(Method::GET, "/", "").await.is_some());
        shared.push(connection);
    }
    assert_eq!(haproxy.visit(1).await, None, "a 33rd");
    assert_eq!(haproxy.visit(2).await, Some(StatusCode::OK), "another circuit");
    for connection in &mut shared {
        assert!(connection.send(Method::GET, "/", "").await.is_some(), "an older one was cut");
    }
    drop(shared.pop());
    fortify_testkit::wait::until("there is room for another", async || {
        haproxy.visit(1).await == Some(StatusCode::OK)
    })
    .await;
    // Trust lifts no limit of this kind.
    haproxy.trust(3);
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(haproxy.hold(3, "GET").await);
    }
    eventually("they are held", || {
        let key = circuit(3).address();
        let entry = ask(&haproxy.socket(), &format!("show table tor_ingress key {key}\n"));
        entry.unwrap().contains("conn_cur=32")
    })
    .await;
    assert_eq!(haproxy.visit(3).await, None, "a trusted circuit's 33rd");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_bodies_that_crawl_hold_no_slot() {
    let (behind, held) = holding().await;
    let mut haproxy =
        Haproxy::prepare(behind).with(&PATIENT).with(&[("maxconn 2000", "maxconn 5")]);
    haproxy.start().await;
    let mut slow = Vec::new();
    for (number, path) in (10..20).zip(["/validate-captcha", "/hold"].into_iter().cycle()) {
        for _ in 0..30 {
            let post =
                format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\nx=");
            slow.push(haproxy.hold(number, &post).await);
        }
    }
    eventually("300 forms are under way", || haproxy.held_by_strangers() == 300).await;
    haproxy.trust(1);
    for number in 1..=5 {
        let page = haproxy.request(number, Method::GET, "/", "").await.unwrap();
        assert_eq!(page.status, StatusCode::OK);
        // Who sends theirs as it comes is not waited for.
        let form = "x".repeat(50_000);
        let sent = haproxy.request(number, Method::POST, "/validate-captcha", &form).await;
        assert_eq!(sent.unwrap().status, StatusCode::OK);
    }
    assert_eq!(held.load(Ordering::SeqCst), 0, "a body that was not whole went on");
    assert!(haproxy.held_by_strangers() >= 300, "they were not held meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_trusted_circuits_keep_half_of_the_slots() {
    let (behind, held) = holding().await;
    let mut haproxy =
        Haproxy::prepare(behind).with(&PATIENT).with(&[("maxconn 2000", "maxconn 4")]);
    haproxy.start().await;
    let hold = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut waiting = Vec::new();
    for number in 10..18 {
        waiting.push(haproxy.hold(number, hold).await);
    }
    eventually("the strangers' half is taken", || held.load(Ordering::SeqCst) == 4).await;
    haproxy.trust(1);
    assert_eq!(haproxy.visit(1).await, Some(StatusCode::OK));
    // And as little can the trusted keep strangers out.
    drop(waiting);
    let mut trusted = Vec::new();
    for number in 20..28 {
        haproxy.trust(number);
        trusted.push(haproxy.hold(number, hold).await);
    }
    fortify_testkit::wait::until("a stranger is served", async || {
        haproxy.visit(2).await == Some(StatusCode::OK)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_many_circuits_that_dawdle_shut_nobody_out() {
    let (behind, _held) = holding().await;
    let smaller = [("gt 4500", "gt 45"), ("gt 6000", "gt 60")];
    let mut haproxy = Haproxy::prepare(behind).with(&PATIENT).with(&smaller);
    haproxy.start().await;
    let mut held = Vec::new();
    for number in 100..140 {
        held.push(haproxy.hold(number, "GET / HT").await);
    }
    for _ in 0..6 {
        held.push(haproxy.hold(1, "GET / HT").await);
    }
    eventually("46 are held", || haproxy.held_by_strangers() == 46).await;
    assert_eq!(haproxy.visit(1).await, None, "more than a browser's, when there are few left");
    assert_eq!(haproxy.visit(2).await, Some(StatusCode::OK), "a newcomer");
    for number in 200..214 {
        held.push(haproxy.hold(number, "GET / HT").await);
    }
    eventually("60 are held", || haproxy.held_by_strangers() == 60).await;
    assert_eq!(haproxy.visit(3).await, None, "the share of those who are not trusted is used up");
    haproxy.trust(4);
    assert_eq!(haproxy.visit(4).await, Some(StatusCode::OK), "a trusted circuit");
    held.truncate(50);
    fortify_testkit::wait::until("a newcomer is served again", async || {
        haproxy.visit(3).await == Some(StatusCode::OK)
    })
    .await;
}

//! The whole way: a client of tor, a network of its own, the onion service, `HAProxy`, nginx, the gate
//! and the service. `make test-tor` starts the network and runs these; by themselves they are left out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use fortify_config::ControlAddress;
use fortify_core::circuit::{CircuitId, IdentityMode, TorCircuit};
use fortify_core::clock::{Clock as _, SystemClock};
use fortify_haproxy::client::Endpoint;
use fortify_reputation::{CircuitStatus, StatusReason};
use fortify_testkit::servers::{Haproxy, Nginx, check, free_address};
use fortify_testkit::wait::eventually as until;
use fortify_testkit::{Reply, TestGate, Visitor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The bound of every wait.
const BOUND: Duration = Duration::from_secs(60);

/// What Tor Browser says of itself when it opens a page.
const BROWSER: [(&str, &str); 6] = [
    ("user-agent", "Mozilla/5.0 (Windows NT 10.0; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("upgrade-insecure-requests", "1"),
];

/// The onion service and all behind it.
struct Site {
    test_gate: TestGate,
    haproxy: Haproxy,
    _nginx: Nginx,
    onion: String,
    socks: SocketAddr,
    control: PathBuf,
}

fn told(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `make test-tor`"))
}

impl Site {
    /// Puts a gate where the network's onion service sends its visitors.
    async fn start() -> Self {
        let (ingress, nginx) = (told("FORTIFY_TEST_INGRESS").parse().unwrap(), free_address());
        let haproxy = Haproxy::start_at(ingress, nginx);
        let control = PathBuf::from(told("FORTIFY_TEST_CONTROL"));
        let test_gate = TestGate::with(|parts| {
            parts.config.security.identity = IdentityMode::Circuit;
            parts.config.security.max_captcha_failures = 5;
            parts.config.upstream.servers = Vec::new();
            parts.config.haproxy.endpoint = Some(Endpoint::Unix(haproxy.socket.clone()));
            parts.config.tor.control = Some(ControlAddress::Unix(control.clone()));
        })
        .await;
        // The command line reads the system's clock.
        test_gate.clock.set(SystemClock.now());
        let nginx = Nginx::start_at(nginx, test_gate.address, test_gate.site.address());
        until("HAProxy knows of nginx", || haproxy.is_served()).await;
        let onion = told("FORTIFY_TEST_ONION");
        let socks = told("FORTIFY_TEST_SOCKS").parse().unwrap();
        let site = Self { test_gate, haproxy, _nginx: nginx, onion, socks, control };
        site.until_watched().await;
        site
    }

    async fn until_watched(&self) {
        let tor = self.test_gate.app.tor.as_ref().unwrap();
        until("tor and HAProxy are watched", || tor.is_up() && self.test_gate.app.haproxy.is_up())
            .await;
    }

    /// A visitor on circuits of its own: tor keeps apart who gives different names to SOCKS.
    async fn visitor(&self, name: &str) -> Visitor {
        let port = through_tor(self.socks, self.full_name(name), self.onion.clone()).await;
        let mut visitor = Visitor::at(port);
        visitor.headers.insert("host", self.onion.parse().unwrap());
        for (name, value) in BROWSER {
            visitor.headers.insert(name, value.parse().unwrap());
        }
        visitor
    }

    /// Other tests' visitors, and their circuits, are others.
    fn full_name(&self, name: &str) -> String {
        format!("{name}-{}", self.test_gate.address.port())
    }

    /// A visitor who sees a challenge, the challenge, and on which circuit.
    async fn arrived(&self, name: &str) -> (Visitor, Reply, String) {
        let before = self.haproxy.circuits();
        let mut visitor = self.visitor(name).await;
        let page = arrive(&mut visitor, "/").await;
        assert!(page.is_challenge(), "{}", page.text());
        let circuits = self.haproxy.circuits();
        let mut new = circuits.difference(&before);
        let circuit = new.next().expect("no circuit of its own").clone();
        assert_eq!(new.next(), None, "more than one circuit");
        (visitor, page, circuit)
    }

    async fn admitted(&self, name: &str) -> (Visitor, String) {
        let (mut visitor, page, circuit) = self.arrived(name).await;
        let landed = self.test_gate.solve(&mut visitor, &page).await;
        assert_eq!(landed.status, StatusCode::SEE_OTHER, "{}", landed.text());
        (visitor, circuit)
    }

    /// Begins a download of 1 GiB, and gives it when some of it has come.
    async fn download(&self, name: &str, visitor: &Visitor) -> TcpStream {
        let session = &visitor.cookies["cerberus_session"];
        let mut stream = self.ask(name, "/download?bytes=1073741824", session).await;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        some_of(&mut stream).await;
        stream
    }

    /// Whether a new connection on the circuit of `name` is closed without a word: the gate, and nginx,
    /// would have some.
    async fn is_shut_out(&self, name: &str) -> bool {
        let mut answer = Vec::new();
        let mut stream = self.ask(name, "/", "").await;
        // A reset is an end like any other.
        let _end = timeout(BOUND, stream.read_to_end(&mut answer)).await.expect("no end");
        answer.is_empty()
    }

    /// One request on a connection of its own.
    async fn ask(&self, name: &str, path: &str, session: &str) -> TcpStream {
        let name = self.full_name(name);
        let connecting = connect(self.socks, &name, &self.onion);
        let mut stream = timeout(BOUND, connecting).await.unwrap().expect("no way to the service");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: cerberus_session={session}\r\n\
             Connection: close\r\n\r\n",
            self.onion
        );
        // Whoever is shut out may hear of it before all of this is said.
        let _said = stream.write_all(request.as_bytes()).await;
        stream
    }

    /// The program beside the running gate, as its operator uses it.
    fn fortify(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fortify"));
        let control = format!("unix:{}", self.control.display());
        command.args(args).env("FORTIFY__TOR__CONTROL", control);
        check(
            command.env("FORTIFY__STORAGE__DATA_DIR", &self.test_gate.app.config.storage.data_dir),
        )
    }

    async fn until_gpc0(&self, circuit: &str, value: u8) {
        let what = format!("gpc0 of {circuit} is {value}");
        until(&what, || self.haproxy.gpc0(circuit) == Some(value)).await;
    }
}

/// Reads a mebibyte.
async fn some_of(stream: &mut TcpStream) {
    let mut bytes = vec![0; 1 << 20];
    timeout(BOUND, stream.read_exact(&mut bytes)).await.expect("nothing comes").unwrap();
}

/// Asks for a page until it arrives: the first try after a restart may meet an old descriptor.
async fn arrive(visitor: &mut Visitor, path: &str) -> Reply {
    let started = Instant::now();
    loop {
        match try_get(visitor, path).await {
            Some((after, reply)) => {
                *visitor = after;
                return reply;
            }
            None => assert!(started.elapsed() < Duration::from_secs(90), "nothing arrives"),
        }
    }
}

/// What comes back, if anything does, and the visitor with its new cookies.
async fn try_get(visitor: &Visitor, path: &str) -> Option<(Visitor, Reply)> {
    let (mut visitor, path) = (visitor.clone(), path.to_owned());
    let asking = tokio::spawn(async move {
        let reply = visitor.get(&path).await;
        (visitor, reply)
    });
    asking.await.ok()
}

/// A port on this machine behind which every connection goes to `onion` as `name`.
async fn through_tor(socks: SocketAddr, name: String, onion: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (name, onion) = (name.clone(), onion.clone());
            tokio::spawn(async move {
                // A connection that tor refuses is one that closes.
                if let Some(mut far) = connect(socks, &name, &onion).await {
                    drop(copy_bidirectional(&mut near, &mut far).await);
                }
            });
        }
    });
    address
}

/// SOCKS 5 with a name (RFC 1928, RFC 1929).
async fn connect(socks: SocketAddr, name: &str, onion: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(socks).await.ok()?;
    let mut say = vec![1, u8::try_from(name.len()).ok()?];
    say.extend(name.as_bytes());
    say.extend([1, b'x']);
    let mut ask = vec![5, 1, 0, 3, u8::try_from(onion.len()).ok()?];
    ask.extend(onion.as_bytes());
    ask.extend([0, 80]);
    // One step at a time: tor closes on who does not wait for its answers.
    let mut answer = [0; 10];
    for (step, length) in [(&[5, 1, 2][..], 2), (&say, 2), (&ask, 10)] {
        stream.write_all(step).await.ok()?;
        stream.read_exact(&mut answer[..length]).await.ok()?;
    }
    (answer[1] == 0).then_some(stream)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn a_visitor_solves_on_the_onion_address_and_gets_the_page() {
    let site = Site::start().await;
    let mut visitor = site.visitor("alice").await;
    let page = arrive(&mut visitor, "/articles/1").await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.is_challenge());
    assert!(site.test_gate.site.seen().is_empty());
    let landed = site.test_gate.solve(&mut visitor, &page).await;
    assert_eq!(landed.header("location"), Some("/articles/1"));
    assert!(landed.set_cookies().iter().all(|cookie| cookie.contains("Secure")));
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
    let form = fortify_testkit::fields(&[("name", "Alice"), ("message", "over Tor")]);
    assert_eq!(visitor.post_form("/guestbook", &form).await.status, StatusCode::SEE_OTHER);
    let download = visitor.get("/download?bytes=3000000").await;
    assert_eq!(download.body.len(), 3_000_000);
    let said = format!("{:?}", site.test_gate.site.seen().requests());
    assert!(!said.contains("4dad"), "the service was told a circuit");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn two_identities_are_two_circuits() {
    let site = Site::start().await;
    let (mut alice, of_alice) = site.admitted("alice").await;
    let (_bob, _page, of_bob) = site.arrived("bob").await;
    assert_ne!(of_alice, of_bob);
    let (status, others) = (site.haproxy.gpc0(&of_alice), site.haproxy.gpc0(&of_bob));
    assert_eq!((status, others), (Some(1), Some(0)), "trust is one circuit's");
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    assert_eq!(site.haproxy.circuits(), [of_alice, of_bob].into(), "alice came on another");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn a_session_moves_to_a_new_circuit_and_ends_when_the_old_one_uses_it() {
    let site = Site::start().await;
    let (mut before, _circuit) = site.admitted("alice").await;
    assert_eq!(before.get("/").await.status, StatusCode::OK);
    let mut after = site.visitor("alice-later").await;
    after.cookies.clone_from(&before.cookies);
    let moved = arrive(&mut after, "/").await;
    assert_eq!(moved.status, StatusCode::OK, "the session does not move");
    assert_eq!(site.haproxy.circuits().len(), 2);
    assert_ne!(after.cookies["cerberus_session"], before.cookies["cerberus_session"]);
    let settled = after.get("/").await;
    assert_eq!(settled.status, StatusCode::OK);
    assert!(!settled.admits(), "it moved once more, and where it is");
    assert!(before.get("/").await.is_challenge(), "one session on two circuits");
    assert!(after.get("/").await.is_challenge(), "it was used twice and goes on");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn a_banned_circuit_is_shut_out_by_haproxy_and_the_others_are_not() {
    let site = Site::start().await;
    let (mut alice, _of_alice) = site.admitted("alice").await;
    let (mut mallory, mut page, of_mallory) = site.arrived("mallory").await;
    for _ in 0..4 {
        page = site.test_gate.submit(&mut mallory, &page, "NONSENSE").await;
        assert!(page.is_challenge(), "{}", page.text());
    }
    assert!(!site.is_shut_out("mallory").await, "four wrong answers");
    let refused = site.test_gate.submit(&mut mallory, &page, "NONSENSE").await;
    assert!(!refused.is_challenge(), "five wrong answers");
    site.until_gpc0(&of_mallory, 2).await;
    assert!(site.is_shut_out("mallory").await);
    assert!(try_get(&mallory, "/").await.is_none(), "the connection that stands goes on");
    assert_eq!(alice.get("/").await.status, StatusCode::OK);

    let (bob, of_bob) = site.admitted("bob").await;
    site.fortify(&["circuits", "ban", &of_bob]);
    site.until_gpc0(&of_bob, 2).await;
    assert!(site.is_shut_out("bob").await);
    assert!(try_get(&bob, "/").await.is_none(), "the connection that stands goes on");
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    assert!(!site.is_shut_out("alice").await);
    assert_eq!(site.haproxy.circuits().len(), 3, "somebody came on another circuit");

    site.fortify(&["circuits", "reset", &of_mallory]);
    site.until_gpc0(&of_mallory, 0).await;
    assert!(!site.is_shut_out("mallory").await, "it was not the ban");
    assert!(site.is_shut_out("bob").await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn a_killed_circuit_loses_its_download_and_nothing_else_does() {
    let site = Site::start().await;
    let (mut alice, of_alice) = site.admitted("alice").await;
    let (bob, _of_bob) = site.admitted("bob").await;
    let mut cut = site.download("alice", &alice).await;
    let mut goes_on = site.download("bob", &bob).await;
    site.until_gpc0(&of_alice, 1).await;

    let said = site.fortify(&["circuits", "kill", &of_alice]);
    assert!(!said.contains("no such circuit"), "{said}");
    let mut rest = tokio::io::sink();
    let copied = timeout(BOUND, tokio::io::copy(&mut cut, &mut rest)).await.expect("it goes on");
    assert!(copied.unwrap_or_default() < 1 << 29, "the download came to its end");
    some_of(&mut goes_on).await;
    // What it had is taken back, and its visitor comes back on another, session and all.
    site.until_gpc0(&of_alice, 0).await;
    assert_eq!(arrive(&mut alice, "/").await.status, StatusCode::OK);
    assert_eq!(site.haproxy.circuits().len(), 3);
    some_of(&mut goes_on).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn a_gate_that_is_stopped_lets_nobody_in_over_tor() {
    let mut site = Site::start().await;
    let (mut visitor, _circuit) = site.admitted("alice").await;
    assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    site.test_gate.site.seen().clear();
    site.test_gate.stop_gate().await;
    let refused = visitor.send(Method::POST, "/guestbook", &[], Body::from("a=b")).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(site.test_gate.site.seen().is_empty());
}

/// Numbers of circuits that a tor which has just started gives, and those of one after some tests.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=1000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn after_a_restart_of_tor_its_circuits_inherit_nothing() {
    let site = Site::start().await;
    let app = &site.test_gate.app;
    let tag = |circuit| app.engine.parts().pseudonyms.tag(&CircuitId::Header(circuit));
    let first = app.boot();
    let numbered = |number| TorCircuit::from_parts(first.instance, first.generation, number);
    let (mut mallory, page, of_mallory) = site.arrived("mallory").await;
    // Whatever number a newcomer gets afterwards, an earlier circuit with it had four failures, and trust or a ban.
    for number in NUMBERS {
        for _ in 0..4 {
            app.engine
                .parts()
                .store
                .record_failure(tag(numbered(number)), BOUND * 60)
                .await
                .unwrap();
        }
    }
    site.test_gate.submit(&mut mallory, &page, "NONSENSE").await;
    site.until_gpc0(&of_mallory, 2).await;
    let until_then = app.clock.now().after(BOUND * 60);
    let mut writes = tokio::task::JoinSet::new();
    for number in NUMBERS {
        let status = if number % 2 == 0 { CircuitStatus::Banned } else { CircuitStatus::Trusted };
        let reputation = app.engine.parts().reputation.clone();
        let circuit = numbered(number);
        writes.spawn(async move {
            reputation.set(circuit, status, until_then, StatusReason::Operator).await.unwrap();
        });
    }
    writes.join_all().await;
    let flagged =
        || site.haproxy.ask("show table tor_ingress data.gpc0 gt 0").matches("key=").count();
    until("the table has all of it", || flagged() == NUMBERS.count()).await;

    tokio::task::spawn_blocking(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/tornet.sh");
        check(Command::new(script).arg("restart"));
    })
    .await
    .unwrap();
    site.until_watched().await;
    assert_ne!(app.boot(), first);
    until("the table has nothing of it", || flagged() == 0).await;
    let known = site.haproxy.circuits();
    for name in ["carol", "dave", "erin"] {
        let mut visitor = site.visitor(name).await;
        let page = arrive(&mut visitor, "/").await;
        assert!(page.is_challenge(), "{name} inherits a ban or a session");
        let page = site.test_gate.submit(&mut visitor, &page, "NONSENSE").await;
        assert!(page.is_challenge(), "{name} inherits failures");
        let landed = site.test_gate.solve(&mut visitor, &page).await;
        assert_eq!(landed.status, StatusCode::SEE_OTHER, "{}", landed.text());
        assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    }
    assert_eq!(site.haproxy.circuits(), known, "a number that nobody had before");
    until("three trusted circuits are in the table", || flagged() == 3).await;
}

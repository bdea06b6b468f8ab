//! One solve admits one visitor at one place: trust goes with its session, and log-out, revocation and ban end all of
//! it, what is under way included.
//!
//! Cases 17 and 27. SECURITY.md: **A session lives on one circuit at a time**, **A log-out holds**, **A ban holds**.

use std::time::Instant;

use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;
use fortify_engine::threat::history::{ChangedBy, DialChange};
use fortify_engine::threat::table::{Admits, LevelOverride};
use fortify_engine::threat::{Dial, ThreatLevel};
use fortify_reputation::CircuitStatus;
use fortify_testkit::redis::{Redis, until};
use fortify_testkit::{Parts, Reply};
use proptest::prelude::*;
use tokio::net::TcpListener;

use super::*;
use crate::cluster::{another, at, gate};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn circuit(number: u32) -> TorCircuit {
    TorCircuit::from_parts(0, 0, number)
}

/// The same browser on another circuit.
fn on(visitor: &Visitor, number: u32) -> Visitor {
    visitor.clone().circuit(&circuit(number).address().to_string())
}

/// Somebody on this circuit who sends no cookie, and keeps none.
fn bare(test_gate: &TestGate, number: u32) -> Visitor {
    let mut visitor = on(&test_gate.visitor(), number);
    visitor.keeps_cookies = false;
    visitor
}

/// A gate that admits what `admits` says at every level.
fn admitting(admits: Admits) -> impl Fn(&mut Parts) {
    move |parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        let rule = |level| LevelOverride {
            admits: Some(admits),
            stages: Some(1),
            challenges_per_hour: Some(10_000),
            ..LevelOverride::of(level)
        };
        parts.config.threat.levels = ThreatLevel::ALL.map(rule).to_vec();
    }
}

async fn member(test_gate: &TestGate, number: u32) -> Visitor {
    let mut visitor = on(&test_gate.visitor(), number);
    let page = visitor.get("/").await;
    assert!(test_gate.solve(&mut visitor, &page).await.admits());
    visitor
}

/// Asks as a program does, which is not shown a challenge.
async fn is_admitted(visitor: &Visitor) -> bool {
    let json = [("accept", "application/json")];
    visitor.clone().get_with("/", &json).await.status == StatusCode::OK
}

/// Ways in which a session ends.
#[derive(Clone, Copy, Debug)]
enum End {
    LogOut,
    Revocation,
    OfSubject,
    OfCircuit,
    Ban,
}

impl End {
    const ALL: [Self; 5] =
        [Self::LogOut, Self::Revocation, Self::OfSubject, Self::OfCircuit, Self::Ban];

    /// Ends the session of `visitor`, which is on circuit `number`, at `test_gate`. A node that hears nothing of the
    /// others for two seconds, as on a busy machine, ends nothing, and says so.
    async fn apply(self, test_gate: &TestGate, visitor: &Visitor, number: u32) {
        let done = || async { self.try_apply(test_gate, visitor, number).await };
        until("the session to be ended", done).await;
    }

    async fn try_apply(self, test_gate: &TestGate, visitor: &Visitor, number: u32) -> bool {
        let engine = &test_gate.app.engine;
        match self {
            Self::LogOut => {
                let reply = visitor.clone().post_form("/api/session/logout", &[]).await;
                assert_ne!(reply.status, StatusCode::FORBIDDEN, "it has no session");
                reply.status == StatusCode::OK
            }
            Self::Revocation => {
                let session = engine.read_session(&visitor.cookies["cerberus_session"]).unwrap();
                engine.revoke(&session).await.is_ok()
            }
            Self::OfSubject => {
                let session = engine.read_session(&visitor.cookies["cerberus_session"]).unwrap();
                let found = engine.session_of(&engine.subject(&session));
                assert_eq!(found, Some(session));
                engine.revoke(&session).await.is_ok()
            }
            Self::OfCircuit => engine.revoke_all_on(circuit(number)).await.is_ok(),
            Self::Ban => {
                let banned = CircuitStatus::Banned;
                engine.set_status(circuit(number), banned, MINUTE * 30).await.is_ok()
            }
        }
    }
}

/// A service that never ends what it begins: a download at `/download`, no answer at `/held`, a tunnel that echoes.
async fn endless() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    address
}

async fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    loop {
        let head = head(&mut socket).await?;
        if head.starts_with("GET /tunnel") {
            let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            socket.write_all(switch.as_bytes()).await?;
            let (mut from, mut to) = socket.split();
            tokio::io::copy(&mut from, &mut to).await?;
            return Ok(());
        }
        if head.starts_with("GET /held") {
            std::future::pending::<()>().await;
        }
        if head.starts_with("GET /download") {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n";
            socket.write_all(head.as_bytes()).await?;
            loop {
                socket.write_all(&[b'x'; 8192]).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
    }
}

/// Reads a head of HTTP.
async fn head(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Something under way through a gate.
struct Open {
    what: &'static str,
    socket: TcpStream,
}

impl Open {
    /// Begins at `/what` on a circuit, with a session's cookie or without any.
    async fn begin(
        test_gate: &TestGate,
        number: u32,
        cookie: Option<&str>,
        what: &'static str,
    ) -> Self {
        let circuit = circuit(number).address();
        let mut request = format!("GET /{what} HTTP/1.1\r\nHost: a\r\nX-Circuit-ID: {circuit}\r\n");
        if let Some(cookie) = cookie {
            request += &format!("Cookie: cerberus_session={cookie}\r\n");
        }
        if what == "tunnel" {
            request += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        }
        let started = Instant::now();
        loop {
            let mut socket = TcpStream::connect(test_gate.address).await.unwrap();
            socket.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
            if what == "held" {
                return Self { what, socket };
            }
            let head = head(&mut socket).await.unwrap();
            let status = if what == "tunnel" { " 101 " } else { " 200 " };
            if head.contains(status) {
                return Self { what, socket };
            }
            // A node that hears nothing of the others for two seconds, as on a busy machine.
            let away = head.contains(" 503 ") && started.elapsed() < Duration::from_secs(20);
            assert!(away, "{head}");
        }
    }

    /// Whether bytes still come.
    async fn lives(&mut self) {
        let mut bytes = [0; 4];
        match self.what {
            "held" => return,
            "tunnel" => self.socket.write_all(b"ping").await.unwrap(),
            _ => {}
        }
        let read =
            tokio::time::timeout(Duration::from_secs(20), self.socket.read_exact(&mut bytes));
        read.await.expect("nothing comes").expect("it was cut");
    }

    /// Waits until it is cut, and says how long that took.
    async fn ends(mut self, since: Instant) -> Duration {
        let mut rest = vec![0; 65_536];
        let cut = async { while matches!(self.socket.read(&mut rest).await, Ok(1..)) {} };
        let what = self.what;
        tokio::time::timeout(Duration::from_secs(20), cut)
            .await
            .unwrap_or_else(|_| panic!("a {what} goes on"));
        since.elapsed()
    }
}

const KINDS: [&str; 3] = ["held", "download", "tunnel"];

#[expect(clippy::print_stdout, reason = "a measurement")]
fn report(test: &str, end: End, what: &str, took: Duration) {
    println!(r#"{{"test":"{test}","end":"{end:?}","what":"{what}","ms":{}}}"#, took.as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_trust_goes_with_the_session_to_its_new_circuit() {
    for admits in [Admits::Either, Admits::Session] {
        let test_gate = TestGate::with(admitting(admits)).await;
        let visitor = member(&test_gate, 1).await;
        let trusts = admits == Admits::Either;
        until("the circuit to be trusted", || async {
            test_gate.app.engine.status(circuit(1)).is_some()
        })
        .await;
        assert_eq!(is_admitted(&bare(&test_gate, 1)).await, trusts);
        // Its page loads from another circuit, with the cookie that the browser still has.
        let old = on(&visitor, 2);
        for _ in 0..5 {
            assert!(is_admitted(&old).await, "a late request of the page");
        }
        assert!(!is_admitted(&bare(&test_gate, 1)).await, "two circuits draw on one session");
        until("the status of the old circuit to end", || async {
            test_gate.app.engine.status(circuit(1)).is_none()
        })
        .await;
        let follows = || async { test_gate.app.engine.status(circuit(2)).is_some() };
        until("the new circuit to be trusted", follows).await;
        assert_eq!(is_admitted(&bare(&test_gate, 2)).await, trusts);
        End::LogOut.apply(&test_gate, &old, 2).await;
        for number in [1, 2] {
            assert!(!is_admitted(&bare(&test_gate, number)).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_trust_ends_after_half_an_hour_without_a_request_and_with_its_session() {
    let test_gate = TestGate::with(|parts| {
        admitting(Admits::Either)(parts);
        parts.config.session.ttl = MINUTE * 100;
    })
    .await;
    member(&test_gate, 1).await;
    member(&test_gate, 2).await;
    let until_of = |number| test_gate.app.engine.status(circuit(number)).map(|row| row.until);
    until("both to be trusted", || async { until_of(1).is_some() && until_of(2).is_some() }).await;
    let start = test_gate.clock.now();
    // One of them goes on without a cookie, the other does not.
    for _ in 0..7 {
        test_gate.clock.advance(MINUTE * 10);
        assert!(is_admitted(&bare(&test_gate, 1)).await);
        let renewed = test_gate.clock.now().after(MINUTE * 30).min(start.after(MINUTE * 100));
        until("it to be renewed", || async { until_of(1) == Some(renewed) }).await;
    }
    assert!(!is_admitted(&bare(&test_gate, 2)).await, "nobody was there for an hour");
    test_gate.clock.advance(MINUTE * 29);
    assert!(is_admitted(&bare(&test_gate, 1)).await);
    test_gate.clock.advance(MINUTE);
    assert!(!is_admitted(&bare(&test_gate, 1)).await, "trust outlives its session");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_a_banned_circuits_session_opens_nothing_elsewhere() {
    let test_gate = TestGate::with(admitting(Admits::Either)).await;
    let (visitor, other) = (member(&test_gate, 1).await, member(&test_gate, 5).await);
    test_gate.clock.advance(MINUTE);
    End::Ban.apply(&test_gate, &visitor, 1).await;
    assert!(!is_admitted(&on(&visitor, 2)).await, "the cookie goes to another circuit");
    assert!(is_admitted(&other).await, "of somebody else");
    // After a restart too, and when the ban is over.
    let data_dir = test_gate.app.config.storage.data_dir.clone();
    let again = TestGate::with(|parts| {
        admitting(Admits::Either)(parts);
        parts.config.storage.data_dir = data_dir;
    })
    .await;
    let here = |visitor: &Visitor| {
        let mut visitor = visitor.clone();
        visitor.address = again.address;
        visitor
    };
    for passed in [MINUTE, MINUTE * 31] {
        again.clock.set(test_gate.clock.now().after(passed));
        for number in [2, 3] {
            assert!(!is_admitted(&here(&on(&visitor, number))).await, "after {passed:?}");
        }
    }
    assert!(!is_admitted(&here(&visitor)).await, "the session is back");
    assert!(is_admitted(&here(&other)).await);
    // Who comes back when the ban is over solves again, and is in.
    let mut back = here(&visitor);
    let page = back.get("/").await;
    assert!(again.solve(&mut back, &page).await.admits());
    assert!(is_admitted(&back).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_27_what_is_under_way_is_cut_when_its_session_ends_and_nothing_else_is() {
    for end in End::ALL {
        let site = endless().await;
        let test_gate = TestGate::with(|parts| {
            admitting(Admits::Either)(parts);
            parts.service_at(site);
        })
        .await;
        let (visitor, other) = (member(&test_gate, 1).await, member(&test_gate, 2).await);
        until("both to be trusted", || async { test_gate.app.engine.status_counts().trusted == 2 })
            .await;
        let cookie = |visitor: &Visitor| visitor.cookies["cerberus_session"].clone();
        let (mut theirs, mut others) = (Vec::new(), Vec::new());
        for what in KINDS {
            theirs.push(Open::begin(&test_gate, 1, Some(&cookie(&visitor)), what).await);
            // By the circuit's trust alone.
            theirs.push(Open::begin(&test_gate, 1, None, what).await);
            others.push(Open::begin(&test_gate, 2, Some(&cookie(&other)), what).await);
        }
        // A new configuration, and another's end, cut nothing.
        let mut config = (*test_gate.app.config).clone();
        config.session.max_moves = 7;
        let reloaded = test_gate.app.reconfigured(Arc::new(config)).await.unwrap();
        let third = member(&test_gate, 3).await;
        End::LogOut.apply(&test_gate, &third, 3).await;
        reloaded.engine.cut_ended().await.unwrap();
        for open in theirs.iter_mut().chain(&mut others) {
            open.lives().await;
        }
        test_gate.clock.advance(MINUTE);
        let started = Instant::now();
        end.apply(&test_gate, &visitor, 1).await;
        for open in theirs {
            let what = open.what;
            report("cut", end, what, open.ends(started).await);
        }
        for open in &mut others {
            open.lives().await;
        }
        assert!(!is_admitted(&bare(&test_gate, 1)).await);
        assert!(is_admitted(&other).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_27_a_session_that_ends_at_one_node_is_cut_at_the_other_and_lives_on_one_circuit() {
    let redis = Redis::start(&[]);
    for end in End::ALL {
        let site = endless().await;
        let setting = |parts: &mut Parts| {
            admitting(Admits::Either)(parts);
            parts.service_at(site);
        };
        let one = gate(&redis.config(), setting).await;
        let two = another(&redis.config(), &one, |_| {}).await;
        // `another` copies what decides; the service is the same.
        let number = 20 + end as u32 * 10;
        let visitor = member(&one, number).await;
        let trusted_at_two = || async { two.app.engine.status(circuit(number)).is_some() };
        until("the other node to hear of it", trusted_at_two).await;
        until("it to be trusted there", || async { is_admitted(&bare(&two, number)).await }).await;
        // It moves at the other node, and the first circuit is out at both.
        let moved = at(&two, &visitor, number + 1);
        until("the session to move", || async { is_admitted(&moved).await }).await;
        assert!(!is_admitted(&bare(&two, number)).await);
        let out = || async { !is_admitted(&bare(&one, number)).await };
        report(
            "moved",
            end,
            "trust at the other node",
            until("the old circuit to be out", out).await,
        );
        let trusted = || async { is_admitted(&bare(&one, number + 1)).await };
        until("the new circuit to be trusted", trusted).await;
        let cookie = visitor.cookies["cerberus_session"].clone();
        let mut open = Vec::new();
        for what in KINDS {
            open.push(Open::begin(&one, number + 1, Some(&cookie), what).await);
        }
        for open in &mut open {
            open.lives().await;
        }
        for test_gate in [&one, &two] {
            test_gate.clock.advance(MINUTE);
        }
        let started = Instant::now();
        end.apply(&two, &moved, number + 1).await;
        for open in open {
            let what = open.what;
            report("cut at the other node", end, what, open.ends(started).await);
        }
        for test_gate in [&one, &two] {
            for place in number..number + 3 {
                assert!(!is_admitted(&at(test_gate, &visitor, place)).await, "{end:?} at {place}");
                let nobody = at(test_gate, &bare(test_gate, place), place);
                assert!(!is_admitted(&nobody).await, "{end:?} at {place}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_goes_on_for_a_while_after_its_session_expired() {
    let site = endless().await;
    let test_gate = TestGate::with(|parts| {
        admitting(Admits::Either)(parts);
        parts.service_at(site);
    })
    .await;
    let visitor = member(&test_gate, 1).await;
    let cookie = visitor.cookies["cerberus_session"].clone();
    let mut tunnel = Open::begin(&test_gate, 1, Some(&cookie), "tunnel").await;
    let mut download = Open::begin(&test_gate, 1, Some(&cookie), "download").await;
    test_gate.clock.advance(HOUR);
    assert!(!is_admitted(&visitor).await, "nothing new begins");
    test_gate.clock.advance(MINUTE * 10 - Duration::from_secs(1));
    test_gate.app.engine.cut_ended().await.unwrap();
    tunnel.lives().await;
    test_gate.clock.advance(Duration::from_secs(1));
    tunnel.ends(Instant::now()).await;
    download.lives().await;

    // A budget that is used up ends tunnels in the same way.
    let visitor = member(&test_gate, 1).await;
    let cookie = visitor.cookies["cerberus_session"].clone();
    let mut tunnel = Open::begin(&test_gate, 1, Some(&cookie), "tunnel").await;
    let session = test_gate.app.engine.read_session(&cookie).unwrap();
    assert_eq!(test_gate.app.engine.tunnels(), [session]);
    test_gate.app.engine.end_tunnels_of(session.id);
    test_gate.app.engine.cut_ended().await.unwrap();
    tunnel.lives().await;
    test_gate.clock.advance(MINUTE * 10);
    tunnel.ends(Instant::now()).await;
}

async fn pin(test_gate: &TestGate, level: u8) {
    let (at, reason) = (test_gate.clock.now(), String::new());
    let change = DialChange { at, by: ChangedBy::Configuration, reason, signals: None };
    let level = ThreatLevel::new(level).unwrap();
    test_gate
        .app
        .engine
        .change_dial(change, move |dial: Dial| Some(dial.pin(level)))
        .await
        .unwrap();
    test_gate.app.engine.apply_level();
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_13_a_challenge_of_a_quiet_hour_is_worth_nothing_in_an_attack() {
    let test_gate = TestGate::with(admitting(Admits::Either)).await;
    pin(&test_gate, 2).await;
    let mut visitor = on(&test_gate.visitor(), 1);
    let page = visitor.get("/").await;
    // Within a step: who was solving while the level rose is in.
    pin(&test_gate, 3).await;
    assert!(test_gate.solve(&mut visitor, &page).await.admits());
    let shown = visitor.get_with("/api/session", &[("accept", "application/json")]).await;
    assert_eq!(shown.json()["level"], 3, "worth the level at which it was drawn");

    pin(&test_gate, 2).await;
    let mut visitor = on(&test_gate.visitor(), 3);
    let page = visitor.get("/").await;
    pin(&test_gate, 5).await;
    let next = test_gate.solve(&mut visitor, &page).await;
    assert!(!next.admits(), "a challenge of level 2 admits at level 5");
    assert!(next.is_challenge() && next.text().contains("become stricter"), "{}", next.text());
    // It was no wrong answer, and the next one is worth something.
    let tag = test_gate.app.engine.tag(&fortify_core::circuit::CircuitId::Header(circuit(3)));
    assert_eq!(test_gate.app.engine.explain(tag, Some(circuit(3))).await.unwrap().failures, 0);
    assert!(test_gate.solve(&mut visitor, &next).await.admits());
    assert!(is_admitted(&visitor).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_a_session_that_moved_gets_its_cookie_with_the_challenge() {
    let test_gate = TestGate::with(admitting(Admits::Both)).await;
    let first = member(&test_gate, 1).await;
    let renewed = |reply: &Reply| reply.admits();
    let mut moved = on(&first, 2);
    let page = moved.get("/").await;
    assert!(page.is_challenge() && renewed(&page), "{:?}", page.set_cookies());
    assert_ne!(moved.cookies["cerberus_session"], first.cookies["cerberus_session"]);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    // A script's request is refused, and has the cookie all the same.
    let refused = on(&first, 2).get_with("/", &[("accept", "application/json")]).await;
    assert!(refused.status == StatusCode::FORBIDDEN && renewed(&refused));
    // Who solves there is in, and with the new cookie may move once more.
    assert!(test_gate.solve(&mut moved, &page).await.admits());
    assert!(is_admitted(&moved).await);
    assert!(!is_admitted(&on(&first, 1)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_23_junk_cookies_around_the_right_one_lock_nobody_out() {
    let test_gate = TestGate::with(admitting(Admits::Session)).await;
    let visitor = member(&test_gate, 1).await;
    let right = &visitor.cookies["cerberus_session"];
    for (junk, counts) in [("x", [0, 8, 60]), ("x.y.z", [0, 7, 7])] {
        for count in counts {
            let junk = vec![format!("cerberus_session={junk}"); count].join("; ");
            for cookie in [
                format!("{junk}; cerberus_session={right}"),
                format!("cerberus_session={right}; {junk}"),
                format!("{junk}; cerberus_session={right}; {junk}"),
            ] {
                let mut other = bare(&test_gate, 1);
                let reply = other.get_with("/", &[("cookie", &cookie)]).await;
                assert_eq!(reply.status, StatusCode::OK, "{count} of them");
            }
        }
    }
    // Seven of somebody's own that are valid, before it.
    let mut planted = String::new();
    for number in 10..17 {
        let own = member(&test_gate, number).await;
        planted += &format!("cerberus_session={}; ", own.cookies["cerberus_session"]);
    }
    let cookie = format!("{planted}cerberus_session={right}");
    let reply = bare(&test_gate, 1).get_with("/", &[("cookie", &cookie)]).await;
    assert_eq!(reply.status, StatusCode::OK);
}

/// What happens to one session.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request with the cookie of the session as it was first given, on this circuit.
    Use(u32),
    /// The same with the latest cookie.
    UseLatest(u32),
    /// A request without a cookie.
    Bare(u32),
    LogOut,
    Ban(u32),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u32..5).prop_map(Step::Use),
        4 => (1_u32..5).prop_map(Step::UseLatest),
        4 => (1_u32..5).prop_map(Step::Bare),
        1 => Just(Step::LogOut),
        1 => (1_u32..5).prop_map(Step::Ban),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..24)
}

/// Plays `steps` and checks after each that nobody is admitted who should not be.
async fn play(steps: &[Step]) {
    let test_gate = TestGate::with(|parts| {
        admitting(Admits::Either)(parts);
        parts.config.session.max_moves = 60;
    })
    .await;
    let first = member(&test_gate, 1).await;
    let (mut latest, mut place, mut over) = (first.clone(), 1, false);
    for step in steps {
        match *step {
            Step::Use(number) | Step::UseLatest(number) => {
                let cookie = if matches!(step, Step::Use(_)) { &first } else { &latest };
                let mut visitor = on(cookie, number);
                let reply = visitor.get("/").await;
                if reply.status == StatusCode::OK {
                    assert!(!over, "{step:?} of {steps:?}: it had ended");
                    place = number;
                    latest = visitor;
                }
            }
            Step::Bare(number) => {
                let admitted = is_admitted(&bare(&test_gate, number)).await;
                assert!(!admitted || number == place, "{step:?} of {steps:?}: it is on {place}");
                assert!(!admitted || !over, "{step:?} of {steps:?}: it had ended");
            }
            Step::LogOut => {
                let reply = on(&latest, place).post_form("/api/session/logout", &[]).await;
                over |= reply.status == StatusCode::OK;
            }
            Step::Ban(number) => {
                test_gate.clock.advance(Duration::from_secs(1));
                End::Ban.apply(&test_gate, &latest, number).await;
                over |= number == place;
            }
            Step::Wait => test_gate.clock.advance(MINUTE * 11),
        }
        let mut admitted = Vec::new();
        for number in 1..5 {
            if is_admitted(&bare(&test_gate, number)).await {
                admitted.push(number);
            }
        }
        let allowed: &[u32] = if over { &[] } else { &[place] };
        let only = admitted.iter().all(|number| allowed.contains(number));
        assert!(only, "{admitted:?} are admitted after {step:?} of {steps:?}; it is on {place}");
    }
    let end: Timestamp = test_gate.clock.now().after(HOUR);
    test_gate.clock.set(end);
    for number in 1..5 {
        assert!(!is_admitted(&bare(&test_gate, number)).await, "it outlives its expiry");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn abuse_17_a_session_is_never_in_two_places_and_never_after_its_end(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(&steps));
    }
}

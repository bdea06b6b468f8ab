//! The whole way: a client of tor, a network of its own, the onion service, `HAProxy`, nginx, the gate
//! and the service. `make test-tor` starts the network and runs these; by themselves they are left out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use fortify::circuit::IdentityMode;
use support::servers::{Haproxy, Nginx, check};
use support::{Bed, Reply, Visitor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// The onion service and all behind it.
struct Site {
    bed: Bed,
    haproxy: Haproxy,
    _nginx: Nginx,
    onion: String,
    socks: SocketAddr,
}

fn told(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `make test-tor`"))
}

impl Site {
    /// Puts a gate where the network's onion service sends its visitors.
    async fn start() -> Self {
        let bed = Bed::with(|parts| {
            parts.config.security.identity = IdentityMode::Circuit;
            parts.config.upstream.authority = None;
        })
        .await;
        let nginx = Nginx::start(bed.address, bed.site.address());
        let ingress = told("FORTIFY_TEST_INGRESS").parse().unwrap();
        let haproxy = Haproxy::start_at(ingress, nginx.address);
        let onion = told("FORTIFY_TEST_ONION");
        let socks = told("FORTIFY_TEST_SOCKS").parse().unwrap();
        Self { bed, haproxy, _nginx: nginx, onion, socks }
    }

    /// A visitor on circuits of its own: tor keeps apart who gives different names to SOCKS.
    async fn visitor(&self, name: &str) -> Visitor {
        // Other tests' visitors, and their circuits, are others.
        let name = format!("{name}-{}", self.bed.address.port());
        let mut visitor = Visitor::at(through_tor(self.socks, name, self.onion.clone()).await);
        visitor.headers.insert("host", self.onion.parse().unwrap());
        visitor
    }

    async fn admitted(&self, name: &str) -> Visitor {
        let mut visitor = self.visitor(name).await;
        let page = arrive(&mut visitor, "/").await;
        let landed = self.bed.solve(&mut visitor, &page).await;
        assert_eq!(landed.status, StatusCode::SEE_OTHER, "{}", landed.text());
        visitor
    }
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
    assert!(site.bed.site.seen().is_empty());
    let landed = site.bed.solve(&mut visitor, &page).await;
    assert_eq!(landed.header("location"), Some("/articles/1"));
    assert!(landed.set_cookies().iter().all(|cookie| cookie.contains("Secure")));
    assert_eq!(visitor.get("/articles/1").await.status, StatusCode::OK);
    let form = support::fields(&[("name", "Alice"), ("message", "over Tor")]);
    assert_eq!(visitor.post_form("/guestbook", &form).await.status, StatusCode::SEE_OTHER);
    let download = visitor.get("/download?bytes=3000000").await;
    assert_eq!(download.body.len(), 3_000_000);
    let said = format!("{:?}", site.bed.site.seen().requests());
    assert!(!said.contains("4dad"), "the service was told a circuit");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn two_identities_are_two_circuits_and_a_session_is_one_of_thems() {
    let site = Site::start().await;
    let alice = site.admitted("alice").await;
    let of_alice = site.haproxy.circuits();
    assert_eq!(of_alice.len(), 1, "{of_alice:?}");
    let mut bob = site.visitor("bob").await;
    assert!(arrive(&mut bob, "/").await.is_challenge());
    assert_eq!(site.haproxy.circuits().len(), 2);
    bob.cookies.clone_from(&alice.cookies);
    bob.keeps_cookies = false;
    // With session.max_moves a session may move to a new circuit; from then on the old one has none.
    let here = bob.get("/").await.status;
    let there = alice.clone().get("/").await.status;
    assert_ne!((here, there), (StatusCode::OK, StatusCode::OK), "one session on two circuits");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn a_banned_circuit_is_refused_and_the_other_is_not() {
    let site = Site::start().await;
    let mut alice = site.admitted("alice").await;
    let circuit = site.haproxy.circuits().pop_first().unwrap();
    let mut bob = site.admitted("bob").await;
    let set = |gpc0| {
        let said =
            site.haproxy.ask(&format!("set table tor_ingress key {circuit} data.gpc0 {gpc0}"));
        assert_eq!(said, "\n");
    };
    set(2);
    // New connections and the one that stands.
    assert!(try_get(&alice, "/").await.is_none());
    assert_eq!(bob.get("/").await.status, StatusCode::OK);
    set(0);
    assert_eq!(arrive(&mut alice, "/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn a_gate_that_is_stopped_lets_nobody_in_over_tor() {
    let mut site = Site::start().await;
    let mut visitor = site.admitted("alice").await;
    assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    site.bed.site.seen().clear();
    site.bed.stop_gate().await;
    let refused = visitor.send(Method::POST, "/guestbook", &[], Body::from("a=b")).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(site.bed.site.seen().is_empty());
}

/// The last to run, by its name: the network is another afterwards.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the network that `make test-tor` starts"]
async fn z_after_a_restart_of_tor_the_service_is_reached_again() {
    let site = Site::start().await;
    let _member = site.admitted("alice").await;
    tokio::task::spawn_blocking(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/tornet.sh");
        check(Command::new(script).arg("restart"));
    })
    .await
    .unwrap();
    // Circuits count from 1 again: what the gate must not inherit stays to be shown where it knows of the restart.
    let mut visitor = site.visitor("carol").await;
    assert!(arrive(&mut visitor, "/").await.is_challenge());
}

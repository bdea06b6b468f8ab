//! What people do with a slow circuit: they press the button again, load the page again, go back, and have many tabs.
//!
//! Every round trip takes two seconds. At levels 3, 7 and 10, as shipped.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fortify_core::circuit::IdentityMode;
use fortify_e2e::{Key, Kind, Options};
use fortify_testkit::wait::eventually;
use fortify_testkit::{Parts, Visitor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::visit::{INPUT, Outcome, Visit, WRONG};

crate::in_both_browsers!(a_slow_circuit_and_many_tabs_lock_nobody_out);

/// Each way of a round trip.
const ONE_WAY: Duration = Duration::from_secs(1);

/// A circuit: what tor and HAProxy are to the gate, with the time that they take.
struct Circuit {
    address: SocketAddr,
    /// Loses the next response to an answer, once.
    loses: Arc<AtomicBool>,
}

impl Circuit {
    async fn to(gate: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, loses) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let losing = loses.clone();
        tokio::spawn(async move {
            while let Ok((browser, _)) = listener.accept().await {
                tokio::spawn(carry(browser, gate, losing.clone()));
            }
        });
        Ok(Self { address, loses })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn carry(browser: TcpStream, gate: SocketAddr, loses: Arc<AtomicBool>) {
    let Ok(mut gate) = TcpStream::connect(gate).await else { return };
    let line = b"PROXY TCP6 fc00:dead:beef:4dad::0:7 ::1 1 80\r\n";
    if gate.write_all(line).await.is_err() {
        return;
    }
    let ((from_browser, to_browser), (from_gate, to_gate)) =
        (browser.into_split(), gate.into_split());
    let answers = Arc::new(AtomicBool::new(false));
    let sent = answers.clone();
    let there = delayed(from_browser, to_gate, move |bytes| {
        sent.store(bytes.starts_with(b"POST /validate-captcha"), Ordering::SeqCst);
        true
    });
    let back = delayed(from_gate, to_browser, move |_| {
        !(answers.load(Ordering::SeqCst) && loses.swap(false, Ordering::SeqCst))
    });
    // As over tor, an end of one direction ends the connection.
    tokio::select! { () = there => {}, () = back => {} }
}

/// Carries bytes a second late, until one side ends or `passes` says no.
async fn delayed(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passes: impl Fn(&[u8]) -> bool) {
    let (late, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from.read(&mut buffer).await {
            let Some(bytes) =
                buffer.get(..count).filter(|bytes| !bytes.is_empty() && passes(bytes))
            else {
                break;
            };
            if late.send((Instant::now() + ONE_WAY, bytes.to_vec())).is_err() {
                break;
            }
        }
        drop(late);
    };
    let write = async {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}

fn as_shipped(level: u8) -> impl FnOnce(&mut Parts) {
    move |parts| {
        parts.config.captcha.level = level;
        parts.config.captcha.max_active_per_circuit = 3;
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.server.proxy_protocol = true;
        parts.config.limits.challenges_per_minute = 10;
        parts.config.threat.levels.clear();
    }
}

async fn a_slow_circuit_and_many_tabs_lock_nobody_out(kind: Kind) -> Outcome {
    let mut visit = Visit::with(kind, Options::default(), as_shipped(3)).await?;
    for level in [3, 7, 10] {
        visit = visit.move_on(as_shipped(level)).await?;
        tabs_and_clicks(&visit, level).await?;
        visit = visit.move_on(as_shipped(level)).await?;
        a_lost_response(&visit).await?;
    }
    visit.end().await
}

async fn tabs_and_clicks(visit: &Visit, level: u8) -> Outcome {
    let (browser, circuit) = (&visit.browser, circuit(visit).await);
    // Ten tabs of a restored window, and the one in front.
    let tabs: Vec<_> = (0..10)
        .map(|number| {
            let mut tab = Visitor::at(circuit.address);
            tokio::spawn(async move { tab.get(&format!("/articles/{number}")).await })
        })
        .collect();
    browser.goto(&circuit.url("/articles/1")).await?;
    let token = visit.challenge().await?;
    for tab in tabs {
        let page = tab.await.unwrap();
        assert_eq!(page.try_field("token").as_ref(), Some(&token), "level {level}");
    }
    browser.reload().await?;
    assert_eq!(visit.challenge().await?, token, "a reload at level {level} drew another one");

    if level == 3 {
        // Its page is one that going back has to show again.
        visit.answer(WRONG).await?;
        assert!(browser.has(".bad").await?, "taken for right");
    }
    // The button is pressed twice for every picture.
    for stage in 1..=stages(level) {
        let token = visit.challenge().await?;
        browser.fill(INPUT, &visit.test_gate.answer(&token).await).await?;
        browser.press_twice_to_follow(Key::Enter).await?;
        assert!(!browser.has(".bad").await?, "not right at stage {stage} of level {level}");
    }
    browser.wait_for("article").await?;
    // A tab that was there before, and the page before this one.
    browser.goto(&circuit.url("/articles/2")).await?;
    browser.wait_for("article").await?;
    for _ in 0..2 {
        browser.back().await?;
        if browser.has(INPUT).await? {
            // The browser kept the page: the form leads on, whatever is in it.
            visit.answer(WRONG).await?;
        }
        browser.wait_for("article").await?;
    }
    Ok(())
}

async fn a_lost_response(visit: &Visit) -> Outcome {
    let (browser, circuit) = (&visit.browser, circuit(visit).await);
    browser.goto(&circuit.url("/articles/1")).await?;
    let token = visit.challenge().await?;
    browser.fill(INPUT, &visit.test_gate.answer(&token).await).await?;
    circuit.loses.store(true, Ordering::SeqCst);
    browser.press(Key::Enter).await?;
    eventually("the response is lost", || !circuit.loses.load(Ordering::SeqCst)).await;
    // The visitor opens the page again.
    browser.goto(&circuit.url("/articles/1")).await?;
    while browser.has(INPUT).await? {
        let token = visit.challenge().await?;
        visit.answer(&visit.test_gate.answer(&token).await).await?;
        assert!(!browser.has(".bad").await?, "not right after a lost response");
    }
    browser.wait_for("article").await
}

async fn circuit(visit: &Visit) -> Circuit {
    Circuit::to(visit.test_gate.address).await.unwrap()
}

fn stages(level: u8) -> u8 {
    if level == 10 { 3 } else { 1 }
}

//! What outlasts a restart of a single node: what sessions have left, and what circuits answered.

use std::net::SocketAddr;

use fortify_core::clock::{Clock as _, SystemClock};
use fortify_reputation::budget_notes::BudgetNotes;
use fortify_testkit::damage::{files, folder};
use fortify_testkit::program::{config, guess_wrong};
use fortify_testkit::wait::wait_for;

use super::corruption::{ask, minted, start, stop};

/// Sessions of twenty pages, at any rate, and bans after more than five wrong answers.
const SETTINGS: &str = "[server]\nport = 0\n\
    [reputation]\nban_points = 6\n\
    [security]\nmax_captcha_failures = 100\n\
    [limits]\nfailure_waits_seconds = [0]\nchallenges_per_minute = 1000\n\
    [[threat.levels]]\nlevel = 2\npages_per_minute = 1000\npage_burst = 1000\npages_per_session = 20\n";

/// How many pages the session opens before it is asked to solve again; at most `most`.
fn spend(gate: SocketAddr, number: u32, session: &str, most: usize) -> usize {
    let is_admitted = |_: &usize| ask(gate, "GET", "/_fortify/auth", number, session) == Some(204);
    (0..most).take_while(is_admitted).count()
}

#[test]
fn a_restart_gives_no_session_a_page_and_forgives_no_circuit() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), SETTINGS);
    let sessions = minted(&dir.path().join("data"), 8);
    let session = &sessions[7].token;
    let (mut child, address) = start(&path);
    assert_eq!(spend(address, 7, session, 8), 8);
    // The third wrong answer of six that ban.
    let guess = |address| guess_wrong(address, 900);
    let before: Vec<_> = (0..3).map(|_| guess(address)).collect();
    stop(&mut child);
    let (mut child, address) = start(&path);
    // The last two pages are for assets.
    assert_eq!(spend(address, 7, session, 100), 10, "a page came back, or went");
    let after: Vec<_> = (0..9).map(|_| guess(address)).collect();
    let wrong = before.iter().chain(&after).take_while(|status| **status == before[0]).count();
    assert!((5..=6).contains(&wrong), "{before:?}, {after:?}");
    stop(&mut child);
}

#[test]
fn a_gate_that_is_killed_gives_back_no_more_than_it_had_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), SETTINGS);
    let data = dir.path().join("data");
    let sessions = minted(&data, 8);
    let (session, token) = (&sessions[7].session, &sessions[7].token);
    let (mut child, address) = start(&path);
    assert_eq!(spend(address, 7, token, 8), 8);
    wait_for("what is left is on disk", || {
        let copy = folder(&files(&data));
        let now = SystemClock.now();
        let note = BudgetNotes::open(copy.path(), now).of(session, now);
        note.is_some_and(|note| note.left == 12_000)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, address) = start(&path);
    assert_eq!(spend(address, 7, token, 100), 10);
    assert_eq!(spend(address, 5, &sessions[5].token, 1), 1, "one that is new to it");
    // Lost with the rest of the file, it counts as used up.
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::write(data.join("budgets"), "").unwrap();
    let (mut child, address) = start(&path);
    assert_eq!(spend(address, 6, &sessions[6].token, 100), 0, "nobody knows what it spent");
    stop(&mut child);
}

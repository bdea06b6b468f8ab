//! Damage of every file in `storage.data_dir`: nothing opens in silence, and only a secret keeps the gate down.
//!
//! Each file is damaged in 200 ways. What was ended, banned or set is still so, or the file is named with what it
//! lost, and whoever may be concerned solves another challenge.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use fortify_admin::accounts::{Accounts, AccountsError};
use fortify_admin::identity::{AuthMethod, Principal, Role};
use fortify_core::circuit::{CircuitId, TorCircuit};
use fortify_core::clock::{ManualClock, SystemClock, Timestamp};
use fortify_core::damage::Damage;
use fortify_core::entropy::SystemEntropy;
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::behaviour::watching_since;
use fortify_engine::session::{Minted, Sessions};
use fortify_engine::threat::history::DialHistory;
use fortify_engine::threat::{Mode, ThreatLevel};
use fortify_keys::{KeyRing, Purpose};
use fortify_reputation::answer_history::{AnswerEvent, AnswerHistories, Scoring};
use fortify_reputation::budget_notes::{BudgetNote, BudgetNotes};
use fortify_reputation::earned::EarnedSessions;
use fortify_reputation::{CircuitStatus, Reputation, StatusReason};
use fortify_store::StateStore;
use fortify_store::memory::{MemoryBounds, MemoryStore};
use fortify_store::record::{MoveOutcome, MoveRequest, Session, SessionId, SessionState};
use fortify_testkit::NOW;
use fortify_testkit::damage::{Files, damaged, files, folder};
use fortify_testkit::program::{
    circuit_address, config, fortify, guess_wrong, listening, request, wait,
};
use fortify_testkit::wait::wait_for;
use fortify_web::maintenance::{Maintenance, MaintenanceSwitch};
use rustix::process::{Pid, Signal, kill_process};

/// Damages of each file.
const DAMAGES: u64 = 200;

const HOUR: Duration = Duration::from_secs(3600);

/// The time of the start with damaged files.
const LATER: Timestamp = Timestamp::from_millis(NOW.as_millis() + 60_000);

/// What was in a folder, and some time before.
struct Kept {
    old: Files,
    new: Files,
}

impl Kept {
    /// Damages the file `name` in each way, and has `check` start with that. Returns how many of them were named.
    fn each(&self, name: &str, mut check: impl FnMut(&Path, &str) -> bool) {
        let (bytes, none) = (&self.new[name], Vec::new());
        let old = self.old.get(name).unwrap_or(&none);
        let mut named = 0;
        for seed in 0..DAMAGES {
            let (what, damaged) = damaged(bytes, old, seed);
            let mut files = self.new.clone();
            match damaged {
                Some(bytes) => files.insert(name.to_owned(), bytes),
                None => files.remove(name),
            };
            let dir = folder(&files);
            named += u32::from(check(dir.path(), &format!("{name}, {seed}: {what}")));
        }
        // SQLite makes a new index of the log when it opens the file, whatever is in the old one.
        assert!(named > 0 || name.ends_with("-shm"), "{name}: no damage was named");
    }
}

fn names(damages: &[Damage], file: &str) -> bool {
    damages.iter().any(|one| one.file == file && one.lost != Some(0))
}

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; SessionId::BYTES])
}

fn tag(number: u8) -> CircuitTag {
    CircuitTag::from_bytes([number; 16])
}

fn store(dir: &Path, now: Timestamp) -> MemoryStore {
    let bounds = MemoryBounds { challenges: 10, challenges_per_circuit: 10 };
    MemoryStore::open(Arc::new(ManualClock::at(now)), bounds, dir)
}

/// Sessions 0 to 19 are revoked, and 100 to 119 have moved to another circuit; the old copy has half of that.
async fn journals() -> Kept {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), NOW);
    let mut old = Files::new();
    for number in 0..20 {
        if number == 10 {
            old = files(dir.path());
        }
        store.revoke_session(session(number), NOW.after(HOUR)).await.unwrap();
        let (from, to, until) = (tag(1), tag(2), NOW.after(HOUR));
        let step = MoveRequest { from, to, until, most: 3, window: HOUR };
        let moved = store.move_session(session(100 + number), step).await.unwrap();
        assert_eq!(moved, MoveOutcome::Moved);
    }
    Kept { old, new: files(dir.path()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_27_of_damaged_journals_no_ended_session_is_let_in() {
    let kept = journals().await;
    for name in ["revocations", "moves", "manifest"] {
        kept.each(name, |dir, what| {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    let store = store(dir, LATER);
                    let damages = store.damages();
                    // Sessions that were issued until then are not accepted.
                    let refused = store.valid_after().is_some_and(|after| NOW <= after);
                    assert!(
                        store.valid_after() <= Some(LATER),
                        "{what}: who comes now is shut out"
                    );
                    for number in 0..20 {
                        let [ended, moved] = [number, 100 + number].map(session);
                        let state = store.session_state(ended).await.unwrap();
                        let lost = names(&damages, "revocations") && refused;
                        assert!(state == SessionState::Revoked || lost, "{what}: {damages:?}");
                        let state = store.session_state(moved).await.unwrap();
                        let lost = names(&damages, "moves") && refused;
                        assert!(
                            state == SessionState::BoundTo(tag(2)) || lost,
                            "{what}: {damages:?}"
                        );
                    }
                    let unharmed = store.session_state(session(200)).await.unwrap();
                    assert_eq!(unharmed, SessionState::Unmoved, "{what}");
                    // It goes on, and is whole again.
                    store.revoke_session(session(201), LATER.after(HOUR)).await.unwrap();
                    let again = self::store(dir, LATER);
                    let state = again.session_state(session(201)).await.unwrap();
                    assert_eq!((state, again.damages()), (SessionState::Revoked, vec![]), "{what}");
                    assert_eq!(
                        again.valid_after().is_some(),
                        store.valid_after().is_some(),
                        "{what}"
                    );
                    !damages.is_empty()
                })
            })
        });
    }
}

fn circuit(number: u32) -> TorCircuit {
    TorCircuit::from_parts(0, 0, number)
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_27_of_a_damaged_file_of_statuses_no_ban_is_forgotten_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let reputation = Reputation::open(dir.path(), clock.clone()).unwrap();
    let mut old = Files::new();
    for number in 0..60 {
        if number == 30 {
            old = files(dir.path());
        }
        reputation.ban(circuit(number), NOW.after(HOUR), StatusReason::Failures).await.unwrap();
        if number % 10 == 0 {
            let session = Session {
                id: session(number as u8),
                threat_level: 2,
                issued_at: NOW,
                expires_at: NOW.after(HOUR),
            };
            reputation.trust(circuit(1000 + number), session, NOW.after(HOUR)).await.unwrap();
        }
    }
    let kept = Kept { old, new: files(dir.path()) };
    let file = "reputation.sqlite";
    for part in ["", "-wal", "-shm"] {
        kept.each(&format!("{file}{part}"), |dir, what| {
            let reputation = Reputation::open(dir, Arc::new(ManualClock::at(LATER))).unwrap();
            let damages = reputation.damages().to_vec();
            let named = names(&damages, file) || reputation.was_recreated();
            for number in 0..60 {
                let banned = reputation.status(circuit(number)) == Some(CircuitStatus::Banned);
                assert!(banned || named, "{what}: {damages:?}");
            }
            for row in reputation.rows() {
                let was = (row.status == CircuitStatus::Banned && row.circuit.number() < 60)
                    || (row.status == CircuitStatus::Trusted && row.circuit.number() >= 1000);
                assert!(was, "{what}: {row:?}");
            }
            named
        });
    }
}

fn level(number: u8) -> ThreatLevel {
    ThreatLevel::new(number).unwrap()
}

#[test]
fn abuse_27_of_a_damaged_file_of_the_dial_no_other_level_comes_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let open = |dir: &Path| {
        let mut history = DialHistory::open(dir, LATER).unwrap();
        let dial = history.configure(Mode::Auto, level(2), LATER).unwrap();
        (history, dial)
    };
    let (mut history, _) = open(dir.path());
    history.turn(None, |dial| dial.set(level(4), NOW)).unwrap();
    let old = files(dir.path());
    let set = history.turn(None, |dial| Some(dial.pin(level(9)))).unwrap().unwrap();
    let kept = Kept { old, new: files(dir.path()) };
    for part in ["", "-wal", "-shm"] {
        kept.each(&format!("audit.sqlite{part}"), |dir, what| {
            let (history, dial) = open(dir);
            let named = names(history.damages(), "audit.sqlite") || history.was_recreated();
            assert!(named || dial == set, "{what}: {dial:?}");
            assert!([2, 4, 9].contains(&dial.level.get()), "{what}: {dial:?}");
            named
        });
    }
}

/// Operators are shut out until somebody decides, or everything is as it was, or what is missing is named.
#[test]
fn abuse_27_of_damaged_accounts_nobody_gets_more_than_they_had_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::open(dir.path()).unwrap();
    let by =
        Principal { name: "ada".to_owned(), role: Role::Admin, auth_method: AuthMethod::Session };
    let mut old = Files::new();
    for number in 0..20 {
        if number == 10 {
            old = files(dir.path());
        }
        let (name, role) = (format!("user{number}"), Role::Viewer);
        accounts.add_user(&by, &name, role, "$argon2id$none", NOW).unwrap();
        let until = NOW.after(HOUR);
        let token = accounts.add_token(&by, role, &name, NOW, until, &SystemEntropy).unwrap();
        if number % 2 == 0 {
            accounts.revoke_token(&by, &token.token.id, NOW).unwrap();
        }
    }
    let (users, tokens) = (accounts.users().unwrap(), accounts.tokens().unwrap());
    let kept = Kept { old, new: files(dir.path()) };
    for part in ["", "-wal", "-shm"] {
        kept.each(&format!("admin.sqlite{part}"), |dir, what| {
            let accounts = match Accounts::open(dir) {
                Ok(accounts) => accounts,
                Err(AccountsError::Damaged { .. }) => return true,
                Err(other) => panic!("{what}: {other}"),
            };
            let named = names(accounts.damages(), "admin.sqlite");
            let same = accounts.users().is_ok_and(|now| now == users)
                && accounts.tokens().is_ok_and(|now| now == tokens);
            assert!(named || same, "{what}");
            named
        });
    }
}

/// Budgets count as used up if they may be, and what circuits did is as it was or named.
#[test]
fn abuse_27_of_damaged_notes_no_session_gets_pages_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let histories = |dir: &Path| AnswerHistories::open(dir, clock.clone(), Scoring::default());
    let (answers, earned) = (histories(dir.path()), EarnedSessions::open(dir.path(), NOW));
    let budgets = BudgetNotes::open(dir.path(), NOW);
    let of = |number| Session {
        id: session(number),
        threat_level: 2,
        issued_at: NOW,
        expires_at: NOW.after(HOUR),
    };
    let note = |left| BudgetNote { left, until: NOW.after(HOUR), full_rate_at: None };
    let mut old = Files::new();
    for round in 0..20_u64 {
        if round == 10 {
            old = files(dir.path());
        }
        let left = (0..10).map(|number| (session(number), note(1000 - round)));
        budgets.keep(left, NOW);
        (0..10).for_each(|number| _ = answers.record(tag(number), AnswerEvent::Failed));
        answers.keep();
        (0..10).for_each(|number| _ = earned.earn(tag(number), 20, NOW));
        earned.keep(NOW);
    }
    let kept = Kept { old, new: files(dir.path()) };
    kept.each("budgets", |dir, what| {
        let budgets = BudgetNotes::open(dir, LATER);
        let named = names(budgets.damages(), "budgets");
        for number in 0..10 {
            let left = budgets.of(&of(number), LATER).map(|note| note.left);
            assert!(left == Some(981) || named && left == Some(0), "{what}: {left:?}");
        }
        let fresh = Session { issued_at: LATER.after(Duration::from_secs(1)), ..of(99) };
        assert_eq!(budgets.of(&fresh, LATER), None, "{what}");
        named
    });
    kept.each("answers", |dir, what| {
        let again = histories(dir);
        let named = names(again.damages(), "answers");
        let same = (0..10).all(|number| again.get(tag(number)) == answers.get(tag(number)));
        assert!(named || same, "{what}");
        named
    });
    kept.each("earned", |dir, what| {
        let again = EarnedSessions::open(dir, LATER);
        let named = names(again.damages(), "earned");
        let same = (0..10).all(|number| again.earn(tag(number), 20, LATER).is_some());
        assert!(named || same, "{what}");
        named
    });
}

/// A damaged key would sign and verify all the same, so this file alone keeps the gate down.
#[test]
fn damaged_keys_are_no_other_keys() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOW);
    let keys = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
    keys.rotate(HOUR, &clock, &SystemEntropy).unwrap();
    let claims = serde_json::json!({"held": "by somebody"});
    let signed = keys.sign(Purpose::Session, &claims).unwrap();
    // An old copy of the keys is sound, and one that is gone is another gate's: nobody's session counts.
    let new = files(dir.path());
    let kept = Kept { old: new.clone(), new };
    kept.each("keys.json", |dir, what| match KeyRing::open(dir, &clock, &SystemEntropy) {
        Err(_named) => true,
        Ok(now) => {
            let verified = now.verify::<serde_json::Value>(Purpose::Session, &signed);
            if dir.join("keys.json").exists() && !what.contains("removed") {
                assert_eq!(now.list(), keys.list(), "{what}");
                assert_eq!(verified.unwrap().claims, claims, "{what}");
            } else {
                assert!(verified.is_none(), "{what}");
            }
            false
        }
    });
}

#[test]
fn damage_of_the_small_files_is_named_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    watching_since(dir.path(), NOW);
    let maintenance = Maintenance { since: NOW, until: None, message: Some("Later.".to_owned()) };
    let (switch, _) = MaintenanceSwitch::open(dir.path());
    switch.set(Some(maintenance.clone())).unwrap();
    let new = files(dir.path());
    // Neither has a number: an old copy cannot be told, and says what was so once.
    let kept = Kept { old: new.clone(), new };
    kept.each("watching-since", |dir, what| {
        let (since, damage) = watching_since(dir, LATER);
        let gone = what.ends_with("removed");
        assert!(since == NOW || since == LATER && (damage.is_some() || gone), "{what}");
        damage.is_some()
    });
    kept.each("maintenance", |dir, what| {
        let (switch, damage) = MaintenanceSwitch::open(dir);
        let set = switch.at(LATER);
        let gone = what.ends_with("removed");
        assert!(damage.is_some() || gone || set.as_deref() == Some(&maintenance), "{what}");
        damage.is_some()
    });
}

/// Sessions that the gate with the keys in `data_dir` takes for its own, one on each circuit.
pub(super) fn minted(data_dir: &Path, circuits: u32) -> Vec<Minted> {
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let keys = Arc::new(KeyRing::open(data_dir, &*clock, &*entropy).unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let bounds = MemoryBounds { challenges: 1, challenges_per_circuit: 1 };
    let store = Arc::new(MemoryStore::open(clock.clone(), bounds, elsewhere.path()));
    let pseudonyms = keys.pseudonyms();
    let sessions = Sessions::new(keys, store, clock, entropy, HOUR, 3);
    let mint = |number| {
        let tag = pseudonyms.tag(&CircuitId::Header(circuit(number)));
        sessions.mint(tag, 2).unwrap()
    };
    (0..circuits).map(mint).collect()
}

/// The status of a request with a session's cookie; `None` once the gate has ended.
pub(super) fn ask(
    gate: SocketAddr,
    method: &str,
    path: &str,
    number: u32,
    session: &str,
) -> Option<u16> {
    let mut socket = TcpStream::connect(gate).ok()?;
    let circuit = circuit_address(number);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nX-Circuit-ID: {circuit}\r\n\
         Cookie: cerberus_session={session}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Whether the session is in force.
fn is_admitted(gate: SocketAddr, number: u32, session: &str) -> bool {
    match ask(gate, "GET", "/api/session", number, session).expect("it answers") {
        200 => true,
        401 | 403 => false,
        other => panic!("{other}"),
    }
}

pub(super) fn start(config: &str) -> (std::process::Child, SocketAddr) {
    let mut command = fortify(&["serve", "--config", config]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let address = listening(&mut log);
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
    (child, address)
}

pub(super) fn stop(child: &mut std::process::Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    wait(child);
}

/// Log-outs of a round before the gate is killed.
const LOG_OUTS: usize = 60;

#[test]
fn abuse_27_a_gate_that_is_killed_while_people_log_out_has_ended_what_it_acknowledged() {
    for _round in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let path = config(dir.path(), "[server]\nport = 0\n");
        let sessions = minted(&dir.path().join("data"), 400);
        let (mut child, address) = start(&path);
        assert!(is_admitted(address, 7, &sessions[7].token));
        let (told, acknowledged) = std::sync::mpsc::channel();
        let mut ended: Vec<u32> = std::thread::scope(|scope| {
            for (part, sessions) in sessions.chunks(50).enumerate() {
                let told = told.clone();
                scope.spawn(move || {
                    for (number, session) in (50 * part as u32..).zip(sessions) {
                        let session = &session.token;
                        match ask(address, "POST", "/api/session/logout", number, session) {
                            Some(200) => told.send(number).unwrap(),
                            Some(other) => panic!("{other} in place of a log-out"),
                            None => return,
                        }
                    }
                });
            }
            let ended = acknowledged.iter().take(LOG_OUTS).collect();
            child.kill().unwrap();
            child.wait().unwrap();
            ended
        });
        drop(told);
        ended.extend(acknowledged.iter());
        let (mut child, address) = start(&path);
        for number in &ended {
            let session = &sessions[*number as usize].token;
            assert!(!is_admitted(address, *number, session), "an ended session is back");
        }
        let live = (0..400).rev().find(|number| !ended.contains(number)).unwrap();
        assert!(is_admitted(address, live, &sessions[live as usize].token), "nothing was lost");
        stop(&mut child);
    }
}

/// All files but the keys at once, through the program itself; the manifest, by which the rest is judged, alone.
#[test]
fn abuse_27_a_gate_whose_files_are_all_damaged_starts_and_lets_nobody_back_in() {
    let strict = "[server]\nport = 0\n[security]\nmax_captcha_failures = 1\n";
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), strict);
    let data = dir.path().join("data");
    let sessions = minted(&data, 20);
    let (mut child, address) = start(&path);
    let mut old = Files::new();
    for (number, session) in (0..20).zip(&sessions) {
        if number == 10 {
            old = files(&data);
        }
        let ended = ask(address, "POST", "/api/session/logout", number, &session.token);
        assert_eq!(ended, Some(200));
        assert_eq!(guess_wrong(address, 1000 + number), Some(429));
    }
    // As a killed process leaves them.
    let new = files(&data);
    child.kill().unwrap();
    child.wait().unwrap();
    for seed in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let path = config(dir.path(), strict);
        let data = dir.path().join("data");
        let mut after = new.clone();
        for (number, (name, bytes)) in (100 * seed..).zip(&new) {
            let none = Vec::new();
            let harmed = name != "keys.json" && (name == "manifest") == (seed % 4 == 3);
            match damaged(bytes, old.get(name).unwrap_or(&none), number) {
                _ if !harmed => {}
                (_, Some(bytes)) => _ = after.insert(name.clone(), bytes),
                (_, None) => _ = after.remove(name),
            }
        }
        fs::rename(folder(&after).keep(), &data).unwrap();
        let (mut child, address) = start(&path);
        let mut ready = String::new();
        wait_for("/ready answers", || {
            ready = get(address, "/ready");
            ready.starts_with("HTTP/1.1 200")
        });
        for (number, session) in (0..20).zip(&sessions) {
            assert!(
                !is_admitted(address, number, &session.token),
                "{seed}: an ended session is back"
            );
            let banned = request(address, 1000 + number, "/captcha/generate", "").unwrap().0 == 403;
            assert!(banned || ready.contains("reputation.sqlite"), "{seed}: {ready}");
        }
        stop(&mut child);
    }
}

fn get(gate: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(gate).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

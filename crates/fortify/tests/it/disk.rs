//! What the gate has said it keeps, on a disk that fails and through a process that is killed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use fortify_testkit::program::{
    circuit_address, config, fortify, guess_wrong, listening, output, request, wait,
};
use fortify_testkit::wait::wait_for;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// A wrong answer is a ban, and nobody waits in turn for a challenge.
const STRICT: &str = "[server]\nport = 0\n[captcha]\ndrawn_ahead = 0\n\
                      [security]\nmax_captcha_failures = 1\n\
                      [limits]\nservice_challenges_per_minute = 6000000\n\
                      service_challenges_per_second = 100000\n";

/// How often a gate is killed while it bans.
const ROUNDS: u32 = 20;

/// How many circuits guess at one time.
const GUESSERS: u32 = 32;

/// Bans of a round before the gate is killed.
const BANS: usize = 200;

#[test]
fn abuse_27_a_gate_that_is_killed_under_load_has_every_ban_that_it_acknowledged() {
    let (mut count, mut rate) = (0, 0.0);
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let path = config(dir.path(), STRICT);
        let mut child =
            fortify(&["serve", "--config", &path]).stderr(Stdio::piped()).spawn().unwrap();
        let address = listening(&mut BufReader::new(child.stderr.take().unwrap()));
        let started = Instant::now();
        let (told, acknowledged) = std::sync::mpsc::channel();
        let guessers: Vec<_> = (0..GUESSERS)
            .map(|guesser| {
                let told = told.clone();
                std::thread::spawn(move || {
                    for number in (guesser << 16).. {
                        match guess_wrong(address, number) {
                            Some(429) => told.send(number).unwrap(),
                            Some(other) => panic!("{other} in place of a ban"),
                            None => return,
                        }
                    }
                })
            })
            .collect();
        let mut banned: Vec<u32> = acknowledged.iter().take(BANS).collect();
        rate += BANS as f64 / started.elapsed().as_secs_f64() / f64::from(ROUNDS);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(told);
        banned.extend(acknowledged.iter());
        for guesser in guessers {
            guesser.join().unwrap();
        }
        let list = ["circuits", "list", "--show-circuits", "--config", &path];
        let list = String::from_utf8(output(&mut fortify(&list)).stdout).unwrap();
        let there: HashSet<_> = list.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        for number in &banned {
            let address: std::net::Ipv6Addr = circuit_address(*number).parse().unwrap();
            assert!(there.contains(address.to_string().as_str()), "a ban is lost");
        }
        count += banned.len();
        let mut child =
            fortify(&["serve", "--config", &path]).stderr(Stdio::piped()).spawn().unwrap();
        let again = listening(&mut BufReader::new(child.stderr.take().unwrap()));
        assert_eq!(request(again, banned[0], "/captcha/generate", "").unwrap().0, 403);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        wait(&mut child);
    }
    println!("{count} bans acknowledged in {ROUNDS} rounds, {rate:.0} a second");
}

/// A running gate and what it logged.
struct Gate {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    fn start(config: &str) -> Self {
        // Past the limit of a file's size the kernel sends a signal, and only then an error.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" serve --config \"$1\""])
            .args([env!("CARGO_BIN_EXE_fortify"), config])
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (mut head, log) = (Vec::new(), Arc::<Mutex<Vec<String>>>::default());
        let address = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "{head:?}");
            let said = line.split_once("listening=http://").map(|(_, at)| at.trim().to_owned());
            head.push(line);
            if let Some(said) = said {
                break said.parse().unwrap();
            }
        };
        log.lock().unwrap().append(&mut head);
        let kept = log.clone();
        std::thread::spawn(move || {
            lines.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        Self { child, address, log }
    }

    /// How often it said so; waits for the first time, because the log is read beside what is answered.
    fn said(&self, text: &str) -> usize {
        let mut times = 0;
        wait_for(&format!("the log says {text:?}"), || {
            let log = self.log.lock().unwrap();
            times = log.iter().filter(|line| line.contains(text)).count();
            times > 0
        });
        times
    }

    fn ask(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.address).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Waits until `/ready`, which stays 200, says so.
    fn until_ready_says(&self, text: &str) {
        wait_for(&format!("/ready says {text}"), || {
            let answer = self.ask("/ready");
            let says = answer.contains(text);
            assert!(!says || answer.starts_with("HTTP/1.1 200"), "{answer}");
            says
        });
    }

    fn ban(&self, circuits: std::ops::Range<u32>) {
        for number in circuits {
            assert_eq!(guess_wrong(self.address, number), Some(429));
            assert!(self.refuses(number));
        }
    }

    fn refuses(&self, number: u32) -> bool {
        request(self.address, number, "/captcha/generate", "").unwrap().0 == 403
    }

    /// Ends it as an operator does: what is in SQLite's log is in the file then.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        wait(&mut self.child);
    }

    /// Ends it without a word, as a power cut does.
    fn kill(self) {
        drop(self);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[test]
fn bans_are_in_force_on_a_disk_that_takes_nothing_and_written_when_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), STRICT);
    let gate = Gate::start(&path);
    gate.ban(0..3);
    gate.until_ready_says(r#""reputation":"ok""#);
    let limit = |most| {
        let limit = Rlimit { current: most, maximum: None };
        prlimit(Some(Pid::from_child(&gate.child)), Resource::Fsize, limit).unwrap();
    };
    limit(Some(0));
    gate.ban(3..9);
    gate.until_ready_says(r#""reputation":"degraded""#);
    assert!(gate.ask("/metrics").contains("fortify_circuit_status_unwritten 6\n"));
    assert_eq!(gate.said("cannot be written"), 1, "said once");
    limit(None);
    gate.until_ready_says(r#""reputation":"ok""#);
    assert!(gate.ask("/metrics").contains("fortify_reputation_degraded 0\n"));
    gate.kill();
    let gate = Gate::start(&path);
    assert!((0..9).all(|number| gate.refuses(number)), "what was in memory alone is not written");
    gate.kill();
}

#[test]
fn a_file_that_is_damaged_under_a_running_gate_is_written_anew_from_memory() {
    for damage in ["overwritten", "replaced", "removed"] {
        let dir = tempfile::tempdir().unwrap();
        let path = config(dir.path(), STRICT);
        let file = dir.path().join("data/reputation.sqlite");
        let gate = Gate::start(&path);
        gate.ban(0..2);
        gate.stop();
        let gate = Gate::start(&path);
        gate.ban(2..4);
        match damage {
            "overwritten" => std::fs::write(&file, vec![7; 9000]).unwrap(),
            "replaced" => {
                std::fs::write(dir.path().join("other"), vec![7; 9000]).unwrap();
                std::fs::rename(dir.path().join("other"), &file).unwrap();
            }
            _ => std::fs::remove_file(&file).unwrap(),
        }
        gate.until_ready_says(r#""recreated":["reputation.sqlite"]"#);
        gate.until_ready_says(r#""reputation":"ok""#);
        assert_eq!(
            gate.said("replaced by an empty one: the new file starts without bans"),
            1,
            "{damage}"
        );
        gate.ban(4..6);
        gate.kill();
        let gate = Gate::start(&path);
        for number in 0..6 {
            assert!(gate.refuses(number), "a ban is lost after the file was {damage}");
        }
        gate.kill();
    }
}

#[test]
fn a_gate_whose_files_are_damaged_starts_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), STRICT);
    Gate::start(&path).stop();
    for name in ["reputation.sqlite", "audit.sqlite"] {
        std::fs::write(dir.path().join("data").join(name), "no database at all").unwrap();
    }
    let gate = Gate::start(&path);
    gate.until_ready_says(r#""recreated":["reputation.sqlite","audit.sqlite"]"#);
    assert_eq!(gate.said("a damaged file was moved aside"), 2);
    let metrics = gate.ask("/metrics");
    assert!(metrics.contains(r#"fortify_files_recreated{file="audit.sqlite"} 1"#), "{metrics}");
    // Closed to the unknown, as ever.
    assert_eq!(request(gate.address, 9, "/", "").unwrap().0, 403);
    gate.ban(0..1);
    gate.kill();
}

#[test]
fn accounts_that_are_damaged_shut_operators_out_and_are_left_for_them_to_decide_about() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), STRICT);
    Gate::start(&path).stop();
    let file = dir.path().join("data/admin.sqlite");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4096..].fill(7);
    std::fs::write(&file, &bytes).unwrap();
    let gate = Gate::start(&path);
    gate.until_ready_says(r#""admin_unavailable":true"#);
    assert!(gate.ask("/metrics").contains("fortify_admin_unavailable 1\n"));
    assert_eq!(gate.said("the admin interface is unavailable"), 1);
    assert_eq!(gate.said("restore a backup"), 1, "what to do is said");
    let log = gate.log.lock().unwrap();
    let tokens = log.iter().filter(|line| line.contains("there is no account yet")).count();
    assert_eq!(tokens, 0, "nobody gets a new setup token");
    drop(log);
    // Visitors are served.
    gate.ban(0..1);
    gate.stop();
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}

//! The configuration read again under load: not one request fails, whatever the file holds.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Reloads, by turns of a good file and a bad one.
const RELOADS: usize = 20;

/// Clients that ask without a pause meanwhile.
const CLIENTS: usize = 4;

/// A running gate and its log.
struct Gate {
    process: Child,
    log: BufReader<ChildStderr>,
    address: SocketAddr,
}

impl Gate {
    fn start(config: &Path) -> Self {
        Self::starting(config).started()
    }

    /// One that may not listen yet.
    fn starting(config: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_fortify"))
            .args(["serve", "--config"])
            .arg(config)
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        Self { process, log, address: ([0, 0, 0, 0], 0).into() }
    }

    fn started(mut self) -> Self {
        let line = self.says("listening=http://");
        let (_, address) = line.split_once("listening=http://").unwrap();
        self.address = address.trim().parse().unwrap();
        self
    }

    /// Whether it has a handler for `SIGHUP`, whose bit is the first (`proc(5)`).
    fn catches_hangups(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1)
    }

    /// The next line of the log with this in it.
    fn says(&mut self, what: &str) -> String {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            if line.contains(what) {
                return line;
            }
            line.clear();
        }
        panic!("the log ended without {what:?}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// The status and the body of a page; `None` unless all of it came.
fn get(gate: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect(gate).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Gates of other tests have operators' usual port.
fn write(path: &Path, data: &Path, more: &str) {
    let text = format!(
        "[server]\nport = 0\n[security]\nidentity = \"peer\"\n[limits]\nchallenges_per_minute = 1000\n\
         [admin]\nlisten = \"\"\n[storage]\ndata_dir = \"{}\"\n{more}",
        data.display()
    );
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_good_and_a_bad_file_under_load_fail_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let (path, data) = (dir.path().join("fortify.toml"), dir.path().join("data"));
    write(&path, &data, "[captcha]\nchallenge_status = 403\n");
    let mut gate = Gate::start(&path);
    let address = gate.address;
    assert_eq!(get(address, "/").unwrap().0, 403);

    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (stop, asked) = (stop.clone(), asked.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Half of it is drawn, half is not.
                    let path = if client % 2 == 0 { "/health" } else { "/_fortify/auth" };
                    let (status, _) = get(address, path).expect("an answer broke off");
                    assert!(matches!(status, 200 | 401), "{status}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..RELOADS {
        if round % 2 == 0 {
            let status = if round % 4 == 0 { 429 } else { 403 };
            // Another time in each round: a line that was logged a moment before is left out.
            let ttl = 200 + round;
            let more = format!("[captcha]\nchallenge_status = {status}\nttl_seconds = {ttl}\n");
            write(&path, &data, &more);
            gate.signal(Signal::HUP);
            let said = gate.says(&format!("-> {ttl}"));
            assert!(said.contains("reconfigured change=captcha.ttl"), "{said}");
            assert_eq!(get(address, "/").unwrap().0, status, "in force when it is said");
        } else {
            let before = get(address, "/").unwrap().0;
            let length = 90 + round;
            write(&path, &data, &format!("[captcha]\nlength = {length}\nlenth = 5\n"));
            gate.signal(Signal::HUP);
            let said = gate.says("the configuration was not reloaded");
            assert!(said.contains(&format!("captcha.length: {length}")), "{said}");
            assert_eq!(get(address, "/").unwrap().0, before, "a bad file changed something");
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a request failed");
    }
    println!("{} requests during {RELOADS} reloads, none failed", asked.load(Ordering::Relaxed));
    assert!(asked.load(Ordering::Relaxed) >= 100);
    let (_, metrics) = get(address, "/metrics").unwrap();
    for outcome in ["ok", "error"] {
        let line = format!("fortify_config_reloads_total{{outcome=\"{outcome}\"}} {}", RELOADS / 2);
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[test]
fn what_only_a_start_reads_is_named_and_stays_and_the_rest_is_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let (path, data) = (dir.path().join("fortify.toml"), dir.path().join("data"));
    write(&path, &data, "");
    let mut gate = Gate::start(&path);
    write(
        &path,
        &dir.path().join("elsewhere"),
        "[captcha]\nchallenge_status = 503\n[threat]\nlevel = 7\n",
    );
    gate.signal(Signal::HUP);
    gate.says("reconfigured");
    let said = gate.says("takes effect at the next start");
    assert!(said.contains("storage.data_dir"), "{said}");
    assert_eq!(get(gate.address, "/").unwrap().0, 503);
    let (_, metrics) = get(gate.address, "/metrics").unwrap();
    assert!(metrics.contains("fortify_threat_level 7"), "{metrics}");
    assert!(!dir.path().join("elsewhere").exists());
    gate.signal(Signal::TERM);
    assert_eq!(gate.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reload_while_the_gate_starts_does_not_end_it_and_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (path, data) = (dir.path().join("fortify.toml"), dir.path().join("data"));
    for round in 0..20_u64 {
        write(&path, &data, "[captcha]\nchallenge_status = 403\n");
        let gate = Gate::starting(&path);
        let started = Instant::now();
        while !gate.catches_hangups() {
            assert!(started.elapsed() < Duration::from_secs(20), "no handler");
        }
        // From the first moment on, and ever later.
        std::thread::sleep(Duration::from_millis(round));
        write(&path, &data, "[captcha]\nchallenge_status = 429\n");
        gate.signal(Signal::HUP);
        let gate = gate.started();
        let started = Instant::now();
        while get(gate.address, "/").unwrap().0 != 429 {
            assert!(started.elapsed() < Duration::from_secs(20), "the reload was lost");
        }
    }
}

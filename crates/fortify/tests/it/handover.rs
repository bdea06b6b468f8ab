//! A gate that starts again under load, on a socket that somebody else holds open, as systemd does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fortify_testkit::redis::Redis;
use rustix::process::{Pid, Signal, kill_process};

const RESTARTS: usize = 10;
const CLIENTS: usize = 4;

/// A gate on `socket`, once it says that it is open.
fn start(config: &Path, socket: impl Into<OwnedFd>) -> Child {
    let socket: OwnedFd = socket.into();
    let mut gate = Command::new(env!("CARGO_BIN_EXE_fortify"))
        .args(["serve", "--config"])
        .arg(config)
        .env_clear()
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", "0")
        .stdin(Stdio::from(socket))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(gate.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("the gate is open") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it does not start");
    }
    std::thread::spawn(move || drop(std::io::copy(&mut log, &mut std::io::sink())));
    gate
}

/// Asks on one connection until the gate says that it was the last time, and returns how often.
fn ask(gate: SocketAddr, opening: &str, most: usize) -> Result<u64, String> {
    let mut socket = TcpStream::connect(gate).map_err(|error| format!("refused: {error}"))?;
    socket.write_all(opening.as_bytes()).map_err(|error| format!("not taken: {error}"))?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for asked in 1..=most {
        let head = "GET /_fortify/auth HTTP/1.1\r\nHost: x\r\n\r\n";
        socket.write_all(head.as_bytes()).map_err(|error| format!("not taken: {error}"))?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
        while !answer.ends_with(b"\r\n\r\n") {
            let read = socket.read(&mut buffer).map_err(|error| format!("lost: {error}"))?;
            if read == 0 {
                return Err(format!("no answer to request {asked} of a connection"));
            }
            answer.extend_from_slice(&buffer[..read]);
        }
        let answer = String::from_utf8(answer).unwrap();
        if !answer.starts_with("HTTP/1.1 401") {
            return Err(answer);
        }
        if answer.to_lowercase().contains("connection: close") {
            return Ok(asked as u64);
        }
    }
    Ok(most as u64)
}

fn terminate(gate: &mut Child) {
    kill_process(Pid::from_child(gate), Signal::TERM).unwrap();
    assert!(gate.wait().unwrap().success());
}

fn config(dir: &Path, more: &str) -> PathBuf {
    let (path, data) = (dir.join("fortify.toml"), dir.join("data"));
    let text =
        format!("{more}[admin]\nlisten = \"\"\n[storage]\ndata_dir = \"{}\"\n", data.display());
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_unix_socket_that_is_held_open_answers_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "");
    let file = dir.path().join("held.sock");
    let socket = UnixListener::bind(&file).unwrap();
    for _ in 0..2 {
        let mut gate = start(&path, socket.try_clone().unwrap());
        let mut client = UnixStream::connect(&file).unwrap();
        client.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        terminate(&mut gate);
    }
    assert!(file.exists(), "it is not the gate's to remove");
}

#[test]
fn more_sockets_than_one_are_refused_with_the_name_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let said = Command::new(env!("CARGO_BIN_EXE_fortify"))
        .args(["serve", "--config"])
        .arg(config(dir.path(), ""))
        .env_clear()
        .env("LISTEN_FDS", "2")
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("ListenStream") && text.contains("there are 2"), "{text}");
}

#[test]
fn the_service_manager_hears_of_the_start_of_every_third_of_its_watchdog_and_of_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n");
    let file = dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&file).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hears = || {
        let mut buffer = [0; 256];
        let read = manager.recv(&mut buffer).expect("nothing is said");
        String::from_utf8_lossy(&buffer[..read]).trim().to_owned()
    };
    let mut gate = Command::new(env!("CARGO_BIN_EXE_fortify"))
        .args(["serve", "--config"])
        .arg(path)
        .env_clear()
        .env("NOTIFY_SOCKET", &file)
        .env("WATCHDOG_USEC", "300000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(hears(), "READY=1");
    assert_eq!([hears(), hears()], ["WATCHDOG=1"; 2]);
    kill_process(Pid::from_child(&gate), Signal::TERM).unwrap();
    while hears() != "STOPPING=1" {}
    assert!(gate.wait().unwrap().success());
}

#[test]
fn a_restart_under_load_fails_no_request_and_refuses_none() {
    restart_under_load("[security]\nidentity = \"peer\"\n", "");
}

#[test]
fn a_restart_under_load_behind_tor_fails_no_request_and_refuses_none() {
    let line = "PROXY TCP6 fc00:dead:beef:4dad::0:7 ::1 1 80\r\n";
    restart_under_load("[server]\nproxy_protocol = true\n", line);
}

#[expect(clippy::print_stdout, reason = "a measurement")]
fn restart_under_load(more: &str, opening: &'static str) {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), more);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut gate = start(&path, socket.try_clone().unwrap());
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (stop, asked) = (stop.clone(), asked.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answered = ask(address, opening, 100).expect("a request failed");
                    asked.fetch_add(answered, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..RESTARTS {
        let before = asked.load(Ordering::Relaxed);
        while asked.load(Ordering::Relaxed) < before + 200 {
            assert!(!clients.iter().any(|client| client.is_finished()), "a request failed");
            std::thread::yield_now();
        }
        let stopped = Instant::now();
        terminate(&mut gate);
        gate = start(&path, socket.try_clone().unwrap());
        slowest = slowest.max(stopped.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a request failed");
    }
    gate.kill().unwrap();
    gate.wait().unwrap();
    let asked = asked.load(Ordering::Relaxed);
    println!(
        r#"{{"test":"restart","restarts":{RESTARTS},"requests":{asked},"slowest_ms":{}}}"#,
        slowest.as_millis()
    );
}

#[test]
fn whoever_waits_while_it_starts_over_redis_is_answered_by_a_gate_that_has_read_it() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start(&[]));
    let path = dir.path().join("fortify.toml");
    let (data, place) = (dir.path().join("data"), redis.socket());
    let text = format!(
        "[security]\nidentity = \"peer\"\n[admin]\nlisten = \"\"\n[storage]\nbackend = \"redis\"\n\
         url = \"unix://{}\"\ndata_dir = \"{}\"\n",
        place.display(),
        data.display()
    );
    std::fs::write(&path, text).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut gate = start(&path, socket.try_clone().unwrap());
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        let line = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        assert_eq!(line, "HTTP/1.1 403", "a challenge and no fault");
        terminate(&mut gate);
    }
}

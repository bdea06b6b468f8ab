//! A gate that starts again under load, on a socket that somebody else holds open, as systemd does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const RESTARTS: usize = 10;
const CLIENTS: usize = 4;

/// A gate on `socket`, once it says that it is open.
fn start(config: &Path, socket: &TcpListener) -> Child {
    let socket = OwnedFd::from(socket.try_clone().unwrap());
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
    let path = dir.path().join("fortify.toml");
    let data = dir.path().join("data");
    let text =
        format!("{more}[admin]\nlisten = \"\"\n[storage]\ndata_dir = \"{}\"\n", data.display());
    std::fs::write(&path, text).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut gate = start(&path, &socket);
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
        kill_process(Pid::from_child(&gate), Signal::TERM).unwrap();
        assert!(gate.wait().unwrap().success());
        gate = start(&path, &socket);
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

//! The `fortify` binary as a process, and requests to it.

use std::io::{BufRead, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The path of the binary for the running test: cargo puts it into the folder above the test's own, for tests of
/// its package.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join("fortify");
    assert!(binary.is_file(), "no {}: cargo builds it for tests of fortify", binary.display());
    binary
}

/// A command that runs the binary with these arguments and an empty environment.
pub fn fortify(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).env_clear();
    command
}

/// Runs a command to its end.
///
/// # Panics
///
/// If it takes longer than 20 seconds.
pub fn output(command: &mut Command) -> Output {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    wait(&mut child);
    child.wait_with_output().unwrap()
}

/// Waits for a process, and returns its exit code.
///
/// # Panics
///
/// If it takes longer than 20 seconds.
pub fn wait(child: &mut Child) -> i32 {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if started.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("still running after 20 s");
        }
        std::thread::yield_now();
    }
}

/// Writes a configuration with its data in `dir`, and returns its path.
pub fn config(dir: &Path, more: &str) -> String {
    let path = dir.join("fortify.toml");
    let data = dir.join("data");
    // Other tests use the default port.
    let end = "[admin]\nlisten = \"\"\n";
    let text = format!("[storage]\ndata_dir = \"{}\"\n{more}\n{end}", data.display());
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Gives a wrong answer from a circuit, and returns the status; `None` once the service has ended.
pub fn guess_wrong(gate: SocketAddr, number: u32) -> Option<u16> {
    let (_, body) = request(gate, number, "/captcha/generate", "")?;
    let challenge: serde_json::Value = serde_json::from_str(&body).ok()?;
    let answer = serde_json::json!({"challenge_id": challenge["token"], "solution": "no"});
    Some(request(gate, number, "/verify-captcha", &answer.to_string())?.0)
}

/// The status and the body of a `POST`; `None` unless the response is complete.
pub fn request(gate: SocketAddr, number: u32, path: &str, body: &str) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect(gate).ok()?;
    let (circuit, length) = (circuit_address(number), body.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nX-Circuit-ID: {circuit}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The address of a circuit, as `HAProxy` writes it.
pub fn circuit_address(number: u32) -> String {
    format!("fc00:dead:beef:4dad::{:x}:{:x}", number >> 16, number & 0xffff)
}

/// Reads the log up to the line with the address that the service listens on.
pub fn listening(log: &mut impl BufRead) -> SocketAddr {
    let mut line = String::new();
    while log.read_line(&mut line).unwrap() > 0 {
        if let Some((_, address)) = line.split_once("listening=http://") {
            return address.trim().parse().unwrap();
        }
        line.clear();
    }
    panic!("the gate did not say where it listens");
}

//! The gate under load, over real sockets on loopback. JSON lines; `make bench-gate`, `make bench-http`.
//!
//! - `gate`: `/_fortify/auth` with a valid cookie under wrk, and in the same run nginx answering a
//!   constant 204, in turns, so that both meet the same machine.
//! - `http`: complete rounds of many circuits: a challenge, its picture, its answer. The load runs in
//!   the same process and takes its share of the processors; the answers come from the store.
//!
//! `LOAD_SECONDS` is how long each measurement takes, `LOAD_CONNECTIONS` how many connections it holds;
//! `LOAD_STORE` is `memory`, or `redis` for a Redis of the bench's own on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints and may stop"
)]

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use fortify_config::StorageBackend;
use fortify_core::circuit::IdentityMode;
use fortify_testkit::TestGate;
use fortify_testkit::redis::{Redis, until};
use fortify_testkit::servers::{Process, check, command, free_address};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Circuits that take turns: more than a gate keeps failures of at once would be another experiment.
const CIRCUITS: u64 = 20_000;

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    // `cargo bench` without an argument runs every bench; these are asked for by name.
    match std::env::args().find(|argument| argument == "gate" || argument == "http").as_deref() {
        Some("gate") => gate().await,
        Some("http") => http().await,
        _ => {}
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The store of this run, as `LOAD_STORE` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Memory,
    Redis,
}

impl Store {
    fn chosen() -> Self {
        match std::env::var("LOAD_STORE").as_deref() {
            Err(_) | Ok("memory") => Self::Memory,
            Ok("redis") => Self::Redis,
            Ok(other) => panic!("LOAD_STORE is memory or redis, not {other:?}"),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }
}

/// The gate, and the Redis under it where there is one, which ends when it is dropped.
async fn test_gate(store: Store) -> (TestGate, Option<Redis>) {
    let redis = (store == Store::Redis).then(|| Redis::start(&[]));
    let test_gate = TestGate::with(|parts| {
        if let Some(redis) = &redis {
            parts.config.storage.backend = StorageBackend::Redis;
            parts.config.storage.redis = redis.config();
        }
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.upstream.servers = Vec::new();
        parts.config.captcha.level = 2;
        parts.config.captcha.variant_weights = Vec::new();
        parts.config.captcha.carrier_weights = Vec::new();
        parts.config.captcha.max_active = 100_000;
        parts.config.captcha.max_active_per_circuit = 3;
    })
    .await;
    until("the store to answer", || async {
        test_gate.app.engine.parts().store.ping().await.is_ok()
    })
    .await;
    (test_gate, redis)
}

fn machine() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    format!(r#""cores":{cores},"load1":{}"#, load.split(' ').next().unwrap())
}

async fn gate() {
    let (seconds, connections) = (setting("LOAD_SECONDS", 5), setting("LOAD_CONNECTIONS", 16));
    let store = Store::chosen();
    let (test_gate, _redis) = test_gate(store).await;
    let mut visitor = test_gate.visitor().circuit("fc00:dead:beef:4dad::19");
    let page = visitor.get("/").await;
    assert!(test_gate.solve(&mut visitor, &page).await.admits());
    assert_eq!(visitor.get("/_fortify/auth").await.status, StatusCode::NO_CONTENT);
    let (nginx, _running, _folder) = constant_204();
    let cookie = format!("cerberus_session={}", visitor.cookies["cerberus_session"]);

    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..4 {
        for (which, address) in [test_gate.address, nginx].into_iter().enumerate() {
            // The first round warms up and does not count.
            let took = if round == 0 { 2 } else { seconds };
            let cookie = cookie.clone();
            let load = move || wrk(address, &cookie, took, connections);
            let answer = tokio::task::spawn_blocking(load).await.unwrap();
            if round > 0 {
                rates[which].push(answer.rate);
                println!(
                    r#"{{"bench":"gate","store":"{}","server":"{}","round":{round},"seconds":{took},"connections":{connections},"per_second":{:.0},"p99_ms":{:.3},"errors":{},{}}}"#,
                    store.name(),
                    ["fortify", "nginx"][which],
                    answer.rate,
                    answer.p99_ms,
                    answer.errors,
                    machine()
                );
            }
        }
    }
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    println!(
        r#"{{"bench":"gate","store":"{}","fortify_per_second":{:.0},"nginx_per_second":{:.0},"ratio":{:.2}}}"#,
        store.name(),
        mean(&rates[0]),
        mean(&rates[1]),
        mean(&rates[0]) / mean(&rates[1])
    );
    test_gate.stop().await;
}

/// nginx that does nothing but answer.
fn constant_204() -> (SocketAddr, Process, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (root, address) = (folder.path().display(), free_address());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
        .concat();
    let config = format!(
        "worker_processes auto;\npid {root}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 100000000;\n{temporary}\
         server {{ listen {address}; location / {{ return 204; }} }}\n}}\n"
    );
    let file = folder.path().join("nginx.conf");
    fs::write(&file, config).unwrap();
    let mut nginx = command("nginx");
    nginx.args(["-e", "stderr", "-g", "daemon off;", "-c"]).arg(&file);
    let process = Process::start(&mut nginx, address, &folder.path().join("log"));
    (address, process, folder)
}

struct Measured {
    rate: f64,
    p99_ms: f64,
    errors: u64,
}

fn wrk(address: SocketAddr, cookie: &str, seconds: u64, connections: u64) -> Measured {
    let said = check(
        command("wrk")
            .args(["-t1", "--latency", "--timeout", "5s"])
            .arg(format!("-c{connections}"))
            .arg(format!("-d{seconds}s"))
            .args(["-H", &format!("Cookie: {cookie}")])
            .args(["-H", "X-Circuit-ID: fc00:dead:beef:4dad::19"])
            .arg(format!("http://{address}/_fortify/auth"))
            .stdin(Stdio::null()),
    );
    let after = |name: &str| {
        let rest = said.lines().find_map(|line| line.trim().strip_prefix(name))?;
        Some(rest.trim_start_matches(':').trim().to_owned())
    };
    let p99 = after("99%").unwrap();
    let number: f64 = p99.trim_end_matches(char::is_alphabetic).parse().unwrap();
    let p99_ms = match p99.trim_start_matches(|c: char| !c.is_alphabetic()) {
        "us" => number / 1e3,
        "ms" => number,
        _ => number * 1e3,
    };
    let refused = after("Non-2xx or 3xx responses").map_or(0, |text| text.parse().unwrap());
    let broken = after("Socket errors").map_or(0, |text| {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok()).sum()
    });
    Measured {
        rate: after("Requests/sec").unwrap().parse().unwrap(),
        p99_ms,
        errors: refused + broken,
    }
}

async fn http() {
    let (seconds, connections) = (setting("LOAD_SECONDS", 15), setting("LOAD_CONNECTIONS", 32));
    let store = Store::chosen();
    let (test_gate, _redis) = test_gate(store).await;
    let test_gate = Arc::new(test_gate);
    let next = Arc::new(AtomicU64::new(0));
    // Two seconds of warm-up: styles, the stock of pictures, allocations.
    rounds(&test_gate, &next, Duration::from_secs(2), connections).await;
    let before = rss_mib();
    let (times, errors) =
        rounds(&test_gate, &next, Duration::from_secs(seconds), connections).await;
    let at = |quantile: f64| {
        let index = (times.len().saturating_sub(1) as f64 * quantile) as usize;
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    println!(
        r#"{{"bench":"http","store":"{}","seconds":{seconds},"connections":{connections},"circuits":{CIRCUITS},"rounds":{},"rounds_per_second":{:.0},"p50_ms":{:.2},"p99_ms":{:.2},"errors":{errors},"rss_start_mib":{before:.1},"rss_end_mib":{:.1},{}}}"#,
        store.name(),
        times.len(),
        times.len() as f64 / seconds as f64,
        at(0.5),
        at(0.99),
        rss_mib(),
        machine()
    );
}

/// Lets every connection do one round after the other, and gives their times, sorted, and how many
/// failed.
async fn rounds(
    test_gate: &Arc<TestGate>,
    next: &Arc<AtomicU64>,
    time: Duration,
    connections: u64,
) -> (Vec<Duration>, u64) {
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (test_gate, next, over) = (test_gate.clone(), next.clone(), over.clone());
            tokio::spawn(async move {
                let (mut times, mut errors) = (Vec::new(), 0);
                let mut connection = Connection::to(test_gate.address).await;
                while !over.load(Ordering::Relaxed) {
                    let circuit = next.fetch_add(1, Ordering::Relaxed) % CIRCUITS;
                    let started = Instant::now();
                    if round(&test_gate, &mut connection, circuit).await {
                        times.push(started.elapsed());
                    } else {
                        errors += 1;
                        connection = Connection::to(test_gate.address).await;
                    }
                }
                (times, errors)
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let (mut all, mut failed) = (Vec::new(), 0);
    for client in clients {
        let (times, errors) = client.await.unwrap();
        all.extend(times);
        failed += errors;
    }
    all.sort_unstable();
    (all, failed)
}

/// One challenge from its issue to the session; false where any step did not go as it should.
async fn round(test_gate: &TestGate, connection: &mut Connection, circuit: u64) -> bool {
    let circuit = format!("fc00:dead:beef:4dad::{:x}:{:x}", circuit >> 16, circuit & 0xffff);
    let Some(issued) = connection.ask("POST /captcha/generate", &circuit, "").await else {
        return false;
    };
    let Ok(issued) = serde_json::from_slice::<serde_json::Value>(&issued) else { return false };
    let Some(token) = issued["token"].as_str() else { return false };
    let picture = connection.ask(&format!("GET /captcha/{token}.png"), &circuit, "").await;
    if !picture.is_some_and(|picture| picture.starts_with(b"\x89PNG")) {
        return false;
    }
    let solution = test_gate.answer(token).await;
    let body = serde_json::json!({"challenge_id": token, "solution": solution}).to_string();
    connection.ask("POST /verify-captcha", &circuit, &body).await.is_some()
}

/// A connection that is kept, with as little between the load and the gate as there can be.
struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Connection {
    async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, address, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// The body of a 200; nothing for every other answer.
    async fn ask(&mut self, what: &str, circuit: &str, body: &str) -> Option<Vec<u8>> {
        let request = format!(
            "{what} HTTP/1.1\r\nhost: {}\r\nx-circuit-id: {circuit}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.ok()?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
            if let Some((start, end)) = body_of(&self.buffer)
                && self.buffer.len() >= end
            {
                let ok = self.buffer.starts_with(b"HTTP/1.1 200");
                return ok.then(|| self.buffer[start..end].to_vec());
            }
        }
    }
}

/// Where the body of an answer begins and ends, once its head is there.
fn body_of(answer: &[u8]) -> Option<(usize, usize)> {
    let start = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..start]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    Some((start, start + length))
}

/// What this process holds in memory, load included.
fn rss_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    kib / 1024.0
}

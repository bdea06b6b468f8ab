//! Requests at an even pace, whatever becomes of the ones before, and as many as the machine makes. Threads that block:
//! nothing is sent twice in silence, as a browser would, so that what fails is counted.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::{Browser, HOST, proxy_line};

/// Requests of a connection, after which the next is made on another one.
const REQUESTS: usize = 100;

/// How long an answer may take before the request counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests that are sent at once, without the answers of those before.
const PIPELINED: usize = 32;

/// One request and who sends it, again and again.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Where the gate is.
    pub front: SocketAddr,
    /// The circuit.
    pub circuit: u32,
    /// The request as it is written.
    pub request: String,
}

impl Sender {
    /// One that asks for `path` without a session.
    #[must_use]
    pub fn stranger(front: SocketAddr, circuit: u32, path: &str) -> Self {
        Self::with(front, circuit, path, "")
    }

    /// One that asks the gate at `front` for `path` with the cookies of `browser`.
    #[must_use]
    pub fn member(front: SocketAddr, browser: &Browser, path: &str) -> Self {
        let cookies: Vec<_> = browser.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let cookie = format!("Cookie: {}\r\n", cookies.join("; "));
        Self::with(front, browser.circuit, path, &cookie)
    }

    fn with(front: SocketAddr, circuit: u32, path: &str, more: &str) -> Self {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/html\r\n{more}\r\n");
        Self { front, circuit, request }
    }
}

/// What came of requests.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// All of them.
    pub requests: u64,
    /// Answered as whoever is admitted is: 200 and 204.
    pub admitted: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Reset, closed without an answer, not answered in time, or answered with 5xx.
    pub failed: u64,
    /// Answered with anything else: 401, 403, a redirect.
    pub turned_away: u64,
    /// The longest wait for an answer in milliseconds, from the moment at which the request was due: it includes what
    /// held up the one before.
    pub slowest_ms: u64,
    /// All that was not admitted, by status or fault.
    pub others: BTreeMap<String, u64>,
}

impl Tally {
    fn count(&mut self, answer: &Result<u16>) {
        self.requests += 1;
        let what = match answer {
            Ok(200 | 204) => {
                self.admitted += 1;
                return;
            }
            Ok(status) if *status >= 500 => {
                self.failed += 1;
                status.to_string()
            }
            Ok(status) => {
                self.turned_away += 1;
                status.to_string()
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.refused += 1;
                "refused".to_owned()
            }
            Err(error) => {
                self.failed += 1;
                format!("{:?}", error.kind())
            }
        };
        *self.others.entry(what).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.failed += other.failed;
        self.turned_away += other.turned_away;
        self.slowest_ms = self.slowest_ms.max(other.slowest_ms);
        for (what, count) in other.others {
            *self.others.entry(what).or_default() += count;
        }
    }
}

/// Threads that send until they are told to end, or dropped.
#[derive(Debug)]
pub struct Load {
    threads: Vec<JoinHandle<Tally>>,
    stop: Arc<AtomicBool>,
    begun: Instant,
}

impl Default for Load {
    fn default() -> Self {
        Self { threads: Vec::new(), stop: Arc::default(), begun: Instant::now() }
    }
}

impl Load {
    /// Adds senders, each with a thread and `rate` requests a second.
    pub fn pace(&mut self, senders: impl IntoIterator<Item = Sender>, rate: f64) {
        let every = Duration::from_secs_f64(1.0 / rate);
        for sender in senders {
            let stop = self.stop.clone();
            // They do not all begin at once.
            let begun = Instant::now() + every.mul_f64(self.threads.len() as f64 * 0.618 % 1.0);
            self.threads.push(std::thread::spawn(move || pace(&sender, begun, every, &stop)));
        }
    }

    /// Adds senders, each with a thread that sends as fast as it is answered.
    pub fn flood(&mut self, senders: impl IntoIterator<Item = Sender>) {
        for sender in senders {
            let stop = self.stop.clone();
            self.threads.push(std::thread::spawn(move || flood(&sender, &stop)));
        }
    }

    /// Ends it: what came of it, and how many requests there were a second.
    #[must_use]
    pub fn end(mut self) -> (Tally, f64) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads.drain(..) {
            // One that panicked has nothing to say; what it printed is on standard error.
            all.merge(thread.join().unwrap_or_default());
        }
        let rate = all.requests as f64 / seconds;
        (all, rate)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn pace(sender: &Sender, begun: Instant, every: Duration, stop: &AtomicBool) -> Tally {
    let (mut tally, mut wire, mut due) = (Tally::default(), None, begun);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = exchange(&mut wire, sender);
        tally.slowest_ms = tally.slowest_ms.max(due.elapsed().as_millis() as u64);
        tally.count(&answer);
        due += every;
    }
    tally
}

fn exchange(kept: &mut Option<Wire>, sender: &Sender) -> Result<u16> {
    let mut wire = match kept.take() {
        Some(wire) => wire,
        None => Wire::open(sender)?,
    };
    wire.stream.write_all(sender.request.as_bytes())?;
    let (status, closes) = wire.answer()?;
    *kept = (!closes && wire.answered < REQUESTS).then_some(wire);
    Ok(status)
}

fn flood(sender: &Sender, stop: &AtomicBool) -> Tally {
    let (mut tally, batch) = (Tally::default(), sender.request.repeat(PIPELINED));
    while !stop.load(Ordering::Relaxed) {
        // One that is closed is opened again; what was not answered on it is not counted as a request.
        let Ok(mut wire) = Wire::open(sender) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let mut open = true;
        while open && !stop.load(Ordering::Relaxed) {
            open = wire.stream.write_all(batch.as_bytes()).is_ok();
            for _ in 0..PIPELINED {
                let Ok((status, closes)) = wire.answer() else {
                    open = false;
                    break;
                };
                open &= !closes;
                tally.count(&Ok(status));
            }
        }
    }
    tally
}

/// A connection, and what of the answers on it was read.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where in the buffer the next answer begins.
    at: usize,
    answered: usize,
}

impl Wire {
    fn open(sender: &Sender) -> Result<Self> {
        let mut stream = TcpStream::connect_timeout(&sender.front, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(proxy_line(sender.circuit).as_bytes())?;
        Ok(Self { stream, buffer: Vec::new(), at: 0, answered: 0 })
    }

    /// Reads one answer: its status, and whether it is the last of the connection.
    fn answer(&mut self) -> Result<(u16, bool)> {
        let (mut looked, end) = (0, b"\r\n\r\n");
        let head = loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            let found = rest.get(looked..).unwrap_or_default();
            if let Some(place) = found.windows(end.len()).position(|bytes| bytes == end) {
                break looked + place;
            }
            looked = rest.len().saturating_sub(end.len() - 1);
            self.read()?;
        };
        let text =
            String::from_utf8_lossy(self.buffer.get(self.at..self.at + head).unwrap_or_default())
                .to_ascii_lowercase();
        let status = text.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.parse().ok()).unwrap_or(0_usize);
        // Nothing that is asked here is sent in chunks; one that is would make nonsense of what follows.
        if text.contains("transfer-encoding") {
            return Err(ErrorKind::Unsupported.into());
        }
        self.at += head + end.len() + length;
        while self.buffer.len() < self.at {
            self.read()?;
        }
        self.answered += 1;
        Ok((status, text.contains("connection: close")))
    }

    fn read(&mut self) -> Result<()> {
        if self.at > 0 && self.at <= self.buffer.len() {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let mut more = [0; 16 * 1024];
        match self.stream.read(&mut more)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(more.get(..count).unwrap_or_default());
                Ok(())
            }
        }
    }
}

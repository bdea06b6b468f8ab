//! Tor's own figures, from its metrics port: what it refuses or delays reaches no gate, and is seen only here.
//!
//! Tor answers a plain `GET` with HTTP/1.0 and Prometheus' text format, and leaves the connection open.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fortify_core::advice::{Advise, both};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use crate::metrics::{TorFigures, TorMetrics};

/// How often the figures are read: as often as the dial takes a sample.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long one reading may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// The most bytes of an answer, head included. Tor 0.4.9 sends 31 KiB, and 3 KiB more for each service.
const MAX_ANSWER: usize = 256 * 1024;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[error("{}", both(self))]
pub enum FiguresError {
    /// The metrics port cannot be reached, or the connection broke.
    Unreachable(SocketAddr, #[source] io::Error),
    /// It took too long.
    Slow(SocketAddr),
    /// The answer has no figures of tor, or is too long.
    Foreign(SocketAddr),
}

impl Advise for FiguresError {
    fn problem(&self) -> String {
        match self {
            Self::Unreachable(address, error) => {
                format!("cannot read tor's metrics port {address}: {error}")
            }
            Self::Slow(address) => format!("tor's metrics port {address} does not answer"),
            Self::Foreign(address) => format!("what answers at {address} has no figures of tor"),
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        let (Self::Unreachable(address, _) | Self::Slow(address) | Self::Foreign(address)) = self;
        let advice = format!(
            "check that tor runs and that torrc has \"MetricsPort {address}\" and \"MetricsPortPolicy accept \
             {}\"; tor.metrics_address in the configuration names it",
            address.ip()
        );
        Some(advice.into())
    }
}

/// Tor's metrics port, where `tor.metrics_address` is set.
#[derive(Debug)]
pub struct MetricsPort {
    address: SocketAddr,
    up: AtomicBool,
    metrics: TorMetrics,
}

impl MetricsPort {
    /// Not read yet. The first reading follows in [`Self::run`].
    #[must_use]
    pub fn new(address: SocketAddr, metrics: TorMetrics) -> Arc<Self> {
        metrics.set_figures(None);
        Arc::new(Self { address, up: AtomicBool::new(false), metrics })
    }

    /// Whether the last reading succeeded.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Reads forever, and calls `tell` with each result; without one, tor strains nothing. Each new problem is logged
    /// once.
    pub async fn run(self: Arc<Self>, tell: impl Fn(TorFigures) + Send) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut reported, mut before) = (String::new(), None);
        loop {
            tick.tick().await;
            match read(self.address).await {
                Ok(found) => {
                    let rejected = since(before.replace(found.rejected), found.rejected);
                    let news = TorFigures { rejected, ..found };
                    self.metrics.set_figures(Some(&news));
                    // After what it says is known, so that whoever waits for it finds that.
                    tell(news);
                    self.up.store(true, Ordering::Release);
                    reported.clear();
                }
                Err(error) => {
                    self.up.store(false, Ordering::Release);
                    self.metrics.set_figures(None);
                    tell(TorFigures::default());
                    let text = error.to_string();
                    if text != reported {
                        tracing::warn!(error = text, "tor's own figures are not known");
                        reported = text;
                    }
                }
            }
        }
    }
}

/// How much a counter of tor rose. What was counted before the first reading is not news, and a counter that fell has
/// started again.
fn since(before: Option<u64>, now: u64) -> u64 {
    match before {
        None => 0,
        Some(before) => now.checked_sub(before).unwrap_or(now),
    }
}

/// Reads the figures once.
///
/// # Errors
///
/// [`FiguresError`], with what to do.
pub async fn read(address: SocketAddr) -> Result<TorFigures, FiguresError> {
    match tokio::time::timeout(DEADLINE, fetch(address)).await {
        Err(_elapsed) => Err(FiguresError::Slow(address)),
        Ok(Err(error)) => Err(FiguresError::Unreachable(address, error)),
        Ok(Ok(answer)) => parse(&answer).ok_or(FiguresError::Foreign(address)),
    }
}

/// The answer with its head, up to its stated length, the end of the connection or [`MAX_ANSWER`].
async fn fetch(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut part = [0; 8 * 1024];
    while answer.len() < MAX_ANSWER && !is_whole(&answer) {
        match stream.read(&mut part).await? {
            0 => break,
            read => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
    Ok(answer)
}

/// The head of an answer, and what came of its body.
fn split(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    Some((answer.get(..end)?, answer.get(end + 4..)?))
}

/// Whether as much of the body is there as the head says.
fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = split(answer) else { return false };
    let length = String::from_utf8_lossy(head).lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}

/// Reads the figures; `None` unless the answer is whole and tor's.
fn parse(answer: &[u8]) -> Option<TorFigures> {
    let (head, body) = split(answer)?;
    let mut words = head.split(|byte| *byte == b' ');
    let is_good = words.next()?.starts_with(b"HTTP/1.") && words.next()? == b"200";
    if !is_good || !is_whole(answer) {
        return None;
    }
    let (mut figures, mut is_tor) = (TorFigures::default(), false);
    for line in String::from_utf8_lossy(body).lines() {
        is_tor |= line.starts_with("tor_");
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        // Labels may hold blanks, a value does not.
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
        let Some(value) = value else { continue };
        match name {
            "tor_hs_pow_suggested_effort" => figures.effort = figures.effort.max(value),
            "tor_hs_rdv_pow_pqueue_count" => figures.queued = figures.queued.saturating_add(value),
            "tor_hs_intro_rejected_intro_req_count" => {
                figures.rejected = figures.rejected.saturating_add(value);
            }
            _ => {}
        }
    }
    is_tor.then_some(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(body: &str) -> Vec<u8> {
        format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    /// Lines of tor 0.4.9, with another service and other values.
    const BODY: &str = "\
# HELP tor_hs_rdv_pow_pqueue_count Number of requests waiting in the proof of work priority queue
# TYPE tor_hs_rdv_pow_pqueue_count gauge
tor_hs_rdv_pow_pqueue_count{onion=\"a\"} 300
tor_hs_rdv_pow_pqueue_count{onion=\"b\"} 4
tor_hs_pow_suggested_effort{onion=\"a\"} 12
tor_hs_pow_suggested_effort{onion=\"b\"} 7
tor_hs_intro_rejected_intro_req_count{onion=\"a\",reason=\"bad_auth_key\"} 1
tor_hs_intro_rejected_intro_req_count{onion=\"a\",reason=\"replay\"} 20
tor_hs_intro_rejected_intro_req_count{onion=\"b\",reason=\"replay\"} -5
tor_hs_intro_rejected_intro_req_count_more{onion=\"b\"} 1000
";

    #[test]
    fn figures_are_read_over_all_services_and_reasons() {
        let expected = TorFigures { effort: 12, queued: 304, rejected: 21 };
        assert_eq!(parse(&answer(BODY)), Some(expected));
        let without_services = answer("tor_relay_connections{type=\"OR listener\"} 3\n");
        assert_eq!(parse(&without_services), Some(TorFigures::default()));
    }

    #[test]
    fn what_is_not_whole_or_not_tors_has_no_figures() {
        let whole = answer(BODY);
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
        let refused = String::from_utf8(whole).unwrap().replace("200 OK", "404 Not Found");
        for other in [refused.into_bytes(), answer("up 1\n"), answer(""), Vec::new()] {
            assert_eq!(parse(&other), None);
        }
    }

    #[test]
    fn only_what_a_counter_rose_since_the_last_reading_is_news() {
        let cases = [(None, 900, 0), (Some(900), 905, 5), (Some(905), 905, 0), (Some(905), 3, 3)];
        for (before, now, news) in cases {
            assert_eq!(since(before, now), news);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _any = parse(&bytes);
            let body = String::from_utf8_lossy(&bytes);
            let _any = parse(&answer(&body));
        }

        #[test]
        fn what_is_not_known_changes_nothing(
            unknown in "[a-z_#]{0,40}(\\{[ -~]{0,40}\\})?[ -~]{0,40}",
            values in prop::collection::vec(any::<u64>(), 0..5),
        ) {
            prop_assume!(!unknown.starts_with("tor_hs_"));
            let known: String = (values.iter().enumerate())
                .map(|(n, value)| format!("tor_hs_rdv_pow_pqueue_count{{onion=\"{n} x\"}} {value}\n"))
                .collect();
            let queued = values.iter().fold(0_u64, |sum, value| sum.saturating_add(*value));
            let found = parse(&answer(&format!("{unknown}\ntor_up 1\n{known}{unknown}\n")));
            prop_assert_eq!(found, Some(TorFigures { queued, ..TorFigures::default() }));
        }
    }
}

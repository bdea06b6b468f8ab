//! What the gate says of itself, once a second: its metrics, its memory, its descriptors, and what reached the
//! service.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use crate::service::Service;

/// The state at one moment; metrics are missing where the gate did not answer in time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Seconds since the start of the run.
    pub at: f64,
    /// The threat level.
    pub level: Option<f64>,
    /// Challenges given out since the start.
    pub issued: Option<f64>,
    /// Visitors who wait for one.
    pub waiting: Option<f64>,
    /// Sessions since the start.
    pub sessions: Option<f64>,
    /// Memory of Fortify, in KiB.
    pub rss_kib: Option<u64>,
    /// Its open descriptors.
    pub fds: Option<u64>,
    /// Requests of people that have reached the service.
    pub people: u64,
    /// Requests of attackers that have.
    pub attackers: u64,
}

/// Takes a sample a second until it is dropped.
#[derive(Debug)]
pub struct Monitor {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: AbortHandle,
}

impl Monitor {
    /// Starts it; times count from `begun`.
    #[must_use]
    pub fn start(admin: PathBuf, pid: u32, service: Arc<Service>, begun: Instant) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let kept = samples.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                let sample = sample(&admin, pid, &service, begun).await;
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
        });
        Self { samples, task: task.abort_handle() }
    }

    /// What was seen so far.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sample(admin: &Path, pid: u32, service: &Service, begun: Instant) -> Sample {
    let at = begun.elapsed().as_secs_f64();
    let (people, attackers) = service.counts();
    let (rss_kib, fds) = process(pid);
    let text = timeout(Duration::from_secs(2), ask(admin, Method::GET, "/metrics", None)).await;
    let text = text.ok().and_then(Result::ok).unwrap_or_default();
    Sample {
        at,
        level: metric(&text, "fortify_threat_level"),
        issued: metric(&text, "fortify_challenges_issued_total"),
        waiting: metric(&text, "fortify_queue_waiting"),
        sessions: metric(&text, "fortify_sessions_issued_total"),
        rss_kib,
        fds,
        people,
        attackers,
    }
}

/// Memory (KiB) and open descriptors of a process.
#[must_use]
pub fn process(pid: u32) -> (Option<u64>, Option<u64>) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.and_then(|text| text.trim().trim_end_matches("kB").trim().parse().ok());
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|all| all.count() as u64);
    (rss, fds)
}

/// The sum of a metric over its labels; `None` if it is not there.
fn metric(text: &str, name: &str) -> Option<f64> {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split(' ').next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(of).reduce(|sum, value| sum + value)
}

/// Asks the admin API on its socket, and gives the body of a response that is no error.
///
/// # Errors
///
/// If there is none.
pub async fn ask(admin: &Path, method: Method, path: &str, body: Option<String>) -> Result<String> {
    let stream = UnixStream::connect(admin).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    drop(tokio::spawn(connection));
    let request = Request::builder()
        .method(method)
        .uri(format!("/admin/api/v1{path}"))
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body.unwrap_or_default()))
        .context("the request")?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!("{path}: {status}: {text}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# TYPE fortify_a counter\nfortify_a_total{x=\"1\",y=\"} 2\"} 3\n\
                    fortify_a_total{x=\"2\"} 4 1700000000\nfortify_a_total_more 9\nfortify_b 1.5\n";
        assert_eq!(metric(text, "fortify_a_total"), Some(7.0));
        assert_eq!(metric(text, "fortify_b"), Some(1.5));
        assert_eq!(metric(text, "fortify_c"), None);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let (rss, fds) = process(std::process::id());
        assert!(rss.unwrap() > 100 && fds.unwrap() > 2);
    }
}

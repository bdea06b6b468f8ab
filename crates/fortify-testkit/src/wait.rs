//! Waiting for a condition. A test never sleeps and hopes: it names what it waits for, and fails with that
//! name when it does not come.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long a test waits before it fails. What is waited for takes milliseconds on an idle machine; a
/// machine with a load of 20 is no reason to fail.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(5);

/// Waits on this thread until `condition` holds; returns how long it took.
///
/// # Panics
///
/// Once [`PATIENCE`] is over.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "after {PATIENCE:?} still not: {what}");
        std::thread::sleep(EVERY);
    }
    started.elapsed()
}

/// Waits until `condition`, which needs no waiting itself, holds; returns how long it took.
///
/// # Panics
///
/// Once [`PATIENCE`] is over.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    until(what, || std::future::ready(condition())).await
}

/// As [`eventually`], for a condition that has to be awaited.
///
/// # Panics
///
/// Once [`PATIENCE`] is over.
pub async fn until<F: Future<Output = bool>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> Duration {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "after {PATIENCE:?} still not: {what}");
        tokio::time::sleep(EVERY).await;
    }
    started.elapsed()
}

/// Waits until `attempt` succeeds; the failure of the last attempt is part of the message.
///
/// # Panics
///
/// Once [`PATIENCE`] is over.
pub async fn until_ok<T, E: Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(found) => return found,
            Err(error) => assert!(
                started.elapsed() < PATIENCE,
                "after {PATIENCE:?} still not: {what}; at last: {error}"
            ),
        }
        tokio::time::sleep(EVERY).await;
    }
}

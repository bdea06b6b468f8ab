//! `fortify doctor`: looks at a gate and at all that stands around it, and says what to do.
//!
//! Probing is a thin shell: each part is asked once, all at the same time, none longer than
//! [`LIMIT`], and nothing is changed. Judging is pure: what was found in, [`Finding`]s out. A mistake
//! in the configuration is the first finding and not the end: the rest is looked at with defaults in
//! the place of what is wrong.
//!
//! # Layout
//!
//! - this file: [`examine`], [`Finding`];
//! - `who`: which process and user is the gate, and who looks;
//! - `files`, `keys`, `databases`: what is on disk; `descriptors`: how many files may be open;
//! - `gate`, `haproxy`, `redis`, `tor`, `upstream`: a server each;
//! - `front`: whether what a visitor says of itself is believed, asked from where a visitor stands;
//! - `clock`: what other clocks say;
//! - `http`: one bounded request; [`report`]: findings as text and as JSON.

mod clock;
mod databases;
mod descriptors;
mod files;
mod gate;
mod haproxy;
mod http;
mod keys;
mod proxies;
mod redis;
pub mod report;
mod service_user;
mod tor;
mod upstream;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use fortify_config::{Config, ConfigError};
use fortify_core::clock::Clock;

/// How long one part may take to answer.
pub const LIMIT: Duration = Duration::from_secs(2);

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, and may not for long, or not for everybody.
    Warn,
    /// It does not work, or protects nobody.
    Fail,
    /// It was not looked at; the finding says why.
    Skipped,
}

impl CheckStatus {
    /// The word in the report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// What one check found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check: fixed, so that a monitor can tell checks apart.
    pub check: &'static str,
    /// How it went.
    pub status: CheckStatus,
    /// What was found; of [`CheckStatus::Skipped`], why nothing was.
    pub found: String,
    /// Which key, file, socket, permission or command mends it.
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: CheckStatus::Ok, found: found.into(), advice: None }
    }

    fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, status: CheckStatus::Skipped, found: why.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { check, status: CheckStatus::Warn, found: found.into(), advice }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { check, status: CheckStatus::Fail, found: found.into(), advice }
    }

    /// A failure in the words of another module, whose messages say what is wrong, a semicolon, and
    /// what to do.
    fn error(check: &'static str, error: &impl Display) -> Self {
        let text = error.to_string();
        let (found, advice) = match text.split_once("; ") {
            Some((found, advice)) => (found.to_owned(), Some(advice.to_owned())),
            None => (text, None),
        };
        Self { check, status: CheckStatus::Fail, found, advice }
    }
}

/// What to look at.
#[derive(Debug)]
pub struct DoctorContext {
    /// The configuration, as far as it is one.
    pub config: Option<Config>,
    /// What is wrong with it.
    pub mistakes: Option<ConfigError>,
    /// The file that it was read from.
    pub file: Option<PathBuf>,
    /// Where nginx listens; looked for where it is not given.
    pub nginx: Option<SocketAddr>,
    /// Where tor connects; looked for where it is not given.
    pub ingress: Option<SocketAddr>,
}

/// Looks at everything. Takes a few times [`LIMIT`] at most, whatever does not answer.
pub async fn examine(context: &DoctorContext, clock: &dyn Clock) -> Vec<Finding> {
    let mut findings = configuration(context);
    let Some(config) = &context.config else {
        let why = "the configuration cannot be read, so that nothing says where to look";
        findings.push(Finding::skipped("everything else", why));
        return findings;
    };
    // Before others are asked, so that waiting for one of them is not taken for a difference.
    let now = clock.now();
    let (gate, haproxy, redis, tor, upstream) = tokio::join!(
        gate::probe(config),
        haproxy::probe(config),
        redis::probe(config),
        tor::probe(config),
        upstream::probe(config),
    );
    let places = proxies::Places::find(context, config, haproxy.as_ref(), tor.as_ref());
    let front = proxies::probe(config, &places).await;
    let who = service_user::ServiceUser::find(config, gate.pid);

    findings.push(who.check(config));
    findings.extend(files::check(config, context.file.as_deref(), &who));
    let (keys, made) = keys::check(config, &who, now);
    findings.extend(keys);
    findings.extend(databases::check(config, &who).await);
    findings.push(descriptors::check(config, &who));
    findings.extend(gate::check(config, &gate));
    findings.extend(haproxy::check(config, haproxy.as_ref()));
    findings.extend(proxies::check(config, &places, &front));
    findings.extend(redis::check(config, redis.as_ref()));
    findings.extend(tor::check(config, tor.as_ref(), &places));
    findings.push(upstream::check(config, upstream.as_ref()));
    let others = clock::OtherClocks {
        made,
        youngest: files::youngest(config),
        program: files::program(),
        gate: gate.date(),
        upstream: upstream.as_ref().and_then(upstream::UpstreamProbe::date),
        redis: redis.as_ref().and_then(|found| found.as_ref().ok()?.time),
        consensus: tor.as_ref().and_then(|found| found.as_ref().ok()?.consensus),
    };
    findings.extend(clock::check(now, &others));
    findings
}

/// What was read, and every mistake in it.
fn configuration(context: &DoctorContext) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    let place = match &context.file {
        Some(path) => path.display().to_string(),
        None => "the defaults, for there is no file".to_owned(),
    };
    let Some(mistakes) = &context.mistakes else {
        return vec![Finding::ok(CHECK, format!("{place}: valid"))];
    };
    let advice = "correct it, and see with fortify check-config that nothing is left; what follows was \
                  looked at with the default for each key that is wrong";
    mistakes.problems().iter().map(|problem| Finding::fail(CHECK, problem, advice)).collect()
}

/// `work`, given up on after [`LIMIT`].
async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LIMIT, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_split_into_what_is_wrong_and_what_to_do() {
        let finding = Finding::error("x", &"a is gone; make it: one; two");
        assert_eq!(finding.found, "a is gone");
        assert_eq!(finding.advice.as_deref(), Some("make it: one; two"));
        assert_eq!(Finding::error("x", &"a is gone").advice, None);
    }
}

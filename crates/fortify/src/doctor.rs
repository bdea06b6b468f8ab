//! `fortify doctor`: examines a gate and everything around it, and says what to do.
//!
//! Every check has two halves. The probe asks a server once; all probes run at the same time, none takes longer
//! than [`LIMIT`], and none changes anything. The check turns what the probe found into [`Finding`]s and does no
//! I/O. A mistake in the configuration is the first finding, not the end: the remaining checks use defaults for
//! the keys that are wrong.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - this file: [`examine`] and [`Finding`];
//! - [`report`]: findings as text and as JSON;
//! - `http`: one bounded request;
//! - `answer`: whether an answer comes from the gate, and whether the gate saw a circuit;
//! - `places`: where the gate, nginx and the ingress listen;
//! - `service_user`: the gate's process and user, and the user who runs the command;
//! - `files`, `keys`, `databases`: the files on disk; `descriptors`: the limit on open files;
//! - `gate`, `haproxy`, `redis`, `tor`, `upstream`: one server each;
//! - `proxies`: whether a forged circuit is believed, asked from a visitor's position;
//! - `clock`: this machine's clock against files and other clocks.

mod answer;
mod clock;
mod databases;
pub(crate) mod descriptors;
mod files;
mod gate;
mod haproxy;
mod http;
mod keys;
mod places;
mod proxies;
mod redis;
pub mod report;
mod service_user;
mod tor;
mod upstream;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use fortify_config::{Config, ConfigError};
use fortify_core::advice::Advise;
use fortify_core::clock::Clock;

/// How long one part may take to answer.
pub const LIMIT: Duration = Duration::from_secs(2);

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Everything is as it should be.
    Ok,
    /// It works, but perhaps not for long or not for everyone.
    Warn,
    /// It does not work, or it protects nothing.
    Fail,
    /// The check did not run; the finding says why.
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
    /// The name of the check. Names do not change, so monitors can rely on them.
    pub check: &'static str,
    /// The outcome.
    pub status: CheckStatus,
    /// What was found, or with [`CheckStatus::Skipped`] why the check did not run.
    pub found: String,
    /// What to do: which key, file, socket, permission or command fixes it.
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

    /// A failure that another crate describes, with that crate's advice.
    fn error(check: &'static str, error: &impl Advise) -> Self {
        let (found, advice) = (error.problem(), error.advice().map(Cow::into_owned));
        Self { check, status: CheckStatus::Fail, found, advice }
    }
}

/// The gate to examine.
#[derive(Debug)]
pub struct DoctorContext {
    /// The configuration, with defaults for keys that are wrong; `None` if the file cannot be parsed.
    pub config: Option<Config>,
    /// The mistakes in it.
    pub mistakes: Option<ConfigError>,
    /// The file it was read from.
    pub file: Option<PathBuf>,
    /// Where nginx listens; `None` to find out.
    pub nginx: Option<SocketAddr>,
    /// Where tor connects; `None` to find out.
    pub ingress: Option<SocketAddr>,
}

/// Runs every check. Takes a few times [`LIMIT`] at most, however many servers do not answer.
pub async fn examine(context: &DoctorContext, clock: &dyn Clock) -> Vec<Finding> {
    let mut findings = configuration(context);
    let Some(config) = &context.config else {
        let why = "the configuration cannot be read, so nothing says where to look";
        findings.push(Finding::skipped("everything else", why));
        return findings;
    };
    // Taken before any probe, so that waiting for a server does not look like a difference between clocks.
    let now = clock.now();
    let (gate, haproxy, redis, tor, upstream) = tokio::join!(
        gate::probe(config),
        haproxy::probe(config),
        redis::probe(config),
        tor::probe(config),
        upstream::probe(config),
    );
    let places = places::Places::find(
        context,
        config,
        haproxy.as_ref().and_then(|found| found.as_ref().ok()),
        tor.as_ref().and_then(|found| found.as_ref().ok()),
    );
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
    findings.push(tor::check_figures(config).await);
    findings.extend(upstream::check(config, &upstream));
    let others = clock::OtherClocks {
        made,
        youngest: files::youngest(config),
        program: files::program(),
        gate: gate.date(),
        upstream: upstream.date(),
        redis: redis.as_ref().and_then(|found| found.as_ref().ok()?.time),
        consensus: tor.as_ref().and_then(|found| found.as_ref().ok()?.consensus),
    };
    findings.extend(clock::check(now, &others));
    findings
}

/// The configuration file, and every mistake in it.
fn configuration(context: &DoctorContext) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    let place = match &context.file {
        Some(path) => path.display().to_string(),
        None => "no file, all defaults".to_owned(),
    };
    let Some(mistakes) = &context.mistakes else {
        return vec![Finding::ok(CHECK, format!("{place}: valid"))];
    };
    let advice = "correct it, then run fortify check-config until it reports nothing; the checks below use \
                  the default for each key that is wrong";
    mistakes.problems().iter().map(|problem| Finding::fail(CHECK, problem, advice)).collect()
}

/// The result of `work`, or `None` after [`LIMIT`].
async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LIMIT, work).await.ok()
}

#[cfg(test)]
mod tests {
    use std::io;

    use fortify_config::ControlAddress;
    use fortify_haproxy::client::{ClientError, Endpoint};
    use fortify_keys::KeyRingError;
    use fortify_store::StoreError;
    use fortify_tor::{GenerationError, TorError};

    use super::*;

    fn check<E: Advise + std::error::Error>(error: &E) -> Option<String> {
        let finding = Finding::error("x", error);
        assert_eq!(finding.found, error.problem());
        assert_eq!(finding.advice, error.advice().map(Cow::into_owned));
        let complete = match &finding.advice {
            Some(advice) => format!("{}; {advice}", finding.found),
            None => finding.found,
        };
        assert_eq!(error.to_string(), complete, "log and command line have both parts");
        finding.advice
    }

    #[test]
    fn the_advice_of_a_finding_is_that_of_the_error() {
        let socket = || PathBuf::from("/run/x; y.sock");
        let endpoint = || Endpoint::Unix(socket());
        let address = || ControlAddress::Unix(socket());
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let named = [
            (
                check(&ClientError::Connect { endpoint: endpoint(), source: denied() }),
                "stats socket",
            ),
            (check(&ClientError::Slow(endpoint())), "stats maxconn"),
            (check(&ClientError::NotUnderstood(endpoint())), "[haproxy] socket_path"),
            (check(&TorError::Connect(address(), denied())), "debian-tor"),
            (check(&TorError::Cookie(socket(), denied())), "CookieAuthFileGroupReadable 1"),
            (check(&TorError::PasswordNeeded), "tor.password_file"),
            (check(&TorError::from(GenerationError::Malformed(socket()))), "move it away"),
            (check(&KeyRingError::Readable { path: socket(), mode: 0o644 }), "chmod 600"),
            (check(&KeyRingError::Missing(socket())), "when the gate first starts"),
            (check(&redis::slow(&Config::default())), "stopped"),
        ];
        for (advice, words) in named {
            assert!(advice.as_ref().is_some_and(|it| it.contains(words)), "{advice:?}: {words}");
        }
        assert_eq!(check(&ClientError::Broken { endpoint: endpoint(), source: denied() }), None);
        assert_eq!(check(&TorError::Refused("SETEVENTS CIRC", "no; never".to_owned())), None);
        assert_eq!(check(&StoreError::Full("a; b")), None);
    }
}

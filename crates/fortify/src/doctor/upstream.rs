//! The protected service, if Fortify is its reverse proxy.

use super::http::{self, ProbeError, ProbeRequest, ProbeResponse, Target};
use super::{Finding, within};
use fortify_config::Config;
use fortify_core::clock::Timestamp;

/// Its answer.
pub(super) struct UpstreamProbe(Result<ProbeResponse, ProbeError>);

impl UpstreamProbe {
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.0.as_ref().ok()?.date
    }
}

pub(super) async fn probe(config: &Config) -> Option<UpstreamProbe> {
    let authority = config.upstream.authority.as_ref()?;
    let port = authority.port_u16().unwrap_or(80);
    let place = Target::Tcp(format!("{}:{port}", authority.host()));
    let ask = ProbeRequest { path: "/", head: true, ..ProbeRequest::default() };
    let asked = within(http::send(&place, ask)).await;
    Some(UpstreamProbe(asked.unwrap_or(Err(ProbeError::Slow))))
}

pub(super) fn check(config: &Config, found: Option<&UpstreamProbe>) -> Finding {
    const CHECK: &str = "upstream";
    let (Some(UpstreamProbe(found)), Some(authority)) = (found, &config.upstream.authority) else {
        let why =
            "upstream.url is not set: the server that asks /_fortify/auth forwards requests itself";
        return Finding::skipped(CHECK, why);
    };
    match found {
        Ok(answer) if answer.status < 500 => {
            Finding::ok(CHECK, format!("{authority} answers (HEAD / is {})", answer.status))
        }
        Ok(answer) => Finding::warn(
            CHECK,
            format!("{authority} answers HEAD / with {}", answer.status),
            "see the service's log; admitted visitors get this answer",
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("{authority} does not answer: {error}"),
            "start the service, or correct upstream.url; until then, admitted visitors get 502 or 504",
        ),
    }
}

//! The protected service, if Fortify is its reverse proxy.

use super::http::{self, ProbeError, ProbeRequest, ProbeResponse, Target};
use super::{Finding, within};
use fortify_config::{Config, UpstreamServer};
use fortify_core::clock::Timestamp;
use fortify_http::proxy;

const CHECK: &str = "upstream";

/// The answers of its servers.
pub(super) struct UpstreamProbe(Vec<Result<ProbeResponse, ProbeError>>);

impl UpstreamProbe {
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.0.iter().flatten().find_map(|answer| answer.date)
    }
}

pub(super) async fn probe(config: &Config) -> UpstreamProbe {
    let mut answers = Vec::new();
    for server in &config.upstream.servers {
        let asked = within(ask(config, server)).await;
        answers.push(asked.unwrap_or(Err(ProbeError::Slow)));
    }
    UpstreamProbe(answers)
}

async fn ask(config: &Config, server: &UpstreamServer) -> Result<ProbeResponse, ProbeError> {
    let place = match (server, server.host_and_port()) {
        (UpstreamServer::Unix(path), _) => Target::Unix(path.clone()),
        (UpstreamServer::Https(_), _) => {
            let stream = proxy::connect(server, &config.upstream).await;
            let stream = stream.map_err(ProbeError::Connect)?;
            return http::converse(stream, HEAD).await;
        }
        (_, Some((host, port))) => Target::Tcp(format!("{host}:{port}")),
        (_, None) => return Err(ProbeError::Closed),
    };
    http::send(&place, HEAD).await
}

const HEAD: ProbeRequest<'_> =
    ProbeRequest { path: "/", headers: &[], from: None, as_tor: false, head: true };

pub(super) fn check(config: &Config, found: &UpstreamProbe) -> Vec<Finding> {
    let servers = &config.upstream.servers;
    if servers.is_empty() {
        let why =
            "upstream.url is not set: the server that asks /_fortify/auth forwards requests itself";
        return vec![Finding::skipped(CHECK, why)];
    }
    let pairs = servers.iter().zip(&found.0);
    pairs.map(|(server, found)| check_one(server, found, servers.len() == 1)).collect()
}

fn check_one(
    server: &UpstreamServer,
    found: &Result<ProbeResponse, ProbeError>,
    only: bool,
) -> Finding {
    // As operators know it: without the scheme that goes without saying.
    let server = server.to_string();
    let server = server.strip_prefix("http://").unwrap_or(&server);
    match found {
        Ok(answer) if answer.status < 500 => {
            Finding::ok(CHECK, format!("{server} answers (HEAD / is {})", answer.status))
        }
        Ok(answer) => Finding::warn(
            CHECK,
            format!("{server} answers HEAD / with {}", answer.status),
            "see the service's log; admitted visitors get this answer",
        ),
        Err(error) if only => Finding::fail(
            CHECK,
            format!("{server} does not answer: {error}"),
            "start the service, or correct upstream.url; until then, visitors get 503 and no challenge",
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("{server} does not answer: {error}"),
            "start it, or correct upstream.urls; until then, the others serve its share",
        ),
    }
}

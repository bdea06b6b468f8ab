//! The gate itself: whether it answers, whether it is ready, and whom it believes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::Value;

use super::Finding;
use super::http::{self, ProbeError, ProbeRequest, ProbeResponse, Target};
use super::proxies::{self, ProbeResult};
use fortify_config::{Config, OperatorEndpoints};
use fortify_core::circuit::IdentityMode;
use fortify_core::clock::Timestamp;

/// What it answers.
pub(super) struct GateProbe {
    place: Option<Target>,
    health: Option<Result<ProbeResponse, ProbeError>>,
    ready: Option<Result<ProbeResponse, ProbeError>>,
    /// From which address, and what came of a circuit given there.
    stranger: Option<(IpAddr, Result<ProbeResponse, ProbeError>)>,
    /// The permissions of the socket, where it is one.
    socket_mode: Option<u32>,
    pub(super) pid: Option<i32>,
}

impl GateProbe {
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.health.as_ref()?.as_ref().ok()?.date
    }
}

/// Where the gate listens, as seen from this machine; `None` for a port that the system chooses.
pub(super) fn place(config: &Config) -> Option<Target> {
    match &config.server.socket {
        Some(path) => Some(Target::Unix(path.clone())),
        None => address(config).map(Target::from),
    }
}

/// The same, where it is no socket.
pub(super) fn address(config: &Config) -> Option<SocketAddr> {
    let server = &config.server;
    let host = match server.host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    (server.socket.is_none() && server.port > 0).then(|| SocketAddr::new(host, server.port))
}

pub(super) async fn probe(config: &Config) -> GateProbe {
    let mut found = GateProbe {
        place: place(config),
        health: None,
        ready: None,
        stranger: None,
        socket_mode: None,
        pid: None,
    };
    let Some(place) = &found.place else { return found };
    if let Target::Unix(path) = place {
        found.socket_mode = std::fs::metadata(path).ok().map(|meta| meta.mode() & 0o7777);
    }
    let as_tor = config.server.proxy_protocol;
    let ask = |path| ProbeRequest { path, as_tor, ..ProbeRequest::default() };
    let asks_ready = !as_tor && config.server.operator_endpoints == OperatorEndpoints::Local;
    let stranger = async {
        let target =
            address(config).filter(|_| config.security.identity == IdentityMode::Circuit)?;
        let from = http::elsewhere(target.ip())?;
        let circuit = http::probe_circuit();
        let forged = [("accept", "application/json"), ("x-circuit-id", circuit.as_str())];
        // With a PROXY line, the circuit is in there.
        let headers = if as_tor { &forged[..1] } else { &forged };
        let ask = ProbeRequest { path: "/", headers, from: Some(from), as_tor, head: false };
        Some((from, http::send(place, ask).await))
    };
    let ready = async {
        match asks_ready {
            true => Some(http::send(place, ask("/ready")).await),
            false => None,
        }
    };
    let (health, ready, stranger) =
        tokio::join!(http::send(place, ask("/health")), ready, stranger);
    found.pid = health.as_ref().ok().and_then(|answer| answer.pid);
    (found.health, found.ready, found.stranger) = (Some(health), ready, stranger);
    found
}

pub(super) fn check(config: &Config, found: &GateProbe) -> Vec<Finding> {
    const CHECK: &str = "gate";
    let (Some(place), Some(health)) = (&found.place, &found.health) else {
        return vec![Finding::skipped(CHECK, "server.port is 0: which one it has is not known")];
    };
    match health {
        Ok(answer) if answer.status == 200 => {
            let mut findings = vec![Finding::ok(CHECK, format!("it answers at {place}"))];
            findings.push(check_ready(config, found.ready.as_ref()));
            findings.push(match (place, found.socket_mode) {
                (Target::Unix(path), mode) => check_socket(path, mode),
                (Target::Tcp(_), _) => check_stranger(config, found.stranger.as_ref()),
            });
            findings
        }
        Ok(answer) => {
            let found =
                format!("what answers at {place} is no gate (/health is {})", answer.status);
            let advice = "find out what has the address (ss -ltnp), or change server.port";
            vec![Finding::fail(CHECK, found, advice)]
        }
        Err(ProbeError::Connect(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            let advice = "run this as the gate's user, in the group of server.socket, or as root";
            vec![Finding::skipped(CHECK, format!("{place}: {error}; {advice}"))]
        }
        Err(error) => {
            let advice = "start it: systemctl start fortify; journalctl -u fortify says why it ends. Where \
                          it listens: server.host and port, or server.socket";
            vec![Finding::fail(CHECK, format!("nobody answers at {place}: {error}"), advice)]
        }
    }
}

fn check_ready(config: &Config, ready: Option<&Result<ProbeResponse, ProbeError>>) -> Finding {
    const CHECK: &str = "gate.ready";
    let why = match ready {
        Some(Ok(answer)) if matches!(answer.status, 200 | 503) => {
            return match serde_json::from_slice(&answer.body) {
                Ok(parts) => check_parts(&parts),
                Err(_) => Finding::skipped(CHECK, "/ready does not answer in JSON"),
            };
        }
        Some(Ok(answer)) => {
            let found = format!("/ready is {}, and not for this machine", answer.status);
            let advice =
                "this machine is not in server.trusted_proxies; add it, or 127.0.0.0/8 and unix";
            return Finding::warn(CHECK, found, advice);
        }
        Some(Err(error)) => {
            let found = format!("/ready does not answer: {error}");
            let advice = "the store or the renderer hangs; journalctl -u fortify says which";
            return Finding::fail(CHECK, found, advice);
        }
        None if config.server.proxy_protocol => {
            "server.proxy_protocol is on: whatever comes there is a visitor's, and /ready is not for them"
        }
        None => "server.operator_endpoints is \"off\"",
    };
    Finding::skipped(CHECK, why)
}

/// The part of `/ready` that is there, and `true`, while something does not work.
const ADMIN_UNAVAILABLE: &str = "admin_unavailable";

/// Each part of `/ready` is `true`, or `ok`, `up` or `off`; anything else needs somebody. That operators
/// are shut out is told the other way round.
fn check_parts(parts: &Value) -> Finding {
    const CHECK: &str = "gate.ready";
    let Some(parts) = parts.as_object() else {
        return Finding::skipped(CHECK, "/ready does not answer as this version does");
    };
    let state = |value: &Value| match value {
        Value::Bool(true) => "ok".to_owned(),
        Value::Bool(false) => "does not work".to_owned(),
        Value::String(word) => word.chars().filter(char::is_ascii_alphanumeric).collect(),
        _ => "?".to_owned(),
    };
    let admin_unavailable =
        parts.get(ADMIN_UNAVAILABLE).is_some_and(|value| value != &Value::Bool(false));
    let works = |(name, _): &(&String, &Value)| name.as_str() != ADMIN_UNAVAILABLE;
    let parts = || parts.iter().filter(works);
    let states: Vec<_> = parts().map(|(name, value)| (name.as_str(), state(value))).collect();
    let mut found: Vec<_> = states.iter().map(|(name, state)| format!("{name} {state}")).collect();
    if admin_unavailable {
        found.push("operators are shut out".to_owned());
    }
    let found = found.join(", ");
    if parts().any(|(_, value)| value == &Value::Bool(false)) {
        let advice = "visitors get 503; the findings below and journalctl -u fortify say why";
        Finding::fail(CHECK, found, advice)
    } else if admin_unavailable {
        let advice = "admin.sqlite in storage.data_dir cannot be used; journalctl -u fortify says why. If it \
                      is damaged: stop the gate, put back a copy, and start it; databases.admin says \
                      what to do without one";
        Finding::fail(CHECK, found, advice)
    } else if states.iter().any(|(_, state)| !matches!(state.as_str(), "ok" | "off")) {
        let advice =
            "requests go on without it; the findings below and journalctl -u fortify say why";
        Finding::warn(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, found)
    }
}

/// Whoever may open the socket is believed about circuits.
fn check_socket(path: &Path, mode: Option<u32>) -> Finding {
    const CHECK: &str = "gate.trust";
    let place = path.display();
    let Some(mode) = mode else {
        return Finding::skipped(CHECK, format!("{place} cannot be looked at as this user"));
    };
    let found = format!("{place}: mode {mode:04o}; whoever may open it is believed about circuits");
    if mode & 0o002 != 0 {
        let advice =
            "server.socket_mode = \"0660\", and the proxy's user into the group of the socket";
        return Finding::warn(CHECK, format!("{found}, and that is every local user"), advice);
    }
    Finding::ok(CHECK, found)
}

/// Whoever is not a trusted proxy must not be believed about a circuit.
fn check_stranger(
    config: &Config,
    stranger: Option<&(IpAddr, Result<ProbeResponse, ProbeError>)>,
) -> Finding {
    const CHECK: &str = "gate.trust";
    if config.security.identity == IdentityMode::Peer {
        let why = "security.identity is \"peer\": no header says who asks";
        return Finding::skipped(CHECK, why);
    }
    let Some((from, answer)) = stranger else {
        let why = "this machine has no address but loopback to ask from";
        return Finding::skipped(CHECK, why);
    };
    match answer {
        Err(_) => Finding::ok(CHECK, format!("it does not answer {from} at all")),
        Ok(answer) => match proxies::classify(answer) {
            ProbeResult::NoCircuit => {
                Finding::ok(CHECK, format!("a circuit told from {from} is not believed"))
            }
            _ if config
                .server
                .trusted_proxies
                .trusts(&fortify_core::circuit::PeerAddress::Tcp(*from)) =>
            {
                let advice = format!(
                    "take {from} out of server.trusted_proxies, unless a proxy on another machine is meant \
                     and nobody else reaches the port; whoever is in there can be any visitor"
                );
                let found =
                    format!("a circuit told from {from}, which is not loopback, is believed");
                Finding::fail(CHECK, found, advice)
            }
            word => Finding::warn(
                CHECK,
                format!("asked from {from} with a circuit, it gives {word}, which is no refusal"),
                "see server.trusted_proxies, and that it is the gate that listens there",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    #[test]
    fn a_socket_is_not_everybodys() {
        let verdict = |mode| check_socket(Path::new("/run/fortify/fortify.sock"), mode).status;
        assert_eq!(verdict(Some(0o660)), CheckStatus::Ok);
        assert_eq!(verdict(Some(0o666)), CheckStatus::Warn);
        assert_eq!(verdict(None), CheckStatus::Skipped);
    }

    #[test]
    fn parts_that_are_not_well_are_named() {
        for (parts, verdict) in [
            (r#"{"store":true,"renderer":true,"haproxy":"off"}"#, CheckStatus::Ok),
            (r#"{"store":true,"renderer":true,"haproxy":"ok","tor":"ok"}"#, CheckStatus::Ok),
            (r#"{"store":true,"renderer":true,"haproxy":"degraded"}"#, CheckStatus::Warn),
            (r#"{"store":false,"renderer":true,"haproxy":"ok"}"#, CheckStatus::Fail),
            (r#"{"store":true,"renderer":true,"admin_unavailable":true}"#, CheckStatus::Fail),
            (r#"{"store":true,"renderer":true,"admin_unavailable":false}"#, CheckStatus::Ok),
        ] {
            assert_eq!(
                check_parts(&serde_json::from_str(parts).unwrap()).status,
                verdict,
                "{parts}"
            );
        }
        let parts = serde_json::json!({"store": true, "tor": "degraded"});
        assert_eq!(check_parts(&parts).found, "store ok, tor degraded");
        let parts = serde_json::json!({"admin_unavailable": true, "store": true});
        let admin_unavailable = check_parts(&parts);
        assert_eq!(admin_unavailable.found, "store ok, operators are shut out");
        assert!(admin_unavailable.advice.unwrap().contains("put back a copy"));
    }
}

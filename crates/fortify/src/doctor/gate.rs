//! The gate itself: whether it answers, whether it is ready, and whom it believes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::Value;

use super::Finding;
use super::front::{self, Word};
use super::http::{self, Answer, Ask, Place, Silence};
use fortify_config::{Config, OperatorEndpoints};
use fortify_core::circuit::IdentityMode;
use fortify_core::clock::Timestamp;

/// What it answers.
pub(super) struct Found {
    place: Option<Place>,
    health: Option<Result<Answer, Silence>>,
    ready: Option<Result<Answer, Silence>>,
    /// From which address, and what came of a circuit given there.
    stranger: Option<(IpAddr, Result<Answer, Silence>)>,
    /// The permissions of the socket, where it is one.
    socket_mode: Option<u32>,
    pub(super) pid: Option<i32>,
}

impl Found {
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.health.as_ref()?.as_ref().ok()?.date
    }
}

/// Where the gate listens, as seen from this machine; `None` for a port that the system chooses.
pub(super) fn place(config: &Config) -> Option<Place> {
    match &config.server.socket {
        Some(path) => Some(Place::Unix(path.clone())),
        None => address(config).map(Place::from),
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

pub(super) async fn probe(config: &Config) -> Found {
    let mut found = Found {
        place: place(config),
        health: None,
        ready: None,
        stranger: None,
        socket_mode: None,
        pid: None,
    };
    let Some(place) = &found.place else { return found };
    if let Place::Unix(path) = place {
        found.socket_mode = std::fs::metadata(path).ok().map(|meta| meta.mode() & 0o7777);
    }
    let as_tor = config.server.proxy_protocol;
    let ask = |path| Ask { path, as_tor, ..Ask::default() };
    let asks_ready = !as_tor && config.server.operator_endpoints == OperatorEndpoints::Local;
    let stranger = async {
        let target =
            address(config).filter(|_| config.security.identity == IdentityMode::Circuit)?;
        let from = http::elsewhere(target.ip())?;
        let circuit = http::probe_circuit();
        let forged = [("accept", "application/json"), ("x-circuit-id", circuit.as_str())];
        // With a PROXY line, the circuit is in there.
        let headers = if as_tor { &forged[..1] } else { &forged };
        let ask = Ask { path: "/", headers, from: Some(from), as_tor, head: false };
        Some((from, http::ask(place, ask).await))
    };
    let ready = async {
        match asks_ready {
            true => Some(http::ask(place, ask("/ready")).await),
            false => None,
        }
    };
    let (health, ready, stranger) = tokio::join!(http::ask(place, ask("/health")), ready, stranger);
    found.pid = health.as_ref().ok().and_then(|answer| answer.pid);
    (found.health, found.ready, found.stranger) = (Some(health), ready, stranger);
    found
}

pub(super) fn judge(config: &Config, found: &Found) -> Vec<Finding> {
    const CHECK: &str = "gate";
    let (Some(place), Some(health)) = (&found.place, &found.health) else {
        return vec![Finding::skipped(CHECK, "server.port is 0: which one it has is not known")];
    };
    match health {
        Ok(answer) if answer.status == 200 => {
            let mut findings = vec![Finding::ok(CHECK, format!("it answers at {place}"))];
            findings.push(judge_ready(config, found.ready.as_ref()));
            findings.push(match (place, found.socket_mode) {
                (Place::Unix(path), mode) => judge_socket(path, mode),
                (Place::Tcp(_), _) => judge_stranger(config, found.stranger.as_ref()),
            });
            findings
        }
        Ok(answer) => {
            let found =
                format!("what answers at {place} is no gate (/health is {})", answer.status);
            let advice = "find out what has the address (ss -ltnp), or change server.port";
            vec![Finding::fail(CHECK, found, advice)]
        }
        Err(Silence::Connect(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
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

fn judge_ready(config: &Config, ready: Option<&Result<Answer, Silence>>) -> Finding {
    const CHECK: &str = "gate.ready";
    let why = match ready {
        Some(Ok(answer)) if matches!(answer.status, 200 | 503) => {
            return match serde_json::from_slice(&answer.body) {
                Ok(parts) => judge_parts(&parts),
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
const SHUT_OUT: &str = "operators_shut_out";

/// Each part of `/ready` is `true`, or `ok`, `up` or `off`; anything else needs somebody. That operators
/// are shut out is told the other way round.
fn judge_parts(parts: &Value) -> Finding {
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
    let shut_out = parts.get(SHUT_OUT).is_some_and(|value| value != &Value::Bool(false));
    let works = |(name, _): &(&String, &Value)| name.as_str() != SHUT_OUT;
    let parts = || parts.iter().filter(works);
    let told: Vec<_> = parts().map(|(name, value)| (name.as_str(), state(value))).collect();
    let mut found: Vec<_> = told.iter().map(|(name, state)| format!("{name} {state}")).collect();
    if shut_out {
        found.push("operators are shut out".to_owned());
    }
    let found = found.join(", ");
    if parts().any(|(_, value)| value == &Value::Bool(false)) {
        let advice = "visitors get 503; the findings below and journalctl -u fortify say why";
        Finding::fail(CHECK, found, advice)
    } else if shut_out {
        let advice = "admin.sqlite in storage.data_dir cannot be used; journalctl -u fortify says why. If it \
                      is damaged: stop the gate, put back a copy, and start it; databases.admin says \
                      what to do without one";
        Finding::fail(CHECK, found, advice)
    } else if told.iter().any(|(_, state)| !matches!(state.as_str(), "ok" | "up" | "off")) {
        let advice =
            "requests go on without it; the findings below and journalctl -u fortify say why";
        Finding::warn(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, found)
    }
}

/// Whoever may open the socket is believed about circuits.
fn judge_socket(path: &Path, mode: Option<u32>) -> Finding {
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
fn judge_stranger(
    config: &Config,
    stranger: Option<&(IpAddr, Result<Answer, Silence>)>,
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
        Ok(answer) => match front::word(answer) {
            Word::NoCircuit => {
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
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_socket_is_not_everybodys() {
        let verdict = |mode| judge_socket(Path::new("/run/fortify/fortify.sock"), mode).verdict;
        assert_eq!(verdict(Some(0o660)), Verdict::Ok);
        assert_eq!(verdict(Some(0o666)), Verdict::Warn);
        assert_eq!(verdict(None), Verdict::Skipped);
    }

    #[test]
    fn parts_that_are_not_well_are_named() {
        for (parts, verdict) in [
            (r#"{"store":true,"renderer":true,"haproxy":"off"}"#, Verdict::Ok),
            (r#"{"store":true,"renderer":true,"haproxy":"ok","tor":"up"}"#, Verdict::Ok),
            (r#"{"store":true,"renderer":true,"haproxy":"degraded"}"#, Verdict::Warn),
            (r#"{"store":false,"renderer":true,"haproxy":"ok"}"#, Verdict::Fail),
            (r#"{"store":true,"renderer":true,"operators_shut_out":true}"#, Verdict::Fail),
            (r#"{"store":true,"renderer":true,"operators_shut_out":false}"#, Verdict::Ok),
        ] {
            assert_eq!(
                judge_parts(&serde_json::from_str(parts).unwrap()).verdict,
                verdict,
                "{parts}"
            );
        }
        let parts = serde_json::json!({"store": true, "tor": "degraded"});
        assert_eq!(judge_parts(&parts).found, "store ok, tor degraded");
        let parts = serde_json::json!({"operators_shut_out": true, "store": true});
        let shut_out = judge_parts(&parts);
        assert_eq!(shut_out.found, "store ok, operators are shut out");
        assert!(shut_out.advice.unwrap().contains("put back a copy"));
    }
}

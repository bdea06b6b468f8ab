//! The gate itself: whether it answers, whether it is ready, and whose headers it believes.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::Value;

use super::Finding;
use super::answer::{self, ProbeResult};
use super::http::{self, ProbeError, ProbeRequest, ProbeResponse, Target};
use super::places;
use fortify_config::{Config, OperatorEndpoints};
use fortify_core::circuit::IdentityMode;
use fortify_core::clock::Timestamp;

/// The gate's answers.
pub(super) struct GateProbe {
    place: Option<Target>,
    health: Option<Result<ProbeResponse, ProbeError>>,
    ready: Option<Result<ProbeResponse, ProbeError>>,
    /// An address that is not loopback, and the answer to a forged circuit from there.
    stranger: Option<(IpAddr, Result<ProbeResponse, ProbeError>)>,
    /// The permissions of the gate's unix socket, if it listens on one.
    socket_mode: Option<u32>,
    pub(super) pid: Option<i32>,
}

impl GateProbe {
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.health.as_ref()?.as_ref().ok()?.date
    }
}

pub(super) async fn probe(config: &Config) -> GateProbe {
    let mut found = GateProbe {
        place: places::gate(config),
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
        let target = places::gate_address(config)
            .filter(|_| config.security.identity == IdentityMode::Circuit)?;
        let from = http::elsewhere(target.ip())?;
        let circuit = http::probe_circuit();
        let forged = [("accept", "application/json"), ("x-circuit-id", circuit.as_str())];
        // A PROXY line has the circuit in it.
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
        return vec![Finding::skipped(CHECK, "server.port is 0, so the gate's port is not known")];
    };
    match health {
        Ok(answer) if answer.status == 200 => {
            let mut findings = vec![Finding::ok(CHECK, format!("answers at {place}"))];
            findings.push(check_ready(config, found.ready.as_ref()));
            findings.push(match (place, found.socket_mode) {
                (Target::Unix(path), mode) => check_socket(path, mode),
                (Target::Tcp(_), _) => check_stranger(config, found.stranger.as_ref()),
            });
            findings
        }
        Ok(answer) => {
            let found = format!(
                "the program that answers at {place} is not Fortify (/health is {})",
                answer.status
            );
            let advice = "find out which program has the address (ss -ltnp), or change server.port";
            vec![Finding::fail(CHECK, found, advice)]
        }
        Err(ProbeError::Connect(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            let advice = "run this as the gate's user, in the group of server.socket, or as root";
            vec![Finding::skipped(CHECK, format!("{place}: {error}; {advice}"))]
        }
        Err(error) => {
            let advice = "start it: systemctl start fortify; if it ends again, journalctl -u fortify says why. \
                          It listens where server.host and server.port, or server.socket, say";
            vec![Finding::fail(CHECK, format!("nothing answers at {place}: {error}"), advice)]
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
            let found = format!("/ready is {}: it is not served to this machine", answer.status);
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
            "server.proxy_protocol is on: every connection there is a visitor's, and /ready is not for them"
        }
        None => "server.operator_endpoints is \"off\"",
    };
    Finding::skipped(CHECK, why)
}

/// The field of `/ready` that is `true` while the admin interface does not work.
const ADMIN_UNAVAILABLE: &str = "admin_unavailable";

/// Judges `/ready`. Each part should be `true`, `ok` or `off`, except [`ADMIN_UNAVAILABLE`], which should be
/// `false` or absent.
fn check_parts(parts: &Value) -> Finding {
    const CHECK: &str = "gate.ready";
    let Some(parts) = parts.as_object() else {
        return Finding::skipped(CHECK, "/ready does not answer as this version of Fortify does");
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
        found.push("the admin interface is unavailable".to_owned());
    }
    let found = found.join(", ");
    if parts().any(|(_, value)| value == &Value::Bool(false)) {
        let advice = "visitors get 503; the findings below and journalctl -u fortify say why";
        Finding::fail(CHECK, found, advice)
    } else if admin_unavailable {
        let advice = "admin.sqlite in storage.data_dir cannot be used; journalctl -u fortify says why. If it \
                      is damaged: stop the gate, restore a backup, and start it; databases.admin says \
                      what to do without one";
        Finding::fail(CHECK, found, advice)
    } else if states.iter().any(|(_, state)| !matches!(state.as_str(), "ok" | "off")) {
        let advice =
            "requests are served without it; the findings below and journalctl -u fortify say why";
        Finding::warn(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, found)
    }
}

/// Checks the permissions of the gate's socket: every process that may open it is believed about circuits.
fn check_socket(path: &Path, mode: Option<u32>) -> Finding {
    const CHECK: &str = "gate.trust";
    let place = path.display();
    let Some(mode) = mode else {
        return Finding::skipped(
            CHECK,
            format!("this user cannot read the permissions of {place}"),
        );
    };
    let found = format!(
        "{place}: mode {mode:04o}; every process that may open it is believed about circuits"
    );
    if mode & 0o002 != 0 {
        let advice = "set server.socket_mode = \"0660\", and add the proxy's user to the group of the socket";
        return Finding::warn(CHECK, format!("{found}, and that is every local user"), advice);
    }
    Finding::ok(CHECK, found)
}

/// Checks that a peer outside `server.trusted_proxies` is not believed about a circuit.
fn check_stranger(
    config: &Config,
    stranger: Option<&(IpAddr, Result<ProbeResponse, ProbeError>)>,
) -> Finding {
    const CHECK: &str = "gate.trust";
    if config.security.identity == IdentityMode::Peer {
        let why = "security.identity is \"peer\": no header identifies a visitor";
        return Finding::skipped(CHECK, why);
    }
    let Some((from, answer)) = stranger else {
        let why = "this machine has no address other than loopback to ask from";
        return Finding::skipped(CHECK, why);
    };
    match answer {
        Err(_) => Finding::ok(CHECK, format!("does not answer {from} at all")),
        Ok(answer) => match answer::classify(answer) {
            ProbeResult::NoCircuit => {
                Finding::ok(CHECK, format!("a circuit claimed from {from} is not believed"))
            }
            _ if config
                .server
                .trusted_proxies
                .trusts(&fortify_core::circuit::PeerAddress::Tcp(*from)) =>
            {
                let advice = format!(
                    "remove {from} from server.trusted_proxies, unless it is there for a proxy on another \
                     machine and nothing else reaches the port; a trusted proxy can pose as any visitor"
                );
                let found =
                    format!("a circuit claimed from {from}, which is not loopback, is believed");
                Finding::fail(CHECK, found, advice)
            }
            word => Finding::warn(
                CHECK,
                format!("asked from {from} with a circuit, it gives {word} instead of a refusal"),
                "check server.trusted_proxies, and that it is the gate that listens there",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    #[test]
    fn a_socket_open_to_everyone_is_reported() {
        let verdict = |mode| check_socket(Path::new("/run/fortify/fortify.sock"), mode).status;
        assert_eq!(verdict(Some(0o660)), CheckStatus::Ok);
        assert_eq!(verdict(Some(0o666)), CheckStatus::Warn);
        assert_eq!(verdict(None), CheckStatus::Skipped);
    }

    #[test]
    fn parts_that_do_not_work_are_named() {
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
        assert_eq!(admin_unavailable.found, "store ok, the admin interface is unavailable");
        assert!(admin_unavailable.advice.unwrap().contains("restore a backup"));
    }
}

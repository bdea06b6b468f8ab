//! Whether what a visitor says of itself is believed, asked from where a visitor stands.
//!
//! A black box tells by its answer whether a circuit reached the gate: with one, a program without a
//! session gets 403 from it; without one, or with one that is none, 400. So a forged header that is
//! believed changes the answer. From outside it cannot be told what the protected service is sent;
//! the findings say so.
//!
//! nginx believes `X-Circuit-ID` from this very machine by design: `HAProxy` is there. That is why it is
//! asked from another address too, and with names that it must not take for that header. `HAProxy` is
//! asked as tor does, with a PROXY line and beside it a header that is no circuit: where that wins, the
//! answer turns from 403 to 400.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::haproxy::HaproxyProbe as Haproxy;
use super::http::{self, ProbeError, ProbeRequest, ProbeResponse, Target};
use super::tor::TorProbe as Tor;
use super::{DoctorContext, Finding, gate};
use fortify_config::Config;
use fortify_core::circuit::IdentityMode;
use fortify_haproxy::client::Endpoint;

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeResult {
    /// The gate's: it knows a circuit, which has no session.
    Circuit,
    /// The gate's: it was told no circuit.
    NoCircuit,
    /// The gate's, and neither.
    Gate(u16),
    /// Somebody else's.
    Foreign(u16),
}

impl fmt::Display for ProbeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Circuit => f.write_str("the gate's 403"),
            Self::NoCircuit => f.write_str("the gate's 400"),
            Self::Gate(status) => write!(f, "the gate's {status}"),
            Self::Foreign(status) => write!(f, "a {status} that is not the gate's"),
        }
    }
}

/// Reads an answer to a request that asked for JSON.
pub(super) fn classify(answer: &ProbeResponse) -> ProbeResult {
    let refusal: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let ours = refusal.is_some_and(|body| {
        body.get("success") == Some(&serde_json::Value::Bool(false))
            && body.get("message").is_some()
    });
    match (ours, answer.status) {
        (true, 403) => ProbeResult::Circuit,
        (true, 400) => ProbeResult::NoCircuit,
        (true, status) => ProbeResult::Gate(status),
        (false, status) => ProbeResult::Foreign(status),
    }
}

/// Where visitors come in.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) nginx: Option<SocketAddr>,
    /// Where tor connects.
    pub(super) ingress: Option<Target>,
    /// Whether that is the gate itself.
    pub(super) is_gate: bool,
}

impl Places {
    /// What was given; otherwise what `HAProxy` says is behind it, and where tor says it leads.
    pub(super) fn find(
        context: &DoctorContext,
        config: &Config,
        haproxy: Option<&Haproxy>,
        tor: Option<&Tor>,
    ) -> Self {
        let gate = gate::place(config);
        let is_here = match &config.haproxy.endpoint {
            Some(Endpoint::Tcp(address)) => address.ip().is_loopback(),
            _ => true,
        };
        let behind = haproxy.filter(|_| is_here).and_then(|found| found.as_ref().ok());
        let behind = behind.and_then(|found| {
            found.servers.iter().copied().find(|server| Some(Target::from(*server)) != gate)
        });
        let ingress = match (context.ingress, config.server.proxy_protocol, tor) {
            (Some(address), ..) => Some(Target::from(address)),
            (None, true, _) => gate.clone(),
            (None, false, Some(Ok(tor))) => {
                let target = tor.services.iter().find(|service| service.exports_circuits);
                target.and_then(|service| service.targets.first()).and_then(|text| place(text))
            }
            _ => None,
        };
        let is_gate = ingress.is_some() && ingress == gate;
        Self { nginx: context.nginx.or(behind), ingress, is_gate }
    }
}

/// A target of tor's as a place.
pub(super) fn place(target: &str) -> Option<Target> {
    match target.strip_prefix("unix:") {
        Some(path) => Some(Target::Unix(path.trim_matches('"').into())),
        None => target.parse::<SocketAddr>().ok().map(Target::from),
    }
}

type Probed = Result<ProbeResult, ProbeError>;

/// What came of the questions.
#[derive(Default)]
pub(super) struct FrontProbe {
    nginx: Option<Nginx>,
    ingress: Option<Ingress>,
}

struct Nginx {
    /// Without any header.
    plain: Probed,
    /// With `X-Circuit-ID`, from this machine, as `HAProxy` would.
    circuit: Probed,
    /// Each with names that say who somebody is, and none of which nginx may believe.
    others: Vec<(&'static str, Probed)>,
    /// With `X-Circuit-ID`, from an address that is not loopback.
    stranger: Option<(IpAddr, Probed)>,
}

struct Ingress {
    plain: Probed,
    forged: Probed,
}

pub(super) async fn probe(config: &Config, places: &Places) -> FrontProbe {
    let nginx = async {
        let address = places.nginx?;
        Some(probe_nginx(address).await)
    };
    let ingress = async {
        let place = places.ingress.as_ref()?;
        Some(probe_ingress(place).await)
    };
    match config.security.identity {
        IdentityMode::Circuit => {
            let (nginx, ingress) = tokio::join!(nginx, ingress);
            FrontProbe { nginx, ingress }
        }
        IdentityMode::Peer => FrontProbe { nginx: nginx.await, ingress: None },
    }
}

async fn ask(
    place: &Target,
    headers: &[(&str, &str)],
    from: Option<IpAddr>,
    as_tor: bool,
) -> Probed {
    let mut all = vec![("accept", "application/json")];
    all.extend_from_slice(headers);
    let ask = ProbeRequest { path: "/", headers: &all, from, as_tor, head: false };
    http::send(place, ask).await.map(|answer| classify(&answer))
}

async fn probe_nginx(address: SocketAddr) -> Nginx {
    let (place, circuit) = (Target::from(address), http::probe_circuit());
    let circuit = circuit.as_str();
    let forwarded = format!("for=\"[{circuit}]\"");
    let names: [(&'static str, Vec<(&str, &str)>); 3] = [
        ("X_Circuit_ID", vec![("x_circuit_id", circuit)]),
        (
            "X-Forwarded-For, X-Real-IP or Forwarded",
            vec![
                ("x-forwarded-for", circuit),
                ("x-real-ip", circuit),
                ("forwarded", forwarded.as_str()),
            ],
        ),
        (
            "X-Fortify-Subject or X-Fortify-Level",
            vec![("x-fortify-subject", "AAAAAAAAAAAAAAAAAAAAAA"), ("x-fortify-level", "10")],
        ),
    ];
    let from = http::elsewhere(address.ip());
    let own = [("x-circuit-id", circuit)];
    let stranger = async {
        match from {
            Some(from) => Some((from, ask(&place, &own, Some(from), false).await)),
            None => None,
        }
    };
    let others = async {
        let mut others = Vec::new();
        for (name, headers) in &names {
            others.push((*name, ask(&place, headers, None, false).await));
        }
        others
    };
    let (plain, circuit, others, stranger) = tokio::join!(
        ask(&place, &[], None, false),
        ask(&place, &own, None, false),
        others,
        stranger,
    );
    Nginx { plain, circuit, others, stranger }
}

async fn probe_ingress(place: &Target) -> Ingress {
    // No address, so that whoever believes it believes in nobody.
    let forged = [
        ("x-circuit-id", "doctor"),
        ("x_circuit_id", "doctor"),
        ("x-real-ip", "doctor"),
        ("x-fortify-subject", "AAAAAAAAAAAAAAAAAAAAAA"),
        ("x-fortify-level", "10"),
    ];
    let (plain, forged) =
        tokio::join!(ask(place, &[], None, true), ask(place, &forged, None, true));
    Ingress { plain, forged }
}

pub(super) fn check(config: &Config, places: &Places, found: &FrontProbe) -> Vec<Finding> {
    let mut findings = check_ingress(config, places, found.ingress.as_ref());
    findings.extend(check_nginx(config, places, found.nginx.as_ref()));
    findings
}

fn check_ingress(config: &Config, places: &Places, found: Option<&Ingress>) -> Vec<Finding> {
    const CHECK: &str = "ingress";
    const SPOOF: &str = "ingress.spoof";
    let (Some(place), Some(found)) = (&places.ingress, found) else {
        let why = match config.security.identity {
            IdentityMode::Peer => "security.identity is \"peer\": no circuits are told",
            IdentityMode::Circuit => {
                "where tor connects is not known: give --ingress 127.0.0.1:10000, or set tor.control"
            }
        };
        return vec![Finding::skipped(CHECK, why), Finding::skipped(SPOOF, why)];
    };
    let plain = match &found.plain {
        Ok(ProbeResult::Circuit) => {
            Finding::ok(CHECK, format!("a circuit that tor tells at {place} reaches the gate"))
        }
        Ok(ProbeResult::NoCircuit) => Finding::fail(
            CHECK,
            format!("a circuit that tor tells at {place} does not reach the gate: all get 400"),
            "in haproxy.cfg, frontend: bind ... accept-proxy, and http-request set-header X-Circuit-ID \
             %[src]; in nginx.conf: real_ip_header X-Circuit-ID and, to Fortify, proxy_set_header \
             X-Circuit-ID $remote_addr",
        ),
        Ok(word) => Finding::fail(
            CHECK,
            format!("a visitor without a session gets {word} at {place}"),
            foreign(*word),
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("nobody answers a circuit of tor's at {place}: {error}"),
            "start HAProxy; its frontend has to bind this address with accept-proxy and take \
             fc00:dead:beef:4dad::/96",
        ),
    };
    let spoof = match (&found.plain, &found.forged) {
        (Ok(ProbeResult::Circuit), Ok(ProbeResult::NoCircuit)) if places.is_gate => {
            Finding::ok(SPOOF, "an X-Circuit-ID beside tor's PROXY line is refused")
        }
        (Ok(ProbeResult::Circuit), Ok(ProbeResult::Circuit)) => Finding::ok(
            SPOOF,
            "an X-Circuit-ID that a visitor sends changes nothing (what the service is sent cannot be seen \
             from outside)",
        ),
        (Ok(ProbeResult::Circuit), Ok(ProbeResult::NoCircuit)) => Finding::fail(
            SPOOF,
            format!("an X-Circuit-ID that a visitor sends to {place} wins over tor's circuit"),
            "in haproxy.cfg, frontend, in this order: http-request del-header ^x[-_]circuit[-_] -m reg; \
             http-request set-header X-Circuit-ID %[src] (deploy/haproxy.cfg)",
        ),
        (Ok(ProbeResult::Circuit), Ok(word)) => Finding::warn(
            SPOOF,
            format!("with forged headers the answer at {place} is {word}"),
            "compare with deploy/haproxy.cfg which headers are removed",
        ),
        _ => Finding::skipped(SPOOF, "no circuit reaches the gate there"),
    };
    vec![plain, spoof]
}

fn check_nginx(config: &Config, places: &Places, found: Option<&Nginx>) -> Vec<Finding> {
    const CHECK: &str = "nginx";
    const SPOOF: &str = "nginx.spoof";
    let (Some(address), Some(found)) = (places.nginx, found) else {
        let why = match config.upstream.authority {
            Some(_) => {
                "upstream.url is set, and HAProxy names nothing else behind it: no nginx seen"
            }
            None => "where nginx listens is not known: give --nginx http://127.0.0.1:10001",
        };
        return vec![Finding::skipped(CHECK, why), Finding::skipped(SPOOF, why)];
    };
    let mut findings = vec![check_reached(config, address, found)];
    let ours = matches!(found.plain, Ok(ProbeResult::NoCircuit));
    findings.push(if ours {
        check_spoof(address, found)
    } else {
        Finding::skipped(SPOOF, "nginx does not lead to the gate as it should, see above")
    });
    findings
}

fn check_reached(config: &Config, address: SocketAddr, found: &Nginx) -> Finding {
    const CHECK: &str = "nginx";
    match (&found.plain, config.security.identity) {
        (Err(error), _) => Finding::fail(
            CHECK,
            format!("nobody answers at {address}: {error}"),
            "start nginx (nginx -t says what is wrong with its configuration), or correct --nginx",
        ),
        (Ok(ProbeResult::NoCircuit), IdentityMode::Circuit) => match &found.circuit {
            Ok(ProbeResult::Circuit) => Finding::ok(
                CHECK,
                format!("{address} asks the gate, and hands HAProxy's circuit on"),
            ),
            _ => Finding::fail(
                CHECK,
                format!("{address} asks the gate, and does not hand X-Circuit-ID on"),
                "in nginx.conf: set_real_ip_from 127.0.0.0/8; real_ip_header X-Circuit-ID; and in each \
                 location that leads to Fortify proxy_set_header X-Circuit-ID $remote_addr",
            ),
        },
        (Ok(ProbeResult::Circuit), IdentityMode::Circuit) => Finding::fail(
            CHECK,
            format!("{address} tells the gate a circuit for who has none: all visitors are one"),
            "proxy_set_header X-Circuit-ID $remote_addr, and no fixed value (deploy/nginx.conf)",
        ),
        (Ok(ProbeResult::Circuit), IdentityMode::Peer) => {
            Finding::ok(CHECK, format!("{address} asks the gate"))
        }
        (Ok(word), _) => Finding::fail(
            CHECK,
            format!("a visitor without a session gets {word} at {address}"),
            foreign(*word),
        ),
    }
}

/// Advice about an answer that should have been the gate's refusal.
fn foreign(word: ProbeResult) -> String {
    match word {
        ProbeResult::Foreign(500..) => {
            "the gate does not answer nginx or HAProxy: is it running; is www-data in the group of \
             server.socket; does `fortify` in nginx-places/http.conf name its address"
        }
        ProbeResult::Foreign(_) => {
            "whoever answers there asks no gate: auth_request /_fortify/auth in every location that is \
             protected, and error_page 401 403 = @fortify (deploy/nginx.conf)"
        }
        _ => "see gate.ready, and journalctl -u fortify",
    }
    .to_owned()
}

fn check_spoof(address: SocketAddr, found: &Nginx) -> Finding {
    const CHECK: &str = "nginx.spoof";
    const MEND: &str = "in nginx.conf: set_real_ip_from 127.0.0.0/8, ::1 and unix: and nobody else, \
                        real_ip_header X-Circuit-ID, proxy_set_header X-Circuit-ID $remote_addr (never \
                        $http_x_circuit_id), and listen on loopback (deploy/nginx.conf)";
    if let Some((from, Ok(ProbeResult::Circuit))) = &found.stranger {
        let found =
            format!("a forged X-Circuit-ID from {from}, which is not HAProxy, passes {address}");
        return Finding::fail(CHECK, found, MEND);
    }
    let believed =
        found.others.iter().find(|(_, word)| !matches!(word, Ok(ProbeResult::NoCircuit)));
    match believed {
        Some((name, Ok(ProbeResult::Circuit))) => {
            let found = format!("a circuit that a visitor writes into {name} passes {address}");
            let mend = format!("underscores_in_headers off; {MEND}");
            return Finding::fail(CHECK, found, mend);
        }
        Some((name, Ok(word @ ProbeResult::Foreign(..500)))) => {
            let found = format!("with {name} a visitor without a session gets {word} at {address}");
            return Finding::fail(CHECK, found, foreign(*word));
        }
        Some((name, word)) => {
            let word = match word {
                Ok(word) => word.to_string(),
                Err(error) => error.to_string(),
            };
            let found =
                format!("with {name} the answer at {address} is {word}, not a plain refusal");
            return Finding::warn(CHECK, found, "compare with deploy/nginx.conf");
        }
        None => {}
    }
    let from = match &found.stranger {
        Some((from, _)) => format!("nor X-Circuit-ID from {from}"),
        None => "X-Circuit-ID from elsewhere not tried, for want of another address".to_owned(),
    };
    Finding::ok(
        CHECK,
        format!(
            "no other name is believed, {from}; from this machine X-Circuit-ID is, as HAProxy's has to be \
             (what the service is sent cannot be seen from outside)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    const NGINX: &str = "127.0.0.1:10001";

    fn healthy() -> Nginx {
        let names = ["X_Circuit_ID", "X-Forwarded-For", "X-Fortify-Subject"];
        Nginx {
            plain: Ok(ProbeResult::NoCircuit),
            circuit: Ok(ProbeResult::Circuit),
            others: names.map(|name| (name, Ok(ProbeResult::NoCircuit))).into(),
            stranger: Some(("192.0.2.2".parse().unwrap(), Ok(ProbeResult::NoCircuit))),
        }
    }

    fn nginx(change: impl FnOnce(&mut Nginx)) -> [CheckStatus; 2] {
        let mut found = healthy();
        change(&mut found);
        let places = Places { nginx: Some(NGINX.parse().unwrap()), ..Places::default() };
        let findings = check_nginx(&Config::default(), &places, Some(&found));
        [findings[0].status, findings[1].status]
    }

    #[test]
    fn nginx_asks_the_gate_and_believes_haproxy_alone() {
        assert_eq!(nginx(|_| {}), [CheckStatus::Ok, CheckStatus::Ok]);
        assert_eq!(nginx(|n| n.stranger = None), [CheckStatus::Ok, CheckStatus::Ok]);
        assert_eq!(
            nginx(|n| n.circuit = Ok(ProbeResult::NoCircuit)),
            [CheckStatus::Fail, CheckStatus::Ok]
        );
        assert_eq!(
            nginx(|n| n.plain = Ok(ProbeResult::Circuit)),
            [CheckStatus::Fail, CheckStatus::Skipped]
        );
        assert_eq!(
            nginx(|n| n.plain = Ok(ProbeResult::Foreign(200))),
            [CheckStatus::Fail, CheckStatus::Skipped]
        );
        assert_eq!(
            nginx(|n| n.plain = Err(ProbeError::Slow)),
            [CheckStatus::Fail, CheckStatus::Skipped]
        );
        let stranger = |n: &mut Nginx| n.stranger.as_mut().unwrap().1 = Ok(ProbeResult::Circuit);
        assert_eq!(nginx(stranger), [CheckStatus::Ok, CheckStatus::Fail]);
        for at in 0..3 {
            assert_eq!(
                nginx(|n| n.others[at].1 = Ok(ProbeResult::Circuit)),
                [CheckStatus::Ok, CheckStatus::Fail]
            );
        }
        assert_eq!(nginx(|n| n.others[2].1 = Ok(ProbeResult::Foreign(200)))[1], CheckStatus::Fail);
        assert_eq!(nginx(|n| n.others[2].1 = Ok(ProbeResult::Foreign(503)))[1], CheckStatus::Warn);
    }

    #[test]
    fn a_circuit_reaches_the_gate_and_a_forged_one_does_not() {
        let verdicts = |plain, forged, is_gate| {
            let ingress = Some(Target::Tcp("127.0.0.1:10000".to_owned()));
            let places = Places { ingress, is_gate, nginx: None };
            let found = Ingress { plain: Ok(plain), forged: Ok(forged) };
            let findings = check_ingress(&Config::default(), &places, Some(&found));
            [findings[0].status, findings[1].status]
        };
        use ProbeResult::{Circuit, Foreign, NoCircuit};
        assert_eq!(verdicts(Circuit, Circuit, false), [CheckStatus::Ok, CheckStatus::Ok]);
        assert_eq!(verdicts(Circuit, NoCircuit, false), [CheckStatus::Ok, CheckStatus::Fail]);
        assert_eq!(verdicts(Circuit, NoCircuit, true), [CheckStatus::Ok, CheckStatus::Ok]);
        assert_eq!(
            verdicts(NoCircuit, NoCircuit, false),
            [CheckStatus::Fail, CheckStatus::Skipped]
        );
        assert_eq!(
            verdicts(Foreign(200), Circuit, false),
            [CheckStatus::Fail, CheckStatus::Skipped]
        );
    }

    #[test]
    fn targets_of_tor_are_places() {
        assert_eq!(place("127.0.0.1:10000"), Some(Target::Tcp("127.0.0.1:10000".to_owned())));
        assert_eq!(place("unix:/run/x"), Some(Target::Unix("/run/x".into())));
        assert_eq!(place("rubbish"), None);
    }
}

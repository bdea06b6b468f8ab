//! Whether `HAProxy` and nginx pass the circuit on, and whether they believe a forged one, asked from a visitor's
//! position.
//!
//! The status shows whether a circuit reached the gate. A client without a session that asks for JSON gets 403
//! with a circuit, and 400 without one or with an invalid one. A forged header that is believed therefore changes
//! the status. What is sent to the protected service cannot be seen from outside; the findings say so.
//!
//! nginx believes `X-Circuit-ID` from this machine by design, because `HAProxy` runs there. It is therefore also
//! asked from another address, and with header names that it must not mistake for that one. `HAProxy` is asked as
//! tor does, with a PROXY line, and with a header that is not a valid circuit: if the header wins, the status
//! turns from 403 to 400.

use std::net::{IpAddr, SocketAddr};

use super::Finding;
use super::answer::{ProbeResult, classify};
use super::http::{self, ProbeError, ProbeRequest, Target};
use super::places::Places;
use fortify_config::Config;
use fortify_core::circuit::IdentityMode;

type Probed = Result<ProbeResult, ProbeError>;

/// The answers of the proxies.
#[derive(Default)]
pub(super) struct FrontProbe {
    nginx: Option<Nginx>,
    ingress: Option<Ingress>,
}

struct Nginx {
    /// The answer without any header.
    plain: Probed,
    /// With `X-Circuit-ID`, from this machine, as `HAProxy` asks.
    circuit: Probed,
    /// With other headers that claim an identity, none of which nginx may believe.
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
    // Not a valid circuit: a proxy that believes it loses the real one.
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
            IdentityMode::Peer => "security.identity is \"peer\": circuits are not used",
            IdentityMode::Circuit => {
                "where tor connects is not known: give --ingress, such as 127.0.0.1:10000, or set tor.control"
            }
        };
        return vec![Finding::skipped(CHECK, why), Finding::skipped(SPOOF, why)];
    };
    let plain = match &found.plain {
        Ok(ProbeResult::Circuit) => {
            Finding::ok(CHECK, format!("a circuit that tor sends to {place} reaches the gate"))
        }
        Ok(ProbeResult::NoCircuit) => Finding::fail(
            CHECK,
            format!(
                "a circuit that tor sends to {place} does not reach the gate: every visitor gets 400"
            ),
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
            format!("nothing answers tor's connection to {place}: {error}"),
            "start HAProxy; its frontend has to bind this address with accept-proxy and accept \
             fc00:dead:beef:4dad::/96",
        ),
    };
    let spoof = match (&found.plain, &found.forged) {
        (Ok(ProbeResult::Circuit), Ok(ProbeResult::NoCircuit)) if places.is_gate => {
            Finding::ok(SPOOF, "an X-Circuit-ID in addition to tor's PROXY line is refused")
        }
        (Ok(ProbeResult::Circuit), Ok(ProbeResult::Circuit)) => Finding::ok(
            SPOOF,
            "an X-Circuit-ID that a visitor sends changes nothing (what reaches the service cannot be seen \
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
            "compare the headers that it removes with deploy/haproxy.cfg",
        ),
        _ => Finding::skipped(SPOOF, "no circuit reaches the gate there"),
    };
    vec![plain, spoof]
}

fn check_nginx(config: &Config, places: &Places, found: Option<&Nginx>) -> Vec<Finding> {
    const CHECK: &str = "nginx";
    const SPOOF: &str = "nginx.spoof";
    let (Some(address), Some(found)) = (places.nginx, found) else {
        let why = match config.upstream.servers.is_empty() {
            false => {
                "upstream.url is set, and HAProxy has no other server behind it: there is no nginx to check"
            }
            true => {
                "where nginx listens is not known: give --nginx, such as http://127.0.0.1:10001"
            }
        };
        return vec![Finding::skipped(CHECK, why), Finding::skipped(SPOOF, why)];
    };
    let mut findings = vec![check_reached(config, address, found)];
    let ours = matches!(found.plain, Ok(ProbeResult::NoCircuit));
    findings.push(if ours {
        check_spoof(address, found)
    } else {
        Finding::skipped(SPOOF, "nginx does not reach the gate as it should, see above")
    });
    findings
}

fn check_reached(config: &Config, address: SocketAddr, found: &Nginx) -> Finding {
    const CHECK: &str = "nginx";
    match (&found.plain, config.security.identity) {
        (Err(error), _) => Finding::fail(
            CHECK,
            format!("nothing answers at {address}: {error}"),
            "start nginx (nginx -t says what is wrong with its configuration), or correct --nginx",
        ),
        (Ok(ProbeResult::NoCircuit), IdentityMode::Circuit) => match &found.circuit {
            Ok(ProbeResult::Circuit) => Finding::ok(
                CHECK,
                format!("{address} asks the gate and passes HAProxy's circuit on"),
            ),
            _ => Finding::fail(
                CHECK,
                format!("{address} asks the gate but does not pass X-Circuit-ID on"),
                "in nginx.conf: set_real_ip_from 127.0.0.0/8; real_ip_header X-Circuit-ID; and in each \
                 location that leads to Fortify: proxy_set_header X-Circuit-ID $remote_addr",
            ),
        },
        (Ok(ProbeResult::Circuit), IdentityMode::Circuit) => Finding::fail(
            CHECK,
            format!(
                "{address} sends the gate a circuit for a visitor without one: all visitors look alike"
            ),
            "in nginx.conf: proxy_set_header X-Circuit-ID $remote_addr, not a fixed value (deploy/nginx.conf)",
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

/// What to do about an answer that should have been the gate's refusal.
fn foreign(word: ProbeResult) -> String {
    match word {
        ProbeResult::Foreign(500..) => {
            "the gate does not answer nginx or HAProxy: make sure that it is running, that www-data is in the \
             group of server.socket, and that `fortify` in nginx-places/http.conf names its address"
        }
        ProbeResult::Foreign(_) => {
            "the server there does not ask the gate: set auth_request /_fortify/auth and error_page 401 403 = \
             @fortify in every protected location (deploy/nginx.conf)"
        }
        _ => "see gate.ready, and journalctl -u fortify",
    }
    .to_owned()
}

fn check_spoof(address: SocketAddr, found: &Nginx) -> Finding {
    const CHECK: &str = "nginx.spoof";
    const FIX: &str = "in nginx.conf: set_real_ip_from 127.0.0.0/8, ::1 and unix: and nothing else, \
                        real_ip_header X-Circuit-ID, proxy_set_header X-Circuit-ID $remote_addr (never \
                        $http_x_circuit_id), and listen on loopback (deploy/nginx.conf)";
    if let Some((from, Ok(ProbeResult::Circuit))) = &found.stranger {
        let found =
            format!("a forged X-Circuit-ID from {from}, which is not HAProxy, passes {address}");
        return Finding::fail(CHECK, found, FIX);
    }
    let believed =
        found.others.iter().find(|(_, word)| !matches!(word, Ok(ProbeResult::NoCircuit)));
    match believed {
        Some((name, Ok(ProbeResult::Circuit))) => {
            let found = format!("a circuit that a visitor writes into {name} passes {address}");
            let fix = format!("underscores_in_headers off; {FIX}");
            return Finding::fail(CHECK, found, fix);
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
        None => "X-Circuit-ID was not tried from elsewhere, because there is no other address"
            .to_owned(),
    };
    Finding::ok(
        CHECK,
        format!(
            "no other header is believed, {from}; X-Circuit-ID from this machine is, because HAProxy sends it \
             (what reaches the service cannot be seen from outside)"
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
    fn nginx_asks_the_gate_and_believes_only_haproxy() {
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
}

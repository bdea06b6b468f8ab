//! Where the gate, nginx and the ingress listen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::DoctorContext;
use super::http::Target;
use fortify_config::Config;
use fortify_haproxy::client::Endpoint;

/// Where the gate listens, as seen from this machine; `None` for a port that the system chooses.
pub(super) fn gate(config: &Config) -> Option<Target> {
    match &config.server.socket {
        Some(path) => Some(Target::Unix(path.clone())),
        None => gate_address(config).map(Target::from),
    }
}

/// The gate's TCP address; `None` if it listens on a unix socket.
pub(super) fn gate_address(config: &Config) -> Option<SocketAddr> {
    let server = &config.server;
    let host = match server.host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    (server.socket.is_none() && server.port > 0).then(|| SocketAddr::new(host, server.port))
}

/// The proxies between visitors and the gate.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// Where nginx listens.
    pub(super) nginx: Option<SocketAddr>,
    /// Where tor connects.
    pub(super) ingress: Option<Target>,
    /// Whether tor connects to the gate itself.
    pub(super) is_gate: bool,
}

impl Places {
    /// The addresses on the command line; otherwise the server that `HAProxy` lists behind it, and the target
    /// of the onion service in torrc.
    pub(super) fn find(
        context: &DoctorContext,
        config: &Config,
        haproxy: Option<&fortify_haproxy::checkup::Checkup>,
        tor: Option<&fortify_tor::Checkup>,
    ) -> Self {
        let gate = gate(config);
        let is_here = match &config.haproxy.endpoint {
            Some(Endpoint::Tcp(address)) => address.ip().is_loopback(),
            _ => true,
        };
        let behind = haproxy.filter(|_| is_here).and_then(|found| {
            found.servers.iter().copied().find(|server| Some(Target::from(*server)) != gate)
        });
        let ingress = match (context.ingress, config.server.proxy_protocol, tor) {
            (Some(address), ..) => Some(Target::from(address)),
            (None, true, _) => gate.clone(),
            (None, false, Some(tor)) => {
                let target = tor.services.iter().find(|service| service.exports_circuits);
                target
                    .and_then(|service| service.targets.first())
                    .and_then(|text| target_of_tor(text))
            }
            _ => None,
        };
        let is_gate = ingress.is_some() && ingress == gate;
        Self { nginx: context.nginx.or(behind), ingress, is_gate }
    }
}

/// The target of a `HiddenServicePort`, parsed.
pub(super) fn target_of_tor(target: &str) -> Option<Target> {
    match target.strip_prefix("unix:") {
        Some(path) => Some(Target::Unix(path.trim_matches('"').into())),
        None => target.parse::<SocketAddr>().ok().map(Target::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_tor_are_places() {
        assert_eq!(
            target_of_tor("127.0.0.1:10000"),
            Some(Target::Tcp("127.0.0.1:10000".to_owned()))
        );
        assert_eq!(target_of_tor("unix:/run/x"), Some(Target::Unix("/run/x".into())));
        assert_eq!(target_of_tor("rubbish"), None);
    }
}

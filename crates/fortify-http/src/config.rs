//! `[server]` and `[upstream]`: where to listen, how long clients may take, and the protected service.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use fortify_core::circuit::TrustedProxies;
use http::uri::Authority;

/// `[server]`: where to listen, and how long clients may take.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// `host`: the address to bind, 127.0.0.1 by default.
    pub host: IpAddr,
    /// `port`: the TCP port, 10002 by default; 0 takes any free one.
    pub port: u16,
    /// `socket`: the path of a unix socket to bind instead of host and port; none by default.
    pub socket: Option<PathBuf>,
    /// `socket_mode`: the permission bits of that socket, 0o660 by default.
    pub socket_mode: u32,
    /// `proxy_protocol`: whether every connection starts with a PROXY v1 line; off by default.
    pub proxy_protocol: bool,
    /// `trusted_proxies`: the peers whose circuit header or PROXY line is trusted; this machine by default.
    pub trusted_proxies: TrustedProxies,
    /// `max_connections`: connections served at the same time, 4096 by default. A further one takes the slot of
    /// one that is least missed, or waits in the kernel.
    pub max_connections: usize,
    /// `max_connections_per_circuit`: connections of one circuit, 32 by default; further ones are closed.
    pub max_connections_per_circuit: usize,
    /// `header_timeout_seconds`: from the first byte of a request to the end of its headers, 10 s.
    pub header_timeout: Duration,
    /// `body_timeout_seconds`: how long a request body may take, plus a second for every 500 bytes received,
    /// 30 s.
    pub body_timeout: Duration,
    /// `idle_timeout_seconds`: between two requests, and for a response that is not read, 30 s.
    pub idle_timeout: Duration,
    /// `drain_seconds`: how long running requests may continue at shutdown, 10 s.
    pub drain: Duration,
    /// `operator_endpoints`: who may request `/ready` and `/metrics`.
    pub operator_endpoints: OperatorEndpoints,
}

/// Who may request `/ready` and `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OperatorEndpoints {
    /// The trusted proxies. The default, because metrics describe visitors.
    #[default]
    Local,
    /// Nobody.
    Off,
}

/// `[upstream]`: the protected service.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    /// `url` or `urls`: where the service listens. None by default: Fortify then answers only its own addresses.
    pub servers: Vec<UpstreamServer>,
    /// `tls_ca_file`: the certificates that servers with https are verified with. None by default.
    pub tls_ca: Option<PathBuf>,
    /// `connect_timeout_seconds`: how long it may take to accept a connection, 5 s.
    pub connect_timeout: Duration,
    /// `response_timeout_seconds`: from the last byte of the request to the head of its response, 60 s.
    pub response_timeout: Duration,
    /// `max_concurrent`: the highest that the limit of requests that the service works on at once may become, 256;
    /// 0 for no limit.
    pub max_concurrent: usize,
}

/// One address of the protected service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamServer {
    /// Host and port, over plain http.
    Http(Authority),
    /// Host and port, over TLS.
    Https(Authority),
    /// A unix socket, over plain http.
    Unix(PathBuf),
}

impl UpstreamServer {
    /// Host and port of a server that is reached over TCP.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let (authority, port) = match self {
            Self::Http(authority) => (authority, 80),
            Self::Https(authority) => (authority, 443),
            Self::Unix(_) => return None,
        };
        Some((authority.host(), authority.port_u16().unwrap_or(port)))
    }
}

impl fmt::Display for UpstreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::Https(authority) => write!(f, "https://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 10002,
            socket: None,
            socket_mode: 0o660,
            proxy_protocol: false,
            trusted_proxies: TrustedProxies::default(),
            max_connections: 4096,
            // Tor Browser opens 6 to a site, and one for each WebSocket, for all tabs together.
            max_connections_per_circuit: 32,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            operator_endpoints: OperatorEndpoints::default(),
        }
    }
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            tls_ca: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            max_concurrent: 256,
        }
    }
}

//! What the accept loop knows about a connection, and which peers may identify other clients.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ProxySource;

/// The connection a request came on; the accept loop puts it into the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The other end of the socket.
    pub peer: PeerAddress,
    /// The PROXY line, on a listener that reads them (`server.proxy_protocol`); there every
    /// connection has one, because those without are closed.
    pub proxy_line: Option<ProxySource>,
}

/// The other end of the socket: an address, without its port, or a process on this machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// A TCP peer.
    Tcp(IpAddr),
    /// A unix socket, whose peers have no address.
    Unix,
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "PeerAddress(tcp ..)",
            Self::Unix => "PeerAddress(unix)",
        })
    }
}

/// The peers whose PROXY line or circuit header is trusted: `server.trusted_proxies`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
}

impl TrustedProxies {
    /// Reads the entries of the configuration: networks, single addresses, or `unix`.
    ///
    /// # Errors
    ///
    /// The first entry that is neither a network, an address nor `unix`.
    pub fn parse<S: AsRef<str>>(
        entries: impl IntoIterator<Item = S>,
    ) -> Result<Self, TrustedProxiesError> {
        let mut trusted = Self { networks: Vec::new(), unix: false };
        for entry in entries {
            let entry = entry.as_ref();
            if entry == "unix" {
                trusted.unix = true;
            } else if let Ok(network) = entry.parse::<IpNet>() {
                trusted.networks.push(network);
            } else if let Ok(address) = entry.parse::<IpAddr>() {
                trusted.networks.push(address.into());
            } else {
                return Err(TrustedProxiesError(entry.to_owned()));
            }
        }
        Ok(trusted)
    }

    /// Whether this peer's PROXY line or circuit header counts.
    #[must_use]
    pub fn trusts(&self, peer: &PeerAddress) -> bool {
        match peer {
            PeerAddress::Unix => self.unix,
            PeerAddress::Tcp(address) => {
                let address = address.to_canonical();
                self.networks.iter().any(|network| network.contains(&address))
            }
        }
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<_> = self.networks.iter().map(ToString::to_string).collect();
        if self.unix {
            all.push("unix".to_owned());
        }
        f.write_str(&all.join(", "))
    }
}

impl Default for TrustedProxies {
    /// This machine: 127.0.0.0/8, ::1 and unix sockets.
    fn default() -> Self {
        let loopback4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        let loopback6 = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
        Self { networks: vec![loopback4.into(), loopback6.into()], unix: true }
    }
}

/// An entry of `server.trusted_proxies` that is neither a network nor `unix`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network, use one such as \"127.0.0.0/8\" or \"::1/128\", or \"unix\"")]
pub struct TrustedProxiesError(String);

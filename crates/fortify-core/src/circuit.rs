//! The identity of a visitor: the circuit on an onion service, the address on clearnet.
//!
//! Counts, limits, bans and sessions all belong to a [`CircuitId`], so it is made in one place, by
//! parsing, and never from text that was merely passed on. Tor sends the circuit as an IPv6 address
//! (`HiddenServiceExportCircuitID haproxy`), either in a PROXY line to Fortify or, through `HAProxy`, in
//! the header `X-Circuit-ID`.
//!
//! # Layout
//!
//! - [`identify`]: decides which source counts for a request.
//! - [`CircuitId`], [`Origin`], [`TorCircuit`], [`AddressBlock`]: the identities.
//! - `connection`: what the accept loop knows ([`Connection`], [`PeerAddress`],
//!   [`TrustedProxies`]).
//! - `proxy_line`: the PROXY v1 line ([`parse_proxy_line`], [`ProxySource`]).

mod connection;
mod proxy_line;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use http::HeaderMap;

pub use connection::{Connection, PeerAddress, TrustedProxies, TrustedProxiesError};
pub use proxy_line::{MAX_PROXY_LINE, ProxySource, parse_proxy_line};

/// The header in which a trusted proxy passes the circuit's address.
pub const CIRCUIT_HEADER: &str = "x-circuit-id";

/// Length in bytes of [`CircuitId::canonical_bytes`].
pub const CANONICAL_LEN: usize = 12;

/// The longest text an IPv6 address can be: eight groups, the last two as dotted IPv4.
const MAX_ADDRESS_TEXT: usize = 45;

/// `fc00:dead:beef:4dad::/64`, the prefix Tor writes before a circuit's number
/// (`HiddenServiceExportCircuitID` in tor's manual; seen on the wire with tor 0.4.9).
const TOR_PREFIX: [u16; 4] = [0xfc00, 0xdead, 0xbeef, 0x4dad];

/// Which source identifies visitors: `security.identity` in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentityMode {
    /// An onion service: the circuit, from `X-Circuit-ID` of a trusted peer or a PROXY line, and
    /// an error without one. The default, because guessing would put every visitor in one bucket.
    #[default]
    Circuit,
    /// A clearnet service: the address in the PROXY line or else of the peer. The header counts
    /// for nothing.
    Peer,
}

/// Identifies the visitor of a request, or says why that is impossible.
///
/// Pure: a function of the configuration, of what the accept loop knows, of the headers, and of
/// `boot`, the run of tor during which the request arrived: read it once per request.
///
/// A PROXY line counts from trusted peers only, like the header: anyone who can reach the listener
/// could write one. Where there is a PROXY line, all bytes after it are the visitor's own, so a
/// circuit header beside it is forged and the request is refused.
///
/// # Errors
///
/// A [`CircuitError`] with the reason. It holds nothing that came from outside.
pub fn identify(
    mode: IdentityMode,
    trusted: &TrustedProxies,
    boot: TorBoot,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<CircuitId, CircuitError> {
    if connection.proxy_line.is_some() && !trusted.trusts(&connection.peer) {
        return Err(CircuitError::UntrustedPeer);
    }
    match (mode, &connection.proxy_line) {
        (IdentityMode::Circuit, Some(_)) if headers.contains_key(CIRCUIT_HEADER) => {
            Err(CircuitError::HeaderBesideProxyLine)
        }
        (IdentityMode::Circuit, Some(line)) => {
            Ok(CircuitId::ProxyLine(Origin::Tor(line.tor()?.during(boot))))
        }
        (IdentityMode::Circuit, None) => {
            from_header(trusted, connection, headers).map(|c| CircuitId::Header(c.during(boot)))
        }
        (IdentityMode::Peer, Some(line)) => Ok(CircuitId::ProxyLine(match line.origin()? {
            Origin::Tor(circuit) => Origin::Tor(circuit.during(boot)),
            address => address,
        })),
        (IdentityMode::Peer, None) => Ok(CircuitId::Peer(AddressBlock::of(&connection.peer))),
    }
}

fn from_header(
    trusted: &TrustedProxies,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<TorCircuit, CircuitError> {
    let mut values = headers.get_all(CIRCUIT_HEADER).iter();
    let Some(value) = values.next() else {
        return Err(CircuitError::Missing);
    };
    if !trusted.trusts(&connection.peer) {
        return Err(CircuitError::UntrustedPeer);
    }
    // A comma is how a proxy joins two lines of the same header.
    if values.next().is_some() || value.as_bytes().contains(&b',') {
        return Err(CircuitError::Duplicate);
    }
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_utf8| CircuitError::Malformed)?;
    text.parse()
}

/// Why a visitor could not be identified.
///
/// No variant carries the refused value: it came from outside, and a circuit number must not
/// appear in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CircuitError {
    /// Neither a PROXY line nor a header, where one of them is required.
    #[error("no circuit was given, by PROXY line or by X-Circuit-ID")]
    Missing,
    /// The header, or the PROXY line, came from a peer outside `server.trusted_proxies`.
    #[error("the peer is not in server.trusted_proxies")]
    UntrustedPeer,
    /// More than one circuit header, or one with several values.
    #[error("X-Circuit-ID was given more than once")]
    Duplicate,
    /// Not an IPv6 address.
    #[error("the circuit is not an IPv6 address")]
    Malformed,
    /// An address, but not of the form `fc00:dead:beef:4dad::/64` that Tor writes.
    #[error("the address is not one that tor gives a circuit")]
    NotTor,
    /// A circuit header beside a PROXY line: the visitor wrote it.
    #[error("X-Circuit-ID was given although the listener reads PROXY lines")]
    HeaderBesideProxyLine,
    /// The first bytes are not a PROXY v1 line for TCP4 or TCP6.
    #[error("not a PROXY v1 line for TCP4 or TCP6")]
    BadProxyLine,
}

impl CircuitError {
    /// A fixed word for a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::UntrustedPeer => "untrusted_peer",
            Self::Duplicate => "duplicate",
            Self::Malformed => "malformed",
            Self::NotTor => "not_tor",
            Self::HeaderBesideProxyLine => "header_beside_proxy_line",
            Self::BadProxyLine => "bad_proxy_line",
        }
    }
}

/// The identity of a visitor, and its source.
///
/// The source is part of the identity: a number in a header and the same number in a PROXY line
/// come from two different tor processes and are two visitors. There is no `Display`, and `Debug`
/// leaves the value out, so that no log line can name a circuit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum CircuitId {
    /// The header `X-Circuit-ID`, set by a trusted proxy.
    Header(TorCircuit),
    /// The PROXY v1 line before the request.
    ProxyLine(Origin),
    /// The address of the connection itself.
    Peer(AddressBlock),
}

impl CircuitId {
    /// Tor's circuit; `None` for a clearnet visitor.
    #[must_use]
    pub const fn tor(&self) -> Option<TorCircuit> {
        match *self {
            Self::Header(circuit) | Self::ProxyLine(Origin::Tor(circuit)) => Some(circuit),
            Self::ProxyLine(Origin::Address(_)) | Self::Peer(_) => None,
        }
    }

    /// This identity as bytes, to be hashed with a key.
    ///
    /// Every field has its fixed place, so two different identities never give the same bytes:
    /// byte 0 the source, byte 1 the kind of origin, then ten bytes of origin (big-endian,
    /// padded with zeros).
    #[must_use]
    pub fn canonical_bytes(&self) -> [u8; CANONICAL_LEN] {
        let (source, origin) = match *self {
            Self::Header(circuit) => (1, Origin::Tor(circuit)),
            Self::ProxyLine(origin) => (2, origin),
            Self::Peer(block) => (3, Origin::Address(block)),
        };
        let mut bytes = [0; CANONICAL_LEN];
        bytes[0] = source;
        match origin {
            Origin::Tor(circuit) => {
                bytes[1] = 1;
                bytes[2..4].copy_from_slice(&circuit.instance.to_be_bytes());
                bytes[4..8].copy_from_slice(&circuit.generation.to_be_bytes());
                bytes[8..12].copy_from_slice(&circuit.number.to_be_bytes());
            }
            Origin::Address(AddressBlock(Block::V4(address))) => {
                bytes[1] = 2;
                bytes[2..6].copy_from_slice(&address.octets());
            }
            Origin::Address(AddressBlock(Block::V6(prefix))) => {
                bytes[1] = 3;
                bytes[2..10].copy_from_slice(&prefix);
            }
            Origin::Address(AddressBlock(Block::Local)) => bytes[1] = 4,
        }
        bytes
    }
}

impl fmt::Debug for CircuitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header(_) => "CircuitId(header ..)",
            Self::ProxyLine(_) => "CircuitId(proxy line ..)",
            Self::Peer(_) => "CircuitId(peer ..)",
        })
    }
}

/// What a PROXY line says about the visitor: a circuit, or on clearnet an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A rendezvous circuit of an onion service.
    Tor(TorCircuit),
    /// A clearnet address.
    Address(AddressBlock),
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tor(_) => "Origin(tor ..)",
            Self::Address(_) => "Origin(address ..)",
        })
    }
}

/// One run of one tor process.
///
/// Both fields are 0 if the configuration has no section `[tor]`; circuits of one run are then not
/// distinguished from those of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TorBoot {
    /// `tor.instance`.
    pub instance: u16,
    /// A number that no earlier run of that process had; see the crate `fortify-tor`.
    pub generation: u32,
}

/// A circuit of one run of one tor process.
///
/// The number alone is not enough: it is a small counter that starts again when tor does, and
/// two tor processes count alike. Instance and generation ([`TorBoot`]) keep those apart.
///
/// Sorted, the circuits with the same number are adjacent ([`Self::all_of`]): where only the number is
/// known, they share a state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorCircuit {
    number: u32,
    instance: u16,
    generation: u32,
}

impl TorCircuit {
    /// Reads the circuit's number from the address that Tor made for it.
    ///
    /// Instance and generation are 0: an address does not hold them ([`Self::during`]).
    ///
    /// # Errors
    ///
    /// [`CircuitError::NotTor`] unless the address is `fc00:dead:beef:4dad::HHHH:LLLL`.
    pub fn from_address(address: Ipv6Addr) -> Result<Self, CircuitError> {
        let [a, b, c, d, 0, 0, high, low] = address.segments() else {
            return Err(CircuitError::NotTor);
        };
        if [a, b, c, d] != TOR_PREFIX {
            return Err(CircuitError::NotTor);
        }
        let number = u32::from(high) << 16 | u32::from(low);
        Ok(Self { instance: 0, generation: 0, number })
    }

    /// The circuit with these three parts: for stores that read one back.
    #[must_use]
    pub const fn from_parts(instance: u16, generation: u32, number: u32) -> Self {
        Self { instance, generation, number }
    }

    /// The address that Tor makes for the circuit, without instance and generation: its key in
    /// `HAProxy`'s table.
    #[must_use]
    pub const fn address(&self) -> Ipv6Addr {
        let [a, b, c, d] = TOR_PREFIX;
        let [high, low] = [(self.number >> 16) as u16, (self.number & 0xffff) as u16];
        Ipv6Addr::new(a, b, c, d, 0, 0, high, low)
    }

    /// All circuits with this number, of any run of any tor process.
    #[must_use]
    pub const fn all_of(number: u32) -> RangeInclusive<Self> {
        Self::from_parts(0, 0, number)..=Self::from_parts(u16::MAX, u32::MAX, number)
    }

    /// The circuit with this number during the run `boot`.
    #[must_use]
    pub const fn during(self, boot: TorBoot) -> Self {
        Self { instance: boot.instance, generation: boot.generation, number: self.number }
    }

    /// The tor process: `tor.instance` in the configuration.
    #[must_use]
    pub fn instance(&self) -> u16 {
        self.instance
    }

    /// The run of that process; see the crate `fortify-tor`.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The circuit's identifier on the control port of that process.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl FromStr for TorCircuit {
    type Err = CircuitError;

    /// Reads any spelling of the address that the standard parser accepts: Tor writes `::0:19`,
    /// `HAProxy` prints `::19`, and both mean circuit 25.
    fn from_str(text: &str) -> Result<Self, CircuitError> {
        if text.len() > MAX_ADDRESS_TEXT {
            return Err(CircuitError::Malformed);
        }
        let address: Ipv6Addr = text.parse().map_err(|_address| CircuitError::Malformed)?;
        Self::from_address(address)
    }
}

impl fmt::Debug for TorCircuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TorCircuit(..)")
    }
}

/// The block of addresses that counts as one visitor: an IPv4 address, an IPv6 /64 (a subscriber has at
/// least that many, RFC 6177), or this machine, over a unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressBlock(Block);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Block {
    V4(Ipv4Addr),
    V6([u8; 8]),
    Local,
}

impl AddressBlock {
    /// The block a peer belongs to.
    #[must_use]
    pub fn of(peer: &PeerAddress) -> Self {
        match peer {
            PeerAddress::Tcp(address) => Self::of_address(*address),
            PeerAddress::Unix => Self(Block::Local),
        }
    }

    fn of_address(address: IpAddr) -> Self {
        // An IPv4 visitor must not get a second identity from a dual-stack listener.
        match address.to_canonical() {
            IpAddr::V4(address) => Self(Block::V4(address)),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self(Block::V6([a, b, c, d, e, f, g, h]))
            }
        }
    }
}

impl fmt::Debug for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressBlock(..)")
    }
}

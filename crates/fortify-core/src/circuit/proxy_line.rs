//! The PROXY v1 line: one line of text before the first request, in which a proxy or Tor says
//! where the connection really comes from.

use std::fmt;
use std::net::IpAddr;

use ppp::v1::{Addresses, Header};

use super::{AddressBlock, CircuitError, Origin, TOR_PREFIX, TorCircuit};

/// The longest PROXY v1 line in bytes, CRLF included (section 2.1 of the PROXY protocol text).
pub const MAX_PROXY_LINE: usize = 107;

/// The source address of a PROXY line; where it is Tor's, a circuit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProxySource(IpAddr);

impl ProxySource {
    /// The circuit, from an address of the form Tor writes.
    ///
    /// # Errors
    ///
    /// [`CircuitError::NotTor`] for any other address.
    pub fn tor(&self) -> Result<TorCircuit, CircuitError> {
        match self.0 {
            IpAddr::V6(address) => TorCircuit::from_address(address),
            IpAddr::V4(_) => Err(CircuitError::NotTor),
        }
    }

    /// The circuit, or for an address outside Tor's prefix the block that it belongs to.
    ///
    /// # Errors
    ///
    /// [`CircuitError::NotTor`] for an address inside Tor's prefix that is no circuit: as a /64
    /// it would be one visitor with all of them.
    pub fn origin(&self) -> Result<Origin, CircuitError> {
        match self.0 {
            IpAddr::V6(address) if address.segments().starts_with(&TOR_PREFIX) => {
                TorCircuit::from_address(address).map(Origin::Tor)
            }
            address => Ok(Origin::Address(AddressBlock::of_address(address))),
        }
    }

    /// The address, unless it is a circuit: the value for `X-Forwarded-For`.
    #[must_use]
    pub fn clearnet_address(&self) -> Option<IpAddr> {
        match self.0 {
            IpAddr::V6(address) if address.segments().starts_with(&TOR_PREFIX) => None,
            address => Some(address.to_canonical()),
        }
    }
}

impl fmt::Debug for ProxySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxySource(..)")
    }
}

/// Reads one whole PROXY v1 line, CRLF included, and takes its source address.
///
/// # Errors
///
/// [`CircuitError::BadProxyLine`] for anything but one line of at most [`MAX_PROXY_LINE`] bytes
/// for TCP4 or TCP6: `UNKNOWN` says nothing about the visitor, and the binary version 2 is not
/// what Tor sends.
pub fn parse_proxy_line(line: &[u8]) -> Result<ProxySource, CircuitError> {
    let body = line.strip_suffix(b"\r\n").ok_or(CircuitError::BadProxyLine)?;
    // The parser reads up to the first CR and takes a sign before a port; this leaves it neither.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" :.".contains(byte);
    if line.len() > MAX_PROXY_LINE || !body.iter().all(plain) {
        return Err(CircuitError::BadProxyLine);
    }
    match Header::try_from(line).map_err(|_ppp| CircuitError::BadProxyLine)?.addresses {
        Addresses::Tcp4(tcp) => Ok(ProxySource(tcp.source_address.into())),
        Addresses::Tcp6(tcp) => Ok(ProxySource(tcp.source_address.into())),
        Addresses::Unknown => Err(CircuitError::BadProxyLine),
    }
}

//! `[tor]`: tor's control port and metrics port.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[tor]`: tor's control port, which reports restarts and closed circuits, and its metrics port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TorConfig {
    /// `control`: the address of tor's control port. None by default: tor is then not watched.
    pub control: Option<ControlAddress>,
    /// `cookie_file`: tor's `CookieAuthFile`; by default the file that tor names.
    pub cookie_file: Option<PathBuf>,
    /// `password_file`: a file with the password of `HashedControlPassword`, instead of the cookie; none by
    /// default.
    pub password_file: Option<PathBuf>,
    /// `metrics_address`: torrc's `MetricsPort`, on this machine. None by default: tor's own figures are then not
    /// known.
    pub metrics_address: Option<SocketAddr>,
    /// `instance`: which tor process this node is behind, 0 by default. Nodes that share keys and a store need
    /// different numbers.
    pub instance: u16,
}

/// The address of tor's control port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAddress {
    /// torrc's `ControlSocket`.
    Unix(PathBuf),
    /// torrc's `ControlPort`.
    Tcp(SocketAddr),
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

//! `[tor]`: tor's control port.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[tor]`: tor's control port, which tells when tor starts anew and when circuits close.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TorConfig {
    /// `control`: where tor's control port is; none by default, and then it is not asked.
    pub control: Option<ControlAddress>,
    /// `cookie_file`: tor's `CookieAuthFile`; by default the one that tor names.
    pub cookie_file: Option<PathBuf>,
    /// `password_file`: a file that holds the password of `HashedControlPassword`, in place of the
    /// cookie; none by default.
    pub password_file: Option<PathBuf>,
    /// `instance`: which of several tor processes this gate stands behind, 0 by default; different
    /// for each where gates share keys and a store.
    pub instance: u16,
}

/// Where tor's control port is.
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

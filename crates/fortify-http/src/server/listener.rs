//! Binding a socket. Errors say what to do.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::stream::Socket;
use crate::config::ServerConfig;
use crate::tcp;
use fortify_core::circuit::PeerAddress;

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener, SocketAddr),
    /// A unix socket, and its file, which is removed with the listener.
    Unix(UnixListener, SocketFile),
    /// The same, but only for root and the user that runs this process: other peers are disconnected.
    Own(UnixListener, SocketFile),
    /// A unix socket that the service manager opened; its file stays.
    Inherited(UnixListener, PathBuf),
}

impl Listener {
    /// Binds the unix socket of `[server]`, or else its host and port.
    ///
    /// A socket file on which nothing answers is left over from a killed process and is removed. One that
    /// answers belongs to another service and is left alone.
    ///
    /// # Errors
    ///
    /// A [`BindError`] that names the address and says what to do.
    pub async fn bind(config: &ServerConfig) -> Result<Self, BindError> {
        match &config.socket {
            Some(path) => bind_unix(path, config.socket_mode).await,
            None => Self::bind_tcp(SocketAddr::new(config.host, config.port)).await,
        }
    }

    /// Binds a port.
    ///
    /// # Errors
    ///
    /// As [`Self::bind`].
    pub async fn bind_tcp(address: SocketAddr) -> Result<Self, BindError> {
        bind_tcp(address).await
    }

    /// Takes a port that the service manager opened, and keeps open while this process starts again.
    ///
    /// # Errors
    ///
    /// If the operating system refuses.
    pub fn inherited_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self::Tcp(listener, address))
    }

    /// Takes a unix socket that the service manager opened.
    ///
    /// # Errors
    ///
    /// As [`Self::inherited_tcp`].
    pub fn inherited_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().map(Path::to_owned).unwrap_or_default();
        Ok(Self::Inherited(UnixListener::from_std(listener)?, path))
    }

    /// Binds a unix socket that only root and the user that runs this process can use: by its permissions, and
    /// by the user id of each peer.
    ///
    /// # Errors
    ///
    /// As [`Self::bind`].
    pub async fn bind_own(path: &Path) -> Result<Self, BindError> {
        match bind_unix(path, 0o600).await? {
            Self::Unix(listener, file) => Ok(Self::Own(listener, file)),
            other => Ok(other),
        }
    }

    /// The address; with port 0, it has the port that was chosen.
    #[must_use]
    pub fn local_addr(&self) -> LocalAddress {
        match self {
            Self::Tcp(_, address) => LocalAddress::Tcp(*address),
            Self::Unix(_, file) | Self::Own(_, file) => LocalAddress::Unix(file.path.clone()),
            Self::Inherited(_, path) => LocalAddress::Unix(path.clone()),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Socket, PeerAddress)> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                tcp::set_up(&stream)?;
                Ok((Box::new(stream), PeerAddress::Tcp(peer.ip())))
            }
            Self::Unix(listener, _) | Self::Inherited(listener, _) => {
                let (socket, _) = listener.accept().await?;
                Ok((Box::new(socket), PeerAddress::Unix))
            }
            Self::Own(listener, _) => {
                let (socket, _) = listener.accept().await?;
                let own = rustix::process::geteuid().as_raw();
                let peer = socket.peer_cred()?.uid();
                if peer != own && peer != 0 {
                    tracing::warn!(
                        uid = peer,
                        "refused a connection of another user to the admin socket"
                    );
                    // An error of that peer, not of the listener.
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Ok((Box::new(socket), PeerAddress::Unix))
            }
        }
    }
}

async fn bind_tcp(address: SocketAddr) -> Result<Listener, BindError> {
    let fail = |error: io::Error| BindError::from_io(address.to_string(), error);
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok(Listener::Tcp(listener, address))
}

async fn bind_unix(path: &Path, mode: u32) -> Result<Listener, BindError> {
    let name = path.display().to_string();
    let fail = |error: io::Error| BindError::from_io(name.clone(), error);
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(name)),
        Ok(_) => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(fail)?;
            }
            // A full backlog fails with another error, and means that a process listens.
            Ok(_) => return Err(BindError::InUse(name)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(BindError::InUse(name));
            }
            Err(error) => return Err(fail(error)),
        },
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    let file = SocketFile::new(path).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fail)?;
    Ok(Listener::Unix(listener, file))
}

/// The file of a unix socket, which is removed when this is dropped, unless another one has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// The address of a [`Listener`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why the socket cannot be bound, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("{0} is in use, stop what listens there or set another server.port or server.socket")]
    InUse(String),
    /// The operating system does not allow it.
    #[error(
        "no permission to listen on {0}, use a port from 1024 up, or a directory this user may \
         write to"
    )]
    Forbidden(String),
    /// The host is not an address of this machine.
    #[error("{0} is not an address of this machine, set server.host to one that is")]
    NotLocal(String),
    /// The directory of the unix socket does not exist.
    #[error("the directory of {0} does not exist, create it or set another server.socket")]
    NoDirectory(String),
    /// The path is that of another file, which is not removed.
    #[error("{0} exists and is not a socket, move it away or set another server.socket")]
    NotASocket(String),
    /// Anything else.
    #[error("cannot listen on {address}: {error}")]
    Other {
        /// What was to be bound.
        address: String,
        /// What the operating system said.
        error: io::Error,
    },
}

impl BindError {
    fn from_io(address: String, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::PermissionDenied => Self::Forbidden(address),
            io::ErrorKind::AddrNotAvailable => Self::NotLocal(address),
            io::ErrorKind::NotFound => Self::NoDirectory(address),
            _ => Self::Other { address, error },
        }
    }
}

//! Errors between Fortify and tor. Each message names the line or the permission that fixes it.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use fortify_core::advice::{Advise, both};

use super::generation::GenerationError;
use super::protocol::ProtocolError;
use crate::config::ControlAddress;

/// Why tor's control port cannot be used. Contains no circuit number, cookie or password.
#[derive(Debug, thiserror::Error)]
#[error("{}", both(self))]
pub enum TorError {
    /// The control port cannot be reached.
    Connect(ControlAddress, #[source] io::Error),
    /// It took too long to connect or to answer.
    Slow(ControlAddress),
    /// The connection ended.
    Closed,
    /// The connection broke.
    Broken(#[source] io::Error),
    /// Something else is at that address.
    Protocol(ControlAddress, ProtocolError),
    /// A reply without what was asked for.
    Reply(&'static str),
    /// A command that tor refused.
    Refused(&'static str, String),
    /// The cookie file cannot be read.
    Cookie(PathBuf, #[source] io::Error),
    /// The cookie file holds something else.
    CookieLength(PathBuf),
    /// Tor does not say where its cookie is.
    CookieUnknown,
    /// Whoever listens does not know the cookie.
    Impostor(ControlAddress, PathBuf),
    /// Tor did not accept the cookie.
    CookieRefused(PathBuf, String),
    /// The password file cannot be read.
    Password(PathBuf, #[source] io::Error),
    /// The password file is open to everybody.
    PasswordReadable(PathBuf, u32),
    /// The password file holds no password.
    PasswordForm(PathBuf),
    /// Tor did not accept the password.
    PasswordRefused(PathBuf, String),
    /// Tor wants a password and none is configured.
    PasswordNeeded,
    /// A password is configured and tor wants none.
    PasswordNeedless,
    /// No way in that Fortify knows.
    NoMethod,
    /// No randomness for the handshake.
    #[error(transparent)]
    Entropy(#[from] fortify_core::entropy::EntropyError),
    /// The file of generations failed.
    #[error(transparent)]
    Epoch(#[from] GenerationError),
    /// A command came while tor is not reachable.
    Down,
    /// Too many commands wait.
    Busy,
}

impl Advise for TorError {
    fn problem(&self) -> String {
        match self {
            Self::Connect(address, error) => {
                format!("cannot reach tor's control port {address}: {error}")
            }
            Self::Slow(address) => format!("tor does not answer at {address} in time"),
            Self::Closed => "tor closed its control connection".to_owned(),
            Self::Broken(error) => format!("the connection to tor's control port broke: {error}"),
            Self::Protocol(address, error) => {
                format!("what listens at {address} does not speak tor's control protocol ({error})")
            }
            Self::Reply(command) => format!("tor's reply to {command} is not understood"),
            Self::Refused(command, reason) => format!("tor refused {command}: {reason}"),
            Self::Cookie(path, error) => {
                format!("cannot read tor's cookie file {}: {error}", path.display())
            }
            Self::CookieLength(path) => {
                format!("{} is no cookie of tor's: it must have exactly 32 bytes", path.display())
            }
            Self::CookieUnknown => "tor does not say where its cookie is".to_owned(),
            Self::Impostor(address, path) => format!(
                "what listens at {address} does not know the cookie in {}: the two belong to different \
                 tors, or tor is just restarting",
                path.display()
            ),
            Self::CookieRefused(path, reason) => {
                format!("tor does not accept the cookie in {} ({reason})", path.display())
            }
            Self::Password(path, error) => {
                format!("cannot read tor.password_file {}: {error}", path.display())
            }
            Self::PasswordReadable(path, mode) => format!(
                "tor.password_file {} may be read by everybody (mode {mode:o})",
                path.display()
            ),
            Self::PasswordForm(path) => {
                format!("tor.password_file {} does not hold a password", path.display())
            }
            Self::PasswordRefused(path, reason) => {
                format!("tor does not accept the password in {} ({reason})", path.display())
            }
            Self::PasswordNeeded => "tor asks for a password".to_owned(),
            Self::PasswordNeedless => "tor takes no password".to_owned(),
            Self::NoMethod => "tor offers no authentication that Fortify knows".to_owned(),
            Self::Entropy(error) => error.to_string(),
            Self::Epoch(error) => error.problem(),
            Self::Down => "tor's control port is not reachable now".to_owned(),
            Self::Busy => "too many circuits wait to be closed".to_owned(),
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        let advice = match self {
            Self::Connect(address, error) => return Some(how_to_reach(address, error).into()),
            Self::Slow(_) => "is it busy, stopped, or is something else there?",
            Self::Closed => "it ended, or is restarting",
            Self::Protocol(..) => "correct tor.control",
            Self::Reply(_) => "is this a tor of version 0.4 or later?",
            Self::Cookie(..) => {
                "write \"CookieAuthFileGroupReadable 1\" in torrc and put the user that runs Fortify \
                 into tor's group (Debian: adduser fortify debian-tor), then restart both; or set \
                 tor.cookie_file to the file that torrc's CookieAuthFile names"
            }
            Self::CookieLength(_) => {
                "set tor.cookie_file to the file that torrc's CookieAuthFile names"
            }
            Self::CookieUnknown => "set tor.cookie_file",
            Self::Impostor(..) => "correct tor.control or tor.cookie_file",
            Self::CookieRefused(..) => "is it of another tor?",
            Self::Password(..) => "the user that runs Fortify must be able to read it",
            Self::PasswordReadable(path, _) => {
                let path = path.display();
                let advice = format!(
                    "run: chgrp GROUP {path} && chmod 640 {path}, where GROUP is that of the user that \
                     runs Fortify (Debian: fortify)"
                );
                return Some(advice.into());
            }
            Self::PasswordForm(_) => "write the password into it, one line of 1 to 1024 bytes",
            Self::PasswordRefused(..) => {
                "write the output of \"tor --hash-password\" for it after HashedControlPassword in torrc"
            }
            Self::PasswordNeeded => {
                "set tor.password_file, or write \"CookieAuthentication 1\" in torrc"
            }
            Self::PasswordNeedless => {
                "remove tor.password_file, or write HashedControlPassword in torrc"
            }
            Self::NoMethod => "write \"CookieAuthentication 1\" in torrc",
            Self::Epoch(error) => return error.advice(),
            Self::Down => "the log says why",
            Self::Busy => "try again",
            Self::Broken(_) | Self::Refused(..) | Self::Entropy(_) => return None,
        };
        Some(advice.into())
    }
}

fn how_to_reach(address: &ControlAddress, error: &io::Error) -> String {
    match (address, error.kind()) {
        (ControlAddress::Unix(path), io::ErrorKind::PermissionDenied) => format!(
            "write \"ControlSocket {} GroupWritable RelaxDirModeCheck\" in torrc and put the user \
             that runs Fortify into tor's group (Debian: adduser fortify debian-tor)",
            path.display()
        ),
        (ControlAddress::Unix(path), _) => format!(
            "check that tor runs and that torrc has \"ControlSocket {} GroupWritable \
             RelaxDirModeCheck\"; tor.control in the configuration names it",
            path.display()
        ),
        (ControlAddress::Tcp(address), _) => format!(
            "check that tor runs and that torrc has \"ControlPort {address}\"; tor.control in the \
             configuration names it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_which_line_or_permission_mends_it() {
        let unix = || ControlAddress::Unix("/run/tor/control".into());
        let tcp = || ControlAddress::Tcp("127.0.0.1:9051".parse().unwrap());
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let socket = "ControlSocket /run/tor/control GroupWritable";
        for (error, words) in [
            (TorError::Connect(unix(), denied()), [socket, "debian-tor"]),
            (TorError::Connect(unix(), absent()), [socket, "check that tor runs"]),
            (TorError::Connect(tcp(), refused()), ["ControlPort 127.0.0.1:9051", "tor.control"]),
            (
                TorError::Cookie("/c".into(), denied()),
                ["CookieAuthFileGroupReadable 1", "debian-tor"],
            ),
            (TorError::CookieLength("/c".into()), ["32 bytes", "tor.cookie_file"]),
            (
                TorError::PasswordReadable("/p".into(), 0o644),
                ["chgrp GROUP /p && chmod 640 /p", "644"],
            ),
        ] {
            let reported = error.to_string();
            assert!(words.iter().all(|word| reported.contains(word)), "{reported}");
        }
    }
}

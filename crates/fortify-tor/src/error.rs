//! Errors between Fortify and tor. Each message names the line or the permission that fixes it.

use std::io;
use std::path::PathBuf;

use super::protocol::ProtocolError;
use crate::config::ControlAddress;

/// Why tor's control port cannot be used. Contains no circuit number, cookie or password.
#[derive(Debug, thiserror::Error)]
pub enum TorError {
    /// The control port cannot be reached.
    #[error("{}", unreachable(.0, .1))]
    Connect(ControlAddress, #[source] io::Error),
    /// Tor took too long to accept a connection or to answer.
    #[error(
        "tor does not answer at {0} in time; check that tor runs, and that nothing else listens there"
    )]
    Slow(ControlAddress),
    /// The connection ended.
    #[error("tor closed its control connection: it ended or is restarting")]
    Closed,
    /// The connection broke.
    #[error("the connection to tor's control port broke: {0}")]
    Broken(#[source] io::Error),
    /// Something else is at that address.
    #[error("what listens at {0} does not speak tor's control protocol ({1}); correct tor.control")]
    Protocol(ControlAddress, ProtocolError),
    /// A reply without the requested values.
    #[error("tor's reply to {0} is not understood; tor 0.4 or later is required")]
    Reply(&'static str),
    /// A command that tor refused.
    #[error("tor refused {0}: {1}")]
    Refused(&'static str, String),
    /// The cookie file cannot be read.
    #[error(
        "cannot read tor's cookie file {}: {}; write \"CookieAuthFileGroupReadable 1\" in torrc and \
         put the user that runs Fortify into tor's group (Debian: adduser fortify debian-tor), then \
         restart both; or set tor.cookie_file to the file that torrc's CookieAuthFile names",
        .0.display(), .1
    )]
    Cookie(PathBuf, #[source] io::Error),
    /// The cookie file does not contain a cookie.
    #[error(
        "{} is not tor's cookie, which has exactly 32 bytes; set tor.cookie_file to the file \
         that torrc's CookieAuthFile names", .0.display()
    )]
    CookieLength(PathBuf),
    /// Tor does not name its cookie file.
    #[error("tor does not name its cookie file: set tor.cookie_file")]
    CookieUnknown,
    /// The listener does not know the cookie.
    #[error(
        "the listener at {} does not know the cookie in {}: they belong to different tors, or \
         tor is restarting; correct tor.control or tor.cookie_file", .0, .1.display()
    )]
    Impostor(ControlAddress, PathBuf),
    /// Tor did not accept the cookie.
    #[error("tor does not accept the cookie in {}: it may belong to another tor; set tor.cookie_file ({})", .0.display(), .1)]
    CookieRefused(PathBuf, String),
    /// The password file cannot be read.
    #[error(
        "cannot read tor.password_file {}: {}; the user that runs Fortify must be able to read it",
        .0.display(), .1
    )]
    Password(PathBuf, #[source] io::Error),
    /// The password file is readable by everyone.
    #[error(
        "tor.password_file {} is readable by everyone (mode {:o}); run: chgrp GROUP {} && chmod 640 {}, \
         where GROUP is that of the user that runs Fortify (Debian: fortify)",
        .0.display(), .1, .0.display(), .0.display()
    )]
    PasswordReadable(PathBuf, u32),
    /// The password file does not contain a password.
    #[error(
        "tor.password_file {} must hold the password on one line of 1 to 1024 bytes", .0.display()
    )]
    PasswordForm(PathBuf),
    /// Tor did not accept the password.
    #[error(
        "tor does not accept the password in {}: write the output of \"tor --hash-password\" for it \
         after HashedControlPassword in torrc ({})", .0.display(), .1
    )]
    PasswordRefused(PathBuf, String),
    /// Tor requires a password and none is configured.
    #[error(
        "tor requires a password: set tor.password_file, or write \"CookieAuthentication 1\" in torrc"
    )]
    PasswordNeeded,
    /// A password is configured, but tor accepts none.
    #[error(
        "tor accepts no password: remove tor.password_file, or write HashedControlPassword in torrc"
    )]
    PasswordNeedless,
    /// No authentication method that Fortify supports.
    #[error(
        "tor offers no authentication that Fortify supports: write \"CookieAuthentication 1\" in torrc"
    )]
    NoMethod,
    /// No randomness for the handshake.
    #[error(transparent)]
    Entropy(#[from] fortify_core::entropy::EntropyError),
    /// The file of generations failed.
    #[error(transparent)]
    Epoch(#[from] super::generation::GenerationError),
    /// The control connection is not open.
    #[error("the connection to tor's control port is not open; the log says why")]
    Down,
    /// Too many requests to close a circuit are waiting.
    #[error("too many circuits are waiting to be closed; try again")]
    Busy,
}

fn unreachable(address: &ControlAddress, error: &io::Error) -> String {
    let advice = match (address, error.kind()) {
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
    };
    format!("cannot reach tor's control port {address}: {error}; {advice}")
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

//! What can go wrong between Fortify and tor, said with the line or permission that mends it.

use std::io;
use std::path::PathBuf;

use super::protocol::ProtocolError;
use crate::config::ControlAddress;

/// Why tor's control port cannot be used. Holds no circuit number, cookie or password.
#[derive(Debug, thiserror::Error)]
pub enum TorError {
    /// The control port cannot be reached.
    #[error("{}", unreachable(.0, .1))]
    Connect(ControlAddress, #[source] io::Error),
    /// It took too long to connect or to answer.
    #[error("tor does not answer at {0} in time; is it busy, stopped, or is something else there?")]
    Slow(ControlAddress),
    /// The connection ended.
    #[error("tor closed its control connection: it ended, or is starting anew")]
    Closed,
    /// The connection broke.
    #[error("the connection to tor's control port broke: {0}")]
    Broken(#[source] io::Error),
    /// Something else is at that address.
    #[error("what listens at {0} does not speak tor's control protocol ({1}); correct tor.control")]
    Protocol(ControlAddress, ProtocolError),
    /// A reply without what was asked for.
    #[error("tor's reply to {0} is not understood; is this a tor of version 0.4 or later?")]
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
    /// The cookie file holds something else.
    #[error(
        "{} is no cookie of tor's: it must have exactly 32 bytes; set tor.cookie_file to the file \
         that torrc's CookieAuthFile names", .0.display()
    )]
    CookieLength(PathBuf),
    /// Tor does not say where its cookie is.
    #[error("tor does not say where its cookie is: set tor.cookie_file")]
    CookieUnknown,
    /// Whoever listens does not know the cookie.
    #[error(
        "what listens at {} does not know the cookie in {}: the two belong to different tors, or \
         tor is just starting anew; correct tor.control or tor.cookie_file", .0, .1.display()
    )]
    Impostor(ControlAddress, PathBuf),
    /// Tor did not accept the cookie.
    #[error("tor does not accept the cookie in {}: is it of another tor? ({})", .0.display(), .1)]
    CookieRefused(PathBuf, String),
    /// The password file cannot be read.
    #[error(
        "cannot read tor.password_file {}: {}; the user that runs Fortify must be able to read it",
        .0.display(), .1
    )]
    Password(PathBuf, #[source] io::Error),
    /// The password file is open to everybody.
    #[error(
        "tor.password_file {} may be read by everybody (mode {:o}); run: chgrp GROUP {} && chmod 640 {}, \
         where GROUP is that of the user that runs Fortify (Debian: fortify)",
        .0.display(), .1, .0.display(), .0.display()
    )]
    PasswordReadable(PathBuf, u32),
    /// The password file holds no password.
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
    /// Tor wants a password and none is configured.
    #[error(
        "tor asks for a password: set tor.password_file, or write \"CookieAuthentication 1\" in torrc"
    )]
    PasswordNeeded,
    /// A password is configured and tor wants none.
    #[error(
        "tor takes no password: remove tor.password_file, or write HashedControlPassword in torrc"
    )]
    PasswordNeedless,
    /// No way in that Fortify knows.
    #[error(
        "tor offers no authentication that Fortify knows: write \"CookieAuthentication 1\" in torrc"
    )]
    NoMethod,
    /// No randomness for the handshake.
    #[error(transparent)]
    Entropy(#[from] fortify_core::entropy::EntropyError),
    /// The file that counts tor's starts.
    #[error(transparent)]
    Epoch(#[from] super::generation::GenerationError),
    /// A command came while tor is not reachable.
    #[error("tor's control port is not reachable now; the log says why")]
    Down,
    /// Too many commands wait.
    #[error("too many circuits wait to be closed; try again")]
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
            "is tor running, and does torrc say \"ControlSocket {} GroupWritable \
             RelaxDirModeCheck\"? tor.control in the configuration names it",
            path.display()
        ),
        (ControlAddress::Tcp(address), _) => format!(
            "is tor running, and does torrc say \"ControlPort {address}\"? tor.control in the \
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
            (TorError::Connect(unix(), absent()), [socket, "is tor running"]),
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

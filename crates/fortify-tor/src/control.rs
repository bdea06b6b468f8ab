//! One authenticated connection to tor's control port.
//!
//! Authentication is by `SAFECOOKIE`, where both sides prove with HMAC-SHA256 that they know the
//! cookie without sending it; by a password; or by nothing, if torrc requires nothing. The older method
//! `COOKIE` is not supported: it sends the cookie to any listener, and every tor since 0.2.3 offers
//! `SAFECOOKIE`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::error::TorError;
use super::generation::TorRun;
use super::protocol::{Command, Decoder, Message, ProtocolInfo, hex, server_proof};
use crate::config::{ControlAddress, TorConfig};
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Clock;
use fortify_core::entropy::{Entropy, random_bytes};
use fortify_core::pseudonym::hmac_sha256;

/// How long tor may take to accept a connection and to answer a command. It answers from memory in less than
/// a millisecond, but takes longer while it handles a flood.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes read at once.
const CHUNK: usize = 4096;

/// Bytes of tor's cookie (control specification, section 3.24).
const COOKIE_BYTES: usize = 32;

/// The most bytes of a password.
const MAX_PASSWORD: usize = 1024;

/// The keys of the handshake (control specification, section 3.24).
const SERVER_KEY: &[u8; 56] = b"Tor safe cookie authentication server-to-controller hash";
const CLIENT_KEY: &[u8; 56] = b"Tor safe cookie authentication controller-to-server hash";

/// The key under which the cookie is hashed to identify a run of tor.
const RUN_KEY: &[u8; 32] = b"fortify: one start of one tor, 1";

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A connection that tor has accepted.
pub(super) struct Control {
    address: ControlAddress,
    wire: Box<dyn Wire>,
    decoder: Decoder,
    /// A keyed hash of the cookie; see [`TorRun`].
    cookie: Option<String>,
}

impl Control {
    /// Connects and authenticates as `config` says.
    pub(super) async fn open(
        config: &TorConfig,
        address: &ControlAddress,
        entropy: &dyn Entropy,
    ) -> Result<Self, TorError> {
        let slow = |_elapsed| TorError::Slow(address.clone());
        let wire = timeout(PATIENCE, connect(address)).await.map_err(slow)?;
        let wire = wire.map_err(|error| TorError::Connect(address.clone(), error))?;
        let (address, decoder) = (address.clone(), Decoder::default());
        let mut control = Self { address, wire, decoder, cookie: None };
        control.authenticate(config, entropy).await?;
        Ok(control)
    }

    async fn authenticate(
        &mut self,
        config: &TorConfig,
        entropy: &dyn Entropy,
    ) -> Result<(), TorError> {
        let reply = self.ask_quietly(&Command::ProtocolInfo).await?;
        let offered = ProtocolInfo::of(&reply).ok_or(TorError::Reply("PROTOCOLINFO"))?;
        if let Some(path) = &config.password_file {
            if !offered.password {
                return Err(TorError::PasswordNeedless);
            }
            return self.give_password(path).await;
        }
        if offered.open {
            let reply = self.ask_quietly(&Command::AuthenticateOpen).await?;
            return accepted(&reply, |reported| TorError::Refused("authentication", reported));
        }
        if offered.safe_cookie {
            let path = config.cookie_file.clone().or(offered.cookie_file);
            return self.prove_cookie(path.ok_or(TorError::CookieUnknown)?, entropy).await;
        }
        Err(if offered.password { TorError::PasswordNeeded } else { TorError::NoMethod })
    }

    async fn give_password(&mut self, path: &Path) -> Result<(), TorError> {
        let password = read_password(path)?;
        let reply = self.ask_quietly(&Command::AuthenticatePassword(password)).await?;
        accepted(&reply, |reported| TorError::PasswordRefused(path.to_owned(), reported))
    }

    async fn prove_cookie(&mut self, path: PathBuf, entropy: &dyn Entropy) -> Result<(), TorError> {
        let cookie = read_cookie(&path)?;
        let ours = random_bytes::<32>(entropy)?;
        let reply = self.ask_quietly(&Command::AuthChallenge(ours)).await?;
        accepted(&reply, |reported| TorError::Refused("AUTHCHALLENGE", reported))?;
        let (proof, theirs) = server_proof(&reply).ok_or(TorError::Reply("AUTHCHALLENGE"))?;
        let message = [cookie.as_ref(), &ours, &theirs];
        let expected = hmac_sha256(SERVER_KEY, &message);
        if !bool::from(expected.ct_eq(&proof)) {
            return Err(TorError::Impostor(self.address.clone(), path));
        }
        let answer = hmac_sha256(CLIENT_KEY, &message);
        let reply = self.ask_quietly(&Command::AuthenticateCookie(answer)).await?;
        accepted(&reply, |reported| TorError::CookieRefused(path, reported))?;
        let [name, _rest] = split(hmac_sha256(RUN_KEY, &[cookie.as_ref()]));
        self.cookie = Some(hex(&name));
        Ok(())
    }

    /// The process, and its start.
    pub(super) async fn run(
        &mut self,
        clock: &dyn Clock,
        on_event: impl FnMut(&Message),
    ) -> Result<TorRun, TorError> {
        let reply = self.ask(&Command::Run, on_event).await?;
        accepted(&reply, |reported| TorError::Refused("GETINFO uptime process/pid", reported))?;
        let number = |key: &str| reply.value(key)?.parse::<u32>().ok();
        let (Some(uptime), Some(pid)) = (number("uptime"), number("process/pid")) else {
            return Err(TorError::Reply("GETINFO uptime process/pid"));
        };
        Ok(TorRun::seen(pid, uptime, self.cookie.clone(), clock.now()))
    }

    /// Tor's version.
    pub(super) async fn version(&mut self) -> Result<String, TorError> {
        let reply = self.ask_quietly(&Command::Version).await?;
        let version = reply.value("version").ok_or(TorError::Reply("GETINFO version"))?;
        Ok(version.chars().filter(|c| !c.is_control()).take(60).collect())
    }

    /// The services in torrc, as its lines, and the validity of the consensus, as tor writes it.
    pub(super) async fn services_and_consensus(
        &mut self,
    ) -> Result<(Vec<String>, [Option<String>; 2]), TorError> {
        let services = self.ask_quietly(&Command::Services).await?;
        accepted(&services, |reported| {
            TorError::Refused("GETCONF HiddenServiceOptions", reported)
        })?;
        let consensus = self.ask_quietly(&Command::Consensus).await?;
        let times = ["consensus/valid-after", "consensus/valid-until"];
        let times = times.map(|key| consensus.value(key).map(str::to_owned));
        Ok((services.lines, times))
    }

    /// Subscribes to circuit events.
    pub(super) async fn watch_circuits(&mut self) -> Result<(), TorError> {
        let reply = self.ask_quietly(&Command::WatchCircuits).await?;
        accepted(&reply, |reported| TorError::Refused("SETEVENTS CIRC", reported))
    }

    /// Closes a circuit; `false` if tor has none with that number.
    pub(super) async fn close(
        &mut self,
        circuit: TorCircuit,
        on_event: impl FnMut(&Message),
    ) -> Result<bool, TorError> {
        let reply = self.ask(&Command::Close(circuit), on_event).await?;
        match reply.status {
            250 => Ok(true),
            552 => Ok(false),
            // Its text repeats the number.
            status => Err(TorError::Refused("CLOSECIRCUIT", status.to_string())),
        }
    }

    async fn ask_quietly(&mut self, command: &Command) -> Result<Message, TorError> {
        self.ask(command, |_event| {}).await
    }

    /// Sends a command and waits for its reply; events before it go to `on_event`.
    async fn ask(
        &mut self,
        command: &Command,
        mut on_event: impl FnMut(&Message),
    ) -> Result<Message, TorError> {
        let asked = async {
            self.wire.write_all(&command.line()).await.map_err(TorError::Broken)?;
            loop {
                let message = self.next().await?;
                if !message.is_event() {
                    return Ok(message);
                }
                on_event(&message);
            }
        };
        let asked = timeout(PATIENCE, asked).await;
        asked.unwrap_or_else(|_elapsed| Err(TorError::Slow(self.address.clone())))
    }

    /// The next message. Cancellation-safe.
    pub(super) async fn next(&mut self) -> Result<Message, TorError> {
        let mut chunk = [0; CHUNK];
        loop {
            let found = self.decoder.next();
            let found = found.map_err(|error| TorError::Protocol(self.address.clone(), error))?;
            if let Some(message) = found {
                return Ok(message);
            }
            match self.wire.read(&mut chunk).await.map_err(TorError::Broken)? {
                0 => return Err(TorError::Closed),
                length => self.decoder.feed(chunk.get(..length).unwrap_or_default()),
            }
        }
    }
}

async fn connect(address: &ControlAddress) -> io::Result<Box<dyn Wire>> {
    Ok(match address {
        ControlAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
        ControlAddress::Tcp(address) => Box::new(TcpStream::connect(address).await?),
    })
}

fn accepted(reply: &Message, refused: impl FnOnce(String) -> TorError) -> Result<(), TorError> {
    if reply.is_ok() { Ok(()) } else { Err(refused(reply.shown())) }
}

fn split(bytes: [u8; 32]) -> [[u8; 16]; 2] {
    let mut halves = [[0; 16]; 2];
    for (half, part) in halves.iter_mut().zip(bytes.chunks_exact(16)) {
        half.copy_from_slice(part);
    }
    halves
}

fn read_cookie(path: &Path) -> Result<Zeroizing<[u8; COOKIE_BYTES]>, TorError> {
    let bytes = read_start(path, COOKIE_BYTES).map_err(|e| TorError::Cookie(path.to_owned(), e))?;
    let cookie = bytes.as_slice().try_into().map(Zeroizing::new);
    cookie.map_err(|_length| TorError::CookieLength(path.to_owned()))
}

fn read_password(path: &Path) -> Result<Zeroizing<Vec<u8>>, TorError> {
    let failed = |error| TorError::Password(path.to_owned(), error);
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(TorError::PasswordReadable(path.to_owned(), mode));
    }
    let mut password = read_start(path, MAX_PASSWORD + 2).map_err(failed)?;
    for end in [b'\n', b'\r'] {
        if password.last() == Some(&end) {
            password.pop();
        }
    }
    let one_line = !password.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0));
    if one_line && (1..=MAX_PASSWORD).contains(&password.len()) {
        Ok(password)
    } else {
        Err(TorError::PasswordForm(path.to_owned()))
    }
}

/// Reads a file, at most `most` bytes and one. It has to be a plain file: tor names the path, and reading a
/// pipe would block.
fn read_start(path: &Path, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_the_one_of_the_specification() {
        // Computed with Python's hmac module over a cookie of 1s, our nonce of 2s, tor's of 3s.
        let message: [&[u8]; 3] = [&[1; 32], &[2; 32], &[3; 32]];
        let server = hex(&hmac_sha256(SERVER_KEY, &message));
        let client = hex(&hmac_sha256(CLIENT_KEY, &message));
        assert_eq!(server, "1830d2de6e061e60adfa2c0c2a9257b7126e51b074f39bd4519d89229df08827");
        assert_eq!(client, "8d81b806c8314911da68057896783b1f28f640a588c9a2cfe902d371806bbf1a");
    }

    #[test]
    fn a_password_is_one_line_that_not_everybody_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let read = |text: &[u8], mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            read_password(&path).map(|password| password.to_vec())
        };
        assert_eq!(read(b"secret\n", 0o640).unwrap(), b"secret");
        assert_eq!(read(b"secret\r\n", 0o600).unwrap(), b"secret");
        assert_eq!(read(&[b'x'; MAX_PASSWORD], 0o600).unwrap().len(), MAX_PASSWORD);
        assert!(matches!(read(b"secret", 0o644), Err(TorError::PasswordReadable(_, 0o644))));
        for bad in [&b""[..], b"\n", b"two\nlines\n", b"a\0b", &[b'x'; MAX_PASSWORD + 1]] {
            assert!(matches!(read(bad, 0o600), Err(TorError::PasswordForm(_))));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_password(&path), Err(TorError::Password(..))));
    }

    #[test]
    fn a_cookie_has_32_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cookie");
        assert!(matches!(read_cookie(&path), Err(TorError::Cookie(..))));
        for (length, right) in [(0, false), (31, false), (32, true), (33, false), (5000, false)] {
            std::fs::write(&path, vec![7; length]).unwrap();
            assert_eq!(read_cookie(&path).is_ok(), right, "{length}");
        }
    }
}

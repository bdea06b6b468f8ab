//! The part of tor's control protocol that Fortify uses: bytes in, messages out, commands as text.
//!
//! Pure, so that it can be tested with any bytes. The other end is a local tor, but its messages are bounded
//! anyway: another program on that port must not cost memory.
//!
//! Source: the control specification, <https://spec.torproject.org/control-spec/>.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use fortify_core::circuit::TorCircuit;

/// Bytes of a line, CRLF included. Tor's longest here is a circuit's event: a path of eight relays
/// and a few fields, less than 2 KiB.
pub(super) const MAX_LINE: usize = 16 * 1024;

/// The most bytes of a message, all its lines together; the replies used here have a few hundred.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

/// Why received bytes are not the control protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A line over 16 KiB.
    #[error("a line of more than 16 KiB")]
    LongLine,
    /// A message over 64 KiB.
    #[error("a message of more than 64 KiB")]
    LongMessage,
    /// A line that does not begin with three digits and one of `-`, `+`, space.
    #[error("a line that is not of the control protocol")]
    BadLine,
}

/// A complete reply or event.
///
/// `Debug` is not derived: the text may name a circuit.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The three-digit status: 6xx is an event, everything else the reply to the oldest command.
    pub(super) status: u16,
    /// The text of each line, after the digits; the block of a `+` line follows its line.
    pub(super) lines: Vec<String>,
}

impl Message {
    pub(super) const fn is_event(&self) -> bool {
        self.status / 100 == 6
    }

    pub(super) const fn is_ok(&self) -> bool {
        self.status == 250
    }

    /// The value of `key` in a reply to `GETINFO`.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// The last line for an error message, shortened and without control characters.
    ///
    /// Not for replies about a circuit, in which tor repeats its number.
    pub(super) fn shown(&self) -> String {
        let text = self.lines.last().map_or("", String::as_str);
        let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        format!("{} {text}", self.status)
    }
}

/// Assembles lines into messages.
///
/// Callers take out every message before they feed more bytes. The assembler then holds at most one line, the
/// last bytes, and one message of each kind.
#[derive(Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    /// The length of the start of [`Self::buffer`] that is known to contain no end of line.
    searched: usize,
    reply: Unfinished,
    event: Unfinished,
    /// The kind of the message whose `+` block is being read.
    block: Option<Kind>,
}

#[derive(Clone, Copy)]
enum Kind {
    Reply,
    Event,
}

#[derive(Default)]
struct Unfinished {
    lines: Vec<String>,
    bytes: usize,
}

impl Unfinished {
    fn push(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        // One more per line, so that empty lines count too.
        self.bytes += line.len() + 1;
        if self.bytes > MAX_MESSAGE {
            return Err(ProtocolError::LongMessage);
        }
        self.lines.push(String::from_utf8_lossy(line).into_owned());
        Ok(())
    }
}

impl Decoder {
    /// Adds received bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message; `None` until more bytes are fed. An error is final.
    pub(super) fn next(&mut self) -> Result<Option<Message>, ProtocolError> {
        while let Some(line) = self.line()? {
            if let Some(message) = self.take_line(&line)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>, ProtocolError> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n').map(|at| self.searched + at + 1);
        if end.unwrap_or(self.buffer.len()) > MAX_LINE {
            return Err(ProtocolError::LongLine);
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let mut line: Vec<u8> = self.buffer.drain(..end).collect();
        self.searched = 0;
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Option<Message>, ProtocolError> {
        if let Some(kind) = self.block {
            match line {
                b"." => self.block = None,
                line => self.of(kind).push(line.strip_prefix(b".").unwrap_or(line))?,
            }
            return Ok(None);
        }
        let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', separator, text @ ..] = line else {
            return Err(ProtocolError::BadLine);
        };
        let status = [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
        let kind = if *a == b'6' { Kind::Event } else { Kind::Reply };
        self.of(kind).push(text)?;
        match separator {
            b'-' => Ok(None),
            b'+' => {
                self.block = Some(kind);
                Ok(None)
            }
            b' ' => {
                let lines = std::mem::take(self.of(kind)).lines;
                Ok(Some(Message { status, lines }))
            }
            _ => Err(ProtocolError::BadLine),
        }
    }

    fn of(&mut self, kind: Kind) -> &mut Unfinished {
        match kind {
            Kind::Reply => &mut self.reply,
            Kind::Event => &mut self.event,
        }
    }
}

/// The commands that Fortify sends to tor.
pub(super) enum Command {
    /// `PROTOCOLINFO 1`: the only command that needs no authentication.
    ProtocolInfo,
    /// `AUTHCHALLENGE SAFECOOKIE`: our nonce.
    AuthChallenge([u8; 32]),
    /// `AUTHENTICATE` without a proof, if torrc requires none.
    AuthenticateOpen,
    /// `AUTHENTICATE` with the proof that we know the cookie.
    AuthenticateCookie([u8; 32]),
    /// `AUTHENTICATE` with a password.
    AuthenticatePassword(Zeroizing<Vec<u8>>),
    /// `GETINFO uptime process/pid`.
    Run,
    /// `GETINFO version`.
    Version,
    /// `GETCONF HiddenServiceOptions`.
    Services,
    /// `GETINFO` of the validity of the consensus.
    Consensus,
    /// `SETEVENTS CIRC`.
    WatchCircuits,
    /// `CLOSECIRCUIT` of a parsed circuit.
    Close(TorCircuit),
}

impl Command {
    /// The line, CRLF included.
    pub(super) fn line(&self) -> Zeroizing<Vec<u8>> {
        let text = match self {
            Self::ProtocolInfo => "PROTOCOLINFO 1".to_owned(),
            Self::AuthChallenge(nonce) => format!("AUTHCHALLENGE SAFECOOKIE {}", hex(nonce)),
            Self::AuthenticateOpen => "AUTHENTICATE".to_owned(),
            Self::AuthenticateCookie(proof) => format!("AUTHENTICATE {}", hex(proof)),
            Self::AuthenticatePassword(password) => {
                // In hexadecimal, which needs no escapes.
                format!("AUTHENTICATE {}", hex(password))
            }
            Self::Run => "GETINFO uptime process/pid".to_owned(),
            Self::Version => "GETINFO version".to_owned(),
            Self::Services => "GETCONF HiddenServiceOptions".to_owned(),
            Self::Consensus => "GETINFO consensus/valid-after consensus/valid-until".to_owned(),
            Self::WatchCircuits => "SETEVENTS CIRC".to_owned(),
            Self::Close(circuit) => format!("CLOSECIRCUIT {}", circuit.number()),
        };
        let mut line = Zeroizing::new(text.into_bytes());
        line.extend_from_slice(b"\r\n");
        line
    }
}

/// The authentication methods that tor offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProtocolInfo {
    pub(super) open: bool,
    pub(super) safe_cookie: bool,
    pub(super) password: bool,
    pub(super) cookie_file: Option<PathBuf>,
}

impl ProtocolInfo {
    /// Parses the reply to `PROTOCOLINFO 1`; `None` if it has no methods.
    pub(super) fn of(reply: &Message) -> Option<Self> {
        let auth = reply.lines.iter().find_map(|line| line.strip_prefix("AUTH "))?;
        let (methods, rest) = auth
            .strip_prefix("METHODS=")?
            .split_once(' ')
            .unwrap_or((auth.strip_prefix("METHODS=")?, ""));
        let offers = |method: &str| methods.split(',').any(|offered| offered == method);
        Some(Self {
            open: offers("NULL"),
            safe_cookie: offers("SAFECOOKIE"),
            password: offers("HASHEDPASSWORD"),
            cookie_file: rest
                .strip_prefix("COOKIEFILE=")
                .and_then(unquote)
                .map(|bytes| PathBuf::from(OsString::from_vec(bytes))),
        })
    }
}

/// The two halves of a reply to `AUTHCHALLENGE`: the proof that tor knows the cookie, and its nonce.
pub(super) fn server_proof(reply: &Message) -> Option<([u8; 32], [u8; 32])> {
    let words = reply.lines.first()?.strip_prefix("AUTHCHALLENGE ")?;
    let (hash, nonce) = words.split_once(' ')?;
    let hash = unhex(hash.strip_prefix("SERVERHASH=")?)?;
    Some((hash, unhex(nonce.strip_prefix("SERVERNONCE=")?)?))
}

/// The number of the circuit that an event reports as closed, if it is a visitor's circuit to an onion service
/// and not one of tor's own.
pub(super) fn closed_visitor(event: &Message) -> Option<u32> {
    let mut words = Words(event.lines.first()?);
    let ["CIRC", number, "CLOSED"] = [words.next()?, words.next()?, words.next()?] else {
        return None;
    };
    words.find(|word| *word == "PURPOSE=HS_SERVICE_REND")?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| number.parse().ok()).flatten()
}

/// The words of a line. Spaces inside quotes do not separate words.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches(' ');
        if text.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = text.find(|character| {
            let ends = character == ' ' && !quoted;
            quoted ^= character == '"' && !escaped;
            escaped = character == '\\' && quoted && !escaped;
            ends
        });
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.0 = rest;
        Some(word)
    }
}

/// The bytes of a quoted text with C escapes, as tor writes paths; `None` for other texts.
fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.strip_prefix('"')?.bytes();
    loop {
        let byte = match rest.next()? {
            b'"' => return Some(bytes),
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                first @ b'0'..=b'7' => {
                    let mut value = u16::from(first - b'0');
                    for _ in 0..2 {
                        let digit = rest.next().filter(|byte| matches!(byte, b'0'..=b'7'))?;
                        value = value * 8 + u16::from(digit - b'0');
                    }
                    u8::try_from(value).ok()?
                }
                other => other,
            },
            other => other,
        };
        bytes.push(byte);
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| char::from_digit(u32::from(nibble), 16))
        .collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
        .collect();
    let (pairs, odd) = digits.as_deref()?.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    if odd.is_empty() { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All messages of `bytes`, fed in pieces of `piece` bytes, and the error that ended them.
    fn decode(bytes: &[u8], piece: usize) -> (Vec<Message>, Option<ProtocolError>) {
        let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
        for part in bytes.chunks(piece) {
            decoder.feed(part);
            loop {
                match decoder.next() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
            assert!(decoder.buffer.len() <= MAX_LINE);
            assert!(decoder.reply.bytes <= MAX_MESSAGE && decoder.event.bytes <= MAX_MESSAGE);
        }
        (messages, None)
    }

    fn one(text: &str) -> Message {
        let (mut messages, error) = decode(text.as_bytes(), 7);
        assert!(error.is_none() && messages.len() == 1, "{text:?}");
        messages.remove(0)
    }

    #[test]
    fn what_tor_says_is_read() {
        let reply = one("250-uptime=17\r\n250-process/pid=18348\r\n250 OK\r\n");
        assert!(reply.is_ok() && !reply.is_event());
        assert_eq!(
            (reply.value("uptime"), reply.value("process/pid")),
            (Some("17"), Some("18348"))
        );
        assert_eq!((reply.value("pid"), reply.value("up")), (None, None));

        let block = one("250+config-text=\r\nLog notice\r\n..two\r\n250 OK\r\n.\r\n250 OK\r\n");
        assert_eq!(block.lines, ["config-text=", "Log notice", ".two", "250 OK", "OK"]);

        let text = "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE,SAFECOOKIE,HASHEDPASSWORD \
                    COOKIEFILE=\"/run/a \\\"b\\\\\\303\\266/c\"\r\n250-VERSION Tor=\"0.4.9.11\"\r\n\
                    250 OK\r\n";
        let info = ProtocolInfo::of(&one(text)).unwrap();
        let cookie_file = Some(PathBuf::from("/run/a \"b\\ö/c"));
        let expected = ProtocolInfo { open: false, safe_cookie: true, password: true, cookie_file };
        assert_eq!(info, expected);
        let info = ProtocolInfo::of(&one("250-AUTH METHODS=NULL\r\n250 OK\r\n")).unwrap();
        assert_eq!(info, ProtocolInfo { open: true, ..ProtocolInfo::default() });
        assert_eq!(ProtocolInfo::of(&one("250 OK\r\n")), None);

        let (hash, nonce) = ("4d".repeat(32), "BD".repeat(32));
        let text = format!("250 AUTHCHALLENGE SERVERHASH={hash} SERVERNONCE={nonce}\r\n");
        assert_eq!(server_proof(&one(&text)), Some(([0x4d; 32], [0xbd; 32])));
        for bad in [&hash[1..], "", "zz", &format!("{hash}00")] {
            let text = format!("250 AUTHCHALLENGE SERVERHASH={bad} SERVERNONCE={nonce}\r\n");
            assert_eq!(server_proof(&one(&text)), None);
        }
    }

    #[test]
    fn an_event_between_the_lines_of_a_reply_disturbs_neither() {
        let text = "250-uptime=1\r\n650 CIRC 7 CLOSED PURPOSE=HS_SERVICE_REND\r\n\
                    650-CIRC 8\r\n250 OK\r\n650 end\r\n";
        let (messages, error) = decode(text.as_bytes(), 3);
        assert_eq!(error, None);
        let read: Vec<_> = messages.iter().map(|m| (m.status, m.lines.len())).collect();
        assert_eq!(read, [(650, 1), (250, 2), (650, 2)]);
    }

    #[test]
    fn only_the_end_of_a_visitors_circuit_counts() {
        let closed = |text: &str| closed_visitor(&one(&format!("650 {text}\r\n")));
        let real = "CIRC 30 CLOSED $A~a,$B~b BUILD_FLAGS=IS_INTERNAL,NEED_CAPACITY \
                    PURPOSE=HS_SERVICE_REND HS_STATE=HSSR_JOINED REND_QUERY=abc \
                    TIME_CREATED=2026-01-01T00:00:00.0 REASON=REQUESTED";
        assert_eq!(closed(real), Some(30));
        assert_eq!(closed("CIRC 4294967295 CLOSED PURPOSE=HS_SERVICE_REND"), Some(u32::MAX));
        for other in [
            "CIRC 30 BUILT PURPOSE=HS_SERVICE_REND",
            "CIRC 30 CLOSED PURPOSE=HS_SERVICE_INTRO",
            "CIRC 30 CLOSED PURPOSE=HS_SERVICE_RENDER",
            "CIRC 30 CLOSED SOCKS_USERNAME=\"a PURPOSE=HS_SERVICE_REND \\\" b\" PURPOSE=GENERAL",
            "CIRC_MINOR 30 CLOSED PURPOSE=HS_SERVICE_REND",
            "CIRC +30 CLOSED PURPOSE=HS_SERVICE_REND",
            "CIRC 4294967296 CLOSED PURPOSE=HS_SERVICE_REND",
            "CIRC  CLOSED PURPOSE=HS_SERVICE_REND",
            "CIRC",
            "",
        ] {
            assert_eq!(closed(other), None, "{other}");
        }
    }

    #[test]
    fn a_command_is_one_line_whatever_it_carries() {
        let circuit = TorCircuit::from_parts(1, 2, u32::MAX);
        let password = Zeroizing::new(b"a\"\r\nQUIT".to_vec());
        for (command, line) in [
            (Command::Run, "GETINFO uptime process/pid\r\n".to_owned()),
            (Command::Close(circuit), "CLOSECIRCUIT 4294967295\r\n".to_owned()),
            (Command::AuthenticatePassword(password), "AUTHENTICATE 61220d0a51554954\r\n".into()),
            (
                Command::AuthenticateCookie([0xa7; 32]),
                format!("AUTHENTICATE {}\r\n", "a7".repeat(32)),
            ),
        ] {
            assert_eq!(*command.line(), line.into_bytes());
        }
    }

    #[test]
    fn what_is_too_long_or_no_protocol_is_refused() {
        let long = |bytes: usize| decode(&vec![b'2'; bytes], 4096).1;
        assert_eq!(long(MAX_LINE), None);
        assert_eq!(long(MAX_LINE + 1), Some(ProtocolError::LongLine));
        let endless = "250-\r\n".repeat(MAX_MESSAGE + 1);
        assert_eq!(decode(endless.as_bytes(), 4096).1, Some(ProtocolError::LongMessage));
        let block = format!("250+x=\r\n{}", "\r\n".repeat(MAX_MESSAGE + 1));
        assert_eq!(decode(block.as_bytes(), 4096).1, Some(ProtocolError::LongMessage));
        for bad in ["\r\n", "25 OK\r\n", "250\r\n", "250=OK\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(decode(bad.as_bytes(), 5).1, Some(ProtocolError::BadLine), "{bad:?}");
        }
    }

    /// Bytes that come near the protocol often enough to reach all of it.
    fn near() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"250".to_vec()),
            Just(b"650".to_vec()),
            Just(b"-".to_vec()),
            Just(b"+".to_vec()),
            Just(b" ".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b".\r\n".to_vec()),
            Just(b"650 CIRC 7 CLOSED PURPOSE=HS_SERVICE_REND\r\n".to_vec()),
            Just(b"250-AUTH METHODS=SAFECOOKIE COOKIEFILE=\"\\".to_vec()),
            Just(b"250 AUTHCHALLENGE SERVERHASH=".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_alike_in_any_pieces_and_panic_nowhere(
            bytes in near(), piece in 1_usize..50,
        ) {
            let (messages, error) = decode(&bytes, piece);
            let (again, error_again) = decode(&bytes, 4096);
            prop_assert!(messages == again);
            prop_assert_eq!(error, error_again);
            for message in &messages {
                let _may_be_anything = (
                    ProtocolInfo::of(message),
                    server_proof(message),
                    closed_visitor(message),
                    message.value("uptime"),
                );
                prop_assert!(message.shown().len() <= 4 + 4 * 200);
            }
        }

        #[test]
        fn what_tor_quotes_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let escaped: String = bytes.iter().map(|byte| match byte {
                b' '..=b'~' if !b"\"\\".contains(byte) => char::from(*byte).to_string(),
                byte => format!("\\{byte:03o}"),
            }).collect();
            prop_assert_eq!(unquote(&format!("\"{escaped}\"")), Some(bytes));
            prop_assert_eq!(unquote(&format!("\"{escaped}")), None);
        }

        #[test]
        fn any_text_is_some_words(text in ".{0,60}") {
            prop_assert!(unquote(&text).is_none_or(|bytes| bytes.len() < text.len()));
            let words: String = Words(&text).collect();
            prop_assert_eq!(words.replace(' ', ""), text.replace(' ', ""));
        }
    }
}

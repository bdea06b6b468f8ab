//! The lengths of requests, read from raw heads.
//!
//! hyper resolves ambiguous lengths as RFC 9112 allows: with `Content-Length` and `Transfer-Encoding` it drops the
//! first, keeps chunked, and closes afterwards; of two equal `Content-Length` it keeps one. The service behind
//! never sees the ambiguity. But browsers do not send such requests; they are a way to smuggle requests past a
//! proxy in front. So they are refused, and for that the heads have to be read before hyper normalises them.
//!
//! The scanner can only refuse: hyper alone decides what a request means. It follows heads and bodies of known
//! length; after a chunked body it stops, and the connection is closed.

use std::collections::VecDeque;

/// The bytes of a header line that are kept: enough for any valid length or encoding.
const KEPT: usize = 64;

/// The framing of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body, or one of known length; another request may follow.
    Sound,
    /// A chunked body; nothing after it is read.
    Chunked,
    /// Ambiguous, and refused.
    Refused,
}

/// Follows the bytes of a client up to the next request's head.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    state: State,
    line: Vec<u8>,
    /// The current line is longer than what is kept of it.
    overlong: bool,
    head: Head,
    found: VecDeque<Framing>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Before a request: empty lines are skipped, as the parser does.
    #[default]
    Between,
    /// In a line of a head.
    Line,
    /// In a body with so many bytes to come.
    Body(u64),
    /// Past a chunked, refused or upgraded request.
    Blind,
}

#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    doubt: bool,
}

impl Scanner {
    /// Scans the next bytes. Returns whether they are of nothing but a head that is not whole yet, and may become one.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        let first = match self.state {
            State::Between => bytes.iter().find(|byte| !matches!(byte, b'\r' | b'\n')),
            State::Line => None,
            State::Body(_) | State::Blind => {
                self.scan(bytes);
                return false;
            }
        };
        let heads = self.found.len();
        self.scan(bytes);
        // No method begins otherwise: it may be TLS, which is to be told at once.
        first.is_none_or(u8::is_ascii_alphabetic) && self.found.len() == heads
    }

    fn scan(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            match &mut self.state {
                State::Blind => return,
                State::Between if matches!(first, b'\r' | b'\n') => bytes = rest,
                State::Between => self.state = State::Line,
                State::Body(left) => {
                    let skip = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skip as u64;
                    if *left == 0 {
                        self.state = State::Between;
                    }
                    bytes = bytes.get(skip..).unwrap_or_default();
                }
                State::Line => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
                    let room = KEPT - self.line.len();
                    self.overlong |= part.len() > room;
                    self.line.extend_from_slice(part.get(..room).unwrap_or(part));
                    let Some(end) = end else { return };
                    self.end_of_line();
                    bytes = bytes.get(end + 1..).unwrap_or_default();
                }
            }
        }
    }

    /// Whether part of a head has arrived.
    pub(super) fn in_head(&self) -> bool {
        self.state == State::Line
    }

    /// Whether the last request has ended, as far as is known.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Between
    }

    /// The framing of the next request that was not taken yet; `None` if none was seen.
    pub(super) fn take(&mut self) -> Option<Framing> {
        self.found.pop_front()
    }

    /// Stops scanning: the connection is no longer HTTP.
    pub(super) fn stop(&mut self) {
        self.state = State::Blind;
    }

    fn end_of_line(&mut self) {
        if self.line.last() == Some(&b'\r') && !self.overlong {
            self.line.pop();
        }
        if self.line.is_empty() {
            let (framing, state) = std::mem::take(&mut self.head).classify_length();
            self.found.push_back(framing);
            self.state = state;
        } else {
            self.head.line(&self.line, self.overlong);
        }
        self.line.clear();
        self.overlong = false;
    }
}

impl Head {
    fn line(&mut self, line: &[u8], overlong: bool) {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            return;
        };
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = Some(value).filter(|value| value.iter().all(u8::is_ascii_digit));
            let length = length.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
            self.doubt |= overlong || self.length.is_some() || length.is_none();
            self.length = length;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let chunked = value.eq_ignore_ascii_case(b"chunked");
            self.doubt |= overlong || self.chunked || !chunked;
            self.chunked = true;
        }
    }

    fn classify_length(self) -> (Framing, State) {
        match self.length {
            _ if self.doubt => (Framing::Refused, State::Blind),
            Some(_) if self.chunked => (Framing::Refused, State::Blind),
            _ if self.chunked => (Framing::Chunked, State::Blind),
            None | Some(0) => (Framing::Sound, State::Between),
            Some(length) => (Framing::Sound, State::Body(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(text: &str) -> Vec<Framing> {
        let mut scanner = Scanner::default();
        scanner.feed(text.as_bytes());
        scanner.found.into()
    }

    fn of_headers(headers: &str) -> Framing {
        let found = scan(&format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        assert_eq!(found.len(), 1, "{headers:?}");
        found[0]
    }

    #[test]
    fn one_length_or_chunked_is_sound() {
        for (headers, framing) in [
            ("", Framing::Sound),
            ("Content-Length: 0\r\n", Framing::Sound),
            ("content-LENGTH:5\r\n", Framing::Sound),
            ("Content-Length: \t 5 \t\r\n", Framing::Sound),
            ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
            ("transfer-encoding:CHUNKED\n", Framing::Chunked),
            ("X-Content-Length: 5\r\nContent-Length: 5\r\n", Framing::Sound),
            ("Content-Length : 5\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked),
        ] {
            assert_eq!(of_headers(headers), framing, "{headers:?}");
        }
    }

    #[test]
    fn abuse_26_lengths_in_doubt_are_refused() {
        let spaces = format!("Content-Length:{}5\r\n", " ".repeat(100));
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            "Content-Length: 5\nX: y\ntransfer-encoding: chunked\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
            &spaces,
        ] {
            assert_eq!(of_headers(headers), Framing::Refused, "{headers:?}");
        }
    }

    #[test]
    fn bodies_of_known_length_are_skipped() {
        let text = "\r\nPOST /a HTTP/1.1\r\nContent-Length: 40\r\n\r\n\
                    Content-Length: 1\r\nContent-Length: 2\r\n\n\
                    GET /b HTTP/1.1\r\n\r\n\
                    POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
                    GET /d HTTP/1.1\r\n\r\n";
        assert_eq!(scan(text), [Framing::Sound, Framing::Sound, Framing::Chunked]);
    }

    proptest! {
        #[test]
        fn where_the_reads_end_does_not_matter(
            lines in proptest::collection::vec(
                "(|\r|POST / HTTP/1.1\r|Content-Length: 7\r|Transfer-Encoding: chunked|[a-z]{0,90})\n",
                0..20,
            ),
            cut in 1_usize..40,
        ) {
            let text = lines.concat();
            let mut scanner = Scanner::default();
            for part in text.as_bytes().chunks(cut) {
                scanner.feed(part);
            }
            prop_assert_eq!(Vec::from(scanner.found), scan(&text));
        }
    }
}

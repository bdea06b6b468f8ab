//! Parsers for `HAProxy`'s answers: pure functions that accept any bytes.
//!
//! Versions 2.6 and 3.0 differ in columns (`shard=`) and lines; unknown ones are skipped.

use std::net::Ipv6Addr;

use super::command::Flag;
use fortify_core::circuit::TorCircuit;

/// The most characters of `HAProxy`'s text in an error.
const MAX_TEXT: usize = 120;

/// The most entries that are read from one table: more than the shipped configuration allows (1,048,576); 24
/// bytes each.
pub const MAX_ENTRIES: usize = 2_000_000;

/// The longest line, in bytes: an entry with all of `HAProxy`'s counters has less than 2 KiB.
const MAX_LINE: usize = 16 * 1024;

/// Parses the answers to a batch: one newline for each command that succeeded, a text and two newlines for
/// each that was refused. `None` unless there is one answer for each command.
#[must_use]
pub fn parse_batch(answer: &[u8], commands: usize) -> Option<BatchAnswer> {
    let mut rest = answer;
    let mut judged = BatchAnswer::default();
    for _ in 0..commands {
        if let Some(after) = rest.strip_prefix(b"\n") {
            judged.done += 1;
            rest = after;
            continue;
        }
        let end = rest.windows(2).position(|pair| pair == b"\n\n")?;
        let (text, after) = rest.split_at(end);
        judged.refused += 1;
        judged.first_refusal.get_or_insert_with(|| harmless(text));
        rest = after.get(2..)?;
    }
    // Bytes after the last answer mean that the answers were misread.
    rest.is_empty().then_some(judged)
}

/// The result of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchAnswer {
    /// Commands that succeeded.
    pub done: usize,
    /// Commands that were refused.
    pub refused: usize,
    /// The text of the first refusal.
    pub first_refusal: Option<String>,
}

/// `HAProxy`'s text, made safe for the log: at most 120 characters on one line, without control characters, and
/// with every address replaced, because an address is a circuit.
#[must_use]
pub fn harmless(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..4 * MAX_TEXT).unwrap_or(text));
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '%');
    let mut told = String::new();
    let mut rest: &str = &text;
    while let Some(first) = rest.chars().next() {
        let run = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(run);
        if word.is_empty() {
            told.push(if first.is_control() { ' ' } else { first });
            rest = &rest[first.len_utf8()..];
        } else {
            let address = word.bytes().filter(|byte| *byte == b':').count() >= 2;
            told.push_str(if address { "[address]" } else { word });
            rest = after;
        }
    }
    told.trim().chars().take(MAX_TEXT).collect()
}

/// The process that answered, from `show info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its process id.
    pub pid: u64,
    /// Seconds since it started.
    pub uptime: u64,
    /// Whether it is an old process that a reload left behind and that accepts no new connections.
    pub stopping: bool,
    /// Its version.
    pub version: String,
}

impl ProcessInfo {
    /// Whether this is another process than `before`: another id, or a shorter uptime (in a container every
    /// process may have the same id).
    #[must_use]
    pub fn succeeds(&self, before: &Self) -> bool {
        self.pid != before.pid || self.uptime < before.uptime
    }
}

/// Parses `show info`; `None` if the process id or the uptime is missing.
#[must_use]
pub fn parse_info(answer: &[u8]) -> Option<ProcessInfo> {
    let (mut pid, mut uptime, mut stopping, mut version) = (None, None, false, String::new());
    for line in answer.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name {
            "Pid" => pid = value.trim().parse().ok(),
            "Uptime_sec" => uptime = value.trim().parse().ok(),
            "Stopping" => stopping = value.trim() != "0",
            "Version" => version = harmless(value.as_bytes()),
            _ => {}
        }
    }
    Some(ProcessInfo { pid: pid?, uptime: uptime?, stopping, version })
}

/// One entry of a stick table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The circuit.
    pub circuit: TorCircuit,
    /// Its `gpc0`; `None` for a value that Fortify never writes.
    pub flag: Option<Flag>,
    /// Milliseconds until it expires.
    pub expires_in: u64,
}

/// Why a table could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadTable {
    /// The answer is an error message.
    Refused(String),
    /// The table does not store `gpc0`, or its keys are not IPv6 addresses.
    Unusable,
    /// More than [`MAX_ENTRIES`], or a line that does not end.
    TooLarge,
    /// The answer is incomplete.
    Cut,
}

/// Parses `show table` while it arrives, so that only the parsed entries take memory.
#[derive(Debug, Default)]
pub struct TableReader {
    partial: Vec<u8>,
    has_header: bool,
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// The empty line that ends the answer was seen.
    ended: bool,
}

impl TableReader {
    /// Parses the next bytes.
    ///
    /// # Errors
    ///
    /// [`BadTable::TooLarge`] or [`BadTable::Unusable`]; the rest need not be read.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), BadTable> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.partial.is_empty() {
                self.line(line)?;
            } else {
                self.keep(line)?;
                let line = std::mem::take(&mut self.partial);
                self.line(&line)?;
            }
        }
        self.keep(rest)
    }

    /// The entries, after the end of the answer.
    ///
    /// # Errors
    ///
    /// [`BadTable::Refused`] with the message that came instead of a table; [`BadTable::Cut`].
    pub fn finish(self) -> Result<Vec<Entry>, BadTable> {
        match (self.has_header, self.ended && self.partial.is_empty()) {
            (true, true) => Ok(self.entries),
            (true, false) => Err(BadTable::Cut),
            (false, _) if self.text.is_empty() => Err(BadTable::Cut),
            (false, _) => Err(BadTable::Refused(harmless(&self.text))),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), BadTable> {
        if self.partial.len() + bytes.len() > MAX_LINE {
            return Err(BadTable::TooLarge);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), BadTable> {
        let line = std::str::from_utf8(line).unwrap_or_default().trim_end_matches('\r');
        if line.is_empty() {
            self.ended = self.has_header;
        } else if let Some(header) = line.strip_prefix("# table: ") {
            self.has_header = true;
            if !header.contains(" type: ipv6,") {
                return Err(BadTable::Unusable);
            }
        } else if self.has_header {
            self.entries.extend(parse_entry(line)?);
            if self.entries.len() > MAX_ENTRIES {
                return Err(BadTable::TooLarge);
            }
        } else if self.text.len() < 4 * MAX_TEXT {
            let room = 4 * MAX_TEXT - self.text.len();
            self.text.extend(line.bytes().take(room));
        }
        Ok(())
    }
}

/// `0xPTR: key=fc00:... use=0 exp=1799000 [shard=0] gpc0=2 ...`; `None` for a key that is no
/// circuit, which Fortify did not write.
fn parse_entry(line: &str) -> Result<Option<Entry>, BadTable> {
    let (mut circuit, mut expires_in, mut gpc0) = (None, 0, None);
    for word in line.split(' ') {
        match word.split_once('=') {
            Some(("key", value)) => {
                let address = value.parse::<Ipv6Addr>().ok();
                circuit = address.and_then(|address| TorCircuit::from_address(address).ok());
            }
            Some(("exp", value)) => expires_in = value.parse().unwrap_or(0),
            Some(("gpc0", value)) => gpc0 = value.parse::<u32>().ok(),
            _ => {}
        }
    }
    match (circuit, gpc0) {
        (None, _) => Ok(None),
        (Some(_), None) => Err(BadTable::Unusable),
        (Some(circuit), Some(gpc0)) => {
            Ok(Some(Entry { circuit, flag: Flag::of(gpc0), expires_in }))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V2_6: &str = "# table: tor_ingress, type: ipv6, size:204800, used:2\n\
        0x7f6c34033a80: key=fc00:dead:beef:4dad::19 use=0 exp=1799000 gpc0=2 gpc1=0 conn_cur=0\n\
        0x7f6c34033b80: key=2001:db8::1 use=0 exp=5 gpc0=1 gpc1=0 conn_cur=0\n\n";
    const V3_0: &str = "# table: tor_ingress, type: ipv6, size:204800, used:1\n\
        0x7f6c34033a80: key=fc00:dead:beef:4dad::1:19 use=0 exp=1799000 shard=0 gpc0=1 gpc1=0\n\n";

    fn read(text: &[u8]) -> Result<Vec<Entry>, BadTable> {
        let mut reader = TableReader::default();
        reader.feed(text)?;
        reader.finish()
    }

    #[test]
    fn tables_of_both_versions_are_read_and_foreign_keys_left_out() {
        let entry = |number, flag| Entry {
            circuit: TorCircuit::from_parts(0, 0, number),
            flag: Some(flag),
            expires_in: 1_799_000,
        };
        assert_eq!(read(V2_6.as_bytes()), Ok(vec![entry(0x19, Flag::Banned)]));
        assert_eq!(read(V3_0.as_bytes()), Ok(vec![entry(0x1_0019, Flag::Vip)]));
        let odd = V2_6.replace("gpc0=2", "gpc0=4294967295");
        assert_eq!(read(odd.as_bytes()).unwrap()[0].flag, None);
    }

    #[test]
    fn what_is_no_table_is_said() {
        let refused = |text: &str| Err(BadTable::Refused(text.to_owned()));
        assert_eq!(read(b"No such table\n\n"), refused("No such table"));
        assert_eq!(read(b"Permission denied\n\n"), refused("Permission denied"));
        assert_eq!(read(b""), Err(BadTable::Cut));
        assert_eq!(read(&V2_6.as_bytes()[..V2_6.len() - 1]), Err(BadTable::Cut));
        assert_eq!(read(&V2_6.as_bytes()[..100]), Err(BadTable::Cut));
        assert_eq!(read(V2_6.replace("ipv6", "string").as_bytes()), Err(BadTable::Unusable));
        assert_eq!(read(V2_6.replace("gpc0", "gpt0").as_bytes()), Err(BadTable::Unusable));
        assert_eq!(read(&vec![b'a'; MAX_LINE + 1]), Err(BadTable::TooLarge));
    }

    #[test]
    fn the_process_is_told_apart_from_its_successor() {
        let text = b"Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nUptime: 0d 0h00m05s\n\
            Uptime_sec: 5\nPid: 4242\nStopping: 0\n\n";
        let info = parse_info(text).unwrap();
        let expected = ProcessInfo {
            pid: 4242,
            uptime: 5,
            stopping: false,
            version: "2.6.12-1+deb12u4".into(),
        };
        assert_eq!(info, expected);
        assert!(!info.succeeds(&info));
        assert!(ProcessInfo { pid: 1, ..info.clone() }.succeeds(&info));
        assert!(ProcessInfo { uptime: 4, ..info.clone() }.succeeds(&info));
        assert!(!ProcessInfo { uptime: 6, ..info.clone() }.succeeds(&info));
        assert!(parse_info(&text.map(|b| if b == b'P' { b'p' } else { b })).is_none());
        let stopping = String::from_utf8_lossy(text).replace("Stopping: 0", "Stopping: 1");
        assert!(parse_info(stopping.as_bytes()).unwrap().stopping);
    }

    #[test]
    fn each_measured_answer_is_judged() {
        let done = |n| Some(BatchAnswer { done: n, ..BatchAnswer::default() });
        assert_eq!(parse_batch(b"\n", 1), done(1));
        assert_eq!(parse_batch(b"\n\n\n", 3), done(3));
        for text in [
            "No such table",
            "Invalid key",
            "Key value expected",
            "Required arguments: <table> key <key> [data.<store_data_type> <value>]*...",
            "Unknown data type",
            "Data type not stored in this table",
            "Require a valid integer value to store",
            "\"data.<type>\" followed by a value expected",
            "Unable to allocate a new entry",
            "Permission denied",
            "The command is too big for the buffer size. Please change tune.bufsize...",
        ] {
            let answer = format!("\n{text}\n\n\n");
            let judged = parse_batch(answer.as_bytes(), 3).unwrap();
            assert_eq!((judged.done, judged.refused), (2, 1));
            assert_eq!(judged.first_refusal.as_deref(), Some(text));
        }
        for cut in [&b""[..], b"\n", b"No such table\n", b"No such table", b"\n\n\n", b"\n> "] {
            assert_eq!(parse_batch(cut, 2), None, "{cut:?}");
        }
    }

    #[test]
    fn no_text_of_haproxys_names_a_circuit_or_breaks_a_line() {
        assert_eq!(
            harmless(
                b"'fc00:dead:beef:4dad::19' is no\nkey=FC00:DEAD::1;\x1b[0m and 10.0.0.1 12:30"
            ),
            "'[address]' is no key=[address]; [0m and 10.0.0.1 12:30"
        );
        assert_eq!(harmless(&[b'x'; 5000]).len(), MAX_TEXT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_within_bounds(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            commands in 0_usize..5,
            cut in 0_usize..600,
        ) {
            let told = harmless(&bytes);
            prop_assert!(told.chars().count() <= MAX_TEXT && !told.contains('\n'));
            let judged = parse_batch(&bytes, commands);
            let whole = judged.is_none_or(|judged| judged.done + judged.refused == commands);
            prop_assert!(whole);
            let _any = parse_info(&bytes);
            let _any = read(&bytes);
            let mut table = V2_6.as_bytes().to_vec();
            table.splice(cut.min(table.len())..cut.min(table.len()), bytes);
            let _any = read(&table);
        }

        #[test]
        fn a_table_reads_the_same_in_pieces_of_any_size(size in 1_usize..80) {
            let mut reader = TableReader::default();
            for piece in V2_6.as_bytes().chunks(size) {
                reader.feed(piece).unwrap();
            }
            prop_assert_eq!(reader.finish(), read(V2_6.as_bytes()));
        }

        #[test]
        fn harmless_leaves_no_address(a: u16, b: u16, before in "[ a-z'=]{0,9}") {
            let text = format!("{before} fc00:dead:beef:4dad::{a:x}:{b:x} ");
            let told = harmless(text.as_bytes());
            prop_assert!(!told.contains("fc00"), "{told}");
        }
    }
}

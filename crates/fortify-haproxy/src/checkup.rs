//! The read-only questions that `fortify doctor` asks `HAProxy`.
//!
//! `show cli level` shows whether the socket may set entries. `show table` shows neither what a table stores nor
//! its `expire`: both are read from entries, and, if the table is empty, stored counters by whether `HAProxy`
//! accepts a filter on them. On a full table a filter would visit a million entries.

use std::net::{IpAddr, SocketAddr};

use super::answer::harmless;
use super::client::{BATCH_DEADLINE, Client, ClientError};
use super::command::TableName;

/// Bytes of an answer that are read: a list of tables or servers, or the first 400 entries of a table.
const MAX_ANSWER: usize = 64 * 1024;

/// Entries of a table that are examined.
const MAX_ENTRIES: usize = 300;

/// The findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// `HAProxy`'s version.
    pub version: String,
    /// Whether it is an old process that a reload left behind.
    pub stopping: bool,
    /// The level of the socket: `admin`, `operator` or `user`.
    pub level: String,
    /// Its stick tables.
    pub tables: Vec<Table>,
    /// Which of `gpc0` and `gpc1` the table of circuits does not store.
    pub missing: Vec<&'static str>,
    /// The longest time until an entry of the table of circuits expires, in ms; `None` if the table is
    /// empty.
    pub longest: Option<u64>,
    /// The servers of its backends, those with an address.
    pub servers: Vec<SocketAddr>,
}

/// A stick table, from `show table`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The type of its keys.
    pub kind: String,
    /// The most entries it can hold.
    pub size: u64,
    /// The entries it holds.
    pub used: u64,
}

/// Asks the `HAProxy` of `client`, whose table of circuits is `table`. Nothing is changed.
///
/// # Errors
///
/// [`ClientError`].
pub async fn checkup(client: &Client, table: &TableName) -> Result<Checkup, ClientError> {
    let info = client.info().await?;
    let level = ask(client, "show cli level\n").await?;
    let tables = ask(client, "show table\n").await?;
    let entries = ask(client, &format!("show table {table}\n")).await?;
    let mut missing = Vec::new();
    for counter in ["gpc0", "gpc1"] {
        let stored = match seen(&entries, counter) {
            Some(stored) => stored,
            None => {
                let filter = format!("show table {table} data.{counter} gt 0\n");
                !ask(client, &filter).await?.contains("not stored")
            }
        };
        if !stored {
            missing.push(counter);
        }
    }
    let servers = ask(client, "show servers conn\n").await?;
    Ok(Checkup {
        version: info.version,
        stopping: info.stopping,
        level: harmless(level.trim().as_bytes()),
        tables: parse_tables(&tables),
        missing,
        longest: parse_longest(&entries),
        servers: parse_servers(&servers),
    })
}

async fn ask(client: &Client, line: &str) -> Result<String, ClientError> {
    let (mut kept, mut full) = (Vec::new(), false);
    let asked = client.ask(line, BATCH_DEADLINE, |bytes| {
        kept.extend_from_slice(bytes);
        full = kept.len() > MAX_ANSWER;
        !full
    });
    match asked.await {
        Err(error) if !full => Err(error),
        _ => Ok(String::from_utf8_lossy(&kept).into_owned()),
    }
}

/// Parses the lines `# table: NAME, type: TYPE, size:N, used:N`.
fn parse_tables(text: &str) -> Vec<Table> {
    let table = |line: &str| {
        let mut parts = line.strip_prefix("# table: ")?.split(',').map(str::trim);
        let name = harmless(parts.next()?.as_bytes());
        let mut table = Table { name, kind: String::new(), size: 0, used: 0 };
        for part in parts {
            match part.split_once(':').map(|(key, value)| (key, value.trim())) {
                Some(("type", kind)) => table.kind = harmless(kind.as_bytes()),
                Some(("size", size)) => table.size = size.parse().ok()?,
                Some(("used", used)) => table.used = used.parse().ok()?,
                _ => {}
            }
        }
        Some(table)
    };
    text.lines().filter_map(table).collect()
}

/// Whether entries have the counter; `None` if there are no entries.
fn seen(text: &str, counter: &str) -> Option<bool> {
    let entry = text.lines().find(|line| line.contains(" key=") && line.contains(" exp="))?;
    Some(entry.contains(&format!(" {counter}=")))
}

/// The largest `exp=` among entries.
fn parse_longest(text: &str) -> Option<u64> {
    let expiry = |line: &str| line.split(" exp=").nth(1)?.split(' ').next()?.parse().ok();
    text.lines().take(MAX_ENTRIES).filter_map(expiry).max()
}

/// Parses `show servers conn`: backend and server, their numbers, address, port.
fn parse_servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(2);
        let address: IpAddr = words.next()?.parse().ok()?;
        let port = words.next()?.parse().ok().filter(|port| *port > 0)?;
        Some(SocketAddr::new(address, port))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(server).collect()
}

/// Whether `level` may set entries of a table.
#[must_use]
pub fn may_set(level: &str) -> bool {
    matches!(level, "operator" | "admin")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_2_6_says_is_read() {
        let tables = "# table: nog, type: ipv6, size:10, used:0\n\
                      # table: tor_ingress, type: ipv6, size:1048576, used:1\n\n";
        let read = parse_tables(tables);
        assert_eq!(read.len(), 2);
        assert_eq!(
            (read[1].name.as_str(), read[1].kind.as_str(), read[1].size, read[1].used),
            ("tor_ingress", "ipv6", 1_048_576, 1)
        );
        let entries = "# table: t, type: ipv6, size:10, used:2\n\
                       0x55c0f97d5c30: key=::1 use=0 exp=1799778 gpc0=0 gpc1=0\n\
                       0x55c0f97d5c31: key=::2 use=0 exp=99 gpc0=0 gpc1=0\n\n";
        assert_eq!(parse_longest(entries), Some(1_799_778));
        assert_eq!(parse_longest(tables), None);
        assert_eq!([seen(entries, "gpc0"), seen(entries, "gpc2")], [Some(true), Some(false)]);
        assert_eq!(seen(tables, "gpc0"), None);
        let servers = "# bkname/svname bkid/svid addr port - purge_delay\n\
                       behind/one 5/1 127.0.0.1 19001 - 5000 0\nbehind/two 5/2 ::1 80 - 1\n\
                       behind/three 5/3 unix 0 - 1\n\n";
        let servers = parse_servers(servers);
        assert_eq!(servers, ["127.0.0.1:19001".parse().unwrap(), "[::1]:80".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*|(# table: |, type: |size:|exp=|[0-9]|\n| )*") {
            let _read = (parse_tables(&text), parse_longest(&text), parse_servers(&text));
        }
    }
}

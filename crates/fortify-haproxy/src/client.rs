//! The Runtime API over a unix socket or TCP.
//!
//! A batch is one line of commands joined with `;`, on its own connection. A connection that is held across a
//! reload still talks to the old process, which reports success for bans that have no effect. It is one line
//! because `HAProxy` 3.0 runs only the first of several. The answers are read while the commands are
//! written: `HAProxy` stops reading when its answers are not read.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fortify_core::advice::{Advise, both};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::answer::{self, BadTable, BatchAnswer, Entry, ProcessInfo, TableReader};
use super::command::{Command, TableName};

/// Commands per batch: 10,000 bans are 40 batches of about a millisecond each.
pub const MAX_BATCH: usize = 256;

/// The deadline for a batch. One of 100 commands takes 0.4 ms (measured).
pub(super) const BATCH_DEADLINE: Duration = Duration::from_secs(2);

/// The deadline for reading a whole table. 200,000 entries take 0.5 s (measured).
const TABLE_DEADLINE: Duration = Duration::from_secs(15);

/// The most bytes of the answers to a batch: a newline each, or an error of a few hundred bytes.
const MAX_BATCH_ANSWER: usize = MAX_BATCH * 512;

/// The most bytes of `show info`, which has about 3 KiB.
const MAX_INFO: usize = 64 * 1024;

/// The most bytes of `show table`, which are parsed and not kept: 155 per entry (measured), for 2,000,000
/// entries.
const MAX_TABLE: usize = 512 * 1024 * 1024;

/// The address of `HAProxy`'s stats socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `haproxy.socket_path`.
    Unix(PathBuf),
    /// `haproxy.address`.
    Tcp(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// Why a command or a question failed. Each message says what to check.
#[derive(Debug, thiserror::Error)]
#[error("{}", both(self))]
pub enum ClientError {
    /// No connection.
    Connect {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    Broken {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    Slow(Endpoint),
    /// It said something that is no answer, or too little or too much of one.
    NotUnderstood(Endpoint),
    /// It refused.
    Refused {
        /// The number of refused commands.
        refused: usize,
        /// The number of all commands.
        commands: usize,
        /// The answer to the first of them, without control characters and addresses.
        text: String,
    },
    /// The table cannot carry standings.
    UnusableTable(TableName),
    /// The table is larger than is read.
    TableTooLarge(TableName),
}

impl Advise for ClientError {
    fn problem(&self) -> String {
        match self {
            Self::Connect { endpoint, source } => {
                format!("cannot connect to HAProxy at {endpoint}: {source}")
            }
            Self::Broken { endpoint, source } => {
                format!("the connection to HAProxy at {endpoint} broke: {source}")
            }
            Self::Slow(endpoint) => format!("HAProxy at {endpoint} did not answer in time"),
            Self::NotUnderstood(endpoint) => {
                format!("HAProxy at {endpoint} gave an answer that is not understood")
            }
            Self::Refused { refused, commands, text } => {
                format!("HAProxy refused {refused} of {commands} commands: {text:?}")
            }
            Self::UnusableTable(table) => format!("the table {table} is not one for circuits"),
            Self::TableTooLarge(table) => format!("the table {table} is too large to be read"),
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        let advice = match self {
            Self::Connect { .. } => {
                "check that it runs, that its configuration has a `stats socket` there, and that the \
                 user that runs Fortify may open it ([haproxy] socket_path or address)"
            }
            Self::Broken { .. } => return None,
            Self::Slow(_) => {
                "check its load and `stats maxconn`, which other clients of the socket may have used up"
            }
            Self::NotUnderstood(_) => {
                "check that [haproxy] socket_path or address is its stats socket"
            }
            Self::Refused { .. } => {
                "check [haproxy] table_name against its configuration, and `level operator` on its \
                 stats socket"
            }
            Self::UnusableTable(_) => {
                "give it `type ipv6` and `store gpc0,gpc1` in HAProxy's configuration"
            }
            Self::TableTooLarge(_) => "give it a `size` of at most 1m",
        };
        Some(advice.into())
    }
}

/// Speaks to one `HAProxy`.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
}

impl Client {
    /// A client for the `HAProxy` at `endpoint`. It connects for each batch and question.
    #[must_use]
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Runs `commands` in batches of at most [`MAX_BATCH`].
    ///
    /// # Errors
    ///
    /// [`ClientError`]. The commands before and after a refused one are still carried out.
    pub async fn run(&self, commands: &[Command]) -> Result<(), ClientError> {
        let mut total = BatchAnswer::default();
        for batch in commands.chunks(MAX_BATCH) {
            let judged = self.batch(batch).await?;
            total.done += judged.done;
            total.refused += judged.refused;
            total.first_refusal = total.first_refusal.or(judged.first_refusal);
        }
        match total.first_refusal {
            None => Ok(()),
            Some(text) => {
                let commands = commands.len();
                Err(ClientError::Refused { refused: total.refused, commands, text })
            }
        }
    }

    async fn batch(&self, commands: &[Command]) -> Result<BatchAnswer, ClientError> {
        let mut line = String::with_capacity(commands.len() * 96);
        for command in commands {
            if !line.is_empty() {
                line.push(';');
            }
            command.write(&mut line);
        }
        line.push('\n');
        let mut answer = Vec::new();
        self.ask(&line, BATCH_DEADLINE, |bytes| append(&mut answer, bytes, MAX_BATCH_ANSWER))
            .await?;
        answer::parse_batch(&answer, commands.len())
            .ok_or_else(|| ClientError::NotUnderstood(self.endpoint.clone()))
    }

    /// Asks which process answers (`show info`).
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn info(&self) -> Result<ProcessInfo, ClientError> {
        let mut answer = Vec::new();
        self.ask("show info\n", BATCH_DEADLINE, |bytes| append(&mut answer, bytes, MAX_INFO))
            .await?;
        answer::parse_info(&answer).ok_or_else(|| {
            // A socket with too low a level is noticed here first: `Permission denied`.
            match answer::parse_batch(&answer, 1).and_then(|judged| judged.first_refusal) {
                Some(text) => ClientError::Refused { refused: 1, commands: 1, text },
                None => ClientError::NotUnderstood(self.endpoint.clone()),
            }
        })
    }

    /// Reads the entries of `table` that are not [`Flag::Normal`](super::command::Flag::Normal).
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn flagged(&self, table: &TableName) -> Result<Vec<Entry>, ClientError> {
        let line = format!("show table {table} data.gpc0 gt 0\n");
        let mut reader = TableReader::default();
        let (mut total, mut bad) = (0, None);
        self.ask(&line, TABLE_DEADLINE, |bytes| {
            total += bytes.len();
            bad = reader.feed(bytes).err();
            bad.is_none() && total <= MAX_TABLE
        })
        .await
        .or_else(|error| if bad.is_some() { Ok(()) } else { Err(error) })?;
        bad.map_or_else(|| reader.finish(), Err).map_err(|bad| match bad {
            BadTable::Refused(text) => ClientError::Refused { refused: 1, commands: 1, text },
            BadTable::Unusable => ClientError::UnusableTable(table.clone()),
            BadTable::TooLarge => ClientError::TableTooLarge(table.clone()),
            BadTable::Cut => ClientError::NotUnderstood(self.endpoint.clone()),
        })
    }

    /// Sends one line and passes the answer to `take` until `HAProxy` closes the connection. It is an error
    /// if `take` returns `false`.
    pub(super) async fn ask(
        &self,
        line: &str,
        deadline: Duration,
        take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), ClientError> {
        let endpoint = || self.endpoint.clone();
        let exchange = async {
            let connect = |source| ClientError::Connect { endpoint: endpoint(), source };
            match &self.endpoint {
                Endpoint::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(connect)?;
                    Ok(converse(stream, line, take).await)
                }
                Endpoint::Tcp(address) => {
                    let stream = TcpStream::connect(address).await.map_err(connect)?;
                    Ok(converse(stream, line, take).await)
                }
            }
        };
        match tokio::time::timeout(deadline, exchange).await {
            Err(_elapsed) => Err(ClientError::Slow(endpoint())),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Err(source))) => Err(ClientError::Broken { endpoint: endpoint(), source }),
            Ok(Ok(Ok(true))) => Ok(()),
            Ok(Ok(Ok(false))) => Err(ClientError::NotUnderstood(endpoint())),
        }
    }
}

fn append(answer: &mut Vec<u8>, bytes: &[u8], limit: usize) -> bool {
    answer.extend_from_slice(bytes);
    answer.len() <= limit
}

/// Writes `line` and reads at the same time; returns whether `take` accepted everything. The write side stays
/// open until the answer ends, because `HAProxy` closes the connection after one line.
async fn converse(
    stream: impl AsyncRead + AsyncWrite,
    line: &str,
    mut take: impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async { writer.write_all(line.as_bytes()).await };
    let read = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match reader.read(&mut buffer).await? {
                0 => return Ok(true),
                got if take(&buffer[..got]) => {}
                _ => return Ok(false),
            }
        }
    };
    // HAProxy may refuse and close before everything is written: then its answer is the better error.
    let (written, read) = tokio::join!(write, read);
    match (written, read) {
        (Ok(()), read) => read,
        (Err(error), Err(_)) => Err(error),
        (Err(_), read) => read,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::net::UnixListener;

    use super::*;
    use fortify_core::circuit::TorCircuit;

    /// A socket that reads up to a newline and gives `answer`; what it read comes back.
    fn fake(path: &Path, answer: Vec<u8>) -> tokio::task::JoinHandle<String> {
        let listener = UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut line, mut byte) = (Vec::new(), [0]);
            while stream.read(&mut byte).await.unwrap() == 1 && byte != [b'\n'] {
                line.push(byte[0]);
            }
            // Whoever has heard enough hangs up.
            let _cut = stream.write_all(&answer).await;
            String::from_utf8(line).unwrap()
        })
    }

    async fn told(answer: &[u8], commands: usize) -> (Result<(), ClientError>, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let heard = fake(&path, answer.to_vec());
        let table = TableName::default();
        let commands: Vec<_> = (1..=commands as u32)
            .map(|number| Command::ban(&table, TorCircuit::from_parts(0, 0, number)))
            .collect();
        let result = Client::new(Endpoint::Unix(path)).run(&commands).await;
        (result, heard.await.unwrap())
    }

    #[tokio::test]
    async fn a_batch_is_one_line_and_success_one_newline_each() {
        let (result, heard) = told(b"\n\n", 2).await;
        result.unwrap();
        assert_eq!(
            heard,
            "set table tor_ingress key fc00:dead:beef:4dad::1 data.gpc0 2;\
             set table tor_ingress key fc00:dead:beef:4dad::2 data.gpc0 2"
        );
    }

    #[tokio::test]
    async fn every_other_answer_is_an_error_with_haproxys_text_and_no_circuit() {
        for (answer, said) in [
            (&b"No such table\n\n\n"[..], "1 of 2 commands: \"No such table\""),
            (b"\nInvalid key\n\n", "1 of 2 commands: \"Invalid key\""),
            (
                b"Permission denied\n\nPermission denied\n\n",
                "2 of 2 commands: \"Permission denied\"",
            ),
            (b"bad fc00:dead:beef:4dad::1\n\n\n", "\"bad [address]\""),
            (b"", "not understood"),
            (b"\n", "not understood"),
            (b"\n\n\n", "not understood"),
            (b"\n> \n> ", "not understood"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not understood"),
        ] {
            let (result, _) = told(answer, 2).await;
            let error = result.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("fc00"), "{error}");
        }
    }

    #[tokio::test]
    async fn it_speaks_over_tcp_too() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(Endpoint::Tcp(listener.local_addr().unwrap()));
        let asked = tokio::spawn(async move { client.info().await });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = [0; 10];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"show info\n");
        stream.write_all(b"Pid: 7\nUptime_sec: 1\n\n").await.unwrap();
        drop(stream);
        assert_eq!(asked.await.unwrap().unwrap().pid, 7);
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off() {
        let (result, _) = told(&vec![b'\n'; 8 * MAX_BATCH_ANSWER], 2).await;
        assert!(matches!(result, Err(ClientError::NotUnderstood(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_says_nothing_is_given_up_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = Client::new(Endpoint::Unix(path)).info().await.unwrap_err();
        assert!(matches!(error, ClientError::Slow(_)), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_named_with_what_to_do() {
        let client = Client::new(Endpoint::Unix("/nonexistent/fortify.sock".into()));
        let error = client.info().await.unwrap_err().to_string();
        assert!(
            error.contains("/nonexistent/fortify.sock") && error.contains("[haproxy] socket_path")
        );
    }
}

//! One HTTP request and its answer, bounded in time and size.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};

use super::within;
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::{Timestamp, civil};

/// The longest body that is read, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The circuit that probes use: the highest number, which tor, counting up from 1, never reaches.
const PROBE: TorCircuit = TorCircuit::from_parts(0, 0, u32::MAX);

/// Its address.
pub(super) fn probe_circuit() -> String {
    PROBE.address().to_string()
}

/// A server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A host name or an address, with a port.
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address.to_string())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProbeRequest<'a> {
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// The source address; `None` for the system's choice.
    pub(super) from: Option<IpAddr>,
    /// Whether to send tor's PROXY line first, with the circuit of probes.
    pub(super) as_tor: bool,
    /// Whether to send `HEAD` instead of `GET`.
    pub(super) head: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct ProbeResponse {
    pub(super) status: u16,
    pub(super) date: Option<Timestamp>,
    /// The body; empty if it is longer than [`MAX_BODY`].
    pub(super) body: Bytes,
    /// The listening process, if it is known: unix sockets report it.
    pub(super) pid: Option<i32>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("{0}")]
    Connect(io::Error),
    #[error("no answer within 2 s")]
    Slow,
    #[error("the connection was closed without an answer")]
    Closed,
}

/// Sends a request and reads the answer.
pub(super) async fn send(
    place: &Target,
    ask: ProbeRequest<'_>,
) -> Result<ProbeResponse, ProbeError> {
    let asked = async {
        match place {
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(ProbeError::Connect)?;
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
                Ok(ProbeResponse { pid, ..converse(stream, ask).await? })
            }
            Target::Tcp(address) => {
                let stream = connect(address, ask.from).await.map_err(ProbeError::Connect)?;
                converse(stream, ask).await
            }
        }
    };
    within(asked).await.unwrap_or(Err(ProbeError::Slow))
}

async fn connect(address: &str, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(address).await };
    let of_kind = |address: &SocketAddr| address.is_ipv4() == from.is_ipv4();
    let Some(address) = lookup_host(address).await?.find(of_kind) else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(address).await
}

pub(super) async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ask: ProbeRequest<'_>,
) -> Result<ProbeResponse, ProbeError> {
    let closed = |_error: hyper::Error| ProbeError::Closed;
    if ask.as_tor {
        let line = format!("PROXY TCP6 {} ::1 65535 80\r\n", probe_circuit());
        stream.write_all(line.as_bytes()).await.map_err(ProbeError::Connect)?;
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(closed)?;
    let connection = tokio::spawn(connection);
    let exchange = async {
        let mut request = http::Request::builder()
            .method(if ask.head { "HEAD" } else { "GET" })
            .uri(ask.path)
            .header("host", "doctor.invalid")
            .header("connection", "close");
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_bad| ProbeError::Closed)?;
        let (head, body) = sender.send_request(request).await.map_err(closed)?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let date = head.headers.get("date").and_then(|date| parse_date(date.to_str().ok()?));
        Ok(ProbeResponse {
            status: head.status.as_u16(),
            date,
            body: body.map(|body| body.to_bytes()).unwrap_or_default(),
            pid: None,
        })
    };
    let answer = exchange.await;
    connection.abort();
    answer
}

/// Reads `Sun, 22 Nov 2026 08:03:12 GMT` (RFC 9110, section 5.6.7).
fn parse_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<_> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let mut times = time.split(':').map(|number| number.parse().ok());
    let mut next = || times.next().flatten();
    civil(year.parse().ok()?, month, day.parse().ok()?, [next()?, next()?, next()?])
}

/// An address of this machine other than loopback, to reach `target` like a remote peer does. Nothing is sent
/// to find it.
pub(super) fn elsewhere(target: IpAddr) -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849), so that the default route is taken.
    let (own, far) = match target {
        IpAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        IpAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = std::net::UdpSocket::bind(own).ok()?;
    socket.connect(far).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read() {
        let date = parse_date("Fri, 15 Jan 2027 08:00:00 GMT");
        assert_eq!(date, Some(Timestamp::from_secs(1_800_000_000)));
        for text in ["", "Fri, 15 Jan 2027 08:00:00 CET", "Fri, 15 Foo 2027 08:00:00 GMT"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn probes_use_a_valid_tor_circuit() {
        assert_eq!(probe_circuit(), "fc00:dead:beef:4dad::ffff:ffff");
        assert!(probe_circuit().parse::<TorCircuit>().is_ok());
    }
}

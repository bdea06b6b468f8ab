//! What a visitor sends: a PROXY line as tor's, then HTTP, with cookies; and what its pages say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// The host that every request names.
pub const HOST: &str = "siege.onion";

/// How long anybody waits for a connection, and for a response. Tor Browser waits longer; whoever waits this long
/// has left.
const CONNECT: Duration = Duration::from_secs(10);
const RESPONSE: Duration = Duration::from_secs(30);

/// The most of a response that is read: the challenge page of two frames has a third of this.
const MOST_BYTES: usize = 512 * 1024;

/// The header by which the protected service shows that a response is its own.
pub const FROM_SERVICE: &str = "x-siege-service";

/// Why a request got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No connection.
    Connect,
    /// Nothing within the time that anybody waits.
    Timeout,
    /// The connection was closed before the response was there.
    Closed,
}

/// A connection of `circuit`, its PROXY line written. It leaves no port behind when it is dropped: a generator of
/// thousands a second would run out of them.
///
/// # Errors
///
/// Whatever keeps it from being made.
pub async fn connect(front: SocketAddr, circuit: u32) -> Result<TcpStream, Fault> {
    let open = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_zero_linger()?;
        socket.set_nodelay(true)?;
        let mut stream = socket.connect(front).await?;
        stream.write_all(proxy_line(circuit).as_bytes()).await?;
        std::io::Result::Ok(stream)
    };
    match timeout(CONNECT, open).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(_)) => Err(Fault::Connect),
        Err(_) => Err(Fault::Timeout),
    }
}

/// The address that tor writes for a circuit; it is not canonical.
#[must_use]
pub fn address(circuit: u32) -> String {
    format!("fc00:dead:beef:4dad::{:x}:{:x}", circuit >> 16, circuit & 0xffff)
}

/// The line that tor writes for a circuit.
pub(crate) fn proxy_line(circuit: u32) -> String {
    format!("PROXY TCP6 {} ::1 {} 80\r\n", address(circuit), circuit & 0xffff)
}

/// Sends one request as it is written on a connection of its own, and gives the status of the response once all of
/// it is there.
///
/// # Errors
///
/// [`Fault`].
pub async fn fire(front: SocketAddr, circuit: u32, request: &str) -> Result<u16, Fault> {
    let mut stream = connect(front, circuit).await?;
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let (mut start, mut buffer, mut read) = ([0; 16], vec![0; 16 * 1024], 0_usize);
        loop {
            let count = stream.read(&mut buffer).await?;
            for byte in buffer.iter().take(count) {
                if let Some(place) = start.get_mut(read) {
                    *place = *byte;
                }
                read += 1;
            }
            if count == 0 || read > MOST_BYTES {
                return std::io::Result::Ok(start);
            }
        }
    };
    match timeout(RESPONSE, exchange).await {
        Ok(Ok(start)) => status(&start).ok_or(Fault::Closed),
        Ok(Err(_)) => Err(Fault::Closed),
        Err(_) => Err(Fault::Timeout),
    }
}

fn status(start: &[u8]) -> Option<u16> {
    std::str::from_utf8(start.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

/// A `GET` after which the connection is closed, as written.
#[must_use]
pub fn single(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
}

/// A visitor's browser: one circuit, one connection that is kept, and a jar of cookies.
#[derive(Debug)]
pub struct Browser {
    front: SocketAddr,
    /// The circuit.
    pub circuit: u32,
    /// Names and values.
    pub cookies: BTreeMap<String, String>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Browser {
    /// A browser on a circuit that nobody had.
    #[must_use]
    pub const fn new(front: SocketAddr, circuit: u32) -> Self {
        Self { front, circuit, cookies: BTreeMap::new(), connection: None }
    }

    /// Another tab: the same circuit and cookies, a connection of its own.
    #[must_use]
    pub fn tab(&self) -> Self {
        Self {
            front: self.front,
            circuit: self.circuit,
            cookies: self.cookies.clone(),
            connection: None,
        }
    }

    /// Takes over what another tab of this browser was given.
    pub fn share(&mut self, other: &Self) {
        self.cookies.extend(other.cookies.clone());
    }

    /// Closes its connection; the next request opens another one.
    pub fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Asks for a page.
    ///
    /// # Errors
    ///
    /// [`Fault`].
    pub async fn get(&mut self, path: &str) -> Result<Reply, Fault> {
        self.send(Method::GET, path, None).await
    }

    /// Sends a form, from a page of the site.
    ///
    /// # Errors
    ///
    /// [`Fault`].
    pub async fn post(&mut self, path: &str, form: String) -> Result<Reply, Fault> {
        self.send(Method::POST, path, Some(("application/x-www-form-urlencoded", form))).await
    }

    /// Sends JSON, as a script does.
    ///
    /// # Errors
    ///
    /// [`Fault`].
    pub async fn post_json(&mut self, path: &str, body: String) -> Result<Reply, Fault> {
        self.send(Method::POST, path, Some(("application/json", body))).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&str, String)>,
    ) -> Result<Reply, Fault> {
        let kept = self.connection.is_some();
        let response = match timeout(RESPONSE, self.exchange(&method, path, body.clone())).await {
            // A kept connection may have been closed meanwhile; browsers open another one.
            Ok(Err(Fault::Closed)) if kept => {
                self.connection = None;
                timeout(RESPONSE, self.exchange(&method, path, body)).await
            }
            first => first,
        };
        let response = response.unwrap_or(Err(Fault::Timeout)).inspect_err(|_| {
            self.connection = None;
        })?;
        let (status, headers, body) = response;
        self.remember(&headers);
        Ok(Reply { status, headers, body })
    }

    async fn exchange(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<(&str, String)>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Fault> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::ACCEPT_LANGUAGE, "en")
            .header("sec-fetch-site", "same-origin");
        if !self.cookies.is_empty() {
            let pairs: Vec<_> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        let json = body.as_ref().is_some_and(|(kind, _)| kind.ends_with("json"));
        let accept = if json { "application/json" } else { "text/html" };
        request = request.header(header::ACCEPT, accept);
        let mut text = String::new();
        if let Some((kind, body)) = body {
            request = request
                .header(header::CONTENT_TYPE, kind)
                .header(header::ORIGIN, format!("http://{HOST}"));
            text = body;
        }
        let request = request.body(Full::from(text)).map_err(|_unwritable| Fault::Closed)?;
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.open().await?,
        };
        connection.ready().await.map_err(|_gone| Fault::Closed)?;
        let response = connection.send_request(request).await.map_err(|_gone| Fault::Closed)?;
        let (parts, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, MOST_BYTES).collect().await;
        let body = body.map_err(|_cut| Fault::Closed)?.to_bytes();
        self.connection = Some(connection);
        Ok((parts.status, parts.headers, body))
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, Fault> {
        let stream = connect(self.front, self.circuit).await?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|_gone| Fault::Connect)?;
        // Ends with the sender, that is with the browser.
        drop(tokio::spawn(connection));
        Ok(sender)
    }

    fn remember(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE) {
            let Some((name, rest)) = cookie.to_str().ok().and_then(|text| text.split_once('='))
            else {
                continue;
            };
            let value = rest.split(';').next().unwrap_or_default();
            if rest.contains("Max-Age=0") || value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// Names and values of a form.
pub type Fields = Vec<(String, String)>;

/// The token in the form of a challenge.
#[must_use]
pub fn token(fields: &[(String, String)]) -> &str {
    let token = fields.iter().find(|(name, _)| name == "token");
    token.map_or("", |(_, token)| token)
}

/// What a response means to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// The protected service's.
    Service,
    /// A challenge, with the hidden fields of its form.
    Challenge(Fields),
    /// A page that goes on by itself.
    Later(Duration, String),
    /// To another page at once.
    Redirect(String),
    /// None of these: the visitor has to do something.
    Other,
}

/// The hidden fields that a form of ours sends back.
const FIELDS: [&str; 4] = ["token", "return_to", "carried", "preference"];

impl Reply {
    /// What it means.
    #[must_use]
    pub fn page(&self) -> Page {
        if self.headers.contains_key(FROM_SERVICE) {
            return Page::Service;
        }
        let location = self.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
        if let (true, Some(to)) = (self.status.is_redirection(), location) {
            return Page::Redirect(to.to_owned());
        }
        let text = String::from_utf8_lossy(&self.body);
        if field(&text, "token").is_some() {
            let field = |name: &&str| Some(((*name).to_owned(), field(&text, name)?));
            return Page::Challenge(FIELDS.iter().filter_map(field).collect());
        }
        match refresh(&text) {
            Some((seconds, to)) => Page::Later(Duration::from_secs(seconds), to),
            None => Page::Other,
        }
    }

    /// After how long the gate says that asking again makes sense.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// The value of a hidden field.
fn field(text: &str, name: &str) -> Option<String> {
    let rest = text.split_once(&format!("name=\"{name}\" value=\""))?.1;
    Some(unescaped(rest.split('"').next()?))
}

/// When and where a page goes on by itself.
fn refresh(text: &str) -> Option<(u64, String)> {
    let rest = text.split_once("http-equiv=\"refresh\" content=\"")?.1;
    let (seconds, to) = rest.split('"').next()?.split_once(";url=")?;
    Some((seconds.trim().parse().ok()?, unescaped(to)))
}

fn unescaped(text: &str) -> String {
    let escapes = [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    escapes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Form fields as a browser encodes them.
#[must_use]
pub fn form(fields: &[(String, String)]) -> String {
    let encoded = |text: &str| {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    out.push(char::from(byte));
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    };
    let pairs: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Reply { status, headers: map, body: body.to_owned().into() }
    }

    #[test]
    fn lines_are_tors() {
        let line = "PROXY TCP6 fc00:dead:beef:4dad::0:19 ::1 25 80\r\n";
        assert_eq!(proxy_line(25), line);
        assert!(proxy_line(0x0012_3456).contains("::12:3456 "));
    }

    #[test]
    fn pages_are_told_apart() {
        assert_eq!(reply(200, &[(FROM_SERVICE, "1")], "").page(), Page::Service);
        let to = reply(303, &[("location", "/p/1")], "").page();
        assert_eq!(to, Page::Redirect("/p/1".to_owned()));
        let challenge = "<input type=\"hidden\" name=\"token\" value=\"abc\">\
             <input type=\"hidden\" name=\"return_to\" value=\"/a?b&#38;c\">";
        let fields = [("token", "abc"), ("return_to", "/a?b&c")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(reply(403, &[], challenge).page(), Page::Challenge(fields));
        let queue =
            "<meta http-equiv=\"refresh\" content=\"7;url=/_fortify/turn?ticket=x&#38;to=%2F\">";
        let later =
            Page::Later(Duration::from_secs(7), "/_fortify/turn?ticket=x&to=%2F".to_owned());
        assert_eq!(reply(503, &[], queue).page(), later);
        let refused = reply(429, &[("retry-after", "9")], "");
        assert_eq!(
            (refused.page(), refused.retry_after()),
            (Page::Other, Some(Duration::from_secs(9)))
        );
    }

    #[test]
    fn jars_keep_and_forget() {
        let mut browser = Browser::new(([127, 0, 0, 1], 1).into(), 1);
        let set = [("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2; Max-Age=9")];
        browser.remember(&reply(200, &set, "").headers);
        assert_eq!(browser.cookies.len(), 2);
        browser.remember(&reply(200, &[("set-cookie", "a=; Max-Age=0")], "").headers);
        assert_eq!(browser.cookies.get("a"), None);
        assert_eq!(browser.cookies.get("b").map(String::as_str), Some("2"));
    }

    #[test]
    fn forms_are_encoded() {
        let fields = [("a".to_owned(), "x y&z".to_owned()), ("b".to_owned(), "/?".to_owned())];
        assert_eq!(form(&fields), "a=x%20y%26z&b=%2F%3F");
    }
}

//! `[storage]`: where state is kept, and how to reach Redis.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::{Host, Url};

/// Redis' port if a URL has none.
const DEFAULT_PORT: u16 = 6379;

/// The highest database number that is accepted; Redis has 16 by default.
const MAX_DATABASE: i64 = 9_999;

/// The longest path a unix socket can have on Linux, in bytes: `sun_path` less its final NUL.
const MAX_SOCKET_PATH: usize = 107;

/// `[storage]`: where state is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageConfig {
    /// `backend`: memory by default.
    pub backend: StorageBackend,
    /// `data_dir`: the directory of keys and databases, `/var/lib/fortify` by default.
    pub data_dir: PathBuf,
    /// The keys for `backend = "redis"`.
    pub redis: RedisConfig,
}

/// Where challenges, failures and revocations are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageBackend {
    /// In this process.
    #[default]
    Memory,
    /// In Redis or Valkey, for several nodes.
    Redis,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            backend: StorageBackend::default(),
            data_dir: PathBuf::from("/var/lib/fortify"),
            redis: RedisConfig::default(),
        }
    }
}

/// How to reach Redis or Valkey, for `storage.backend = "redis"`. It holds no secret: the password
/// is in a file and is read from there when a connection is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// `url` or `urls`: the server, or the nodes from which the others of a cluster are discovered;
    /// `redis://127.0.0.1:6379` by default. Never empty.
    pub servers: Vec<RedisServer>,
    /// `cluster`: whether they are nodes of a Redis Cluster; by default, whether `urls` is set.
    pub cluster: bool,
    /// `user`: the ACL user; Redis' own default user by default.
    pub user: Option<String>,
    /// `password_file`: a file that contains only the password; none by default.
    pub password_file: Option<PathBuf>,
    /// `tls_ca_file`, `tls_certificate_file` and `tls_key_file`, for TLS.
    pub tls: RedisTls,
    /// `prefix`: the prefix of all keys, `fortify` by default.
    pub prefix: KeyPrefix,
    /// `timeout_ms`: how long one operation may take, 200 ms.
    pub timeout: Duration,
    /// `wait_replicas`: how many replicas have a log-out, a ban or trust before it is acknowledged; 0 by default.
    pub wait_replicas: u32,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            servers: vec![RedisServer {
                address: RedisAddress::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port: DEFAULT_PORT,
                    tls: false,
                },
                database: 0,
            }],
            cluster: false,
            user: None,
            password_file: None,
            tls: RedisTls::default(),
            prefix: KeyPrefix::default(),
            timeout: Duration::from_millis(200),
            wait_replicas: 0,
        }
    }
}

/// Certificates for TLS, as the paths of PEM files: read when a connection is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// `tls_ca_file`: the authority of the server's certificate; the system's authorities by default.
    pub ca: Option<PathBuf>,
    /// `tls_certificate_file`: Fortify's client certificate; none by default.
    pub certificate: Option<PathBuf>,
    /// `tls_key_file`: the key of that certificate.
    pub key: Option<PathBuf>,
}

/// A server, and a database on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisServer {
    /// Where it listens.
    pub address: RedisAddress,
    /// The number of the database; 0 by default, and always 0 on a cluster.
    pub database: i64,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    /// A host name or an address, and a port.
    Tcp {
        /// The host; an IPv6 address has no brackets.
        host: String,
        /// The port; never 0.
        port: u16,
        /// Whether the connection uses TLS.
        tls: bool,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl RedisAddress {
    /// Whether the connection uses TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
}

impl RedisServer {
    /// Reads `redis://HOST:PORT/DATABASE`, the same with `rediss://` for TLS, or
    /// `unix:///PATH?db=DATABASE`.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to write instead. The text is never quoted, because it may contain a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let advice =
            "use redis://HOST:PORT, redis://HOST:PORT/DATABASE, rediss:// for TLS, or unix:///PATH";
        let fail = |what: &str| Err(format!("{what}, {advice}"));
        let Ok(url) = Url::parse(text) else { return fail("is no URL") };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user or a password: write the user into storage.user and the \
                        password into the file that storage.password_file names"
                .to_owned());
        }
        if url.fragment().is_some() {
            return fail("has a fragment");
        }
        match url.scheme() {
            "redis" | "rediss" => Self::tcp(&url).or_else(fail),
            "unix" => Self::unix(&url).or_else(fail),
            _ => fail("has another scheme than redis, rediss and unix"),
        }
    }

    fn tcp(url: &Url) -> Result<Self, &'static str> {
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) if !host.to_string().is_empty() => host.to_string(),
            _ => return Err("names no host"),
        };
        let port = url.port().unwrap_or(DEFAULT_PORT);
        if port == 0 {
            return Err("has port 0");
        }
        if url.query().is_some() {
            return Err("has a query");
        }
        let database = database(url.path().strip_prefix('/').unwrap_or_default())?;
        let tls = url.scheme() == "rediss";
        Ok(Self { address: RedisAddress::Tcp { host, port, tls }, database })
    }

    fn unix(url: &Url) -> Result<Self, &'static str> {
        if url.host().is_some_and(|host| !host.to_string().is_empty()) {
            return Err("needs three slashes before the path");
        }
        let path = percent_encoding::percent_decode_str(url.path())
            .decode_utf8()
            .map_err(|_not_text| "has a path that is not UTF-8")?;
        if !(2..=MAX_SOCKET_PATH).contains(&path.len()) || !path.starts_with('/') {
            return Err("has no path of at most 107 bytes");
        }
        let database = match url.query() {
            None => 0,
            Some(query) => database(query.strip_prefix("db=").ok_or("has a query but db=")?)?,
        };
        Ok(Self { address: RedisAddress::Unix(Path::new(&*path).to_owned()), database })
    }
}

fn database(text: &str) -> Result<i64, &'static str> {
    match text.parse() {
        _ if text.is_empty() => Ok(0),
        Ok(number @ 0..=MAX_DATABASE) => Ok(number),
        _ => Err("names a database that is no number from 0 to 9999"),
    }
}

impl fmt::Display for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            RedisAddress::Tcp { host, port, .. } if host.contains(':') => {
                write!(f, "[{host}]:{port}")
            }
            RedisAddress::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            RedisAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `storage.prefix`: the text before the first `:` of every key, up to 32 of `a-z`, `0-9`, `_` and `-`. No
/// character of it can be part of a pattern or a hash tag.
///
/// Empty, keys have no prefix: a challenge is `captcha:<token>`, the form of the requirements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// Reads a prefix.
    ///
    /// # Errors
    ///
    /// The text that it does not accept, and what to write instead.
    pub fn parse(text: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        match text.len() {
            0..=32 if text.bytes().all(plain) => Ok(Self(text)),
            _ => Err(format!(
                "{text:?} is no prefix, use up to 32 of a-z, 0-9, _ and -, or \"\" for none"
            )),
        }
    }

    /// The text, without the `:` that follows it in a key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key `name` under this prefix.
    pub(crate) fn key(&self, name: impl fmt::Display) -> String {
        match self.0.as_str() {
            "" => name.to_string(),
            prefix => format!("{prefix}:{name}"),
        }
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        Self("fortify".to_owned())
    }
}

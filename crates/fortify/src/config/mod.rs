//! The configuration: a file and the environment in, one checked [`Config`] out.
//!
//! # Layout
//!
//! - this file: the sections as the rest of the program sees them, with units and defaults;
//! - `raw`: the same sections as an operator may write them, every key optional;
//! - `load`: the file, the environment over it, and [`ConfigError`];
//! - `validate`: from raw to checked, with every problem collected;
//! - `changes`: what is otherwise in a file that is read again, and what waits for a restart;
//! - `shown`: what is in force, as text;
//! - `origin`: where each key came from, so that every problem names a line or a variable.
//!
//! The `config` crate is not used: it merges its sources into a tree that has forgotten the lines
//! of the file, and an operator at three in the morning wants the line.

mod changes;
mod load;
mod origin;
mod raw;
mod shown;
#[cfg(test)]
mod tests;
mod validate;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use fortify_captcha::{AnswerMode, Carrier, Variant};
use http::uri::Authority;

use crate::behaviour;
use crate::circuit::{IdentityMode, TrustedProxies};
use crate::haproxy::client::Endpoint;
use crate::haproxy::command::TableName;
use crate::limits::turnstile::Rate;
use crate::limits::waits::Waits;
use crate::reputation::conduct::Scoring;
use crate::threat::table::LevelOverride;
use crate::threat::{Mode, ThreatLevel};

pub use changes::{Change, Written, needs_restart};
pub use load::{ConfigError, ENVIRONMENT_PREFIX};
pub use shown::Keys;

pub use fortify_core::telemetry::logs::{LogConfig, LogFormat, LogLevel};
pub use fortify_store::config::{
    KeyPrefix, RedisAddress, RedisConfig, RedisServer, RedisTls, StorageBackend, StorageConfig,
};

/// Everything an operator can set, checked. [`Config::default`] is what runs without a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[server]`: where to listen and how long a client may take.
    pub server: ServerConfig,
    /// `[captcha]`: challenges.
    pub captcha: CaptchaConfig,
    /// `[session]`: what an admitted visitor holds.
    pub session: SessionConfig,
    /// `[security]`: who is asking, and what failures cost.
    pub security: SecurityConfig,
    /// `[limits]`: how much may be asked for.
    pub limits: LimitsConfig,
    /// `[reputation]`: how long circuits are favoured and refused.
    pub reputation: ReputationConfig,
    /// `[behaviour]`: what is done with what requests tell.
    pub behaviour: BehaviourConfig,
    /// `[haproxy]`: the table that is told.
    pub haproxy: HaproxyConfig,
    /// `[storage]`: where state lives.
    pub storage: StorageConfig,
    /// `[upstream]`: the service behind the gate.
    pub upstream: UpstreamConfig,
    /// `[tor]`: tor's control port.
    pub tor: TorConfig,
    /// `[threat]`: the dial.
    pub threat: ThreatConfig,
    /// `[admin]`: the operator's side.
    pub admin: AdminConfig,
    /// `[log]`: what is written about it.
    pub log: LogConfig,
}

impl Config {
    /// Where the operator's unix socket is; `None` where there is none.
    #[must_use]
    pub fn admin_socket(&self) -> Option<PathBuf> {
        match &self.admin.socket {
            AdminSocket::InDataDir => Some(self.storage.data_dir.join("admin.sock")),
            AdminSocket::At(path) => Some(path.clone()),
            AdminSocket::Off => None,
        }
    }
}

/// `[server]`: where to listen and how long a client may take.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// `host`: the address to bind, 127.0.0.1 by default.
    pub host: IpAddr,
    /// `port`: the TCP port, 10002 by default; 0 takes any free one.
    pub port: u16,
    /// `socket`: the path of a unix socket to bind in place of host and port; none by default.
    pub socket: Option<PathBuf>,
    /// `socket_mode`: the permission bits of that socket, 0o660 by default.
    pub socket_mode: u32,
    /// `proxy_protocol`: whether every connection opens with a PROXY v1 line; off by default.
    pub proxy_protocol: bool,
    /// `trusted_proxies`: the peers whose word about a visitor counts; this machine by default.
    pub trusted_proxies: TrustedProxies,
    /// `max_connections`: connections served at once, 4096 by default; more wait in the kernel.
    pub max_connections: usize,
    /// `header_timeout_seconds`: from the first byte of a request to the end of its headers, 10 s.
    pub header_timeout: Duration,
    /// `body_timeout_seconds`: how long a request body may stall, and how long one may take that
    /// hardly moves, 30 s.
    pub body_timeout: Duration,
    /// `idle_timeout_seconds`: between two requests, and for a write nobody reads, 30 s.
    pub idle_timeout: Duration,
    /// `drain_seconds`: what running requests get at shutdown, 10 s.
    pub drain: Duration,
    /// `operator_endpoints`: who may ask for `/ready` and `/metrics`.
    pub operator_endpoints: OperatorEndpoints,
}

/// Who may ask for `/ready` and `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OperatorEndpoints {
    /// The trusted proxies. The default: figures about visitors are nobody else's business.
    #[default]
    Local,
    /// Nobody.
    Off,
}

/// `[captcha]`: challenges.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptchaConfig {
    /// `ttl_seconds`: how long a challenge can be answered, 300 s.
    pub ttl: Duration,
    /// `difficulty`: `low`, `medium` and `high` are the levels 2, 5 and 8; 1 to 10, 2 by default.
    pub level: u8,
    /// `length`: characters of a typed answer, 6 by default.
    pub length: u8,
    /// `challenge_status`: the HTTP status of the challenge page, 403 by default.
    pub challenge_status: u16,
    /// `max_active`: challenges waiting for an answer, 100,000 by default.
    pub max_active: usize,
    /// `max_concurrent_renders`: pictures drawn or waiting to be drawn at once, 100 by default.
    pub max_concurrent_renders: usize,
    /// `mode`: how answers are given, `typed` by default.
    pub mode: AnswerMode,
    /// `variant_weights`: how often each task is asked, at every level; by default each level's own.
    pub variant_weights: Vec<(Variant, u32)>,
    /// `carrier_weights`: how often each carrier is used, at every level; by default each level's own.
    pub carrier_weights: Vec<(Carrier, u32)>,
    /// `drawn_ahead`: pictures kept ready, 64 by default (about 1 MB); 0 draws each when it is asked
    /// for.
    pub drawn_ahead: usize,
    /// `style_epoch_seconds`: how long pictures are drawn in one style, 86,400 s (a day).
    pub style_epoch: Duration,
    /// `max_active_per_circuit`: challenges of one circuit that wait for an answer, 3 by default;
    /// its oldest makes room.
    pub max_active_per_circuit: usize,
}

/// `[session]`: what an admitted visitor holds.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionConfig {
    /// `ttl_seconds`: how long a session lasts, 3600 s.
    pub ttl: Duration,
    /// `max_moves`: how often an hour a session may move to another circuit, 3 by default; 0 is
    /// never.
    pub max_moves: u32,
    /// `secure`: when the cookie carries `Secure`.
    pub secure: SecureCookie,
}

/// When the session cookie carries the attribute `Secure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecureCookie {
    /// Always. The default: browsers count onion and loopback addresses as trustworthy.
    #[default]
    On,
    /// Never.
    Off,
    /// Except on a plain-http host that is neither onion nor loopback.
    Auto,
}

/// `[security]`: who is asking, and what failures cost.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityConfig {
    /// `identity`: which source says who is asking; the circuit by default.
    pub identity: IdentityMode,
    /// `max_captcha_failures`: wrong answers from which on a circuit is banned for its waits, 5 by
    /// default.
    pub max_captcha_failures: u32,
    /// `reputation_decay_seconds`: after how long a failure is forgotten, 3600 s.
    pub reputation_decay: Duration,
}

/// `[limits]`: how much may be asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// `failure_waits_seconds`: how long a circuit waits after its first, second, ... wrong answer.
    pub failure_waits: Waits,
    /// `challenges_per_minute`: challenges of one circuit, 10 by default.
    pub challenges_per_minute: u32,
    /// `service_challenges_per_minute` and `service_challenges_per_second`: challenges of all circuits,
    /// 1,000 each by default; more wait in turn.
    pub service: Rate,
}

/// `[reputation]`: how long circuits are favoured and refused.
#[derive(Clone, Debug, PartialEq)]
pub struct ReputationConfig {
    /// `vip_seconds`: how long a circuit is favoured that answered a challenge, 1800 s.
    pub vip: Duration,
    /// `ban_seconds`: how long a circuit is refused whose conduct is a program's, 1800 s.
    pub ban: Duration,
    /// `failure_points`, `bot_points`, `ban_points`, `half_life_seconds`, `forget_seconds`,
    /// `suspicion`: what conduct costs.
    pub scoring: Scoring,
}

/// `[behaviour]`: what is done with what requests tell about their circuit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BehaviourConfig {
    /// `mode`: counted, told to whoever decides, or neither; `learn` by default.
    pub mode: behaviour::Mode,
}

/// `[haproxy]`: the table that is told how circuits stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HaproxyConfig {
    /// `socket` or `address`: `HAProxy`'s stats socket; none by default, and then no `HAProxy` is
    /// told anything.
    pub endpoint: Option<Endpoint>,
    /// `table`: the stick table of circuits, `tor_ingress` by default.
    pub table: TableName,
}

/// `[upstream]`: the service behind the gate.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    /// `url`: host and port of the service, reached over plain http; none by default, and then
    /// the gate answers only its own endpoints.
    pub authority: Option<Authority>,
    /// `connect_timeout_seconds`: to open a connection to it, 5 s.
    pub connect_timeout: Duration,
    /// `response_timeout_seconds`: from the last byte it was sent to the head of its answer, 60 s.
    pub response_timeout: Duration,
}

/// `[tor]`: tor's control port, which tells when tor starts anew and when circuits close.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TorConfig {
    /// `control`: where tor's control port is; none by default, and then it is not asked.
    pub control: Option<ControlAddress>,
    /// `cookie_file`: tor's `CookieAuthFile`; by default the one that tor names.
    pub cookie_file: Option<PathBuf>,
    /// `password_file`: a file that holds the password of `HashedControlPassword`, in place of the
    /// cookie; none by default.
    pub password_file: Option<PathBuf>,
    /// `instance`: which of several tor processes this gate stands behind, 0 by default; different
    /// for each where gates share keys and a store.
    pub instance: u16,
}

/// Where tor's control port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAddress {
    /// torrc's `ControlSocket`.
    Unix(PathBuf),
    /// torrc's `ControlPort`.
    Tcp(SocketAddr),
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// `[threat]`: the dial, and what each of its levels asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreatConfig {
    /// `mode`: who may turn it, `auto` by default.
    pub mode: Mode,
    /// `level`: where it starts and rests; that of `captcha.difficulty` by default.
    pub level: Option<ThreatLevel>,
    /// `levels`: what is otherwise than by default; nothing by default.
    pub levels: Vec<LevelOverride>,
}

/// `[admin]`: the operator's side: where it listens, and how hard it is to get in.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// `listen`: the address of the dashboard and the API, 127.0.0.1:10009 by default; none where it is
    /// written as "".
    pub listen: Option<SocketAddr>,
    /// `socket`: the unix socket of the command line.
    pub socket: AdminSocket,
    /// `allow_remote`: whether `listen` may be reached from other machines; not by default, because what
    /// is spoken there is plain http.
    pub allow_remote: bool,
    /// `idle_minutes`: after how long without a request a session ends, 15 minutes.
    pub idle: Duration,
    /// `session_minutes`: after how long every session ends, 12 hours.
    pub session: Duration,
    /// `login_tries`: wrong passwords for one account before it waits, 5.
    pub login_tries: u32,
    /// `login_tries_per_minute`: passwords that are looked at for all accounts together, 30.
    pub login_tries_per_minute: u32,
    /// `login_wait_seconds`: the longest wait that wrong passwords bring, 900 s.
    pub login_wait: Duration,
}

/// Where the operator's unix socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdminSocket {
    /// `admin.sock` in `storage.data_dir`. The default.
    #[default]
    InDataDir,
    /// Elsewhere.
    At(PathBuf),
    /// Nowhere.
    Off,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 10009))),
            socket: AdminSocket::default(),
            allow_remote: false,
            idle: Duration::from_secs(900),
            session: Duration::from_secs(43_200),
            login_tries: 5,
            login_tries_per_minute: 30,
            login_wait: Duration::from_secs(900),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 10002,
            socket: None,
            socket_mode: 0o660,
            proxy_protocol: false,
            trusted_proxies: TrustedProxies::default(),
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            operator_endpoints: OperatorEndpoints::default(),
        }
    }
}

impl Default for CaptchaConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            level: 2,
            length: 6,
            challenge_status: 403,
            max_active: 100_000,
            max_concurrent_renders: 100,
            max_active_per_circuit: 3,
            mode: AnswerMode::Typed,
            variant_weights: Vec::new(),
            carrier_weights: Vec::new(),
            drawn_ahead: 64,
            style_epoch: Duration::from_secs(86_400),
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(3600), max_moves: 3, secure: SecureCookie::default() }
    }
}

impl Default for SecurityConfig {
    fn default() -> Self {
        Self {
            identity: IdentityMode::default(),
            max_captcha_failures: 5,
            reputation_decay: Duration::from_secs(3600),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            failure_waits: Waits::default(),
            challenges_per_minute: 10,
            service: Rate { per_minute: 1000, per_second: 1000 },
        }
    }
}

impl Default for ReputationConfig {
    fn default() -> Self {
        Self {
            vip: Duration::from_secs(1800),
            ban: Duration::from_secs(1800),
            scoring: Scoring::default(),
        }
    }
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            authority: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
        }
    }
}

//! The configuration: a file and the environment in, one checked [`Config`] out.
//!
//! # Layout
//!
//! - this file: [`Config`], whose sections are structs of the crates that they configure, and the
//!   section of the admin interface;
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
mod problems;
mod raw;
mod shown;
#[cfg(test)]
mod tests;
mod validate;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use fortify_engine::EngineConfig;
use fortify_engine::threat::table::LevelOverride;
use fortify_haproxy::client::Endpoint;

pub use changes::{Change, WrittenConfig, needs_restart};
pub use load::ENVIRONMENT_PREFIX;
pub use problems::ConfigError;
pub use shown::Keys;

pub use fortify_core::telemetry::logs::{LogConfig, LogFormat, LogLevel};
pub use fortify_engine::config::{
    BehaviourConfig, CaptchaConfig, LimitsConfig, ReputationConfig, SecureCookie, SecurityConfig,
    SessionConfig, ThreatConfig,
};
pub use fortify_haproxy::config::HaproxyConfig;
pub use fortify_http::config::{OperatorEndpoints, ServerConfig, UpstreamConfig};
pub use fortify_store::config::{
    KeyPrefix, RedisAddress, RedisConfig, RedisServer, RedisTls, StorageBackend, StorageConfig,
};
pub use fortify_tor::config::{ControlAddress, TorConfig};

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
    /// `[reputation]`: how long circuits are trusted and refused.
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
    /// `[admin]`: the admin interface.
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

    /// The sections that the engine reads.
    #[must_use]
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            captcha: self.captcha.clone(),
            session: self.session.clone(),
            security: self.security.clone(),
            limits: self.limits.clone(),
            reputation: self.reputation.clone(),
            behaviour: self.behaviour.clone(),
            threat: self.threat.clone(),
        }
    }
}

/// `[admin]`: the admin interface: where it listens, and how hard it is to get in.
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

//! The configuration: a file and the environment in, one checked [`Config`] out.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - `raw`: the sections as written, every key optional.
//! - `origin`: the origin of each key, so that every problem names a line or a variable.
//! - this file: [`Config`], whose sections are structs of the crates that they configure, and the section of the
//!   admin interface.
//! - `problems`: [`ConfigError`], which lists all problems.
//! - `validate`: from raw to checked values.
//! - `changes`: differences between two configurations, and which of them need a restart.
//! - `shown`: the configuration in force, as text.
//! - `load`: reads the file and the environment.
//!
//! The `config` crate is not used: it merges its sources into a tree without the lines of the file, which errors
//! should name.

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
pub use fortify_http::config::{OperatorEndpoints, ServerConfig, UpstreamConfig, UpstreamServer};
pub use fortify_store::config::{
    KeyPrefix, RedisAddress, RedisConfig, RedisServer, RedisTls, StorageBackend, StorageConfig,
};
pub use fortify_tor::config::{ControlAddress, TorConfig};

/// The whole configuration, checked. [`Config::default`] is in force without a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[server]`: where to listen, and how long clients may take.
    pub server: ServerConfig,
    /// `[captcha]`: challenges.
    pub captcha: CaptchaConfig,
    /// `[session]`: sessions and their cookie.
    pub session: SessionConfig,
    /// `[security]`: how visitors are identified, and how failures count.
    pub security: SecurityConfig,
    /// `[limits]`: waits, and limits on challenges.
    pub limits: LimitsConfig,
    /// `[reputation]`: how circuits become trusted or banned, and for how long.
    pub reputation: ReputationConfig,
    /// `[behaviour]`: the analysis of requests.
    pub behaviour: BehaviourConfig,
    /// `[haproxy]`: the stick table of circuits.
    pub haproxy: HaproxyConfig,
    /// `[storage]`: where state is kept.
    pub storage: StorageConfig,
    /// `[upstream]`: the protected service.
    pub upstream: UpstreamConfig,
    /// `[tor]`: tor's control port.
    pub tor: TorConfig,
    /// `[threat]`: the threat level, and what each level requires.
    pub threat: ThreatConfig,
    /// `[admin]`: the admin interface.
    pub admin: AdminConfig,
    /// `[log]`: how much is logged, and in which format.
    pub log: LogConfig,
}

impl Config {
    /// The path of the admin socket; `None` if it is turned off.
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

/// `[admin]`: where the admin interface listens, and the limits of logins.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// `listen`: the address of the dashboard and the API, 127.0.0.1:10009 by default; `None` for "".
    pub listen: Option<SocketAddr>,
    /// `socket`: the unix socket of the command line.
    pub socket: AdminSocket,
    /// `allow_remote`: whether other machines may be able to reach `listen`; not by default, because it is plain
    /// http.
    pub allow_remote: bool,
    /// `idle_minutes`: how long a session lasts without a request, 15 minutes.
    pub idle: Duration,
    /// `session_minutes`: how long a session lasts in all, 12 hours.
    pub session: Duration,
    /// `login_tries`: wrong passwords for one account before it has to wait, 5.
    pub login_tries: u32,
    /// `login_tries_per_minute`: passwords that are checked for all accounts together, 30.
    pub login_tries_per_minute: u32,
    /// `login_wait_seconds`: the longest wait after wrong passwords, 900 s.
    pub login_wait: Duration,
}

/// The place of the admin socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdminSocket {
    /// `admin.sock` in `storage.data_dir`. The default.
    #[default]
    InDataDir,
    /// At this path.
    At(PathBuf),
    /// Turned off.
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

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

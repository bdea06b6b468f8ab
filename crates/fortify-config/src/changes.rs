//! The written keys, and their differences from those before a reload.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use toml::{Table, Value};

use super::{CaptchaConfig, Config, ReputationConfig, SecurityConfig, ServerConfig};
use fortify_reputation::answer_history::Scoring;

/// Keys that need a restart.
const AT_START: [&str; 18] = [
    "server.host",
    "server.port",
    "server.socket",
    "server.socket_mode",
    "server.proxy_protocol",
    "server.max_connections",
    "server.max_connections_per_circuit",
    "server.header_timeout_seconds",
    "server.body_timeout_seconds",
    "server.idle_timeout_seconds",
    "server.drain_seconds",
    "security.identity",
    "captcha.max_active",
    "captcha.max_active_per_circuit",
    "captcha.max_concurrent_renders",
    "captcha.drawn_ahead",
    "captcha.style_period_seconds",
    "reputation.forget_seconds",
];

/// Sections that need a restart.
const SECTIONS_AT_START: [&str; 5] = ["haproxy", "storage", "tor", "admin", "log"];

/// Whether a change of `key` (`section.key`) takes effect at the next start, and not before.
#[must_use]
pub fn needs_restart(key: &str) -> bool {
    let section = key.split('.').next().unwrap_or_default();
    AT_START.contains(&key) || SECTIONS_AT_START.contains(&section)
}

impl Config {
    /// `self`, but with the values of `running` for all keys that need a restart.
    #[must_use]
    pub fn until_restart(self, running: &Self) -> Self {
        let (server, captcha, scoring) = (self.server, self.captcha, self.reputation.scoring);
        Self {
            server: ServerConfig {
                trusted_proxies: server.trusted_proxies,
                operator_endpoints: server.operator_endpoints,
                ..running.server.clone()
            },
            captcha: CaptchaConfig {
                max_active: running.captcha.max_active,
                max_active_per_circuit: running.captcha.max_active_per_circuit,
                max_concurrent_renders: running.captcha.max_concurrent_renders,
                drawn_ahead: running.captcha.drawn_ahead,
                style_period: running.captcha.style_period,
                ..captcha
            },
            security: SecurityConfig { identity: running.security.identity, ..self.security },
            reputation: ReputationConfig {
                scoring: Scoring { forget: running.reputation.scoring.forget, ..scoring },
                ..self.reputation
            },
            haproxy: running.haproxy.clone(),
            storage: running.storage.clone(),
            tor: running.tor.clone(),
            admin: running.admin.clone(),
            log: running.log.clone(),
            ..self
        }
    }
}

/// The keys that were written, in the file or the environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrittenConfig(Table);

/// A key with another value than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// `section.key`.
    pub key: String,
    /// The value before; `None` for the default.
    pub from: Option<String>,
    /// The value now; `None` for the default.
    pub to: Option<String>,
}

impl Change {
    /// Whether it takes effect at the next start, and not before.
    #[must_use]
    pub fn needs_restart(&self) -> bool {
        needs_restart(&self.key)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "default".to_owned());
        write!(f, "{}: {} -> {}", self.key, word(&self.from), word(&self.to))
    }
}

impl WrittenConfig {
    pub(super) const fn new(table: Table) -> Self {
        Self(table)
    }

    /// `self`, but with the values of `former` for the keys of `changes`.
    #[must_use]
    pub fn but(mut self, former: &Self, changes: &[Change]) -> Self {
        for (section, key) in changes.iter().filter_map(|change| change.key.split_once('.')) {
            let before = former.0.get(section).and_then(|keys| keys.get(key)).cloned();
            let keys = self.0.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(keys) = keys else { continue };
            match before {
                Some(before) => drop(keys.insert(key.to_owned(), before)),
                None => drop(keys.remove(key)),
            }
        }
        self
    }

    /// The differences of `later` from `self`, by key.
    #[must_use]
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        let (before, after) = (self.keys(), later.keys());
        let mut keys: Vec<&String> = before.iter().chain(&after).map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        let find = |all: &[(String, String)], key: &str| {
            all.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
        };
        keys.into_iter()
            .map(|key| Change { key: key.clone(), from: find(&before, key), to: find(&after, key) })
            .filter(|change| change.from != change.to)
            .collect()
    }

    /// Every written key with its value as TOML.
    fn keys(&self) -> Vec<(String, String)> {
        let mut keys = Vec::new();
        for (section, value) in &self.0 {
            let Value::Table(table) = value else { continue };
            let written = table.iter();
            keys.extend(
                written.map(|(key, value)| (format!("{section}.{key}"), value.to_string())),
            );
        }
        keys
    }
}

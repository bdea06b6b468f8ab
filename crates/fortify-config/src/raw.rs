//! The sections as written: every key optional, unknown ones refused.
//!
//! Numbers are wide and words are text here, so that `validate` finds values out of range and can say what to use
//! instead, which the parser cannot.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Declares one section: all keys optional, none but these.
macro_rules! section {
    ($name:ident, $header:literal, { $($key:ident: $type:ty,)* }) => {
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[serde(expecting = $header)]
        pub(super) struct $name {
            $(pub(super) $key: Option<$type>,)*
        }

        impl $name {
            /// The keys of this section, for the test that the shipped file shows all of them.
            #[cfg(test)]
            pub(super) const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];
        }
    };
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) server: RawServer,
    pub(super) captcha: RawCaptcha,
    pub(super) session: RawSession,
    pub(super) security: RawSecurity,
    pub(super) limits: RawLimits,
    pub(super) reputation: RawReputation,
    pub(super) behaviour: RawBehaviour,
    pub(super) haproxy: RawHaproxy,
    pub(super) storage: RawStorage,
    pub(super) upstream: RawUpstream,
    pub(super) tor: RawTor,
    pub(super) threat: RawThreat,
    pub(super) admin: RawAdmin,
    pub(super) log: RawLog,
}

section!(RawServer, "a section headed [server]", {
    host: String,
    port: i64,
    socket: String,
    socket_mode: String,
    proxy_protocol: bool,
    trusted_proxies: Vec<String>,
    max_connections: i64,
    max_connections_per_circuit: i64,
    header_timeout_seconds: i64,
    body_timeout_seconds: i64,
    idle_timeout_seconds: i64,
    drain_seconds: i64,
    operator_endpoints: String,
});

section!(RawCaptcha, "a section headed [captcha]", {
    ttl_seconds: i64,
    difficulty: RawDifficulty,
    length: i64,
    challenge_status: i64,
    max_active: i64,
    max_concurrent_renders: i64,
    max_active_per_circuit: i64,
    mode: String,
    variant_weights: BTreeMap<String, i64>,
    carrier_weights: BTreeMap<String, i64>,
    drawn_ahead: i64,
    style_period_seconds: i64,
});

section!(RawSession, "a section headed [session]", {
    ttl_seconds: i64,
    max_moves: i64,
    secure: String,
    tunnel_grace_seconds: i64,
});

section!(RawSecurity, "a section headed [security]", {
    identity: String,
    max_captcha_failures: i64,
    reputation_decay_seconds: i64,
});

section!(RawLimits, "a section headed [limits]", {
    failure_waits_seconds: Vec<i64>,
    challenges_per_minute: i64,
    service_challenges_per_minute: i64,
    service_challenges_per_second: i64,
});

section!(RawReputation, "a section headed [reputation]", {
    vip_seconds: i64,
    ban_seconds: i64,
    failure_points: i64,
    bot_points: i64,
    ban_points: i64,
    half_life_seconds: i64,
    forget_seconds: i64,
    suspicion: bool,
});

section!(RawBehaviour, "a section headed [behaviour]", {
    mode: String,
});

section!(RawHaproxy, "a section headed [haproxy]", {
    socket_path: String,
    address: String,
    table_name: String,
});

section!(RawStorage, "a section headed [storage]", {
    backend: String,
    data_dir: String,
    url: String,
    urls: Vec<String>,
    cluster: bool,
    user: String,
    password_file: String,
    tls_ca_file: String,
    tls_certificate_file: String,
    tls_key_file: String,
    prefix: String,
    timeout_ms: i64,
    wait_replicas: i64,
});

section!(RawUpstream, "a section headed [upstream]", {
    url: String,
    urls: Vec<String>,
    tls_ca_file: String,
    connect_timeout_seconds: i64,
    response_timeout_seconds: i64,
    max_concurrent: i64,
});

section!(RawTor, "a section headed [tor]", {
    control: String,
    cookie_file: String,
    password_file: String,
    metrics_address: String,
    instance: i64,
});

section!(RawThreat, "a section headed [threat]", {
    mode: String,
    level: i64,
    on_change: Vec<String>,
    levels: Vec<RawLevel>,
});

section!(RawLevel, "a table headed [[threat.levels]]", {
    level: i64,
    variant_weights: BTreeMap<String, i64>,
    carrier_weights: BTreeMap<String, i64>,
    stages: i64,
    challenge_ttl_seconds: i64,
    challenges_per_hour: i64,
    session_ttl_seconds: i64,
    admits: String,
    pages_per_minute: i64,
    page_burst: i64,
    pages_per_session: i64,
    sessions_per_hour: i64,
    connections_per_circuit: i64,
});

section!(RawAdmin, "a section headed [admin]", {
    listen: String,
    socket: String,
    allow_remote: bool,
    idle_minutes: i64,
    session_minutes: i64,
    login_tries: i64,
    login_tries_per_minute: i64,
    login_wait_seconds: i64,
});

section!(RawLog, "a section headed [log]", {
    level: String,
    format: String,
});

/// `captcha.difficulty`: a word or a level.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "use \"low\", \"medium\", \"high\" or a level from 1 to 10")]
pub(super) enum RawDifficulty {
    /// A level.
    Level(i64),
    /// One of the words.
    Word(String),
}

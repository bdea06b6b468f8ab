//! The configuration sections of the engine, with units and defaults.

use std::time::Duration;

use fortify_captcha::{AnswerMode, Carrier, Variant};
use fortify_core::circuit::IdentityMode;

use crate::behaviour;
use crate::limits::waits::FailureWaits;
use crate::threat::table::LevelOverride;
use crate::threat::{Mode, ThreatLevel};
use fortify_core::allowance::Rate;
use fortify_reputation::answer_history::Scoring;

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
    /// `drawn_ahead`: pictures kept ready, 64 by default (about 1 MB); 0 draws each picture on request.
    pub drawn_ahead: usize,
    /// `style_period_seconds`: how long pictures are drawn in one style, 86,400 s (a day).
    pub style_period: Duration,
    /// `max_active_per_circuit`: challenges of one circuit that wait for an answer, 3 by default; a new one evicts
    /// the oldest.
    pub max_active_per_circuit: usize,
}

/// `[session]`: sessions of admitted visitors.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionConfig {
    /// `ttl_seconds`: how long a session lasts, 3600 s.
    pub ttl: Duration,
    /// `max_moves`: how many times per hour a session may move to another circuit, 3 by default; 0 forbids
    /// moving.
    pub max_moves: u32,
    /// `secure`: when the cookie carries `Secure`.
    pub secure: SecureCookie,
    /// `tunnel_grace_seconds`: how long a tunnel goes on after its session expired, 600 s.
    pub tunnel_grace: Duration,
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

/// `[security]`: how circuits are identified, and the consequences of failures.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityConfig {
    /// `identity`: the source of a request's circuit.
    pub identity: IdentityMode,
    /// `max_captcha_failures`: the number of wrong answers after which each wait of a circuit is also a ban, 5 by
    /// default.
    pub max_captcha_failures: u32,
    /// `reputation_decay_seconds`: how long a failure counts, 3600 s.
    pub reputation_decay: Duration,
}

/// `[limits]`: limits of requested challenges.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// `failure_waits_seconds`: how long a circuit waits after its first, second, ... wrong answer.
    pub failure_waits: FailureWaits,
    /// `challenges_per_minute`: challenges that one circuit may request, 10 by default.
    pub challenges_per_minute: u32,
    /// `service_challenges_per_minute` and `service_challenges_per_second`: challenges issued to all circuits
    /// together, 1,000 each by default; further requests wait in the queue.
    pub service: Rate,
}

/// `[reputation]`: how long circuits are trusted and banned.
#[derive(Clone, Debug, PartialEq)]
pub struct ReputationConfig {
    /// `vip_seconds`: how long a circuit is trusted after a right answer, 1800 s.
    pub vip: Duration,
    /// `ban_seconds`: how long a circuit is banned once its score reaches `ban_points`, 1800 s.
    pub ban: Duration,
    /// `failure_points`, `bot_points`, `ban_points`, `half_life_seconds`, `forget_seconds`,
    /// `suspicion`: the scoring of answers.
    pub scoring: Scoring,
}

/// `[behaviour]`: the use of behaviour findings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BehaviourConfig {
    /// `mode`: whether requests are counted, and whether findings influence decisions; `learn` by default.
    pub mode: behaviour::Mode,
}

/// `[threat]`: the dial, and the policy of each level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreatConfig {
    /// `mode`: who may change the level, `auto` by default.
    pub mode: Mode,
    /// `level`: the level at which the dial starts and rests; that of `captcha.difficulty` by default.
    pub level: Option<ThreatLevel>,
    /// `on_change`: a program and its arguments, called when the state of the site changes; none by default.
    pub on_change: Vec<String>,
    /// `levels`: overrides of the default policies; none by default.
    pub levels: Vec<LevelOverride>,
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
            style_period: Duration::from_secs(86_400),
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            max_moves: 3,
            secure: SecureCookie::default(),
            tunnel_grace: Duration::from_secs(600),
        }
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
            failure_waits: FailureWaits::default(),
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

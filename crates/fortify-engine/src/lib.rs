//! The decision engine: everything that is decided about visitors, behind a few verbs.
//!
//! ```text
//! identify(circuit, ..) -> Client                               unless the circuit is banned
//! check(client)         -> Admit(grant) | Challenge(requirement) | SlowDown
//! admit(client)         -> the same, and the session pays for the request
//! issue(client, ..)     -> Issued | Wait
//! answer(client, ..)    -> Granted(session) | Next(stage) | Wrong | Wait
//! explain(circuit)      -> everything known about a circuit, with reasons
//! ```
//!
//! Handlers, the admin interface and the command line parse a request, call one verb and render its result.
//! There is no other way to sessions, challenges, limits, reputation, behaviour and the threat level. Each
//! verb reads each fact once. The engine knows nothing about HTTP.
//!
//! # Layout
//!
//! In order of dependency, lowest first:
//!
//! - [`limits`]: how many challenges may be requested, and how long a circuit waits after wrong answers.
//! - [`session`]: signed session tokens and the keys that sign them.
//! - [`behaviour`]: what the requests of a circuit look like.
//! - [`threat`]: the threat level, and when it rises and falls.
//! - [`budget`]: how fast a session may request pages, and how many.
//! - [`challenge`]: issuing, drawing and checking challenges.
//! - [`config`]: the configuration sections of all of the above.
//! - [`decision`]: the decision about a request, computed from the facts; pure.
//! - [`metrics`]: the metrics of decisions and of the whole engine.
//! - `chain`, `ticket`: signed state that visitors carry: passed stages and queue positions.
//! - [`client`]: `identify`, and the record of a request for behaviour.
//! - [`check`](Engine::check), [`issue`], [`answer`], [`explain`]: the other verbs, one file each.
//! - `exchange`: admitted requests that are under way, and are cut when their session is ended.
//! - [`operator`]: what the admin interface reads and changes.
//! - `spend`: pays for requests that are admitted.
//! - [`upkeep`]: work between requests: closed circuits, rotated keys, the end of the learning period.

// Traffic shared by tests and benches uses paths that start with the crate's name.
#[cfg(test)]
extern crate self as fortify_engine;

pub mod answer;
pub mod behaviour;
pub mod budget;
mod chain;
pub mod challenge;
mod check;
pub mod client;
pub mod config;
pub mod decision;
mod exchange;
pub mod explain;
pub mod issue;
pub mod limits;
pub mod metrics;
pub mod operator;
#[cfg(any(test, feature = "test-support"))]
mod parts;
pub mod session;
mod spend;
pub mod threat;
pub mod ticket;
pub mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fortify_captcha::{FontError, Generator};

use crate::behaviour::Behaviour;
use crate::budget::Budgets;
use crate::challenge::policy::{ChallengeConfig, ChallengeMix};
use crate::challenge::render::Render;
use crate::challenge::renderer::RenderService;
use crate::challenge::style_cache::StyleCache;
use crate::challenge::{ChallengeError, ChallengeSettings, Challenges, FailurePolicy};
use crate::config::{
    BehaviourConfig, CaptchaConfig, LimitsConfig, ReputationConfig, SecurityConfig, SessionConfig,
    ThreatConfig,
};
use crate::limits::Limits;
use crate::metrics::EngineMetrics;
use crate::session::{SessionError, Sessions};
use crate::threat::table::{Basis, LevelPolicy, LevelTable};
use crate::threat::{Settings, Threat, ThreatLevel};
use chain::Chains;
use fortify_core::circuit::TorBoot;
use fortify_core::clock::Clock;
use fortify_core::damage::Damage;
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_core::pseudonym::Pseudonyms;
use fortify_core::sqlite::FileError;
use fortify_keys::{KeyRing, KeyRingError};
use fortify_reputation::answer_history::AnswerHistories;
use fortify_reputation::replication::Replication;
use fortify_reputation::{Reputation, ReputationError};
use fortify_store::{StateStore, StoreError};

pub use chain::{MAX_STAGE_COOKIES, STAGE_LIFETIME};
pub use exchange::Exchange;
#[cfg(any(test, feature = "test-support"))]
pub use parts::Parts;

/// The engine's configuration: its sections of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// `[captcha]`.
    pub captcha: CaptchaConfig,
    /// `[session]`.
    pub session: SessionConfig,
    /// `[security]`.
    pub security: SecurityConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[reputation]`.
    pub reputation: ReputationConfig,
    /// `[behaviour]`.
    pub behaviour: BehaviourConfig,
    /// `[threat]`.
    pub threat: ThreatConfig,
}

/// Everything that an [`Engine`] is built from.
pub struct Foundation {
    /// The directory that holds keys and databases.
    pub data_dir: PathBuf,
    /// The signing keys.
    pub keys: KeyRing,
    /// The store of state between requests.
    pub store: Arc<dyn StateStore>,
    /// Whether the store is shared with other nodes.
    pub shared: bool,
    /// The renderer of pictures.
    pub renderer: Arc<dyn Render>,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Returns the tor instance and generation that circuits belong to now.
    pub boot: Arc<dyn Fn() -> TorBoot + Send + Sync>,
    /// The engine's metrics.
    pub metrics: EngineMetrics,
    /// What the caller found damaged in its own files.
    pub found: Vec<Damage>,
}

/// The decision engine. Clones, and engines made by [`Engine::reconfigured`], share their state.
#[derive(Clone, Debug)]
pub struct Engine {
    config: EngineConfig,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    store: Arc<dyn StateStore>,
    keys: Arc<KeyRing>,
    pseudonyms: Pseudonyms,
    sessions: Arc<Sessions>,
    challenges: Arc<Challenges>,
    chains: Chains,
    limits: Arc<Limits>,
    reputation: Arc<Reputation>,
    answer_histories: Arc<AnswerHistories>,
    replication: Arc<Replication>,
    behaviour: Arc<Behaviour>,
    budgets: Arc<Budgets>,
    /// Held while answers and budgets are written.
    keeping: Arc<tokio::sync::Mutex<()>>,
    threat: Arc<Threat>,
    exchanges: Arc<exchange::Exchanges>,
    /// Damage of the files that have no other owner.
    found: Vec<Damage>,
    metrics: EngineMetrics,
}

/// The reason why an engine cannot be built. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EngineBuildError {
    /// The reputation database cannot be used.
    #[error(transparent)]
    Reputation(#[from] ReputationError),
    /// The database of the threat dial cannot be used.
    #[error(transparent)]
    Threat(#[from] FileError),
    /// No random key could be drawn.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The level is out of range: the configuration was not validated.
    #[error("captcha.difficulty is out of range")]
    Level,
}

/// The reason why a verb failed. No visitor is admitted on an error.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A session could not be created or checked.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A challenge could not be issued, drawn or checked.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// A value could not be signed.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// A circuit's status could not be stored.
    #[error(transparent)]
    Reputation(#[from] ReputationError),
}

/// Returns the renderer that a gate draws pictures with.
///
/// # Errors
///
/// Fails if the bundled fonts cannot be read, which means a broken build.
pub fn generator() -> Result<Arc<dyn Render>, FontError> {
    Ok(Arc::new(Generator::new()?))
}

impl Engine {
    /// Builds an engine from `config` and `foundation`.
    ///
    /// # Errors
    ///
    /// [`EngineBuildError`], with what to do.
    pub fn new(config: EngineConfig, foundation: Foundation) -> Result<Self, EngineBuildError> {
        let Foundation {
            data_dir,
            keys,
            store,
            shared,
            renderer,
            clock,
            entropy,
            boot,
            metrics,
            mut found,
        } = foundation;
        let keys = Arc::new(keys);
        let threat = Arc::new(Threat::open(
            &data_dir,
            config.dial()?,
            random_bytes(&*entropy)?,
            store.clone(),
            clock.clone(),
            metrics.threat.clone(),
        )?);
        let counted = metrics.challenge.clone();
        let styles = config.styles(renderer.clone(), &keys, &clock);
        let challenges = Challenges::new(
            Arc::new(RenderService::new(renderer, styles, counted.clone())),
            config.captcha.max_concurrent_renders,
            store.clone(),
            clock.clone(),
            entropy.clone(),
            counted,
            config.challenge_settings(&threat.policy()),
        );
        let queue: [[u8; 8]; 2] = [random_bytes(&*entropy)?, random_bytes(&*entropy)?];
        let queue = queue.map(u64::from_le_bytes);
        let (per_minute, service) = (config.limits.challenges_per_minute, config.limits.service);
        let limits = Limits::new(store.clone(), clock.clone(), per_minute, service, queue);
        let reputation = Arc::new(Reputation::open(&data_dir, clock.clone())?);
        let scoring = config.reputation.scoring;
        // Where nodes share them, they are read from the store.
        let histories = Arc::new(match shared {
            true => AnswerHistories::new(clock.clone(), scoring),
            false => AnswerHistories::open(&data_dir, clock.clone(), scoring),
        });
        let budgets = Budgets::from_files(shared, &data_dir, clock.now());
        found.extend(histories.damages().iter().copied().chain(budgets.damages()));
        let node = random_bytes(&*entropy)?;
        let boot = move || boot();
        let replication =
            Replication::new(&reputation, histories.clone(), clock.clone(), boot, node);
        let replication = Arc::new(replication);
        if shared {
            replication.enable();
            store.replicate(replication.clone());
        }
        let (since, learning_lost) = behaviour::watching_since(&data_dir, clock.now());
        found.extend(learning_lost);
        let mode = config.behaviour.mode;
        let counted = metrics.behaviour.clone();
        let behaviour = Behaviour::new(mode, since, clock.clone(), &*entropy, counted)?;
        let sessions = Sessions::new(
            keys.clone(),
            store.clone(),
            clock.clone(),
            entropy.clone(),
            config.session.ttl,
            config.session.max_moves,
        );
        sessions.set_lifetime(threat.policy().session_ttl);
        Ok(Self {
            pseudonyms: keys.pseudonyms(),
            sessions: Arc::new(sessions),
            challenges: Arc::new(challenges),
            chains: Chains::new(),
            limits: Arc::new(limits),
            behaviour: Arc::new(behaviour),
            budgets: Arc::new(budgets),
            keeping: Arc::default(),
            config,
            clock,
            entropy,
            store,
            keys,
            reputation,
            answer_histories: histories,
            replication,
            threat,
            exchanges: Arc::default(),
            found,
            metrics,
        })
    }

    /// Returns the same engine under `config`. The change takes effect at once, in shared state too.
    ///
    /// # Errors
    ///
    /// [`EngineBuildError`] if the dial cannot be written; then only the table of levels has changed.
    pub async fn reconfigured(&self, config: EngineConfig) -> Result<Self, EngineBuildError> {
        self.threat.reconfigure(config.dial()?).await?;
        let (ttl, max_moves) = (config.session.ttl, config.session.max_moves);
        let sessions = Arc::new(self.sessions.with_limits(ttl, max_moves));
        self.challenges.set_failure_policy(config.failure_policy());
        self.limits.set(config.limits.challenges_per_minute, config.limits.service);
        self.answer_histories.set_scoring(config.reputation.scoring);
        self.behaviour.set_mode(config.behaviour.mode);
        let engine = Self { config, sessions, ..self.clone() };
        engine.apply_level();
        Ok(engine)
    }

    /// Applies the threat level in force to challenges and sessions.
    pub fn apply_level(&self) {
        let policy = self.threat.policy();
        self.challenges.set_config(self.config.challenge_config(&policy));
        self.sessions.set_lifetime(policy.session_ttl);
    }

    /// The lifetime of a session granted now.
    #[must_use]
    pub fn session_lifetime(&self) -> Duration {
        self.sessions.lifetime()
    }

    /// The source of randomness.
    #[must_use]
    pub fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }

    /// The keys that sign cookies, forms and tickets.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The identifier that the protected service gets for a session. It does not reveal the cookie.
    #[must_use]
    pub fn subject(&self, session: &session::Session) -> String {
        self.pseudonyms.subject(session.id.to_bytes())
    }

    /// The protected service began to answer after this long, one of the signals of the threat level.
    pub fn upstream_answered(&self, took: Duration) {
        self.threat.signals().upstream_answered(took);
    }

    /// Counts a failure of the protected service, one of the signals of the threat level.
    pub fn upstream_failed(&self) {
        self.threat.signals().upstream_error();
    }
}

impl EngineConfig {
    /// The settings of the threat dial.
    ///
    /// # Errors
    ///
    /// [`EngineBuildError::Level`] if `captcha.difficulty` is out of range, which validation rules out.
    pub fn dial(&self) -> Result<Settings, EngineBuildError> {
        let (captcha, threat) = (&self.captcha, &self.threat);
        let basis = Basis {
            variants: captcha.variant_weights.clone(),
            carriers: captcha.carrier_weights.clone(),
            challenge_ttl: captcha.ttl,
            session_ttl: self.session.ttl,
        };
        let start =
            threat.level.or(ThreatLevel::new(captcha.level)).ok_or(EngineBuildError::Level)?;
        let table = LevelTable::new(&basis, &threat.levels);
        Ok(Settings { mode: threat.mode, start, table })
    }

    /// The styles that pictures are drawn in, under the key of this deployment.
    fn styles(
        &self,
        renderer: Arc<dyn Render>,
        keys: &KeyRing,
        clock: &Arc<dyn Clock>,
    ) -> StyleCache {
        StyleCache::new(renderer, clock.clone(), keys.style_secret(), self.captcha.style_period)
    }

    fn challenge_settings(&self, policy: &LevelPolicy) -> ChallengeSettings {
        ChallengeSettings {
            config: self.challenge_config(policy),
            pool: self.captcha.drawn_ahead,
            failure_policy: self.failure_policy(),
        }
    }

    /// The waits after wrong answers.
    fn failure_policy(&self) -> FailurePolicy {
        let decay = self.security.reputation_decay;
        FailurePolicy { waits: self.limits.failure_waits.clone(), decay }
    }

    /// The configuration of challenges at `policy`.
    fn challenge_config(&self, policy: &LevelPolicy) -> ChallengeConfig {
        let mix = ChallengeMix {
            level: policy.level.difficulty(),
            mode: self.captcha.mode,
            length: self.captcha.length,
            variants: policy.variants.clone(),
            carriers: policy.carriers.clone(),
        };
        ChallengeConfig { ttl: policy.challenge_ttl, mix }
    }
}

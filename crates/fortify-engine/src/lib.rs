//! The engine: everything that is decided about visitors, behind four verbs.
//!
//! ```text
//! identify(circuit, ..) -> Client                               who asks, unless it is banned
//! check(client)         -> Admit(grant) | Challenge(requirement)
//! issue(client, ..)     -> Issued | Wait
//! answer(client, ..)    -> Granted(session) | Next(stage) | Wrong | Wait
//! explain(circuit)      -> everything known, with reasons
//! ```
//!
//! Handlers, operators and the command line parse, call one verb and show what it says. Sessions,
//! challenges, limits, reputation, behaviour and the threat level are reached by no other road, and each
//! verb reads each fact once.
//!
//! # Layout
//!
//! In order of dependency; it knows nothing of HTTP:
//!
//! - [`limits`]: how often a circuit may ask, and how long it waits.
//! - [`session`]: what an admitted visitor holds.
//! - [`reputation`]: how circuits stand, and what they did.
//! - [`behaviour`]: what circuits do, and what that makes them look like.
//! - [`threat`]: the dial: how severe the gate is, and when it becomes so.
//! - [`challenge`]: challenges issued, drawn and judged.
//! - [`config`]: the configuration sections of all of these.
//! - [`metrics`]: what is counted of decisions, and all instruments of the engine.
//! - [`decision`]: what to do about a request, from all that is known of it; pure.
//! - [`client`]: `identify`, and what behaviour counts of a request.
//! - [`check`](Engine::check), [`issue`], [`answer`], [`explain`]: the verbs, a file each.
//! - `chain`, `ticket`: what visitors carry signed: stages of a chain, places in the queue.
//! - [`operator`]: what operators see and do.
//! - [`upkeep`]: circuits that are no more, keys that were rotated, the end of the learning period.

// Traffic that tests and benches share names things by their paths in `fortify`.
#[cfg(test)]
extern crate self as fortify_engine;

pub mod answer;
pub mod behaviour;
mod chain;
pub mod challenge;
mod check;
pub mod client;
pub mod config;
pub mod decision;
pub mod explain;
pub mod issue;
pub mod limits;
pub mod metrics;
pub mod operator;
#[cfg(any(test, feature = "test-support"))]
mod parts;
pub mod reputation;
pub mod session;
pub mod threat;
pub mod ticket;
pub mod upkeep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fortify_captcha::{FontError, Generator};

use crate::behaviour::Behaviour;
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
use crate::reputation::answer_history::AnswerHistories;
use crate::reputation::replication::Replication;
use crate::reputation::{Reputation, ReputationError};
use crate::session::key_ring::{KeyRing, KeyRingError};
use crate::session::{SessionError, Sessions};
use crate::threat::table::{Basis, LevelPolicy, LevelTable};
use crate::threat::{Settings, Threat, ThreatLevel};
use chain::Chains;
use fortify_core::circuit::TorBoot;
use fortify_core::clock::Clock;
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_core::pseudonym::Pseudonyms;
use fortify_core::sqlite::FileError;
use fortify_store::{StateStore, StoreError};

pub use chain::{MAX_STAGE_COOKIES, STAGE_LIFETIME};
#[cfg(any(test, feature = "test-support"))]
pub use parts::Parts;

/// What the configuration says to the engine: its sections, as they are in the file.
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

/// What an engine is made over.
pub struct Foundation {
    /// The directory of keys and databases.
    pub data_dir: PathBuf,
    /// The signing keys.
    pub keys: KeyRing,
    /// What is remembered between requests.
    pub store: Arc<dyn StateStore>,
    /// Whether other nodes share the store.
    pub shared: bool,
    /// Draws the pictures.
    pub renderer: Arc<dyn Render>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Between which two starts of which tor it is now.
    pub boot: Arc<dyn Fn() -> TorBoot + Send + Sync>,
    /// What is counted.
    pub metrics: EngineMetrics,
}

/// Decides about visitors. What outlives a change of the configuration is shared between the engine before
/// and the one after.
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
    threat: Arc<Threat>,
    metrics: EngineMetrics,
}

/// Why an engine cannot be made. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EngineBuildError {
    /// The file of reputation.
    #[error(transparent)]
    Reputation(#[from] ReputationError),
    /// The file of the threat dial.
    #[error(transparent)]
    Threat(#[from] FileError),
    /// The file that says since when behaviour is watched.
    #[error("{}: cannot read or write what is kept there: {}; check free space and that the user that runs Fortify may write there", .0.display(), .1)]
    Files(PathBuf, std::io::Error),
    /// No key for counting circuits.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The level of a configuration that was not validated.
    #[error("captcha.difficulty is out of range")]
    Level,
}

/// Why a verb was not carried out. None of these admits anybody.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A session could not be made or checked.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A challenge could not be issued, drawn or judged.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// The keys did not sign.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// A circuit's status could not be kept.
    #[error(transparent)]
    Reputation(#[from] ReputationError),
}

/// The generator of pictures that a gate draws with.
///
/// # Errors
///
/// When the bundled fonts cannot be read: a broken build.
pub fn generator() -> Result<Arc<dyn Render>, FontError> {
    Ok(Arc::new(Generator::new()?))
}

impl Engine {
    /// An engine by `config` over `foundation`.
    ///
    /// # Errors
    ///
    /// [`EngineBuildError`], with what to do.
    pub fn new(config: EngineConfig, foundation: Foundation) -> Result<Self, EngineBuildError> {
        let Foundation { data_dir, keys, store, shared, renderer, clock, entropy, boot, metrics } =
            foundation;
        let keys = Arc::new(keys);
        let threat = Arc::new(Threat::open(
            &data_dir,
            config.dial()?,
            random_bytes(&*entropy)?,
            store.clone(),
            clock.clone(),
            metrics.threat.clone(),
        )?);
        let challenges = config.challenges(
            renderer,
            &threat.policy(),
            (&keys, &store, &clock, &entropy, &metrics),
        );
        let queue = u64::from_le_bytes(random_bytes(&*entropy)?);
        let (per_minute, service) = (config.limits.challenges_per_minute, config.limits.service);
        let limits = Limits::new(store.clone(), clock.clone(), per_minute, service, queue);
        let reputation = Arc::new(Reputation::open(&data_dir, clock.clone())?);
        let histories = Arc::new(AnswerHistories::new(clock.clone(), config.reputation.scoring));
        let node = random_bytes(&*entropy)?;
        let boot = move || boot();
        let sharing = Replication::new(&reputation, histories.clone(), clock.clone(), boot, node);
        let sharing = Arc::new(sharing);
        if shared {
            sharing.enable();
            store.replicate(sharing.clone());
        }
        let behaviour = open_behaviour(&config, &data_dir, &clock, &*entropy, &metrics)?;
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
            config,
            clock,
            entropy,
            store,
            keys,
            reputation,
            answer_histories: histories,
            replication: sharing,
            threat,
            metrics,
        })
    }

    /// The same engine under `config`, by which the parts that are shared go on at once.
    ///
    /// # Errors
    ///
    /// [`EngineBuildError`] where the dial cannot be written; then `self` goes on as it is but for the
    /// dial's table.
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

    /// How long a session lasts that is earned now.
    #[must_use]
    pub fn session_lifetime(&self) -> Duration {
        self.sessions.lifetime()
    }

    /// Randomness.
    #[must_use]
    pub fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }

    /// The keys that sign what visitors carry.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The name by which the service behind the gate knows a session, without a way back to its cookie.
    #[must_use]
    pub fn subject(&self, session: &session::Session) -> String {
        self.pseudonyms.subject(session.id.to_bytes())
    }

    /// Counts that the protected service gave no answer, which the threat level follows.
    pub fn upstream_failed(&self) {
        self.threat.signals().upstream_error();
    }
}

fn open_behaviour(
    config: &EngineConfig,
    data_dir: &Path,
    clock: &Arc<dyn Clock>,
    entropy: &dyn Entropy,
    metrics: &EngineMetrics,
) -> Result<Behaviour, EngineBuildError> {
    let since = behaviour::watching_since(data_dir, clock.now())
        .map_err(|source| EngineBuildError::Files(data_dir.to_owned(), source))?;
    let mode = config.behaviour.mode;
    Ok(Behaviour::new(mode, since, clock.clone(), entropy, metrics.behaviour.clone())?)
}

impl EngineConfig {
    /// What it says about the dial.
    ///
    /// # Errors
    ///
    /// [`EngineBuildError::Level`] for a level that no validated configuration has.
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

    fn challenges(
        &self,
        renderer: Arc<dyn Render>,
        policy: &LevelPolicy,
        (keys, store, clock, entropy, metrics): (
            &KeyRing,
            &Arc<dyn StateStore>,
            &Arc<dyn Clock>,
            &Arc<dyn Entropy>,
            &EngineMetrics,
        ),
    ) -> Challenges {
        let captcha = &self.captcha;
        let (secret, epoch) = (keys.style_secret(), captcha.style_period);
        let styles = StyleCache::new(renderer.clone(), clock.clone(), secret, epoch);
        let render_service =
            Arc::new(RenderService::new(renderer, styles, metrics.challenge.clone()));
        let settings = ChallengeSettings {
            config: self.challenge_config(policy),
            pool: captcha.drawn_ahead,
            failure_policy: self.failure_policy(),
        };
        Challenges::new(
            render_service,
            captcha.max_concurrent_renders,
            store.clone(),
            clock.clone(),
            entropy.clone(),
            metrics.challenge.clone(),
            settings,
        )
    }

    /// What wrong answers cost.
    fn failure_policy(&self) -> FailurePolicy {
        let decay = self.security.reputation_decay;
        FailurePolicy { waits: self.limits.failure_waits.clone(), decay }
    }

    /// What `policy` makes of challenges.
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

//! The state of one gate, built once and shared by every request.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use fortify_captcha::{FontError, Generator};
use moka::sync::Cache;
use serde::Serialize;

use crate::behaviour::{self, Behaviour};
use crate::challenge::policy::{Menu, Terms};
use crate::challenge::renderer::{Draw, Studio};
use crate::challenge::wardrobe::Wardrobe;
use crate::challenge::{ChallengeSettings, Challenges, Failing};
use crate::circuit::TorBoot;
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, StorageBackend};
use crate::entropy::{Entropy, EntropyError, random_bytes};
use crate::haproxy::reconciler::Health;
use crate::i18n::{LocaleError, Locales};
use crate::limits::Limits;
use crate::proxy::Upstream;
use crate::pseudonym::Pseudonyms;
use crate::reputation::conduct::Conducts;
use crate::reputation::shared::Sharing;
use crate::reputation::{Reputation, ReputationError, ledger};
use crate::session::Sessions;
use crate::session::key_ring::{KeyRing, KeyRingError};
use crate::sqlite::FileError;
use crate::store::StateStore;
use crate::store::memory::{MemoryBounds, MemoryStore};
use crate::store::record::SessionId;
use crate::store::redis::RedisStore;
use crate::telemetry::metrics::Metrics;
use crate::threat::table::{Basis, LevelPolicy, LevelTable};
use crate::threat::{Settings, Threat, ThreatLevel, audit};
use crate::tor::{EpochError, Tor};

/// Rows of challenges that are remembered as done, and for how long: until their cookies have expired. The
/// store remembers them too, and for longer than it takes another node to hear of it.
const MAX_ROWS: u64 = 100_000;
const ROW_LIFETIME: Duration = Duration::from_secs(1000);

/// How requests hold the [`App`].
pub type SharedApp = Arc<App>;

/// Everything that a request may need. What outlives a change of the configuration is shared between the
/// one before and the one after.
#[derive(Clone, Debug)]
pub struct App {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// When it was built.
    pub started: Timestamp,
    /// What is remembered between requests.
    pub store: Arc<dyn StateStore>,
    /// The signing keys.
    pub keys: Arc<KeyRing>,
    /// How circuits are called.
    pub pseudonyms: Pseudonyms,
    /// Issues and judges challenges.
    pub challenges: Arc<Challenges>,
    /// How much may be asked for.
    pub limits: Arc<Limits>,
    /// Mints and checks sessions.
    pub sessions: Arc<Sessions>,
    /// How circuits answer.
    pub conducts: Arc<Conducts>,
    /// Rows of challenges that led to a session lately: each leads to one.
    pub rows: Cache<SessionId, ()>,
    /// How circuits stand.
    pub reputation: Arc<Reputation>,
    /// What the other nodes are told of both.
    pub sharing: Arc<Sharing>,
    /// The threat dial.
    pub threat: Arc<Threat>,
    /// What circuits do.
    pub behaviour: Arc<Behaviour>,
    /// How it goes with telling `HAProxy`.
    pub haproxy: Arc<Health>,
    /// The service behind the gate, in proxy mode.
    pub upstream: Option<Upstream>,
    /// Whether there is an operator's side that cannot be served, because of its file.
    pub operators_shut_out: Arc<AtomicBool>,
    /// Tor's control port, where it is asked.
    pub tor: Option<Arc<Tor>>,
    /// What visitors read.
    pub locales: Arc<Locales>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Why a gate cannot be built. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The signing keys.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// The store's files.
    #[error("{}: cannot read or write what is kept there: {}; check free space and that the user that runs Fortify may write there", .0.display(), .1)]
    Store(PathBuf, std::io::Error),
    /// The file of standings.
    #[error(transparent)]
    Reputation(#[from] ReputationError),
    /// The file of the threat dial.
    #[error(transparent)]
    Threat(#[from] FileError),
    /// No key for counting circuits.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The file that counts tor's starts.
    #[error(transparent)]
    Tor(#[from] EpochError),
    /// The bundled fonts: a broken build.
    #[error("the bundled fonts cannot be read: {0}")]
    Fonts(#[from] FontError),
    /// The bundled texts: a broken build.
    #[error(transparent)]
    Locales(#[from] LocaleError),
    /// The level of a configuration that was not validated.
    #[error("captcha.difficulty is out of range")]
    Level,
}

/// Whether the gate can do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The store answers.
    pub store: bool,
    /// A picture can be drawn.
    pub renderer: bool,
    /// Whether `HAProxy` is told. Without it requests go on and bans count here, so that this does
    /// not make the gate unready.
    pub haproxy: HaproxyState,
    /// Whether bans outlive this process. They are in force either way, so that this does not make the
    /// gate unready.
    pub reputation: LedgerState,
    /// The files that were damaged, and are new ones, since this gate started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub begun_anew: Vec<&'static str>,
    /// Whether operators are shut out because their file cannot be used. Visitors are served.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub operators_shut_out: bool,
    /// Where tor is watched: whether it answers. Requests go on without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tor: Option<TorStanding>,
}

/// How it goes with telling `HAProxy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HaproxyState {
    /// None is configured.
    Off,
    /// Its table is kept as wanted.
    Ok,
    /// It is not reached, or refuses; what is wanted waits.
    Degraded,
}

/// How it goes with the file of standings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerState {
    /// What is acknowledged is on disk.
    Ok,
    /// The disk takes nothing; bans and favours are in memory until it does.
    Degraded,
}

/// Whether tor's control port answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TorStanding {
    /// It does, and circuits have the epoch of this start of tor.
    Up,
    /// It does not: circuits have a provisional epoch, and the log says why.
    Degraded,
}

impl Readiness {
    /// Whether the gate can do its work; it can without tor's word.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.store && self.renderer
    }
}

impl App {
    /// Builds the gate that `config` describes.
    ///
    /// # Errors
    ///
    /// [`BuildError`] with what to do.
    pub fn build(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<SharedApp, BuildError> {
        let data_dir = &config.storage.data_dir;
        let keys = KeyRing::open(data_dir, &*clock, &*entropy)?;
        let store: Arc<dyn StateStore> = match config.storage.backend {
            StorageBackend::Memory => {
                let bounds = MemoryBounds {
                    challenges: config.captcha.max_active as u64,
                    challenges_per_circuit: config.captcha.max_active_per_circuit,
                };
                let store = MemoryStore::open(clock.clone(), bounds, data_dir);
                Arc::new(store.map_err(|source| BuildError::Store(data_dir.clone(), source))?)
            }
            StorageBackend::Redis => {
                let (redis, most) = (&config.storage.redis, config.captcha.max_active_per_circuit);
                let store = RedisStore::open(clock.clone(), entropy.clone(), redis, most, data_dir);
                Arc::new(store.map_err(|source| BuildError::Store(data_dir.clone(), source))?)
            }
        };
        Self::over(config, keys, store, Arc::new(Generator::new()?), clock, entropy)
    }

    /// As [`Self::build`], over keys, a store and a drawer that the caller made.
    ///
    /// # Errors
    ///
    /// As [`Self::build`].
    pub fn over(
        config: Arc<Config>,
        keys: KeyRing,
        store: Arc<dyn StateStore>,
        drawer: Arc<dyn Draw>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<SharedApp, BuildError> {
        let keys = Arc::new(keys);
        let metrics = Arc::new(Metrics::new());
        metrics.set_started(clock.now());
        let captcha = &config.captcha;
        let threat = Arc::new(Threat::open(
            &config.storage.data_dir,
            dial_settings(&config)?,
            random_bytes(&*entropy)?,
            store.clone(),
            clock.clone(),
            metrics.engine.threat.clone(),
        )?);
        let settings = ChallengeSettings {
            terms: terms(&config, &threat.policy()),
            pool: captcha.drawn_ahead,
            failing: failing(&config),
        };
        let reputation = Arc::new(Reputation::open(&config.storage.data_dir, clock.clone())?);
        let (secret, epoch) = (keys.style_secret(), captcha.style_epoch);
        let wardrobe = Wardrobe::new(drawer.clone(), clock.clone(), secret, epoch);
        let studio = Arc::new(Studio::new(drawer, wardrobe, metrics.engine.challenge.clone()));
        let challenges = Challenges::new(
            studio,
            captcha.max_concurrent_renders,
            store.clone(),
            clock.clone(),
            entropy.clone(),
            metrics.engine.challenge.clone(),
            settings,
        );
        let (circuit, service) = (config.limits.challenges_per_minute, config.limits.service);
        let queue = u64::from_le_bytes(random_bytes(&*entropy)?);
        let limits = Limits::new(store.clone(), clock.clone(), circuit, service, queue);
        let conducts = Arc::new(Conducts::new(clock.clone(), config.reputation.scoring));
        let (mode, counted) = (config.behaviour.mode, metrics.engine.behaviour.clone());
        let data_dir = &config.storage.data_dir;
        let since = behaviour::watching_since(data_dir, clock.now())
            .map_err(|source| BuildError::Store(data_dir.clone(), source))?;
        let behaviour = Behaviour::new(mode, since, clock.clone(), &*entropy, counted)?;
        let (ttl, max_moves) = (config.session.ttl, config.session.max_moves);
        let (watched, seeds) = (metrics.tor.clone(), entropy.clone());
        let tor = Tor::open(&config.tor, data_dir, clock.clone(), seeds, watched)?;
        let boot = boots(tor.clone(), config.tor.instance);
        let (counted, node) = (conducts.clone(), random_bytes(&*entropy)?);
        let sharing = Sharing::new(&reputation, counted, clock.clone(), boot, node);
        let sharing = Arc::new(sharing);
        if config.storage.backend == StorageBackend::Redis {
            sharing.begin();
            store.share(sharing.clone());
        }
        let sessions = Sessions::new(
            keys.clone(),
            store.clone(),
            clock.clone(),
            entropy.clone(),
            ttl,
            max_moves,
        );
        sessions.set_lifetime(threat.policy().session_ttl);
        Ok(Arc::new(Self {
            upstream: Upstream::new(&config.upstream),
            reputation,
            sharing,
            threat,
            behaviour: Arc::new(behaviour),
            haproxy: Arc::default(),
            operators_shut_out: Arc::default(),
            locales: Arc::new(Locales::load()?),
            pseudonyms: keys.pseudonyms(),
            tor,
            started: clock.now(),
            config,
            clock,
            entropy,
            store,
            keys,
            challenges: Arc::new(challenges),
            limits: Arc::new(limits),
            conducts,
            rows: Cache::builder().max_capacity(MAX_ROWS).time_to_live(ROW_LIFETIME).build(),
            sessions: Arc::new(sessions),
            metrics,
        }))
    }

    /// The same gate under `config`, of which the parts that are shared go on by it at once. Keys that
    /// only a start reads ([`crate::config::needs_restart`]) must be as before.
    ///
    /// # Errors
    ///
    /// [`BuildError`] where the dial cannot be written; then `self` goes on as it is but for the dial's
    /// table.
    pub async fn reconfigured(&self, config: Arc<Config>) -> Result<SharedApp, BuildError> {
        self.threat.reconfigure(dial_settings(&config)?).await?;
        let upstream = match config.upstream == self.config.upstream {
            true => self.upstream.clone(),
            false => Upstream::new(&config.upstream),
        };
        let (ttl, max_moves) = (config.session.ttl, config.session.max_moves);
        let sessions = Arc::new(self.sessions.lasting(ttl, max_moves));
        self.challenges.set_failing(failing(&config));
        self.limits.set(config.limits.challenges_per_minute, config.limits.service);
        self.conducts.set_scoring(config.reputation.scoring);
        self.behaviour.set_mode(config.behaviour.mode);
        let app = Self { config, upstream, sessions, ..self.clone() };
        app.follow_dial();
        Ok(Arc::new(app))
    }

    /// Has challenges and sessions be what the level in force asks.
    pub fn follow_dial(&self) {
        let policy = self.threat.policy();
        self.challenges.set_terms(terms(&self.config, &policy));
        self.sessions.set_lifetime(policy.session_ttl);
    }

    /// What may be drawn at `level`, by the configuration in force.
    #[must_use]
    pub fn menu_at(&self, level: ThreatLevel) -> Menu {
        terms(&self.config, &self.threat.policy_at(level)).menu
    }

    /// The status of a page that stands in for the one that was asked for.
    #[must_use]
    pub fn challenge_status(&self) -> StatusCode {
        StatusCode::from_u16(self.config.captcha.challenge_status).unwrap_or(StatusCode::FORBIDDEN)
    }

    /// Whether the gate can do its work now.
    pub async fn readiness(&self) -> Readiness {
        Readiness {
            store: self.store.ping().await.is_ok(),
            renderer: self.challenges.is_warm().await,
            haproxy: match self.config.haproxy.endpoint {
                None => HaproxyState::Off,
                Some(_) if self.haproxy.is_up() => HaproxyState::Ok,
                Some(_) => HaproxyState::Degraded,
            },
            reputation: match self.reputation.is_degraded() {
                true => LedgerState::Degraded,
                false => LedgerState::Ok,
            },
            begun_anew: self.begun_anew(),
            operators_shut_out: self.operators_shut_out.load(Ordering::Relaxed),
            tor: self.tor.as_ref().map(|tor| match tor.is_up() {
                true => TorStanding::Up,
                false => TorStanding::Degraded,
            }),
        }
    }

    /// The files that were damaged, and are new ones, since this gate started.
    #[must_use]
    pub fn begun_anew(&self) -> Vec<&'static str> {
        let files = [
            (ledger::FILE_NAME, self.reputation.was_begun_anew()),
            (audit::FILE_NAME, self.threat.was_begun_anew()),
        ];
        files.into_iter().filter(|(_, anew)| *anew).map(|(name, _)| name).collect()
    }

    /// Between which two starts of which tor a request arrives now: to be read once for each.
    #[must_use]
    pub fn boot(&self) -> TorBoot {
        boots(self.tor.clone(), self.config.tor.instance)()
    }
}

/// Between which two starts of which tor it is now.
fn boots(tor: Option<Arc<Tor>>, instance: u16) -> impl Fn() -> TorBoot {
    move || {
        let unwatched = TorBoot { instance, epoch: 0 };
        tor.as_ref().map_or(unwatched, |tor| tor.boot())
    }
}

/// What the configuration says about the dial.
pub(crate) fn dial_settings(config: &Config) -> Result<Settings, BuildError> {
    let (captcha, threat) = (&config.captcha, &config.threat);
    let basis = Basis {
        variants: captcha.variant_weights.clone(),
        carriers: captcha.carrier_weights.clone(),
        challenge_ttl: captcha.ttl,
        session_ttl: config.session.ttl,
    };
    let start = threat.level.or(ThreatLevel::new(captcha.level)).ok_or(BuildError::Level)?;
    let table = LevelTable::new(&basis, &threat.levels);
    Ok(Settings { mode: threat.mode, start, table })
}

/// What wrong answers cost.
fn failing(config: &Config) -> Failing {
    let decay = config.security.reputation_decay;
    Failing { waits: config.limits.failure_waits.clone(), decay }
}

/// What `policy` makes of challenges.
fn terms(config: &Config, policy: &LevelPolicy) -> Terms {
    let menu = Menu {
        level: policy.level.difficulty(),
        mode: config.captcha.mode,
        length: config.captcha.length,
        variants: policy.variants.clone(),
        carriers: policy.carriers.clone(),
    };
    Terms { ttl: policy.challenge_ttl, menu }
}

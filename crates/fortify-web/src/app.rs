//! The state of one gate, built once and shared by every request.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use fortify_captcha::FontError;
use serde::Serialize;

use crate::answers::Answers;
use crate::i18n::{LocaleError, Locales};
use crate::maintenance::MaintenanceSwitch;
use crate::metrics::Metrics;
use fortify_config::{Config, StorageBackend};
use fortify_core::circuit::TorBoot;
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::damage::Damage;
use fortify_core::entropy::Entropy;
use fortify_engine::challenge::render::Render;
use fortify_engine::operator::Health;
use fortify_engine::{Engine, EngineBuildError, Foundation, generator};
use fortify_haproxy::reconciler;
use fortify_http::proxy::{TlsError, Upstream};
use fortify_keys::{KeyRing, KeyRingError};
use fortify_store::StateStore;
use fortify_store::memory::{MemoryBounds, MemoryStore};
use fortify_store::redis::RedisStore;
use fortify_tor::figures::MetricsPort;
use fortify_tor::{GenerationError, Tor};

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
    /// When it was built.
    pub started: Timestamp,
    /// Decides about visitors.
    pub engine: Arc<Engine>,
    /// How it goes with telling `HAProxy`.
    pub haproxy: Arc<reconciler::Health>,
    /// The service behind the gate, in proxy mode.
    pub upstream: Option<Upstream>,
    /// Whether there is an admin interface that cannot be served, because of its file.
    pub admin_unavailable: Arc<AtomicBool>,
    /// What the admin interface's file lost, found when it was opened.
    pub admin_damages: Arc<OnceLock<Vec<Damage>>>,
    /// Whether visitors are told that the site is being worked on.
    pub maintenance: Arc<MaintenanceSwitch>,
    /// Tor's control port, where it is asked.
    pub tor: Option<Arc<Tor>>,
    /// Tor's metrics port, where it is read.
    pub tor_metrics: Option<Arc<MetricsPort>>,
    /// The answers that are being checked.
    pub answers: Arc<Answers>,
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
    /// The store.
    #[error("{}: cannot read or write what is kept there: {}; check free space and that the user that runs Fortify may write there", .0.display(), .1)]
    Store(PathBuf, std::io::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineBuildError),
    /// The file that counts tor's starts.
    #[error(transparent)]
    Tor(#[from] GenerationError),
    /// TLS to the service.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The bundled fonts: a broken build.
    #[error("the bundled fonts cannot be read: {0}")]
    Fonts(#[from] FontError),
    /// The bundled texts: a broken build.
    #[error(transparent)]
    Locales(#[from] LocaleError),
}

/// Whether the gate can do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The store answers.
    pub store: bool,
    /// A picture can be drawn.
    pub renderer: bool,
    /// Whether `HAProxy` receives changes. Without it requests are served and bans apply here, so this does not make
    /// the gate unready.
    pub haproxy: ComponentHealth,
    /// Whether bans outlive this process. They are in force either way, so that this does not make the
    /// gate unready.
    pub reputation: ComponentHealth,
    /// Degraded while another node signs with other keys: each refuses the other's sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<ComponentHealth>,
    /// The files that were damaged, and are new ones, since this gate started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recreated: Vec<&'static str>,
    /// The files that were found damaged since this gate started, and how many records each lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Damage>,
    /// Whether operators are shut out because their file cannot be used. Visitors are served.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub admin_unavailable: bool,
    /// In proxy mode: whether the protected service accepts connections. Without it the gate is as ready as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<ComponentHealth>,
    /// Where tor is watched: whether it answers. Requests go on without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tor: Option<ComponentHealth>,
    /// Where tor's own figures are read: whether they can be. Without them only the dial knows less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tor_metrics: Option<ComponentHealth>,
}

/// The health of a component that the gate can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ComponentHealth {
    /// Not configured.
    Off,
    /// It works.
    Ok,
    /// It does not work; what it should do waits.
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
                Arc::new(MemoryStore::open(clock.clone(), bounds, data_dir))
            }
            StorageBackend::Redis => {
                let (redis, most) = (&config.storage.redis, config.captcha.max_active_per_circuit);
                let store = RedisStore::open(clock.clone(), entropy.clone(), redis, most, data_dir);
                Arc::new(store.map_err(|source| BuildError::Store(data_dir.clone(), source))?)
            }
        };
        Self::over(config, keys, store, generator()?, clock, entropy)
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
        renderer: Arc<dyn Render>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<SharedApp, BuildError> {
        let metrics = Arc::new(Metrics::new());
        let data_dir = config.storage.data_dir.clone();
        let (watched, seeds) = (metrics.tor.clone(), entropy.clone());
        let tor = Tor::open(&config.tor, &data_dir, clock.clone(), seeds, watched)?;
        let (maintenance, unknown) = MaintenanceSwitch::open(&data_dir);
        let found = tor.as_ref().and_then(|tor| tor.damage()).into_iter().chain(unknown);
        let foundation = Foundation {
            data_dir,
            keys,
            store,
            shared: config.storage.backend == StorageBackend::Redis,
            renderer,
            clock: clock.clone(),
            entropy,
            boot: Arc::new(boots(tor.clone(), config.tor.instance)),
            metrics: metrics.engine.clone(),
            found: found.collect(),
        };
        let engine = Engine::new(config.engine(), foundation)?;
        Ok(Arc::new(Self {
            upstream: Upstream::new(&config.upstream, metrics.upstream.clone())?,
            haproxy: Arc::default(),
            answers: Arc::default(),
            admin_unavailable: Arc::default(),
            admin_damages: Arc::default(),
            maintenance: Arc::new(maintenance),
            locales: Arc::new(Locales::load()?),
            started: clock.now(),
            engine: Arc::new(engine),
            tor_metrics: (config.tor.metrics_address)
                .map(|address| MetricsPort::new(address, metrics.tor.clone())),
            tor,
            config,
            clock,
            metrics,
        }))
    }

    /// The same gate under `config`, of which the parts that are shared go on by it at once. Keys that
    /// only a start reads ([`fortify_config::needs_restart`]) must be as before.
    ///
    /// # Errors
    ///
    /// [`BuildError`] where the dial cannot be written; then `self` goes on as it is but for the dial's
    /// table.
    pub async fn reconfigured(&self, config: Arc<Config>) -> Result<SharedApp, BuildError> {
        let engine = Arc::new(self.engine.reconfigured(config.engine()).await?);
        let upstream = match config.upstream == self.config.upstream {
            true => self.upstream.clone(),
            false => Upstream::new(&config.upstream, self.metrics.upstream.clone())?,
        };
        Ok(Arc::new(Self { config, upstream, engine, ..self.clone() }))
    }

    /// The status of a page that stands in for the one that was asked for.
    #[must_use]
    pub fn challenge_status(&self) -> StatusCode {
        StatusCode::from_u16(self.config.captcha.challenge_status).unwrap_or(StatusCode::FORBIDDEN)
    }

    /// Whether the service behind the gate accepts no connections. Always `false` where another server forwards
    /// requests.
    #[must_use]
    pub fn service_is_down(&self) -> bool {
        self.upstream.as_ref().is_some_and(Upstream::is_down)
    }

    /// What the admin interface's file lost.
    pub fn admin_damages(&self) -> impl Iterator<Item = Damage> {
        self.admin_damages.get().into_iter().flatten().copied()
    }

    /// Whether the gate can do its work now.
    pub async fn readiness(&self) -> Readiness {
        let health = self.engine.health().await;
        let Health { store, renderer, reputation, foreign_keys, recreated, damaged } = health;
        Readiness {
            store,
            renderer,
            haproxy: match self.config.haproxy.endpoint {
                None => ComponentHealth::Off,
                Some(_) if self.haproxy.is_up() => ComponentHealth::Ok,
                Some(_) => ComponentHealth::Degraded,
            },
            reputation: if reputation { ComponentHealth::Ok } else { ComponentHealth::Degraded },
            keys: foreign_keys.then_some(ComponentHealth::Degraded),
            recreated,
            damaged: Damage::by_file(damaged.into_iter().chain(self.admin_damages())),
            admin_unavailable: self.admin_unavailable.load(Ordering::Relaxed),
            upstream: self.upstream.as_ref().map(|upstream| match upstream.is_down() {
                false => ComponentHealth::Ok,
                true => ComponentHealth::Degraded,
            }),
            tor: self.tor.as_ref().map(|tor| match tor.is_up() {
                true => ComponentHealth::Ok,
                false => ComponentHealth::Degraded,
            }),
            tor_metrics: self.tor_metrics.as_ref().map(|port| match port.is_up() {
                true => ComponentHealth::Ok,
                false => ComponentHealth::Degraded,
            }),
        }
    }

    /// Between which two starts of which tor a request arrives now: to be read once for each.
    #[must_use]
    pub fn boot(&self) -> TorBoot {
        boots(self.tor.clone(), self.config.tor.instance)()
    }
}

/// Between which two starts of which tor it is now.
fn boots(tor: Option<Arc<Tor>>, instance: u16) -> impl Fn() -> TorBoot + Send + Sync {
    move || {
        let unwatched = TorBoot { instance, generation: 0 };
        tor.as_ref().map_or(unwatched, |tor| tor.boot())
    }
}

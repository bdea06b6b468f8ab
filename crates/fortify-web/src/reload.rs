//! The configuration, read again while the gate runs.
//!
//! It is validated whole. What is wrong leaves everything as it is; what is right is in force for every
//! request that comes from then on, at once, and those under way end as they began. Some keys only a
//! start reads: they are named, and stay as they were.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use fortify_core::telemetry::instruments::ByOutcome;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;
use tower::util::Oneshot;
use tower::{Service, ServiceExt as _};

use crate::app::{BuildError, SharedApp};
use crate::router::router;
use fortify_config::{Change, Config, ConfigError, WrittenConfig};

/// Reads the configuration: the file and the environment that the gate was started with.
pub type Source = Box<dyn Fn() -> Result<(Config, WrittenConfig), ConfigError> + Send + Sync>;

/// Why the configuration is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It was not started from a file.
    #[error("no configuration file to reload; restart Fortify with --config")]
    NoSource,
    /// The configuration is not valid.
    #[error("the configuration was not reloaded: {0}")]
    Invalid(#[from] ConfigError),
    /// It could not be put in force.
    #[error("the configuration was not reloaded: {0}")]
    Build(#[from] BuildError),
    /// What changes could not be written down.
    #[error("the configuration was not reloaded: the change cannot be written down: {0}")]
    Record(String),
    /// Reading it ended with a panic.
    #[error("the configuration was not reloaded: reading it failed; please report this")]
    Panicked,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reloaded {
    /// Keys that have another value now.
    pub applied: Vec<Change>,
    /// Keys whose new value takes effect at the next start.
    pub at_restart: Vec<Change>,
}

/// What is counted of changes of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ReloadMetrics {
    reads: Family<ByOutcome, Counter>,
}

impl ReloadMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "config_reloads",
            "Times that the configuration was read again, by outcome",
            metrics.reads.clone(),
        );
        metrics
    }

    /// The configuration was read again, or was not good.
    fn read(&self, ok: bool) {
        let outcome = if ok { "ok" } else { "error" };
        self.reads.get_or_create(&ByOutcome { outcome }).inc();
    }
}

/// The gate in force, and how it becomes another.
pub struct Live {
    app: ArcSwap<crate::app::App>,
    routes: ArcSwap<Router>,
    source: Option<Source>,
    metrics: ReloadMetrics,
    /// What was written when it was read last; held while it is read, so that two reloads follow each
    /// other.
    written: Mutex<WrittenConfig>,
}

impl Live {
    /// `app` in force, as `written`, to be read again from `source`.
    #[must_use]
    pub fn new(app: SharedApp, written: WrittenConfig, source: Option<Source>) -> Self {
        let routes = ArcSwap::from_pointee(router(app.clone()));
        let metrics = app.metrics.register(ReloadMetrics::register);
        Self { app: ArcSwap::new(app), routes, source, metrics, written: Mutex::new(written) }
    }

    /// The gate in force.
    #[must_use]
    pub fn app(&self) -> SharedApp {
        self.app.load_full()
    }

    /// Reads the configuration again and has it in force, or leaves everything as it is.
    ///
    /// # Errors
    ///
    /// [`ReloadError`], with file, line and key.
    pub async fn reload(self: &Arc<Self>) -> Result<Reloaded, ReloadError> {
        self.reload_recorded(|_| std::future::ready(Ok(()))).await
    }

    /// The same, after `record` wrote down what will be changed; what it cannot write is not done.
    async fn reload_recorded<F>(
        self: &Arc<Self>,
        record: impl FnOnce(Reloaded) -> F + Send,
    ) -> Result<Reloaded, ReloadError>
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        let mut written = self.written.lock().await;
        let this = self.clone();
        let read = move || this.source.as_ref().ok_or(ReloadError::NoSource)?().map_err(Into::into);
        let read = tokio::task::spawn_blocking(read).await;
        let (config, now_written) = read.unwrap_or(Err(ReloadError::Panicked))?;
        let changes = written.changes(&now_written);
        let (at_restart, applied) = changes.into_iter().partition(Change::needs_restart);
        let reloaded = Reloaded { applied, at_restart };
        record(reloaded.clone()).await.map_err(ReloadError::Record)?;
        let running = self.app();
        let config = config.until_restart(&running.config);
        if config != *running.config {
            let app = running.reconfigured(Arc::new(config)).await?;
            self.routes.store(Arc::new(router(app.clone())));
            self.app.store(app);
        }
        // A turn of the dial during the swap may have been followed by the gate before.
        self.app().engine.apply_level();
        // What waits for a restart is told again at the next reload, and so stays as it was.
        *written = now_written.but(&written, &reloaded.at_restart);
        Ok(reloaded)
    }

    /// The same, told to the log.
    ///
    /// # Errors
    ///
    /// As [`Self::reload`].
    pub async fn reload_and_tell(self: &Arc<Self>) -> Result<Reloaded, ReloadError> {
        self.reload_on_record(|_| std::future::ready(Ok(()))).await
    }

    /// The same, once `record` wrote down what will be changed; it says why it could not.
    ///
    /// # Errors
    ///
    /// As [`Self::reload`], and [`ReloadError::Record`].
    pub async fn reload_on_record<F>(
        self: &Arc<Self>,
        record: impl FnOnce(Reloaded) -> F + Send,
    ) -> Result<Reloaded, ReloadError>
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        let reloaded = self.reload_recorded(record).await;
        self.metrics.read(reloaded.is_ok());
        match &reloaded {
            Ok(Reloaded { applied, at_restart }) => {
                if applied.is_empty() && at_restart.is_empty() {
                    tracing::info!("the configuration was reloaded; nothing in it has changed");
                }
                applied.iter().for_each(|change| tracing::info!(%change, "reconfigured"));
                for change in at_restart {
                    tracing::warn!(%change, "takes effect at the next start of the gate");
                }
            }
            Err(error) => tracing::error!(%error, "reload failed"),
        }
        reloaded
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

/// The gate as a service: each request is answered by the one in force when it came.
#[derive(Clone, Debug)]
pub struct Routes(pub Arc<Live>);

impl Service<Request<Body>> for Routes {
    type Response = Response;
    type Error = Infallible;
    type Future = Oneshot<Router, Request<Body>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.routes.load().as_ref().clone().oneshot(request)
    }
}

//! A gate: built, bound, and then run until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::app::{App, BuildError, SharedApp};
use crate::clock::Clock;
use crate::config::Config;
use crate::entropy::Entropy;
use crate::haproxy::client::Client;
use crate::haproxy::reconciler::Reconciler;
use crate::router::router;
use crate::server::{self, BindError, DrainReport, Limits, Listener, LocalAddress, ServerEvent};

/// How often the key file is looked at, so that `fortify keys rotate` needs no restart.
const KEY_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// A gate that holds its address and waits to be run.
#[derive(Debug)]
pub struct Gate {
    app: SharedApp,
    listener: Listener,
}

/// Why a gate does not start. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A part of it cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Its address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Gate {
    /// Builds the gate and takes its address, so that a gate that cannot work says so at once.
    ///
    /// # Errors
    ///
    /// [`StartError`], with what to do.
    pub async fn bind(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, StartError> {
        let app = App::build(config, clock, entropy)?;
        Self::with_app(app).await
    }

    /// As [`Self::bind`], for an [`App`] that the caller built.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub async fn with_app(app: SharedApp) -> Result<Self, StartError> {
        let listener = Listener::bind(&app.config.server).await?;
        Ok(Self { app, listener })
    }

    /// The state that its requests share: what a test looks into.
    #[must_use]
    pub fn app(&self) -> &SharedApp {
        &self.app
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> LocalAddress {
        self.listener.local_addr()
    }

    /// Answers requests until `stop` is done, then finishes what is under way.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> DrainReport {
        let keys = tokio::spawn(follow_rotation(self.app.clone()));
        let haproxy = tell_haproxy(&self.app);
        let limits = Limits::from(&self.app.config.server);
        let metrics = self.app.metrics.clone();
        let count = Arc::new(move |event: ServerEvent| metrics.connection_event(event.label()));
        let report = server::serve(self.listener, router(self.app), limits, count, stop).await;
        keys.abort();
        if let Some(haproxy) = haproxy {
            haproxy.abort();
        }
        report
    }
}

/// Starts keeping `HAProxy`'s table as wanted, where one is configured.
fn tell_haproxy(app: &SharedApp) -> Option<tokio::task::JoinHandle<std::convert::Infallible>> {
    let haproxy = &app.config.haproxy;
    let client = Client::new(haproxy.endpoint.clone()?);
    let (reputation, health) = (app.reputation.clone(), app.haproxy.clone());
    let reconciler =
        Reconciler::new(client, haproxy.table.clone(), reputation, health, app.metrics.clone());
    Some(tokio::spawn(reconciler.run()))
}

/// Reads the key file again when it changed. A file that cannot be read leaves the keys as they
/// are; it is said once per change of mind, not every few seconds.
async fn follow_rotation(app: SharedApp) {
    let mut tick = tokio::time::interval(KEY_CHECK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complained = false;
    loop {
        tick.tick().await;
        match app.keys.refresh() {
            Ok(true) => tracing::info!("the signing keys were rotated"),
            Ok(false) => complained = false,
            Err(error) if !complained => {
                complained = true;
                tracing::error!(%error, "the signing keys cannot be read again; the old ones stay");
            }
            Err(_same_as_before) => {}
        }
    }
}

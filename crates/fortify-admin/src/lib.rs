//! The admin interface: the dashboard and the API for operators, and the record of what they change.
//!
//! It has listeners of its own, a TCP port and a unix socket; the gate's router serves none of it. Dashboard, API and
//! command line call the same functions ([`operations`]).
//!
//! # Layout
//!
//! A request passes `serve` (the listener), [`routes`] (the table of addresses), `access` (authentication, role, CSRF),
//! `handler` (arguments) and one of the [`operations`], which calls the services of the
//! [`App`](fortify_web::app::App). In order of dependency:
//!
//! - [`identity`]: roles, and how a request is authenticated.
//! - [`log`], [`schema`], [`totp`], [`accounts`]: the log of changes, the database `admin.sqlite`, one-time codes (RFC
//!   6238), and the accounts and API tokens in the database.
//! - `response`, [`error`]: answers in JSON, and refusals with what to do.
//! - [`guard`], [`password`], `sessions`, `csrf`, `cookies`: rate limits for passwords, argon2id, sessions in memory,
//!   CSRF tokens, and the cookies that they use.
//! - `figures`, [`chart`], [`metrics`]: samples of the last hour, charts, and metrics.
//! - this file: [`Admin`], the state that requests share.
//! - [`handler`]: from a request to an operation's arguments, and from its result to an answer.
//! - [`directory`]: finds circuits by their pseudonyms.
//! - [`login`], [`operations`]: log-in and log-out, and everything else that operators can do, in one file each.
//! - `route`, `access`: one address, and the only way to its handler; denies by default.
//! - [`pages`]: the dashboard. `openapi`: the OpenAPI document.
//! - [`routes`]: the table of all addresses; router, role check and OpenAPI document are made from it.
//! - `serve`: the listeners.

mod access;
pub mod accounts;
pub mod chart;
mod cookies;
mod csrf;
pub mod directory;
pub mod error;
mod figures;
pub mod guard;
pub mod handler;
pub mod identity;
pub mod log;
pub mod login;
pub mod metrics;
mod openapi;
pub mod operations;
pub mod pages;
pub mod password;
mod response;
mod route;
pub mod routes;
pub mod schema;
mod serve;
mod sessions;
pub mod totp;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use accounts::{Accounts, AccountsError};
use csrf::FormKey;
use error::AdminError;
use figures::Figures;
use fortify_core::entropy::{EntropyError, random_bytes};
use fortify_store::record::Secret;
use fortify_web::app::SharedApp;
use fortify_web::reload::Live;
use guard::Guard;
use metrics::AdminMetrics;
use password::Hasher;
use sessions::AdminSessions;

pub use serve::{AdminListeners, AdminStartError, SetupNotice};

/// Sample pictures that are drawn at one time; visitors use the same renderer.
const SAMPLES: usize = 1;

/// Scans at one time. Each covers up to half a million rows, and a viewer must not be able to exhaust memory and
/// processors with many requests.
const SCANS: usize = 1;

/// How requests hold the [`Admin`].
pub type SharedAdmin = Arc<Admin>;

/// The state of the admin interface.
pub struct Admin {
    /// The gate.
    live: Arc<Live>,
    /// Accounts, tokens and the log.
    pub accounts: Arc<Accounts>,
    sessions: AdminSessions,
    guard: Mutex<Guard>,
    hasher: Hasher,
    forms: FormKey,
    figures: Figures,
    /// Limits the pictures that are drawn for operators, because visitors come first.
    samples: Semaphore,
    metrics: AdminMetrics,
    /// Limits scans of all circuits or all changes.
    scans: Arc<Semaphore>,
}

/// Why the admin interface cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum AdminBuildError {
    /// Its database cannot be used.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// There is no randomness for its keys.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl Admin {
    /// Builds the admin interface of a gate.
    ///
    /// # Errors
    ///
    /// [`AdminBuildError`], with what to do.
    pub fn build(live: Arc<Live>) -> Result<SharedAdmin, AdminBuildError> {
        let app = live.app();
        let config = &app.config.admin;
        let accounts = Accounts::open(&app.config.storage.data_dir)?;
        let settings = guard::Settings {
            tries: config.login_tries,
            per_minute: config.login_tries_per_minute,
            longest: config.login_wait,
        };
        Ok(Arc::new(Self {
            sessions: AdminSessions::new(config.idle, config.session),
            guard: Mutex::new(Guard::new(settings)),
            hasher: Hasher::new(&**app.engine.entropy())?,
            forms: FormKey::new(random_bytes(&**app.engine.entropy())?),
            figures: Figures::new(),
            samples: Semaphore::new(SAMPLES),
            scans: Arc::new(Semaphore::new(SCANS)),
            metrics: app.metrics.register(AdminMetrics::register),
            accounts: Arc::new(accounts),
            live,
        }))
    }

    /// The gate with its current configuration.
    #[must_use]
    pub fn app(&self) -> SharedApp {
        self.live.app()
    }

    /// Creates the token for the first account; `None` from the second time on, and if there is an account. Show it to
    /// the operator at once, and to nobody else.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or without randomness.
    pub fn begin_setup(&self) -> Result<Option<Secret<String>>, AccountsError> {
        self.accounts.begin_setup(&**self.app().engine.entropy())
    }

    /// Adds a sample to the last hour's figures. This runs every ten seconds.
    pub async fn count(&self) {
        let sample = figures::now(&self.app()).await;
        self.figures.add(sample);
    }

    /// A permit for a scan, which lasts until it is dropped.
    ///
    /// # Errors
    ///
    /// [`AdminError::Busy`] during another scan.
    pub fn scan(&self) -> Result<OwnedSemaphorePermit, AdminError> {
        let busy = |_taken| AdminError::Busy("another search of circuits or records is running");
        self.scans.clone().try_acquire_owned().map_err(busy)
    }

    /// As [`Self::scan`], but waits for its turn.
    async fn scan_in_turn(&self) -> Result<OwnedSemaphorePermit, AdminError> {
        let closed = |_closed| AdminError::Unavailable("searches are not possible".to_owned());
        self.scans.clone().acquire_owned().await.map_err(closed)
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        // Consistent after any panic: every change to it is one call.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

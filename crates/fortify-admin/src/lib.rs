//! The admin interface: who may come in, what they may do, and a record of what they did.
//!
//! It listens apart from the gate, on an address of its own and on a unix socket; the gate's own router
//! serves none of it. Dashboard, API and command line call the same functions ([`operations`]).
//!
//! # Layout
//!
//! One request: `serve` (which door) → [`routes`] (one table of every address) → `access` (who, may they,
//! did they mean it) → [`operations`] → the services of the [`App`](fortify_web::app::App).
//!
//! - this file: [`Admin`], the state that requests share;
//! - [`routes`]: the one table; router, role check and OpenAPI document are made from it;
//! - `handler`: from a request to an operation's arguments, and from its result to an answer;
//! - `access`: authentication, roles, and that a form was sent from our own page; deny by default;
//! - [`identity`]: roles, and who is asking by what means;
//! - `login`: names, passwords, one-time codes, the first account;
//! - [`accounts`]: `admin.sqlite`: accounts, API tokens, the setup token; `schema`: the file itself;
//! - `password`, [`totp`]: argon2id off the threads that serve; RFC 6238;
//! - `sessions`: who is logged in, in memory; `csrf`: tokens of forms;
//! - [`guard`]: how often passwords may be tried; pure;
//! - [`log`]: every change, in the same file, on disk before the change is acknowledged;
//! - `directory`: circuits by their pseudonyms;
//! - `figures`: what was counted, every ten seconds of the last hour;
//! - [`operations`]: what can be done, one file each; `pages`: the dashboard; [`chart`]: its charts; pure;
//! - [`error`]: why not, and what to do; `openapi`: the document.

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

/// Sample pictures that are drawn at one time, of as many as the renderer draws for visitors.
const SAMPLES: usize = 1;

/// What is looked through at one time: each is up to half a million rows, and whoever may only look could have
/// all memory and processors taken by asking many times at once.
const SCANS: usize = 1;

/// How requests hold the [`Admin`].
pub type SharedAdmin = Arc<Admin>;

/// What the admin interface remembers.
pub struct Admin {
    /// The gate that is looked at.
    live: Arc<Live>,
    /// Accounts, tokens, and the log.
    pub accounts: Arc<Accounts>,
    sessions: AdminSessions,
    guard: Mutex<Guard>,
    hasher: Hasher,
    forms: FormKey,
    figures: Figures,
    /// Pictures that are drawn for operators at one time: visitors come first.
    samples: Semaphore,
    metrics: AdminMetrics,
    /// Leave to look through everything that is kept of circuits or changes.
    scans: Arc<Semaphore>,
}

/// Why the admin interface cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum AdminBuildError {
    /// Its file.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// No key for its forms.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl Admin {
    /// The admin interface of the gate in force.
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

    /// The gate in force.
    #[must_use]
    pub fn app(&self) -> SharedApp {
        self.live.app()
    }

    /// Makes the token for the first account, for whoever shows it to the operator at once and to nobody
    /// else; `None` from the second time on, and where there is an account.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or without randomness.
    pub fn begin_setup(&self) -> Result<Option<Secret<String>>, AccountsError> {
        self.accounts.begin_setup(&**self.app().engine.entropy())
    }

    /// Counts for the last hour's figures, as it is done every ten seconds.
    pub async fn count(&self) {
        let sample = figures::now(&self.app()).await;
        self.figures.add(sample);
    }

    /// Leave to look through everything, until it is dropped.
    ///
    /// # Errors
    ///
    /// [`AdminError::Busy`] while somebody else has it.
    pub fn scan(&self) -> Result<OwnedSemaphorePermit, AdminError> {
        let busy = |_taken| AdminError::Busy("circuits or records are being looked through");
        self.scans.clone().try_acquire_owned().map_err(busy)
    }

    /// As [`Self::scan`], but waits for its turn: for what is under way.
    async fn scan_in_turn(&self) -> Result<OwnedSemaphorePermit, AdminError> {
        let closed = |_closed| AdminError::Unavailable("nothing can be looked through".to_owned());
        self.scans.clone().acquire_owned().await.map_err(closed)
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        // Whole after any panic: every change to it is one call.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

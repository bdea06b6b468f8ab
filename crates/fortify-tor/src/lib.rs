//! Tor itself, asked over its control port: when it starts anew, and when circuits close.
//!
//! Optional (`[tor]`). Circuit numbers are a small counter that begins anew with every tor process, so
//! without this a visitor may inherit what a former one of the same number left: a session, failures,
//! a ban. With it, every start of tor has a *generation* of its own, which is part of a circuit's identity
//! ([`TorBoot`]); what was kept under another generation is simply never found again.
//!
//! # What a request gets, and when
//!
//! | Tor | Generation of a request's circuit |
//! |---|---|
//! | connected | that of this start of tor |
//! | the connection ended, or was never there | a provisional one, from that very moment |
//! | again, the same process | its former one; what was kept in between is void |
//! | again, another process | a fresh one; what was kept in between is void |
//!
//! The kernel closes the connection when tor dies, and a new tor needs seconds to publish its service;
//! so its first visitor finds the provisional generation, never the old one. The generation is read once for each
//! request: one that is under way when tor dies ends under the generation it began with.
//!
//! A gate waits at its start for the first attempt to reach tor, at most [`FIRST_ATTEMPT`]; whether or
//! not it succeeded, requests are served from then on. Without tor's word the gate is *degraded*
//! (`/ready`, `fortify_tor_up`) and goes on: everybody is treated as new once, and a restart of tor
//! that happens meanwhile is not seen.
//!
//! # Layout
//!
//! - this file: [`Tor`], what the rest of the gate sees, and [`TorEvents`];
//! - `watch`: the task that keeps a connection and reconnects;
//! - `control`: one connection: opened, authenticated, asked;
//! - `protocol`: bytes to messages and commands to bytes, pure;
//! - `checkup`: what `fortify doctor` asks;
//! - `generation`: which start of tor this is, and the file that remembers it;
//! - `error`: [`TorError`], with what to do;
//! - [`config`]: the section `[tor]`;
//! - [`metrics`]: whether tor is watched, and what it told.

mod checkup;
pub mod config;
mod control;
mod error;
mod generation;
pub mod metrics;
mod protocol;
mod watch;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch as watched};

use crate::config::{ControlAddress, TorConfig};
use crate::metrics::TorMetrics;
use fortify_core::circuit::{TorBoot, TorCircuit};
use fortify_core::clock::{Clock, SystemClock};
use fortify_core::entropy::{Entropy, SystemEntropy};

pub use checkup::{Checkup, HiddenService, checkup};
use control::Control;
pub use error::TorError;
pub use generation::{GenerationError, TorRun};
pub use protocol::ProtocolError;
pub use watch::Watcher;

/// How long a gate waits at its start for tor to say who it is.
pub const FIRST_ATTEMPT: Duration = Duration::from_secs(2);

/// Events that a listener may be behind by; see [`TorEvents::next`] for what happens then.
const EVENTS: usize = 1024;

/// Circuits that may wait to be closed.
const MAX_CLOSE_REQUESTS: usize = 64;

/// How long somebody waits for a circuit to be closed: a command's patience, and some before it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What tor told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorEvent {
    /// Tor started anew: all that was kept under other generations is void. A table outside of Fortify that
    /// knows circuits by their numbers alone must be emptied now.
    NewGeneration(TorBoot),
    /// A circuit was closed and will not come back: what is kept about it may go.
    CircuitClosed(TorCircuit),
}

/// What the gate knows of tor.
pub struct Tor {
    address: ControlAddress,
    instance: u16,
    generation: AtomicU32,
    /// Of the tor that is connected, or was last.
    confirmed: AtomicU32,
    up: AtomicBool,
    events: broadcast::Sender<TorEvent>,
    close_requests: mpsc::Sender<CloseRequest>,
    /// Whether the first attempt to reach tor is over.
    first_attempt_over: watched::Sender<bool>,
    watcher: Mutex<Option<Watcher>>,
}

/// A circuit to be closed, and whom to tell.
struct CloseRequest {
    circuit: TorCircuit,
    done: oneshot::Sender<Result<CloseOutcome, TorError>>,
}

/// The start of tor that a gate over `data_dir` knows last: for commands that name a circuit by its
/// address.
///
/// # Errors
///
/// When the file that remembers it cannot be read.
pub fn last_boot(config: &TorConfig, data_dir: &Path) -> Result<TorBoot, GenerationError> {
    let known = match config.control {
        Some(_) => generation::last_known(data_dir)?,
        None => None,
    };
    Ok(TorBoot {
        instance: config.instance,
        generation: known.map_or(0, |(generation, _run)| generation),
    })
}

/// What became of a circuit that was to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseOutcome {
    /// It was open, and is closed.
    JustClosed,
    /// There was none, any more.
    AlreadyClosed,
}

impl Tor {
    /// Tor as `config` says, under a provisional generation until [`Watcher::run`] has asked; `None` where
    /// `tor.control` is not set.
    ///
    /// # Errors
    ///
    /// When the file of the generations cannot be read or written.
    pub fn open(
        config: &TorConfig,
        data_dir: &Path,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: TorMetrics,
    ) -> Result<Option<Arc<Self>>, GenerationError> {
        let Some(address) = config.control.clone() else {
            return Ok(None);
        };
        let generations = generation::Generations::open(data_dir, clock.now())?;
        metrics.set_up(false);
        let (orders, inbox) = mpsc::channel(MAX_CLOSE_REQUESTS);
        let tor = Arc::new(Self {
            address,
            instance: config.instance,
            generation: AtomicU32::new(generations.current()),
            confirmed: AtomicU32::new(generations.current()),
            up: AtomicBool::new(false),
            events: broadcast::Sender::new(EVENTS),
            close_requests: orders,
            first_attempt_over: watched::Sender::new(false),
            watcher: Mutex::new(None),
        });
        let watcher = Watcher::new(config.clone(), generations, inbox, clock, entropy, metrics);
        *tor.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
        Ok(Some(tor))
    }

    /// The task that watches tor; `None` from the second time on.
    #[must_use]
    pub fn take_watcher(&self) -> Option<Watcher> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Between which two starts of tor a request arrives now.
    #[must_use]
    pub fn boot(&self) -> TorBoot {
        TorBoot { instance: self.instance, generation: self.generation.load(Ordering::Acquire) }
    }

    /// Whether tor is connected, and its generation confirmed.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// What tor tells from now on.
    #[must_use]
    pub fn events(&self) -> TorEvents {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        TorEvents { events: self.events.subscribe(), confirmed }
    }

    /// Waits until the first attempt to reach tor is over, at most [`FIRST_ATTEMPT`].
    pub async fn first_attempt(&self) {
        let mut settled = self.first_attempt_over.subscribe();
        let _late_or_over = tokio::time::timeout(FIRST_ATTEMPT, settled.wait_for(|is| *is)).await;
    }

    /// Closes a circuit of this generation: it frees what the circuit holds, and cuts its downloads. The
    /// client comes back on another one; to refuse it, ban it.
    ///
    /// # Errors
    ///
    /// [`TorError::Down`] and [`TorError::Busy`], or what tor says against it.
    pub async fn close_circuit(&self, circuit: TorCircuit) -> Result<CloseOutcome, TorError> {
        if !self.is_up() {
            return Err(TorError::Down);
        }
        let (done, answer) = oneshot::channel();
        self.close_requests
            .try_send(CloseRequest { circuit, done })
            .map_err(|_full_or_over| TorError::Busy)?;
        match tokio::time::timeout(CLOSE_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_dropped)) => Err(TorError::Down),
            Err(_elapsed) => Err(TorError::Slow(self.address.clone())),
        }
    }
}

impl fmt::Debug for Tor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tor").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

/// A listener's end of [`Tor::events`].
pub struct TorEvents {
    events: broadcast::Receiver<TorEvent>,
    confirmed: u32,
}

impl TorEvents {
    /// The next event; `None` when the gate is over.
    ///
    /// A listener that is more than 1024 events behind loses the oldest. A closed circuit that is lost
    /// this way does no harm: its number is not used again before tor starts anew, and what is kept
    /// about it goes when its time is over. A new generation is never lost: whoever lost events is told
    /// [`TorEvent::NewGeneration`] when the generation is not the one it was told last; at worst once too often.
    pub async fn next(&mut self, tor: &Tor) -> Option<TorEvent> {
        loop {
            match self.events.recv().await {
                Ok(TorEvent::NewGeneration(boot)) if boot.generation == self.confirmed => {}
                Ok(TorEvent::NewGeneration(boot)) => {
                    self.confirmed = boot.generation;
                    return Some(TorEvent::NewGeneration(boot));
                }
                Ok(closed) => return Some(closed),
                Err(broadcast::error::RecvError::Lagged(_lost)) => {
                    let generation = tor.confirmed.load(Ordering::Acquire);
                    if generation != self.confirmed {
                        self.confirmed = generation;
                        let boot = TorBoot { instance: tor.instance, generation };
                        return Some(TorEvent::NewGeneration(boot));
                    }
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// A tor, as `fortify tor status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it says of itself.
    pub version: String,
    /// Which process, since when.
    pub run: TorRun,
    /// Its generation, where a gate over the same `storage.data_dir` has met it.
    pub generation: Option<u32>,
}

/// Asks tor who it is, over a connection of its own: for the command line.
///
/// # Errors
///
/// [`TorError`], with what to do.
pub async fn status(
    config: &TorConfig,
    address: &ControlAddress,
    data_dir: &Path,
) -> Result<Status, TorError> {
    let mut control = Control::open(config, address, &SystemEntropy).await?;
    let version = control.version().await?;
    let run = control.run(&SystemClock, |_event| {}).await?;
    let known = generation::last_known(data_dir)?;
    let generation =
        known.filter(|(_, known)| known.is_same(&run)).map(|(generation, _)| generation);
    Ok(Status { version, run, generation })
}

/// Closes a circuit of the tor that runs now, over a connection of its own: for the command line.
///
/// # Errors
///
/// [`TorError`], with what to do.
pub async fn close_circuit(
    config: &TorConfig,
    address: &ControlAddress,
    circuit: TorCircuit,
) -> Result<CloseOutcome, TorError> {
    let mut control = Control::open(config, address, &SystemEntropy).await?;
    let closed = control.close(circuit, |_event| {}).await?;
    Ok(if closed { CloseOutcome::JustClosed } else { CloseOutcome::AlreadyClosed })
}

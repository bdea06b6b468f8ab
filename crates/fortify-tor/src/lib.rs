//! Watches tor over its control port, where it notices restarts and closed circuits, and reads its metrics port.
//!
//! Optional (`[tor]`). Tor restarts its circuit counter when it restarts. Without this crate, a new visitor can
//! inherit the state of an old circuit with the same number: a session, failures, a ban. With it, every run of
//! tor has its own *generation*, which is part of a circuit's identity ([`TorBoot`]); state of another
//! generation is never found again.
//!
//! # The generation of a request
//!
//! | Control connection | Generation of a request's circuit |
//! |---|---|
//! | open | that of this run of tor |
//! | closed, or not opened yet | a provisional one, immediately |
//! | open again, to the same process | that of its run; state of the provisional one is void |
//! | open again, to another process | a new one; state of the provisional one is void |
//!
//! The kernel closes the connection when tor ends, and a new tor needs seconds to publish its service, so its
//! first visitor gets the provisional generation, never the old one. The generation is read once per request: a
//! request that is running when tor ends keeps its generation.
//!
//! At startup Fortify waits for the first attempt to reach tor, at most [`FIRST_ATTEMPT`], and then serves
//! requests whether or not it succeeded. Without a control connection Fortify is *degraded* (`/ready`,
//! `fortify_tor_up`) and keeps running: every visitor is treated as new once, and restarts of tor go unnoticed.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`config`]: the section `[tor]`.
//! - [`metrics`]: whether the control connection is open, restarts, closed circuits.
//! - `protocol`: the control protocol: bytes to messages, commands to bytes; pure.
//! - `generation`: recognises runs of tor, and keeps their numbers in a file.
//! - `error`: [`TorError`]; its messages say what to do.
//! - `control`: one authenticated connection.
//! - `checkup`: the questions of `fortify doctor`.
//! - `watch`: the task that keeps the connection open.
//! - [`figures`]: tor's own figures, from its metrics port; needs no control port.
//! - this file: [`Tor`] and [`TorEvents`], the interface to the other crates.

mod checkup;
pub mod config;
mod control;
mod error;
pub mod figures;
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
use fortify_core::damage::Damage;
use fortify_core::entropy::{Entropy, SystemEntropy};

pub use checkup::{Checkup, HiddenService, checkup};
use control::Control;
pub use error::TorError;
pub use generation::{GenerationError, TorRun};
pub use protocol::ProtocolError;
pub use watch::Watcher;

/// How long Fortify waits for tor at startup.
pub const FIRST_ATTEMPT: Duration = Duration::from_secs(2);

/// Events that a listener may lag behind; see [`TorEvents::next`].
const EVENTS: usize = 1024;

/// Requests to close a circuit that may wait.
const MAX_CLOSE_REQUESTS: usize = 64;

/// How long a caller waits for a circuit to be closed: the 5 s of one command, and some for those before it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// An event that tor reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorEvent {
    /// Tor restarted: state of other generations is void. A table outside Fortify that knows circuits by their
    /// numbers only has to be emptied.
    NewGeneration(TorBoot),
    /// A circuit was closed. It will not be used again, and its state can be deleted.
    CircuitClosed(TorCircuit),
}

/// The state of the watched tor.
pub struct Tor {
    address: ControlAddress,
    instance: u16,
    generation: AtomicU32,
    /// Whether the file of generations was damaged at the start.
    damage: Option<Damage>,
    /// The generation of the last connected tor.
    confirmed: AtomicU32,
    up: AtomicBool,
    events: broadcast::Sender<TorEvent>,
    close_requests: mpsc::Sender<CloseRequest>,
    /// Whether the first attempt to reach tor is over.
    first_attempt_over: watched::Sender<bool>,
    watcher: Mutex<Option<Watcher>>,
}

/// A request to close a circuit, and the channel for its result.
struct CloseRequest {
    circuit: TorCircuit,
    done: oneshot::Sender<Result<CloseOutcome, TorError>>,
}

/// The last run of tor that is recorded in `data_dir`: for commands that name a circuit by its address.
///
/// # Errors
///
/// If the file with the record cannot be read.
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

/// The result of closing a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseOutcome {
    /// It was open, and is closed now.
    JustClosed,
    /// It was not open any more.
    AlreadyClosed,
}

impl Tor {
    /// Whether the file of generations was damaged at the start: every circuit then counts as new.
    #[must_use]
    pub const fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// Starts with a provisional generation, which [`Watcher::run`] replaces; `None` if `tor.control` is not
    /// set.
    ///
    /// # Errors
    ///
    /// If the file of generations cannot be read or written.
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
        let (generations, damage) = generation::Generations::open(data_dir, clock.now())?;
        metrics.set_up(false);
        let (orders, inbox) = mpsc::channel(MAX_CLOSE_REQUESTS);
        let tor = Arc::new(Self {
            address,
            damage,
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

    /// The task that watches tor; `None` after the first call.
    #[must_use]
    pub fn take_watcher(&self) -> Option<Watcher> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The run of tor to which a request that arrives now belongs.
    #[must_use]
    pub fn boot(&self) -> TorBoot {
        TorBoot { instance: self.instance, generation: self.generation.load(Ordering::Acquire) }
    }

    /// Whether the control connection is open and the generation confirmed.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Subscribes to tor's events.
    #[must_use]
    pub fn events(&self) -> TorEvents {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        TorEvents { events: self.events.subscribe(), confirmed }
    }

    /// Waits until the first attempt to reach tor has ended, at most [`FIRST_ATTEMPT`].
    pub async fn first_attempt(&self) {
        let mut settled = self.first_attempt_over.subscribe();
        let _late_or_over = tokio::time::timeout(FIRST_ATTEMPT, settled.wait_for(|is| *is)).await;
    }

    /// Closes a circuit of this generation, which ends its downloads. The client can return on another circuit;
    /// to keep it out, ban it.
    ///
    /// # Errors
    ///
    /// [`TorError::Down`] and [`TorError::Busy`], or tor's refusal.
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

/// A subscription to tor's events, from [`Tor::events`].
pub struct TorEvents {
    events: broadcast::Receiver<TorEvent>,
    confirmed: u32,
}

impl TorEvents {
    /// The next event; `None` at shutdown.
    ///
    /// A listener that is more than 1024 events behind loses the oldest. A lost [`TorEvent::CircuitClosed`] does
    /// no harm: tor does not use the number again before it restarts, and the circuit's state expires. A new
    /// generation is never lost: after losing events a listener gets [`TorEvent::NewGeneration`] if the
    /// generation differs from the last one it got; at worst once too often.
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

/// The state of tor, for `fortify tor status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Tor's version.
    pub version: String,
    /// The process, and its start.
    pub run: TorRun,
    /// Its generation, if a Fortify with the same `storage.data_dir` has seen this run.
    pub generation: Option<u32>,
}

/// Asks tor for its state over a new connection: for the command line.
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

/// Closes a circuit of the running tor over a new connection: for the command line.
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

//! Tor itself, asked over its control port: when it starts anew, and when circuits close.
//!
//! Optional (`[tor]`). Circuit numbers are a small counter that begins anew with every tor process, so
//! without this a visitor may inherit what a former one of the same number left: a session, failures,
//! a ban. With it, every start of tor has an *epoch* of its own, which is part of a circuit's identity
//! ([`TorBoot`]); what was kept under another epoch is simply never found again.
//!
//! # What a request gets, and when
//!
//! | Tor | Epoch of a request's circuit |
//! |---|---|
//! | connected | that of this start of tor |
//! | the connection ended, or was never there | a provisional one, from that very moment |
//! | again, the same process | its former one; what was kept in between is void |
//! | again, another process | a fresh one; what was kept in between is void |
//!
//! The kernel closes the connection when tor dies, and a new tor needs seconds to publish its service;
//! so its first visitor finds the provisional epoch, never the old one. The epoch is read once for each
//! request: one that is under way when tor dies ends under the epoch it began with.
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
//! - `epoch`: which start of tor this is, and the file that remembers it;
//! - `error`: [`TorError`], with what to do;
//! - [`config`]: the section `[tor]`;
//! - [`metrics`]: whether tor is watched, and what it told.

mod checkup;
pub mod config;
mod control;
mod epoch;
mod error;
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
pub use epoch::{EpochError, Run};
pub use error::TorError;
pub use protocol::ProtocolError;
pub use watch::Watcher;

/// How long a gate waits at its start for tor to say who it is.
pub const FIRST_ATTEMPT: Duration = Duration::from_secs(2);

/// Events that a listener may be behind by; see [`TorEvents::next`] for what happens then.
const EVENTS: usize = 1024;

/// Circuits that may wait to be closed.
const ORDERS: usize = 64;

/// How long somebody waits for a circuit to be closed: a command's patience, and some before it.
const ORDER_PATIENCE: Duration = Duration::from_secs(10);

/// What tor told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorEvent {
    /// Tor started anew: all that was kept under other epochs is void. A table outside of Fortify that
    /// knows circuits by their numbers alone must be emptied now.
    NewEpoch(TorBoot),
    /// A circuit was closed and will not come back: what is kept about it may go.
    CircuitClosed(TorCircuit),
}

/// What the gate knows of tor.
pub struct Tor {
    address: ControlAddress,
    instance: u16,
    epoch: AtomicU32,
    /// Of the tor that is connected, or was last.
    confirmed: AtomicU32,
    up: AtomicBool,
    events: broadcast::Sender<TorEvent>,
    orders: mpsc::Sender<Order>,
    /// Whether the first attempt to reach tor is over.
    settled: watched::Sender<bool>,
    watcher: Mutex<Option<Watcher>>,
}

/// A circuit to be closed, and whom to tell.
struct Order {
    circuit: TorCircuit,
    done: oneshot::Sender<Result<Closed, TorError>>,
}

/// The start of tor that a gate over `data_dir` knows last: for commands that name a circuit by its
/// address.
///
/// # Errors
///
/// When the file that remembers it cannot be read.
pub fn last_boot(config: &TorConfig, data_dir: &Path) -> Result<TorBoot, EpochError> {
    let known = match config.control {
        Some(_) => epoch::last_known(data_dir)?,
        None => None,
    };
    Ok(TorBoot { instance: config.instance, epoch: known.map_or(0, |(epoch, _run)| epoch) })
}

/// What became of a circuit that was to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It was open, and is closed.
    Now,
    /// There was none, any more.
    Before,
}

impl Tor {
    /// Tor as `config` says, under a provisional epoch until [`Watcher::run`] has asked; `None` where
    /// `tor.control` is not set.
    ///
    /// # Errors
    ///
    /// When the file of the epochs cannot be read or written.
    pub fn open(
        config: &TorConfig,
        data_dir: &Path,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: TorMetrics,
    ) -> Result<Option<Arc<Self>>, EpochError> {
        let Some(address) = config.control.clone() else {
            return Ok(None);
        };
        let epochs = epoch::Epochs::open(data_dir, clock.now())?;
        metrics.set_up(false);
        let (orders, inbox) = mpsc::channel(ORDERS);
        let tor = Arc::new(Self {
            address,
            instance: config.instance,
            epoch: AtomicU32::new(epochs.current()),
            confirmed: AtomicU32::new(epochs.current()),
            up: AtomicBool::new(false),
            events: broadcast::Sender::new(EVENTS),
            orders,
            settled: watched::Sender::new(false),
            watcher: Mutex::new(None),
        });
        let watcher = Watcher::new(config.clone(), epochs, inbox, clock, entropy, metrics);
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
        TorBoot { instance: self.instance, epoch: self.epoch.load(Ordering::Acquire) }
    }

    /// Whether tor is connected, and its epoch confirmed.
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
    pub async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        let _late_or_over = tokio::time::timeout(FIRST_ATTEMPT, settled.wait_for(|is| *is)).await;
    }

    /// Closes a circuit of this epoch: it frees what the circuit holds, and cuts its downloads. The
    /// client comes back on another one; to refuse it, ban it.
    ///
    /// # Errors
    ///
    /// [`TorError::Down`] and [`TorError::Busy`], or what tor says against it.
    pub async fn close_circuit(&self, circuit: TorCircuit) -> Result<Closed, TorError> {
        if !self.is_up() {
            return Err(TorError::Down);
        }
        let (done, answer) = oneshot::channel();
        self.orders.try_send(Order { circuit, done }).map_err(|_full_or_over| TorError::Busy)?;
        match tokio::time::timeout(ORDER_PATIENCE, answer).await {
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
    /// about it goes when its time is over. A new epoch is never lost: whoever lost events is told
    /// [`TorEvent::NewEpoch`] when the epoch is not the one it was told last; at worst once too often.
    pub async fn next(&mut self, tor: &Tor) -> Option<TorEvent> {
        loop {
            match self.events.recv().await {
                Ok(TorEvent::NewEpoch(boot)) if boot.epoch == self.confirmed => {}
                Ok(TorEvent::NewEpoch(boot)) => {
                    self.confirmed = boot.epoch;
                    return Some(TorEvent::NewEpoch(boot));
                }
                Ok(closed) => return Some(closed),
                Err(broadcast::error::RecvError::Lagged(_lost)) => {
                    let epoch = tor.confirmed.load(Ordering::Acquire);
                    if epoch != self.confirmed {
                        self.confirmed = epoch;
                        let boot = TorBoot { instance: tor.instance, epoch };
                        return Some(TorEvent::NewEpoch(boot));
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
    pub run: Run,
    /// Its epoch, where a gate over the same `storage.data_dir` has met it.
    pub epoch: Option<u32>,
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
    let known = epoch::last_known(data_dir)?;
    let epoch = known.filter(|(_, known)| known.is_same(&run)).map(|(epoch, _)| epoch);
    Ok(Status { version, run, epoch })
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
) -> Result<Closed, TorError> {
    let mut control = Control::open(config, address, &SystemEntropy).await?;
    let closed = control.close(circuit, |_event| {}).await?;
    Ok(if closed { Closed::Now } else { Closed::Before })
}

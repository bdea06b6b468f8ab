//! How much may be asked for, by one circuit and by all of them.
//!
//! # Layout
//!
//! - [`waits`]: how long a circuit waits after its wrong answers; pure.
//! - [`turnstile`]: whose turn it is when more challenges are wanted than the service draws; pure.
//! - [`Limits`]: both for a running gate, and how many challenges one circuit may ask for.
//!
//! What decides about a person is exact and kept in the store, one list of times for each circuit. What
//! only protects this process is a counter of its own: the turnstile holds four numbers for each lane,
//! and the tickets are with those who wait.

pub mod metrics;
pub mod turnstile;
pub mod waits;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fortify_core::clock::Clock;
use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::{Asked, Bound};
use fortify_store::{StateStore, StoreError};
use turnstile::{Knock, Lane, Place, Rate, Turnstile};

/// How far back the wider of the two windows of a circuit reaches.
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// What a circuit that asks for a challenge is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may have one.
    Now,
    /// It waits here.
    Wait(Place),
    /// It has asked as often as it may, and may ask again after this.
    TooMany(Duration),
    /// As many wait as may.
    Full,
}

/// The limits of a running gate.
pub struct Limits {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    per_minute: AtomicU32,
    turnstile: Mutex<Turnstile>,
    queue: u64,
}

impl Limits {
    /// `per_minute` challenges of one circuit, and `service` of all. `queue` is random: a place in the
    /// queue of another process, or of this one before it started anew, is none here.
    #[must_use]
    pub fn new(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        per_minute: u32,
        service: Rate,
        queue: u64,
    ) -> Self {
        let turnstile = Mutex::new(Turnstile::new(service, clock.now()));
        Self { store, clock, per_minute: per_minute.into(), turnstile, queue }
    }

    /// Goes on with other limits; whoever waits in turn keeps the place.
    pub fn set(&self, per_minute: u32, service: Rate) {
        self.per_minute.store(per_minute, Ordering::Relaxed);
        self.turnstile().set_rate(service, self.clock.now());
    }

    /// Asks for a challenge for `circuit`, which may have `per_hour`. Asking counts, whatever the
    /// answer: a circuit that asks without end takes no more places in the queue than others.
    ///
    /// # Errors
    ///
    /// When the store fails: nobody knows then how much was asked for.
    pub async fn ask(
        &self,
        circuit: CircuitTag,
        favoured: bool,
        per_hour: u32,
    ) -> Result<Turn, StoreError> {
        let bounds = [
            Bound { within: MINUTE, most: self.per_minute.load(Ordering::Relaxed) },
            Bound { within: HOUR, most: per_hour },
        ];
        let lately = match self.store.ask(circuit, bounds).await? {
            Asked::Granted { lately } => lately,
            Asked::Full(wait) => return Ok(Turn::TooMany(wait)),
        };
        let lane = Lane::of(favoured, lately);
        Ok(match self.turnstile().enter(lane, self.clock.now()) {
            Some(Knock::In) => Turn::Now,
            Some(Knock::Wait(place)) => Turn::Wait(place),
            Some(Knock::Gone) | None => Turn::Full,
        })
    }

    /// The name of this queue.
    #[must_use]
    pub const fn queue(&self) -> u64 {
        self.queue
    }

    /// Whether it is the turn of a place that was given; `None` for one that is not good any more.
    #[must_use]
    pub fn knock(&self, lane: Lane, number: u64) -> Option<Turn> {
        match self.turnstile().knock(lane, number, self.clock.now()) {
            Knock::In => Some(Turn::Now),
            Knock::Wait(place) => Some(Turn::Wait(place)),
            Knock::Gone => None,
        }
    }

    /// How many wait: a gauge.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.turnstile().waiting()
    }

    /// Whole after any panic: every change to it is one call.
    fn turnstile(&self) -> std::sync::MutexGuard<'_, Turnstile> {
        self.turnstile.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

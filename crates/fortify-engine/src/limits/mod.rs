//! How much may be asked for, by one circuit and by all of them.
//!
//! # Layout
//!
//! - [`waits`]: how long a circuit waits after its wrong answers; pure.
//! - [`admission`]: whose turn it is when more challenges are wanted than the service draws; pure.
//! - [`Limits`]: both for a running gate, and how many challenges one circuit may ask for.
//!
//! What decides about a person is exact and kept in the store, one list of times for each circuit. What
//! only protects this process is a counter of its own: the turnstile holds four numbers for each lane,
//! and the tickets are with those who wait.

pub mod admission_queue;
pub mod metrics;
pub mod waits;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use admission_queue::{AdmissionQueue, Priority, QueueOutcome, QueuePosition, Rate};
use fortify_core::clock::Clock;
use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::{Quota, WindowLimit};
use fortify_store::{StateStore, StoreError};

/// How far back the wider of the two windows of a circuit reaches.
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// What a circuit that asks for a challenge is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may have one.
    Now,
    /// It waits here.
    Wait(QueuePosition),
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
    admission: Mutex<AdmissionQueue>,
    queue_id: u64,
}

impl Limits {
    /// `per_minute` challenges of one circuit, and `service` of all. `queue_id` is random: a place in the
    /// queue of another process, or of this one before it started anew, is none here.
    #[must_use]
    pub fn new(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        per_minute: u32,
        service: Rate,
        queue_id: u64,
    ) -> Self {
        let admission = Mutex::new(AdmissionQueue::new(service, clock.now()));
        Self { store, clock, per_minute: per_minute.into(), admission, queue_id }
    }

    /// Goes on with other limits; whoever waits in turn keeps the place.
    pub fn set(&self, per_minute: u32, service: Rate) {
        self.per_minute.store(per_minute, Ordering::Relaxed);
        self.admission().set_rate(service, self.clock.now());
    }

    /// Asks for a challenge for `circuit`, which may have `per_hour`. Asking counts, whatever the
    /// answer: a circuit that asks without end takes no more places in the queue than others.
    ///
    /// # Errors
    ///
    /// When the store fails: nobody knows then how much was asked for.
    pub async fn request_slot(
        &self,
        circuit: CircuitTag,
        trusted: bool,
        per_hour: u32,
    ) -> Result<Admission, StoreError> {
        let bounds = [
            WindowLimit { within: MINUTE, most: self.per_minute.load(Ordering::Relaxed) },
            WindowLimit { within: HOUR, most: per_hour },
        ];
        let recent = match self.store.acquire_quota(circuit, bounds).await? {
            Quota::Granted { recent } => recent,
            Quota::Exceeded(wait) => return Ok(Admission::TooMany(wait)),
        };
        let priority = Priority::of(trusted, recent);
        Ok(match self.admission().enter(priority, self.clock.now()) {
            Some(QueueOutcome::Admitted) => Admission::Now,
            Some(QueueOutcome::Wait(place)) => Admission::Wait(place),
            Some(QueueOutcome::Expired) | None => Admission::Full,
        })
    }

    /// The name of this queue.
    #[must_use]
    pub const fn queue_id(&self) -> u64 {
        self.queue_id
    }

    /// Whether it is the turn of a place that was given; `None` for one that is not good any more.
    #[must_use]
    pub fn redeem(&self, priority: Priority, number: u64) -> Option<Admission> {
        match self.admission().redeem(priority, number, self.clock.now()) {
            QueueOutcome::Admitted => Some(Admission::Now),
            QueueOutcome::Wait(place) => Some(Admission::Wait(place)),
            QueueOutcome::Expired => None,
        }
    }

    /// How many wait: a gauge.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.admission().waiting()
    }

    /// Whole after any panic: every change to it is one call.
    fn admission(&self) -> std::sync::MutexGuard<'_, AdmissionQueue> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

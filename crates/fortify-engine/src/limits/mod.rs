//! Limits of requested challenges, for each circuit and for all circuits together.
//!
//! # Layout
//!
//! - [`waits`]: how long a circuit waits after wrong answers; pure.
//! - [`admission_queue`]: the order of visitors when more challenges are requested than may be issued; pure.
//! - [`Limits`]: both for a running gate, and the number of challenges that one circuit may request.
//!
//! Limits of one circuit are exact: the store keeps the times of its requests. The limit of the whole service
//! protects this process only, so it is in memory; visitors keep their own tickets.

pub mod admission_queue;
pub mod metrics;
pub mod waits;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use admission_queue::{AdmissionQueue, Lane, QueueOutcome, QueuePosition, TicketNumber};
use fortify_core::allowance::Rate;
use fortify_core::clock::Clock;
use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::{Quota, WindowLimit};
use fortify_store::{StateStore, StoreError};

/// The two windows over which a circuit's requests are limited.
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// The result of a circuit's request for a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may have one now.
    Now,
    /// It has to wait at this place in the queue.
    Wait(QueuePosition),
    /// It has requested as many as it may, and may try again after this time.
    TooMany(Duration),
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
    /// Limits one circuit to `per_minute` challenges and all circuits together to `service`. `queue_id` is random, so
    /// that tickets of another process, or from before a restart, are not valid here. `draw_key` is random and secret:
    /// it decides who wins a place in a full queue.
    #[must_use]
    pub fn new(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        per_minute: u32,
        service: Rate,
        [queue_id, draw_key]: [u64; 2],
    ) -> Self {
        let admission = Mutex::new(AdmissionQueue::new(service, draw_key, clock.now()));
        Self { store, clock, per_minute: per_minute.into(), admission, queue_id }
    }

    /// Changes the limits; visitors in the queue keep their places.
    pub fn set(&self, per_minute: u32, service: Rate) {
        self.per_minute.store(per_minute, Ordering::Relaxed);
        self.admission().set_rate(service, self.clock.now());
    }

    /// Requests a challenge for `circuit`, which may have `per_hour`. Every request counts, whatever its result, so a
    /// circuit that keeps asking takes no more places in the queue than others. It does not wait for longer than `longest`
    /// after its last request, if that is given.
    ///
    /// # Errors
    ///
    /// Fails if the store fails, because the circuit's usage is unknown then.
    pub async fn request_slot(
        &self,
        circuit: CircuitTag,
        trusted: bool,
        per_hour: u32,
        longest: Option<Duration>,
    ) -> Result<Admission, StoreError> {
        let bounds = [
            WindowLimit { within: MINUTE, most: self.per_minute.load(Ordering::Relaxed) },
            WindowLimit { within: HOUR, most: per_hour },
        ];
        let recent = match self.store.acquire_quota(circuit, bounds, longest).await? {
            Quota::Granted { recent } => recent,
            Quota::Exceeded(wait) => return Ok(Admission::TooMany(wait)),
        };
        let lane = Lane::of(trusted, recent);
        Ok(match self.admission().enter(lane, self.clock.now()) {
            Some(place) => Admission::Wait(place),
            None => Admission::Now,
        })
    }

    /// The random id of this queue.
    #[must_use]
    pub const fn queue_id(&self) -> u64 {
        self.queue_id
    }

    /// Redeems a ticket: whether it has been called yet. `None` if it was used.
    #[must_use]
    pub fn redeem(&self, ticket: TicketNumber) -> Option<Admission> {
        match self.admission().redeem(ticket, self.clock.now()) {
            QueueOutcome::Admitted => Some(Admission::Now),
            QueueOutcome::Wait(place) => Some(Admission::Wait(place)),
            QueueOutcome::Expired => None,
        }
    }

    /// The number of visitors in the queue.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.admission().waiting_at(self.clock.now())
    }

    /// The queue stays consistent after a panic: every change to it is one call.
    fn admission(&self) -> std::sync::MutexGuard<'_, AdmissionQueue> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

//! The limit of requests that the protected service works on at once, shared fairly among sessions.
//!
//! The limit adapts to the service's latency. Beyond it requests wait, and whoever uses the service least comes first, so
//! that fifty sessions that always ask leave room for one that reads. A place is held until the head of the answer is
//! there, also when the visitor has gone away, because the service works on all the same. Downloads, event streams and
//! WebSockets that only stream hold none, and a request that has no answer after [`HELD_LONGEST`] holds none either,
//! because it waits for something more often than it works. For the same reason a body that is still to come is waited
//! for [`HELD_FOR_BODY`] only.
//!
//! # Layout
//!
//! - `core`: the limit itself and who comes next (pure);
//! - this file: the same with a clock, tasks that wait, and metrics.

mod core;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use self::core::{Asked, Ended, Limiter, Place};
use crate::metrics::UpstreamMetrics;

pub use crate::occupancy::{Busy, Figures};

/// Names a session. Whoever has none to tell apart may use any constant.
pub type SessionKey = [u8; 16];

/// How long a request waits for a place: a person sees a page that says so, and not a browser that does nothing.
pub const WAIT_LONGEST: Duration = Duration::from_secs(10);

/// How long a request holds a place once its body is there. Less than [`WAIT_LONGEST`], so that requests that are never
/// answered do not keep others from ever having their turn.
pub const HELD_LONGEST: Duration = Duration::from_secs(8);

/// How long a request holds a place for a body that is still to come: until then the service has nothing to work on, and
/// who sends slowly would hold a place at no cost.
pub const HELD_FOR_BODY: Duration = Duration::from_secs(1);

/// Gives out places.
#[derive(Clone)]
pub(crate) struct Places(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// The moment that the limiter counts from.
    started: Instant,
    /// Which slot a kind of page has differs from gate to gate.
    kinds: RandomState,
    metrics: UpstreamMetrics,
}

struct State {
    limiter: Limiter<SessionKey>,
    waiting: HashMap<u64, Waiter>,
}

struct Waiter {
    key: SessionKey,
    wake: oneshot::Sender<HeldPlace>,
}

/// A place, until it is given back or dropped.
pub(crate) struct HeldPlace {
    places: Places,
    key: SessionKey,
    place: Place,
    began: Instant,
    given_back: bool,
}

impl Places {
    /// Places for at most `most` requests at once.
    pub(crate) fn new(most: usize, metrics: UpstreamMetrics) -> Self {
        let state = State { limiter: Limiter::new(most), waiting: HashMap::new() };
        let places = Self(Arc::new(Shared {
            state: Mutex::new(state),
            started: Instant::now(),
            kinds: RandomState::new(),
            metrics,
        }));
        places.0.metrics.places(places.figures());
        places
    }

    pub(crate) fn figures(&self) -> Figures {
        self.state().limiter.figures()
    }

    /// A place for a request of session `key`, as soon as it is its turn.
    pub(crate) async fn enter(&self, key: SessionKey) -> Result<HeldPlace, Busy> {
        let entered = self.wait(key).await;
        if let Err(busy) = &entered {
            self.0.metrics.refused(busy.label());
        }
        entered
    }

    async fn wait(&self, key: SessionKey) -> Result<HeldPlace, Busy> {
        let now = self.now();
        let (id, woken) = {
            let mut state = self.state();
            let probed_until = state.limiter.probe_until();
            let asked = state.limiter.ask(&key, now);
            if let Some(until) = state.limiter.probe_until()
                && probed_until != Some(until)
            {
                tokio::spawn(self.clone().go_on_at(until));
            }
            let (id, displaced) = match asked {
                Asked::Go(place) => {
                    self.0.metrics.places(state.limiter.figures());
                    drop(state);
                    return Ok(self.held(key, place));
                }
                Asked::Full => return Err(Busy::Full),
                Asked::Wait(id) => (id, None),
                Asked::InsteadOf(id, displaced) => (id, Some(displaced)),
            };
            let (wake, woken) = oneshot::channel();
            state.waiting.insert(id, Waiter { key, wake });
            // Whose sender is gone is refused.
            drop(displaced.and_then(|displaced| state.waiting.remove(&displaced)));
            self.0.metrics.places(state.limiter.figures());
            (id, woken)
        };
        // Went away, refused or timed out: either way it waits no more.
        let _leaves = Leaves { places: self, id };
        match timeout(WAIT_LONGEST, woken).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_displaced)) => Err(Busy::Full),
            Err(_elapsed) => Err(Busy::Deadline),
        }
    }

    /// The kind of page that a request asks for: its method and path. Numbers count as one another, since pages that differ
    /// in a number are made alike.
    pub(crate) fn kind(&self, method: &Method, path: &str) -> u64 {
        let words = path.split(|it: char| it.is_ascii_digit()).filter(|word| !word.is_empty());
        self.0.kinds.hash_one((method.as_str(), words.collect::<Vec<_>>()))
    }

    /// As [`Self::go_on`], when a probe is over: if every place is held for long, nobody else would look.
    async fn go_on_at(self, then: Duration) {
        sleep_until(self.0.started + then).await;
        self.go_on();
    }

    /// Lets everybody go on whose turn it is.
    fn go_on(&self) {
        let now = self.now();
        let mut woken = Vec::new();
        {
            let mut state = self.state();
            while let Some((id, place)) = state.limiter.next(now) {
                if let Some(Waiter { key, wake }) = state.waiting.remove(&id) {
                    woken.push((wake, key, place));
                }
            }
            self.0.metrics.places(state.limiter.figures());
        }
        // Outside the lock: the place of one that went away is given back as it is dropped.
        for (wake, key, place) in woken {
            drop(wake.send(self.held(key, place)));
        }
    }

    fn held(&self, key: SessionKey, place: Place) -> HeldPlace {
        let (places, began) = (self.clone(), Instant::now());
        HeldPlace { places, key, place, began, given_back: false }
    }

    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Whole after any panic: every change to it is one call.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}

/// Takes a request out of the queue when it goes away.
struct Leaves<'a> {
    places: &'a Places,
    id: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let mut state = self.places.state();
        drop(state.waiting.remove(&self.id));
        state.limiter.leave(self.id);
        self.places.0.metrics.places(state.limiter.figures());
    }
}

impl HeldPlace {
    /// Gives the place back; `kind` is the kind of page if what it took says something about the service.
    pub(crate) fn give_back(mut self, kind: Option<u64>) {
        self.end(kind);
    }

    fn end(&mut self, kind: Option<u64>) {
        if std::mem::replace(&mut self.given_back, true) {
            return;
        }
        let took = self.began.elapsed();
        let ended = kind.map_or(Ended::Unknown(took), |kind| Ended::Answered(kind, took));
        let now = self.places.now();
        self.places.state().limiter.end(&self.key, self.place, ended, now);
        self.places.go_on();
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.end(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPER: SessionKey = [1; 16];
    const READER: SessionKey = [2; 16];

    fn places(most: usize) -> Places {
        Places::new(most, UpstreamMetrics::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_gets_the_next_place_and_the_queue_has_a_deadline() {
        let places = places(2);
        let held = [places.enter(SCRAPER).await.unwrap(), places.enter(SCRAPER).await.unwrap()];
        let queued: Vec<_> = (0..20)
            .map(|_| {
                let places = places.clone();
                tokio::spawn(async move { places.enter(SCRAPER).await.map(drop) })
            })
            .collect();
        while places.figures().waiting < 20 {
            tokio::task::yield_now().await;
        }
        let reader = places.clone();
        let reader = tokio::spawn(async move { reader.enter(READER).await });
        while places.figures().waiting < 21 {
            tokio::task::yield_now().await;
        }
        let [first, second] = held;
        first.give_back(None);
        let reader = reader.await.unwrap().unwrap();
        assert_eq!(places.figures().waiting, 20);
        // Nothing else comes free in time.
        for request in queued {
            assert_eq!(request.await.unwrap(), Err(Busy::Deadline));
        }
        assert_eq!(places.figures(), Figures { limit: 2, in_flight: 2, waiting: 0 });
        drop((reader, second));
        assert_eq!(places.figures().in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_away_while_it_waits_leaves_no_place_taken() {
        let places = places(2);
        let held = [places.enter(SCRAPER).await.unwrap(), places.enter(SCRAPER).await.unwrap()];
        for _ in 0..50 {
            let gone = timeout(Duration::from_millis(1), places.enter(READER)).await;
            assert!(gone.is_err());
        }
        assert_eq!(places.figures().waiting, 0);
        drop(held);
        assert_eq!(places.figures().in_flight, 0);
        drop(places.enter(READER).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_when_a_probe_is_over_although_no_place_came_free() {
        let places = places(64);
        let mut held = Vec::new();
        for _ in 0..places.figures().limit {
            held.push(places.enter(SCRAPER).await.unwrap());
        }
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let places = places.clone();
                tokio::spawn(async move { places.enter(READER).await })
            })
            .collect();
        while places.figures().waiting < 4 {
            tokio::task::yield_now().await;
        }
        // The probe lowers the limit. Those places come free, and the others are held.
        assert_eq!(places.figures().limit, core::CALM);
        held.truncate(8);
        assert_eq!(places.figures().waiting, 4);
        for request in waiting {
            assert!(request.await.unwrap().is_ok(), "waited until the deadline");
        }
    }

    #[test]
    fn a_place_is_held_for_less_long_than_anybody_waits_for_one() {
        assert!(HELD_FOR_BODY + HELD_LONGEST < WAIT_LONGEST);
    }

    #[test]
    fn pages_that_differ_in_a_number_are_of_one_kind() {
        let places = places(8);
        let kind = |path| places.kind(&Method::GET, path);
        assert_eq!(kind("/topic/1"), kind("/topic/98765"));
        assert_ne!(kind("/topic/1"), kind("/thread/1"));
        assert_ne!(kind("/topic/1"), places.kind(&Method::HEAD, "/topic/1"));
    }
}

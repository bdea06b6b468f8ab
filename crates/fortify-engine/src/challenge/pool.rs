//! A pool of pictures drawn ahead, so that pages do not wait for a render under normal load.
//!
//! The pool's own threads keep a bounded queue full. If the queue is empty, the picture is drawn on request.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a thread pauses after a failure, such as missing randomness, instead of retrying in a tight loop.
const REST_AFTER_FAULT: Duration = Duration::from_secs(1);

/// A bounded pool of `T`s made ahead.
pub struct Pool<T> {
    state: Arc<PoolState<T>>,
    threads: Vec<JoinHandle<()>>,
}

struct PoolState<T> {
    queue: Mutex<PoolQueue<T>>,
    /// Notified when something was taken, or the pool ends.
    changed: Condvar,
    capacity: usize,
}

struct PoolQueue<T> {
    ready: VecDeque<T>,
    ended: bool,
}

impl<T: Send + 'static> Pool<T> {
    /// Starts a pool of at most `capacity`, filled by `threads` threads that call `make`; `None` from it means a
    /// temporary failure. A capacity of 0 starts no threads.
    #[must_use]
    pub fn start(
        capacity: usize,
        threads: usize,
        make: impl Fn() -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        let queue = PoolQueue { ready: VecDeque::with_capacity(capacity), ended: false };
        let state =
            Arc::new(PoolState { queue: Mutex::new(queue), changed: Condvar::new(), capacity });
        let make = Arc::new(make);
        let threads = (0..if capacity == 0 { 0 } else { threads }).filter_map(|_| {
            let (state, make) = (state.clone(), make.clone());
            let work = move || state.refill(&*make);
            // Without its thread the pool stays empty, and pictures are drawn on request.
            thread::Builder::new().name("pictures".to_owned()).spawn(work).ok()
        });
        Self { threads: threads.collect(), state }
    }

    /// Takes one from the pool.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        let taken = self.state.lock().ready.pop_front();
        if taken.is_some() {
            self.state.changed.notify_one();
        }
        taken
    }

    /// Empties the pool, which is then filled again.
    pub fn clear(&self) {
        self.state.lock().ready.clear();
        self.state.changed.notify_all();
    }

    /// The number of pictures in the pool.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Whether the pool is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> PoolState<T> {
    /// Fills the pool until it ends.
    fn refill(&self, make: &(impl Fn() -> Option<T> + ?Sized)) {
        loop {
            let full =
                |queue: &mut PoolQueue<T>| queue.ready.len() >= self.capacity && !queue.ended;
            let queue = self.changed.wait_while(self.lock(), full);
            if queue.unwrap_or_else(PoisonError::into_inner).ended {
                return;
            }
            // Made without holding the lock, so that `take` never waits for it.
            let Some(made) = make() else {
                self.pause();
                continue;
            };
            let mut queue = self.lock();
            if queue.ready.len() < self.capacity {
                queue.ready.push_back(made);
            }
        }
    }

    fn pause(&self) {
        let not_ended = |queue: &mut PoolQueue<T>| !queue.ended;
        let _paused = self.changed.wait_timeout_while(self.lock(), REST_AFTER_FAULT, not_ended);
    }

    /// The queue stays consistent after a panic: every change is one push or pop.
    fn lock(&self) -> MutexGuard<'_, PoolQueue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        self.state.lock().ended = true;
        self.state.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _a_panic_was_logged = thread.join();
        }
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("capacity", &self.state.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;

    fn eventually(what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(20), "{what} did not happen");
            thread::yield_now();
        }
    }

    #[test]
    fn the_pool_fills_to_its_capacity_and_refills() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let pool = Pool::start(8, 2, move || Some(count.fetch_add(1, Ordering::SeqCst)));
        eventually("filling", || pool.len() == 8);
        let mut taken: Vec<_> = (0..8).filter_map(|_| pool.take()).collect();
        assert_eq!(taken.len(), 8);
        eventually("refilling", || pool.len() == 8);
        taken.extend((0..8).filter_map(|_| pool.take()));
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 16, "one was given out twice");
        assert!(made.load(Ordering::SeqCst) <= 16 + 8 + 2, "made without being wanted");
    }

    #[test]
    fn an_empty_pool_returns_none_and_ends_without_delay() {
        let pool = Pool::<u8>::start(4, 1, || None);
        assert_eq!(pool.take(), None);
        let started = Instant::now();
        drop(pool);
        assert!(started.elapsed() < Duration::from_secs(20));
        assert!(Pool::start(0, 1, || Some(1)).take().is_none());
    }
}

//! Pictures drawn ahead, so that a page never waits for a render in normal load.
//!
//! A few threads of its own keep a bounded stock. A picture that is taken is replaced; an empty
//! stock is no fault, the picture is then drawn while the visitor waits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a thread rests after it could not make one: no randomness, say, which comes back or
/// does not, and is not asked for in a tight loop.
const REST_AFTER_FAULT: Duration = Duration::from_secs(1);

/// A bounded stock of `T`s, made ahead.
pub struct Pool<T> {
    state: Arc<PoolState<T>>,
    threads: Vec<JoinHandle<()>>,
}

struct PoolState<T> {
    queue: Mutex<PoolQueue<T>>,
    /// Something was taken, or the pool is to end.
    changed: Condvar,
    capacity: usize,
}

struct PoolQueue<T> {
    ready: VecDeque<T>,
    ended: bool,
}

impl<T: Send + 'static> Pool<T> {
    /// A stock of at most `capacity`, kept up by `threads` threads that call `make`; `None` from it
    /// is a fault that may pass. A capacity of 0 is no stock and needs no thread.
    #[must_use]
    pub fn start(
        capacity: usize,
        threads: usize,
        make: impl Fn() -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        let shelf = PoolQueue { ready: VecDeque::with_capacity(capacity), ended: false };
        let stock =
            Arc::new(PoolState { queue: Mutex::new(shelf), changed: Condvar::new(), capacity });
        let make = Arc::new(make);
        let threads = (0..if capacity == 0 { 0 } else { threads }).filter_map(|_| {
            let (stock, make) = (stock.clone(), make.clone());
            let work = move || stock.refill(&*make);
            // Without its thread the stock stays empty and pictures are drawn when they are asked
            // for.
            thread::Builder::new().name("pictures".to_owned()).spawn(work).ok()
        });
        Self { threads: threads.collect(), state: stock }
    }

    /// One from the stock.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        let taken = self.state.lock().ready.pop_front();
        if taken.is_some() {
            self.state.changed.notify_one();
        }
        taken
    }

    /// Throws the stock away, to be made anew.
    pub fn clear(&self) {
        self.state.lock().ready.clear();
        self.state.changed.notify_all();
    }

    /// How many are in stock.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Whether the stock is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> PoolState<T> {
    /// The work of a thread, until the pool ends.
    fn refill(&self, make: &(impl Fn() -> Option<T> + ?Sized)) {
        loop {
            let full =
                |shelf: &mut PoolQueue<T>| shelf.ready.len() >= self.capacity && !shelf.ended;
            let shelf = self.changed.wait_while(self.lock(), full);
            if shelf.unwrap_or_else(PoisonError::into_inner).ended {
                return;
            }
            // Made without the lock: taking must not wait for it.
            let Some(made) = make() else {
                self.rest();
                continue;
            };
            let mut shelf = self.lock();
            if shelf.ready.len() < self.capacity {
                shelf.ready.push_back(made);
            }
        }
    }

    fn rest(&self) {
        let going_on = |shelf: &mut PoolQueue<T>| !shelf.ended;
        let _rested = self.changed.wait_timeout_while(self.lock(), REST_AFTER_FAULT, going_on);
    }

    /// A shelf is whole after any panic: it is pushed to and popped from, and nothing in between.
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
    fn the_stock_fills_to_its_bound_and_is_made_good() {
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
    fn an_empty_stock_gives_nothing_at_once_and_ends_at_once() {
        let pool = Pool::<u8>::start(4, 1, || None);
        assert_eq!(pool.take(), None);
        let started = Instant::now();
        drop(pool);
        assert!(started.elapsed() < Duration::from_secs(20));
        assert!(Pool::start(0, 1, || Some(1)).take().is_none());
    }
}

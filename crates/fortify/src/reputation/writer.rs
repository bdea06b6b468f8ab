//! The one thread that writes standings.
//!
//! One, because SQLite has one writer anyway, and because whoever comes while the disk is busy then
//! shares the next transaction instead of waiting for one of its own.
//!
//! What the disk does not take is in force in memory, and is written when it does again. A file that is
//! damaged under a running gate is put aside; everything that is in force is written to the new one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::ledger::{Applied, Ledger, Write, Written};
use super::{Kept, ReputationError, Row, Shared};
use crate::clock::{Clock, SteadyClock};
use crate::sqlite::FileError;

/// How often other processes' writes and standings that have ended are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often rows that are out of force are deleted from the file.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// How often a disk that does not take writes is tried again: seldom, because a try may take as long as
/// SQLite waits for another process, 3 s.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Writes of one transaction.
const MAX_BATCH: usize = 1024;

/// Transactions that make up for what could not be written, before others have their turn again.
const MAX_CATCH_UP: usize = 16;

/// A write, and who waits for it.
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) done: Option<oneshot::Sender<(Written, Kept)>>,
    /// A place in the bounded queue, given back when the write is done.
    pub(super) slot: OwnedSemaphorePermit,
}

pub(super) struct Writer {
    ledger: Ledger,
    shared: Arc<Shared>,
    clock: Arc<SteadyClock>,
    /// When the disk was last tried while it takes nothing.
    tried: Instant,
}

impl Writer {
    pub(super) fn new(ledger: Ledger, shared: Arc<Shared>, clock: Arc<SteadyClock>) -> Self {
        Self { ledger, shared, clock, tried: Instant::now() }
    }

    /// Writes until nobody can send any more.
    pub(super) fn run(mut self, queue: &Receiver<Job>) {
        let (mut polled, mut purged) = (Instant::now(), Instant::now());
        loop {
            match queue.recv_timeout(POLL_INTERVAL.saturating_sub(polled.elapsed())) {
                Ok(job) => {
                    let mut jobs = vec![job];
                    jobs.extend(queue.try_iter().take(MAX_BATCH - 1));
                    self.commit(jobs);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.catch_up();
                    return;
                }
            }
            if polled.elapsed() >= POLL_INTERVAL {
                polled = Instant::now();
                self.poll();
            }
            if purged.elapsed() >= PURGE_INTERVAL {
                purged = Instant::now();
                if let Err(error) = self.ledger.purge(self.clock.now()) {
                    self.heed(error);
                }
            }
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let writes: Vec<Write> = jobs.iter().map(|job| job.write).collect();
        // A disk that takes nothing is not asked for each: it would make each of them wait.
        let kept = if self.shared.is_failing() { None } else { self.write(&writes) };
        let (written, kept) = match kept {
            Some(written) => (written, Kept::OnDisk),
            None => (self.keep_in_memory(&writes), Kept::InMemory),
        };
        for (job, written) in jobs.into_iter().zip(written) {
            if let Some(done) = job.done {
                // Whoever stopped waiting does not need to know.
                let _gone = done.send((written, kept));
            }
            drop(job.slot);
        }
    }

    /// Does `writes` in file and memory; `None` where the disk does not take them.
    fn write(&mut self, writes: &[Write]) -> Option<Vec<Written>> {
        match self.ledger.apply(writes, self.clock.now()) {
            Ok(applied) => {
                self.take_over(writes, &applied);
                Some(applied.written)
            }
            Err(error) => {
                self.heed(error);
                None
            }
        }
    }

    fn take_over(&self, writes: &[Write], applied: &Applied) {
        let now = self.clock.now();
        let mut book = self.shared.book_mut();
        for row in &applied.foreign {
            book.put(*row, now);
        }
        // In the order of the transaction: who made room may come back in the same one.
        let mut dropped = applied.dropped.iter().peekable();
        for (index, (write, written)) in writes.iter().zip(&applied.written).enumerate() {
            while let Some((_, victim)) = dropped.next_if(|(at, _)| *at == index) {
                book.remove(*victim, now);
            }
            match written {
                Written::Done => book.put(write.row, now),
                Written::Yielded | Written::Full => book.give_up_writing(write.row.circuit),
            }
        }
        drop(book);
        self.shared.changed.notify_one();
    }

    fn keep_in_memory(&self, writes: &[Write]) -> Vec<Written> {
        let (now, most) = (self.clock.now(), self.shared.max_rows);
        let mut book = self.shared.book_mut();
        let written = writes.iter().map(|write| book.put_unwritten(*write, most, now)).collect();
        drop(book);
        self.shared.changed.notify_one();
        written
    }

    /// Where the clock was set, moves what is in force by as much: it ends when it would have, and a restart
    /// and the command line, which know the wall clock alone, find it so.
    fn follow_clock(&mut self) {
        let mut book = self.shared.book_mut();
        let Some(jump) = self.clock.follow() else { return };
        book.shift(jump.millis);
        drop(book);
        if let Err(error) = self.ledger.shift(jump.millis) {
            self.heed(error);
            self.shared.book_mut().all_unwritten();
        }
    }

    fn poll(&mut self) {
        self.follow_clock();
        if let Err(error) = self.ledger.verify() {
            self.heed(error);
        }
        loop {
            match self.ledger.foreign() {
                Ok((rows, more)) => {
                    self.put(&rows);
                    if !more {
                        break;
                    }
                }
                Err(error) => {
                    self.heed(error);
                    break;
                }
            }
        }
        if self.shared.is_failing() {
            if self.tried.elapsed() >= RETRY_INTERVAL {
                self.catch_up();
            }
        } else if self.shared.book().unwritten() > 0 {
            self.catch_up();
        }
        if self.shared.book_mut().expire(self.clock.now()) {
            self.shared.changed.notify_one();
        }
    }

    /// Writes what the disk did not take before; with nothing to write, tries whether it takes anything.
    fn catch_up(&mut self) {
        self.tried = Instant::now();
        for _transaction in 0..MAX_CATCH_UP {
            let writes = self.shared.book().some_unwritten(MAX_BATCH);
            if writes.is_empty() && !self.shared.is_failing() {
                return;
            }
            if self.write(&writes).is_none() {
                return;
            }
            if writes.len() < MAX_BATCH {
                self.shared.heal();
                return;
            }
        }
    }

    fn put(&self, rows: &[Row]) {
        if rows.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut book = self.shared.book_mut();
        for row in rows {
            book.put(*row, now);
        }
        drop(book);
        self.shared.changed.notify_one();
    }

    /// Goes on in memory; a damaged file is put aside first, and what is in force is to be written anew.
    fn heed(&mut self, error: FileError) {
        let error = match &error {
            FileError::Damaged { .. } => match self.begin_anew(&error) {
                Ok(()) => return,
                Err(error) => error,
            },
            _ => error,
        };
        self.shared.fail(&ReputationError::File(error));
    }

    fn begin_anew(&mut self, damaged: &FileError) -> Result<(), FileError> {
        // Where that fails it is tried again, and not with every look at the file.
        if self.shared.is_failing() && self.tried.elapsed() < RETRY_INTERVAL {
            return Err(damaged.clone());
        }
        self.tried = Instant::now();
        self.ledger.begin_anew(damaged, self.clock.now())?;
        self.shared.begun_anew.store(true, Ordering::Relaxed);
        self.shared.book_mut().all_unwritten();
        Ok(())
    }
}

//! The one thread that writes standings.
//!
//! One, because SQLite has one writer anyway, and because whoever comes while the disk is busy then
//! shares the next transaction instead of waiting for one of its own.
//!
//! What the disk does not take is in force in memory, and is written when it does again. A file that is
//! damaged under a running gate is put aside; everything that is in force is written to the new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::ledger::{Applied, Ledger, Write, Written};
use super::shared::{self, Heard, HeardRow};
use super::{Kept, ReputationError, Row, Shared};
use fortify_core::clock::{Clock, SteadyClock};
use fortify_core::sqlite::FileError;

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

/// Rows that other gates told, and who waits until they count.
pub(super) struct Hearing {
    pub(super) rows: Vec<HeardRow>,
    pub(super) done: oneshot::Sender<()>,
}

/// What the thread is to do.
pub(super) enum Order {
    Write(Job),
    Hear(Hearing),
}

/// Whose rows are written.
#[derive(Clone, Copy)]
enum Whose {
    /// They are decided here: other gates are to be told.
    Decided,
    /// Other gates told them.
    Heard,
    /// They are in force already, and told; the file did not have them.
    InForce,
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
    pub(super) fn run(mut self, queue: &Receiver<Order>) {
        // Rows whose times are others than in the file.
        self.catch_up();
        let (mut polled, mut purged) = (Instant::now(), Instant::now());
        loop {
            match queue.recv_timeout(POLL_INTERVAL.saturating_sub(polled.elapsed())) {
                Ok(first) => {
                    let (mut jobs, mut hearings) = (Vec::new(), Vec::new());
                    let more = queue.try_iter().take(MAX_BATCH - 1);
                    for order in std::iter::once(first).chain(more) {
                        match order {
                            Order::Write(job) => jobs.push(job),
                            Order::Hear(hearing) => hearings.push(hearing),
                        }
                    }
                    if !jobs.is_empty() {
                        self.commit(jobs);
                    }
                    hearings.into_iter().for_each(|hearing| self.hear(hearing));
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
        self.write_before(&writes);
        let (written, kept) = match self.apply(&writes) {
            Some(applied) => {
                self.take_over(&writes, &applied, Whose::Decided);
                (applied.written, Kept::OnDisk)
            }
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

    /// Has the file know what is in force of the circuits of `writes`: it is what they are judged by.
    fn write_before(&mut self, writes: &[Write]) {
        let circuits = writes.iter().map(|write| write.row.circuit);
        let missing = self.shared.book().unwritten_of(circuits);
        if !missing.is_empty()
            && let Some(applied) = self.apply(&missing)
        {
            self.take_over(&missing, &applied, Whose::InForce);
        }
    }

    /// Does `writes` in the file; `None` where the disk does not take them. One that takes nothing is not
    /// asked for each: it would make each of them wait.
    fn apply(&mut self, writes: &[Write]) -> Option<Applied> {
        if self.shared.is_failing() { None } else { self.try_apply(writes) }
    }

    fn try_apply(&mut self, writes: &[Write]) -> Option<Applied> {
        match self.ledger.apply(writes, self.clock.now()) {
            Ok(applied) => Some(applied),
            Err(error) => {
                self.heed(error);
                None
            }
        }
    }

    /// Has memory be as the file is after `writes`. Other gates are told what another process wrote before
    /// them, and what was decided with them.
    fn take_over(&self, writes: &[Write], applied: &Applied, whose: Whose) {
        let (now, mut told) = (self.clock.now(), Vec::new());
        let mut book = self.shared.book_mut();
        for row in &applied.foreign {
            told.push(book.succeed(*row, now));
        }
        // In the order of the transaction: who made room may come back in the same one.
        let mut dropped = applied.dropped.iter().peekable();
        let mut kept = applied.kept.iter().peekable();
        for (index, (write, written)) in writes.iter().zip(&applied.written).enumerate() {
            while let Some((_, victim)) = dropped.next_if(|(at, _)| *at == index) {
                book.remove(*victim, now);
            }
            match (written, whose) {
                (Written::Done, Whose::Decided) => told.push(book.succeed(write.row, now)),
                (Written::Done, Whose::Heard) => book.put(write.row, now),
                (Written::Yielded, _) => {
                    if let Some((_, ban, shifted)) = kept.next_if(|(at, ..)| *at == index) {
                        book.yield_to(&write.row, *ban, *shifted, now);
                    }
                }
                // What is in force is what it was before it was written.
                _ => book.wait_no_more(&write.row),
            }
        }
        drop(book);
        self.shared.outbox.put(told);
        self.shared.changed.notify_one();
    }

    /// Has `writes` be in force without the file. Other gates are told: a ban is one whatever the disk does.
    fn keep_in_memory(&self, writes: &[Write]) -> Vec<Written> {
        let (now, most) = (self.clock.now(), self.shared.max_rows);
        let mut book = self.shared.book_mut();
        let (mut written, mut told) = (Vec::with_capacity(writes.len()), Vec::new());
        for write in writes {
            let (became, row) = book.put_unwritten(*write, most, now);
            written.push(became);
            told.extend(row);
        }
        drop(book);
        self.shared.outbox.put(told);
        self.shared.changed.notify_one();
        written
    }

    /// Puts what other gates told in force, as far as it counts beside what is. What the disk refuses counts
    /// in memory, as what is decided here does.
    fn hear(&mut self, hearing: Hearing) {
        // What another process wrote is decided here too.
        self.poll();
        let now = self.clock.now();
        let (mut counts, mut outdone) = (BTreeMap::new(), Vec::new());
        for heard in hearing.rows {
            let (heard, circuit) = (self.shared.outbox.with_word(heard), heard.row.circuit);
            let mine = counts.get(&circuit).copied();
            let mine = mine.or_else(|| self.shared.book().decided(circuit, now));
            match shared::hear(mine.as_ref(), &heard, now) {
                Heard::Counts => _ = counts.insert(circuit, heard.row),
                Heard::Outdone => outdone.extend(mine),
                Heard::Known => {}
            }
        }
        let writes: Vec<Write> = counts.values().map(|row| Write::of(*row)).collect();
        if !writes.is_empty() {
            match self.apply(&writes) {
                Some(applied) => self.take_over(&writes, &applied, Whose::Heard),
                None => {
                    let mut book = self.shared.book_mut();
                    for write in &writes {
                        // Other gates know it; at the bound it counts there alone.
                        let _became = book.put_unwritten(*write, self.shared.max_rows, now);
                    }
                    drop(book);
                    self.shared.changed.notify_one();
                }
            }
        }
        self.shared.outbox.put(outdone);
        // Whoever stopped waiting hears it all again.
        let _gone = hearing.done.send(());
    }

    /// Where the clock was set, moves what is in force by as much: it ends when it would have, and a restart
    /// and the command line, which know the wall clock alone, find it so.
    ///
    /// Other gates are told nothing: it is what was decided before.
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
                    self.take_over_foreign(&rows);
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
            // A disk that failed is tried here, and nowhere else.
            let Some(applied) = self.try_apply(&writes) else { return };
            self.take_over(&writes, &applied, Whose::InForce);
            if writes.len() < MAX_BATCH {
                self.shared.heal();
                return;
            }
        }
    }

    fn take_over_foreign(&self, rows: &[Row]) {
        if rows.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut book = self.shared.book_mut();
        let told: Vec<Row> = rows.iter().map(|row| book.succeed(*row, now)).collect();
        drop(book);
        self.shared.outbox.put(told);
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

//! The one thread that writes standings.
//!
//! One, because SQLite has one writer anyway, and because whoever comes while the disk is busy then
//! shares the next transaction instead of waiting for one of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::ledger::{Ledger, Write, Written};
use super::shared::{self, Heard, HeardRow};
use super::{ReputationError, Row, Shared};
use crate::clock::Clock;

/// How often other processes' writes and standings that have ended are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often rows that are out of force are deleted from the file.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// Writes of one transaction.
const MAX_BATCH: usize = 1024;

/// A write, and who waits for it.
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) done: Option<oneshot::Sender<Result<Written, ReputationError>>>,
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

pub(super) struct Writer {
    ledger: Ledger,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    /// Whether the last look at the file failed: said once, not ten times a second.
    complained: bool,
}

impl Writer {
    pub(super) fn new(ledger: Ledger, shared: Arc<Shared>, clock: Arc<dyn Clock>) -> Self {
        Self { ledger, shared, clock, complained: false }
    }

    /// Writes until nobody can send any more.
    pub(super) fn run(mut self, queue: &Receiver<Order>) {
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
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if polled.elapsed() >= POLL_INTERVAL {
                polled = Instant::now();
                self.poll();
            }
            if purged.elapsed() >= PURGE_INTERVAL {
                purged = Instant::now();
                let done = self.ledger.purge(self.clock.now());
                self.heed(done);
            }
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let writes: Vec<Write> = jobs.iter().map(|job| job.write).collect();
        let now = self.clock.now();
        match self.ledger.apply(&writes, now) {
            Ok(applied) => {
                let mut told = Vec::new();
                {
                    let mut book = self.shared.book_mut();
                    for row in &applied.foreign {
                        told.push(book.succeed(*row, now));
                    }
                    // In the order of the transaction: who made room may come back in the same one.
                    let mut dropped = applied.dropped.iter().peekable();
                    for (index, (write, written)) in writes.iter().zip(&applied.written).enumerate()
                    {
                        while let Some((_, victim)) = dropped.next_if(|(at, _)| *at == index) {
                            book.remove(*victim, now);
                        }
                        if *written == Written::Done {
                            told.push(book.succeed(write.row, now));
                        }
                    }
                }
                self.shared.changed.notify_one();
                self.shared.outbox.put(told);
                for (job, written) in jobs.into_iter().zip(applied.written) {
                    answer(job, Ok(written));
                }
            }
            Err(error) => {
                if jobs.iter().any(|job| job.done.is_none()) {
                    tracing::error!(%error, "favours of visitors who solved were not kept");
                }
                for job in jobs {
                    answer(job, Err(error.clone()));
                }
            }
        }
    }

    /// Puts what other gates told in force, as far as it counts beside what is. What the disk refuses
    /// counts in memory: a gate that starts again hears it again.
    fn hear(&mut self, hearing: Hearing) {
        // What another process wrote is decided here too.
        self.poll();
        let now = self.clock.now();
        let (mut counts, mut outdone) = (BTreeMap::new(), Vec::new());
        for heard in hearing.rows {
            let (heard, circuit) = (self.shared.outbox.with_word(heard), heard.row.circuit);
            let book = self.shared.book();
            let mine = counts.get(&circuit).or_else(|| book.row(circuit, now));
            match shared::hear(mine, &heard, now) {
                Heard::Counts => _ = counts.insert(circuit, heard.row),
                Heard::Outdone => outdone.extend(mine.copied()),
                Heard::Known => {}
            }
        }
        let writes: Vec<Write> =
            counts.values().map(|row| Write { row: *row, yields: false }).collect();
        if !writes.is_empty() {
            let (mut foreign, mut dropped) = (Vec::new(), Vec::new());
            match self.ledger.apply(&writes, now) {
                Ok(applied) => (foreign, dropped) = (applied.foreign, applied.dropped),
                Err(error) => self.heed(Err(error)),
            }
            {
                let mut book = self.shared.book_mut();
                foreign.iter_mut().for_each(|row| *row = book.succeed(*row, now));
                dropped.iter().for_each(|(_, victim)| book.remove(*victim, now));
                counts.values().for_each(|row| book.put(*row, now));
            }
            self.shared.outbox.put(foreign);
            self.shared.changed.notify_one();
        }
        self.shared.outbox.put(outdone);
        // Whoever stopped waiting hears it all again.
        let _gone = hearing.done.send(());
    }

    fn poll(&mut self) {
        let now = self.clock.now();
        loop {
            match self.ledger.foreign() {
                Ok((rows, more)) => {
                    self.complained = false;
                    self.take_over(&rows);
                    if !more {
                        break;
                    }
                }
                Err(error) => {
                    self.heed(Err(error));
                    break;
                }
            }
        }
        if self.shared.book_mut().expire(now) {
            self.shared.changed.notify_one();
        }
    }

    fn take_over(&self, rows: &[Row]) {
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

    fn heed(&mut self, done: Result<(), ReputationError>) {
        if let Err(error) = done
            && !self.complained
        {
            self.complained = true;
            tracing::error!(%error, "standings cannot be read again; those in memory stay");
        }
    }
}

fn answer(job: Job, result: Result<Written, ReputationError>) {
    if let Some(done) = job.done {
        // Whoever stopped waiting does not need to know.
        let _gone = done.send(result);
    }
    drop(job.slot);
}

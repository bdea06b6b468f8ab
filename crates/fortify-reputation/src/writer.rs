//! The one thread that writes circuit statuses.
//!
//! There is one because SQLite has a single writer anyway, and because writes that arrive while the disk is busy
//! then share the next transaction.
//!
//! Writes that fail are in force in memory, and are retried. If the file is damaged while the gate runs, it is
//! quarantined, and everything in force is written to a new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::replication::{self, RemoteEffect, RemoteRow};
use super::status_db::{Applied, StatusDb, Write, WriteOutcome};
use super::{Durability, ReputationError, SharedState, StatusRow};
use fortify_core::clock::{Clock, SteadyClock};
use fortify_core::sqlite::FileError;

/// How often to look for writes of other processes and for expired statuses.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often expired rows are deleted from the file.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// How often a failing disk is tried again. Rarely, because an attempt may take the 3 s for which SQLite waits for
/// another process.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The most writes in one transaction.
const MAX_BATCH: usize = 1024;

/// The most transactions of failed writes in a row, before new writes are handled.
const MAX_CATCH_UP: usize = 16;

/// A write, and the channel for its result.
pub(super) struct WriteJob {
    pub(super) write: Write,
    pub(super) done: Option<oneshot::Sender<(WriteOutcome, Durability)>>,
    /// A place in the bounded queue, released when the write is done.
    pub(super) slot: OwnedSemaphorePermit,
}

/// Rows from other nodes, and the channel that confirms them.
pub(super) struct RemoteBatch {
    pub(super) rows: Vec<RemoteRow>,
    pub(super) done: oneshot::Sender<()>,
}

/// A command to the writer thread.
pub(super) enum WriterCommand {
    Write(WriteJob),
    ApplyRemote(RemoteBatch),
}

/// The origin of written rows.
#[derive(Clone, Copy)]
enum RowOrigin {
    /// Decided on this node, to be published.
    Local,
    /// Received from other nodes.
    Remote,
    /// In force and published already, but missing from the file.
    InForce,
}

pub(super) struct Writer {
    db: StatusDb,
    shared: Arc<SharedState>,
    clock: Arc<SteadyClock>,
    /// When a failing disk was last tried.
    tried: Instant,
}

impl Writer {
    pub(super) fn new(db: StatusDb, shared: Arc<SharedState>, clock: Arc<SteadyClock>) -> Self {
        Self { db, shared, clock, tried: Instant::now() }
    }

    /// Runs until all senders are gone.
    pub(super) fn run(mut self, queue: &Receiver<WriterCommand>) {
        // Rows with different times in the file.
        self.catch_up();
        let (mut polled, mut purged) = (Instant::now(), Instant::now());
        loop {
            match queue.recv_timeout(POLL_INTERVAL.saturating_sub(polled.elapsed())) {
                Ok(first) => {
                    let (mut jobs, mut batches) = (Vec::new(), Vec::new());
                    let more = queue.try_iter().take(MAX_BATCH - 1);
                    for order in std::iter::once(first).chain(more) {
                        match order {
                            WriterCommand::Write(job) => jobs.push(job),
                            WriterCommand::ApplyRemote(batch) => batches.push(batch),
                        }
                    }
                    if !jobs.is_empty() {
                        self.commit(jobs);
                    }
                    batches.into_iter().for_each(|batch| self.apply_remote(batch));
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
                if let Err(error) = self.db.purge(self.clock.now()) {
                    self.handle_error(error);
                }
            }
        }
    }

    fn commit(&mut self, jobs: Vec<WriteJob>) {
        let writes: Vec<Write> = jobs.iter().map(|job| job.write).collect();
        self.write_before(&writes);
        let (written, kept) = match self.apply(&writes) {
            Some(applied) => {
                self.update_table(&writes, &applied, RowOrigin::Local);
                (applied.written, Durability::OnDisk)
            }
            None => (self.keep_in_memory(&writes), Durability::InMemory),
        };
        for (job, written) in jobs.into_iter().zip(written) {
            if let Some(done) = job.done {
                // A caller that stopped waiting does not need the result.
                let _gone = done.send((written, kept));
            }
            drop(job.slot);
        }
    }

    /// Writes pending rows of the circuits in `writes` first, because the file decides whether a write yields.
    fn write_before(&mut self, writes: &[Write]) {
        let circuits = writes.iter().map(|write| write.row.circuit);
        let missing = self.shared.table().unwritten_of(circuits);
        if !missing.is_empty()
            && let Some(applied) = self.apply(&missing)
        {
            self.update_table(&missing, &applied, RowOrigin::InForce);
        }
    }

    /// Writes `writes` to the file; `None` if the disk fails. A failing disk is not tried for every write, because each
    /// would have to wait for it.
    fn apply(&mut self, writes: &[Write]) -> Option<Applied> {
        if self.shared.is_failing() { None } else { self.try_apply(writes) }
    }

    fn try_apply(&mut self, writes: &[Write]) -> Option<Applied> {
        match self.db.apply(writes, self.clock.now()) {
            Ok(applied) => Some(applied),
            Err(error) => {
                self.handle_error(error);
                None
            }
        }
    }

    /// Updates the table to match the file after `writes`. Rows written by other processes before them and local
    /// decisions are published.
    fn update_table(&self, writes: &[Write], applied: &Applied, whose: RowOrigin) {
        let (now, mut outgoing) = (self.clock.now(), Vec::new());
        let mut table = self.shared.table_mut();
        for row in &applied.foreign {
            outgoing.push(table.replace(*row, now));
        }
        // In the order of the transaction: an evicted circuit may get a new row in the same one.
        let mut dropped = applied.dropped.iter().peekable();
        let mut kept = applied.kept.iter().peekable();
        for (index, (write, written)) in writes.iter().zip(&applied.written).enumerate() {
            while let Some((_, victim)) = dropped.next_if(|(at, _)| *at == index) {
                table.remove(*victim, now);
            }
            match (written, whose) {
                (WriteOutcome::Done, RowOrigin::Local) => {
                    outgoing.push(table.replace(write.row, now))
                }
                (WriteOutcome::Done, RowOrigin::Remote) => table.put(write.row, now),
                (WriteOutcome::Yielded, _) => {
                    if let Some((_, ban, shifted)) = kept.next_if(|(at, ..)| *at == index) {
                        table.keep_ban(&write.row, *ban, *shifted, now);
                    }
                }
                // The row in force is the same as before.
                _ => table.mark_written(&write.row),
            }
        }
        drop(table);
        self.shared.replication_queue.put(outgoing);
        self.shared.changed.notify_one();
    }

    /// Puts `writes` in force in memory only. They are published all the same: a ban applies whatever the disk does.
    fn keep_in_memory(&self, writes: &[Write]) -> Vec<WriteOutcome> {
        let (now, most) = (self.clock.now(), self.shared.max_rows);
        let mut table = self.shared.table_mut();
        let (mut written, mut outgoing) = (Vec::with_capacity(writes.len()), Vec::new());
        for write in writes {
            let (outcome, row) = table.put_unwritten(*write, most, now);
            written.push(outcome);
            outgoing.extend(row);
        }
        drop(table);
        self.shared.replication_queue.put(outgoing);
        self.shared.changed.notify_one();
        written
    }

    /// Applies rows from other nodes unless local rows supersede them. If the disk fails, they are in force in memory,
    /// as local decisions are.
    fn apply_remote(&mut self, batch: RemoteBatch) {
        // Rows written by another process are decisions of this node too.
        self.poll();
        let now = self.clock.now();
        let (mut counts, mut superseded) = (BTreeMap::new(), Vec::new());
        for remote in batch.rows {
            let (remote, circuit) =
                (self.shared.replication_queue.with_operator_time(remote), remote.row.circuit);
            let mine = counts.get(&circuit).copied();
            let mine = mine.or_else(|| self.shared.table().decided(circuit, now));
            match replication::compare_remote(mine.as_ref(), &remote, now) {
                RemoteEffect::Counts => _ = counts.insert(circuit, remote.row),
                RemoteEffect::Superseded => superseded.extend(mine),
                RemoteEffect::Known => {}
            }
        }
        let writes: Vec<Write> = counts.values().map(|row| Write::of(*row)).collect();
        if !writes.is_empty() {
            match self.apply(&writes) {
                Some(applied) => self.update_table(&writes, &applied, RowOrigin::Remote),
                None => {
                    let mut table = self.shared.table_mut();
                    for write in &writes {
                        // Other nodes have the row; if the table is full, it applies on those only.
                        let _outcome = table.put_unwritten(*write, self.shared.max_rows, now);
                    }
                    drop(table);
                    self.shared.changed.notify_one();
                }
            }
        }
        self.shared.replication_queue.put(superseded);
        // A caller that stopped waiting gets everything again.
        let _gone = batch.done.send(());
    }

    /// Shifts the rows in force by as much as the clock was set. They end when they would have, also for the command
    /// line and after a restart, which know only the wall clock.
    ///
    /// Nothing is published, because no decision has changed.
    fn follow_clock(&mut self) {
        let mut table = self.shared.table_mut();
        let Some(jump) = self.clock.follow() else { return };
        table.shift(jump.millis);
        drop(table);
        if let Err(error) = self.db.shift(jump.millis) {
            self.handle_error(error);
            self.shared.table_mut().mark_all_unwritten();
        }
    }

    fn poll(&mut self) {
        self.follow_clock();
        if let Err(error) = self.db.verify() {
            self.handle_error(error);
        }
        loop {
            match self.db.foreign() {
                Ok((rows, more)) => {
                    self.update_table_from_file(&rows);
                    if !more {
                        break;
                    }
                }
                Err(error) => {
                    self.handle_error(error);
                    break;
                }
            }
        }
        if self.shared.is_failing() {
            if self.tried.elapsed() >= RETRY_INTERVAL {
                self.catch_up();
            }
        } else if self.shared.table().unwritten() > 0 {
            self.catch_up();
        }
        if self.shared.table_mut().expire(self.clock.now()) {
            self.shared.changed.notify_one();
        }
    }

    /// Writes the rows that could not be written before. With none, it tests whether the disk works again.
    fn catch_up(&mut self) {
        self.tried = Instant::now();
        for _transaction in 0..MAX_CATCH_UP {
            let writes = self.shared.table().some_unwritten(MAX_BATCH);
            if writes.is_empty() && !self.shared.is_failing() {
                return;
            }
            // Only here is a failing disk tried again.
            let Some(applied) = self.try_apply(&writes) else { return };
            self.update_table(&writes, &applied, RowOrigin::InForce);
            if writes.len() < MAX_BATCH {
                self.shared.recover();
                return;
            }
        }
    }

    fn update_table_from_file(&self, rows: &[StatusRow]) {
        if rows.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut table = self.shared.table_mut();
        let outgoing: Vec<StatusRow> = rows.iter().map(|row| table.replace(*row, now)).collect();
        drop(table);
        self.shared.replication_queue.put(outgoing);
        self.shared.changed.notify_one();
    }

    /// Continues in memory. A damaged file is quarantined and recreated, and everything in force is written again.
    fn handle_error(&mut self, error: FileError) {
        let error = match &error {
            FileError::Damaged { .. } => match self.recreate(&error) {
                Ok(()) => return,
                Err(error) => error,
            },
            _ => error,
        };
        self.shared.fail(&ReputationError::File(error));
    }

    fn recreate(&mut self, damaged: &FileError) -> Result<(), FileError> {
        // If that fails, it is retried, but not with every poll.
        if self.shared.is_failing() && self.tried.elapsed() < RETRY_INTERVAL {
            return Err(damaged.clone());
        }
        self.tried = Instant::now();
        self.db.recreate(damaged, self.clock.now())?;
        self.shared.recreated.store(true, Ordering::Relaxed);
        self.shared.table_mut().mark_all_unwritten();
        Ok(())
    }
}

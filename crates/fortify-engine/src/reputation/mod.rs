//! How circuits stand: trusted, refused, or neither, and until when.
//!
//! This is the wanted state, and the only one that decides. It is in a file, so that a ban outlives
//! the process; in memory, so that a request asks without waiting; and in `HAProxy`'s table, to which
//! the reconciler of the crate `fortify-haproxy` copies it.
//!
//! # Layout
//!
//! - [`Reputation`]: what a running gate asks and tells, from any task.
//! - [`db`]: the SQLite file, also for the command line, which may write beside a running gate.
//! - [`history`]: how circuits answer, what that is worth and what it looks like; in memory.
//! - `table`: the same in memory, with what changed since somebody looked; pure.
//! - `penalties`: with whom `HAProxy` is strict; pure.
//! - `writer`: the one thread that writes.
//! - [`shared`]: what other gates are told, and what is made of what they tell.

pub mod answer_history;
pub mod metrics;
mod penalties;
pub mod replication;
pub mod status_db;
mod status_table;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};

use fortify_core::circuit::{TorBoot, TorCircuit};
use fortify_core::clock::{Clock, SteadyClock, Timestamp};
use fortify_core::sqlite::FileError;
pub use penalties::PenaltyUpdate;
use replication::{RemoteRow, ReplicationQueue};
use status_db::{StatusDb, Write, WriteOutcome};
use status_table::StatusTable;
pub use status_table::{Changes, Counts};
use writer::{RemoteBatch, WriteJob, WriterCommand};

/// Standings kept at one time, 500,000: measured 150 bytes each in memory and 80 on disk, and half of
/// what the table of the shipped `HAProxy` configuration holds. At the bound those that were reset
/// make room first, then the VIPs whose time ends first; a ban never does.
pub const MAX_STATUS_ROWS: usize = 500_000;

/// Writes that may wait for the disk or be on their way to it.
const MAX_WAITING_WRITES: usize = 4096;

/// How long a caller waits for a place in that queue, and then for the disk, each.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// How a circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitStatus {
    /// Like any other: a favour or a ban was taken back.
    Normal,
    /// Trusted.
    Trusted,
    /// Refused.
    Banned,
}

impl CircuitStatus {
    /// Every standing, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Trusted, Self::Banned];

    /// The word in metrics and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "reset",
            Self::Trusted => "vip",
            Self::Banned => "banned",
        }
    }
}

impl fmt::Display for CircuitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a circuit stands as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusReason {
    /// It answered a challenge.
    Solved,
    /// It gave `security.max_captcha_failures` wrong answers.
    Failures,
    /// Its conduct came to `reputation.ban_points`.
    Score,
    /// An operator said so.
    Operator,
    /// Tor closed the circuit, or started anew: it is no more.
    Closed,
    /// Another version of this program said so, in a word that this one does not know.
    Other,
}

impl StatusReason {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Solved => "solved",
            Self::Failures => "failures",
            Self::Score => "score",
            Self::Operator => "operator",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }

    fn parse(word: &str) -> Self {
        let known = [Self::Solved, Self::Failures, Self::Score, Self::Operator, Self::Closed];
        known.into_iter().find(|reason| reason.as_str() == word).unwrap_or(Self::Other)
    }
}

/// How one circuit stands, since and until when, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRow {
    /// Who.
    pub circuit: TorCircuit,
    /// How.
    pub status: CircuitStatus,
    /// Since when.
    pub since: Timestamp,
    /// Until when; not in force any more at this time.
    pub until: Timestamp,
    /// Why.
    pub reason: StatusReason,
}

impl StatusRow {
    /// The same by a clock that was set `millis` forward, or back.
    fn shifted(self, millis: i64) -> Self {
        let [since, until] = [self.since, self.until].map(|time| time.shifted(millis));
        Self { since, until, ..self }
    }
}

/// Why a standing could not be kept or read. Each message says what to do; none names a circuit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReputationError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes standings: {0}")]
    Thread(String),
    /// Every row is a ban in force.
    #[error(
        "there are {MAX_STATUS_ROWS} bans in force and none is forgotten to make room; shorten \
         reputation.ban_seconds, or find out who opens so many circuits"
    )]
    Full,
    /// More writes wait than may.
    #[error(
        "{MAX_WAITING_WRITES} standings wait for the disk under storage.data_dir; it is too slow"
    )]
    Busy,
    /// The thread that writes has ended.
    #[error("standings are not written any more, restart the gate; the log says why")]
    Ended,
}

/// Where a standing is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the file: it outlives this process.
    OnDisk,
    /// In memory alone: in force, and written when the disk takes it. [`Reputation::is_degraded`] says so.
    InMemory,
}

/// How circuits stand, for the tasks of a running gate.
pub struct Reputation {
    shared: Arc<SharedState>,
    /// A standing lasts as long as was said, however the wall clock is set meanwhile.
    clock: Arc<SteadyClock>,
    slots: Arc<Semaphore>,
    jobs: Option<mpsc::Sender<WriterCommand>>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer and everybody else look at.
struct SharedState {
    table: RwLock<StatusTable>,
    changed: Notify,
    /// What was decided here and other gates are to be told.
    replication_queue: Arc<ReplicationQueue>,
    max_rows: usize,
    /// Whether the file did not take the last write, or not in time.
    failing: AtomicBool,
    /// Whether the file was damaged, and is a new one, since this gate started.
    recreated: AtomicBool,
}

impl SharedState {
    /// The book is whole after any panic: every change to it is one call.
    fn table(&self) -> RwLockReadGuard<'_, StatusTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, StatusTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a write that the file does not take be in force all the same, and other gates be told. What is
    /// wrong is said once.
    fn keep_in_memory(&self, write: Write, why: &ReputationError, now: Timestamp) -> WriteOutcome {
        self.fail(why);
        let (written, outgoing) = self.table_mut().put_unwritten(write, self.max_rows, now);
        self.replication_queue.put(outgoing);
        self.changed.notify_one();
        written
    }

    fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    fn fail(&self, why: &ReputationError) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                error = %why,
                "bans and favours cannot be written; they are in force until this process ends, and \
                 are written as soon as they can be"
            );
        }
    }

    fn recover(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("bans and favours are written again, those that waited too");
        }
    }
}

impl Reputation {
    /// Opens the file in `data_dir`, making it if there is none, and reads what is in force.
    ///
    /// # Errors
    ///
    /// [`ReputationError`], with the file and what to do.
    pub fn open(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, ReputationError> {
        Self::bounded(data_dir, clock, MAX_STATUS_ROWS)
    }

    fn bounded(
        data_dir: &Path,
        clock: Arc<dyn Clock>,
        rows: usize,
    ) -> Result<Self, ReputationError> {
        let clock = Arc::new(SteadyClock::over(clock));
        let now = clock.now();
        let mut db = StatusDb::open(data_dir, rows, now)?;
        let loaded = match db.load(now) {
            Err(damaged @ FileError::Damaged { .. }) => {
                db.recreate(&damaged, now)?;
                db.load(now)?
            }
            loaded => loaded?,
        };
        let mut table = StatusTable::default();
        for (row, shifted) in loaded {
            // A clock that was set back since makes nothing last longer than it was meant to. A row that
            // begins after its end was told so, to be later than the one before it.
            let back = match now < row.since && row.since < row.until {
                true => i64::try_from(now.until(row.since).as_millis()).unwrap_or(i64::MAX),
                false => 0,
            };
            if back == 0 {
                table.load(row, shifted, now);
            } else {
                table.load_moved(row.shifted(-back), shifted.saturating_sub(back), now);
            }
        }
        let shared = Arc::new(SharedState {
            table: RwLock::new(table),
            changed: Notify::new(),
            replication_queue: Arc::default(),
            max_rows: rows,
            failing: AtomicBool::new(false),
            recreated: AtomicBool::new(db.was_recreated()),
        });
        let (jobs, queue) = mpsc::channel();
        let writer = writer::Writer::new(db, shared.clone(), clock.clone());
        let thread = std::thread::Builder::new()
            .name("reputation".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|error| ReputationError::Thread(error.to_string()))?;
        let slots = Arc::new(Semaphore::new(MAX_WAITING_WRITES));
        Ok(Self { shared, clock, slots, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has `circuit` stand so until `until`, whatever it was before. In force when this returns, and on disk
    /// unless the disk does not take it.
    ///
    /// # Errors
    ///
    /// [`ReputationError::Full`]: nothing has changed then.
    pub async fn set(
        &self,
        circuit: TorCircuit,
        status: CircuitStatus,
        until: Timestamp,
        reason: StatusReason,
    ) -> Result<Durability, ReputationError> {
        let since = self.clock.now();
        self.write(Write::of(StatusRow { circuit, status, since, until, reason })).await
    }

    /// Refuses `circuit` until `until`, for what it did; a ban in force that lasts longer stays. As
    /// [`Self::set`], in force when this returns.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    pub async fn ban(
        &self,
        circuit: TorCircuit,
        until: Timestamp,
        reason: StatusReason,
    ) -> Result<Durability, ReputationError> {
        let (status, since) = (CircuitStatus::Banned, self.clock.now());
        let row = StatusRow { circuit, status, since, until, reason };
        self.write(Write { yields: true, ..Write::of(row) }).await
    }

    /// Favours `circuit` until `until`, unless it is banned; in force when this returns. A time that has
    /// come takes a favour back.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    pub async fn trust(
        &self,
        circuit: TorCircuit,
        until: Timestamp,
    ) -> Result<Durability, ReputationError> {
        let (status, reason, since) =
            (CircuitStatus::Trusted, StatusReason::Solved, self.clock.now());
        let row = StatusRow { circuit, status, since, until, reason };
        self.write(Write { yields: true, ..Write::of(row) }).await
    }

    /// The same, not waited for: a favour that a crash
    /// loses costs a visitor nothing that the next page does not give back.
    ///
    /// # Errors
    ///
    /// [`ReputationError::Busy`] or [`ReputationError::Ended`].
    pub fn trust_in_background(
        &self,
        circuit: TorCircuit,
        until: Timestamp,
    ) -> Result<(), ReputationError> {
        let (status, reason) = (CircuitStatus::Trusted, StatusReason::Solved);
        let (since, until) = (self.clock.now(), self.clock.translate(until));
        let write = Write {
            yields: true,
            ..Write::of(StatusRow { circuit, status, since, until, reason })
        };
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_none_or_closed| ReputationError::Busy)?;
        self.send(WriterCommand::Write(WriteJob { write, done: None, slot }))
    }

    async fn write(&self, mut write: Write) -> Result<Durability, ReputationError> {
        write.row.until = self.clock.translate(write.row.until);
        let written = match self.queue(write).await {
            Ok((written, kept)) => return durability_of(written, kept),
            // Whatever became of it: from now on it is in force.
            Err(error) => self.shared.keep_in_memory(write, &error, self.clock.now()),
        };
        durability_of(written, Durability::InMemory)
    }

    /// Has the thread do a write, and waits for it.
    async fn queue(&self, write: Write) -> Result<(WriteOutcome, Durability), ReputationError> {
        let slot = self.slots.clone().acquire_owned();
        let slot = match tokio::time::timeout(WRITE_DEADLINE, slot).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_closed)) => return Err(ReputationError::Ended),
            Err(_elapsed) => return Err(ReputationError::Busy),
        };
        let (done, answer) = oneshot::channel();
        self.send(WriterCommand::Write(WriteJob { write, done: Some(done), slot }))?;
        match tokio::time::timeout(WRITE_DEADLINE, answer).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_dropped)) => Err(ReputationError::Ended),
            Err(_elapsed) => Err(ReputationError::Busy),
        }
    }

    /// Puts rows in force that other gates told, as far as they count. Two callers at most, who wait for
    /// as long as it takes.
    async fn apply_remote(&self, rows: Vec<RemoteRow>) -> Result<(), ReputationError> {
        let (done, remote) = oneshot::channel();
        self.send(WriterCommand::ApplyRemote(RemoteBatch { rows, done }))?;
        remote.await.map_err(|_ended| ReputationError::Ended)
    }

    fn send(&self, order: WriterCommand) -> Result<(), ReputationError> {
        let jobs = self.jobs.as_ref().ok_or(ReputationError::Ended)?;
        jobs.send(order).map_err(|_ended| ReputationError::Ended)
    }

    /// The circuits that are trusted or banned since another start of `boot`'s tor: they are no more,
    /// and their numbers are others' now.
    #[must_use]
    pub fn stale_at(&self, boot: TorBoot) -> Vec<TorCircuit> {
        self.shared.table().stale_at(boot)
    }

    /// The row of `circuit` that is in force, one that takes a standing back included.
    #[must_use]
    pub fn row(&self, circuit: TorCircuit) -> Option<StatusRow> {
        self.shared.table().row(circuit, self.clock.now()).copied()
    }

    /// How `circuit` stands now; `None` for one like any other.
    #[must_use]
    pub fn status(&self, circuit: TorCircuit) -> Option<CircuitStatus> {
        let row = self.row(circuit)?;
        (row.status != CircuitStatus::Normal).then_some(row.status)
    }

    /// How a table that knows no more of circuits than their numbers has to have `number`: as the
    /// latest circuit that has it and is trusted or banned. `None` for one like any other.
    #[must_use]
    pub fn status_of_number(&self, number: u32) -> Option<CircuitStatus> {
        self.shared.table().of_number(number, self.clock.now())
    }

    /// Has `HAProxy` hold `circuit` to stricter limits until then: its answers look like a program's.
    /// In memory, and nobody is refused for it here.
    pub fn penalise(&self, circuit: TorCircuit, until: Timestamp) {
        let until = self.clock.translate(until);
        if self.shared.table_mut().penalise(circuit, until, self.clock.now()) {
            self.shared.changed.notify_one();
        }
    }

    /// Takes that back: its answers look like a person's again.
    pub fn lift_penalty(&self, circuit: TorCircuit) {
        if self.shared.table_mut().lift_penalty(circuit, self.clock.now()) {
            self.shared.changed.notify_one();
        }
    }

    /// What a table that knows no more of circuits than their numbers is to be told of the strikes of
    /// `number`.
    #[must_use]
    pub fn penalty_update(&self, number: u32) -> PenaltyUpdate {
        self.shared.table().penalty_update(number, self.clock.now())
    }

    /// The table was told that these numbers have no strikes.
    pub fn penalties_cleared(&self, numbers: &[u32]) {
        if !numbers.is_empty() {
            self.shared.table_mut().penalties_cleared(numbers);
        }
    }

    /// Every circuit that is penalised, for a full pass.
    #[must_use]
    pub fn penalised(&self) -> Vec<TorCircuit> {
        self.shared.table().penalised()
    }

    /// Every favour and ban in force, for a full pass. Changes made before this call need not be
    /// taken any more, and are not: they are in what is returned.
    #[must_use]
    pub fn wanted(&self) -> Vec<(TorCircuit, CircuitStatus)> {
        self.shared.table_mut().begin_pass(self.clock.now())
    }

    /// What changed since it was last asked. [`Self::confirm`] or [`Self::fail`] must follow.
    #[must_use]
    pub fn take_changes(&self) -> Changes {
        self.shared.table_mut().take_changes()
    }

    /// What was taken is in the table.
    pub fn confirm(&self) {
        self.shared.table_mut().confirm();
    }

    /// What was taken may not be in the table: the next [`Self::take_changes`] says
    /// [`Changes::Everything`].
    pub fn fail(&self) {
        self.shared.table_mut().fail();
    }

    /// Ends when something changed since the last time it ended.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// How long the oldest change has waited to be confirmed; zero when none waits.
    #[must_use]
    pub fn lag(&self) -> Duration {
        let oldest = self.shared.table().oldest_change();
        oldest.map_or(Duration::ZERO, |oldest| oldest.until(self.clock.now()))
    }

    /// Every row in force, in no order; one that takes a standing back is none. To be asked off the threads
    /// that serve: there may be [`MAX_STATUS_ROWS`].
    #[must_use]
    pub fn rows(&self) -> Vec<StatusRow> {
        let table = self.shared.table();
        table.rows(self.clock.now())
    }

    /// Whether bans and favours may be in memory alone, because the disk does not take them.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.shared.is_failing() || self.unwritten() > 0
    }

    /// How many bans and favours are in memory alone: a gauge.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.shared.table().unwritten()
    }

    /// Whether the file was damaged, and is a new one, since this gate started or when it did.
    #[must_use]
    pub fn was_recreated(&self) -> bool {
        self.shared.recreated.load(Ordering::Relaxed)
    }

    /// How many circuits stand how: a gauge.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.table().counts()
    }
}

fn durability_of(written: WriteOutcome, kept: Durability) -> Result<Durability, ReputationError> {
    match written {
        WriteOutcome::Done | WriteOutcome::Yielded => Ok(kept),
        WriteOutcome::Full => Err(ReputationError::Full),
    }
}

impl Drop for Reputation {
    /// Waits for what is queued to be written, so that a gate that was told to stop loses nothing.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _a_panic_was_told_already = thread.join();
        }
    }
}

impl fmt::Debug for Reputation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reputation").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

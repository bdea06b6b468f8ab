//! The status of circuits: trusted, banned or normal, and until when.
//!
//! This is the authoritative state. It is kept in a file, so that bans survive a restart; in memory, so that
//! requests need not wait; and in a table in `HAProxy`, to which the reconciler in `fortify-haproxy` copies it.
//!
//! # Layout
//!
//! - [`answer_history`]: the answers of circuits, their score and suspicions.
//! - [`earned`]: how many sessions circuits earned in the last hour.
//! - [`budget_notes`]: what sessions have left of their budgets, over a restart.
//! - `penalties`: circuits that get stricter limits in `HAProxy`; pure.
//! - [`status_db`]: the SQLite file, also for the command line, which may write beside a running gate.
//! - `status_table`: the statuses in memory, and changes that the reconciler has not seen; pure.
//! - [`replication`]: exchange of statuses and answers with other nodes.
//! - `writer`: the one thread that writes the file.
//! - [`Reputation`]: the interface for the tasks of a running gate.

pub mod answer_history;
pub mod budget_notes;
pub mod earned;
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
use fortify_core::damage::Damage;
use fortify_core::sqlite::FileError;
use fortify_store::record::{Session, SessionId};
pub use penalties::PenaltyUpdate;
use replication::{RemoteRow, ReplicationQueue};
use status_db::{StatusDb, Write, WriteOutcome};
use status_table::StatusTable;
pub use status_table::{Changes, Counts};
use writer::{RemoteBatch, WriteJob, WriterCommand};

/// The most statuses: measured at 150 bytes each in memory and 80 on disk, and half of the size of the table in the
/// supplied `HAProxy` configuration. At the limit, resets are evicted first, then the trusted circuits that expire
/// first; bans are never evicted.
pub const MAX_STATUS_ROWS: usize = 500_000;

/// The most writes that are queued or in progress.
const MAX_WAITING_WRITES: usize = 4096;

/// How long a caller waits for a place in that queue, and then for the disk.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// The status of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitStatus {
    /// Like any other: trust or a ban was reset.
    Normal,
    /// Trusted.
    Trusted,
    /// Banned.
    Banned,
}

impl CircuitStatus {
    /// All statuses, in the order of their numbers.
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

/// The reason for a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusReason {
    /// It solved a challenge.
    Solved,
    /// It gave `security.max_captcha_failures` wrong answers.
    Failures,
    /// Its score reached `reputation.ban_points`.
    Score,
    /// An operator set it.
    Operator,
    /// Tor closed the circuit or restarted.
    Closed,
    /// A reason written by another version of Fortify, unknown to this one.
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

/// The status of one circuit, with its times and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRow {
    /// The circuit.
    pub circuit: TorCircuit,
    /// The status.
    pub status: CircuitStatus,
    /// When it was decided.
    pub since: Timestamp,
    /// When it ends; at this time it is no longer in force.
    pub until: Timestamp,
    /// The reason.
    pub reason: StatusReason,
    /// The session that the circuit is trusted for; `None` for every other status, and where an operator trusts it.
    pub session: Option<Session>,
}

impl StatusRow {
    /// The row of a circuit that is not trusted for a session.
    #[must_use]
    pub const fn new(
        circuit: TorCircuit,
        status: CircuitStatus,
        since: Timestamp,
        until: Timestamp,
        reason: StatusReason,
    ) -> Self {
        Self { circuit, status, since, until, reason, session: None }
    }

    /// The same row, with its times shifted by `millis`, because the clock was set.
    fn shifted(self, millis: i64) -> Self {
        let [since, until] = [self.since, self.until].map(|time| time.shifted(millis));
        Self { since, until, ..self }
    }
}

/// The reason why a status could not be stored or read. Each message says what to do; none names a circuit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReputationError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes circuit statuses: {0}")]
    Thread(String),
    /// Every row is a ban in force, so none can be evicted.
    #[error(
        "all {MAX_STATUS_ROWS} statuses are bans in force, so there is no room for another; shorten \
         reputation.ban_seconds, or find out who opens so many circuits"
    )]
    Full,
    /// Too many writes are queued.
    #[error("{MAX_WAITING_WRITES} writes wait for the disk under storage.data_dir; it is too slow")]
    Busy,
    /// The thread that writes has ended.
    #[error("the thread that writes circuit statuses has ended; the log says why; restart Fortify")]
    Ended,
}

/// Where a status is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the file: it survives a restart.
    OnDisk,
    /// In memory only: in force, and written once the disk takes it; [`Reputation::is_degraded`] is true until then.
    InMemory,
}

/// The status of circuits, for the tasks of a running gate.
pub struct Reputation {
    shared: Arc<SharedState>,
    /// Statuses last for their duration, even if the wall clock is set meanwhile.
    clock: Arc<SteadyClock>,
    slots: Arc<Semaphore>,
    jobs: Option<mpsc::Sender<WriterCommand>>,
    thread: Option<JoinHandle<()>>,
}

/// The state shared between the writer and all other tasks.
struct SharedState {
    table: RwLock<StatusTable>,
    changed: Notify,
    /// Local decisions to be published to other nodes.
    replication_queue: Arc<ReplicationQueue>,
    max_rows: usize,
    /// Whether the last write failed or exceeded its deadline.
    failing: AtomicBool,
    /// Whether the file was damaged and recreated since this process started.
    recreated: AtomicBool,
    /// What was found lost when the file was opened.
    damages: Vec<Damage>,
}

impl SharedState {
    /// The table stays consistent after a panic: every change to it is one call.
    fn table(&self) -> RwLockReadGuard<'_, StatusTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, StatusTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a failed write in force in memory and publishes it to other nodes. Logs the error once.
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
                "circuit statuses cannot be written to disk; they are in force in memory, would be lost by a \
                 restart, and are written as soon as possible"
            );
        }
    }

    fn recover(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("circuit statuses are written to disk again, pending ones included");
        }
    }
}

impl Reputation {
    /// Opens the file in `data_dir`, creating it if necessary, and loads the statuses in force.
    ///
    /// # Errors
    ///
    /// [`ReputationError`], which names the file and says what to do.
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
            // A clock that was set back must not extend a status. A row that begins after its end is so on purpose, to
            // be later than the one before it.
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
            damages: db.damages().to_vec(),
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

    /// Sets the status of `circuit` until `until`, replacing any other. It is in force when this returns, and on disk
    /// unless the disk fails.
    ///
    /// # Errors
    ///
    /// [`ReputationError::Full`]; nothing has changed then.
    pub async fn set(
        &self,
        circuit: TorCircuit,
        status: CircuitStatus,
        until: Timestamp,
        reason: StatusReason,
    ) -> Result<Durability, ReputationError> {
        let since = self.clock.now();
        self.write(Write::of(StatusRow::new(circuit, status, since, until, reason))).await
    }

    /// Bans `circuit` until `until`, unless a ban in force lasts longer. As with [`Self::set`], it is in force when
    /// this returns.
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
        let row = StatusRow::new(circuit, status, since, until, reason);
        self.write(Write { yields: true, ..Write::of(row) }).await
    }

    /// Trusts `circuit` for `session` until `until`, at most until the session expires, unless it is banned. It is in
    /// force when this returns.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    pub async fn trust(
        &self,
        circuit: TorCircuit,
        session: Session,
        until: Timestamp,
    ) -> Result<Durability, ReputationError> {
        self.write(self.trusting(circuit, session, until)).await
    }

    /// Ends the trust in `circuit`, unless it is banned. It is over when this returns.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    pub async fn end_trust(&self, circuit: TorCircuit) -> Result<Durability, ReputationError> {
        let now = self.clock.now();
        let (status, reason) = (CircuitStatus::Trusted, StatusReason::Solved);
        let row = StatusRow::new(circuit, status, now, now, reason);
        self.write(Write { yields: true, ..Write::of(row) }).await
    }

    /// As [`Self::end_trust`], without waiting for the disk: for a session that has moved, whose former circuit is
    /// refused by the move itself.
    ///
    /// # Errors
    ///
    /// [`ReputationError::Busy`] or [`ReputationError::Ended`].
    pub fn end_trust_in_background(&self, circuit: TorCircuit) -> Result<(), ReputationError> {
        let now = self.clock.now();
        let (status, reason) = (CircuitStatus::Trusted, StatusReason::Solved);
        let row = StatusRow::new(circuit, status, now, now, reason);
        self.write_in_background(Write { yields: true, ..Write::of(row) })
    }

    fn trusting(&self, circuit: TorCircuit, session: Session, until: Timestamp) -> Write {
        let (status, reason) = (CircuitStatus::Trusted, StatusReason::Solved);
        let (since, until) = (self.clock.now(), until.min(session.expires_at));
        let row = StatusRow::new(circuit, status, since, until, reason);
        Write { yields: true, ..Write::of(StatusRow { session: Some(session), ..row }) }
    }

    /// As [`Self::trust`], without waiting for the disk: trust lost in a crash is regained with the next challenge.
    ///
    /// # Errors
    ///
    /// [`ReputationError::Busy`] or [`ReputationError::Ended`].
    pub fn trust_in_background(
        &self,
        circuit: TorCircuit,
        session: Session,
        until: Timestamp,
    ) -> Result<(), ReputationError> {
        let mut write = self.trusting(circuit, session, until);
        write.row.until = self.clock.translate(write.row.until);
        self.write_in_background(write)
    }

    fn write_in_background(&self, write: Write) -> Result<(), ReputationError> {
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_none_or_closed| ReputationError::Busy)?;
        self.send(WriterCommand::Write(WriteJob { write, done: None, slot }))
    }

    async fn write(&self, mut write: Write) -> Result<Durability, ReputationError> {
        write.row.until = self.clock.translate(write.row.until);
        let written = match self.queue(write).await {
            Ok((written, kept)) => return durability_of(written, kept),
            // It is in force from now on, whether or not it was written.
            Err(error) => self.shared.keep_in_memory(write, &error, self.clock.now()),
        };
        durability_of(written, Durability::InMemory)
    }

    /// Sends a write to the writer thread and waits for it.
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

    /// Applies rows from other nodes. At most two callers do so, and they wait for as long as it takes.
    async fn apply_remote(&self, rows: Vec<RemoteRow>) -> Result<(), ReputationError> {
        let (done, remote) = oneshot::channel();
        self.send(WriterCommand::ApplyRemote(RemoteBatch { rows, done }))?;
        remote.await.map_err(|_ended| ReputationError::Ended)
    }

    fn send(&self, order: WriterCommand) -> Result<(), ReputationError> {
        let jobs = self.jobs.as_ref().ok_or(ReputationError::Ended)?;
        jobs.send(order).map_err(|_ended| ReputationError::Ended)
    }

    /// The trusted, banned or penalised circuits from other generations of the tor instance in `boot`. They are
    /// closed, and their numbers belong to other circuits now.
    #[must_use]
    pub fn stale_at(&self, boot: TorBoot) -> Vec<TorCircuit> {
        self.shared.table().stale_at(boot)
    }

    /// The row of `circuit` in force, including resets.
    #[must_use]
    pub fn row(&self, circuit: TorCircuit) -> Option<StatusRow> {
        self.shared.table().row(circuit, self.clock.now()).copied()
    }

    /// The status of `circuit`; `None` for a normal one.
    #[must_use]
    pub fn status(&self, circuit: TorCircuit) -> Option<CircuitStatus> {
        let row = self.row(circuit)?;
        (row.status != CircuitStatus::Normal).then_some(row.status)
    }

    /// The status for `number` in a table that identifies circuits by number only: that of the latest circuit with this
    /// number that is trusted or banned; `None` for a normal one.
    #[must_use]
    pub fn status_of_number(&self, number: u32) -> Option<CircuitStatus> {
        self.shared.table().of_number(number, self.clock.now())
    }

    /// Penalises `circuit` until `until`: `HAProxy` applies stricter limits because its answers look automated. Kept in
    /// memory only, and does not influence decisions here.
    pub fn penalise(&self, circuit: TorCircuit, until: Timestamp) {
        let until = self.clock.translate(until);
        if self.shared.table_mut().penalise(circuit, until, self.clock.now()) {
            self.shared.changed.notify_one();
        }
    }

    /// Lifts the penalty, because the answers no longer look automated.
    pub fn lift_penalty(&self, circuit: TorCircuit) {
        if self.shared.table_mut().lift_penalty(circuit, self.clock.now()) {
            self.shared.changed.notify_one();
        }
    }

    /// Takes the circuits that were banned since the last call, whoever banned them: this node, another one, or the
    /// command line beside it. The first call returns those that were banned before the start too.
    #[must_use]
    pub fn take_banned(&self) -> Vec<StatusRow> {
        self.shared.table_mut().take_banned(self.clock.now())
    }

    /// Has [`Self::take_banned`] return this circuit again, because its sessions could not be ended.
    pub fn put_back_banned(&self, circuit: TorCircuit) {
        self.shared.table_mut().note_banned(circuit);
    }

    /// The circuits that are trusted for the session `id`: one, or while it moves two.
    #[must_use]
    pub fn trusted_for(&self, id: SessionId) -> Vec<TorCircuit> {
        self.shared.table().trusted_for(id, self.clock.now())
    }

    /// The update of the penalty counter of `number` for a table that identifies circuits by number only.
    #[must_use]
    pub fn penalty_update(&self, number: u32) -> PenaltyUpdate {
        self.shared.table().penalty_update(number, self.clock.now())
    }

    /// Confirms that the table has cleared the penalty counters of these numbers.
    pub fn penalties_cleared(&self, numbers: &[u32]) {
        if !numbers.is_empty() {
            self.shared.table_mut().penalties_cleared(numbers);
        }
    }

    /// All penalised circuits, for a full pass.
    #[must_use]
    pub fn penalised(&self) -> Vec<TorCircuit> {
        self.shared.table().penalised()
    }

    /// All trusted and banned circuits, for a full pass. Pending changes made before this call are dropped because the
    /// result includes them.
    #[must_use]
    pub fn wanted(&self) -> Vec<(TorCircuit, CircuitStatus)> {
        self.shared.table_mut().begin_pass(self.clock.now())
    }

    /// Takes the changes since the last call. [`Self::confirm`] or [`Self::fail`] must follow.
    #[must_use]
    pub fn take_changes(&self) -> Changes {
        self.shared.table_mut().take_changes()
    }

    /// Confirms that the taken changes are in the table.
    pub fn confirm(&self) {
        self.shared.table_mut().confirm();
    }

    /// Reports that the taken changes may not be in the table: the next [`Self::take_changes`] returns
    /// [`Changes::Everything`].
    pub fn fail(&self) {
        self.shared.table_mut().fail();
    }

    /// Waits for the next change.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// How long the oldest unconfirmed change has waited; zero if there is none.
    #[must_use]
    pub fn lag(&self) -> Duration {
        let oldest = self.shared.table().oldest_change();
        oldest.map_or(Duration::ZERO, |oldest| oldest.until(self.clock.now()))
    }

    /// All trusted and banned rows in force, in no particular order. There may be [`MAX_STATUS_ROWS`], so do not call
    /// this on a thread that serves requests.
    #[must_use]
    pub fn rows(&self) -> Vec<StatusRow> {
        let table = self.shared.table();
        table.rows(self.clock.now())
    }

    /// Whether statuses may be in memory only, because the disk fails.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.shared.is_failing() || self.unwritten() > 0
    }

    /// The number of statuses that are in memory only.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.shared.table().unwritten()
    }

    /// What was found lost when the file was opened.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.shared.damages
    }

    /// Whether the file was damaged and recreated since this process started.
    #[must_use]
    pub fn was_recreated(&self) -> bool {
        self.shared.recreated.load(Ordering::Relaxed)
    }

    /// The number of circuits with each status.
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
    /// Waits until queued writes are on disk, so that a shutdown loses nothing.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _a_panic_was_logged = thread.join();
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

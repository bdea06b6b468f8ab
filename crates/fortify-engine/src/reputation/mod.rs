//! How circuits stand: favoured, refused, or neither, and until when.
//!
//! This is the wanted state, and the only one that decides. It is in a file, so that a ban outlives
//! the process; in memory, so that a request asks without waiting; and in `HAProxy`'s table, to which
//! the reconciler of the crate `fortify-haproxy` copies it.
//!
//! # Layout
//!
//! - [`Reputation`]: what a running gate asks and tells, from any task.
//! - [`ledger`]: the SQLite file, also for the command line, which may write beside a running gate.
//! - [`conduct`]: how circuits answer, what that is worth and what it looks like; in memory.
//! - `book`: the same in memory, with what changed since somebody looked; pure.
//! - `penalties`: with whom `HAProxy` is strict; pure.
//! - `writer`: the one thread that writes.
//! - [`shared`]: what other gates are told, and what is made of what they tell.

mod book;
pub mod conduct;
pub mod ledger;
pub mod metrics;
mod penalties;
pub mod shared;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};

use book::Book;
pub use book::{Changes, Counts};
use fortify_core::circuit::{TorBoot, TorCircuit};
use fortify_core::clock::{Clock, SteadyClock, Timestamp};
use fortify_core::sqlite::FileError;
use ledger::{Ledger, Write, Written};
pub use penalties::Strikes;
use shared::{HeardRow, Outbox};
use writer::{Hearing, Job, Order};

/// Standings kept at one time, 500,000: measured 150 bytes each in memory and 80 on disk, and half of
/// what the table of the shipped `HAProxy` configuration holds. At the bound those that were reset
/// make room first, then the VIPs whose time ends first; a ban never does.
pub const MAX_STANDINGS: usize = 500_000;

/// Writes that may wait for the disk or be on their way to it.
const MAX_WAITING_WRITES: usize = 4096;

/// How long a caller waits for a place in that queue, and then for the disk, each.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// How a circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Like any other: a favour or a ban was taken back.
    Reset,
    /// Favoured.
    Vip,
    /// Refused.
    Banned,
}

impl Standing {
    /// Every standing, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Reset, Self::Vip, Self::Banned];

    /// The word in metrics and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Vip => "vip",
            Self::Banned => "banned",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a circuit stands as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It answered a challenge.
    Solved,
    /// It gave `security.max_captcha_failures` wrong answers.
    Failures,
    /// Its conduct came to `reputation.ban_points`.
    Conduct,
    /// An operator said so.
    Operator,
    /// Tor closed the circuit, or started anew: it is no more.
    Closed,
    /// Another version of this program said so, in a word that this one does not know.
    Other,
}

impl Reason {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Solved => "solved",
            Self::Failures => "failures",
            Self::Conduct => "conduct",
            Self::Operator => "operator",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }

    fn parse(word: &str) -> Self {
        let known = [Self::Solved, Self::Failures, Self::Conduct, Self::Operator, Self::Closed];
        known.into_iter().find(|reason| reason.as_str() == word).unwrap_or(Self::Other)
    }
}

/// How one circuit stands, since and until when, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who.
    pub circuit: TorCircuit,
    /// How.
    pub standing: Standing,
    /// Since when.
    pub since: Timestamp,
    /// Until when; not in force any more at this time.
    pub until: Timestamp,
    /// Why.
    pub reason: Reason,
}

impl Row {
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
        "there are {MAX_STANDINGS} bans in force and none is forgotten to make room; shorten \
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
pub enum Kept {
    /// In the file: it outlives this process.
    OnDisk,
    /// In memory alone: in force, and written when the disk takes it. [`Reputation::is_degraded`] says so.
    InMemory,
}

/// How circuits stand, for the tasks of a running gate.
pub struct Reputation {
    shared: Arc<Shared>,
    /// A standing lasts as long as was said, however the wall clock is set meanwhile.
    clock: Arc<SteadyClock>,
    slots: Arc<Semaphore>,
    jobs: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer and everybody else look at.
struct Shared {
    book: RwLock<Book>,
    changed: Notify,
    /// What was decided here and other gates are to be told.
    outbox: Arc<Outbox>,
    max_rows: usize,
    /// Whether the file did not take the last write, or not in time.
    failing: AtomicBool,
    /// Whether the file was damaged, and is a new one, since this gate started.
    begun_anew: AtomicBool,
}

impl Shared {
    /// The book is whole after any panic: every change to it is one call.
    fn book(&self) -> RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn book_mut(&self) -> RwLockWriteGuard<'_, Book> {
        self.book.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a write that the file does not take be in force all the same, and other gates be told. What is
    /// wrong is said once.
    fn keep_in_memory(&self, write: Write, why: &ReputationError, now: Timestamp) -> Written {
        self.fail(why);
        let (written, told) = self.book_mut().put_unwritten(write, self.max_rows, now);
        self.outbox.put(told);
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

    fn heal(&self) {
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
        Self::bounded(data_dir, clock, MAX_STANDINGS)
    }

    fn bounded(
        data_dir: &Path,
        clock: Arc<dyn Clock>,
        rows: usize,
    ) -> Result<Self, ReputationError> {
        let clock = Arc::new(SteadyClock::over(clock));
        let now = clock.now();
        let mut ledger = Ledger::open(data_dir, rows, now)?;
        let loaded = match ledger.load(now) {
            Err(damaged @ FileError::Damaged { .. }) => {
                ledger.begin_anew(&damaged, now)?;
                ledger.load(now)?
            }
            loaded => loaded?,
        };
        let mut book = Book::default();
        for (row, shifted) in loaded {
            // A clock that was set back since makes nothing last longer than it was meant to. A row that
            // begins after its end was told so, to be later than the one before it.
            let back = match now < row.since && row.since < row.until {
                true => i64::try_from(now.until(row.since).as_millis()).unwrap_or(i64::MAX),
                false => 0,
            };
            if back == 0 {
                book.load(row, shifted, now);
            } else {
                book.load_moved(row.shifted(-back), shifted.saturating_sub(back), now);
            }
        }
        let shared = Arc::new(Shared {
            book: RwLock::new(book),
            changed: Notify::new(),
            outbox: Arc::default(),
            max_rows: rows,
            failing: AtomicBool::new(false),
            begun_anew: AtomicBool::new(ledger.was_begun_anew()),
        });
        let (jobs, queue) = mpsc::channel();
        let writer = writer::Writer::new(ledger, shared.clone(), clock.clone());
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
        standing: Standing,
        until: Timestamp,
        reason: Reason,
    ) -> Result<Kept, ReputationError> {
        let since = self.clock.now();
        self.write(Write::of(Row { circuit, standing, since, until, reason })).await
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
        reason: Reason,
    ) -> Result<Kept, ReputationError> {
        let (standing, since) = (Standing::Banned, self.clock.now());
        let row = Row { circuit, standing, since, until, reason };
        self.write(Write { yields: true, ..Write::of(row) }).await
    }

    /// Favours `circuit` until `until`, unless it is banned; in force when this returns. A time that has
    /// come takes a favour back.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    pub async fn favour(
        &self,
        circuit: TorCircuit,
        until: Timestamp,
    ) -> Result<Kept, ReputationError> {
        let (standing, reason, since) = (Standing::Vip, Reason::Solved, self.clock.now());
        let row = Row { circuit, standing, since, until, reason };
        self.write(Write { yields: true, ..Write::of(row) }).await
    }

    /// The same, not waited for: a favour that a crash
    /// loses costs a visitor nothing that the next page does not give back.
    ///
    /// # Errors
    ///
    /// [`ReputationError::Busy`] or [`ReputationError::Ended`].
    pub fn promote(&self, circuit: TorCircuit, until: Timestamp) -> Result<(), ReputationError> {
        let (standing, reason) = (Standing::Vip, Reason::Solved);
        let (since, until) = (self.clock.now(), self.clock.translate(until));
        let write =
            Write { yields: true, ..Write::of(Row { circuit, standing, since, until, reason }) };
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_none_or_closed| ReputationError::Busy)?;
        self.send(Order::Write(Job { write, done: None, slot }))
    }

    async fn write(&self, mut write: Write) -> Result<Kept, ReputationError> {
        write.row.until = self.clock.translate(write.row.until);
        let written = match self.queue(write).await {
            Ok((written, kept)) => return whole(written, kept),
            // Whatever became of it: from now on it is in force.
            Err(error) => self.shared.keep_in_memory(write, &error, self.clock.now()),
        };
        whole(written, Kept::InMemory)
    }

    /// Has the thread do a write, and waits for it.
    async fn queue(&self, write: Write) -> Result<(Written, Kept), ReputationError> {
        let slot = self.slots.clone().acquire_owned();
        let slot = match tokio::time::timeout(WRITE_DEADLINE, slot).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_closed)) => return Err(ReputationError::Ended),
            Err(_elapsed) => return Err(ReputationError::Busy),
        };
        let (done, answer) = oneshot::channel();
        self.send(Order::Write(Job { write, done: Some(done), slot }))?;
        match tokio::time::timeout(WRITE_DEADLINE, answer).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_dropped)) => Err(ReputationError::Ended),
            Err(_elapsed) => Err(ReputationError::Busy),
        }
    }

    /// Puts rows in force that other gates told, as far as they count. Two callers at most, who wait for
    /// as long as it takes.
    async fn hear(&self, rows: Vec<HeardRow>) -> Result<(), ReputationError> {
        let (done, heard) = oneshot::channel();
        self.send(Order::Hear(Hearing { rows, done }))?;
        heard.await.map_err(|_ended| ReputationError::Ended)
    }

    fn send(&self, order: Order) -> Result<(), ReputationError> {
        let jobs = self.jobs.as_ref().ok_or(ReputationError::Ended)?;
        jobs.send(order).map_err(|_ended| ReputationError::Ended)
    }

    /// The circuits that are favoured or banned since another start of `boot`'s tor: they are no more,
    /// and their numbers are others' now.
    #[must_use]
    pub fn stale_at(&self, boot: TorBoot) -> Vec<TorCircuit> {
        self.shared.book().stale_at(boot)
    }

    /// The row of `circuit` that is in force, one that takes a standing back included.
    #[must_use]
    pub fn row(&self, circuit: TorCircuit) -> Option<Row> {
        self.shared.book().row(circuit, self.clock.now()).copied()
    }

    /// How `circuit` stands now; `None` for one like any other.
    #[must_use]
    pub fn standing(&self, circuit: TorCircuit) -> Option<Standing> {
        let row = self.row(circuit)?;
        (row.standing != Standing::Reset).then_some(row.standing)
    }

    /// How a table that knows no more of circuits than their numbers has to have `number`: as the
    /// latest circuit that has it and is favoured or banned. `None` for one like any other.
    #[must_use]
    pub fn standing_of_number(&self, number: u32) -> Option<Standing> {
        self.shared.book().of_number(number, self.clock.now())
    }

    /// Has `HAProxy` hold `circuit` to stricter limits until then: its answers look like a program's.
    /// In memory, and nobody is refused for it here.
    pub fn penalise(&self, circuit: TorCircuit, until: Timestamp) {
        let until = self.clock.translate(until);
        if self.shared.book_mut().penalise(circuit, until, self.clock.now()) {
            self.shared.changed.notify_one();
        }
    }

    /// Takes that back: its answers look like a person's again.
    pub fn absolve(&self, circuit: TorCircuit) {
        if self.shared.book_mut().absolve(circuit, self.clock.now()) {
            self.shared.changed.notify_one();
        }
    }

    /// What a table that knows no more of circuits than their numbers is to be told of the strikes of
    /// `number`.
    #[must_use]
    pub fn strikes(&self, number: u32) -> Strikes {
        self.shared.book().strikes(number, self.clock.now())
    }

    /// The table was told that these numbers have no strikes.
    pub fn strikes_told(&self, numbers: &[u32]) {
        if !numbers.is_empty() {
            self.shared.book_mut().strikes_told(numbers);
        }
    }

    /// Every circuit that is penalised, for a full pass.
    #[must_use]
    pub fn penalised(&self) -> Vec<TorCircuit> {
        self.shared.book().penalised()
    }

    /// Every favour and ban in force, for a full pass. Changes made before this call need not be
    /// taken any more, and are not: they are in what is returned.
    #[must_use]
    pub fn wanted(&self) -> Vec<(TorCircuit, Standing)> {
        self.shared.book_mut().begin_pass(self.clock.now())
    }

    /// What changed since it was last asked. [`Self::confirm`] or [`Self::fail`] must follow.
    #[must_use]
    pub fn take_changes(&self) -> Changes {
        self.shared.book_mut().take_changes()
    }

    /// What was taken is in the table.
    pub fn confirm(&self) {
        self.shared.book_mut().confirm();
    }

    /// What was taken may not be in the table: the next [`Self::take_changes`] says
    /// [`Changes::Everything`].
    pub fn fail(&self) {
        self.shared.book_mut().fail();
    }

    /// Ends when something changed since the last time it ended.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// How long the oldest change has waited to be confirmed; zero when none waits.
    #[must_use]
    pub fn lag(&self) -> Duration {
        let oldest = self.shared.book().oldest_change();
        oldest.map_or(Duration::ZERO, |oldest| oldest.until(self.clock.now()))
    }

    /// Every row in force, in no order; one that takes a standing back is none. To be asked off the threads
    /// that serve: there may be [`MAX_STANDINGS`].
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let book = self.shared.book();
        book.rows(self.clock.now())
    }

    /// Whether bans and favours may be in memory alone, because the disk does not take them.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.shared.is_failing() || self.unwritten() > 0
    }

    /// How many bans and favours are in memory alone: a gauge.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.shared.book().unwritten()
    }

    /// Whether the file was damaged, and is a new one, since this gate started or when it did.
    #[must_use]
    pub fn was_begun_anew(&self) -> bool {
        self.shared.begun_anew.load(Ordering::Relaxed)
    }

    /// How many circuits stand how: a gauge.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.book().counts()
    }
}

fn whole(written: Written, kept: Kept) -> Result<Kept, ReputationError> {
    match written {
        Written::Done | Written::Yielded => Ok(kept),
        Written::Full => Err(ReputationError::Full),
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

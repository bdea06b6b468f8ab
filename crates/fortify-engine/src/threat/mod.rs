//! The threat dial: one level from 1 to 10 that determines what visitors have to solve, set by hand or
//! automatically.
//!
//! # Layout
//!
//! - [`table`]: the policy of each level; pure.
//! - [`signals`]: the signals of the last minute, counted by circuits in sketches of fixed size.
//! - [`controller`]: when the level changes automatically; pure.
//! - [`verdict`]: whether the site is under attack, in words; pure.
//! - [`history`]: the SQLite file of the dial and its changes, also for the command line, which may write beside a
//!   running gate.
//! - [`Threat`]: the dial of a running gate, and the task that runs it.
//!
//! The dial has a version that increases with every change. A change is accepted if its version is higher than that
//! in the store, which all nodes share, so of several concurrent changes one wins. A change is in this node's file
//! before it takes effect here.

pub mod controller;
pub mod history;
pub mod metrics;
pub mod signals;
pub mod table;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use fortify_captcha::Level;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use controller::{DialController, PAUSE, SAMPLE_INTERVAL};
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::damage::Damage;
use fortify_core::sqlite::FileError;
use fortify_store::record::DialRecord;
use fortify_store::{StateStore, StoreError};
use history::{ChangedBy, DialChange, DialHistory};
use metrics::ThreatMetrics;
use signals::Collector;
use table::{LevelPolicy, LevelTable};
use verdict::{Judge, Verdict};

/// How often the file is checked for changes by other processes: half of the 100 ms within which all nodes have to
/// follow an operator.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often an operator's change gets a higher version because of concurrent changes by other nodes. If it is not in
/// the store then, the next sample retries it.
const MAX_BIDS: usize = 8;

/// The threat level, from 1 (mildest) to 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreatLevel(Level);

impl ThreatLevel {
    /// The number of levels.
    pub const COUNT: usize = Level::ALL.len();

    /// The highest level.
    pub const MAX: Self = Self(Level::MAX);

    /// The highest level that is set automatically; higher ones require several challenges.
    pub const AUTO_MAX: Self = match Self::new(8) {
        Some(level) => level,
        None => Self::MAX,
    };

    /// Every level, the mildest first.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self(Level::MIN); Self::COUNT];
        let mut index = 0;
        while index < Self::COUNT {
            all[index] = Self(Level::ALL[index]);
            index += 1;
        }
        all
    };

    /// A level from its number; `None` unless that is 1 to 10.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        match Level::new(number) {
            Ok(level) => Some(Self(level)),
            Err(_out_of_range) => None,
        }
    }

    /// The number, 1 to 10.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// The difficulty of pictures at this level.
    #[must_use]
    pub const fn difficulty(self) -> Level {
        self.0
    }

    fn up(self) -> Option<Self> {
        Self::new(self.get() + 1)
    }

    fn down(self) -> Option<Self> {
        Self::new(self.get() - 1)
    }
}

impl fmt::Display for ThreatLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ThreatLevel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.get())
    }
}

/// Who may change the level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Automatic control, and operators.
    #[default]
    Auto,
    /// Operators only.
    Manual,
    /// Nobody, until an operator returns it to automatic control.
    Pinned,
}

impl Mode {
    /// The word in the configuration, the file and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
            Self::Pinned => "pinned",
        }
    }

    /// The mode that a word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Auto, Self::Manual, Self::Pinned].into_iter().find(|mode| mode.as_str() == word)
    }
}

/// The dial at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Increases with every change.
    pub version: u64,
    /// Who may change it.
    pub mode: Mode,
    /// The level.
    pub level: ThreatLevel,
    /// Until when automatic control is paused after a change by hand.
    pub paused_until: Option<Timestamp>,
}

impl Dial {
    /// The dial after a change by hand; `None` if it is pinned.
    #[must_use]
    pub fn set(self, level: ThreatLevel, now: Timestamp) -> Option<Self> {
        let paused_until = (self.mode == Mode::Auto).then(|| now.after(PAUSE));
        let free = self.mode != Mode::Pinned;
        free.then(|| Self { level, paused_until, ..self.next() })
    }

    /// The dial returned to automatic control.
    #[must_use]
    pub const fn auto(self) -> Self {
        Self { mode: Mode::Auto, paused_until: None, ..self.next() }
    }

    /// The dial held at `level`.
    #[must_use]
    pub const fn pin(self, level: ThreatLevel) -> Self {
        Self { mode: Mode::Pinned, level, paused_until: None, ..self.next() }
    }

    /// How long automatic control is still paused. Setting the clock never makes it longer.
    #[must_use]
    pub fn pause(&self, now: Timestamp) -> Duration {
        self.paused_until.map_or(Duration::ZERO, |until| now.until(until).min(PAUSE))
    }

    const fn next(self) -> Self {
        Self { version: self.version.saturating_add(1), ..self }
    }

    /// The record for the store of a change that `by` made.
    fn record(&self, by: Option<String>) -> DialRecord {
        DialRecord {
            version: self.version,
            mode: Cow::Borrowed(self.mode.as_str()),
            level: self.level.get(),
            paused_until: self.paused_until,
            by,
        }
    }

    /// Reads the record in the store; `None` if another version of Fortify wrote it.
    fn read(record: &DialRecord) -> Option<Self> {
        Some(Self {
            version: record.version,
            mode: Mode::parse(&record.mode)?,
            level: ThreatLevel::new(record.level)?,
            paused_until: record.paused_until,
        })
    }
}

/// The settings of the dial from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `threat.mode`.
    pub mode: Mode,
    /// `threat.level`: the level at which the dial starts and rests.
    pub start: ThreatLevel,
    /// `threat.levels`.
    pub table: LevelTable,
}

/// The dial of a running gate.
pub struct Threat {
    table: ArcSwap<LevelTable>,
    signals: Collector,
    dial: watch::Sender<Dial>,
    verdict: watch::Sender<Verdict>,
    /// `threat.level`.
    start: AtomicU8,
    state: Mutex<DialState>,
    /// Whether an operator's change on this node is not in the store yet.
    insists: AtomicBool,
    /// Who made the change in force, for the other nodes.
    by: ArcSwapOption<String>,
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    metrics: ThreatMetrics,
    recreated: bool,
    damages: Vec<Damage>,
}

/// The mutable state of the dial.
struct DialState {
    controller: DialController,
    judge: Judge,
    audit: DialHistory,
    /// The last logged error of the file, so that each is logged once.
    logged: String,
}

impl Threat {
    /// Opens the dial from the file in `data_dir`. It starts as configured in `settings` if there is no file or the
    /// settings have changed since. `key` is random, for [`Collector`].
    ///
    /// # Errors
    ///
    /// [`FileError`], which names the file and says what to do.
    pub fn open(
        data_dir: &Path,
        settings: Settings,
        key: [u8; 16],
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        metrics: ThreatMetrics,
    ) -> Result<Self, FileError> {
        let now = clock.now();
        let mut audit = DialHistory::open(data_dir, now)?;
        let dial = audit.configure(settings.mode, settings.start, now)?;
        let controller = DialController::new(settings.start, &dial, now);
        metrics.set_level(dial.level.get());
        let (recreated, damages) = (audit.was_recreated(), audit.damages().to_vec());
        let turning =
            DialState { controller, judge: Judge::default(), audit, logged: String::new() };
        Ok(Self {
            table: ArcSwap::from_pointee(settings.table),
            signals: Collector::new(key),
            dial: watch::Sender::new(dial),
            verdict: watch::Sender::default(),
            start: AtomicU8::new(settings.start.get()),
            state: Mutex::new(turning),
            insists: AtomicBool::new(false),
            by: ArcSwapOption::empty(),
            store,
            clock,
            metrics,
            recreated,
            damages,
        })
    }

    /// What was lost of its file.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// Whether its file was damaged and recreated when this process started.
    #[must_use]
    pub const fn was_recreated(&self) -> bool {
        self.recreated
    }

    /// Whether the other nodes have, or will take, the last change by an operator of this one.
    #[must_use]
    pub fn is_published(&self) -> bool {
        !self.insists.load(Ordering::Relaxed)
    }

    /// The current level.
    #[must_use]
    pub fn level(&self) -> ThreatLevel {
        self.dial.borrow().level
    }

    /// The policy at the current level.
    #[must_use]
    pub fn policy(&self) -> Arc<LevelPolicy> {
        self.policy_at(self.level())
    }

    /// The policy at `level`.
    #[must_use]
    pub fn policy_at(&self, level: ThreatLevel) -> Arc<LevelPolicy> {
        self.table.load().policy(level).clone()
    }

    /// Changes the settings. The dial keeps its level unless `threat.mode` or `threat.level` have changed; then it is
    /// set as configured, and on disk when this returns.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written; then only the table of levels has changed.
    pub async fn reconfigure(self: &Arc<Self>, settings: Settings) -> Result<(), FileError> {
        let Settings { mode, start, table } = settings;
        self.table.store(Arc::new(table));
        self.start.store(start.get(), Ordering::Relaxed);
        let configured = self.with_file(move |this, turning| {
            let now = this.clock.now();
            let dial = turning.audit.configure(mode, start, now)?;
            turning.controller = DialController::new(start, &dial, now);
            if dial != this.dial() {
                this.insists.store(true, Ordering::Relaxed);
                this.take_effect(turning, dial, Some(&ChangedBy::Configuration));
            }
            Ok(())
        });
        configured.await.unwrap_or(Ok(()))?;
        // If publishing fails, the next sample retries it.
        let _logged = self.publish().await;
        Ok(())
    }

    /// Who made the change in force, in the words of the history, if this node knows.
    #[must_use]
    pub fn author(&self) -> Option<Arc<String>> {
        self.by.load_full()
    }

    /// The dial in force.
    #[must_use]
    pub fn dial(&self) -> Dial {
        *self.dial.borrow()
    }

    /// Subscribes to changes.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<Dial> {
        self.dial.subscribe()
    }

    /// Whether the site is under attack.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        *self.verdict.borrow()
    }

    /// Subscribes to verdicts.
    #[must_use]
    pub fn judged(&self) -> watch::Receiver<Verdict> {
        self.verdict.subscribe()
    }

    /// The level at which the dial rests.
    #[must_use]
    pub fn start(&self) -> ThreatLevel {
        ThreatLevel(Level::new(self.start.load(Ordering::Relaxed)).unwrap_or(Level::MIN))
    }

    /// The collector of signals.
    #[must_use]
    pub const fn signals(&self) -> &Collector {
        &self.signals
    }

    /// Runs automatic control, and applies changes by operators and other nodes; never returns.
    pub async fn run(self: Arc<Self>) {
        let mut news = self.store.dial();
        let mut look = tokio::time::interval(POLL_INTERVAL);
        let mut sample = tokio::time::interval(SAMPLE_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => self.sync_from_file().await,
                _ = sample.tick() => self.sample().await,
                Ok(()) = news.changed() => {
                    let kept = news.borrow_and_update().clone();
                    if let Some(kept) = kept {
                        self.sync_from_store(&kept).await;
                    }
                }
            }
        }
    }

    /// Takes a sample, and changes the level if that is due.
    pub async fn sample(self: &Arc<Self>) {
        // Without the store nobody is admitted, and no other node would learn of a change.
        let published = self.publish().await;
        let active = self.store.active_challenges().await.unwrap_or(0);
        let signals = self.signals.sample(active);
        let now = self.clock.now();
        let seen = signals.clone();
        let step = move |this: &Self, turning: &mut DialState| {
            this.judge(turning.judge.step(&seen, SAMPLE_INTERVAL.as_secs()));
            turning.controller.step(&seen, now)
        };
        let Some(change) = self.with_file(step).await.flatten() else { return };
        let before = self.dial();
        let dial = Dial { level: change.to, ..before.next() };
        if published.is_err() || change.from != before.level {
            return;
        }
        match self.store.set_dial(dial.record(Some(ChangedBy::Auto.text()))).await {
            Ok(kept) if Dial::read(&kept) == Some(dial) => {
                let why = DialChange {
                    at: now,
                    by: ChangedBy::Auto,
                    reason: format!("pressure {} %", signals.pressure()),
                    signals: Some(signals),
                };
                let from = move |current: Dial| (current == before).then_some(dial);
                self.turn(Some(why), from).await;
            }
            Ok(kept) => self.sync_from_store(&kept).await,
            Err(error) => {
                tracing::warn!(%error, "cannot publish a change of the threat level to the store; it stays unchanged")
            }
        }
    }

    /// Applies a change that another process, the command line, wrote to the file.
    pub async fn sync_from_file(self: &Arc<Self>) {
        let looked = self.with_file(|this, turning| match turning.audit.foreign() {
            Ok(Some(dial)) if dial != this.dial() => {
                this.insists.store(true, Ordering::Relaxed);
                let by = ChangedBy::Operator(turning.audit.last_operator().unwrap_or_default());
                this.take_effect(turning, dial, Some(&by));
                true
            }
            Ok(_) => false,
            Err(error) => {
                turning.log_once(&error);
                false
            }
        });
        if looked.await == Some(true) {
            // If publishing fails, the next sample retries it.
            let _logged = self.publish().await;
        }
    }

    /// Changes the dial on behalf of an operator to what `decide` returns; `None` leaves it unchanged. The change is on
    /// disk and in force here when this returns; other nodes follow.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written; nothing has changed then.
    pub async fn change_by_operator(
        self: &Arc<Self>,
        why: DialChange,
        decide: impl FnOnce(Dial) -> Option<Dial> + Send + 'static,
    ) -> Result<Option<Dial>, FileError> {
        let turned = self.with_file(move |this, turning| {
            let turned = turning.audit.turn(Some(&why), decide)?;
            if let Some(dial) = turned {
                this.insists.store(true, Ordering::Relaxed);
                this.take_effect(turning, dial, Some(&why.by));
            }
            Ok(turned)
        });
        let turned = turned.await.unwrap_or(Ok(None))?;
        if turned.is_some() {
            // If publishing fails, the next sample retries it.
            let _logged = self.publish().await;
        }
        Ok(turned)
    }

    /// The last `count` changes, the oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub async fn history(self: &Arc<Self>, count: u64) -> Result<Vec<history::DialRow>, FileError> {
        let read = self.with_file(move |_, turning| turning.audit.last(count));
        read.await.unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The last `count` changes before `before` with sequence numbers below `below`, with those numbers, the latest
    /// first.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub async fn history_before(
        self: &Arc<Self>,
        before: Timestamp,
        below: u64,
        count: u64,
    ) -> Result<Vec<(u64, history::DialRow)>, FileError> {
        let read = self.with_file(move |_, turning| turning.audit.before(before, below, count));
        read.await.unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Applies a change by another node.
    async fn sync_from_store(self: &Arc<Self>, kept: &DialRecord) {
        let ours = self.dial();
        let Some(dial) = Dial::read(kept) else {
            tracing::warn!(
                "the threat dial in the store was written by another version of Fortify and is ignored"
            );
            return;
        };
        if dial == ours || dial.version < ours.version || self.insists.load(Ordering::Relaxed) {
            return;
        }
        let why = DialChange {
            at: self.clock.now(),
            by: ChangedBy::Store(kept.by.as_deref().map(history::printable)),
            reason: String::new(),
            signals: None,
        };
        self.turn(Some(why), move |current| (current == ours).then_some(dial)).await;
    }

    /// Publishes the dial to the store, after a start or if the store has lost it. If the store has a later one, it is
    /// adopted, unless an operator has changed this one since.
    async fn publish(self: &Arc<Self>) -> Result<(), StoreError> {
        for _bid in 0..MAX_BIDS {
            let ours = self.dial();
            let by = self.by.load().as_deref().cloned();
            let kept = self.store.set_dial(ours.record(by)).await?;
            if Dial::read(&kept) == Some(ours) {
                self.insists.store(false, Ordering::Relaxed);
                return Ok(());
            }
            if !self.insists.load(Ordering::Relaxed) {
                self.sync_from_store(&kept).await;
                return Ok(());
            }
            let dial = Dial { version: kept.version, ..ours }.next();
            self.turn(None, move |current| (current == ours).then_some(dial)).await;
        }
        Ok(())
    }

    /// Writes a change to the file and applies it, if `decide` returns one for the dial in the file. Without `why` it
    /// is not recorded in the history: only the version changes.
    async fn turn(
        self: &Arc<Self>,
        why: Option<DialChange>,
        decide: impl FnOnce(Dial) -> Option<Dial> + Send + 'static,
    ) {
        let turned = self.with_file(move |this, turning| {
            match turning.audit.turn(why.as_ref(), decide) {
                Ok(Some(dial)) => {
                    this.take_effect(turning, dial, why.as_ref().map(|why| &why.by));
                }
                // An operator was faster; the next sync from the file picks it up.
                Ok(None) => {}
                Err(error) => turning.log_once(&error),
            }
        });
        turned.await;
    }

    /// Puts `dial` in force; `by` is none if only its version has changed.
    fn take_effect(&self, turning: &mut DialState, dial: Dial, by: Option<&ChangedBy>) {
        turning.logged.clear();
        turning.controller.adopt(&dial, self.clock.now());
        self.by.store(by.and_then(ChangedBy::author).map(Arc::new).or_else(|| self.by.load_full()));
        let before = self.dial.send_replace(dial);
        let Some(by) = by else { return };
        self.metrics.changed(by.label(), dial.level.get());
        let (from, to) = (before.level.get(), dial.level.get());
        let mode = dial.mode.as_str();
        tracing::info!(from, to, mode, by = by.text(), "the threat dial was turned");
    }

    /// Publishes a verdict, with one line in the log when the state or the kind of attack has changed.
    fn judge(&self, verdict: Verdict) {
        self.metrics.set_verdict(verdict.state as i64);
        let before = self.verdict.send_replace(verdict);
        if (before.state, before.kind) != (verdict.state, verdict.kind) {
            let (level, advice) = (self.level().get(), verdict.advice());
            tracing::warn!(%verdict, level, advice, "the state of the site has changed");
        }
    }

    /// Runs `work` with the file on a blocking thread.
    async fn with_file<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut DialState) -> T + Send + 'static,
    ) -> Option<T> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&this, &mut this.state()));
        done.await.ok()
    }

    /// The state stays consistent after a panic: its parts change independently. It is locked during disk access, so
    /// never lock it on a thread that serves requests; use [`Self::with_file`].
    fn state(&self) -> MutexGuard<'_, DialState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DialState {
    fn log_once(&mut self, error: &FileError) {
        let text = error.to_string();
        if self.logged != text {
            tracing::error!(
                error = text,
                "cannot use the file of the threat dial; its level stays unchanged"
            );
            self.logged = text;
        }
    }
}

impl fmt::Debug for Threat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threat").field("dial", &self.dial()).finish_non_exhaustive()
    }
}

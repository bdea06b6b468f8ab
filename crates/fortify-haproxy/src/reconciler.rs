//! The task that brings `HAProxy`'s table to what is wanted.
//!
//! Three things happen: a change is told within milliseconds; a new process (a restart, a reload)
//! is told everything; and every minute the whole table is compared, which refreshes what is about
//! to end and repairs what somebody else changed. While `HAProxy` is away nothing is lost and
//! nothing piles up, because what is wanted is in [`Reputation`], not here.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::answer::ProcessInfo;
use super::client::{Client, ClientError, MAX_BATCH};
use super::command::{Command, Flag, Penalty, TableName};
use super::plan::{flag, plan};
use crate::metrics::{CommandOutcome, HaproxyMetrics};
use fortify_core::circuit::TorCircuit;
use fortify_engine::reputation::{Changes, PenaltyUpdate, Reputation};

/// How long changes are gathered before they are told: a twentieth of the 50 ms that a change may
/// take, and enough that a burst is one batch.
const GATHER: Duration = Duration::from_millis(3);

/// How often it is asked which process answers. A restart between two questions shows in the second.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How often the whole table is compared.
const PASS_INTERVAL: Duration = Duration::from_secs(60);

/// When it is compared again after a new process was told: a peer, which after a reload is the
/// process before, teaches its own table meanwhile, older values included. Measured, that takes 0.1
/// to 0.35 s.
const SECOND_PASS: Duration = Duration::from_secs(2);

/// Waits between attempts: doubled from the first to the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(1);

/// Commands of a full pass between two looks at what changed meanwhile.
const PASS_CHUNK: usize = 8 * MAX_BATCH;

/// Why the table is not what is wanted.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What a reload leaves of the process before answers still.
    #[error("the HAProxy that answers is stopping; the one after it is awaited")]
    Stopping,
}

/// Whether the table is what is wanted, as far as is known.
#[derive(Debug, Default)]
pub struct Health(AtomicBool);

impl Health {
    /// Whether the last exchange with `HAProxy` went well.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps one table at what is wanted.
#[derive(Debug)]
pub struct Reconciler {
    client: Client,
    table: TableName,
    reputation: Arc<Reputation>,
    health: Arc<Health>,
    metrics: HaproxyMetrics,
}

impl Reconciler {
    /// For `table` of the `HAProxy` that `client` speaks to; `health` is kept up to date.
    #[must_use]
    pub const fn new(
        client: Client,
        table: TableName,
        reputation: Arc<Reputation>,
        health: Arc<Health>,
        metrics: HaproxyMetrics,
    ) -> Self {
        Self { client, table, reputation, health, metrics }
    }

    /// Goes on until it is dropped.
    pub async fn run(self) -> Infallible {
        let (mut backoff, mut reported) = (FIRST_BACKOFF, String::new());
        loop {
            let Err(error) = self.follow(&mut backoff, &mut reported).await;
            self.reputation.fail();
            self.set_up(false);
            let text = error.to_string();
            // Once for each thing that is wrong, not at every attempt.
            if !matches!(error, ReconcileError::Stopping) && text != reported {
                tracing::warn!(
                    error = %text,
                    "bans and favours do not reach HAProxy; they are kept, and refused here"
                );
                reported = text;
            }
            tokio::time::sleep(backoff).await;
            backoff = LAST_BACKOFF.min(backoff * 2);
        }
    }

    /// Keeps the table up to date for as long as that works.
    async fn follow(
        &self,
        backoff: &mut Duration,
        reported: &mut String,
    ) -> Result<Infallible, ReconcileError> {
        // Asked before the pass: a process that comes during it shows at the next question.
        let mut process = self.process().await?;
        self.full_pass().await?;
        self.set_up(true);
        *backoff = FIRST_BACKOFF;
        tracing::info!(version = %process.version, "HAProxy's table is as wanted");
        reported.clear();
        let mut poll = tokio::time::interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_pass = Instant::now() + SECOND_PASS;
        loop {
            tokio::select! {
                () = self.reputation.changed() => {
                    tokio::time::sleep(GATHER).await;
                    self.send_changes().await?;
                }
                _ = poll.tick() => {
                    let answering = self.process().await?;
                    let another = answering.succeeds(&process);
                    if another || next_pass <= Instant::now() {
                        self.full_pass().await?;
                        let wait = if another { SECOND_PASS } else { PASS_INTERVAL };
                        next_pass = Instant::now() + wait;
                    }
                    process = answering;
                }
            }
        }
    }

    async fn process(&self) -> Result<ProcessInfo, ReconcileError> {
        let info = self.client.info().await?;
        if info.stopping { Err(ReconcileError::Stopping) } else { Ok(info) }
    }

    /// Compares the whole table and tells what differs.
    async fn full_pass(&self) -> Result<(), ReconcileError> {
        let wanted = self.reputation.wanted();
        let there = self.client.flagged(&self.table).await?;
        let changes = plan(&wanted, &there);
        for chunk in changes.chunks(PASS_CHUNK) {
            // How they stand may have changed since; what is told is how they stand now.
            self.send(chunk.iter().map(|(circuit, _)| *circuit)).await?;
            // A large table takes seconds, and a new ban does not wait for it.
            if let Changes::Some(circuits) = self.reputation.take_changes() {
                self.send(circuits.into_iter()).await?;
            }
        }
        // What was read does not show them, and nobody is refused or let in by them.
        self.send(self.reputation.penalised().into_iter()).await?;
        self.reputation.confirm();
        Ok(())
    }

    async fn send_changes(&self) -> Result<(), ReconcileError> {
        match self.reputation.take_changes() {
            Changes::None => Ok(()),
            Changes::Some(circuits) => {
                self.send(circuits.into_iter()).await?;
                self.reputation.confirm();
                Ok(())
            }
            Changes::Everything => self.full_pass().await,
        }
    }

    /// Tells how the numbers of `circuits` stand now. By number, as the table has them: a circuit that
    /// is named may be a former tor's, and its number another visitor's since.
    async fn send(&self, circuits: impl Iterator<Item = TorCircuit>) -> Result<(), ClientError> {
        let commands: Vec<Command> = circuits
            .map(|circuit| {
                let number = circuit.number();
                let command = match flag(self.reputation.status_of_number(number)) {
                    Flag::Normal => Command::reset(&self.table, circuit),
                    Flag::Vip => Command::promote(&self.table, circuit),
                    Flag::Banned => Command::ban(&self.table, circuit),
                };
                command.with(match self.reputation.penalty_update(number) {
                    PenaltyUpdate::Unchanged => Penalty::Unchanged,
                    PenaltyUpdate::Clear => Penalty::Lifted,
                    PenaltyUpdate::Set => Penalty::Suspected,
                })
            })
            .collect();
        let reported = self.client.run(&commands).await;
        if reported.is_ok() {
            let lifted = commands.iter().filter_map(Command::lifted).collect::<Vec<u32>>();
            self.reputation.penalties_cleared(&lifted);
        }
        let all = commands.len();
        let (done, refused, failed) = match &reported {
            Ok(()) => (all, 0, 0),
            Err(ClientError::Refused { refused, .. }) => {
                (all.saturating_sub(*refused), *refused, 0)
            }
            Err(_) => (0, 0, all),
        };
        self.metrics.commands(done, CommandOutcome::Done);
        self.metrics.commands(refused, CommandOutcome::Refused);
        self.metrics.commands(failed, CommandOutcome::Failed);
        reported
    }

    fn set_up(&self, up: bool) {
        self.health.0.store(up, Ordering::Relaxed);
        self.metrics.set_up(up);
    }
}

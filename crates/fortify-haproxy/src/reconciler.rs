//! The task that keeps `HAProxy`'s table up to date.
//!
//! It sends a change within milliseconds, and everything to a new process (after a restart or a reload). Every
//! minute it compares the whole table, which refreshes entries before they expire and repairs foreign
//! changes. While `HAProxy` is unreachable nothing is lost or queued, because the wanted state is in
//! [`Reputation`].

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
use fortify_reputation::{Changes, PenaltyUpdate, Reputation};

/// How long changes are collected before they are sent: a small part of the 50 ms that a change may take, and
/// long enough to send a burst as one batch.
const GATHER: Duration = Duration::from_millis(3);

/// How often `HAProxy` is asked which process answers, to notice restarts.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How often the whole table is compared.
const PASS_INTERVAL: Duration = Duration::from_secs(60);

/// When the table of a new process is compared again: after a reload the old process is a peer and copies its
/// own table over, outdated values included, which takes 0.1 to 0.35 s (measured).
const SECOND_PASS: Duration = Duration::from_secs(2);

/// The first and the longest pause between attempts; each is twice the one before.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(1);

/// Commands of a full pass between two checks for new changes.
const PASS_CHUNK: usize = 8 * MAX_BATCH;

/// Why the table is not up to date.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An old process that a reload left behind answered.
    #[error("the HAProxy that answers is stopping; waiting for its successor")]
    Stopping,
}

/// Whether the table is up to date, as far as is known.
#[derive(Debug, Default)]
pub struct Health(AtomicBool);

impl Health {
    /// Whether the last exchange with `HAProxy` succeeded.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps one table up to date.
#[derive(Debug)]
pub struct Reconciler {
    client: Client,
    table: TableName,
    reputation: Arc<Reputation>,
    health: Arc<Health>,
    metrics: HaproxyMetrics,
}

impl Reconciler {
    /// A reconciler for `table` of the `HAProxy` behind `client`, which reports to `health`.
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

    /// Runs until it is dropped.
    pub async fn run(self) -> Infallible {
        let (mut backoff, mut reported) = (FIRST_BACKOFF, String::new());
        loop {
            let Err(error) = self.follow(&mut backoff, &mut reported).await;
            self.reputation.fail();
            self.set_up(false);
            let text = error.to_string();
            // Each problem is logged once, not at every attempt.
            if !matches!(error, ReconcileError::Stopping) && text != reported {
                tracing::warn!(
                    error = %text,
                    "HAProxy cannot be updated; Fortify refuses banned circuits itself, and keeps all changes"
                );
                reported = text;
            }
            tokio::time::sleep(backoff).await;
            backoff = LAST_BACKOFF.min(backoff * 2);
        }
    }

    /// Keeps the table up to date until that fails.
    async fn follow(
        &self,
        backoff: &mut Duration,
        reported: &mut String,
    ) -> Result<Infallible, ReconcileError> {
        // Asked before the pass, so that a process that starts during it is noticed at the next poll.
        let mut process = self.process().await?;
        self.full_pass().await?;
        self.set_up(true);
        *backoff = FIRST_BACKOFF;
        tracing::info!(version = %process.version, "HAProxy's table is up to date");
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

    /// Compares the whole table and sends the differences.
    async fn full_pass(&self) -> Result<(), ReconcileError> {
        let wanted = self.reputation.wanted();
        let there = self.client.flagged(&self.table).await?;
        let changes = plan(&wanted, &there);
        for chunk in changes.chunks(PASS_CHUNK) {
            // Sends the current status, which may have changed since the comparison.
            self.send(chunk.iter().map(|(circuit, _)| *circuit)).await?;
            // A large table takes seconds; new bans must not wait for it.
            if let Changes::Some(circuits) = self.reputation.take_changes() {
                self.send(circuits.into_iter()).await?;
            }
        }
        // Penalty counters are not among the entries that were read.
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

    /// Sends the current status of the numbers of `circuits`. The table knows numbers only: a circuit may belong
    /// to an earlier run of tor, and its number to another visitor now.
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

//! State that Fortify keeps between requests, behind one trait.
//!
//! A store that cannot answer returns a [`StoreError`], which visitors see as a 503: an error never admits.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`config`]: the section `[storage]`.
//! - [`record`]: the records, and their ids.
//! - [`replication`]: the state of circuits that nodes share, as bytes.
//! - [`metrics`]: whether the store answers.
//! - this file: [`StateStore`], the trait, with the guarantees of each operation.
//! - `window`: recent requests of one circuit; pure.
//! - `lease`: the budget of one session, from which nodes take leases; pure.
//! - `loss`: what was lost of the files of the two tables below, and what follows from it.
//! - `revocations`: ended sessions, in a journal.
//! - `binding`: the circuits of one session; pure. `binding_table`: those of all sessions, in a journal.
//! - [`memory`]: the embedded store, for one node.
//! - [`redis`]: the shared store, for any number of nodes.
//! - `contract`: the tests that every store passes; public with the feature `test-support`.

#[cfg(test)]
extern crate self as fortify_store;

mod binding;
mod binding_table;
pub mod config;
#[cfg(any(test, feature = "test-support"))]
pub mod contract;
mod lease;
mod loss;
pub mod memory;
pub mod metrics;
pub mod record;
pub mod redis;
pub mod replication;
mod revocations;
mod window;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use fortify_core::advice::{Advise, both};
use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use fortify_core::pseudonym::CircuitTag;
use fortify_core::reach::Reach;
use fortify_keys::KeyNote;
use record::{
    ChainId, ChallengeRecord, ChallengeToken, DialRecord, Failures, Lease, LeaseRequest,
    MoveOutcome, MoveRequest, Place, Quota, Receipt, SessionId, SessionState, Taken, WindowLimit,
};
use replication::ReplicationPeer;

/// The longest that a session lasts: `session.ttl_seconds` is at most a day.
pub const MAX_SESSION: Duration = Duration::from_secs(86_400);

/// How long a challenge that was taken stays [`Taken::Pending`] if the request that took it never ends the check: longer
/// than a check takes, a slow disk included.
pub const PENDING_LIFETIME: Duration = Duration::from_secs(10);

/// For how long it counts what a node said of its keys; nodes repeat it every few seconds.
pub const KEYS_AGE: Duration = Duration::from_secs(60);

/// Why a store did not answer. The message says what the operator should do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is unreachable or too slow.
    #[error("the state store does not answer: {0}")]
    Unavailable(String),
    /// Redis is not reachable, too slow, or refuses what the store needs.
    #[error("{}", both(self))]
    Redis {
        /// Where it is.
        place: String,
        /// What happened.
        problem: Cow<'static, str>,
        /// What to do about it.
        advice: Option<Cow<'static, str>>,
    },
    /// A bound was reached, and nothing may be evicted to make room.
    #[error("the state store is full: {0}")]
    Full(&'static str),
}

impl Advise for StoreError {
    fn problem(&self) -> String {
        match self {
            Self::Redis { place, problem, .. } => {
                format!("the state store does not answer: Redis at {place}: {problem}")
            }
            Self::Unavailable(_) | Self::Full(_) => self.to_string(),
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Redis { advice, .. } => advice.clone(),
            Self::Unavailable(_) | Self::Full(_) => None,
        }
    }
}

/// The state of one deployment: challenges, failures, revocations.
///
/// Every operation is atomic. Reads check expiry by the store's clock: an expired record is the same as an
/// absent one.
#[async_trait]
pub trait StateStore: Send + Sync + fmt::Debug {
    /// Keeps a challenge until `record.expires_at`, beside others of its circuit as `place` says. Returns the
    /// circuit's challenge if that one stays and this one was not stored. A full store removes an old one or
    /// refuses.
    async fn put_challenge(
        &self,
        token: &ChallengeToken,
        record: ChallengeRecord,
        place: Place<'_>,
    ) -> Result<Option<ChallengeToken>, StoreError>;

    /// The token of the newest challenge of `circuit`. That challenge may have expired.
    async fn newest_challenge(
        &self,
        circuit: CircuitTag,
    ) -> Result<Option<ChallengeToken>, StoreError>;

    /// Reads a challenge without removing it: to render its picture.
    async fn challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError>;

    /// Removes a challenge and returns it. Of any number of simultaneous calls exactly one gets it; the others get
    /// [`Taken::Pending`] until that one calls [`Self::settle_challenge`], for [`PENDING_LIFETIME`] at most.
    async fn take_challenge(&self, token: &ChallengeToken) -> Result<Taken, StoreError>;

    /// Ends the check of a challenge that was taken. A `receipt` is what further calls of
    /// [`Self::take_challenge`] get until it expires; without one they get [`Taken::Absent`]. A full store may
    /// forget a receipt early.
    async fn settle_challenge(
        &self,
        token: &ChallengeToken,
        receipt: Option<Receipt>,
    ) -> Result<(), StoreError>;

    /// Counts a wrong answer of `circuit`. The count is forgotten after `decay` without another one.
    async fn record_failure(
        &self,
        circuit: CircuitTag,
        decay: Duration,
    ) -> Result<Failures, StoreError>;

    /// The wrong answers of `circuit` that are not forgotten yet.
    async fn failures(&self, circuit: CircuitTag) -> Result<Failures, StoreError>;

    /// Forgets the wrong answers of `circuit`: an operator reset it, or it was closed for good.
    async fn forget_failures(&self, circuit: CircuitTag) -> Result<(), StoreError>;

    /// Counts a request of `circuit` for a challenge, if that is within both bounds. The bounds are exact, because
    /// they decide about a person. A refused request is not counted, so that repeating it does not prolong
    /// the wait. Nobody waits for longer than `longest` after the last request, if that is given.
    async fn acquire_quota(
        &self,
        circuit: CircuitTag,
        bounds: [WindowLimit; 2],
        longest: Option<Duration>,
    ) -> Result<Quota, StoreError>;

    /// How often `circuit` requested a challenge in each of these periods before now; counts nothing. `None` if
    /// the store cannot tell. For operators.
    async fn quota_usage(
        &self,
        _circuit: CircuitTag,
        _within: [Duration; 2],
    ) -> Result<Option<[u32; 2]>, StoreError> {
        Ok(None)
    }

    /// Revokes a session until `until`, when its token has expired by itself. No other entry ever displaces
    /// a revocation. One that the other nodes cannot be told yet is in force here all the same, and they are told later.
    async fn revoke_session(
        &self,
        session: SessionId,
        until: Timestamp,
    ) -> Result<Reach, StoreError>;

    /// The state of `session` that its token does not show. It is answered from memory, because every admitted
    /// request asks; a session that was neither revoked nor moved has no entry.
    ///
    /// [`SessionState::Revoked`] takes precedence over every move. On a shared store, moves and revocations of
    /// other nodes may arrive late, both by the same bound.
    async fn session_state(&self, session: SessionId) -> Result<SessionState, StoreError>;

    /// Until when `session` is revoked, as [`Self::session_state`] knows it; `None` if it is not.
    async fn revoked_until(&self, session: SessionId) -> Result<Option<Timestamp>, StoreError>;

    /// Ends all sessions that are bound to `circuit` and were earned until `at`, because it was banned or an
    /// operator ended them. As durable as a revocation, for as long as any of them may last.
    async fn end_sessions_of(
        &self,
        circuit: CircuitTag,
        at: Timestamp,
    ) -> Result<Reach, StoreError> {
        self.revoke_session(SessionId::of_all_on(circuit), at.after(MAX_SESSION)).await
    }

    /// When the sessions of `circuit` were ended last, answered from memory; `None` if they were not within
    /// [`MAX_SESSION`].
    async fn sessions_ended(&self, circuit: CircuitTag) -> Result<Option<Timestamp>, StoreError> {
        let until = self.revoked_until(SessionId::of_all_on(circuit)).await?;
        let longest = u64::try_from(MAX_SESSION.as_millis()).unwrap_or(u64::MAX);
        let at =
            |until: Timestamp| Timestamp::from_millis(until.as_millis().saturating_sub(longest));
        Ok(until.map(at))
    }

    /// Marks a chain of challenges as spent: it led to a session and leads to no other. This is as durable as a
    /// revocation, until `until`, when its cookies have expired.
    async fn spend_chain(&self, chain: ChainId, until: Timestamp) -> Result<(), StoreError> {
        self.revoke_session(chain.revocation(), until).await.map(|_reach| ())
    }

    /// Whether `chain` is spent, as far as this node knows.
    async fn is_chain_spent(&self, chain: ChainId) -> Result<bool, StoreError> {
        Ok(self.session_state(chain.revocation()).await? == SessionState::Revoked)
    }

    /// The circuits that `session` left, and when it left each, as [`Self::session_state`] knows it.
    fn left_by(&self, session: SessionId) -> Vec<(CircuitTag, Timestamp)>;

    /// Moves `session` to the circuit `step.to`, if that is allowed. Atomic over all nodes: of any number of
    /// simultaneous calls at most `step.most` are [`MoveOutcome::Moved`], and the session ends up on exactly one
    /// circuit.
    ///
    /// The rules, in this order:
    ///
    /// 1. A revoked session is [`MoveOutcome::Revoked`].
    /// 2. A session that is bound to `step.to` already is [`MoveOutcome::AlreadyBound`], and nothing is counted:
    ///    the requests of one page load carry the same old cookie, and are one move. A session without an
    ///    entry is bound to `step.from`.
    /// 3. If `step.to` is a circuit that the session left, or `step.from`, the session is revoked as by
    ///    [`Self::revoke_session`] until `step.until`. This call returns [`MoveOutcome::Shared`], later ones
    ///    [`MoveOutcome::Revoked`].
    /// 4. With `step.most` moves in the last `step.window`, or no room for another entry, the result is
    ///    [`MoveOutcome::Refused`] and nothing changes: no entry is evicted, and a refused move revokes
    ///    nothing.
    /// 5. Otherwise the session is bound to `step.to`, its former circuit counts as left, and the result is
    ///    [`MoveOutcome::Moved`]. Before the call returns, the move is as durable as a revocation, at least until
    ///    `step.until`.
    ///
    /// `step.from` is the circuit in the cookie, which need not be the current one: an old cookie from a third
    /// circuit is a further move. Times are by the store's clock.
    async fn move_session(
        &self,
        session: SessionId,
        step: MoveRequest,
    ) -> Result<MoveOutcome, StoreError>;

    /// Takes a part of the budget of `session`, which is a token bucket and a quota. Atomic over all nodes: together
    /// they take at most the quota, and in any time at most the burst and what the rate gives in that time.
    async fn lease_budget(
        &self,
        session: SessionId,
        request: LeaseRequest,
    ) -> Result<Lease, StoreError>;

    /// Stores `dial` unless there is one with the same or a higher version, and returns the one that is stored
    /// then. Of any number of simultaneous changes of one version, on all nodes, one is stored.
    async fn set_dial(&self, dial: DialRecord) -> Result<DialRecord, StoreError>;

    /// The stored dial, as far as this node knows, and its changes: at once from this node, within 100 ms from
    /// another. `None` before the first.
    fn dial(&self) -> watch::Receiver<Option<DialRecord>>;

    /// Tells the other nodes which keys this one has, and returns what nodes said of theirs within the last
    /// [`KEYS_AGE`]: for each root the newest period. A store for one node knows of its own only.
    async fn exchange_key_notes(&self, own: KeyNote) -> Result<Vec<KeyNote>, StoreError> {
        Ok(vec![own])
    }

    /// Starts to replicate the statuses and answer events of `peer` to and from all nodes. To be called once. A
    /// store for one node does nothing.
    fn replicate(&self, peer: Arc<dyn ReplicationPeer>) {
        drop(peer);
    }

    /// How many revocations are in force at this node alone, because the shared store has not taken them yet.
    fn unwritten(&self) -> usize {
        0
    }

    /// Whether this node knows the decisions of other nodes: bans, revocations, moves. Answered from memory; a
    /// store for one node always does.
    ///
    /// # Errors
    ///
    /// If the node cannot prove that it has received everything up to 2 s ago.
    fn is_current(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Sessions and chains issued at or before this time are not accepted: records of log-outs or moves were
    /// lost that may concern them. `None` if nothing was lost that matters.
    fn valid_after(&self) -> Option<Timestamp> {
        None
    }

    /// The files that were found damaged since this process started.
    fn damages(&self) -> Vec<Damage> {
        Vec::new()
    }

    /// Whether the store answers at all: for `/ready`.
    async fn ping(&self) -> Result<(), StoreError>;

    /// The number of unanswered challenges: a gauge that may lag briefly.
    async fn active_challenges(&self) -> Result<u64, StoreError>;
}

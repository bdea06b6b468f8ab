//! What Fortify remembers between requests, behind one trait.
//!
//! # Layout
//!
//! - [`StateStore`]: the verbs, with what each promises.
//! - [`record`]: what is kept, and under which names.
//! - [`config`]: the section `[storage]`.
//! - [`memory`]: the embedded store, for one node.
//! - [`redis`]: the shared store, for any number of nodes.
//! - [`statuses`]: what nodes tell each other of circuits, in bytes.
//! - `window`: what a circuit asked for lately; pure.
//! - `revocations`, `moves`: what a node keeps on disk besides, each in a `journal`; `binding`:
//!   where one session lives and lived.
//! - [`metrics`]: whether the store answers, for a machine.
//! - `contract`: one suite of tests that every store passes; with the feature `test-support` for others.
//!
//! A store that cannot answer says so with a [`StoreError`], and the edge turns that into a 503:
//! an error is never an admission.

#[cfg(test)]
extern crate self as fortify_store;

mod binding;
mod binding_table;
pub mod config;
#[cfg(any(test, feature = "test-support"))]
pub mod contract;
mod journal;
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
use fortify_core::pseudonym::CircuitTag;
use record::{
    ChainId, ChallengeRecord, ChallengeToken, DialRecord, Failures, MoveOutcome, MoveRequest,
    Quota, SessionId, SessionState, WindowLimit,
};
use replication::ReplicationPeer;

/// Why a store did not answer. What the operator should do is in the message.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is not reachable, or too slow.
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
    /// A bound was reached that must not be met by forgetting something else.
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
/// Every verb is one atomic step. Verbs that read judge age by the store's clock, so that an
/// expired record and an absent one cannot be told apart.
#[async_trait]
pub trait StateStore: Send + Sync + fmt::Debug {
    /// Keeps a challenge until `record.expires_at`. When its circuit has as many as it may, the
    /// circuit's oldest makes room; a store that is full makes room by an old one, or refuses.
    async fn put_challenge(
        &self,
        token: &ChallengeToken,
        record: ChallengeRecord,
    ) -> Result<(), StoreError>;

    /// A look at a challenge that leaves it where it is: to draw its picture.
    async fn challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError>;

    /// Takes a challenge away. Of any number of simultaneous takes exactly one gets it.
    async fn take_challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError>;

    /// Counts one wrong answer of `circuit`; the count is forgotten after `decay` without another.
    async fn record_failure(
        &self,
        circuit: CircuitTag,
        decay: Duration,
    ) -> Result<Failures, StoreError>;

    /// The wrong answers of `circuit` that are not forgotten yet.
    async fn failures(&self, circuit: CircuitTag) -> Result<Failures, StoreError>;

    /// Forgets the wrong answers of `circuit`: an operator forgave them, or it is closed and will not come
    /// back.
    async fn forget_failures(&self, circuit: CircuitTag) -> Result<(), StoreError>;

    /// Counts that `circuit` asks for a challenge, if that is within both bounds, which are exact: they
    /// decide about a person. What does not count is not remembered, so that asking on does not
    /// prolong the wait.
    async fn acquire_quota(
        &self,
        circuit: CircuitTag,
        bounds: [WindowLimit; 2],
    ) -> Result<Quota, StoreError>;

    /// How often `circuit` asked for a challenge in each of these times before now, which counts nothing;
    /// `None` from a store that does not tell. For operators.
    async fn quota_usage(
        &self,
        _circuit: CircuitTag,
        _within: [Duration; 2],
    ) -> Result<Option<[u32; 2]>, StoreError> {
        Ok(None)
    }

    /// Ends a session before its time. It stays ended until `until`, when its token has expired
    /// by itself; no other entry ever makes it forgotten sooner.
    async fn revoke_session(&self, session: SessionId, until: Timestamp) -> Result<(), StoreError>;

    /// What is known of `session` beyond its token. Every admitted request asks, so it is answered
    /// from memory, and a session that was neither ended nor moved has no entry.
    ///
    /// [`SessionState::Revoked`] outweighs every move. A store of several nodes may lag behind another
    /// node's moves by as much as behind its revocations.
    async fn session_state(&self, session: SessionId) -> Result<SessionState, StoreError>;

    /// Spends a chain of challenges, which led to a session and leads to no other. It is kept as safely as a
    /// revocation, until `until`, when its cookies have expired.
    async fn spend_chain(&self, chain: ChainId, until: Timestamp) -> Result<(), StoreError> {
        self.revoke_session(chain.revocation(), until).await
    }

    /// Whether `chain` is spent, as far as this node knows.
    async fn is_chain_spent(&self, chain: ChainId) -> Result<bool, StoreError> {
        Ok(self.session_state(chain.revocation()).await? == SessionState::Revoked)
    }

    /// Has `session` live on the circuit `step.to` from now on, if it may. One atomic step over all
    /// nodes: of any number of simultaneous ones at most `step.most` are [`MoveOutcome::MoveOutcome`], and the
    /// session ends up on exactly one circuit.
    ///
    /// In this order:
    ///
    /// 1. a revoked session is [`MoveOutcome::Revoked`];
    /// 2. one that lives on `step.to` already is [`MoveOutcome::AlreadyBound`], and nothing is counted: the
    ///    requests of one page load come with the same old cookie, and are one move. A session
    ///    without an entry lives on `step.from`;
    /// 3. where `step.to` is a circuit that the session left, or `step.from`, the session is revoked
    ///    as by [`Self::revoke_session`] until `step.until`, and this one call says
    ///    [`MoveOutcome::Shared`]: later ones find it revoked;
    /// 4. with `step.most` moves in the last `step.window`, or no room for another entry, it is
    ///    [`MoveOutcome::Refused`] and everything stays as it is: nothing is forgotten to make room, and a
    ///    refused move revokes nothing;
    /// 5. otherwise the circuit where it lived is one that it left, it lives on `step.to`, and that
    ///    is [`MoveOutcome::MoveOutcome`]. Before the answer it is kept as safely as a revocation, until
    ///    `step.until` at least.
    ///
    /// `step.from` is what the cookie says, and need not be where the session lives by now: an old
    /// cookie from a third circuit is a further move. The times are the store's own clock's.
    async fn move_session(
        &self,
        session: SessionId,
        step: MoveRequest,
    ) -> Result<MoveOutcome, StoreError>;

    /// Keeps `dial` unless there is one with the same or a higher version; the one that is kept then.
    /// Of any number of simultaneous turns from one version, on all nodes, one is kept.
    async fn set_dial(&self, dial: DialRecord) -> Result<DialRecord, StoreError>;

    /// The dial that is kept, as far as this node knows, and news of the next: at once from this node,
    /// within 100 ms from another. `None` before there is any.
    fn dial(&self) -> watch::Receiver<Option<DialRecord>>;

    /// Has `peer`'s standings and deeds be those of every node, from now on and once for a store. A
    /// store of one node has nobody to tell.
    fn replicate(&self, peer: Arc<dyn ReplicationPeer>) {
        drop(peer);
    }

    /// Whether this node knows what other nodes decided: who is banned, logged out, moved. Answered from
    /// memory; a store of one node always does.
    ///
    /// # Errors
    ///
    /// When it cannot prove that it has heard of everything up to 2 s ago.
    fn is_current(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether the store answers at all: for `/ready`.
    async fn ping(&self) -> Result<(), StoreError>;

    /// How many challenges wait for an answer: a gauge, and may lag by a moment.
    async fn active_challenges(&self) -> Result<u64, StoreError>;
}

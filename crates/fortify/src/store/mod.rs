//! What Fortify remembers between requests, behind one trait.
//!
//! # Layout
//!
//! - [`StateStore`]: the verbs, with what each promises.
//! - [`record`]: what is kept, and under which names.
//! - [`memory`]: the embedded store, for one node; `revocations` is what it keeps on disk.
//! - `contract`: one suite of tests that every store passes.
//!
//! A store that cannot answer says so with a [`StoreError`], and the edge turns that into a 503:
//! an error is never an admission.

#[cfg(test)]
pub(crate) mod contract;
pub mod memory;
pub mod record;
mod revocations;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::pseudonym::CircuitTag;
use record::{ChallengeRecord, ChallengeToken, Failures, SessionId};

/// Why a store did not answer. What the operator should do is in the message.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is not reachable, or too slow.
    #[error("the state store does not answer: {0}")]
    Unavailable(String),
    /// A bound was reached that must not be met by forgetting something else.
    #[error("the state store is full: {0}")]
    Full(&'static str),
}

/// The state of one deployment: challenges, failures, revocations.
///
/// Every verb is one atomic step. Verbs that read judge age by the store's clock, so that an
/// expired record and an absent one cannot be told apart.
#[async_trait]
pub trait StateStore: Send + Sync + fmt::Debug {
    /// Keeps a challenge until `record.expires_at`. When its circuit has as many as it may, the
    /// circuit's oldest makes room; when the store is full, the one that was used longest ago.
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

    /// Drops the wrong answers of a circuit that is closed and will not come back. They would go by
    /// themselves; a store that has no use for this does nothing.
    async fn forget_circuit(&self, circuit: CircuitTag) -> Result<(), StoreError> {
        let _goes_by_itself = circuit;
        Ok(())
    }

    /// Ends a session before its time. It stays ended until `until`, when its token has expired
    /// by itself; no other entry ever makes it forgotten sooner.
    async fn revoke_session(&self, session: SessionId, until: Timestamp) -> Result<(), StoreError>;

    /// Whether [`Self::revoke_session`] was called for `session`.
    async fn is_revoked(&self, session: SessionId) -> Result<bool, StoreError>;

    /// Whether the store answers at all: for `/ready`.
    async fn ping(&self) -> Result<(), StoreError>;

    /// How many challenges wait for an answer: a gauge, and may lag by a moment.
    async fn active_challenges(&self) -> Result<u64, StoreError>;
}

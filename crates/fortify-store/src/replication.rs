//! The state of circuits that nodes share, as bytes.
//!
//! A shared store keeps one row for each circuit that is trusted, banned or was reset, and forwards the events
//! of answers. It interprets neither: the [`ReplicationPeer`] decides which of two rows wins.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use super::record::Session;
use fortify_core::clock::Timestamp;

/// Bytes of a circuit: tor instance, generation, number.
pub const CIRCUIT_BYTES: usize = 10;

/// Bytes of a circuit's status: status and reason, four times, and the session that a circuit is trusted for.
pub const VALUE_BYTES: usize = 34 + Session::BYTES;

/// Bytes of an answer event.
pub const EVENT_BYTES: usize = 37;

/// A circuit.
pub type CircuitBytes = [u8; CIRCUIT_BYTES];

/// A circuit's status.
pub type ValueBytes = [u8; VALUE_BYTES];

/// An event of a circuit: it answered a challenge, or was forgotten.
pub type EventBytes = [u8; EVENT_BYTES];

/// The status of one circuit. `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReplicatedRow {
    /// The circuit.
    pub circuit: CircuitBytes,
    /// Its status.
    pub value: ValueBytes,
}

impl fmt::Debug for ReplicatedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedRow(..)")
    }
}

/// The order in which rows are evicted when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionRank {
    /// Reset circuits are evicted first.
    Normal,
    /// Trusted circuits are evicted next.
    Trusted,
    /// Banned circuits are never evicted.
    Banned,
}

/// A row to be stored.
#[derive(Clone, Debug)]
pub struct MergedRow {
    /// The row.
    pub row: ReplicatedRow,
    /// Its rank for eviction.
    pub rank: EvictionRank,
    /// When it expires.
    pub end: Timestamp,
}

/// Rows and events that a node publishes.
#[derive(Clone, Debug, Default)]
pub struct PublishBatch {
    /// The rows.
    pub rows: Vec<ReplicatedRow>,
    /// The events, the oldest first.
    pub events: Vec<EventBytes>,
}

/// The error for bytes that Fortify did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignBytes;

/// The statuses and answer events of one node, which a store replicates to the others.
///
/// A node never publishes what it received: only its own decisions, and rows that the store has lost.
#[async_trait]
pub trait ReplicationPeer: Send + Sync + fmt::Debug {
    /// Returns when there is something to publish.
    async fn wait_for_pending(&self);

    /// The next rows and events to publish, at most `most` of each. [`Self::confirm_published`] must follow.
    fn take_batch(&self, most: usize) -> PublishBatch;

    /// Confirms that the last batch was published, except for `left`, which is to be published later unless
    /// something newer replaces it.
    fn confirm_published(&self, left: PublishBatch);

    /// Merges the row `published` with the row `kept` in the store; `None` if the latter stays.
    ///
    /// # Errors
    ///
    /// [`ForeignBytes`] if one of them is not a row.
    fn merge(
        &self,
        kept: Option<&[u8]>,
        published: &ReplicatedRow,
    ) -> Result<Option<MergedRow>, ForeignBytes>;

    /// Applies rows of the store, in their order there. They are in force when this returns.
    ///
    /// # Errors
    ///
    /// If they could not be applied: this node then does not know the statuses of circuits.
    async fn apply(&self, rows: Vec<ReplicatedRow>) -> Result<(), StoreError>;

    /// Counts events of other nodes, the oldest first.
    fn apply_events(&self, events: &[EventBytes]);

    /// Compares with all circuits that have a row in the store. Other rows of this node are to be published.
    fn reconcile(&self, kept: &HashSet<CircuitBytes>);

    /// How long answer events count.
    fn event_lifetime(&self) -> Duration;
}

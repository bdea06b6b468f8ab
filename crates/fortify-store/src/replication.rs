//! What nodes tell each other of circuits, as a store sees it: bytes.
//!
//! A store of several nodes keeps one row for each circuit that is trusted, banned or was reset, and passes
//! on what each circuit did with challenges. It does not know what either means: whether a row takes the
//! place of another is settled by the [`ReplicationPeer`], in one place for every store.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use fortify_core::clock::Timestamp;

/// Bytes that name a circuit: tor instance, epoch, number.
pub const CIRCUIT_BYTES: usize = 10;

/// Bytes that say how a circuit stands.
pub const VALUE_BYTES: usize = 34;

/// Bytes of a deed.
pub const EVENT_BYTES: usize = 37;

/// A circuit.
pub type CircuitBytes = [u8; CIRCUIT_BYTES];

/// How a circuit stands.
pub type ValueBytes = [u8; VALUE_BYTES];

/// What a circuit did with a challenge, or that it is forgotten.
pub type EventBytes = [u8; EVENT_BYTES];

/// How one circuit stands. `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReplicatedRow {
    /// Which.
    pub circuit: CircuitBytes,
    /// How.
    pub value: ValueBytes,
}

impl fmt::Debug for ReplicatedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedRow(..)")
    }
}

/// What makes room first where there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionRank {
    /// First.
    Normal,
    /// Next.
    Trusted,
    /// Never.
    Banned,
}

/// What is to be kept of a circuit.
#[derive(Clone, Debug)]
pub struct MergedRow {
    /// The row.
    pub row: ReplicatedRow,
    /// What makes room.
    pub rank: EvictionRank,
    /// Until when it has to be kept.
    pub end: Timestamp,
}

/// What a node has to tell.
#[derive(Clone, Debug, Default)]
pub struct PublishBatch {
    /// How circuits stand.
    pub rows: Vec<ReplicatedRow>,
    /// What circuits did, the oldest first.
    pub events: Vec<EventBytes>,
}

/// Bytes that this program did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignBytes;

/// One node's standings and deeds, which a store shares with the other nodes.
///
/// A node never tells what it heard: what it has to tell is what was decided on it, and what it holds that
/// a store lost.
#[async_trait]
pub trait ReplicationPeer: Send + Sync + fmt::Debug {
    /// Ends when there is something to tell.
    async fn wait_for_pending(&self);

    /// What is to be told next, at most so many of each. [`Self::published`] must follow.
    fn take_batch(&self, most: usize) -> PublishBatch;

    /// What was taken is told, but for what is `left`: that is to be told later, unless there is something
    /// newer.
    fn confirm_published(&self, left: PublishBatch);

    /// What a circuit's row is to be after `published`, where `kept` is what the store keeps of it; `None` where
    /// that stays as it is.
    ///
    /// # Errors
    ///
    /// [`ForeignBytes`] where one of them is not a row.
    fn merge(
        &self,
        kept: Option<&[u8]>,
        published: &ReplicatedRow,
    ) -> Result<Option<MergedRow>, ForeignBytes>;

    /// Takes over what the store keeps, in the order in which it came to keep it. In force when this
    /// returns.
    ///
    /// # Errors
    ///
    /// When it is not taken over: this node does not know how circuits stand then.
    async fn apply(&self, rows: Vec<ReplicatedRow>) -> Result<(), StoreError>;

    /// Counts what circuits did on other nodes, the oldest first.
    fn apply_events(&self, events: &[EventBytes]);

    /// The store keeps these circuits' rows and no other: what this node has besides is to be told.
    fn reconcile(&self, kept: &HashSet<CircuitBytes>);

    /// How long deeds count.
    fn event_lifetime(&self) -> Duration;
}

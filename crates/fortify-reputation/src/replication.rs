//! Replication of circuit statuses and answers between the nodes of one site.
//!
//! Every local change is first written to this node's disk, then put into the `ReplicationQueue`, from which the
//! store takes it. The store keeps one row per circuit. One pure function, `merge`, combines it with a published row,
//! independent of the order of publication: a later change wins; trust, and a ban that ends sooner, yield to a ban
//! in force; an operator's decision yields to nothing and voids everything older. Received rows are put in force and
//! not published again.
//!
//! Rows are published and compared with the times of their decision. A node whose clock is set moves the rows it
//! has in force so that they end when they should ([`SteadyClock`](fortify_core::clock::SteadyClock)); that is not a
//! decision and is not published.
//!
//! Answers are not kept in rows: each node publishes events, and every node counts them itself.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::answer_history::{AnswerEvent, AnswerHistories};
use super::{CircuitStatus, Reputation, StatusReason, StatusRow};
use fortify_core::circuit::{TorBoot, TorCircuit};
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::pseudonym::CircuitTag;
use fortify_store::StoreError;
use fortify_store::record::Session;
use fortify_store::replication::{
    CircuitBytes, EventBytes, EvictionRank, ForeignBytes, MergedRow, PublishBatch, ReplicatedRow,
    ReplicationPeer, ValueBytes,
};

/// The most pending changes, 64 bytes each. Beyond that, everything in force is published instead.
const MAX_PENDING: usize = 65_536;

/// The most of those that stay pending then, because publishing everything in force would miss them. Half, so that
/// there is room for as many others before the next overflow.
const MAX_PENDING_HIDDEN: usize = MAX_PENDING / 2;

/// The most pending events, 37 bytes each; the oldest is evicted.
const MAX_PENDING_EVENTS: usize = 4096;

/// The smallest difference between the times of two changes.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// A node's random id as a sender of events, drawn at its start.
pub type NodeName = [u8; 8];

/// The merged status of one circuit across all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MergedStatus {
    row: StatusRow,
    /// The time of the last operator's decision on the circuit; anything older is void.
    operator_at: Timestamp,
    /// The latest end of this row and of those that it replaced; it is kept until then.
    end: Timestamp,
}

impl MergedStatus {
    /// The status for one decision.
    fn decided(row: StatusRow) -> Self {
        let word = if is_by_operator(&row) { row.since } else { Timestamp::from_millis(0) };
        Self { row, operator_at: word, end: row.until }
    }

    /// Whether publishing everything in force would miss it: an operator's decision, which counts even after its end,
    /// and a row that ends trust, which expires as it begins.
    fn is_hidden(&self) -> bool {
        let takes_back =
            self.row.status == CircuitStatus::Normal || self.row.until <= self.row.since;
        takes_back || Timestamp::from_millis(0) < self.operator_at
    }
}

/// Merges `outgoing` into `kept`; `None` if `kept` stays unchanged.
fn merge(kept: Option<MergedStatus>, outgoing: MergedStatus) -> Option<MergedStatus> {
    let Some(kept) = kept else { return Some(outgoing) };
    let word = kept.operator_at.max(outgoing.operator_at);
    let row = if supersedes(&outgoing.row, &kept.row, word) { outgoing.row } else { kept.row };
    let next = MergedStatus { row, operator_at: word, end: kept.end.max(outgoing.end) };
    (next != kept).then_some(next)
}

/// Whether `outgoing` replaces `kept`, if an operator's last decision was at `word`. The later row wins, unless it
/// yields; of two from the same millisecond, the stricter.
fn supersedes(outgoing: &StatusRow, kept: &StatusRow, word: Timestamp) -> bool {
    let is_over = |row: &StatusRow| row.since < word || row.since == word && !is_by_operator(row);
    match outgoing.since.cmp(&kept.since) {
        _ if is_over(outgoing) || is_over(kept) => !is_over(outgoing),
        Ordering::Less => yields(kept, outgoing),
        Ordering::Greater => !yields(outgoing, kept),
        Ordering::Equal => severity(outgoing) > severity(kept),
    }
}

/// Whether `later` leaves `earlier` in force, because that is a ban that ends later.
fn yields(later: &StatusRow, earlier: &StatusRow) -> bool {
    let in_force = earlier.status == CircuitStatus::Banned && later.since < earlier.until;
    let outlasts = later.status == CircuitStatus::Banned && earlier.until <= later.until;
    !is_by_operator(later) && in_force && !outlasts
}

/// Orders rows that were decided in the same millisecond.
fn severity(row: &StatusRow) -> (bool, u8, u64) {
    let until = row.until.as_millis();
    let longer_is_more = row.status == CircuitStatus::Banned;
    let end = if longer_is_more { until } else { u64::MAX - until };
    (is_by_operator(row), row.status as u8, end)
}

/// Whether a row is an operator's decision.
fn is_by_operator(row: &StatusRow) -> bool {
    row.reason == StatusReason::Operator
}

/// The effect of a received row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemoteEffect {
    /// It comes into force here.
    Counts,
    /// It says nothing new.
    Known,
    /// The local row has to be published again, because the store does not have it.
    Superseded,
}

/// The effect of `remote`, with the time of the last operator's decision, if `mine` is in force.
pub(super) fn compare_remote(
    mine: Option<&StatusRow>,
    remote: &RemoteRow,
    now: Timestamp,
) -> RemoteEffect {
    let RemoteRow { row, operator_at: word } = remote;
    match mine {
        None if now < row.until => RemoteEffect::Counts,
        None => RemoteEffect::Known,
        // A closed circuit needs no status.
        Some(mine) if mine == row || mine.reason == StatusReason::Closed => RemoteEffect::Known,
        Some(mine) if supersedes(mine, row, *word) => RemoteEffect::Superseded,
        Some(_) => RemoteEffect::Counts,
    }
}

/// A row that the store keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemoteRow {
    pub(super) row: StatusRow,
    operator_at: Timestamp,
}

/// Changes to be published. Always empty on a node without replication.
#[derive(Default)]
pub(super) struct ReplicationQueue {
    pending: Mutex<Pending>,
    changed: Notify,
}

#[derive(Default)]
struct Pending {
    /// Whether replication is enabled.
    enabled: bool,
    rows: BTreeMap<TorCircuit, MergedStatus>,
    /// Rows that are being published.
    in_flight: BTreeMap<TorCircuit, MergedStatus>,
    /// The progress of publishing everything in force.
    sweep: Option<TorCircuit>,
    events: VecDeque<EventBytes>,
}

impl Pending {
    /// Queues a row in place of the previous one of its circuit, and after earlier decisions by an operator.
    fn insert(&mut self, mut next: MergedStatus) {
        if let Some(before) = self.rows.get(&next.row.circuit) {
            if next.row.since <= before.operator_at && next.row != before.row {
                next = MergedStatus {
                    row: StatusRow { since: before.operator_at.after(TICK), ..next.row },
                    ..next
                };
                next.operator_at =
                    if is_by_operator(&next.row) { next.row.since } else { next.operator_at };
            }
            next.operator_at = next.operator_at.max(before.operator_at);
            next.end = next.end.max(before.end);
        }
        self.rows.insert(next.row.circuit, next);
    }

    /// The time of the last operator's decision on a circuit that is not published yet.
    fn operator_at(&self, circuit: TorCircuit) -> Timestamp {
        let outgoing = [&self.rows, &self.in_flight].map(|rows| rows.get(&circuit));
        outgoing
            .into_iter()
            .flatten()
            .map(|kept| kept.operator_at)
            .max()
            .unwrap_or(Timestamp::from_millis(0))
    }
}

impl ReplicationQueue {
    /// Queues all decisions from now on.
    fn open(&self) {
        self.pending().enabled = true;
    }

    /// Queues local decisions. Resets of closed circuits are not published, because they concern this node only.
    pub(super) fn put(&self, rows: impl IntoIterator<Item = StatusRow>) {
        let mut waiting = self.pending();
        if !waiting.enabled {
            return;
        }
        for row in rows.into_iter().filter(|row| row.reason != StatusReason::Closed) {
            waiting.insert(MergedStatus::decided(row));
        }
        if waiting.rows.len() > MAX_PENDING {
            waiting.rows.retain(|_, kept| kept.is_hidden());
            while waiting.rows.len() > MAX_PENDING_HIDDEN {
                waiting.rows.pop_last();
            }
            waiting.sweep = Some(TorCircuit::from_parts(0, 0, 0));
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Adds the time of an unpublished local operator's decision to a received row.
    pub(super) fn with_operator_time(&self, remote: RemoteRow) -> RemoteRow {
        RemoteRow {
            operator_at: remote.operator_at.max(self.pending().operator_at(remote.row.circuit)),
            ..remote
        }
    }

    fn push_event(&self, event: EventBytes) {
        let mut waiting = self.pending();
        if waiting.enabled {
            if waiting.events.len() == MAX_PENDING_EVENTS {
                waiting.events.pop_front();
            }
            waiting.events.push_back(event);
            drop(waiting);
            self.changed.notify_one();
        }
    }

    fn is_empty(&self) -> bool {
        let waiting = self.pending();
        waiting.rows.is_empty() && waiting.sweep.is_none() && waiting.events.is_empty()
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This node's side of the replication: what it publishes, and how it applies what it receives.
pub struct Replication {
    /// Weak, because dropping the reputation waits for its pending writes.
    reputation: Weak<Reputation>,
    queue: Arc<ReplicationQueue>,
    histories: Arc<AnswerHistories>,
    /// The clock for event times.
    clock: Arc<dyn Clock>,
    /// The current tor generation. Rows of others do not apply here, and `HAProxy`, which identifies circuits by
    /// number, would confuse them.
    boot: Box<dyn Fn() -> TorBoot + Send + Sync>,
    node: NodeName,
}

impl Replication {
    /// Creates the replication of these statuses and histories. Nothing is published before [`Self::enable`].
    #[must_use]
    pub fn new(
        reputation: &Arc<Reputation>,
        histories: Arc<AnswerHistories>,
        clock: Arc<dyn Clock>,
        boot: impl Fn() -> TorBoot + Send + Sync + 'static,
        node: NodeName,
    ) -> Self {
        let queue = reputation.shared.replication_queue.clone();
        let (reputation, boot) = (Arc::downgrade(reputation), Box::new(boot));
        Self { reputation, queue, histories, clock, boot, node }
    }

    /// Starts to publish all local decisions.
    pub fn enable(&self) {
        self.queue.open();
    }

    /// Records an answer here and on the other nodes, and returns whether the circuit's score requires a ban.
    pub fn record(&self, circuit: CircuitTag, event: AnswerEvent) -> bool {
        self.queue.push_event(encode_event(circuit, Some(event), self.clock.now(), self.node));
        self.histories.record(circuit, event)
    }

    /// Forgets a circuit's answers, here and on the other nodes, because its status was reset. The reset is consumed,
    /// so that no node repeats this.
    pub fn forgive(&self, circuit: TorCircuit, tag: CircuitTag) {
        self.histories.forget(tag);
        self.queue.push_event(encode_event(tag, None, self.clock.now(), self.node));
        if let Some(reputation) = self.reputation.upgrade() {
            let used = {
                let mut table = reputation.shared.table_mut();
                let now = reputation.clock.now();
                let reset =
                    table.row(circuit, now).filter(|row| row.status == CircuitStatus::Normal);
                let used = reset.map(|row| table.as_decided(StatusRow { until: now, ..*row }));
                table.consume_reset(circuit, now);
                used
            };
            self.queue.put(used);
        }
    }

    /// The number of changes not published yet; `None` without replication.
    #[must_use]
    pub fn pending(&self) -> Option<usize> {
        let (shares, rows, sweep) = {
            let waiting = self.queue.pending();
            (waiting.enabled, waiting.rows.len() + waiting.in_flight.len(), waiting.sweep)
        };
        let left = |from| self.reputation.upgrade().map_or(0, |all| all.shared.table().count(from));
        shares.then(|| rows + sweep.map_or(0, left))
    }
}

#[async_trait]
impl ReplicationPeer for Replication {
    async fn wait_for_pending(&self) {
        while self.queue.is_empty() {
            self.queue.changed.notified().await;
        }
    }

    fn take_batch(&self, most: usize) -> PublishBatch {
        let mut waiting = self.queue.pending();
        let mut rows = Vec::new();
        while rows.len() < most
            && let Some((_, row)) = waiting.rows.pop_first()
        {
            rows.push(row);
        }
        let sweep = waiting.sweep.filter(|_| rows.len() < most);
        if let (Some(from), Some(reputation)) = (sweep, self.reputation.upgrade()) {
            // This cannot deadlock: no holder of the table's lock waits for the queue's.
            let table = reputation.shared.table();
            let (swept, next) = table.in_force(from, most - rows.len(), reputation.clock.now());
            drop(table);
            let swept = swept.into_iter().filter(|row| row.reason != StatusReason::Closed);
            rows.extend(swept.map(MergedStatus::decided));
            waiting.sweep = next;
        }
        waiting.in_flight = rows.iter().map(|kept| (kept.row.circuit, *kept)).collect();
        let events = waiting.events.len().min(most);
        let events = waiting.events.drain(..events).collect();
        PublishBatch { rows: rows.iter().map(encode).collect(), events }
    }

    fn confirm_published(&self, left: PublishBatch) {
        let mut waiting = self.queue.pending();
        waiting.in_flight.clear();
        for row in left.rows.iter().filter_map(|row| read(row).ok()) {
            let newer = waiting.rows.remove(&row.row.circuit);
            waiting.insert(row);
            newer.into_iter().for_each(|newer| waiting.insert(newer));
        }
        for event in left.events.into_iter().rev() {
            if waiting.events.len() < MAX_PENDING_EVENTS {
                waiting.events.push_front(event);
            }
        }
    }

    fn merge(
        &self,
        kept: Option<&[u8]>,
        outgoing: &ReplicatedRow,
    ) -> Result<Option<MergedRow>, ForeignBytes> {
        let kept =
            kept.map(|value| value.try_into().map_err(|_length| ForeignBytes)).transpose()?;
        let kept = kept.map(|value| read(&ReplicatedRow { value, ..*outgoing })).transpose()?;
        let settled = merge(kept, read(outgoing)?);
        Ok(settled.map(|settled| MergedRow {
            row: encode(&settled),
            rank: match settled.row.status {
                CircuitStatus::Normal => EvictionRank::Normal,
                CircuitStatus::Trusted => EvictionRank::Trusted,
                CircuitStatus::Banned => EvictionRank::Banned,
            },
            end: settled.end,
        }))
    }

    async fn apply(&self, rows: Vec<ReplicatedRow>) -> Result<(), StoreError> {
        let foreign = |_foreign| {
            StoreError::Unavailable(
                "a replicated circuit status is not in the format of this version; another program, or a \
                 newer version of Fortify, uses the same storage.prefix"
                    .to_owned(),
            )
        };
        let rows: Result<Vec<_>, _> = rows.iter().map(read).collect();
        let boot = (self.boot)();
        let ours = |row: &StatusRow| row.circuit == row.circuit.during(boot);
        let rows = rows.map_err(foreign)?.into_iter().filter(|kept| ours(&kept.row));
        let rows: Vec<_> =
            rows.map(|kept| RemoteRow { row: kept.row, operator_at: kept.operator_at }).collect();
        let Some(reputation) = self.reputation.upgrade().filter(|_| !rows.is_empty()) else {
            return Ok(());
        };
        let remote = reputation.apply_remote(rows).await;
        remote.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    fn apply_events(&self, events: &[EventBytes]) {
        for bytes in events {
            let Some((tag, event, at, node)) = decode_event(bytes) else { continue };
            match event {
                _ if node == self.node => {}
                Some(event) => self.histories.apply_remote(tag, event, at),
                None => self.histories.forget(tag),
            }
        }
    }

    fn reconcile(&self, kept: &HashSet<CircuitBytes>) {
        let Some(reputation) = self.reputation.upgrade() else { return };
        let mut from = Some(TorCircuit::from_parts(0, 0, 0));
        while let Some(start) = from {
            let table = reputation.shared.table();
            let (rows, next) = table.in_force(start, 1000, reputation.clock.now());
            drop(table);
            let missing = rows.into_iter().filter(|row| !kept.contains(&name(row.circuit)));
            self.queue.put(missing);
            from = next;
        }
    }

    fn event_lifetime(&self) -> Duration {
        self.histories.retention()
    }
}

impl fmt::Debug for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replication").finish_non_exhaustive()
    }
}

/// The reasons by their numbers. One that another version added reads as [`StatusReason::Other`].
const REASONS: [StatusReason; 6] = [
    StatusReason::Other,
    StatusReason::Solved,
    StatusReason::Failures,
    StatusReason::Score,
    StatusReason::Operator,
    StatusReason::Closed,
];

fn name(circuit: TorCircuit) -> CircuitBytes {
    let mut bytes = [0; _];
    let parts = [
        &circuit.instance().to_be_bytes()[..],
        &circuit.generation().to_be_bytes(),
        &circuit.number().to_be_bytes(),
    ];
    for (byte, from) in bytes.iter_mut().zip(parts.concat()) {
        *byte = from;
    }
    bytes
}

fn encode(kept: &MergedStatus) -> ReplicatedRow {
    let reason = REASONS.iter().position(|reason| *reason == kept.row.reason).unwrap_or(0);
    let mut value: ValueBytes = [0; _];
    let times = [kept.row.since, kept.row.until, kept.operator_at, kept.end];
    let times = times.into_iter().flat_map(|time| time.as_millis().to_be_bytes());
    let head = [kept.row.status as u8, u8::try_from(reason).unwrap_or(0)];
    let session = kept.row.session.map_or([0; Session::BYTES], |session| session.encode());
    for (byte, from) in value.iter_mut().zip(head.into_iter().chain(times).chain(session)) {
        *byte = from;
    }
    ReplicatedRow { circuit: name(kept.row.circuit), value }
}

fn read(bytes: &ReplicatedRow) -> Result<MergedStatus, ForeignBytes> {
    let (instance, rest) = bytes.circuit.split_first_chunk().ok_or(ForeignBytes)?;
    let (generation, rest) = rest.split_first_chunk().ok_or(ForeignBytes)?;
    let (number, _) = rest.split_first_chunk().ok_or(ForeignBytes)?;
    let circuit = TorCircuit::from_parts(
        u16::from_be_bytes(*instance),
        u32::from_be_bytes(*generation),
        u32::from_be_bytes(*number),
    );
    let ([status, reason], mut rest) = bytes.value.split_first_chunk().ok_or(ForeignBytes)?;
    let mut time = || {
        let (time, after) = rest.split_first_chunk().ok_or(ForeignBytes)?;
        rest = after;
        Ok(Timestamp::from_millis(u64::from_be_bytes(*time)))
    };
    let (since, until, word, end) = (time()?, time()?, time()?, time()?);
    let session = Session::decode(rest);
    let status = CircuitStatus::ALL.get(usize::from(*status)).copied().ok_or(ForeignBytes)?;
    let reason = REASONS.get(usize::from(*reason)).copied().unwrap_or(StatusReason::Other);
    Ok(MergedStatus {
        row: StatusRow { session, ..StatusRow::new(circuit, status, since, until, reason) },
        operator_at: word,
        end,
    })
}

/// Encodes an event; `None` means that the circuit is forgotten.
fn encode_event(
    circuit: CircuitTag,
    event: Option<AnswerEvent>,
    at: Timestamp,
    node: NodeName,
) -> EventBytes {
    let (kind, took) = match event {
        None => (0, 0),
        Some(AnswerEvent::Solved(took)) => (1, u32::try_from(took.as_millis()).unwrap_or(u32::MAX)),
        Some(AnswerEvent::Failed) => (2, 0),
        Some(AnswerEvent::Bot) => (3, 0),
    };
    let mut bytes: EventBytes = [0; _];
    let all = circuit.to_bytes().into_iter().chain([kind]).chain(took.to_be_bytes());
    let all = all.chain(at.as_millis().to_be_bytes()).chain(node);
    for (byte, from) in bytes.iter_mut().zip(all) {
        *byte = from;
    }
    bytes
}

/// Decodes an event; `None` for one of another version.
fn decode_event(
    bytes: &EventBytes,
) -> Option<(CircuitTag, Option<AnswerEvent>, Timestamp, NodeName)> {
    let (tag, rest) = bytes.split_first_chunk()?;
    let ([kind], rest) = rest.split_first_chunk()?;
    let (took, rest) = rest.split_first_chunk()?;
    let (at, rest) = rest.split_first_chunk()?;
    let event = match kind {
        0 => None,
        1 => Some(AnswerEvent::Solved(Duration::from_millis(u32::from_be_bytes(*took).into()))),
        2 => Some(AnswerEvent::Failed),
        3 => Some(AnswerEvent::Bot),
        _ => return None,
    };
    let at = Timestamp::from_millis(u64::from_be_bytes(*at));
    Some((CircuitTag::from_bytes(*tag), event, at, rest.try_into().ok()?))
}

/// A row as it is published.
#[cfg(test)]
pub(super) fn encoded(row: StatusRow) -> ReplicatedRow {
    encode(&MergedStatus::decided(row))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn row(status: CircuitStatus, reason: StatusReason, since: u64, until: u64) -> StatusRow {
        let circuit = TorCircuit::from_parts(1, 2, 3);
        StatusRow::new(circuit, status, at(since), at(until), reason)
    }

    fn ban(since: u64, until: u64) -> StatusRow {
        row(CircuitStatus::Banned, StatusReason::Score, since, until)
    }

    fn trust(since: u64, until: u64) -> StatusRow {
        row(CircuitStatus::Trusted, StatusReason::Solved, since, until)
    }

    fn word(status: CircuitStatus, since: u64, until: u64) -> StatusRow {
        row(status, StatusReason::Operator, since, until)
    }

    /// The stored row after all of `outgoing`, in their order.
    fn outgoing(outgoing: &[StatusRow]) -> Option<MergedStatus> {
        let all = outgoing.iter().copied().map(MergedStatus::decided);
        all.fold(None, |kept, outgoing| merge(kept, outgoing).or(kept))
    }

    fn status_after(rows: &[StatusRow]) -> StatusRow {
        outgoing(rows).unwrap().row
    }

    #[test]
    fn the_rules_hold_in_whatever_order_nodes_tell() {
        let reset = word(CircuitStatus::Normal, 10, 100);
        for (wins, yields) in [
            (ban(5, 50), trust(7, 90)),
            (trust(51, 90), ban(5, 50)),
            (ban(8, 50), trust(7, 90)),
            (ban(5, 50), ban(7, 40)),
            (ban(7, 60), ban(5, 50)),
            (trust(7, 7), trust(5, 50)),
            (reset, ban(5, 50)),
            (ban(11, 50), reset),
            (trust(11, 50), reset),
            (word(CircuitStatus::Trusted, 6, 20), ban(5, 50)),
            (word(CircuitStatus::Banned, 5, 50), trust(7, 90)),
            // At the same instant.
            (ban(5, 50), trust(5, 90)),
            (reset, ban(10, 50)),
            (word(CircuitStatus::Normal, 10, 12), reset),
        ] {
            assert_eq!(status_after(&[wins, yields]), wins);
            assert_eq!(status_after(&[yields, wins]), wins);
        }
    }

    #[test]
    fn what_is_older_than_an_operators_word_never_counts_again() {
        let (reset, solved, late) =
            (word(CircuitStatus::Normal, 6, 9), trust(7, 100), ban(5, 1000));
        assert_eq!(status_after(&[reset, solved, late]), solved);
        // This holds even if the decision was not published before the row that followed it.
        let mut queue = Pending::default();
        [reset, solved].into_iter().for_each(|row| queue.insert(MergedStatus::decided(row)));
        let waits = queue.rows[&solved.circuit];
        assert_eq!(merge(Some(MergedStatus::decided(late)), waits).unwrap().row, solved);
        // And it is kept for as long as the row that it ended may arrive.
        let kept = outgoing(&[late, reset]).unwrap();
        assert_eq!((kept.row, kept.end), (reset, at(1000)));
    }

    #[test]
    fn a_row_that_was_heard_counts_unless_there_is_a_better_one() {
        let now = at(20);
        let remote = |mine: Option<StatusRow>, row, word| {
            compare_remote(mine.as_ref(), &RemoteRow { row, operator_at: at(word) }, now)
        };
        assert_eq!(remote(None, ban(5, 50), 0), RemoteEffect::Counts);
        assert_eq!(remote(None, ban(5, 20), 0), RemoteEffect::Known, "it is over");
        assert_eq!(remote(Some(ban(5, 50)), ban(5, 50), 0), RemoteEffect::Known);
        assert_eq!(remote(Some(ban(5, 50)), trust(7, 90), 0), RemoteEffect::Superseded);
        assert_eq!(remote(Some(ban(5, 50)), trust(7, 90), 6), RemoteEffect::Counts, "forgiven");
        assert_eq!(remote(Some(trust(5, 50)), trust(7, 7), 0), RemoteEffect::Counts, "who left");
        let closed = row(CircuitStatus::Normal, StatusReason::Closed, 6, 90);
        assert_eq!(remote(Some(closed), ban(5, 50), 0), RemoteEffect::Known, "it is no more");
    }

    #[test]
    fn bytes_that_nobody_wrote_are_told_from_rows_and_nothing_shows_a_circuit() {
        let mut bytes = encode(&MergedStatus::decided(ban(5, 50)));
        assert_eq!(format!("{bytes:?}"), "SharedRow(..)");
        bytes.value[0] = 3;
        assert_eq!(read(&bytes), Err(ForeignBytes));
        let mut event = encode_event(CircuitTag::from_bytes([1; 16]), None, at(5), [2; 8]);
        assert!(decode_event(&event).is_some());
        event[16] = 4;
        assert!(decode_event(&event).is_none());
    }

    #[test]
    fn what_is_in_force_does_not_tell_outlives_an_overflow() {
        let queue = ReplicationQueue::default();
        queue.open();
        let numbered = |number, row: StatusRow| StatusRow {
            circuit: TorCircuit::from_parts(1, 2, number),
            ..row
        };
        let most = MAX_PENDING as u32;
        let unseen = [
            numbered(most, trust(7, 7)),
            numbered(most + 1, word(CircuitStatus::Normal, 7, 100)),
            numbered(most + 2, word(CircuitStatus::Trusted, 7, 9)),
        ];
        // An operator's decision counts although another row followed it.
        let followed = numbered(most + 3, word(CircuitStatus::Normal, 5, 9));
        queue.put(unseen.into_iter().chain([followed, numbered(most + 3, trust(7, 90))]));
        queue.put((4..most).map(|number| numbered(number - 4, ban(5, 50))));
        assert_eq!(queue.pending().sweep, None);
        queue.put([numbered(most - 1, ban(5, 50))]);
        assert_eq!(queue.pending().sweep, Some(TorCircuit::from_parts(0, 0, 0)));
        let left: Vec<_> = queue.pending().rows.values().map(|kept| kept.row).collect();
        assert_eq!(left, [&unseen[..], &[numbered(most + 3, trust(7, 90))]].concat());
        assert_eq!(queue.pending().operator_at(followed.circuit), at(5));
        // But not without limit.
        queue.put((0..=most).map(|number| numbered(number, word(CircuitStatus::Normal, 8, 9))));
        assert_eq!(queue.pending().rows.len(), MAX_PENDING_HIDDEN);
    }

    fn any_row() -> impl Strategy<Value = StatusRow> {
        let status = prop::sample::select(&CircuitStatus::ALL[..]);
        let reason = prop::sample::select(
            &[StatusReason::Solved, StatusReason::Score, StatusReason::Operator][..],
        );
        (status, reason, 0_u64..40, 1_u64..60)
            .prop_map(|(status, reason, since, lasts)| row(status, reason, since, since + lasts))
    }

    /// One node of a simulated site, with a clock of its own.
    #[derive(Default)]
    struct Node {
        mine: Option<StatusRow>,
        queue: Pending,
        remote: usize,
    }

    impl Node {
        /// As the file and the table do.
        fn decide(&mut self, mut row: StatusRow) {
            if let Some(before) = self.mine.filter(|before| *before != row) {
                if yields(&row, &before) && !is_by_operator(&row) {
                    return;
                }
                row.since = row.since.max(at(before.since.as_millis() + 1));
            }
            self.mine = Some(row);
            self.queue.insert(MergedStatus::decided(row));
        }

        fn hear(&mut self, log: &[MergedStatus]) {
            log[self.remote..].iter().for_each(|kept| self.hear_one(kept));
            self.remote = log.len();
        }

        fn hear_one(&mut self, kept: &MergedStatus) {
            let word = kept.operator_at.max(self.queue.operator_at(kept.row.circuit));
            // Nothing expires in this simulation, so that all published rows can be compared.
            match compare_remote(
                self.mine.as_ref(),
                &RemoteRow { row: kept.row, operator_at: word },
                at(0),
            ) {
                RemoteEffect::Counts => self.mine = Some(kept.row),
                RemoteEffect::Superseded => {
                    let mine = self.mine.map(MergedStatus::decided);
                    mine.into_iter().for_each(|mine| self.queue.insert(mine));
                }
                RemoteEffect::Known => {}
            }
        }

        fn tell(&mut self, log: &mut Vec<MergedStatus>) {
            for (_, outgoing) in std::mem::take(&mut self.queue.rows) {
                let kept = log.last().copied();
                match merge(kept, outgoing) {
                    Some(next) => log.push(next),
                    None => kept.iter().for_each(|kept| self.hear_one(kept)),
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Decide(StatusRow),
        Hear,
        Tell,
    }

    proptest! {
        #[test]
        fn rows_and_answer_events_read_back(row in any_row(), word in 0_u64..99, took in any::<u32>()) {
            let kept = MergedStatus { row, operator_at: at(word), end: at(99) };
            prop_assert_eq!(read(&encode(&kept)), Ok(kept));
            let tag = CircuitTag::from_bytes([7; 16]);
            for event in [
                None, Some(AnswerEvent::Failed), Some(AnswerEvent::Bot),
                Some(AnswerEvent::Solved(Duration::from_millis(took.into()))),
            ] {
                let bytes = encode_event(tag, event, at(word), [9; 8]);
                prop_assert_eq!(decode_event(&bytes), Some((tag, event, at(word), [9; 8])));
            }
        }

        #[test]
        fn nothing_older_than_the_last_word_is_kept_and_telling_again_changes_nothing(
            rows in prop::collection::vec(any_row(), 1..12),
        ) {
            let kept = outgoing(&rows).unwrap();
            let spoken = rows.iter().filter(|row| is_by_operator(row)).map(|row| row.since).max();
            prop_assert!(spoken.is_none_or(|word| kept.row.since >= word));
            prop_assert!(rows.contains(&kept.row));
            prop_assert_eq!(merge(Some(kept), MergedStatus::decided(kept.row)), None);
        }

        #[test]
        fn all_nodes_end_up_with_what_is_kept(
            steps in prop::collection::vec((0_usize..3, prop_oneof![
                any_row().prop_map(Step::Decide), Just(Step::Hear), Just(Step::Tell),
            ]), 0..40),
        ) {
            let (mut nodes, mut log) = ([(); 3].map(|()| Node::default()), Vec::new());
            for (node, step) in steps {
                match step {
                    Step::Decide(row) => nodes[node].decide(row),
                    Step::Hear => nodes[node].hear(&log),
                    Step::Tell => nodes[node].tell(&mut log),
                }
            }
            let mut rounds = 0;
            while nodes.iter().any(|node| !node.queue.rows.is_empty() || node.remote < log.len()) {
                for node in &mut nodes {
                    node.tell(&mut log);
                    node.hear(&log);
                }
                rounds += 1;
                prop_assert!(rounds < 20, "they talk on and on");
            }
            for node in &nodes {
                prop_assert_eq!(node.mine, log.last().map(|kept| kept.row));
            }
        }
    }
}

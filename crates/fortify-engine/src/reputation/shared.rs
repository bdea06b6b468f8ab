//! What a gate tells the other gates of one site, and hears from them: how circuits stand, and what they
//! did with challenges.
//!
//! Every change that is decided here is on this node's disk first, and then in the `Outbox`, from which a
//! store takes it. What the store keeps of a circuit is one row, and what that and a told one come to is
//! settled by one pure function, `settle`, whatever the order in which nodes tell: a later change wins; a
//! favour, and a ban that ends sooner, yield to a ban in force; an operator's word yields to nothing, and
//! nothing that is older than it counts any more. What is heard is put in force and not told again.
//!
//! Rows are told and compared as they were decided. A node whose clock is set moves what it has in force, so
//! that it ends when it would have ([`SteadyClock`](fortify_core::clock::SteadyClock)); that decides nothing, and no
//! other node hears of it.
//!
//! Conduct is not kept in rows: each node tells deeds, and each counts them itself.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::conduct::{Conducts, Deed};
use super::{Reason, Reputation, Row, Standing};
use fortify_core::circuit::{TorBoot, TorCircuit};
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::pseudonym::CircuitTag;
use fortify_store::StoreError;
use fortify_store::standings::{
    CircuitBytes, DeedBytes, ForeignBytes, Outgoing, Peer, Rank, Settled, SharedRow, ValueBytes,
};

/// Changes that wait one by one, 64 bytes each. One more, and everything in force is told in their place.
const MAX_WAITING: usize = 65_536;

/// Of those, changes that wait on then because what is in force does not tell them: half, so that there is room
/// for as many others before it is looked again.
const MAX_WAITING_UNSEEN: usize = MAX_WAITING / 2;

/// Deeds that wait, 37 bytes each; the oldest makes room.
const MAX_WAITING_DEEDS: usize = 4096;

/// What makes one change later than another.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// A node's name among the senders of deeds, drawn at its start.
pub type NodeName = [u8; 8];

/// What is kept of one circuit for all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    row: Row,
    /// When an operator last had a word on the circuit: what is older does not count.
    word: Timestamp,
    /// Until when there may be rows that this one has to outlive.
    end: Timestamp,
}

impl Kept {
    /// A row as it was decided.
    fn decided(row: Row) -> Self {
        let word = if is_word(&row) { row.since } else { Timestamp::from_millis(0) };
        Self { row, word, end: row.until }
    }

    /// Whether telling what is in force says less: an operator's word, which counts after it is over too, and
    /// what took a favour back, which is over as it begins.
    fn is_unseen(&self) -> bool {
        let takes_back = self.row.standing == Standing::Reset || self.row.until <= self.row.since;
        takes_back || Timestamp::from_millis(0) < self.word
    }
}

/// What `told` and what is kept come to; `None` where what is kept stays.
fn settle(kept: Option<Kept>, told: Kept) -> Option<Kept> {
    let Some(kept) = kept else { return Some(told) };
    let word = kept.word.max(told.word);
    let row = if wins(&told.row, &kept.row, word) { told.row } else { kept.row };
    let next = Kept { row, word, end: kept.end.max(told.end) };
    (next != kept).then_some(next)
}

/// Whether `told` is in force rather than `kept`, where an operator's last word was at `word`. What was
/// decided later wins, unless it yields; where nobody knows which was later, the stricter.
fn wins(told: &Row, kept: &Row, word: Timestamp) -> bool {
    let is_over = |row: &Row| row.since < word || row.since == word && !is_word(row);
    match told.since.cmp(&kept.since) {
        _ if is_over(told) || is_over(kept) => !is_over(told),
        Ordering::Less => yields(kept, told),
        Ordering::Greater => !yields(told, kept),
        Ordering::Equal => severity(told) > severity(kept),
    }
}

/// Whether `later` leaves `earlier` in force: a ban that ends later.
fn yields(later: &Row, earlier: &Row) -> bool {
    let in_force = earlier.standing == Standing::Banned && later.since < earlier.until;
    let outlasts = later.standing == Standing::Banned && earlier.until <= later.until;
    !is_word(later) && in_force && !outlasts
}

/// Orders what was decided in the same millisecond.
fn severity(row: &Row) -> (bool, u8, u64) {
    let until = row.until.as_millis();
    let longer_is_more = row.standing == Standing::Banned;
    let end = if longer_is_more { until } else { u64::MAX - until };
    (is_word(row), row.standing as u8, end)
}

/// Whether a row is an operator's word.
fn is_word(row: &Row) -> bool {
    row.reason == Reason::Operator
}

/// What becomes of a row that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It comes into force here.
    Counts,
    /// It says nothing new.
    Known,
    /// What is in force here is to be told again: the store does not keep it.
    Outdone,
}

/// What becomes of `heard`, with its operator's last `word`, where `mine` is in force.
pub(super) fn hear(mine: Option<&Row>, heard: &HeardRow, now: Timestamp) -> Heard {
    let HeardRow { row, word } = heard;
    match mine {
        None if now < row.until => Heard::Counts,
        None => Heard::Known,
        // A circuit that is no more needs nothing.
        Some(mine) if mine == row || mine.reason == Reason::Closed => Heard::Known,
        Some(mine) if wins(mine, row, *word) => Heard::Outdone,
        Some(_) => Heard::Counts,
    }
}

/// A row that the store keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeardRow {
    pub(super) row: Row,
    word: Timestamp,
}

/// What waits to be told; empty on a node that has nobody to tell.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Whether there is anybody to tell.
    shares: bool,
    rows: BTreeMap<TorCircuit, Kept>,
    /// Rows that are being told.
    under_way: BTreeMap<TorCircuit, Kept>,
    /// Where telling everything in force has got to.
    sweep: Option<TorCircuit>,
    deeds: VecDeque<DeedBytes>,
}

impl Waiting {
    /// Has a row wait in place of its circuit's former one, and after what an operator said before it.
    fn insert(&mut self, mut next: Kept) {
        if let Some(before) = self.rows.get(&next.row.circuit) {
            if next.row.since <= before.word && next.row != before.row {
                next = Kept { row: Row { since: before.word.after(TICK), ..next.row }, ..next };
                next.word = if is_word(&next.row) { next.row.since } else { next.word };
            }
            next.word = next.word.max(before.word);
            next.end = next.end.max(before.end);
        }
        self.rows.insert(next.row.circuit, next);
    }

    /// When an operator last had a word on a circuit that is not told yet.
    fn word(&self, circuit: TorCircuit) -> Timestamp {
        let told = [&self.rows, &self.under_way].map(|rows| rows.get(&circuit));
        told.into_iter().flatten().map(|kept| kept.word).max().unwrap_or(Timestamp::from_millis(0))
    }
}

impl Outbox {
    /// Whatever is decided from now on waits to be told.
    fn open(&self) {
        self.waiting().shares = true;
    }

    /// These were decided here. That a circuit is no more is nobody's business but of those who saw it.
    pub(super) fn put(&self, rows: impl IntoIterator<Item = Row>) {
        let mut waiting = self.waiting();
        if !waiting.shares {
            return;
        }
        for row in rows.into_iter().filter(|row| row.reason != Reason::Closed) {
            waiting.insert(Kept::decided(row));
        }
        if waiting.rows.len() > MAX_WAITING {
            waiting.rows.retain(|_, kept| kept.is_unseen());
            while waiting.rows.len() > MAX_WAITING_UNSEEN {
                waiting.rows.pop_last();
            }
            waiting.sweep = Some(TorCircuit::from_parts(0, 0, 0));
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// A heard row with what an operator said here and is not told yet.
    pub(super) fn with_word(&self, heard: HeardRow) -> HeardRow {
        HeardRow { word: heard.word.max(self.waiting().word(heard.row.circuit)), ..heard }
    }

    fn put_deed(&self, deed: DeedBytes) {
        let mut waiting = self.waiting();
        if waiting.shares {
            if waiting.deeds.len() == MAX_WAITING_DEEDS {
                waiting.deeds.pop_front();
            }
            waiting.deeds.push_back(deed);
            drop(waiting);
            self.news.notify_one();
        }
    }

    fn is_empty(&self) -> bool {
        let waiting = self.waiting();
        waiting.rows.is_empty() && waiting.sweep.is_none() && waiting.deeds.is_empty()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This node among the others: what it tells, and what it makes of what it hears.
pub struct Sharing {
    /// Weak, because who ends the reputation waits for what it has to write.
    reputation: Weak<Reputation>,
    outbox: Arc<Outbox>,
    conducts: Arc<Conducts>,
    /// The time of deeds.
    clock: Arc<dyn Clock>,
    /// Which circuits are there now: rows of others say nothing here, and `HAProxy`, which knows numbers
    /// alone, would take them for this tor's.
    boot: Box<dyn Fn() -> TorBoot + Send + Sync>,
    node: NodeName,
}

impl Sharing {
    /// The node whose standings and conduct these are. Nothing is told before [`Self::begin`].
    #[must_use]
    pub fn new(
        reputation: &Arc<Reputation>,
        conducts: Arc<Conducts>,
        clock: Arc<dyn Clock>,
        boot: impl Fn() -> TorBoot + Send + Sync + 'static,
        node: NodeName,
    ) -> Self {
        let outbox = reputation.shared.outbox.clone();
        let (reputation, boot) = (Arc::downgrade(reputation), Box::new(boot));
        Self { reputation, outbox, conducts, clock, boot, node }
    }

    /// Whatever is decided here from now on is to be told.
    pub fn begin(&self) {
        self.outbox.open();
    }

    /// Remembers a deed, here and on the other nodes; whether the circuit is to be banned for all it did.
    pub fn remember(&self, circuit: CircuitTag, deed: Deed) -> bool {
        self.outbox.put_deed(encode_deed(circuit, Some(deed), self.clock.now(), self.node));
        self.conducts.remember(circuit, deed)
    }

    /// Forgets a circuit's conduct, here and on the other nodes, because a standing of `circuit` was taken
    /// back: none of them does it again.
    pub fn forgive(&self, circuit: TorCircuit, tag: CircuitTag) {
        self.conducts.forget(tag);
        self.outbox.put_deed(encode_deed(tag, None, self.clock.now(), self.node));
        if let Some(reputation) = self.reputation.upgrade() {
            let used = {
                let mut book = reputation.shared.book_mut();
                let now = reputation.clock.now();
                let reset = book.row(circuit, now).filter(|row| row.standing == Standing::Reset);
                let used = reset.map(|row| book.as_decided(Row { until: now, ..*row }));
                book.use_up_reset(circuit, now);
                used
            };
            self.outbox.put(used);
        }
    }

    /// How many changes wait to be told to the other nodes; `None` where there are none to tell.
    #[must_use]
    pub fn untold(&self) -> Option<usize> {
        let (shares, rows, sweep) = {
            let waiting = self.outbox.waiting();
            (waiting.shares, waiting.rows.len() + waiting.under_way.len(), waiting.sweep)
        };
        let left = |from| self.reputation.upgrade().map_or(0, |all| all.shared.book().count(from));
        shares.then(|| rows + sweep.map_or(0, left))
    }
}

#[async_trait]
impl Peer for Sharing {
    async fn waits(&self) {
        while self.outbox.is_empty() {
            self.outbox.news.notified().await;
        }
    }

    fn take(&self, most: usize) -> Outgoing {
        let mut waiting = self.outbox.waiting();
        let mut rows = Vec::new();
        while rows.len() < most
            && let Some((_, row)) = waiting.rows.pop_first()
        {
            rows.push(row);
        }
        let sweep = waiting.sweep.filter(|_| rows.len() < most);
        if let (Some(from), Some(reputation)) = (sweep, self.reputation.upgrade()) {
            // Nobody who holds the book waits for the outbox.
            let book = reputation.shared.book();
            let (swept, next) = book.in_force(from, most - rows.len(), reputation.clock.now());
            drop(book);
            let swept = swept.into_iter().filter(|row| row.reason != Reason::Closed);
            rows.extend(swept.map(Kept::decided));
            waiting.sweep = next;
        }
        waiting.under_way = rows.iter().map(|kept| (kept.row.circuit, *kept)).collect();
        let deeds = waiting.deeds.len().min(most);
        let deeds = waiting.deeds.drain(..deeds).collect();
        Outgoing { rows: rows.iter().map(encode).collect(), deeds }
    }

    fn told(&self, left: Outgoing) {
        let mut waiting = self.outbox.waiting();
        waiting.under_way.clear();
        for row in left.rows.iter().filter_map(|row| read(row).ok()) {
            let newer = waiting.rows.remove(&row.row.circuit);
            waiting.insert(row);
            newer.into_iter().for_each(|newer| waiting.insert(newer));
        }
        for deed in left.deeds.into_iter().rev() {
            if waiting.deeds.len() < MAX_WAITING_DEEDS {
                waiting.deeds.push_front(deed);
            }
        }
    }

    fn settle(
        &self,
        kept: Option<&[u8]>,
        told: &SharedRow,
    ) -> Result<Option<Settled>, ForeignBytes> {
        let kept =
            kept.map(|value| value.try_into().map_err(|_length| ForeignBytes)).transpose()?;
        let kept = kept.map(|value| read(&SharedRow { value, ..*told })).transpose()?;
        let settled = settle(kept, read(told)?);
        Ok(settled.map(|settled| Settled {
            row: encode(&settled),
            rank: match settled.row.standing {
                Standing::Reset => Rank::Reset,
                Standing::Vip => Rank::Favour,
                Standing::Banned => Rank::Ban,
            },
            end: settled.end,
        }))
    }

    async fn hear(&self, rows: Vec<SharedRow>) -> Result<(), StoreError> {
        let foreign = |_foreign| {
            StoreError::Unavailable(
                "how a circuit stands is not what Fortify writes; another program, or a newer \
                 version, uses the same storage.prefix"
                    .to_owned(),
            )
        };
        let rows: Result<Vec<_>, _> = rows.iter().map(read).collect();
        let boot = (self.boot)();
        let ours = |row: &Row| row.circuit == row.circuit.during(boot);
        let rows = rows.map_err(foreign)?.into_iter().filter(|kept| ours(&kept.row));
        let rows: Vec<_> = rows.map(|kept| HeardRow { row: kept.row, word: kept.word }).collect();
        let Some(reputation) = self.reputation.upgrade().filter(|_| !rows.is_empty()) else {
            return Ok(());
        };
        let heard = reputation.hear(rows).await;
        heard.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    fn hear_deeds(&self, deeds: &[DeedBytes]) {
        for bytes in deeds {
            let Some((tag, deed, at, node)) = decode_deed(bytes) else { continue };
            match deed {
                _ if node == self.node => {}
                Some(deed) => self.conducts.hear(tag, deed, at),
                None => self.conducts.forget(tag),
            }
        }
    }

    fn compare(&self, kept: &HashSet<CircuitBytes>) {
        let Some(reputation) = self.reputation.upgrade() else { return };
        let mut from = Some(TorCircuit::from_parts(0, 0, 0));
        while let Some(start) = from {
            let book = reputation.shared.book();
            let (rows, next) = book.in_force(start, 1000, reputation.clock.now());
            drop(book);
            let missing = rows.into_iter().filter(|row| !kept.contains(&name(row.circuit)));
            self.outbox.put(missing);
            from = next;
        }
    }

    fn deeds_last(&self) -> Duration {
        self.conducts.remembered_for()
    }
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").finish_non_exhaustive()
    }
}

/// The reasons by their numbers. One that another version added reads as [`Reason::Other`].
const REASONS: [Reason; 6] = [
    Reason::Other,
    Reason::Solved,
    Reason::Failures,
    Reason::Conduct,
    Reason::Operator,
    Reason::Closed,
];

fn name(circuit: TorCircuit) -> CircuitBytes {
    let mut bytes = [0; _];
    let parts = [
        &circuit.instance().to_be_bytes()[..],
        &circuit.epoch().to_be_bytes(),
        &circuit.number().to_be_bytes(),
    ];
    for (byte, from) in bytes.iter_mut().zip(parts.concat()) {
        *byte = from;
    }
    bytes
}

fn encode(kept: &Kept) -> SharedRow {
    let reason = REASONS.iter().position(|reason| *reason == kept.row.reason).unwrap_or(0);
    let mut value: ValueBytes = [0; _];
    let times = [kept.row.since, kept.row.until, kept.word, kept.end];
    let times = times.into_iter().flat_map(|time| time.as_millis().to_be_bytes());
    let head = [kept.row.standing as u8, u8::try_from(reason).unwrap_or(0)];
    for (byte, from) in value.iter_mut().zip(head.into_iter().chain(times)) {
        *byte = from;
    }
    SharedRow { circuit: name(kept.row.circuit), value }
}

fn read(bytes: &SharedRow) -> Result<Kept, ForeignBytes> {
    let (instance, rest) = bytes.circuit.split_first_chunk().ok_or(ForeignBytes)?;
    let (epoch, rest) = rest.split_first_chunk().ok_or(ForeignBytes)?;
    let (number, _) = rest.split_first_chunk().ok_or(ForeignBytes)?;
    let circuit = TorCircuit::from_parts(
        u16::from_be_bytes(*instance),
        u32::from_be_bytes(*epoch),
        u32::from_be_bytes(*number),
    );
    let ([standing, reason], mut rest) = bytes.value.split_first_chunk().ok_or(ForeignBytes)?;
    let mut time = || {
        let (time, after) = rest.split_first_chunk().ok_or(ForeignBytes)?;
        rest = after;
        Ok(Timestamp::from_millis(u64::from_be_bytes(*time)))
    };
    let (since, until, word, end) = (time()?, time()?, time()?, time()?);
    let standing = Standing::ALL.get(usize::from(*standing)).copied().ok_or(ForeignBytes)?;
    let reason = REASONS.get(usize::from(*reason)).copied().unwrap_or(Reason::Other);
    Ok(Kept { row: Row { circuit, standing, since, until, reason }, word, end })
}

/// `None` is that the circuit is forgotten.
fn encode_deed(
    circuit: CircuitTag,
    deed: Option<Deed>,
    at: Timestamp,
    node: NodeName,
) -> DeedBytes {
    let (kind, took) = match deed {
        None => (0, 0),
        Some(Deed::Solved(took)) => (1, u32::try_from(took.as_millis()).unwrap_or(u32::MAX)),
        Some(Deed::Failed) => (2, 0),
        Some(Deed::Bot) => (3, 0),
    };
    let mut bytes: DeedBytes = [0; _];
    let all = circuit.to_bytes().into_iter().chain([kind]).chain(took.to_be_bytes());
    let all = all.chain(at.as_millis().to_be_bytes()).chain(node);
    for (byte, from) in bytes.iter_mut().zip(all) {
        *byte = from;
    }
    bytes
}

/// `None` for what another version tells.
fn decode_deed(bytes: &DeedBytes) -> Option<(CircuitTag, Option<Deed>, Timestamp, NodeName)> {
    let (tag, rest) = bytes.split_first_chunk()?;
    let ([kind], rest) = rest.split_first_chunk()?;
    let (took, rest) = rest.split_first_chunk()?;
    let (at, rest) = rest.split_first_chunk()?;
    let deed = match kind {
        0 => None,
        1 => Some(Deed::Solved(Duration::from_millis(u32::from_be_bytes(*took).into()))),
        2 => Some(Deed::Failed),
        3 => Some(Deed::Bot),
        _ => return None,
    };
    let at = Timestamp::from_millis(u64::from_be_bytes(*at));
    Some((CircuitTag::from_bytes(*tag), deed, at, rest.try_into().ok()?))
}

/// A row as it is told.
#[cfg(test)]
pub(super) fn encoded(row: Row) -> SharedRow {
    encode(&Kept::decided(row))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn row(standing: Standing, reason: Reason, since: u64, until: u64) -> Row {
        let circuit = TorCircuit::from_parts(1, 2, 3);
        Row { circuit, standing, since: at(since), until: at(until), reason }
    }

    fn ban(since: u64, until: u64) -> Row {
        row(Standing::Banned, Reason::Conduct, since, until)
    }

    fn favour(since: u64, until: u64) -> Row {
        row(Standing::Vip, Reason::Solved, since, until)
    }

    fn word(standing: Standing, since: u64, until: u64) -> Row {
        row(standing, Reason::Operator, since, until)
    }

    /// What is kept after all of `told`, in their order.
    fn told(told: &[Row]) -> Option<Kept> {
        let all = told.iter().copied().map(Kept::decided);
        all.fold(None, |kept, told| settle(kept, told).or(kept))
    }

    fn standing_after(rows: &[Row]) -> Row {
        told(rows).unwrap().row
    }

    #[test]
    fn the_rules_hold_in_whatever_order_nodes_tell() {
        let reset = word(Standing::Reset, 10, 100);
        for (wins, yields) in [
            (ban(5, 50), favour(7, 90)),
            (favour(51, 90), ban(5, 50)),
            (ban(8, 50), favour(7, 90)),
            (ban(5, 50), ban(7, 40)),
            (ban(7, 60), ban(5, 50)),
            (favour(7, 7), favour(5, 50)),
            (reset, ban(5, 50)),
            (ban(11, 50), reset),
            (favour(11, 50), reset),
            (word(Standing::Vip, 6, 20), ban(5, 50)),
            (word(Standing::Banned, 5, 50), favour(7, 90)),
            // At the same instant.
            (ban(5, 50), favour(5, 90)),
            (reset, ban(10, 50)),
            (word(Standing::Reset, 10, 12), reset),
        ] {
            assert_eq!(standing_after(&[wins, yields]), wins);
            assert_eq!(standing_after(&[yields, wins]), wins);
        }
    }

    #[test]
    fn what_is_older_than_an_operators_word_never_counts_again() {
        let (reset, solved, late) = (word(Standing::Reset, 6, 9), favour(7, 100), ban(5, 1000));
        assert_eq!(standing_after(&[reset, solved, late]), solved);
        // Also where the word was not told before what followed it.
        let mut outbox = Waiting::default();
        [reset, solved].into_iter().for_each(|row| outbox.insert(Kept::decided(row)));
        let waits = outbox.rows[&solved.circuit];
        assert_eq!(settle(Some(Kept::decided(late)), waits).unwrap().row, solved);
        // And is remembered for as long as what it ended might come.
        let kept = told(&[late, reset]).unwrap();
        assert_eq!((kept.row, kept.end), (reset, at(1000)));
    }

    #[test]
    fn a_row_that_was_heard_counts_unless_there_is_a_better_one() {
        let now = at(20);
        let heard = |mine: Option<Row>, row, word| {
            hear(mine.as_ref(), &HeardRow { row, word: at(word) }, now)
        };
        assert_eq!(heard(None, ban(5, 50), 0), Heard::Counts);
        assert_eq!(heard(None, ban(5, 20), 0), Heard::Known, "it is over");
        assert_eq!(heard(Some(ban(5, 50)), ban(5, 50), 0), Heard::Known);
        assert_eq!(heard(Some(ban(5, 50)), favour(7, 90), 0), Heard::Outdone);
        assert_eq!(heard(Some(ban(5, 50)), favour(7, 90), 6), Heard::Counts, "forgiven");
        assert_eq!(heard(Some(favour(5, 50)), favour(7, 7), 0), Heard::Counts, "who left");
        let closed = row(Standing::Reset, Reason::Closed, 6, 90);
        assert_eq!(heard(Some(closed), ban(5, 50), 0), Heard::Known, "it is no more");
    }

    #[test]
    fn bytes_that_nobody_wrote_are_told_from_rows_and_nothing_shows_a_circuit() {
        let mut bytes = encode(&Kept::decided(ban(5, 50)));
        assert_eq!(format!("{bytes:?}"), "SharedRow(..)");
        bytes.value[0] = 3;
        assert_eq!(read(&bytes), Err(ForeignBytes));
        let mut deed = encode_deed(CircuitTag::from_bytes([1; 16]), None, at(5), [2; 8]);
        assert!(decode_deed(&deed).is_some());
        deed[16] = 4;
        assert!(decode_deed(&deed).is_none());
    }

    #[test]
    fn what_is_in_force_does_not_tell_outlives_an_overflow() {
        let outbox = Outbox::default();
        outbox.open();
        let numbered =
            |number, row: Row| Row { circuit: TorCircuit::from_parts(1, 2, number), ..row };
        let most = MAX_WAITING as u32;
        let unseen = [
            numbered(most, favour(7, 7)),
            numbered(most + 1, word(Standing::Reset, 7, 100)),
            numbered(most + 2, word(Standing::Vip, 7, 9)),
        ];
        // What an operator said counts though something followed it.
        let followed = numbered(most + 3, word(Standing::Reset, 5, 9));
        outbox.put(unseen.into_iter().chain([followed, numbered(most + 3, favour(7, 90))]));
        outbox.put((4..most).map(|number| numbered(number - 4, ban(5, 50))));
        assert_eq!(outbox.waiting().sweep, None);
        outbox.put([numbered(most - 1, ban(5, 50))]);
        assert_eq!(outbox.waiting().sweep, Some(TorCircuit::from_parts(0, 0, 0)));
        let left: Vec<_> = outbox.waiting().rows.values().map(|kept| kept.row).collect();
        assert_eq!(left, [&unseen[..], &[numbered(most + 3, favour(7, 90))]].concat());
        assert_eq!(outbox.waiting().word(followed.circuit), at(5));
        // And has a bound.
        outbox.put((0..=most).map(|number| numbered(number, word(Standing::Reset, 8, 9))));
        assert_eq!(outbox.waiting().rows.len(), MAX_WAITING_UNSEEN);
    }

    fn any_row() -> impl Strategy<Value = Row> {
        let standing = prop::sample::select(&Standing::ALL[..]);
        let reason = prop::sample::select(&[Reason::Solved, Reason::Conduct, Reason::Operator][..]);
        (standing, reason, 0_u64..40, 1_u64..60).prop_map(|(standing, reason, since, lasts)| {
            row(standing, reason, since, since + lasts)
        })
    }

    /// One node of a simulated site, with time as it is there.
    #[derive(Default)]
    struct Node {
        mine: Option<Row>,
        outbox: Waiting,
        heard: usize,
    }

    impl Node {
        /// As the ledger does and the book tells.
        fn decide(&mut self, mut row: Row) {
            if let Some(before) = self.mine.filter(|before| *before != row) {
                if yields(&row, &before) && !is_word(&row) {
                    return;
                }
                row.since = row.since.max(at(before.since.as_millis() + 1));
            }
            self.mine = Some(row);
            self.outbox.insert(Kept::decided(row));
        }

        fn hear(&mut self, log: &[Kept]) {
            log[self.heard..].iter().for_each(|kept| self.hear_one(kept));
            self.heard = log.len();
        }

        fn hear_one(&mut self, kept: &Kept) {
            let word = kept.word.max(self.outbox.word(kept.row.circuit));
            // Nothing ends in this world, so that all that is told can be compared.
            match hear(self.mine.as_ref(), &HeardRow { row: kept.row, word }, at(0)) {
                Heard::Counts => self.mine = Some(kept.row),
                Heard::Outdone => {
                    let mine = self.mine.map(Kept::decided);
                    mine.into_iter().for_each(|mine| self.outbox.insert(mine));
                }
                Heard::Known => {}
            }
        }

        fn tell(&mut self, log: &mut Vec<Kept>) {
            for (_, told) in std::mem::take(&mut self.outbox.rows) {
                let kept = log.last().copied();
                match settle(kept, told) {
                    Some(next) => log.push(next),
                    None => kept.iter().for_each(|kept| self.hear_one(kept)),
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Decide(Row),
        Hear,
        Tell,
    }

    proptest! {
        #[test]
        fn rows_and_deeds_read_back(row in any_row(), word in 0_u64..99, took in any::<u32>()) {
            let kept = Kept { row, word: at(word), end: at(99) };
            prop_assert_eq!(read(&encode(&kept)), Ok(kept));
            let tag = CircuitTag::from_bytes([7; 16]);
            for deed in [
                None, Some(Deed::Failed), Some(Deed::Bot),
                Some(Deed::Solved(Duration::from_millis(took.into()))),
            ] {
                let bytes = encode_deed(tag, deed, at(word), [9; 8]);
                prop_assert_eq!(decode_deed(&bytes), Some((tag, deed, at(word), [9; 8])));
            }
        }

        #[test]
        fn nothing_older_than_the_last_word_is_kept_and_telling_again_changes_nothing(
            rows in prop::collection::vec(any_row(), 1..12),
        ) {
            let kept = told(&rows).unwrap();
            let spoken = rows.iter().filter(|row| is_word(row)).map(|row| row.since).max();
            prop_assert!(spoken.is_none_or(|word| kept.row.since >= word));
            prop_assert!(rows.contains(&kept.row));
            prop_assert_eq!(settle(Some(kept), Kept::decided(kept.row)), None);
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
            while nodes.iter().any(|node| !node.outbox.rows.is_empty() || node.heard < log.len()) {
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

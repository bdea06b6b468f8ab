//! What a gate tells the other gates of one site, and hears from them: how circuits stand, and what they
//! did with challenges.
//!
//! Every change that is decided here is on this node's disk first, and then in the [`Outbox`], from which a
//! store takes it. What the store keeps of a circuit is one row, and what that and a told one come to is
//! settled by one pure function, [`settle`], whatever the order in which nodes tell: a later change wins; a
//! favour, and a ban that ends sooner, yield to a ban in force; an operator's word yields to nothing, and
//! nothing that is older than it counts any more. What is heard is put in force and not told again.
//!
//! Conduct is not kept in rows: each node tells deeds, and each counts them itself.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::conduct::{Conducts, Deed};
use super::{Reason, Reputation, Row, Standing};
use crate::circuit::{TorBoot, TorCircuit};
use crate::clock::{Clock, Timestamp};
use crate::pseudonym::CircuitTag;
use crate::store::StoreError;
use crate::store::standings::{
    CircuitBytes, DeedBytes, ForeignBytes, Outgoing, Peer, Rank, Settled, SharedRow, ValueBytes,
};

/// Changes that wait one by one, 64 bytes each. One more, and everything in force is told in their place.
const MAX_WAITING: usize = 65_536;

/// Deeds that wait, 37 bytes each; the oldest makes room.
const MAX_WAITING_DEEDS: usize = 4096;

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

/// What `told` and what is kept come to; `None` where what is kept stays.
fn settle(kept: Option<Kept>, told: Row) -> Option<Kept> {
    let speaks = if is_word(&told) { told.since } else { Timestamp::from_millis(0) };
    let Some(kept) = kept else {
        return Some(Kept { row: told, word: speaks, end: told.until });
    };
    let row = if wins(&told, &kept.row, kept.word) { told } else { kept.row };
    let next = Kept { row, word: kept.word.max(speaks), end: kept.end.max(told.until) };
    (next != kept).then_some(next)
}

/// Whether `told` is in force rather than `kept`, where an operator's last word was at `word`. What was
/// decided later wins, unless it yields; where nobody knows which was later, the stricter.
fn wins(told: &Row, kept: &Row, word: Timestamp) -> bool {
    if told.since < word || told.since == word && !is_word(told) {
        return false;
    }
    match told.since.cmp(&kept.since) {
        std::cmp::Ordering::Less => yields(kept, told),
        std::cmp::Ordering::Greater => !yields(told, kept),
        std::cmp::Ordering::Equal => severity(told) > severity(kept),
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
    rows: BTreeMap<TorCircuit, Row>,
    /// Rows that are being told.
    under_way: usize,
    /// Where telling everything in force has got to.
    sweep: Option<TorCircuit>,
    deeds: VecDeque<DeedBytes>,
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
            waiting.rows.insert(row.circuit, row);
        }
        if waiting.rows.len() > MAX_WAITING {
            waiting.rows.clear();
            waiting.sweep = Some(TorCircuit::from_parts(0, 0, 0));
        }
        drop(waiting);
        self.news.notify_one();
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
            let used = reputation.row(circuit).filter(|row| row.standing == Standing::Reset);
            reputation.use_up_reset(circuit);
            let now = self.clock.now();
            self.outbox.put(used.map(|row| Row { until: now.min(row.until), ..row }));
        }
    }

    /// How many changes wait to be told to the other nodes; `None` where there are none to tell.
    #[must_use]
    pub fn untold(&self) -> Option<usize> {
        let (shares, rows, sweep) = {
            let waiting = self.outbox.waiting();
            (waiting.shares, waiting.rows.len() + waiting.under_way, waiting.sweep)
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
            let now = self.clock.now();
            // Nobody who holds the book waits for the outbox.
            let (swept, next) = reputation.shared.book().in_force(from, most - rows.len(), now);
            rows.extend(swept.into_iter().filter(|row| row.reason != Reason::Closed));
            waiting.sweep = next;
        }
        waiting.under_way = rows.len();
        let deeds = waiting.deeds.len().min(most);
        let deeds = waiting.deeds.drain(..deeds).collect();
        Outgoing { rows: rows.iter().map(tell).collect(), deeds }
    }

    fn told(&self, left: Outgoing) {
        let mut waiting = self.outbox.waiting();
        waiting.under_way = 0;
        for row in left.rows.iter().filter_map(|row| read(row).ok()) {
            waiting.rows.entry(row.row.circuit).or_insert(row.row);
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
        let kept = kept.map(|value| value.try_into().map_err(|_length| ForeignBytes)).transpose()?;
        let kept = kept.map(|value| read(&SharedRow { value, ..*told })).transpose()?;
        let settled = settle(kept, read(told)?.row);
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
        let now = self.clock.now();
        let mut from = Some(TorCircuit::from_parts(0, 0, 0));
        while let Some(start) = from {
            let (rows, next) = reputation.shared.book().in_force(start, 1000, now);
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

/// A row as it is told: without what an operator said of the circuit before.
fn tell(row: &Row) -> SharedRow {
    encode(&Kept { row: *row, word: Timestamp::from_millis(0), end: row.until })
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

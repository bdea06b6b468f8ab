//! The circuits of one session, and the decision about a further move.
//!
//! Pure; used by the tables of both stores, and by the session's key in Redis. Two nodes may know different
//! moves of one session. They are merged as a set and ordered by time, so that both nodes end with the same
//! result in whatever order they learn of them.

use std::time::Duration;

use super::record::{MoveRequest, SessionId};
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::{CircuitTag, TAG_BYTES};

/// Moves of one session at most: 60 an hour (`session.max_moves`) for a day (`session.ttl_seconds`),
/// and some. No configuration reaches it; it bounds what one key, and one comparison, can cost.
const MAX_OF_ONE: usize = 1500;

/// One move of one session: an entry of the file, of the log, and of a session's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BindingChange {
    pub(super) session: SessionId,
    /// The circuit that it left.
    pub(super) from: CircuitTag,
    /// The circuit that it went to.
    pub(super) to: CircuitTag,
    /// When it moved.
    pub(super) at: Timestamp,
    /// When its token expires.
    pub(super) until: Timestamp,
}

/// The moves of one session.
#[derive(Clone, Default)]
pub(super) struct SessionBinding {
    /// By their time.
    moves: Vec<BindingChange>,
}

/// The decision about a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MoveDecision {
    /// The session moves: so.
    Proceed(BindingChange),
    AlreadyBound,
    Shared,
    Refused,
}

impl BindingChange {
    /// Bytes of an entry: the session's id, the circuits left and gone to, then when it moved and
    /// when its token expires, milliseconds, big-endian.
    pub(super) const BYTES: usize = SessionId::BYTES + 2 * TAG_BYTES + 2 * 8;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut entry = [0; Self::BYTES];
        let (ids, times) = entry.split_at_mut(SessionId::BYTES + 2 * TAG_BYTES);
        ids[..SessionId::BYTES].copy_from_slice(&self.session.to_bytes());
        ids[SessionId::BYTES..][..TAG_BYTES].copy_from_slice(&self.from.to_bytes());
        ids[SessionId::BYTES + TAG_BYTES..].copy_from_slice(&self.to.to_bytes());
        times[..8].copy_from_slice(&self.at.as_millis().to_be_bytes());
        times[8..].copy_from_slice(&self.until.as_millis().to_be_bytes());
        entry
    }

    pub(super) fn decode(entry: &[u8]) -> Option<Self> {
        let (session, rest) = entry.split_first_chunk()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (to, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let until = rest.try_into().ok()?;
        Some(Self {
            session: SessionId::from_bytes(*session),
            from: CircuitTag::from_bytes(*from),
            to: CircuitTag::from_bytes(*to),
            at: Timestamp::from_millis(u64::from_be_bytes(*at)),
            until: Timestamp::from_millis(u64::from_be_bytes(until)),
        })
    }

    /// What puts moves of one session in an order that every node finds. Within one history no two
    /// are of the same time; two nodes that decided without each other may be.
    fn order(&self) -> (Timestamp, [u8; TAG_BYTES], [u8; TAG_BYTES]) {
        (self.at, self.to.to_bytes(), self.from.to_bytes())
    }
}

impl SessionBinding {
    /// The circuit that the session is bound to, if it ever moved.
    pub(super) fn bound_to(&self) -> Option<CircuitTag> {
        self.moves.last().map(|last| last.to)
    }

    /// What `step` comes to, as [`super::StateStore::move_session`] promises.
    pub(super) fn decide_move(
        &self,
        session: SessionId,
        step: &MoveRequest,
        now: Timestamp,
    ) -> MoveDecision {
        let from = self.bound_to().unwrap_or(step.from);
        if from == step.to {
            return MoveDecision::AlreadyBound;
        }
        // A cookie that was written for this circuit was used here, so the session left it.
        if step.to == step.from || self.was_bound_to(step.to) {
            return MoveDecision::Shared;
        }
        let recent = self.moves.iter().filter(|one| now < one.at.after(step.window)).count();
        if recent >= step.most as usize || self.moves.len() >= MAX_OF_ONE {
            return MoveDecision::Refused;
        }
        // After the one before, also where another node's clock, or this one's past, is ahead.
        let next = |last: &BindingChange| last.at.after(Duration::from_millis(1));
        let at = self.moves.last().map_or(now, |last| now.max(next(last)));
        MoveDecision::Proceed(BindingChange { session, from, to: step.to, at, until: step.until })
    }

    fn was_bound_to(&self, circuit: CircuitTag) -> bool {
        self.moves.iter().any(|one| one.from == circuit || one.to == circuit)
    }

    pub(super) fn holds(&self, one: &BindingChange) -> bool {
        self.moves.binary_search_by_key(&one.order(), BindingChange::order).is_ok()
    }

    /// Takes a move in, wherever in time it belongs; says whether it is news.
    pub(super) fn add(&mut self, one: BindingChange) -> bool {
        match self.moves.binary_search_by_key(&one.order(), BindingChange::order) {
            Ok(_there) => false,
            Err(place) => {
                // Most sessions that move do so once.
                self.moves.reserve_exact(1);
                self.moves.insert(place, one);
                true
            }
        }
    }

    /// Its moves, in their order.
    pub(super) fn moves(&self) -> &[BindingChange] {
        &self.moves
    }

    /// When the session ends.
    pub(super) fn until(&self) -> Timestamp {
        self.moves.iter().map(|one| one.until).max().unwrap_or(Timestamp::from_millis(0))
    }

    /// Its moves as bytes, one entry after the other.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.moves.iter().flat_map(BindingChange::encode).collect()
    }

    /// Takes in what [`Self::encode`] wrote of `session`; `None` for anything else.
    pub(super) fn merge(&mut self, session: SessionId, bytes: &[u8]) -> Option<()> {
        let entries = bytes.chunks_exact(BindingChange::BYTES);
        if !entries.remainder().is_empty() {
            return None;
        }
        for entry in entries {
            let one = BindingChange::decode(entry).filter(|one| one.session == session)?;
            self.add(one);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const SESSION: SessionId = SessionId::from_bytes([9; SessionId::BYTES]);

    fn circuit(number: u8) -> CircuitTag {
        CircuitTag::from_bytes([number; TAG_BYTES])
    }

    fn step(from: u8, to: u8) -> MoveRequest {
        let until = NOW.after(HOUR);
        MoveRequest { from: circuit(from), to: circuit(to), until, most: 3, window: HOUR }
    }

    fn go(binding: &SessionBinding, from: u8, to: u8, now: Timestamp) -> BindingChange {
        match binding.decide_move(SESSION, &step(from, to), now) {
            MoveDecision::Proceed(one) => one,
            other => panic!("{other:?}"),
        }
    }

    fn of(moves: &[BindingChange]) -> SessionBinding {
        let mut binding = SessionBinding::default();
        for one in moves {
            assert!(binding.add(*one));
            assert!(!binding.add(*one), "twice");
        }
        binding
    }

    #[test]
    fn a_clock_that_goes_back_does_not_bring_a_left_circuit_back() {
        let first = go(&SessionBinding::default(), 1, 2, NOW);
        let second = go(&of(&[first]), 2, 3, Timestamp::from_millis(7));
        let both = of(&[second, first]);
        assert_eq!(both.bound_to(), Some(circuit(3)));
        assert_eq!(both.decide_move(SESSION, &step(3, 2), NOW), MoveDecision::Shared);
    }

    #[test]
    fn abuse_17_nodes_that_decided_without_each_other_agree_once_they_hear() {
        // A common past, then a different move at each of two nodes: at one time, or at two.
        let past = go(&SessionBinding::default(), 1, 2, NOW);
        for later in [NOW, NOW.after(HOUR / 2)] {
            let one = go(&of(&[past]), 2, 3, NOW);
            let other = go(&of(&[past]), 2, 4, later);
            let (here, there) = (of(&[past, one, other]), of(&[other, past, one]));
            assert_eq!(here.encode(), there.encode());
            let lives_on = here.bound_to().unwrap();
            for number in 1..=4 {
                // The one of the two that it does not live on is one that it left.
                let verdict = here.decide_move(SESSION, &step(1, number), later);
                let expected = if circuit(number) == lives_on {
                    MoveDecision::AlreadyBound
                } else {
                    MoveDecision::Shared
                };
                assert_eq!(verdict, expected, "circuit {number}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let first = go(&SessionBinding::default(), 1, 2, NOW);
        let second = go(&of(&[first]), 2, 3, NOW);
        let bytes = of(&[first, second]).encode();
        let mut read = SessionBinding::default();
        read.merge(SESSION, &bytes).unwrap();
        assert_eq!(read.moves(), [first, second]);
        let foreign = SessionId::from_bytes([8; SessionId::BYTES]);
        for (session, bytes) in [(SESSION, &bytes[1..]), (SESSION, &bytes[..63]), (foreign, &bytes)]
        {
            assert!(SessionBinding::default().merge(session, bytes).is_none());
        }
    }

    #[test]
    fn a_session_has_only_so_many_moves() {
        let mut binding = SessionBinding::default();
        for number in 0..MAX_OF_ONE as u64 {
            let [from, to] = [number, number + 1].map(|number| {
                let mut bytes = [0; TAG_BYTES];
                bytes[..8].copy_from_slice(&number.to_le_bytes());
                CircuitTag::from_bytes(bytes)
            });
            let (at, until) = (Timestamp::from_millis(number), NOW);
            binding.add(BindingChange { session: SESSION, from, to, at, until });
        }
        assert_eq!(binding.decide_move(SESSION, &step(254, 255), NOW), MoveDecision::Refused);
    }
}

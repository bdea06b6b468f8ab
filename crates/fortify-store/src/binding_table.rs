//! Sessions that are bound to another circuit than the one in their token, and their file.
//!
//! Only sessions that moved have an entry, until they expire. A move is flushed to disk before it is
//! acknowledged, so that a circuit that was left still counts as left after a restart. The embedded store decides
//! about moves here ([`BindingTable::apply_move`]); with Redis a node inserts moves that were decided there
//! ([`BindingTable::insert_all`]).

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::StoreError;
use super::binding::{BindingChange, MoveDecision, SessionBinding};
use super::loss::{LossReport, RECORD_LIFETIME, append, is_plausible_end, most_records, recover};
use super::record::{MoveOutcome, MoveRequest, SessionId};
use super::revocations::Revocations;
use fortify_core::clock::Timestamp;
use fortify_core::journal::Journal;
use fortify_core::pseudonym::CircuitTag;

/// Moves that are remembered at one time: about 200 bytes each, 50 MB. A session has
/// `session.max_moves` an hour, and costs a solved challenge.
pub(super) const MAX_MOVES: usize = 250_000;

/// The file's name in `storage.data_dir`.
const FILE_NAME: &str = "moves";

/// The file.
type Moves = Journal<{ BindingChange::BYTES }>;

/// The table of moves, and the journal behind it.
///
/// Two locks, as in `revocations`: readers never wait for the disk. A move holds the journal's lock from its
/// decision to its end, so that every decision sees the one before.
pub(super) struct BindingTable {
    table: RwLock<Table>,
    /// Moves, not sessions: one session may make many.
    capacity: usize,
    journal: Mutex<Option<Moves>>,
    loss: LossReport,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<SessionId, SessionBinding>,
    /// Moves of all sessions together.
    moves: usize,
    /// When the first of the sessions ends.
    soonest: Option<Timestamp>,
}

impl BindingTable {
    /// A table of at most `capacity` moves that is gone with the process.
    #[cfg(test)]
    pub(super) fn in_memory(capacity: usize) -> Self {
        Self {
            table: RwLock::default(),
            capacity,
            journal: Mutex::new(None),
            loss: LossReport::default(),
        }
    }

    /// The table that `data_dir` remembers. A file that is damaged or cannot be read keeps nothing down:
    /// [`Self::loss`] says what is missing.
    pub(super) fn open(data_dir: &Path, now: Timestamp) -> Self {
        let is_plausible = |entry: &[u8; BindingChange::BYTES]| {
            let change = BindingChange::decode(entry);
            change.is_some_and(|one| is_plausible_end(one.until, now) && one.at <= one.until)
        };
        let most = most_records(MAX_MOVES);
        let mut found =
            Journal::open(data_dir, FILE_NAME, now, RECORD_LIFETIME, most, is_plausible);
        let mut table = Table::default();
        let changes = found.entries.iter().filter_map(|entry| BindingChange::decode(entry));
        changes.filter(|one| now < one.until).for_each(|one| table.apply(one));
        let loss = recover(&mut found, &table.encode(), now);
        Self {
            table: RwLock::new(table),
            capacity: MAX_MOVES,
            journal: Mutex::new(Some(found.journal)),
            loss,
        }
    }

    /// What was lost of the file.
    pub(super) const fn loss(&self) -> &LossReport {
        &self.loss
    }

    /// Where `session` lives, if it ever moved.
    pub(super) fn bound_to(&self, session: &SessionId) -> Option<CircuitTag> {
        self.table().sessions.get(session).and_then(SessionBinding::bound_to)
    }

    /// The circuits that `session` left, and when it left each.
    pub(super) fn left_by(&self, session: &SessionId) -> Vec<(CircuitTag, Timestamp)> {
        let table = self.table();
        let moves = table.sessions.get(session).map_or(&[][..], SessionBinding::moves);
        moves.iter().map(|one| (one.from, one.at)).collect()
    }

    /// All that is known of where `session` lives and lived.
    pub(super) fn binding(&self, session: &SessionId) -> SessionBinding {
        self.table().sessions.get(session).cloned().unwrap_or_default()
    }

    /// The moves of sessions that have not ended at `now`.
    pub(super) fn in_force(&self, now: Timestamp) -> Vec<BindingChange> {
        let table = self.table();
        let all = table.sessions.values().flat_map(SessionBinding::moves);
        all.filter(|one| now < one.until).copied().collect()
    }

    /// What `step` comes to if that needs nothing written: so that requests which are refused, or
    /// late for a move that was made, cost no flush and wait for none.
    pub(super) fn decide_from_memory(
        &self,
        session: &SessionId,
        step: &MoveRequest,
        now: Timestamp,
    ) -> Option<MoveOutcome> {
        match self.table().decide_move(*session, step, now) {
            MoveDecision::AlreadyBound => Some(MoveOutcome::AlreadyBound),
            MoveDecision::Refused => Some(MoveOutcome::Refused),
            MoveDecision::Shared | MoveDecision::Proceed(_) => None,
        }
    }

    /// Makes `step`, or ends the session in `revocations` when it was used where it had left.
    ///
    /// # Errors
    ///
    /// When a file did not take it, or the session cannot be ended: everything is then as before.
    pub(super) fn apply_move(
        &self,
        session: SessionId,
        step: &MoveRequest,
        now: Timestamp,
        revocations: &Revocations,
    ) -> Result<MoveOutcome, StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if revocations.contains(&session) {
            return Ok(MoveOutcome::Revoked);
        }
        let verdict = self.table().decide_move(session, step, now);
        match verdict {
            MoveDecision::AlreadyBound => Ok(MoveOutcome::AlreadyBound),
            MoveDecision::Refused => Ok(MoveOutcome::Refused),
            MoveDecision::Shared => {
                revocations.insert(session, step.until, now)?;
                Ok(MoveOutcome::Shared)
            }
            MoveDecision::Proceed(_) if !self.has_room(1, now) => Ok(MoveOutcome::Refused),
            MoveDecision::Proceed(change) => {
                self.write(&mut journal, &[change], now)?;
                Ok(MoveOutcome::Moved)
            }
        }
    }

    /// Takes in moves that were decided elsewhere, those that are news, with one flush.
    ///
    /// # Errors
    ///
    /// When there is no room for them, or the file did not take them: none is then taken in.
    pub(super) fn insert_all(
        &self,
        moves: &[BindingChange],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let news: Vec<_> = {
            let table = self.table();
            let news = moves.iter().filter(|one| now < one.until && !table.holds(one));
            news.copied().collect()
        };
        if news.is_empty() {
            return Ok(());
        }
        if !self.has_room(news.len(), now) {
            return Err(StoreError::Full("moves of sessions"));
        }
        self.write(&mut journal, &news, now)
    }

    fn write(
        &self,
        journal: &mut Option<Moves>,
        moves: &[BindingChange],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some(journal) = journal.as_mut() {
            let entries: Vec<_> = moves.iter().map(BindingChange::encode).collect();
            append(journal, &entries, || self.table().encode(), now)?;
        }
        {
            let mut table = self.table_mut();
            moves.iter().for_each(|one| table.apply(*one));
        }
        self.compact(journal, now);
        Ok(())
    }

    /// Whether `more` moves can be remembered, once those of sessions that ended are forgotten.
    fn has_room(&self, more: usize, now: Timestamp) -> bool {
        {
            let table = self.table();
            // In a full table nobody is to wait for a search that finds nothing.
            let something_ended = table.soonest.is_some_and(|soonest| soonest <= now);
            if table.moves + more <= self.capacity || !something_ended {
                return table.moves + more <= self.capacity;
            }
        }
        let mut table = self.table_mut();
        table.sessions.retain(|_, binding| now < binding.until());
        table.moves = table.sessions.values().map(|binding| binding.moves().len()).sum();
        table.soonest = table.sessions.values().map(SessionBinding::until).min();
        table.moves + more <= self.capacity
    }

    /// Rewrites the file when it has grown to twice what the table can hold. A failure leaves
    /// the longer file, which says the same.
    fn compact(&self, journal: &mut Option<Moves>, now: Timestamp) {
        let limit = 2 * self.capacity as u64 * Moves::RECORD_BYTES;
        if let Some(long) = journal.as_mut().filter(|journal| journal.length() > limit) {
            let _still_long = long.rewrite(&self.table().encode(), now);
        }
    }

    /// The table is whole after any panic, and refusing to look would admit nobody.
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn decide_move(&self, session: SessionId, step: &MoveRequest, now: Timestamp) -> MoveDecision {
        match self.sessions.get(&session) {
            Some(binding) => binding.decide_move(session, step, now),
            None => SessionBinding::default().decide_move(session, step, now),
        }
    }

    fn holds(&self, one: &BindingChange) -> bool {
        self.sessions.get(&one.session).is_some_and(|binding| binding.holds(one))
    }

    fn apply(&mut self, one: BindingChange) {
        if self.sessions.entry(one.session).or_default().add(one) {
            self.moves += 1;
            self.soonest = Some(self.soonest.map_or(one.until, |soonest| soonest.min(one.until)));
        }
    }

    /// All moves, those of each session in their order.
    fn encode(&self) -> Vec<[u8; BindingChange::BYTES]> {
        let moves = self.sessions.values().flat_map(SessionBinding::moves);
        moves.map(BindingChange::encode).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use fortify_core::pseudonym::TAG_BYTES;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn session(number: u8) -> SessionId {
        SessionId::from_bytes([number; SessionId::BYTES])
    }

    fn circuit(number: u8) -> CircuitTag {
        CircuitTag::from_bytes([number; TAG_BYTES])
    }

    /// A step of a session that ends in an hour, at most three within an hour.
    fn to(from: u8, to: u8) -> MoveRequest {
        let until = NOW.after(HOUR);
        MoveRequest { from: circuit(from), to: circuit(to), until, most: 3, window: HOUR }
    }

    fn revocations() -> Revocations {
        Revocations::in_memory(10)
    }

    #[test]
    fn abuse_27_a_move_that_was_acknowledged_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (table, ended) = (BindingTable::open(dir.path(), NOW), revocations());
        let short = MoveRequest { until: NOW.after(HOUR / 2), ..to(1, 2) };
        assert_eq!(table.apply_move(session(1), &short, NOW, &ended).unwrap(), MoveOutcome::Moved);
        for (from, next) in [(1, 2), (2, 3)] {
            table.apply_move(session(2), &to(from, next), NOW, &ended).unwrap();
        }
        // Not dropped: a killed process closes nothing. Twice, because opening rewrites the file.
        let later = NOW.after(HOUR / 2);
        BindingTable::open(dir.path(), later);
        let again = BindingTable::open(dir.path(), later);
        assert_eq!(again.bound_to(&session(1)), None, "an expired entry came back");
        assert_eq!(again.bound_to(&session(2)), Some(circuit(3)));
        let length = fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert_eq!(length, 3 * Moves::RECORD_BYTES, "the head and two moves");
        assert_eq!(
            again.decide_from_memory(&session(2), &to(3, 3), later),
            Some(MoveOutcome::AlreadyBound)
        );
        let full = MoveRequest { most: 2, ..to(3, 4) };
        assert_eq!(
            again.apply_move(session(2), &full, later, &ended).unwrap(),
            MoveOutcome::Refused
        );
        assert_eq!(
            again.apply_move(session(2), &to(3, 1), later, &ended).unwrap(),
            MoveOutcome::Shared
        );
        assert!(ended.contains(&session(2)));
        drop(table);
    }

    #[test]
    fn half_an_entry_at_the_end_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let table = BindingTable::open(dir.path(), NOW);
        table.apply_move(session(1), &to(1, 2), NOW, &revocations()).unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_within(..40);
        fs::write(&path, bytes).unwrap();
        let again = BindingTable::open(dir.path(), NOW);
        again.apply_move(session(2), &to(1, 2), NOW, &revocations()).unwrap();
        let last = BindingTable::open(dir.path(), NOW);
        assert_eq!(last.bound_to(&session(1)), Some(circuit(2)));
        assert_eq!(last.bound_to(&session(2)), Some(circuit(2)));
        assert_eq!(last.table().moves, 2);
    }

    #[test]
    fn a_disk_that_takes_nothing_moves_no_session() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = BindingTable::open(dir.path(), NOW);
        table.journal.get_mut().unwrap().as_mut().unwrap().fail_writes().unwrap();
        let refused = table.apply_move(session(1), &to(1, 2), NOW, &revocations());
        assert!(matches!(refused, Err(StoreError::Unavailable(_))));
        assert_eq!(table.bound_to(&session(1)), None);
    }

    #[test]
    fn a_full_table_refuses_a_move_and_forgets_none() {
        let (table, ended) = (BindingTable::in_memory(2), revocations());
        assert_eq!(
            table.apply_move(session(1), &to(1, 2), NOW, &ended).unwrap(),
            MoveOutcome::Moved
        );
        assert_eq!(
            table.apply_move(session(1), &to(2, 3), NOW, &ended).unwrap(),
            MoveOutcome::Moved
        );
        assert_eq!(
            table.apply_move(session(2), &to(1, 2), NOW, &ended).unwrap(),
            MoveOutcome::Refused
        );
        assert_eq!(table.bound_to(&session(1)), Some(circuit(3)));
        let later = NOW.after(HOUR);
        let next = MoveRequest { until: later.after(HOUR), ..to(1, 2) };
        assert_eq!(table.apply_move(session(2), &next, later, &ended).unwrap(), MoveOutcome::Moved);
        assert_eq!(table.table().moves, 1, "what ended was not forgotten");
    }

    #[test]
    fn the_file_does_not_grow_past_twice_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = BindingTable::open(dir.path(), NOW);
        table.capacity = 4;
        let (ended, length) =
            (revocations(), || fs::metadata(dir.path().join(FILE_NAME)).unwrap().len());
        for round in 0..100_u8 {
            let now = NOW.after(HOUR * u32::from(round));
            let step = MoveRequest { until: now.after(HOUR), ..to(1, 2) };
            let moved = table.apply_move(session(round), &step, now, &ended).unwrap();
            assert_eq!(moved, MoveOutcome::Moved);
            assert!(length() <= 10 * Moves::RECORD_BYTES, "{} bytes", length());
        }
        let now = NOW.after(HOUR * 99);
        assert!(BindingTable::open(dir.path(), now).bound_to(&session(99)).is_some());
    }

    #[test]
    fn whoever_asks_or_is_refused_does_not_wait_for_the_disk() {
        let (table, ended) = (BindingTable::in_memory(2), revocations());
        table.apply_move(session(1), &to(1, 2), NOW, &ended).unwrap();
        // As while another move is being flushed.
        let _flushing = table.journal.lock().unwrap();
        assert_eq!(table.bound_to(&session(1)), Some(circuit(2)));
        assert_eq!(
            table.decide_from_memory(&session(1), &to(1, 2), NOW),
            Some(MoveOutcome::AlreadyBound)
        );
        let none = MoveRequest { most: 0, ..to(1, 2) };
        assert_eq!(table.decide_from_memory(&session(2), &none, NOW), Some(MoveOutcome::Refused));
        assert_eq!(table.decide_from_memory(&session(2), &to(1, 2), NOW), None);
    }

    #[test]
    fn abuse_17_of_moves_that_wait_for_the_disk_each_sees_the_one_before() {
        let (table, ended) = (BindingTable::in_memory(99), revocations());
        let flushing = table.journal.lock().unwrap();
        std::thread::scope(|scope| {
            let (here, there) = std::sync::mpsc::channel();
            let moves: Vec<_> = (2..10)
                .map(|number| {
                    let step = MoveRequest { most: 1, ..to(1, number) };
                    let (table, ended, here) = (&table, &ended, here.clone());
                    scope.spawn(move || {
                        here.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
                        table.apply_move(session(1), &step, NOW, ended).unwrap()
                    })
                })
                .collect();
            // Until all of them stand and wait: there is nothing but the journal to wait for.
            for thread in there.iter().take(moves.len()) {
                let stat = Path::new("/proc").join(thread).join("stat");
                let waits = || fs::read_to_string(&stat).unwrap().contains(") S ");
                fortify_testkit::wait::wait_for("a move waits for the journal", waits);
            }
            drop(flushing);
            let results = moves.into_iter().map(|one| one.join().unwrap());
            assert_eq!(results.filter(|result| *result == MoveOutcome::Moved).count(), 1);
        });
    }

    #[test]
    fn a_cookie_used_where_it_was_written_for_is_shared_also_when_the_way_there_was_forgotten() {
        // A store that came back empty knows of the later move alone.
        let (table, ended) = (BindingTable::in_memory(9), revocations());
        table.apply_move(session(1), &to(1, 3), NOW, &ended).unwrap();
        assert_eq!(
            table.apply_move(session(1), &to(2, 2), NOW, &ended).unwrap(),
            MoveOutcome::Shared
        );
    }
}

//! Circuit statuses in memory, and the changes that the reconciler has not seen.

use std::collections::{BTreeMap, BTreeSet};

use super::penalties::{Penalties, PenaltyUpdate};
use super::replication::TICK;
use super::status_db::{Write, WriteOutcome, outlasts};
use super::{CircuitStatus, StatusRow};
use fortify_core::circuit::{TorBoot, TorCircuit};
use fortify_core::clock::Timestamp;
use fortify_store::record::SessionId;

/// The most changes that are tracked individually, 16 bytes each. Beyond that, a full pass, which needs no list of
/// changes, replaces them.
pub(super) const MAX_CHANGES: usize = 65_536;

/// Changes that the table in `HAProxy` does not have yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// No changes.
    None,
    /// These circuits; their status is looked up when they are written.
    Some(Vec<TorCircuit>),
    /// Too many to list, or unknown: the whole table has to be compared.
    Everything,
}

/// The number of circuits with each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Trusted.
    pub trusted: usize,
    /// Banned.
    pub banned: usize,
}

/// All rows that were in force when they were added, by circuit and by when they end.
#[derive(Default)]
pub(super) struct StatusTable {
    rows: BTreeMap<TorCircuit, StatusRow>,
    ends: [BTreeSet<(Timestamp, TorCircuit)>; CircuitStatus::ALL.len()],
    /// The circuits that are trusted for a session, by its id.
    sessions: BTreeSet<(SessionId, TorCircuit)>,
    /// Circuits that were banned and not taken yet; at most [`MAX_CHANGES`].
    banned: BTreeSet<TorCircuit>,
    penalties: Penalties,
    changes: BTreeSet<TorCircuit>,
    /// Whether `changes` is incomplete.
    overflowed: bool,
    /// Rows that are not in the file, and whether they yield to a ban.
    unwritten: BTreeMap<TorCircuit, bool>,
    /// Those of `unwritten` that have ended, and are no longer in `ends`. The file may have another row of the circuit,
    /// which would be in force again.
    over: BTreeSet<TorCircuit>,
    /// By how many ms rows were shifted since they were decided, because the clock was set. Other nodes know them with
    /// their original times.
    shifted: BTreeMap<TorCircuit, i64>,
    /// When the oldest of `changes` was made.
    oldest: Option<Timestamp>,
    /// The same for changes that were taken but not confirmed yet.
    oldest_taken: Option<Timestamp>,
}

impl StatusTable {
    /// Adds a row that is in the file, replacing the circuit's previous one.
    pub(super) fn put(&mut self, row: StatusRow, now: Timestamp) {
        self.unwritten.remove(&row.circuit);
        self.insert(row, now);
    }

    /// As [`Self::put`], for a row that was shifted by `shifted` ms since it was decided.
    pub(super) fn load(&mut self, row: StatusRow, shifted: i64, now: Timestamp) {
        self.put(row, now);
        if shifted != 0 {
            self.shifted.insert(row.circuit, shifted);
        }
    }

    /// As [`Self::load`], for a row with different times in the file. The file has to be updated; otherwise later
    /// decisions would yield to a ban that has ended.
    pub(super) fn load_moved(&mut self, row: StatusRow, shifted: i64, now: Timestamp) {
        self.load(row, shifted, now);
        self.unwritten.insert(row.circuit, false);
    }

    /// Puts in force the ban in the file to which `row` yielded, whether or not it was known here. Later decisions that
    /// are not written yet stay.
    pub(super) fn keep_ban(
        &mut self,
        row: &StatusRow,
        ban: StatusRow,
        shifted: i64,
        now: Timestamp,
    ) {
        let mine = self.rows.get(&row.circuit);
        let is_later = mine != Some(row) && self.unwritten.contains_key(&row.circuit);
        if mine == Some(&ban) {
            self.unwritten.remove(&row.circuit);
        } else if !is_later {
            self.load(ban, shifted, now);
        }
    }

    /// Applies a failed write in memory by the file's rules, for at most `max_rows` rows. Returns the row to publish to
    /// other nodes, if it is in force now.
    pub(super) fn put_unwritten(
        &mut self,
        write: Write,
        max_rows: usize,
        now: Timestamp,
    ) -> (WriteOutcome, Option<StatusRow>) {
        let Write { row, yields, .. } = write;
        let before = self.row(row.circuit, now);
        let ban = before.filter(|before| before.status == CircuitStatus::Banned);
        if ban.is_some_and(|ban| yields && !outlasts(&row, ban)) {
            return (WriteOutcome::Yielded, None);
        }
        if !self.rows.contains_key(&row.circuit) && self.rows.len() >= max_rows {
            let first = |status: CircuitStatus| {
                self.ends[status as usize].first().map(|(_, victim)| *victim)
            };
            let victim = self.over.first().copied().or_else(|| first(CircuitStatus::Normal));
            let victim = victim.or_else(|| first(CircuitStatus::Trusted));
            let Some(victim) = victim else { return (WriteOutcome::Full, None) };
            self.remove(victim, now);
        }
        let outgoing = self.after_previous(row);
        // A row that yields to nothing may have to replace a ban in the file, and so may the row that follows it.
        let yields = yields && self.unwritten.get(&row.circuit).copied().unwrap_or(true);
        self.insert(row, now);
        self.unwritten.insert(row.circuit, yields);
        (WriteOutcome::Done, Some(outgoing))
    }

    /// Shifts all times by as much as the clock was set.
    pub(super) fn shift(&mut self, millis: i64) {
        for ends in &mut self.ends {
            ends.clear();
        }
        for row in self.rows.values_mut() {
            *row = row.shifted(millis);
            if !self.over.contains(&row.circuit) {
                self.ends[row.status as usize].insert((row.until, row.circuit));
            }
        }
        for circuit in self.rows.keys() {
            *self.shifted.entry(*circuit).or_default() += millis;
        }
        self.shifted.retain(|_, shifted| *shifted != 0);
        self.penalties.shift(millis);
        self.oldest = self.oldest.map(|time| time.shifted(millis));
        self.oldest_taken = self.oldest_taken.map(|time| time.shifted(millis));
    }

    /// Marks all rows as missing from the file.
    pub(super) fn mark_all_unwritten(&mut self) {
        self.unwritten = self.rows.keys().map(|circuit| (*circuit, false)).collect();
    }

    /// At most `most` of the rows that are not in the file.
    pub(super) fn some_unwritten(&self, most: usize) -> Vec<Write> {
        let some = self.unwritten.keys().filter_map(|circuit| self.as_write(*circuit));
        some.take(most).collect()
    }

    /// Marks `row` as written, or as not to be written.
    pub(super) fn mark_written(&mut self, row: &StatusRow) {
        if self.rows.get(&row.circuit) == Some(row) {
            self.unwritten.remove(&row.circuit);
            if self.over.contains(&row.circuit) {
                self.remove_row(row.circuit);
            }
        }
    }

    /// The number of rows that are not in the file.
    pub(super) fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    fn insert(&mut self, row: StatusRow, now: Timestamp) {
        if let Some(before) = self.rows.insert(row.circuit, row) {
            self.ends[before.status as usize].remove(&(before.until, before.circuit));
            self.unlist(&before);
        }
        self.sessions.extend(row.session.map(|session| (session.id, row.circuit)));
        if row.status == CircuitStatus::Banned {
            self.note_banned(row.circuit);
        }
        self.shifted.remove(&row.circuit);
        self.over.remove(&row.circuit);
        self.ends[row.status as usize].insert((row.until, row.circuit));
        if row.status == CircuitStatus::Normal {
            self.penalties.remove(row.circuit);
            self.penalties.clear(row.circuit);
        }
        self.note(row.circuit, now);
    }

    /// Penalises a circuit until `until`, and returns whether the table has to be updated.
    pub(super) fn penalise(
        &mut self,
        circuit: TorCircuit,
        until: Timestamp,
        now: Timestamp,
    ) -> bool {
        let changed = self.penalties.set(circuit, until);
        changed.iter().for_each(|circuit| self.note(*circuit, now));
        !changed.is_empty()
    }

    /// Lifts the penalty of a circuit, and returns whether the table has to be updated.
    pub(super) fn lift_penalty(&mut self, circuit: TorCircuit, now: Timestamp) -> bool {
        let had = self.penalties.remove(circuit);
        if had {
            self.note(circuit, now);
        }
        had
    }

    /// As [`Self::put`], for a local decision. Returns the row to publish, which is later than the one it replaces even
    /// if that was decided by a node whose clock is ahead.
    pub(super) fn replace(&mut self, row: StatusRow, now: Timestamp) -> StatusRow {
        let outgoing = self.after_previous(row);
        self.put(row, now);
        outgoing
    }

    fn after_previous(&self, row: StatusRow) -> StatusRow {
        let before = self.rows.get(&row.circuit).filter(|before| **before != row);
        let after = before.map(|before| self.as_decided(*before).since.after(TICK));
        StatusRow { since: after.map_or(row.since, |after| after.max(row.since)), ..row }
    }

    /// The row in force of a circuit, with the times of its decision, even if the clock was set since.
    pub(super) fn decided(&self, circuit: TorCircuit, now: Timestamp) -> Option<StatusRow> {
        self.row(circuit, now).map(|row| self.as_decided(*row))
    }

    /// `row` with its times shifted back to the clock by which its circuit's row was decided.
    pub(super) fn as_decided(&self, row: StatusRow) -> StatusRow {
        row.shifted(self.shift_of(row.circuit).saturating_neg())
    }

    fn shift_of(&self, circuit: TorCircuit) -> i64 {
        self.shifted.get(&circuit).copied().unwrap_or(0)
    }

    /// Forgets a circuit's row.
    pub(super) fn remove(&mut self, circuit: TorCircuit, now: Timestamp) {
        if self.remove_row(circuit).is_some() {
            self.note(circuit, now);
        }
    }

    fn remove_row(&mut self, circuit: TorCircuit) -> Option<StatusRow> {
        let row = self.rows.remove(&circuit)?;
        self.unwritten.remove(&circuit);
        self.over.remove(&circuit);
        self.shifted.remove(&circuit);
        self.ends[row.status as usize].remove(&(row.until, circuit));
        self.unlist(&row);
        Some(row)
    }

    fn unlist(&mut self, row: &StatusRow) {
        if let Some(session) = row.session {
            self.sessions.remove(&(session.id, row.circuit));
        }
    }

    pub(super) fn note_banned(&mut self, circuit: TorCircuit) {
        if self.banned.len() < MAX_CHANGES {
            self.banned.insert(circuit);
        }
    }

    /// Takes the bans in force that came since the last call.
    pub(super) fn take_banned(&mut self, now: Timestamp) -> Vec<StatusRow> {
        let banned = std::mem::take(&mut self.banned).into_iter();
        let rows = banned.filter_map(|circuit| self.decided(circuit, now));
        rows.filter(|row| row.status == CircuitStatus::Banned).collect()
    }

    /// The circuits that are trusted for the session `id`.
    pub(super) fn trusted_for(&self, id: SessionId, now: Timestamp) -> Vec<TorCircuit> {
        let first = (id, TorCircuit::from_parts(0, 0, 0));
        let of_it = self.sessions.range(first..).take_while(|(session, _)| *session == id);
        let in_force = of_it.filter(|(_, circuit)| self.row(*circuit, now).is_some());
        in_force.map(|(_, circuit)| *circuit).collect()
    }

    /// Removes expired rows, and returns whether the table has to be updated.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        for status in CircuitStatus::ALL {
            while let Some(&(until, circuit)) = self.ends[status as usize].first() {
                if now < until {
                    break;
                }
                self.ends[status as usize].pop_first();
                if self.outlives_its_end(circuit) {
                    self.over.insert(circuit);
                } else {
                    self.remove_row(circuit);
                }
                // The table was updated when a reset came into force.
                if status != CircuitStatus::Normal {
                    self.note(circuit, now);
                    any = true;
                }
            }
        }
        while let Some(circuit) = self.penalties.pop_ended(now) {
            self.note(circuit, now);
            any = true;
        }
        any
    }

    /// Whether a circuit's row has to be written although it has ended, because the file may have another one that has
    /// not. This applies to a row that yields to nothing, which may replace any other, and to one that ends trust,
    /// which expires as it begins.
    fn outlives_its_end(&self, circuit: TorCircuit) -> bool {
        let ends_at_once = self.rows.get(&circuit).is_some_and(|row| row.until <= row.since);
        self.unwritten.get(&circuit).is_some_and(|yields| !yields || ends_at_once)
    }

    pub(super) fn row(&self, circuit: TorCircuit, now: Timestamp) -> Option<&StatusRow> {
        self.rows.get(&circuit).filter(|row| now < row.until)
    }

    pub(super) fn rows(&self, now: Timestamp) -> Vec<StatusRow> {
        let rows = self.rows.values().copied();
        rows.filter(|row| row.status != CircuitStatus::Normal && now < row.until).collect()
    }

    /// The status of `number` in a table that identifies circuits by number: the latest trust or ban in force. A reset
    /// of a circuit from an earlier tor generation does not affect its successor.
    pub(super) fn of_number(&self, number: u32, now: Timestamp) -> Option<CircuitStatus> {
        let rows = self.rows.range(TorCircuit::all_of(number)).map(|(_, row)| row);
        let rows = rows.filter(|row| row.status != CircuitStatus::Normal && now < row.until);
        rows.max_by_key(|row| row.since).map(|row| row.status)
    }

    /// The update of the penalty counter of `number`.
    pub(super) fn penalty_update(&self, number: u32, now: Timestamp) -> PenaltyUpdate {
        self.penalties.update_for(number, now)
    }

    /// Confirms that the table has cleared these penalty counters.
    pub(super) fn penalties_cleared(&mut self, numbers: &[u32]) {
        self.penalties.mark_cleared(numbers);
    }

    /// The penalised circuits.
    pub(super) fn penalised(&self) -> Vec<TorCircuit> {
        self.penalties.circuits().collect()
    }

    /// At most `most` rows in force from `start` on, with the times of their decisions, and the circuit at which to
    /// continue.
    pub(super) fn in_force(
        &self,
        start: TorCircuit,
        most: usize,
        now: Timestamp,
    ) -> (Vec<StatusRow>, Option<TorCircuit>) {
        let mut rows = self.rows.range(start..).map(|(_, row)| *row).filter(|row| now < row.until);
        let some = rows.by_ref().take(most).map(|row| self.as_decided(row)).collect();
        (some, rows.next().map(|row| row.circuit))
    }

    /// The number of rows from `start` on.
    pub(super) fn count(&self, start: TorCircuit) -> usize {
        self.rows.range(start..).count()
    }

    /// Removes a circuit's row if it is a reset. The change was noted when the reset was added. One that is not in the
    /// file yet is only ended, and removed once it is written, because the file still has the row that it replaced.
    pub(super) fn consume_reset(&mut self, circuit: TorCircuit, now: Timestamp) {
        let Some(row) =
            self.rows.get_mut(&circuit).filter(|row| row.status == CircuitStatus::Normal)
        else {
            return;
        };
        if self.unwritten.contains_key(&circuit) {
            self.ends[CircuitStatus::Normal as usize].remove(&(row.until, circuit));
            row.until = row.until.min(now);
            self.over.insert(circuit);
        } else {
            self.remove_row(circuit);
        }
    }

    /// The rows of these circuits that are not in the file.
    pub(super) fn unwritten_of(&self, circuits: impl Iterator<Item = TorCircuit>) -> Vec<Write> {
        if self.unwritten.is_empty() {
            return Vec::new();
        }
        circuits.collect::<BTreeSet<_>>().into_iter().filter_map(|c| self.as_write(c)).collect()
    }

    fn as_write(&self, circuit: TorCircuit) -> Option<Write> {
        let yields = *self.unwritten.get(&circuit)?;
        Some(Write { row: *self.rows.get(&circuit)?, yields, shifted: self.shift_of(circuit) })
    }

    /// The trusted, banned or penalised circuits from other generations of the tor instance in `boot`.
    pub(super) fn stale_at(&self, boot: TorBoot) -> Vec<TorCircuit> {
        let all = self.ends[CircuitStatus::Banned as usize].iter();
        let all =
            all.chain(&self.ends[CircuitStatus::Trusted as usize]).map(|(_, circuit)| *circuit);
        let others =
            |c: &TorCircuit| c.instance() == boot.instance && c.generation() != boot.generation;
        let all: BTreeSet<_> = all.chain(self.penalties.circuits()).filter(others).collect();
        all.into_iter().collect()
    }

    pub(super) fn begin_pass(&mut self, now: Timestamp) -> Vec<(TorCircuit, CircuitStatus)> {
        // Bans first, because they matter most.
        let mut wanted = Vec::with_capacity(self.rows.len());
        for status in [CircuitStatus::Banned, CircuitStatus::Trusted] {
            let ends = self.ends[status as usize].iter();
            wanted.extend(
                ends.filter(|(until, _)| now < *until).map(|(_, circuit)| (*circuit, status)),
            );
        }
        self.changes.clear();
        self.take();
        wanted
    }

    pub(super) fn take_changes(&mut self) -> Changes {
        if self.overflowed {
            return Changes::Everything;
        }
        if self.changes.is_empty() {
            return Changes::None;
        }
        let taken = std::mem::take(&mut self.changes);
        self.take();
        Changes::Some(taken.into_iter().collect())
    }

    pub(super) fn confirm(&mut self) {
        self.oldest_taken = None;
    }

    pub(super) fn fail(&mut self) {
        self.changes.clear();
        self.overflowed = true;
        self.oldest = self.oldest_change();
        self.oldest_taken = None;
    }

    pub(super) fn oldest_change(&self) -> Option<Timestamp> {
        self.oldest_taken.or(self.oldest)
    }

    pub(super) fn counts(&self) -> Counts {
        let count = |status| self.ends[status as usize].len();
        Counts { trusted: count(CircuitStatus::Trusted), banned: count(CircuitStatus::Banned) }
    }

    fn take(&mut self) {
        self.overflowed = false;
        self.oldest_taken = self.oldest_change();
        self.oldest = None;
    }

    fn note(&mut self, circuit: TorCircuit, now: Timestamp) {
        self.oldest.get_or_insert(now);
        if self.overflowed {
            return;
        }
        self.changes.insert(circuit);
        if self.changes.len() > MAX_CHANGES {
            self.changes.clear();
            self.overflowed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::StatusReason;
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn circuit(number: u32) -> TorCircuit {
        TorCircuit::from_parts(0, 0, number)
    }

    fn row(number: u32, status: CircuitStatus, seconds: u64) -> StatusRow {
        let until = NOW.after(Duration::from_secs(seconds));
        StatusRow::new(circuit(number), status, NOW, until, StatusReason::Operator)
    }

    #[test]
    fn a_status_ends_at_its_time_and_the_table_hears_of_it() {
        let mut table = StatusTable::default();
        table.put(row(1, CircuitStatus::Banned, 10), NOW);
        table.put(row(2, CircuitStatus::Trusted, 20), NOW);
        table.put(row(3, CircuitStatus::Normal, 10), NOW);
        assert_eq!(table.take_changes(), Changes::Some((1..=3).map(circuit).collect()));
        assert_eq!(table.counts(), Counts { trusted: 1, banned: 1 });
        let later = NOW.after(Duration::from_secs(10));
        assert!(table.row(circuit(1), NOW).is_some());
        assert!(table.row(circuit(1), later).is_none(), "before anybody swept");
        assert!(table.expire(later) && !table.expire(later));
        assert_eq!(table.take_changes(), Changes::Some(vec![circuit(1)]));
        assert_eq!(table.begin_pass(later), [(circuit(2), CircuitStatus::Trusted)]);
    }

    #[test]
    fn a_row_that_replaces_another_ends_at_its_own_time() {
        let mut table = StatusTable::default();
        table.put(row(1, CircuitStatus::Trusted, 10), NOW);
        table.put(row(1, CircuitStatus::Banned, 30), NOW);
        assert!(!table.expire(NOW.after(Duration::from_secs(20))));
        assert_eq!(table.counts(), Counts { trusted: 0, banned: 1 });
        assert_eq!(table.begin_pass(NOW), [(circuit(1), CircuitStatus::Banned)]);
    }

    #[test]
    fn a_number_stands_as_the_latest_circuit_that_has_it() {
        let mut table = StatusTable::default();
        let mut put = |generation, number, status, since: u64, until: u64| {
            let [since, until] = [since, until].map(|s| NOW.after(Duration::from_secs(s)));
            let circuit = TorCircuit::from_parts(0, generation, number);
            let reason = StatusReason::Operator;
            table.put(StatusRow::new(circuit, status, since, until, reason), NOW);
            [7, 8].map(|number| table.of_number(number, NOW.after(Duration::from_secs(5))))
        };
        let (vip, banned) = (Some(CircuitStatus::Trusted), Some(CircuitStatus::Banned));
        assert_eq!(put(2, 7, CircuitStatus::Banned, 1, 99), [banned, None]);
        assert_eq!(put(3, 7, CircuitStatus::Trusted, 2, 99), [vip, None]);
        assert_eq!(
            put(2, 7, CircuitStatus::Normal, 3, 99),
            [vip, None],
            "a late reset of its predecessor"
        );
        assert_eq!(put(1, 7, CircuitStatus::Banned, 4, 5), [vip, None], "a ban that is over");
        assert_eq!(put(9, 8, CircuitStatus::Banned, 4, 99), [vip, banned]);
        assert_eq!(put(3, 7, CircuitStatus::Normal, 4, 99), [None, banned]);
    }

    #[test]
    fn an_overflow_costs_a_full_pass_and_loses_nothing() {
        let mut table = StatusTable::default();
        for number in 0..=MAX_CHANGES as u32 {
            table.put(row(number, CircuitStatus::Banned, 10), NOW);
        }
        assert_eq!(table.take_changes(), Changes::Everything);
        assert_eq!(table.take_changes(), Changes::Everything, "asking takes nothing");
        assert_eq!(table.begin_pass(NOW).len(), MAX_CHANGES + 1);
        table.put(row(1, CircuitStatus::Normal, 10), NOW);
        assert_eq!(table.take_changes(), Changes::Some(vec![circuit(1)]));
    }

    #[test]
    fn the_lag_is_that_of_the_oldest_change_which_is_not_confirmed() {
        let at = |seconds| NOW.after(Duration::from_secs(seconds));
        let mut table = StatusTable::default();
        assert_eq!(table.oldest_change(), None);
        table.put(row(1, CircuitStatus::Banned, 99), at(1));
        table.put(row(2, CircuitStatus::Banned, 99), at(2));
        let _taken = table.take_changes();
        table.put(row(3, CircuitStatus::Banned, 99), at(3));
        assert_eq!(table.oldest_change(), Some(at(1)));
        table.confirm();
        assert_eq!(table.oldest_change(), Some(at(3)));
        let _taken = table.take_changes();
        table.put(row(4, CircuitStatus::Banned, 99), at(4));
        table.fail();
        assert_eq!(table.take_changes(), Changes::Everything);
        assert_eq!(table.oldest_change(), Some(at(3)));
        let _wanted = table.begin_pass(at(5));
        table.confirm();
        assert_eq!((table.oldest_change(), table.take_changes()), (None, Changes::None));
    }

    #[test]
    fn what_the_file_does_not_take_follows_its_rules_and_is_known_until_it_does() {
        let mut table = StatusTable::default();
        let mut put = |number, status, seconds| {
            let write = Write { yields: true, ..Write::of(row(number, status, seconds)) };
            table.put_unwritten(write, 2, NOW).0
        };
        assert_eq!(put(1, CircuitStatus::Banned, 60), WriteOutcome::Done);
        assert_eq!(put(1, CircuitStatus::Trusted, 90), WriteOutcome::Yielded);
        assert_eq!(put(1, CircuitStatus::Banned, 30), WriteOutcome::Yielded);
        assert_eq!(put(2, CircuitStatus::Trusted, 60), WriteOutcome::Done);
        assert_eq!(put(3, CircuitStatus::Banned, 60), WriteOutcome::Done, "trust makes room");
        assert_eq!(put(4, CircuitStatus::Banned, 60), WriteOutcome::Full, "a ban does not");
        assert_eq!(table.some_unwritten(9).len(), 2);
        table.put(row(1, CircuitStatus::Banned, 60), NOW);
        assert_eq!(table.unwritten(), 1);
        table.expire(NOW.after(Duration::from_secs(60)));
        assert_eq!(table.unwritten(), 0, "an ended row need not be written");
        table.put(row(5, CircuitStatus::Trusted, 60), NOW);
        table.mark_all_unwritten();
        let word = row(6, CircuitStatus::Trusted, 30);
        let _became = table.put_unwritten(Write::of(word), 9, NOW);
        assert!(table.expire(NOW.after(Duration::from_secs(30))));
        assert_eq!(table.row(circuit(6), NOW.after(Duration::from_secs(30))), None);
        assert_eq!(table.some_unwritten(9)[1].row, word, "an operator's decision, though ended");
        table.shift(0);
        assert!(!table.expire(NOW.after(Duration::from_secs(30))), "reported twice");
        table.mark_written(&word);
        assert_eq!((table.unwritten(), table.count(circuit(6))), (1, 0));
        assert_eq!(table.some_unwritten(9)[0].row, row(5, CircuitStatus::Trusted, 60));
    }

    #[test]
    fn what_follows_an_operators_word_that_is_not_written_yields_as_little_and_what_is_over_makes_room()
     {
        let mut table = StatusTable::default();
        let _became = table.put_unwritten(Write::of(row(1, CircuitStatus::Normal, 60)), 2, NOW);
        table.consume_reset(circuit(1), NOW);
        assert_eq!(table.row(circuit(1), NOW), None);
        let ban = Write { yields: true, ..Write::of(row(1, CircuitStatus::Banned, 30)) };
        assert_eq!(table.put_unwritten(ban, 2, NOW).0, WriteOutcome::Done);
        assert!(!table.some_unwritten(9)[0].yields);
        let trust = Write { yields: true, ..Write::of(row(2, CircuitStatus::Trusted, 0)) };
        assert_eq!(table.put_unwritten(trust, 2, NOW).0, WriteOutcome::Done);
        assert!(table.expire(NOW));
        assert_eq!(table.unwritten(), 2, "trust is revoked in the file too");
        let ban = Write::of(row(3, CircuitStatus::Banned, 30));
        assert_eq!(table.put_unwritten(ban, 2, NOW).0, WriteOutcome::Done);
        let unwritten = table.some_unwritten(9).into_iter().map(|write| write.row.circuit);
        assert_eq!(unwritten.collect::<Vec<_>>(), [1, 3].map(circuit));
    }

    #[test]
    fn a_ban_that_the_file_has_is_in_force_unless_something_later_waits_for_the_file() {
        let (asked, ban) = (row(1, CircuitStatus::Banned, 30), row(1, CircuitStatus::Banned, 60));
        let mut table = StatusTable::default();
        table.keep_ban(&asked, ban, 5, NOW);
        assert_eq!((table.row(circuit(1), NOW), table.unwritten()), (Some(&ban), 0));
        assert_eq!(table.as_decided(ban), ban.shifted(-5));
        let _changes = table.take_changes();
        table.keep_ban(&asked, ban, 5, NOW);
        assert_eq!(table.take_changes(), Changes::None, "it was known");
        let reset = row(1, CircuitStatus::Normal, 90);
        let _became = table.put_unwritten(Write::of(reset), 9, NOW);
        table.keep_ban(&asked, ban, 5, NOW);
        assert_eq!((table.row(circuit(1), NOW), table.unwritten()), (Some(&reset), 1));
        // A row equal to that in the file need not be written.
        let mut table = StatusTable::default();
        table.put(ban, NOW);
        table.mark_all_unwritten();
        table.keep_ban(&ban, ban, 0, NOW);
        assert_eq!(table.unwritten(), 0);
    }

    #[test]
    fn abuse_03_a_penalty_of_a_former_tors_circuit_is_taken_back_with_its_status() {
        let (mut table, until) = (StatusTable::default(), NOW.after(Duration::from_secs(60)));
        let [former, present] = [1, 2].map(|generation| TorCircuit::from_parts(0, generation, 7));
        table.penalise(former, until, NOW);
        table.penalise(present, until, NOW);
        assert_eq!(table.stale_at(TorBoot { instance: 0, generation: 2 }), [former]);
        table.put(StatusRow { circuit: former, ..row(7, CircuitStatus::Normal, 60) }, NOW);
        assert_eq!(table.penalised(), [present]);
    }
}

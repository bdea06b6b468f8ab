//! The changes that bring a table to its wanted state.

use std::collections::HashMap;

use super::answer::Entry;
use super::command::Flag;
use fortify_core::circuit::TorCircuit;
use fortify_reputation::CircuitStatus;

/// An entry that expires in less than this, in milliseconds, is set again: two and a half passes, so that a
/// wanted entry does not expire between two passes even if one fails. The table's `expire` has to be longer.
pub const REFRESH_BELOW: u64 = 150_000;

/// The flag for a circuit's status.
#[must_use]
pub const fn flag(status: Option<CircuitStatus>) -> Flag {
    match status {
        None | Some(CircuitStatus::Normal) => Flag::Normal,
        Some(CircuitStatus::Trusted) => Flag::Vip,
        Some(CircuitStatus::Banned) => Flag::Banned,
    }
}

/// The entries to set so that the table becomes as `wanted`; `there` are its entries that are not normal. First
/// the wanted entries that are missing, different or about to expire, in the order of `wanted`; then the
/// unwanted entries, set to normal.
#[must_use]
pub fn plan(wanted: &[(TorCircuit, CircuitStatus)], there: &[Entry]) -> Vec<(TorCircuit, Flag)> {
    // The table knows numbers only, so that is what is compared.
    let mut left: HashMap<u32, &Entry> =
        there.iter().map(|entry| (entry.circuit.number(), entry)).collect();
    let mut changes = Vec::new();
    for (circuit, status) in wanted {
        let flag = flag(Some(*status));
        let entry = left.remove(&circuit.number());
        let good = match entry {
            Some(entry) => entry.flag == Some(flag) && entry.expires_in >= REFRESH_BELOW,
            None => flag == Flag::Normal,
        };
        if !good {
            changes.push((*circuit, flag));
        }
    }
    let mut unwanted: Vec<_> = left.into_values().map(|entry| entry.circuit).collect();
    unwanted.sort_unstable();
    changes.extend(unwanted.into_iter().map(|circuit| (circuit, Flag::Normal)));
    changes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What an entry starts with: `expire 30m`.
    const EXPIRE: u64 = 1_800_000;

    fn circuit(number: u32) -> TorCircuit {
        TorCircuit::from_parts(0, 0, number)
    }

    fn status() -> impl Strategy<Value = CircuitStatus> {
        prop_oneof![
            Just(CircuitStatus::Trusted),
            Just(CircuitStatus::Banned),
            Just(CircuitStatus::Normal)
        ]
    }

    fn entry() -> impl Strategy<Value = (u32, Entry)> {
        (0_u32..40, 1_u32..5, 0..EXPIRE).prop_map(|(number, value, expires_in)| {
            let circuit = circuit(number);
            (number, Entry { circuit, flag: Flag::of(value), expires_in })
        })
    }

    /// What `HAProxy` makes of the commands, and what `show table ... gpc0 gt 0` then shows.
    fn apply(there: &[Entry], changes: &[(TorCircuit, Flag)]) -> Vec<Entry> {
        let mut table: BTreeMap<u32, Entry> =
            there.iter().map(|entry| (entry.circuit.number(), *entry)).collect();
        for (circuit, flag) in changes {
            let entry = Entry { circuit: *circuit, flag: Some(*flag), expires_in: EXPIRE };
            table.insert(circuit.number(), entry);
        }
        table.into_values().filter(|entry| entry.flag != Some(Flag::Normal)).collect()
    }

    proptest! {
        #[test]
        fn after_the_plan_the_table_is_what_is_wanted_and_nothing_is_left_to_do(
            wanted in proptest::collection::btree_map(0_u32..40, status(), 0..30),
            there in proptest::collection::vec(entry(), 0..30),
        ) {
            let there: BTreeMap<u32, Entry> = there.into_iter().collect();
            let there: Vec<Entry> = there.into_values().collect();
            let list: Vec<_> = wanted.iter().map(|(n, s)| (circuit(*n), *s)).collect();
            let changes = plan(&list, &there);
            prop_assert!(changes.len() <= list.len() + there.len());
            let after = apply(&there, &changes);
            let shown: BTreeMap<u32, Option<Flag>> =
                after.iter().map(|entry| (entry.circuit.number(), entry.flag)).collect();
            let meant: BTreeMap<u32, Option<Flag>> = wanted
                .iter()
                .filter(|(_, status)| **status != CircuitStatus::Normal)
                .map(|(number, status)| (*number, Some(flag(Some(*status)))))
                .collect();
            prop_assert_eq!(shown, meant);
            prop_assert!(after.iter().all(|entry| entry.expires_in >= REFRESH_BELOW));
            prop_assert_eq!(plan(&list, &after), vec![]);
        }
    }

    #[test]
    fn a_wanted_entry_is_refreshed_before_it_ends_and_not_sooner() {
        let wanted = [(circuit(1), CircuitStatus::Banned)];
        let left = |expires_in| {
            let flag = Some(Flag::Banned);
            plan(&wanted, &[Entry { circuit: circuit(1), flag, expires_in }])
        };
        assert_eq!(left(REFRESH_BELOW), []);
        assert_eq!(left(REFRESH_BELOW - 1), [(circuit(1), Flag::Banned)]);
    }
}

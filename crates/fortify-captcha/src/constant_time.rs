//! Comparison of answers in constant time.
//!
//! Which steps are taken depends on two lengths alone: that of the answer, which follows from the
//! question, and that of the submission. Neither the characters nor the place of the first difference
//! matters, so the time of a refusal gives nothing away.

use std::iter;

use subtle::{Choice, ConstantTimeEq};

/// Characters compared by [`Characters::equals`], whatever the lengths; no answer is longer.
const WIDTH: usize = 64;
/// Stand in for a missing character on either side; no character has these values.
const ABSENT: [u32; 2] = [u32::MAX, u32::MAX - 1];

/// Text to be compared. It has no `PartialEq`, so that nothing can compare it in any other way.
pub(crate) struct Characters(Vec<u32>);

impl Characters {
    pub(crate) fn new(text: impl IntoIterator<Item = char>) -> Self {
        Self(text.into_iter().map(u32::from).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether both are the same, in as many steps for any two texts. A text that is longer than any
    /// answer equals none.
    pub(crate) fn equals(&self, other: &Self) -> Choice {
        let same_length = Choice::from(u8::from(self.len() == other.len() && self.len() <= WIDTH));
        let padded = |text: &Self| -> Vec<u32> {
            text.0.iter().copied().chain(iter::repeat(0)).take(WIDTH).collect()
        };
        let both = padded(self).into_iter().zip(padded(other));
        both.fold(same_length, |equal, (one, other)| equal & same(one, other))
    }

    /// Whether `other` is this text with at most one slip: a character wrong, missing or too many, or
    /// two neighbours swapped (an optimal string alignment distance of at most 1).
    ///
    /// Runs one automaton per kind of slip over all characters, without an early exit.
    pub(crate) fn within_one_edit(&self, other: &Self) -> Choice {
        let at =
            |text: &Self, index: usize, absent: u32| text.0.get(index).copied().unwrap_or(absent);
        let [here, there] = ABSENT;
        let never = Choice::from(0);
        // All characters so far are the same; one was wrong or two were swapped; the first of two is
        // swapped; `other` has had one too many; `other` has missed one.
        let (mut equal, mut changed, mut swapping, mut extra, mut missing) =
            (Choice::from(1), never, never, never, never);
        for index in 0..self.len() {
            let aligned = same(at(self, index, here), at(other, index, there));
            let later = same(at(self, index, here), at(other, index + 1, there));
            let earlier = same(at(self, index + 1, here), at(other, index, there));
            changed = (changed & aligned) | swapping | equal;
            swapping = equal & later & earlier;
            extra = (extra | equal) & later;
            // The last character may be the one that is missing; before it, another one has to follow.
            let last = Choice::from(u8::from(index + 1 == self.len()));
            missing = (missing | equal) & (earlier | last);
            equal &= aligned;
        }
        let longer_by = |one: &Self, other: &Self, by: usize| {
            Choice::from(u8::from(one.len() == other.len() + by))
        };
        (longer_by(self, other, 0) & (equal | changed))
            | (longer_by(other, self, 1) & (equal | extra))
            | (longer_by(self, other, 1) & missing)
    }
}

/// Whether two numbers, or the values of two characters, are the same.
pub(crate) fn same(one: u32, other: u32) -> Choice {
    #[cfg(test)]
    steps::count();
    one.ct_eq(&other)
}

/// Counts comparisons, so that tests can hold that their number does not depend on an answer.
#[cfg(test)]
pub(crate) mod steps {
    use std::cell::Cell;

    thread_local! {
        static TAKEN: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        TAKEN.set(TAKEN.get() + 1);
    }

    /// The comparisons that `work` makes on this thread.
    pub(crate) fn taken(work: impl FnOnce()) -> usize {
        TAKEN.set(0);
        work();
        TAKEN.get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn within(expected: &str, submitted: &str) -> bool {
        let text = |text: &str| Characters::new(text.chars());
        text(expected).within_one_edit(&text(submitted)).into()
    }

    #[test]
    fn every_kind_of_slip_is_found_at_every_place() {
        let text = "ABCDEF";
        assert!(within(text, text));
        for at in 0..=text.len() {
            let (before, after) = text.split_at(at);
            assert!(within(text, &format!("{before}X{after}")), "one too many at {at}");
            assert!(!within(text, &format!("{before}XY{after}")), "two too many at {at}");
            if let Some(rest) = after.get(1..) {
                assert!(within(text, &format!("{before}{rest}")), "one missing at {at}");
                assert!(within(text, &format!("{before}X{rest}")), "one wrong at {at}");
            }
            if let Some((pair, rest)) = after.split_at_checked(2) {
                let swapped: String = pair.chars().rev().collect();
                assert!(within(text, &format!("{before}{swapped}{rest}")), "swapped at {at}");
                assert!(!within(text, &format!("{before}XY{rest}")), "two wrong at {at}");
                assert!(!within(text, &format!("{before}{rest}")), "two missing at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn one_edit_is_what_the_distance_says(one in "[ABC]{0,7}", other in "[ABC]{0,8}") {
            prop_assert_eq!(within(&one, &other), strsim::osa_distance(&one, &other) <= 1);
        }

        #[test]
        fn equal_is_equal(one in "[AB]{0,4}", other in "[AB]{0,4}") {
            let texts = [&one, &other].map(|text| Characters::new(text.chars()));
            prop_assert_eq!(bool::from(texts[0].equals(&texts[1])), one == other);
        }
    }
}

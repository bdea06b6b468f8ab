//! Decoys: what a program reads that looks at a part of a file which people are not shown.
//!
//! A decoy is another puzzle of the same kind, from a stream of its own: same length, same alphabet,
//! same distribution, so that nothing about it tells it from the answer.

use crate::answer::Answer;
use crate::puzzle::Puzzle;
use crate::rng::Stream;
use crate::spec::Spec;
use crate::tasks::{self, Task};

/// Slips between a text and its decoy, at least: a person who mistypes twice is still no program.
const TEXT_DISTANCE: usize = 3;
/// Draws before giving up. A text is too near once in thousands of draws, a small sum twice in five.
const DRAWS: usize = 64;

/// A task whose answer nobody gives who means that of `puzzle`; `None` if there is none, which takes
/// worse luck than a seed can have.
pub(crate) fn compose(spec: &Spec, puzzle: &Puzzle, rng: &mut Stream) -> Option<Task> {
    let fits = |other: &Puzzle| {
        // What is asked of each row is on the page, and a decoy has to answer that.
        let rows = matches!(puzzle.answer, Answer::Words(_));
        (!rows || puzzle.question == other.question) && !near(&puzzle.answer, &other.answer)
    };
    (0..DRAWS).map(|_| tasks::compose(spec, rng)).find(|task| fits(&task.puzzle))
}

/// Whether a person who is asked for one answer may give the other by mistake.
fn near(answer: &Answer, decoy: &Answer) -> bool {
    match (answer, decoy) {
        (Answer::Text(answer), Answer::Text(decoy)) => {
            strsim::osa_distance(answer, decoy) < TEXT_DISTANCE
        }
        // Miscounting by one or two, or forgetting to carry or to borrow.
        (Answer::Number(answer), Answer::Number(decoy)) => {
            matches!(answer.abs_diff(*decoy), 0..=2 | 10)
        }
        // Who takes one row for the next is right in one of them.
        (Answer::Words(answer), Answer::Words(decoy)) => {
            answer.len() != decoy.len() || answer.iter().zip(decoy).any(|(one, other)| one == other)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Tolerance;
    use crate::spec::{Carrier, Level, Variant};

    #[test]
    fn a_decoy_is_of_the_same_kind_and_never_the_answer() {
        let mut rng = Stream::fixed(8);
        let variants = [Variant::DistortedText, Variant::Arithmetic, Variant::PatternCompletion];
        for variant in variants {
            for level in Level::ALL {
                let spec = Spec { length: 4, ..Spec::new(variant, level) };
                let spec = spec.with_carrier(Carrier::Motion);
                for _ in 0..1000 {
                    let puzzle = tasks::compose(&spec, &mut rng).puzzle;
                    let decoy = compose(&spec, &puzzle, &mut rng).unwrap().puzzle;
                    if variant == Variant::PatternCompletion {
                        assert_eq!(puzzle.question, decoy.question);
                    }
                    let (answer, decoy) = (puzzle.answer, decoy.answer);
                    assert!(!answer.matches(&decoy.reveal(), Tolerance::OneEdit));
                    if let (Answer::Text(answer), Answer::Text(decoy)) = (&answer, &decoy) {
                        assert_eq!(answer.len(), decoy.len());
                        assert!(strsim::osa_distance(answer, decoy) >= TEXT_DISTANCE);
                    }
                }
            }
        }
    }
}

//! Decoys: answers in a part of the file that browsers do not show, so that only programs give them.
//!
//! A decoy is another puzzle of the same kind, from a stream of its own: same question, same length,
//! same alphabet, same distribution, so that nothing about it tells it from the answer. Where the
//! question names objects or colours of the picture, the decoy shows the same ones with other letters
//! or words, because such a program answers the question.

use crate::answer::Answer;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;
use crate::spec::{AnswerMode, Spec};
use crate::tasks::{self, Task, color_text_mismatch, object_recognition};

/// Fewest slips between a text and its decoy, so that a person who mistypes twice is not taken for a
/// program.
const TEXT_DISTANCE: usize = 3;
/// Attempts before giving up. A text is too near once in thousands of draws, a small sum twice in five.
const DRAWS: usize = 64;

/// A task with the question of `task` and an answer that nobody gives by mistyping that of `task`.
/// `None` in choice mode, or if no draw fits, which is too unlikely to happen.
pub(crate) fn compose(spec: &Spec, task: &Task, rng: &mut Stream) -> Option<Task> {
    match (spec.mode, task.puzzle.question) {
        (AnswerMode::Typed, Question::TypeLettersOverEach { objects }) => {
            Some(object_recognition::decoy(&task.figures, objects, rng))
        }
        (AnswerMode::Typed, Question::WordsOn { colours }) => {
            Some(color_text_mismatch::decoy(&task.figures, colours, rng))
        }
        (AnswerMode::Typed, question) => {
            let fits = |other: &Puzzle| {
                question == other.question && !near(&task.puzzle.answer, &other.answer)
            };
            (0..DRAWS).map(|_| tasks::compose(spec, rng)).find(|task| fits(&task.puzzle))
        }
        (AnswerMode::Choice, _) => None,
    }
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
        // A person who mixes up the rows is right in one of them.
        (Answer::Words(answer), Answer::Words(decoy)) => {
            answer.len() != decoy.len() || answer.iter().zip(decoy).any(|(one, other)| one == other)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Carrier, Level, Variant};
    use crate::tolerance::Tolerance;

    #[test]
    fn a_decoy_is_of_the_same_kind_and_never_the_answer() {
        let mut rng = Stream::fixed(8);
        for variant in Variant::ALL {
            for level in Level::ALL {
                let spec = Spec { length: 4, ..Spec::new(variant, level) };
                let spec = spec.with_carrier(Carrier::Motion);
                for _ in 0..1000 {
                    let task = tasks::compose(&spec, &mut rng);
                    let decoy = compose(&spec, &task, &mut rng).unwrap().puzzle;
                    assert_eq!(task.puzzle.question, decoy.question);
                    let (answer, decoy) = (task.puzzle.answer, decoy.answer);
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

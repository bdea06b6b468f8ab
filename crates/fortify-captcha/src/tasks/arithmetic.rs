//! A sum to be solved: `a op b = ?`.
//!
//! Numbers come as digits or as a word, operators as scribbles. Answers are few (see the blind
//! guess below), so this is a task for calm times.

use super::{Figure, Sign, Task};
use crate::answer::Answer;
use crate::level::LevelProfile;
use crate::number;
use crate::puzzle::Question;
use crate::rng::Stream;

/// The largest number that is written as a word: longer words would make every glyph small.
const LARGEST_WORD: u32 = 12;

struct Sum {
    left: u32,
    right: u32,
    sign: Sign,
}

impl Sum {
    /// The result; `right` never exceeds `left` in a difference.
    fn result(&self) -> u32 {
        match self.sign {
            Sign::Minus => self.left.saturating_sub(self.right),
            Sign::Times => self.left * self.right,
            Sign::Plus | Sign::Equals => self.left + self.right,
        }
    }
}

pub(crate) fn compose(profile: &LevelProfile, rng: &mut Stream) -> Task {
    let sum = draw(profile, rng);
    let (left, right) = written(&sum, profile, rng);
    Task::new(
        Answer::Number(sum.result()),
        Question::SolveSum,
        vec![
            left,
            Figure::Scribble(sum.sign),
            right,
            Figure::Scribble(Sign::Equals),
            Figure::Characters("?".to_owned()),
        ],
    )
}

/// Operands and operator. From level 5 on at least three digits, which with the operator makes four
/// glyphs that all have to be read rightly.
fn draw(profile: &LevelProfile, rng: &mut Stream) -> Sum {
    let largest = i32::from(profile.operand);
    let factor = i32::from(profile.factor);
    let two_digits = profile.digits > 2;
    let sign = match rng.below(10) {
        0..=4 => Sign::Plus,
        5..=7 => Sign::Minus,
        _ => Sign::Times,
    };
    let mut between = |low: i32, high: i32| rng.integer(low, high).unsigned_abs();
    let (left, right) = match sign {
        Sign::Times if two_digits => (between(10, factor.max(12)), between(2, factor.min(9))),
        Sign::Times => (between(2, factor), between(2, factor)),
        Sign::Minus => {
            let left = between(if two_digits { 10 } else { 2 }, largest);
            (left, between(1, left.min(99) as i32))
        }
        _ => (between(if two_digits { 10 } else { 1 }, largest), between(1, largest)),
    };
    // A difference keeps its order; the others may be written either way round.
    if sign != Sign::Minus && rng.chance(0.5) {
        return Sum { left: right, right: left, sign };
    }
    // Three digits where three are wanted: the left operand of a difference has two of them.
    Sum { left, right, sign }
}

/// Both operands as they are shown: at most one of them as a word.
fn written(sum: &Sum, profile: &LevelProfile, rng: &mut Stream) -> (Figure, Figure) {
    let digits = |number: u32| Figure::Number(number.to_string());
    let worded = |number: u32| number::word(number).filter(|_| number <= LARGEST_WORD);
    let (wanted, prefer_left) = (rng.chance(profile.word), rng.chance(0.5));
    match (worded(sum.left), worded(sum.right)) {
        (Some(word), right) if wanted && (prefer_left || right.is_none()) => {
            (Figure::Word(word), digits(sum.right))
        }
        (_, Some(word)) if wanted => (digits(sum.left), Figure::Word(word)),
        _ => (digits(sum.left), digits(sum.right)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::spec::Level;

    fn shown(figures: &[Figure]) -> Option<(u32, Sign, u32)> {
        let value = |figure: &Figure| match figure {
            Figure::Number(digits) => digits.parse().ok(),
            Figure::Word(word) => number::parse(word),
            _ => None,
        };
        match figures {
            [left, Figure::Scribble(sign), right, Figure::Scribble(Sign::Equals), _] => {
                Some((value(left)?, *sign, value(right)?))
            }
            _ => None,
        }
    }

    #[test]
    fn the_answer_is_what_the_figures_come_to() {
        let mut rng = Stream::fixed(3);
        for level in Level::ALL {
            let profile = LevelProfile::of(level);
            for _ in 0..2000 {
                let task = compose(profile, &mut rng);
                let (left, sign, right) = shown(&task.figures).unwrap();
                let result = match sign {
                    Sign::Plus => left + right,
                    Sign::Minus => left.checked_sub(right).unwrap(),
                    Sign::Times => left * right,
                    Sign::Equals => unreachable!(),
                };
                assert_eq!(task.puzzle.answer, Answer::Number(result));
                assert!(left >= 1 && right >= 1 && result <= 198);
                if level.get() >= 5 {
                    assert!(left >= 10 || right >= 10);
                }
            }
        }
    }

    #[test]
    fn blind_guesses_seldom_succeed() {
        for (level, bound) in [(1, 0.16), (5, 0.07), (10, 0.03)] {
            let profile = LevelProfile::of(Level::new(level).unwrap());
            let mut rng = Stream::fixed(4);
            let mut counts: HashMap<String, u32> = HashMap::new();
            for _ in 0..20_000 {
                *counts.entry(compose(profile, &mut rng).puzzle.answer.reveal()).or_default() += 1;
            }
            let best = f64::from(*counts.values().max().unwrap()) / 20_000.0;
            assert!(best < bound, "level {level}: the commonest answer is right in {best}");
        }
    }
}

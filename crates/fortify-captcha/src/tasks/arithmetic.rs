//! A sum to be solved: `a op b = ?`.
//!
//! Numbers come as digits or as a word, operators as scribbles. Answers are few (see the blind
//! guess below), so this is a task for calm times.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::Task;
use crate::answer::Answer;
use crate::choice::{self, Choice, DecoyKind};
use crate::figure::{Figure, Sign};
use crate::level::LevelProfile;
use crate::number;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;

/// The largest number that is written as a word: longer words would make every glyph small.
const LARGEST_WORD: u32 = 12;

#[derive(Clone, Copy)]
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

    /// Whether [`draw`] could have drawn the sum.
    fn fits(&self, profile: &LevelProfile) -> bool {
        let (low, high) = (self.left.min(self.right), self.left.max(self.right));
        let two_digits = profile.digits > 2;
        let (operand, factor) = (u32::from(profile.operand), u32::from(profile.factor));
        match self.sign {
            Sign::Times if two_digits => {
                (10..=factor.max(12)).contains(&high) && (2..=factor.min(9)).contains(&low)
            }
            Sign::Times => low >= 2 && high <= factor,
            Sign::Minus => {
                let least = if two_digits { 10 } else { 2 };
                (least..=operand).contains(&self.left) && (1..self.left).contains(&self.right)
            }
            Sign::Plus => low >= 1 && high <= operand && (!two_digits || high >= 10),
            Sign::Equals => false,
        }
    }
}

/// The probability of each result of a typed sum: [`draw`] with every outcome weighted instead of
/// drawn.
pub(crate) fn distribution(profile: &LevelProfile) -> BTreeMap<u32, f64> {
    let (operand, factor) = (u32::from(profile.operand), u32::from(profile.factor));
    let two_digits = profile.digits > 2;
    let mut likely = BTreeMap::new();
    let mut add =
        |sign: Sign, share: f64, lefts: RangeInclusive<u32>, rights: RangeInclusive<u32>| {
            let of_both = share / (lefts.clone().count() * rights.clone().count()) as f64;
            for left in lefts {
                for right in rights.clone() {
                    *likely.entry(Sum { left, right, sign }.result()).or_insert(0.0) += of_both;
                }
            }
        };
    add(Sign::Plus, 0.5, if two_digits { 10 } else { 1 }..=operand, 1..=operand);
    if two_digits {
        add(Sign::Times, 0.2, 10..=factor.max(12), 2..=factor.min(9));
    } else {
        add(Sign::Times, 0.2, 2..=factor, 2..=factor);
    }
    for result in 1..operand {
        *likely.entry(result).or_insert(0.0) += 0.3 / f64::from(operand - 1);
    }
    likely
}

/// A sum whose result is typed.
pub(super) fn typed(profile: &LevelProfile, rng: &mut Stream) -> Task {
    let sum = draw(profile, rng);
    Task::typed(Answer::Number(sum.result()), Question::SolveSum, shown(&sum, profile, rng))
}

/// A sum whose result is one of several: each of them the result of a near sum, which is as likely
/// to be the one in the picture as any other.
pub(super) fn choice(profile: &LevelProfile, rng: &mut Stream) -> Task {
    let root = draw(profile, rng);
    let count = usize::from(profile.options);
    let near = |sum: &Sum, rng: &mut Stream| misread(sum, rng).filter(|sum| sum.fits(profile));
    let mut sums =
        choice::grow(root, count, rng, near, |one, other| one.result() == other.result());
    // At the lowest levels the legal sums near the first may be too few.
    while sums.len() < count {
        let sum = draw(profile, rng);
        if sums.iter().all(|other| other.result() != sum.result()) {
            sums.push(sum);
        }
    }
    rng.shuffle(&mut sums);
    let answer = rng.below(sums.len());
    let Some(sum) = sums.get(answer).copied() else {
        return typed(profile, rng);
    };
    let puzzle = Puzzle::picked(
        Question::SolveSum,
        sums.iter().map(|sum| Choice::Text(sum.result().to_string())).collect(),
        answer,
        |decoy| DecoyKind::by_edits(&sum.result().to_string(), &decoy.value()),
    );
    Task { puzzle, figures: shown(&sum, profile, rng) }
}

/// The sum as it comes out when one glyph is misread: a digit or the operator.
fn misread(sum: &Sum, rng: &mut Stream) -> Option<Sum> {
    let mut sum = *sum;
    if rng.below(4) == 0 {
        sum.sign = *rng.pick(&[Sign::Plus, Sign::Minus, Sign::Times])?;
        return Some(sum);
    }
    let operand = if rng.chance(0.5) { &mut sum.left } else { &mut sum.right };
    let mut digits = operand.to_string().into_bytes();
    let at = rng.below(digits.len());
    let digit = digits.get_mut(at)?;
    *digit = *rng.pick(look_alikes(*digit))?;
    *operand = String::from_utf8(digits).ok()?.parse().ok()?;
    Some(sum)
}

/// Digits that a digit is taken for.
const fn look_alikes(digit: u8) -> &'static [u8] {
    match digit {
        b'0' => b"689",
        b'1' => b"47",
        b'2' => b"37",
        b'3' => b"258",
        b'4' => b"19",
        b'5' => b"368",
        b'6' => b"058",
        b'7' => b"12",
        b'8' => b"0356",
        _ => b"04",
    }
}

fn shown(sum: &Sum, profile: &LevelProfile, rng: &mut Stream) -> Vec<Figure> {
    let (left, right) = written(sum, profile, rng);
    vec![
        left,
        Figure::Scribble(sum.sign),
        right,
        Figure::Scribble(Sign::Equals),
        Figure::Characters("?".to_owned()),
    ]
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
            // The result is drawn first, so that small ones are no likelier than large ones.
            let result = between(1, largest - 1);
            let result = i32::try_from(result).unwrap_or(1);
            let least = if two_digits { 10 - result } else { 1 };
            let right = between(least.max(1), largest - result);
            (right + result.unsigned_abs(), right)
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

    fn read(figures: &[Figure]) -> Option<(u32, Sign, u32)> {
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
                let task = typed(profile, &mut rng);
                let (left, sign, right) = read(&task.figures).unwrap();
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
        for (level, bound) in [(1, 0.06), (5, 0.045), (10, 0.03)] {
            let profile = LevelProfile::of(Level::new(level).unwrap());
            let mut rng = Stream::fixed(4);
            let mut counts: HashMap<String, u32> = HashMap::new();
            for _ in 0..20_000 {
                *counts.entry(typed(profile, &mut rng).puzzle.answer.reveal()).or_default() += 1;
            }
            for (result, share) in distribution(profile) {
                let found = f64::from(counts.get(&result.to_string()).copied().unwrap_or(0));
                assert!((found / 20_000.0 - share).abs() < 0.008, "level {level}: {result}");
            }
            let best = f64::from(*counts.values().max().unwrap()) / 20_000.0;
            assert!(best < bound, "level {level}: the commonest answer is right in {best}");
        }
    }

    #[test]
    fn what_is_drawn_fits_and_choices_are_what_could_be_drawn() {
        let mut rng = Stream::fixed(6);
        for level in Level::ALL {
            let profile = LevelProfile::of(level);
            let likely = distribution(profile);
            for _ in 0..500 {
                assert!(draw(profile, &mut rng).fits(profile));
                let task = choice(profile, &mut rng);
                let values: Vec<String> = task.puzzle.choices.iter().map(Choice::value).collect();
                assert_eq!(values.len(), usize::from(profile.options));
                assert!(values.iter().all(|value| likely.contains_key(&value.parse().unwrap())));
                let (left, sign, right) = read(&task.figures).unwrap();
                let result = Sum { left, right, sign }.result().to_string();
                assert_eq!(task.puzzle.answer.reveal(), result);
            }
        }
    }
}

//! Colour words drawn in other colours: which words, or which colours?
//!
//! From level 3 on two or three words, for one word would be guessed too often.

use super::{Figure, Task};
use crate::answer::Answer;
use crate::choice::{Choice, DecoyKind};
use crate::level::LevelProfile;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;
use crate::spec::AnswerMode;
use crate::term::{Colour, Term};

pub(super) fn compose(mode: AnswerMode, profile: &LevelProfile, rng: &mut Stream) -> Task {
    let count = usize::from(profile.tinted);
    let ask_colours = rng.chance(0.5);
    let asked: &[Colour] = if ask_colours { &Colour::PAINTS } else { &Colour::ALL };
    let other: &[Colour] = if ask_colours { &Colour::ALL } else { &Colour::PAINTS };
    let words = u8::try_from(count).unwrap_or(1);
    let question = if ask_colours {
        Question::WhichColours { count: words }
    } else {
        Question::WhichWords { count: words }
    };
    let (puzzle, right) = match mode {
        AnswerMode::Typed => {
            let right = rng.sample(asked, count);
            let terms = right.iter().copied().map(Term::Colour).collect();
            (Puzzle::typed(Answer::Words(terms), question), right)
        }
        AnswerMode::Choice => pick(asked, question, count, usize::from(profile.options), rng),
    };
    let wrong = mismatched(&right, other, rng);
    let figures = right
        .iter()
        .zip(wrong)
        .map(|(right, wrong)| {
            let (word, colour) = if ask_colours { (wrong, *right) } else { (*right, wrong) };
            Figure::Tinted { word: word.as_str(), colour }
        })
        .collect();
    Task { puzzle, figures }
}

/// Every combination of a few colours for each word, all different from word to word; one of them
/// is the answer, as likely as any other.
fn pick(
    asked: &[Colour],
    question: Question,
    count: usize,
    options: usize,
    rng: &mut Stream,
) -> (Puzzle, Vec<Colour>) {
    let mut colours = rng.sample(asked, asked.len()).into_iter();
    let mut combinations: Vec<Vec<Colour>> = vec![Vec::new()];
    for size in super::grid(options, count).iter().copied() {
        let column: Vec<Colour> = colours.by_ref().take(size).collect();
        combinations = combinations
            .iter()
            .flat_map(|start| {
                column.iter().map(|colour| {
                    let mut combination = start.clone();
                    combination.push(*colour);
                    combination
                })
            })
            .collect();
    }
    rng.shuffle(&mut combinations);
    let answer = rng.below(combinations.len());
    let right = combinations.get(answer).cloned().unwrap_or_default();
    let terms =
        |colours: &[Colour]| -> Vec<Term> { colours.iter().copied().map(Term::Colour).collect() };
    let choices = combinations.iter().map(|colours| Choice::Terms(terms(colours))).collect();
    let kind = super::partly(&terms(&right), DecoyKind::Absent);
    (Puzzle::picked(question, choices, answer, kind), right)
}

/// One of `from` for each of `right`, different from it and from each other.
fn mismatched(right: &[Colour], from: &[Colour], rng: &mut Stream) -> Vec<Colour> {
    // Nine draws in ten succeed at once; the order of the alphabet is never needed, only a bound.
    for _ in 0..100 {
        let drawn = rng.sample(from, right.len());
        if drawn.iter().zip(right).all(|(one, other)| one != other) {
            return drawn;
        }
    }
    from.iter().copied().filter(|colour| !right.contains(colour)).take(right.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Level;

    #[test]
    fn no_word_is_drawn_in_its_own_colour_and_the_answer_is_what_is_asked() {
        let mut rng = Stream::fixed(51);
        for (level, mode) in Level::ALL.into_iter().flat_map(|l| AnswerMode::ALL.map(|m| (l, m))) {
            let profile = LevelProfile::of(level);
            for _ in 0..300 {
                let task = compose(mode, profile, &mut rng);
                let shown: Vec<(&str, &str)> = task
                    .figures
                    .iter()
                    .map(|figure| match figure {
                        Figure::Tinted { word, colour } => (*word, colour.as_str()),
                        _ => panic!("another figure"),
                    })
                    .collect();
                assert_eq!(shown.len(), usize::from(profile.tinted));
                assert!(shown.iter().all(|(word, colour)| word != colour));
                let expected: Vec<&str> = shown
                    .iter()
                    .map(|(word, colour)| match task.puzzle.question {
                        Question::WhichWords { .. } => *word,
                        _ => *colour,
                    })
                    .collect();
                assert_eq!(task.puzzle.answer.reveal(), expected.join(" "));
                if mode == AnswerMode::Choice {
                    assert_eq!(task.puzzle.choices.len(), usize::from(profile.options));
                }
            }
        }
    }
}

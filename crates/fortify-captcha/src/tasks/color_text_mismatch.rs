//! Colour words drawn in other colours: which words, or which colours?
//!
//! From level 3 on two or three words, for one word would be guessed too often.
//!
//! In carriers that need large glyphs there are two words, each on a band of a colour that it does not
//! name, and the question says the colours: which word is on red, and which on blue? Colours of bands
//! are visible to every program, so no question asks for them.

use super::Task;
use crate::answer::Answer;
use crate::choice::{Choice, DecoyKind};
use crate::figure::Figure;
use crate::level::LevelProfile;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;
use crate::spec::{AnswerMode, Carrier, Spec};
use crate::term::{Colour, Term};

pub(super) fn compose(profile: &LevelProfile, rng: &mut Stream) -> Task {
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
    let right = rng.sample(asked, count);
    let terms = right.iter().copied().map(Term::Colour).collect();
    let puzzle = Puzzle::typed(Answer::Words(terms), question);
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

/// Words of a picture with a band for each.
const BANNERS: usize = 2;

/// Two words on bands, asked for in random order.
pub(super) fn banners(spec: &Spec, profile: &LevelProfile, rng: &mut Stream) -> Task {
    // Red that flickers is harder to bear than any other colour (WCAG 2.2, red flash).
    let calm = Colour::BANDS.into_iter().filter(|colour| *colour != Colour::Red);
    let bands: Vec<Colour> = match spec.carrier {
        Carrier::Motion => calm.collect(),
        _ => Colour::BANDS.to_vec(),
    };
    let mode = spec.mode;
    let (task, words, colours) = match mode {
        AnswerMode::Typed => {
            let colours = two(&bands, |_, _| true, rng);
            let words = two(&Colour::ALL, |at, word| word != colours[at], rng);
            let terms = words.map(Term::Colour).to_vec();
            (Puzzle::typed(Answer::Words(terms), Question::WordsOn { colours }), words, colours)
        }
        AnswerMode::Choice => {
            let options = usize::from(profile.options);
            let question = |colours| Question::WordsOn { colours };
            // The colours are drawn last, and none that any choice names in its place: the question
            // must not rule choices out.
            let (mut puzzle, right) = pick(question([Colour::Red; BANNERS]), options, rng);
            let named = |at: usize, colour: Colour| {
                puzzle.choices.iter().any(|choice| match choice {
                    Choice::Terms(terms) => terms.get(at) == Some(&Term::Colour(colour)),
                    _ => false,
                })
            };
            let colours = two(&bands, |at, colour| !named(at, colour), rng);
            puzzle.question = question(colours);
            let words = std::array::from_fn(|at| right.get(at).copied().unwrap_or(Colour::Grey));
            (puzzle, words, colours)
        }
    };
    Task { puzzle: task, figures: shown(words, colours, rng) }
}

/// The same bands in the same order and the same question as in `figures` with other words.
pub(crate) fn decoy(figures: &[Figure], colours: [Colour; BANNERS], rng: &mut Stream) -> Task {
    let real = |word: Colour| {
        figures
            .iter()
            .any(|figure| matches!(figure, Figure::Banner { word: w, .. } if *w == word.as_str()))
    };
    let words = two(&Colour::ALL, |at, word| word != colours[at] && !real(word), rng);
    let upper = figures.first().and_then(|figure| figure.colours().first().copied());
    let terms = words.map(Term::Colour).to_vec();
    let mut figures = banner(words, colours);
    if upper != colours.first().copied() {
        figures.reverse();
    }
    Task::typed(Answer::Words(terms), Question::WordsOn { colours }, figures)
}

/// Two different members of `from`, each allowed in its place: all such pairs are equally likely.
fn two(
    from: &[Colour],
    allowed: impl Fn(usize, Colour) -> bool,
    rng: &mut Stream,
) -> [Colour; BANNERS] {
    let pairs: Vec<[Colour; BANNERS]> = from
        .iter()
        .filter(|one| allowed(0, **one))
        .flat_map(|one| from.iter().map(move |other| [*one, *other]))
        .filter(|[one, other]| one != other && allowed(1, *other))
        .collect();
    rng.pick(&pairs).copied().unwrap_or([Colour::Red, Colour::Blue])
}

/// The words on their bands, in random order.
fn shown(words: [Colour; BANNERS], colours: [Colour; BANNERS], rng: &mut Stream) -> Vec<Figure> {
    let mut figures = banner(words, colours);
    rng.shuffle(&mut figures);
    figures
}

fn banner(words: [Colour; BANNERS], colours: [Colour; BANNERS]) -> Vec<Figure> {
    words
        .into_iter()
        .zip(colours)
        .map(|(word, colour)| Figure::Banner { word: word.as_str(), colour })
        .collect()
}

/// Every combination of a few colours for each word, all different from word to word; one of them
/// is the answer, as likely as any other.
fn pick(question: Question, options: usize, rng: &mut Stream) -> (Puzzle, Vec<Colour>) {
    let mut colours = rng.sample(&Colour::ALL, Colour::ALL.len()).into_iter();
    let mut combinations: Vec<Vec<Colour>> = vec![Vec::new()];
    for size in super::grid(options, BANNERS).iter().copied() {
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
    use crate::spec::{Level, Variant};

    #[test]
    fn words_on_bands_are_asked_by_their_bands_and_every_choice_may_be_right() {
        let mut rng = Stream::fixed(52);
        let all = Level::ALL.into_iter().flat_map(|l| AnswerMode::ALL.map(|m| (l, m)));
        let mut reversed = 0;
        for (level, mode) in all.clone().cycle().take(all.count() * 100) {
            let carrier = if rng.chance(0.5) { Carrier::Swirl } else { Carrier::Motion };
            let spec = Spec { mode, ..Spec::new(Variant::ColorTextMismatch, level) };
            let spec = spec.with_carrier(carrier);
            let task = banners(&spec, LevelProfile::of(level), &mut rng);
            let Question::WordsOn { colours } = task.puzzle.question else {
                panic!("another question");
            };
            let read = |figures: &[Figure]| -> [&str; BANNERS] {
                colours.map(|asked| {
                    let on = |figure: &Figure| match figure {
                        Figure::Banner { word, colour } if *colour == asked => Some(*word),
                        _ => None,
                    };
                    figures.iter().find_map(on).unwrap()
                })
            };
            let words = read(&task.figures);
            assert_eq!(words.join(" "), task.puzzle.answer.reveal());
            for choice in &task.puzzle.choices {
                let Choice::Terms(terms) = choice else { panic!("another choice") };
                assert!(terms.iter().zip(colours).all(|(term, c)| *term != Term::Colour(c)));
            }
            assert!(carrier == Carrier::Swirl || !colours.contains(&Colour::Red));
            reversed += u32::from(task.figures[0].colours()[0] != colours[0]);
            let decoy = decoy(&task.figures, colours, &mut rng);
            let others = read(&decoy.figures);
            assert_eq!(others.join(" "), decoy.puzzle.answer.reveal());
            assert!(others.iter().all(|word| !words.contains(word)));
            assert!(
                task.figures.iter().zip(&decoy.figures).all(|(a, b)| a.colours() == b.colours())
            );
        }
        assert!((900..1100).contains(&reversed), "{reversed}");
    }

    #[test]
    fn no_word_is_drawn_in_its_own_colour_and_the_answer_is_what_is_asked() {
        let mut rng = Stream::fixed(51);
        for level in Level::ALL {
            let profile = LevelProfile::of(level);
            for _ in 0..600 {
                let task = compose(profile, &mut rng);
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
            }
        }
    }
}

//! Objects with codes over them.
//!
//! Two questions in one: which of the silhouettes is the tree, and which letters are over it. In
//! choice mode the question is which object has a colour.
//!
//! In carriers that need large glyphs one letter is over each object, and the letters over three of
//! four objects are asked in an order of the question's own: as many answers as a code has, and a
//! program that only reads the letters from left to right is right once in 24.

use super::Task;
use crate::alphabet::ALPHABET;
use crate::answer::Answer;
use crate::choice::{self, Choice, DecoyKind};
use crate::figure::Figure;
use crate::level::LevelProfile;
use crate::object::Object;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;
use crate::spec::AnswerMode;
use crate::term::Colour;

/// Characters of a code: as many as fit over an object; 24^3 is 13,824.
pub(crate) const CODE: u8 = 3;

/// The code over one object is typed.
pub(super) fn typed(profile: &LevelProfile, rng: &mut Stream) -> Task {
    let objects = draw(usize::from(profile.objects), rng);
    let mut codes: Vec<String> = Vec::new();
    while codes.len() < objects.len() {
        let code: String =
            (0..CODE).filter_map(|_| rng.pick(ALPHABET)).map(|byte| char::from(*byte)).collect();
        // No edit apart: a slip must not be another object's code.
        if codes.iter().all(|other| strsim::osa_distance(other, &code) > 1) {
            codes.push(code);
        }
    }
    let asked = rng.below(objects.len());
    let object = objects.get(asked).copied().unwrap_or(Object::Tree);
    let answer = codes.get(asked).cloned().unwrap_or_default();
    let figures = coloured(&objects, &codes, rng);
    Task::typed(Answer::Text(answer), Question::TypeLettersOver { object }, figures)
}

/// Which of several objects is red? Some of them are in the picture, in other colours.
///
/// No letters: near codes over the objects were picked right by ready-made engines in 19 % where
/// chance is 12.5, for a code that is read somewhere is one of the three or four that are shown.
pub(super) fn choice(profile: &LevelProfile, rng: &mut Stream) -> Task {
    let options = draw(usize::from(profile.options), rng);
    let answer = rng.below(options.len());
    let right = options.get(answer).copied().unwrap_or(Object::Tree);
    let others: Vec<Object> = options.iter().filter(|object| **object != right).copied().collect();
    let mut shown = rng.sample(&others, usize::from(profile.objects).saturating_sub(1));
    let asked = rng.below(shown.len() + 1);
    shown.insert(asked, right);
    let figures = coloured(&shown, &[], rng);
    let colour = figures
        .get(asked)
        .and_then(|figure| figure.colours().first().copied())
        .unwrap_or(Colour::Red);
    let kind = |decoy: &Choice| match decoy {
        Choice::Object(object) if shown.contains(object) => DecoyKind::Shown,
        _ => DecoyKind::Absent,
    };
    let options = options.into_iter().map(Choice::Object).collect();
    let puzzle = Puzzle::picked(Question::WhichObjectIs { colour }, options, answer, kind);
    Task { puzzle, figures }
}

/// Objects of a picture with one letter over each.
const OVER: usize = 4;

/// The letters over three of four objects are typed, or picked among near codes.
pub(super) fn each(mode: AnswerMode, profile: &LevelProfile, rng: &mut Stream) -> Task {
    let objects = draw(OVER, rng);
    let mut asked = [Object::Tree; CODE as usize];
    for (slot, object) in asked.iter_mut().zip(rng.sample(&objects, CODE.into())) {
        *slot = object;
    }
    let question = Question::TypeLettersOverEach { objects: asked };
    let (puzzle, right) = match mode {
        AnswerMode::Typed => {
            let right: String = letters(ALPHABET, asked.len(), rng);
            (Puzzle::typed(Answer::Text(right.clone()), question), right)
        }
        AnswerMode::Choice => {
            let options = choice::texts(CODE, usize::from(profile.options), rng);
            let answer = rng.below(options.len());
            let right = options.get(answer).cloned().unwrap_or_default();
            let kind = |decoy: &Choice| DecoyKind::by_edits(&right, &decoy.value());
            let options = options.into_iter().map(Choice::Text).collect();
            (Puzzle::picked(question, options, answer, kind), right)
        }
    };
    let figures = over(&objects, &asked, &right, letters(ALPHABET, 1, rng).as_str());
    Task { puzzle, figures }
}

/// The same objects and question as in `figures` with other letters: none that the picture shows, for
/// a person who mixes up objects is not taken for a program.
pub(crate) fn decoy(figures: &[Figure], asked: [Object; CODE as usize], rng: &mut Stream) -> Task {
    let shown: Vec<(u8, Object)> = figures
        .iter()
        .filter_map(|figure| match figure {
            Figure::Over { character, object } => Some((*character, *object)),
            _ => None,
        })
        .collect();
    let others: Vec<u8> = ALPHABET
        .iter()
        .copied()
        .filter(|letter| shown.iter().all(|(character, _)| character != letter))
        .collect();
    let objects: Vec<Object> = shown.iter().map(|(_, object)| *object).collect();
    let answer = letters(&others, asked.len(), rng);
    let figures = over(&objects, &asked, &answer, letters(&others, 1, rng).as_str());
    Task::typed(Answer::Text(answer), Question::TypeLettersOverEach { objects: asked }, figures)
}

/// `count` of the letters `from`.
fn letters(from: &[u8], count: usize, rng: &mut Stream) -> String {
    (0..count).filter_map(|_| rng.pick(from)).map(|byte| char::from(*byte)).collect()
}

/// `objects` with the letters of `code` before those that are asked, and `rest` before the others.
fn over(objects: &[Object], asked: &[Object], code: &str, rest: &str) -> Vec<Figure> {
    let rest = rest.bytes().next().unwrap_or(b'A');
    let letter = |object: &Object| {
        let place = asked.iter().position(|asked| asked == object)?;
        code.as_bytes().get(place).copied()
    };
    objects
        .iter()
        .map(|object| Figure::Over { character: letter(object).unwrap_or(rest), object: *object })
        .collect()
}

/// `count` objects of different families, in random order.
fn draw(count: usize, rng: &mut Stream) -> Vec<Object> {
    let mut drawn: Vec<Object> = Vec::new();
    for object in rng.sample(&Object::ALL, Object::ALL.len()) {
        if drawn.len() == count {
            break;
        }
        if drawn.iter().all(|other| other.family() != object.family()) {
            drawn.push(object);
        }
    }
    drawn
}

/// The objects in different colours, with their codes. White is the colour of codes.
fn coloured(objects: &[Object], codes: &[String], rng: &mut Stream) -> Vec<Figure> {
    let paints: Vec<Colour> =
        Colour::PAINTS.into_iter().filter(|colour| *colour != Colour::White).collect();
    let colours = rng.sample(&paints, objects.len());
    let codes = codes.iter().cloned().chain(std::iter::repeat(String::new()));
    objects
        .iter()
        .zip(colours)
        .zip(codes)
        .map(|((object, colour), code)| Figure::Object { object: *object, colour, code })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::spec::Level;

    #[test]
    fn objects_are_not_alike_and_codes_are_not_near() {
        let mut rng = Stream::fixed(31);
        for level in Level::ALL {
            let profile = LevelProfile::of(level);
            for _ in 0..300 {
                let task = typed(profile, &mut rng);
                assert_eq!(task.figures.len(), usize::from(profile.objects));
                let Question::TypeLettersOver { object: asked } = task.puzzle.question else {
                    panic!("another question");
                };
                let mut colours = HashSet::new();
                for figure in &task.figures {
                    let Figure::Object { object, colour, code } = figure else {
                        panic!("another figure");
                    };
                    assert!(colours.insert(*colour));
                    assert_eq!(*object == asked, task.puzzle.answer.reveal() == *code);
                }
            }
        }
    }

    #[test]
    fn what_is_picked_in_ink_has_no_letters_that_an_engine_could_read() {
        let mut rng = Stream::fixed(33);
        for (level, _) in Level::ALL.into_iter().flat_map(|level| (0..200).map(move |n| (level, n)))
        {
            let task = choice(LevelProfile::of(level), &mut rng);
            assert!(matches!(task.puzzle.question, Question::WhichObjectIs { .. }));
            let is_bare =
                |figure: &Figure| matches!(figure, Figure::Object { code, .. } if code.is_empty());
            assert!(task.figures.iter().all(is_bare));
        }
    }

    #[test]
    fn letters_over_each_object_are_asked_in_an_order_of_their_own() {
        let mut rng = Stream::fixed(34);
        let profile = LevelProfile::of(Level::MAX);
        let mut in_order = 0;
        for mode in AnswerMode::ALL.into_iter().cycle().take(2400) {
            let task = each(mode, profile, &mut rng);
            let Question::TypeLettersOverEach { objects } = task.puzzle.question else {
                panic!("another question");
            };
            let read = |figures: &[Figure]| -> String {
                let over = |asked: &Object| {
                    figures.iter().find_map(|figure| match figure {
                        Figure::Over { character, object } if object == asked => {
                            Some(char::from(*character))
                        }
                        _ => None,
                    })
                };
                objects.iter().map(|asked| over(asked).unwrap()).collect()
            };
            assert_eq!(task.figures.len(), OVER);
            assert_eq!(read(&task.figures), task.puzzle.answer.reveal());
            let decoy = decoy(&task.figures, objects, &mut rng);
            assert_eq!(decoy.puzzle.question, task.puzzle.question);
            assert_eq!(read(&decoy.figures), decoy.puzzle.answer.reveal());
            let shown = |figures: &[Figure]| -> (Vec<Object>, HashSet<u8>) {
                figures
                    .iter()
                    .map(|figure| match figure {
                        Figure::Over { character, object } => (*object, *character),
                        _ => panic!("another figure"),
                    })
                    .unzip()
            };
            let (real, other) = (shown(&task.figures), shown(&decoy.figures));
            assert_eq!(real.0, other.0, "the same objects");
            assert!(real.1.is_disjoint(&other.1), "other letters");
            in_order += u32::from(objects == real.0[..3]);
        }
        assert!((60..140).contains(&in_order), "once in 24: {in_order}");
    }

    #[test]
    fn the_families_leave_enough_for_every_list_of_choices() {
        let mut rng = Stream::fixed(32);
        for _ in 0..500 {
            assert_eq!(draw(12, &mut rng).len(), 12);
        }
    }

    #[test]
    fn the_picked_object_is_the_one_of_the_colour() {
        let mut rng = Stream::fixed(33);
        let profile = LevelProfile::of(Level::MAX);
        for _ in 0..300 {
            let task = choice(profile, &mut rng);
            let right = task.puzzle.answer.reveal();
            let found =
                task.figures.iter().find_map(|figure| match (figure, task.puzzle.question) {
                    (
                        Figure::Object { object, colour, .. },
                        Question::WhichObjectIs { colour: c },
                    ) => (*colour == c).then(|| object.as_str().to_owned()),
                    (
                        Figure::Object { object, code, .. },
                        Question::TypeLettersOver { object: o },
                    ) => (*object == o).then(|| code.clone()),
                    _ => None,
                });
            assert_eq!(found, Some(right));
        }
    }
}

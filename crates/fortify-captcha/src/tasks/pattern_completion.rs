//! A row of tiles with one missing: which shape, colour or direction belongs there, or how many?
//!
//! One rule per row. Two rows, aspects that change without meaning anything, and loose tiles make high
//! levels hard; never three rules at once, which slow down people and cost models nothing.

use super::Task;
use crate::answer::Answer;
use crate::choice::{Choice, DecoyKind};
use crate::figure::{Figure, Mark, Tile};
use crate::level::LevelProfile;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;
use crate::spec::{AnswerMode, Carrier};
use crate::term::{Aspect, Colour, Direction, Shape, Term};

/// Smallest and largest number that is asked for: nine marks still fit on a tile.
const COUNTS: std::ops::RangeInclusive<u8> = 2..=9;
/// Colours of a picture, as many as its palette has room for.
const PAINTS: usize = 4;

/// Shapes that can be told apart when edges are blurred: a disc is too near to a square.
const COARSE: [Shape; 7] = [
    Shape::Square,
    Shape::Triangle,
    Shape::Star,
    Shape::Diamond,
    Shape::Cross,
    Shape::Heart,
    Shape::Moon,
];

/// The aspects that tiles can show in a carrier.
#[derive(Clone, Copy, Debug)]
struct Sight {
    aspects: &'static [Aspect],
    shapes: &'static [Shape],
    /// Whether marks have colours, and so may stand loose as well: without a frame and a colour
    /// nobody finds them.
    coloured: bool,
    /// Most tiles of a row.
    longest: usize,
    /// Size of the smallest mark beside the largest that fits, percent.
    smallest: u8,
}

impl Sight {
    const fn of(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Ink => Self {
                aspects: &Aspect::ALL,
                shapes: &Shape::ALL,
                coloured: true,
                longest: 7,
                smallest: 75,
            },
            // Neither colours nor marks so small that nine fit on a tile.
            Carrier::Swirl => Self {
                aspects: &[Aspect::Shape, Aspect::Direction],
                shapes: &Shape::ALL,
                coloured: false,
                longest: 6,
                smallest: 85,
            },
            Carrier::Motion => Self { shapes: &COARSE, ..Self::of(Carrier::Swirl) },
        }
    }

    /// Every term of an aspect that an answer can be.
    fn terms(self, aspect: Aspect) -> Vec<Term> {
        match aspect {
            Aspect::Shape => self.shapes.iter().copied().map(Term::Shape).collect(),
            Aspect::Colour => Colour::PAINTS.map(Term::Colour).to_vec(),
            Aspect::Direction => Direction::ALL.map(Term::Direction).to_vec(),
            Aspect::Count => COUNTS.map(Term::Count).collect(),
        }
    }
}

pub(super) fn compose(
    carrier: Carrier,
    mode: AnswerMode,
    profile: &LevelProfile,
    rng: &mut Stream,
) -> Task {
    let sight = Sight::of(carrier);
    let aspects = rng.sample(sight.aspects, usize::from(profile.lines));
    let pools = pools(sight, mode, &aspects, profile, rng);
    let right: Vec<Term> = pools.iter().filter_map(|pool| rng.pick(pool).copied()).collect();
    let rows: Vec<Row> = right
        .iter()
        .zip(&pools)
        .map(|(term, pool)| row(*term, pool, sight, profile, rng))
        .collect();
    let figures = figures(&rows, sight, profile, rng);
    let question = match aspects.as_slice() {
        [upper, lower, ..] => Question::NextTwo { upper: *upper, lower: *lower },
        [aspect] => Question::next(*aspect),
        [] => Question::NextShape,
    };
    let puzzle = match mode {
        AnswerMode::Typed => Puzzle::typed(typed(&right), question),
        AnswerMode::Choice => picked(question, &pools, &right, &rows, rng),
    };
    Task { puzzle, figures }
}

/// The terms that each row's answer is drawn from: all of them, or those that are offered as choices.
fn pools(
    sight: Sight,
    mode: AnswerMode,
    aspects: &[Aspect],
    profile: &LevelProfile,
    rng: &mut Stream,
) -> Vec<Vec<Term>> {
    let offered = super::grid(usize::from(profile.options), aspects.len());
    aspects
        .iter()
        .zip(offered)
        .map(|(aspect, offered)| match mode {
            AnswerMode::Typed => sight.terms(*aspect),
            AnswerMode::Choice => rng.sample(&sight.terms(*aspect), *offered),
        })
        .collect()
}

/// The probability that the best blind guess of all rows is right: each is answered by one of as many
/// terms as its aspect has, whatever the other says.
pub(crate) fn blind(carrier: Carrier, rows: u8) -> f64 {
    let sight = Sight::of(carrier);
    let of_one = |aspect: Aspect| 1.0 / sight.terms(aspect).len() as f64;
    let aspects = sight.aspects.iter().copied();
    let count = sight.aspects.len() as f64;
    if rows < 2 {
        return aspects.map(of_one).sum::<f64>() / count;
    }
    // Any two different aspects, each pair as likely as any other.
    let pairs = aspects.clone().flat_map(|one| {
        aspects.clone().filter(move |other| *other != one).map(move |other| (one, other))
    });
    pairs.map(|(one, other)| of_one(one) * of_one(other)).sum::<f64>() / (count * (count - 1.0))
}

fn typed(right: &[Term]) -> Answer {
    match right {
        [Term::Count(count)] => Answer::Number(u32::from(*count)),
        _ => Answer::Words(right.to_vec()),
    }
}

/// Every combination of the pools, in random order.
fn picked(
    question: Question,
    pools: &[Vec<Term>],
    right: &[Term],
    rows: &[Row],
    rng: &mut Stream,
) -> Puzzle {
    let mut combinations: Vec<Vec<Term>> = vec![Vec::new()];
    for pool in pools {
        combinations = combinations
            .iter()
            .flat_map(|start| {
                pool.iter().map(|term| start.iter().copied().chain([*term]).collect::<Vec<_>>())
            })
            .collect();
    }
    rng.shuffle(&mut combinations);
    let answer = combinations.iter().position(|terms| terms == right).unwrap_or_default();
    let shown = |terms: &[Term]| {
        rows.iter().zip(terms).all(|(row, term)| row.iter().flatten().any(|tile| tile == term))
    };
    let kind = |decoy: &Choice| match decoy {
        Choice::Terms(terms) if right.len() == 1 && shown(terms) => DecoyKind::Shown,
        _ => super::partly(right, DecoyKind::Absent)(decoy),
    };
    let choices = combinations.iter().cloned().map(Choice::Terms).collect();
    Puzzle::picked(question, choices, answer, kind)
}

/// The term of each tile of a row; `None` is the missing one.
type Row = Vec<Option<Term>>;

/// A row that says `answer` where the tile is missing, the rest taken from `pool`.
fn row(answer: Term, pool: &[Term], sight: Sight, profile: &LevelProfile, rng: &mut Stream) -> Row {
    let steps = rng.chance(0.5);
    match answer {
        Term::Direction(direction) if steps => turning(direction, profile, rng),
        Term::Count(count) if steps => growing(count, profile, rng),
        _ => repeating(answer, pool, sight.longest, profile, rng),
    }
}

/// A short sequence again and again: AB, ABC, AAB, ABB.
fn repeating(
    answer: Term,
    pool: &[Term],
    longest: usize,
    profile: &LevelProfile,
    rng: &mut Stream,
) -> Row {
    let forms: &[&[usize]] = if profile.period < 3 {
        &[&[0, 1]]
    } else {
        &[&[0, 1], &[0, 1, 2], &[0, 0, 1], &[0, 1, 1]]
    };
    let form = rng.pick(forms).copied().unwrap_or(&[0, 1]);
    let inner = rng.chance(profile.inner);
    // Two whole periods stay visible, whichever tile is missing, or nearly.
    let length = (2 * form.len() + if inner { 2 } else { 1 }).min(longest);
    let missing = missing(length, inner, rng);
    let others: Vec<Term> = pool.iter().copied().filter(|term| *term != answer).collect();
    let mut terms = rng.sample(&others, 3);
    let slot_of = |tile: usize| form.get(tile % form.len()).copied().unwrap_or_default();
    terms.insert(slot_of(missing).min(terms.len()), answer);
    (0..length).map(|tile| terms.get(slot_of(tile)).copied().filter(|_| tile != missing)).collect()
}

/// An arrow that turns by the same angle from tile to tile.
fn turning(answer: Direction, profile: &LevelProfile, rng: &mut Stream) -> Row {
    let steps: &[usize] = if profile.period < 3 { &[1, 2, 6, 7] } else { &[1, 2, 3, 5, 6, 7] };
    let step = rng.pick(steps).copied().unwrap_or(1);
    let length = 5 + rng.below(2);
    let missing = missing(length, rng.chance(profile.inner), rng);
    let ways = Direction::ALL.len();
    let at = Direction::ALL.iter().position(|way| *way == answer).unwrap_or_default();
    (0..length)
        .map(|tile| {
            let turned = (at + (tile + ways - missing) * step) % ways;
            Direction::ALL.get(turned).copied().map(Term::Direction).filter(|_| tile != missing)
        })
        .collect()
}

/// A number that grows or shrinks by the same step from tile to tile.
fn growing(answer: u8, profile: &LevelProfile, rng: &mut Stream) -> Row {
    let inner = rng.chance(profile.inner);
    let mut fitting = Vec::new();
    let gaps = |length: usize| if inner { 1..length } else { length - 1..length };
    let all =
        [4_usize, 5].into_iter().flat_map(|length| gaps(length).map(move |gap| (length, gap)));
    for (length, missing) in all {
        for step in [-2_i32, -1, 1, 2] {
            let value = |tile: usize| i32::from(answer) + (tile as i32 - missing as i32) * step;
            let numbers: Vec<Option<u8>> = (0..length)
                .map(|tile| u8::try_from(value(tile)).ok().filter(|n| (1..=9).contains(n)))
                .collect();
            if numbers.iter().all(Option::is_some) {
                fitting.push((numbers, missing));
            }
        }
    }
    let (numbers, missing) = rng.pick(&fitting).cloned().unwrap_or_default();
    (0..)
        .zip(numbers)
        .map(|(tile, number): (usize, _)| number.map(Term::Count).filter(|_| tile != missing))
        .collect()
}

/// The index of the missing tile: the last, or any but the first.
fn missing(length: usize, inner: bool, rng: &mut Stream) -> usize {
    if inner { 1 + rng.below(length - 1) } else { length - 1 }
}

/// The rows with everything on the tiles that is not asked for, and loose tiles.
fn figures(rows: &[Row], sight: Sight, profile: &LevelProfile, rng: &mut Stream) -> Vec<Figure> {
    if !sight.coloured {
        let tiles = |row: &Row| tiles(row, &[], sight, profile, rng);
        return rows.iter().map(tiles).map(Figure::Row).collect();
    }
    let mut paints: Vec<Colour> = Vec::new();
    let asked = rows.iter().flatten().filter_map(|term| match term {
        Some(Term::Colour(colour)) => Some(*colour),
        _ => None,
    });
    for colour in asked.chain(rng.sample(&Colour::PAINTS, Colour::PAINTS.len())) {
        if paints.len() < PAINTS && !paints.contains(&colour) {
            paints.push(colour);
        }
    }
    let mut figures: Vec<Figure> =
        rows.iter().map(|row| Figure::Row(tiles(row, &paints, sight, profile, rng))).collect();
    for _ in 0..profile.herrings {
        let shape = rng.pick(&Shape::ALL).copied().unwrap_or(Shape::Circle);
        let colour = rng.pick(&paints).copied().unwrap_or(Colour::White);
        figures.push(Figure::Loose(Tile { mark: Mark::Shape(shape), colour, size: 100 }));
    }
    figures
}

/// The tiles of a row. Aspects that are not asked for are the same on all tiles, or change at random.
fn tiles(
    row: &Row,
    paints: &[Colour],
    sight: Sight,
    profile: &LevelProfile,
    rng: &mut Stream,
) -> Vec<Option<Tile>> {
    let (vary_colour, vary_shape) =
        (rng.chance(profile.distraction), rng.chance(profile.distraction));
    let paint = |rng: &mut Stream| rng.pick(paints).copied().unwrap_or(Colour::White);
    let any_shape = |rng: &mut Stream| rng.pick(&Shape::ALL).copied().unwrap_or(Shape::Circle);
    let (one_colour, one_shape) = (paint(rng), any_shape(rng));
    row.iter()
        .map(|term| {
            let colour = if vary_colour { paint(rng) } else { one_colour };
            let shape = if vary_shape { any_shape(rng) } else { one_shape };
            let varied = usize::from(101 - sight.smallest);
            let size = if vary_shape { sight.smallest + rng.below(varied) as u8 } else { 100 };
            let (mark, colour) = match (*term)? {
                Term::Shape(shape) => (Mark::Shape(shape), colour),
                Term::Colour(colour) => (Mark::Shape(shape), colour),
                Term::Direction(direction) => (Mark::Arrow(direction), colour),
                Term::Count(count) => (Mark::Several(count, one_shape), colour),
            };
            Some(Tile { mark, colour, size })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Level;

    /// The missing term if the row repeats after `period` tiles; `None` if it does not.
    fn by_period(row: &Row, period: usize) -> Option<Term> {
        let missing = row.iter().position(Option::is_none)?;
        let mut cycle: Vec<Option<Term>> = vec![None; period];
        for (tile, term) in row.iter().enumerate() {
            if let Some(term) = term {
                if cycle[tile % period].is_some_and(|other| other != *term) {
                    return None;
                }
                cycle[tile % period] = Some(*term);
            }
        }
        cycle[missing % period]
    }

    #[test]
    fn a_repeating_row_has_one_answer() {
        let mut rng = Stream::fixed(41);
        for level in Level::ALL {
            let profile = LevelProfile::of(level);
            for number in 0..2000 {
                let sight = Sight::of(Carrier::ALL[number % Carrier::ALL.len()]);
                let pool = sight.terms(Aspect::Shape);
                let answer = *rng.pick(&pool).unwrap();
                let row = repeating(answer, &pool, sight.longest, profile, &mut rng);
                assert!(row.len() <= sight.longest);
                let found: Vec<Term> =
                    (1..=row.len() / 2).filter_map(|period| by_period(&row, period)).collect();
                assert!(!found.is_empty() && found.iter().all(|term| *term == answer), "{row:?}");
            }
        }
    }

    #[test]
    fn a_growing_row_goes_on_by_its_step() {
        let mut rng = Stream::fixed(42);
        for level in Level::ALL {
            for answer in COUNTS {
                for _ in 0..50 {
                    let row = growing(answer, LevelProfile::of(level), &mut rng);
                    let full: Vec<i32> = row
                        .iter()
                        .map(|term| match term {
                            Some(Term::Count(count)) => i32::from(*count),
                            _ => i32::from(answer),
                        })
                        .collect();
                    assert!(full.len() >= 4);
                    let steps: Vec<i32> = full.windows(2).map(|pair| pair[1] - pair[0]).collect();
                    assert!(steps.iter().all(|step| *step == steps[0] && *step != 0), "{row:?}");
                }
            }
        }
    }

    #[test]
    fn an_arrow_turns_by_one_angle_which_is_never_half_a_turn() {
        let mut rng = Stream::fixed(44);
        let way =
            |direction: Direction| Direction::ALL.iter().position(|d| *d == direction).unwrap();
        for level in Level::ALL {
            let profile = LevelProfile::of(level);
            let mut angles = Vec::new();
            for answer in Direction::ALL.into_iter().cycle().take(1000) {
                let row = turning(answer, profile, &mut rng);
                assert_eq!(row.iter().filter(|tile| tile.is_none()).count(), 1);
                assert!(row[0].is_some() && row.len() >= 5);
                let full: Vec<usize> = row
                    .iter()
                    .map(|tile| match tile {
                        Some(Term::Direction(direction)) => way(*direction),
                        Some(other) => panic!("{other:?} in a row of arrows"),
                        None => way(answer),
                    })
                    .collect();
                let steps: Vec<usize> =
                    full.windows(2).map(|pair| (8 + pair[1] - pair[0]) % 8).collect();
                // Half a turn is two arrows by turns, not a rotation.
                assert!(steps.iter().all(|step| *step == steps[0]), "{row:?}");
                assert!(![0, 4].contains(&steps[0]), "{row:?}");
                angles.push(steps[0]);
            }
            angles.sort_unstable();
            angles.dedup();
            let allowed: &[usize] =
                if profile.period < 3 { &[1, 2, 6, 7] } else { &[1, 2, 3, 5, 6, 7] };
            assert_eq!(angles, allowed, "{level:?}");
        }
    }

    #[test]
    fn rows_alternate_in_the_forms_of_their_level() {
        let mut rng = Stream::fixed(45);
        let sight = Sight::of(Carrier::Ink);
        let pool = sight.terms(Aspect::Shape);
        for level in Level::ALL {
            let profile = LevelProfile::of(level);
            let mut forms = std::collections::BTreeSet::new();
            let mut inner = 0;
            for _ in 0..1000 {
                let answer = *rng.pick(&pool).unwrap();
                let row = repeating(answer, &pool, sight.longest, profile, &mut rng);
                // Terms in the order in which they first come, as letters.
                let terms: Vec<Term> = row.iter().map(|tile| tile.unwrap_or(answer)).collect();
                let mut known: Vec<Term> = Vec::new();
                let letters = terms.iter().map(|term| {
                    let at = known.iter().position(|other| other == term).unwrap_or_else(|| {
                        known.push(*term);
                        known.len() - 1
                    });
                    char::from(b'A' + at as u8)
                });
                let letters: String = letters.collect();
                let forms_of = ["AB", "ABC", "AAB", "ABB"];
                let repeats =
                    |form: &&str| form.chars().cycle().zip(letters.chars()).all(|(a, b)| a == b);
                forms.insert(*forms_of.iter().find(|form| repeats(form)).unwrap());
                inner += u32::from(row.last().is_some_and(Option::is_some));
            }
            let expected =
                if profile.period < 3 { vec!["AB"] } else { vec!["AAB", "AB", "ABB", "ABC"] };
            assert_eq!(forms.into_iter().collect::<Vec<_>>(), expected, "{level:?}");
            assert_eq!(inner > 0, profile.inner > 0.0, "{level:?}");
        }
    }

    #[test]
    fn only_ink_shows_colours_numbers_and_loose_tiles() {
        let mut rng = Stream::fixed(46);
        for (level, carrier) in Level::ALL.into_iter().flat_map(|l| Carrier::ALL.map(|c| (l, c))) {
            let profile = LevelProfile::of(level);
            let (mut colours, mut numbers, mut loose) = (0, 0, 0);
            for _ in 0..200 {
                let task = compose(carrier, AnswerMode::Typed, profile, &mut rng);
                let asked = match task.puzzle.question {
                    Question::NextTwo { upper, lower } => vec![upper, lower],
                    other => {
                        vec![Aspect::ALL.into_iter().find(|a| Question::next(*a) == other).unwrap()]
                    }
                };
                colours += u32::from(asked.contains(&Aspect::Colour));
                numbers += u32::from(asked.contains(&Aspect::Count));
                loose += task.figures.iter().filter(|f| matches!(f, Figure::Loose(_))).count();
            }
            let ink = carrier == Carrier::Ink;
            assert_eq!((colours > 0, numbers > 0), (ink, ink), "{carrier} {level:?}");
            let expected = if ink { 200 * usize::from(profile.herrings) } else { 0 };
            assert_eq!(loose, expected, "{carrier} {level:?}");
        }
    }

    #[test]
    fn pictures_keep_to_their_palette_and_answers_to_their_choices() {
        let mut rng = Stream::fixed(43);
        for (level, mode) in Level::ALL.into_iter().flat_map(|l| AnswerMode::ALL.map(|m| (l, m))) {
            let profile = LevelProfile::of(level);
            for number in 0..300 {
                let carrier = Carrier::ALL[number % Carrier::ALL.len()];
                let task = compose(carrier, mode, profile, &mut rng);
                let mut colours: Vec<Colour> =
                    task.figures.iter().flat_map(Figure::colours).collect();
                colours.sort_unstable();
                colours.dedup();
                assert!(colours.len() <= PAINTS);
                if mode == AnswerMode::Choice {
                    assert_eq!(task.puzzle.choices.len(), usize::from(profile.options));
                }
            }
        }
    }
}

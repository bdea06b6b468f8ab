//! Choice mode gives nothing away: guessers who see the list, but not the picture, over thousands of
//! puzzles of every task in every carrier that shows it.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what a test rules out")]

use fortify_captcha::{AnswerMode, Carrier, Choice, Generator, Level, Puzzle, Seed, Spec, Variant};

/// Puzzles of each.
const PUZZLES: u64 = 10_000;
/// How much better than chance a guesser may be by accident, in standard deviations.
const LUCK: f64 = 5.0;

fn seed(number: u64) -> Seed {
    let mut bytes = [0xc4; 32];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Seed::from_bytes(bytes)
}

fn pairs() -> impl Iterator<Item = (Variant, Carrier)> {
    Carrier::ALL.into_iter().flat_map(|carrier| {
        let shown = Variant::ALL
            .into_iter()
            .filter(move |variant| carrier.carries(*variant, AnswerMode::Choice));
        shown.map(move |variant| (variant, carrier))
    })
}

/// Puzzles of one task, carrier and level.
fn puzzles(generator: &Generator, variant: Variant, carrier: Carrier, level: u8) -> Vec<Puzzle> {
    let spec = Spec::new(variant, Level::new(level).unwrap()).with_carrier(carrier);
    let spec = Spec { mode: AnswerMode::Choice, ..spec };
    (0..PUZZLES).map(|number| generator.puzzle(&spec, &seed(number)).unwrap()).collect()
}

/// The index of the choice that is the answer.
fn answer(puzzle: &Puzzle) -> usize {
    puzzle.decoy_kinds.iter().position(Option::is_none).unwrap()
}

/// Pictures of other picks are held to their bytes in `golden.rs`; these are in carriers with tests
/// of their own, so that here the answers are.
#[test]
fn picked_texts_and_sums_are_what_this_version_asks() {
    let generator = Generator::new().unwrap();
    let found = [
        (Variant::DistortedText, Carrier::Swirl, 5),
        (Variant::DistortedText, Carrier::Motion, 8),
        (Variant::Arithmetic, Carrier::Motion, 2),
    ]
    .map(|(variant, carrier, level)| {
        let spec = Spec::new(variant, Level::new(level).unwrap()).with_carrier(carrier);
        let spec = Spec { mode: AnswerMode::Choice, ..spec };
        generator.puzzle(&spec, &seed(1)).unwrap().answer.encode()
    });
    assert_eq!(found, ["c:4:ALXF", "c:0:HYLE", "c:3:18"]);
}

#[test]
fn the_answer_stands_anywhere() {
    let generator = Generator::new().unwrap();
    for (variant, carrier) in pairs() {
        for level in [2, 5, 8] {
            let puzzles = puzzles(&generator, variant, carrier, level);
            let mut counts = vec![0_u32; puzzles[0].choices.len()];
            for puzzle in &puzzles {
                assert_eq!(puzzle.choices.len(), counts.len());
                counts[answer(puzzle)] += 1;
            }
            let expected = PUZZLES as f64 / counts.len() as f64;
            let square: f64 =
                counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
            // Upper bounds of chi-square at p = 0.0001 for 3, 7 and 11 degrees of freedom.
            let bound = match counts.len() {
                4 => 21.1,
                8 => 29.9,
                12 => 37.4,
                other => panic!("{other} choices"),
            };
            let pair = format!("{variant} in {carrier} {level}");
            println!("{pair}: chi-square {square:.1} of {} choices", counts.len());
            assert!(square < bound, "{pair}: chi-square {square:.1}: {counts:?}");
        }
    }
}

/// Everything that a guesser sees: the choices and, worked out once for all guessers, how far each is
/// from each.
struct List {
    values: Vec<String>,
    distances: Vec<Vec<usize>>,
}

impl List {
    fn of(puzzle: &Puzzle) -> Self {
        let values: Vec<String> = puzzle.choices.iter().map(Choice::value).collect();
        let mut distances = vec![vec![0; values.len()]; values.len()];
        for (at, one) in values.iter().enumerate() {
            for (other, value) in values.iter().enumerate().skip(at + 1) {
                let distance = strsim::osa_distance(one, value);
                (distances[at][other], distances[other][at]) = (distance, distance);
            }
        }
        Self { values, distances }
    }

    /// The sum of the edit distances of a choice to all others.
    fn away(&self, at: usize) -> i64 {
        self.distances[at].iter().sum::<usize>() as i64
    }

    fn length(&self, at: usize) -> i64 {
        self.values[at].len() as i64
    }

    fn best(&self, score: impl Fn(usize) -> i64) -> usize {
        (0..self.values.len()).max_by_key(|at| score(*at)).unwrap()
    }

    fn middle<Key: Ord>(&self, key: impl Fn(&str) -> Key) -> usize {
        let mut order: Vec<usize> = (0..self.values.len()).collect();
        order.sort_by_key(|at| key(&self.values[*at]));
        order[order.len() / 2]
    }
}

/// A guesser: the number of the choice that looks right.
type Guesser = fn(&List) -> usize;

const GUESSERS: [(&str, Guesser); 8] = [
    ("the common neighbour", |list| list.best(|at| -list.away(at))),
    ("the outsider", |list| list.best(|at| list.away(at))),
    ("the one with most near ones", |list| {
        list.best(|at| list.distances[at].iter().filter(|far| **far == 1).count() as i64)
    }),
    ("the longest", |list| list.best(|at| list.length(at))),
    ("the shortest", |list| list.best(|at| -list.length(at))),
    ("the first of the alphabet", |list| {
        list.values.iter().enumerate().min_by_key(|(_, value)| *value).unwrap().0
    }),
    ("the middle of the alphabet", |list| list.middle(str::to_owned)),
    ("the middle number", |list| list.middle(|value| value.parse().unwrap_or(0_u32))),
];

#[test]
fn the_list_alone_tells_nothing() {
    let generator = Generator::new().unwrap();
    for (variant, carrier) in pairs() {
        for level in [2, 8] {
            let puzzles = puzzles(&generator, variant, carrier, level);
            let lists: Vec<List> = puzzles.iter().map(List::of).collect();
            for (name, guess) in GUESSERS {
                let seen = lists.iter().zip(&puzzles);
                let right = seen.filter(|(list, puzzle)| guess(list) == answer(puzzle)).count();
                let rate = right as f64 / PUZZLES as f64;
                let chance = 1.0 / puzzles[0].choices.len() as f64;
                let deviation = (chance * (1.0 - chance) / PUZZLES as f64).sqrt();
                let pair = format!("{variant} in {carrier} {level}");
                println!("{pair}: {name} {:.1} % of {:.1}", rate * 1e2, chance * 1e2);
                assert!(rate < chance + LUCK * deviation, "{pair}: {name} is right in {rate}");
            }
        }
    }
}

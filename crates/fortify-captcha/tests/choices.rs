//! Choice mode gives nothing away: guessers who see the list, but not the picture, over thousands of
//! puzzles of every task in every carrier that shows it.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what a test rules out")]

use fortify_captcha::{AnswerMode, Carrier, Choice, Generator, Level, Puzzle, Seed, Spec, Variant};

/// Puzzles of each.
const PUZZLES: u64 = 4_000;
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

/// Which choice is the answer.
fn answer(puzzle: &Puzzle) -> usize {
    puzzle.decoy_kinds.iter().position(Option::is_none).unwrap()
}

/// Pictures of other picks are held to their bytes in `golden.rs`; these are in carriers with tests of their
/// own, so that here the answers are.
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

/// A guesser: the number of the choice that looks right.
type Guesser = fn(&[String]) -> usize;

const GUESSERS: [(&str, Guesser); 8] = [
    ("the common neighbour", |values| best(values, |value| -distances(values, value))),
    ("the outsider", |values| best(values, |value| distances(values, value))),
    ("the one with most near ones", |values| {
        best(values, |value| {
            values.iter().filter(|o| strsim::osa_distance(o, value) == 1).count() as i64
        })
    }),
    ("the longest", |values| best(values, |value| value.len() as i64)),
    ("the shortest", |values| best(values, |value| -(value.len() as i64))),
    ("the first of the alphabet", |values| {
        values.iter().enumerate().min_by_key(|(_, value)| *value).unwrap().0
    }),
    ("the middle of the alphabet", |values| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|index| &values[*index]);
        order[order.len() / 2]
    }),
    ("the middle number", |values| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|index| values[*index].parse().unwrap_or(0_u32));
        order[order.len() / 2]
    }),
];

/// The sum of the edit distances to all others.
fn distances(values: &[String], value: &str) -> i64 {
    values.iter().map(|other| strsim::osa_distance(other, value) as i64).sum()
}

fn best(values: &[String], score: impl Fn(&str) -> i64) -> usize {
    values.iter().enumerate().max_by_key(|(_, value)| score(value)).unwrap().0
}

#[test]
fn the_list_alone_tells_nothing() {
    let generator = Generator::new().unwrap();
    for (variant, carrier) in pairs() {
        for level in [2, 8] {
            let puzzles = puzzles(&generator, variant, carrier, level);
            for (name, guess) in GUESSERS {
                let right = puzzles
                    .iter()
                    .filter(|puzzle| {
                        let values: Vec<String> =
                            puzzle.choices.iter().map(Choice::value).collect();
                        guess(&values) == answer(puzzle)
                    })
                    .count();
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

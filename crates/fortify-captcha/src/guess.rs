//! The probability that a blind guess succeeds.

use crate::alphabet::ALPHABET;
use crate::level::LevelProfile;
use crate::spec::{AnswerMode, Carrier, Spec, Variant};
use crate::tasks::{arithmetic, object_recognition, pattern_completion};
use crate::term::Colour;
use crate::tolerance::Tolerance;

/// The probability that the best blind guess is right, per try.
///
/// The guesser knows the spec, the generator, the question and the tolerance, but has not seen the
/// picture. Computed from the alphabets and distributions that tasks draw from,
/// exactly; for sums by enumeration.
pub fn guess_probability(spec: &Spec, tolerance: Tolerance) -> f64 {
    let profile = LevelProfile::of(spec.level);
    if spec.mode == AnswerMode::Choice {
        // Every choice is as likely as any other.
        return 1.0 / f64::from(profile.options);
    }
    match spec.variant {
        Variant::DistortedText => text(spec.length, tolerance),
        Variant::ObjectRecognition => text(object_recognition::CODE, tolerance),
        Variant::Arithmetic => arithmetic::distribution(profile).into_values().fold(0.0, f64::max),
        Variant::PatternCompletion => pattern_completion::blind(spec.carrier, profile.lines),
        Variant::ColorTextMismatch if spec.carrier != Carrier::Ink => banners(),
        Variant::ColorTextMismatch => colours(profile.tinted),
    }
}

/// All texts are equally likely, so that the best guess is the one that is accepted for most of them:
/// itself, every text with one other character, and every swap of two neighbours.
fn text(length: u8, tolerance: Tolerance) -> f64 {
    let alphabet = ALPHABET.len() as f64;
    let all = alphabet.powi(i32::from(length));
    let forgiven = if tolerance.forgives(usize::from(length)) {
        f64::from(length) * (alphabet - 1.0) + f64::from(length - 1)
    } else {
        0.0
    };
    (1.0 + forgiven) / all
}

/// Half of the questions ask for words, half for colours; none comes twice in one picture.
fn colours(words: u8) -> f64 {
    let of = |known: usize| {
        (0..usize::from(words)).map(|taken| 1.0 / (known - taken) as f64).product::<f64>()
    };
    0.5 * of(Colour::PAINTS.len()) + 0.5 * of(Colour::ALL.len())
}

/// Two different words, of which neither is the colour that the question names for it: 10 times 10,
/// but for the nine words that both could be.
fn banners() -> f64 {
    let words = Colour::ALL.len() as f64;
    1.0 / ((words - 1.0) * (words - 1.0) - (words - 2.0))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::puzzle::{Puzzle, Question};
    use crate::rng::Stream;
    use crate::spec::{Carrier, Level};
    use crate::tasks;

    fn of(variant: Variant, level: u8, mode: AnswerMode, length: u8, tolerance: Tolerance) -> f64 {
        let mut spec = Spec::new(variant, Level::new(level).unwrap());
        (spec.mode, spec.length) = (mode, length);
        guess_probability(&spec, tolerance)
    }

    #[test]
    fn guesses_are_as_likely_as_the_alphabets_say() {
        use AnswerMode::{Choice, Typed};
        use Tolerance::{Exact, OneEdit};
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.01;
        assert!(near(of(Variant::DistortedText, 5, Typed, 6, Exact), 5.233e-9));
        assert!(near(of(Variant::DistortedText, 5, Typed, 6, OneEdit), 144.0 * 5.233e-9));
        // Four characters forgive nothing.
        assert!(near(of(Variant::DistortedText, 5, Typed, 4, OneEdit), 3.014e-6));
        assert!(near(of(Variant::ObjectRecognition, 5, Typed, 6, OneEdit), 7.234e-5));
        assert!(near(of(Variant::PatternCompletion, 2, Typed, 6, Exact), 1.0 / 8.0));
        assert!(near(of(Variant::PatternCompletion, 3, Typed, 6, Exact), 1.0 / 64.0));
        assert!(near(of(Variant::PatternCompletion, 6, Typed, 6, Exact), 1.0 / 64.0));
        let carried = |carrier: Carrier| {
            let spec = Spec::new(Variant::PatternCompletion, Level::new(7).unwrap());
            guess_probability(&spec.with_carrier(carrier), Exact)
        };
        assert!(near(carried(Carrier::Swirl), 1.0 / 64.0));
        assert!(near(carried(Carrier::Motion), 1.0 / 56.0));
        assert!(near(of(Variant::ColorTextMismatch, 8, Typed, 6, Exact), 0.5 / 56.0 + 0.5 / 110.0));
        assert!(near(of(Variant::DistortedText, 2, Choice, 6, Exact), 0.25));
        assert!(near(of(Variant::PatternCompletion, 8, Choice, 6, Exact), 1.0 / 12.0));
        let level = Level::new(8).unwrap();
        let banners = Spec::new(Variant::ColorTextMismatch, level).with_carrier(Carrier::Swirl);
        assert!(near(guess_probability(&banners, Exact), 1.0 / 91.0));
        let sums = Level::ALL.map(|l| of(Variant::Arithmetic, l.get(), Typed, 6, Exact));
        assert!(sums.windows(2).all(|pair| pair[0] >= pair[1] - 0.005), "{sums:?}");
        assert!(sums[0] < 0.05 && sums[9] < 0.023, "{sums:?}");
    }

    /// The tests of the arithmetic task hold sums to their draws; the only formula of texts is the
    /// size of the alphabet.
    #[test]
    fn what_is_drawn_is_as_hard_to_guess_as_the_formulas_say() {
        const DRAWS: u32 = 60_000;
        /// Standard deviations that a count may be off: far more than chance causes in a few thousand
        /// counts.
        const LUCK: f64 = 6.0;
        let mut rng = Stream::fixed(71);
        let asked = [Variant::PatternCompletion, Variant::ColorTextMismatch];
        let pairs = asked.into_iter().flat_map(|v| Carrier::ALL.map(|carrier| (v, carrier)));
        for ((variant, carrier), level) in pairs.flat_map(|pair| [1, 5, 10].map(|l| (pair, l))) {
            let spec = Spec::new(variant, Level::new(level).unwrap()).with_carrier(carrier);
            let mut drawn: HashMap<Question, HashMap<String, u32>> = HashMap::new();
            for _ in 0..DRAWS {
                let Puzzle { question, answer, .. } = tasks::compose(&spec, &mut rng).puzzle;
                *drawn.entry(question).or_default().entry(answer.encode()).or_default() += 1;
            }
            let name = format!("{variant} in {carrier} {level}");
            let mut right = 0.0;
            for (question, answers) in drawn {
                // The commonest answer to a question is no commoner than the others.
                let fair = f64::from(answers.values().sum::<u32>()) / answers.len() as f64;
                assert!(fair > 20.0, "{name}, {question:?}: too few draws to tell");
                for (answer, count) in &answers {
                    let off = (f64::from(*count) - fair) / fair.sqrt();
                    assert!(
                        off.abs() < LUCK,
                        "{name}, {question:?}: {answer} {count} of {fair:.1}"
                    );
                }
                right += fair;
            }
            let found = right / f64::from(DRAWS);
            let expected = guess_probability(&spec, Tolerance::Exact);
            println!("{name}: {found:.5} of {expected:.5}");
            assert!((found / expected - 1.0).abs() < 0.02, "{name}: {found} of {expected}");
        }
    }
}

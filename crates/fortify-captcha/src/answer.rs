//! The answer, and how a submission is checked against it.
//!
//! People type what they see with the keyboard that they have: small letters, spaces between groups,
//! full-width digits, a Cyrillic А for a Latin A. All of that is right. Both sides are folded to one
//! form and compared in constant time; one slip is forgiven where the level allows it.

use std::fmt;
use std::str::FromStr;

use subtle::Choice;
use zeroize::Zeroize;

use crate::choice;
use crate::constant_time::{self, Characters};
use crate::error::AnswerError;
use crate::fold::fold;
use crate::number;
use crate::synonyms;
use crate::term::Term;
use crate::tolerance::Tolerance;

/// The longest submission that is looked at, in bytes; anything longer never matches and costs
/// nothing to refuse.
pub const MAX_SUBMITTED_BYTES: usize = 256;
/// The longest submission that is looked at, in characters.
pub const MAX_SUBMITTED_CHARS: usize = 64;
/// The longest text answer, in characters.
const MAX_ANSWER: usize = 32;
/// The largest number that an answer can be; sums have far smaller results.
const MAX_NUMBER: u32 = 999_999;
/// The most terms of an answer in words.
const MAX_TERMS: usize = 3;

/// The right answer of a puzzle.
///
/// `Debug` hides it, so that no log line holds an answer, and its memory is overwritten when it is
/// dropped. Equality is for tests and stores; [`Answer::matches`] checks
/// submissions.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Letters and digits, upper-case.
    Text(String),
    /// A whole number.
    Number(u32),
    /// One to three shapes, colours, directions or small numbers, typed as words in any of their
    /// synonyms.
    Words(Vec<Term>),
    /// One of the choices; its value or its letter, and nothing near it.
    Choice {
        /// The index of the choice, from 0 for the choice A.
        index: u8,
        /// The value that the form sends for it.
        value: String,
    },
}

impl Answer {
    /// Whether `submitted` is this answer. Takes any bytes that a form may hold and never panics.
    pub fn matches(&self, submitted: &str, tolerance: Tolerance) -> bool {
        if submitted.len() > MAX_SUBMITTED_BYTES || submitted.chars().count() > MAX_SUBMITTED_CHARS
        {
            return false;
        }
        match self {
            Self::Text(text) => text_matches(text, submitted, tolerance),
            Self::Number(number) => {
                // A submission that is not a number is compared as well, as a value that no
                // answer has.
                let given = number::parse(submitted).unwrap_or(u32::MAX);
                constant_time::same(given, *number).into()
            }
            Self::Words(terms) => words_match(terms, submitted, tolerance),
            Self::Choice { index, value } => choice_matches(*index, value, submitted),
        }
    }

    /// The stable form for a store: `t:7K9PXM`, `n:10`, `w:square red` or `c:3:7K9PXM`.
    pub fn encode(&self) -> String {
        match self {
            Self::Text(text) => format!("t:{text}"),
            Self::Number(number) => format!("n:{number}"),
            Self::Words(terms) => format!("w:{}", choice::value(terms)),
            Self::Choice { index, value } => format!("c:{index}:{value}"),
        }
    }

    /// The answer that [`Answer::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`AnswerError`] for anything that `encode` does not write.
    pub fn decode(encoded: &str) -> Result<Self, AnswerError> {
        match encoded.split_once(':') {
            Some(("t", text)) => Self::text(text).ok_or(AnswerError),
            Some(("n", digits)) => {
                let number = u32::from_str(digits).map_err(|_error| AnswerError)?;
                if number > MAX_NUMBER || number.to_string() != digits {
                    return Err(AnswerError);
                }
                Ok(Self::Number(number))
            }
            Some(("w", words)) => {
                let terms: Option<Vec<Term>> = words.split(' ').map(Term::from_value).collect();
                let terms = terms.filter(|terms| terms.len() <= MAX_TERMS);
                terms.map(Self::Words).ok_or(AnswerError)
            }
            Some(("c", choice)) => Self::choice(choice).ok_or(AnswerError),
            _ => Err(AnswerError),
        }
    }

    /// The canonical spelling, for labelled corpora and tests. Never for a page, a log or a metric.
    pub fn reveal(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Words(terms) => choice::value(terms),
            Self::Choice { value, .. } => value.clone(),
        }
    }

    /// A text answer; `None` unless it is 1 to 32 upper-case ASCII letters and digits.
    pub(crate) fn text(text: &str) -> Option<Self> {
        let well_formed = (1..=MAX_ANSWER).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        well_formed.then(|| Self::Text(text.to_owned()))
    }

    /// A choice from its number and its value.
    fn choice(encoded: &str) -> Option<Self> {
        let (digits, value) = encoded.split_once(':')?;
        let index: u8 = digits.parse().ok()?;
        let printable = |byte: u8| byte.is_ascii_alphanumeric() || byte == b' ' || byte == b'-';
        let well_formed = (1..=MAX_ANSWER).contains(&value.len())
            && value.bytes().all(printable)
            && index < 26
            && index.to_string() == digits;
        well_formed.then(|| Self::Choice { index, value: value.to_owned() })
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Answer::Text(..)",
            Self::Number(_) => "Answer::Number(..)",
            Self::Words(_) => "Answer::Words(..)",
            Self::Choice { .. } => "Answer::Choice(..)",
        })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        match self {
            Self::Text(text) => text.zeroize(),
            Self::Number(number) => number.zeroize(),
            Self::Words(terms) => terms.fill(Term::Count(0)),
            Self::Choice { index, value } => {
                index.zeroize();
                value.zeroize();
            }
        }
    }
}

fn text_matches(expected: &str, submitted: &str, tolerance: Tolerance) -> bool {
    let (expected, submitted) = (Characters::new(fold(expected)), Characters::new(fold(submitted)));
    let mut matches = expected.equals(&submitted);
    // The tolerance and the length of the answer are no secrets.
    if tolerance.forgives(expected.len()) {
        matches |= expected.within_one_edit(&submitted);
    }
    matches.into()
}

/// Looking up words takes a time that depends on the submission alone; the terms that they stand for
/// are compared in constant time.
fn words_match(expected: &[Term], submitted: &str, tolerance: Tolerance) -> bool {
    let value =
        |terms: &[Term]| Characters::new(choice::value(&synonyms::canonical(terms)).chars());
    let mut readings = synonyms::readings(submitted, expected.len(), tolerance);
    if readings.is_empty() {
        // What says nothing is compared as well, as terms that no answer has.
        readings.push(Vec::new());
    }
    let expected = value(expected);
    // All of them are compared, also after one that is right.
    let none = Choice::from(0);
    readings.iter().fold(none, |right, given| right | expected.equals(&value(given))).into()
}

/// The value as the form sends it, or the letter that the choice is shown under.
fn choice_matches(index: u8, value: &str, submitted: &str) -> bool {
    let submitted = submitted.trim();
    let by_value = Characters::new(value.chars()).equals(&Characters::new(submitted.chars()));
    let by_letter = Characters::new([choice::letter(index)])
        .equals(&Characters::new(submitted.to_ascii_uppercase().chars()));
    (by_value | by_letter).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alphabet::ALPHABET;
    use crate::term::{Colour, Direction, Shape};

    fn text(text: &str) -> Answer {
        Answer::text(text).unwrap()
    }

    #[test]
    fn case_spaces_and_scripts_do_not_matter() {
        let answer = text("7K9PXM");
        for submitted in [
            "7K9PXM",
            "7k9pxm",
            " 7k9 pxm\t",
            "7-K-9-P-X-M",
            "7.k.9.p.x.m",
            "７Ｋ９ＰＸＭ",
            "７ｋ９ｐｘｍ",
            "7К9РХМ",
            "7к9рхм",
            "7Κ9ΡΧΜ",
            "\u{feff}7K9PXM\u{200b}",
            "٧K٩PXM",
        ] {
            assert!(answer.matches(submitted, Tolerance::Exact), "{submitted}");
        }
        for submitted in ["", "7K9PX", "7K9PXMM", "7K9PXN", "K79PXM", "\u{0}"] {
            assert!(!answer.matches(submitted, Tolerance::Exact), "{submitted}");
        }
    }

    #[test]
    fn look_alikes_outside_the_alphabet_are_what_they_look_like() {
        assert!(text("D7ACEF").matches("o1acef", Tolerance::Exact));
        assert!(text("D7ACEF").matches("01ACEF", Tolerance::Exact));
        assert!(text("34679D").matches("ЗЧбOO".replace("OO", "79o").as_str(), Tolerance::Exact));
        assert!(!text("6ACEFH").matches("BACEFH", Tolerance::Exact));
    }

    #[test]
    fn one_slip_is_forgiven_where_the_level_allows() {
        let answer = text("7K9PXM");
        for submitted in ["7K9PXN", "7K9PX", "7K9PXMM", "K79PXM", "7k9px"] {
            assert!(answer.matches(submitted, Tolerance::OneEdit), "{submitted}");
            assert!(!answer.matches(submitted, Tolerance::Exact), "{submitted}");
        }
        assert!(!answer.matches("7K9PNN", Tolerance::OneEdit));
        assert!(!answer.matches("K7P9XM", Tolerance::OneEdit));
        assert!(!text("7K9P").matches("7K9X", Tolerance::OneEdit), "four characters are exact");
        assert!(!Answer::Number(10_000).matches("10001", Tolerance::OneEdit));
    }

    /// Submissions of one length cost the same number of comparisons, wherever they first differ from
    /// the answer: there is no early exit, and nothing is compared in any other way.
    #[test]
    fn checking_takes_as_many_steps_for_every_submission_of_a_length() {
        const WHOLE: usize = MAX_SUBMITTED_CHARS;
        /// Comparisons of the slip path for six characters.
        const SLIP: usize = 3 * 6;
        type Case = (&'static str, Tolerance, usize, &'static [&'static str]);
        let text: &[&str] =
            &["7K9PXM", "XK9PXM", "7K9PXA", "K79PXM", "7K9PMX", "7KAPAM", "AAAAAA", "MXP9K7"];
        let slips: &[&str] = &["7K9PX", "K9PXM", "7K9XM", "AAAAA"];
        let cases: [Case; 7] = [
            ("t:7K9PXM", Tolerance::Exact, WHOLE, text),
            ("t:7K9PXM", Tolerance::OneEdit, WHOLE + SLIP, text),
            ("t:7K9PXM", Tolerance::OneEdit, WHOLE + SLIP, slips),
            ("n:10", Tolerance::OneEdit, 1, &["10", "11", "20", "ab"]),
            (
                "w:red blue",
                Tolerance::Exact,
                WHOLE,
                &["red blue", "red pink", "tan blue", "xxxxxxxx"],
            ),
            ("c:3:7K9PXM", Tolerance::Exact, 2 * WHOLE, text),
            ("c:3:7K9PXM", Tolerance::OneEdit, 2 * WHOLE, &["D", "C", "7", "M"]),
        ];
        for (encoded, tolerance, expected, submissions) in cases {
            let answer = Answer::decode(encoded).unwrap();
            for submitted in submissions {
                let steps = constant_time::steps::taken(|| {
                    answer.matches(submitted, tolerance);
                });
                assert_eq!(steps, expected, "{encoded}: {submitted}, {tolerance:?}");
            }
        }
    }

    #[test]
    fn numbers_are_accepted_as_digits_and_words() {
        for submitted in ["10", " 10 ", "１０", "ten", "Ten", "TEN ", "+10", "010", "=10", "10."]
        {
            assert!(Answer::Number(10).matches(submitted, Tolerance::Exact), "{submitted}");
        }
        for submitted in ["-10", "1O", "", "10.5", "tenn", "1 1", "100", "ten ten"] {
            assert!(!Answer::Number(10).matches(submitted, Tolerance::Exact), "{submitted}");
        }
    }

    #[test]
    fn long_submissions_never_match() {
        let answer = text("7K9PXM");
        let padded = format!("7K9PXM{}", " ".repeat(59));
        assert_eq!(padded.chars().count(), 65);
        assert!(!answer.matches(&padded, Tolerance::OneEdit));
        assert!(answer.matches(&padded[1..65], Tolerance::OneEdit));
        assert!(!answer.matches(&"7".repeat(1 << 20), Tolerance::OneEdit));
    }

    #[test]
    fn an_answer_is_stored_and_read_back_and_not_shown() {
        for answer in [text("7K9PXM"), text("A"), Answer::Number(0), Answer::Number(144)] {
            let debug = format!("{answer:?}");
            assert!(debug.ends_with("(..)"), "{debug}");
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
        assert_eq!(text("7K9PXM").encode(), "t:7K9PXM");
        assert_eq!(Answer::Number(10).encode(), "n:10");
        for bad in ["", "t:", "t:a", "t:É", "n:", "n:-1", "n:+1", "n:01", "n:9999999", "x:1", "10"]
        {
            assert!(Answer::decode(bad).is_err(), "{bad}");
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        proptest::collection::vec(0..ALPHABET.len(), 4..=8).prop_map(|indices| {
            indices.into_iter().map(|index| char::from(ALPHABET[index])).collect()
        })
    }

    #[test]
    fn words_match_by_any_name_and_in_a_natural_order() {
        let answer = Answer::decode("w:square red").unwrap();
        for submitted in ["square red", "Red square", "sq, rojo", "a red box"] {
            assert!(answer.matches(submitted, Tolerance::Exact), "{submitted}");
        }
        for submitted in ["", "square", "red", "square blue", "square red red", "w:square red"] {
            assert!(!answer.matches(submitted, Tolerance::OneEdit), "{submitted}");
        }
        assert!(!answer.matches("squre red", Tolerance::Exact));
        assert!(answer.matches("squre red", Tolerance::OneEdit));
        let colours = Answer::decode("w:red blue").unwrap();
        assert!(!colours.matches("blue red", Tolerance::OneEdit));
        assert!(
            Answer::decode("w:up-right 5").unwrap().matches("five, north east", Tolerance::Exact)
        );
    }

    #[test]
    fn whatever_terms_are_asked_for_their_own_names_are_right() {
        let all: Vec<Term> = (Shape::ALL.map(Term::Shape).into_iter())
            .chain(Colour::ALL.map(Term::Colour))
            .chain(Direction::ALL.map(Term::Direction))
            .chain((0..=12).map(Term::Count))
            .collect();
        for &one in &all {
            for &other in &all {
                let answer = Answer::Words(vec![one, other]);
                let (shown, apart) =
                    (answer.reveal(), format!("{}, {}", one.value(), other.value()));
                for typed in [shown.replace('-', " "), shown, apart] {
                    for tolerance in [Tolerance::Exact, Tolerance::OneEdit] {
                        assert!(answer.matches(&typed, tolerance), "{typed}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_choice_matches_by_its_value_or_its_letter_alone() {
        let answer = Answer::decode("c:3:7K9PXM").unwrap();
        for submitted in ["7K9PXM", " 7K9PXM\r\n", "D", "d"] {
            assert!(answer.matches(submitted, Tolerance::OneEdit), "{submitted}");
        }
        for submitted in ["7k9pxm", "7K9PXN", "7K9PX", "C", "DD", "3", "", "D\0", "7K9PXM\0"] {
            assert!(!answer.matches(submitted, Tolerance::OneEdit), "{submitted:?}");
        }
    }

    #[test]
    fn words_and_choices_are_read_back_and_nothing_else_is() {
        for encoded in ["w:square", "w:up-left 9 pink", "c:0:tree", "c:11:square red", "c:2:36"] {
            assert_eq!(Answer::decode(encoded).unwrap().encode(), encoded);
        }
        let bad = [
            "w:",
            "w:tree",
            "w:red  blue",
            "w:red red red red",
            "c:1",
            "c:1:",
            "c:01:tree",
            "c:26:tree",
            "c:1:a:b",
            "c:1:\u{e9}",
        ];
        for encoded in bad {
            assert!(Answer::decode(encoded).is_err(), "{encoded}");
        }
        assert_eq!(format!("{:?}", Answer::decode("w:red").unwrap()), "Answer::Words(..)");
        assert_eq!(format!("{:?}", Answer::decode("c:1:red").unwrap()), "Answer::Choice(..)");
    }

    proptest! {
        #[test]
        fn an_answer_matches_itself(expected in any_text(), lower in any::<bool>()) {
            let submitted = if lower { expected.to_lowercase() } else { expected.clone() };
            prop_assert!(text(&expected).matches(&submitted, Tolerance::Exact));
        }

        #[test]
        fn other_texts_do_not_match(expected in any_text(), other in any_text()) {
            prop_assert_eq!(
                text(&expected).matches(&other, Tolerance::Exact),
                expected == other
            );
        }

        #[test]
        fn any_submission_is_checked_without_a_panic(submitted in any::<String>()) {
            prop_assert!(!text("7K9PXM").matches(&submitted, Tolerance::OneEdit));
            text("DDDDDD").matches(&submitted, Tolerance::OneEdit);
            Answer::Number(7).matches(&submitted, Tolerance::OneEdit);
            let matches = |encoded: &str| {
                Answer::decode(encoded).unwrap().matches(&submitted, Tolerance::OneEdit)
            };
            prop_assert!(!matches("w:square red"));
            // Its letter, the fourth, is an answer as well.
            prop_assert!(!matches("c:3:7K9PXM") || submitted.trim().eq_ignore_ascii_case("d"));
        }

        #[test]
        fn any_stored_string_is_read_without_a_panic(encoded in any::<String>()) {
            if let Ok(answer) = Answer::decode(&encoded) {
                prop_assert_eq!(answer.encode(), encoded);
            }
        }
    }
}

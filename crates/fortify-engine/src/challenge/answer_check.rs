//! Checks an answer against the challenge's record. Pure.

use fortify_captcha::{Answer, Level, RENDERER_VERSION, Tolerance};

use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::ChallengeRecord;

/// The verdict on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerVerdict {
    /// The answer is right.
    Right {
        /// The challenge's level.
        level: u8,
    },
    /// The answer is the decoy, which only bots read. The visitor gets the same response as for a wrong answer.
    Bot,
    /// The answer is wrong, or there is no such challenge.
    Wrong,
}

/// The expected answer if there is no challenge, so that an unknown token costs the same work as a wrong answer.
const NOBODYS_ANSWER: &str = "t:AAAAAA";

/// Checks `answer`, given from `circuit`, against the record that was taken for it.
#[must_use]
pub fn check_answer(
    record: Option<&ChallengeRecord>,
    answer: &str,
    circuit: CircuitTag,
) -> AnswerVerdict {
    let expected = record.map_or(NOBODYS_ANSWER, |record| record.answer.expose());
    let level = record.map_or(1, |record| record.level);
    // Everything is computed before anything is branched on.
    let right = matches(expected, level, answer);
    let own = record.is_some_and(|record| record.circuit == circuit);
    let current = record.is_some_and(|record| record.renderer == RENDERER_VERSION);
    let decoy = record.and_then(|record| record.decoy.as_ref());
    let bot = decoy.is_some_and(|decoy| is_decoy(decoy.expose(), answer));
    match right & own & current {
        true => AnswerVerdict::Right { level },
        false if bot => AnswerVerdict::Bot,
        false => AnswerVerdict::Wrong,
    }
}

/// Whether `answer` is exactly the decoy. A person's slip must not be mistaken for it.
fn is_decoy(decoy: &str, answer: &str) -> bool {
    Answer::decode(decoy).is_ok_and(|decoy| decoy.matches(answer, Tolerance::Exact))
}

fn matches(expected: &str, level: u8, answer: &str) -> bool {
    let (Ok(expected), Ok(level)) = (Answer::decode(expected), Level::new(level)) else {
        return false;
    };
    expected.matches(answer, Tolerance::for_level(level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::clock::Timestamp;
    use fortify_store::contract;
    use fortify_store::record::Secret;

    fn record(answer: &str, level: u8) -> ChallengeRecord {
        ChallengeRecord {
            answer: Secret::new(answer.to_owned()),
            level,
            style_period: 0,
            renderer: RENDERER_VERSION,
            ..contract::record(Timestamp::from_secs(0))
        }
    }

    fn right(record: &ChallengeRecord, answer: &str) -> bool {
        check_answer(Some(record), answer, record.circuit)
            == AnswerVerdict::Right { level: record.level }
    }

    #[test]
    fn the_right_answer_is_right_however_it_is_typed() {
        let letters = record("t:ACDEFH", 8);
        for answer in ["ACDEFH", "acdefh", " a c d e f h ", "ａｃｄｅｆｈ"] {
            assert!(right(&letters, answer), "{answer}");
        }
        let sum = record("n:10", 1);
        for answer in ["10", "ten", " Ten ", "１０"] {
            assert!(right(&sum, answer), "{answer}");
        }
    }

    #[test]
    fn one_slip_is_tolerated_up_to_level_5() {
        assert!(right(&record("t:ACDEFH", 5), "ACDEFK"));
        assert!(!right(&record("t:ACDEFH", 6), "ACDEFK"));
        assert!(!right(&record("t:ACDEFH", 5), "ACDEKK"));
        assert!(!right(&record("n:10", 1), "11"));
    }

    #[test]
    fn abuse_13_an_answer_is_worth_nothing_on_another_circuit() {
        let letters = record("t:ACDEFH", 5);
        let stranger = CircuitTag::from_bytes([9; 16]);
        assert_eq!(check_answer(Some(&letters), "ACDEFH", stranger), AnswerVerdict::Wrong);
    }

    #[test]
    fn the_decoy_gives_a_bot_away() {
        let decoy = Some(Secret::new("t:HUNTER".to_owned()));
        let motion = ChallengeRecord { decoy, ..record("t:ACDEFH", 5) };
        assert_eq!(check_answer(Some(&motion), "hunter", motion.circuit), AnswerVerdict::Bot);
        assert_eq!(check_answer(Some(&motion), "HUNTE", motion.circuit), AnswerVerdict::Wrong);
        assert!(right(&motion, "ACDEFH"));
        assert_eq!(
            check_answer(Some(&record("t:ACDEFH", 5)), "HUNTER", motion.circuit),
            AnswerVerdict::Wrong
        );
    }

    #[test]
    fn no_answer_solves_a_missing_challenge() {
        let circuit = CircuitTag::from_bytes([1; 16]);
        for answer in ["AAAAAA", NOBODYS_ANSWER, ""] {
            assert_eq!(check_answer(None, answer, circuit), AnswerVerdict::Wrong);
        }
    }

    #[test]
    fn a_challenge_of_another_renderer_version_cannot_be_solved() {
        let old = ChallengeRecord { renderer: RENDERER_VERSION + 1, ..record("t:ACDEFH", 5) };
        assert!(!right(&old, "ACDEFH"));
    }

    #[test]
    fn an_unreadable_record_cannot_be_solved() {
        for (answer, level) in [("", 5), ("x:1", 5), ("t:", 5), ("t:ACDEFH", 0), ("t:ACDEFH", 99)] {
            assert!(!right(&record(answer, level), ""), "{answer}");
            assert!(!right(&record(answer, level), "ACDEFH"), "{answer}");
        }
    }
}

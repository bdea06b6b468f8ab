//! Letters and digits to be typed.

use super::Task;
use crate::alphabet::ALPHABET;
use crate::answer::Answer;
use crate::choice::{self, Choice, DecoyKind};
use crate::figure::Figure;
use crate::level::LevelProfile;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;

/// `length` characters, each drawn from the whole alphabet: 24^6 is 1.9e8 for six.
pub(super) fn typed(length: u8, rng: &mut Stream) -> Task {
    let text: String = (0..length)
        .filter_map(|_| ALPHABET.get(rng.below(ALPHABET.len())))
        .map(|byte| char::from(*byte))
        .collect();
    Task::typed(
        Answer::Text(text.clone()),
        Question::TypeCharacters { count: length },
        vec![Figure::Characters(text)],
    )
}

/// One of several near texts, each as likely as any other.
pub(super) fn choice(length: u8, profile: &LevelProfile, rng: &mut Stream) -> Task {
    let texts = choice::texts(length, usize::from(profile.options), rng);
    let answer = rng.below(texts.len());
    let shown = texts.get(answer).cloned().unwrap_or_default();
    let puzzle = Puzzle::picked(
        Question::TypeCharacters { count: length },
        texts.into_iter().map(Choice::Text).collect(),
        answer,
        |decoy| DecoyKind::by_edits(&shown, &decoy.value()),
    );
    Task { puzzle, figures: vec![Figure::Characters(shown)] }
}

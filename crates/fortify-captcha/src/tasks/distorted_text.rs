//! Letters and digits to be typed.

use super::{Figure, Task};
use crate::alphabet::ALPHABET;
use crate::answer::Answer;
use crate::puzzle::Question;
use crate::rng::Stream;

/// `length` characters, each drawn from the whole alphabet: 24^6 is 1.9e8 for six.
pub(crate) fn compose(length: u8, rng: &mut Stream) -> Task {
    let text: String = (0..length)
        .filter_map(|_| ALPHABET.get(rng.below(ALPHABET.len())))
        .map(|byte| char::from(*byte))
        .collect();
    Task::new(
        Answer::Text(text.clone()),
        Question::TypeCharacters { count: length },
        vec![Figure::Characters(text)],
    )
}

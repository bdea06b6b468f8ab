//! Tasks: what is asked, which shapes show it, and what the answer is.
//!
//! A task knows nothing of pixels. It hands a carrier a line of [`Figure`]s, and any carrier can
//! make them visible.

mod arithmetic;
mod distorted_text;

use crate::answer::Answer;
use crate::level::LevelProfile;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;
use crate::spec::{Spec, Variant};

/// One thing in the line that a picture shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Characters that stand apart, each with a font, size and turn of its own.
    Characters(String),
    /// The digits of one number, close together.
    Number(String),
    /// A word in one font, read as a whole.
    Word(&'static str),
    /// A sign drawn by hand.
    Scribble(Sign),
}

/// Signs that are drawn as strokes, not taken from a font.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Minus,
    Times,
    Equals,
}

/// A puzzle and what shows it.
pub(crate) struct Task {
    pub(crate) puzzle: Puzzle,
    pub(crate) figures: Vec<Figure>,
}

impl Task {
    fn new(answer: Answer, question: Question, figures: Vec<Figure>) -> Self {
        Self { puzzle: Puzzle { answer, decoy: None, question, choices: Vec::new() }, figures }
    }
}

/// The task that `spec` and the stream give.
pub(crate) fn compose(spec: &Spec, rng: &mut Stream) -> Task {
    let profile = LevelProfile::of(spec.level);
    match spec.variant {
        Variant::DistortedText => distorted_text::compose(spec.length, rng),
        Variant::Arithmetic => arithmetic::compose(profile, rng),
    }
}

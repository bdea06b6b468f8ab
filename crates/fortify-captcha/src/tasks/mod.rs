//! Tasks: each composes a question, its answer and the figures that show it.
//!
//! A task knows nothing of pixels: it hands [`Figure`]s to a carrier.

pub(crate) mod arithmetic;
pub(crate) mod color_text_mismatch;
mod distorted_text;
pub(crate) mod object_recognition;
pub(crate) mod pattern_completion;

use crate::answer::Answer;
use crate::choice::{Choice, DecoyKind};
use crate::figure::Figure;
use crate::level::LevelProfile;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;
use crate::spec::{AnswerMode, Carrier, Spec, Variant};
use crate::term::Term;

/// A puzzle and the figures that show it.
pub(crate) struct Task {
    pub(crate) puzzle: Puzzle,
    pub(crate) figures: Vec<Figure>,
}

impl Task {
    fn typed(answer: Answer, question: Question, figures: Vec<Figure>) -> Self {
        Self { puzzle: Puzzle::typed(answer, question), figures }
    }
}

/// The task that `spec` and the stream give.
pub(crate) fn compose(spec: &Spec, rng: &mut Stream) -> Task {
    let profile = LevelProfile::of(spec.level);
    match (spec.variant, spec.mode) {
        (Variant::DistortedText, AnswerMode::Typed) => distorted_text::typed(spec.length, rng),
        (Variant::DistortedText, AnswerMode::Choice) => {
            distorted_text::choice(spec.length, profile, rng)
        }
        (Variant::Arithmetic, AnswerMode::Typed) => arithmetic::typed(profile, rng),
        (Variant::Arithmetic, AnswerMode::Choice) => arithmetic::choice(profile, rng),
        (Variant::ObjectRecognition, mode) if spec.carrier != Carrier::Ink => {
            object_recognition::each(mode, profile, rng)
        }
        (Variant::ObjectRecognition, AnswerMode::Typed) => object_recognition::typed(profile, rng),
        (Variant::ObjectRecognition, AnswerMode::Choice) => {
            object_recognition::choice(profile, rng)
        }
        (Variant::PatternCompletion, mode) => {
            pattern_completion::compose(spec.carrier, mode, profile, rng)
        }
        (Variant::ColorTextMismatch, _) if spec.carrier != Carrier::Ink => {
            color_text_mismatch::banners(spec, profile, rng)
        }
        // Ink does not show it in choice mode; see `Carrier::carries`.
        (Variant::ColorTextMismatch, _) => color_text_mismatch::compose(profile, rng),
    }
}

/// How many members of each of `parts` parts make `options` combinations: 12 of two parts are 4
/// times 3. As near to equal as whole numbers allow, so that no part is right by guessing.
fn grid(options: usize, parts: usize) -> &'static [usize] {
    match (options, parts) {
        (4, 1) => &[4],
        (8, 1) => &[8],
        (12, 1) => &[12],
        (4, 2) => &[2, 2],
        (8, 2) => &[4, 2],
        _ => &[4, 3],
    }
}

/// How a combination relates to the right one.
fn partly(right: &[Term], otherwise: DecoyKind) -> impl Fn(&Choice) -> DecoyKind + use<> {
    let right = right.to_vec();
    move |decoy| match decoy {
        Choice::Terms(terms) if terms.iter().zip(&right).any(|(one, other)| one == other) => {
            DecoyKind::Partly
        }
        _ => otherwise,
    }
}

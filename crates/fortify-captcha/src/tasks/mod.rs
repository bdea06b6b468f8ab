//! Tasks: what is asked, which shapes show it, and what the answer is.
//!
//! A task knows nothing of pixels. It hands a carrier a line of [`Figure`]s, and any carrier can
//! make them visible.

pub(crate) mod arithmetic;
pub(crate) mod color_text_mismatch;
mod distorted_text;
pub(crate) mod object_recognition;
pub(crate) mod pattern_completion;

use crate::answer::Answer;
use crate::choice::{Choice, DecoyKind};
use crate::level::LevelProfile;
use crate::object::Object;
use crate::puzzle::{Puzzle, Question};
use crate::rng::Stream;
use crate::spec::{AnswerMode, Carrier, Spec, Variant};
use crate::term::{Colour, Direction, Shape, Term};

/// One thing that a picture shows.
///
/// A picture holds figures of one arrangement: characters, numbers, words and scribbles stand in a
/// line; objects are scattered; rows, loose tiles and tinted words are stacked; characters
/// over objects stand in columns and two banners fill the picture.
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
    /// An object somewhere in the picture, with a code over it; the code may be empty.
    Object { object: Object, colour: Colour, code: String },
    /// A row of framed tiles; `None` is the missing one.
    Row(Vec<Option<Tile>>),
    /// A tile outside of the rows and without a frame, which means nothing.
    Loose(Tile),
    /// A word in one colour on a line of its own.
    Tinted { word: &'static str, colour: Colour },
    /// A character over an object, side by side with others of its kind. The object is plain to see in
    /// every carrier.
    Over { character: u8, object: Object },
    /// A word on a band of one colour, over or under another one. The colour is plain to see in every
    /// carrier.
    Banner { word: &'static str, colour: Colour },
}

impl Figure {
    /// The colours that the figure is drawn in, where it says so.
    pub(crate) fn colours(&self) -> Vec<Colour> {
        match self {
            Self::Object { colour, .. }
            | Self::Tinted { colour, .. }
            | Self::Banner { colour, .. } => vec![*colour],
            Self::Loose(tile) => vec![tile.colour],
            Self::Row(tiles) => tiles.iter().flatten().map(|tile| tile.colour).collect(),
            Self::Characters(_)
            | Self::Number(_)
            | Self::Word(_)
            | Self::Scribble(_)
            | Self::Over { .. } => Vec::new(),
        }
    }

    /// The colours of a picture of two bands.
    pub(crate) fn bands(figures: &[Self]) -> Option<[Colour; 2]> {
        match figures {
            [Self::Banner { colour: upper, .. }, Self::Banner { colour: lower, .. }] => {
                Some([*upper, *lower])
            }
            _ => None,
        }
    }
}

/// What one tile of a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) mark: Mark,
    pub(crate) colour: Colour,
    /// Size beside the largest that fits, percent.
    pub(crate) size: u8,
}

/// The figure on a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Shape(Shape),
    Arrow(Direction),
    /// So many of one shape, 1 to 9.
    Several(u8, Shape),
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
        // Ink shows it to nobody who picks; see `Carrier::carries`.
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

/// The kind of a combination beside the right one.
fn partly(right: &[Term], otherwise: DecoyKind) -> impl Fn(&Choice) -> DecoyKind + use<> {
    let right = right.to_vec();
    move |decoy| match decoy {
        Choice::Terms(terms) if terms.iter().zip(&right).any(|(one, other)| one == other) => {
            DecoyKind::Partly
        }
        _ => otherwise,
    }
}

//! What can go wrong, one type per thing that a caller would handle differently.

use thiserror::Error;

use crate::spec::{AnswerMode, Carrier, Spec, Variant};

/// A level outside 1..=10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a level is a number from 1 to 10, not {given}")]
pub struct LevelError {
    pub(crate) given: u8,
}

/// A name that is not one of the known ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown {kind}")]
pub struct NameError {
    pub(crate) kind: &'static str,
}

/// A seed that is not 64 hexadecimal digits. It does not say what was given: that may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a seed is 64 hexadecimal digits")]
pub struct SeedError;

/// A style key that is not 64 hexadecimal digits. It does not say what was given: that may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a style is 64 hexadecimal digits")]
pub struct StyleKeyError;

/// A stored answer that this version cannot read. It does not say what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an encoded answer")]
pub struct AnswerError;

/// A bundled font that cannot be used. Tests draw every one, so a release never returns this.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FontError {
    /// The file is not a font that the parser knows.
    #[error("the bundled font {family} cannot be parsed")]
    Parse {
        /// The font's family.
        family: &'static str,
    },
    /// A character of the alphabet has no outline.
    #[error("the bundled font {family} has no outline for {character:?}")]
    Outline {
        /// The font's family.
        family: &'static str,
        /// The character without an outline.
        character: char,
    },
    /// A bundled pictogram cannot be read.
    #[error("the bundled pictogram of {object} cannot be read")]
    Pictogram {
        /// The object's word.
        object: &'static str,
    },
}

/// A picture that was not drawn.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RenderError {
    /// Width, height or their product is out of bounds.
    #[error(
        "{width} x {height} px cannot be drawn: width {}..={}, height {}..={}, at most {largest} px \
         in all",
        Spec::WIDTHS.start(), Spec::WIDTHS.end(),
        Spec::HEIGHTS.start(), Spec::HEIGHTS.end()
    )]
    Size {
        /// Width asked for, px.
        width: u16,
        /// Height asked for, px.
        height: u16,
        /// Largest area of the variant in the carrier, px.
        largest: u32,
    },
    /// The picture is too small for its carrier to be read.
    #[error(
        "a picture of {variant} in {carrier} has at least {} x {} px",
        .carrier.smallest(*.variant).0, .carrier.smallest(*.variant).1
    )]
    TooSmall {
        /// The variant asked for.
        variant: Variant,
        /// The carrier asked for.
        carrier: Carrier,
    },
    /// The number of characters is out of bounds.
    #[error(
        "a text has {} to {} characters, not {given}",
        Spec::LENGTHS.start(), Spec::LENGTHS.end()
    )]
    Length {
        /// Characters asked for.
        given: u8,
    },
    /// The carrier does not show the variant in this mode; see [`Carrier::carries`].
    #[error(
        "the carrier {carrier} does not show the variant {variant} with the answer mode {mode}; use {}",
        shown_by(*.variant, *.mode)
    )]
    Uncarried {
        /// The variant asked for.
        variant: Variant,
        /// The carrier asked for.
        carrier: Carrier,
        /// The mode asked for.
        mode: AnswerMode,
    },
    /// The PNG encoder refused the canvas.
    #[error("the picture could not be encoded: {reason}")]
    Encode {
        /// The encoder's words.
        reason: String,
    },
}

/// The names of the carriers that show `variant` in `mode`, for whoever asked for another.
fn shown_by(variant: Variant, mode: AnswerMode) -> String {
    let carriers = Carrier::ALL.into_iter().filter(|carrier| carrier.carries(variant, mode));
    carriers.map(Carrier::as_str).collect::<Vec<_>>().join(" or ")
}

//! Errors, one type for each case that a caller handles differently.

use thiserror::Error;

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

//! The number of slips that a submission may have.

use crate::level::LevelProfile;
use crate::spec::Level;

/// The fewest characters of a text that may be answered with a slip. With four, one free character
/// would make blind guessing a hundred times as likely to succeed.
const FORGIVEN_FROM: usize = 5;

/// The number of slips that a submission may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tolerance {
    /// No slip.
    Exact,
    /// One slip: a character wrong, missing or too many, or two neighbours swapped (the optimal string
    /// alignment distance). Applies to texts of at least five characters, never to numbers and
    /// never to choices.
    OneEdit,
}

impl Tolerance {
    /// The tolerance of a level: one slip at levels 1 to 5, none from level 6.
    pub fn for_level(level: Level) -> Self {
        if LevelProfile::of(level).slips > 0 { Self::OneEdit } else { Self::Exact }
    }

    /// Whether a text of `length` characters may be answered with a slip.
    pub(crate) const fn forgives(self, length: usize) -> bool {
        matches!(self, Self::OneEdit) && length >= FORGIVEN_FROM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_forgiven_up_to_level_five() {
        let found = Level::ALL.map(Tolerance::for_level);
        assert_eq!(found[..5], [Tolerance::OneEdit; 5]);
        assert_eq!(found[5..], [Tolerance::Exact; 5]);
    }
}

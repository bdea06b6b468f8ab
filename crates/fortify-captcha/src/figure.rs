//! Figures: the things that a picture shows, before they have a place or a size.
//!
//! Tasks compose them and layouts place them; neither needs to know the other.

use crate::object::Object;
use crate::term::{Colour, Direction, Shape};

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
    /// A distractor: a tile outside of the rows and without a frame.
    Loose(Tile),
    /// A word in one colour on a line of its own.
    Tinted { word: &'static str, colour: Colour },
    /// A character over an object, side by side with others of its kind. The object looks the same in
    /// every carrier.
    Over { character: u8, object: Object },
    /// A word on a band of one colour, over or under another one. Every carrier shows the colour
    /// plainly.
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

/// The content of one tile of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) mark: Mark,
    pub(crate) colour: Colour,
    /// Size relative to the largest that fits, percent.
    pub(crate) size: u8,
}

/// The figure on a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Shape(Shape),
    Arrow(Direction),
    /// 1 to 9 copies of one shape.
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

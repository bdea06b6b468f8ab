//! The things that a pattern or a colour question is about: shapes, colours, directions, numbers.
//!
//! Only their keys are here: a page translates them, and `synonyms` reads typed words.

macro_rules! terms {
    ($(#[$doc:meta])* $type:ident $prefix:literal $count:literal {
        $($(#[$member_doc:meta])* $member:ident $name:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$member_doc])* $member,)*
        }

        impl $type {
            /// Every member.
            pub const ALL: [Self; $count] = [$(Self::$member,)*];

            /// The canonical English word, which is also what a form sends.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$member => $name,)*
                }
            }

            /// The identifier under which the word is found (a Fluent message id).
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$member => concat!($prefix, $name),)*
                }
            }
        }
    };
}

terms! {
    /// A colour that can be asked for.
    Colour "colour-" 11 {
        /// Red.
        Red "red",
        /// Orange.
        Orange "orange",
        /// Yellow.
        Yellow "yellow",
        /// Green.
        Green "green",
        /// Blue.
        Blue "blue",
        /// Purple, violet.
        Purple "purple",
        /// Pink.
        Pink "pink",
        /// White.
        White "white",
        /// Black; a word only, never drawn with.
        Black "black",
        /// Brown; a word only, never drawn with.
        Brown "brown",
        /// Grey; a word only, never drawn with.
        Grey "grey",
    }
}

impl Colour {
    /// The colours that pictures are drawn with. Any two of them can be told apart by people with
    /// protanopia, deuteranopia and tritanopia; a test of the palette simulates that.
    pub const PAINTS: [Self; 8] = [
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Blue,
        Self::Purple,
        Self::Pink,
        Self::White,
    ];

    /// The colours that bands of texture or of dots are drawn in: mixed with dark, the others have no
    /// name that everybody gives them.
    pub(crate) const BANDS: [Self; 6] =
        [Self::Red, Self::Orange, Self::Yellow, Self::Green, Self::Blue, Self::Purple];
}

terms! {
    /// A shape of a pattern.
    Shape "shape-" 8 {
        /// A disc.
        Circle "circle",
        /// A square on its side.
        Square "square",
        /// A triangle.
        Triangle "triangle",
        /// A star with five points.
        Star "star",
        /// A square on its corner, narrower than high.
        Diamond "diamond",
        /// A cross with arms of equal length, upright.
        Cross "cross",
        /// A heart.
        Heart "heart",
        /// A crescent.
        Moon "moon",
    }
}

terms! {
    /// Where an arrow points, clockwise from the top.
    Direction "direction-" 8 {
        /// To the top.
        Up "up",
        /// To the upper right corner.
        UpRight "up-right",
        /// To the right.
        Right "right",
        /// To the lower right corner.
        DownRight "down-right",
        /// To the bottom.
        Down "down",
        /// To the lower left corner.
        DownLeft "down-left",
        /// To the left.
        Left "left",
        /// To the upper left corner.
        UpLeft "up-left",
    }
}

/// The aspect that a pattern changes from tile to tile and that a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Aspect {
    /// The shape.
    Shape,
    /// The colour.
    Colour,
    /// Where an arrow points.
    Direction,
    /// A number.
    Count,
}

impl Aspect {
    /// Every aspect.
    pub const ALL: [Self; 4] = [Self::Shape, Self::Colour, Self::Direction, Self::Count];

    /// The identifier under which the word is found (a Fluent message id).
    pub const fn key(self) -> &'static str {
        match self {
            Self::Shape => "aspect-shape",
            Self::Colour => "aspect-colour",
            Self::Direction => "aspect-direction",
            Self::Count => "aspect-count",
        }
    }
}

/// One value of one aspect. Answers and choices are made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Term {
    /// A shape.
    Shape(Shape),
    /// A colour.
    Colour(Colour),
    /// A direction.
    Direction(Direction),
    /// A small number.
    Count(u8),
}

impl Term {
    /// The identifier under which the word is found (a Fluent message id); `None` for numbers,
    /// which need no translation.
    pub const fn key(self) -> Option<&'static str> {
        match self {
            Self::Shape(shape) => Some(shape.key()),
            Self::Colour(colour) => Some(colour.key()),
            Self::Direction(direction) => Some(direction.key()),
            Self::Count(_) => None,
        }
    }

    /// The value that a form sends and a store keeps.
    pub fn value(self) -> String {
        match self {
            Self::Shape(shape) => shape.as_str().to_owned(),
            Self::Colour(colour) => colour.as_str().to_owned(),
            Self::Direction(direction) => direction.as_str().to_owned(),
            Self::Count(count) => count.to_string(),
        }
    }

    /// The term that [`Term::value`] wrote.
    pub(crate) fn from_value(value: &str) -> Option<Self> {
        let shape = || Shape::ALL.into_iter().find(|shape| shape.as_str() == value);
        let colour = || Colour::ALL.into_iter().find(|colour| colour.as_str() == value);
        let direction = || Direction::ALL.into_iter().find(|way| way.as_str() == value);
        let count = || value.parse().ok().filter(|count: &u8| count.to_string() == value);
        shape()
            .map(Self::Shape)
            .or_else(|| colour().map(Self::Colour))
            .or_else(|| direction().map(Self::Direction))
            .or_else(|| count().map(Self::Count))
    }

    /// The aspect that the term is a value of.
    pub const fn aspect(self) -> Aspect {
        match self {
            Self::Shape(_) => Aspect::Shape,
            Self::Colour(_) => Aspect::Colour,
            Self::Direction(_) => Aspect::Direction,
            Self::Count(_) => Aspect::Count,
        }
    }
}

//! The level table: one row per level, one column per parameter.
//!
//! Callers set a level, never a single parameter. Each column is monotone, which a test holds, so that
//! a higher level is never easier in any single respect.
//!
//! Readings by the makers with the answers hidden, 20 pictures of 300 x 100 each, which are no user
//! study: levels 1 and 5, letters and sums, 20 of 20 without a guess; level 8, letters, 18; level
//! 10, letters 12, sums 18. From level 6 on some pictures cost a second try. Levels 2, 5 and 8,
//! typed: objects 20, 20, 20; patterns 20, 19 (a slip, the picture was plain), 20; colour words 20,
//! 20, 20. Patterns and some objects of level 8 were read enlarged.
//!
//! Ink in styles, on grounds that change between light and dark, 30 pictures each in six styles:
//! level 3, letters 30; level 5, letters 28 (E for F and N for M: both within the tolerance) and, of
//! 30 more in other styles, 30; sums 30, objects 30, colour words 30, patterns 30 (enlarged). All of
//! it in one table: `lab/RESULTS.md`.
//!
//! The same for four letters in swirl, 480 x 160, 20 pictures each: level 3, 20 of 20; level 5, 19;
//! level 8, 19; level 10, 17, each miss a single letter; level 5 in six styles, 29 of 30. Tried and
//! given up because too few were read: 420 x 140 (level 3: 16), a bend of 0.18 and more (15), 0.6
//! (hardly a letter). Hardening swirl costs people more than programs, so its columns move little.
//!
//! Patterns in swirl, 500 x 180, marks of about 55 px, 20 pictures each, enlarged twice: levels 2, 5
//! and 8, 20 of 20. Objects and colour words in swirl, 40 pictures each, half of them in five styles:
//! level 5, 40 and 40; level 8, 39 (a W for an M) and 40. Some were read enlarged: an E at first
//! sight was an F. Tried and given up: objects as coloured silhouettes behind the letters, whose
//! edges hide the turn of the stripes.
//!
//! Growing numbers, colours and loose tiles of patterns are ink's alone; swirl and motion have room for
//! shapes and directions only, and nothing else is asked for at levels 6 to 10 with the weights below.
//!
//! Motion cannot be read from stills. Its `dot_flips` follow a model of an observer, in the carrier's
//! tests, whose d' is:
//!
//! | level | 3 | 5 | 7 | 9 | 10 |
//! |---|---|---|---|---|---|
//! | letters | 4.2 | 4.1 | 3.5 | 3.0 | 2.8 |
//! | sums | 4.2 | 4.1 | 3.5 | 3.1 | 2.9 |
//! | letters over objects | 4.3 | 4.2 | 3.6 | 3.2 | 3.0 |
//! | marks of patterns | 3.8 | 3.7 | 3.2 | 2.8 | 2.6 |
//! | words on bands | 4.2 | 4.2 | 3.5 | 3.1 | 2.9 |

use crate::spec::{Carrier, Level};

/// How often each carrier is drawn at a level, as weights; carriers that are not listed never are.
///
/// Levels 1 and 2 are friction and take what everybody knows. From level 3 on carriers that
/// ready-made character recognition does not read take over, seven pictures in ten; from level 6 on
/// ink is gone, for programs read it better than people. Callers skip the carriers that do not show
/// the variant in its answer mode ([`Carrier::carries`]) and take any that does where none is left.
pub const fn carrier_weights(level: Level) -> &'static [(Carrier, u32)] {
    match level.get() {
        ..=2 => &[(Carrier::Ink, 100)],
        3..=5 => &[(Carrier::Ink, 30), (Carrier::Swirl, 45), (Carrier::Motion, 25)],
        6..=8 => &[(Carrier::Swirl, 50), (Carrier::Motion, 50)],
        _ => &[(Carrier::Swirl, 30), (Carrier::Motion, 70)],
    }
}

macro_rules! level_table {
    ($($(#[$doc:meta])* $column:ident: $type:ty = $values:expr;)*) => {
        /// One row of the table.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct LevelProfile {
            $($(#[$doc])* pub(crate) $column: $type,)*
        }

        impl LevelProfile {
            const TABLE: [Self; 10] = {
                $(const $column: [$type; 10] = $values;)*
                let mut rows = [Self { $($column: $column[0],)* }; 10];
                let mut row = 1;
                while row < 10 {
                    rows[row] = Self { $($column: $column[row],)* };
                    row += 1;
                }
                rows
            };

            /// The row of `level`.
            pub(crate) fn of(level: Level) -> &'static Self {
                let [first, ..] = &Self::TABLE;
                Self::TABLE.get(usize::from(level.get()) - 1).unwrap_or(first)
            }

        }

        /// Every column by name, for the test of monotony.
        #[cfg(test)]
        pub(crate) fn columns() -> Vec<(&'static str, [f64; 10])> {
            vec![$((stringify!($column), LevelProfile::TABLE.map(|row| f64::from(row.$column))),)*]
        }
    };
}

#[allow(non_upper_case_globals)]
mod table {
    use super::Level;

    // The columns read from level 1 on the left to level 10 on the right. Lengths are in px of a
    // picture 100 px high and grow with the picture.
    level_table! {
        /// Largest turn of a character, degrees either way.
        rotation: f32 = [6.0, 9.0, 12.0, 14.0, 16.0, 19.0, 22.0, 25.0, 28.0, 30.0];
        /// Largest amplitude of each of the two waves, px.
        wave: f32 = [1.0, 1.5, 1.9, 2.3, 2.7, 3.2, 3.7, 4.2, 4.7, 5.2];
        /// Shortest wavelength, px; the longest is twice that.
        wavelength: f32 = [140.0, 130.0, 120.0, 112.0, 104.0, 96.0, 90.0, 84.0, 78.0, 72.0];
        /// How much smaller than the nominal size a character may be, as a share of it.
        shrink: f32 = [0.06, 0.08, 0.10, 0.12, 0.14, 0.17, 0.20, 0.22, 0.24, 0.26];
        /// Smallest distance between the boxes of neighbours, px; below zero boxes overlap.
        gap: f32 = [6.0, 5.5, 5.0, 4.5, 4.0, 2.5, 1.0, -0.5, -2.0, -3.0];
        /// How much of the free height a character may leave its line by.
        jitter: f32 = [0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.9, 0.95, 1.0];
        /// Lowest contrast of every text colour with every shade of the ground (WCAG 2.2 ratio).
        contrast: f32 = [6.5, 6.2, 5.9, 5.6, 5.3, 4.9, 4.5, 4.1, 3.7, 3.3];
        /// How far the shades of the ground are apart, 8-bit steps from the lightest to the darkest.
        grain: u8 = [10, 13, 16, 20, 24, 28, 32, 36, 40, 44];
        /// How often the ground changes between light and dark, and the text with it.
        counterchange: f32 = [0.0, 0.2, 0.8, 0.85, 0.9, 0.95, 0.96, 0.97, 0.98, 1.0];
        /// Strength of the noise marks' colour, from 0 (ground) to 1 (text).
        noise: f32 = [0.25, 0.28, 0.31, 0.34, 0.37, 0.41, 0.45, 0.49, 0.53, 0.57];
        /// Dots of one or two px.
        dots: u16 = [40, 60, 80, 100, 120, 150, 180, 210, 250, 300];
        /// Curves behind the text, in noise colours.
        curves_behind: u8 = [2, 3, 3, 4, 5, 6, 7, 8, 9, 10];
        /// Small shapes behind the text, in noise colours.
        shapes: u8 = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        /// Curves over the text, in text colours.
        curves_over: u8 = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4];
        /// Curves over the text in the colour of the ground: they cut strokes.
        cuts: u8 = [0, 0, 1, 1, 2, 2, 3, 3, 4, 5];
        /// Thickness of the curves over the text, px.
        over_width: f32 = [1.0, 1.0, 1.0, 1.0, 1.0, 1.4, 1.6, 1.8, 2.0, 2.0];
        /// Slips forgiven in a text or a word that is typed, as [`Tolerance`](crate::Tolerance) says:
        /// with one, a blind guess at six characters is right 144 times as often.
        slips: u8 = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
        /// Largest operand of a sum or a difference.
        operand: u16 = [20, 20, 25, 25, 30, 30, 45, 60, 80, 99];
        /// Largest factor of a product.
        factor: u16 = [9, 9, 9, 9, 9, 9, 10, 11, 12, 12];
        /// Fewest digits of both operands together.
        digits: u8 = [2, 2, 2, 2, 3, 3, 3, 3, 3, 3];
        /// How often one operand is a word.
        word: f32 = [0.0, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45];
        /// Choices shown in choice mode. Four are a coin thrown twice: for the calmest times only.
        options: u8 = [4, 4, 8, 8, 8, 12, 12, 12, 12, 12];
        /// Objects in a picture in ink; the other carriers show four.
        objects: u8 = [3, 3, 3, 3, 3, 4, 4, 4, 4, 4];
        /// Largest turn of an object, degrees either way: a house on its head is no house.
        lean: f32 = [6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 22.0, 24.0];
        /// Rows of a pattern; from two on each is a question of its own.
        lines: u8 = [1, 1, 2, 2, 2, 2, 2, 2, 2, 2];
        /// Longest period of a pattern, tiles.
        period: u8 = [2, 2, 2, 3, 3, 3, 3, 3, 3, 3];
        /// How often the missing tile is not the last.
        inner: f32 = [0.0, 0.0, 0.15, 0.30, 0.45, 0.55, 0.60, 0.65, 0.70, 0.75];
        /// How often an aspect that is not asked for changes from tile to tile as well.
        distraction: f32 = [0.0, 0.10, 0.15, 0.20, 0.30, 0.50, 0.60, 0.70, 0.85, 1.0];
        /// Distractors in ink: loose tiles outside of the rows. A picture of 300 x 100 has hardly
        /// ever room for one beside two rows, the 300 x 150 of pages has.
        herrings: u8 = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4];
        /// Words of a colour question in ink, each a question of its own; the other carriers show two.
        tinted: u8 = [1, 1, 2, 2, 2, 2, 2, 2, 3, 3];
        /// Dots of motion that are flipped at each frame, in 64ths. Flipping a share is the same as
        /// redrawing twice that share, so that coherence is 1 - flips / 32: 0.66 at level 5, 0.5 at
        /// 7, 0.38 at 10.
        dot_flips: u8 = [9, 10, 10, 11, 11, 14, 16, 17, 19, 20];
        /// Half turns that the stripes of swirl take over a few heights of the picture.
        swirl_bend: f32 = [0.0, 0.03, 0.05, 0.07, 0.08, 0.09, 0.095, 0.10, 0.11, 0.12];
        /// How far the middle direction of the stripes may be from level or upright, in half turns:
        /// oblique stripes are harder to tell from those at right angles to them.
        swirl_oblique: f32 = [0.02, 0.03, 0.03, 0.035, 0.04, 0.04, 0.045, 0.045, 0.05, 0.05];
        /// White noise in swirl: how far it moves a px at most, in steps of which a stripe's deviation
        /// is 40.
        swirl_noise: u8 = [0, 4, 6, 8, 9, 10, 10, 11, 11, 12];
        /// Shortest wavelength of the stripes that a picture has the choice of, as an index into the
        /// style's.
        swirl_band: u8 = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3];
    }
}

pub(crate) use table::LevelProfile;

#[cfg(test)]
mod tests {
    use super::table::columns;
    use super::*;

    #[test]
    fn carriers_are_weighed_and_ink_ends_at_five() {
        for level in Level::ALL {
            let weights = carrier_weights(level);
            assert_eq!(weights.iter().map(|(_, weight)| weight).sum::<u32>(), 100);
            let ink = weights.iter().find(|(carrier, _)| *carrier == Carrier::Ink);
            let expected = match level.get() {
                ..=2 => Some(100),
                3..=5 => Some(30),
                _ => None,
            };
            assert_eq!(ink.map(|(_, weight)| *weight), expected, "{level:?}");
        }
    }

    #[test]
    fn every_parameter_is_monotone_and_moves() {
        for (column, values) in columns() {
            let rising = values.windows(2).all(|pair| pair[0] <= pair[1]);
            let falling = values.windows(2).all(|pair| pair[0] >= pair[1]);
            assert!(rising != falling, "{column}: {values:?}");
        }
    }
}

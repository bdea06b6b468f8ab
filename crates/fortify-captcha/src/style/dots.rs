//! The drift and the colours of the dots of motion.

use crate::bitmap::Step;
use crate::figure::Figure;
use crate::palette::{DotColours, dots, tinted};
use crate::rng::Stream;

/// How long a frame is shown, ms, from and to. Slower dots stop being motion, faster ones cost bytes.
const FRAME_MS: (i32, i32) = (54, 66);
/// Axes to drift along, either way.
pub(crate) const AXES: [Step; 4] = [
    Step { right: 1, down: 0 },
    Step { right: 1, down: 1 },
    Step { right: 0, down: 1 },
    Step { right: 1, down: -1 },
];
/// Ways to share half a loop out among the axes, in frames: two to four for each that is used.
const RUNS: [[u8; AXES.len()]; 4] = [[4, 4, 2, 0], [4, 3, 3, 0], [3, 3, 2, 2], [4, 2, 2, 2]];
/// Flips that a style may leave out of the level's, in 64ths: never more than the level's, which
/// observers were measured with.
const EASE: usize = 3;

/// How the dots of a style move and look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dots {
    /// How half a loop is shared out among the axes: one of two in each picture.
    pub(crate) runs: [[u8; AXES.len()]; 2],
    /// How many of the level's flips are left out, in 64ths.
    pub(crate) ease: u8,
    /// How long a frame is shown, ms.
    pub(crate) frame_ms: u16,
    /// Hues of the two colours: the first, and how far they reach, turns.
    hue: (f32, f32),
    /// Brightness of the dark and of the light colour.
    dark: f32,
    light: f32,
}

impl Dots {
    /// Draws the parameters of a style.
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        let mut runs = RUNS;
        rng.shuffle(&mut runs);
        let [first, second, ..] = runs;
        Self {
            runs: [first, second],
            ease: rng.below(EASE) as u8,
            frame_ms: rng.integer(FRAME_MS.0, FRAME_MS.1) as u16,
            hue: (rng.unit(), rng.between(0.2, 0.6)),
            dark: rng.between(0.24, 0.34),
            light: rng.between(0.76, 0.86),
        }
    }

    /// A dark and a light colour, near enough to each other to be comfortable: a contrast of about 5.
    /// Of each band where there are two; their colours have names, which no style may blur.
    pub(crate) fn colours(&self, figures: &[Figure], rng: &mut Stream) -> DotColours {
        if let Some([upper, lower]) = Figure::bands(figures) {
            let ([upper_dark, upper_light], [lower_dark, lower_light]) = (dots(upper), dots(lower));
            return DotColours::Two([upper_dark, upper_light, lower_dark, lower_light]);
        }
        let tint = self.hue.0 + self.hue.1 * rng.unit();
        DotColours::One([tinted(tint, self.dark, rng), tinted(tint, self.light, rng)])
    }
}

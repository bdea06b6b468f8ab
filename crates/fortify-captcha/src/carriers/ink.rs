//! Ink: filled outlines on a textured ground.
//!
//! Friction for calm times. What is drawn over the text is never wider than half a stroke, and never
//! of the text's own colour at the levels that people have to read without a second look.

use crate::canvas::Canvas;
use crate::font::Fonts;
use crate::layout::{Bond, Frame, Hand, Layout};
use crate::level::LevelProfile;
use crate::noise::{self, Grain};
use crate::palette::{GROUNDS, NOISES, Palette, TEXTS};
use crate::raster::Rasterizer;
use crate::rng::Stream;
use crate::tasks::Figure;

/// Buffers that a picture is drawn in, kept between pictures.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) canvas: Canvas,
    pub(crate) packed: Vec<u8>,
    layout: Layout,
    rasterizer: Rasterizer,
    columns: Vec<u8>,
}

/// Draws `figures` on the scratch's canvas, which has its size already; returns the colours.
pub(crate) fn draw(
    figures: &[Figure],
    fonts: &Fonts,
    grain: &Grain,
    profile: &LevelProfile,
    rng: &mut Stream,
    scratch: &mut Scratch,
) -> Palette {
    let Scratch { canvas, layout, rasterizer, columns, .. } = scratch;
    let frame = Frame { width: canvas.width() as f32, height: canvas.height() as f32 };
    let scale = frame.scale();
    let palette = Palette::draw(profile, rng);
    grain.paint(canvas, columns, rng);
    for _ in 0..profile.curves_behind {
        let colour = Palette::noise(rng.below(NOISES));
        noise::curve(canvas, rng.between(1.0, 2.0) * scale, colour, frame, rng);
    }
    for _ in 0..profile.shapes {
        noise::shape(canvas, Palette::noise(rng.below(NOISES)), frame, rng);
    }
    layout.compose(figures, fonts, &Hand::ink(profile), frame, rng);
    text(layout, &palette, rasterizer, canvas, rng);
    for _ in 0..profile.curves_over {
        let colour = Palette::ink(rng.below(TEXTS)).full;
        noise::curve(canvas, profile.over_width * scale, colour, frame, rng);
    }
    for _ in 0..profile.cuts {
        noise::curve(canvas, profile.over_width * scale, rng.below(GROUNDS) as u8, frame, rng);
    }
    let [first, second] = [Palette::noise(0), Palette::noise(1)];
    noise::dots(canvas, profile.dots, &[first, second, 0], frame, rng);
    palette
}

/// Fills every shape. Neighbours never have the same colour, so that two characters that come close
/// do not read as one; a word has one colour, because it is one thing.
fn text(
    layout: &Layout,
    palette: &Palette,
    rasterizer: &mut Rasterizer,
    canvas: &mut Canvas,
    rng: &mut Stream,
) {
    let texts = palette.texts();
    let mut colour = rng.below(texts);
    for shape in layout.shapes() {
        if shape.bond() != Bond::Word {
            colour = (colour + 1 + rng.below(texts - 1)) % texts;
        }
        if let Some(bounds) = layout.bounds(shape) {
            rasterizer.fill(canvas, layout.contours(shape), &bounds, Palette::ink(colour));
        }
    }
}

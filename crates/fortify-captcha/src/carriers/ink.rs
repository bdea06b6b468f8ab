//! Ink: filled outlines on a textured ground.
//!
//! Friction for calm times. Marks over the text are never wider than half a stroke, and never have the
//! text's own colour at the levels that people have to read at first sight.

use crate::canvas::{Canvas, InkPair};
use crate::figure::Figure;
use crate::layout::{Frame, GlyphParams, KerningGroup, Layout, Shape, Tint};
use crate::level::LevelProfile;
use crate::noise;
use crate::palette::{ColourScheme, GROUNDS, NOISES, NeutralColour, Palette};
use crate::raster::{Fill, Rasterizer};
use crate::rng::Stream;
use crate::style::Style;
use crate::style::texture::Texture;
use crate::term::Colour;

/// Thickness of the rim of a code's characters, half of it outside, px in a picture 100 px high.
const RIM: f32 = 4.0;
/// Thickness of marks over pictures with named colours, relative to those over a line of text: their
/// figures are half as large.
const FINE: f32 = 0.55;

/// Buffers that a picture is drawn in, kept between pictures.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) canvas: Canvas,
    pub(crate) packed: Vec<u8>,
    layout: Layout,
    rasterizer: Rasterizer,
    waves: Vec<u8>,
}

/// Draws `figures` on the scratch's canvas, which has its size already; returns the colours.
pub(crate) fn draw(
    figures: &[Figure],
    style: &Style,
    profile: &LevelProfile,
    rng: &mut Stream,
    scratch: &mut Scratch,
) -> Palette {
    let Scratch { canvas, layout, rasterizer, waves, .. } = scratch;
    let frame = Frame { width: canvas.width() as f32, height: canvas.height() as f32 };
    let scale = frame.scale();
    let palette = colours(figures, profile, &style.scheme, rng);
    style.ground.paint(palette.is_counterchanged(), canvas, waves, rng);
    let marks = &style.marks;
    for _ in 0..profile.curves_behind {
        let colour = palette.noise(rng.below(NOISES));
        noise::line(canvas, marks, rng.between(1.0, 2.0) * scale, colour, frame, rng);
    }
    for _ in 0..profile.shapes {
        noise::shape(canvas, marks, palette.noise(rng.below(NOISES)), frame, rng);
    }
    layout.compose(figures, &style.fonts, &GlyphParams::ink(profile, style.layout), frame, rng);
    let drawn = style.textures.pick(rng);
    // Two inks on two grounds are more than eyes tell apart at one look: a checked R was read as a K, a
    // split 9 as an 8.
    let texture = if palette.is_counterchanged() { Texture::PLAIN } else { drawn };
    text(layout, &palette, texture, rasterizer, canvas, rng);
    codes(layout, &palette, rasterizer, canvas, scale);
    let over = profile.over_width * scale * if palette.is_named() { FINE } else { 1.0 };
    for _ in 0..profile.curves_over {
        let colour = palette.ink(rng.below(palette.marks())).full;
        noise::line(canvas, marks, over, colour, frame, rng);
    }
    for _ in 0..profile.cuts {
        noise::line(canvas, marks, over, palette.ground(rng.below(GROUNDS)), frame, rng);
    }
    let pairs = [palette.noise(0), palette.noise(1), palette.ground(0)];
    noise::dots(canvas, marks, profile.dots, &pairs, frame, rng);
    palette
}

/// Fills every shape. Neighbours never have the same colour, so that two characters that come close
/// do not read as one; a word has one colour, because it is one thing.
fn text(
    layout: &Layout,
    palette: &Palette,
    texture: Texture,
    rasterizer: &mut Rasterizer,
    canvas: &mut Canvas,
    rng: &mut Stream,
) {
    let texts = palette.texts();
    let mut colour = rng.below(texts);
    for shape in layout.shapes() {
        if shape.tint() == Tint::Any && shape.group() != KerningGroup::Word {
            colour = (colour + 1 + rng.below(texts - 1)) % texts;
        }
        let ink = match shape.tint() {
            Tint::Any => {
                // Both stand out from the ground as the level says.
                let inks = [palette.ink(colour), palette.ink((colour + 1) % texts)];
                let fill = Fill { inks, hatch: texture.hatch };
                fill_with(layout, shape, fill, rasterizer, canvas);
                if texture.rim {
                    rim(layout, shape, 1, inks[1].full, canvas);
                }
                continue;
            }
            Tint::Named(colour) => palette.named_ink(colour),
            Tint::Neutral => palette.neutral(),
            Tint::Code => continue,
        };
        fill_with(layout, shape, Fill::solid(ink), rasterizer, canvas);
    }
}

/// Codes, each character with a dark rim, so that it stands out from the shapes below it.
fn codes(
    layout: &Layout,
    palette: &Palette,
    rasterizer: &mut Rasterizer,
    canvas: &mut Canvas,
    scale: f32,
) {
    let codes = || layout.shapes().iter().filter(|shape| shape.tint() == Tint::Code);
    let thickness = (RIM * scale + 0.5).max(1.0) as i32;
    for shape in codes() {
        rim(layout, shape, thickness, palette.ground(0), canvas);
    }
    for shape in codes() {
        fill_with(layout, shape, Fill::solid(palette.neutral()), rasterizer, canvas);
    }
}

/// Draws along the edges of a shape, half inside and half outside.
fn rim(layout: &Layout, shape: &Shape, thickness: i32, pair: InkPair, canvas: &mut Canvas) {
    for contour in layout.contours(shape) {
        let nexts = contour.iter().cycle().skip(1);
        for (from, to) in contour.iter().zip(nexts) {
            canvas.line(*from, *to, thickness, pair);
        }
    }
}

fn fill_with(
    layout: &Layout,
    shape: &Shape,
    fill: Fill,
    rasterizer: &mut Rasterizer,
    canvas: &mut Canvas,
) {
    if let Some(bounds) = layout.bounds(shape) {
        rasterizer.fill(canvas, layout.contours(shape), &bounds, fill);
    }
}

/// Named colours where a figure has one, any others elsewhere.
fn colours(
    figures: &[Figure],
    profile: &LevelProfile,
    scheme: &ColourScheme,
    rng: &mut Stream,
) -> Palette {
    let mut named: Vec<Colour> = Vec::new();
    for colour in figures.iter().flat_map(Figure::colours) {
        if !named.contains(&colour) {
            named.push(colour);
        }
    }
    match figures.first() {
        _ if named.is_empty() => Palette::draw(profile, scheme, rng),
        Some(Figure::Object { .. }) => {
            Palette::named(&named, NeutralColour::White, profile, scheme, rng)
        }
        _ => Palette::named(&named, NeutralColour::Grey, profile, scheme, rng),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::font::Fonts;
    use crate::seed::StyleKey;
    use crate::spec::Level;
    use crate::style::texture::Textures;

    /// The counts of noise marks per level: curves behind the text, over it and through it, shapes,
    /// dots.
    #[test]
    fn every_level_draws_the_marks_of_its_row() {
        let behind = [2, 3, 3, 4, 5, 6, 7, 8, 9, 10];
        let over = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4];
        let cuts = [0, 0, 1, 1, 2, 2, 3, 3, 4, 5];
        let shapes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let dots = [40, 60, 80, 100, 120, 150, 180, 210, 250, 300];
        let style = Style::new(&StyleKey::PUBLIC, &Fonts::load().unwrap());
        let mut scratch = Scratch::default();
        scratch.canvas.resize(300, 100);
        let pictures = [
            Figure::Characters("ACEFHJ".to_owned()),
            Figure::Tinted { word: "red", colour: Colour::Blue },
        ];
        for (figure, seed) in pictures.into_iter().zip(0..) {
            let mut rng = Stream::fixed(seed);
            for (at, level) in Level::ALL.into_iter().enumerate() {
                let figures = [figure.clone()];
                let drawn = noise::tally::drawn(|| {
                    draw(&figures, &style, LevelProfile::of(level), &mut rng, &mut scratch);
                });
                let lines = behind[at] + over[at] + cuts[at];
                assert_eq!(drawn, [lines, shapes[at], dots[at]], "{level}: lines, shapes, dots");
            }
        }
    }

    #[test]
    fn a_text_has_several_inks_at_every_level() {
        let fonts = Fonts::load().unwrap();
        let plain = Textures([Texture::PLAIN; 2]);
        let styles = [0, 1].map(|key| Style::new(&StyleKey::from_bytes([key; 32]), &fonts));
        let styles = styles.map(|style| Style { textures: plain, ..style });
        let figures = [Figure::Characters("ACEFHJ".to_owned())];
        let mut scratch = Scratch::default();
        scratch.canvas.resize(300, 100);
        let mut rng = Stream::fixed(9);
        for (level, style) in
            Level::ALL.into_iter().flat_map(|l| styles.iter().map(move |s| (l, s)))
        {
            // Lines over the text would have the texts' inks too.
            let profile = LevelProfile { curves_over: 0, ..*LevelProfile::of(level) };
            for _ in 0..15 {
                let palette = draw(&figures, style, &profile, &mut rng, &mut scratch);
                let mut areas = [0_u32; 16];
                for slot in scratch.canvas.rows().flatten() {
                    areas[usize::from(*slot)] += 1;
                }
                let inks = (0..palette.texts()).filter(|index| {
                    let InkPair([first, second]) = palette.ink(*index).full;
                    areas[usize::from(first)].max(areas[usize::from(second)]) > 100
                });
                assert!(inks.count() >= 2, "{level:?}: {areas:?}");
            }
        }
    }
}

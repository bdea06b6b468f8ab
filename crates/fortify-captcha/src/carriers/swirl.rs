//! Swirl: glyphs that only differ from the ground by the direction of its stripes.
//!
//! The picture is striped noise whose direction follows a smooth random field; inside the glyphs the
//! stripes stand at right angles to it. Brightness, contrast and fineness are the same everywhere, so
//! that nothing is left for programs that look for dark and light.
//!
//! Neutral shapes (tile frames with their question marks, and objects under letters, which have a strip
//! of their own) are drawn dark on light. Words stand on bands of two colours. Neither says anything
//! about the glyphs, which stay stripes. Letters in front of coloured silhouettes were tried and given
//! up: the edges of the silhouettes hide the letters.
//!
//! # What it resists
//!
//! Ready-made recognition, but not code written for it. Tesseract 5 with the alphabet given, three
//! page modes, size 1 and 2, read 0 of 25 pictures at each of levels 1, 5 and 10, and 0 of 12 after
//! blurring or sharpening, where it read 11 of 15 in ink at level 2. After a structure tensor (eight
//! lines) it read 8 of 12 at level 3 and 5 of 12 at level 10, and 12 of 12 at both once the tensor's
//! angle was doubled to follow the field. A stronger bend does not change that; it only keeps people
//! from reading. A model that reads letters out of stripes as people do reads these as well: no
//! settings were found that people can read and such a model cannot.

use super::mask::{MaskRenderer, MaskSpec, NeutralMask};
use crate::bitmap::{self, Bitmap, WORD};
use crate::canvas::Canvas;
use crate::figure::Figure;
use crate::layout::GlyphParams;
use crate::level::LevelProfile;
use crate::palette::{self, Palette};
use crate::rng::{Stream, sin_turns};
use crate::style::Style;
use crate::style::filter_bank::{self, ORIENTATIONS, OrientationRows, WIDTH};
use crate::style::stripes::StripeParams;

/// Steps between two orientations of the filter bank.
const BLEND: usize = 128;
/// Steps of a half turn, after which stripes look the same.
const HALF_TURN: usize = ORIENTATIONS * BLEND;
/// Layers from a direction to the one at right angles: half of them, so that flipping one bit adds it.
const RIGHT_ANGLE: u8 = (ORIENTATIONS / 2) as u8;
const _: () = assert!(ORIENTATIONS.is_power_of_two());
/// Px over which glyph and ground blend. Stripes that end abruptly are a faint outline, which
/// sharpening filters find; strokes grow by half of it.
const FADE: usize = 3;
/// Index of the grown glyph within which its direction is the stronger one.
const STRONGER: usize = 2;
/// Strengths of the stronger and of the weaker direction in 64ths, on the outermost px of the fade and
/// further in. Their squares add up to the same, and so does the variance of two patterns that have
/// nothing in common.
const STRENGTHS: [[i32; 2]; FADE] = [[59, 24], [45, 45], [59, 24]];

/// Share of the picture's height that objects under letters take.
const STRIP: f32 = 0.245;
/// Width of the light rim around neutral shapes, px.
const RIM: u8 = 1;
/// Shades of neutral shapes and of the rim around them.
const DARK: u8 = 0;
const LIGHT: u8 = palette::COLOURS as u8 - 1;

/// Buffers that a picture is drawn in, kept between pictures.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    mask: MaskRenderer,
    /// The glyphs, and how they grow.
    grown: [Bitmap; FADE + 1],
    neutral: NeutralMask,
    spare: Bitmap,
    field: Field,
    row: Row,
}

/// How the figures of a picture are drawn: the site's style and the level's profile.
#[derive(Clone, Copy)]
pub(crate) struct StripeSettings<'a> {
    pub(crate) style: &'a Style,
    pub(crate) profile: &'a LevelProfile,
}

/// Draws `figures` on the canvas, which has its size already; returns the colours.
pub(crate) fn draw(
    figures: &[Figure],
    settings: StripeSettings<'_>,
    rng: &mut Stream,
    canvas: &mut Canvas,
    scratch: &mut Scratch,
) -> Palette {
    let Scratch { mask, grown, neutral, spare, field, row } = scratch;
    let bands = Figure::bands(figures);
    let palette =
        bands.map_or_else(|| Palette::shades(&settings.style.scheme, rng), Palette::bands);
    let [glyphs, ..] = grown;
    let spec = mask_spec(canvas, settings, figures);
    mask.render(figures, &settings.style.fonts, &spec, rng, glyphs);
    for index in 1..grown.len() {
        if let [.., last, next] = grown.get_mut(..=index).unwrap_or(&mut []) {
            next.copy(last);
            next.grow(spare);
        }
    }
    field.bend(
        settings.style.stripes,
        (canvas.width(), canvas.height()),
        settings.profile.swirl_bend,
        settings.profile.swirl_oblique,
        rng,
    );
    paint(settings, grown, field, row, rng, canvas);
    if bands.is_some() {
        tint(canvas);
    }
    if mask.has_neutral() {
        mask.render_neutral(&spec, neutral);
        draw_neutral(neutral, canvas);
    }
    palette
}

/// Large upright letters with strokes of three to four wavelengths.
fn mask_spec(
    canvas: &Canvas,
    StripeSettings { style, profile }: StripeSettings<'_>,
    figures: &[Figure],
) -> MaskSpec {
    let over = matches!(figures.first(), Some(Figure::Over { .. }));
    let params = GlyphParams {
        cap: if over { 0.60 } else { 0.74 },
        sturdy: true,
        rotation: profile.rotation * 0.3,
        wave: 1.5,
        wavelength: 120.0,
        shrink: profile.shrink * 0.2,
        gap: 14.0,
        jitter: profile.jitter * 0.7,
        lean: profile.lean,
        strip: if over { STRIP } else { 0.0 },
        layout: style.layout,
    };
    // Words have more and therefore smaller letters.
    let growth = if Figure::bands(figures).is_some() { 1 } else { 0 };
    MaskSpec { width: canvas.width(), height: canvas.height(), params, growth, rim: RIM }
}

/// The direction of the ground's stripes, in steps of [`HALF_TURN`]: the sum of a part that depends on
/// the column, one that depends on the row, and one along a diagonal, so that a px costs two
/// additions.
#[derive(Debug, Default)]
struct Field {
    columns: Vec<u16>,
    rows: Vec<u16>,
    /// By column plus row.
    diagonals: Vec<u16>,
}

impl Field {
    /// A new field for a picture. `bend` is how many half turns the stripes take over a few heights of
    /// it: 0 is straight stripes.
    fn bend(
        &mut self,
        stripes: StripeParams,
        (width, height): (usize, usize),
        bend: f32,
        oblique: f32,
        rng: &mut Stream,
    ) {
        let heights = |px: usize| px as f32 / height.max(1) as f32;
        let steps = |half_turns: f32| (half_turns * HALF_TURN as f32) as i32 as u16;
        let start = if rng.chance(0.5) { 0.5 } else { 0.0 } + oblique * rng.signed();
        let slope = bend * stripes.slope * if rng.chance(0.5) { 1.0 } else { -1.0 };
        let mut wave = |strength: f32, low: f32, high: f32| {
            let frequency = stripes.frequency * rng.between(low, high);
            let phase = rng.unit();
            move |at: f32| bend * strength * sin_turns(at * frequency + phase)
        };
        let (along, across) = (wave(stripes.columns, 0.25, 0.45), wave(stripes.rows, 0.4, 0.7));
        let diagonal = wave(stripes.diagonals, 0.25, 0.45);
        self.columns.clear();
        self.columns.extend((0..width).map(heights).map(|x| steps(start + slope * x + along(x))));
        self.rows.clear();
        self.rows.extend((0..height).map(heights).map(|y| steps(across(y))));
        self.diagonals.clear();
        self.diagonals.extend((0..width + height).map(heights).map(|d| steps(diagonal(d))));
    }
}

/// Sixteen shades of stripes along the field, at right angles to it inside the glyphs.
fn paint(
    settings: StripeSettings<'_>,
    grown: &[Bitmap; FADE + 1],
    field: &Field,
    row: &mut Row,
    rng: &mut Stream,
    canvas: &mut Canvas,
) {
    let (left, top) = (rng.below(WIDTH), rng.below(filter_bank::HEIGHT));
    let filters = &settings.style.filters;
    let band = usize::from(settings.profile.swirl_band) + rng.below(filter_bank::BANDS);
    let width = canvas.width();
    for (y, pixels) in canvas.rows_mut().enumerate() {
        let orientations = &filters.row(band, top + y);
        row.direct(field, y);
        row.turn(&grown[STRONGER], y);
        row.stripe(orientations, left);
        row.fade(grown, y, orientations, left);
        row.finish(filters.grain(width, rng), settings.profile.swirl_noise, pixels);
    }
}

/// Maps sixteen shades to eight of each of two bands: the stripes continue across the border.
fn tint(canvas: &mut Canvas) {
    let middle = canvas.height() / 2;
    for (y, pixels) in canvas.rows_mut().enumerate() {
        let band = if y < middle { 0 } else { palette::SHADES as u8 };
        pixels.iter_mut().for_each(|pixel| *pixel = *pixel / 2 + band);
    }
}

/// Draws neutral shapes over the stripes, dark on light: next to light, stripes of every direction
/// look alike.
fn draw_neutral(neutral: &NeutralMask, canvas: &mut Canvas) {
    for (pixels, (dark, light)) in canvas.rows_mut().zip(neutral.rows()) {
        let words = pixels.chunks_mut(WORD).zip(dark).zip(light);
        for ((pixels, dark), light) in words.filter(|(_, light)| **light != 0) {
            let mut cells = dark.to_be_bytes().into_iter().zip(light.to_be_bytes());
            let (eights, rest) = pixels.as_chunks_mut();
            let covered = eights.iter_mut().zip(cells.clone());
            for (pixels, (dark, light)) in covered.filter(|(_, (_, light))| *light != 0) {
                *pixels = overlay(*pixels, dark, light);
            }
            // At the right border eight px are cut short.
            let mut last = [0; 8];
            last.iter_mut().zip(&*rest).for_each(|(copy, pixel)| *copy = *pixel);
            if let Some((dark, light)) = cells.nth(eights.len()) {
                last = overlay(last, dark, light);
            }
            rest.iter_mut().zip(last).for_each(|(pixel, copy)| *pixel = copy);
        }
    }
}

/// Eight px with the dark and light cells drawn over them.
fn overlay(pixels: [u8; 8], dark: u8, light: u8) -> [u8; 8] {
    let each = |cells: u8, shade: u8| bitmap::scatter(cells) * u64::from(shade);
    let kept = u64::from_le_bytes(pixels) & !each(light, u8::MAX);
    (kept | each(light & !dark, LIGHT) | each(dark, DARK)).to_le_bytes()
}

/// The buffers of one row, one per step: each step is a plain loop over the row, which compilers
/// vectorise.
#[derive(Debug, Default)]
struct Row {
    /// The layer before the direction of the stripes; the glyph's direction where that is the
    /// stronger one.
    layers: Vec<u8>,
    /// How far the direction is from that layer, in steps of [`BLEND`].
    shares: Vec<u8>,
    /// Values of the two layers next to the direction, the one before it and the one after it.
    pair: [Vec<i8>; 2],
    striped: Vec<i16>,
}

impl Row {
    /// The direction of the ground.
    fn direct(&mut self, field: &Field, y: usize) {
        let along = field.rows.get(y).copied().unwrap_or(0);
        self.layers.resize(field.columns.len(), 0);
        self.shares.resize(field.columns.len(), 0);
        let ground = field.columns.iter().zip(field.diagonals.get(y..).unwrap_or(&[]));
        let to = self.layers.iter_mut().zip(&mut self.shares);
        for ((column, diagonal), (layer, share)) in ground.zip(to) {
            let direction = column.wrapping_add(*diagonal).wrapping_add(along);
            *layer = (usize::from(direction) / BLEND % ORIENTATIONS) as u8;
            *share = (usize::from(direction) % BLEND) as u8;
        }
    }

    /// Turns the direction by a right angle in the glyphs, which brings another layer and the same
    /// share.
    fn turn(&mut self, glyphs: &Bitmap, y: usize) {
        let words = glyphs.rows().nth(y).unwrap_or(&[]).iter();
        for (word, layers) in
            words.zip(self.layers.chunks_mut(WORD)).filter(|(word, _)| **word != 0)
        {
            let cells = word.to_be_bytes();
            let turns = |cells| bitmap::scatter(cells) * u64::from(RIGHT_ANGLE);
            let (eights, rest) = layers.as_chunks_mut::<8>();
            for (layers, cells) in eights.iter_mut().zip(cells) {
                *layers = (u64::from_le_bytes(*layers) ^ turns(cells)).to_le_bytes();
            }
            let last = cells.get(eights.len()).map_or(0, |cells| turns(*cells));
            rest.iter_mut().zip(last.to_le_bytes()).for_each(|(layer, turn)| *layer ^= turn);
        }
    }

    /// Stripes in one direction, from column `left` of the filter bank's row on.
    fn stripe(&mut self, orientations: &OrientationRows<'_>, left: usize) {
        let Self { layers, shares, pair: [ones, nexts], striped, .. } = self;
        ones.resize(layers.len(), 0);
        nexts.resize(layers.len(), 0);
        look_up(orientations, left, layers, ones, nexts);
        striped.clear();
        let both = ones.iter().zip(nexts.iter()).zip(shares.iter());
        striped.extend(both.map(|((one, next), share)| blend([*one, *next], *share)));
    }

    /// Adds the other direction where glyph and ground meet.
    fn fade(
        &mut self,
        grown: &[Bitmap; FADE + 1],
        y: usize,
        orientations: &OrientationRows<'_>,
        left: usize,
    ) {
        let [inner, once, twice, outer] =
            grown.each_ref().map(|bits| bits.rows().nth(y).unwrap_or(&[]).iter());
        let words = inner.zip(once).zip(twice).zip(outer);
        for (first, (((inner, once), twice), outer)) in (0..).step_by(WORD).zip(words) {
            let edges = [outer & !twice, twice & !once, once & !inner];
            for (mut edge, strengths) in edges.into_iter().zip(STRENGTHS) {
                while edge != 0 {
                    let place = edge.leading_zeros();
                    edge ^= 1 << (WORD as u32 - 1 - place);
                    self.mix(first + place as usize, strengths, orientations, left);
                }
            }
        }
    }

    /// Adds the other direction to a px.
    fn mix(
        &mut self,
        x: usize,
        [stronger, weaker]: [i32; 2],
        orientations: &OrientationRows<'_>,
        left: usize,
    ) {
        if let Some(striped) = self.striped.get_mut(x)
            && let Some(layer) = self.layers.get(x)
            && let Some(share) = self.shares.get(x)
        {
            let across = usize::from(layer ^ RIGHT_ANGLE);
            let other = i32::from(blend(beside(orientations, across, left + x), *share));
            *striped = ((i32::from(*striped) * stronger + other * weaker + 32) >> 6) as i16;
        }
    }

    fn finish(&mut self, grain: &[i8], strength: u8, pixels: &mut [u8]) {
        let strength = i16::from(strength);
        for ((pixel, striped), grain) in pixels.iter_mut().zip(&self.striped).zip(grain) {
            let mixed = striped + ((i16::from(*grain) * strength) >> 7);
            // A deviation of 3.75 shades: stripes are crisp, and one px in twenty is at the end of
            // the scale.
            *pixel = ((mixed * 3 + 256) >> 5).clamp(0, 15) as u8;
        }
    }
}

/// Looks up the values of `layers` and of the layers after them, from column `left` on; columns wrap
/// around.
fn look_up(
    orientations: &OrientationRows<'_>,
    left: usize,
    layers: &[u8],
    ones: &mut [i8],
    nexts: &mut [i8],
) {
    let (eights, rest) = layers.as_chunks::<8>();
    let (ones, last_ones) = ones.as_chunks_mut::<8>();
    let (nexts, last_nexts) = nexts.as_chunks_mut::<8>();
    let columns = (left..).step_by(8);
    for (((layers, ones), nexts), column) in eights.iter().zip(ones).zip(nexts).zip(columns) {
        let layer = usize::from(layers[0]) % ORIENTATIONS;
        // Mostly all eight are the same.
        if *layers == [layers[0]; 8]
            && let Some(eight_ones) = orientations[layer][column % WIDTH..].first_chunk()
            && let Some(eight_nexts) = orientations[layer + 1][column % WIDTH..].first_chunk()
        {
            (*ones, *nexts) = (*eight_ones, *eight_nexts);
            continue;
        }
        let to = ones.iter_mut().zip(nexts);
        for (((one, next), layer), column) in to.zip(layers).zip(column..) {
            [*one, *next] = beside(orientations, (*layer).into(), column);
        }
    }
    let to = last_ones.iter_mut().zip(last_nexts);
    for (((one, next), layer), column) in to.zip(rest).zip(left + 8 * eights.len()..) {
        [*one, *next] = beside(orientations, (*layer).into(), column);
    }
}

/// The values of `layer` and of the layer after it; layers and columns wrap around.
fn beside(orientations: &OrientationRows<'_>, layer: usize, column: usize) -> [i8; 2] {
    let (layer, column) = (layer % ORIENTATIONS, column % WIDTH);
    [orientations[layer][column], orientations[layer + 1][column]]
}

/// Interpolates between two layers: their difference times the share is at most 255 * 127, which fits
/// 16 bits.
fn blend([one, next]: [i8; 2], share: u8) -> i16 {
    let (one, next) = (i16::from(one), i16::from(next));
    one + (((next - one) * i16::from(share)) >> BLEND.ilog2())
}

#[cfg(test)]
mod tests;

//! Swirl: glyphs that only differ from the ground by the direction of its stripes.
//!
//! The picture is striped noise whose direction follows a smooth random field; inside the glyphs the
//! stripes stand at right angles to it. Brightness, contrast and fineness are the same everywhere, so
//! that nothing is left for programs that look for dark and light.

mod bank;

pub(crate) use bank::Bank;

use super::stencil::{Cut, Stencil};
use crate::bits::{self, Bits, WORD};
use crate::canvas::Canvas;
use crate::font::Fonts;
use crate::layout::Hand;
use crate::level::LevelProfile;
use crate::palette::Palette;
use crate::rng::{Stream, sin_turns};
use crate::tasks::Figure;
use bank::{Fan, ORIENTATIONS};

/// Steps between two orientations of the bank.
const BLEND: usize = 256;
/// Steps of a half turn, after which stripes look the same.
const HALF_TURN: usize = ORIENTATIONS * BLEND;
/// Px over which glyph and ground blend. Stripes that end abruptly are a faint outline, which sharpening
/// filters find; strokes grow by half of it.
const FADE: usize = 3;
/// How far into the fade a px is that is wholly inside.
const INSIDE: usize = FADE + 1;
/// Strengths of glyph and ground, in 64ths, by how far into the fade a px is. Their squares add up to
/// the same, and so does the variance of two patterns that have nothing in common.
const STRENGTHS: [[i32; 2]; FADE + 2] = [[0, 64], [24, 59], [45, 45], [59, 24], [64, 0]];

/// Buffers that a picture is drawn in, kept between pictures.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    stencil: Stencil,
    /// The glyphs, and how they grow.
    grown: [Bits; FADE + 1],
    spare: Bits,
    counts: Vec<u8>,
    field: Field,
}

/// What a picture is made of, besides what it shows.
#[derive(Clone, Copy)]
pub(crate) struct Kit<'a> {
    pub(crate) fonts: &'a Fonts,
    pub(crate) bank: &'a Bank,
    pub(crate) profile: &'a LevelProfile,
}

/// Draws `figures` on the canvas, which has its size already; returns the colours.
pub(crate) fn draw(
    figures: &[Figure],
    kit: Kit<'_>,
    rng: &mut Stream,
    canvas: &mut Canvas,
    scratch: &mut Scratch,
) -> Palette {
    let Scratch { stencil, grown, spare, counts, field } = scratch;
    let palette = Palette::shades(rng);
    let [glyphs, ..] = grown;
    stencil.cut(figures, kit.fonts, &cut(canvas, kit.profile), rng, glyphs);
    for index in 1..grown.len() {
        if let [.., last, next] = grown.get_mut(..=index).unwrap_or(&mut []) {
            next.clone_from(last);
            next.grow(spare);
        }
    }
    field.bend(
        canvas.width(),
        canvas.height(),
        kit.profile.swirl_bend,
        kit.profile.swirl_oblique,
        rng,
    );
    paint(kit, grown, counts, field, rng, canvas);
    palette
}

/// Large upright letters with strokes of three to four wavelengths.
fn cut(canvas: &Canvas, profile: &LevelProfile) -> Cut {
    let hand = Hand {
        cap: 0.74,
        sturdy: true,
        rotation: profile.rotation * 0.3,
        wave: 1.5,
        wavelength: 120.0,
        shrink: profile.shrink * 0.2,
        gap: 14.0,
        jitter: profile.jitter * 0.7,
        lean: 0.0,
    };
    Cut { width: canvas.width(), height: canvas.height(), hand, growth: 0 }
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
    fn bend(&mut self, width: usize, height: usize, bend: f32, oblique: f32, rng: &mut Stream) {
        let heights = |px: usize| px as f32 / height.max(1) as f32;
        let steps = |half_turns: f32| (half_turns * HALF_TURN as f32) as i32 as u16;
        let start = if rng.chance(0.5) { 0.5 } else { 0.0 } + oblique * rng.signed();
        let slope = bend * 0.35 * if rng.chance(0.5) { 1.0 } else { -1.0 };
        let mut wave = |strength: f32, low: f32, high: f32| {
            let (frequency, phase) = (rng.between(low, high), rng.unit());
            move |at: f32| bend * strength * sin_turns(at * frequency + phase)
        };
        let (along, across) = (wave(0.30, 0.25, 0.45), wave(0.20, 0.4, 0.7));
        let diagonal = wave(0.20, 0.25, 0.45);
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
    kit: Kit<'_>,
    grown: &[Bits; FADE + 1],
    counts: &mut Vec<u8>,
    field: &Field,
    rng: &mut Stream,
    canvas: &mut Canvas,
) {
    let (left, top) = (rng.below(bank::WIDTH), rng.below(bank::HEIGHT));
    let band = usize::from(kit.profile.swirl_band);
    let strength = i32::from(kit.profile.swirl_noise);
    let width = canvas.width();
    for (y, (pixels, along)) in canvas.rows_mut().zip(&field.rows).enumerate() {
        count(grown, y, counts);
        let grain = kit.bank.grain(width, rng);
        let diagonals = field.diagonals.get(y..).unwrap_or(&[]);
        let fans = kit.bank.row(band, top + y);
        // The bank's row goes on from its start where it ends.
        let (mut from, mut x) = (left, 0);
        while x < width && from < fans.len() {
            let to = (x + fans.len() - from).min(width);
            let run = Run {
                fans: fans.get(from..).unwrap_or(&[]),
                columns: field.columns.get(x..to).unwrap_or(&[]),
                diagonals: diagonals.get(x..to).unwrap_or(&[]),
                counts: counts.get(x..to).unwrap_or(&[]),
                grain: grain.get(x..to).unwrap_or(&[]),
            };
            run.paint(pixels.get_mut(x..to).unwrap_or(&mut []), *along, strength);
            (from, x) = (0, to);
        }
    }
}

/// A piece of a row: what its px are made of, each list at least as long as the piece.
struct Run<'a> {
    fans: &'a [Fan],
    columns: &'a [u16],
    diagonals: &'a [u16],
    counts: &'a [u8],
    grain: &'a [i8],
}

impl Run<'_> {
    fn paint(&self, pixels: &mut [u8], along: u16, strength: i32) {
        let directions = self.columns.iter().zip(self.diagonals);
        let rest = self.counts.iter().zip(self.grain);
        let each = pixels.iter_mut().zip(self.fans).zip(directions).zip(rest);
        for (((pixel, fan), (column, diagonal)), (count, grain)) in each {
            let ground = usize::from(column.wrapping_add(*diagonal).wrapping_add(along));
            let glyph = ground + HALF_TURN / 2;
            let striped = match usize::from(*count) {
                0 => seen(fan, ground),
                INSIDE => seen(fan, glyph),
                fade => {
                    let [strength, rest] = STRENGTHS.get(fade).copied().unwrap_or_default();
                    (seen(fan, glyph) * strength + seen(fan, ground) * rest + 32) >> 6
                }
            };
            let grain = (i32::from(*grain) * strength) >> 7;
            // A deviation of 3.75 shades: stripes are crisp, and one px in twenty is at the end of
            // the scale.
            *pixel = (((striped + grain) * 3 / 2 + 128) >> 4).clamp(0, 15) as u8;
        }
    }
}

/// How far into the fade each px of row `y` is: 0 outside, [`INSIDE`] inside.
fn count(grown: &[Bits; FADE + 1], y: usize, counts: &mut Vec<u8>) {
    counts.clear();
    for bits in grown {
        let row = bits.rows().nth(y).unwrap_or(&[]);
        counts.resize(row.len() * WORD, 0);
        for (word, counts) in row.iter().zip(counts.chunks_exact_mut(WORD)) {
            bits::count(*word, counts);
        }
    }
}

/// A px of stripes along `direction`, between the two layers next to it.
fn seen(fan: &Fan, direction: usize) -> i32 {
    let layer = direction / BLEND;
    let (share, value) =
        ((direction % BLEND) as i32, |layer: usize| i32::from(fan[layer % ORIENTATIONS]));
    (value(layer) * (BLEND as i32 - share) + value(layer + 1) * share + 128) >> 8
}

#[cfg(test)]
mod tests;

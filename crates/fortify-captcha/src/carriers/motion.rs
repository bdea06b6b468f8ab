//! Motion: glyphs that only exist while dots move.
//!
//! Two fields of random dots, one seen through the glyphs and one everywhere else, drift in exactly
//! opposite directions, as fast, as dense and as short-lived as each other. A frame is noise, and so
//! are the mean, the variance and the difference of frames; only a viewer that follows the dots over
//! time sees the text. Axis and sign change every two to four frames and cancel over the loop, because
//! ready-made optical flow finds a steady drift easily.
//!
//! The file's default image is no frame of the animation: it shows a decoy in plain ink. Browsers
//! play the animation and never show it; programs that flatten an animated PNG to one picture see
//! nothing else.
//!
//! Neutral shapes stand still: tile frames with their question marks, and objects under letters, which
//! have a strip of their own. Words drift on bands of two colours, which take a second bit per dot.
//! The decoy then asks for the same rows, or has the same objects or bands, and other answers.
//!
//! # What it resists
//!
//! Programs that look at frames, at their sum or at their differences; see the tests. Not code written
//! for it: the tests' observer, given all 21 frames instead of 300 ms, shows every letter plainly at
//! level 10. That costs an attacker a page of code, and fetching and decoding all frames.
//!
//! # Flashing
//!
//! Half of the dots change at every frame. WCAG 2.2 success criterion 2.3.1 exempts "a
//! fine, balanced pattern such as white noise" with squares under 0.1 degree: a dot of 3 CSS px is
//! 0.064 degree at the distance that the CSS reference px is defined by, and stays under up to a
//! zoom of 150 %. Moreover, the two colours are far from black and white, and never red. It still is a
//! moving picture that plays for longer than five seconds (2.2.2): a page has to offer a still one
//! beside it.

use super::mask::{MaskRenderer, MaskSpec, NeutralMask};
use crate::bitmap::{Bitmap, Step};
use crate::figure::Figure;
use crate::layout::GlyphParams;
use crate::level::LevelProfile;
use crate::palette::DotColours;
use crate::rng::Stream;
use crate::style::Style;
use crate::style::dots::{AXES, Dots};

/// CSS px that a cell is shown at.
pub(crate) const SCALE: u16 = 3;
/// Moves in the loop; an even number, so that each can be taken back. The first and the last frame
/// are not joined by a move, so that there are 21 frames: 1.26 s, which people see several times.
const MOVES: usize = 20;
/// Share of the picture's height that objects under letters take.
const STRIP: f32 = 0.35;
/// Specks in the decoy, in 64ths of its cells: enough to look like a picture with something to hide.
const DECOY_SPECKS: u8 = 3;

/// Buffers that a picture is drawn in, kept between pictures.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    mask: MaskRenderer,
    glyphs: Bitmap,
    neutral: NeutralMask,
    fields: [Bitmap; 2],
    flipped: Bitmap,
    spare: Bitmap,
    random: Vec<u8>,
    /// The default image and then every frame, as a file has them: rows of whole bytes.
    pub(crate) packed: Vec<u8>,
}

/// Everything that a picture is drawn from.
pub(crate) struct Scene<'a> {
    pub(crate) figures: &'a [Figure],
    pub(crate) decoy: &'a [Figure],
    pub(crate) style: &'a Style,
    pub(crate) profile: &'a LevelProfile,
    /// Size in cells.
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Scene<'_> {
    /// Thick letters, nearly upright: people see moving shapes less sharply than printed ones.
    fn mask_spec(&self, growth: u8) -> MaskSpec {
        let over = matches!(self.figures.first(), Some(Figure::Over { .. }));
        let params = GlyphParams {
            cap: if over { 0.66 * (1.0 - STRIP) } else { 0.66 },
            sturdy: true,
            rotation: self.profile.rotation * 0.4,
            wave: 2.0,
            wavelength: 120.0,
            shrink: self.profile.shrink * 0.3,
            gap: 11.0,
            jitter: self.profile.jitter,
            lean: self.profile.lean,
            strip: if over { STRIP } else { 0.0 },
            layout: self.style.layout,
        };
        MaskSpec { width: self.width, height: self.height, params, growth, rim: 0 }
    }

    /// Cells by which moving shapes grow: strokes of letters need it, marks on tiles would lose their
    /// corners.
    fn growth(&self) -> u8 {
        u8::from(!matches!(self.figures.first(), Some(Figure::Row(_))))
    }
}

/// Draws the default image and all frames into the scratch; returns the colours.
pub(crate) fn draw(
    scene: &Scene<'_>,
    rng: &mut Stream,
    decoy_rng: &mut Stream,
    scratch: &mut Scratch,
) -> DotColours {
    scratch.packed.clear();
    draw_decoy(scene, decoy_rng, scratch);
    let colours = scene.style.dots.colours(scene.figures, rng);
    let Scene { figures, style, .. } = scene;
    let spec = scene.mask_spec(scene.growth());
    scratch.mask.render(figures, &style.fonts, &spec, rng, &mut scratch.glyphs);
    scratch.mask.render_neutral(&spec, &mut scratch.neutral);
    animate(scene, rng, scratch);
    colours
}

/// Dark text with specks on a light ground.
fn draw_decoy(scene: &Scene<'_>, rng: &mut Stream, scratch: &mut Scratch) {
    let Scratch { mask, glyphs, neutral, random, packed, .. } = scratch;
    let spec = scene.mask_spec(0);
    mask.render(scene.decoy, &scene.style.fonts, &spec, rng, glyphs);
    mask.render_neutral(&spec, neutral);
    let both = glyphs.words_mut().iter_mut().zip(neutral.dark.words_mut());
    both.for_each(|(word, dark)| *word = !(*word | *dark));
    flip(glyphs.words_mut(), DECOY_SPECKS, random, rng);
    let rows = glyphs.rows().map(|row| row.iter().copied());
    pack(rows, scene, packed);
}

/// All frames of the loop.
fn animate(scene: &Scene<'_>, rng: &mut Stream, scratch: &mut Scratch) {
    let Scratch { glyphs, neutral, fields, flipped, spare, random, packed, .. } = scratch;
    for field in fields.iter_mut() {
        field.reset(scene.width, scene.height);
        flip(field.words_mut(), 32, random, rng);
    }
    let Dots { runs, ease, .. } = scene.style.dots;
    let flips = scene.profile.dot_flips.saturating_sub(ease);
    let steps = schedule(&runs, rng);
    show(glyphs, neutral, fields, scene, packed);
    for step in steps {
        // Both fields flip the same cells. Each cell shows one field, so that no two dots are more
        // correlated than before. Only four at a time are, one pair of each field, where glyphs
        // begin, and that correlation is weaker than the one along the way of the dots.
        flipped.reset(scene.width, scene.height);
        flip(flipped.words_mut(), flips, random, rng);
        for (field, step) in fields.iter_mut().zip([step, step.reversed()]) {
            spare.moved(field, step);
            std::mem::swap(field, spare);
            let words = field.words_mut().iter_mut().zip(flipped.words());
            words.for_each(|(word, flipped)| *word ^= *flipped);
        }
        show(glyphs, neutral, fields, scene, packed);
    }
}

/// Appends a frame: one field through the glyphs, the other around them, and over both the neutral
/// shapes, whose cells stay dark or light.
fn show(
    glyphs: &Bitmap,
    neutral: &NeutralMask,
    [front, ground]: &[Bitmap; 2],
    scene: &Scene<'_>,
    packed: &mut Vec<u8>,
) {
    let rows = glyphs.rows().zip(neutral.rows()).zip(front.rows().zip(ground.rows()));
    let seen = rows.map(|((glyphs, (dark, light)), (front, ground))| {
        let dots = glyphs.iter().zip(front.iter().zip(ground));
        dots.zip(dark.iter().zip(light)).map(|((glyph, (front, ground)), (dark, light))| {
            (ground ^ (glyph & (front ^ ground)) | light) & !dark
        })
    });
    pack(seen, scene, packed);
}

/// The moves of the dots, one after each frame.
///
/// Every direction that occurs is kept for two to four frames, once in the loop, and its opposite for
/// as many: every drift is undone, so that adding up over the loop finds nothing, and a reader has to
/// follow every turn.
fn schedule(runs: &[[u8; AXES.len()]; 2], rng: &mut Stream) -> [Step; MOVES] {
    let mut axes = AXES;
    rng.shuffle(&mut axes);
    let [first, second] = *runs;
    let lengths = if rng.chance(0.5) { first } else { second };
    let mut runs: [(Step, u8); 2 * AXES.len()] = [(AXES[0], 0); _];
    for (pair, (axis, length)) in runs.chunks_mut(2).zip(axes.into_iter().zip(lengths)) {
        for (run, step) in pair.iter_mut().zip([axis, axis.reversed()]) {
            *run = (step, length);
        }
    }
    rng.shuffle(&mut runs);
    let mut steps = [AXES[0]; MOVES];
    let drawn = runs.into_iter().flat_map(|(step, length)| (0..length).map(move |_| step));
    for (step, drawn) in steps.iter_mut().zip(drawn) {
        *step = drawn;
    }
    steps
}

/// Flips each cell with a probability of `share` 64ths.
///
/// A random bit is below a binary fraction if, at the highest place where they differ, the fraction
/// has the one. From the lowest place up that is one `and` or `or` with a random word per place, for
/// 64 cells at once; places below the fraction's lowest one are not needed.
fn flip(words: &mut [u64], share: u8, random: &mut Vec<u8>, rng: &mut Stream) {
    let places = share.trailing_zeros().min(6)..6;
    random.resize(words.len() * places.len() * size_of::<u64>(), 0);
    rng.fill(random);
    let (draws, _) = random.as_chunks::<8>();
    for (word, draws) in words.iter_mut().zip(draws.chunks_exact(places.len().max(1))) {
        let mut flips = 0;
        for (place, draw) in places.clone().zip(draws) {
            let draw = u64::from_le_bytes(*draw);
            flips = if share >> place & 1 == 1 { flips | draw } else { flips & draw };
        }
        *word ^= flips;
    }
}

/// Appends rows as a file has them, whole bytes, the leftmost cell highest; with two bits per cell
/// where there are bands, of which the upper one says the band and the lower one is the row's.
fn pack<Row: Iterator<Item = u64>>(
    rows: impl Iterator<Item = Row>,
    scene: &Scene<'_>,
    packed: &mut Vec<u8>,
) {
    let Scene { figures, width, height, .. } = scene;
    let bands = Figure::bands(figures).is_some();
    let row_bytes = if bands { 2 * width } else { *width }.div_ceil(8);
    for (y, row) in rows.enumerate() {
        let end = packed.len() + row_bytes;
        if bands {
            let band = if y < height / 2 { 0 } else { 0xaaaa_aaaa_aaaa_aaaa };
            for word in row {
                for half in [word >> 32, word & 0xffff_ffff] {
                    packed.extend_from_slice(&(spread(half) | band).to_be_bytes());
                }
            }
        } else {
            row.for_each(|word| packed.extend_from_slice(&word.to_be_bytes()));
        }
        packed.truncate(end);
    }
}

/// 32 bits with a zero before each.
fn spread(bits: u64) -> u64 {
    let steps = [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ];
    steps.into_iter().fold(bits, |bits, (by, kept)| (bits | bits << by) & kept)
}

#[cfg(test)]
mod tests;

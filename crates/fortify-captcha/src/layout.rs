//! Layout: places figures and turns them into bent polygons on the canvas.
//!
//! Every carrier draws the same polygons, each in its own way. Points are moved here and nowhere
//! else: size, turn, place, two waves, and finally a fit that keeps every point on the canvas.

mod params;
mod scene;

pub(crate) use params::LayoutParams;

use crate::figure::{Figure, Sign};
use crate::font::Fonts;
use crate::level::LevelProfile;
use crate::outline::{Bounds, Outline, Point};
use crate::rng::{Stream, cos_turns, sin_turns};
use crate::scribble;
use crate::term::Colour;

/// Height of capitals in ink for the height of the picture, before shrinking to its width.
const INK_CAP: f32 = 0.50;
/// Free border, as a share of the picture's height.
const BORDER: f32 = 0.06;
/// A word's size relative to that of a digit: its letters are read together.
const WORD_SIZE: f32 = 0.82;
/// How much of the level's turn a word's letters get, so that the word stays one shape.
const WORD_TURN: f32 = 0.35;
/// Size of scribbled signs relative to that of a digit.
const SIGN_SIZE: f32 = 0.62;
/// Largest turn of a sign, degrees, whatever the level: at 45 a plus is a times.
const SIGN_TURN: f32 = 8.0;
/// Distance between figures, as a share of the cap height.
const FIGURE_GAP: f32 = 0.28;
/// Distance between the digits of a number, as a share of the cap height; it varies by as much.
const DIGIT_GAP: f32 = 0.08;
/// Half of a small letter's height, in cap heights.
const SMALL_MIDDLE: f32 = 0.36;

/// How a shape belongs together with the one on its left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KerningGroup {
    /// Not at all: a height and a colour of its own.
    None,
    /// A digit of the same number: the same height, so that none looks like an exponent.
    Number,
    /// A letter of the same word: the same height and colour.
    Word,
}

/// The colour of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tint {
    /// Any; the colour means nothing.
    Any,
    /// A named one, which the task asks for or might ask for.
    Named(Colour),
    /// That of neutral shapes, which look the same in every carrier: frames, question marks and objects
    /// under characters.
    Neutral,
    /// That of codes, which lie over other shapes and have to stand out from them.
    Code,
}

/// One polygon with holes, ready to be filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    first_contour: usize,
    last_contour: usize,
    first_point: usize,
    last_point: usize,
    /// How far below the line's middle the middle of the shape's box belongs, px.
    offset: f32,
    kerning: Kerning,
    tint: Tint,
}

/// The position of a shape relative to the one on its left.
#[derive(Clone, Copy, Debug)]
struct Kerning {
    /// Distance between the boxes, px.
    gap: f32,
    group: KerningGroup,
}

impl Shape {
    /// How the shape belongs together with the one on its left.
    pub(crate) fn group(&self) -> KerningGroup {
        self.kerning.group
    }

    /// The colour of the shape.
    pub(crate) fn tint(&self) -> Tint {
        self.tint
    }
}

/// How glyphs are drawn: fonts, sizes and distortion. Lengths are in px of a picture of 300 x 100 and
/// grow with the picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GlyphParams {
    /// Height of capitals, as a share of the picture's height, before shrinking to its width.
    pub(crate) cap: f32,
    /// Only fonts with thick, even strokes.
    pub(crate) sturdy: bool,
    /// Largest turn of a character, degrees either way.
    pub(crate) rotation: f32,
    /// Largest amplitude of each of the two waves, px.
    pub(crate) wave: f32,
    /// Shortest wavelength, px; the longest is twice that.
    pub(crate) wavelength: f32,
    /// How much smaller than the nominal size a character may be, as a share of it.
    pub(crate) shrink: f32,
    /// Smallest distance between the boxes of neighbours, px; below zero boxes overlap.
    pub(crate) gap: f32,
    /// How much of the free height a character may leave its line by.
    pub(crate) jitter: f32,
    /// Largest turn of an object, degrees either way.
    pub(crate) lean: f32,
    /// How much of the picture's height objects under characters take.
    pub(crate) strip: f32,
    /// The layout parameters of the style.
    pub(crate) layout: LayoutParams,
}

impl GlyphParams {
    /// The parameters of ink, straight from the level.
    pub(crate) fn ink(profile: &LevelProfile, layout: LayoutParams) -> Self {
        Self {
            cap: INK_CAP,
            sturdy: false,
            rotation: profile.rotation,
            wave: profile.wave,
            wavelength: profile.wavelength,
            shrink: profile.shrink,
            gap: profile.gap,
            jitter: profile.jitter,
            lean: profile.lean,
            strip: 0.0,
            layout,
        }
    }
}

/// The settings that all figures of a picture share.
#[derive(Clone, Copy)]
struct TypeSettings<'a> {
    fonts: &'a Fonts,
    params: &'a GlyphParams,
    /// Height of capitals, px.
    cap: f32,
}

/// The polygons of a picture. Kept between pictures, so that its memory is.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    points: Vec<Point>,
    /// Where in `points` each contour ends.
    ends: Vec<usize>,
    shapes: Vec<Shape>,
}

/// Size of the picture, px.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) width: f32,
    pub(crate) height: f32,
}

impl Frame {
    /// How much larger the picture is than one of 300 x 100, which the level table is made for.
    pub(crate) fn scale(self) -> f32 {
        (self.height / 100.0).min(self.width / 300.0)
    }
}

impl Layout {
    /// Lays `figures` out, replacing what was there.
    pub(crate) fn compose(
        &mut self,
        figures: &[Figure],
        fonts: &Fonts,
        params: &GlyphParams,
        frame: Frame,
        rng: &mut Stream,
    ) {
        self.points.clear();
        self.ends.clear();
        self.shapes.clear();
        let cap = frame.height * params.cap * params.layout.cap;
        let settings = TypeSettings { fonts, params, cap };
        match figures.first() {
            Some(Figure::Object { .. }) => self.scatter(figures, settings, frame, rng),
            Some(Figure::Row(_) | Figure::Loose(_) | Figure::Tinted { .. }) => {
                self.stack(figures, settings, frame, rng);
            }
            Some(Figure::Over { .. }) => self.columns(figures, settings, frame, rng),
            Some(Figure::Banner { .. }) => self.banners(figures, settings, frame, rng),
            _ => self.line(figures, settings, frame, rng),
        }
        self.wave(params, frame, rng);
        self.fit(frame);
    }

    /// Figures side by side.
    fn line(
        &mut self,
        figures: &[Figure],
        settings: TypeSettings<'_>,
        frame: Frame,
        rng: &mut Stream,
    ) {
        let TypeSettings { params, cap, .. } = settings;
        let apart = params.gap * frame.scale();
        for figure in figures {
            let mut gap = if self.shapes.is_empty() { 0.0 } else { cap * FIGURE_GAP };
            let mut group = KerningGroup::None;
            match figure {
                Figure::Characters(text) => {
                    for character in text.bytes() {
                        self.character(character, Kerning { gap, group }, settings, rng);
                        gap = apart;
                    }
                }
                Figure::Number(digits) => {
                    for digit in digits.bytes() {
                        self.character(digit, Kerning { gap, group }, settings, rng);
                        (gap, group) = (cap * DIGIT_GAP, KerningGroup::Number);
                    }
                }
                Figure::Word(word) => self.word(word, gap, settings, rng),
                Figure::Scribble(sign) => self.sign(*sign, gap, settings, rng),
                // Other figures have a layout of their own.
                _ => {}
            }
        }
        self.place(params, frame, rng);
    }

    /// Every shape, left to right.
    pub(crate) fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// The contours of `shape`, each closed.
    pub(crate) fn contours(&self, shape: &Shape) -> impl Iterator<Item = &[Point]> {
        let ends = self.ends.get(shape.first_contour..shape.last_contour).unwrap_or(&[]);
        let mut start = shape.first_point;
        ends.iter().map(move |end| {
            let contour = self.points.get(start..*end).unwrap_or(&[]);
            start = *end;
            contour
        })
    }

    /// The box around `shape`.
    pub(crate) fn bounds(&self, shape: &Shape) -> Option<Bounds> {
        Bounds::of(self.points.get(shape.first_point..shape.last_point)?)
    }

    /// A character with a font, size and turn of its own.
    fn character(
        &mut self,
        character: u8,
        kerning: Kerning,
        settings: TypeSettings<'_>,
        rng: &mut Stream,
    ) {
        let TypeSettings { fonts, params, cap } = settings;
        let faces = fonts.faces_for(character, params.sturdy);
        let Some(face) = faces.get(rng.below(faces.len())) else {
            return;
        };
        let size = cap * (1.0 - params.shrink * rng.unit());
        let turn = params.rotation * params.layout.turn(self.shapes.len(), rng);
        let kerning = Kerning { gap: kerning.gap + cap * DIGIT_GAP * rng.unit(), ..kerning };
        if let Some(outline) = fonts.outline(*face, character) {
            self.glyph(outline, size, turn, 0.0, kerning);
        }
    }

    /// A word in one font, its letters on one baseline and close together.
    fn word(&mut self, word: &str, gap: f32, settings: TypeSettings<'_>, rng: &mut Stream) {
        let TypeSettings { fonts, params, cap } = settings;
        let faces = fonts.word_faces();
        let Some(face) = faces.get(rng.below(faces.len())) else {
            return;
        };
        let size = cap * WORD_SIZE * (1.0 - params.shrink * 0.5 * rng.unit());
        let mut kerning = Kerning { gap, group: KerningGroup::None };
        for letter in word.bytes() {
            let turn = params.rotation * WORD_TURN * rng.signed();
            if let Some(outline) = fonts.outline(*face, letter) {
                // The line's middle is half a small letter's height above the baseline.
                let offset = (outline.bounds().centre().y + SMALL_MIDDLE) * size;
                self.glyph(outline, size, turn, offset, kerning);
            }
            kerning = Kerning { gap: cap * (0.05 + 0.03 * rng.unit()), group: KerningGroup::Word };
        }
    }

    /// A scribbled sign.
    fn sign(&mut self, sign: Sign, gap: f32, settings: TypeSettings<'_>, rng: &mut Stream) {
        let TypeSettings { params, cap, .. } = settings;
        let (first_point, first_contour) = (self.points.len(), self.ends.len());
        let size = cap * SIGN_SIZE * (1.0 - 0.5 * params.shrink * rng.unit());
        let turn = params.rotation.min(SIGN_TURN) * rng.signed();
        scribble::draw(sign, size, turn / 360.0, rng, |contour| {
            self.points.extend_from_slice(contour);
            self.ends.push(self.points.len());
        });
        self.close_shape(
            first_point,
            first_contour,
            0.0,
            Kerning { gap, group: KerningGroup::None },
        );
    }

    /// A font's glyph around the origin, scaled and turned.
    fn glyph(&mut self, outline: &Outline, size: f32, degrees: f32, offset: f32, kerning: Kerning) {
        let (first_point, first_contour) = (self.points.len(), self.ends.len());
        let centre = outline.bounds().centre();
        let (sin, cos) = (sin_turns(degrees / 360.0) * size, cos_turns(degrees / 360.0) * size);
        self.points.extend(outline.points().iter().map(|point| {
            let (x, y) = (point.x - centre.x, point.y - centre.y);
            Point::new(x * cos - y * sin, x * sin + y * cos)
        }));
        self.ends.extend(outline.ends().iter().map(|end| first_point + usize::from(*end)));
        self.close_shape(first_point, first_contour, offset, kerning);
    }

    fn close_shape(
        &mut self,
        first_point: usize,
        first_contour: usize,
        offset: f32,
        kerning: Kerning,
    ) {
        self.shapes.push(Shape {
            first_contour,
            last_contour: self.ends.len(),
            first_point,
            last_point: self.points.len(),
            offset,
            kerning,
            tint: Tint::Any,
        });
    }

    /// Puts the shapes side by side, shrunk until they fit the width, with the spare width spread
    /// at random, each on a height of its own.
    fn place(&mut self, params: &GlyphParams, frame: Frame, rng: &mut Stream) {
        let border = frame.height * BORDER + params.wave * frame.scale();
        let room = frame.width - 2.0 * border;
        let needed: f32 = self
            .shapes
            .iter()
            .map(|shape| {
                shape.kerning.gap + self.bounds(shape).map_or(0.0, |bounds| bounds.width())
            })
            .sum();
        let shrink = (room / needed.max(1.0)).min(1.0);
        let spare = (room - needed * shrink).max(0.0);
        // Some of the spare width is shared out between the figures, the rest moves the line.
        let airy = params.layout.airy;
        let share = spare * airy / self.shapes.len().max(1) as f32;
        let mut x = border + spare * (1.0 - airy) * rng.unit();
        let way = if rng.chance(0.5) { 1.0 } else { -1.0 };
        let mut line = 0.0;
        for index in 0..self.shapes.len() {
            let Some(shape) = self.shapes.get(index).copied() else {
                continue;
            };
            let Some(bounds) = self.bounds(&shape) else {
                continue;
            };
            if shape.kerning.group == KerningGroup::None {
                x += share * rng.unit();
                let free = (frame.height - 2.0 * border - bounds.height() * shrink).max(0.0) * 0.5;
                let height = params.layout.height(index, self.shapes.len(), way, rng);
                line = frame.height * 0.5 + free * params.jitter * height;
            }
            x += shape.kerning.gap * shrink;
            let centre = bounds.centre();
            let to =
                Point::new(x - bounds.min.x * shrink, line + (shape.offset - centre.y) * shrink);
            if let Some(points) = self.points.get_mut(shape.first_point..shape.last_point) {
                for point in points {
                    *point = Point::new(point.x * shrink + to.x, point.y * shrink + to.y);
                }
            }
            x += bounds.width() * shrink;
        }
    }

    /// Bends everything by one wave along each axis.
    fn wave(&mut self, params: &GlyphParams, frame: Frame, rng: &mut Stream) {
        let scale = frame.scale();
        let amplitude = |rng: &mut Stream| params.wave * scale * rng.between(0.5, 1.0);
        let (shortest, longest) = params.layout.lengths;
        let frequency =
            |rng: &mut Stream| 1.0 / (params.wavelength * scale * rng.between(shortest, longest));
        let bend = |rng: &mut Stream| params.layout.bend(rng);
        let (along, across) = (amplitude(rng), amplitude(rng));
        let (per_x, per_y) = (frequency(rng), frequency(rng));
        let (phase_x, phase_y) = (rng.unit(), rng.unit());
        let (bend_x, bend_y) = (bend(rng), bend(rng));
        for point in &mut self.points {
            let (u, v) = (2.0 * point.x / frame.width - 1.0, 2.0 * point.y / frame.height - 1.0);
            let dx = along * bend_x.at(point.y * per_y + phase_y, v, u);
            let dy = across * bend_y.at(point.x * per_x + phase_x, u, v);
            *point = Point::new(point.x + dx, point.y + dy);
        }
    }

    /// Moves, and if need be shrinks, everything into the canvas.
    fn fit(&mut self, frame: Frame) {
        let Some(bounds) = Bounds::of(&self.points) else {
            return;
        };
        let axis = |low: f32, high: f32, size: f32, border: f32| {
            let room = size - 2.0 * border;
            let factor = (room / (high - low).max(1.0)).min(1.0);
            let moved =
                (low * factor).clamp(border, (size - border - (high - low) * factor).max(border));
            (factor, moved - low * factor)
        };
        let border = frame.height * BORDER * 0.6;
        let (scale_x, move_x) = axis(bounds.min.x, bounds.max.x, frame.width, border);
        let (scale_y, move_y) = axis(bounds.min.y, bounds.max.y, frame.height, border);
        for point in &mut self.points {
            *point = Point::new(point.x * scale_x + move_x, point.y * scale_y + move_y);
        }
    }
}

#[cfg(test)]
mod tests;

//! Figures that do not stand in a line: scattered objects, rows of tiles, stacked words.

use std::ops::Range;

use super::{Frame, Kerning, KerningGroup, Layout, Tint, TypeSettings};
use crate::figure::{Figure, Mark, Tile};
use crate::outline::{Bounds, Point};
use crate::rng::Stream;
use crate::tiles::{self, Arrow};

/// Free border, as a share of the picture's height.
const BORDER: f32 = 0.04;
/// Height of a code's characters for the width of its object's place, and for the picture's height.
const CODE_SHARE: (f32, f32) = (0.31, 0.26);
/// Thickness of a tile's frame, as a share of the tile.
const FRAME: f32 = 0.045;
/// Distance between the frames of a row, as a share of the tile.
const TILE_GAP: f32 = 0.06;
/// Size of the largest figure on a tile, as a share of the tile.
const MARK: f32 = 0.68;
/// The same where stripes or dots show it, which take more room for the same detail.
const STURDY_MARK: f32 = 0.76;
/// Largest turn of a tile's figure, degrees: a square stays a square and no diamond.
const MARK_TURN: f32 = 5.0;
/// Height of a banner's capitals, as a share of its band.
const BANNER_CAP: f32 = 0.76;
/// Smallest loose tile, px: people take smaller ones for noise.
const SMALLEST_LOOSE: f32 = 7.0;

/// A part of the picture, px.
#[derive(Clone, Copy, Debug)]
struct Place {
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
}

impl Place {
    fn width(self) -> f32 {
        self.right - self.left
    }

    fn height(self) -> f32 {
        self.bottom - self.top
    }
}

impl Layout {
    /// Objects in places side by side, each with its code on it. Codes come last, over everything.
    pub(super) fn scatter(
        &mut self,
        figures: &[Figure],
        settings: TypeSettings<'_>,
        frame: Frame,
        rng: &mut Stream,
    ) {
        let mut codes = Vec::new();
        for (figure, place) in figures.iter().zip(places(figures.len(), frame, rng)) {
            let Figure::Object { object, colour, code } = figure else {
                continue;
            };
            let Some(outline) = settings.fonts.pictogram(*object) else {
                continue;
            };
            let first_point = self.points.len();
            let turn = settings.params.lean * rng.signed();
            self.glyph(outline, place.height() * 0.5, turn, 0.0, Kerning::APART);
            self.tint_last(Tint::Named(*colour));
            let share = rng.between(1.0 - 0.5 * settings.params.shrink, 1.0);
            let over = self.put(first_point..self.points.len(), place, share, rng);
            codes.push((code, place, over));
        }
        for (code, place, over) in codes {
            self.code(code, place, over, settings, frame, rng);
        }
    }

    /// A code somewhere over the middle of its object, within the object's place.
    fn code(
        &mut self,
        code: &str,
        place: Place,
        over: Point,
        settings: TypeSettings<'_>,
        frame: Frame,
        rng: &mut Stream,
    ) {
        let cap = (place.width() * CODE_SHARE.0).min(frame.height * CODE_SHARE.1);
        let settings = TypeSettings { cap, ..settings };
        let first = self.shapes.len();
        for character in code.bytes() {
            self.character(
                character,
                Kerning { gap: cap * 0.1, group: KerningGroup::Number },
                settings,
                rng,
            );
            self.tint_last(Tint::Code);
        }
        let aside = Point::new(
            over.x + 0.1 * place.width() * rng.signed(),
            over.y + 0.2 * place.height() * rng.signed(),
        );
        let half = cap * 0.7;
        let band = Place {
            top: (aside.y - half).clamp(place.top, (place.bottom - 2.0 * half).max(place.top)),
            ..place
        };
        let band = Place { bottom: band.top + 2.0 * half, ..band };
        self.put_run(first..self.shapes.len(), band, aside.x);
    }

    /// Rows of tiles or words, one under the other, and loose tiles where there is room.
    pub(super) fn stack(
        &mut self,
        figures: &[Figure],
        settings: TypeSettings<'_>,
        frame: Frame,
        rng: &mut Stream,
    ) {
        let lines: Vec<&Figure> =
            figures.iter().filter(|figure| !matches!(figure, Figure::Loose(_))).collect();
        let border = frame.height * BORDER;
        let band = (frame.height - 2.0 * border) / lines.len().max(1) as f32;
        let mut free = Vec::new();
        let mut from = border;
        for (index, figure) in lines.into_iter().enumerate() {
            let top = border + band * index as f32;
            let place =
                Place { left: border, top, right: frame.width - border, bottom: top + band };
            match figure {
                Figure::Row(tiles) => {
                    let (top, bottom) = self.row(tiles, place, settings, rng);
                    free.push((from, top));
                    from = bottom;
                }
                Figure::Tinted { word, colour } => {
                    let first = self.shapes.len();
                    // Letters with a stem and a tail are twice as high as a small letter.
                    let cap = (band * 0.78).min(settings.cap);
                    self.word(word, 0.0, TypeSettings { cap, ..settings }, rng);
                    for shape in self.shapes.iter_mut().skip(first) {
                        shape.tint = Tint::Named(*colour);
                    }
                    let x = place.left + place.width() * rng.unit();
                    self.put_run(first..self.shapes.len(), place, x);
                }
                _ => {}
            }
        }
        free.push((from, frame.height - border));
        for figure in figures {
            if let Figure::Loose(tile) = figure {
                self.loose(*tile, &free, settings, frame, rng);
            }
        }
    }

    /// A row of framed tiles; returns its upper and lower edge, px.
    fn row(
        &mut self,
        tiles: &[Option<Tile>],
        place: Place,
        settings: TypeSettings<'_>,
        rng: &mut Stream,
    ) -> (f32, f32) {
        let count = tiles.len().max(1) as f32;
        let side = (place.width() / (count * (1.0 + TILE_GAP))).min(place.height() * 0.92);
        let pitch = side * (1.0 + TILE_GAP);
        let left = place.left + (place.width() - pitch * count) * rng.unit() + pitch * 0.5;
        let middle = place.top + side * 0.5 + (place.height() - side) * rng.unit();
        for (index, tile) in tiles.iter().enumerate() {
            let centre = Point::new(left + pitch * index as f32, middle);
            self.polygon(Tint::Neutral, |contour| tiles::frame(centre, side, FRAME, contour));
            match tile {
                Some(tile) => self.tile(*tile, centre, side, settings, rng),
                None => {
                    let first = self.shapes.len();
                    let settings = TypeSettings { cap: side * 0.6, ..settings };
                    self.character(b'?', Kerning::APART, settings, rng);
                    self.tint_last(Tint::Neutral);
                    let half = side * 0.4;
                    let inside = Place {
                        left: centre.x - half,
                        top: centre.y - half,
                        right: centre.x + half,
                        bottom: centre.y + half,
                    };
                    self.put_run(first..self.shapes.len(), inside, centre.x);
                }
            }
        }
        (middle - side * 0.5, middle + side * 0.5)
    }

    /// Draws the mark of one tile.
    fn tile(
        &mut self,
        tile: Tile,
        centre: Point,
        side: f32,
        settings: TypeSettings<'_>,
        rng: &mut Stream,
    ) {
        let tint = Tint::Named(tile.colour);
        let turn = (settings.params.rotation * 0.4).min(MARK_TURN) * rng.signed() / 360.0;
        let (share, arrow) = if settings.params.sturdy {
            (STURDY_MARK, Arrow::STURDY)
        } else {
            (MARK, Arrow::SLENDER)
        };
        let size = side * share * f32::from(tile.size) / 100.0;
        match tile.mark {
            Mark::Shape(shape) => {
                self.polygon(tint, |contour| tiles::shape(shape, centre, size, turn, contour));
            }
            Mark::Arrow(way) => {
                self.polygon(tint, |contour| tiles::arrow(arrow, way, centre, size, turn, contour));
            }
            Mark::Several(count, shape) => {
                let step = side * 0.28;
                for (column, row) in tiles::pips(count) {
                    let at = Point::new(centre.x + step * column, centre.y + step * row);
                    let size = side * 0.24;
                    self.polygon(tint, |contour| tiles::shape(shape, at, size, turn, contour));
                }
            }
        }
    }

    /// A tile without a frame in one of the free bands, where one is high enough.
    fn loose(
        &mut self,
        tile: Tile,
        free: &[(f32, f32)],
        settings: TypeSettings<'_>,
        frame: Frame,
        rng: &mut Stream,
    ) {
        let smallest = SMALLEST_LOOSE * frame.scale() / MARK;
        let roomy: Vec<(f32, f32)> =
            free.iter().copied().filter(|(top, bottom)| bottom - top >= smallest).collect();
        let Some((top, bottom)) = rng.pick(&roomy).copied() else {
            return;
        };
        let side = (bottom - top).min(frame.height * 0.28);
        let centre = Point::new(
            rng.between(side * 0.5, frame.width - side * 0.5),
            rng.between(top + side * 0.5, bottom - side * 0.5),
        );
        self.tile(tile, centre, side, settings, rng);
    }

    /// Characters in columns of one width, each over its object.
    ///
    /// Nothing about an object follows from its character: objects are laid out first, and all columns
    /// have the same width.
    pub(super) fn columns(
        &mut self,
        figures: &[Figure],
        settings: TypeSettings<'_>,
        frame: Frame,
        rng: &mut Stream,
    ) {
        let TypeSettings { fonts, params, .. } = settings;
        // Room for both waves, so that neither the edge nor the strip cuts anything off.
        let border = frame.height * BORDER * 0.6 + params.wave * frame.scale();
        let pitch = (frame.width - 2.0 * border) / figures.len().max(1) as f32;
        let strip = frame.height * (1.0 - params.strip);
        let column = |index: usize, top: f32, bottom: f32, gap: f32| {
            let left = border + pitch * index as f32;
            Place { left: left + gap, top, right: left + pitch - gap, bottom }
        };
        for (index, figure) in figures.iter().enumerate() {
            let Figure::Over { object, .. } = figure else {
                continue;
            };
            let Some(outline) = fonts.pictogram(*object) else {
                continue;
            };
            let first_point = self.points.len();
            self.glyph(outline, pitch, params.lean * rng.signed(), 0.0, Kerning::APART);
            self.tint_last(Tint::Neutral);
            let gap = params.wave * frame.scale();
            let place = column(index, strip + gap, frame.height - border, pitch * 0.18);
            let share = rng.between(1.0 - 0.5 * params.shrink, 1.0);
            self.put(first_point..self.points.len(), place, share, rng);
        }
        let way = if rng.chance(0.5) { 1.0 } else { -1.0 };
        for (index, figure) in figures.iter().enumerate() {
            let Figure::Over { character, .. } = figure else {
                continue;
            };
            let first = self.shapes.len();
            self.character(*character, Kerning::APART, settings, rng);
            let shape = self.shapes.last().and_then(|shape| self.bounds(shape));
            let height = shape.map_or(0.0, |bounds| bounds.height());
            let gap = params.gap * frame.scale() * 0.3;
            let place = column(index, border, strip - border, gap);
            let free = (place.height() - height).max(0.0) * 0.5;
            let shift = free * params.jitter * params.layout.height(index, figures.len(), way, rng);
            let place = Place { top: place.top + shift, bottom: place.bottom + shift, ..place };
            let aside = pitch * 0.05 * rng.signed();
            self.put_run(first..self.shapes.len(), place, (place.left + place.right) * 0.5 + aside);
        }
    }

    /// Words in capitals, each in a band of its own from edge to edge.
    pub(super) fn banners(
        &mut self,
        figures: &[Figure],
        settings: TypeSettings<'_>,
        frame: Frame,
        rng: &mut Stream,
    ) {
        let TypeSettings { fonts, params, .. } = settings;
        let border = frame.height * BORDER;
        let band = frame.height / figures.len().max(1) as f32;
        let cap = band * BANNER_CAP * (1.0 - params.shrink * rng.unit());
        for (index, figure) in figures.iter().enumerate() {
            let Figure::Banner { word, .. } = figure else {
                continue;
            };
            // One font per word, so that it is read as a whole.
            let faces = fonts.faces_for(b'E', params.sturdy);
            let Some(face) = faces.get(rng.below(faces.len())) else {
                continue;
            };
            let first = self.shapes.len();
            for letter in word.bytes() {
                let turn = params.rotation * 0.5 * rng.signed();
                let kerning =
                    Kerning { gap: cap * (0.13 + 0.05 * rng.unit()), group: KerningGroup::Word };
                if let Some(outline) = fonts.outline(*face, letter.to_ascii_uppercase()) {
                    self.glyph(outline, cap, turn, 0.0, kerning);
                }
            }
            let top = band * index as f32;
            let place =
                Place { left: border, top, right: frame.width - border, bottom: top + band };
            let x = place.left + place.width() * rng.unit();
            self.put_run(first..self.shapes.len(), place, x);
        }
    }

    /// A shape from contours that are where they belong already.
    fn polygon(&mut self, tint: Tint, draw: impl FnOnce(&mut dyn FnMut(&[Point]))) {
        let (first_point, first_contour) = (self.points.len(), self.ends.len());
        draw(&mut |contour| {
            self.points.extend_from_slice(contour);
            self.ends.push(self.points.len());
        });
        self.close_shape(first_point, first_contour, 0.0, Kerning::APART);
        self.tint_last(tint);
    }

    /// Moves points into `place`, at most `share` as large as it is, at random; returns their
    /// middle.
    fn put(&mut self, points: Range<usize>, place: Place, share: f32, rng: &mut Stream) -> Point {
        let Some(points) = self.points.get_mut(points) else {
            return Point::new(place.left, place.top);
        };
        let Some(bounds) = Bounds::of(points) else {
            return Point::new(place.left, place.top);
        };
        let fit = (place.width() / bounds.width()).min(place.height() / bounds.height()) * share;
        let (width, height) = (bounds.width() * fit, bounds.height() * fit);
        let left = place.left + (place.width() - width) * rng.unit();
        let top = place.top + (place.height() - height) * rng.unit();
        for point in points {
            *point = Point::new(
                left + (point.x - bounds.min.x) * fit,
                top + (point.y - bounds.min.y) * fit,
            );
        }
        Point::new(left + width * 0.5, top + height * 0.5)
    }

    /// Puts shapes side by side in `place`, shrunk until they fit, their middle as near to `x` as
    /// the place allows.
    fn put_run(&mut self, shapes: Range<usize>, place: Place, x: f32) {
        let run = self.shapes.get(shapes).unwrap_or(&[]).to_vec();
        let width = |shape: &super::Shape| self.bounds(shape).map_or(0.0, |b| b.width());
        let gaps: f32 = run.iter().skip(1).map(|shape| shape.kerning.gap).sum();
        let needed = gaps + run.iter().map(width).sum::<f32>();
        let shrink = (place.width() / needed.max(1.0)).min(1.0);
        let half = needed * shrink * 0.5;
        let mut x = x.min(place.right - half).max(place.left + half) - half;
        let line = (place.top + place.bottom) * 0.5;
        for (index, shape) in run.iter().enumerate() {
            let Some(bounds) = self.bounds(shape) else {
                continue;
            };
            if index > 0 {
                x += shape.kerning.gap * shrink;
            }
            let to = Point::new(
                x - bounds.min.x * shrink,
                line + (shape.offset - bounds.centre().y) * shrink,
            );
            for point in self.points.get_mut(shape.first_point..shape.last_point).unwrap_or(&mut [])
            {
                *point = Point::new(point.x * shrink + to.x, point.y * shrink + to.y);
            }
            x += bounds.width() * shrink;
        }
    }

    fn tint_last(&mut self, tint: Tint) {
        if let Some(shape) = self.shapes.last_mut() {
            shape.tint = tint;
        }
    }
}

/// Where each of `count` objects goes: columns of uneven width, in two rows in a picture that is not
/// much wider than high.
fn places(count: usize, frame: Frame, rng: &mut Stream) -> Vec<Place> {
    let border = frame.height * BORDER;
    let rows = if frame.width < frame.height * 1.6 { 2 } else { 1 };
    let columns = count.div_ceil(rows).max(1);
    let band = (frame.height - 2.0 * border) / rows as f32;
    let mut places = Vec::new();
    for row in 0..rows {
        let shares: Vec<f32> = (0..columns).map(|_| rng.between(0.9, 1.1)).collect();
        let total: f32 = shares.iter().sum();
        let mut left = border;
        for share in shares {
            let width = (frame.width - 2.0 * border) * share / total;
            let top = border + band * row as f32;
            // A little apart from the neighbours, so that a code belongs to one object.
            let gap = width * 0.03;
            places.push(Place {
                left: left + gap,
                top: top + gap,
                right: left + width - gap,
                bottom: top + band - gap,
            });
            left += width;
        }
    }
    places
}

impl Kerning {
    /// A shape that has nothing to do with the one before.
    const APART: Self = Self { gap: 0.0, group: KerningGroup::None };
}

//! Noise: the ground, and the marks behind and over the text.

use crate::canvas::{Canvas, InkPair};
use crate::layout::Frame;
use crate::outline::Point;
use crate::rng::{Stream, cos_turns, sin_turns};

/// Bytes of prepared grain; rows start at random places in it.
const GRAIN: usize = 8192;

/// Half of what the waves of a ground come to.
const MIDDLE: u8 = 62;

/// The ground of a style: broad shades in its own pattern, roughened by its own grain.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Made once: every row of every picture starts somewhere else in it.
    grain: Vec<u8>,
    pattern: Pattern,
    /// Waves per px, from the longest to the shortest.
    frequency: (f32, f32),
    /// The same where the ground changes between light and dark.
    broad: (f32, f32),
}

/// How the shades of a ground lie: the heights of waves along the columns, the rows and the diagonal,
/// 126 in all.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    columns: f32,
    rows: f32,
    diagonals: f32,
    /// Edges instead of slopes: checks and stripes.
    hard: bool,
}

impl Ground {
    /// The ground of a style.
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        let mut white = vec![0; GRAIN];
        rng.fill(&mut white);
        // Runs of one, two or three px, or single px that lean to the middle.
        let run = 1 + rng.below(3);
        let soft = rng.chance(0.4);
        let at = |index: usize| white.get(index % GRAIN).copied().unwrap_or_default();
        let grain = (0..GRAIN).map(|index| match soft {
            true => (at(index) >> 2) + (at(index + 1) >> 2),
            false => at(index / run) >> 1,
        });
        let grain = grain.collect();
        let shares = [0.15, 0.15, 0.15].map(|least| least + rng.unit() * rng.unit());
        let [columns, rows, diagonals] =
            shares.map(|share| 126.0 * share / shares.iter().sum::<f32>());
        let pattern = Pattern { columns, rows, diagonals, hard: rng.chance(0.3) };
        let longest = rng.between(0.003, 0.012);
        let broad = rng.between(0.003, 0.005);
        Self {
            grain,
            pattern,
            frequency: (longest, longest + 0.014),
            broad: (broad, broad + 0.004),
        }
    }

    /// Fills the canvas with the ground's four shades (slots 0 to 3); a counterchanged one with the
    /// light ones (0 and 2) and the dark ones (1 and 3) in broad fields.
    pub(crate) fn paint(
        &self,
        counterchanged: bool,
        canvas: &mut Canvas,
        waves: &mut Vec<u8>,
        rng: &mut Stream,
    ) {
        let Pattern { columns, rows, diagonals, hard } = self.pattern;
        let (width, height) = (canvas.width(), canvas.height());
        let (longest, shortest) = if counterchanged { self.broad } else { self.frequency };
        waves.clear();
        for (strength, length) in [(columns, width), (rows, height), (diagonals, width + height)] {
            let (frequency, phase) = (rng.between(longest, shortest), rng.unit());
            waves.extend((0..length).map(|at| {
                let wave = sin_turns(at as f32 * frequency + phase);
                let wave = if hard { (wave * 4.0).clamp(-1.0, 1.0) } else { wave };
                (strength * (0.5 + 0.5 * wave)) as u8
            }));
        }
        let (columns, rest) = waves.split_at(width);
        let (rows, diagonals) = rest.split_at(height);
        let span = self.grain.len().saturating_sub(width);
        for (y, (pixels, row)) in canvas.rows_mut().zip(rows).enumerate() {
            let grain = self.grain.get(rng.below(span)..).unwrap_or(&[]);
            let diagonals = diagonals.get(y..).unwrap_or(&[]);
            let each = pixels.iter_mut().zip(columns).zip(diagonals).zip(grain);
            // The waves come to 126 at most, the grain to 127.
            if counterchanged {
                for (((pixel, column), diagonal), grain) in each {
                    *pixel = u8::from(column + row + diagonal > MIDDLE) | (grain >> 6) << 1;
                }
            } else {
                for (((pixel, column), diagonal), grain) in each {
                    *pixel = (column + row + diagonal + grain) >> 6;
                }
            }
        }
    }
}

/// The marks of a style: which lines and shapes it scatters, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    /// One of two in each picture.
    lines: [Line; 2],
    shapes: [Mark; 3],
    /// Largest width and height of a dot, px.
    dot: (usize, usize),
}

/// How a line goes.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// One bow.
    Bow,
    /// Straight.
    Straight,
    /// A wave along a straight line: how many, and how high for the picture's height.
    Wave(f32, f32),
    /// Back and forth around a straight line: how many edges, and how high.
    Zigzag(f32, f32),
    /// Part of a circle that reaches beyond the picture.
    Arc,
}

/// A small open shape.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Ring,
    Triangle,
    Square,
    Pentagon,
    Cross,
    Spiral,
    Hook,
}

impl Marks {
    /// The marks of a style.
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        let mut lines = [
            Line::Bow,
            Line::Straight,
            Line::Wave(rng.between(1.5, 5.0), rng.between(0.04, 0.12)),
            Line::Zigzag(rng.between(4.0, 12.0), rng.between(0.03, 0.09)),
            Line::Arc,
        ];
        let mut shapes = [
            Mark::Ring,
            Mark::Triangle,
            Mark::Square,
            Mark::Pentagon,
            Mark::Cross,
            Mark::Spiral,
            Mark::Hook,
        ];
        rng.shuffle(&mut lines);
        rng.shuffle(&mut shapes);
        let ([first, second, ..], [a, b, c, ..]) = (lines, shapes);
        let dot = rng.pick(&[(1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (1, 3)]).copied();
        Self { lines: [first, second], shapes: [a, b, c], dot: dot.unwrap_or((2, 2)) }
    }
}

/// Scatters single dots of up to three px.
pub(crate) fn dots(
    canvas: &mut Canvas,
    marks: &Marks,
    count: u16,
    pairs: &[InkPair],
    frame: Frame,
    rng: &mut Stream,
) {
    let largest = |px: usize| (px as f32 * frame.scale()).max(1.0) as usize;
    let (wide, high) = (largest(marks.dot.0), largest(marks.dot.1));
    for _ in 0..count {
        let x = rng.below(canvas.width()) as i32;
        let y = rng.below(canvas.height()) as i32;
        let bits = rng.u32() as usize;
        let (width, height) = (1 + (bits & 0xff) % wide, 1 + (bits >> 8 & 0xff) % high);
        if let Some(pair) = pairs.get((bits >> 16) % pairs.len().max(1)) {
            #[cfg(test)]
            tally::count(tally::Kind::Dot);
            for offset in 0..(width * height) as i32 {
                let width = width as i32;
                canvas.set(x + offset % width, y + offset / width, *pair);
            }
        }
    }
}

/// A line from one side of the canvas to the other, or from top to bottom.
pub(crate) fn line(
    canvas: &mut Canvas,
    marks: &Marks,
    width: f32,
    pair: InkPair,
    frame: Frame,
    rng: &mut Stream,
) {
    #[cfg(test)]
    tally::count(tally::Kind::Line);
    let Frame { width: w, height: h } = frame;
    let side = |rng: &mut Stream| rng.between(0.05, 0.95);
    let (from, to) = if rng.chance(0.7) {
        (
            Point::new(rng.between(-0.05, 0.3) * w, side(rng) * h),
            Point::new(rng.between(0.7, 1.05) * w, side(rng) * h),
        )
    } else {
        let x = rng.unit();
        (Point::new(x * w, 0.0), Point::new((x + 0.3 * rng.signed()) * w, h))
    };
    let length = from.distance(to);
    // Sideways, for a share of the picture's height.
    let normal = Point::new((from.y - to.y) / length.max(1.0), (to.x - from.x) / length.max(1.0));
    let aside = |at: Point, share: f32| {
        Point::new(at.x + normal.x * share * h, at.y + normal.y * share * h)
    };
    let [first, second] = marks.lines;
    match if rng.chance(0.5) { first } else { second } {
        Line::Bow => {
            let control = Point::new(rng.unit() * w, rng.between(-0.5, 1.5) * h);
            let length = from.distance(control) + control.distance(to);
            path(canvas, width, pair, length, |t| {
                from.towards(control, t).towards(control.towards(to, t), t)
            });
        }
        Line::Straight => path(canvas, width, pair, length, |t| from.towards(to, t)),
        Line::Wave(waves, height) => {
            let phase = rng.unit();
            path(canvas, width, pair, length * 1.6, |t| {
                aside(from.towards(to, t), height * sin_turns(t * waves + phase))
            });
        }
        Line::Zigzag(edges, height) => {
            let edges = edges as u32;
            let corner = |edge: u32| {
                let side = if edge.is_multiple_of(2) { height } else { -height };
                aside(from.towards(to, edge as f32 / edges.max(1) as f32), side)
            };
            for edge in 0..edges {
                let (from, to) = (corner(edge), corner(edge + 1));
                path(canvas, width, pair, from.distance(to), |t| from.towards(to, t));
            }
        }
        Line::Arc => {
            let bulge = rng.between(0.2, 0.6) * if rng.chance(0.5) { 1.0 } else { -1.0 };
            path(canvas, width, pair, length * 1.3, |t| {
                aside(from.towards(to, t), bulge * sin_turns(0.5 * t))
            });
        }
    }
}

/// A small open shape.
pub(crate) fn shape(
    canvas: &mut Canvas,
    marks: &Marks,
    pair: InkPair,
    frame: Frame,
    rng: &mut Stream,
) {
    #[cfg(test)]
    tally::count(tally::Kind::Shape);
    let radius = rng.between(4.0, 11.0) * frame.scale();
    let centre = Point::new(rng.unit() * frame.width, rng.unit() * frame.height);
    let turn = rng.unit();
    let width = frame.scale();
    let at = |turns: f32, share: f32| {
        let radius = radius * share;
        Point::new(centre.x + radius * cos_turns(turns), centre.y + radius * sin_turns(turns))
    };
    let mut straight = |from: Point, to: Point| {
        path(canvas, width, pair, from.distance(to), |t| from.towards(to, t));
    };
    let mut polygon = |corners: u32| {
        for corner in 0..corners {
            let turns = |corner: u32| turn + corner as f32 / corners as f32;
            straight(at(turns(corner), 1.0), at(turns(corner + 1), 1.0));
        }
    };
    match rng.pick(&marks.shapes).copied().unwrap_or(Mark::Ring) {
        Mark::Triangle => polygon(3),
        Mark::Square => polygon(4),
        Mark::Pentagon => polygon(5),
        Mark::Cross => {
            straight(at(turn, 1.0), at(turn + 0.5, 1.0));
            straight(at(turn + 0.25, 1.0), at(turn + 0.75, 1.0));
        }
        Mark::Hook => {
            straight(at(turn, 1.0), at(turn + 0.4, 1.0));
            straight(at(turn + 0.4, 1.0), at(turn + 0.65, 1.0));
        }
        Mark::Ring => path(canvas, width, pair, radius * 20.0, |t| at(t, 1.0)),
        Mark::Spiral => {
            path(canvas, width, pair, radius * 20.0, |t| at(turn + 1.6 * t, 0.15 + 0.85 * t));
        }
    }
}

/// Draws a path of about `length` px as straight strokes of about a dozen px.
fn path(canvas: &mut Canvas, width: f32, pair: InkPair, length: f32, at: impl Fn(f32) -> Point) {
    let thickness = (width + 0.5).max(1.0) as i32;
    let pieces = (length * (1.0 / 12.0)).clamp(1.0, 200.0) as u32 + 1;
    let mut from = at(0.0);
    for piece in 1..=pieces {
        let to = at(piece as f32 / pieces as f32);
        canvas.line(from, to, thickness, pair);
        from = to;
    }
}

/// Counts marks, so that tests can hold how many a level draws.
#[cfg(test)]
pub(crate) mod tally {
    use std::cell::Cell;

    #[derive(Clone, Copy)]
    pub(super) enum Kind {
        Line,
        Shape,
        Dot,
    }

    thread_local! {
        static DRAWN: Cell<[usize; 3]> = const { Cell::new([0; 3]) };
    }

    pub(super) fn count(kind: Kind) {
        let mut drawn = DRAWN.get();
        drawn[kind as usize] += 1;
        DRAWN.set(drawn);
    }

    /// The lines, shapes and dots that `draw` draws on this thread.
    pub(crate) fn drawn(draw: impl FnOnce()) -> [usize; 3] {
        DRAWN.set([0; 3]);
        draw();
        DRAWN.get()
    }
}

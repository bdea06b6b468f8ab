//! What is on the canvas besides the text: the ground, and marks behind and over it.

use crate::canvas::Canvas;
use crate::layout::Frame;
use crate::outline::Point;
use crate::rng::{Stream, cos_turns, sin_turns};

/// Bytes of prepared grain; rows start at random places in it.
const GRAIN: usize = 8192;

/// The grain of the ground, made once: every row of every picture starts somewhere else in it.
pub(crate) struct Grain {
    bytes: Vec<u8>,
}

impl Grain {
    pub(crate) fn new() -> Self {
        let mut bytes = vec![0; GRAIN];
        Stream::fixed(0x67).fill(&mut bytes);
        for byte in &mut bytes {
            *byte >>= 1;
        }
        Self { bytes }
    }

    /// Fills the canvas with the ground's four shades (slots 0 to 3): broad bands that cross each
    /// other, roughened by the grain.
    pub(crate) fn paint(&self, canvas: &mut Canvas, columns: &mut Vec<u8>, rng: &mut Stream) {
        let band = |rng: &mut Stream| (rng.between(0.004, 0.02), rng.unit());
        let (per_x, phase_x) = band(rng);
        let (per_y, phase_y) = band(rng);
        let wave = |turns: f32| (32.0 + 31.0 * sin_turns(turns)) as u8;
        columns.clear();
        columns.extend((0..canvas.width()).map(|x| wave(x as f32 * per_x + phase_x)));
        let span = self.bytes.len().saturating_sub(canvas.width());
        for (y, row) in canvas.rows_mut().enumerate() {
            let height = wave(y as f32 * per_y + phase_y);
            let start = rng.below(span);
            let grain = self.bytes.get(start..).unwrap_or(&[]);
            for ((pixel, column), grain) in row.iter_mut().zip(columns.iter()).zip(grain) {
                // At most 63 + 63 + 127.
                *pixel = (column + height + grain) >> 6;
            }
        }
    }
}

/// Scatters single dots of one or two px.
pub(crate) fn dots(
    canvas: &mut Canvas,
    count: u16,
    colours: &[u8],
    frame: Frame,
    rng: &mut Stream,
) {
    let largest = (2.0 * frame.scale()).max(1.0) as usize;
    for _ in 0..count {
        let x = rng.below(canvas.width()) as i32;
        let y = rng.below(canvas.height()) as i32;
        let bits = rng.u32() as usize;
        let size = 1 + (bits & 0xff) % largest;
        if let Some(colour) = colours.get((bits >> 8) % colours.len().max(1)) {
            for offset in 0..(size * size) as i32 {
                let size = size as i32;
                canvas.set(x + offset % size, y + offset / size, *colour);
            }
        }
    }
}

/// A curve from one side of the canvas to the other, or an arc somewhere on it.
pub(crate) fn curve(canvas: &mut Canvas, width: f32, colour: u8, frame: Frame, rng: &mut Stream) {
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
    let control = Point::new(rng.unit() * w, rng.between(-0.5, 1.5) * h);
    let length = from.distance(control) + control.distance(to);
    path(canvas, width, colour, length, |t| {
        from.towards(control, t).towards(control.towards(to, t), t)
    });
}

/// A small open shape: ring, triangle or square.
pub(crate) fn shape(canvas: &mut Canvas, colour: u8, frame: Frame, rng: &mut Stream) {
    let radius = rng.between(4.0, 11.0) * frame.scale();
    let centre = Point::new(rng.unit() * frame.width, rng.unit() * frame.height);
    let turn = rng.unit();
    let corners = rng.below(3) + 2;
    let width = frame.scale();
    let at = |turns: f32| {
        Point::new(centre.x + radius * cos_turns(turns), centre.y + radius * sin_turns(turns))
    };
    if corners == 2 {
        path(canvas, width, colour, radius * 20.0, at);
        return;
    }
    for corner in 0..corners {
        let from = at(turn + corner as f32 / corners as f32);
        let to = at(turn + (corner + 1) as f32 / corners as f32);
        path(canvas, width, colour, from.distance(to), |t| from.towards(to, t));
    }
}

/// Draws a path of about `length` px as straight strokes of about a dozen px.
fn path(canvas: &mut Canvas, width: f32, colour: u8, length: f32, at: impl Fn(f32) -> Point) {
    let thickness = (width + 0.5).max(1.0) as i32;
    let pieces = (length * (1.0 / 12.0)).clamp(1.0, 200.0) as u32 + 1;
    let mut from = at(0.0);
    for piece in 1..=pieces {
        let to = at(piece as f32 / pieces as f32);
        canvas.line(from, to, thickness, colour);
        from = to;
    }
}

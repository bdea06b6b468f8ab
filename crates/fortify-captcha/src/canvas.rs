//! The indexed canvas: one byte per px while it is drawn on, half a byte in the file.

use crate::outline::Point;
use crate::rng::floor;

/// Two colours for a ground that changes between light and dark: the first is drawn over px with an
/// even index, the second over px with an odd one. On a uniform ground both are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InkPair(pub(crate) [u8; 2]);

impl InkPair {
    /// The same on either side.
    pub(crate) const fn uniform(colour: u8) -> Self {
        Self([colour; 2])
    }

    /// The colour over `pixel`.
    const fn over(self, pixel: u8) -> u8 {
        let Self([even, odd]) = self;
        if pixel & 1 == 0 { even } else { odd }
    }
}

/// Pixels as palette indices, row by row.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// Takes a new size, keeping the memory; pixels are undefined until they are drawn.
    pub(crate) fn resize(&mut self, width: usize, height: usize) {
        self.width = width;
        self.height = height;
        self.pixels.resize(width * height, 0);
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn height(&self) -> usize {
        self.height
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.pixels.chunks_exact(self.width.max(1))
    }

    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.pixels.chunks_exact_mut(self.width.max(1))
    }

    /// Part of a row; empty where it is off the canvas.
    pub(crate) fn span_mut(&mut self, y: usize, from: usize, to: usize) -> &mut [u8] {
        let start = y * self.width;
        let (from, to) = (from.min(self.width), to.min(self.width));
        self.pixels.get_mut(start + from..start + to.max(from)).unwrap_or(&mut [])
    }

    /// One px, if it is on the canvas.
    pub(crate) fn set(&mut self, x: i32, y: i32, pair: InkPair) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return;
        };
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y * self.width + x)
        {
            *pixel = pair.over(*pixel);
        }
    }

    /// A straight stroke of `thickness` px, measured along the axis that it is steeper to, clipped.
    pub(crate) fn line(&mut self, from: Point, to: Point, thickness: i32, pair: InkPair) {
        let (dx, dy) = (to.x - from.x, to.y - from.y);
        let flat = dx.abs() >= dy.abs();
        // `along` is the axis on which the stroke advances by a px at a time.
        let (start, end, aside, slope, limit) = if flat {
            (from.x, to.x, from.y, dy / dx, self.width)
        } else {
            (from.y, to.y, from.x, dx / dy, self.height)
        };
        let first = floor(start.min(end) + 0.5).max(0);
        let last = floor(start.max(end) + 0.5).min(limit as i32);
        if first >= last {
            return;
        }
        let fixed = 65536.0;
        let edge = (1 - thickness) as f32 * 0.5;
        let mut at = ((aside + edge + (first as f32 + 0.5 - start) * slope) * fixed) as i32;
        let step = (slope * fixed) as i32;
        for along in first..last {
            for across in (at >> 16)..(at >> 16) + thickness {
                let (x, y) = if flat { (along, across) } else { (across, along) };
                self.set(x, y, pair);
            }
            at = at.saturating_add(step);
        }
    }
}

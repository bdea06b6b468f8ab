//! Statistics of a picture that need no reading: the tests of carriers bound with them how much a
//! picture gives away.

use crate::bitmap::{Bitmap, WORD};

/// A value per cell, row by row.
pub(crate) type Map = Vec<f32>;

/// The size of maps, cells.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Area {
    pub(crate) fn cells(self) -> usize {
        self.width * self.height
    }

    /// Whether each cell is set; none is in a bitmap that was never drawn on.
    pub(crate) fn traced(self, bits: &Bitmap) -> Vec<bool> {
        let cell = |row: &[u64], x: usize| row[x / WORD] >> (WORD - 1 - x % WORD) & 1 == 1;
        let mut cells: Vec<bool> =
            bits.rows().flat_map(|row| (0..self.width).map(move |x| cell(row, x))).collect();
        cells.resize(self.cells(), false);
        cells
    }

    /// `map` seen from (x + dx, y + dy), around the edges.
    pub(crate) fn shifted(self, map: &[f32], dx: i32, dy: i32) -> Map {
        let (width, height) = (self.width as i32, self.height as i32);
        (0..width * height)
            .map(|at| {
                let x = (at % width + dx).rem_euclid(width);
                let y = (at / width + dy).rem_euclid(height);
                map[(y * width + x) as usize]
            })
            .collect()
    }

    /// Pools neighbouring values, as eyes do.
    pub(crate) fn blurred(self, map: &[f32], sigma: f32) -> Map {
        let across = self.pooled(map, sigma, 1, self.width, |at| at % self.width);
        self.pooled(&across, sigma, self.width, self.height, |at| at / self.width)
    }

    /// The same from the cells that are `seen` alone, as if the others did not exist.
    pub(crate) fn blurred_among(self, map: &[f32], seen: &[bool], sigma: f32) -> Map {
        let weights: Map = seen.iter().map(|seen| f32::from(u8::from(*seen))).collect();
        let weighted: Map =
            map.iter().zip(&weights).map(|(value, weight)| value * weight).collect();
        let both = self.blurred(&weighted, sigma).into_iter().zip(self.blurred(&weights, sigma));
        both.map(|(value, weight)| value / weight.max(1e-6)).collect()
    }

    fn pooled(
        self,
        map: &[f32],
        sigma: f32,
        step: usize,
        limit: usize,
        place: impl Fn(usize) -> usize,
    ) -> Map {
        let reach = (3.0 * sigma) as i32;
        let kernel: Vec<f32> =
            (-reach..=reach).map(|at| (-(at * at) as f32 / (2.0 * sigma * sigma)).exp()).collect();
        let total: f32 = kernel.iter().sum();
        (0..self.cells())
            .map(|at| {
                let here = place(at) as i32;
                let sum: f32 = (-reach..=reach)
                    .zip(&kernel)
                    .map(|(offset, weight)| {
                        let there = (here + offset).clamp(0, limit as i32 - 1) - here;
                        weight * map[(at as i32 + there * step as i32) as usize]
                    })
                    .sum();
                sum / total
            })
            .collect()
    }

    /// Cells whose whole square of `reach` around them is set (or not set).
    pub(crate) fn core(self, glyphs: &[bool], set: bool, reach: i32) -> Vec<bool> {
        let plain: Map = glyphs.iter().map(|cell| f32::from(u8::from(*cell == set))).collect();
        let mut all = vec![true; plain.len()];
        for dy in -reach..=reach {
            for dx in -reach..=reach {
                let seen = self.shifted(&plain, dx, dy);
                all.iter_mut().zip(seen).for_each(|(all, value)| *all &= value > 0.5);
            }
        }
        all
    }
}

pub(crate) fn both(one: &[bool], other: &[bool]) -> Vec<bool> {
    one.iter().zip(other).map(|(one, other)| *one && *other).collect()
}

pub(crate) fn not(cells: &[bool]) -> Vec<bool> {
    cells.iter().map(|cell| !cell).collect()
}

pub(crate) fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

pub(crate) fn variance(values: &[f32]) -> f32 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>()
        / values.len().max(1) as f32
}

/// The values of `map` where `chosen` is set.
pub(crate) fn at(map: &[f32], chosen: &[bool]) -> Map {
    map.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(value, _)| *value).collect()
}

/// How far the map's values inside and outside are apart, in standard deviations, with its sign: d'.
pub(crate) fn separation(map: &[f32], inside: &[bool], outside: &[bool]) -> f32 {
    let (inside, outside) = (at(map, inside), at(map, outside));
    (mean(&inside) - mean(&outside)) / ((variance(&inside) + variance(&outside)) * 0.5).sqrt()
}

//! The filter bank: layers of striped noise, one per orientation and wavelength, made once.
//!
//! Every layer is the same white noise seen through another oriented band-pass filter, so that
//! neighbouring orientations nearly agree and orientations at right angles have nothing in common.
//! Blending two neighbours gives any orientation between them at nearly the same strength: a picture
//! needs no transform of its own, only these tables.

use std::array;

use crate::rng::{Stream, cos_turns, sin_turns};

/// Orientations per half turn. Layers 11 degrees apart correlate by about 0.77, so that a blend is as
/// strong as a layer to within 6 %, and equally so for two directions at right angles.
pub(crate) const ORIENTATIONS: usize = 16;
/// Wavelengths of a style. Sixteen orientations of each make 112 layers.
pub(crate) const WAVELENGTHS: usize = 7;
/// Wavelengths that a picture is drawn from, beginning at the one that the level names.
pub(crate) const BANDS: usize = 4;
/// The shortest wavelength of a style, px, from and to, and how far the longest is from it. People read
/// 3.9 to 4.2.
const SHORTEST: (f32, f32) = (3.7, 4.0);
const REACH: f32 = 0.4;
/// Size of a layer, px; it continues seamlessly on the other side. Wider and higher than the picture
/// that pages use, so that no part of it is seen twice there.
pub(crate) const WIDTH: usize = 512;
pub(crate) const HEIGHT: usize = 160;
/// Standard deviation of a layer's values, so that a byte holds three of them either way.
pub(crate) const DEVIATION: f32 = 40.0;
/// Width of the filter's envelope (standard deviation) in wavelengths, from and to: longer stripes are
/// easier to see and need more room to turn.
const ENVELOPE: (f32, f32) = (0.80, 0.92);

/// A row of every orientation, and of the first once more: the two next to a direction are neighbours.
pub(crate) type OrientationRows<'a> = [&'a [i8; WIDTH]; ORIENTATIONS + 1];

/// Noise of one wavelength and orientation, row by row.
type Layer = [[i8; WIDTH]; HEIGHT];

/// All layers.
pub(crate) struct FilterBank {
    /// By wavelength, orientation and row: directions change slowly, so that neighbouring px are mostly
    /// found side by side, and the next row's right after.
    layers: Vec<Layer>,
    grain: Vec<i8>,
}

impl FilterBank {
    /// The layers of a style, in about 100 ms and 9 MB.
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        let shortest = rng.between(SHORTEST.0, SHORTEST.1);
        let envelope = rng.between(ENVELOPE.0, ENVELOPE.1);
        let mut bytes = vec![0; 2 * WIDTH * HEIGHT];
        rng.fill(&mut bytes);
        let (white, grain) = bytes.split_at(WIDTH * HEIGHT);
        let white: Vec<f32> = white.iter().map(|byte| f32::from(*byte) - 127.5).collect();
        let grain = grain.iter().map(|byte| byte.cast_signed()).collect();
        let mut layers = vec![[[0; WIDTH]; HEIGHT]; WAVELENGTHS * ORIENTATIONS];
        let mut buffers = FilterBuffers::default();
        for (band, layers) in layers.chunks_exact_mut(ORIENTATIONS).enumerate() {
            let wavelength = shortest + REACH * band as f32 / (WAVELENGTHS - 1) as f32;
            for orientation in 0..=ORIENTATIONS / 2 {
                let turns = orientation as f32 / (2 * ORIENTATIONS) as f32;
                buffers.filter(&white, wavelength, wavelength * envelope, turns);
                // Its mirror image is made of the same two halves.
                for (at, sign) in [(orientation, -1.0), (ORIENTATIONS - orientation, 1.0)] {
                    if let Some(layer) = layers.get_mut(at) {
                        buffers.store(layer, sign);
                    }
                }
            }
        }
        Self { layers, grain }
    }

    /// Row `y` of one wavelength; there are [`WAVELENGTHS`].
    pub(crate) fn row(&self, band: usize, y: usize) -> OrientationRows<'_> {
        let first = band % WAVELENGTHS * ORIENTATIONS;
        array::from_fn(|at| &self.layers[first + at % ORIENTATIONS][y % HEIGHT])
    }

    /// White noise, -128 to 127 evenly: at least `length` values from anywhere.
    pub(crate) fn grain(&self, length: usize, rng: &mut Stream) -> &[i8] {
        let start = rng.below(self.grain.len().saturating_sub(length));
        self.grain.get(start..).unwrap_or(&[])
    }
}

/// The filter along one axis: a wave under a bell, `(1 - t^2 / 8 s^2)^4`, which is nearly a Gaussian
/// and takes multiplications only, so that every platform computes the same.
struct Kernel {
    even: Vec<f32>,
    odd: Vec<f32>,
}

impl Kernel {
    /// `frequency` in waves per px, `deviation` of the bell in px.
    fn new(frequency: f32, deviation: f32) -> Self {
        let width = 8.0 * deviation * deviation;
        let reach = width.sqrt() as i32;
        let bell = |at: i32| {
            let root = (1.0 - (at * at) as f32 / width).max(0.0);
            (root * root) * (root * root)
        };
        let even = (-reach..=reach).map(|at| bell(at) * cos_turns(frequency * at as f32)).collect();
        let odd = (-reach..=reach).map(|at| bell(at) * sin_turns(frequency * at as f32)).collect();
        Self { even, odd }
    }
}

/// Buffers of the size of a layer.
#[derive(Default)]
struct FilterBuffers {
    even: Vec<f32>,
    odd: Vec<f32>,
    even_even: Vec<f32>,
    odd_odd: Vec<f32>,
    padded: Vec<f32>,
}

impl FilterBuffers {
    /// Both halves of a wave along `turns`: cos(a + b) = cos a cos b - sin a sin b.
    fn filter(&mut self, white: &[f32], wavelength: f32, deviation: f32, turns: f32) {
        let along = Kernel::new(cos_turns(turns) / wavelength, deviation);
        let across = Kernel::new(sin_turns(turns) / wavelength, deviation);
        for (kernel, to) in [(&along.even, &mut self.even), (&along.odd, &mut self.odd)] {
            to.clear();
            to.resize(WIDTH * HEIGHT, 0.0);
            let reach = kernel.len() / 2;
            for (from, to) in white.chunks_exact(WIDTH).zip(to.chunks_exact_mut(WIDTH)) {
                self.padded.clear();
                self.padded.extend_from_slice(from.get(WIDTH - reach..).unwrap_or(&[]));
                self.padded.extend_from_slice(from);
                self.padded.extend_from_slice(from.get(..reach).unwrap_or(&[]));
                for (weight, from) in kernel.iter().zip(self.padded.windows(WIDTH)) {
                    add(to, from, *weight);
                }
            }
        }
        let halves = [
            (&across.even, &self.even, &mut self.even_even),
            (&across.odd, &self.odd, &mut self.odd_odd),
        ];
        for (kernel, from, to) in halves {
            to.clear();
            to.resize(WIDTH * HEIGHT, 0.0);
            let reach = kernel.len() / 2;
            for (y, to) in to.chunks_exact_mut(WIDTH).enumerate() {
                let rows = from.chunks_exact(WIDTH).cycle().skip(y + HEIGHT - reach);
                for (weight, from) in kernel.iter().zip(rows) {
                    add(to, from, *weight);
                }
            }
        }
    }

    /// Both halves with the second one's sign, brought to the common deviation.
    fn store(&self, layer: &mut Layer, sign: f32) {
        let both = || self.even_even.iter().zip(&self.odd_odd).map(|(e, o)| e + sign * o);
        let count = (WIDTH * HEIGHT) as f64;
        let variance = both().map(|value| f64::from(value) * f64::from(value)).sum::<f64>() / count;
        let scale = DEVIATION / (variance as f32).sqrt().max(f32::MIN_POSITIVE);
        for (byte, value) in layer.as_flattened_mut().iter_mut().zip(both()) {
            // Saturates, which cuts off one value in a thousand.
            *byte = (value * scale).round() as i8;
        }
    }
}

fn add(to: &mut [f32], from: &[f32], weight: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::StyleStream;
    use crate::seed::StyleKey;

    /// The wavelength of the first band's upright stripes, px: rows cross zero twice in each.
    fn wavelength(filters: &FilterBank) -> f64 {
        let rows = filters.layers[0].iter();
        let crossings =
            |row: &[i8; WIDTH]| row.windows(2).filter(|w| (w[0] < 0) != (w[1] < 0)).count();
        2.0 * (WIDTH * HEIGHT) as f64 / rows.map(crossings).sum::<usize>() as f64
    }

    #[test]
    fn styles_have_wavelengths_of_their_own() {
        let found: Vec<f64> = (0..12)
            .map(|key| Stream::of_style(&StyleKey::from_bytes([key; 32]), StyleStream::Filters))
            .map(|mut rng| wavelength(&FilterBank::draw(&mut rng)))
            .collect();
        let (least, most) =
            found.iter().fold((f64::MAX, 0.0_f64), |(l, m), w| (l.min(*w), m.max(*w)));
        println!("{found:.2?}");
        // One wavelength measured in other noise differs by less than 1 %.
        assert!(most / least > 1.03, "{found:?}");
    }

    #[test]
    fn a_hundred_layers_and_more_are_prepared_and_no_two_are_alike() {
        let filters = FilterBank::draw(&mut Stream::fixed(1));
        let different: std::collections::HashSet<&Layer> = filters.layers.iter().collect();
        assert!(different.len() >= 100, "{} layers", different.len());
        assert_eq!(different.len(), WAVELENGTHS * ORIENTATIONS);
    }
}

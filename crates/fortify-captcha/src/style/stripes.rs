//! How the stripes of swirl bend.

use std::array;

use crate::rng::Stream;

/// How the stripes of a style bend: shares of the bend that go into a steady turn, into waves along
/// the columns, the rows and the diagonal, and the lengths of those waves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StripeParams {
    pub(crate) slope: f32,
    pub(crate) columns: f32,
    pub(crate) rows: f32,
    pub(crate) diagonals: f32,
    /// Waves in a height of the picture, relative to the middle of each range.
    pub(crate) frequency: f32,
}

impl StripeParams {
    /// Draws the parameters of a style. The shares add up to the bend with which the readings were
    /// taken.
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        let shares: [f32; 4] = array::from_fn(|_| 0.1 + rng.unit());
        let [slope, columns, rows, diagonals] =
            shares.map(|share| 1.05 * share / shares.iter().sum::<f32>());
        Self { slope, columns, rows, diagonals, frequency: rng.between(0.85, 1.1) }
    }
}

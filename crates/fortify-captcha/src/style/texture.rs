//! How ink fills characters.

use crate::raster::Hatch;
use crate::rng::Stream;

/// How characters are filled, where their colours mean nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texture {
    pub(crate) hatch: Hatch,
    /// A thin line of the second colour along the edges.
    pub(crate) rim: bool,
}

impl Texture {
    pub(crate) const PLAIN: Self = Self { hatch: Hatch::Solid, rim: false };
}

/// How a style fills characters: one of two ways in each picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Textures(pub(crate) [Texture; 2]);

impl Textures {
    /// Draws the textures of a style.
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        let mut height = || rng.integer(3, 7) as u8;
        let mut hatches = [
            Hatch::Solid,
            Hatch::Rows(height()),
            Hatch::Slant(height()),
            Hatch::Checks(height()),
            Hatch::Split,
        ];
        rng.shuffle(&mut hatches);
        let [first, second, ..] = hatches;
        let mut texture = |hatch| Texture { hatch, rim: rng.chance(0.4) };
        Self([texture(first), texture(second)])
    }

    pub(crate) fn pick(&self, rng: &mut Stream) -> Texture {
        let [first, second] = self.0;
        if rng.chance(0.5) { first } else { second }
    }
}

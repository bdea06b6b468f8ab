//! Stencils: the cells that figures cover, for carriers that show figures without drawing them, and the
//! cells of what is plain to see in every carrier: frames, question marks in them, and objects under
//! letters.

use super::large;
use crate::bits::Bits;
use crate::figure::Figure;
use crate::font::Fonts;
use crate::layout::{Frame, Hand, Layout, Tint};
use crate::raster::Rasterizer;
use crate::rng::Stream;

/// What it takes to go from figures to cells. Kept between pictures.
#[derive(Debug, Default)]
pub(crate) struct Stencil {
    layout: Layout,
    rasterizer: Rasterizer,
    /// What is plain to see in what was cut last.
    plain: Bits,
    spare: Bits,
}

/// How large a stencil is and how it is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Cells per row.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    pub(crate) hand: Hand,
    /// Cells that strokes grow by on each side.
    pub(crate) growth: u8,
    /// Cells of light around what is plain.
    pub(crate) rim: u8,
}

impl Cut {
    /// The first row of the strip of objects under letters; beyond the last row where there is none.
    fn strip(&self) -> usize {
        (self.height as f32 * (1.0 - self.hand.strip)) as usize
    }
}

/// What is plain to see in every carrier, and stands still where others move: it says nothing about what
/// the carrier shows.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    /// Frames, question marks and objects.
    pub(crate) dark: Bits,
    /// The same, a rim around it, and all of the strip that objects stand in.
    pub(crate) light: Bits,
}

impl Plain {
    /// The dark and the light cells of each row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[u64], &[u64])> {
        self.dark.rows().zip(self.light.rows())
    }
}

impl Stencil {
    /// Sets the cells that `figures` cover, but for what is plain.
    pub(crate) fn cut(
        &mut self,
        figures: &[Figure],
        fonts: &Fonts,
        cut: &Cut,
        rng: &mut Stream,
        cells: &mut Bits,
    ) {
        let Self { layout, rasterizer, plain, spare } = self;
        cells.reset(cut.width, cut.height);
        plain.reset(cut.width, cut.height);
        let frame = Frame { width: cut.width as f32, height: cut.height as f32 };
        layout.compose(&large(figures), fonts, &cut.hand, frame, rng);
        for shape in layout.shapes() {
            if let Some(bounds) = layout.bounds(shape) {
                let to = if shape.tint() == Tint::Chalk { &mut *plain } else { &mut *cells };
                let size = (cut.width, cut.height);
                rasterizer.stamp(to, size, layout.contours(shape), &bounds);
            }
        }
        for _ in 0..cut.growth {
            cells.grow(spare);
        }
    }

    /// Whether anything is plain in what was cut last.
    pub(crate) fn has_plain(&self) -> bool {
        self.layout.shapes().iter().any(|shape| shape.tint() == Tint::Chalk)
    }

    /// Sets the cells of what is plain in what was cut last.
    pub(crate) fn plain(&mut self, cut: &Cut, Plain { dark, light }: &mut Plain) {
        dark.copy(&self.plain);
        light.copy(dark);
        for _ in 0..cut.rim {
            light.grow(&mut self.spare);
        }
        light.rows_mut().skip(cut.strip()).for_each(|row| row.fill(u64::MAX));
    }
}

//! Stencils: the cells that figures cover, for carriers that show figures without drawing them, and the
//! cells of what is drawn plainly: frames, and question marks in them.

use super::large;
use crate::bits::Bits;
use crate::canvas::Canvas;
use crate::font::Fonts;
use crate::layout::{Frame, Hand, Layout, Tint};
use crate::raster::{Fill, Ink, Rasterizer};
use crate::rng::Stream;
use crate::tasks::Figure;

/// What it takes to go from figures to cells. Kept between pictures.
#[derive(Debug, Default)]
pub(crate) struct Stencil {
    canvas: Canvas,
    layout: Layout,
    rasterizer: Rasterizer,
    spare: Bits,
}

/// Bits of a px on the stencil's canvas: what the carrier shows, and what is drawn plainly.
const SHOWN: u32 = 0;
const PLAIN: u32 = 1;

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
}

impl Stencil {
    /// Sets the cells that `figures` cover.
    pub(crate) fn cut(
        &mut self,
        figures: &[Figure],
        fonts: &Fonts,
        cut: &Cut,
        rng: &mut Stream,
        cells: &mut Bits,
    ) {
        let Self { canvas, layout, rasterizer, spare } = self;
        canvas.resize(cut.width, cut.height);
        canvas.rows_mut().for_each(|row| row.fill(0));
        let frame = Frame { width: cut.width as f32, height: cut.height as f32 };
        layout.compose(&large(figures), fonts, &cut.hand, frame, rng);
        for shape in layout.shapes() {
            if let Some(bounds) = layout.bounds(shape) {
                let bit = 1 << if shape.tint() == Tint::Chalk { PLAIN } else { SHOWN };
                let fill = Fill::solid(Ink::plain(bit, bit));
                rasterizer.fill(canvas, layout.contours(shape), &bounds, fill);
            }
        }
        cells.trace(canvas, SHOWN);
        for _ in 0..cut.growth {
            cells.grow(spare);
        }
    }

    /// Sets the cells of the frames and question marks of what was cut last.
    pub(crate) fn plain(&self, cells: &mut Bits) {
        cells.trace(&self.canvas, PLAIN);
    }
}

//! Stencils: the cells that figures cover, for carriers that show figures without drawing them.

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

impl Cut {
    /// The first row of the strip of plain objects; beyond the last row where there is none.
    pub(crate) fn strip(&self) -> usize {
        (self.height as f32 * (1.0 - self.hand.strip)) as usize
    }
}

impl Stencil {
    /// Sets the cells that `figures` cover, but for what is plain ink.
    pub(crate) fn cut(
        &mut self,
        figures: &[Figure],
        fonts: &Fonts,
        cut: &Cut,
        rng: &mut Stream,
        cells: &mut Bits,
    ) {
        let Self { canvas, layout, rasterizer, spare } = self;
        let frame = Frame { width: cut.width as f32, height: cut.height as f32 };
        layout.compose(&large(figures), fonts, &cut.hand, frame, rng);
        canvas.resize(cut.width, cut.height);
        canvas.rows_mut().for_each(|row| row.fill(0));
        let ink = Ink { full: 1, half: 1 };
        fill(layout, |tint| tint != Tint::Plain, ink, rasterizer, canvas);
        cells.trace(canvas);
        for _ in 0..cut.growth {
            cells.grow(spare);
        }
    }

    /// Fills what is plain ink in the picture whose figures were cut last.
    pub(crate) fn ink(&mut self, ink: Ink, canvas: &mut Canvas) {
        let Self { layout, rasterizer, .. } = self;
        fill(layout, |tint| tint == Tint::Plain, ink, rasterizer, canvas);
    }

    /// Sets the cells that plain ink covers in the picture whose figures were cut last.
    pub(crate) fn trace(&mut self, cut: &Cut, cells: &mut Bits) {
        let Self { canvas, layout, rasterizer, .. } = self;
        canvas.resize(cut.width, cut.height);
        canvas.rows_mut().for_each(|row| row.fill(0));
        let ink = Ink { full: 1, half: 0 };
        fill(layout, |tint| tint == Tint::Plain, ink, rasterizer, canvas);
        cells.trace(canvas);
    }
}

fn fill(
    layout: &Layout,
    chosen: impl Fn(Tint) -> bool,
    ink: Ink,
    rasterizer: &mut Rasterizer,
    canvas: &mut Canvas,
) {
    for shape in layout.shapes().iter().filter(|shape| chosen(shape.tint())) {
        if let Some(bounds) = layout.bounds(shape) {
            rasterizer.fill(canvas, layout.contours(shape), &bounds, Fill::solid(ink));
        }
    }
}

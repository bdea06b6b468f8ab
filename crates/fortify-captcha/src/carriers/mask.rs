//! Masks: the cells that figures cover, for carriers that show figures without drawing them.
//!
//! Neutral shapes (tile frames, the question marks in them, and objects under letters) have a mask of
//! their own: they look the same in every carrier and say nothing about the answer.

use super::for_large_glyphs;
use crate::bitmap::Bitmap;
use crate::figure::Figure;
use crate::font::Fonts;
use crate::layout::{Frame, GlyphParams, Layout, Tint};
use crate::raster::Rasterizer;
use crate::rng::Stream;

/// Turns figures into masks. Kept between pictures, so that its memory is.
#[derive(Debug, Default)]
pub(crate) struct MaskRenderer {
    layout: Layout,
    rasterizer: Rasterizer,
    /// The neutral shapes of the last mask.
    neutral: Bitmap,
    spare: Bitmap,
}

/// The size of a mask and how figures are drawn on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskSpec {
    /// Cells per row.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    pub(crate) params: GlyphParams,
    /// Cells that strokes grow by on each side.
    pub(crate) growth: u8,
    /// Width of the light rim around neutral shapes, cells.
    pub(crate) rim: u8,
}

impl MaskSpec {
    /// The first row of the strip of objects under letters; beyond the last row where there is none.
    fn strip(&self) -> usize {
        (self.height as f32 * (1.0 - self.params.strip)) as usize
    }
}

/// The cells of neutral shapes, which stand still where others move.
#[derive(Debug, Default)]
pub(crate) struct NeutralMask {
    /// Frames, question marks and objects.
    pub(crate) dark: Bitmap,
    /// The same, a rim around it, and all of the strip that objects stand in.
    pub(crate) light: Bitmap,
}

impl NeutralMask {
    /// The dark and the light cells of each row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[u64], &[u64])> {
        self.dark.rows().zip(self.light.rows())
    }
}

impl MaskRenderer {
    /// Sets the cells that `figures` cover, except those of neutral shapes.
    pub(crate) fn render(
        &mut self,
        figures: &[Figure],
        fonts: &Fonts,
        spec: &MaskSpec,
        rng: &mut Stream,
        cells: &mut Bitmap,
    ) {
        let Self { layout, rasterizer, neutral, spare } = self;
        cells.reset(spec.width, spec.height);
        neutral.reset(spec.width, spec.height);
        let frame = Frame { width: spec.width as f32, height: spec.height as f32 };
        layout.compose(&for_large_glyphs(figures), fonts, &spec.params, frame, rng);
        for shape in layout.shapes() {
            if let Some(bounds) = layout.bounds(shape) {
                let to = if shape.tint() == Tint::Neutral { &mut *neutral } else { &mut *cells };
                let size = (spec.width, spec.height);
                rasterizer.stamp(to, size, layout.contours(shape), &bounds);
            }
        }
        for _ in 0..spec.growth {
            cells.grow(spare);
        }
    }

    /// Whether the last mask had neutral shapes.
    pub(crate) fn has_neutral(&self) -> bool {
        self.layout.shapes().iter().any(|shape| shape.tint() == Tint::Neutral)
    }

    /// Sets the cells of the neutral shapes of the last mask.
    pub(crate) fn render_neutral(
        &mut self,
        spec: &MaskSpec,
        NeutralMask { dark, light }: &mut NeutralMask,
    ) {
        dark.copy(&self.neutral);
        light.copy(dark);
        for _ in 0..spec.rim {
            light.grow(&mut self.spare);
        }
        light.rows_mut().skip(spec.strip()).for_each(|row| row.fill(u64::MAX));
    }
}

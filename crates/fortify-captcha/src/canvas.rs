//! The indexed canvas: one byte per px while it is drawn on, half a byte in the file.

/// Pixels as palette indices, row by row.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// Takes a new size, keeping the memory; what the pixels hold is undefined until they are drawn.
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

    /// A square block of `size` px with its upper left corner at (x, y), clipped.
    pub(crate) fn block(&mut self, x: i32, y: i32, size: i32, colour: u8) {
        let clip = |value: i32, limit: usize| value.clamp(0, limit as i32) as usize;
        let (from, to) = (clip(x, self.width), clip(x + size, self.width));
        for row in clip(y, self.height)..clip(y + size, self.height) {
            self.span_mut(row, from, to).fill(colour);
        }
    }
}

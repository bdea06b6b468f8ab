//! Pictures of one bit per cell, 64 cells in a word, so that whole rows move and mix at once.

use crate::canvas::Canvas;

/// Cells in a word.
pub(crate) const WORD: usize = u64::BITS as usize;

/// Rows of cells; the leftmost cell is the highest bit of the first word. Rows are whole words: the
/// cells beyond the picture's width exist and are never shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits {
    /// Words per row, at least one.
    stride: usize,
    words: Vec<u64>,
}

impl Bits {
    /// Takes a new size, all cells zero, keeping the memory.
    pub(crate) fn reset(&mut self, width: usize, height: usize) {
        self.stride = width.div_ceil(WORD).max(1);
        self.words.clear();
        self.words.resize(self.stride * height, 0);
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    pub(crate) fn rows(
        &self,
    ) -> impl DoubleEndedIterator<Item = &[u64]> + ExactSizeIterator + Clone {
        self.words.chunks_exact(self.stride.max(1))
    }

    pub(crate) fn rows_mut(
        &mut self,
    ) -> impl DoubleEndedIterator<Item = &mut [u64]> + ExactSizeIterator {
        self.words.chunks_exact_mut(self.stride.max(1))
    }

    /// Takes over the canvas: a cell for each px, set where the bit `plane` of its colour is.
    pub(crate) fn trace(&mut self, canvas: &Canvas, plane: u32) {
        self.reset(canvas.width(), canvas.height());
        for (from, to) in canvas.rows().zip(self.rows_mut()) {
            for (pixels, word) in from.chunks(WORD).zip(to) {
                *word = gather(pixels, plane);
            }
        }
    }

    /// Thickens what is set by a cell: upwards, downwards and to both sides.
    pub(crate) fn grow(&mut self, spare: &mut Self) {
        spare.stride = self.stride;
        spare.words.clone_from(&self.words);
        let height = self.rows().len();
        for (y, row) in self.rows_mut().enumerate() {
            let at = |y: usize| spare.rows().nth(y).unwrap_or(&[]);
            let above = if y == 0 { &[] } else { at(y - 1) };
            let below = if y + 1 == height { &[] } else { at(y + 1) };
            let here = at(y);
            for (x, word) in row.iter_mut().enumerate() {
                let of = |row: &[u64], x: usize| row.get(x).copied().unwrap_or(0);
                let before = if x == 0 { 0 } else { of(here, x - 1) };
                let aside = (*word << 1) | (*word >> 1);
                let across = (before << (WORD - 1)) | (of(here, x + 1) >> (WORD - 1));
                *word |= aside | across | of(above, x) | of(below, x);
            }
        }
    }

    /// `from` moved by a cell, up to one each way; what leaves on one side comes back on the other,
    /// rows being whole words.
    pub(crate) fn moved(&mut self, from: &Self, step: Step) {
        self.stride = from.stride;
        self.words.resize(from.words.len(), 0);
        let height = from.rows().len();
        let first = height.saturating_add_signed(-step.down) % height.max(1);
        let source = from.rows().cycle().skip(first);
        for (from, to) in source.zip(self.rows_mut()) {
            match step.right {
                0 => to.copy_from_slice(from),
                1.. => {
                    let mut carry = from.last().map_or(0, |word| word << (WORD - 1));
                    for (from, to) in from.iter().zip(to) {
                        *to = (from >> 1) | carry;
                        carry = from << (WORD - 1);
                    }
                }
                _ => {
                    let mut carry = from.first().map_or(0, |word| word >> (WORD - 1));
                    for (from, to) in from.iter().zip(to).rev() {
                        *to = (from << 1) | carry;
                        carry = from >> (WORD - 1);
                    }
                }
            }
        }
    }
}

/// Adds a word's cells to 64 bytes, one each: the highest bit to the first byte.
pub(crate) fn count(word: u64, counts: &mut [u8]) {
    let (eights, _) = counts.as_chunks_mut::<8>();
    for (bits, counts) in word.to_be_bytes().into_iter().zip(eights) {
        // Each byte keeps the one bit that it stands for, which adding 127 carries to its top.
        let bits = (u64::from(bits) * 0x0101_0101_0101_0101) & 0x0102_0408_1020_4080;
        let cells = ((bits + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & 0x0101_0101_0101_0101;
        *counts = (u64::from_le_bytes(*counts) + cells).to_le_bytes();
    }
}

/// A move by at most a cell along each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) right: isize,
    pub(crate) down: isize,
}

impl Step {
    /// The same way back.
    pub(crate) fn reversed(self) -> Self {
        Self { right: -self.right, down: -self.down }
    }
}

/// The bits `plane` of up to 64 px, the first one highest.
fn gather(pixels: &[u8], plane: u32) -> u64 {
    let (eights, rest) = pixels.as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(byte, pixel)| *byte = *pixel);
    let mut word = 0;
    for (index, bytes) in eights.iter().chain([&last]).take(WORD / 8).enumerate() {
        // The product adds up shifted copies so that its highest byte holds the eight bits in order.
        let bits = (u64::from_le_bytes(*bytes) >> plane) & 0x0101_0101_0101_0101;
        let bits = bits.wrapping_mul(0x8040_2010_0804_0201) >> (WORD - 8);
        word |= bits << (WORD - 8 - 8 * index);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Dye;

    fn cell(bits: &Bits, x: usize, y: usize) -> bool {
        bits.words[y * bits.stride + x / WORD] >> (WORD - 1 - x % WORD) & 1 == 1
    }

    fn with(width: usize, height: usize, cells: &[(usize, usize)]) -> Bits {
        let mut canvas = Canvas::default();
        canvas.resize(width, height);
        canvas.rows_mut().for_each(|row| row.fill(0));
        for (x, y) in cells {
            canvas.set(*x as i32, *y as i32, Dye::plain(1));
        }
        let mut bits = Bits::default();
        bits.trace(&canvas, 0);
        bits
    }

    fn set(bits: &Bits) -> Vec<(usize, usize)> {
        let (width, height) = (bits.stride * WORD, bits.rows().len());
        (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .filter(|(x, y)| cell(bits, *x, *y))
            .collect()
    }

    #[test]
    fn a_canvas_is_traced_cell_by_cell() {
        let cells = [(0, 0), (7, 0), (8, 1), (63, 1), (64, 2), (99, 2)];
        assert_eq!(set(&with(100, 3, &cells)), cells);
    }

    #[test]
    fn growing_reaches_all_four_neighbours_and_across_words() {
        let mut bits = with(100, 3, &[(63, 1)]);
        bits.grow(&mut Bits::default());
        assert_eq!(set(&bits), [(63, 0), (62, 1), (63, 1), (64, 1), (63, 2)]);
        let mut corner = with(100, 3, &[(0, 0)]);
        corner.grow(&mut Bits::default());
        assert_eq!(set(&corner), [(0, 0), (1, 0), (0, 1)]);
    }

    #[test]
    fn cells_are_counted_where_they_are() {
        let bits = with(128, 1, &[(0, 0), (7, 0), (8, 0), (63, 0), (64, 0), (99, 0)]);
        let mut counts = [1; 128];
        for (word, counts) in bits.words.iter().zip(counts.chunks_mut(WORD)) {
            count(*word, counts);
        }
        let found: Vec<_> = (0..128).filter(|x| counts[*x] == 2).map(|x| (x, 0)).collect();
        assert_eq!(found, set(&bits));
    }

    #[test]
    fn moving_wraps_and_reverses() {
        let bits = with(128, 3, &[(0, 0), (63, 1), (127, 2), (10, 1)]);
        let mut moved = Bits::default();
        moved.moved(&bits, Step { right: 1, down: 0 });
        assert_eq!(set(&moved), [(1, 0), (11, 1), (64, 1), (0, 2)]);
        moved.moved(&bits, Step { right: -1, down: 1 });
        assert_eq!(set(&moved), [(126, 0), (127, 1), (9, 2), (62, 2)]);
        moved.moved(&bits, Step { right: 0, down: -1 });
        assert_eq!(set(&moved), [(10, 0), (63, 0), (127, 1), (0, 2)]);
        let mut back = Bits::default();
        for step in [Step { right: 1, down: -1 }, Step { right: -1, down: -1 }] {
            moved.moved(&bits, step);
            back.moved(&moved, step.reversed());
            assert_eq!(back.words, bits.words);
        }
    }
}

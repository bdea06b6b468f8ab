//! Bitmaps: one bit per cell and 64 cells in a word, so that whole rows move and mix at once.

/// Cells in a word.
pub(crate) const WORD: usize = u64::BITS as usize;

/// Rows of cells; the leftmost cell is the highest bit of the first word. Rows are whole words: the
/// cells beyond the picture's width exist and are never shown.
#[derive(Debug, Default)]
pub(crate) struct Bitmap {
    /// Words per row, at least one.
    stride: usize,
    words: Vec<u64>,
}

impl Bitmap {
    /// Takes a new size, all cells zero, keeping the memory.
    pub(crate) fn reset(&mut self, width: usize, height: usize) {
        self.stride = width.div_ceil(WORD).max(1);
        self.words.clear();
        self.words.resize(self.stride * height, 0);
    }

    /// Copies `other`, keeping the memory.
    pub(crate) fn copy(&mut self, other: &Self) {
        self.stride = other.stride;
        self.words.clone_from(&other.words);
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
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

    /// Dilates the set cells by one cell: upwards, downwards and to both sides.
    pub(crate) fn grow(&mut self, spare: &mut Self) {
        spare.copy(self);
        let (first, last) = (spare.rows().next(), spare.rows().next_back());
        // The rows beyond the first and the last one count as copies of them.
        let above = first.into_iter().chain(spare.rows());
        let below = spare.rows().skip(1).chain(last);
        for (((to, here), above), below) in self.rows_mut().zip(spare.rows()).zip(above).zip(below)
        {
            let around = here.iter().zip(above).zip(below);
            for (to, ((here, above), below)) in to.iter_mut().zip(around) {
                *to = here | above | below | (here << 1) | (here >> 1);
            }
            let befores = to.iter_mut().skip(1).zip(here);
            befores.for_each(|(to, before)| *to |= before << (WORD - 1));
            let afters = to.iter_mut().zip(here.iter().skip(1));
            afters.for_each(|(to, after)| *to |= after >> (WORD - 1));
        }
    }

    /// Copies `from`, moved by at most one cell along each axis. Cells that leave on one side come
    /// back on the other, rows being whole words.
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

/// A bit for each of eight bytes that are 0 or 1, the first one highest.
pub(crate) fn gather(bytes: [u8; 8]) -> u8 {
    // The product adds up shifted copies so that its highest byte holds the eight bits in order.
    (u64::from_le_bytes(bytes).wrapping_mul(0x8040_2010_0804_0201) >> (WORD - 8)) as u8
}

/// A byte, 0 or 1, for each of eight cells: the reverse of [`gather`].
pub(crate) const fn scatter(cells: u8) -> u64 {
    // Each byte keeps the one bit that it stands for, which adding 127 carries to its top.
    let bits = (cells as u64 * 0x0101_0101_0101_0101) & 0x0102_0408_1020_4080;
    ((bits + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & 0x0101_0101_0101_0101
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(bits: &Bitmap, x: usize, y: usize) -> bool {
        bits.words[y * bits.stride + x / WORD] >> (WORD - 1 - x % WORD) & 1 == 1
    }

    fn with(width: usize, height: usize, cells: &[(usize, usize)]) -> Bitmap {
        let mut bits = Bitmap::default();
        bits.reset(width, height);
        for (x, y) in cells {
            let row = bits.rows_mut().nth(*y).unwrap();
            row[x / WORD] |= 1 << (WORD - 1 - x % WORD);
        }
        bits
    }

    fn set(bits: &Bitmap) -> Vec<(usize, usize)> {
        let (width, height) = (bits.stride * WORD, bits.rows().len());
        (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .filter(|(x, y)| cell(bits, *x, *y))
            .collect()
    }

    #[test]
    fn bits_become_bytes_and_bits_again() {
        assert_eq!(scatter(0b1000_0010).to_le_bytes(), [1, 0, 0, 0, 0, 0, 1, 0]);
        for cells in 0..=u8::MAX {
            assert_eq!(gather(scatter(cells).to_le_bytes()), cells);
        }
    }

    #[test]
    fn growing_reaches_all_four_neighbours_and_across_words() {
        let mut bits = with(100, 3, &[(63, 1)]);
        bits.grow(&mut Bitmap::default());
        assert_eq!(set(&bits), [(63, 0), (62, 1), (63, 1), (64, 1), (63, 2)]);
        let mut corner = with(100, 3, &[(0, 0)]);
        corner.grow(&mut Bitmap::default());
        assert_eq!(set(&corner), [(0, 0), (1, 0), (0, 1)]);
    }

    #[test]
    fn moving_wraps_and_reverses() {
        let bits = with(128, 3, &[(0, 0), (63, 1), (127, 2), (10, 1)]);
        let mut moved = Bitmap::default();
        moved.moved(&bits, Step { right: 1, down: 0 });
        assert_eq!(set(&moved), [(1, 0), (11, 1), (64, 1), (0, 2)]);
        moved.moved(&bits, Step { right: -1, down: 1 });
        assert_eq!(set(&moved), [(126, 0), (127, 1), (9, 2), (62, 2)]);
        moved.moved(&bits, Step { right: 0, down: -1 });
        assert_eq!(set(&moved), [(10, 0), (63, 0), (127, 1), (0, 2)]);
        let mut back = Bitmap::default();
        for step in [Step { right: 1, down: -1 }, Step { right: -1, down: -1 }] {
            moved.moved(&bits, step);
            back.moved(&moved, step.reversed());
            assert_eq!(back.words, bits.words);
        }
    }
}

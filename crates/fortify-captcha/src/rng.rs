//! Deterministic random numbers.
//!
//! `ChaCha` by name, because a generator that is called "standard" or "small" may change with the
//! next release of its crate, and the same seed must give the same picture on every node of a
//! swarm. Numbers are drawn here by plain integer arithmetic for the same reason. Twelve rounds
//! are what the `rand` crate takes for its own secure generator.

use chacha20::ChaCha12Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::seed::{Seed, StyleKey};

/// The part of a picture that a stream of numbers is for.
///
/// Task, carrier and decoy draw from streams of their own, so that the answer does not depend on how
/// many numbers the drawing took, and can be had without drawing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Task = 0,
    Carrier = 1,
    Decoy = 2,
}

/// The part of a style that a stream of numbers is for.
///
/// The number is the ChaCha stream id, so that a part that is added or removed leaves the others as
/// they were. Renumbering one changes every picture.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StyleStream {
    Fonts = 0,
    Layout = 1,
    Scheme = 2,
    Ground = 3,
    Marks = 4,
    Filters = 5,
    Stripes = 6,
    Dots = 7,
    Textures = 8,
}

/// A stream of numbers that follows from a seed and a purpose.
pub(crate) struct Stream(ChaCha12Rng);

impl Stream {
    pub(crate) fn new(seed: &Seed, purpose: Purpose) -> Self {
        let mut rng = ChaCha12Rng::from_seed(*seed.as_bytes());
        rng.set_stream(purpose as u64);
        Self(rng)
    }

    /// A stream for one part of a style, the same for every picture in it.
    pub(crate) fn of_style(key: &StyleKey, stream: StyleStream) -> Self {
        let mut rng = ChaCha12Rng::from_seed(*key.as_bytes());
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// A stream for tests, the same each time.
    #[cfg(test)]
    pub(crate) fn fixed(label: u8) -> Self {
        Self(ChaCha12Rng::from_seed([label; 32]))
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// 0..bound by multiplication: for the bounds in use (under 1000) the bias is under 2^-22.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.u32()) * bound as u64) >> 32) as usize
    }

    /// `low..=high`.
    pub(crate) fn integer(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low).max(0) as usize + 1) as i32
    }

    /// 0.0..1.0 in steps of 2^-24.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// -1.0..1.0.
    pub(crate) fn signed(&mut self) -> f32 {
        self.unit() * 2.0 - 1.0
    }

    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// A random member; `None` where there is none.
    pub(crate) fn pick<'a, T>(&mut self, members: &'a [T]) -> Option<&'a T> {
        members.get(self.below(members.len()))
    }

    /// Puts `members` in random order, every order as likely as any other.
    pub(crate) fn shuffle<T>(&mut self, members: &mut [T]) {
        for last in (1..members.len()).rev() {
            members.swap(last, self.below(last + 1));
        }
    }

    /// `count` different members in random order; fewer where there are fewer.
    pub(crate) fn sample<T: Copy>(&mut self, members: &[T], count: usize) -> Vec<T> {
        let mut members = members.to_vec();
        self.shuffle(&mut members);
        members.truncate(count);
        members
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

/// Sine of an angle in turns, within 0.0011 of the true value.
///
/// Multiplications and additions only: the standard library's sine may differ between platforms in
/// its last bit, and then one picture would have two hashes. A thousandth of the largest wave (8 px)
/// is far too small to be seen.
pub(crate) fn sin_turns(turns: f32) -> f32 {
    let t = turns - floor(turns + 0.5) as f32;
    let parabola = 8.0 * t - 16.0 * t * t.abs();
    parabola * (0.775 + 0.225 * parabola.abs())
}

/// The next whole number below: the standard library's is a function call on processors that are
/// not known to round in one instruction, and this is in the inner loops.
pub(crate) fn floor(value: f32) -> i32 {
    let whole = value as i32;
    whole - i32::from(value < whole as f32)
}

/// Cosine of an angle in turns; see [`sin_turns`].
pub(crate) fn cos_turns(turns: f32) -> f32 {
    sin_turns(turns + 0.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_is_close_enough() {
        for step in -2000..2000_i32 {
            let turns = step as f32 / 700.0;
            let exact = (f64::from(turns) * std::f64::consts::TAU).sin() as f32;
            assert!((sin_turns(turns) - exact).abs() < 0.0012, "at {turns}");
        }
    }

    #[test]
    fn purposes_have_streams_of_their_own() {
        let seed = Seed::from_bytes([7; 32]);
        let mut task = Stream::new(&seed, Purpose::Task);
        let mut carrier = Stream::new(&seed, Purpose::Carrier);
        assert_ne!([task.u32(), task.u32()], [carrier.u32(), carrier.u32()]);
    }

    #[test]
    fn bounds_hold() {
        let mut stream = Stream::fixed(1);
        for _ in 0..10_000 {
            assert!(stream.below(24) < 24);
            assert!((-3..=5).contains(&stream.integer(-3, 5)));
            assert!((0.0..1.0).contains(&stream.unit()));
        }
    }
}

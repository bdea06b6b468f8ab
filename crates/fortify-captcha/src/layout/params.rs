//! The layout parameters of a style: how it bends, aligns and turns figures, within the limits of the
//! level.

use crate::rng::{Stream, floor, sin_turns};

/// How a style bends, aligns and turns figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayoutParams {
    /// How lines bend, one of two in each picture.
    bends: [Bend; 2],
    path: Path,
    turns: Turns,
    /// How much longer waves are than the level's shortest: from one to the other.
    pub(super) lengths: (f32, f32),
    /// How much of the spare width goes between the figures rather than around them.
    pub(super) airy: f32,
    /// Height of capitals relative to the carrier's.
    pub(super) cap: f32,
}

/// One way to bend, -1 to 1.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bend {
    /// A sine.
    Sine,
    /// A sine and one of half its length.
    Twin,
    /// Straight up and down, with edges.
    Sharp,
    /// One bow over the whole picture.
    Bow,
    /// More to one side the further to the other: a fan.
    Fan,
}

/// The heights of the figures of a line.
#[derive(Clone, Copy, Debug)]
enum Path {
    /// Any heights.
    Free,
    /// Rising or falling, by picture.
    Slope,
    /// A valley or a hill, by picture.
    Bow,
    /// Up and down in turns.
    Zigzag,
}

/// The direction in which figures turn.
#[derive(Clone, Copy, Debug)]
enum Turns {
    /// To either side.
    Free,
    /// To the left and to the right in turns.
    Alternate,
    /// All to one side, by style: 1 or -1.
    Lean(f32),
}

impl LayoutParams {
    /// Draws the layout parameters of a style.
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        let mut bends = [Bend::Sine, Bend::Twin, Bend::Sharp, Bend::Bow, Bend::Fan];
        rng.shuffle(&mut bends);
        let [first, second, ..] = bends;
        let paths = [Path::Free, Path::Slope, Path::Bow, Path::Zigzag];
        let turns = [Turns::Free, Turns::Alternate, Turns::Lean(1.0), Turns::Lean(-1.0)];
        let shortest = rng.between(1.0, 1.5);
        Self {
            bends: [first, second],
            path: rng.pick(&paths).copied().unwrap_or(Path::Free),
            turns: rng.pick(&turns).copied().unwrap_or(Turns::Free),
            lengths: (shortest, shortest + 0.6),
            airy: rng.between(0.25, 0.75),
            cap: rng.between(0.94, 1.06),
        }
    }

    /// A bend for one axis of a picture.
    pub(super) fn bend(&self, rng: &mut Stream) -> Bend {
        let [first, second] = self.bends;
        if rng.chance(0.5) { first } else { second }
    }

    /// How far off its line the figure `index` of `count` stands, -1 to 1; `way` is the picture's own.
    pub(super) fn height(&self, index: usize, count: usize, way: f32, rng: &mut Stream) -> f32 {
        let along = 2.0 * index as f32 / count.saturating_sub(1).max(1) as f32 - 1.0;
        let wanted = match self.path {
            Path::Free => return rng.signed(),
            Path::Slope => along,
            Path::Bow => 2.0 * along * along - 1.0,
            Path::Zigzag => {
                if index.is_multiple_of(2) {
                    1.0
                } else {
                    -1.0
                }
            }
        };
        way * wanted * 0.75 + 0.25 * rng.signed()
    }

    /// How far the figure `index` turns, -1 to 1.
    pub(super) fn turn(&self, index: usize, rng: &mut Stream) -> f32 {
        match self.turns {
            Turns::Free => rng.signed(),
            Turns::Alternate if index.is_multiple_of(2) => rng.between(0.2, 1.0),
            Turns::Alternate => rng.between(-1.0, -0.2),
            Turns::Lean(way) => way * rng.between(-0.1, 1.0),
        }
    }
}

impl Bend {
    /// How far to move a point that is `turns` along the wave and at `along` and `across` of the
    /// picture, both -1 to 1 from edge to edge.
    pub(super) fn at(self, turns: f32, along: f32, across: f32) -> f32 {
        match self {
            Self::Sine => sin_turns(turns),
            Self::Twin => 0.7 * sin_turns(turns) + 0.3 * sin_turns(2.0 * turns + 0.2),
            Self::Sharp => {
                let t = turns - floor(turns) as f32;
                1.0 - 4.0 * (t - 0.5).abs()
            }
            Self::Bow => 1.0 - 2.0 * along * along,
            Self::Fan => along * across,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_style_goes_beyond_what_the_level_allows() {
        let mut rng = Stream::fixed(4);
        for _ in 0..300 {
            let layout = LayoutParams::draw(&mut rng);
            assert!(layout.lengths.0 >= 1.0 && layout.lengths.1 > layout.lengths.0);
            for index in 0..6 {
                assert!(layout.height(index, 6, 1.0, &mut rng).abs() <= 1.0);
                assert!(layout.turn(index, &mut rng).abs() <= 1.0);
                let at = |rng: &mut Stream| (rng.between(-3.0, 3.0), rng.signed(), rng.signed());
                let (turns, along, across) = at(&mut rng);
                assert!(layout.bend(&mut rng).at(turns, along, across).abs() <= 1.01);
            }
        }
    }
}

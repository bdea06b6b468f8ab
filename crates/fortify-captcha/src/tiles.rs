//! Polygons of the figures on tiles: shapes, arrows, frames.

use crate::outline::Point;
use crate::rng::{cos_turns, sin_turns};
use crate::term::{Direction, Shape};

/// Points of a circle, and of each arc of a crescent or heart.
const ARC: u32 = 24;
/// Pieces of a straight edge, so that it can follow a wave.
const PIECES: u32 = 4;

/// Draws `shape` around `centre`, `size` px wide or high, turned by `turns`.
pub(crate) fn shape(
    shape: Shape,
    centre: Point,
    size: f32,
    turns: f32,
    contour: &mut dyn FnMut(&[Point]),
) {
    let corners = match shape {
        Shape::Circle => arc(0.0, 0.0, 0.5, 0.0, 1.0),
        Shape::Square => edges(&[(-0.44, -0.44), (0.44, -0.44), (0.44, 0.44), (-0.44, 0.44)]),
        Shape::Triangle => edges(&[(0.0, -0.48), (0.52, 0.42), (-0.52, 0.42)]),
        Shape::Star => edges(&star()),
        Shape::Diamond => edges(&[(0.0, -0.56), (0.38, 0.0), (0.0, 0.56), (-0.38, 0.0)]),
        Shape::Cross => edges(&cross(0.5, 0.17)),
        Shape::Heart => heart(),
        Shape::Moon => moon(),
    };
    contour(&placed(&corners, centre, size, turns));
}

/// Half of an arrow's outline, from the tip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrow {
    /// Height of the tip over the middle.
    tip: f32,
    /// How far the head reaches to each side, and where its base is.
    head: (f32, f32),
    /// Half of the shaft's width.
    shaft: f32,
}

impl Arrow {
    /// The arrow that ink draws.
    pub(crate) const SLENDER: Self = Self { tip: 0.58, head: (0.40, -0.10), shaft: 0.14 };
    /// The arrow for stripes and dots, whose head is not taken for a cross-bar.
    pub(crate) const STURDY: Self = Self { tip: 0.58, head: (0.52, 0.0), shaft: 0.16 };
}

/// Draws an arrow that points `way`.
pub(crate) fn arrow(
    arrow: Arrow,
    way: Direction,
    centre: Point,
    size: f32,
    turns: f32,
    contour: &mut dyn FnMut(&[Point]),
) {
    let at = Direction::ALL.iter().position(|other| *other == way).unwrap_or_default();
    let Arrow { tip, head: (reach, base), shaft } = arrow;
    let corners = edges(&[
        (0.0, -tip),
        (reach, base),
        (shaft, base),
        (shaft, 0.54),
        (-shaft, 0.54),
        (-shaft, base),
        (-reach, base),
    ]);
    contour(&placed(&corners, centre, size, turns + at as f32 / 8.0));
}

/// Where the marks of a number stand, as on dice, in steps from the middle: numbers are recognised, not
/// counted.
pub(crate) fn pips(count: u8) -> impl Iterator<Item = (f32, f32)> {
    // Cells of a square of nine, row by row.
    let cells: &[u8] = match count {
        1 => &[4],
        2 => &[2, 6],
        3 => &[2, 4, 6],
        4 => &[0, 2, 6, 8],
        5 => &[0, 2, 4, 6, 8],
        6 => &[0, 2, 3, 5, 6, 8],
        7 => &[0, 2, 3, 4, 5, 6, 8],
        8 => &[0, 1, 2, 3, 5, 6, 7, 8],
        _ => &[0, 1, 2, 3, 4, 5, 6, 7, 8],
    };
    cells.iter().map(|cell| (f32::from(cell % 3) - 1.0, f32::from(cell / 3) - 1.0))
}

/// Draws a square frame, `share` of the side thick.
pub(crate) fn frame(centre: Point, side: f32, share: f32, contour: &mut dyn FnMut(&[Point])) {
    let square = |half: f32| edges(&[(-half, -half), (half, -half), (half, half), (-half, half)]);
    contour(&placed(&square(0.5), centre, side, 0.0));
    let mut hole = placed(&square(0.5 - share), centre, side, 0.0);
    hole.reverse();
    contour(&hole);
}

fn placed(corners: &[Point], centre: Point, size: f32, turns: f32) -> Vec<Point> {
    let (sin, cos) = (sin_turns(turns) * size, cos_turns(turns) * size);
    corners
        .iter()
        .map(|point| {
            Point::new(
                centre.x + point.x * cos - point.y * sin,
                centre.y + point.x * sin + point.y * cos,
            )
        })
        .collect()
}

/// A closed polygon with its edges split.
fn edges(corners: &[(f32, f32)]) -> Vec<Point> {
    let point = |corner: &(f32, f32)| Point::new(corner.0, corner.1);
    let nexts = corners.iter().cycle().skip(1);
    corners
        .iter()
        .zip(nexts)
        .flat_map(|(from, to)| {
            let (from, to) = (point(from), point(to));
            (0..PIECES).map(move |piece| from.towards(to, piece as f32 / PIECES as f32))
        })
        .collect()
}

/// Part of a circle, angles in turns, without its last point.
fn arc(x: f32, y: f32, radius: f32, from: f32, to: f32) -> Vec<Point> {
    (0..ARC)
        .map(|step| {
            let turns = from + (to - from) * step as f32 / ARC as f32;
            Point::new(x + radius * cos_turns(turns), y + radius * sin_turns(turns))
        })
        .collect()
}

fn star() -> Vec<(f32, f32)> {
    (0..10)
        .map(|point| {
            let radius = if point % 2 == 0 { 0.56 } else { 0.23 };
            let turns = point as f32 / 10.0 - 0.25;
            (radius * cos_turns(turns), radius * sin_turns(turns) + 0.04)
        })
        .collect()
}

fn cross(reach: f32, half: f32) -> [(f32, f32); 12] {
    [
        (-half, -reach),
        (half, -reach),
        (half, -half),
        (reach, -half),
        (reach, half),
        (half, half),
        (half, reach),
        (-half, reach),
        (-half, half),
        (-reach, half),
        (-reach, -half),
        (-half, -half),
    ]
}

/// Two half discs over a wedge.
fn heart() -> Vec<Point> {
    let mut points = arc(-0.25, -0.17, 0.27, 0.42, 1.0 - 0.06);
    points.extend(arc(0.25, -0.17, 0.27, 0.56, 1.08));
    points.push(Point::new(0.49, -0.04));
    points.push(Point::new(0.25, 0.24));
    points.push(Point::new(0.0, 0.52));
    points.push(Point::new(-0.25, 0.24));
    points
}

/// A disc without a disc that covers most of its right half.
fn moon() -> Vec<Point> {
    // The circles meet at 0.17 turns above and below the horizontal, seen from the larger one's
    // middle, and at 0.25 from the smaller one's.
    let (turn, radius) = (0.15, 0.54);
    let (x, y) = (radius * cos_turns(turn), radius * sin_turns(turn));
    let mut points = arc(-0.05, 0.0, radius, turn, 1.0 - turn);
    let mut inner = arc(-0.05 + x, 0.0, y, 0.25, 0.75);
    inner.reverse();
    points.push(Point::new(-0.05 + x, -y));
    points.extend(inner);
    points
}

//! Signs drawn as if by hand: strokes of uneven width that do not quite meet where they should.

use crate::figure::Sign;
use crate::outline::Point;
use crate::rng::{Stream, cos_turns, sin_turns};

/// Pieces of a stroke; enough for it to tremble and to follow the waves.
const PIECES: usize = 6;
/// Width of a stroke, as a share of the sign's size.
const WIDTH: f32 = 0.17;
/// How far a point of a stroke is moved from the straight line, as a share of the sign's size.
const TREMBLE: f32 = 0.025;

/// Draws `sign` around the origin, `size` px wide, turned by `turns`; hands each stroke's outline to
/// `contour`.
pub(crate) fn draw(
    sign: Sign,
    size: f32,
    turns: f32,
    rng: &mut Stream,
    mut contour: impl FnMut(&[Point]),
) {
    let (sin, cos) = (sin_turns(turns) * size, cos_turns(turns) * size);
    let mut stroke = |from: (f32, f32), to: (f32, f32), rng: &mut Stream| {
        let outline = outline(from, to, rng)
            .map(|point| Point::new(point.x * cos - point.y * sin, point.x * sin + point.y * cos));
        contour(&outline);
    };
    let near = |value: f32, rng: &mut Stream| value + 0.04 * rng.signed();
    match sign {
        Sign::Plus => {
            let (x, y) = (near(0.0, rng), near(0.0, rng));
            stroke((-0.5, y), (near(0.5, rng), near(y, rng)), rng);
            stroke((x, -0.5), (near(x, rng), near(0.5, rng)), rng);
        }
        Sign::Minus => {
            let y = near(0.0, rng);
            stroke((-0.5, y), (near(0.5, rng), near(y, rng)), rng);
        }
        Sign::Times => {
            let reach = 0.4;
            stroke((-reach, near(-reach, rng)), (reach, near(reach, rng)), rng);
            stroke((near(-reach, rng), reach), (near(reach, rng), -reach), rng);
        }
        Sign::Equals => {
            for side in [-0.2, 0.2] {
                let y = near(side, rng);
                stroke((near(-0.45, rng), y), (near(0.45, rng), near(side, rng)), rng);
            }
        }
    }
}

/// A stroke's outline: out along one side, back along the other, always the same way round, so that
/// crossing strokes add up when they are filled.
fn outline(from: (f32, f32), to: (f32, f32), rng: &mut Stream) -> [Point; 2 * PIECES + 2] {
    let (from, to) = (Point::new(from.0, from.1), Point::new(to.0, to.1));
    let length = from.distance(to).max(0.01);
    let normal = Point::new((from.y - to.y) / length, (to.x - from.x) / length);
    let mut points = [from; 2 * PIECES + 2];
    let last = points.len() - 1;
    for piece in 0..=PIECES {
        let t = piece as f32 / PIECES as f32;
        let along = from.towards(to, t);
        let aside = TREMBLE * rng.signed();
        let end = piece == 0 || piece == PIECES;
        let half = WIDTH * 0.5 * rng.between(0.85, 1.15) * if end { 0.7 } else { 1.0 };
        let at = |side: f32| {
            Point::new(along.x + normal.x * (aside + side), along.y + normal.y * (aside + side))
        };
        if let Some(point) = points.get_mut(piece) {
            *point = at(half);
        }
        if let Some(point) = points.get_mut(last - piece) {
            *point = at(-half);
        }
    }
    points
}

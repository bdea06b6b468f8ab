//! Glyph outlines as polygons.
//!
//! Curves are flattened and long edges split once, when fonts are loaded, so that drawing a
//! character is only moving its points. Pixels are never moved: bending the polygon keeps edges
//! sharp and needs no resampling.

use skrifa::PathSink;

/// A point; in outlines the unit is the font's cap height and y grows downwards from the baseline,
/// on the canvas the unit is the px.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f32,
    pub(crate) y: f32,
}

impl Point {
    pub(crate) const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }

    /// The point `t` of the way to `other`.
    pub(crate) fn towards(self, other: Self, t: f32) -> Self {
        Self::new(self.x + (other.x - self.x) * t, self.y + (other.y - self.y) * t)
    }

    pub(crate) fn distance(self, other: Self) -> f32 {
        let (dx, dy) = (other.x - self.x, other.y - self.y);
        (dx * dx + dy * dy).sqrt()
    }
}

/// The smallest upright box around points.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) min: Point,
    pub(crate) max: Point,
}

impl Bounds {
    /// The box around `points`; `None` without points.
    pub(crate) fn of(points: &[Point]) -> Option<Self> {
        let (first, rest) = points.split_first()?;
        let mut bounds = Self { min: *first, max: *first };
        for point in rest {
            bounds.min.x = bounds.min.x.min(point.x);
            bounds.min.y = bounds.min.y.min(point.y);
            bounds.max.x = bounds.max.x.max(point.x);
            bounds.max.y = bounds.max.y.max(point.y);
        }
        Some(bounds)
    }

    pub(crate) fn width(&self) -> f32 {
        self.max.x - self.min.x
    }

    pub(crate) fn height(&self) -> f32 {
        self.max.y - self.min.y
    }

    pub(crate) fn centre(&self) -> Point {
        self.min.towards(self.max, 0.5)
    }
}

/// A glyph's closed contours.
#[derive(Clone, Debug)]
pub(crate) struct Outline {
    points: Box<[Point]>,
    /// Where in `points` each contour ends.
    ends: Box<[u16]>,
    bounds: Bounds,
}

impl Outline {
    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    pub(crate) fn ends(&self) -> &[u16] {
        &self.ends
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }
}

impl Outline {
    /// The outline with every point moved, and before that every edge moved outwards by `weight`.
    pub(crate) fn reshaped(&self, weight: f32, to: impl Fn(Point) -> Point) -> Self {
        let mut points = self.points.to_vec();
        // Fonts differ in the direction of contours; the enclosed area is on the same side of all of
        // one font's edges, holes included.
        let outwards = if self.area() > 0.0 { weight } else { -weight };
        let mut start = 0;
        for end in self.ends.iter().map(|end| usize::from(*end)) {
            let contour = self.points.get(start..end).unwrap_or(&[]);
            let before = contour.iter().cycle().skip(contour.len().saturating_sub(1));
            let after = contour.iter().cycle().skip(1);
            let moved = points.get_mut(start..end).unwrap_or(&mut []);
            for ((point, before), after) in moved.iter_mut().zip(before).zip(after) {
                let (dx, dy) = (after.x - before.x, after.y - before.y);
                let length = (dx * dx + dy * dy).sqrt().max(f32::MIN_POSITIVE);
                let (x, y) = (dy / length * outwards, -dx / length * outwards);
                *point = to(Point::new(point.x + x, point.y + y));
            }
            start = end;
        }
        let bounds = Bounds::of(&points).unwrap_or(self.bounds);
        Self { points: points.into(), ends: self.ends.clone(), bounds }
    }

    /// The enclosed area, less than zero where contours run the other way round.
    fn area(&self) -> f32 {
        let mut start = 0;
        let mut area = 0.0;
        for end in self.ends.iter().map(|end| usize::from(*end)) {
            let contour = self.points.get(start..end).unwrap_or(&[]);
            let nexts = contour.iter().cycle().skip(1);
            area += contour.iter().zip(nexts).map(|(a, b)| a.x * b.y - b.x * a.y).sum::<f32>();
            start = end;
        }
        area * 0.5
    }
}

/// Longest edge left in an outline, in cap heights: 10 px at 50 px, short enough to follow a wave
/// of 60 px to within half a px.
const LONGEST_EDGE: f32 = 0.2;
/// How far a flattened curve may be from the true one, in cap heights: 0.3 px at 50 px.
const FLATNESS: f32 = 0.006;

/// A path as it comes from the font, in font units, y upwards.
#[derive(Clone, Copy, Debug)]
enum Step {
    Line(Point),
    Quadratic(Point, Point),
    Cubic(Point, Point, Point),
}

/// Collects a glyph's path and turns it into an [`Outline`].
#[derive(Debug, Default)]
pub(crate) struct Flattener {
    contours: Vec<(Point, Vec<Step>)>,
}

impl Flattener {
    /// The highest point on the path, in font units.
    pub(crate) fn top(&self) -> Option<f32> {
        let points: Vec<Point> = self
            .contours
            .iter()
            .flat_map(|(start, steps)| {
                std::iter::once(*start).chain(steps.iter().map(|step| match step {
                    Step::Line(end) | Step::Quadratic(_, end) | Step::Cubic(_, _, end) => *end,
                }))
            })
            .collect();
        Bounds::of(&points).map(|bounds| bounds.max.y).filter(|top| *top > 0.0)
    }

    /// The outline in units of `cap_height`, y downwards; `None` for an empty glyph.
    pub(crate) fn finish(self, cap_height: f32) -> Option<Outline> {
        let unit = |point: Point| Point::new(point.x / cap_height, -point.y / cap_height);
        let mut points: Vec<Point> = Vec::new();
        let mut ends = Vec::new();
        for (start, steps) in self.contours {
            let start = unit(start);
            let first = points.len();
            let mut at = start;
            points.push(start);
            for step in steps {
                at = match step {
                    Step::Line(end) => edge(&mut points, at, unit(end)),
                    Step::Quadratic(control, end) => {
                        let (control, end) = (unit(control), unit(end));
                        // A quadratic is the cubic with its handles two thirds of the way.
                        let c0 = at.towards(control, 2.0 / 3.0);
                        let c1 = end.towards(control, 2.0 / 3.0);
                        cubic(&mut points, at, c0, c1, end)
                    }
                    Step::Cubic(c0, c1, end) => {
                        cubic(&mut points, at, unit(c0), unit(c1), unit(end))
                    }
                };
            }
            edge(&mut points, at, start);
            points.pop();
            if points.len() - first < 3 {
                points.truncate(first);
            } else {
                ends.push(u16::try_from(points.len()).ok()?);
            }
        }
        let bounds = Bounds::of(&points)?;
        Some(Outline { points: points.into(), ends: ends.into(), bounds })
    }
}

/// Appends an edge, split so that it can bend; returns its end.
fn edge(points: &mut Vec<Point>, from: Point, to: Point) -> Point {
    let pieces = (from.distance(to) / LONGEST_EDGE).ceil().max(1.0);
    for piece in 1..=pieces as u32 {
        points.push(from.towards(to, piece as f32 / pieces));
    }
    to
}

/// Appends a curve as edges; returns its end.
fn cubic(points: &mut Vec<Point>, p0: Point, p1: Point, p2: Point, p3: Point) -> Point {
    // The second differences bound how far the curve strays from its chord.
    let stray = |a: Point, b: Point, c: Point| {
        Point::new(a.x - 2.0 * b.x + c.x, a.y - 2.0 * b.y + c.y).distance(Point::new(0.0, 0.0))
    };
    let deviation = stray(p0, p1, p2).max(stray(p1, p2, p3)) * 0.75;
    let by_shape = (deviation / FLATNESS).sqrt();
    let by_length = p0.distance(p3) / LONGEST_EDGE;
    let pieces = by_shape.max(by_length).ceil().clamp(1.0, 64.0);
    for piece in 1..=pieces as u32 {
        let t = piece as f32 / pieces;
        let (a, b, c) = (p0.towards(p1, t), p1.towards(p2, t), p2.towards(p3, t));
        points.push(a.towards(b, t).towards(b.towards(c, t), t));
    }
    p3
}

impl PathSink for Flattener {
    fn move_to(&mut self, x: f32, y: f32) {
        self.contours.push((Point::new(x, y), Vec::new()));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.push(Step::Line(Point::new(x, y)));
    }

    fn quad_to(&mut self, cx0: f32, cy0: f32, x: f32, y: f32) {
        self.push(Step::Quadratic(Point::new(cx0, cy0), Point::new(x, y)));
    }

    fn curve_to(&mut self, cx0: f32, cy0: f32, cx1: f32, cy1: f32, x: f32, y: f32) {
        self.push(Step::Cubic(Point::new(cx0, cy0), Point::new(cx1, cy1), Point::new(x, y)));
    }

    fn close(&mut self) {}
}

impl Flattener {
    fn push(&mut self, step: Step) {
        if let Some((_, steps)) = self.contours.last_mut() {
            steps.push(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_is_split_and_turned_over() {
        let mut pen = Flattener::default();
        pen.move_to(0.0, 0.0);
        pen.line_to(700.0, 0.0);
        pen.line_to(700.0, 700.0);
        pen.line_to(0.0, 700.0);
        pen.close();
        assert_eq!(pen.top(), Some(700.0));
        let outline = pen.finish(700.0).unwrap();
        assert_eq!(outline.points().len(), 20);
        assert_eq!(outline.ends(), [20]);
        assert_eq!(outline.bounds().min, Point::new(0.0, -1.0));
        assert_eq!(outline.bounds().max, Point::new(1.0, 0.0));
    }

    #[test]
    fn weight_grows_a_square_and_closes_its_hole_whichever_way_round_it_is() {
        for turned in [false, true] {
            let mut pen = Flattener::default();
            for (low, high, hole) in [(0.0, 1.0, false), (0.3, 0.7, true)] {
                let mut corners = [(low, low), (high, low), (high, high), (low, high)];
                if hole != turned {
                    corners.reverse();
                }
                pen.move_to(corners[0].0, corners[0].1);
                corners[1..].iter().for_each(|corner| pen.line_to(corner.0, corner.1));
                pen.close();
            }
            let outline = pen.finish(1.0).unwrap();
            let bolder = outline.reshaped(0.05, |point| point);
            assert!((bolder.bounds().width() - 1.07).abs() < 0.04, "{:?}", bolder.bounds());
            assert!(bolder.area().abs() > outline.area().abs() + 0.2);
        }
    }

    #[test]
    fn a_glyph_without_an_area_is_no_outline() {
        let mut pen = Flattener::default();
        pen.move_to(1.0, 1.0);
        pen.close();
        assert!(pen.finish(700.0).is_none());
    }
}

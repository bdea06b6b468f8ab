//! The bundled pictograms, parsed and flattened once; see `pictograms/README.md`.

use skrifa::PathSink;

use crate::error::FontError;
use crate::object::Object;
use crate::outline::{Flattener, Outline};

/// A line per object: its word, then its path in absolute coordinates, y downwards.
const OUTLINES: &str = include_str!("../pictograms/outlines.txt");
/// Side of an icon's box in the table's unit; the unit of the outlines is half of it, so that as
/// many points are kept as for a glyph of half the size.
const SIDE: f32 = 2048.0;

/// The outline of every object, in the order of [`Object::ALL`]; a pictogram is 2 units wide or
/// high.
pub(crate) fn load() -> Result<Vec<Outline>, FontError> {
    Object::ALL
        .into_iter()
        .map(|object| {
            let name = object.as_str();
            find(name).and_then(outline).ok_or(FontError::Pictogram { object: name })
        })
        .collect()
}

fn find(name: &str) -> Option<&'static str> {
    OUTLINES.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

fn outline(path: &str) -> Option<Outline> {
    let mut pen = Flattener::default();
    let mut words = path.split_ascii_whitespace();
    // Fonts count upwards, the table downwards.
    while let Some(command) = words.next() {
        let mut point = || -> Option<(f32, f32)> {
            let x: f32 = words.next()?.parse().ok()?;
            let y: f32 = words.next()?.parse().ok()?;
            Some((x, -y))
        };
        match command {
            "M" => {
                let to = point()?;
                pen.move_to(to.0, to.1);
            }
            "L" => {
                let to = point()?;
                pen.line_to(to.0, to.1);
            }
            "C" => {
                let (a, b, to) = (point()?, point()?, point()?);
                pen.curve_to(a.0, a.1, b.0, b.1, to.0, to.1);
            }
            _ => return None,
        }
    }
    pen.finish(SIDE * 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_has_an_outline() {
        let outlines = load().unwrap();
        assert_eq!(outlines.len(), Object::ALL.len());
        assert_eq!(OUTLINES.lines().count(), outlines.len());
        for outline in outlines {
            assert!(outline.points().len() < 1500 && outline.bounds().height() > 0.8);
        }
    }
}

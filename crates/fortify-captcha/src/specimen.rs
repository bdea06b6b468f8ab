//! Specimens of the bundled fonts, for people who decide which font may draw which character.

use crate::canvas::Canvas;
use crate::font::Fonts;
use crate::outline::{Bounds, Point};
use crate::raster::{Fill, Ink, Rasterizer};
use crate::rng::{cos_turns, sin_turns};

/// Height of capitals in a specimen, px: that of a picture 100 px high, shrunk to its width.
const CAP: f32 = 42.0;
/// Width of a character's cell and height of the specimen, px.
const CELL: usize = 60;

/// A line of characters in one font, every one turned by the same angle: palette index 0 is ground,
/// 2 text, 1 half of each.
#[derive(Debug)]
pub struct Specimen {
    /// The font's family.
    pub family: &'static str,
    /// Width, px.
    pub width: usize,
    /// One byte per px, row by row.
    pub pixels: Vec<u8>,
}

/// The specimen of one face; characters that the face is not used for are left out. `None` past the
/// last face.
pub(crate) fn draw(fonts: &Fonts, face: u8, text: &str, degrees: f32) -> Option<Specimen> {
    let family = Fonts::families().nth(usize::from(face))?;
    let mut canvas = Canvas::default();
    canvas.resize(CELL * text.len(), CELL);
    canvas.rows_mut().for_each(|row| row.fill(0));
    let mut rasterizer = Rasterizer::default();
    let (sin, cos) = (sin_turns(degrees / 360.0) * CAP, cos_turns(degrees / 360.0) * CAP);
    for (cell, character) in text.bytes().enumerate() {
        let used = fonts.faces_for(character, false).contains(&face);
        let Some(outline) = fonts.outline(face, character).filter(|_| used) else {
            continue;
        };
        let centre = outline.bounds().centre();
        let middle = CELL as f32 * 0.5;
        let points: Vec<Point> = outline
            .points()
            .iter()
            .map(|point| {
                let (x, y) = (point.x - centre.x, point.y - centre.y);
                Point::new(
                    x * cos - y * sin + middle + (cell * CELL) as f32,
                    x * sin + y * cos + middle,
                )
            })
            .collect();
        let bounds = Bounds::of(&points)?;
        let mut start = 0;
        let contours = outline.ends().iter().filter_map(|end| {
            let contour = points.get(start..usize::from(*end));
            start = usize::from(*end);
            contour
        });
        rasterizer.fill(&mut canvas, contours, &bounds, Fill::solid(Ink::uniform(2, 1)));
    }
    let pixels = canvas.rows().flatten().copied().collect();
    Some(Specimen { family, width: canvas.width(), pixels })
}

//! The bundled fonts, parsed and flattened once.
//!
//! All 25 are under the SIL Open Font License 1.1 and shipped unmodified in `fonts/`, each beside
//! its licence text. Where a font draws a character so that it could be read as another once it is
//! turned and bent, that font is not used for that character; the table below says which.

use skrifa::{DrawMemory, Font as FontFile, ScalerFont};

use crate::alphabet::{COLOUR_WORDS, DRAWN};
use crate::error::FontError;
use crate::object::Object;
use crate::outline::{Flattener, Outline, Point};
use crate::pictogram;
use crate::rng::{Stream, sin_turns};

/// Fewest faces in play in a style; more are if a character or a word has too few.
const IN_PLAY: usize = 9;
/// Fewest faces in play for each character, thick ones for each character, and for words: a model would
/// learn fewer by heart.
const LEAST: usize = 4;
const LEAST_STURDY: usize = 3;
const LEAST_WORDS: usize = 3;
/// How far a style slants a face, in widths for a height.
const SLANT: f32 = 0.14;
/// How much narrower or wider a style makes a face.
const STRETCH: f32 = 0.11;
/// How much bolder a style makes a face, at most, cap heights. Never lighter: strokes have to be seen.
const WEIGHT: f32 = 0.016;
/// How far a style moves the points of a glyph, cap heights: a serif stays a serif, and no two styles
/// have the same letter.
const DENT: f32 = 0.026;

/// A bundled font file.
struct Bundled {
    family: &'static str,
    bytes: &'static [u8],
    /// Characters for which the font is not used, found by looking at every font's sheet: zeros with a
    /// stroke or dot (an 8 under noise), ones like an I or, without a foot, like a 7, figures of
    /// small-letter height, and capitals of script fonts with loops that make them another letter.
    avoid: &'static str,
    /// Whether it is a sans with even strokes of at least 0.15 cap heights (area over half the
    /// outline's length, mean of 14 capitals and figures), as carriers without edges need.
    sturdy: bool,
    /// Whether number words may be set in it.
    words: bool,
}

macro_rules! bundled {
    ($($family:literal, $file:literal, sturdy: $sturdy:literal, words: $words:literal, avoid: $avoid:literal;)*) => {
        [$(Bundled {
            family: $family,
            bytes: include_bytes!(concat!("../fonts/", $file)),
            avoid: $avoid,
            sturdy: $sturdy,
            words: $words,
        }),*]
    };
}

static BUNDLED: [Bundled; 25] = bundled! {
    "Andika", "andika/Andika-Bold.ttf", sturdy: true, words: true, avoid: "";
    "Anonymous Pro", "anonymous-pro/AnonymousPro-Bold.ttf", sturdy: false, words: true, avoid: "0";
    "Bebas Neue", "bebas-neue/BebasNeue-Bold.otf", sturdy: false, words: true, avoid: "1";
    "Cabin", "cabin/Cabin-Bold.otf", sturdy: true, words: true, avoid: "";
    "Cantarell", "cantarell/Cantarell-Bold.otf", sturdy: true, words: true, avoid: "1";
    "Carlito", "carlito/Carlito-Bold.ttf", sturdy: true, words: true, avoid: "";
    "Comfortaa", "comfortaa/Comfortaa-Bold.ttf", sturdy: false, words: true, avoid: "1";
    "Comic Neue", "comic-neue/ComicNeue-Bold.otf", sturdy: false, words: true, avoid: "";
    "Courier Prime", "courier-prime/CourierPrime-Bold.otf", sturdy: false, words: true, avoid: "";
    "Dosis", "dosis/Dosis-Bold.otf", sturdy: false, words: true, avoid: "10";
    "EB Garamond", "eb-garamond/EBGaramond12-Bold.otf", sturdy: false, words: true, avoid: "0123456789";
    "Fira Code", "fira-code/FiraCode-Bold.ttf", sturdy: true, words: true, avoid: "0";
    "Gentium Basic", "gentium-basic/GenBasB.ttf", sturdy: false, words: true, avoid: "";
    "Jura", "jura/Jura-Bold.otf", sturdy: false, words: true, avoid: "10";
    "Karla", "karla/Karla-Bold.otf", sturdy: true, words: true, avoid: "1";
    "Lato", "lato/Lato-Bold.ttf", sturdy: true, words: true, avoid: "";
    "League Spartan", "league-spartan/LeagueSpartan-Bold.otf", sturdy: true, words: true, avoid: "1";
    "Leckerli One", "leckerli-one/LeckerliOne-Regular.ttf", sturdy: false, words: false, avoid: "ACEFHJLMNTUVWXY24679?";
    "Liberation Sans", "liberation-sans/LiberationSans-Bold.ttf", sturdy: true, words: true, avoid: "";
    "Lobster Two", "lobster-two/LobsterTwo-Bold.otf", sturdy: false, words: true, avoid: "1ACDEHJLTUVWXY";
    "Play", "play/Play-Bold.ttf", sturdy: true, words: true, avoid: "1";
    "Quicksand", "quicksand/Quicksand-Bold.ttf", sturdy: true, words: true, avoid: "1";
    "Sora", "sora/Sora-Bold.otf", sturdy: true, words: true, avoid: "1";
    "Vollkorn", "vollkorn/Vollkorn-Bold.ttf", sturdy: false, words: true, avoid: "012";
    "Yanone Kaffeesatz", "yanone-kaffeesatz/YanoneKaffeesatz-Bold.otf", sturdy: false, words: true, avoid: "";
};

/// A font's outlines, by ASCII code.
struct Face {
    outlines: Vec<Option<Outline>>,
}

/// All faces, and which of them may draw which character.
pub(crate) struct Fonts {
    faces: Vec<Face>,
    /// For each ASCII code the faces that draw it well.
    drawn_by: Vec<Vec<u8>>,
    /// The same with thick, even strokes.
    sturdy: Vec<Vec<u8>>,
    /// The faces in which whole words are set.
    words: Vec<u8>,
    /// The outline of every object, in the order of [`Object::ALL`].
    pictograms: Vec<Outline>,
}

impl Fonts {
    /// Parses and flattens every outline that a picture can need.
    pub(crate) fn load() -> Result<Self, FontError> {
        let mut fonts = Self {
            faces: Vec::new(),
            drawn_by: vec![Vec::new(); 128],
            sturdy: vec![Vec::new(); 128],
            words: Vec::new(),
            pictograms: pictogram::load()?,
        };
        for (index, bundled) in (0_u8..).zip(&BUNDLED) {
            let face = parse(bundled)?;
            for character in DRAWN.chars().filter(|character| !bundled.avoid.contains(*character)) {
                if let Some(faces) = fonts.drawn_by.get_mut(character as usize) {
                    faces.push(index);
                }
                if let Some(faces) = fonts.sturdy.get_mut(character as usize)
                    && bundled.sturdy
                {
                    faces.push(index);
                }
            }
            if bundled.words {
                fonts.words.push(index);
            }
            fonts.faces.push(face);
        }
        Ok(fonts)
    }

    /// The fonts of a style: some of the faces, each with a slant, a width and a weight of its own, and
    /// each glyph a little out of shape; objects seen from either side.
    pub(crate) fn styled(&self, rng: &mut Stream) -> Self {
        let chosen = self.choose(rng);
        let only = |lists: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let filter =
                |list: &Vec<u8>| list.iter().copied().filter(|f| chosen.contains(f)).collect();
            lists.iter().map(filter).collect()
        };
        let mut shapes = Vec::new();
        let mut faces: Vec<Face> = (0_u8..)
            .zip(&self.faces)
            .map(|(index, face)| {
                let outlines: &[Option<Outline>] =
                    if chosen.contains(&index) { &face.outlines } else { &[] };
                let shape = Reshape::draw(rng);
                shapes.push(shape);
                let mut apply = |(code, outline): (usize, &Option<Outline>)| {
                    outline.as_ref().filter(|_| !is_late(code)).map(|o| shape.apply(o, rng))
                };
                Face { outlines: outlines.iter().enumerate().map(&mut apply).collect() }
            })
            .collect();
        let pictograms = self.pictograms.iter().map(|outline| {
            let mirror = if rng.chance(0.5) { 1.0 } else { -1.0 };
            let shape = Reshape { slant: 0.0, weight: 0.0, ..Reshape::draw(rng) };
            shape.apply(&outline.reshaped(0.0, |p| Point::new(p.x * mirror, p.y)), rng)
        });
        let pictograms = pictograms.collect();
        for ((face, styled), shape) in self.faces.iter().zip(&mut faces).zip(shapes) {
            let both = face.outlines.iter().zip(&mut styled.outlines).enumerate();
            for (_, (outline, slot)) in both.filter(|(code, _)| is_late(*code)) {
                *slot = outline.as_ref().map(|outline| shape.apply(outline, rng));
            }
        }
        Self {
            drawn_by: only(&self.drawn_by),
            sturdy: only(&self.sturdy),
            words: self.words.iter().copied().filter(|face| chosen.contains(face)).collect(),
            pictograms,
            faces,
        }
    }

    /// Faces in random order until every character, and words, have enough of them.
    fn choose(&self, rng: &mut Stream) -> Vec<u8> {
        let mut order: Vec<u8> = (0_u8..).zip(&self.faces).map(|(index, _)| index).collect();
        rng.shuffle(&mut order);
        let lists = self.drawn_by.iter().map(|list| (list, LEAST));
        let lists = lists.chain(self.sturdy.iter().map(|list| (list, LEAST_STURDY)));
        let lists: Vec<(&Vec<u8>, usize)> = lists.chain([(&self.words, LEAST_WORDS)]).collect();
        let mut chosen: Vec<u8> = Vec::new();
        for face in order {
            let wanted = |(list, least): &(&Vec<u8>, usize)| {
                list.contains(&face) && list.iter().filter(|f| chosen.contains(f)).count() < *least
            };
            if chosen.len() < IN_PLAY || lists.iter().any(wanted) {
                chosen.push(face);
            }
        }
        chosen
    }

    /// The faces that draw `character` well; only those with thick, even strokes if `sturdy`.
    pub(crate) fn faces_for(&self, character: u8, sturdy: bool) -> &[u8] {
        let drawn_by = if sturdy { &self.sturdy } else { &self.drawn_by };
        drawn_by.get(usize::from(character)).map_or(&[], Vec::as_slice)
    }

    /// The faces in which whole words are set.
    pub(crate) fn word_faces(&self) -> &[u8] {
        &self.words
    }

    pub(crate) fn outline(&self, face: u8, character: u8) -> Option<&Outline> {
        self.faces.get(usize::from(face))?.outlines.get(usize::from(character))?.as_ref()
    }

    /// The silhouette of `object`.
    pub(crate) fn pictogram(&self, object: Object) -> Option<&Outline> {
        self.pictograms.get(object as usize)
    }

    /// Every family with its face, for contact sheets.
    pub(crate) fn families() -> impl Iterator<Item = &'static str> {
        BUNDLED.iter().map(|bundled| bundled.family)
    }
}

/// Whether a style reshapes a character after all others. That holds for characters that only colour
/// words need, so that adding them changed none of the others.
fn is_late(code: usize) -> bool {
    u8::try_from(code).is_ok_and(|code| COLOUR_WORDS.contains(char::from(code)))
}

/// How a style changes a face.
#[derive(Clone, Copy, Debug)]
struct Reshape {
    /// Widths for a height.
    slant: f32,
    /// Width relative to the font's own.
    width: f32,
    /// How far edges move outwards, cap heights.
    weight: f32,
}

impl Reshape {
    fn draw(rng: &mut Stream) -> Self {
        Self {
            slant: SLANT * rng.signed(),
            width: 1.0 + STRETCH * rng.signed(),
            weight: WEIGHT * rng.unit(),
        }
    }

    /// `outline` changed like all others of its face, with dents of its own.
    fn apply(self, outline: &Outline, rng: &mut Stream) -> Outline {
        let mut dent = || (rng.between(0.5, 1.1), rng.unit());
        let ((per_y, phase_y), (per_x, phase_x)) = (dent(), dent());
        outline.reshaped(self.weight, |point| {
            let x = point.x + DENT * sin_turns(point.y * per_y + phase_y);
            let y = point.y + DENT * sin_turns(point.x * per_x + phase_x);
            Point::new((x - y * self.slant) * self.width, y)
        })
    }
}

fn parse(bundled: &Bundled) -> Result<Face, FontError> {
    let family = bundled.family;
    let file = FontFile::new(bundled.bytes, 0).ok_or(FontError::Parse { family })?;
    let scaler = ScalerFont::unhinted(file.clone(), None);
    let charmap = file.charmap();
    let draw = |character: char| -> Option<Flattener> {
        let glyph = charmap.map_unicode(character)?;
        let mut pen = Flattener::default();
        scaler.outline(glyph)?.draw(DrawMemory::Scratch, &mut pen).ok()?;
        Some(pen)
    };
    let missing = |character| FontError::Outline { family, character };
    let cap_height = draw('H').and_then(|pen| pen.top()).ok_or(missing('H'))?;
    let mut outlines: Vec<Option<Outline>> = (0..128).map(|_| None).collect();
    for character in DRAWN.chars() {
        let outline = draw(character)
            .and_then(|pen| pen.finish(cap_height))
            .ok_or_else(|| missing(character))?;
        if let Some(slot) = outlines.get_mut(character as usize) {
            *slot = Some(outline);
        }
    }
    Ok(Face { outlines })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;
    use crate::alphabet::ALPHABET;

    #[test]
    fn every_character_can_be_drawn_by_many_fonts() {
        let fonts = Fonts::load().unwrap();
        for character in ALPHABET.iter().chain(b"0123456789?") {
            let faces = fonts.faces_for(*character, false);
            assert!(faces.len() >= 12, "{} in {}", char::from(*character), faces.len());
            for face in faces {
                assert!(fonts.outline(*face, *character).is_some());
            }
            let sturdy = fonts.faces_for(*character, true);
            assert!(sturdy.len() >= 6, "{} in {}", char::from(*character), sturdy.len());
        }
        assert!(fonts.word_faces().len() >= 12);
    }

    /// The requirements ask for a pool of 20 fonts. A font counts if it draws characters of answers,
    /// differs from all others, and is used by some style.
    #[test]
    fn twenty_fonts_at_least_are_in_play() {
        let fonts = Fonts::load().unwrap();
        let drawing = |fonts: &Fonts| -> BTreeSet<u8> {
            let lists = ALPHABET.iter().map(|character| fonts.faces_for(*character, false));
            lists.flatten().copied().collect()
        };
        let pool = drawing(&fonts);
        let outlines: HashSet<String> = pool
            .iter()
            .map(|face| {
                let points = |character| fonts.outline(*face, character).map(Outline::points);
                format!("{:?}", [b'R', b'K', b'3'].map(points))
            })
            .collect();
        assert!(outlines.len() >= 20, "{} different fonts", outlines.len());
        let mut rng = Stream::fixed(2);
        let used: BTreeSet<u8> = (0..50).flat_map(|_| drawing(&fonts.styled(&mut rng))).collect();
        assert!(used.len() >= 20, "styles use {} fonts", used.len());
    }

    #[test]
    fn every_style_has_enough_fonts_for_every_character_and_not_all_of_them() {
        let fonts = Fonts::load().unwrap();
        let mut rng = Stream::fixed(1);
        for _ in 0..50 {
            let styled = fonts.styled(&mut rng);
            let in_play = styled.faces.iter().filter(|face| !face.outlines.is_empty()).count();
            assert!((IN_PLAY..BUNDLED.len() - 3).contains(&in_play), "{in_play}");
            for character in DRAWN.bytes() {
                for (sturdy, least) in [(false, LEAST), (true, LEAST_STURDY)] {
                    let faces = styled.faces_for(character, sturdy);
                    let there = fonts.faces_for(character, sturdy).len();
                    assert!(faces.len() >= least.min(there), "{}", char::from(character));
                    assert!(faces.iter().all(|face| styled.outline(*face, character).is_some()));
                }
            }
            assert!(styled.word_faces().len() >= LEAST_WORDS);
        }
    }
}

//! The bundled fonts, parsed and flattened once.
//!
//! All 25 are under the SIL Open Font License 1.1 and shipped unmodified in `fonts/`, each beside
//! its licence text. Where a font draws a character so that it could be read as another once it is
//! turned and bent, that font is not used for that character; the table below says which.

use skrifa::{DrawMemory, Font as FontFile, ScalerFont};

use crate::alphabet::DRAWN;
use crate::error::FontError;
use crate::object::Object;
use crate::outline::{Flattener, Outline};
use crate::pictogram;

/// A bundled font file.
struct Bundled {
    family: &'static str,
    bytes: &'static [u8],
    /// Characters for which the font is not used, found by looking at every font's sheet: zeros
    /// with a stroke or dot (an 8 under noise), ones like an I or, without a foot, like a 7, figures of small-letter height, and
    /// capitals of script fonts with loops that make them another letter.
    avoid: &'static str,
    /// Whether it is a sans with even strokes of at least 0.15 cap heights (area over half the outline's
    /// length, mean of 14 capitals and figures): what carriers without edges need.
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
}

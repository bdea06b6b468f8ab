//! A style: what pictures of one site and one day have in common.
//!
//! Whoever trains a reader learns a style. Drawn from a key that the public does not have, and from
//! another one every day, it makes that reader's training worth less on the next site and the next
//! day. It never makes a picture harder for people: every family that a style picks from keeps within
//! what the level's row allows.

pub(crate) mod dots;
pub(crate) mod filter_bank;
pub(crate) mod stripes;
pub(crate) mod texture;

use std::fmt;

use crate::font::Fonts;
use crate::layout::Manner;
use crate::noise::{Ground, Marks};
use crate::palette::Scheme;
use crate::rng::{Family, Stream};
use crate::seed::StyleKey;
use dots::Dots;
use filter_bank::Bank;
use stripes::Weave;
use texture::Textures;

/// A style, ready to draw in: see [`Generator::style`](crate::Generator::style).
pub struct Style {
    pub(crate) fonts: Fonts,
    pub(crate) manner: Manner,
    pub(crate) scheme: Scheme,
    pub(crate) ground: Ground,
    pub(crate) marks: Marks,
    pub(crate) textures: Textures,
    pub(crate) bank: Bank,
    pub(crate) weave: Weave,
    pub(crate) dots: Dots,
}

impl Style {
    /// The style that follows from `key`, its fonts made of `fonts`.
    pub(crate) fn new(key: &StyleKey, fonts: &Fonts) -> Self {
        let rng = |family| Stream::of_style(key, family);
        Self {
            fonts: fonts.styled(&mut rng(Family::Fonts)),
            manner: Manner::draw(&mut rng(Family::Manner)),
            scheme: Scheme::draw(&mut rng(Family::Scheme)),
            ground: Ground::draw(&mut rng(Family::Ground)),
            marks: Marks::draw(&mut rng(Family::Marks)),
            textures: Textures::draw(&mut rng(Family::Textures)),
            bank: Bank::draw(&mut rng(Family::Stripes)),
            weave: Weave::draw(&mut rng(Family::Weave)),
            dots: Dots::draw(&mut rng(Family::Dots)),
        }
    }
}

impl fmt::Debug for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Style(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    /// The fields of what `Debug` prints on many lines, by name, in the order of the declaration.
    fn fields(family: &impl fmt::Debug) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in format!("{family:#?}").lines().skip(1) {
            match line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', ']', ')', '}'])) {
                Some(field) => {
                    let (name, value) = field.split_once(": ").unwrap_or(("", field));
                    fields.push((name.to_owned(), value.to_owned()));
                }
                None => fields.last_mut().into_iter().for_each(|(_, value)| value.push_str(line)),
            }
        }
        fields
    }

    /// That pictures differ follows already from one family that does; here each of its own fields has to.
    #[test]
    fn every_part_of_every_family_differs_between_styles() {
        let fonts = Fonts::load().unwrap();
        let mut seen: BTreeMap<String, HashSet<String>> = BTreeMap::new();
        for key in 0..12 {
            let style = Style::new(&StyleKey::from_bytes([key; 32]), &fonts);
            let Style { fonts, manner, scheme, ground, marks, textures, bank, weave, dots } =
                &style;
            let in_play = |sturdy| {
                let faces = (b'2'..=b'Z').map(|character| fonts.faces_for(character, sturdy));
                format!("{:?}", faces.collect::<Vec<_>>())
            };
            let mut note = |family: &str, fields: Vec<(String, String)>| {
                for (name, value) in fields {
                    seen.entry(format!("{family}.{name}")).or_default().insert(value);
                }
            };
            let one = |value: String| vec![(String::new(), value)];
            note("fonts in play", one(in_play(false)));
            note("sturdy fonts in play", one(in_play(true)));
            note("words' fonts in play", one(format!("{:?}", fonts.word_faces())));
            note("manner", fields(manner));
            note("scheme", fields(scheme));
            note("ground", fields(ground));
            note("marks", fields(marks));
            note("textures", fields(textures));
            note("stripes", one(format!("{:?}", bank.row(0, 0)[0])));
            note("weave", fields(weave));
            note("dots", fields(dots));
        }
        let counts: Vec<_> = seen.iter().map(|(name, values)| (name, values.len())).collect();
        println!("{counts:?}");
        for family in ["manner", "scheme", "ground", "marks", "textures", "weave", "dots"] {
            assert!(seen.keys().any(|name| name.starts_with(family)), "{family} has no fields");
        }
        for (name, values) in &seen {
            assert!(values.len() >= 2, "{name} is the same in all styles: {values:?}");
        }
    }
}

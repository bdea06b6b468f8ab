//! A style: everything that pictures of one site and one style period have in common.
//!
//! A model that is trained on pictures learns a style. Each style is drawn from a secret key, and
//! sites change the key every style period (a day), so that the training is worth less on the next
//! site and in the next period. A style never makes a picture harder for people: every part of it
//! keeps within the limits of the level.

pub(crate) mod dots;
pub(crate) mod filter_bank;
pub(crate) mod stripes;
pub(crate) mod texture;

use std::fmt;

use crate::font::Fonts;
use crate::layout::LayoutParams;
use crate::noise::{Ground, Marks};
use crate::palette::ColourScheme;
use crate::rng::{Stream, StyleStream};
use crate::seed::StyleKey;
use dots::Dots;
use filter_bank::FilterBank;
use stripes::StripeParams;
use texture::Textures;

/// A style, ready to draw in: see [`Generator::style`](crate::Generator::style).
pub struct Style {
    pub(crate) fonts: Fonts,
    pub(crate) layout: LayoutParams,
    pub(crate) scheme: ColourScheme,
    pub(crate) ground: Ground,
    pub(crate) marks: Marks,
    pub(crate) textures: Textures,
    pub(crate) filters: FilterBank,
    pub(crate) stripes: StripeParams,
    pub(crate) dots: Dots,
}

impl Style {
    /// The style that follows from `key`, its fonts made of `fonts`.
    pub(crate) fn new(key: &StyleKey, fonts: &Fonts) -> Self {
        let rng = |family| Stream::of_style(key, family);
        Self {
            fonts: fonts.styled(&mut rng(StyleStream::Fonts)),
            layout: LayoutParams::draw(&mut rng(StyleStream::Layout)),
            scheme: ColourScheme::draw(&mut rng(StyleStream::Scheme)),
            ground: Ground::draw(&mut rng(StyleStream::Ground)),
            marks: Marks::draw(&mut rng(StyleStream::Marks)),
            textures: Textures::draw(&mut rng(StyleStream::Textures)),
            filters: FilterBank::draw(&mut rng(StyleStream::Filters)),
            stripes: StripeParams::draw(&mut rng(StyleStream::Stripes)),
            dots: Dots::draw(&mut rng(StyleStream::Dots)),
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

    /// The fields that `Debug` prints on many lines, by name, in the order of the declaration.
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

    /// Pictures differ as soon as one part of a style does; this holds that every field of every part
    /// does.
    #[test]
    fn every_field_of_every_part_differs_between_styles() {
        let fonts = Fonts::load().unwrap();
        let mut seen: BTreeMap<String, HashSet<String>> = BTreeMap::new();
        for key in 0..12 {
            let style = Style::new(&StyleKey::from_bytes([key; 32]), &fonts);
            let Style { fonts, layout, scheme, ground, marks, textures, filters, stripes, dots } =
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
            note("layout", fields(layout));
            note("scheme", fields(scheme));
            note("ground", fields(ground));
            note("marks", fields(marks));
            note("textures", fields(textures));
            note("stripes", one(format!("{:?}", filters.row(0, 0)[0])));
            note("stripes", fields(stripes));
            note("dots", fields(dots));
        }
        let counts: Vec<_> = seen.iter().map(|(name, values)| (name, values.len())).collect();
        println!("{counts:?}");
        for family in ["layout", "scheme", "ground", "marks", "textures", "stripes", "dots"] {
            assert!(seen.keys().any(|name| name.starts_with(family)), "{family} has no fields");
        }
        for (name, values) in &seen {
            assert!(values.len() >= 2, "{name} is the same in all styles: {values:?}");
        }
    }
}

//! Sixteen colours, always in the same slots: the purpose of a slot never depends on the answer.

use crate::canvas::InkPair;
use crate::level::LevelProfile;
use crate::named_colours;
use crate::raster::Ink;
use crate::rng::Stream;
use crate::term::Colour;

/// Shades of the ground: slots 0 to 3.
pub(crate) const GROUNDS: usize = 4;
/// Colours of noise marks: slots 4 and 5.
pub(crate) const NOISES: usize = 2;
/// Colours of text, full in slots 6 to 10 and half blended with the ground in slots 11 to 15.
pub(crate) const TEXTS: usize = 5;
/// Text colours of a counterchanged picture, each in two slots for either ground.
const COUNTERCHANGED: usize = 2;
const FIRST_NOISE: usize = GROUNDS;
const FIRST_TEXT: usize = FIRST_NOISE + NOISES;
const FIRST_HALF: usize = FIRST_TEXT + TEXTS;
/// Named colours of a picture that has some: text slots 0 to 3.
pub(crate) const NAMED: usize = TEXTS - 1;
/// The text slot of neutral shapes and codes in such a picture.
const NEUTRAL: usize = NAMED;
/// Colours in all: four bits.
pub(crate) const COLOURS: usize = FIRST_HALF + TEXTS;

/// Shades of each band in a picture of two.
pub(crate) const SHADES: usize = COLOURS / 2;
/// How light a band's shade is that has the named colour itself: darker ones are mixed with black,
/// lighter ones with white.
const PEAK: f32 = 0.75;
/// How much of the colour is in its darkest shade.
const DARKEST: f32 = 0.22;
/// How much white is in its lightest one.
const LIGHTEST: f32 = 0.35;
/// Contrast of the two colours of dots (WCAG 2.2 ratio): comfortable while they flicker.
const DOTS_CONTRAST: f32 = 5.0;
/// Red, green, blue.
pub(crate) type Rgb = [u8; 3];

/// The colour of neutral shapes and codes in a picture with named colours: one that is never an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NeutralColour {
    White,
    Grey,
}

/// The colours of a style, within the limits that tasks and levels set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColourScheme {
    /// How often a ground is light.
    light: f32,
    /// Hues of grounds: the first, and how far they reach, turns.
    ground: (f32, f32),
    /// Hues of texts, likewise.
    text: (f32, f32),
    /// How far apart the hues of one picture's texts are, all together, turns.
    spread: f32,
    /// How colourful texts are, from grey (0) to full (1).
    colour: f32,
    /// How colourful grounds are, likewise.
    tint: f32,
    /// How much of the level's share of counterchanged pictures there are.
    counterchange: f32,
}

impl ColourScheme {
    /// Draws the colour scheme of a style.
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        Self {
            light: rng.pick(&[0.0, 0.3, 0.7, 1.0]).copied().unwrap_or(0.7),
            ground: (rng.unit(), rng.between(0.15, 0.6)),
            text: (rng.unit(), rng.between(0.2, 1.0)),
            spread: rng.between(0.35, 1.0),
            colour: rng.between(0.55, 1.0),
            tint: rng.between(0.03, 0.12),
            counterchange: rng.between(0.75, 1.0),
        }
    }

    /// The hue of a ground, turns.
    fn ground_hue(&self, rng: &mut Stream) -> f32 {
        self.ground.0 + self.ground.1 * rng.unit()
    }
}

/// A picture's colours.
#[derive(Clone, Debug)]
pub(crate) struct Palette {
    colours: [Rgb; COLOURS],
    /// How many of the text colours differ, 2 to 5; the remaining slots repeat them. 0 without text
    /// colours.
    texts: usize,
    /// The names of the first text slots; empty where colours mean nothing.
    named: Vec<Colour>,
    /// Whether the ground changes between light and dark, and everything on it with it: then even slots
    /// are the colours of the light side, odd ones those of the dark side.
    counterchanged: bool,
}

impl Palette {
    /// Draws a ground, light more often than dark, and text colours that stand out from every
    /// shade of it by the level's contrast.
    pub(crate) fn draw(profile: &LevelProfile, scheme: &ColourScheme, rng: &mut Stream) -> Self {
        if rng.chance(profile.counterchange * scheme.counterchange) {
            return Self::counterchanged(profile, scheme, rng);
        }
        let light = rng.chance(scheme.light);
        let tint = hue(scheme.ground_hue(rng));
        let base = if light { rng.between(0.90, 0.97) } else { rng.between(0.07, 0.13) };
        let spread = f32::from(profile.grain) / 255.0;
        let ground = |step: usize| -> Rgb {
            let away = spread * step as f32 / (GROUNDS - 1) as f32;
            let value = if light { base - away } else { base + away };
            tint.map(|channel| to_byte(value * (1.0 - scheme.tint + scheme.tint * channel)))
        };
        let mut colours = [[0; 3]; COLOURS];
        let grounds: [Rgb; GROUNDS] = std::array::from_fn(ground);
        // The shade nearest to the text is the one that contrast is measured against.
        let [mean, nearest] = [grounds[1], grounds[GROUNDS - 1]];
        let texts = 3 + rng.below(TEXTS - 2);
        let first_hue = scheme.text.0 + scheme.text.1 * rng.unit();
        let distinct: [Rgb; TEXTS] = std::array::from_fn(|index| {
            let step = scheme.spread / texts as f32;
            let turn = first_hue + (index % texts) as f32 * step + 0.06 * rng.signed();
            let wanted = profile.contrast * (1.0 + 0.25 * rng.unit());
            let full = hue(turn).map(|channel| 0.5 + (channel - 0.5) * scheme.colour);
            contrasting(full, nearest, wanted, light)
        });
        let text = |index: usize| distinct.get(index % texts).copied().unwrap_or_default();
        for (slot, colour) in colours.iter_mut().enumerate() {
            *colour = match slot {
                0..FIRST_NOISE => grounds.get(slot).copied().unwrap_or(mean),
                FIRST_NOISE..FIRST_TEXT => {
                    let strength = profile.noise * (0.75 + 0.25 * (slot - FIRST_NOISE) as f32);
                    blend(nearest, text(slot), strength)
                }
                FIRST_TEXT..FIRST_HALF => text(slot - FIRST_TEXT),
                _ => blend(mean, text(slot - FIRST_HALF), 0.5),
            };
        }
        Self { colours, texts, named: Vec::new(), counterchanged: false }
    }

    /// A light and a dark ground, each with text colours of its own: no threshold and no distance from
    /// the commonest colour finds the text. Dark shades are colourful and light shades pale, ground
    /// and text alike, so that saturation changes sides as well.
    fn counterchanged(profile: &LevelProfile, scheme: &ColourScheme, rng: &mut Stream) -> Self {
        let tints = [hue(scheme.ground_hue(rng)), hue(scheme.ground_hue(rng))];
        let depths = [scheme.tint, rng.between(0.65, 0.9)];
        let shade = |(side, value): (usize, f32)| -> Rgb {
            let (tint, depth) = (tints[side & 1], depths[side & 1]);
            tint.map(|channel| to_byte(value * (1.0 - depth + depth * channel)))
        };
        let spread = f32::from(profile.grain) / 255.0 * 0.5;
        let (high, low) = (rng.between(0.90, 0.97), rng.between(0.12, 0.22));
        // Of each side first the shade that is farther from its texts.
        let values = [(0, high), (1, low), (0, high - spread), (1, low + spread)];
        let grounds = values.map(shade);
        let [_, _, light, dark] = grounds;
        let first_hue = scheme.text.0 + scheme.text.1 * rng.unit();
        let mut text = |index: usize| -> Rgb {
            let turn = first_hue + index as f32 * scheme.spread * 0.5 + 0.06 * rng.signed();
            let wanted = profile.contrast * (1.0 + 0.25 * rng.unit());
            let full = hue(turn).map(|channel| 0.5 + (channel - 0.5) * scheme.colour);
            let full = if index.is_multiple_of(2) { full } else { full.map(pale) };
            let (ground, light) =
                if index.is_multiple_of(2) { (light, true) } else { (dark, false) };
            contrasting(full, ground, wanted, light)
        };
        let texts = [text(0), text(1), text(2), text(3)];
        let [on_light, on_dark, ..] = texts;
        let mut colours = [[0; 3]; COLOURS];
        let noises = [blend(light, on_light, profile.noise), blend(dark, on_dark, profile.noise)];
        let halves: [Rgb; 4] = std::array::from_fn(|index| {
            let ground = if index.is_multiple_of(2) { light } else { dark };
            blend(ground, texts.get(index).copied().unwrap_or_default(), 0.5)
        });
        // One slot of full colours and one of halves are left over.
        let all = grounds.iter().chain(&noises).chain(&texts).chain([&on_light, &on_dark]);
        for (slot, colour) in colours.iter_mut().zip(all.chain(&halves)) {
            *slot = *colour;
        }
        Self { colours, texts: COUNTERCHANGED, named: Vec::new(), counterchanged: true }
    }

    /// Colours with names, in random slots, on a dark ground; slots that are left over hold other
    /// names. Codes are as light as can be; frames are grey, so that white is a colour too.
    pub(crate) fn named(
        used: &[Colour],
        neutral: NeutralColour,
        profile: &LevelProfile,
        scheme: &ColourScheme,
        rng: &mut Stream,
    ) -> Self {
        let mut named = used.to_vec();
        for colour in rng.sample(&Colour::PAINTS, Colour::PAINTS.len()) {
            if named.len() < NAMED && !named.contains(&colour) {
                named.push(colour);
            }
        }
        named.truncate(NAMED);
        rng.shuffle(&mut named);
        let base = rng.between(0.05, 0.09);
        let tint = hue(scheme.ground_hue(rng));
        let spread = f32::from(profile.grain) / 255.0 * 0.5;
        let grounds: [Rgb; GROUNDS] = std::array::from_fn(|step| {
            let value = base + spread * step as f32 / (GROUNDS - 1) as f32;
            tint.map(|channel| to_byte(value * (0.88 + 0.12 * channel)))
        });
        let neutral = match neutral {
            NeutralColour::White => [243, 243, 243],
            NeutralColour::Grey => [150, 152, 156],
        };
        let mut text = |slot: usize| -> Rgb {
            let colour = named.get(slot).map_or(neutral, |colour| named_colours::rgb(*colour));
            colour.map(|channel| (i32::from(channel) + rng.integer(-5, 5)).clamp(0, 255) as u8)
        };
        let texts: [Rgb; TEXTS] = std::array::from_fn(&mut text);
        let [mean, nearest] = [grounds[1], grounds[GROUNDS - 1]];
        let colours = std::array::from_fn(|slot| match slot {
            0..FIRST_NOISE => grounds.get(slot).copied().unwrap_or(mean),
            FIRST_NOISE..FIRST_TEXT => {
                // Grey, for a coloured mark could be taken for part of a figure.
                let strength = profile.noise * (0.6 + 0.2 * (slot - FIRST_NOISE) as f32);
                blend(nearest, [150; 3], strength)
            }
            FIRST_TEXT..FIRST_HALF => texts.get(slot - FIRST_TEXT).copied().unwrap_or(neutral),
            _ => blend(mean, texts.get(slot - FIRST_HALF).copied().unwrap_or(neutral), 0.5),
        });
        Self { colours, texts: TEXTS, named, counterchanged: false }
    }

    /// Whether colours have names.
    pub(crate) fn is_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// How many of the text colours marks over the figures may have: not that of codes.
    pub(crate) fn marks(&self) -> usize {
        if self.is_named() { NAMED } else { self.texts }
    }

    /// Whether the ground changes between light and dark.
    pub(crate) fn is_counterchanged(&self) -> bool {
        self.counterchanged
    }

    /// The slots of a named colour.
    pub(crate) fn named_ink(&self, colour: Colour) -> Ink {
        self.ink(self.named.iter().position(|named| *named == colour).unwrap_or(NEUTRAL))
    }

    /// The slots of neutral shapes and codes.
    pub(crate) fn neutral(&self) -> Ink {
        self.ink(NEUTRAL)
    }

    /// Sixteen shades at even distances, from a dark to a light one of the same hue.
    pub(crate) fn shades(scheme: &ColourScheme, rng: &mut Stream) -> Self {
        let tint = scheme.ground_hue(rng);
        let (dark, light) = (tinted(tint, 0.10, rng), tinted(tint, 0.94, rng));
        let last = (COLOURS - 1) as f32;
        let colours = std::array::from_fn(|shade| blend(dark, light, shade as f32 / last));
        Self { colours, texts: 0, named: Vec::new(), counterchanged: false }
    }

    /// Eight shades of each of two colours, from dark to light.
    pub(crate) fn bands(bands: [Colour; 2]) -> Self {
        let last = (SHADES - 1) as f32;
        let [upper, lower] = bands.map(|colour| {
            std::array::from_fn::<Rgb, SHADES, _>(|step| shade(colour, step as f32 / last))
        });
        let mut colours = [[0; 3]; COLOURS];
        for (slot, colour) in colours.iter_mut().zip(upper.into_iter().chain(lower)) {
            *slot = colour;
        }
        Self { colours, texts: 0, named: Vec::new(), counterchanged: false }
    }

    /// Three bytes per colour, as the file has them.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.colours.as_flattened()
    }

    /// The slots of a text colour.
    pub(crate) fn ink(&self, index: usize) -> Ink {
        if self.counterchanged {
            let index = 2 * (index % COUNTERCHANGED) as u8;
            let (full, half) = (FIRST_TEXT as u8 + index, FIRST_HALF as u8 + 1 + index);
            return Ink { full: InkPair([full, full + 1]), half: InkPair([half, half + 1]) };
        }
        let index = (index % TEXTS) as u8;
        Ink::uniform(FIRST_TEXT as u8 + index, FIRST_HALF as u8 + index)
    }

    /// The slots of a noise colour.
    pub(crate) fn noise(&self, index: usize) -> InkPair {
        let slot = |index: usize| (FIRST_NOISE + index % NOISES) as u8;
        if self.counterchanged {
            InkPair([slot(0), slot(1)])
        } else {
            InkPair::uniform(slot(index))
        }
    }

    /// The slots of a shade of the ground.
    pub(crate) fn ground(&self, index: usize) -> InkPair {
        let index = (index % GROUNDS) as u8;
        if self.counterchanged { InkPair([index & !1, index | 1]) } else { InkPair::uniform(index) }
    }

    /// How many text colours there are, 2 to 5.
    pub(crate) fn texts(&self) -> usize {
        self.texts
    }
}

/// The colours of an animation: a dark and a light one, or both for each of two bands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DotColours {
    One([Rgb; 2]),
    Two([Rgb; 4]),
}

impl DotColours {
    /// Three bytes per colour, as the file has them.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::One(colours) => colours.as_flattened(),
            Self::Two(colours) => colours.as_flattened(),
        }
    }

    /// Bits per cell in the file.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
        }
    }
}

/// `colour` from dark (a `share` of 0) to light (1): a band's stripes or dots.
pub(crate) fn shade(colour: Colour, share: f32) -> Rgb {
    let colour = named_colours::rgb(colour);
    if share < PEAK {
        blend(blend([0; 3], colour, DARKEST), colour, share / PEAK)
    } else {
        blend(colour, [255; 3], LIGHTEST * (share - PEAK) / (1.0 - PEAK))
    }
}

/// A dark and a light shade of `colour` that stand out from each other as those of a grey do, if the
/// colour has any as dark.
pub(crate) fn dots(colour: Colour) -> [Rgb; 2] {
    let light = shade(colour, 0.95);
    let steps = (0_u8..16).rev().map(|step| shade(colour, f32::from(step) / 16.0));
    let mut dark = shade(colour, 0.0);
    for candidate in steps {
        if contrast(luminance(candidate), luminance(light)) >= DOTS_CONTRAST {
            dark = candidate;
            break;
        }
    }
    [dark, light]
}

/// A grey of `value` (0 black, 1 white) with a little of the hue at `turns`, and a little brighter or
/// darker.
pub(crate) fn tinted(turns: f32, value: f32, rng: &mut Stream) -> Rgb {
    let value = value + 0.02 * rng.signed();
    hue(turns).map(|channel| to_byte(value * (0.92 + 0.08 * channel)))
}

/// A full colour for an angle in turns: red, yellow, green, cyan, blue, magenta.
fn hue(turns: f32) -> [f32; 3] {
    let turns = turns - turns.floor();
    [0.0, 2.0, 4.0].map(|shift| {
        let place = (turns * 6.0 + shift) % 6.0;
        ((place - 3.0).abs() - 1.0).clamp(0.0, 1.0)
    })
}

/// A channel of a colour with much white in it.
fn pale(channel: f32) -> f32 {
    0.72 + 0.28 * channel
}

/// `colour` darkened (on a light ground) or lightened until it stands out from `ground`.
fn contrasting(colour: [f32; 3], ground: Rgb, wanted: f32, light: bool) -> Rgb {
    let against = luminance(ground);
    let mut found = if light { [0; 3] } else { [255; 3] };
    // Bisection over the way from the full colour (0) to black or white (1).
    let (mut low, mut high) = (0.0_f32, 1.0_f32);
    for _ in 0..7 {
        let middle = (low + high) * 0.5;
        let end = if light { 0.0 } else { 1.0 };
        let candidate =
            colour.map(|channel| to_byte(channel * 0.92 * (1.0 - middle) + end * middle));
        if contrast(luminance(candidate), against) >= wanted {
            found = candidate;
            high = middle;
        } else {
            low = middle;
        }
    }
    found
}

fn to_byte(value: f32) -> u8 {
    (value * 255.0 + 0.5).clamp(0.0, 255.0) as u8
}

fn blend(from: Rgb, to: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|channel| {
        let (from, to) = (f32::from(from[channel]), f32::from(to[channel]));
        (from + (to - from) * share + 0.5) as u8
    })
}

/// WCAG 2.2 contrast ratio of two relative luminances, 1 to 21.
fn contrast(one: f32, other: f32) -> f32 {
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// WCAG 2.2 relative luminance, 0 to 1.
fn luminance(colour: Rgb) -> f32 {
    let [red, green, blue] = colour.map(|channel| linear(f32::from(channel) / 255.0));
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/// Linear light of an sRGB value: a cubic fit, within 0.002 of the standard's power function, which
/// the standard library computes differently on different platforms.
fn linear(value: f32) -> f32 {
    value * (value * (value * 0.305_306_01 + 0.682_171_1) + 0.012_522_878)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Level;

    #[test]
    fn the_cubic_is_near_the_standard() {
        for byte in 0..=255_u8 {
            let value = f32::from(byte) / 255.0;
            let exact =
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) };
            assert!((linear(value) - exact).abs() < 0.004, "{byte}");
        }
    }

    #[test]
    fn text_stands_out_from_every_ground() {
        let mut rng = Stream::fixed(5);
        let mut counterchanged = 0;
        for level in Level::ALL {
            let profile = LevelProfile::of(level);
            for _ in 0..500 {
                let scheme = ColourScheme::draw(&mut rng);
                let palette = Palette::draw(profile, &scheme, &mut rng);
                assert!((2..=5).contains(&palette.texts()));
                counterchanged += u32::from(palette.is_counterchanged());
                let all =
                    |count: usize, pair: &dyn Fn(usize) -> InkPair, side: usize| -> Vec<f32> {
                        let slot = |index: usize| usize::from(pair(index).0[side]);
                        (0..count).map(|index| luminance(palette.colours[slot(index)])).collect()
                    };
                for side in [0, 1] {
                    let grounds = all(GROUNDS, &|index| palette.ground(index), side);
                    let noises = all(NOISES, &|index| palette.noise(index), side);
                    for ink in all(TEXTS, &|index| palette.ink(index).full, side) {
                        for ground in &grounds {
                            let ratio = contrast(ink, *ground);
                            assert!(ratio >= profile.contrast * 0.98, "level {level}: {ratio}");
                        }
                        for noise in &noises {
                            let least = if level.get() <= 5 { 1.7 } else { 1.0 };
                            let ratio = contrast(ink, *noise);
                            assert!(ratio >= least, "level {level}: text over noise {ratio}");
                        }
                    }
                }
            }
        }
        assert!((2000..4500).contains(&counterchanged), "{counterchanged}");
    }

    #[test]
    fn what_is_drawn_on_a_side_stays_on_its_side() {
        let mut rng = Stream::fixed(6);
        let profile = LevelProfile::of(Level::MAX);
        let scheme = ColourScheme { counterchange: 1.0, ..ColourScheme::draw(&mut rng) };
        let palette = Palette::draw(profile, &scheme, &mut rng);
        for index in 0..TEXTS {
            let Ink { full, half } = palette.ink(index);
            for pair in [full, half, palette.noise(index), palette.ground(index)] {
                assert_eq!(pair.0.map(|slot| slot % 2), [0, 1]);
            }
        }
    }

    #[test]
    fn the_slot_of_a_named_colour_tells_nothing() {
        let mut rng = Stream::fixed(7);
        let (profile, scheme) = (LevelProfile::of(Level::MIN), ColourScheme::draw(&mut rng));
        for used in [&[Colour::Red][..], &[Colour::Blue, Colour::Red, Colour::White]] {
            let mut counts = [0_i32; NAMED];
            for _ in 0..4000 {
                let palette = Palette::named(used, NeutralColour::Grey, profile, &scheme, &mut rng);
                counts[usize::from(palette.named_ink(Colour::Red).full.0[0]) - FIRST_TEXT] += 1;
            }
            assert!(counts.iter().all(|count| (count - 1000).abs() < 150), "{counts:?}");
        }
    }

    #[test]
    fn named_colours_stand_out_from_their_ground() {
        let mut rng = Stream::fixed(8);
        for level in Level::ALL {
            for _ in 0..100 {
                let profile = LevelProfile::of(level);
                let scheme = ColourScheme::draw(&mut rng);
                let named = &Colour::PAINTS[..4];
                let palette =
                    Palette::named(named, NeutralColour::White, profile, &scheme, &mut rng);
                for slot in FIRST_TEXT..FIRST_HALF {
                    let ratio = |ground: &Rgb| {
                        contrast(luminance(palette.colours[slot]), luminance(*ground))
                    };
                    let least = palette.colours[..GROUNDS].iter().map(ratio).fold(21.0, f32::min);
                    assert!(least >= if level.get() <= 5 { 2.0 } else { 1.7 }, "{level}: {least}");
                }
            }
        }
    }
}

//! How a layout changes each character, and where it puts loose tiles.

use super::*;
use crate::spec::{AnswerMode, Level, Spec, Variant};
use crate::tasks;

/// The picture that pages use.
const FRAME: Frame = Frame { width: 300.0, height: 100.0 };
/// Texts that are laid out, in so many styles.
const TEXTS: u8 = 250;
const STYLES: u8 = 10;

/// Characters in ink at the highest level, where every parameter is at its largest.
struct Text {
    characters: String,
    fonts: Fonts,
    params: GlyphParams,
    rng: u8,
}

impl Text {
    /// Before the waves, and as they are drawn.
    fn layouts(&self) -> [Layout; 2] {
        let figures = [Figure::Characters(self.characters.clone())];
        let (mut straight, mut bent) = (Layout::default(), Layout::default());
        let cap = FRAME.height * self.params.cap * self.params.layout.cap;
        let settings = TypeSettings { fonts: &self.fonts, params: &self.params, cap };
        straight.line(&figures, settings, FRAME, &mut Stream::fixed(self.rng));
        bent.compose(&figures, &self.fonts, &self.params, FRAME, &mut Stream::fixed(self.rng));
        [straight, bent]
    }
}

fn over_texts(mut look: impl FnMut(&Text)) {
    let plain = Fonts::load().unwrap();
    let profile = LevelProfile::of(Level::ALL[9]);
    for style in 0..STYLES {
        let mut rng = Stream::fixed(style);
        let layout = LayoutParams::draw(&mut rng);
        let mut text = Text {
            characters: String::new(),
            fonts: plain.styled(&mut rng),
            params: GlyphParams::ink(profile, layout),
            rng: 0,
        };
        for number in (style..TEXTS).step_by(usize::from(STYLES)) {
            text.characters =
                (0..6).map(|_| char::from(*rng.pick(b"ACEFHJKLMN").unwrap())).collect();
            text.rng = number;
            look(&text);
        }
    }
}

/// The face of a straight character, its size relative to the outline's, and its turn in degrees:
/// the turn and scale that bring the face's outline nearest to it, of the face that comes nearest.
fn written(text: &Text, layout: &Layout, at: usize) -> (u8, f32, f32) {
    let shape = &layout.shapes[at];
    let points = &layout.points[shape.first_point..shape.last_point];
    let middle = |points: &[Point]| {
        let sum = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.x, y + point.y));
        (sum.0 / points.len() as f32, sum.1 / points.len() as f32)
    };
    let character = text.characters.as_bytes()[at];
    let fitted = text.fonts.faces_for(character, false).iter().filter_map(|face| {
        let outline = text.fonts.outline(*face, character)?;
        let outline = Some(outline.points()).filter(|outline| outline.len() == points.len())?;
        let (from, to) = (middle(outline), middle(points));
        let pairs: Vec<[f32; 4]> = outline
            .iter()
            .zip(points)
            .map(|(o, p)| [o.x - from.0, o.y - from.1, p.x - to.0, p.y - to.1])
            .collect();
        let sum = |of: fn(&[f32; 4]) -> f32| pairs.iter().map(of).sum::<f32>();
        let norm = sum(|[x, y, ..]| x * x + y * y);
        let cos = sum(|[x, y, u, v]| x * u + y * v) / norm;
        let sin = sum(|[x, y, u, v]| x * v - y * u) / norm;
        let off = pairs
            .iter()
            .map(|[x, y, u, v]| (x * cos - y * sin - u).abs() + (x * sin + y * cos - v).abs())
            .fold(0.0, f32::max);
        Some((off, (*face, cos.hypot(sin), sin.atan2(cos).to_degrees())))
    });
    let (off, found) = fitted.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap();
    assert!(off < 0.01, "{}: no face is nearer than {off} px", char::from(character));
    found
}

fn spread(values: impl Iterator<Item = f32>) -> f32 {
    let (low, high) =
        values.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    high - low
}

#[test]
fn characters_differ_in_font_size_turn_and_distance() {
    let (mut turns, mut gaps) = (Vec::new(), Vec::new());
    let [mut fonts, mut sizes, mut distances] = [0_u8; 3];
    over_texts(|text| {
        let [layout, _] = text.layouts();
        let all: Vec<_> = (0..6).map(|at| written(text, &layout, at)).collect();
        turns.extend(all.iter().map(|(.., turn)| *turn));
        fonts += u8::from(all.iter().any(|(face, ..)| *face != all[0].0));
        let largest = all.iter().map(|(_, size, _)| *size).fold(0.0, f32::max);
        sizes += u8::from(spread(all.iter().map(|(_, size, _)| *size)) > 0.05 * largest);
        let boxes: Vec<_> = layout.shapes.iter().map(|s| layout.bounds(s).unwrap()).collect();
        let apart: Vec<f32> = boxes.windows(2).map(|pair| pair[1].min.x - pair[0].max.x).collect();
        distances += u8::from(spread(apart.iter().copied()) > 1.0);
        gaps.extend(apart);
    });
    let (least, most) = turns.iter().fold((0.0_f32, 0.0_f32), |(l, m), t| (l.min(*t), m.max(*t)));
    println!(
        "turns {least:.1} to {most:.1}, of {TEXTS}: fonts {fonts}, sizes {sizes}, {distances}"
    );
    // The sine is off by a thousandth.
    assert!(least > -30.2 && most < 30.2, "{least} to {most} degrees");
    assert!(least < -27.0 && most > 27.0, "{least} to {most} degrees");
    let steep = turns.iter().filter(|turn| turn.abs() > 15.0).count();
    assert!(steep * 3 > turns.len(), "{steep} of {} turn by half of what they may", turns.len());
    for (name, count) in [("fonts", fonts), ("sizes", sizes), ("distances", distances)] {
        assert!(count > TEXTS / 10 * 9, "two {name} in {count} of {TEXTS} texts");
    }
    assert!(gaps.iter().any(|gap| *gap < 0.0) && gaps.iter().any(|gap| *gap > 5.0));
}

#[test]
fn two_waves_bend_every_text_along_both_axes() {
    let largest = LevelProfile::of(Level::ALL[9]).wave;
    over_texts(|text| {
        let [straight, bent] = text.layouts();
        let pairs = straight.points.iter().zip(&bent.points);
        let moved: Vec<_> = pairs.map(|(from, to)| (to.x - from.x, to.y - from.y)).collect();
        for (axis, moved) in [
            ("x", moved.iter().map(|(x, _)| *x).collect::<Vec<f32>>()),
            ("y", moved.iter().map(|(_, y)| *y).collect()),
        ] {
            let name = format!("{axis}, text {}", text.rng);
            let far = moved.iter().fold(0.0_f32, |far, by| far.max(by.abs()));
            assert!(far < 1.02 * largest, "{name}: {far} px");
            // More than all by the same.
            let bend = spread(moved.into_iter());
            assert!(bend > 0.2 * largest, "{name}: {bend} px");
        }
    });
}

/// The picture that pages use has no room for them beside two rows of fewer than seven tiles.
#[test]
fn loose_tiles_are_where_the_level_has_some_and_never_in_a_row() {
    let fonts = Fonts::load().unwrap();
    let roomy = Frame { width: 300.0, height: 150.0 };
    for (level, frame) in Level::ALL.into_iter().flat_map(|level| [(level, FRAME), (level, roomy)])
    {
        let profile = LevelProfile::of(level);
        let mut pictures_with = 0;
        for number in 0..60 {
            let mut rng = Stream::fixed(number);
            let layout = LayoutParams::draw(&mut rng);
            let params = GlyphParams::ink(profile, layout);
            let settings =
                TypeSettings { fonts: &fonts, params: &params, cap: frame.height * params.cap };
            let mode = AnswerMode::ALL[usize::from(number) % AnswerMode::ALL.len()];
            let spec = Spec { mode, ..Spec::new(Variant::PatternCompletion, level) };
            let figures = tasks::compose(&spec, &mut rng).figures;
            let laid = |figures: &[Figure]| {
                let mut layout = Layout::default();
                layout.stack(figures, settings, frame, &mut Stream::fixed(number));
                layout
            };
            let layout = laid(&figures);
            // They come last, so that everything before them is the same without them.
            let rows = figures.iter().filter(|figure| matches!(figure, Figure::Row(_))).count();
            let (rows, strays) = layout.shapes.split_at(laid(&figures[..rows]).shapes.len());
            pictures_with += u32::from(!strays.is_empty());
            let bounds = |shape: &Shape| layout.bounds(shape).unwrap();
            for stray in strays.iter().map(bounds) {
                for tile in rows.iter().map(bounds) {
                    let apart = stray.max.y <= tile.min.y || stray.min.y >= tile.max.y;
                    assert!(apart, "{level:?}, {number}: {stray:?} beside {tile:?}");
                }
            }
        }
        println!("{level:?}, {frame:?}: loose tiles in {pictures_with} of 60");
        if frame.height > FRAME.height {
            assert_eq!(pictures_with > 50, profile.herrings > 0, "{level:?}: {pictures_with}");
        }
    }
}

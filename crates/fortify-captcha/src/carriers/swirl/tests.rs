//! What a picture in swirl gives away, and to which kind of program.

use super::*;
use crate::font::Fonts;
use crate::seed::StyleKey;
use crate::spec::{Carrier, Level, Spec, Variant};
use crate::statistics::{Area, Map, at, both, mean, not, separation, variance};
use crate::tasks;

/// The tasks that swirl shows.
const VARIANTS: [Variant; 4] = [
    Variant::DistortedText,
    Variant::ObjectRecognition,
    Variant::PatternCompletion,
    Variant::ColorTextMismatch,
];

/// A drawn picture: shades, of which a picture of two bands has as many in each; where glyphs or marks
/// are, and where stripes are that have stripes all around. Neutral shapes are visible to everybody and
/// give nothing away.
struct Picture {
    area: Area,
    shades: Map,
    glyphs: Vec<bool>,
    striped: Vec<bool>,
}

fn pictures(variant: Variant, level: u8, count: u8) -> Vec<Picture> {
    let level = Level::new(level).unwrap();
    let profile = LevelProfile::of(level);
    let spec = Spec { length: 4, ..Spec::new(variant, level).with_carrier(Carrier::Swirl) };
    let mut found = Vec::new();
    // Four pictures in each of a few styles.
    for (style, numbers) in (0..).map(styled).zip((0..count).collect::<Vec<_>>().chunks(4)) {
        let settings = StripeSettings { style: &style, profile };
        found.extend(numbers.iter().map(|number| picture(settings, &spec, *number)));
    }
    found
}

fn styled(number: u8) -> Style {
    Style::new(&StyleKey::from_bytes([number; 32]), &Fonts::load().unwrap())
}

fn picture(settings: StripeSettings<'_>, spec: &Spec, number: u8) -> Picture {
    let mut rng = Stream::fixed(number);
    let (mut canvas, mut scratch) = (Canvas::default(), Scratch::default());
    let area = Area { width: spec.width.into(), height: spec.height.into() };
    canvas.resize(area.width, area.height);
    let figures = tasks::compose(spec, &mut rng).figures;
    draw(&figures, settings, &mut rng, &mut canvas, &mut scratch);
    let colours =
        if Figure::bands(&figures).is_some() { palette::SHADES } else { palette::COLOURS };
    let shades = canvas.rows().flatten().map(|shade| f32::from(*shade % colours as u8)).collect();
    let striped = area.core(&area.traced(&scratch.neutral.light), false, 1);
    Picture { area, shades, glyphs: area.traced(&scratch.grown[STRONGER]), striped }
}

impl Picture {
    /// The square of the change along each axis.
    fn changes(&self) -> [Map; 2] {
        [(1, 0), (0, 1)].map(|(dx, dy)| {
            let next = self.area.shifted(&self.shades, dx, dy);
            let pairs = self.shades.iter().zip(next);
            pairs.map(|(here, there)| (here - there) * (here - there)).collect()
        })
    }

    /// How sharply a px stands out from its four neighbours.
    fn sharpness(&self) -> Map {
        let around = [(1, 0), (-1, 0), (0, 1), (0, -1)]
            .map(|(dx, dy)| self.area.shifted(&self.shades, dx, dy));
        (0..self.shades.len())
            .map(|at| {
                let others = around.iter().map(|map| map[at]).sum::<f32>();
                (others - 4.0 * self.shades[at]).powi(2)
            })
            .collect()
    }

    /// How far a statistic's values are apart in two parts of the picture.
    fn separation(&self, map: &Map, sigma: f32, inside: &[bool], outside: &[bool]) -> f32 {
        let map = self.area.blurred_among(map, &self.striped, sigma);
        separation(&map, &both(inside, &self.striped), &both(outside, &self.striped))
    }
}

#[test]
fn brightness_contrast_and_fineness_are_the_same_inside_and_out() {
    type Statistic = fn(&Picture) -> Map;
    let statistics: [(&str, Statistic); 4] = [
        ("brightness", |picture| picture.shades.clone()),
        ("contrast", |picture| {
            let middle = mean(&at(&picture.shades, &picture.striped));
            picture.shades.iter().map(|shade| (shade - middle) * (shade - middle)).collect()
        }),
        ("fineness", |picture| {
            let [across, down] = picture.changes();
            across.iter().zip(down).map(|(x, y)| x + y).collect()
        }),
        ("sharpness", Picture::sharpness),
    ];
    for (variant, level) in VARIANTS.into_iter().flat_map(|v| [1, 5, 10].map(|l| (v, l))) {
        let pictures = pictures(variant, level, 16);
        for (name, statistic) in statistics {
            for sigma in [1.5, 4.0] {
                let found: Vec<f32> = pictures
                    .iter()
                    .map(|picture| {
                        let outside = not(&picture.glyphs);
                        picture.separation(&statistic(picture), sigma, &picture.glyphs, &outside)
                    })
                    .collect();
                let size = mean(&found.iter().map(|value| value.abs()).collect::<Vec<_>>());
                println!(
                    "{variant} {level} {name} {sigma}: signed {:.3} size {size:.3}",
                    mean(&found)
                );
                assert!(size < 0.3 && mean(&found).abs() < 0.15, "{variant} {name}: {size}");
            }
        }
    }
}

#[test]
fn outlines_are_not_sharper_than_the_rest() {
    for (variant, level) in VARIANTS.into_iter().flat_map(|v| [1, 5, 10].map(|l| (v, l))) {
        let found: Vec<f32> = pictures(variant, level, 16)
            .iter()
            .map(|picture| {
                let inner = picture.area.core(&picture.glyphs, true, 1);
                let outer = picture.area.core(&picture.glyphs, false, 1);
                let rest: Vec<bool> = inner.iter().zip(&outer).map(|(i, o)| *i || *o).collect();
                picture.separation(&picture.sharpness(), 1.0, &not(&rest), &rest)
            })
            .collect();
        println!("{variant} {level} outlines: signed {:.3}", mean(&found));
        assert!(mean(&found).abs() < 0.3, "{variant} {level}: {found:?}");
    }
}

#[test]
fn stripes_stand_at_right_angles_to_the_ground_inside() {
    for picture in VARIANTS.into_iter().flat_map(|variant| pictures(variant, 1, 20)) {
        let [across, down] = picture.changes();
        let lean: Map = across.iter().zip(&down).map(|(x, y)| x - y).collect();
        let inside = picture.area.core(&picture.glyphs, true, 3);
        let outside = picture.area.core(&picture.glyphs, false, 3);
        let found = picture.separation(&lean, 4.0, &inside, &outside);
        assert!(found.abs() > 3.0, "{found}");
    }
}

#[test]
fn layers_are_as_strong_as_each_other_and_neighbours_agree() {
    let filters = styled(3).filters;
    let layer = |band: usize, orientation: usize| -> Map {
        (0..filter_bank::HEIGHT)
            .flat_map(|y| filters.row(band, y)[orientation].map(f32::from))
            .collect()
    };
    for band in 0..filter_bank::WAVELENGTHS {
        for orientation in 0..ORIENTATIONS {
            let (one, next) =
                (layer(band, orientation), layer(band, (orientation + 1) % ORIENTATIONS));
            let across = layer(band, (orientation + ORIENTATIONS / 2) % ORIENTATIONS);
            let everywhere = vec![true; one.len()];
            assert!(mean(&at(&one, &everywhere)).abs() < 0.3);
            assert!((variance(&one).sqrt() / filter_bank::DEVIATION - 1.0).abs() < 0.01);
            let agreement = |other: &Map| {
                let product: Map = one.iter().zip(other).map(|(a, b)| a * b).collect();
                mean(&product) / (variance(&one) * variance(other)).sqrt()
            };
            assert!(agreement(&next) > 0.75);
            assert!(agreement(&across).abs() < 0.05);
        }
    }
}

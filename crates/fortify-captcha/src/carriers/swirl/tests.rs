//! What a picture in swirl tells, and to whom.

use super::*;
use crate::font::Fonts;
use crate::spec::{Carrier, Level, Spec, Variant};
use crate::statistics::{Area, Map, at, mean, separation, variance};
use crate::style::StyleKey;
use crate::tasks;

/// The tasks that swirl shows.
const VARIANTS: [Variant; 3] =
    [Variant::DistortedText, Variant::ObjectRecognition, Variant::ColorTextMismatch];

/// A drawn picture: shades, of which a picture of two bands has as many in each, and where glyphs
/// are; without the strip of plain objects.
struct Picture {
    area: Area,
    shades: Map,
    glyphs: Vec<bool>,
}

fn pictures(variant: Variant, level: u8, count: u8) -> Vec<Picture> {
    let spec = Spec::new(variant, Level::new(level).unwrap()).with_carrier(Carrier::Swirl);
    let spec = Spec { length: 4, ..spec };
    let profile = LevelProfile::of(spec.level);
    // Four pictures in each of a few styles.
    let styles = (0..count.div_ceil(4)).map(styled);
    let numbers = |style: usize| (0..4).map(move |number| (style * 4 + number) as u8);
    styles
        .enumerate()
        .flat_map(|(at, style)| {
            numbers(at)
                .map(|number| picture(Kit { style: &style, profile }, spec, number))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn styled(number: u8) -> Style {
    Style::new(&StyleKey::from_bytes([number; 32]), &Fonts::load().unwrap())
}

fn picture(kit: Kit<'_>, spec: Spec, number: u8) -> Picture {
    let mut rng = Stream::fixed(number);
    let figures = tasks::compose(&spec, &mut rng).figures;
    let (mut canvas, mut scratch) = (Canvas::default(), Scratch::default());
    let (width, height) = (usize::from(spec.width), usize::from(spec.height));
    canvas.resize(width, height);
    draw(&figures, kit, &mut rng, &mut canvas, &mut scratch);
    let area = Area { width, height: cut(&canvas, kit, &figures).strip() };
    let shades = if Figure::bands(&figures).is_some() { 8 } else { 16 };
    let rows = canvas.rows().take(area.height);
    let shades = rows.flatten().map(|shade| f32::from(*shade % shades)).collect();
    // Where the fade is half done.
    let rows = scratch.grown[2].rows().take(area.height);
    let glyphs = rows
        .flat_map(|row| (0..width).map(|x| row[x / WORD] >> (WORD - 1 - x % WORD) & 1 == 1))
        .collect();
    Picture { area, shades, glyphs }
}

fn not(cells: &[bool]) -> Vec<bool> {
    cells.iter().map(|cell| !cell).collect()
}

/// The square of the change along each axis.
fn changes(area: Area, shades: &Map) -> [Map; 2] {
    [(1, 0), (0, 1)].map(|(dx, dy)| {
        let next = area.shifted(shades, dx, dy);
        shades.iter().zip(next).map(|(here, there)| (here - there) * (here - there)).collect()
    })
}

/// How sharply a px stands out from its four neighbours.
fn sharpness(area: Area, shades: &Map) -> Map {
    let around = [(1, 0), (-1, 0), (0, 1), (0, -1)].map(|(dx, dy)| area.shifted(shades, dx, dy));
    (0..shades.len())
        .map(|at| (around.iter().map(|map| map[at]).sum::<f32>() - 4.0 * shades[at]).powi(2))
        .collect()
}

#[test]
fn brightness_contrast_and_fineness_are_the_same_inside_and_out() {
    type Statistic = fn(Area, &Map) -> Map;
    let statistics: [(&str, Statistic); 4] = [
        ("brightness", |_, shades| shades.clone()),
        ("contrast", |_, shades| {
            let middle = mean(shades);
            shades.iter().map(|shade| (shade - middle) * (shade - middle)).collect()
        }),
        ("fineness", |area, shades| {
            let [across, down] = changes(area, shades);
            across.iter().zip(down).map(|(x, y)| x + y).collect()
        }),
        ("sharpness", sharpness),
    ];
    for (variant, level) in VARIANTS.into_iter().flat_map(|v| [1, 5, 10].map(|level| (v, level))) {
        let pictures = pictures(variant, level, 16);
        for (name, statistic) in statistics {
            for sigma in [1.5, 4.0] {
                let found: Vec<f32> = pictures
                    .iter()
                    .map(|picture| {
                        let map =
                            picture.area.blurred(&statistic(picture.area, &picture.shades), sigma);
                        separation(&map, &picture.glyphs, &not(&picture.glyphs))
                    })
                    .collect();
                let size = mean(&found.iter().map(|value| value.abs()).collect::<Vec<_>>());
                println!(
                    "{variant} level {level} {name} {sigma}: signed {:.3} size {size:.3}",
                    mean(&found)
                );
                assert!(size < 0.3 && mean(&found).abs() < 0.15, "{name}: {size}");
            }
        }
    }
}

#[test]
fn outlines_are_not_sharper_than_the_rest() {
    for (variant, level) in VARIANTS.into_iter().flat_map(|v| [1, 5, 10].map(|level| (v, level))) {
        let found: Vec<f32> = pictures(variant, level, 16)
            .iter()
            .map(|picture| {
                let inner = picture.area.core(&picture.glyphs, true, 1);
                let outer = picture.area.core(&picture.glyphs, false, 1);
                let rest: Vec<bool> = inner.iter().zip(&outer).map(|(i, o)| *i || *o).collect();
                separation(
                    &picture.area.blurred(&sharpness(picture.area, &picture.shades), 1.0),
                    &not(&rest),
                    &rest,
                )
            })
            .collect();
        println!("{variant} level {level} outlines: signed {:.3}", mean(&found));
        assert!(mean(&found).abs() < 0.3, "{variant} level {level}: {found:?}");
    }
}

#[test]
fn stripes_stand_at_right_angles_to_the_ground_inside() {
    for picture in VARIANTS.into_iter().flat_map(|variant| pictures(variant, 1, 20)) {
        let [across, down] = changes(picture.area, &picture.shades);
        let lean: Map = across.iter().zip(&down).map(|(x, y)| x - y).collect();
        let inside = picture.area.core(&picture.glyphs, true, 3);
        let outside = picture.area.core(&picture.glyphs, false, 3);
        let found = separation(&picture.area.blurred(&lean, 4.0), &inside, &outside);
        assert!(found.abs() > 3.0, "{found}");
    }
}

#[test]
fn layers_are_as_strong_as_each_other_and_neighbours_agree() {
    let bank = styled(3).bank;
    let layer = |band: usize, orientation: usize| -> Map {
        (0..bank::HEIGHT)
            .flat_map(|y| bank.row(band, y).iter().map(|fan| f32::from(fan[orientation])))
            .collect()
    };
    for band in 0..bank::WAVELENGTHS {
        for orientation in 0..ORIENTATIONS {
            let (one, next) =
                (layer(band, orientation), layer(band, (orientation + 1) % ORIENTATIONS));
            let across = layer(band, (orientation + ORIENTATIONS / 2) % ORIENTATIONS);
            let everywhere = vec![true; one.len()];
            assert!(mean(&at(&one, &everywhere)).abs() < 0.3);
            assert!((variance(&one).sqrt() / bank::DEVIATION - 1.0).abs() < 0.01);
            let agreement = |other: &Map| {
                let product: Map = one.iter().zip(other).map(|(a, b)| a * b).collect();
                mean(&product) / (variance(&one) * variance(other)).sqrt()
            };
            assert!(agreement(&next) > 0.75);
            assert!(agreement(&across).abs() < 0.05);
        }
    }
}

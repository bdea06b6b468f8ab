//! What a picture in swirl tells, and to whom.

use super::*;
use crate::font::Fonts;
use crate::spec::Level;
use crate::statistics::{Area, Map, at, mean, separation, variance};
use crate::style::StyleKey;

const AREA: Area = Area { width: 480, height: 160 };

/// A drawn picture: shades, and where glyphs are.
struct Picture {
    shades: Map,
    glyphs: Vec<bool>,
}

fn pictures(level: u8, count: u8) -> Vec<Picture> {
    let profile = LevelProfile::of(Level::new(level).unwrap());
    // Four pictures in each of a few styles.
    let styles = (0..count.div_ceil(4)).map(styled);
    let numbers = |style: usize| (0..4).map(move |number| (style * 4 + number) as u8);
    styles
        .enumerate()
        .flat_map(|(at, style)| {
            numbers(at)
                .map(|number| picture(Kit { style: &style, profile }, number))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn styled(number: u8) -> Style {
    Style::new(&StyleKey::from_bytes([number; 32]), &Fonts::load().unwrap())
}

fn picture(kit: Kit<'_>, number: u8) -> Picture {
    let mut rng = Stream::fixed(number);
    let text: String =
        (0..4).map(|_| char::from(crate::ALPHABET[rng.below(crate::ALPHABET.len())])).collect();
    let (mut canvas, mut scratch) = (Canvas::default(), Scratch::default());
    canvas.resize(AREA.width, AREA.height);
    draw(&[Figure::Characters(text)], kit, &mut rng, &mut canvas, &mut scratch);
    let shades = canvas.rows().flatten().map(|shade| f32::from(*shade)).collect();
    // Where the fade is half done.
    let rows = scratch.grown[2].rows();
    let glyphs = rows
        .flat_map(|row| (0..AREA.width).map(|x| row[x / WORD] >> (WORD - 1 - x % WORD) & 1 == 1))
        .collect();
    Picture { shades, glyphs }
}

fn not(cells: &[bool]) -> Vec<bool> {
    cells.iter().map(|cell| !cell).collect()
}

/// The square of the change along each axis.
fn changes(shades: &Map) -> [Map; 2] {
    [(1, 0), (0, 1)].map(|(dx, dy)| {
        let next = AREA.shifted(shades, dx, dy);
        shades.iter().zip(next).map(|(here, there)| (here - there) * (here - there)).collect()
    })
}

/// How sharply a px stands out from its four neighbours.
fn sharpness(shades: &Map) -> Map {
    let around = [(1, 0), (-1, 0), (0, 1), (0, -1)].map(|(dx, dy)| AREA.shifted(shades, dx, dy));
    (0..shades.len())
        .map(|at| (around.iter().map(|map| map[at]).sum::<f32>() - 4.0 * shades[at]).powi(2))
        .collect()
}

#[test]
fn brightness_contrast_and_fineness_are_the_same_inside_and_out() {
    type Statistic = fn(&Map) -> Map;
    let statistics: [(&str, Statistic); 4] = [
        ("brightness", |shades| shades.clone()),
        ("contrast", |shades| {
            let middle = mean(shades);
            shades.iter().map(|shade| (shade - middle) * (shade - middle)).collect()
        }),
        ("fineness", |shades| {
            let [across, down] = changes(shades);
            across.iter().zip(down).map(|(x, y)| x + y).collect()
        }),
        ("sharpness", sharpness),
    ];
    for level in [1, 5, 10] {
        let pictures = pictures(level, 16);
        for (name, statistic) in statistics {
            for sigma in [1.5, 4.0] {
                let found: Vec<f32> = pictures
                    .iter()
                    .map(|picture| {
                        let map = AREA.blurred(&statistic(&picture.shades), sigma);
                        separation(&map, &picture.glyphs, &not(&picture.glyphs))
                    })
                    .collect();
                let size = mean(&found.iter().map(|value| value.abs()).collect::<Vec<_>>());
                println!("level {level} {name} {sigma}: signed {:.3} size {size:.3}", mean(&found));
                assert!(size < 0.3 && mean(&found).abs() < 0.15, "{name}: {size}");
            }
        }
    }
}

#[test]
fn outlines_are_not_sharper_than_the_rest() {
    for level in [1, 5, 10] {
        let found: Vec<f32> = pictures(level, 16)
            .iter()
            .map(|picture| {
                let inner = AREA.core(&picture.glyphs, true, 1);
                let outer = AREA.core(&picture.glyphs, false, 1);
                let rest: Vec<bool> = inner.iter().zip(&outer).map(|(i, o)| *i || *o).collect();
                separation(&AREA.blurred(&sharpness(&picture.shades), 1.0), &not(&rest), &rest)
            })
            .collect();
        println!("level {level} outlines: signed {:.3}", mean(&found));
        assert!(mean(&found).abs() < 0.3, "level {level}: {found:?}");
    }
}

#[test]
fn stripes_stand_at_right_angles_to_the_ground_inside() {
    for picture in pictures(1, 20) {
        let [across, down] = changes(&picture.shades);
        let lean: Map = across.iter().zip(&down).map(|(x, y)| x - y).collect();
        let inside = AREA.core(&picture.glyphs, true, 3);
        let outside = AREA.core(&picture.glyphs, false, 3);
        let found = separation(&AREA.blurred(&lean, 4.0), &inside, &outside);
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

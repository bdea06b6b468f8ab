//! What a picture in motion tells, and to whom.

use super::*;
use crate::spec::Level;

const WIDTH: usize = 120;
const HEIGHT: usize = 44;

/// A map over the cells, row by row.
type Map = Vec<f32>;

/// A drawn picture as numbers: 1 and -1 for light and dark, frame by frame, and where glyphs are.
struct Picture {
    frames: Vec<Map>,
    glyphs: Vec<bool>,
}

fn picture(fonts: &Fonts, level: u8, number: u8) -> Picture {
    let mut rng = Stream::fixed(number);
    let text: String =
        (0..4).map(|_| char::from(crate::ALPHABET[rng.below(crate::ALPHABET.len())])).collect();
    let scene = Scene {
        figures: &[Figure::Characters(text)],
        decoy: &[],
        fonts,
        profile: LevelProfile::of(Level::new(level).unwrap()),
        width: WIDTH,
        height: HEIGHT,
    };
    let mut scratch = Scratch::default();
    draw(&scene, &mut rng, &mut Stream::fixed(255), &mut scratch);
    let image = WIDTH.div_ceil(8) * HEIGHT;
    let frames = scratch.packed.chunks_exact(image).skip(1).map(unpack).collect::<Vec<_>>();
    assert_eq!(frames.len(), MOVES + 1);
    let mut glyphs = Vec::new();
    pack(scratch.glyphs.rows().map(|row| row.iter().copied()), WIDTH, &mut glyphs);
    Picture { frames, glyphs: unpack(&glyphs[..]).iter().map(|value| *value > 0.0).collect() }
}

fn unpack(packed: &[u8]) -> Map {
    let cell = |at: usize| {
        packed[at / WIDTH * WIDTH.div_ceil(8) + at % WIDTH / 8] >> (7 - at % WIDTH % 8) & 1
    };
    (0..WIDTH * HEIGHT).map(|at| f32::from(cell(at)) * 2.0 - 1.0).collect()
}

/// `map` seen from (x + dx, y + dy), around the edges.
fn shifted(map: &[f32], dx: i32, dy: i32) -> Map {
    let (width, height) = (WIDTH as i32, HEIGHT as i32);
    (0..width * height)
        .map(|at| {
            let (x, y) =
                ((at % width + dx).rem_euclid(width), (at / width + dy).rem_euclid(height));
            map[(y * width + x) as usize]
        })
        .collect()
}

/// Pools what is nearby, as eyes do.
fn blurred(map: &[f32], sigma: f32) -> Map {
    let reach = (3.0 * sigma) as i32;
    let kernel: Vec<f32> =
        (-reach..=reach).map(|at| (-(at * at) as f32 / (2.0 * sigma * sigma)).exp()).collect();
    let total: f32 = kernel.iter().sum();
    let along = |map: &[f32], step: i32, limit: i32, place: fn(i32) -> i32| -> Map {
        (0..map.len() as i32)
            .map(|at| {
                let here = place(at);
                let sum: f32 = (-reach..=reach)
                    .zip(&kernel)
                    .map(|(offset, weight)| {
                        let there = (here + offset).clamp(0, limit - 1) - here;
                        weight * map[(at + there * step) as usize]
                    })
                    .sum();
                sum / total
            })
            .collect()
    };
    let across = along(map, 1, WIDTH as i32, |at| at % WIDTH as i32);
    along(&across, WIDTH as i32, HEIGHT as i32, |at| at / WIDTH as i32)
}

fn mean_and_variance(values: impl Iterator<Item = f32> + Clone) -> (f32, f32) {
    let count = values.clone().count().max(1) as f32;
    let mean = values.clone().sum::<f32>() / count;
    (mean, values.map(|value| (value - mean) * (value - mean)).sum::<f32>() / count)
}

/// How far the map's values inside and outside are apart, in standard deviations, with its sign.
fn separation(map: &[f32], inside: &[bool], outside: &[bool]) -> f32 {
    let of = |chosen: &[bool]| {
        let chosen = chosen.to_vec();
        let values: Map = map.iter().zip(chosen).filter(|(_, yes)| *yes).map(|(v, _)| *v).collect();
        mean_and_variance(values.into_iter().collect::<Vec<_>>().iter().copied())
    };
    let ((inner, inner_spread), (outer, outer_spread)) = (of(inside), of(outside));
    (inner - outer) / ((inner_spread + outer_spread) * 0.5).sqrt()
}

/// Cells whose whole square of `reach` around them is set (or not set).
fn core(glyphs: &[bool], set: bool, reach: i32) -> Vec<bool> {
    let plain: Map = glyphs.iter().map(|cell| f32::from(u8::from(*cell == set))).collect();
    let mut all = vec![true; plain.len()];
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let seen = shifted(&plain, dx, dy);
            all.iter_mut().zip(seen).for_each(|(all, value)| *all &= value > 0.5);
        }
    }
    all
}

/// The sensitivity d' of an observer that pools oriented correlations over a leaky 300 ms and 2
/// cells, at a fifth of the ideal efficiency: the prototypes' model of a person.
fn observer(picture: &Picture) -> f32 {
    const EFFICIENCY: f32 = 0.2;
    const WINDOW: usize = 5;
    let inside = core(&picture.glyphs, true, 1);
    let outside = core(&picture.glyphs, false, 3);
    let mean_outside = |map: &Map| -> f32 {
        map.iter().zip(&outside).filter(|(_, out)| **out).map(|(value, _)| *value).sum()
    };
    let motions: Vec<Map> = picture
        .frames
        .windows(2)
        .map(|pair| {
            [(1, 0), (0, 1), (1, 1), (1, -1)]
                .map(|(dx, dy)| {
                    let (there, back) = (shifted(&pair[1], dx, dy), shifted(&pair[1], -dx, -dy));
                    let both = there.iter().zip(back);
                    let signed: Map =
                        pair[0].iter().zip(both).map(|(here, (t, b))| here * (t - b)).collect();
                    let total = mean_outside(&signed);
                    signed.into_iter().map(|value| value * total.signum()).collect::<Map>()
                })
                .into_iter()
                .max_by(|one, other| mean_outside(one).total_cmp(&mean_outside(other)))
                .unwrap()
        })
        .collect();
    let windows = motions.windows(WINDOW);
    let count = windows.len() as f32;
    let total: f32 = windows
        .map(|window| {
            let sum: Map =
                (0..WIDTH * HEIGHT).map(|at| window.iter().map(|map| map[at]).sum()).collect();
            separation(&blurred(&sum, 2.0), &inside, &outside).abs()
        })
        .sum();
    total / count * EFFICIENCY.sqrt()
}

fn over_pictures(level: u8, count: u8, measure: impl Fn(&Picture) -> f32) -> Vec<f32> {
    let fonts = Fonts::load().unwrap();
    (0..count).map(|number| measure(&picture(&fonts, level, number))).collect()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

#[test]
fn people_see_the_text_move() {
    for (level, least) in [(3, 3.2), (5, 3.0), (7, 2.7), (9, 2.4), (10, 2.2)] {
        let found = over_pictures(level, 12, observer);
        println!("level {level}: d' {:.2}", mean(&found));
        assert!(mean(&found) >= least, "level {level}: {found:?}");
    }
}

/// Movement along one axis, added up over the loop.
fn drift(picture: &Picture, at: usize, step: usize) -> f32 {
    let seen = |frame: &Map, at: usize| frame[at % frame.len()];
    let (ahead, behind) = (at + step, at + WIDTH * HEIGHT - step);
    picture
        .frames
        .windows(2)
        .map(|pair| pair[0][at] * (seen(&pair[1], ahead) - seen(&pair[1], behind)))
        .sum()
}

#[test]
fn a_direction_is_kept_for_two_to_four_frames_and_taken_back() {
    let mut rng = Stream::fixed(2);
    for _ in 0..1000 {
        let steps = schedule(&mut rng);
        let sum = |of: fn(&Step) -> isize| steps.iter().map(of).sum::<isize>();
        assert_eq!((sum(|step| step.right), sum(|step| step.down)), (0, 0));
        for run in steps.chunk_by(|one, other| one == other) {
            assert!((2..=4).contains(&run.len()), "{steps:?}");
        }
    }
}

#[test]
fn dots_are_flipped_as_often_as_the_level_says() {
    let mut rng = Stream::fixed(3);
    for share in [3, 9, 16, 20, 32] {
        let mut words = vec![0; 2000];
        flip(&mut words, share, &mut Vec::new(), &mut rng);
        let flipped: u32 = words.iter().map(|word: &u64| word.count_ones()).sum();
        let found = f64::from(flipped) / 2000.0;
        assert!((found - f64::from(share)).abs() < 0.5, "{share}: {found}");
    }
}

#[test]
fn no_still_statistic_tells_where_the_glyphs_are() {
    let each = |picture: &Picture, of: &dyn Fn(usize) -> f32| -> f32 {
        let map: Map = (0..WIDTH * HEIGHT).map(of).collect();
        let outside: Vec<bool> = picture.glyphs.iter().map(|glyph| !glyph).collect();
        separation(&blurred(&map, 1.5), &picture.glyphs, &outside)
    };
    type Statistic = fn(&Picture, usize) -> f32;
    let statistics: [(&str, Statistic); 7] = [
        ("first frame", |picture, at| picture.frames[0][at]),
        ("mean", |picture, at| picture.frames.iter().map(|frame| frame[at]).sum()),
        ("variance", |picture, at| {
            mean_and_variance(picture.frames.iter().map(|frame| frame[at])).1
        }),
        ("difference", |picture, at| {
            picture.frames.windows(2).map(|pair| (pair[0][at] - pair[1][at]).abs()).sum()
        }),
        ("autocorrelation over two frames", |picture, at| {
            picture.frames.windows(3).map(|three| three[0][at] * three[2][at]).sum()
        }),
        ("drift to the right", |picture, at| drift(picture, at, 1)),
        ("drift downwards", |picture, at| drift(picture, at, WIDTH)),
    ];
    for (name, statistic) in statistics {
        for level in [3, 9] {
            let found =
                over_pictures(level, 100, |picture| each(picture, &|at| statistic(picture, at)));
            let size = mean(&found.iter().map(|value| value.abs()).collect::<Vec<_>>());
            println!("{name}, level {level}: signed {:.3}, size {size:.3}", mean(&found));
            assert!(size < 0.3 && mean(&found).abs() < 0.1, "{name}: {size}");
        }
    }
}

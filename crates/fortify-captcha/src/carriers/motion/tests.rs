//! What a picture in motion gives away, and to which kind of program.

use super::*;
use crate::font::Fonts;
use crate::seed::StyleKey;
use crate::spec::{Carrier, Level, Spec, Variant};
use crate::statistics::{Area, Map, both, mean, not, separation, variance};
use crate::tasks;

/// Every task; each fills a picture in a way of its own.
const VARIANTS: [Variant; 5] = [
    Variant::DistortedText,
    Variant::Arithmetic,
    Variant::ObjectRecognition,
    Variant::PatternCompletion,
    Variant::ColorTextMismatch,
];

/// A drawn picture as numbers: 1 and -1 for light and dark, frame by frame; where glyphs or marks are,
/// and where dots are that have dots all around. Neutral shapes are visible to everybody and
/// give nothing away.
struct Picture {
    area: Area,
    frames: Vec<Map>,
    glyphs: Vec<bool>,
    dots: Vec<bool>,
}

fn picture(style: &Style, variant: Variant, level: u8, number: u8) -> Picture {
    let mut rng = Stream::fixed(number);
    let level = Level::new(level).unwrap();
    let spec = Spec { length: 4, ..Spec::new(variant, level).with_carrier(Carrier::Motion) };
    let area =
        Area { width: usize::from(spec.width / SCALE), height: usize::from(spec.height / SCALE) };
    let scene = Scene {
        figures: &tasks::compose(&spec, &mut rng).figures,
        decoy: &[],
        style,
        profile: LevelProfile::of(level),
        width: area.width,
        height: area.height,
    };
    let mut scratch = Scratch::default();
    let depth = draw(&scene, &mut rng, &mut Stream::fixed(255), &mut scratch).depth();
    let image = (area.width * depth).div_ceil(8) * area.height;
    let frames = scratch.packed.chunks_exact(image).skip(1).map(|frame| unpack(area, depth, frame));
    let frames: Vec<Map> = frames.collect();
    assert_eq!(frames.len(), MOVES + 1);
    let [glyphs, light] = [&scratch.glyphs, &scratch.neutral.light].map(|bits| area.traced(bits));
    Picture { area, frames, glyphs, dots: area.core(&light, false, 1) }
}

/// The lowest bit of each cell.
fn unpack(area: Area, depth: usize, packed: &[u8]) -> Map {
    let row_bytes = (area.width * depth).div_ceil(8);
    let cell = |at: usize| {
        let (x, y) = (at % area.width * depth + depth - 1, at / area.width);
        packed[y * row_bytes + x / 8] >> (7 - x % 8) & 1
    };
    (0..area.cells()).map(|at| f32::from(cell(at)) * 2.0 - 1.0).collect()
}

/// The sensitivity d' of an observer that pools oriented correlations over a leaky 300 ms and 2
/// cells, at a fifth of the ideal efficiency: the prototypes' model of a person.
fn observer(picture: &Picture) -> f32 {
    const EFFICIENCY: f32 = 0.2;
    const WINDOW: usize = 5;
    let area = picture.area;
    let inside = area.core(&picture.glyphs, true, 1);
    let outside = area.core(&picture.glyphs, false, 3);
    let outside = both(&outside, &area.core(&picture.dots, true, 2));
    let mean_outside = |map: &Map| -> f32 {
        map.iter().zip(&outside).filter(|(_, out)| **out).map(|(value, _)| *value).sum()
    };
    let motions: Vec<Map> = picture
        .frames
        .windows(2)
        .map(|pair| {
            [(1, 0), (0, 1), (1, 1), (1, -1)]
                .map(|(dx, dy)| {
                    let (there, back) =
                        (area.shifted(&pair[1], dx, dy), area.shifted(&pair[1], -dx, -dy));
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
                (0..area.cells()).map(|at| window.iter().map(|map| map[at]).sum()).collect();
            separation(&area.blurred(&sum, 2.0), &inside, &outside).abs()
        })
        .sum();
    total / count * EFFICIENCY.sqrt()
}

fn over_pictures<Found>(
    variant: Variant,
    level: u8,
    count: u8,
    measure: impl Fn(&Picture) -> Found,
) -> Vec<Found> {
    let fonts = Fonts::load().unwrap();
    let styles: Vec<Style> =
        (0..4).map(|key| Style::new(&StyleKey::from_bytes([key; 32]), &fonts)).collect();
    let numbered = (0..count).zip(styles.iter().cycle());
    numbered.map(|(number, style)| measure(&picture(style, variant, level, number))).collect()
}

#[test]
fn people_see_the_text_and_the_marks_move() {
    for variant in VARIANTS {
        for (level, least) in [(3, 3.2), (5, 3.0), (7, 2.7), (9, 2.4), (10, 2.2)] {
            let found = over_pictures(variant, level, 12, observer);
            println!("{variant} {level}: d' {:.2}", mean(&found));
            assert!(mean(&found) >= least, "{variant} {level}: {found:?}");
        }
    }
}

/// Movement along one axis, added up over the loop.
fn drift(picture: &Picture, at: usize, step: usize) -> f32 {
    let seen = |frame: &Map, at: usize| frame[at % frame.len()];
    let (ahead, behind) = (at + step, at + picture.area.cells() - step);
    picture
        .frames
        .windows(2)
        .map(|pair| pair[0][at] * (seen(&pair[1], ahead) - seen(&pair[1], behind)))
        .sum()
}

/// A pair of one field that ends here, and one of the other that was hidden here: the flip that they
/// share cancels in their product.
fn shared_flips(picture: &Picture, at: usize) -> f32 {
    let cells = picture.area.cells();
    let (before, behind) = ((at + cells - 1) % cells, (at + 1) % cells);
    let three = picture.frames.windows(3);
    three.map(|f| f[0][before] * f[1][at] * f[0][behind] * f[2][before]).sum()
}

#[test]
fn a_direction_is_kept_for_two_to_four_frames_and_taken_back() {
    let mut rng = Stream::fixed(2);
    for _ in 0..1000 {
        let steps = schedule(&Dots::draw(&mut rng).runs, &mut rng);
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
    type Statistic = fn(&Picture, usize) -> f32;
    let statistics: [(&str, Statistic); 8] = [
        ("first frame", |picture, at| picture.frames[0][at]),
        ("mean", |picture, at| picture.frames.iter().map(|frame| frame[at]).sum()),
        ("variance", |picture, at| {
            variance(&picture.frames.iter().map(|frame| frame[at]).collect::<Map>())
        }),
        ("difference", |picture, at| {
            picture.frames.windows(2).map(|pair| (pair[0][at] - pair[1][at]).abs()).sum()
        }),
        ("autocorrelation over two frames", |picture, at| {
            picture.frames.windows(3).map(|three| three[0][at] * three[2][at]).sum()
        }),
        ("drift to the right", |picture, at| drift(picture, at, 1)),
        ("drift downwards", |picture, at| drift(picture, at, picture.area.width)),
        ("flips that both fields have", |picture, at| shared_flips(picture, at)),
    ];
    let tell = |picture: &Picture, statistic: Statistic| -> f32 {
        let map: Map = (0..picture.area.cells()).map(|at| statistic(picture, at)).collect();
        separation(
            &picture.area.blurred_among(&map, &picture.dots, 1.5),
            &both(&picture.glyphs, &picture.dots),
            &both(&not(&picture.glyphs), &picture.dots),
        )
    };
    for (variant, level) in VARIANTS.into_iter().flat_map(|variant| [(variant, 3), (variant, 9)]) {
        let all = over_pictures(variant, level, 100, |picture| {
            statistics.map(|(_, statistic)| tell(picture, statistic))
        });
        for (at, (name, _)) in statistics.into_iter().enumerate() {
            let found: Vec<f32> = all.iter().map(|told| told[at]).collect();
            let size = mean(&found.iter().map(|value| value.abs()).collect::<Vec<_>>());
            println!("{name}, {variant} {level}: signed {:.3}, size {size:.3}", mean(&found));
            assert!(size < 0.3 && mean(&found).abs() < 0.1, "{name}, {variant} {level}: {size}");
        }
    }
}

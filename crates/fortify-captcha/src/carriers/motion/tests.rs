//! What a picture in motion tells, and to whom.

use super::*;
use crate::font::Fonts;
use crate::spec::{Carrier, Level, Spec, Variant};
use crate::statistics::{Area, Map, mean, separation, variance};
use crate::style::StyleKey;
use crate::tasks;

/// What a picture shows, and the size at which pages show it, cells.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Letters,
    Over,
    Banners,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Letters, Self::Over, Self::Banners];

    fn spec(self) -> Spec {
        let variant = match self {
            Self::Letters => Variant::DistortedText,
            Self::Over => Variant::ObjectRecognition,
            Self::Banners => Variant::ColorTextMismatch,
        };
        Spec { length: 4, ..Spec::new(variant, Level::MIN).with_carrier(Carrier::Motion) }
    }
}

/// A drawn picture as numbers: 1 and -1 for light and dark, frame by frame, and where glyphs are; only
/// the part that moves.
struct Picture {
    area: Area,
    frames: Vec<Map>,
    glyphs: Vec<bool>,
}

fn picture(style: &Style, kind: Kind, level: u8, number: u8) -> Picture {
    let mut rng = Stream::fixed(number);
    let spec = Spec { level: Level::new(level).unwrap(), ..kind.spec() };
    let scene = Scene {
        figures: &tasks::compose(&spec, &mut rng).figures,
        decoy: &[],
        style,
        profile: LevelProfile::of(spec.level),
        width: usize::from(spec.width / SCALE),
        height: usize::from(spec.height / SCALE),
    };
    let mut scratch = Scratch::default();
    let colours = draw(&scene, &mut rng, &mut Stream::fixed(255), &mut scratch);
    let whole = Area { width: scene.width, height: scene.height };
    let depth = colours.depth();
    let image = (depth * whole.width).div_ceil(8) * whole.height;
    let area = Area { height: scene.cut(1).strip(), ..whole };
    let frames: Vec<Map> =
        scratch.packed.chunks_exact(image).skip(1).map(|f| unpack(f, area, depth)).collect();
    assert_eq!(frames.len(), MOVES + 1);
    let words = scratch.glyphs.rows().take(area.height);
    let glyphs = words
        .flat_map(|row| (0..area.width).map(|x| row[x / 64] >> (63 - x % 64) & 1 == 1))
        .collect();
    Picture { area, frames, glyphs }
}

/// The lowest bit of each cell.
fn unpack(packed: &[u8], area: Area, depth: usize) -> Map {
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
    let inside = picture.area.core(&picture.glyphs, true, 1);
    let outside = picture.area.core(&picture.glyphs, false, 3);
    let mean_outside = |map: &Map| -> f32 {
        map.iter().zip(&outside).filter(|(_, out)| **out).map(|(value, _)| *value).sum()
    };
    let motions: Vec<Map> = picture
        .frames
        .windows(2)
        .map(|pair| {
            [(1, 0), (0, 1), (1, 1), (1, -1)]
                .map(|(dx, dy)| {
                    let (there, back) = (
                        picture.area.shifted(&pair[1], dx, dy),
                        picture.area.shifted(&pair[1], -dx, -dy),
                    );
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
            let sum: Map = (0..picture.area.cells())
                .map(|at| window.iter().map(|map| map[at]).sum())
                .collect();
            separation(&picture.area.blurred(&sum, 2.0), &inside, &outside).abs()
        })
        .sum();
    total / count * EFFICIENCY.sqrt()
}

fn over_pictures(kind: Kind, level: u8, count: u8, measure: impl Fn(&Picture) -> f32) -> Vec<f32> {
    let fonts = Fonts::load().unwrap();
    let styles: Vec<Style> =
        (0..4).map(|key| Style::new(&StyleKey::from_bytes([key; 32]), &fonts)).collect();
    let numbered = (0..count).zip(styles.iter().cycle());
    numbered.map(|(number, style)| measure(&picture(style, kind, level, number))).collect()
}

#[test]
fn people_see_the_text_move() {
    for kind in Kind::ALL {
        for (level, least) in [(3, 3.2), (5, 3.0), (7, 2.7), (9, 2.4), (10, 2.2)] {
            let found = over_pictures(kind, level, 12, observer);
            println!("{kind:?}, level {level}: d' {:.2}", mean(&found));
            assert!(mean(&found) >= least, "{kind:?}, level {level}: {found:?}");
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
    let each = |picture: &Picture, of: &dyn Fn(usize) -> f32| -> f32 {
        let map: Map = (0..picture.area.cells()).map(of).collect();
        let outside: Vec<bool> = picture.glyphs.iter().map(|glyph| !glyph).collect();
        separation(&picture.area.blurred(&map, 1.5), &picture.glyphs, &outside)
    };
    type Statistic = fn(&Picture, usize) -> f32;
    let statistics: [(&str, Statistic); 7] = [
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
    ];
    for (name, statistic) in statistics {
        for (kind, level) in Kind::ALL.into_iter().flat_map(|kind| [(kind, 3), (kind, 9)]) {
            let found = over_pictures(kind, level, 100, |picture| {
                each(picture, &|at| statistic(picture, at))
            });
            let size = mean(&found.iter().map(|value| value.abs()).collect::<Vec<_>>());
            println!("{name}, {kind:?}, level {level}: signed {:.3}, size {size:.3}", mean(&found));
            assert!(size < 0.3 && mean(&found).abs() < 0.1, "{name}: {size}");
        }
    }
}

//! Properties of every picture, over 40,000 random specs in all carriers: size, format, alphabet,
//! determinism.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use fortify_captcha::{
    ALPHABET, Answer, AnswerMode, Carrier, Choice, Generator, Level, Media, Puzzle, Question, Seed,
    Spec, Style, StyleKey, Tolerance, Variant,
};
use png::{BitDepth, ColorType, Decoder};

/// The limit of the requirements, bytes.
const LIMIT: usize = 50_000;
/// Specs drawn in ink, and where the numbers of other pictures begin.
const SPECS: u64 = 20_000;
/// Specs drawn in each other carrier, whose pictures take several times as long.
const OTHER_SPECS: u64 = 10_000;
/// Styles drawn in.
const STYLES: u8 = 8;
/// Frames of an animation.
const FRAMES: usize = 21;

/// A small generator of its own (splitmix64), so that a failure names a number to start from.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }
}

fn draw(carrier: Carrier, number: u64) -> (Spec, Seed) {
    let mut numbers = Numbers(number);
    // Every picked task is typed as well; where it is typed alone, the mode is changed below.
    let typed = |variant: &Variant| carrier.carries(*variant, AnswerMode::Typed);
    let carried: Vec<Variant> = Variant::ALL.into_iter().filter(typed).collect();
    let variant = carried[numbers.within(0, carried.len() as u64 - 1) as usize];
    let level = Level::ALL[numbers.within(0, 9) as usize];
    let mut spec = Spec::new(variant, level).with_carrier(carrier);
    // Half of the pictures have the size that pages use, half any other.
    if numbers.next().is_multiple_of(2) {
        let (least_width, least_height) = carrier.smallest(variant);
        let area = carrier.largest_area(variant);
        let widest = (area / u32::from(least_height)).min((*Spec::WIDTHS.end()).into());
        spec.width = numbers.within(least_width.into(), widest.into()) as u16;
        let tallest = (area / u32::from(spec.width)).min((*Spec::HEIGHTS.end()).into());
        spec.height = numbers.within(least_height.into(), tallest.into()) as u16;
    }
    spec.length = numbers.within(4, 8) as u8;
    let mode = AnswerMode::ALL[numbers.within(0, 1) as usize];
    spec.mode = if carrier.carries(variant, mode) { mode } else { AnswerMode::Typed };
    let seed = Seed::from_bytes(std::array::from_fn(|_| numbers.next() as u8));
    (spec, seed)
}

/// Several styles, the same from every generator.
fn styles(generator: &Generator) -> Vec<Style> {
    (0..STYLES).map(|key| generator.style(&StyleKey::from_bytes([key; 32]))).collect()
}

fn style_of(styles: &[Style], number: u64) -> &Style {
    &styles[number as usize % styles.len()]
}

/// The kinds of the chunks of a PNG.
fn chunks(bytes: &[u8]) -> Vec<[u8; 4]> {
    let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap_or_default();
    let mut kinds = Vec::new();
    while let [a, b, c, d, k0, k1, k2, k3, more @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        kinds.push([*k0, *k1, *k2, *k3]);
        rest = &more[length + 4..];
    }
    kinds
}

/// The kinds of the chunks that a picture in `carrier` consists of.
fn bare(carrier: Carrier) -> Vec<[u8; 4]> {
    if carrier != Carrier::Motion {
        return vec![*b"IHDR", *b"PLTE", *b"IDAT", *b"IEND"];
    }
    let mut kinds = vec![*b"IHDR", *b"acTL", *b"PLTE", *b"IDAT"];
    kinds.extend([*b"fcTL", *b"fdAT"].repeat(FRAMES));
    kinds.push(*b"IEND");
    kinds
}

/// Two generators that must not differ, and the sizes of files seen.
struct Pair {
    carrier: Carrier,
    one: Generator,
    other: Generator,
    styles: [Vec<Style>; 2],
    /// Bytes by width, height and whether there are two bits per dot.
    sizes: Mutex<BTreeMap<(u16, u16, bool), usize>>,
}

#[test]
fn every_picture_is_small_indexed_bare_and_the_same_twice() {
    for carrier in Carrier::ALL {
        let (one, other) = (Generator::new().unwrap(), Generator::new().unwrap());
        let styles = [styles(&one), styles(&other)];
        let pair = Pair { carrier, one, other, styles, sizes: Mutex::default() };
        let specs = if carrier == Carrier::Ink { SPECS } else { OTHER_SPECS };
        let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let pair = &pair;
                scope.spawn(move || {
                    (worker..specs).step_by(workers as usize).for_each(|number| pair.check(number))
                });
            }
        });
    }
}

impl Pair {
    fn check(&self, number: u64) {
        let (spec, seed) = draw(self.carrier, number);
        let style = style_of(&self.styles[0], number);
        let rendered = self.one.render(&spec, style, &seed).unwrap();
        self.check_file(number, &spec, &rendered.media);
        self.check_size(number, &spec, rendered.media.bytes.len());

        // The other generator's buffers come from another picture.
        let (before, by) = draw(self.carrier, SPECS + number * 7);
        let style = style_of(&self.styles[1], number);
        self.other.render(&before, style, &by).unwrap();
        let again = self.other.render(&spec, style, &seed).unwrap();
        assert!(rendered.media == again.media, "{number}: another generator, another picture");
        let puzzle = self.other.puzzle(&spec, &seed).unwrap();
        for drawn in [&rendered.puzzle, &again.puzzle] {
            assert_eq!(puzzle.answer, drawn.answer, "{number}");
            assert_eq!(puzzle.decoy, drawn.decoy, "{number}");
            assert_eq!(puzzle.question, drawn.question, "{number}");
            assert_eq!(puzzle.choices, drawn.choices, "{number}");
        }
        check_puzzle(number, &spec, &puzzle);
    }

    fn check_file(&self, number: u64, spec: &Spec, media: &Media) {
        assert!(media.bytes.len() <= LIMIT, "{number}: {} bytes", media.bytes.len());
        assert_eq!(chunks(&media.bytes), bare(self.carrier), "{number}");
        assert!(spec.width - media.width < media.scale, "{number}");
        assert!(spec.height - media.height < media.scale, "{number}");
        let mut reader = Decoder::new(std::io::Cursor::new(&media.bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let cells = [media.width, media.height].map(|px| u32::from(px / media.scale));
        assert_eq!([info.width, info.height], cells, "{number}");
        let (depth, palette) = match self.carrier {
            Carrier::Motion if is_deep(spec) => (BitDepth::Two, 12),
            Carrier::Motion => (BitDepth::One, 6),
            _ => (BitDepth::Four, 48),
        };
        assert_eq!((info.color_type, info.bit_depth), (ColorType::Indexed, depth), "{number}");
        assert_eq!(reader.info().palette.as_ref().map(|bytes| bytes.len()), Some(palette));
    }

    /// A file is as large as every other one of its carrier and dimensions: its length tells nothing
    /// about the task, the level, the mode, the style or the answer. But for motion on coloured bands,
    /// which the question gives away as well.
    fn check_size(&self, number: u64, spec: &Spec, bytes: usize) {
        let size = (spec.width, spec.height, is_deep(spec));
        let known = self.sizes.lock().unwrap().get(&size).copied();
        // Few random sizes come twice, so each is held against one more picture.
        let known = known.unwrap_or_else(|| self.twin(number, size));
        self.sizes.lock().unwrap().insert(size, known);
        assert_eq!(bytes, known, "{number}: {} by {} px", spec.width, spec.height);
    }

    /// The size of another picture of these dimensions, bytes.
    fn twin(&self, number: u64, (width, height, deep): (u16, u16, bool)) -> usize {
        let specs = (SPECS + number * 7 + 1..).map(|number| draw(self.carrier, number));
        let fits = |spec: &Spec| {
            let least = self.carrier.smallest(spec.variant);
            let area = u32::from(width) * u32::from(height);
            width >= least.0
                && height >= least.1
                && area <= self.carrier.largest_area(spec.variant)
                && deep == is_deep(spec)
        };
        let (mut spec, seed) = { specs }.find(|(spec, _)| fits(spec)).unwrap();
        (spec.width, spec.height) = (width, height);
        let style = style_of(&self.styles[1], number + 1);
        self.other.render(&spec, style, &seed).unwrap().media.bytes.len()
    }
}

/// Whether dots take two bits each: those of one task do.
fn is_deep(spec: &Spec) -> bool {
    (spec.carrier, spec.variant) == (Carrier::Motion, Variant::ColorTextMismatch)
}

fn check_puzzle(number: u64, spec: &Spec, puzzle: &Puzzle) {
    let canonical = puzzle.answer.reveal();
    assert!(puzzle.answer.matches(&canonical, Tolerance::Exact), "{number}");
    assert_eq!(Answer::decode(&puzzle.answer.encode()).unwrap(), puzzle.answer, "{number}");
    assert!(Question::KEYS.contains(&puzzle.question.key()), "{number}");
    check_choices(spec, puzzle);
    if let Answer::Text(text) = &puzzle.answer {
        let length = match puzzle.question {
            Question::TypeCharacters { count } => count,
            _ => 3,
        };
        assert_eq!(text.len(), usize::from(length), "{number}");
        assert!(text.bytes().all(|byte| ALPHABET.contains(&byte)), "{number}");
    }
    if let Question::TypeCharacters { count } = puzzle.question {
        let all = count == spec.length;
        assert!(all || spec.carrier != Carrier::Ink && (4..spec.length).contains(&count));
    }
}

/// In choice mode the answer is one of different choices; typed, there are none.
fn check_choices(spec: &Spec, puzzle: &Puzzle) {
    let values: BTreeSet<String> = puzzle.choices.iter().map(Choice::value).collect();
    assert_eq!(values.len(), puzzle.choices.len());
    assert_eq!(puzzle.decoy_kinds.len(), puzzle.choices.len());
    let right = |value: &&String| puzzle.answer.matches(value, Tolerance::OneEdit);
    match spec.mode {
        AnswerMode::Choice => {
            let least = if spec.level.get() <= 2 { 4 } else { 8 };
            assert!(values.len() >= least);
            assert_eq!(values.iter().filter(right).count(), 1);
            for (choice, kind) in puzzle.choices.iter().zip(&puzzle.decoy_kinds) {
                assert_eq!(right(&&choice.value()), kind.is_none());
                assert_eq!(puzzle.decoy_picked(&choice.value()), *kind);
            }
        }
        _ => assert!(values.is_empty()),
    }
}

#[test]
fn the_size_of_a_file_depends_on_its_dimensions_alone() {
    let generator = Generator::new().unwrap();
    let style = generator.style(&StyleKey::PUBLIC);
    let mut sizes = BTreeSet::new();
    for number in 0..2000 {
        let (mut spec, seed) = draw(Carrier::Ink, number);
        (spec.width, spec.height) = (300, 100);
        let bytes = generator.render(&spec, &style, &seed).unwrap().media.bytes;
        let compressed = generator.canvas(&spec, &style, &seed).unwrap().encode().unwrap();
        assert!(compressed.len() >= bytes.len(), "{number}: compressing would gain something");
        sizes.insert(bytes.len());
    }
    assert_eq!(sizes.len(), 1, "{sizes:?}");
}

#[test]
fn threads_share_a_generator() {
    let generator = Generator::new().unwrap();
    let style = generator.style(&StyleKey::PUBLIC);
    let expected: Vec<_> = (0..64)
        .map(|number| {
            let (spec, seed) = draw(Carrier::Ink, number);
            generator.render(&spec, &style, &seed).unwrap().media
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (number, media) in (0..).zip(&expected) {
                    let (spec, seed) = draw(Carrier::Ink, number);
                    assert!(generator.render(&spec, &style, &seed).unwrap().media == *media);
                }
            });
        }
    });
}

#[test]
fn levels_change_the_picture() {
    let generator = Generator::new().unwrap();
    let style = generator.style(&StyleKey::PUBLIC);
    let seed = Seed::from_bytes([9; 32]);
    for variant in Variant::ALL {
        let pictures: std::collections::HashSet<Vec<u8>> = Level::ALL
            .into_iter()
            .map(|level| {
                generator.render(&Spec::new(variant, level), &style, &seed).unwrap().media.bytes
            })
            .collect();
        assert_eq!(pictures.len(), 10, "{variant}");
    }
}

//! What holds for every picture, over thousands of random specs: size, format, determinism.

use std::collections::BTreeSet;

use fortify_captcha::{
    ALPHABET, Answer, AnswerMode, Choice, Generator, Level, Puzzle, Question, Seed, Spec, Style,
    StyleKey, Tolerance, Variant,
};
use png::{BitDepth, ColorType, Decoder};
use proptest::prelude::*;

/// The limit of the requirements, bytes.
const LIMIT: usize = 50_000;
/// Specs drawn.
const SPECS: u64 = 20_000;

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

fn draw(number: u64) -> (Spec, Seed) {
    let mut numbers = Numbers(number);
    let variant = Variant::ALL[numbers.within(0, 4) as usize];
    let level = Level::ALL[numbers.within(0, 9) as usize];
    let mut spec = Spec::new(variant, level);
    // Half of the pictures have the size that pages use, half any other.
    if numbers.next().is_multiple_of(2) {
        spec.width = numbers.within(120, 600) as u16;
        let tallest = (Spec::MAX_AREA / u32::from(spec.width)).min(300);
        spec.height = numbers.within(50, u64::from(tallest)) as u16;
    }
    spec.length = numbers.within(4, 8) as u8;
    spec.mode = AnswerMode::ALL[numbers.within(0, 1) as usize];
    let seed = Seed::from_bytes(std::array::from_fn(|_| numbers.next() as u8));
    (spec, seed)
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

#[test]
fn every_picture_is_small_indexed_bare_and_the_same_twice() {
    let generator = Generator::new().unwrap();
    let style = generator.style(&StyleKey::PUBLIC);
    let other = Generator::new().unwrap();
    for number in 0..SPECS {
        let (spec, seed) = draw(number);
        let rendered = generator.render(&spec, &style, &seed).unwrap();
        let bytes = &rendered.media.bytes;
        assert!(bytes.len() <= LIMIT, "{number}: {} bytes", bytes.len());
        assert_eq!(chunks(bytes), [*b"IHDR", *b"PLTE", *b"IDAT", *b"IEND"], "{number}");
        assert_eq!((rendered.media.width, rendered.media.height), (spec.width, spec.height));

        let mut reader = Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (spec.width.into(), spec.height.into()));
        assert_eq!((info.color_type, info.bit_depth), (ColorType::Indexed, BitDepth::Four));
        assert_eq!(reader.info().palette.as_ref().map(|palette| palette.len()), Some(48));

        // The other generator's buffers come from another picture.
        let (before, by) = draw(SPECS + number * 7);
        other.render(&before, &style, &by).unwrap();
        let again = other.render(&spec, &style, &seed).unwrap();
        assert!(*bytes == again.media.bytes, "{number}: another generator draws another picture");
        let puzzle = other.puzzle(&spec, &seed).unwrap();
        assert_eq!(puzzle.answer, rendered.puzzle.answer, "{number}");
        assert_eq!(puzzle.question, rendered.puzzle.question, "{number}");
        let canonical = puzzle.answer.reveal();
        assert!(puzzle.answer.matches(&canonical, Tolerance::Exact), "{number}");
        assert_eq!(Answer::decode(&puzzle.answer.encode()).unwrap(), puzzle.answer, "{number}");
        assert_eq!(puzzle.choices, rendered.puzzle.choices, "{number}");
        check_choices(&spec, &puzzle);
        assert!(Question::KEYS.contains(&puzzle.question.key()), "{number}");
        if let Answer::Text(text) = &puzzle.answer {
            let length = if spec.variant == Variant::DistortedText { spec.length } else { 3 };
            assert_eq!(text.len(), usize::from(length));
            assert!(text.bytes().all(|byte| ALPHABET.contains(&byte)), "{number}");
        }
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
        let (mut spec, seed) = draw(number);
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
            let (spec, seed) = draw(number);
            generator.render(&spec, &style, &seed).unwrap().media
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (number, media) in (0..).zip(&expected) {
                    let (spec, seed) = draw(number);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_spec_is_drawn_or_refused(
        variant in 0..5_usize,
        level in 0..10_usize,
        width in any::<u16>(),
        height in any::<u16>(),
        length in any::<u8>(),
        near in any::<bool>(),
        choice in any::<bool>(),
        seed in any::<[u8; 32]>(),
    ) {
        let (generator, style) = GENERATOR.get_or_init(|| {
            let generator = Generator::new().unwrap();
            let style = generator.style(&StyleKey::PUBLIC);
            (generator, style)
        });
        let mut spec = Spec::new(Variant::ALL[variant], Level::ALL[level]);
        spec.mode = AnswerMode::ALL[usize::from(choice)];
        // Half of the cases near the bounds, where off-by-one mistakes live.
        (spec.width, spec.height, spec.length) = if near {
            (118 + width % 486, 48 + height % 256, 3 + length % 7)
        } else {
            (width, height, length)
        };
        let allowed = Spec::WIDTHS.contains(&spec.width)
            && Spec::HEIGHTS.contains(&spec.height)
            && u32::from(spec.width) * u32::from(spec.height) <= Spec::MAX_AREA
            && Spec::LENGTHS.contains(&spec.length);
        match generator.render(&spec, style, &Seed::from_bytes(seed)) {
            Ok(rendered) => {
                prop_assert!(allowed);
                prop_assert!(rendered.media.bytes.len() <= LIMIT);
            }
            Err(error) => {
                prop_assert!(!allowed);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

static GENERATOR: std::sync::OnceLock<(Generator, Style)> = std::sync::OnceLock::new();

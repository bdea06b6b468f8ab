//! Properties of every picture in a carrier other than ink (size, chunks, decoys), and the specs that
//! are refused in any.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::OnceLock;

use fortify_captcha::{
    Answer, AnswerMode, Carrier, Generator, Level, Question, RenderError, Rendered, Seed, Spec,
    Style, StyleKey, Term, Tolerance, Variant,
};
use png::{BitDepth, ColorType, Decoder};
use proptest::prelude::*;

/// The limit of the requirements, bytes.
const LIMIT: usize = 50_000;
/// Frames of an animation.
const FRAMES: usize = 21;

/// The generator, and the style that everybody can draw.
fn drawing() -> &'static (Generator, Style) {
    static DRAWING: OnceLock<(Generator, Style)> = OnceLock::new();
    DRAWING.get_or_init(|| {
        let generator = Generator::new().unwrap();
        let style = generator.style(&StyleKey::PUBLIC);
        (generator, style)
    })
}

fn try_render(spec: &Spec, seed: &Seed) -> Result<Rendered, RenderError> {
    let (generator, style) = drawing();
    generator.render(spec, style, seed)
}

fn seed(number: u64) -> Seed {
    let mut bytes = [0x3c; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Seed::from_bytes(bytes)
}

fn render(spec: &Spec, number: u64) -> Rendered {
    try_render(spec, &seed(number)).unwrap()
}

fn others() -> impl Iterator<Item = Carrier> {
    Carrier::ALL.into_iter().filter(|carrier| *carrier != Carrier::Ink)
}

fn pairs() -> impl Iterator<Item = (Variant, Carrier)> {
    others().flat_map(|carrier| {
        Variant::ALL
            .into_iter()
            // Beside ink a pair is drawn in both modes or in none.
            .filter(move |variant| carrier.carries(*variant, AnswerMode::Typed))
            .map(move |variant| (variant, carrier))
    })
}

/// The kinds and sizes of the chunks of a PNG.
fn chunks(bytes: &[u8]) -> Vec<([u8; 4], usize)> {
    let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap_or_default();
    let mut found = Vec::new();
    while let [a, b, c, d, k0, k1, k2, k3, more @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        found.push(([*k0, *k1, *k2, *k3], length));
        rest = &more[length + 4..];
    }
    found
}

fn kinds_of(carrier: Carrier) -> Vec<[u8; 4]> {
    if carrier != Carrier::Motion {
        return vec![*b"IHDR", *b"PLTE", *b"IDAT", *b"IEND"];
    }
    let mut kinds = vec![*b"IHDR", *b"acTL", *b"PLTE", *b"IDAT"];
    kinds.extend([*b"fcTL", *b"fdAT"].repeat(FRAMES));
    kinds.push(*b"IEND");
    kinds
}

#[test]
fn chunks_follow_from_the_size_alone() {
    for (variant, carrier) in pairs() {
        let mut layouts = BTreeSet::new();
        for number in 0..250 {
            let mut spec = Spec::new(variant, Level::ALL[number as usize % 10]);
            spec.mode = AnswerMode::ALL[number as usize / 10 % 2];
            let media = render(&spec.with_carrier(carrier), number).media;
            assert!(media.bytes.len() <= LIMIT);
            let layout = chunks(&media.bytes);
            let kinds: Vec<[u8; 4]> = layout.iter().map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, kinds_of(carrier), "{variant} in {carrier}");
            layouts.insert(layout);
        }
        assert_eq!(layouts.len(), 1, "{variant} in {carrier}");
    }
}

#[test]
fn the_largest_pictures_of_every_shape_are_small_enough() {
    for (variant, carrier) in pairs() {
        let (narrow, low) = carrier.smallest(variant);
        for width in (narrow..=*Spec::WIDTHS.end()).step_by(7) {
            let tallest = carrier.largest_area(variant) / u32::from(width);
            let height = tallest.min(u32::from(*Spec::HEIGHTS.end())) as u16;
            if height < low {
                continue;
            }
            let spec =
                Spec { width, height, ..Spec::new(variant, Level::MIN).with_carrier(carrier) };
            let bytes = render(&spec, 1).media.bytes.len();
            assert!(bytes <= LIMIT, "{variant} in {carrier}, {width} x {height}: {bytes} bytes");
        }
    }
}

#[test]
fn pictures_are_what_their_carrier_promises() {
    for (variant, carrier) in pairs() {
        let spec = Spec::new(variant, Level::new(5).unwrap()).with_carrier(carrier);
        let media = render(&spec, 1).media;
        assert_eq!((media.width, media.height), carrier.size(spec.variant));
        let decoder = Decoder::new(std::io::Cursor::new(&media.bytes));
        let reader = decoder.read_info().unwrap();
        let info = reader.info();
        assert_eq!(info.width * u32::from(media.scale), media.width.into());
        assert_eq!(info.height * u32::from(media.scale), media.height.into());
        assert_eq!(info.color_type, ColorType::Indexed);
        let moves = carrier == Carrier::Motion;
        let depth = match (carrier, variant) {
            (Carrier::Motion, Variant::ColorTextMismatch) => BitDepth::Two,
            (Carrier::Motion, _) => BitDepth::One,
            _ => BitDepth::Four,
        };
        assert_eq!(info.bit_depth, depth);
        let control = info.animation_control();
        assert_eq!(control.is_some(), moves);
        if let Some(control) = control {
            assert_eq!((control.num_frames as usize, control.num_plays), (FRAMES, 0));
        }
    }
}

#[test]
fn the_default_image_is_no_frame_and_frames_last_60_ms() {
    let spec = Spec::new(Variant::DistortedText, Level::MAX).with_carrier(Carrier::Motion);
    let media = render(&spec, 1).media;
    let mut reader = Decoder::new(std::io::Cursor::new(&media.bytes)).read_info().unwrap();
    let mut image = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut image).unwrap();
    assert!(reader.info().frame_control().is_none(), "the decoy has no frame control");
    for _ in 0..FRAMES {
        reader.next_frame(&mut image).unwrap();
        let control = reader.info().frame_control().unwrap();
        assert_eq!((control.delay_num, control.delay_den), (60, 1000));
    }
    assert!(reader.next_frame(&mut image).is_err(), "no frame is left");
}

#[test]
fn motion_has_a_decoy_that_is_not_the_answer_and_the_others_have_none() {
    for (variant, carrier) in pairs() {
        for number in 0..300 {
            let level = Level::ALL[number as usize % 10];
            let spec = Spec::new(variant, level).with_carrier(carrier);
            let puzzle = render(&spec, number).puzzle;
            assert_eq!(puzzle.decoy.is_some(), carrier == Carrier::Motion);
            let Some(decoy) = puzzle.decoy else { continue };
            assert!(!puzzle.answer.matches(&decoy.reveal(), Tolerance::OneEdit));
            assert!(!decoy.matches(&puzzle.answer.reveal(), Tolerance::OneEdit));
            match (&puzzle.answer, &decoy) {
                (Answer::Text(answer), Answer::Text(decoy)) => {
                    assert_eq!(answer.len(), decoy.len());
                }
                // A program that reads the decoy answers the question, and is wrong in every row.
                (Answer::Words(answer), Answer::Words(decoy)) => {
                    assert_eq!(answer.len(), decoy.len());
                    for (one, other) in answer.iter().zip(decoy) {
                        assert_eq!(one.aspect(), other.aspect());
                        assert_ne!(one, other);
                    }
                }
                _ => {}
            }
            if matches!(
                puzzle.question,
                Question::TypeLettersOverEach { .. } | Question::WordsOn { .. }
            ) {
                let differs = |(one, other): (String, String)| one != other;
                let parts = |answer: &Answer| -> Vec<String> {
                    match answer {
                        Answer::Words(terms) => terms.iter().map(|term| term.value()).collect(),
                        _ => answer.reveal().chars().map(String::from).collect(),
                    }
                };
                let both = parts(&puzzle.answer).into_iter().zip(parts(&decoy));
                assert!(both.into_iter().all(differs), "a part of the decoy is right");
            }
        }
    }
}

#[test]
fn what_is_asked_and_answered_is_known_without_drawing() {
    for (variant, carrier) in pairs() {
        for number in 0..200 {
            let mut spec = Spec::new(variant, Level::ALL[number as usize % 10]);
            spec.length = 4 + (number % 5) as u8;
            let spec = spec.with_carrier(carrier);
            let (drawn, told) =
                (render(&spec, number).puzzle, drawing().0.puzzle(&spec, &seed(number)).unwrap());
            assert_eq!(drawn.answer, told.answer);
            assert_eq!(drawn.decoy, told.decoy);
            assert_eq!(drawn.question, told.question);
        }
    }
}

#[test]
fn a_text_is_as_long_as_fits_and_the_question_says_so() {
    for carrier in others() {
        let mut spec = Spec::new(Variant::DistortedText, Level::MIN).with_carrier(carrier);
        spec.length = 8;
        for (width, height, count) in
            [(360, 132, 4), (420, 140, 4), (480, 160, 4), (480, 140, 5), (600, 150, 6)]
        {
            (spec.width, spec.height) = (width, height);
            let puzzle = render(&spec, 3).puzzle;
            assert_eq!(puzzle.question, Question::TypeCharacters { count });
            assert_eq!(puzzle.answer.reveal().len(), usize::from(count));
        }
    }
}

#[test]
fn patterns_ask_for_what_has_no_colour() {
    for carrier in others() {
        for number in 0..500 {
            let level = Level::ALL[number as usize % 10];
            let spec = Spec::new(Variant::PatternCompletion, level).with_carrier(carrier);
            let puzzle = drawing().0.puzzle(&spec, &seed(number)).unwrap();
            let Answer::Words(terms) = &puzzle.answer else { panic!("{:?}", puzzle.question) };
            assert_eq!(terms.len(), if level.get() < 3 { 1 } else { 2 });
            assert!(
                terms.iter().all(|term| matches!(term, Term::Shape(_) | Term::Direction(_))),
                "{terms:?}"
            );
        }
    }
}

#[test]
fn levels_change_the_picture() {
    for (variant, carrier) in pairs() {
        let pictures: BTreeSet<Vec<u8>> = Level::ALL
            .into_iter()
            .map(|level| render(&Spec::new(variant, level).with_carrier(carrier), 9).media.bytes)
            .collect();
        assert_eq!(pictures.len(), 10, "{variant} in {carrier}");
    }
}

#[test]
fn pairs_that_are_not_offered_are_refused() {
    let mut refused = Vec::new();
    for carrier in Carrier::ALL {
        for (variant, mode) in
            Variant::ALL.into_iter().flat_map(|v| AnswerMode::ALL.map(|m| (v, m)))
        {
            let spec = Spec { mode, ..Spec::new(variant, Level::MIN).with_carrier(carrier) };
            match try_render(&spec, &seed(0)) {
                Ok(_) => assert!(carrier.carries(variant, mode), "{spec:?}"),
                Err(error) => {
                    assert!(!carrier.carries(variant, mode), "{spec:?}");
                    assert_eq!(error, RenderError::Uncarried { variant, carrier, mode });
                    refused.push(error.to_string());
                }
            }
        }
    }
    let refusal = |carrier: &str, variant: &str, mode: &str, instead: &str| {
        format!(
            "the carrier {carrier} does not show the variant {variant} with the answer mode {mode}; \
             use {instead}"
        )
    };
    assert_eq!(
        refused,
        [
            refusal("ink", "distorted_text", "choice", "swirl or motion"),
            refusal("ink", "arithmetic", "choice", "motion"),
            refusal("ink", "color_text_mismatch", "choice", "swirl or motion"),
            refusal("swirl", "arithmetic", "typed", "ink or motion"),
            refusal("swirl", "arithmetic", "choice", "motion"),
        ]
    );
}

#[test]
fn small_pictures_are_refused_with_a_word_of_what_to_do() {
    for carrier in others() {
        let mut spec = Spec::new(Variant::DistortedText, Level::MIN).with_carrier(carrier);
        spec.width = carrier.smallest(spec.variant).0 - 1;
        let error = try_render(&spec, &seed(0)).unwrap_err();
        assert_eq!(error, RenderError::TooSmall { variant: spec.variant, carrier });
        assert!(
            error.to_string().contains(&carrier.smallest(spec.variant).0.to_string()),
            "{error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_spec_is_drawn_or_refused(
        variant in 0..Variant::ALL.len(),
        carrier in 0..Carrier::ALL.len(),
        level in 0..10_usize,
        width in any::<u16>(),
        height in any::<u16>(),
        length in 3..=9_u8,
        near in any::<bool>(),
        mode in 0..AnswerMode::ALL.len(),
        seed in any::<[u8; 32]>(),
    ) {
        let mut spec = Spec::new(Variant::ALL[variant], Level::ALL[level])
            .with_carrier(Carrier::ALL[carrier]);
        (spec.length, spec.mode) = (length, AnswerMode::ALL[mode]);
        let smallest = spec.carrier.smallest(spec.variant);
        // Half of the cases within the bounds or just outside, where off-by-one mistakes live.
        (spec.width, spec.height) = if near {
            let (wide, tall) = (605 - smallest.0, 305 - smallest.1);
            (smallest.0 - 2 + width % wide, smallest.1 - 2 + height % tall)
        } else {
            (width, height)
        };
        let allowed = Spec::WIDTHS.contains(&spec.width)
            && Spec::HEIGHTS.contains(&spec.height)
            && spec.width >= smallest.0
            && spec.height >= smallest.1
            && u32::from(spec.width) * u32::from(spec.height)
                <= spec.carrier.largest_area(spec.variant)
            && Spec::LENGTHS.contains(&spec.length)
            && spec.carrier.carries(spec.variant, spec.mode);
        let seed = Seed::from_bytes(seed);
        match try_render(&spec, &seed) {
            Ok(rendered) => {
                prop_assert!(allowed);
                let media = &rendered.media;
                prop_assert!(media.bytes.len() <= LIMIT, "{} bytes", media.bytes.len());
                prop_assert!(spec.width - media.width < media.scale);
                prop_assert!(spec.height - media.height < media.scale);
                let again = try_render(&spec, &seed).unwrap();
                prop_assert!(again.media == rendered.media);
            }
            Err(error) => {
                prop_assert!(!allowed, "{error}");
                prop_assert!(!error.to_string().is_empty());
                prop_assert_eq!(drawing().0.puzzle(&spec, &seed).unwrap_err(), error);
            }
        }
    }
}

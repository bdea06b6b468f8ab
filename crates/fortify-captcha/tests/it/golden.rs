//! Pinned pictures: the same spec and seed must give the same bytes until
//! [`RENDERER_VERSION`](fortify_captcha::RENDERER_VERSION) is raised.
//!
//! When a change of the picture is meant, raise the version and take over what this test prints.

use fortify_captcha::{
    AnswerMode, Generator, Level, RENDERER_VERSION, Seed, Spec, StyleKey, Variant,
};
use sha2::{Digest, Sha256};

/// Variant, level, width, height, length, first byte of the seed; answer and SHA-256 of the file.
type Case = (Variant, u8, u16, u16, u8, u8, &'static str, &'static str);

const GOLDEN: [Case; 8] = [
    (
        Variant::DistortedText,
        1,
        300,
        100,
        6,
        1,
        "t:VTT6TJ",
        "55cd0251c80e3e6221a8c08461b900a02d43323f7aa2a76cdb1983b40a687f81",
    ),
    (
        Variant::DistortedText,
        5,
        300,
        100,
        6,
        2,
        "t:MPJF9F",
        "4b1a0cebfa582d8829e20956830bea6986e07b0abb27617309c3e432b0e76585",
    ),
    (
        Variant::DistortedText,
        10,
        300,
        100,
        8,
        3,
        "t:FRANHC46",
        "019549c98d63759b9ccee0f0d05fa5464ab5a603b8bd1f84a4b923d913cdd48c",
    ),
    (
        Variant::DistortedText,
        7,
        121,
        51,
        4,
        4,
        "t:M6CC",
        "f0ce5a6cfbd8fd99e8336324e2c05a7e97d9e3af885b8a005c44781d04a2eb8e",
    ),
    (
        Variant::Arithmetic,
        1,
        300,
        100,
        6,
        5,
        "n:10",
        "452d05aca6c060aa6f8c2d324789f2c18d066e9e779343acca79cf6a4e16bde5",
    ),
    (
        Variant::Arithmetic,
        5,
        300,
        100,
        6,
        6,
        "n:54",
        "bd3422cfa6b1a62b0df304c85a9483b4b1913942eb2caec0d20eb94125e94d35",
    ),
    (
        Variant::Arithmetic,
        10,
        300,
        100,
        6,
        7,
        "n:112",
        "1365458075d41b8b71da44bac2bd037b7e745745e42546bdd80c1cb81dbfd5dc",
    ),
    (
        Variant::Arithmetic,
        8,
        599,
        150,
        6,
        8,
        "n:92",
        "37a89ae75055d0cd4e730d9140cb70110b5c7f9620de44cd2230f046e1ea9f6c",
    ),
];

/// Variant, mode, level, width, height, first byte of the seed; answer and SHA-256 of the file.
type TaskCase = (Variant, AnswerMode, u8, u16, u16, u8, &'static str, &'static str);

const TASKS: [TaskCase; 8] = [
    (
        Variant::ObjectRecognition,
        AnswerMode::Typed,
        2,
        300,
        100,
        11,
        "t:EX6",
        "3a98f2cb782e285ce4de01eb219c93744a6c3e0e0c85a0bea6f781dcb4947a86",
    ),
    (
        Variant::ObjectRecognition,
        AnswerMode::Typed,
        8,
        420,
        140,
        12,
        "t:V4Y",
        "a471bad73359eb7cbc30ac09618364a4b225fe96f4e61cdd28cec0f49926a469",
    ),
    (
        Variant::ObjectRecognition,
        AnswerMode::Choice,
        5,
        300,
        100,
        13,
        "c:1:mountains",
        "2303bd76f35f8fce46d571ac878b83bc8e7c9cbf0540bfbc97b6d0d9ae713faf",
    ),
    (
        Variant::ObjectRecognition,
        AnswerMode::Choice,
        9,
        200,
        200,
        14,
        "c:2:tree",
        "d295ceafa1dfd44b2d2c6d94f79af16def52407ec96961f6220e68e5cb4cac2e",
    ),
    (
        Variant::PatternCompletion,
        AnswerMode::Typed,
        3,
        300,
        100,
        15,
        "w:moon 4",
        "936e1e52a882b5a1b122029cef076a024d9792044822217fb653b5397ed2c2fb",
    ),
    (
        Variant::PatternCompletion,
        AnswerMode::Typed,
        8,
        300,
        100,
        16,
        "w:cross pink",
        "49a52ccea9a22056726459473b1eb70b78636d249a9439cbe925a3250e8af76c",
    ),
    (
        Variant::PatternCompletion,
        AnswerMode::Choice,
        6,
        300,
        100,
        17,
        "c:5:down-right 5",
        "887d9cdb0a89080757f018f60c0c376140d1275ed269069d54a7c9fad3f29b6a",
    ),
    (
        Variant::ColorTextMismatch,
        AnswerMode::Typed,
        6,
        300,
        100,
        18,
        "w:orange red",
        "defd9b48bfcae994b1f407df3e59072712ba0a2b60039201cac57005d4a0b762",
    ),
];

#[test]
fn tasks_and_choices_are_what_this_version_draws() {
    let generator = Generator::new().unwrap();
    // The style that everybody can draw, and another.
    let styles = [0, 1].map(|key| generator.style(&StyleKey::from_bytes([key; 32])));
    let mut found = String::new();
    let mut same = true;
    for (variant, mode, level, width, height, byte, answer, hash) in TASKS {
        let mut spec = Spec::new(variant, Level::new(level).unwrap());
        (spec.mode, spec.width, spec.height) = (mode, width, height);
        let seed =
            Seed::from_bytes(std::array::from_fn(|index| byte.wrapping_mul(index as u8 + 1)));
        let style = &styles[usize::from(byte % 2)];
        let rendered = generator.render(&spec, style, &seed).unwrap();
        let digest: String = Sha256::digest(&rendered.media.bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let encoded = rendered.puzzle.answer.encode();
        same &= digest == hash && encoded == answer;
        found += &format!(
            "    (Variant::{variant:?}, AnswerMode::{mode:?}, {level}, {width}, {height}, {byte}, \
             \"{encoded}\", \"{digest}\"),\n"
        );
    }
    assert!(same, "this build draws:\n{found}");
}

#[test]
fn pictures_are_what_this_version_draws() {
    assert_eq!(RENDERER_VERSION, 3, "the hashes above belong to version 3");
    let generator = Generator::new().unwrap();
    // The style that everybody can draw, and another.
    let styles = [0, 1].map(|key| generator.style(&StyleKey::from_bytes([key; 32])));
    let mut found = String::new();
    let mut same = true;
    for (variant, level, width, height, length, byte, answer, hash) in GOLDEN {
        let mut spec = Spec::new(variant, Level::new(level).unwrap());
        (spec.width, spec.height, spec.length) = (width, height, length);
        let seed =
            Seed::from_bytes(std::array::from_fn(|index| byte.wrapping_mul(index as u8 + 1)));
        let style = &styles[usize::from(byte % 2)];
        let rendered = generator.render(&spec, style, &seed).unwrap();
        let digest: String = Sha256::digest(&rendered.media.bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let encoded = rendered.puzzle.answer.encode();
        same &= digest == hash && encoded == answer;
        found += &format!(
            "    (Variant::{variant:?}, {level}, {width}, {height}, {length}, {byte}, \
             \"{encoded}\", \"{digest}\"),\n"
        );
    }
    assert!(same, "this build draws:\n{found}");
}

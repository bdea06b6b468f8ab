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
        "d97caeadb5bb17af85817c409a47ca1d2d886c1b4cac60d7b08c15c4ff91a74f",
    ),
    (
        Variant::DistortedText,
        5,
        300,
        100,
        6,
        2,
        "t:MPJF9F",
        "b0d74fbb2c1661680693e833109f2bd7f97dbc600bda4f24dc5ccc23e0d1d5b2",
    ),
    (
        Variant::DistortedText,
        10,
        300,
        100,
        8,
        3,
        "t:FRANHC46",
        "efd6557a262649a5d13d85801ef41d42d17f789d5b047040296f60741283d17a",
    ),
    (
        Variant::DistortedText,
        7,
        121,
        51,
        4,
        4,
        "t:M6CC",
        "69b358fac8699fed1bb9cb601908a8cfb868c3bb42f78925ebb7aef07d9374f0",
    ),
    (
        Variant::Arithmetic,
        1,
        300,
        100,
        6,
        5,
        "n:10",
        "41210790fc4627786b152775ed60a8df28d5cb876ac4747ae4ced8f4667604d4",
    ),
    (
        Variant::Arithmetic,
        5,
        300,
        100,
        6,
        6,
        "n:54",
        "c108d790f79405b0eb180810272965f597bb2dec024985dcdb7b8fc760c5c5b4",
    ),
    (
        Variant::Arithmetic,
        10,
        300,
        100,
        6,
        7,
        "n:112",
        "5dc04a797289edb5bee49a43d48a0a8b5efca3d113aa42d56b4b6d4afe304a7f",
    ),
    (
        Variant::Arithmetic,
        8,
        599,
        150,
        6,
        8,
        "n:92",
        "649f1703d04db3e16b287a434523731625eec084d308f57f57a9d5750fef3f89",
    ),
];

/// Variant, mode, level, width, height, first byte of the seed; answer and SHA-256 of the file.
type TaskCase = (Variant, AnswerMode, u8, u16, u16, u8, &'static str, &'static str);

const TASKS: [TaskCase; 11] = [
    (
        Variant::ObjectRecognition,
        AnswerMode::Typed,
        2,
        300,
        100,
        11,
        "t:EX6",
        "cbe1df007761832fd6c830d6f609e7caef5631cb45530eafd063bdd89ba9dedc",
    ),
    (
        Variant::ObjectRecognition,
        AnswerMode::Typed,
        8,
        420,
        140,
        12,
        "t:V4Y",
        "9ebc75b6b8e73763c4e6568a5edc625d3c457878436876a9d2b7abe1a23920ed",
    ),
    (
        Variant::ObjectRecognition,
        AnswerMode::Choice,
        5,
        300,
        100,
        13,
        "c:6:FD6",
        "de815e6c311940d00b5cf91b583be350093aa7c15f28985af2af11e1af933d08",
    ),
    (
        Variant::ObjectRecognition,
        AnswerMode::Choice,
        9,
        200,
        200,
        14,
        "c:0:wrench",
        "d201dacb4edccb2863f404667fc620236b96c54e89d96572160e1e11b756ac30",
    ),
    (
        Variant::PatternCompletion,
        AnswerMode::Typed,
        3,
        300,
        100,
        15,
        "w:moon 4",
        "6a420c46b897252a7a59026c91863ae29a3b9bf396f36d013869c0bc77ed7dd1",
    ),
    (
        Variant::PatternCompletion,
        AnswerMode::Typed,
        8,
        300,
        100,
        16,
        "w:cross pink",
        "a494301cde24c048dbdddf96703763f1c5e9cf41fde7230215f7a4b6e3e7279f",
    ),
    (
        Variant::PatternCompletion,
        AnswerMode::Choice,
        6,
        300,
        100,
        17,
        "c:5:down-right 5",
        "f9c779b203ea022fa2794be6f41bbc2f49fc4bd24606a3c64db09fa22478b170",
    ),
    (
        Variant::ColorTextMismatch,
        AnswerMode::Typed,
        6,
        300,
        100,
        18,
        "w:orange red",
        "4112b8522c925b13ade6a38d53368d5e659d98ca864f05d3c13f4f9837aed7d4",
    ),
    (
        Variant::ColorTextMismatch,
        AnswerMode::Choice,
        10,
        300,
        100,
        19,
        "c:10:orange blue yellow",
        "e0e2ea361f7a9399730b97298d1032b32ffa20484b3a831b173bab6ccabf8b60",
    ),
    (
        Variant::DistortedText,
        AnswerMode::Choice,
        5,
        300,
        100,
        20,
        "c:6:3YYNNA",
        "cf1108a2b368c6d5a1c65236c93d71da364f5986bc10c1950156b08cb3401b1b",
    ),
    (
        Variant::Arithmetic,
        AnswerMode::Choice,
        2,
        300,
        100,
        21,
        "c:2:11",
        "d427b91c1aeb8cc708081a28c8ca7555c4113a9ef675e37ba4ca18388349236e",
    ),
];

#[test]
fn tasks_and_choices_are_what_this_version_draws() {
    let generator = Generator::new().unwrap();
    let style = generator.style(&StyleKey::PUBLIC);
    let mut found = String::new();
    let mut same = true;
    for (variant, mode, level, width, height, byte, answer, hash) in TASKS {
        let mut spec = Spec::new(variant, Level::new(level).unwrap());
        (spec.mode, spec.width, spec.height) = (mode, width, height);
        let seed =
            Seed::from_bytes(std::array::from_fn(|index| byte.wrapping_mul(index as u8 + 1)));
        let rendered = generator.render(&spec, &style, &seed).unwrap();
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
    assert_eq!(RENDERER_VERSION, 2, "the hashes belong to version 2");
    let generator = Generator::new().unwrap();
    let style = generator.style(&StyleKey::PUBLIC);
    let mut found = String::new();
    let mut same = true;
    for (variant, level, width, height, length, byte, answer, hash) in GOLDEN {
        let mut spec = Spec::new(variant, Level::new(level).unwrap());
        (spec.width, spec.height, spec.length) = (width, height, length);
        let seed =
            Seed::from_bytes(std::array::from_fn(|index| byte.wrapping_mul(index as u8 + 1)));
        let rendered = generator.render(&spec, &style, &seed).unwrap();
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

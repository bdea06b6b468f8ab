//! Pinned pictures: the same spec and seed must give the same bytes until
//! [`RENDERER_VERSION`](fortify_captcha::RENDERER_VERSION) is raised.
//!
//! When a change of the picture is meant, raise the version and take over what this test prints.

use fortify_captcha::{Generator, Level, RENDERER_VERSION, Seed, Spec, Variant};
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
        "69558ac0f47be1fa5b5b05006e0603847fa7490271cedf373f1a34aabe12984a",
    ),
    (
        Variant::DistortedText,
        5,
        300,
        100,
        6,
        2,
        "t:MPJF9F",
        "f2d7c1086b6dd08f8dd84c7335041fa79e975ad65ead2eea735380aa8ce544a9",
    ),
    (
        Variant::DistortedText,
        10,
        300,
        100,
        8,
        3,
        "t:FRANHC46",
        "e6dded8cdee97a9a4541818ce6ac21eb576188318634d5e36c50bdd4b46c8ad7",
    ),
    (
        Variant::DistortedText,
        7,
        121,
        51,
        4,
        4,
        "t:M6CC",
        "d3b730f9e0887312c61dd424dc50164f82f6629bb52d226e0041b456b37ad5a9",
    ),
    (
        Variant::Arithmetic,
        1,
        300,
        100,
        6,
        5,
        "n:3",
        "d2b0bcfffe0b6419fdf18c3c4afec1a40e93d6795956b1c6a430db0d1c478045",
    ),
    (
        Variant::Arithmetic,
        5,
        300,
        100,
        6,
        6,
        "n:37",
        "39c2c95d6a23d30f1ee7708ddd351d27360f4677d6279adeecdf669a5ba36599",
    ),
    (
        Variant::Arithmetic,
        10,
        300,
        100,
        6,
        7,
        "n:112",
        "08529c4d47e08c23865027af94ae99e0205023707a971d41da81995ae89f38b6",
    ),
    (
        Variant::Arithmetic,
        8,
        599,
        150,
        6,
        8,
        "n:92",
        "c4362414feadcec60927fecc9bc4acadc7c675cf9af7e75d51e96b6d92664483",
    ),
];

#[test]
fn pictures_are_what_this_version_draws() {
    assert_eq!(RENDERER_VERSION, 1, "the hashes below belong to version 1");
    let generator = Generator::new().unwrap();
    let mut found = String::new();
    let mut same = true;
    for (variant, level, width, height, length, byte, answer, hash) in GOLDEN {
        let mut spec = Spec::new(variant, Level::new(level).unwrap());
        (spec.width, spec.height, spec.length) = (width, height, length);
        let seed = Seed::from_bytes(std::array::from_fn(|index| {
            byte.wrapping_mul(index as u8 + 1)
        }));
        let rendered = generator.render(&spec, &seed).unwrap();
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

//! Pinned pictures of the carriers other than ink; see `golden.rs`.

use fortify_captcha::{
    AnswerMode, Carrier, Generator, Level, RENDERER_VERSION, Seed, Spec, StyleKey, Variant,
};
use sha2::{Digest, Sha256};

/// A picture and its expected bytes.
struct Case {
    variant: Variant,
    carrier: Carrier,
    level: u8,
    size: (u16, u16),
    length: u8,
    /// First byte of the seed.
    seed: u8,
    /// Answer and decoy.
    texts: (&'static str, &'static str),
    /// SHA-256 of the file.
    hash: &'static str,
}

macro_rules! cases {
    ($($variant:ident $carrier:ident $level:literal $size:tt $length:literal $seed:literal
       $texts:tt $hash:literal;)*) => {
        [$(Case {
            variant: Variant::$variant,
            carrier: Carrier::$carrier,
            level: $level,
            size: $size,
            length: $length,
            seed: $seed,
            texts: $texts,
            hash: $hash,
        }),*]
    };
}

const GOLDEN: [Case; 18] = cases! {
    DistortedText Swirl 1 (480, 160) 6 21 ("t:DNDL", "")
        "73bd36896cfa11ca530c8e0804bd0f9b26d166d94e8a008bf7f6facea239d2c0";
    DistortedText Swirl 5 (480, 160) 6 22 ("t:XK6K", "")
        "8e5f582569d76031778dfc1deb86e5d8d71578ee31e4ab3722967f41cf97b867";
    DistortedText Swirl 10 (599, 150) 8 23 ("t:JRHW4", "")
        "7f319facd46de1ccb248d5449c826b61403da4c5832aa1344b176e485e673d0d";
    DistortedText Swirl 8 (361, 121) 4 24 ("t:6CAX", "")
        "e5c1a59badf6d94ff2b8a12edb53f0f1d35f301abf0c6f051597861a3b1e171c";
    DistortedText Motion 1 (384, 132) 6 25 ("t:3TJD", "t:JWM9")
        "efd270465f7253a524976df227af2840980e6d43c3bf342687d8379b73c5e4ca";
    DistortedText Motion 5 (301, 109) 4 26 ("t:UX9C", "t:PL3X")
        "466fb38d872e14a8ae9be83bdff1e9d6fbbfe801e6b5b0e8df17a0004ef9305d";
    DistortedText Motion 10 (600, 150) 8 27 ("t:UCAJC6", "t:6N4CHX")
        "ef8485c6f5fb168699d3ada662bf48166c34bad90b1d812aeb9ac027ade848bf";
    Arithmetic Motion 7 (384, 132) 4 28 ("n:29", "n:35")
        "4ff5c247dacf125e44f639e8f08e3a14a63c04c7c749bf052f1ba0ab9a4968bb";
    PatternCompletion Swirl 2 (500, 180) 4 29 ("w:down-right", "")
        "8a5387a0f23d1e1bf17a2b999a38f347ae44652a5f1c809328cffb7a7c09e552";
    PatternCompletion Swirl 8 (450, 162) 4 30 ("w:cross down-right", "")
        "3ab7800e8dde207c440498cd008d3120d099e63915583486f05b60f713086569";
    PatternCompletion Motion 5 (540, 198) 4 31 ("w:up-right moon", "w:down-left heart")
        "1136c285786a0c7a7db484a1f1af0e6cb2a278eea47ab717e26d1ad0bf4a2d59";
    PatternCompletion Motion 9 (600, 225) 4 32 ("w:left diamond", "w:right star")
        "1f47589b4f4a87de982a4921fe91d0f8c2e6c7bc7cb426348e556600ad10db24";
    ObjectRecognition Swirl 4 (480, 187) 4 31 ("t:F7D", "")
        "4cf080351fce63918ee0d19cd1072da07a8cf194f57602c01202645f8cd97f0d";
    ObjectRecognition Swirl 10 (421, 165) 4 32 ("t:C36", "")
        "263df22639d682e68d14ad4a99cbda6268cdec0c36aac07f51995d49b9ce6f92";
    ObjectRecognition Motion 6 (384, 204) 4 33 ("t:DLY", "t:JNA")
        "ccb048835a2c2729146657256e87c29bcc1b2d59c13a580abe66dc7de12a6656";
    ColorTextMismatch Swirl 7 (400, 224) 4 34 ("w:white pink", "")
        "e69700cfeb88b003c68f2310ecbe7462eb957c2656f7a87c1d891cca50f17b1f";
    ColorTextMismatch Motion 5 (384, 186) 4 35 ("w:orange pink", "w:grey blue")
        "b8011e4ab17dd084f290d81e0ff9bb7f0e5a7de27480d81e829d04175332b1fb";
    ColorTextMismatch Motion 9 (361, 176) 4 36 ("w:black purple", "w:blue white")
        "f3ca7275b6a0d17a737e8fb4802f5c6647a85a940da81b2f02bfe03449d93bf0";
};

/// The same where the answer is picked.
const PICKED: [Case; 4] = cases! {
    DistortedText Swirl 6 (480, 160) 4 41 ("c:0:6PY9", "")
        "47299bd9ff6378530066220cee54561ac24c2aec742c0c6ff507b4df5d683a67";
    ObjectRecognition Swirl 3 (480, 187) 4 42 ("c:1:AUA", "")
        "21af9a45bd87484dd05e8d58f70fcfbd63e1d05db784a0b7a5a483c98c82f6dc";
    Arithmetic Motion 4 (384, 132) 4 43 ("c:0:34", "")
        "2e6b6ffe469b3e8a2e0dc693a496efa6882de90353deda42dee30007f556375b";
    PatternCompletion Motion 8 (540, 198) 4 44 ("c:4:cross left", "")
        "eec4744a4668d4e869e123f61422a1809fe3ae8f1587f633aa8982c4c763c4ac";
};

#[test]
fn pictures_are_what_this_version_draws() {
    assert_eq!(RENDERER_VERSION, 3, "the hashes above belong to version 3");
    let generator = Generator::new().unwrap();
    // The style that everybody can draw, and another.
    let styles = [0, 1].map(|key| generator.style(&StyleKey::from_bytes([key; 32])));
    let mut found = String::new();
    let mut same = true;
    let typed = GOLDEN.into_iter().map(|case| (case, AnswerMode::Typed));
    for (case, mode) in typed.chain(PICKED.into_iter().map(|case| (case, AnswerMode::Choice))) {
        let level = Level::new(case.level).unwrap();
        let mut spec = Spec::new(case.variant, level).with_carrier(case.carrier);
        spec.mode = mode;
        (spec.width, spec.height) = case.size;
        spec.length = case.length;
        let seed =
            Seed::from_bytes(std::array::from_fn(|index| case.seed.wrapping_mul(index as u8 + 1)));
        let style = &styles[usize::from(case.seed % 2)];
        let rendered = generator.render(&spec, style, &seed).unwrap();
        let digest: String = Sha256::digest(&rendered.media.bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let answer = rendered.puzzle.answer.encode();
        let decoy = rendered.puzzle.decoy.map(|decoy| decoy.encode()).unwrap_or_default();
        same &= digest == case.hash && (answer.as_str(), decoy.as_str()) == case.texts;
        found += &format!(
            "    {:?} {:?} {} {:?} {} {} (\"{answer}\", \"{decoy}\")\n        \"{digest}\";\n",
            case.variant, case.carrier, case.level, case.size, case.length, case.seed,
        );
    }
    assert!(same, "this build draws:\n{found}");
}

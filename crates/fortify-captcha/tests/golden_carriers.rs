//! Pinned pictures of the carriers other than ink; see `golden.rs`.

use fortify_captcha::{Carrier, Generator, Level, RENDERER_VERSION, Seed, Spec, StyleKey, Variant};
use sha2::{Digest, Sha256};

/// What is drawn, and what comes out.
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

const GOLDEN: [Case; 14] = cases! {
    DistortedText Swirl 1 (480, 160) 6 21 ("t:DNDL", "")
        "7c9f20e6d3660deefdec4193995b7ffb65e90b7fd0fcd65b6cb14b93bb1fef85";
    DistortedText Swirl 5 (480, 160) 6 22 ("t:XK6K", "")
        "eede2bb9072abaaf183c654857ac01bc0733e797395439694ddf52d7e33271ca";
    DistortedText Swirl 10 (599, 150) 8 23 ("t:JRHW4", "")
        "5bbf4e502feb5a515024556140d70906f096249aa64ac787fb7aa366270ae208";
    DistortedText Swirl 8 (361, 121) 4 24 ("t:6CAX", "")
        "4b15d2f0eb9f3be39afd354405f460baac6421c57607867839fe7d866f6055ab";
    DistortedText Motion 1 (384, 132) 6 25 ("t:3TJD", "t:JWM9")
        "9e9c8247f6f7d0f30bf80e7fbfdd4f529b087af99ac11e20d1c077f71297b93d";
    DistortedText Motion 5 (301, 109) 4 26 ("t:UX9C", "t:PL3X")
        "4c6f7e59e3280d2b59a27b937213782a630694a6c5ef9b61c8e1307245f29d37";
    DistortedText Motion 10 (600, 150) 8 27 ("t:UCAJC6", "t:6N4CHX")
        "44b8223d6500bbcfb50939b979e20ec1a03c57b7989b3aa969f874367505a6a7";
    Arithmetic Motion 7 (384, 132) 4 28 ("n:29", "n:35")
        "32394fd44d1be0eab35024eaf116a8855ff75f4fb40d392d35458b73b8d98be7";
    ObjectRecognition Swirl 4 (480, 187) 4 31 ("t:F7D", "")
        "28b18e84359ce7883c613ec13e77395a91415ddaf188a12a7e416037191103af";
    ObjectRecognition Swirl 10 (421, 165) 4 32 ("t:C36", "")
        "a6b0866d24693cc25a5ea7ae46f831cd1c568fd0e8648111ccda6db4cd7ce05d";
    ObjectRecognition Motion 6 (384, 204) 4 33 ("t:DLY", "t:JNA")
        "c45d5137be60c3d1f04dd4cb709d7e3a5897ae80e0d5d66f0f495c6a4dc5513b";
    ColorTextMismatch Swirl 7 (400, 224) 4 34 ("w:white pink", "")
        "592dacf28ee11f56d7e501f667594f7cfea28dfa82a89957fb62f6e8f1174c7b";
    ColorTextMismatch Motion 5 (384, 186) 4 35 ("w:orange pink", "w:grey blue")
        "430dd39836dcbcfea552c3b9306efe9fe8d49935786bb2b71150dd920bac0a24";
    ColorTextMismatch Motion 9 (361, 176) 4 36 ("w:black purple", "w:blue white")
        "b5b7b68b4fcd0bcd74162f0b85ee73f4518b13bc28b4cfd508d01c2f36b23069";
};

#[test]
fn pictures_are_what_this_version_draws() {
    assert_eq!(RENDERER_VERSION, 2, "the hashes belong to version 2");
    let generator = Generator::new().unwrap();
    let style = generator.style(&StyleKey::PUBLIC);
    let mut found = String::new();
    let mut same = true;
    for case in GOLDEN {
        let level = Level::new(case.level).unwrap();
        let mut spec = Spec::new(case.variant, level).with_carrier(case.carrier);
        (spec.width, spec.height) = case.size;
        spec.length = case.length;
        let seed =
            Seed::from_bytes(std::array::from_fn(|index| case.seed.wrapping_mul(index as u8 + 1)));
        let rendered = generator.render(&spec, &style, &seed).unwrap();
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

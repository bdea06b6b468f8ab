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

const GOLDEN: [Case; 18] = cases! {
    DistortedText Swirl 1 (480, 160) 6 21 ("t:DNDL", "")
        "4eadeee91881c2d918a965eac8d56dfeca48868b3a2827e8dabbe40e2a9646df";
    DistortedText Swirl 5 (480, 160) 6 22 ("t:XK6K", "")
        "59ee55a0f7a16b778eae716083a01203a0fe102c0cb58fbaa121d308a5301d9a";
    DistortedText Swirl 10 (599, 150) 8 23 ("t:JRHW4", "")
        "6bb3c39c7b1051a2e1535fb5ea7fe199f6b320bc5888cf6f3252f8a77b8bfe9e";
    DistortedText Swirl 8 (361, 121) 4 24 ("t:6CAX", "")
        "f8e7a6b91dd63044e7c8d4e3c19e9ce97d593b071865093ab4a954684d6c3a63";
    DistortedText Motion 1 (384, 132) 6 25 ("t:3TJD", "t:JWM9")
        "c2faeff8da145a988cbe5dbace559479042c4594f930b835283639fb2a0b2b94";
    DistortedText Motion 5 (301, 109) 4 26 ("t:UX9C", "t:PL3X")
        "9ae8059acdd001be3b79298c8e61af4928e21fcd3f4c1918a5a3a251888d8d44";
    DistortedText Motion 10 (600, 150) 8 27 ("t:UCAJC6", "t:6N4CHX")
        "ecde49089c65d6c4568c619dd67485ca5f502e8b29098b186fa16059d2823c69";
    Arithmetic Motion 7 (384, 132) 4 28 ("n:29", "n:35")
        "080ae392c3f8987217eff158a55240748efa985535daeb04edd9d173ee5404b8";
    PatternCompletion Swirl 2 (500, 180) 4 29 ("w:down-right", "")
        "ebec6802c2ab9f07d02552dfe8c34af7b5982b58e474a65f146f8e733d1973d5";
    PatternCompletion Swirl 8 (450, 162) 4 30 ("w:cross down-right", "")
        "3948aa92428fb05fb21b71d5ddfd841e6d288a8ba5fb96a2958163b8daebd140";
    PatternCompletion Motion 5 (540, 198) 4 31 ("w:up-right moon", "w:down-left heart")
        "42ce156842251947acfe9e34e39ab3a415e44ad678139951025372bf9dc5cab0";
    PatternCompletion Motion 9 (600, 225) 4 32 ("w:left diamond", "w:right star")
        "e6b703c4ea3b927b90c150639013ef7d473863a652e6c9503254e018e6aee1ba";
    ObjectRecognition Swirl 4 (480, 187) 4 31 ("t:F7D", "")
        "035771e83c4d5eed1c69ec859b3f05b41abc83492a96a724c9002be16995c4a4";
    ObjectRecognition Swirl 10 (421, 165) 4 32 ("t:C36", "")
        "56011b9e433641eb04f0aa14d5a29c274dfcd578af5ce41a38cc918b14665e3a";
    ObjectRecognition Motion 6 (384, 204) 4 33 ("t:DLY", "t:JNA")
        "6c3d15480d312c7f2c25b760b3dbe7faafce7dcfa06fdf843b08922b41690d81";
    ColorTextMismatch Swirl 7 (400, 224) 4 34 ("w:white pink", "")
        "7ebd484e2c6612f43cc0a5a9b39f8fc28a5b1a7771f6e0c4e6fb843eba9b5496";
    ColorTextMismatch Motion 5 (384, 186) 4 35 ("w:orange pink", "w:grey blue")
        "fa331f593cc8099496a7949821eacfaf3d204cf44841eb30c135214655aa4650";
    ColorTextMismatch Motion 9 (361, 176) 4 36 ("w:black purple", "w:blue white")
        "0a84f0c91661af896cecc0aea4cebd7121a731ea7220a32d2d1e863dc0a076a2";
};

#[test]
fn pictures_are_what_this_version_draws() {
    assert_eq!(RENDERER_VERSION, 2, "the hashes above belong to version 2");
    let generator = Generator::new().unwrap();
    // The style that everybody can draw, and another.
    let styles = [0, 1].map(|key| generator.style(&StyleKey::from_bytes([key; 32])));
    let mut found = String::new();
    let mut same = true;
    for case in GOLDEN {
        let level = Level::new(case.level).unwrap();
        let mut spec = Spec::new(case.variant, level).with_carrier(case.carrier);
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

//! Writes labelled sets of other generators' pictures, for the lab:
//!
//! ```text
//! lab-peers DIR TUNING COUNT
//! ```
//!
//! Settings are those that a generator's own documentation shows, and the hardest that it offers.
//! The generators take their randomness from the system, so that sets differ from run to run. Level 5
//! is written down for all of them: answers may have one slip, as in Fortify's own levels 1 to 5.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use captcha::filters::{Dots, Grid, Noise, Wave};
use captcha_a::Font;

type Drawn = Result<(String, Vec<u8>), Box<dyn Error>>;

/// A generator, and the name of its setting.
type Peer = (&'static str, fn() -> Drawn);

const PEERS: [Peer; 7] = [
    ("captcha-readme", || {
        let mut picture = captcha::Captcha::new();
        picture.add_chars(5).apply_filter(Noise::new(0.4)).apply_filter(Wave::new(2.0, 20.0));
        finished(picture.view(220, 120))
    }),
    ("captcha-six", || {
        let mut picture = captcha::Captcha::new();
        picture
            .add_chars(6)
            .apply_filter(Noise::new(0.2))
            .apply_filter(Grid::new(8, 8))
            .apply_filter(Wave::new(2.0, 10.0));
        finished(picture.view(220, 120).apply_filter(Dots::new(10)))
    }),
    ("captcha-rs-readme", || {
        rs(captcha_rs::CaptchaBuilder::new().length(5).width(130).height(40).complexity(1))
    }),
    // `distortion`, which it has besides, tears letters apart until nobody reads them.
    ("captcha-rs-complexity-10", || {
        rs(captcha_rs::CaptchaBuilder::new().length(6).width(220).height(80).complexity(10))
    }),
    ("captcha_rust", || {
        let picture = captcha_rust::Captcha::new(5, 130, 40);
        let encoded = picture.base_img.split(',').next_back().unwrap_or_default();
        Ok((picture.text, STANDARD.decode(encoded)?))
    }),
    ("captcha-a-readme", || a(120, 40, 4)),
    ("captcha-a-large", || a(220, 80, 6)),
];

fn finished(picture: &captcha::Captcha) -> Drawn {
    Ok((picture.chars_as_string(), picture.as_png().ok_or("captcha: no PNG")?))
}

fn rs(builder: captcha_rs::CaptchaBuilder) -> Drawn {
    let picture = builder.build();
    let encoded = picture.to_base64();
    let encoded = encoded.split(',').next_back().unwrap_or_default().to_owned();
    Ok((picture.text, STANDARD.decode(encoded)?))
}

/// `captcha-a` has no fonts of its own: it is given two of ours.
fn a(width: u32, height: u32, length: u32) -> Drawn {
    let fonts = [
        include_bytes!(
            "../../../crates/fortify-captcha/fonts/liberation-sans/LiberationSans-Bold.ttf"
        )
        .as_slice(),
        include_bytes!("../../../crates/fortify-captcha/fonts/carlito/Carlito-Bold.ttf").as_slice(),
    ];
    let fonts: Vec<Font<'_>> = fonts.into_iter().filter_map(Font::try_from_bytes).collect();
    let builder =
        captcha_a::CaptchaBuilder { width, height, length, fonts: &fonts, ..Default::default() };
    let picture = builder.build()?;
    Ok((picture.phrase, picture.raw_data))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, tuning, count] = arguments.as_slice() else {
        return Err("lab-peers DIR TUNING COUNT".into());
    };
    for (name, draw) in PEERS {
        for (part, count) in [("tune", tuning.parse()?), ("test", count.parse()?)] {
            write(&Path::new(out).join(part).join(name), count, draw)?;
        }
    }
    Ok(())
}

fn write(folder: &Path, count: u32, draw: fn() -> Drawn) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let mut labels = "file,variant,level,mode,answer,question,carrier,alphabet\n".to_owned();
    for index in 0..count {
        let (answer, bytes) = draw()?;
        // One of them writes JPEG; the readers look at the bytes, not at the name.
        let file = format!("{index:06}.png");
        let length = answer.chars().count();
        writeln!(
            labels,
            "{file},distorted_text,5,typed,{answer},Type the {length} characters,ink,any"
        )?;
        fs::write(folder.join(file), bytes)?;
    }
    fs::write(folder.join("labels.csv"), labels)?;
    Ok(())
}

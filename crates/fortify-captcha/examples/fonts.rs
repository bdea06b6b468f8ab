//! Writes a sheet of every bundled font, one line each, to see which may draw which character.
//!
//! ```text
//! cargo run --release -p fortify-captcha --example fonts -- TEXT DEGREES OUT.png
//! ```

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;

use fortify_captcha::Generator;
use png::{BitDepth, ColorType, Encoder};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [text, degrees, out] = arguments.as_slice() else {
        return Err("fonts TEXT DEGREES OUT.png".into());
    };
    let degrees: f32 = degrees.parse()?;
    let generator = Generator::new()?;
    let mut pixels = Vec::new();
    let mut width = 0;
    for face in 0.. {
        let Some(specimen) = generator.specimen(face, text, degrees) else {
            break;
        };
        println!("{:2} {}", face + 1, specimen.family);
        width = specimen.width;
        pixels.extend(specimen.pixels.iter().map(|index| 255 - index * 127));
    }
    let height = pixels.len() / width.max(1);
    let file = BufWriter::new(File::create(out)?);
    let mut encoder = Encoder::new(file, width as u32, height as u32);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(())
}

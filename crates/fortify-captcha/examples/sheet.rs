//! Writes a contact sheet: many pictures of one variant and level in one PNG, to be looked at.
//!
//! ```text
//! cargo run --release -p fortify-captcha --example sheet -- \
//!     VARIANT LEVEL COUNT SEED OUT.png [--carrier NAME] [--size WxH] [--columns N] [--scale N] \
//!     [--choice] [--questions] [--answers]
//! ```
//!
//! Of an animated picture the default image is shown, which is the decoy.
//!
//! SEED is a number. Picture n has the seed (SEED, n). Answers are printed only with `--answers`, so
//! that readings can be written down first.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;

use fortify_captcha::{
    AnswerMode, Carrier, Choice, Generator, Level, Seed, Spec, StyleKey, Variant,
};
use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

/// Space between pictures, px.
const GUTTER: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = Vec::new();
    let (mut columns, mut scale) = (2_usize, 1_usize);
    let (mut carrier, mut size) = (Carrier::Ink, None);
    let (mut key, mut by_row) = (StyleKey::PUBLIC, false);
    let (mut answers, mut questions, mut choice) = (false, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--answers" => answers = true,
            "--choice" => choice = true,
            "--questions" => questions = true,
            "--columns" => columns = arguments.next().ok_or("--columns N")?.parse()?,
            "--scale" => scale = arguments.next().ok_or("--scale N")?.parse()?,
            "--carrier" => carrier = arguments.next().ok_or("--carrier NAME")?.parse()?,
            "--style" => key = StyleKey::from_hex(&arguments.next().ok_or("--style HEX")?)?,
            "--styles" => by_row = true,
            "--size" => {
                let value = arguments.next().ok_or("--size WxH")?;
                let (width, height) = value.split_once('x').ok_or("--size WxH")?;
                size = Some((width.parse()?, height.parse()?));
            }
            _ => words.push(argument),
        }
    }
    let [variant, level, count, seed, out] = words.as_slice() else {
        return Err(
            "sheet VARIANT LEVEL COUNT SEED OUT.png [--carrier NAME] [--size WxH] [--style HEX | --styles] [--columns N] \
             [--scale N] [--answers]"
                .into(),
        );
    };
    let mut spec =
        Spec::new(variant.parse::<Variant>()?, Level::new(level.parse()?)?).with_carrier(carrier);
    (spec.width, spec.height) = size.unwrap_or((spec.width, spec.height));
    spec.mode = if choice { AnswerMode::Choice } else { AnswerMode::Typed };
    let (count, seed): (usize, u64) = (count.parse()?, seed.parse()?);

    let generator = Generator::new()?;
    let mut style = generator.style(&key);
    let shrunk = generator.render(&spec, &style, &numbered(seed, 0))?.media.scale;
    let (width, height) = (spec.width / shrunk, spec.height / shrunk);
    let (width, height) = (usize::from(width) * scale, usize::from(height) * scale);
    let rows = count.div_ceil(columns.max(1));
    let (sheet_width, sheet_height) =
        (columns * (width + GUTTER) + GUTTER, rows * (height + GUTTER) + GUTTER);
    let mut sheet = vec![128_u8; sheet_width * sheet_height * 3];
    for index in 0..count {
        if by_row && index % columns.max(1) == 0 {
            style = generator.style(&StyleKey::from_bytes([(index / columns.max(1)) as u8; 32]));
        }
        let rendered = generator.render(&spec, &style, &numbered(seed, index as u64))?;
        let puzzle = &rendered.puzzle;
        if questions {
            let choices: Vec<String> = puzzle.choices.iter().map(Choice::value).collect();
            println!("{:3} {:?} {}", index + 1, puzzle.question, choices.join(" | "));
        }
        if answers {
            println!("{:3} {}", index + 1, puzzle.answer.reveal());
        }
        let pixels = enlarged(&decode(&rendered.media.bytes)?, width / scale, scale);
        let left = GUTTER + (index % columns) * (width + GUTTER);
        let top = GUTTER + (index / columns) * (height + GUTTER);
        for (y, row) in pixels.chunks_exact(width * 3).enumerate() {
            let start = ((top + y) * sheet_width + left) * 3;
            if let Some(target) = sheet.get_mut(start..start + row.len()) {
                target.copy_from_slice(row);
            }
        }
    }
    let mut encoder =
        Encoder::new(BufWriter::new(File::create(out)?), sheet_width as u32, sheet_height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.write_header()?.write_image_data(&sheet)?;
    Ok(())
}

/// Every px as a square of `scale` by `scale`.
fn enlarged(pixels: &[u8], width: usize, scale: usize) -> Vec<u8> {
    let mut large = Vec::with_capacity(pixels.len() * scale * scale);
    for row in pixels.chunks_exact(width * 3) {
        for _ in 0..scale {
            for pixel in row.chunks_exact(3) {
                (0..scale).for_each(|_| large.extend_from_slice(pixel));
            }
        }
    }
    large
}

fn numbered(seed: u64, index: u64) -> Seed {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&index.to_le_bytes());
    Seed::from_bytes(bytes)
}

fn decode(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut decoder = Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("a picture without a size")?];
    let frame = reader.next_frame(&mut pixels)?;
    pixels.truncate(frame.buffer_size());
    Ok(pixels)
}

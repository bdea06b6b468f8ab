//! Writes a contact sheet: many pictures of one variant and level in one PNG, to be looked at.
//!
//! ```text
//! cargo run --release -p fortify-captcha --example sheet -- \
//!     VARIANT LEVEL COUNT SEED OUT.png [--carrier NAME] [--size WxH] [--style HEX | --styles] \
//!     [--columns N] [--scale N] [--choice] [--questions FILE] [--answers FILE] [--strip FILE.png]
//! ```
//!
//! Of animated pictures the sheet is animated and plays all of them at once; decoys are left out. The
//! strip is for viewers that do not play animations: the first pictures side by side, and downwards
//! their frames of about a second.
//!
//! SEED is a number. Picture n has the seed (SEED, n). Questions and answers are numbered alike, in
//! files of their own, so that readings can be written down before the answers are looked at.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::BufWriter;

use fortify_captcha::{
    AnswerMode, Carrier, Choice, Generator, Level, Seed, Spec, StyleKey, Variant,
};
use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

/// Space between pictures, px.
const GUTTER: usize = 8;
/// Pictures in a strip, and frames of each: about a second.
const STRIP: (usize, usize) = (4, 17);

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = Vec::new();
    let (mut columns, mut scale) = (2_usize, 1_usize);
    let (mut carrier, mut size) = (Carrier::Ink, None);
    let (mut key, mut by_row) = (StyleKey::PUBLIC, false);
    let (mut answers, mut questions, mut strip) = (None, None, None);
    let mut mode = AnswerMode::Typed;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--answers" => answers = Some(arguments.next().ok_or("--answers FILE")?),
            "--choice" => mode = AnswerMode::Choice,
            "--questions" => questions = Some(arguments.next().ok_or("--questions FILE")?),
            "--strip" => strip = Some(arguments.next().ok_or("--strip FILE.png")?),
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
        return Err("sheet VARIANT LEVEL COUNT SEED OUT.png [--carrier NAME] [--size WxH] \
             [--style HEX | --styles] [--columns N] [--scale N] [--choice] [--questions FILE] \
             [--answers FILE] [--strip FILE.png]"
            .into());
    };
    let mut spec =
        Spec::new(variant.parse::<Variant>()?, Level::new(level.parse()?)?).with_carrier(carrier);
    (spec.width, spec.height) = size.unwrap_or((spec.width, spec.height));
    spec.mode = mode;
    let (count, seed): (u64, u64) = (count.parse()?, seed.parse()?);
    let columns = columns.max(1);

    let generator = Generator::new()?;
    let mut style = generator.style(&key);
    let (mut asked, mut answered) = (String::new(), String::new());
    let mut pictures = Vec::new();
    for index in 0..count {
        let (row, column) = (index / columns as u64, index % columns as u64);
        if by_row && column == 0 {
            style = generator.style(&StyleKey::from_bytes([row as u8; 32]));
        }
        let rendered = generator.render(&spec, &style, &numbered(seed, index))?;
        let puzzle = &rendered.puzzle;
        let choices: Vec<String> = puzzle.choices.iter().map(Choice::value).collect();
        let number = index + 1;
        writeln!(asked, "{number:3} {:?} {}", puzzle.question, choices.join(" | "))?;
        writeln!(answered, "{number:3} {}", puzzle.answer.reveal())?;
        pictures.push(Picture::decode(&rendered.media.bytes)?);
    }
    questions.map(|file| fs::write(file, asked)).transpose()?;
    answers.map(|file| fs::write(file, answered)).transpose()?;

    let frames = pictures.iter().map(|picture| picture.frames.len()).min().unwrap_or_default();
    let sheets = (0..frames).map(|frame| {
        let shown: Vec<_> = pictures.iter().map(|picture| (picture, frame)).collect();
        Sheet::compose(&shown, columns, scale)
    });
    write(out, frames, pictures.first().ok_or("no picture")?.delay, sheets)?;
    if let Some(file) = strip {
        let (beside, below) = (STRIP.0.min(pictures.len()), STRIP.1.min(frames));
        let shown: Vec<_> = (0..below)
            .flat_map(|frame| pictures.iter().take(beside).map(move |picture| (picture, frame)))
            .collect();
        write(&file, 1, (0, 1), std::iter::once(Sheet::compose(&shown, beside, scale)))?;
    }
    Ok(())
}

/// A picture as it is shown: one frame, or those of the animation without the default image.
struct Picture {
    width: usize,
    frames: Vec<Vec<u8>>,
    /// How long a frame is shown, s, as a fraction.
    delay: (u16, u16),
}

impl Picture {
    fn decode(bytes: &[u8]) -> Result<Self, Box<dyn Error>> {
        let mut decoder = Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(Transformations::EXPAND);
        let mut reader = decoder.read_info()?;
        let size = reader.output_buffer_size().ok_or("a picture without a size")?;
        let width = reader.info().width as usize;
        let animated = reader.info().animation_control().map(|control| control.num_frames);
        let mut picture = Self { width, frames: Vec::new(), delay: (0, 1) };
        for _ in 0..=animated.unwrap_or_default() {
            let mut pixels = vec![0; size];
            reader.next_frame(&mut pixels)?;
            if let Some(control) = reader.info().frame_control() {
                picture.delay = (control.delay_num, control.delay_den);
            } else if animated.is_some() {
                continue;
            }
            picture.frames.push(pixels);
        }
        Ok(picture)
    }
}

/// Pictures beside and below each other, three bytes per px.
struct Sheet {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Sheet {
    /// One frame of each picture, all of the same size, every px as a square of `scale` by `scale`.
    fn compose(shown: &[(&Picture, usize)], columns: usize, scale: usize) -> Self {
        let sizes = shown.first().map(|(picture, frame)| {
            (picture.width * scale, picture.frames[*frame].len() / 3 / picture.width * scale)
        });
        let (width, height) = sizes.unwrap_or_default();
        let rows = shown.len().div_ceil(columns);
        let mut sheet = Self {
            width: columns * (width + GUTTER) + GUTTER,
            height: rows * (height + GUTTER) + GUTTER,
            pixels: Vec::new(),
        };
        sheet.pixels.resize(sheet.width * sheet.height * 3, 128);
        for (index, (picture, frame)) in shown.iter().enumerate() {
            let left = GUTTER + index % columns * (width + GUTTER);
            let top = GUTTER + index / columns * (height + GUTTER);
            for (y, row) in picture.frames[*frame].chunks_exact(picture.width * 3).enumerate() {
                let row: Vec<u8> = row.chunks_exact(3).flat_map(|px| px.repeat(scale)).collect();
                for line in 0..scale {
                    let start = ((top + y * scale + line) * sheet.width + left) * 3;
                    sheet.pixels[start..start + row.len()].copy_from_slice(&row);
                }
            }
        }
        sheet
    }
}

/// Writes sheets of one size as a PNG, animated if there are several.
fn write(
    file: &str,
    frames: usize,
    (seconds, parts): (u16, u16),
    mut sheets: impl Iterator<Item = Sheet>,
) -> Result<(), Box<dyn Error>> {
    let first = sheets.next().ok_or("nothing to show")?;
    let out = BufWriter::new(File::create(file)?);
    let mut encoder = Encoder::new(out, first.width as u32, first.height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    if frames > 1 {
        encoder.set_animated(frames as u32, 0)?;
        encoder.set_frame_delay(seconds, parts)?;
    }
    let mut writer = encoder.write_header()?;
    for sheet in std::iter::once(first).chain(sheets) {
        writer.write_image_data(&sheet.pixels)?;
    }
    writer.finish()?;
    Ok(())
}

fn numbered(seed: u64, index: u64) -> Seed {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&index.to_le_bytes());
    Seed::from_bytes(bytes)
}

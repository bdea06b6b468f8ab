//! Pictures of other generators, each through the interface that its documentation shows.
//!
//! They take their randomness from the system, so that no two runs draw the same.

use std::error::Error;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use captcha::filters::{Dots, Grid, Noise, Wave};
use captcha_a::Font;

/// A picture, or why there is none.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A picture with its answer.
#[derive(Debug)]
pub struct Drawn {
    /// What is to be read.
    pub answer: String,
    /// The file.
    pub picture: Picture,
}

/// A file as its generator gives it. Not taken out of its base64 before somebody needs the bytes, so
/// that the bench does not count work that no generator does.
#[derive(Debug)]
pub enum Picture {
    /// PNG.
    Bytes(Vec<u8>),
    /// `data:image/...;base64,...`, of a PNG or a JPEG.
    DataUrl(String),
}

impl Picture {
    /// How large the file is, bytes. Of base64 it is told from the length alone.
    pub fn size(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::DataUrl(url) => {
                let text = payload(url);
                text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count()
            }
        }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    ///
    /// When a generator's base64 is none.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::DataUrl(url) => Ok(STANDARD.decode(payload(&url))?),
        }
    }
}

fn payload(url: &str) -> &str {
    url.split(',').next_back().unwrap_or_default()
}

/// `captcha` as its documentation shows it: 5 characters, noise and a wave, 220 by 120 px.
///
/// # Errors
///
/// When it gives no PNG.
pub fn captcha_readme() -> Result<Drawn> {
    let mut picture = captcha::Captcha::new();
    picture.add_chars(5).apply_filter(Noise::new(0.4)).apply_filter(Wave::new(2.0, 20.0));
    finished(picture.view(220, 120))
}

/// `captcha` with 6 characters and every kind of filter that it has: noise, grid, wave, dots; 220 by
/// 120 px.
///
/// # Errors
///
/// When it gives no PNG.
pub fn captcha_six() -> Result<Drawn> {
    let mut picture = captcha::Captcha::new();
    picture
        .add_chars(6)
        .apply_filter(Noise::new(0.2))
        .apply_filter(Grid::new(8, 8))
        .apply_filter(Wave::new(2.0, 10.0));
    finished(picture.view(220, 120).apply_filter(Dots::new(10)))
}

fn finished(picture: &captcha::Captcha) -> Result<Drawn> {
    let bytes = picture.as_png().ok_or("captcha: no PNG")?;
    Ok(Drawn { answer: picture.chars_as_string(), picture: Picture::Bytes(bytes) })
}

/// `captcha-rs` with `complexity` from 1 to 10, `width` by `height` px. Its `distortion`, which it has
/// besides, tears letters apart until nobody reads them.
///
/// # Errors
///
/// None; the type is that of the others.
pub fn captcha_rs(width: u32, height: u32, length: usize, complexity: u32) -> Result<Drawn> {
    let builder = captcha_rs::CaptchaBuilder::new().length(length).width(width).height(height);
    let picture = builder.complexity(complexity).build();
    let url = picture.to_base64();
    Ok(Drawn { answer: picture.text, picture: Picture::DataUrl(url) })
}

/// `captcha_rust`, `width` by `height` px; it has no other setting.
///
/// # Errors
///
/// None; the type is that of the others.
pub fn captcha_rust(width: u32, height: u32, length: usize) -> Result<Drawn> {
    let picture = captcha_rust::Captcha::new(length, width, height);
    Ok(Drawn { answer: picture.text, picture: Picture::DataUrl(picture.base_img) })
}

/// `captcha-a`, `width` by `height` px, with as many lines and ellipses as it ever draws. It has no
/// fonts of its own: it is given two of ours, read once.
///
/// # Errors
///
/// When it cannot write its PNG.
pub fn captcha_a(width: u32, height: u32, length: u32) -> Result<Drawn> {
    let fonts = &FONTS;
    let builder = captcha_a::CaptchaBuilder { width, height, length, fonts, ..Default::default() };
    let picture = builder.build()?;
    Ok(Drawn { answer: picture.phrase, picture: Picture::Bytes(picture.raw_data) })
}

static FONTS: LazyLock<Vec<Font<'static>>> = LazyLock::new(|| {
    let fonts = [
        include_bytes!(
            "../../../crates/fortify-captcha/fonts/liberation-sans/LiberationSans-Bold.ttf"
        )
        .as_slice(),
        include_bytes!("../../../crates/fortify-captcha/fonts/carlito/Carlito-Bold.ttf").as_slice(),
    ];
    fonts.into_iter().filter_map(Font::try_from_bytes).collect()
});

//! Image challenges that need no script: a pure generator from a [`Spec`], a [`Style`] and a
//! 32-byte [`Seed`] to picture and answer.
//!
//! No clock, no I/O, no global state: the same three give the same bytes on every machine and in every
//! thread, so that a service can store the seed and render when the picture is fetched.
//!
//! ```
//! use fortify_captcha::{Generator, Level, Seed, Spec, StyleKey, Tolerance, Variant};
//!
//! let generator = Generator::new()?;
//! let level = Level::new(3)?;
//! let spec = Spec::new(Variant::Arithmetic, level);
//! let seed = Seed::from_bytes([7; 32]); // from the operating system's generator in real use
//! let style = generator.style(&StyleKey::PUBLIC); // from a secret of the site in real use
//! let rendered = generator.render(&spec, &style, &seed)?;
//! assert_eq!(rendered.media.mime, "image/png");
//! let answer = &rendered.puzzle.answer;
//! assert!(answer.matches(&answer.reveal(), Tolerance::for_level(level)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//!
//! A module imports only from modules that come before it in this list; a parent module and its own
//! children may refer to each other.
//!
//! - `error`, `hex`, `constant_time`: errors, 32 bytes as text, comparison in constant time.
//! - `alphabet`, `object`, `term`: the characters, objects, and shapes, colours and directions.
//! - `spec`, `seed`: the specification of a picture; the secrets that pictures and styles follow from.
//! - `level`, `weights`: the parameters of each level, in one table; how often it asks each task.
//! - `rng`: a stream of numbers for every part of a picture and of a style.
//! - `number`, `fold`, `tolerance`, `synonyms`: reading of typed answers.
//! - `choice`, `answer`, `puzzle`: choices and their decoys, checking of answers, the question.
//! - `figure`: the things that a picture shows, without place or size.
//! - `outline`, `pictogram`, `font`, `scribble`, `tiles`: polygons of glyphs, objects, signs, tiles.
//! - `layout`: places figures and turns them into bent polygons.
//! - `bitmap`, `canvas`, `raster`: cells of one bit, indexed pixels, filling of polygons.
//! - `named_colours`, `palette`, `noise`: sixteen colours, the ground and the marks.
//! - `style`: everything that the pictures of one site and one style period have in common.
//! - `tasks`: one module per task composes the question, its answer and its figures.
//! - `decoy`, `guess`: the answer that only programs give; the probability of a blind guess.
//! - `carriers`: one module per rendering. `ink` fills polygons, `swirl` turns stripes inside them,
//!   `motion` lets dots drift in them.
//! - `encode`, `specimen`: PNG files; one glyph alone, for choosing fonts.
//! - This file: [`Generator`], which draws pictures by the modules above.

#![deny(missing_docs)]

mod alphabet;
mod answer;
mod bitmap;
mod canvas;
mod carriers;
mod choice;
mod constant_time;
mod decoy;
mod encode;
mod error;
mod figure;
mod fold;
mod font;
mod guess;
mod hex;
mod layout;
mod level;
mod named_colours;
mod noise;
mod number;
mod object;
mod outline;
mod palette;
mod pictogram;
mod puzzle;
mod raster;
mod rng;
mod scribble;
mod seed;
mod spec;
mod specimen;
#[cfg(test)]
mod statistics;
mod style;
mod synonyms;
mod tasks;
mod term;
mod tiles;
mod tolerance;
mod weights;

use std::fmt;
use std::sync::{Mutex, PoisonError};

pub use alphabet::ALPHABET;
pub use answer::{Answer, MAX_SUBMITTED_BYTES, MAX_SUBMITTED_CHARS};
pub use choice::{Choice, DecoyKind, Label};
pub use error::{AnswerError, FontError, LevelError, NameError, SeedError, StyleKeyError};
pub use guess::guess_probability;
pub use level::carrier_weights;
pub use object::Object;
pub use puzzle::{Puzzle, Question};
pub use seed::{Seed, StyleKey};
pub use spec::{AnswerMode, Carrier, Level, RenderError, Spec, Variant};
#[doc(hidden)]
pub use specimen::Specimen;
pub use style::Style;
pub use term::{Aspect, Colour, Direction, Shape, Term};
pub use tolerance::Tolerance;
pub use weights::variant_weights;

use carriers::motion::{self, Scene};
use carriers::swirl::{self, StripeSettings};
use carriers::{fitted, ink};
use font::Fonts;
use level::LevelProfile;
use palette::Palette;
use rng::{Purpose, Stream};

/// The version of the renderer, raised whenever the same spec, style and seed give other bytes or
/// another answer, so that no node draws pictures that a node of another version issued. Golden tests
/// pin it.
pub const RENDERER_VERSION: u16 = 3;

/// Sets of buffers kept for reuse: one per thread that renders at the same time, and more threads
/// than this are only slower by an allocation.
const SCRATCHES: usize = 16;

/// Draws pictures. Made once (about 10 ms and 1 MB), shared by any number of threads.
pub struct Generator {
    fonts: Fonts,
    scratches: Mutex<Vec<Scratch>>,
}

/// Buffers that a picture is drawn in, kept between pictures.
#[derive(Debug, Default)]
struct Scratch {
    ink: ink::Scratch,
    swirl: swirl::Scratch,
    motion: motion::Scratch,
}

/// A picture and its puzzle.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The picture.
    pub media: Media,
    /// The question and its answer.
    pub puzzle: Puzzle,
}

/// An encoded picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Media {
    /// The file, at most 50 KB.
    pub bytes: Vec<u8>,
    /// The media type, `image/png`.
    pub mime: &'static str,
    /// Width at which a page shows it, CSS px.
    pub width: u16,
    /// Height at which a page shows it, CSS px.
    pub height: u16,
    /// CSS px per px of the file, along each axis: 1, or 3 in motion, whose dots are one px each. A
    /// page writes `width` and `height` as attributes and `image-rendering: pixelated` in its style
    /// sheet; that is a ninth of the bytes of larger dots, and browsers draw them just as sharp.
    pub scale: u16,
}

impl Generator {
    /// Parses the bundled fonts and prepares what every picture shares.
    ///
    /// # Errors
    ///
    /// [`FontError`] if a bundled font cannot be used, which tests rule out.
    pub fn new() -> Result<Self, FontError> {
        Ok(Self { fonts: Fonts::load()?, scratches: Mutex::new(Vec::new()) })
    }

    /// The style that follows from `key`, to be kept as long as pictures are drawn in it: making it
    /// takes about 100 ms and 10 MB.
    pub fn style(&self, key: &StyleKey) -> Style {
        Style::new(key, &self.fonts)
    }

    /// Draws the picture that `spec`, `style` and `seed` stand for.
    ///
    /// # Errors
    ///
    /// [`RenderError`] if the spec is out of bounds or asks for a combination that this version does
    /// not offer.
    pub fn render(&self, spec: &Spec, style: &Style, seed: &Seed) -> Result<Rendered, RenderError> {
        spec.check()?;
        let spec = &fitted(spec);
        let mut scratch = self.take_scratch();
        let rendered = match spec.carrier {
            Carrier::Ink | Carrier::Swirl => self.still(spec, style, seed, &mut scratch),
            Carrier::Motion => self.moving(spec, style, seed, &mut scratch),
        };
        self.return_scratch(scratch);
        rendered
    }

    /// The puzzle that `spec` and `seed` stand for, without drawing it: the same as
    /// [`Generator::render`] gives, in about a microsecond.
    ///
    /// # Errors
    ///
    /// As [`Generator::render`].
    pub fn puzzle(&self, spec: &Spec, seed: &Seed) -> Result<Puzzle, RenderError> {
        spec.check()?;
        let spec = &fitted(spec);
        let mut task = tasks::compose(spec, &mut Stream::new(seed, Purpose::Task));
        if spec.carrier == Carrier::Motion {
            let decoy = decoy::compose(spec, &task, &mut Stream::new(seed, Purpose::Decoy));
            task.puzzle.decoy = decoy.map(|task| task.puzzle.answer);
        }
        Ok(task.puzzle)
    }

    /// A picture just before it is encoded, so that benches can time the encoder alone.
    ///
    /// # Errors
    ///
    /// As [`Generator::render`].
    #[doc(hidden)]
    pub fn canvas(
        &self,
        spec: &Spec,
        style: &Style,
        seed: &Seed,
    ) -> Result<FinishedCanvas, RenderError> {
        spec.check()?;
        let mut scratch = self.take_scratch();
        let (_puzzle, palette) = self.draw(spec, style, seed, &mut scratch);
        encode::png(&scratch.ink.canvas, &palette, &mut scratch.ink.packed)?;
        Ok(FinishedCanvas {
            packed: scratch.ink.packed,
            palette,
            width: usize::from(spec.width),
            height: usize::from(spec.height),
        })
    }

    /// A line of `text` in one bundled font, for choosing fonts; `None` past the last one.
    #[doc(hidden)]
    pub fn specimen(&self, face: u8, text: &str, degrees: f32) -> Option<Specimen> {
        specimen::draw(&self.fonts, face, text, degrees)
    }

    /// A picture of one image, 4 bits per px.
    fn still(
        &self,
        spec: &Spec,
        style: &Style,
        seed: &Seed,
        scratch: &mut Scratch,
    ) -> Result<Rendered, RenderError> {
        let (puzzle, palette) = self.draw(spec, style, seed, scratch);
        let bytes = encode::png(&scratch.ink.canvas, &palette, &mut scratch.ink.packed)?;
        Ok(Rendered { media: Media::new(bytes, spec.width, spec.height, 1), puzzle })
    }

    fn draw(
        &self,
        spec: &Spec,
        style: &Style,
        seed: &Seed,
        scratch: &mut Scratch,
    ) -> (Puzzle, Palette) {
        let task = tasks::compose(spec, &mut Stream::new(seed, Purpose::Task));
        let mut rng = Stream::new(seed, Purpose::Carrier);
        let profile = LevelProfile::of(spec.level);
        let Scratch { ink, swirl, .. } = scratch;
        ink.canvas.resize(usize::from(spec.width), usize::from(spec.height));
        let palette = if spec.carrier == Carrier::Swirl {
            let settings = StripeSettings { style, profile };
            swirl::draw(&task.figures, settings, &mut rng, &mut ink.canvas, swirl)
        } else {
            ink::draw(&task.figures, style, profile, &mut rng, ink)
        };
        (task.puzzle, palette)
    }

    /// An animated picture, 1 or 2 bits per cell, with a decoy.
    fn moving(
        &self,
        spec: &Spec,
        style: &Style,
        seed: &Seed,
        scratch: &mut Scratch,
    ) -> Result<Rendered, RenderError> {
        let mut task = tasks::compose(spec, &mut Stream::new(seed, Purpose::Task));
        let mut rng = Stream::new(seed, Purpose::Carrier);
        let mut decoy_rng = Stream::new(seed, Purpose::Decoy);
        let decoy = decoy::compose(spec, &task, &mut decoy_rng);
        let (width, height) = (spec.width / motion::SCALE, spec.height / motion::SCALE);
        let scene = Scene {
            figures: &task.figures,
            decoy: decoy.as_ref().map_or(&[], |task| task.figures.as_slice()),
            style,
            profile: LevelProfile::of(spec.level),
            width: usize::from(width),
            height: usize::from(height),
        };
        let colours = motion::draw(&scene, &mut rng, &mut decoy_rng, &mut scratch.motion);
        let bytes = encode::animation(
            scene.width,
            scene.height,
            &colours,
            style.dots.frame_ms,
            &scratch.motion.packed,
        )?;
        task.puzzle.decoy = decoy.map(|task| task.puzzle.answer);
        let media = Media::new(bytes, width * motion::SCALE, height * motion::SCALE, motion::SCALE);
        Ok(Rendered { media, puzzle: task.puzzle })
    }

    fn take_scratch(&self) -> Scratch {
        self.scratches.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn return_scratch(&self, scratch: Scratch) {
        let mut scratches = self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        if scratches.len() < SCRATCHES {
            scratches.push(scratch);
        }
    }
}

impl Media {
    const fn new(bytes: Vec<u8>, width: u16, height: u16, scale: u16) -> Self {
        Self { bytes, mime: "image/png", width, height, scale }
    }
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").finish_non_exhaustive()
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media")
            .field("bytes", &self.bytes.len())
            .field("mime", &self.mime)
            .field("width", &self.width)
            .field("height", &self.height)
            .field("scale", &self.scale)
            .finish()
    }
}

/// A picture that is ready to be encoded.
#[doc(hidden)]
#[derive(Debug)]
pub struct FinishedCanvas {
    packed: Vec<u8>,
    palette: Palette,
    width: usize,
    height: usize,
}

#[doc(hidden)]
impl FinishedCanvas {
    /// Runs the encoder in its fast mode, the yardstick for the time that drawing takes.
    ///
    /// # Errors
    ///
    /// [`RenderError::Encode`].
    pub fn encode(&self) -> Result<Vec<u8>, RenderError> {
        encode::encode(self.width, self.height, &self.palette, &self.packed, png::Compression::Fast)
    }
}

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

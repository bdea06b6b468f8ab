//! Times Fortify's generator beside others and beside the bare `png` encoder, on one thread:
//!
//! ```text
//! bench-peers [ROUNDS] [MILLISECONDS]
//! ```
//!
//! In each round all of them draw, one after the other, for so many milliseconds (300 in each of 15
//! rounds), so that a busy machine hits all of them alike. One JSON line per generator, with the
//! median over the rounds; then one per goal, with the median of the rounds' own ratios beside the
//! lowest and the highest.

use std::hint::black_box;
use std::time::{Duration, Instant};

use fortify_captcha::{Generator, Level, Seed, Spec, Style, StyleKey, Variant};
use lab_peers::{Drawn, Picture, Result};

/// Of our picture, and of theirs where it can be chosen, px.
const SIZE: (u16, u16) = (300, 100);
/// Characters in every picture.
const LENGTH: u8 = 6;
/// Finished pictures that the encoder is given in turn: more than a processor's second cache holds,
/// as for one who draws.
const CANVASES: u64 = 64;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter_map(|word| word.parse::<u32>().ok());
    let rounds = arguments.next().unwrap_or(15).max(1);
    let slice = Duration::from_millis(arguments.next().unwrap_or(300).into());
    let generator = Generator::new()?;
    let style = generator.style(&StyleKey::PUBLIC);
    let mut contest = contestants(&generator, &style)?;
    for contestant in &mut contest {
        contestant.round(slice / 10)?;
    }
    contest.iter_mut().for_each(Contestant::forget);
    for _ in 0..rounds {
        for contestant in &mut contest {
            contestant.round(slice)?;
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!("{{\"rounds\":{rounds},\"slice_ms\":{},\"load\":\"{load}\"}}", slice.as_millis());
    for contestant in &contest {
        println!("{}", contestant.line());
    }
    for line in goals(&contest) {
        println!("{line}");
    }
    Ok(())
}

/// Ours first, the encoder last.
fn contestants<'a>(generator: &'a Generator, style: &'a Style) -> Result<Vec<Contestant<'a>>> {
    let mut spec = Spec::new(Variant::DistortedText, Level::new(5)?);
    (spec.width, spec.height) = SIZE;
    spec.length = LENGTH;
    let mut number = 0;
    let ours = move || {
        number += 1;
        Ok(Picture::Bytes(generator.render(&spec, style, &seed(number))?.media.bytes))
    };
    let canvases = (0..CANVASES).map(|number| generator.canvas(&spec, style, &seed(number)));
    let canvases = canvases.collect::<std::result::Result<Vec<_>, _>>()?;
    let mut next = 0;
    let encoder = move || {
        next = (next + 1) % canvases.len();
        let canvas = canvases.get(next).ok_or("no canvas")?;
        Ok(Picture::Bytes(canvas.encode()?))
    };
    let (width, height) = (u32::from(SIZE.0), u32::from(SIZE.1));
    let ink = "distorted_text, ink, level 5";
    let filters = "noise, grid, wave, dots";
    Ok(vec![
        Contestant::new("fortify", ink, (width, height), ours),
        Contestant::peer("captcha", filters, (220, 120), lab_peers::captcha_six),
        Contestant::peer("captcha-a", "all its lines", (width, height), move || {
            lab_peers::captcha_a(width, height, LENGTH.into())
        }),
        Contestant::peer("captcha-rs", "complexity 10", (width, height), move || {
            lab_peers::captcha_rs(width, height, LENGTH.into(), 10)
        }),
        Contestant::peer("captcha_rust", "its only setting", (width, height), move || {
            lab_peers::captcha_rust(width, height, LENGTH.into())
        }),
        Contestant::new("png encoder", "Fortify's finished pictures", (width, height), encoder),
    ])
}

fn seed(number: u64) -> Seed {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Seed::from_bytes(bytes)
}

/// A generator in a setting, and how it did.
struct Contestant<'a> {
    name: &'static str,
    setting: &'static str,
    /// px.
    size: (u32, u32),
    draw: Box<dyn FnMut() -> Result<Picture> + 'a>,
    /// Pictures per second, a value for each round.
    rates: Vec<f64>,
    /// Of every picture, s.
    times: Vec<f64>,
    /// Of every picture, bytes.
    sizes: Vec<f64>,
}

impl<'a> Contestant<'a> {
    fn new(
        name: &'static str,
        setting: &'static str,
        size: (u32, u32),
        draw: impl FnMut() -> Result<Picture> + 'a,
    ) -> Self {
        let (rates, times, sizes) = Default::default();
        Self { name, setting, size, draw: Box::new(draw), rates, times, sizes }
    }

    fn peer(
        name: &'static str,
        setting: &'static str,
        size: (u32, u32),
        mut draw: impl FnMut() -> Result<Drawn> + 'a,
    ) -> Self {
        Self::new(name, setting, size, move || Ok(draw()?.picture))
    }

    /// Draws for as long as `slice`, at least one picture.
    fn round(&mut self, slice: Duration) -> Result<()> {
        let started = Instant::now();
        let (mut count, mut last) = (0_u32, Duration::ZERO);
        while last < slice {
            let picture = black_box((self.draw)()?);
            let now = started.elapsed();
            self.times.push((now - last).as_secs_f64());
            (count, last) = (count + 1, now);
            self.sizes.push(picture.size() as f64);
        }
        self.rates.push(f64::from(count) / last.as_secs_f64());
        Ok(())
    }

    /// Drops what was measured while caches were cold.
    fn forget(&mut self) {
        (self.rates, self.times, self.sizes) = Default::default();
    }

    fn pixels(&self) -> f64 {
        f64::from(self.size.0 * self.size.1)
    }

    fn line(&self) -> String {
        let rate = median(&self.rates);
        format!(
            "{{\"generator\":\"{}\",\"setting\":\"{}\",\"width\":{},\"height\":{},\
             \"images_per_s\":{rate:.0},\"megapixels_per_s\":{:.1},\"p50_us\":{:.1},\
             \"bytes_p50\":{:.0}}}",
            self.name,
            self.setting,
            self.size.0,
            self.size.1,
            rate * self.pixels() / 1e6,
            median(&self.times) * 1e6,
            median(&self.sizes),
        )
    }
}

/// What is held against what, and by how much.
fn goals(contest: &[Contestant<'_>]) -> Vec<String> {
    let [ours, captcha, a, rs, rust, encoder] = contest else {
        return Vec::new();
    };
    let rates = |who: &Contestant<'_>| who.rates.clone();
    let pixels = |who: &Contestant<'_>| -> Vec<f64> {
        who.rates.iter().map(|rate| rate * who.pixels()).collect()
    };
    vec![
        goal("pictures per s, over captcha", &rates(ours), &rates(captcha), Bound::AtLeast(20.0)),
        goal("pixels per s, over captcha-a", &pixels(ours), &pixels(a), Bound::AtLeast(1.0)),
        goal("pixels per s, over captcha-rs", &pixels(ours), &pixels(rs), Bound::AtLeast(1.0)),
        goal("pixels per s, over captcha_rust", &pixels(ours), &pixels(rust), Bound::AtLeast(1.0)),
        goal("time, over the png encoder", &rates(encoder), &rates(ours), Bound::AtMost(4.0)),
    ]
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

fn goal(name: &str, ours: &[f64], theirs: &[f64], bound: Bound) -> String {
    let mut ratios: Vec<f64> =
        ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let ratio = median(&ratios);
    let (low, high) = (ratios.first().unwrap_or(&ratio), ratios.last().unwrap_or(&ratio));
    let (bound, met) = match bound {
        Bound::AtLeast(least) => (format!("\"at_least\":{least}"), ratio >= least),
        Bound::AtMost(most) => (format!("\"at_most\":{most}"), ratio <= most),
    };
    format!(
        "{{\"goal\":\"{name}\",\"ratio\":{ratio:.2},\"low\":{low:.2},\"high\":{high:.2},{bound},\
         \"met\":{met}}}"
    )
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

//! Times rendering, one JSON line per variant, carrier and level, on one thread, each carrier at the
//! size that pages use.
//!
//! `encode_us` is the `png` encoder alone on the same finished canvases in the same run; `ratio` is
//! the median whole picture over the median encoding. Both are for ink alone.
//!
//! Arguments: the seconds per line (1 by default), and names of variants and carriers, of which only
//! those are timed.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use fortify_captcha::{
    AnswerMode, Carrier, Generator, Level, Seed, Spec, Style, StyleKey, Variant,
};

fn main() -> Result<(), Box<dyn Error>> {
    let seconds: f64 = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1.0);
    let started = Instant::now();
    let generator = Generator::new()?;
    let style = generator.style(&StyleKey::PUBLIC);
    println!("{{\"load_ms\":{:.1}}}", started.elapsed().as_secs_f64() * 1e3);
    let names: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |name: &str, all: &[&str]| {
        names.iter().any(|said| said == name)
            || !names.iter().any(|said| all.contains(&said.as_str()))
    };
    let (variants, carriers) =
        (Variant::ALL.map(Variant::as_str), Carrier::ALL.map(Carrier::as_str));
    for variant in Variant::ALL.into_iter().filter(|it| chosen(it.as_str(), &variants)) {
        let carriers = Carrier::ALL.into_iter().filter(|it| chosen(it.as_str(), &carriers));
        for carrier in carriers.filter(|carrier| carrier.carries(variant, AnswerMode::Typed)) {
            for level in [1, 5, 10] {
                let spec = Spec::new(variant, Level::new(level)?).with_carrier(carrier);
                println!("{}", measure(&generator, &style, &spec, seconds)?);
            }
        }
    }
    Ok(())
}

fn measure(
    generator: &Generator,
    style: &Style,
    spec: &Spec,
    seconds: f64,
) -> Result<String, Box<dyn Error>> {
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    let mut encodings = Vec::new();
    let budget = Duration::from_secs_f64(seconds);
    let started = Instant::now();
    let mut number = 0_u64;
    while started.elapsed() < budget {
        number += 1;
        let seed = numbered(number);
        let from = Instant::now();
        let rendered = black_box(generator.render(spec, style, &seed)?);
        times.push(from.elapsed());
        sizes.push(rendered.media.bytes.len());
        if number.is_multiple_of(16) && spec.carrier == Carrier::Ink {
            let canvas = generator.canvas(spec, style, &seed)?;
            black_box(canvas.encode()?);
            let from = Instant::now();
            black_box(canvas.encode()?);
            encodings.push(from.elapsed());
        }
    }
    let total: Duration = times.iter().sum();
    let p50 = quantile(&mut times, 0.5).as_secs_f64() * 1e6;
    let p99 = quantile(&mut times, 0.99).as_secs_f64() * 1e6;
    let encoder = if encodings.is_empty() {
        String::new()
    } else {
        let encode = quantile(&mut encodings, 0.5).as_secs_f64() * 1e6;
        format!("\"encode_us\":{encode:.1},\"ratio\":{:.2},", p50 / encode)
    };
    Ok(format!(
        "{{\"variant\":\"{}\",\"carrier\":\"{}\",\"level\":{},\"images_per_s\":{:.0},\
         \"p50_us\":{p50:.1},\"p99_us\":{p99:.1},{encoder}\"bytes_p50\":{},\"bytes_max\":{}}}",
        spec.variant,
        spec.carrier,
        spec.level,
        times.len() as f64 / total.as_secs_f64(),
        quantile(&mut sizes, 0.5),
        sizes.iter().max().copied().unwrap_or_default(),
    ))
}

fn numbered(number: u64) -> Seed {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Seed::from_bytes(bytes)
}

fn quantile<T: Ord + Copy + Default>(values: &mut [T], share: f64) -> T {
    values.sort_unstable();
    let index = (values.len().saturating_sub(1)) as f64 * share;
    values.get(index as usize).copied().unwrap_or_default()
}

//! `fortify bench`: how fast this machine draws challenges, one JSON line per task, rendering and level.

use std::io::Write;
use std::time::{Duration, Instant};

use fortify_captcha::{
    AnswerMode, Carrier, Generator, Level, Seed, Spec, Style, StyleKey, Variant,
};
use serde::Serialize;

use super::CliError;
use super::progress::Progress;

/// The levels that are measured: the easiest, the middle and the hardest.
const LEVELS: [u8; 3] = [1, 5, 10];

/// The arguments of `fortify bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds to measure for each line.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Line {
    variant: &'static str,
    carrier: &'static str,
    level: u8,
    mode: &'static str,
    images_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    bytes_p50: usize,
    bytes_max: usize,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    if !(0.01..=600.0).contains(&args.seconds) {
        return Err(CliError::Usage("--seconds: use 0.01 to 600".to_owned()));
    }
    let generator = Generator::new().map_err(CliError::failed)?;
    let style = generator.style(&StyleKey::PUBLIC);
    let pairs = Variant::ALL.into_iter().flat_map(|v| Carrier::ALL.map(|c| (v, c)));
    let pairs: Vec<_> = pairs.filter(|(v, c)| c.carries(*v, AnswerMode::Typed)).collect();
    let progress = Progress::new((pairs.len() * LEVELS.len()) as u64, "measuring");
    for (variant, carrier) in pairs {
        for level in LEVELS {
            let level = Level::new(level).map_err(CliError::failed)?;
            let spec = Spec::new(variant, level).with_carrier(carrier);
            let line = measure(&generator, &style, &spec, Duration::from_secs_f64(args.seconds))?;
            let line = serde_json::to_string(&line).map_err(CliError::failed)?;
            let written = progress.beside(|| writeln!(out, "{line}"));
            written.map_err(|e| CliError::output(&e))?;
            progress.add(1);
        }
    }
    Ok(())
}

/// The pictures that one core draws in a second at `level`, measured for `time`, each kind as often as any other.
pub(super) fn pictures_per_second(level: u8, time: Duration) -> Result<f64, CliError> {
    let generator = Generator::new().map_err(CliError::failed)?;
    let style = generator.style(&StyleKey::PUBLIC);
    let level = Level::new(level).map_err(CliError::failed)?;
    let pairs = Variant::ALL.into_iter().flat_map(|v| Carrier::ALL.map(|c| (v, c)));
    let pairs: Vec<_> = pairs.filter(|(v, c)| c.carries(*v, AnswerMode::Typed)).collect();
    let each = time / u32::try_from(pairs.len()).unwrap_or(1).max(1);
    let mut seconds = 0.0;
    for (variant, carrier) in &pairs {
        let spec = Spec::new(*variant, level).with_carrier(*carrier);
        let line = measure(&generator, &style, &spec, each)?;
        // Of each kind at least one was drawn.
        seconds += 1.0 / line.images_per_s.max(1.0);
    }
    Ok(pairs.len() as f64 / seconds.max(f64::EPSILON))
}

fn measure(
    generator: &Generator,
    style: &Style,
    spec: &Spec,
    time: Duration,
) -> Result<Line, CliError> {
    let (mut micros, mut bytes) = (Vec::new(), Vec::new());
    let started = Instant::now();
    let mut drawn: u64 = 0;
    while started.elapsed() < time {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&drawn.to_le_bytes());
        let one = Instant::now();
        let seed = Seed::from_bytes(seed);
        let rendered = generator.render(spec, style, &seed).map_err(CliError::failed)?;
        micros.push(one.elapsed().as_secs_f64() * 1e6);
        bytes.push(rendered.media.bytes.len());
        drawn += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    micros.sort_by(f64::total_cmp);
    bytes.sort_unstable();
    Ok(Line {
        variant: spec.variant.as_str(),
        carrier: spec.carrier.as_str(),
        level: spec.level.get(),
        mode: spec.mode.as_str(),
        images_per_s: (micros.len() as f64 / seconds).round(),
        p50_us: at(&micros, 0.5),
        p99_us: at(&micros, 0.99),
        bytes_p50: at(&bytes, 0.5),
        bytes_max: at(&bytes, 1.0),
    })
}

/// The value at `quantile` of a sorted list; the default of an empty one.
fn at<T: Copy + Default>(sorted: &[T], quantile: f64) -> T {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * quantile) as usize).copied().unwrap_or_default()
}

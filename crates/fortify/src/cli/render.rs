//! `fortify render`: challenges as files, with their answers beside them.
//!
//! For inspecting what visitors get, and for the lab that attacks it. The same seed gives the same bytes, so a
//! command line identifies a corpus.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fortify_captcha::{
    Answer, AnswerMode, Carrier, Choice, Generator, Level, Rendered, Seed, Spec, StyleKey, Variant,
};
use sha2::{Digest, Sha256};

use super::CliError;
use super::progress::Progress;
use fortify_engine::challenge::policy::{ChallengeMix, ChallengeRequest};
use fortify_web::i18n::{Locale, Locales};

/// The columns of `labels.csv`.
const COLUMNS: &str =
    "file,variant,level,mode,answer,question,choices,width,height,bytes,carrier,decoy";

/// The most pictures that one call may write; a training set of the lab has 20,000.
const MAX_COUNT: u32 = 1_000_000;

/// The arguments of `fortify render`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The task: distorted_text, arithmetic, object_recognition, pattern_completion,
    /// color_text_mismatch, or all.
    #[arg(long, default_value = "all")]
    variant: String,
    /// The rendering: ink, swirl, motion, or all. All leaves out renderings that a task does not have.
    #[arg(long, default_value = "ink")]
    carrier: String,
    /// Draw tasks and renderings in the proportions of a gate with the default configuration.
    #[arg(long, conflicts_with_all = ["variant", "carrier"])]
    mix: bool,
    /// Difficulty, 1 to 10.
    #[arg(long, default_value_t = 2)]
    level: u8,
    /// How the answer is given: typed or choice.
    #[arg(long, default_value = "typed")]
    mode: String,
    /// How many pictures of each task in each rendering; with --mix, how many in all.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_COUNT)))]
    count: u32,
    /// Characters of a distorted_text, 4 to 8.
    #[arg(long, default_value_t = 6)]
    length: u8,
    /// Up to 64 hexadecimal digits that determine the whole set.
    #[arg(long, default_value = "00")]
    seed: String,
    /// The style to draw in, 64 hexadecimal digits; by default, a public one.
    #[arg(long)]
    style: Option<String>,
    /// The folder to write to; created if it does not exist.
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    let usage = |error: String| CliError::Usage(error);
    let level = Level::new(args.level).map_err(|e| usage(format!("--level: {e}")))?;
    let mode: AnswerMode = args.mode.parse().map_err(|e| usage(format!("--mode: {e}")))?;
    let kinds = kinds(args, level, mode)?;
    let seeds = Seeds::parse(&args.seed)?;
    let generator = Generator::new().map_err(CliError::failed)?;
    let style = generator.style(&style_key(args.style.as_deref())?);
    let locales = Locales::load().map_err(CliError::failed)?;
    let (mut labels, path) = create_labels(&args.out)?;
    let progress = Progress::new(kinds.len() as u64 * u64::from(args.count), "drawing");
    let all = kinds.iter().flat_map(|kind| (0..args.count).map(move |index| (kind, index)));
    for (kind, index) in all {
        let spec = match kind {
            Kind::Named(spec) => *spec,
            Kind::Mix(mix) => mix.choose(ChallengeRequest::default(), seeds.draws(mix, index)),
        };
        let rendered = generator
            .render(&spec, &style, &seeds.at(&spec, index))
            .map_err(|e| usage(e.to_string()))?;
        let file = file_name(&spec, index);
        write_file(&args.out.join(&file), &rendered.media.bytes)?;
        let line = label(&file, &spec, &rendered, locales.negotiate(None));
        writeln!(labels, "{line}").map_err(|e| write_error(&path, &e))?;
        progress.add(1);
    }
    drop(progress);
    labels.flush().map_err(|e| write_error(&path, &e))?;
    writeln!(out, "{}", path.display()).map_err(|e| CliError::output(&e))
}

/// The pictures of a part of the set.
enum Kind {
    /// The same task in the same rendering.
    Named(Spec),
    /// The gate's choice from this mix.
    Mix(ChallengeMix),
}

fn kinds(args: &Args, level: Level, mode: AnswerMode) -> Result<Vec<Kind>, CliError> {
    let length = args.length;
    if args.mix {
        let (variants, carriers) = (Vec::new(), Vec::new());
        return Ok(vec![Kind::Mix(ChallengeMix { level, mode, length, variants, carriers })]);
    }
    let variants: Vec<Variant> = named("--variant", &args.variant, &Variant::ALL)?;
    let carriers: Vec<Carrier> = named("--carrier", &args.carrier, &Carrier::ALL)?;
    let pairs = variants.iter().flat_map(|v| carriers.iter().map(move |c| (*v, *c)));
    // A pair of two names is not left out: the engine says why it cannot draw it.
    let both_named = args.variant != "all" && args.carrier != "all";
    let is_drawn = |(v, c): &(Variant, Carrier)| both_named || c.carries(*v, mode);
    let spec = |(variant, carrier)| {
        Kind::Named(Spec { mode, length, ..Spec::new(variant, level).with_carrier(carrier) })
    };
    Ok(pairs.filter(is_drawn).map(spec).collect())
}

/// Parses a style key; the public one by default.
fn style_key(hex: Option<&str>) -> Result<StyleKey, CliError> {
    let read =
        |hex: &str| StyleKey::from_hex(hex).map_err(|e| CliError::Usage(format!("--style: {e}")));
    hex.map_or(Ok(StyleKey::PUBLIC), read)
}

/// All of `all`, or the one that `name` names.
fn named<T: Copy + FromStr>(option: &str, name: &str, all: &[T]) -> Result<Vec<T>, CliError>
where
    T::Err: Display,
{
    if name == "all" {
        return Ok(all.to_vec());
    }
    name.parse().map(|one| vec![one]).map_err(|e| CliError::Usage(format!("{option}: {e}")))
}

/// Task, rendering, level and number.
fn file_name(spec: &Spec, index: u32) -> String {
    let (variant, carrier, level) = (spec.variant, spec.carrier, spec.level.get());
    format!("{variant}-{carrier}-{level:02}-{index:06}.png")
}

/// The seeds of a set. Each is a hash of the set's seed, the task and the index, so pictures of two tasks or
/// levels do not share their randomness.
struct Seeds(Vec<u8>);

impl Seeds {
    fn parse(hex: &str) -> Result<Self, CliError> {
        let digits: Option<Vec<u8>> =
            hex.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        match digits {
            Some(digits) if (1..=64).contains(&digits.len()) => Ok(Self(digits)),
            _ => Err(CliError::Usage("--seed: use 1 to 64 hexadecimal digits".to_owned())),
        }
    }

    fn at(&self, spec: &Spec, index: u32) -> Seed {
        let name = format!("{}/{}/{}", spec.variant, spec.carrier, spec.mode);
        Seed::from_bytes(self.bytes(&name, spec.level, index))
    }

    /// The random numbers that choose the task and rendering of a picture of a mix.
    fn draws(&self, mix: &ChallengeMix, index: u32) -> [u32; 2] {
        let [a, b, c, d, e, f, g, h, ..] =
            self.bytes(&format!("mix/{}", mix.mode), mix.level, index);
        [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes)
    }

    fn bytes(&self, name: &str, level: Level, index: u32) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [self.0.as_slice(), name.as_bytes(), &[level.get()]] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(index.to_le_bytes());
        hash.finalize().into()
    }
}

/// The seed of picture `index` of a set, for a test to draw it elsewhere.
#[cfg(test)]
pub(super) fn seed(set: &str, spec: &Spec, index: u32) -> Result<Seed, CliError> {
    Seeds::parse(set).map(|seeds| seeds.at(spec, index))
}

fn label(file: &str, spec: &Spec, rendered: &Rendered, locale: Locale<'_>) -> String {
    let puzzle = &rendered.puzzle;
    [
        file,
        spec.variant.as_str(),
        &spec.level.get().to_string(),
        spec.mode.as_str(),
        &puzzle.answer.reveal(),
        &locale.question(&puzzle.question, spec.mode),
        &puzzle.choices.iter().map(Choice::value).collect::<Vec<_>>().join("|"),
        &rendered.media.width.to_string(),
        &rendered.media.height.to_string(),
        &rendered.media.bytes.len().to_string(),
        spec.carrier.as_str(),
        &puzzle.decoy.as_ref().map(Answer::reveal).unwrap_or_default(),
    ]
    .map(quote)
    .join(",")
}

/// A CSV field, quoted if necessary (RFC 4180).
fn quote(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn create_labels(dir: &Path) -> Result<(BufWriter<File>, PathBuf), CliError> {
    let path = dir.join("labels.csv");
    fs::create_dir_all(dir).map_err(|e| write_error(dir, &e))?;
    let mut labels = BufWriter::new(File::create(&path).map_err(|e| write_error(&path, &e))?);
    writeln!(labels, "{COLUMNS}").map_err(|e| write_error(&path, &e))?;
    Ok((labels, path))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    fs::write(path, bytes).map_err(|e| write_error(path, &e))
}

fn write_error(path: &Path, error: &std::io::Error) -> CliError {
    CliError::Failed(format!(
        "{}: cannot write: {error}; give --out a folder that you may write to, with enough free space",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use fortify_captcha::{carrier_weights, variant_weights};

    use super::super::Cli;
    use super::*;

    /// How many pairs of a task and a rendering there are.
    fn pairs() -> usize {
        let shown = |carrier: Carrier| {
            Variant::ALL.into_iter().filter(move |v| carrier.carries(*v, AnswerMode::Typed))
        };
        Carrier::ALL.into_iter().flat_map(shown).count()
    }

    fn args(out: &Path, seed: &str) -> Args {
        Args {
            variant: "all".to_owned(),
            carrier: "all".to_owned(),
            mix: false,
            level: 5,
            mode: "typed".to_owned(),
            count: 3,
            length: 6,
            seed: seed.to_owned(),
            style: None,
            out: out.to_owned(),
        }
    }

    fn contents(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn the_same_seed_writes_the_same_bytes_and_another_others() {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        for (dir, seed) in dirs.iter().zip(["a1", "a1", "a2"]) {
            run(&args(dir.path(), seed), &mut Vec::new()).unwrap();
        }
        let [a, b, c] = [0, 1, 2].map(|i| contents(dirs[i].path()));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(a.len(), 3 * pairs() + 1);
        let labels = fs::read_to_string(dirs[0].path().join("labels.csv")).unwrap();
        assert_eq!(labels.lines().count(), 3 * pairs() + 1);
        assert!(labels.starts_with(COLUMNS));
    }

    #[test]
    fn pairs_that_are_not_drawn_are_left_out_of_all_tasks_in_one_carrier() {
        let dir = tempfile::tempdir().unwrap();
        let (carrier, mode) = ("ink".to_owned(), "choice".to_owned());
        run(&Args { carrier, mode, ..args(dir.path(), "00") }, &mut Vec::new()).unwrap();
        let written = contents(dir.path());
        let shown = |variant: &Variant| Carrier::Ink.carries(*variant, AnswerMode::Choice);
        assert_eq!(written.len(), 3 * Variant::ALL.iter().filter(|v| shown(v)).count() + 1);
        let names = written.iter().map(|(name, _)| name.to_string_lossy());
        assert!(names.into_iter().all(|name| !name.starts_with("distorted_text")));
    }

    /// 300 pictures of the nine pairs of level 5: the rarest has 5 % and is missing once in five million seeds.
    #[test]
    fn a_mix_has_every_pair_of_the_level_and_is_the_same_twice() {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        for (dir, seed) in dirs.iter().zip(["a1", "a1", "a2"]) {
            let args = Args { mix: true, count: 300, ..args(dir.path(), seed) };
            run(&args, &mut Vec::new()).unwrap();
        }
        let [a, b, c] = [0, 1, 2].map(|i| contents(dirs[i].path()));
        assert!(a == b && a != c);
        assert_eq!(a.len(), 301);
        let names: Vec<String> =
            a.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        for (variant, weight) in variant_weights(Level::new(5).unwrap()) {
            let of = |name: &&String| name.starts_with(variant.as_str());
            let share = names.iter().filter(of).count() as f64 / 300.0;
            assert!((share - f64::from(*weight) / 100.0).abs() < 0.15, "{variant}: {share}");
            for (carrier, _) in carrier_weights(Level::new(5).unwrap()) {
                let pair = format!("{variant}-{carrier}-05-");
                assert!(names.iter().any(|name| name.starts_with(&pair)), "{pair}");
            }
        }
    }

    /// A row of `labels.csv`.
    #[derive(Debug, PartialEq)]
    struct Row {
        file: String,
        variant: String,
        mode: String,
        answer: String,
        carrier: String,
        decoy: String,
    }

    /// The rows. The question, which may be quoted, is between the fields that are read here.
    fn rows(dir: &Path) -> Vec<Row> {
        let labels = fs::read_to_string(dir.join("labels.csv")).unwrap();
        let row = |line: &str| {
            let mut first = line.splitn(6, ',').map(str::to_owned);
            let mut last = line.rsplitn(3, ',').map(str::to_owned);
            let [file, variant, _, mode, answer] = [(); 5].map(|()| first.next().unwrap());
            let [decoy, carrier] = [(); 2].map(|()| last.next().unwrap());
            assert!(!answer.contains('"') && !decoy.contains('"'), "{line}");
            Row { file, variant, mode, answer, carrier, decoy }
        };
        labels.lines().skip(1).map(row).collect()
    }

    #[test]
    fn every_row_has_its_carrier_and_what_only_programs_see_where_there_is_such() {
        for mode in AnswerMode::ALL {
            let dir = tempfile::tempdir().unwrap();
            let args = Args { mode: mode.to_string(), ..args(dir.path(), "a1") };
            run(&args, &mut Vec::new()).unwrap();
            let rows = rows(dir.path());
            assert!(rows.iter().any(|row| row.carrier == "motion"));
            for row in rows {
                let name = format!("{}-{}-05-", row.variant, row.carrier);
                assert!(row.file.starts_with(&name) && row.mode == mode.as_str(), "{row:?}");
                let decoyed = row.carrier == "motion" && mode == AnswerMode::Typed;
                assert_eq!(!row.decoy.is_empty(), decoyed, "{row:?}");
                assert_ne!(row.decoy, row.answer, "{row:?}");
            }
        }
    }

    #[test]
    fn a_style_changes_every_picture_and_no_answer_and_is_the_same_twice() {
        let style = |digit: &str| Some(digit.repeat(64));
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        for (dir, style) in dirs.iter().zip([None, style("a"), style("a"), style("b")]) {
            run(&Args { count: 1, style, ..args(dir.path(), "a1") }, &mut Vec::new()).unwrap();
        }
        let [public, once, twice, other] = [0, 1, 2, 3].map(|i| contents(dirs[i].path()));
        assert!(once == twice);
        for (one, another) in [(&public, &once), (&once, &other)] {
            for (name, bytes) in one.iter().filter(|(name, _)| name != "labels.csv") {
                let there = another.iter().any(|(of, drawn)| of == name && drawn != bytes);
                assert!(there, "{name:?} has no style");
            }
        }
        assert_eq!(rows(dirs[0].path()), rows(dirs[1].path()));
        assert_eq!(rows(dirs[0].path()), rows(dirs[3].path()));
    }

    #[test]
    fn the_help_names_every_task_and_carrier() {
        let error = Cli::try_parse_from(["fortify", "render", "--help"]).unwrap_err().to_string();
        let options: Vec<&str> = error.split("  --").collect();
        let help = |option: &str| options.iter().find(|text| text.starts_with(option)).unwrap();
        for variant in Variant::ALL {
            assert!(help("variant").contains(variant.as_str()), "{variant}");
        }
        for carrier in Carrier::ALL {
            assert!(help("carrier").contains(carrier.as_str()), "{carrier}");
        }
        let lengths = format!("{} to {}", Spec::LENGTHS.start(), Spec::LENGTHS.end());
        assert!(help("length").contains(&lengths));
    }

    #[test]
    fn a_mix_is_of_no_other_tasks_or_carriers() {
        for other in [["--variant", "arithmetic"], ["--carrier", "ink"]] {
            let args = ["fortify", "render", "--mix", "--out", "x"].into_iter().chain(other);
            let error = Cli::try_parse_from(args).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
        }
    }

    #[test]
    fn picked_texts_and_sums_in_ink_are_refused_with_a_word_of_what_to_use() {
        let dir = tempfile::tempdir().unwrap();
        let (ink, choice) = ("ink".to_owned(), "choice".to_owned());
        let variant = "arithmetic".to_owned();
        let args = Args { variant, carrier: ink, mode: choice, ..args(dir.path(), "00") };
        let error = run(&args, &mut Vec::new()).unwrap_err();
        assert!(matches!(&error, CliError::Usage(_)), "{error}");
        assert!(error.to_string().contains("arithmetic with the answer mode choice; use motion"));
    }

    #[test]
    fn bad_arguments_are_usage_errors() {
        let dir = tempfile::tempdir().unwrap();
        let wrong: [fn(&mut Args); 6] = [
            |a| a.style = Some("00".to_owned()),
            |a| a.variant = "puzzle".to_owned(),
            |a| a.level = 11,
            |a| a.mode = "spoken".to_owned(),
            |a| a.seed = "xyz".to_owned(),
            |a| a.length = 99,
        ];
        for change in wrong {
            let mut args = args(dir.path(), "00");
            change(&mut args);
            assert!(matches!(run(&args, &mut Vec::new()), Err(CliError::Usage(_))), "{args:?}");
        }
    }
}

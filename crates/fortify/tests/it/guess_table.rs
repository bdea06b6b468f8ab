//! The tables in `docs/guessing.md`: how often a guess succeeds that never looked at the picture,
//! computed from the real alphabets, choices, tolerances and limits.
//!
//! When the tables change, rewrite them with
//! `FORTIFY_WRITE_DOCS=1 cargo test -p fortify --test it guess_table`.

use std::fmt::Write as _;
use std::time::Duration;

use fortify_captcha::{
    AnswerMode, Carrier, Level, Spec, Tolerance, Variant, carrier_weights, guess_probability,
    variant_weights,
};
use fortify_config::Config;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::table::{Basis, LevelPolicy, LevelTable};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guessing.md");
const SECURITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../SECURITY.md");
const HOUR: Duration = Duration::from_secs(3600);
const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
];
const MARK: &str = "<!-- the tables below are written by the test guess_table -->\n";

/// What a guesser gets who asks for other pictures until he has the easiest that the level draws.
pub(super) fn easiest(level: Level, mode: AnswerMode) -> f64 {
    let tasks = variant_weights(level).iter().map(|(variant, _)| *variant);
    // "Show letters instead" is always there.
    let tasks = tasks.chain([Variant::DistortedText]);
    let drawn = tasks.flat_map(|variant| {
        let shows = |carrier: &Carrier| carrier.carries(variant, mode);
        let own = carrier_weights(level).iter().map(|(carrier, _)| *carrier).filter(shows);
        let mut carriers: Vec<Carrier> = own.collect();
        if carriers.is_empty() {
            carriers.extend(Carrier::ALL.into_iter().filter(shows));
        }
        carriers.into_iter().map(move |carrier| per_try(variant, carrier, level, mode))
    });
    drawn.fold(0.0, f64::max)
}

fn per_try(variant: Variant, carrier: Carrier, level: Level, mode: AnswerMode) -> f64 {
    let mut spec = Spec::new(variant, level).with_carrier(carrier);
    spec.mode = mode;
    // Carriers with large letters show four of them.
    spec.length = if carrier == Carrier::Ink { Config::default().captcha.length } else { 4 };
    guess_probability(&spec, Tolerance::for_level(level))
}

/// When a circuit can give its wrong answers, from its first one on, if it gives each at once.
fn tries() -> impl Iterator<Item = Duration> {
    let waits = Config::default().limits.failure_waits;
    (1..).scan(Duration::ZERO, move |next, number| {
        let at = *next;
        *next += waits.after(number);
        Some(at)
    })
}

/// How many of them come in its first hour.
fn tries_in_an_hour() -> i32 {
    i32::try_from(tries().take_while(|at| *at < HOUR).count()).unwrap()
}

/// In an hour in which every try is used.
fn per_hour(once: f64) -> f64 {
    1.0 - (1.0 - once).powi(tries_in_an_hour())
}

fn percent(share: f64) -> String {
    if share >= 0.0005 { format!("{:.2} %", share * 100.0) } else { format!("{share:.1e}") }
}

/// What a table says of a chance per try.
type Figure = fn(f64) -> f64;

/// A row of a table: what is said of its levels, by the figure.
fn row(text: &mut String, name: &str, figures: [f64; 10]) {
    write!(text, "| {name} |").unwrap();
    for figure in figures {
        write!(text, " {} |", percent(figure)).unwrap();
    }
    *text += "\n";
}

/// Carriers in which a task is worth the same share a row.
fn rows(text: &mut String, mode: AnswerMode, figure: Figure) {
    for variant in Variant::ALL {
        let mut rows: Vec<(Vec<String>, [f64; 10])> = Vec::new();
        for carrier in Carrier::ALL.into_iter().filter(|c| c.carries(variant, mode)) {
            let figures = Level::ALL.map(|level| figure(per_try(variant, carrier, level, mode)));
            let name = format!("`{carrier}`");
            match rows.iter_mut().find(|(_, other)| *other == figures) {
                Some((carriers, _)) => carriers.push(name),
                None => rows.push((vec![name], figures)),
            }
        }
        for (carriers, figures) in rows {
            row(text, &format!("`{variant}` | {}", carriers.join(", ")), figures);
        }
    }
    let easiest = Level::ALL.map(|level| figure(easiest(level, mode)));
    row(text, "the easiest of the level |", easiest);
}

fn tables() -> String {
    let mut text = String::from(MARK);
    for (mode, answers) in [(AnswerMode::Typed, "Typed"), (AnswerMode::Choice, "Picked")] {
        let tries: (&str, Figure) = ("per try", |once| once);
        for (unit, figure) in [tries, ("per circuit and hour", per_hour)] {
            write!(text, "\n## {answers}, {unit}\n\n| Task | Carrier |").unwrap();
            for level in Level::ALL {
                write!(text, " {level} |").unwrap();
            }
            text += "\n|---|---|---|---|---|---|---|---|---|---|---|---|\n";
            rows(&mut text, mode, figure);
        }
    }
    text
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_table_in_the_docs_is_the_computed_one() {
    let written = std::fs::read_to_string(PATH).unwrap();
    let (prose, found) = written.split_at(written.find(MARK).unwrap());
    let computed = tables();
    if std::env::var_os("FORTIFY_WRITE_DOCS").is_some() {
        std::fs::write(PATH, format!("{prose}{computed}")).unwrap();
        return;
    }
    assert_eq!(found, computed, "docs/guessing.md is out of date; see this file's head");
}

#[test]
fn what_the_prose_says_of_limits_is_what_they_are() {
    if std::env::var_os("FORTIFY_WRITE_DOCS").is_some() {
        // The other test is about to write what this one reads.
        return;
    }
    let written = std::fs::read_to_string(PATH).unwrap();
    let prose = on_one_line(written.split(MARK).next().unwrap());
    let says = |sentence: String| assert!(prose.contains(&sentence), "it does not say: {sentence}");
    let config = Config::default();

    let first = usize::try_from(tries_in_an_hour()).unwrap();
    says(format!("which are {} by `limits.failure_waits_seconds`", NUMBERS[first]));
    let later = tries().skip_while(|at| *at < HOUR).take_while(|at| *at < HOUR * 2).count();
    says(format!("has {} tries in each later one", NUMBERS[later]));
    // So many tries, and then a pause until all are forgotten: the best of them.
    let forgotten = config.security.reputation_decay;
    let paused = (1_u32..=20).zip(tries()).map(|(count, at)| {
        (f64::from(count) * HOUR.as_secs_f64() / (at + forgotten).as_secs_f64(), count)
    });
    let (an_hour, count) = paused.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap();
    says(format!(
        "pauses after every {} until they are forgotten (`security.reputation_decay_seconds`) has {an_hour:.1}",
        NUMBERS[count as usize]
    ));

    let table = LevelTable::new(&Basis::default(), &[]);
    let column =
        |of: fn(&LevelPolicy) -> u32| ThreatLevel::ALL.map(|level| of(table.policy(level)));
    let challenges = column(|row| row.challenges_per_hour);
    assert!(challenges[5..].iter().all(|count| *count == challenges[5]));
    assert!(challenges[4] > challenges[5]);
    says(format!("from level 6 on {} challenges an hour", challenges[5]));
    let stages = column(|row| row.stages.into());
    assert!(stages[..8].iter().all(|count| *count == 1));
    let [two, three] = [stages[8], stages[9]].map(|count| NUMBERS[count as usize]);
    says(format!("Levels 9 and 10 ask for {two} and {three} right answers in a row"));

    let picked = Level::ALL.map(|level| per_hour(easiest(level, AnswerMode::Choice)));
    let options = 1.0 / easiest(Level::ALL[9], AnswerMode::Choice);
    let [options, tries] = [options.round() as usize, first].map(|count| NUMBERS[count]);
    assert!((0.5..0.6).contains(&picked[9]));
    says(format!("with {options} options and {tries} tries, half of all circuits"));

    let typed = Level::ALL.map(|level| per_hour(easiest(level, AnswerMode::Typed)));
    let security = on_one_line(&std::fs::read_to_string(SECURITY).unwrap());
    assert!(security.contains("more than a third at levels 1 and 2, a seventh from 3 on"));
    assert!(typed[..2].iter().all(|share| (1.0 / 3.0..0.4).contains(share)), "{typed:?}");
    let seventh = |share: &f64| (1.0 / 7.5..1.0 / 6.5).contains(share);
    assert!(typed[2..].iter().all(seventh), "{typed:?}");
}

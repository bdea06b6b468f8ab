//! The table in `docs/guessing.md`: how often a guess succeeds that never looked at the picture,
//! computed from the real alphabets, choices and tolerances.
//!
//! When the table changes, write it anew with
//! `FORTIFY_WRITE_DOCS=1 cargo test -p fortify --test guess_table`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::time::Duration;

use fortify::config::Config;
use fortify_captcha::{
    AnswerMode, Carrier, Level, Spec, Tolerance, Variant, carrier_weights, guess_probability,
    variant_weights,
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guessing.md");
const MARK: &str = "<!-- the tables below are written by the test guess_table -->\n";

/// What a guesser gets who asks for other pictures until he has the easiest that the level draws.
fn easiest(level: Level, mode: AnswerMode) -> f64 {
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

/// Wrong answers that a circuit can give in an hour, from its first one on.
fn tries() -> i32 {
    let waits = Config::default().limits.failure_waits;
    let (mut tries, mut at) = (0, Duration::ZERO);
    while at < Duration::from_secs(3600) {
        tries += 1;
        at += waits.after(tries);
    }
    i32::try_from(tries).unwrap()
}

/// In an hour in which every try is used.
fn per_hour(once: f64) -> f64 {
    1.0 - (1.0 - once).powi(tries())
}

fn percent(share: f64) -> String {
    if share >= 0.0005 { format!("{:.2} %", share * 100.0) } else { format!("{share:.1e}") }
}

fn tables() -> String {
    let mut text = String::from(MARK);
    for (mode, title) in [(AnswerMode::Typed, "Typed"), (AnswerMode::Choice, "Picked")] {
        write!(text, "\n## {title}\n\n| Task | Carrier |").unwrap();
        for level in Level::ALL {
            write!(text, " {level} |").unwrap();
        }
        text += "\n|---|---|---|---|---|---|---|---|---|---|---|---|\n";
        for variant in Variant::ALL {
            for carrier in Carrier::ALL.into_iter().filter(|c| c.carries(variant, mode)) {
                write!(text, "| `{variant}` | `{carrier}` |").unwrap();
                for level in Level::ALL {
                    write!(text, " {} |", percent(per_try(variant, carrier, level, mode))).unwrap();
                }
                text += "\n";
            }
        }
        write!(text, "| the easiest of the level | per circuit and hour |").unwrap();
        for level in Level::ALL {
            write!(text, " {} |", percent(per_hour(easiest(level, mode)))).unwrap();
        }
        text += "\n";
    }
    text
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

//! The tables in `docs/economics.md`: what sessions and admitted pages cost an attacker, computed from the level table, the
//! limits and the chances of a guess.
//!
//! When they change, rewrite them with
//! `FORTIFY_WRITE_DOCS=1 cargo test --workspace --test it economics`.

use std::fmt::Write as _;

use fortify_captcha::{AnswerMode, Level};
use fortify_config::Config;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::table::{Basis, LevelPolicy, LevelTable};

use super::guess_table::easiest;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/economics.md");
const MARK: &str = "<!-- the tables below are written by the test economics -->\n";

/// Dollars for a picture that a farm types, and the share that it types right.
const FARM: f64 = 0.001;
const FARM_RIGHT: f64 = 0.85;

/// Dollars for one look of a vision model, as if every look were right.
const VISION: f64 = 0.004;

/// Pages of the second table.
const MILLION: f64 = 1e6;

/// What a level says that costs an attacker something.
struct Row {
    level: Level,
    stages: f64,
    pages: f64,
    /// Pages that a circuit gets in an hour at the full rate.
    a_circuit: f64,
}

impl Row {
    fn of(policy: &LevelPolicy) -> Self {
        let pages = f64::from(policy.pages_per_session);
        let in_an_hour = f64::from(policy.pages_per_minute * 60 + policy.page_burst);
        Self {
            level: policy.level.difficulty(),
            stages: f64::from(policy.stages),
            pages,
            a_circuit: f64::from(policy.sessions_per_hour) * pages.min(in_an_hour),
        }
    }

    /// Sessions that guessing gets in a minute, if it gets all challenges that the service gives out. A wrong answer costs
    /// no stage, so each stage takes as many challenges as it does by itself.
    fn guessed(&self, mode: AnswerMode) -> f64 {
        let challenges = Config::default().limits.service.per_minute;
        f64::from(challenges) * easiest(self.level, mode) / self.stages
    }
}

fn rows() -> [Row; 10] {
    let table = LevelTable::new(&Basis::default(), &[]);
    ThreatLevel::ALL.map(|level| Row::of(table.policy(level)))
}

fn line(text: &mut String, name: &str, figure: impl Fn(&Row) -> f64) {
    write!(text, "| {name} |").unwrap();
    for row in rows() {
        let figure = figure(&row);
        match figure {
            100.0.. => write!(text, " {figure:.0} |").unwrap(),
            _ => write!(text, " {figure:.2} |").unwrap(),
        }
    }
    *text += "\n";
}

fn table(text: &mut String, title: &str, lines: impl FnOnce(&mut String)) {
    write!(text, "\n## {title}\n\n| |").unwrap();
    for level in Level::ALL {
        write!(text, " {level} |").unwrap();
    }
    *text += "\n|---|---|---|---|---|---|---|---|---|---|---|\n";
    lines(text);
}

fn tables() -> String {
    let mut text = String::from(MARK);
    let per_solve = |row: &Row| row.stages * FARM / FARM_RIGHT;
    let per_look = |row: &Row| row.stages * VISION;
    table(&mut text, "A thousand sessions, in dollars", |text| {
        line(text, "a farm", |row| 1000.0 * per_solve(row));
        line(text, "a vision model", |row| 1000.0 * per_look(row));
        line(text, "code written for this gate", |_| 0.0);
        line(text, "the requirement", |_| 5.0);
    });
    table(&mut text, "A million admitted pages, in dollars", |text| {
        line(text, "a farm", |row| MILLION / row.pages * per_solve(row));
        line(text, "a vision model", |row| MILLION / row.pages * per_look(row));
        line(text, "code written for this gate", |_| 0.0);
    });
    table(&mut text, "Circuits for a million admitted pages in an hour", |text| {
        line(text, "whoever solves", |row| (MILLION / row.a_circuit).ceil());
    });
    table(&mut text, "Guessing blindly with all challenges of the service", |text| {
        line(text, "typed, sessions a minute", |row| row.guessed(AnswerMode::Typed));
        line(text, "typed, pages a minute", |row| row.guessed(AnswerMode::Typed) * row.pages);
        line(text, "picked, sessions a minute", |row| row.guessed(AnswerMode::Choice));
        line(text, "picked, pages a minute", |row| row.guessed(AnswerMode::Choice) * row.pages);
    });
    text
}

#[test]
fn the_tables_of_economics_are_the_computed_ones() {
    let written = std::fs::read_to_string(PATH).unwrap();
    let (prose, found) = written.split_at(written.find(MARK).unwrap());
    let computed = tables();
    if std::env::var_os("FORTIFY_WRITE_DOCS").is_some() {
        std::fs::write(PATH, format!("{prose}{computed}")).unwrap();
        return;
    }
    assert_eq!(found, computed, "docs/economics.md is out of date; see this file's head");
}

#[test]
fn a_higher_level_costs_an_attacker_more_for_each_page() {
    let costs = rows().map(|row| row.stages / row.pages);
    assert!(costs.is_sorted(), "{costs:?}");
    assert!(costs[9] > 50.0 * costs[0]);
}

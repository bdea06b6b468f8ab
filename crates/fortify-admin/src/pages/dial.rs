//! The threat level: what each level requires, a preview of a change, its control, and its history.

use askama::Template;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::plot::Plot;
use super::view::{self, STYLE, Shell, by, span, utc};
use crate::chart::Shape;
use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use crate::operations::dial::{self, AutoRequest, DialView, Last, Turn};
use fortify_core::clock::Timestamp;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::history::DialRow;
use fortify_engine::threat::table::{Admits, LevelPolicy};

/// Changes in the table, and changes that the chart is drawn from.
const TURNS: usize = 50;
const DRAWN: u64 = 1000;

/// The chart covers a day, with a column for every ten minutes.
const COLUMNS: u64 = 144;
const COLUMN_SECONDS: u64 = 600;

/// The arguments of the page.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    /// The level to compare with the current one.
    level: Option<u8>,
    /// The keyword of the message to show.
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "dial.html")]
struct DialTemplate {
    shell: Shell,
    level: u8,
    mode: &'static str,
    mode_text: &'static str,
    pause_text: String,
    rows: Vec<LevelView>,
    chosen: Option<u8>,
    changes: Vec<Change>,
    plot: Plot,
    turns: Vec<DialRow>,
}

struct LevelView {
    level: u8,
    /// Whether it is compared with the current level.
    asked: bool,
    cells: Vec<Cell>,
}

struct Cell {
    text: String,
    class: &'static str,
}

struct Change {
    what: &'static str,
    now: String,
    then: String,
}

/// The columns of the table of levels, each with whether its values are numbers.
const COLUMNS_OF_LEVEL: [(&str, bool); 10] = [
    ("Challenges in a row", true),
    ("Tasks", false),
    ("Renderings", false),
    ("Time to answer", true),
    ("Challenges that a circuit may ask for in an hour", true),
    ("Session", true),
    ("What admits", false),
    ("Pages of a session: a minute, at once, in all", true),
    ("Sessions that a circuit may earn in an hour", true),
    ("Connections of a circuit", true),
];

/// Shows the threat level.
pub(super) async fn show(context: Context, args: Show) -> Result<Response, AdminError> {
    page(context, args, None).await
}

async fn page(
    context: Context,
    args: Show,
    error: Option<AdminError>,
) -> Result<Response, AdminError> {
    let shell =
        Shell::new(&context, "/admin/dial", "Threat dial", args.done.as_deref(), error.as_ref());
    let DialView { level, mode, paused_seconds, .. } =
        dial::get(context.clone(), Nothing {}).await?;
    let mut turns = dial::history(context.clone(), Last { last: Some(DRAWN) }).await?.turns;
    let now = context.app().clock.now();
    let plot = Plot::new(
        "Level in the last day",
        &levels(&turns, level, now),
        Shape::Steps,
        Some((0.0, 10.0)),
        level.to_string(),
        "24 h ago".to_owned(),
    );
    turns.reverse();
    turns.truncate(TURNS);
    let texts = ThreatLevel::ALL.map(|level| describe(&context.app().engine.policy_at(level)));
    let chosen = args.level.filter(|chosen| (1..=10).contains(chosen) && *chosen != level);
    let of = |level: u8| texts.get(usize::from(level).wrapping_sub(1));
    let changes = of(level).zip(chosen.and_then(of)).map_or_else(Vec::new, |(now, then)| {
        let pairs = now.iter().zip(then).zip(COLUMNS_OF_LEVEL);
        let changed = pairs.filter(|((now, then), _)| now != then);
        changed
            .map(|((now, then), (what, _))| Change { what, now: now.clone(), then: then.clone() })
            .collect()
    });
    let mut before = None;
    let rows = texts.iter().zip(1..).map(|(texts, level)| {
        let row = LevelView { level, asked: chosen == Some(level), cells: cells(texts, before) };
        before = Some(texts);
        row
    });
    let page = DialTemplate {
        rows: rows.collect(),
        shell,
        level,
        mode,
        mode_text: match mode {
            "auto" => "follows the traffic; operators may set it too",
            "manual" => "only operators set it",
            _ => "pinned until returned to automatic control",
        },
        pause_text: match (mode, paused_seconds) {
            ("auto", 0) => "active".to_owned(),
            ("auto", seconds) => {
                format!("paused for {}, because the level was set by hand", span(seconds))
            }
            _ => "off".to_owned(),
        },
        chosen,
        changes,
        plot,
        turns,
    };
    Ok(view::html_because(&page, error))
}

/// Sets the threat level.
pub(super) async fn set(context: Context, args: Turn) -> Result<Response, AdminError> {
    let show = Show { level: Some(args.level), done: None };
    after(context.clone(), show, "set", dial::set(context, args).await).await
}

/// Pins the threat level.
pub(super) async fn pin(context: Context, args: Turn) -> Result<Response, AdminError> {
    let show = Show { level: Some(args.level), done: None };
    after(context.clone(), show, "pin", dial::pin(context, args).await).await
}

/// Returns the threat level to automatic control.
pub(super) async fn auto(context: Context, args: AutoRequest) -> Result<Response, AdminError> {
    after(context.clone(), Show::default(), "auto", dial::auto(context, args).await).await
}

async fn after(
    context: Context,
    show: Show,
    done: &str,
    turned: Result<DialView, AdminError>,
) -> Result<Response, AdminError> {
    match turned {
        Ok(_) => Ok(view::go("/admin/dial", Some(done))),
        Err(error) => page(context, show, Some(error)).await,
    }
}

/// What a level requires, by [`COLUMNS_OF_LEVEL`].
fn describe(policy: &LevelPolicy) -> [String; 10] {
    let admits = match policy.admits {
        Admits::Either => "a session or a trusted circuit",
        Admits::Session => "a session",
        Admits::Both => "a session on a trusted circuit",
    };
    [
        policy.stages.to_string(),
        shares(policy.tasks().iter().map(|(task, weight)| (task.as_str(), *weight))),
        shares(policy.shown_by().iter().map(|(carrier, weight)| (carrier.as_str(), *weight))),
        span(policy.challenge_ttl.as_secs()),
        policy.challenges_per_hour.to_string(),
        span(policy.session_ttl.as_secs()),
        admits.to_owned(),
        format!("{}, {}, {}", policy.pages_per_minute, policy.page_burst, policy.pages_per_session),
        policy.sessions_per_hour.to_string(),
        policy.connections_per_circuit.to_string(),
    ]
}

/// Weights as shares of a hundred.
fn shares<'a>(weights: impl Iterator<Item = (&'a str, u32)> + Clone) -> String {
    let sum: u64 = weights.clone().map(|(_, weight)| u64::from(weight)).sum();
    let share = |weight: u32| (u64::from(weight) * 100 + sum / 2).checked_div(sum).unwrap_or(0);
    let each = weights.filter(|(_, weight)| *weight > 0);
    let each =
        each.map(|(name, weight)| format!("{} {}\u{a0}%", name.replace('_', " "), share(weight)));
    each.collect::<Vec<_>>().join(", ")
}

/// A level's cells; grey if the level below has the same value.
fn cells(texts: &[String; 10], before: Option<&[String; 10]>) -> Vec<Cell> {
    let all = texts.iter().zip(COLUMNS_OF_LEVEL).enumerate();
    all.map(|(at, (text, (_, is_number)))| {
        let same = before.and_then(|before| before.get(at)) == Some(text);
        let class = match (same, is_number) {
            (true, true) => "n same",
            (true, false) => "same",
            (false, true) => "n",
            (false, false) => "",
        };
        Cell { text: text.clone(), class }
    })
    .collect()
}

/// The level at the end of each column of the last day; `turns` has the oldest change first.
fn levels(turns: &[DialRow], level: u8, now: Timestamp) -> Vec<Option<f64>> {
    let first = turns.first().map_or(level, |turn| turn.from);
    let mut turns = turns.iter().peekable();
    let mut status = first;
    (0..COLUMNS)
        .rev()
        .map(|columns| {
            let end = now.before(std::time::Duration::from_secs(columns * COLUMN_SECONDS));
            while let Some(turn) = turns.next_if(|turn| turn.at <= end) {
                status = turn.to;
            }
            Some(f64::from(status))
        })
        .collect()
}

/// The signals that caused a change, in a line, without those that are 0.
fn signal_text(signals: &Value) -> String {
    let Value::Object(fields) = signals else { return String::new() };
    let some = fields.iter().filter(|(_, value)| value.as_u64().is_some_and(|value| value > 0));
    some.map(|(name, value)| format!("{} {value}", name.replace('_', " ")))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(at: u64, from: u8, to: u8) -> DialRow {
        DialRow {
            at: Timestamp::from_secs(at),
            from,
            to,
            mode: "auto".to_owned(),
            by: "auto".to_owned(),
            reason: String::new(),
            signals: None,
        }
    }

    #[test]
    fn the_chart_has_the_level_of_each_ten_minutes() {
        let now = 1_800_000_000;
        let turns = [turn(now - 90_000, 2, 3), turn(now - 1800, 3, 8), turn(now - 60, 8, 5)];
        let levels = levels(&turns, 5, Timestamp::from_secs(now));
        assert_eq!(levels.len(), 144);
        assert_eq!((levels[0], levels[139], levels[140]), (Some(3.0), Some(3.0), Some(8.0)));
        assert_eq!((levels[142], levels[143]), (Some(8.0), Some(5.0)));
        let none = super::levels(&[], 4, Timestamp::from_secs(now));
        assert!(none.iter().all(|level| *level == Some(4.0)));
    }

    #[test]
    fn signals_and_shares_are_a_line() {
        let signals = serde_json::json!({"active": 0, "new_circuits": 130, "render_ms": 12});
        assert_eq!(signal_text(&signals), "new circuits 130, render ms 12");
        assert_eq!(signal_text(&Value::Null), "");
        let weights = [("a_b", 1), ("c", 2), ("d", 0)];
        assert_eq!(shares(weights.into_iter()), "a b 33\u{a0}%, c 67\u{a0}%");
        assert_eq!(shares([("a", 0)].into_iter()), "");
    }
}

//! The overview: whether the site is under attack, and whether people still get in.

use askama::Template;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::challenges::{Kind, seconds};
use super::plot::Plot;
use super::view::{self, STYLE, Shell, number, percent, tenth};
use crate::chart::Shape;
use crate::error::AdminError;
use crate::figures::Sample;
use crate::handler::{Context, Nothing};
use crate::operations::challenges;
use crate::operations::status::{self, Dependency, Health, Status};

/// Seconds after which the page reloads itself.
const EVERY: u32 = 10;

/// How often it reloads itself: for a quarter of an hour, so that a forgotten page does not keep its session alive.
const MOST_TIMES: u32 = 90;

/// Kinds of challenges to show.
const KINDS: usize = 6;

/// The arguments of the page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    /// `off` stops reloading.
    refresh: Option<String>,
    /// How often the page has reloaded itself.
    auto: Option<u32>,
    /// The keyword of the message to show.
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewTemplate {
    shell: Shell,
    status: Status,
    at: String,
    uptime: String,
    solve_rate: String,
    solve_time: String,
    active: String,
    ready: String,
    queue: String,
    banned: String,
    trusted: String,
    plots: Vec<Plot>,
    parts: Vec<Part>,
    kinds: Vec<Kind>,
}

struct Part {
    name: &'static str,
    look: &'static str,
    state: &'static str,
    without: &'static str,
}

/// Shows the state of the gate.
pub(super) async fn show(context: Context, args: Show) -> Result<Response, AdminError> {
    let mut shell = Shell::new(&context, "/admin", "Overview", args.done.as_deref(), None);
    let times = args.auto.unwrap_or(0);
    if args.refresh.as_deref() != Some("off") && times < MOST_TIMES {
        shell.refresh = Some(format!("{EVERY};url=/admin?auto={}", times + 1));
    }
    let status = status::show(context.clone(), Nothing {}).await?;
    let samples = status::traffic(context.clone(), Nothing {}).await?.samples;
    let answers = challenges::show(context, Nothing {}).await?;
    let mut kinds: Vec<_> = answers.kinds.iter().collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.issued));
    kinds.truncate(KINDS);
    let from = match samples.first() {
        Some(first) => format!("{} ago", view::span(first.at.until(status.at).as_secs() / 60 * 60)),
        None => "now".to_owned(),
    };
    type Count = fn(&Sample) -> u64;
    let rates: [(_, Count, _); 3] = [
        ("Admitted", |sample| sample.admitted, status.per_second.admitted),
        ("Challenged", |sample| sample.challenged, status.per_second.challenged),
        ("Refused", |sample| sample.refused, status.per_second.refused),
    ];
    let plots = rates.map(|(title, read, now)| {
        let now = format!("{} /s", tenth(now));
        Plot::new(title, &rates_of(&samples, read), Shape::Line, None, now, from.clone())
    });
    let all = &answers.all;
    let page = OverviewTemplate {
        at: view::utc(status.at),
        uptime: view::span(status.uptime_seconds),
        solve_rate: percent(all.solved, all.solved + all.failed + all.decoy),
        solve_time: seconds(all.seconds_p50),
        active: number(status.active_challenges),
        ready: number(status.pictures_ready),
        queue: number(status.queue),
        banned: number(status.banned),
        trusted: number(status.trusted),
        plots: plots.into(),
        parts: status.dependencies.iter().map(part).collect(),
        kinds: kinds.into_iter().map(Kind::new).collect(),
        shell,
        status,
    };
    Ok(view::html(&page))
}

/// Requests per second between each sample and the one before.
fn rates_of(samples: &[Sample], read: fn(&Sample) -> u64) -> Vec<Option<f64>> {
    let rate = |pair: &[Sample]| {
        let [before, after] = pair else { return None };
        let seconds = before.at.until(after.at).as_secs_f64();
        let more = read(after).saturating_sub(read(before)) as f64;
        (seconds > 0.0).then(|| more / seconds)
    };
    samples.windows(2).map(rate).collect()
}

fn part(part: &Dependency) -> Part {
    let (look, state) = match part.state {
        Health::Ok => ("good", "works"),
        Health::Down if part.required => ("bad", "does not work"),
        Health::Down => ("warn", "does not work"),
        Health::Off => ("plain", "not configured"),
    };
    let without = match part.name {
        "store" | "renderer" => "nobody gets in",
        "reputation" => "bans and trust are lost at a restart",
        "haproxy" => "bans are enforced only here",
        "tor" => "circuits cannot be closed",
        "tor_metrics" => "the threat level knows nothing of tor's load",
        "upstream" => "visitors are told that the site is down",
        _ if part.required => "nobody gets in",
        _ => "requests are served",
    };
    Part { name: part.name, look, state, without }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::clock::Timestamp;

    #[test]
    fn rates_are_between_two_samples() {
        let sample = |at, admitted| Sample {
            at: Timestamp::from_secs(at),
            admitted,
            challenged: 0,
            refused: 0,
            solved: 0,
            active_challenges: 0,
            level: 1,
        };
        // The clock stood still once, and the gate's counters restarted once.
        let samples = [sample(0, 0), sample(10, 50), sample(10, 60), sample(20, 10)];
        let rates = rates_of(&samples, |sample| sample.admitted);
        assert_eq!(rates, [Some(5.0), None, Some(0.0)]);
        assert!(rates_of(&samples[..1], |sample| sample.admitted).is_empty());
    }
}

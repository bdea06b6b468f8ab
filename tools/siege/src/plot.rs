//! A run as a picture: one panel for each thing that the bars are about, all over the same seconds, the attack shaded.
//! The curves are the dashboard's ([`Chart`]); here are the frame, the words and the scales.

use std::fmt::Write as _;

use fortify_admin::chart::{Chart, Shape};

use crate::run::Seen;

const WIDTH: f64 = 760.0;
/// The place of the curves.
const LEFT: f64 = 200.0;
const INNER: f64 = WIDTH - LEFT - 16.0;
/// A panel's height, and its distance from the next.
const PANEL: f64 = 56.0;
const STEP: f64 = 74.0;
const TOP: f64 = 34.0;

/// One curve and its words.
struct Panel {
    title: &'static str,
    unit: &'static str,
    values: Vec<Option<f64>>,
    shape: Shape,
    /// How high the scale is at least.
    scale: f64,
    /// A line at this value, and what it is.
    mark: Option<(f64, &'static str)>,
}

/// The picture of a run as SVG.
#[must_use]
pub fn svg(seen: &Seen) -> String {
    let seconds = seen.samples.last().map_or(1.0, |sample| sample.at).max(seen.phases.last).ceil();
    let panels = panels(seen, seconds as usize);
    let height = TOP + STEP * panels.len() as f64 + 22.0;
    let x = |at: f64| LEFT + at / seconds * INNER;
    let (from, to) = (x(seen.phases.attack), x(seen.phases.end));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#1c1b22\">\n\
         <title>{}</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f6dede\"/>\n\
         <text x=\"{:.1}\" y=\"24\" text-anchor=\"middle\" fill=\"#9c1c28\">attack</text>\n",
        seen.attack.title(),
        to - from,
        height - TOP - 22.0,
        f64::midpoint(from, to),
    );
    for (at, panel) in panels.iter().enumerate() {
        draw(&mut text, panel, TOP + STEP * at as f64);
    }
    let mut second = 0.0;
    while second <= seconds {
        // Writing to a string does not fail.
        let _ok = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#5b5966\">{second:.0} s</text>",
            x(second),
            height - 8.0
        );
        second += every(seconds);
    }
    text + "</svg>\n"
}

/// The distance of the marks of time, for about eight of them.
fn every(seconds: f64) -> f64 {
    let steps = [5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];
    steps.into_iter().find(|step| seconds / step <= 9.0).unwrap_or(600.0)
}

fn draw(text: &mut String, panel: &Panel, y: f64) {
    let known = panel.values.iter().copied().flatten();
    let mark = panel.mark.map_or(0.0, |(value, _)| value);
    let high = known.fold(mark, f64::max).max(panel.scale);
    let chart = Chart::new(&panel.values, panel.shape, Some((0.0, high)));
    let _ok = writeln!(
        text,
        "<text x=\"8\" y=\"{:.1}\" font-weight=\"600\">{}</text>\
         <text x=\"8\" y=\"{:.1}\" fill=\"#5b5966\">0 to {} {}</text>\n\
         <svg x=\"{LEFT}\" y=\"{y}\" width=\"{INNER}\" height=\"{PANEL}\" viewBox=\"0 0 320 64\" \
         preserveAspectRatio=\"none\">{}</svg>",
        y + 22.0,
        panel.title,
        y + 40.0,
        short(high),
        panel.unit,
        chart.svg()
    );
    if let Some((value, name)) = panel.mark {
        let at = y + PANEL * (1.0 - value / high * 60.0 / 64.0 - 2.0 / 64.0);
        let _ok = writeln!(
            text,
            "<path d=\"M{LEFT} {at:.1}h{INNER}\" stroke=\"#1c1b22\" stroke-dasharray=\"4 3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"10\">{name}</text>",
            LEFT + INNER - 4.0,
            (at - 3.0).max(y + 13.0)
        );
    }
}

fn short(value: f64) -> String {
    if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn panels(seen: &Seen, seconds: usize) -> Vec<Panel> {
    // The slowest of those who came in each second; whoever was not in at the end is left out here and in the
    // panel below.
    let mut slowest = vec![None; seconds + 1];
    let mut never = vec![Some(0.0); seconds + 1];
    for newcomer in &seen.newcomers {
        let at = newcomer.came as usize;
        match (newcomer.in_after, slowest.get_mut(at), never.get_mut(at)) {
            (Some(after), Some(place), _) => *place = Some(place.unwrap_or(0.0_f64).max(after)),
            (None, _, Some(Some(count))) => *count += 1.0,
            _ => {}
        }
    }
    // A newcomer a second leaves no gaps; fewer do, and a line joins them.
    let slowest = joined(&slowest);
    let by_second = |value: fn(&crate::monitor::Sample) -> Option<f64>| {
        let mut values = vec![None; seconds + 1];
        for sample in &seen.samples {
            if let Some(place) = values.get_mut(sample.at as usize) {
                *place = value(sample);
            }
        }
        values
    };
    let panel = |title, unit, values| Panel {
        title,
        unit,
        values,
        shape: Shape::Steps,
        scale: 1.0,
        mark: None,
    };
    let given = growth(&by_second(|sample| sample.issued));
    vec![
        Panel {
            shape: Shape::Line,
            mark: Some((60.0, "60 s")),
            ..panel("Newcomers: until in", "s", slowest)
        },
        panel("Newcomers: never in", "who came", never),
        Panel {
            mark: Some((seen.rate / 60.0, "rate")),
            ..panel("Challenges given out", "a second", given)
        },
        panel("Visitors who wait", "", by_second(|sample| sample.waiting)),
        panel("Service: people's", "requests/s", growth(&by_second(|s| Some(s.people as f64)))),
        panel(
            "Service: attackers'",
            "requests/s",
            growth(&by_second(|s| Some(s.attackers as f64))),
        ),
        Panel { scale: 10.0, ..panel("Threat level", "", by_second(|sample| sample.level)) },
    ]
}

/// Gaps between known values filled along the line between them.
fn joined(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut all = values.to_vec();
    let known: Vec<(usize, f64)> =
        values.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?))).collect();
    for pair in known.windows(2) {
        let [(from, low), (to, high)] = pair else { continue };
        for at in from + 1..*to {
            let share = (at - from) as f64 / (to - from) as f64;
            if let Some(place) = all.get_mut(at) {
                *place = Some(low + (high - low) * share);
            }
        }
    }
    all
}

/// What a counter grew by in each second; evenly over seconds in which it was not read.
fn growth(counter: &[Option<f64>]) -> Vec<Option<f64>> {
    let read = joined(counter);
    let step = |pair: &[Option<f64>]| match pair {
        [Some(before), Some(after)] => Some((after - before).max(0.0)),
        _ => None,
    };
    std::iter::once(None).chain(read.windows(2).map(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_what_they_grew_by() {
        let counter = [Some(5.0), Some(7.0), None, Some(11.0), Some(0.0), None];
        let grew = [None, Some(2.0), Some(2.0), Some(2.0), Some(0.0), None];
        assert_eq!(growth(&counter), grew);
        assert_eq!(growth(&[]), [None]);
    }

    #[test]
    fn times_have_a_handful_of_marks() {
        for seconds in [10.0, 45.0, 120.0, 700.0, 3000.0] {
            let count = seconds / every(seconds);
            assert!((1.0..=9.0).contains(&count), "{seconds}: {count}");
        }
    }
}

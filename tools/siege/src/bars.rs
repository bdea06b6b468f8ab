//! The bars: what has to hold under every attack, measured on a run.

use serde::Serialize;

use crate::attacks::Attack;
use crate::numbers::{fair_chance, percentile, share};
use crate::people::{Newcomer, Outcome, Visit};
use crate::run::{DESCRIPTORS_SLACK, Seen};
use crate::stack::Mode;

/// What one session may send to the service: the row of the lowest levels in the table of budgets. The rows above it
/// allow less, so this bounds all of them.
pub const BUDGET: Budget = Budget { burst: 60.0, per_second: 2.0, quota: 3000.0 };

/// A rate with a burst, and a quota.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Pages at once.
    pub burst: f64,
    /// Pages a second.
    pub per_second: f64,
    /// Pages in all.
    pub quota: f64,
}

impl Budget {
    /// The most pages of `sessions` in `seconds`.
    #[must_use]
    pub fn most(self, sessions: f64, seconds: f64) -> f64 {
        sessions * (self.burst + self.per_second * seconds).min(self.quota)
    }
}

/// A bar on one run.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// What is measured.
    pub name: &'static str,
    /// The figure, with its unit.
    pub figure: String,
    /// What it has to be.
    pub bar: String,
    /// Whether it is.
    pub held: bool,
}

fn bar(name: &'static str, figure: String, bar: impl Into<String>, held: bool) -> Bar {
    Bar { name, figure, bar: bar.into(), held }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The bars that apply to a run.
#[must_use]
pub fn of(seen: &Seen) -> Vec<Bar> {
    let mut bars = Vec::new();
    bars.extend(newcomers(seen));
    bars.extend(people_inside(seen));
    bars.extend(attackers(seen));
    bars.extend(given_out(seen));
    bars.extend(recovery(seen));
    bars.extend(level(seen));
    bars.extend(resources(seen));
    bars
}

/// Those who came between two moments.
fn who_came(seen: &Seen, from: f64, to: f64) -> Vec<&Newcomer> {
    seen.newcomers.iter().filter(|newcomer| (from..to).contains(&newcomer.came)).collect()
}

fn within(newcomers: &[&Newcomer], seconds: f64) -> Option<f64> {
    share(newcomers, |newcomer| newcomer.in_after.is_some_and(|after| after <= seconds))
}

/// Challenges given out between two moments.
#[must_use]
pub fn issued(seen: &Seen, from: f64, to: f64) -> f64 {
    let inside = seen.samples.iter().filter(|sample| (from..=to + 1.0).contains(&sample.at));
    let counts: Vec<f64> = inside.filter_map(|sample| sample.issued).collect();
    counts.last().zip(counts.first()).map_or(0.0, |(last, first)| last - first)
}

/// The chance that everybody who asked for a challenge would have had, if they had been drawn by lot.
#[must_use]
pub fn chance(seen: &Seen) -> f64 {
    let (from, to) = (seen.phases.attack, seen.phases.end);
    let came = who_came(seen, from, to).len() as f64;
    fair_chance(issued(seen, from, to), seen.attackers.circuits as f64 + came)
}

fn newcomers(seen: &Seen) -> Vec<Bar> {
    let came = who_came(seen, seen.phases.attack, seen.phases.end);
    let (Some(minute), Some(all)) = (within(&came, 60.0), within(&came, f64::INFINITY)) else {
        return Vec::new();
    };
    if seen.attack.leaves_room() {
        return vec![
            bar("newcomers in within 60 s", percent(minute), "95 %", minute >= 0.95),
            bar("newcomers in at all", percent(all), "98 %", all >= 0.98),
        ];
    }
    let fair = chance(seen);
    let least = 0.9 * fair;
    vec![bar(
        "newcomers in within 60 s, beside the fair chance",
        percent(minute),
        format!("{} (chance {})", percent(least), percent(fair)),
        minute >= least,
    )]
}

fn people_inside(seen: &Seen) -> Vec<Bar> {
    let of = |from: f64, to: f64| -> Vec<&Visit> {
        seen.requests.iter().filter(|visit| (from..to).contains(&visit.at)).collect()
    };
    let (calm, under) = (of(0.0, seen.phases.attack), of(seen.phases.attack, seen.phases.end));
    let answered =
        share(&under, |visit| matches!(visit.outcome, Outcome::Page | Outcome::Challenge));
    let p95 = |visits: &[&Visit]| {
        let pages = visits.iter().filter(|visit| visit.outcome == Outcome::Page);
        percentile(&pages.map(|visit| visit.took).collect::<Vec<_>>(), 0.95)
    };
    let mut bars = Vec::new();
    if let Some(answered) = answered {
        let name = "requests of people who are in, answered";
        bars.push(bar(name, percent(answered), "99 %", answered >= 0.99));
    }
    if let (Some(calm), Some(under)) = (p95(&calm), p95(&under)) {
        let (name, most, than) = match seen.attack {
            Attack::SlowService | Attack::All => (
                "their p95, beside what the service takes",
                2.0 * seen.service_ms.max(calm),
                format!("{:.0} ms", seen.service_ms),
            ),
            _ => ("their p95, beside calm", 2.0 * calm, format!("{calm:.1} ms")),
        };
        let figure = format!("{under:.1} ms");
        bars.push(bar(name, figure, format!("{most:.1} ms (2 x {than})"), under <= most));
    }
    bars
}

fn attackers(seen: &Seen) -> Vec<Bar> {
    let mut bars = Vec::new();
    if seen.attack.spends_sessions() {
        let seconds = seen.phases.end - seen.phases.attack;
        let most = BUDGET.most(seen.attackers.sessions as f64, seconds);
        bars.push(bar(
            "attackers' requests that reach the service",
            format!("{} of {}", seen.reached, seen.attackers.sent),
            format!("{most:.0} ({} sessions x budget)", seen.attackers.sessions),
            seen.reached as f64 <= most,
        ));
    }
    // Sixteen streams of a browser that waits for its answers: with fewer, the burst alone is two in a hundred.
    if seen.attack == Attack::OneSession && seen.attackers.sent > 0 {
        let share = seen.reached as f64 / seen.attackers.sent as f64;
        bars.push(bar(
            "share of one session's flood that reaches it",
            percent(share),
            "2 %",
            share < 0.02,
        ));
    }
    if seen.attack == Attack::Hoard {
        let gained = seen.attackers.hoarded;
        bars.push(bar(
            "sessions that hoarded challenges gave",
            gained.to_string(),
            "0",
            gained == 0,
        ));
    }
    bars
}

/// The share of the rate that was given out while somebody waited, between the first and the last such moment of the
/// attack.
fn given_out(seen: &Seen) -> Option<Bar> {
    let (from, to) = (seen.phases.attack, seen.phases.end);
    let waiting: Vec<_> = (seen.samples.iter())
        .filter(|sample| {
            (from..=to).contains(&sample.at) && sample.waiting.is_some_and(|w| w > 0.0)
        })
        .collect();
    let (first, last) = waiting.first().zip(waiting.last())?;
    let seconds = last.at - first.at;
    // Less says nothing about a rate by the minute.
    if seconds < 10.0 {
        return None;
    }
    let share = (last.issued? - first.issued?) / (seconds * seen.rate / 60.0);
    Some(bar(
        "challenges given out while anybody waits, of the rate",
        percent(share),
        "95 %",
        share >= 0.95,
    ))
}

fn recovery(seen: &Seen) -> Option<Bar> {
    let came = who_came(seen, seen.phases.recovery, seen.phases.last);
    let in_time = within(&came, 60.0)?;
    let name = match seen.attack.is_for_challenges() {
        true => "newcomers from 30 s after the end on, in within 60 s",
        false => "newcomers from 5 s after the end on, in within 60 s",
    };
    Some(bar(name, percent(in_time), "95 %", in_time >= 0.95))
}

fn level(seen: &Seen) -> Option<Bar> {
    let rises = seen.attack.raises_the_level()?;
    let at = |from: f64, to: f64| {
        let inside = seen.samples.iter().filter(move |sample| (from..to).contains(&sample.at));
        inside.filter_map(|sample| sample.level).fold(0.0, f64::max)
    };
    let before = at(0.0, seen.phases.attack);
    let highest = at(seen.phases.attack, seen.phases.attack + 60.0);
    let figure = format!("{before:.0} to {highest:.0}");
    Some(match rises {
        true => bar("level within 60 s", figure, "up", highest > before),
        false => bar("level within 60 s", figure, "not up", highest <= before),
    })
}

/// The name of the bar for descriptors.
pub const DESCRIPTORS: &str = "descriptors back";

fn resources(seen: &Seen) -> Vec<Bar> {
    let mut bars = Vec::new();
    if let (Some(before), Some(after)) = (seen.before.1, seen.fds_after) {
        let figure = format!("{before} before, {after} after");
        bars.push(bar(
            "descriptors back",
            figure,
            format!("{}", before + DESCRIPTORS_SLACK),
            after <= before + DESCRIPTORS_SLACK,
        ));
    }
    let per = |limit: f64, name: &'static str| {
        let (from, to) = (seen.phases.attack, seen.phases.end);
        let inside = seen.samples.iter().filter(|sample| (from..=to).contains(&sample.at));
        let most = inside.filter_map(|sample| sample.rss_kib).max()?;
        let held = seen.attackers.most_held.max(1) as f64;
        let each = most.saturating_sub(seen.before.0?) as f64 / held;
        let figure = format!("{each:.1} KiB ({} held)", seen.attackers.most_held);
        Some(bar(name, figure, format!("{limit:.0} KiB"), each <= limit))
    };
    // Behind HAProxy and nginx it is they who hold them.
    match (seen.attack, seen.mode) {
        (Attack::Dawdlers | Attack::Connections, Mode::Proxy) => {
            bars.extend(per(24.0, "memory an idle connection"));
            bars.extend(second_wave(seen));
        }
        (Attack::Held, Mode::Proxy) => bars.extend(per(64.0, "memory a held download or tunnel")),
        _ => {}
    }
    bars
}

/// Whether the second half of an attack that comes in waves takes more memory than the first.
fn second_wave(seen: &Seen) -> Option<Bar> {
    let (from, to) = (seen.phases.attack, seen.phases.end);
    // A wave takes 22 s; with less than two there is no second.
    if seen.attack != Attack::Dawdlers || to - from < 40.0 {
        return None;
    }
    let most = |from: f64, to: f64| {
        let inside = seen.samples.iter().filter(|sample| (from..to).contains(&sample.at));
        inside.filter_map(|sample| sample.rss_kib).max()
    };
    let (first, second) = (most(from, from + 22.0)? as f64, most(from + 22.0, to)? as f64);
    let figure = format!("{:.0} MiB, then {:.0} MiB", first / 1024.0, second / 1024.0);
    // What people who came meanwhile account for.
    Some(bar("memory of a second wave", figure, "no more", second <= first * 1.05))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::Counted;
    use crate::monitor::Sample;
    use crate::run::{Phases, Version};
    use crate::stack::Store;

    fn seen(attack: Attack) -> Seen {
        Seen {
            version: Version::New,
            mode: Mode::Proxy,
            store: Store::Memory,
            attack,
            strength: 1.0,
            rate: 600.0,
            void: None,
            late: 0.0,
            phases: Phases { calm: 0.0, attack: 10.0, end: 40.0, recovery: 70.0, last: 80.0 },
            newcomers: Vec::new(),
            requests: Vec::new(),
            residents: (0, 0),
            samples: Vec::new(),
            attackers: Counted::default(),
            reached: 0,
            service_ms: 10.0,
            before: (Some(1000), Some(50)),
            fds_after: Some(50),
            has_budgets: true,
            ended: true,
            load: 0.0,
        }
    }

    fn found<'a>(bars: &'a [Bar], name: &str) -> &'a Bar {
        bars.iter()
            .find(|bar| bar.name.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {bars:?}"))
    }

    #[test]
    fn newcomers_of_the_attack_count_and_no_others() {
        let mut run = seen(Attack::NeverAnswered);
        let came = |came: f64, in_after| Newcomer { came, in_after, ..Newcomer::default() };
        run.newcomers = (10..29).map(|at| came(f64::from(at), Some(20.0))).collect();
        run.newcomers.push(came(30.0, Some(61.0)));
        // In the calm, and after the end.
        run.newcomers.extend([came(5.0, None), came(41.0, None)]);
        let bars = of(&run);
        assert_eq!(found(&bars, "newcomers in within 60 s").figure, "95.0 %");
        assert!(found(&bars, "newcomers in within 60 s").held);
        assert_eq!(found(&bars, "newcomers in at all").figure, "100.0 %");
        run.newcomers[0].in_after = None;
        let bars = of(&run);
        assert!(!found(&bars, "newcomers in within 60 s").held);
        assert!(!found(&bars, "newcomers in at all").held);
    }

    #[test]
    fn beyond_the_rate_the_fair_chance_is_the_bar() {
        let mut run = seen(Attack::FreshOnce);
        run.newcomers = (0..10)
            .map(|n| Newcomer {
                came: 20.0,
                in_after: (n < 3).then_some(9.0),
                ..Newcomer::default()
            })
            .collect();
        run.attackers.circuits = 990;
        let sample = |at, issued| Sample { at, issued: Some(issued), ..Sample::default() };
        run.samples = vec![sample(10.0, 100.0), sample(40.0, 400.0)];
        assert_eq!(chance(&run), 0.3);
        assert!(found(&of(&run), "newcomers in within 60 s, beside").held);
        run.newcomers[0].in_after = None;
        assert!(!found(&of(&run), "newcomers in within 60 s, beside").held);
    }

    #[test]
    fn what_is_given_out_is_looked_at_while_somebody_waits() {
        let mut run = seen(Attack::NeverAnswered);
        let sample = |at, issued, waiting| Sample {
            at,
            issued: Some(issued),
            waiting: Some(waiting),
            ..Sample::default()
        };
        // Nobody waits at 12; from 15 to 35 ten a second are given out.
        run.samples = vec![
            sample(12.0, 0.0, 0.0),
            sample(15.0, 5.0, 9.0),
            sample(35.0, 205.0, 1.0),
            sample(38.0, 206.0, 0.0),
        ];
        let bars = of(&run);
        assert_eq!(found(&bars, "challenges given out").figure, "100.0 %");
        run.samples[2].issued = Some(190.0);
        assert!(!found(&of(&run), "challenges given out").held);
    }

    #[test]
    fn sessions_bound_what_reaches_the_service() {
        let mut run = seen(Attack::OneSession);
        (run.attackers.sessions, run.attackers.sent, run.reached) = (1, 60_000, 120);
        assert_eq!(BUDGET.most(1.0, 30.0), 120.0);
        assert_eq!(BUDGET.most(2.0, 1e6), 6000.0);
        let bars = of(&run);
        assert!(found(&bars, "attackers' requests").held && found(&bars, "share of one").held);
        run.reached = 1201;
        let bars = of(&run);
        assert!(!found(&bars, "attackers' requests").held && !found(&bars, "share of one").held);
    }

    #[test]
    fn the_level_rises_for_many_and_for_nobody_else() {
        let sample = |at, level| Sample { at, level: Some(level), ..Sample::default() };
        for (attack, up) in [(Attack::NeverAnswered, true), (Attack::Few, false)] {
            let mut run = seen(attack);
            run.samples = vec![sample(5.0, 2.0), sample(50.0, 3.0)];
            assert_eq!(found(&of(&run), "level").held, up);
            run.samples = vec![sample(5.0, 2.0), sample(71.0, 3.0)];
            assert_eq!(found(&of(&run), "level").held, !up);
        }
    }

    #[test]
    fn people_inside_are_compared_with_their_own_calm() {
        let mut run = seen(Attack::NeverAnswered);
        let visit = |at, took, outcome| Visit { at, took, outcome };
        run.requests = (0..100).map(|_| visit(5.0, 10.0, Outcome::Page)).collect();
        run.requests.extend((0..99).map(|_| visit(20.0, 19.0, Outcome::Page)));
        run.requests.push(visit(20.0, 0.1, Outcome::Refused));
        let bars = of(&run);
        assert!(found(&bars, "requests of people").held && found(&bars, "their p95").held);
        run.requests.extend((0..6).map(|_| visit(20.0, 21.0, Outcome::Fault)));
        assert!(!found(&of(&run), "requests of people").held);
        run.requests.extend((0..6).map(|_| visit(20.0, 21.0, Outcome::Page)));
        assert!(!found(&of(&run), "their p95").held);
    }

    #[test]
    fn memory_is_shared_out_among_what_is_held() {
        let mut run = seen(Attack::Held);
        run.attackers.most_held = 600;
        run.samples =
            vec![Sample { at: 20.0, rss_kib: Some(1000 + 600 * 64), ..Sample::default() }];
        assert!(found(&of(&run), "memory a held").held);
        run.samples[0].rss_kib = Some(1000 + 600 * 65);
        assert!(!found(&of(&run), "memory a held").held);
        run.fds_after = Some(67);
        assert!(!found(&of(&run), "descriptors").held);
    }
}

//! The bars: what has to hold under every attack, measured on a run.

use serde::Serialize;

use crate::attacks::Attack;
use crate::numbers::{fair_chance, percentile, share, too_late};
use crate::people::{Newcomer, Outcome, Visit};
use crate::run::{DESCRIPTORS_SLACK, Seen};
use crate::service::Part;
use crate::stack::{Mode, Store};

/// What one session may send to the service: the row of the lowest levels in the table of budgets. The rows above it
/// allow less, so this bounds all of them.
pub const BUDGET: Budget = Budget { burst: 60.0, per_second: 2.0, quota: 3000.0 };

/// What one node may exceed a session's burst by over a shared store, as a part of it: what it holds of leases (see
/// `fortify_engine::budget`).
const LEASED: f64 = 3.0 / 20.0;

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
    /// The same where budgets are shared among the nodes that use `store`.
    #[must_use]
    pub fn over(self, store: Store) -> Self {
        let leased = if store == Store::Redis { LEASED } else { 0.0 };
        Self { burst: self.burst * (1.0 + leased), ..self }
    }

    /// The most pages in `seconds` of `sessions` that `holders` earned one after another: the next begins with a
    /// burst of its own, but no circuit has two at once.
    #[must_use]
    pub fn most(self, sessions: u64, holders: u64, seconds: f64) -> f64 {
        let (sessions, holders) = (sessions as f64, holders as f64);
        (sessions * self.burst + holders * self.per_second * seconds).min(sessions * self.quota)
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

/// A bar for which nothing was seen: it is not held.
fn unseen(name: &'static str, than: impl Into<String>) -> Bar {
    bar(name, "nothing seen".to_owned(), than, false)
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
    bars.push(recovery(seen));
    bars.extend(level(seen));
    bars.extend(resources(seen));
    bars
}

/// Why a run says nothing about the gate, if so: the generator was slow, the program broke, or the attack or the
/// people never happened.
#[must_use]
pub fn void(seen: &Seen) -> Option<String> {
    too_late(seen.late).or_else(|| seen.panicked.clone()).or_else(|| not_played(seen))
}

/// What of the run never happened.
#[must_use]
pub fn not_played(seen: &Seen) -> Option<String> {
    let (inside, all) = seen.residents;
    if inside * 10 < all * 9 {
        return Some(format!("only {inside} of {all} people were in before the attack"));
    }
    let seconds = seen.phases.end - seen.phases.attack;
    let (came, due) = (
        who_came(seen, seen.phases.attack, seen.phases.end).len(),
        seconds * seen.newcomers_per_second,
    );
    if came == 0 || (came as f64) < due * 0.9 - 1.0 {
        return Some(format!("{came} newcomers came during the attack, of {due:.0}"));
    }
    seen.attack.missing(&seen.attackers)
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
    let circuits = seen.attackers.sum(|did| did.circuits) as f64;
    fair_chance(issued(seen, from, to), circuits + came)
}

/// Whether the circuits that keep asking stay under five times what a minute gives out, so that every newcomer has to
/// be in within a minute. Whoever asks once keeps nobody out.
fn leaves_room(seen: &Seen) -> bool {
    let keep_asking = [Part::Flood, Part::Askers, Part::Farm];
    let circuits: u64 = keep_asking.iter().map(|part| seen.attackers.part(*part).circuits).sum();
    (circuits as f64) < 5.0 * seen.rate
}

fn newcomers(seen: &Seen) -> Vec<Bar> {
    let came = who_came(seen, seen.phases.attack, seen.phases.end);
    let (soon, at_all) = ("newcomers in within 60 s", "newcomers in at all");
    let (Some(minute), Some(all)) = (within(&came, 60.0), within(&came, f64::INFINITY)) else {
        return vec![unseen(soon, "95 %"), unseen(at_all, "98 %")];
    };
    if leaves_room(seen) {
        return vec![
            bar(soon, percent(minute), "95 %", minute >= 0.95),
            bar(at_all, percent(all), "98 %", all >= 0.98),
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
    // A challenge is no answer of the service to somebody who paid.
    let answered = share(&under, |visit| visit.outcome == Outcome::Page);
    let p95 = |visits: &[&Visit]| {
        let pages = visits.iter().filter(|visit| visit.outcome == Outcome::Page);
        percentile(&pages.map(|visit| visit.took).collect::<Vec<_>>(), 0.95)
    };
    let name = "requests of people who are in, answered by the service";
    let mut bars = vec![match answered {
        Some(answered) => bar(name, percent(answered), "99 %", answered >= 0.99),
        None => unseen(name, "99 %"),
    }];
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
    } else {
        bars.push(unseen("their p95, beside calm", "2 x calm"));
    }
    bars
}

/// What reached the service of a part of the attack.
fn reached(seen: &Seen, part: Part) -> u64 {
    seen.reached.get(&part).copied().unwrap_or_default()
}

/// The name of the bar for what needs a session and had none, or had a banned one's.
pub const UNADMITTED: &str = "requests without a session that reach the service";
/// The name of the bar for challenges of a lower level.
pub const HOARDED: &str = "sessions that hoarded challenges gave";
/// The name of the bar for what sessions may send.
pub const OVER_BUDGET: &str = "attackers' requests that reach the service";

fn attackers(seen: &Seen) -> Vec<Bar> {
    let seconds = seen.phases.end - seen.phases.attack;
    let mut bars = Vec::new();
    let unadmitted: Vec<(&str, u64)> = (Part::ALL.into_iter())
        .filter(|part| !part.has_sessions() || *part == Part::Banned)
        .map(|part| (part.name(), reached(seen, part)))
        .filter(|(_, reached)| *reached > 0)
        .collect();
    let all: u64 = unadmitted.iter().map(|(_, reached)| reached).sum();
    let by_part: Vec<_> =
        unadmitted.iter().map(|(part, count)| format!("{part}: {count}")).collect();
    let figure = if all == 0 { "0".to_owned() } else { format!("{all} ({})", by_part.join(", ")) };
    bars.push(bar(UNADMITTED, figure, "0", all == 0));
    // Each part by itself: what one may send and does not would hide what another sends too much.
    for part in seen.attack.parts() {
        if !part.has_sessions() || *part == Part::Banned {
            continue;
        }
        let (did, reached) = (seen.attackers.part(*part), reached(seen, *part));
        let most = BUDGET.over(seen.store).most(did.sessions, did.holders, seconds);
        bars.push(bar(
            OVER_BUDGET,
            format!("{}: {reached} of {}", part.name(), did.sent),
            format!("{most:.0} ({} sessions x budget)", did.sessions),
            reached as f64 <= most,
        ));
    }
    // Sixteen streams of a browser that waits for its answers: with fewer, the burst alone is two in a hundred.
    if seen.attack.parts().contains(&Part::One) {
        let name = "share of one session's flood that reaches it";
        let sent = seen.attackers.part(Part::One).sent;
        let share = reached(seen, Part::One) as f64 / sent.max(1) as f64;
        bars.push(match sent {
            0 => unseen(name, "2 %"),
            _ => bar(name, percent(share), "2 %", share < 0.02),
        });
    }
    let (gained, redeemed) = (seen.attackers.hoarded, seen.attackers.redeemed);
    if seen.attack == Attack::Hoard || redeemed > 0 {
        bars.push(bar(
            HOARDED,
            format!("{gained} of {redeemed}"),
            "0",
            gained == 0 && redeemed > 0,
        ));
    }
    bars
}

/// The share of the rate that was given out in the longest time without a break in which somebody waited, over as many
/// whole minutes of it as there are: a third of the rate is kept for bursts, and is there again a minute after it went
/// out, so that a part of a minute says nothing.
fn given_out(seen: &Seen) -> Option<Bar> {
    let (from, to) = (seen.phases.attack, seen.phases.end);
    let inside = seen.samples.iter().filter(|sample| (from..=to).contains(&sample.at));
    let known: Vec<_> = inside.filter(|sample| sample.waiting.is_some()).collect();
    let name = "challenges given out while anybody waits, of the rate";
    if known.is_empty() {
        return Some(unseen(name, "95 %"));
    }
    let length = |spell: &&[&crate::monitor::Sample]| match spell {
        [first, .., last] => last.at - first.at,
        _ => 0.0,
    };
    let longest = (known.split(|sample| sample.waiting.is_none_or(|waiting| waiting <= 0.0)))
        .max_by(|one, other| length(one).total_cmp(&length(other)))?;
    let minutes = (length(&longest) / 60.0).floor();
    if minutes < 1.0 {
        // Of this attack somebody always waits.
        let waits = seen.attack == Attack::NeverAnswered;
        return waits.then(|| unseen(name, "95 %"));
    }
    let first = longest.first()?;
    let last = longest.iter().find(|sample| sample.at >= first.at + 60.0 * minutes)?;
    let share = (last.issued? - first.issued?) / ((last.at - first.at) * seen.rate / 60.0);
    Some(bar(name, percent(share), "95 %", share >= 0.95))
}

fn recovery(seen: &Seen) -> Bar {
    let came = who_came(seen, seen.phases.recovery, seen.phases.last);
    let name = match seen.attack.is_for_challenges() {
        true => "newcomers from 30 s after the end on, in within 60 s",
        false => "newcomers from 5 s after the end on, in within 60 s",
    };
    match within(&came, 60.0) {
        Some(in_time) => bar(name, percent(in_time), "95 %", in_time >= 0.95),
        None => unseen(name, "95 %"),
    }
}

fn level(seen: &Seen) -> Option<Bar> {
    let rises = seen.attack.raises_the_level()?;
    let highest = |from: f64, to: f64| {
        let inside = seen.samples.iter().filter(move |sample| (from..to).contains(&sample.at));
        inside.filter_map(|sample| sample.level).reduce(f64::max)
    };
    let (name, than) = ("level within 60 s", if rises { "up" } else { "not up" });
    let before = highest(0.0, seen.phases.attack);
    let under = highest(seen.phases.attack, seen.phases.attack + 60.0);
    let (Some(before), Some(under)) = (before, under) else { return Some(unseen(name, than)) };
    Some(bar(name, format!("{before:.0} to {under:.0}"), than, (under > before) == rises))
}

/// The name of the bar for descriptors.
pub const DESCRIPTORS: &str = "descriptors back";

fn resources(seen: &Seen) -> Vec<Bar> {
    let mut bars = Vec::new();
    bars.push(match (seen.before.1, seen.fds_after) {
        (Some(before), Some(after)) => bar(
            DESCRIPTORS,
            format!("{before} before, {after} after"),
            (before + DESCRIPTORS_SLACK).to_string(),
            after <= before + DESCRIPTORS_SLACK,
        ),
        _ => unseen(DESCRIPTORS, "those before"),
    });
    let per = |limit: f64, name: &'static str| {
        let (from, to) = (seen.phases.attack, seen.phases.end);
        let inside = seen.samples.iter().filter(|sample| (from..=to).contains(&sample.at));
        let most = inside.filter_map(|sample| sample.rss_kib).max();
        let (Some(most), Some(before), held @ 1..) =
            (most, seen.before.0, seen.attackers.most_held)
        else {
            return unseen(name, format!("{limit:.0} KiB"));
        };
        let each = most.saturating_sub(before) as f64 / held as f64;
        bar(name, format!("{each:.1} KiB ({held} held)"), format!("{limit:.0} KiB"), each <= limit)
    };
    // Behind HAProxy and nginx it is they who hold them.
    match (seen.attack, seen.mode) {
        (Attack::Dawdlers | Attack::Connections, Mode::Proxy) => {
            bars.push(per(24.0, "memory an idle connection"));
            bars.extend(second_wave(seen));
        }
        (Attack::Held, Mode::Proxy) => bars.push(per(64.0, "memory a held download or tunnel")),
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::attacks::{Counted, Did};
    use crate::monitor::Sample;
    use crate::run::{Phases, Version};

    fn seen(attack: Attack) -> Seen {
        Seen {
            version: Version::New,
            mode: Mode::Proxy,
            store: Store::Memory,
            attack,
            strength: 1.0,
            rate: 1000.0,
            late: 0.0,
            debug: false,
            phases: Phases { calm: 0.0, attack: 10.0, end: 40.0, recovery: 70.0, last: 80.0 },
            newcomers_per_second: 1.0,
            newcomers: Vec::new(),
            requests: Vec::new(),
            residents: (0, 0),
            residents_circuits: Vec::new(),
            samples: Vec::new(),
            attackers: Counted::default(),
            reached: BTreeMap::new(),
            service_ms: 10.0,
            before: (Some(1000), Some(50)),
            fds_after: Some(50),
            left: Vec::new(),
            panicked: None,
            log: String::new(),
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
        let mut run = seen(Attack::NeverAnswered);
        run.newcomers = (0..10)
            .map(|n| Newcomer {
                came: 20.0,
                in_after: (n < 3).then_some(9.0),
                ..Newcomer::default()
            })
            .collect();
        run.rate = 100.0;
        run.attackers.parts.insert(Part::Flood, Did { circuits: 990, ..Did::default() });
        let sample = |at, issued| Sample { at, issued: Some(issued), ..Sample::default() };
        run.samples = vec![sample(10.0, 100.0), sample(40.0, 400.0)];
        assert_eq!(chance(&run), 0.3);
        assert!(found(&of(&run), "newcomers in within 60 s, beside").held);
        run.newcomers[0].in_after = None;
        assert!(!found(&of(&run), "newcomers in within 60 s, beside").held);
        // Circuits that ask once may be many more.
        let (once, again) = (Did { circuits: 62_500, ..Did::default() }, Did::default());
        run.attackers.parts = [(Part::Fresh, once), (Part::Flood, again)].into();
        assert_eq!(found(&of(&run), "newcomers in within 60 s").bar, "95 %");
        assert_eq!(found(&of(&run), "newcomers in at all").bar, "98 %");
    }

    /// A run of `attack` in which everything took place.
    fn played(attack: Attack) -> Seen {
        let mut run = seen(attack);
        let did = Did { sent: 9, circuits: 9, sessions: 1, holders: 1 };
        run.attackers.parts = attack.parts().iter().map(|part| (*part, did)).collect();
        run.newcomers = (10..40)
            .map(|at| Newcomer { came: f64::from(at), in_after: Some(9.0), ..Newcomer::default() })
            .collect();
        run.residents = (60, 60);
        run
    }

    #[test]
    fn what_never_happened_is_void() {
        for attack in Attack::ALL {
            assert_eq!(void(&played(attack)), None);
            for part in attack.parts() {
                let mut run = played(attack);
                run.attackers.parts.remove(part);
                let waits = attack == Attack::All && *part == Part::Hoard;
                assert_eq!(void(&run).is_none(), waits, "{attack:?} {part:?}");
            }
            let mut run = played(attack);
            run.newcomers.truncate(20);
            assert!(void(&run).unwrap().starts_with("20 newcomers"));
            let mut run = played(attack);
            run.residents = (53, 60);
            assert!(void(&run).unwrap().starts_with("only 53 of 60"));
            let mut run = played(attack);
            run.panicked = Some("a thread panicked".to_owned());
            assert!(void(&run).is_some());
        }
    }

    #[test]
    fn nothing_seen_holds_no_bar() {
        let mut run = seen(Attack::Dawdlers);
        (run.before, run.fds_after) = ((None, None), None);
        let held: Vec<_> = of(&run).into_iter().filter(|bar| bar.held).collect();
        let names: Vec<_> = held.iter().map(|bar| bar.name).collect();
        assert_eq!(names, [UNADMITTED]);
        assert!(!found(&of(&seen(Attack::Few)), "level").held);
    }

    #[test]
    fn what_is_given_out_is_looked_at_while_somebody_waits() {
        let mut run = seen(Attack::NeverAnswered);
        run.rate = 600.0;
        let sample = |at, issued, waiting| Sample {
            at,
            issued: Some(issued),
            waiting: Some(waiting),
            ..Sample::default()
        };
        let from = run.phases.attack;
        run.phases.end = from + 90.0;
        // A burst before anybody waits, less than the rate for most of the minute, and what is left of it at its end.
        run.samples = vec![
            sample(from, 0.0, 0.0),
            sample(from + 5.0, 200.0, 9.0),
            sample(from + 63.0, 575.0, 1.0),
            sample(from + 65.0, 800.0, 1.0),
            sample(from + 80.0, 850.0, 2.0),
            sample(from + 82.0, 850.0, 0.0),
        ];
        let bars = of(&run);
        assert_eq!(found(&bars, "challenges given out").figure, "100.0 %");
        run.samples[3].issued = Some(760.0);
        assert!(!found(&of(&run), "challenges given out").held);
        // Then nobody waits for a whole minute without a break.
        run.samples[2].waiting = Some(0.0);
        assert!(!found(&of(&run), "challenges given out").held);
        run.attack = Attack::Farm;
        assert!(of(&run).iter().all(|bar| !bar.name.starts_with("challenges given out")));
    }

    #[test]
    fn sessions_bound_what_reaches_the_service_each_part_by_itself() {
        assert_eq!(BUDGET.most(1, 1, 30.0), 120.0);
        assert_eq!(BUDGET.most(3, 1, 30.0), 240.0);
        assert_eq!(BUDGET.most(2, 2, 1e6), 6000.0);
        assert_eq!(BUDGET.most(0, 0, 30.0), 0.0);
        assert_eq!(BUDGET.over(Store::Redis).most(1, 1, 30.0), 129.0);
        assert_eq!(BUDGET.over(Store::Memory).most(1, 1, 30.0), 120.0);
        for attack in [Attack::OneSession, Attack::All] {
            let mut run = played(attack);
            let one = Did { sent: 60_000, circuits: 0, sessions: 1, holders: 1 };
            run.attackers.parts.insert(Part::One, one);
            // What the farm may send does not count for it.
            let farm = Did { sessions: 50, holders: 50, ..one };
            run.attackers.parts.insert(Part::Farm, farm);
            run.reached.insert(Part::One, 120);
            let missed = |run: &Seen| -> Vec<_> {
                let bars = of(run).into_iter();
                let of_sessions = [OVER_BUDGET, "share of one session's flood that reaches it"];
                bars.filter(|bar| !bar.held && of_sessions.contains(&bar.name)).collect()
            };
            assert!(missed(&run).is_empty(), "{:?}", missed(&run));
            run.reached.insert(Part::One, 1201);
            assert_eq!(missed(&run).len(), 2);
        }
    }

    #[test]
    fn nobody_without_a_session_reaches_the_service() {
        for part in Part::ALL {
            let mut run = played(Attack::All);
            run.reached.insert(part, 1);
            let admitted = part.has_sessions() && part != Part::Banned;
            assert_eq!(found(&of(&run), UNADMITTED).held, admitted, "{part:?}");
        }
    }

    #[test]
    fn the_level_rises_for_many_and_for_nobody_else() {
        let sample = |at, level| Sample { at, level: Some(level), ..Sample::default() };
        for (attack, up) in [(Attack::NeverAnswered, true), (Attack::Few, false)] {
            let mut run = seen(attack);
            run.samples = vec![sample(5.0, 2.0), sample(50.0, 3.0)];
            assert_eq!(found(&of(&run), "level").held, up);
            run.samples = vec![sample(5.0, 2.0), sample(50.0, 2.0), sample(71.0, 3.0)];
            assert_eq!(found(&of(&run), "level").held, !up);
        }
    }

    #[test]
    fn people_inside_are_compared_with_their_own_calm() {
        let mut run = seen(Attack::NeverAnswered);
        let visit = |at, took, outcome| Visit { who: 1, at, took, outcome };
        run.requests = (0..100).map(|_| visit(5.0, 10.0, Outcome::Page)).collect();
        run.requests.extend((0..99).map(|_| visit(20.0, 19.0, Outcome::Page)));
        run.requests.push(visit(20.0, 0.1, Outcome::Challenge));
        let bars = of(&run);
        assert!(found(&bars, "requests of people").held && found(&bars, "their p95").held);
        run.requests.extend((0..6).map(|_| visit(20.0, 21.0, Outcome::Challenge)));
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

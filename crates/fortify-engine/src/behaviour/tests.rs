//! All parts together, under traffic that programs make.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use traffic::{START, SameKey, Traffic, Who, circuit};

#[path = "../../../fortify-testkit/src/traffic.rs"]
mod traffic;

fn behaviour(mode: Mode) -> (Behaviour, Arc<fortify_core::clock::ManualClock>) {
    let (clock, metrics) = (traffic::clock(), BehaviourMetrics::default());
    (Behaviour::new(mode, START, clock.clone(), &SameKey, metrics).unwrap(), clock)
}

#[test]
fn at_most_one_person_in_a_hundred_is_flagged_and_nine_crude_bots_in_ten_are() {
    let traffic = Traffic::new(1, 500, 20);
    let (behaviour, clock) = behaviour(Mode::Act);
    let found = traffic.play(&behaviour, &clock);
    let share = |who: Who, right: &dyn Fn(Option<Class>) -> bool| {
        let of_them = traffic.actors.iter().zip(&found).filter(|(actor, _)| **actor == who);
        let (all, yes) = of_them
            .fold((0, 0), |(all, yes), (_, class)| (all + 1, yes + u32::from(right(*class))));
        f64::from(yes) / f64::from(all)
    };
    let people = share(Who::Person, &|found| found.is_some());
    assert!(people <= 0.01, "{people}");
    for class in Class::ALL {
        let recall = share(Who::Crude(class), &|found| found == Some(class));
        assert!(recall >= 0.9, "{class:?}: {recall}");
    }
}

/// A circuit that probes, and what comes of it.
fn probed(mode: Mode) -> Behaviour {
    let (behaviour, clock) = behaviour(mode);
    for _ in 0..5 {
        let target = behaviour.read(b"/.git/config");
        let outcome = Outcome::Challenged;
        behaviour.record(
            circuit(1),
            &Request { target, post: false, outcome, loaded: false, crawled: false },
        );
    }
    assert_eq!(behaviour.finding(circuit(2)), None);
    clock.advance(Duration::from_secs(1));
    behaviour
}

#[test]
fn observe_counts_and_reports_and_tells_nobody() {
    let observing = probed(Mode::Observe);
    assert_eq!(observing.finding(circuit(1)), None);
    let report = observing.report();
    let probing = ClassReport { class: Class::Probing, circuits: 1, requests: 3 };
    assert_eq!((report.classes.first(), report.requests), (Some(&probing), 5));
    assert_eq!(report.reasons.first(), Some(&(FindingReason::ScannerPaths, 1)));
    let mut registry = prometheus_client::registry::Registry::with_prefix("fortify");
    observing.metrics.describe(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = r#"fortify_behaviour_findings_total{class="probing"} 1"#;
    assert!(text.contains(line), "{text}");
}

#[test]
fn act_tells_with_reasons_until_it_is_forgiven_and_off_counts_nothing() {
    let acting = probed(Mode::Act);
    let finding = acting.finding(circuit(1)).unwrap();
    assert_eq!(finding.class, Class::Probing);
    assert_eq!(finding.reasons.iter().collect::<Vec<_>>(), [FindingReason::ScannerPaths]);
    acting.forget(circuit(1));
    assert_eq!(acting.finding(circuit(1)), None);

    let off = probed(Mode::Off).report();
    assert_eq!((off.requests, off.circuits), (0, 0));
}

#[test]
fn a_new_installation_watches_for_a_day_says_what_it_would_have_done_and_acts() {
    let (behaviour, clock) = behaviour(Mode::Learn);
    let probe = || {
        for _ in 0..5 {
            let target = behaviour.read(b"/.git/config");
            let outcome = Outcome::Challenged;
            let request = Request { target, post: false, outcome, loaded: false, crawled: false };
            behaviour.record(circuit(1), &request);
        }
        behaviour.finding(circuit(1)).is_some()
    };
    assert!(!probe());
    assert_eq!(behaviour.end_of_first_day(), None);
    clock.set(START.after(FIRST_DAY - Duration::from_secs(1)));
    assert!(!probe());
    assert_eq!(behaviour.report().acts_in, 1);
    clock.set(START.after(FIRST_DAY));
    let report = behaviour.end_of_first_day().unwrap();
    assert_eq!((report.found(), report.stricter(), report.acts), (2, 6, true));
    assert_eq!(behaviour.end_of_first_day(), None, "said twice");
    assert!(probe());
    let metrics = BehaviourMetrics::default();
    let old = Behaviour::new(Mode::Learn, START, clock, &SameKey, metrics).unwrap();
    assert!(old.acts() && old.end_of_first_day().is_none(), "a restart says it again");
    let (watched, clock) = (self::behaviour(Mode::Observe), START.after(FIRST_DAY));
    watched.0.set_mode(Mode::Learn);
    watched.1.set(clock);
    assert!(watched.0.end_of_first_day().is_some(), "set to learn by a reload, it says nothing");
    let (acting, clock) = (self::behaviour(Mode::Learn), START.after(FIRST_DAY));
    acting.0.set_mode(Mode::Act);
    assert!(acting.0.end_of_first_day().is_none(), "no day is over");
    acting.1.set(clock);
    assert!(acting.0.end_of_first_day().is_none(), "it acts anyway");
}

#[test]
fn a_finding_ends_by_itself() {
    let (behaviour, clock) = behaviour(Mode::Act);
    for _ in 0..5 {
        let target = behaviour.read(b"/.env");
        let outcome = Outcome::Challenged;
        behaviour.record(
            circuit(1),
            &Request { target, post: false, outcome, loaded: false, crawled: false },
        );
    }
    assert!(behaviour.finding(circuit(1)).is_some());
    clock.set(START.after(Duration::from_secs(1200)));
    assert_eq!(behaviour.finding(circuit(1)), None);
}

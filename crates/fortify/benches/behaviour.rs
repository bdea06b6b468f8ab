//! How well circuits are told apart by what they do, how long it takes and what it costs. One JSON line
//! each; the traffic is generated from a seed, so that only the times differ between runs.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints and may stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fortify_core::clock::SystemClock;
use fortify_engine::behaviour::metrics::BehaviourMetrics;
use fortify_engine::behaviour::{Behaviour, Class, Mode};
use fortify_testkit::traffic::{self, SameKey, Traffic, Who, circuit};

/// Circuits for which memory is measured: as many as are kept.
const CIRCUITS: usize = 100_000;

fn main() {
    // First, so that nothing that was freed is used again.
    memory();
    let traffic = Traffic::new(7, 3_000, 100);
    let clock = traffic::clock();
    let metrics = BehaviourMetrics::default();
    let behaviour =
        Behaviour::new(Mode::Act, traffic::START, clock.clone(), &SameKey, metrics).unwrap();
    let found = traffic.play(&behaviour, &clock);
    told_apart(&traffic, &found);
    times(&traffic);
}

fn told_apart(traffic: &Traffic, found: &[Option<Class>]) {
    let of = |who: Who| {
        traffic
            .actors
            .iter()
            .zip(found)
            .filter(move |(actor, _)| **actor == who)
            .map(|(_, class)| *class)
    };
    let people = of(Who::Person).count();
    let flagged = of(Who::Person).flatten().count();
    println!(
        r#"{{"bench":"behaviour people","people":{people},"flagged":{flagged},"false_positive_rate":{:.4}}}"#,
        flagged as f64 / people as f64
    );
    for class in Class::ALL {
        // Of those called so, how many are bots of this kind.
        let called = found.iter().filter(|found| **found == Some(class)).count();
        let rightly = [Who::Crude(class), Who::Careful(class)]
            .map(|who| of(who).filter(|found| *found == Some(class)).count());
        for (manner, who, right) in
            [("crude", Who::Crude(class), rightly[0]), ("careful", Who::Careful(class), rightly[1])]
        {
            let all = of(who).count();
            let confusion: serde_json::Map<_, _> = (Class::ALL.into_iter().map(Some).chain([None]))
                .map(|called| (called, of(who).filter(|found| *found == called).count()))
                .filter(|(_, count)| *count > 0)
                .map(|(called, count)| {
                    (called.map_or("nothing", Class::label).to_owned(), count.into())
                })
                .collect();
            println!(
                r#"{{"bench":"behaviour class","class":"{}","manner":"{manner}","bots":{all},"recall":{:.3},"precision":{:.3},"called":{}}}"#,
                class.label(),
                right as f64 / all as f64,
                rightly.iter().sum::<usize>() as f64 / called.max(1) as f64,
                serde_json::Value::Object(confusion),
            );
        }
    }
}

/// A request taken in (its address read before), and a circuit judged, with the system's clock as in
/// the gate.
fn times(traffic: &Traffic) {
    let metrics = BehaviourMetrics::default();
    let behaviour =
        Behaviour::new(Mode::Act, traffic::START, Arc::new(SystemClock), &SameKey, metrics)
            .unwrap();
    let (mut read, mut saw, mut judged) = (Vec::new(), Vec::new(), Vec::new());
    for event in traffic.events.iter().take(400_000) {
        let circuit = circuit(event.actor);
        read.push(timed(|| event.request(&behaviour)));
        let request = event.request(&behaviour);
        saw.push(timed(|| behaviour.record(circuit, &request)));
        judged.push(timed(|| behaviour.finding(circuit)));
    }
    for (what, mut times) in [("read", read), ("saw", saw), ("finding", judged)] {
        times.sort_unstable();
        let at = |quantile: f64| times[((times.len() - 1) as f64 * quantile) as usize].as_nanos();
        println!(
            r#"{{"bench":"behaviour {what}","samples":{},"p50_ns":{},"p99_ns":{}}}"#,
            times.len(),
            at(0.5),
            at(0.99)
        );
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    black_box(work());
    started.elapsed()
}

/// What the process grows by when as many circuits come as are kept.
fn memory() {
    let metrics = BehaviourMetrics::default();
    let behaviour =
        Behaviour::new(Mode::Observe, traffic::START, traffic::clock(), &SameKey, metrics).unwrap();
    let event = traffic::Event {
        at: 0,
        actor: 0,
        path: "/".to_owned(),
        post: false,
        outcome: fortify_engine::behaviour::Outcome::Challenged,
        crawled: false,
    };
    let before = resident();
    for actor in 0..CIRCUITS {
        behaviour.record(circuit(actor), &event.request(&behaviour));
    }
    let (grown, circuits) = (resident().saturating_sub(before), behaviour.report().circuits);
    println!(
        r#"{{"bench":"behaviour memory","circuits":{circuits},"bytes":{grown},"bytes_per_circuit":{}}}"#,
        grown / circuits as u64
    );
}

/// Bytes of this process in memory, as Linux tells.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

//! What remembering 100,000 circuits costs, and how long it takes to decide about one. JSON lines.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints and may stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fortify_core::clock::{ManualClock, Timestamp};
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::budget::{Account, Allowance, Budgets, Price};
use fortify_engine::decision::{self, Decision, Facts, Trust};
use fortify_engine::session::{Admitted, Session};
use fortify_engine::threat::table::Admits;
use fortify_reputation::answer_history::{AnswerEvent, AnswerHistories, Scoring};
use fortify_store::StateStore as _;
use fortify_store::memory::{MemoryBounds, MemoryStore};
use fortify_store::record::{SessionId, WindowLimit};

/// As many as are remembered.
const CIRCUITS: u32 = 100_000;

fn circuit(number: u32) -> CircuitTag {
    let mut bytes = [0x5a; 16];
    // Pseudonyms are hashes: neighbours are not near each other.
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_le_bytes());
    bytes[4..8].copy_from_slice(&number.to_le_bytes());
    CircuitTag::from_bytes(bytes)
}

#[tokio::main]
async fn main() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let histories = AnswerHistories::new(clock.clone(), Scoring::default());
    let before = rss();
    for number in 0..CIRCUITS {
        for millis in [4000, 9000, 6000] {
            histories.record(circuit(number), AnswerEvent::Solved(Duration::from_millis(millis)));
        }
    }
    let answers = per_circuit(before);

    let folder = tempfile::tempdir().unwrap();
    let bounds = MemoryBounds { challenges: 1000, challenges_per_circuit: 3 };
    let store = MemoryStore::open(clock.clone(), bounds, folder.path());
    let minute = WindowLimit { within: Duration::from_secs(60), most: 60 };
    let hour = WindowLimit { within: Duration::from_secs(3600), most: 60 };
    let before = rss();
    for number in 0..CIRCUITS {
        for _ in 0..10 {
            black_box(store.acquire_quota(circuit(number), [minute, hour], None).await.unwrap());
        }
    }
    let asked = per_circuit(before);
    println!(
        r#"{{"bench":"judging","circuits":{CIRCUITS},"bytes_of_answers":{answers},"bytes_of_ten_times_asked":{asked}}}"#
    );

    let mut times: Vec<Duration> = (0..CIRCUITS)
        .map(|number| {
            let started = Instant::now();
            let suspicions = histories.suspicions(circuit(number));
            let facts = Facts {
                session: None,
                trust: Trust::No,
                suspicions: &suspicions,
                finding: None,
                stages: 1,
                admits: Admits::Either,
            };
            black_box(decision::decide(black_box(facts)));
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() - 1) as f64 * share;
        times.get(index as usize).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    println!(r#"{{"bench":"decide","p50_us":{:.2},"p99_us":{:.2}}}"#, at(0.5), at(0.99));
    decide_and_spend();
}

/// Decides about an admitted request and pays for it: with as many sessions as there may be, in any order.
fn decide_and_spend() {
    let budgets = Budgets::new(false);
    let now = Timestamp::from_secs(1_800_000_000);
    let allowance = Allowance { per_minute: 90, burst: 60, pages: 600 };
    let account = || Account::new(allowance, now, now.after(Duration::from_secs(3600)));
    let session = |number: u32| Session {
        id: SessionId::from_bytes(circuit(number).to_bytes()),
        threat_level: 5,
        issued_at: now,
        expires_at: now.after(Duration::from_secs(3600)),
    };
    for number in 0..CIRCUITS {
        budgets.open(session(number).id, circuit(number), account());
    }
    let mut times: Vec<Duration> = (0..CIRCUITS)
        .map(|number| {
            let number = number.wrapping_mul(0x9e37_79b9) % CIRCUITS;
            let admitted = Admitted { session: session(number), reissued: None, moved: false };
            let started = Instant::now();
            let facts = Facts {
                session: Some(admitted),
                trust: Trust::No,
                suspicions: &[],
                finding: None,
                stages: 1,
                admits: Admits::Either,
            };
            let requirement = decision::require(&facts);
            if let (Decision::Admit(grant), _) = decision::decide(black_box(facts)) {
                let id = grant.session().id;
                let price = Price::default();
                let (spent, _) = budgets.spend(id, circuit(number), price, now, account);
                black_box(decision::within_budget(grant, spent, requirement));
            }
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() - 1) as f64 * share;
        times.get(index as usize).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let (median, p99) = (at(0.5), at(0.99));
    println!(r#"{{"bench":"decide_and_spend","p50_us":{median:.2},"p99_us":{p99:.2}}}"#);
}

/// Bytes of this process in memory.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

fn per_circuit(before: u64) -> u64 {
    rss().saturating_sub(before) / u64::from(CIRCUITS)
}

//! A little of everything on a small scale, for `make test`: the real servers, all attacks at once, and only what no
//! other load on the machine can change. Nothing here asks how long something took.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::attacks::Attack;
use crate::bars;
use crate::people::{Habits, has_page};
use crate::run::{Seen, Spec, Timing, Version, run};
use crate::stack::{Mode, Store};

/// Challenges a minute: so few that a small attack asks for several times as many.
const RATE: f64 = 120.0;

/// Plays it against `program`, and gives what is wrong.
///
/// # Errors
///
/// What does not start.
pub async fn play(program: PathBuf) -> Result<Vec<String>> {
    let seen = run(&Spec {
        version: Version::New,
        program,
        mode: Mode::Gate,
        store: Store::Redis,
        attack: Attack::All,
        length: Duration::from_secs(15),
        timing: Timing {
            calm: Duration::from_secs(1),
            pause: Duration::from_secs(1),
            recovery: Duration::from_secs(2),
            // A bound for a test that fails; on an idle machine the last of them is in after seconds.
            patience: Duration::from_secs(90),
            unhurried: true,
        },
        // A fortieth of each: several fresh circuits for every challenge.
        strength: 0.1,
        newcomers: 0.4,
        residents: 5,
        habits: Habits { reads: (1.0, 2.0), lingers: (1.0, 3.0), ..Habits::PEOPLE },
        core: None,
        more: format!("[limits]\nservice_challenges_per_minute = {RATE}\n"),
        rate: RATE,
    })
    .await?;
    Ok(wrong(&seen))
}

/// What is wrong with a run, in words.
fn wrong(seen: &Seen) -> Vec<String> {
    // Not whether it was late: that is a matter of speed.
    let mut wrong: Vec<String> =
        bars::not_played(seen).into_iter().chain(seen.panicked.clone()).collect();
    let out: Vec<_> = seen.newcomers.iter().filter(|one| one.in_after.is_none()).collect();
    if !out.is_empty() {
        wrong.push(format!("of {} newcomers these were never in: {out:?}", seen.newcomers.len()));
    }
    let shut_out = (seen.residents_circuits.iter())
        .filter(|who| !has_page(&seen.requests, **who, seen.phases.end))
        .count();
    if shut_out > 0 {
        wrong.push(format!("{shut_out} people who were in read no page after the attack"));
    }
    // How many depends on the machine; none in its second half would be a queue that stands still.
    let half = f64::midpoint(seen.phases.attack, seen.phases.end);
    if bars::issued(seen, half, seen.phases.end) < 1.0 {
        wrong.push("no challenge was given out in the second half of the attack".to_owned());
    }
    if !seen.left.is_empty() {
        wrong.push(format!("processes of the stack did not end: {:?}", seen.left));
    }
    let whatever_the_speed =
        [bars::UNADMITTED, bars::OVER_BUDGET, bars::HOARDED, bars::DESCRIPTORS];
    wrong.extend(
        (bars::of(seen).iter())
            .filter(|bar| whatever_the_speed.contains(&bar.name) && !bar.held)
            .map(|bar| format!("{}: {} (at most {})", bar.name, bar.figure, bar.bar)),
    );
    if !wrong.is_empty() {
        wrong.push(format!("the log ends:\n{}", seen.log));
    }
    wrong
}

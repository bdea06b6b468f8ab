//! A little of everything on a small scale, for `make test`: the real servers, all attacks at once, and only what no
//! other load on the machine can change. Nothing here asks how long something took.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::attacks::Attack;
use crate::bars::{self, BUDGET};
use crate::people::Habits;
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
        length: Duration::from_secs(20),
        timing: Timing {
            calm: Duration::from_secs(1),
            recovery: Duration::from_secs(3),
            // A bound for a test that fails; on an idle machine the last newcomer is in after seconds.
            patience: Duration::from_secs(90),
        },
        // A fortieth of each: eight fresh circuits for every challenge.
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
    let mut wrong = Vec::new();
    let out: Vec<_> = seen.newcomers.iter().filter(|one| one.in_after.is_none()).collect();
    if !out.is_empty() {
        wrong.push(format!("of {} newcomers these were never in: {out:?}", seen.newcomers.len()));
    }
    let (inside, all) = seen.residents;
    if inside < all {
        wrong.push(format!("only {inside} of {all} people got in before the attack"));
    }
    let seconds = seen.phases.end - seen.phases.attack;
    // How many depends on the machine; none in its second half would be a queue that stands still.
    let half = f64::midpoint(seen.phases.attack, seen.phases.end);
    if bars::issued(seen, half, seen.phases.end) < 1.0 {
        wrong.push("no challenge was given out in the second half of the attack".to_owned());
    }
    let most = BUDGET.most(seen.attackers.sessions as f64, seconds);
    if seen.has_budgets && seen.reached as f64 > most {
        wrong.push(format!(
            "{} requests of attackers reached the service; {} sessions may send {most:.0}",
            seen.reached, seen.attackers.sessions
        ));
    }
    if !seen.ended {
        wrong.push("a process of the stack did not end".to_owned());
    }
    wrong.extend(
        (bars::of(seen).iter())
            .filter(|bar| bar.name == bars::DESCRIPTORS && !bar.held)
            .map(|bar| format!("{}: {} (at most {})", bar.name, bar.figure, bar.bar)),
    );
    wrong
}

//! What `make siege` plays, and how long each attack takes so that the whole stays within its time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::attacks::Attack;
use crate::people::Habits;
use crate::run::{Spec, Timing, Version};
use crate::stack::{Mode, Store};

/// What is played, how reached, over which store, and for how many seconds where there is time enough.
const RUNS: [(Attack, Mode, Store, f64); 16] = [
    (Attack::SlowBodies, Mode::Proxy, Store::Redis, 30.0),
    (Attack::Askers, Mode::Proxy, Store::Redis, 75.0),
    (Attack::FreshOnce, Mode::Proxy, Store::Redis, 100.0),
    (Attack::NeverAnswered, Mode::Proxy, Store::Redis, 75.0),
    (Attack::OneSession, Mode::Proxy, Store::Redis, 30.0),
    (Attack::Few, Mode::Proxy, Store::Memory, 60.0),
    (Attack::Hoard, Mode::Proxy, Store::Memory, 30.0),
    (Attack::Farm, Mode::Proxy, Store::Memory, 60.0),
    (Attack::Dawdlers, Mode::Proxy, Store::Memory, 46.0),
    (Attack::Held, Mode::Proxy, Store::Memory, 30.0),
    (Attack::SlowService, Mode::Proxy, Store::Memory, 40.0),
    (Attack::SlowBodies, Mode::Gate, Store::Redis, 30.0),
    (Attack::OneSession, Mode::Gate, Store::Redis, 30.0),
    (Attack::Connections, Mode::Gate, Store::Redis, 30.0),
    (Attack::CookieBlanks, Mode::Gate, Store::Redis, 30.0),
    (Attack::All, Mode::Gate, Store::Redis, 600.0),
];

/// Seconds of a run besides its attack: people come in, calm, the pause before the recovery, and the last newcomers'
/// reading.
fn beside(attack: Attack) -> f64 {
    if attack.is_for_challenges() { 88.0 } else { 62.0 }
}

/// What to play.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// The program.
    pub program: &'a Path,
    /// The one that it is compared with under attacks 1 to 5.
    pub old: Option<&'a Path>,
    /// Only these; all if there are none.
    pub only: &'a [Attack],
    /// In how many minutes.
    pub minutes: f64,
    /// The core of the stack.
    pub core: Option<usize>,
}

/// The runs, each as long as all of them let it be.
#[must_use]
pub fn runs(wish: &Wish<'_>) -> Vec<Spec> {
    let wanted = |attack: &Attack| wish.only.is_empty() || wish.only.contains(attack);
    let mut all: Vec<(Version, PathBuf, _)> = Vec::new();
    for run in RUNS.into_iter().filter(|(attack, ..)| wanted(attack)) {
        let (attack, mode, ..) = run;
        let compared = mode == Mode::Proxy && attack.number().is_some_and(|number| number <= 5);
        if let Some(old) = wish.old.filter(|_| compared) {
            all.push((Version::Old, old.to_owned(), run));
        }
        all.push((Version::New, wish.program.to_owned(), run));
    }
    let whole: f64 = all.iter().map(|(_, _, (.., seconds))| seconds).sum();
    let besides: f64 = all.iter().map(|(_, _, (attack, ..))| beside(*attack)).sum();
    let scale = scale(wish.minutes * 60.0, besides, whole);
    let spec = |(version, program, (attack, mode, store, seconds)): (_, _, (_, _, _, f64))| Spec {
        version,
        program,
        mode,
        store,
        attack,
        length: Duration::from_secs_f64(seconds * scale),
        timing: Timing::WHOLE,
        strength: 1.0,
        newcomers: 1.0,
        residents: 60,
        habits: Habits::PEOPLE,
        core: wish.core,
        more: String::new(),
        rate: 1000.0,
    };
    all.into_iter().map(spec).collect()
}

/// The factor for the attacks' lengths with which everything takes `time`: never more than one, and never so little
/// that an attack would be none.
fn scale(time: f64, beside: f64, attacks: f64) -> f64 {
    ((time - beside) / attacks.max(1.0)).clamp(0.25, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(wish: &Wish<'_>) -> f64 {
        let seconds = |spec: &Spec| spec.length.as_secs_f64() + beside(spec.attack);
        runs(wish).iter().map(seconds).sum::<f64>() / 60.0
    }

    #[test]
    fn the_whole_fits_into_its_time() {
        let (program, old) = (Path::new("new"), Path::new("old"));
        let wish = Wish { program, old: None, only: &[], minutes: 40.0, core: None };
        assert!(minutes(&wish) <= 40.5, "{}", minutes(&wish));
        let both = Wish { old: Some(old), ..wish.clone() };
        assert!(minutes(&both) <= 40.5, "{}", minutes(&both));
        let olds = runs(&both).iter().filter(|spec| spec.version == Version::Old).count();
        assert_eq!((olds, runs(&both).len()), (5, RUNS.len() + 5));
        let one = Wish { only: &[Attack::Few], ..wish };
        assert_eq!(runs(&one).len(), 1);
    }

    #[test]
    fn attacks_are_shortened_and_never_stretched() {
        assert_eq!(scale(1000.0, 200.0, 400.0), 1.0);
        assert_eq!(scale(600.0, 200.0, 800.0), 0.5);
        assert_eq!(scale(10.0, 200.0, 800.0), 0.25);
    }
}

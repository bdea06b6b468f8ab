//! Whether the site is under attack, in words; pure.

use std::fmt;

use fortify_core::load::{Load, grouped};

use super::signals::Signals;

/// The samples in a row after which a verdict gets worse, and better: 30 s and a minute, as for the dial.
const WORSE: u32 = 3;
const BETTER: u32 = 6;

/// The pressure of an attack, and that below which it is calm, in percent.
const ATTACK: u64 = 100;
const CALM: u64 = 50;

/// The state of the site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing out of the ordinary.
    #[default]
    Calm,
    /// Visitors wait, or a part is slow.
    Busy,
    /// Many circuits do what people do not.
    UnderAttack,
}

impl State {
    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Busy => "busy",
            Self::UnderAttack => "under_attack",
        }
    }
}

/// What the circuits of an attack do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttackKind {
    /// They ask for challenges and solve none.
    NeverAnswered,
    /// They give wrong answers.
    WrongAnswers,
    /// They behave as people do not: floods, scraping, stuffing.
    Behaviour,
    /// They solve, and use up what that earns.
    Exhausting,
}

impl AttackKind {
    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeverAnswered => "never_answered",
            Self::WrongAnswers => "wrong_answers",
            Self::Behaviour => "behaviour",
            Self::Exhausting => "exhausting",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::NeverAnswered => "never-answered flood",
            Self::WrongAnswers => "wrong answers",
            Self::Behaviour => "suspicious requests",
            Self::Exhausting => "budgets used up",
        }
    }

    /// What the operator may do.
    const fn advice(self) -> &'static str {
        match self {
            Self::NeverAnswered => {
                "turn on tor's proof of work, and see that limits.service_challenges_per_minute is what this \
                 machine can draw"
            }
            Self::WrongAnswers => {
                "pin a higher level with fortify dial pin if answers get right too often"
            }
            Self::Behaviour => "look at fortify behaviour, and set behaviour.mode to act",
            Self::Exhausting => "lower the budgets of the level, or pin level 9 or 10",
        }
    }
}

/// The state of the site, and its cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// What the circuits of the attack do.
    pub kind: Option<AttackKind>,
    /// The circuits that do, in the worst sample.
    pub circuits: u32,
    /// The requests a second of everybody in that sample.
    pub requests_per_second: u64,
    /// While it is busy: what with, if that is known.
    pub load: Option<Load>,
}

impl Verdict {
    /// What the operator may do; empty if nothing.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match (self.state, self.kind, self.load) {
            (State::UnderAttack, Some(kind), _) => kind.advice(),
            (State::Busy, _, Some(load)) => load.advice(),
            (State::Busy, _, None) => {
                "nothing while people get in; see the queue and the time of pictures"
            }
            _ => "",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, self.kind) {
            (State::Calm, _) => f.write_str("calm"),
            (State::Busy, _) => match self.load {
                Some(load) => write!(f, "busy ({load})"),
                None => f.write_str("busy"),
            },
            (State::UnderAttack, kind) => {
                let kind = kind.map_or("many circuits", AttackKind::words);
                let (circuits, rate) = (self.circuits.into(), self.requests_per_second);
                let (circuits, rate) = (grouped(circuits), grouped(rate));
                write!(f, "under attack ({kind}, {circuits} circuits, {rate} requests/s)")
            }
        }
    }
}

/// What strains tor or the slots.
fn load_of(signals: &Signals) -> Option<Load> {
    if signals.turned_away > 0 {
        return Some(Load::TurnedAway(signals.turned_away));
    }
    signals.is_tor_strained().then_some(Load::Tor {
        effort: signals.tor_effort,
        queued: signals.tor_queued,
        rejected: signals.tor_rejected,
    })
}

/// Judges samples.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judge {
    verdict: Verdict,
    /// The pressure of the worst sample of this attack.
    worst: u64,
    attacked: u32,
    not_attacked: u32,
    busy: u32,
    not_busy: u32,
}

impl Judge {
    /// Processes a sample taken after `seconds`, and returns the verdict.
    pub fn step(&mut self, signals: &Signals, seconds: u64) -> Verdict {
        let pressure = signals.pressure();
        let busy = signals.waiting > 0 || pressure >= CALM || signals.is_strained();
        (self.attacked, self.not_attacked) = match pressure {
            ATTACK.. => (self.attacked.saturating_add(1), 0),
            CALM.. => (0, 0),
            _ => (0, self.not_attacked.saturating_add(1)),
        };
        (self.busy, self.not_busy) = match busy {
            true => (self.busy.saturating_add(1), 0),
            false => (0, self.not_busy.saturating_add(1)),
        };
        let before = self.verdict.state;
        let attack = match before {
            State::UnderAttack => self.not_attacked < BETTER,
            State::Calm | State::Busy => self.attacked >= WORSE,
        };
        let busy = match before {
            State::Calm => self.busy >= WORSE,
            State::Busy | State::UnderAttack => self.not_busy < BETTER,
        };
        if !attack {
            let state = if busy { State::Busy } else { State::Calm };
            // What it was busy with stays until the state ends, or something else is the cause.
            let load = load_of(signals).or(self.verdict.load).filter(|_| busy);
            self.verdict = Verdict { state, load, ..Verdict::default() };
            self.worst = 0;
        } else if before != State::UnderAttack || pressure > self.worst {
            self.worst = pressure;
            self.verdict = accuse(signals, seconds);
        }
        self.verdict
    }
}

/// The verdict of an attack: the kind that most circuits take part in, as the pressure counts them. Of equal ones the last.
fn accuse(signals: &Signals, seconds: u64) -> Verdict {
    let unsolved = signals.new_circuits.saturating_sub(signals.solving);
    let asking = signals.unanswered().max(unsolved).max(signals.holding());
    let kinds = [
        (signals.exhausted, AttackKind::Exhausting),
        (signals.flagged, AttackKind::Behaviour),
        (signals.mostly_failing().max(signals.banned), AttackKind::WrongAnswers),
        (asking, AttackKind::NeverAnswered),
    ];
    let most = kinds.into_iter().max_by_key(|(circuits, _)| *circuits);
    let (circuits, kind) = most.unwrap_or((0, AttackKind::NeverAnswered));
    Verdict {
        state: State::UnderAttack,
        kind: Some(kind),
        circuits,
        requests_per_second: signals.requests / seconds.max(1),
        load: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood() -> Signals {
        Signals { asking: 2_000, refused: 1_900, requests: 1_000, ..Signals::default() }
    }

    #[test]
    fn abuse_25_an_attack_is_named_within_half_a_minute_and_ends_after_a_calm_one() {
        let mut judge = Judge::default();
        let of = |judge: &mut Judge, signals: &Signals, samples| {
            (0..samples).map(|_| judge.step(signals, 10)).last().unwrap().to_string()
        };
        assert_eq!(of(&mut judge, &Signals::default(), 10), "calm");
        assert_eq!(of(&mut judge, &flood(), 2), "calm");
        let named = "under attack (never-answered flood, 2,000 circuits, 100 requests/s)";
        assert_eq!(of(&mut judge, &flood(), 1), named);
        // A pause, and a weaker sample, do not end it.
        assert_eq!(of(&mut judge, &Signals::default(), 5), named);
        assert_eq!(of(&mut judge, &Signals { asking: 150, ..Signals::default() }, 1), named);
        assert_eq!(of(&mut judge, &Signals::default(), 6), "calm");
    }

    #[test]
    fn a_crowd_of_people_who_wait_is_busy() {
        let mut judge = Judge::default();
        let crowd = Signals {
            asking: 1_500,
            solved: 900,
            refused: 600,
            waiting: 300,
            ..Signals::default()
        };
        assert_eq!(judge.step(&crowd, 10).state, State::Calm);
        judge.step(&crowd, 10);
        let verdict = judge.step(&crowd, 10);
        assert_eq!((verdict.state, verdict.to_string().as_str()), (State::Busy, "busy"));
        assert!(!verdict.advice().is_empty());
    }

    #[test]
    fn what_tor_and_slots_see_is_busy_and_never_an_attack_by_itself() {
        let tor = Signals {
            tor_effort: 12,
            tor_queued: 1_300,
            tor_rejected: u64::MAX,
            ..Signals::default()
        };
        let queue = Signals { tor_queued: 250, ..Signals::default() };
        let slots = Signals { turned_away: u64::MAX, ..Signals::default() };
        for (signals, words) in
            [(tor, "effort 12, 1,300"), (queue, "250"), (slots, "no slots left")]
        {
            let mut judge = Judge::default();
            let verdicts: Vec<_> = (0..100).map(|_| judge.step(&signals, 10)).collect();
            assert!(verdicts.iter().all(|verdict| verdict.state != State::UnderAttack));
            let last = verdicts[99];
            assert_eq!((verdicts[1].state, last.state), (State::Calm, State::Busy));
            assert!(last.to_string().contains(words) && !last.advice().is_empty(), "{last}");
            assert_eq!(signals.pressure(), 0);
            // Fifty circuits do not turn the dial with them; as many as are an attack under strain do.
            assert!(Signals { asking: 50, ..signals.clone() }.pressure() < ATTACK);
            assert!(Signals { asking: 60, ..signals }.pressure() >= ATTACK);
            let after = (0..6).map(|_| judge.step(&Signals::default(), 10)).last().unwrap();
            assert_eq!((after.state, after.load), (State::Calm, None));
        }
        let rejected = Signals { tor_rejected: 5_000, tor_queued: 249, ..Signals::default() };
        assert!(!rejected.is_strained());
    }

    #[test]
    fn the_kind_is_what_most_circuits_do() {
        let kinds = [
            (Signals { failing: 200, asking: 150, ..Signals::default() }, "wrong answers"),
            (Signals { flagged: 200, ..Signals::default() }, "suspicious requests"),
            // More solve than fail, so that the failures are those of people.
            (
                Signals {
                    active: 250,
                    solving: 200,
                    failing: 90,
                    upstream_ms: 60_000,
                    ..Signals::default()
                },
                "never-answered flood",
            ),
            (Signals { exhausted: 1_234_567, ..Signals::default() }, "1,234,567 circuits"),
        ];
        for (signals, words) in kinds {
            let mut judge = Judge::default();
            judge.step(&signals, 10);
            judge.step(&signals, 10);
            let verdict = judge.step(&signals, 10);
            assert!(verdict.to_string().contains(words), "{verdict}");
            assert!(!verdict.advice().is_empty());
        }
    }
}

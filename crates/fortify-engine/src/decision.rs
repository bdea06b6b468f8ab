//! The one place that decides about a request, from everything that is known of it.
//!
//! Pure: what is known comes in as [`Facts`], and the [`Decision`] goes out with its reasons. The engine's
//! verbs collect the one and carry out the other.

use std::time::Duration;

use crate::behaviour::Class;
use crate::reputation::answer_history::Suspicion;
use crate::session::Admitted;
use crate::threat::table::Admits;

/// The most challenges in a chain.
const MAX_STAGES: u8 = 3;

/// What is known of a request.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The session that it brings, if one is in force here.
    pub session: Option<Admitted>,
    /// Whether its circuit is trusted; `None` where circuits cannot be, because visitors are told
    /// apart by their address.
    pub trusted: Option<bool>,
    /// Why its circuit's answers look like a program's.
    pub suspicions: &'a [Suspicion],
    /// What its circuit's requests look like, where that counts.
    pub finding: Option<Class>,
    /// Challenges in a chain at this level, 1 to 3.
    pub stages: u8,
    /// What admits at this level.
    pub admits: Admits,
}

/// What is decided about a request. Its [label](Self::label) is the word in the log and in the metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let it through.
    Admit(Grant),
    /// Ask for this first.
    Challenge(Requirement),
    /// Refuse it without a challenge.
    Refuse(Refusal),
}

/// By what a request is let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// By a session.
    Session(Admitted),
    /// By its circuit, which is trusted. It brings no session.
    Trusted,
}

/// What is asked of a visitor who is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Challenges in a chain, 1 to 3.
    pub stages: u8,
    /// Whether a level more and only tasks that are harder for programs will do.
    pub harder: bool,
}

/// Why a request is refused without a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its circuit is banned, for this long still.
    Banned(Duration),
    /// Its circuit cannot be told.
    Unidentified,
}

impl Decision {
    /// Every label, and [`Self::ERROR`].
    pub const LABELS: [&str; 5] = ["admit", "trusted", "challenge", "refuse", Self::ERROR];

    /// The label of a request about which nothing could be decided, for a fault of this side. It is refused.
    pub const ERROR: &str = "error";

    /// The word in the log and in the metric.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Admit(Grant::Session(_)) => "admit",
            Self::Admit(Grant::Trusted) => "trusted",
            Self::Challenge(_) => "challenge",
            Self::Refuse(_) => "refuse",
        }
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionReason {
    /// It has a session.
    Session,
    /// Its circuit is trusted.
    Trusted,
    /// It has no session.
    NoSession,
    /// It has a session, and its circuit is not trusted at a level that asks for both.
    NotTrusted,
    /// Its circuit's answers look like a program's.
    Suspicious(Suspicion),
    /// Its circuit's requests do.
    Behaviour(Class),
}

impl DecisionReason {
    /// How many there are.
    pub const COUNT: usize = 4 + Suspicion::ALL.len() + Class::ALL.len();

    /// Every reason.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let plain = [Self::Session, Self::Trusted, Self::NoSession, Self::NotTrusted];
        let suspicious = Suspicion::ALL.map(Self::Suspicious);
        plain.into_iter().chain(suspicious).chain(Class::ALL.map(Self::Behaviour)).collect()
    }

    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Trusted => "trusted",
            Self::NoSession => "no session",
            Self::NotTrusted => "not trusted",
            Self::Suspicious(suspicion) => suspicion.as_str(),
            Self::Behaviour(class) => class.label(),
        }
    }
}

/// Decides, and says why.
#[must_use]
pub fn decide(facts: Facts<'_>) -> (Decision, Vec<DecisionReason>) {
    let requirement = require(&facts);
    let refused = match (facts.admits, facts.session, facts.trusted) {
        (Admits::Either | Admits::Session, Some(session), _)
        | (Admits::Both, Some(session), Some(true) | None) => {
            return (Decision::Admit(Grant::Session(session)), vec![DecisionReason::Session]);
        }
        (Admits::Either, None, Some(true)) => {
            return (Decision::Admit(Grant::Trusted), vec![DecisionReason::Trusted]);
        }
        (Admits::Both, Some(_), Some(false)) => DecisionReason::NotTrusted,
        (_, None, _) => DecisionReason::NoSession,
    };
    let suspicious = facts.suspicions.iter().copied().map(DecisionReason::Suspicious);
    let behaves = facts.finding.map(DecisionReason::Behaviour);
    let reasons = [refused].into_iter().chain(suspicious).chain(behaves).collect();
    (Decision::Challenge(requirement), reasons)
}

/// What is asked of a visitor: a step more of everything for one who is suspected, one more challenge at
/// worst.
#[must_use]
pub fn require(facts: &Facts<'_>) -> Requirement {
    let suspected = !facts.suspicions.is_empty() || facts.finding.is_some();
    let step = u8::from(suspected);
    Requirement { stages: facts.stages.max(1 + step).min(MAX_STAGES), harder: suspected }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::session::Session;
    use fortify_core::clock::Timestamp;
    use fortify_store::record::SessionId;

    const CALM: Facts<'_> = Facts {
        session: None,
        trusted: Some(false),
        suspicions: &[],
        finding: None,
        stages: 1,
        admits: Admits::Either,
    };

    fn session() -> Option<Admitted> {
        let (id, expires_at) = (SessionId::from_bytes([1; 16]), Timestamp::from_secs(1));
        let session = Session { id, threat_level: 2, expires_at };
        Some(Admitted { session, reissued: None, moved: false })
    }

    fn admits(facts: Facts<'_>) -> bool {
        matches!(decide(facts).0, Decision::Admit(_))
    }

    #[test]
    fn in_calm_times_either_admits_and_under_threat_both() {
        let all = [(false, false), (false, true), (true, false), (true, true)];
        for (admitting, expected) in [
            (Admits::Either, [false, true, true, true]),
            (Admits::Session, [false, false, true, true]),
            (Admits::Both, [false, false, false, true]),
        ] {
            let admitted = all.map(|(holds, trusted)| {
                let session = session().filter(|_| holds);
                admits(Facts { session, trusted: Some(trusted), admits: admitting, ..CALM })
            });
            assert_eq!(admitted, expected);
        }
    }

    #[test]
    fn an_address_cannot_be_trusted_and_its_session_is_enough() {
        for admitting in [Admits::Either, Admits::Session, Admits::Both] {
            let facts = Facts { trusted: None, admits: admitting, ..CALM };
            assert!(!admits(facts.clone()));
            assert!(admits(Facts { session: session(), ..facts }));
        }
    }

    #[test]
    fn suspicion_asks_for_a_step_more_and_admits_as_before() {
        let suspected = Facts { suspicions: &[Suspicion::Quick], ..CALM };
        let (decision, reasons) = decide(suspected.clone());
        assert_eq!(decision, Decision::Challenge(Requirement { stages: 2, harder: true }));
        assert_eq!(
            reasons,
            [DecisionReason::NoSession, DecisionReason::Suspicious(Suspicion::Quick)]
        );
        assert!(admits(Facts { session: session(), ..suspected.clone() }));
        let scraper = Facts { finding: Some(Class::Scraping), ..CALM };
        assert_eq!(decide(scraper).0, decision);
        let top = Facts { stages: 3, ..suspected };
        assert_eq!(decide(top).0, Decision::Challenge(Requirement { stages: 3, harder: true }));
    }

    #[test]
    fn nobody_gets_in_with_nothing() {
        for stages in 1..=3 {
            for admitting in [Admits::Either, Admits::Session, Admits::Both] {
                for trusted in [None, Some(false)] {
                    assert!(!admits(Facts { stages, trusted, admits: admitting, ..CALM }));
                }
            }
        }
    }

    #[test]
    fn every_decision_has_a_label_of_its_own_that_is_listed() {
        let decisions = [
            Decision::Admit(Grant::Trusted),
            Decision::Admit(Grant::Session(session().unwrap())),
            Decision::Challenge(require(&CALM)),
            Decision::Refuse(Refusal::Banned(Duration::ZERO)),
        ];
        let labels: BTreeSet<_> = decisions.iter().map(Decision::label).collect();
        assert_eq!(labels.len(), decisions.len());
        assert!(labels.iter().all(|label| Decision::LABELS.contains(label)));
    }
}

//! The one place that decides about a request.
//!
//! Pure: [`decide`] takes [`Facts`] and returns a [`Decision`] with its reasons. The engine's verbs gather the
//! facts and carry out the decision.

use std::time::Duration;

use crate::behaviour::Class;
use crate::budget::{Slow, Spent};
use crate::session::{Admitted, Session};
use crate::threat::table::Admits;
use fortify_reputation::answer_history::Suspicion;

/// The most challenges in a chain.
const MAX_STAGES: u8 = 3;

/// The facts about a request.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The session of the request, if one is in force on its circuit.
    pub session: Option<Admitted>,
    /// Whether its circuit is trusted.
    pub trust: Trust,
    /// The reasons why the circuit's answers look automated.
    pub suspicions: &'a [Suspicion],
    /// What the circuit's requests look like, if findings count now.
    pub finding: Option<Class>,
    /// The number of challenges in a chain at this level, 1 to 3.
    pub stages: u8,
    /// What admits a request at this level.
    pub admits: Admits,
}

/// Whether a circuit is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It cannot be: it is a clearnet address, which many people may share.
    Never,
    /// It is not.
    No,
    /// It is, for this session.
    For(Session),
}

/// The decision about a request. Its [label](Self::label) appears in the log and in the metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Admit it.
    Admit(Grant),
    /// Require a challenge first.
    Challenge(Requirement),
    /// Refuse it for now: it is faster than its session may be.
    SlowDown(Slow),
    /// Refuse it without a challenge.
    Refuse(Refusal),
}

/// The reason why a request is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It has a session.
    Session(Admitted),
    /// It has no session; its circuit is trusted for this one.
    Trusted(Session),
}

impl Grant {
    /// The session that the request draws on.
    #[must_use]
    pub const fn session(&self) -> &Session {
        match self {
            Self::Session(admitted) => &admitted.session,
            Self::Trusted(session) => session,
        }
    }
}

/// What a visitor has to solve to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The number of challenges in a chain, 1 to 3.
    pub stages: u8,
    /// Whether challenges are one level higher and limited to tasks that are harder for bots.
    pub harder: bool,
}

/// The reason why a request is refused without a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its circuit is banned, for this long from now.
    Banned(Duration),
    /// Its circuit could not be identified.
    Unidentified,
}

impl Decision {
    /// All labels, [`Self::ERROR`] included.
    pub const LABELS: [&str; 6] =
        ["admit", "trusted", "challenge", "slow_down", "refuse", Self::ERROR];

    /// The label of a request that is refused because an internal error prevented the decision.
    pub const ERROR: &str = "error";

    /// The label in the log and in the metric.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Admit(Grant::Session(_)) => "admit",
            Self::Admit(Grant::Trusted(_)) => "trusted",
            Self::Challenge(_) => "challenge",
            Self::SlowDown(_) => "slow_down",
            Self::Refuse(_) => "refuse",
        }
    }
}

/// A reason for a [`Decision`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionReason {
    /// It has a session.
    Session,
    /// Its circuit is trusted.
    Trusted,
    /// It has no session.
    NoSession,
    /// It has a session, but the level requires a trusted circuit too.
    NotTrusted,
    /// It is faster than its session may be.
    TooFast,
    /// It was so for so long that its session was ended.
    KeptUp,
    /// Its session has used up its pages.
    QuotaUsedUp,
    /// Its circuit's answers look automated.
    Suspicious(Suspicion),
    /// Its circuit's requests look automated.
    Behaviour(Class),
}

impl DecisionReason {
    /// The number of reasons.
    pub const COUNT: usize = 7 + Suspicion::ALL.len() + Class::ALL.len();

    /// Every reason.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let plain = [
            Self::Session,
            Self::Trusted,
            Self::NoSession,
            Self::NotTrusted,
            Self::TooFast,
            Self::KeptUp,
            Self::QuotaUsedUp,
        ];
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
            Self::TooFast => "too fast",
            Self::KeptUp => "too fast for too long",
            Self::QuotaUsedUp => "pages used up",
            Self::Suspicious(suspicion) => suspicion.as_str(),
            Self::Behaviour(class) => class.label(),
        }
    }
}

/// Decides about a request, and returns the reasons.
#[must_use]
pub fn decide(facts: Facts<'_>) -> (Decision, Vec<DecisionReason>) {
    let requirement = require(&facts);
    let missing = match (facts.admits, facts.session, facts.trust) {
        (Admits::Either | Admits::Session, Some(session), _)
        | (Admits::Both, Some(session), Trust::For(_) | Trust::Never) => {
            return (Decision::Admit(Grant::Session(session)), vec![DecisionReason::Session]);
        }
        (Admits::Either, None, Trust::For(session)) => {
            return (Decision::Admit(Grant::Trusted(session)), vec![DecisionReason::Trusted]);
        }
        (Admits::Both, Some(_), Trust::No) => DecisionReason::NotTrusted,
        (_, None, _) => DecisionReason::NoSession,
    };
    let suspicious = facts.suspicions.iter().copied().map(DecisionReason::Suspicious);
    let behaviour = facts.finding.map(DecisionReason::Behaviour);
    let reasons = [missing].into_iter().chain(suspicious).chain(behaviour).collect();
    (Decision::Challenge(requirement), reasons)
}

/// Decides about a request that `grant` admits, after its budget was asked; `requirement` is for a new session. Returns
/// the reason too, if it is not admitted.
#[must_use]
pub fn within_budget(
    grant: Grant,
    spent: Spent,
    requirement: Requirement,
) -> (Decision, Option<DecisionReason>) {
    let challenge = |reason| (Decision::Challenge(requirement), Some(reason));
    match spent {
        Spent::Paid(_) => (Decision::Admit(grant), None),
        // Without a lease there is nothing to pay with.
        Spent::Lease(_) => (Decision::SlowDown(Slow::briefly()), Some(DecisionReason::TooFast)),
        Spent::TooFast(slow) if slow.kept_up => challenge(DecisionReason::KeptUp),
        Spent::TooFast(slow) => (Decision::SlowDown(slow), Some(DecisionReason::TooFast)),
        Spent::UsedUp => challenge(DecisionReason::QuotaUsedUp),
        Spent::LogIn => challenge(DecisionReason::Behaviour(Class::CredentialStuffing)),
    }
}

/// What a visitor has to solve. A suspected visitor gets harder challenges, and at least two of them, up to
/// three in all.
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
    use fortify_core::clock::Timestamp;

    const CALM: Facts<'_> = Facts {
        session: None,
        trust: Trust::No,
        suspicions: &[],
        finding: None,
        stages: 1,
        admits: Admits::Either,
    };

    const SLOW: Slow = Slow { wait: Duration::from_secs(3), full_rate_in: None, kept_up: false };

    #[test]
    fn a_grant_is_worth_what_its_budget_holds() {
        let requirement = require(&CALM);
        let decide = |spent| within_budget(Grant::Trusted(SESSION), spent, requirement);
        assert_eq!(decide(Spent::Paid(1000)), (Decision::Admit(Grant::Trusted(SESSION)), None));
        let slow = (Decision::SlowDown(SLOW), Some(DecisionReason::TooFast));
        assert_eq!(decide(Spent::TooFast(SLOW)), slow);
        for (spent, reason) in [
            (Spent::TooFast(Slow { kept_up: true, ..SLOW }), DecisionReason::KeptUp),
            (Spent::UsedUp, DecisionReason::QuotaUsedUp),
            (Spent::LogIn, DecisionReason::Behaviour(Class::CredentialStuffing)),
        ] {
            assert_eq!(decide(spent), (Decision::Challenge(requirement), Some(reason)));
        }
    }
    const SESSION: Session = Session::sample(1, Timestamp::from_secs(1));

    fn session() -> Option<Admitted> {
        Some(Admitted { session: SESSION, reissued: None, moved: false })
    }

    fn admits(facts: Facts<'_>) -> bool {
        matches!(decide(facts).0, Decision::Admit(_))
    }

    #[test]
    fn a_session_or_trust_admits_as_the_level_requires() {
        let all = [(false, false), (false, true), (true, false), (true, true)];
        for (admitting, expected) in [
            (Admits::Either, [false, true, true, true]),
            (Admits::Session, [false, false, true, true]),
            (Admits::Both, [false, false, false, true]),
        ] {
            let admitted = all.map(|(holds, trusted)| {
                let session = session().filter(|_| holds);
                let trust = if trusted { Trust::For(SESSION) } else { Trust::No };
                admits(Facts { session, trust, admits: admitting, ..CALM })
            });
            assert_eq!(admitted, expected);
        }
    }

    #[test]
    fn an_address_needs_only_a_session_at_every_level() {
        for admitting in [Admits::Either, Admits::Session, Admits::Both] {
            let facts = Facts { trust: Trust::Never, admits: admitting, ..CALM };
            assert!(!admits(facts.clone()));
            assert!(admits(Facts { session: session(), ..facts }));
        }
    }

    #[test]
    fn suspicion_makes_challenges_harder_and_does_not_change_admission() {
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
    fn a_request_without_session_or_trust_is_never_admitted() {
        for stages in 1..=3 {
            for admitting in [Admits::Either, Admits::Session, Admits::Both] {
                for trust in [Trust::Never, Trust::No] {
                    assert!(!admits(Facts { stages, trust, admits: admitting, ..CALM }));
                }
            }
        }
    }

    #[test]
    fn every_decision_has_a_distinct_label_in_the_list() {
        let decisions = [
            Decision::Admit(Grant::Trusted(SESSION)),
            Decision::Admit(Grant::Session(session().unwrap())),
            Decision::Challenge(require(&CALM)),
            Decision::SlowDown(SLOW),
            Decision::Refuse(Refusal::Banned(Duration::ZERO)),
        ];
        let labels: BTreeSet<_> = decisions.iter().map(Decision::label).collect();
        assert_eq!(labels.len(), decisions.len());
        assert!(labels.iter().all(|label| Decision::LABELS.contains(label)));
    }
}

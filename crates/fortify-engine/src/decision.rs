//! The one place that decides about a request, from everything that is known of it.
//!
//! Pure: what is known comes in as [`Facts`], and what is to be done goes out with its reasons. The web
//! layer collects the one and carries out the other.

use crate::behaviour::Class;
use crate::reputation::conduct::Suspicion;
use crate::threat::table::Admits;

/// The most challenges in a row.
const MOST_STAGES: u8 = 3;

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whether it brings a session that is in force here.
    pub session: bool,
    /// Whether its circuit is favoured; `None` where circuits cannot be, because visitors are told
    /// apart by their address.
    pub favoured: Option<bool>,
    /// Why its circuit's answers look like a program's.
    pub suspicions: &'a [Suspicion],
    /// What its circuit's requests look like, where that counts.
    pub finding: Option<Class>,
    /// Challenges in a row at this level, 1 to 3.
    pub stages: u8,
    /// What admits at this level.
    pub admits: Admits,
}

/// What is asked of one who is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Challenges in a row, 1 to 3.
    pub stages: u8,
    /// Whether a level more and only tasks that are harder for programs will do.
    pub hard: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it through.
    Admit,
    /// Ask for this.
    Challenge(Demand),
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has a session.
    Session,
    /// Its circuit is favoured.
    Favoured,
    /// It has no session.
    NoSession,
    /// It has a session, and its circuit is not favoured at a level that asks for both.
    NotFavoured,
    /// Its circuit's answers look like a program's.
    Suspicious(Suspicion),
    /// Its circuit's requests do.
    Behaves(Class),
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = 4 + Suspicion::ALL.len() + Class::ALL.len();

    /// Every reason.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let plain = [Self::Session, Self::Favoured, Self::NoSession, Self::NotFavoured];
        let suspicious = Suspicion::ALL.map(Self::Suspicious);
        plain.into_iter().chain(suspicious).chain(Class::ALL.map(Self::Behaves)).collect()
    }

    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Favoured => "favoured",
            Self::NoSession => "no session",
            Self::NotFavoured => "not favoured",
            Self::Suspicious(suspicion) => suspicion.as_str(),
            Self::Behaves(class) => class.label(),
        }
    }
}

/// Decides, and says why.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> (Verdict, Vec<Reason>) {
    let refused = match (facts.admits, facts.session, facts.favoured) {
        (Admits::Either | Admits::Session, true, _) | (Admits::Both, true, Some(true) | None) => {
            return (Verdict::Admit, vec![Reason::Session]);
        }
        (Admits::Either, false, Some(true)) => return (Verdict::Admit, vec![Reason::Favoured]),
        (Admits::Both, true, Some(false)) => Reason::NotFavoured,
        (_, false, _) => Reason::NoSession,
    };
    let suspicious = facts.suspicions.iter().copied().map(Reason::Suspicious);
    let behaves = facts.finding.map(Reason::Behaves);
    let reasons = [refused].into_iter().chain(suspicious).chain(behaves).collect();
    (Verdict::Challenge(demand(facts)), reasons)
}

/// A step more of everything for those who are suspected: one more challenge at worst.
#[must_use]
pub fn demand(facts: &Facts<'_>) -> Demand {
    let suspected = !facts.suspicions.is_empty() || facts.finding.is_some();
    let step = u8::from(suspected);
    Demand { stages: facts.stages.max(1 + step).min(MOST_STAGES), hard: suspected }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Facts<'_> = Facts {
        session: false,
        favoured: Some(false),
        suspicions: &[],
        finding: None,
        stages: 1,
        admits: Admits::Either,
    };

    fn admits(facts: &Facts<'_>) -> bool {
        decide(facts).0 == Verdict::Admit
    }

    #[test]
    fn in_calm_times_either_admits_and_under_threat_both() {
        let all = [(false, false), (false, true), (true, false), (true, true)];
        for (admitting, expected) in [
            (Admits::Either, [false, true, true, true]),
            (Admits::Session, [false, false, true, true]),
            (Admits::Both, [false, false, false, true]),
        ] {
            let admitted = all.map(|(session, favoured)| {
                admits(&Facts { session, favoured: Some(favoured), admits: admitting, ..CALM })
            });
            assert_eq!(admitted, expected);
        }
    }

    #[test]
    fn an_address_cannot_be_favoured_and_its_session_is_enough() {
        for admitting in [Admits::Either, Admits::Session, Admits::Both] {
            let facts = Facts { favoured: None, admits: admitting, ..CALM };
            assert!(!admits(&facts));
            assert!(admits(&Facts { session: true, ..facts }));
        }
    }

    #[test]
    fn suspicion_asks_for_a_step_more_and_admits_as_before() {
        let suspected = Facts { suspicions: &[Suspicion::Quick], ..CALM };
        let (verdict, reasons) = decide(&suspected);
        assert_eq!(verdict, Verdict::Challenge(Demand { stages: 2, hard: true }));
        assert_eq!(reasons, [Reason::NoSession, Reason::Suspicious(Suspicion::Quick)]);
        assert!(admits(&Facts { session: true, ..suspected }));
        let scraper = Facts { finding: Some(Class::Scraping), ..CALM };
        assert_eq!(decide(&scraper).0, verdict);
        let top = Facts { stages: 3, ..suspected };
        assert_eq!(decide(&top).0, Verdict::Challenge(Demand { stages: 3, hard: true }));
    }

    #[test]
    fn nobody_gets_in_with_nothing() {
        for stages in 1..=3 {
            for admitting in [Admits::Either, Admits::Session, Admits::Both] {
                for favoured in [None, Some(false)] {
                    assert!(!admits(&Facts { stages, favoured, admits: admitting, ..CALM }));
                }
            }
        }
    }
}

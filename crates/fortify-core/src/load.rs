//! What makes the site busy, in words: tor, or the slots for connections.

use std::fmt;

/// What makes the site busy, where it is not the gate's own queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Tor does not keep up with introductions: the proof of work that it suggests, the introductions that wait, and
    /// those that it rejected between two samples.
    Tor {
        /// Proof of work.
        effort: u64,
        /// Introductions that wait.
        queued: u64,
        /// Introductions that were rejected.
        rejected: u64,
    },
    /// So many connections found no slot, or lost theirs, between two samples.
    TurnedAway(u64),
}

impl Load {
    /// What the operator may do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Tor { .. } => {
                "nothing while people get in: tor asks clients for proof of work; fortify tor advise says what \
                 this machine can serve"
            }
            Self::TurnedAway(_) => {
                "raise server.max_connections and the limit on open files, if memory permits"
            }
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Tor { effort, queued, rejected } => {
                let [effort, queued, rejected] = [effort, queued, rejected].map(grouped);
                write!(
                    f,
                    "tor: proof of work of effort {effort}, {queued} introductions waiting, {rejected} rejected"
                )
            }
            Self::TurnedAway(count) => {
                write!(f, "no slots left: {} connections cut or refused", grouped(count))
            }
        }
    }
}

/// A number with its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    match number / 1_000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1_000),
    }
}

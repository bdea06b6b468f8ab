//! The signed ticket of a circuit that waits in the admission queue.
//!
//! Visitors keep their own place, so a flood costs no memory. A ticket is valid for one circuit, in one queue,
//! for 30 minutes, which is longer than anybody has to wait.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::admission_queue::{Priority, QueuePosition};
use crate::session::key_ring::{KeyRing, KeyRingError, Purpose};
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::pseudonym::CircuitTag;

/// The lifetime of a ticket: longer than the longest wait in the queue.
const LIFETIME: Duration = Duration::from_secs(1800);

/// A signed place in the queue.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Ticket {
    /// The signed text, for a page or an API response.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Signs `place` in `queue` for `circuit`.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be signed.
    pub(super) fn seal(
        place: QueuePosition,
        circuit: CircuitTag,
        queue: u64,
        keys: &KeyRing,
        clock: &dyn Clock,
    ) -> Result<Self, KeyRingError> {
        let QueuePosition { priority, number, .. } = place;
        let issued_at = clock.now();
        let claims =
            Claims { circuit_id: circuit, issued_at, queue, priority: priority.index(), number };
        keys.sign(Purpose::Ticket, &claims).map(Self)
    }

    /// The place in `text`, if the ticket belongs to `circuit` and `queue` and has not expired.
    pub(super) fn open(
        text: &str,
        circuit: CircuitTag,
        queue: u64,
        keys: &KeyRing,
        clock: &dyn Clock,
    ) -> Option<(Priority, u64)> {
        let verified = keys.verify::<Claims>(Purpose::Ticket, text)?;
        let (claims, now) = (&verified.claims, clock.now());
        let in_force = verified.is_in_force(claims.issued_at, LIFETIME, now);
        if !in_force || claims.circuit_id != circuit || claims.queue != queue {
            return None;
        }
        Some((Priority::at(claims.priority)?, claims.number))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    circuit_id: CircuitTag,
    issued_at: Timestamp,
    queue: u64,
    priority: u8,
    number: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::clock::ManualClock;
    use fortify_core::entropy::SystemEntropy;

    const OWN: CircuitTag = CircuitTag::from_bytes([1; 16]);

    #[test]
    fn abuse_16_a_ticket_is_its_circuits_for_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let keys = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
        let place = QueuePosition {
            priority: Priority::Repeat,
            number: 7,
            ahead: 1,
            estimate: Duration::ZERO,
        };
        let ticket = Ticket::seal(place, OWN, 1, &keys, &clock).unwrap();
        let sealed = ticket.expose();
        let open = |circuit, text: &str| Ticket::open(text, circuit, 1, &keys, &clock);
        assert_eq!(open(OWN, sealed), Some((Priority::Repeat, 7)));
        assert_eq!(open(CircuitTag::from_bytes([2; 16]), sealed), None);
        assert_eq!(Ticket::open(sealed, OWN, 2, &keys, &clock), None, "of another queue");
        assert_eq!(open(OWN, ""), None);
        assert_eq!(open(OWN, &sealed.replacen('e', "f", 1)), None);
        clock.advance(LIFETIME);
        assert_eq!(open(OWN, sealed), None);
        assert_eq!(format!("{ticket:?}"), "Ticket(..)");
    }
}

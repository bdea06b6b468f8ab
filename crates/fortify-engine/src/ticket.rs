//! The signed ticket of a circuit that waits in the admission queue.
//!
//! Visitors keep their own place, so a flood costs no memory. A ticket is valid for one circuit, in one queue,
//! until its page has missed two refreshes. Each refresh brings a new one.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::challenge::policy::Preference;
use crate::limits::admission_queue::{Lane, QueuePosition, TicketNumber};
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::pseudonym::CircuitTag;
use fortify_keys::{KeyRing, KeyRingError, Purpose};

/// A signed place in the queue.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Ticket {
    /// The signed text, for a page or an API response.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Signs `place` in `queue` for `circuit`, and the wish of a visitor who asks for another picture.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be signed.
    pub(super) fn seal(
        place: QueuePosition,
        wish: Option<Preference>,
        circuit: CircuitTag,
        queue: u64,
        keys: &KeyRing,
        clock: &dyn Clock,
    ) -> Result<Self, KeyRingError> {
        let TicketNumber { lane, number, draw } = place.ticket;
        let valid_for = u32::try_from(place.valid_for().as_secs()).unwrap_or(u32::MAX);
        let (issued_at, lane) = (clock.now(), lane.index());
        let wish = wish.map(|wish| wish.as_str().to_owned());
        let claims =
            Claims { circuit_id: circuit, issued_at, valid_for, queue, lane, number, draw, wish };
        keys.sign(Purpose::Ticket, &claims).map(Self)
    }

    /// The number in `text` and the wish, if the ticket belongs to `circuit` and `queue` and has not expired.
    pub(super) fn open(
        text: &str,
        circuit: CircuitTag,
        queue: u64,
        keys: &KeyRing,
        clock: &dyn Clock,
    ) -> Option<(TicketNumber, Option<Preference>)> {
        let verified = keys.verify::<Claims>(Purpose::Ticket, text)?;
        let (claims, now) = (&verified.claims, clock.now());
        let lifetime = Duration::from_secs(claims.valid_for.into());
        let in_force = verified.is_in_force(claims.issued_at, lifetime, now);
        if !in_force || claims.circuit_id != circuit || claims.queue != queue {
            return None;
        }
        let lane = Lane::at(claims.lane)?;
        let wish = claims.wish.as_deref().map(Preference::parse);
        Some((TicketNumber { lane, number: claims.number, draw: claims.draw }, wish))
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
    /// Seconds.
    valid_for: u32,
    queue: u64,
    lane: u8,
    number: u64,
    /// The draw in which the number took part.
    draw: u64,
    /// The kind of another picture that the visitor asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wish: Option<String>,
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
        let number = TicketNumber { lane: Lane::Few, number: 7, draw: 3 };
        let place = QueuePosition {
            ticket: number,
            ahead: 1,
            estimate: Duration::ZERO,
            refresh: Duration::from_secs(3),
            odds: None,
        };
        let ticket = Ticket::seal(place, Some(Preference::Still), OWN, 1, &keys, &clock).unwrap();
        let sealed = ticket.expose();
        let open = |circuit, text: &str| Ticket::open(text, circuit, 1, &keys, &clock);
        assert_eq!(open(OWN, sealed), Some((number, Some(Preference::Still))));
        assert_eq!(open(CircuitTag::from_bytes([2; 16]), sealed), None);
        assert_eq!(Ticket::open(sealed, OWN, 2, &keys, &clock), None, "of another queue");
        assert_eq!(open(OWN, ""), None);
        assert_eq!(open(OWN, &sealed.replacen('e', "f", 1)), None);
        clock.advance(Duration::from_millis(9_999));
        assert_eq!(
            open(OWN, sealed),
            Some((number, Some(Preference::Still))),
            "two refreshes and their round trips"
        );
        clock.advance(Duration::from_millis(1));
        assert_eq!(open(OWN, sealed), None);
        assert_eq!(format!("{ticket:?}"), "Ticket(..)");
    }
}

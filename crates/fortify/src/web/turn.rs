//! Whether a visitor may have a challenge now, and the ticket of one who waits in turn.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::return_to::ReturnTo;
use super::visitor::Visitor;
use crate::app::App;
use crate::clock::{Clock, Timestamp};
use crate::limits::Turn;
use crate::limits::turnstile::{Lane, Place};
use crate::pseudonym::CircuitTag;
use crate::reputation::Standing;
use crate::session::key_ring::{KeyRing, Purpose};
use crate::web::error::WebError;

/// The address at which one who waits comes back.
pub const TURN: &str = "/_fortify/turn";

/// How long a ticket is good: longer than anybody waits at a page.
const LIFETIME: Duration = Duration::from_secs(1800);

/// Between which two times a page that waits asks again: often enough to be there when called, and no
/// more often than a page over Tor takes.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// A place in the queue, and where it leads.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The place.
    pub place: Place,
    /// Its ticket.
    pub ticket: Ticket,
    /// The page asked for.
    pub to: ReturnTo,
}

impl Queued {
    /// After how long the page asks again.
    #[must_use]
    pub fn ask_again(&self) -> Duration {
        let (least, most) = ASK_AGAIN;
        self.place.estimate.clamp(least, most)
    }

    /// The address that asks again.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{TURN}?ticket={}&to={}", self.ticket.0, self.to.encode())
    }
}

/// A signed place: with it one comes in as this circuit alone.
#[derive(Clone)]
pub struct Ticket(String);

impl Ticket {
    /// What a page or a program gets.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
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
    lane: u8,
    number: u64,
}

/// Returns when `visitor` may have a challenge now. `ticket` is what it brought, whatever that is: one
/// that is not good any more asks like anybody without.
///
/// # Errors
///
/// [`WebError::Queued`] and [`WebError::TooMany`] for those who wait; faults of the store.
pub(super) async fn take(
    app: &App,
    visitor: &Visitor,
    ticket: Option<&str>,
    to: &ReturnTo,
) -> Result<(), WebError> {
    let held = ticket.and_then(|ticket| {
        open(&app.keys, &*app.clock, visitor.circuit, app.limits.queue(), ticket)
    });
    let held = held.and_then(|(lane, number)| app.limits.knock(lane, number));
    let turn = match held {
        Some(turn) => turn,
        None => {
            // A wait after wrong answers comes first: who serves it takes no place meanwhile.
            if let Some(wait) = app.challenges.wait(visitor.circuit).await? {
                return Err(WebError::MustWait(wait));
            }
            let standing = visitor.id.tor().and_then(|circuit| app.reputation.standing(circuit));
            let favoured = standing == Some(Standing::Vip);
            app.limits
                .ask(visitor.circuit, favoured, app.threat.policy().challenges_per_hour)
                .await?
        }
    };
    match turn {
        Turn::Now => Ok(()),
        Turn::TooMany(wait) => Err(WebError::TooMany(wait)),
        Turn::Full => Err(WebError::Busy("the queue is full".to_owned())),
        Turn::Wait(place) => {
            let ticket =
                seal(&app.keys, &*app.clock, visitor.circuit, app.limits.queue(), place)
                    .ok_or_else(|| WebError::Unavailable("a ticket cannot be signed".to_owned()))?;
            Err(WebError::Queued(Box::new(Queued { place, ticket, to: to.clone() })))
        }
    }
}

fn seal(
    keys: &KeyRing,
    clock: &dyn Clock,
    circuit: CircuitTag,
    queue: u64,
    place: Place,
) -> Option<Ticket> {
    let Place { lane, number, .. } = place;
    let issued_at = clock.now();
    let claims = Claims { circuit_id: circuit, issued_at, queue, lane: lane.index(), number };
    keys.sign(Purpose::Ticket, &claims).ok().map(Ticket)
}

/// The place that `ticket` stands for, if it is this circuit's, in this queue, and not too old.
fn open(
    keys: &KeyRing,
    clock: &dyn Clock,
    circuit: CircuitTag,
    queue: u64,
    ticket: &str,
) -> Option<(Lane, u64)> {
    let verified = keys.verify::<Claims>(Purpose::Ticket, ticket)?;
    let (claims, now) = (&verified.claims, clock.now());
    let in_force = verified.is_in_force(claims.issued_at, LIFETIME, now);
    if !in_force || claims.circuit_id != circuit || claims.queue != queue {
        return None;
    }
    Some((Lane::at(claims.lane)?, claims.number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::entropy::SystemEntropy;

    const OWN: CircuitTag = CircuitTag::from_bytes([1; 16]);

    #[test]
    fn abuse_16_a_ticket_is_its_circuits_for_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let keys = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
        let place = Place { lane: Lane::Again, number: 7, ahead: 1, estimate: Duration::ZERO };
        let Ticket(sealed) = seal(&keys, &clock, OWN, 1, place).unwrap();
        let open = |circuit, text: &str| open(&keys, &clock, circuit, 1, text);
        assert_eq!(open(OWN, &sealed), Some((Lane::Again, 7)));
        assert_eq!(open(CircuitTag::from_bytes([2; 16]), &sealed), None);
        assert_eq!(super::open(&keys, &clock, OWN, 2, &sealed), None, "of another queue");
        assert_eq!(open(OWN, ""), None);
        assert_eq!(open(OWN, &sealed.replacen('e', "f", 1)), None);
        clock.advance(LIFETIME);
        assert_eq!(open(OWN, &sealed), None);
        assert_eq!(format!("{:?}", Ticket(sealed)), "Ticket(..)");
    }
}

//! The page of one who waits in the admission queue.

use std::time::Duration;

use crate::addresses::TURN;
use crate::return_to::ReturnTo;
use fortify_engine::limits::admission_queue::QueuePosition;
use fortify_engine::ticket::Ticket;

/// Between which two times a page that waits asks again: often enough to be there when called, and no
/// more often than a page over Tor takes.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// A place in the queue, and where it leads.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The place.
    pub place: QueuePosition,
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
        format!("{TURN}?ticket={}&to={}", self.ticket.expose(), self.to.encode())
    }
}

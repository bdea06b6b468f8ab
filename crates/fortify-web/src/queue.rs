//! The page of one who waits in the admission queue.

use crate::addresses::TURN;
use crate::return_to::ReturnTo;
use fortify_engine::limits::admission_queue::QueuePosition;
use fortify_engine::ticket::Ticket;

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
    /// The address that asks again.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{TURN}?ticket={}&to={}", self.ticket.expose(), self.to.encode())
    }
}

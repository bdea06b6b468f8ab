//! What the engine does beside requests: it forgets circuits that are no more, notices rotated keys, and
//! says when the learning period is over.

use super::Engine;
use crate::behaviour::Report;
use crate::reputation::StatusReason;
use crate::session::key_ring::KeyRingError;
use fortify_core::circuit::{CircuitId, Origin, TorBoot, TorCircuit};

impl Engine {
    /// Takes back the statuses of circuits that ended with the tor before `boot`, so that nobody inherits
    /// one with a number. What the store keeps names the start of tor, so that nothing of it is found
    /// again; `HAProxy`'s table knows circuits by number alone.
    pub async fn tor_restarted(&self, boot: TorBoot) {
        self.take_back(&self.reputation.stale_at(boot)).await;
    }

    /// Forgets a circuit that tor closed.
    pub async fn circuit_closed(&self, circuit: TorCircuit) {
        self.reputation.lift_penalty(circuit);
        if self.reputation.status(circuit).is_some() {
            self.take_back(&[circuit]).await;
        }
        for id in [CircuitId::Header(circuit), CircuitId::ProxyLine(Origin::Tor(circuit))] {
            let tag = self.pseudonyms.tag(&id);
            self.answer_histories.forget(tag);
            self.behaviour.forget(tag);
            if let Err(error) = self.store.forget_failures(tag).await {
                // It goes by itself when its time is over.
                tracing::debug!(%error, "a closed circuit was not forgotten");
            }
        }
    }

    /// Reads the key file again if it changed; whether it did.
    ///
    /// # Errors
    ///
    /// When it cannot be read; the keys stay as they are.
    pub fn refresh_keys(&self) -> Result<bool, KeyRingError> {
        self.keys.refresh()
    }

    /// The report of the learning period, once, when it is over.
    #[must_use]
    pub fn end_of_learning(&self) -> Option<Report> {
        self.behaviour.end_of_first_day()
    }

    /// Takes the statuses of circuits back that are no more: for long enough that `HAProxy` is told,
    /// whenever it is back.
    async fn take_back(&self, circuits: &[TorCircuit]) {
        let time = self.config.reputation.ban;
        let failed = |error| {
            tracing::error!(%error, "the ban of a circuit that is no more stays until its end");
            Ok(())
        };
        let done = self.reset_for(circuits, time, StatusReason::Closed, failed).await;
        debug_assert!(done.is_ok(), "every failure was logged");
    }
}

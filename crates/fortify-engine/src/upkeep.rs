//! Work between requests: forgetting closed circuits, loading rotated keys, and reporting the end of the
//! learning period.

use super::Engine;
use crate::behaviour::Report;
use fortify_core::circuit::{CircuitId, Origin, TorBoot, TorCircuit};
use fortify_keys::KeyRingError;
use fortify_reputation::StatusReason;

/// What changed of the keys of all nodes.
#[derive(Debug)]
pub struct KeyNews {
    /// Whether another node has rotated the keys, and this one followed. An error says why the key file cannot be written;
    /// the current keys stay in use, and what the other node signs is verified all the same.
    pub followed: Result<bool, KeyRingError>,
    /// Whether another node has other keys from now on.
    pub foreign: Option<bool>,
}

impl Engine {
    /// Resets the status of circuits from tor generations before `boot`, so that no new circuit inherits one with
    /// its number. Keys in the store include the generation and so are never found again; the table in
    /// `HAProxy` identifies circuits by number alone.
    pub async fn tor_restarted(&self, boot: TorBoot) {
        self.reset_closed(&self.reputation.stale_at(boot)).await;
    }

    /// Forgets a circuit that Tor has closed.
    pub async fn circuit_closed(&self, circuit: TorCircuit) {
        self.reputation.lift_penalty(circuit);
        self.exchanges.forget(circuit);
        if self.reputation.status(circuit).is_some() {
            self.reset_closed(&[circuit]).await;
        }
        for id in [CircuitId::Header(circuit), CircuitId::ProxyLine(Origin::Tor(circuit))] {
            let tag = self.pseudonyms.tag(&id);
            self.answer_histories.forget(tag);
            self.behaviour.forget(tag);
            if let Err(error) = self.store.forget_failures(tag).await {
                // The entry expires by itself.
                tracing::debug!(%error, "could not forget the failures of a closed circuit; they expire by themselves");
            }
        }
    }

    /// Writes what circuits answered and what sessions have left, for the next process. To be called every few seconds and
    /// at the end: a process that is killed loses what came after. Waits for one that has begun, so that no older figure
    /// is written after a newer one.
    pub async fn keep(&self) {
        let (histories, budgets) = (self.answer_histories.clone(), self.budgets.clone());
        // Held by the writing itself: whoever waits for it here may be cancelled.
        let alone = self.keeping.clone().lock_owned().await;
        let now = self.clock.now();
        // Waiting for the disk must not block the threads that serve requests.
        let kept = tokio::task::spawn_blocking(move || {
            let _alone = alone;
            histories.keep();
            budgets.keep(now);
        });
        let _a_panic_was_logged_already = kept.await;
    }

    /// Reloads the key file if it has changed, and returns whether it had.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read; the current keys stay in use.
    pub fn refresh_keys(&self) -> Result<bool, KeyRingError> {
        self.keys.refresh()
    }

    /// Tells the other nodes which keys this one has, and follows one that has rotated them. To be called every few
    /// seconds. `None` if the store does not say: everything stays as it is.
    pub async fn agree_on_keys(&self) -> Option<KeyNews> {
        let own = self.keys.note();
        let notes = match self.store.exchange_key_notes(own).await {
            Ok(notes) => notes,
            Err(error) => {
                // A store that does not answer at all is reported by others.
                if self.store.is_current().is_ok() {
                    tracing::warn!(%error, "this node does not hear which signing keys the others have");
                }
                return None;
            }
        };
        let foreign = notes.iter().any(|note| note.root != own.root);
        let had_foreign = self.metrics.keys.set_foreign(foreign);
        let follow =
            |note| self.keys.follow(note, self.config.session.ttl, &*self.clock, &*self.entropy);
        let newest = notes.into_iter().find(|note| note.root == own.root);
        let followed = newest.map_or(Ok(false), follow);
        Some(KeyNews { followed, foreign: Some(foreign).filter(|foreign| *foreign != had_foreign) })
    }

    /// Tells the dial how many wait in the queue now: when nobody asks any more, no request does.
    pub fn sample_queue(&self) {
        self.threat.signals().queued(self.limits.waiting());
    }

    /// The report of the learning period, returned once, after it has ended.
    #[must_use]
    pub fn end_of_learning(&self) -> Option<Report> {
        self.behaviour.end_of_first_day()
    }

    /// Resets the status of closed circuits. The reset lasts long enough to reach `HAProxy` even after an outage.
    async fn reset_closed(&self, circuits: &[TorCircuit]) {
        let time = self.config.reputation.ban;
        let failed = |error| {
            tracing::error!(%error, "could not reset the status of a closed circuit; it stays until it expires");
            Ok(())
        };
        let done = self.reset_for(circuits, time, StatusReason::Closed, failed).await;
        debug_assert!(done.is_ok(), "every failure was logged");
    }
}

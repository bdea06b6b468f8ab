//! Access to the parts of an engine, for tests that need to look behind its verbs or to set up a state that takes
//! visitors hours to reach. Available only with the feature `test-support`.

use std::sync::Arc;

use super::Engine;
use crate::behaviour::Behaviour;
use crate::challenge::Challenges;
use crate::limits::Limits;
use crate::session::Sessions;
use crate::threat::Threat;
use fortify_core::pseudonym::Pseudonyms;
use fortify_keys::KeyRing;
use fortify_reputation::Reputation;
use fortify_reputation::answer_history::AnswerHistories;
use fortify_reputation::replication::Replication;
use fortify_store::StateStore;

/// The parts of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The store of state between requests.
    pub store: &'a Arc<dyn StateStore>,
    /// The signing keys.
    pub keys: &'a Arc<KeyRing>,
    /// Derives the pseudonyms of circuits.
    pub pseudonyms: &'a Pseudonyms,
    /// Creates and checks sessions.
    pub sessions: &'a Arc<Sessions>,
    /// Issues, draws and checks challenges.
    pub challenges: &'a Arc<Challenges>,
    /// The limits of challenges.
    pub limits: &'a Arc<Limits>,
    /// The status of circuits.
    pub reputation: &'a Arc<Reputation>,
    /// The answer histories of circuits.
    pub answer_histories: &'a Arc<AnswerHistories>,
    /// The replication of both to other nodes.
    pub replication: &'a Arc<Replication>,
    /// The behaviour of circuits.
    pub behaviour: &'a Arc<Behaviour>,
    /// The threat level.
    pub threat: &'a Arc<Threat>,
}

impl Engine {
    /// Returns the parts of this engine.
    #[must_use]
    pub const fn parts(&self) -> Parts<'_> {
        Parts {
            store: &self.store,
            keys: &self.keys,
            pseudonyms: &self.pseudonyms,
            sessions: &self.sessions,
            challenges: &self.challenges,
            limits: &self.limits,
            reputation: &self.reputation,
            answer_histories: &self.answer_histories,
            replication: &self.replication,
            behaviour: &self.behaviour,
            threat: &self.threat,
        }
    }
}

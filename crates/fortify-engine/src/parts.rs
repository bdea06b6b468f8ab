//! The parts of an engine, for tests that look behind its verbs or need a state that visitors take hours to
//! reach. Only the feature `test-support` has it.

use std::sync::Arc;

use super::Engine;
use crate::behaviour::Behaviour;
use crate::challenge::Challenges;
use crate::limits::Limits;
use crate::reputation::Reputation;
use crate::reputation::answer_history::AnswerHistories;
use crate::reputation::replication::Replication;
use crate::session::Sessions;
use crate::session::key_ring::KeyRing;
use crate::threat::Threat;
use fortify_core::pseudonym::Pseudonyms;
use fortify_store::StateStore;

/// What an engine is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// What is remembered between requests.
    pub store: &'a Arc<dyn StateStore>,
    /// The signing keys.
    pub keys: &'a Arc<KeyRing>,
    /// How circuits are called.
    pub pseudonyms: &'a Pseudonyms,
    /// Mints and checks sessions.
    pub sessions: &'a Arc<Sessions>,
    /// Draws, issues and judges challenges.
    pub challenges: &'a Arc<Challenges>,
    /// How much may be asked for.
    pub limits: &'a Arc<Limits>,
    /// The status of circuits.
    pub reputation: &'a Arc<Reputation>,
    /// How circuits answer.
    pub answer_histories: &'a Arc<AnswerHistories>,
    /// What the other nodes are told of both.
    pub replication: &'a Arc<Replication>,
    /// What circuits do.
    pub behaviour: &'a Arc<Behaviour>,
    /// The threat level.
    pub threat: &'a Arc<Threat>,
}

impl Engine {
    /// What it is made of.
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

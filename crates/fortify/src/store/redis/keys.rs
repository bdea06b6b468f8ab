//! What each key is called. Nothing but a parsed token or a circuit's tag ever enters a name.

use crate::config::KeyPrefix;
use crate::pseudonym::CircuitTag;
use crate::store::record::ChallengeToken;

/// Names keys under one prefix. `docs/redis.md` says what each of them holds.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: KeyPrefix,
}

impl Keys {
    pub(super) fn new(prefix: KeyPrefix) -> Self {
        Self { prefix }
    }

    /// One challenge, by its token alone: whoever redeems it names nothing else.
    pub(super) fn challenge(&self, token: &ChallengeToken) -> String {
        format!("{}:captcha:{}", self.prefix.as_str(), token.encode())
    }

    /// The tokens of a circuit's live challenges, in the order they were issued.
    pub(super) fn active(&self, circuit: CircuitTag) -> String {
        format!("{}:active:{}", self.prefix.as_str(), circuit.encode())
    }

    /// A circuit's wrong answers.
    pub(super) fn failures(&self, circuit: CircuitTag) -> String {
        format!("{}:failures:{}", self.prefix.as_str(), circuit.encode())
    }

    /// The log of revocations.
    pub(super) fn revocations(&self) -> String {
        format!("{}:{{revocations}}:log", self.prefix.as_str())
    }

    /// A name for the life of that log. The hash tag keeps it on the same node, so that what loses
    /// the one loses the other.
    pub(super) fn epoch(&self) -> String {
        format!("{}:{{revocations}}:epoch", self.prefix.as_str())
    }

    /// The turns of the threat dial, of which the last is in force.
    pub(super) fn dial(&self) -> String {
        format!("{}:dial", self.prefix.as_str())
    }
}

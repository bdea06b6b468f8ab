//! What each key is called. Nothing but a parsed token, a circuit's tag or a session's id ever enters
//! a name.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::KeyPrefix;
use crate::record::{ChallengeToken, SessionId};
use fortify_core::pseudonym::CircuitTag;

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

    /// When a circuit asked for challenges.
    pub(super) fn requests(&self, circuit: CircuitTag) -> String {
        format!("{}:requests:{}", self.prefix.as_str(), circuit.encode())
    }

    /// The log of revocations.
    pub(super) fn revocations(&self) -> String {
        format!("{}:{{revocations}}:log", self.prefix.as_str())
    }

    /// The log of moves. It is where the revocations are, so that one read tells of both.
    pub(super) fn moves(&self) -> String {
        format!("{}:{{revocations}}:moves", self.prefix.as_str())
    }

    /// Where one session lives and lived. It is where the log of moves is, so that one script
    /// decides and tells.
    pub(super) fn binding(&self, session: SessionId) -> String {
        let session = URL_SAFE_NO_PAD.encode(session.to_bytes());
        format!("{}:{{revocations}}:binding:{session}", self.prefix.as_str())
    }

    /// A name for the life of the logs. The hash tag keeps it on the same node, so that what loses
    /// the one loses the others.
    pub(super) fn stream_id(&self) -> String {
        format!("{}:{{revocations}}:stream", self.prefix.as_str())
    }

    /// The turns of the threat dial, of which the last is in force.
    pub(super) fn dial(&self) -> String {
        format!("{}:dial", self.prefix.as_str())
    }

    /// How circuits stand, by circuit. All keys of standings have one hash tag, so that one script keeps
    /// a row and tells of it.
    pub(super) fn status_rows(&self) -> String {
        format!("{}:{{status}}:rows", self.prefix.as_str())
    }

    /// The log of changes of standings.
    pub(super) fn status_log(&self) -> String {
        format!("{}:{{status}}:log", self.prefix.as_str())
    }

    /// Until when the rows that stand so are kept.
    pub(super) fn status_ends(&self, status: &str) -> String {
        format!("{}:{{status}}:ends:{status}", self.prefix.as_str())
    }

    /// A name for the life of these keys.
    pub(super) fn status_stream_id(&self) -> String {
        format!("{}:{{status}}:stream", self.prefix.as_str())
    }

    /// The log of what circuits did with challenges. It is where the standings are, so that one read
    /// tells of both.
    pub(super) fn answer_events(&self) -> String {
        format!("{}:{{status}}:events", self.prefix.as_str())
    }
}

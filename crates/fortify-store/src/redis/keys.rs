//! The names of keys. Only parsed tokens, circuits' tags and session ids become part of a name.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::KeyPrefix;
use crate::record::{ChallengeToken, SessionId};
use fortify_core::pseudonym::CircuitTag;

/// Names keys under one prefix. `docs/redis.md` describes their values.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: KeyPrefix,
}

impl Keys {
    pub(super) fn new(prefix: KeyPrefix) -> Self {
        Self { prefix }
    }

    /// One challenge, by its token only: an answer names nothing else.
    pub(super) fn challenge(&self, token: &ChallengeToken) -> String {
        self.prefix.key(format_args!("captcha:{}", token.encode()))
    }

    /// The tokens of a circuit's live challenges, in the order they were issued.
    pub(super) fn active(&self, circuit: CircuitTag) -> String {
        self.prefix.key(format_args!("active:{}", circuit.encode()))
    }

    /// A circuit's wrong answers.
    pub(super) fn failures(&self, circuit: CircuitTag) -> String {
        self.prefix.key(format_args!("failures:{}", circuit.encode()))
    }

    /// When a circuit asked for challenges.
    pub(super) fn requests(&self, circuit: CircuitTag) -> String {
        self.prefix.key(format_args!("requests:{}", circuit.encode()))
    }

    /// The log of revocations.
    pub(super) fn revocations(&self) -> String {
        self.prefix.key("{revocations}:log")
    }

    /// The log of moves, in the same slot as the revocations, so that one read covers both.
    pub(super) fn moves(&self) -> String {
        self.prefix.key("{revocations}:moves")
    }

    /// The circuits of one session, in the same slot as the log of moves, so that one script writes both.
    pub(super) fn binding(&self, session: SessionId) -> String {
        let session = URL_SAFE_NO_PAD.encode(session.to_bytes());
        self.prefix.key(format_args!("{{revocations}}:binding:{session}"))
    }

    /// What is left of a session's budget. In any slot: nothing else is written with it.
    pub(super) fn budget(&self, session: SessionId) -> String {
        let session = URL_SAFE_NO_PAD.encode(session.to_bytes());
        self.prefix.key(format_args!("budget:{session}"))
    }

    /// The id of the logs, which is lost together with them: the hash tag keeps all in one slot.
    pub(super) fn stream_id(&self) -> String {
        self.prefix.key("{revocations}:stream")
    }

    /// Which signing keys the nodes have.
    pub(super) fn key_notes(&self) -> String {
        self.prefix.key("keys")
    }

    /// Changes of the threat dial; the last is in force.
    pub(super) fn dial(&self) -> String {
        self.prefix.key("dial")
    }

    /// The statuses of circuits. All keys of statuses share a hash tag, so that one script writes a row and its
    /// log entry.
    pub(super) fn status_rows(&self) -> String {
        self.prefix.key("{status}:rows")
    }

    /// The log of changed statuses.
    pub(super) fn status_log(&self) -> String {
        self.prefix.key("{status}:log")
    }

    /// When the rows with this status expire.
    pub(super) fn status_ends(&self, status: &str) -> String {
        self.prefix.key(format_args!("{{status}}:ends:{status}"))
    }

    /// The id of these keys.
    pub(super) fn status_stream_id(&self) -> String {
        self.prefix.key("{status}:stream")
    }

    /// The log of answer events, in the same slot as the statuses, so that one read covers both.
    pub(super) fn answer_events(&self) -> String {
        self.prefix.key("{status}:events")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_the_prefix_and_none_has_one_where_it_is_empty() {
        let token: ChallengeToken = "A".repeat(43).parse().unwrap();
        let names = |prefix: &str| {
            let keys = Keys::new(KeyPrefix::parse(prefix.to_owned()).unwrap());
            let (circuit, session) =
                (CircuitTag::from_bytes([0; 16]), SessionId::from_bytes([0; 16]));
            [
                keys.challenge(&token),
                keys.active(circuit),
                keys.failures(circuit),
                keys.requests(circuit),
                keys.revocations(),
                keys.moves(),
                keys.binding(session),
                keys.budget(session),
                keys.stream_id(),
                keys.key_notes(),
                keys.dial(),
                keys.status_rows(),
                keys.status_log(),
                keys.status_ends("vip"),
                keys.status_stream_id(),
                keys.answer_events(),
            ]
        };
        let bare = names("");
        assert_eq!(bare[0], format!("captcha:{}", "A".repeat(43)));
        assert_eq!(names("fortify"), bare.map(|name| format!("fortify:{name}")));
    }
}

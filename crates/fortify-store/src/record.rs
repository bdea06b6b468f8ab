//! What a store keeps, and the names it keeps it under.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use fortify_core::clock::Timestamp;
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_core::pseudonym::CircuitTag;

/// The name of one challenge: 32 random bytes, so that it cannot be guessed.
///
/// Its text is base64url without padding, 43 characters, and only the canonical spelling is read:
/// two spellings of one token would be two keys for a limit or a replay record.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ChallengeToken([u8; 32]);

/// A text that is no challenge token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a challenge token")]
pub struct MalformedToken;

impl ChallengeToken {
    /// A fresh token.
    ///
    /// # Errors
    ///
    /// When `entropy` has none to give.
    pub fn random(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random_bytes(entropy).map(Self)
    }

    /// The text that a page, a form or an address carries.
    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The token with these bytes: for stores that read one back.
    #[must_use]
    pub(super) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a store.
    #[must_use]
    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ChallengeToken {
    type Err = MalformedToken;

    fn from_str(text: &str) -> Result<Self, MalformedToken> {
        // The engine refuses padding and non-zero trailing bits, so the spelling is the only one.
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_not_base64| MalformedToken)?;
        bytes.try_into().map(Self).map_err(|_wrong_length| MalformedToken)
    }
}

impl fmt::Debug for ChallengeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChallengeToken(..)")
    }
}

/// The name of one session: 16 random bytes, the `session_id` claim.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; Self::BYTES]);

impl SessionId {
    /// Bytes of an id: 128 bits, so that none is met by chance.
    pub const BYTES: usize = 16;

    /// The id with these bytes: for stores that read one back.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a store.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// A fresh session id.
    ///
    /// # Errors
    ///
    /// When `entropy` has none to give.
    pub fn random(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random_bytes(entropy).map(Self)
    }
}

/// The name of one chain of challenges that a visitor answers one after another: 16 bytes made from its
/// first challenge's token, so that nobody else has them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainId([u8; Self::BYTES]);

impl ChainId {
    /// Bytes of an id: as of a [`SessionId`], beside which a store keeps it.
    pub const BYTES: usize = SessionId::BYTES;

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The entry among the revocations under which a spent chain is kept. Both ids are 128 bits that
    /// nobody can choose, so that no chain has the entry of a session.
    pub(super) const fn revocation(self) -> SessionId {
        SessionId(self.0)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainId(..)")
    }
}

impl Serialize for ChainId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SessionId(self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ChainId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SessionId::deserialize(deserializer).map(|id| Self(id.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_length| serde::de::Error::custom("not a session id"))
    }
}

/// A text that no `Debug`, log or error shows, and that memory does not keep after its use.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one that has to use it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One challenge as the store keeps it: a recipe, not a picture.
///
/// The picture is drawn from the seed whenever it is fetched and is the same bytes each time, so
/// that a flood of challenges costs a few hundred bytes each. The fields that describe the picture
/// are plain names and numbers: a store does not know what they mean, and a record that another
/// version wrote still reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChallengeRecord {
    /// The task: `distorted_text`, `arithmetic`.
    pub variant: Cow<'static, str>,
    /// How the task is made visible: `ink`.
    pub carrier: Cow<'static, str>,
    /// How the answer is given: `typed`.
    pub mode: Cow<'static, str>,
    /// Difficulty, 1 to 10.
    pub level: u8,
    /// Characters of a `distorted_text`.
    pub length: u8,
    /// What the picture is drawn from.
    pub seed: Secret<[u8; 32]>,
    /// The expected answer, as `fortify_captcha::Answer::encode` writes it.
    pub answer: Secret<String>,
    /// What only a program reads in the picture, as the answer is written; where there is one.
    #[serde(default)]
    pub decoy: Option<Secret<String>>,
    /// Which renderer drew it; another one may draw another picture from the same seed.
    pub renderer: u16,
    /// The style it is drawn in, by the start of its epoch, s since the Unix epoch.
    pub style_period: u64,
    /// Who asked for it: nobody else may answer it.
    pub circuit: CircuitTag,
    /// When it was issued.
    pub created_at: Timestamp,
    /// From when on it is as if it had never been.
    pub expires_at: Timestamp,
}

/// The wrong answers of one circuit that are not forgotten yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How many.
    pub count: u32,
    /// When they are forgotten.
    pub until: Timestamp,
}

impl Failures {
    /// No failures.
    pub const NONE: Self = Self { count: 0, until: Timestamp::from_millis(0) };
}

/// At most so many within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimit {
    /// How far back it counts.
    pub within: Duration,
    /// How many there may be, at least 1.
    pub most: u32,
}

/// What became of asking for a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// It is within all bounds, and counted.
    Granted {
        /// How often was asked within the widest of them, this time included.
        recent: u32,
    },
    /// Not before this has passed; not counted.
    Exceeded(Duration),
}

/// The threat dial as nodes share it: plain names and numbers, as in a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialRecord {
    /// One higher at every turn.
    pub version: u64,
    /// Who may turn it: `auto`, `manual`, `pinned`.
    pub mode: Cow<'static, str>,
    /// Where it stands, 1 to 10.
    pub level: u8,
    /// Until when it does not turn by itself.
    pub paused_until: Option<Timestamp>,
}

/// What a store knows of a session beyond its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Nothing: it is in force, and lives where its token says.
    Unmoved,
    /// It is in force, and lives here, whatever its token says.
    BoundTo(CircuitTag),
    /// It was ended before its time.
    Revoked,
}

/// A session's step to another circuit, and what it may not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveRequest {
    /// The circuit that its token was written for.
    pub from: CircuitTag,
    /// The circuit that the request came from.
    pub to: CircuitTag,
    /// When the session ends by itself: nothing of it needs to be kept any longer.
    pub until: Timestamp,
    /// Moves within `window`; 0 allows none.
    pub most: u32,
    /// How far back moves count.
    pub window: Duration,
}

/// What became of a [`MoveRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveOutcome {
    /// It lives on the new circuit now.
    Moved,
    /// It lived there already.
    AlreadyBound,
    /// It moved as often as it may, or there is no room to remember another move.
    Refused,
    /// It was used from a circuit that it had left, and is ended by this very step.
    Shared,
    /// It was ended before.
    Revoked,
}

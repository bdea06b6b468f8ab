//! The records of a store, and their ids.

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

/// The error for a text that is no challenge token.
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

    /// The text, as in pages, forms and addresses.
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
        // The decoder refuses padding and non-zero trailing bits, so there is only one spelling.
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; Self::BYTES]);

impl SessionId {
    /// Bytes of an id: 128 bits, so that none can be guessed.
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

    /// The id under which all sessions of `circuit` are revoked together ([`super::StateStore::end_sessions_of`]).
    /// A pseudonym is a keyed hash, so no session has it.
    #[must_use]
    pub fn of_all_on(circuit: CircuitTag) -> Self {
        // Not the pseudonym itself, which is the id of what an operator's trust admits.
        Self(circuit.to_bytes().map(|byte| !byte))
    }

    /// The id of what `circuit` may do without a session, because an operator trusts it.
    #[must_use]
    pub const fn of_trusted(circuit: CircuitTag) -> Self {
        Self(circuit.to_bytes())
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

/// A session: what one right answer admits, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id, for revocation.
    pub id: SessionId,
    /// The threat level under which it was earned.
    pub threat_level: u8,
    /// When it was earned.
    pub issued_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl Session {
    /// Bytes of a session: its id, its level, when it was earned and when it expires, milliseconds, big-endian.
    pub const BYTES: usize = SessionId::BYTES + 1 + 2 * 8;

    /// The session as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let times = [self.issued_at, self.expires_at];
        let times = times.into_iter().flat_map(|time| time.as_millis().to_be_bytes());
        let all = self.id.to_bytes().into_iter().chain([self.threat_level]).chain(times);
        for (byte, from) in bytes.iter_mut().zip(all) {
            *byte = from;
        }
        bytes
    }

    /// Reads [`Self::encode`] back; `None` for zeros, which stand for no session, and for any other length.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let ([threat_level], rest) = rest.split_first_chunk()?;
        let (issued_at, rest) = rest.split_first_chunk()?;
        let expires_at = rest.try_into().ok()?;
        let session = Self {
            id: SessionId::from_bytes(*id),
            threat_level: *threat_level,
            issued_at: Timestamp::from_millis(u64::from_be_bytes(*issued_at)),
            expires_at: Timestamp::from_millis(u64::from_be_bytes(expires_at)),
        };
        (session.threat_level > 0).then_some(session)
    }

    /// Some session that lasts until `expires_at`, for tests.
    #[cfg(any(test, feature = "test-support"))]
    #[must_use]
    pub const fn sample(number: u8, expires_at: Timestamp) -> Self {
        let issued_at = Timestamp::from_millis(0);
        let id = SessionId::from_bytes([number; SessionId::BYTES]);
        Self { id, threat_level: 2, issued_at, expires_at }
    }
}

impl From<SessionId> for [u8; SessionId::BYTES] {
    fn from(session: SessionId) -> Self {
        session.0
    }
}

/// The id of a chain of challenges that a visitor solves one after another: 16 bytes derived from the token of
/// its first challenge, so that nobody can guess them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainId([u8; Self::BYTES]);

impl ChainId {
    /// Bytes of an id: the same as of a [`SessionId`], because both are stored as revocations.
    pub const BYTES: usize = SessionId::BYTES;

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The id under which a spent chain is stored among the revocations. Both kinds of ids are 128 bits that
    /// nobody can choose, so a chain never collides with a session.
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

/// A value that `Debug`, logs and errors never show, and that is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A challenge as the store keeps it: a recipe, not a picture.
///
/// The picture is rendered from the seed whenever it is fetched, always with the same bytes, so that a
/// challenge takes a few hundred bytes only. The fields that describe the picture are plain names and numbers
/// which the store does not interpret, so a record of another version can still be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChallengeRecord {
    /// The task: `distorted_text`, `arithmetic`.
    pub variant: Cow<'static, str>,
    /// The rendering of the task: `ink`.
    pub carrier: Cow<'static, str>,
    /// How the answer is given: `typed`.
    pub mode: Cow<'static, str>,
    /// Difficulty, 1 to 10.
    pub level: u8,
    /// Characters of a `distorted_text`.
    pub length: u8,
    /// The seed of the picture.
    pub seed: Secret<[u8; 32]>,
    /// The expected answer, as `fortify_captcha::Answer::encode` writes it.
    pub answer: Secret<String>,
    /// The decoy text that only bots read in the picture, encoded like the answer; if there is one.
    #[serde(default)]
    pub decoy: Option<Secret<String>>,
    /// The kind that the visitor wished for, which the next challenge is of too; if there was a wish.
    #[serde(default)]
    pub wish: Option<Cow<'static, str>>,
    /// The version of the renderer; another one may make another picture of the same seed.
    pub renderer: u16,
    /// The start of the style period, in seconds since the Unix epoch.
    pub style_period: u64,
    /// The circuit it was issued to, which alone may answer it.
    pub circuit: CircuitTag,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// How a challenge is kept beside others of its circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// It is the circuit's only challenge, in place of this one, if any. If the circuit has another by now, that one
    /// stays, and this one is not stored: a circuit's tabs show one challenge.
    Only(Option<&'a ChallengeToken>),
    /// The same, but the circuit's challenge until now can still be answered: it expires soon.
    After(&'a ChallengeToken),
    /// It is one of several, in place of this one, if any: an address may be that of many people. Beyond the most
    /// allowed, the oldest is removed.
    Beside(Option<&'a ChallengeToken>),
}

impl<'a> Place<'a> {
    /// The challenge that this one replaces.
    #[must_use]
    pub const fn replaces(self) -> Option<&'a ChallengeToken> {
        match self {
            Self::Only(replaced) | Self::Beside(replaced) => replaced,
            Self::After(_) => None,
        }
    }

    /// Whether the circuit may have another newest challenge than this one; if not, that stays.
    #[must_use]
    pub fn accepts(self, newest: Option<&ChallengeToken>) -> bool {
        match self {
            Self::Only(before) => newest.is_none() || newest == before,
            Self::After(before) => newest.is_none() || newest == Some(before),
            Self::Beside(_) => true,
        }
    }
}

/// What a token named when an answer came for it.
#[derive(Clone, Debug)]
pub enum Taken {
    /// A challenge, which only this call got.
    Challenge(ChallengeRecord),
    /// A challenge that another request took and still checks.
    Pending,
    /// A challenge that was answered rightly a moment ago.
    Answered(Receipt),
    /// Nothing, or a challenge that expired, was replaced or was answered wrongly.
    Absent,
}

impl Taken {
    /// The challenge, if this call got it.
    #[must_use]
    pub fn challenge(self) -> Option<ChallengeRecord> {
        match self {
            Self::Challenge(record) => Some(record),
            Self::Pending | Self::Answered(_) | Self::Absent => None,
        }
    }
}

/// What a right answer led to, kept for a while so that the same answer again leads to the same: a double click, an
/// answer whose response was lost, a page that was loaded again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// The circuit that answered, which alone may answer again.
    pub circuit: CircuitTag,
    /// A hash of the token and of the answer as it was sent.
    pub answer: Secret<[u8; 32]>,
    /// What the answer led to.
    pub result: Earned,
    /// Until when it is kept.
    pub expires_at: Timestamp,
}

/// What a right answer led to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Earned {
    /// A session: the value of its cookie.
    Session(Secret<String>),
    /// A stage of a chain that has more: the value of its cookie.
    Stage(Secret<String>),
}

/// The wrong answers of one circuit that are not forgotten yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// The number of wrong answers.
    pub count: u32,
    /// When they are forgotten.
    pub until: Timestamp,
}

impl Failures {
    /// No failures.
    pub const NONE: Self = Self { count: 0, until: Timestamp::from_millis(0) };
}

/// A limit on requests within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimit {
    /// How far back it counts.
    pub within: Duration,
    /// How many there may be, at least 1.
    pub most: u32,
}

/// The result of [`StateStore::acquire_quota`](crate::StateStore::acquire_quota).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Within all bounds, and counted.
    Granted {
        /// The number of requests within the longest period, this one included.
        recent: u32,
    },
    /// Beyond a bound, and not counted; the time to wait.
    Exceeded(Duration),
}

/// What a node asks of a session's budget; amounts are in milli-pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Pages a minute, if this is the session's first lease; later ones go on by what the first said.
    pub per_minute: u32,
    /// The most that may be taken at once, likewise.
    pub burst: u64,
    /// What there is in all, likewise.
    pub quota: u64,
    /// How much to take, at most.
    pub most: u64,
    /// When the session expires, after which nothing need be kept.
    pub until: Timestamp,
}

/// A part of a session's budget that one node may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How much it took, in milli-pages: as much as asked for, unless the rate or the quota allows less.
    pub granted: u64,
    /// What is left of the quota for later leases.
    pub left: u64,
    /// The session's rate, as its first lease said.
    pub per_minute: u32,
    /// The most at once, likewise.
    pub burst: u64,
}

/// The threat dial as nodes share it: plain names and numbers, as in [`ChallengeRecord`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialRecord {
    /// One higher at every change.
    pub version: u64,
    /// Who may change it: `auto`, `manual`, `pinned`.
    pub mode: Cow<'static, str>,
    /// The threat level, 1 to 10.
    pub level: u8,
    /// Until when automatic control is paused.
    pub paused_until: Option<Timestamp>,
    /// Who made the change, in the words of a node's history, so that whoever is overruled learns by whom; none from a
    /// version that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The state of a session that its token does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Valid, and bound to the circuit in its token.
    Unmoved,
    /// Valid, and bound to this circuit, whatever its token says.
    BoundTo(CircuitTag),
    /// Revoked.
    Revoked,
}

/// A session's move to another circuit, and the limit of moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveRequest {
    /// The circuit that its token was written for.
    pub from: CircuitTag,
    /// The circuit that the request came from.
    pub to: CircuitTag,
    /// When the session expires, after which its moves need not be kept.
    pub until: Timestamp,
    /// The most moves within `window`; 0 allows none.
    pub most: u32,
    /// How far back moves count.
    pub window: Duration,
}

/// The result of a [`MoveRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveOutcome {
    /// The session is bound to the new circuit now.
    Moved,
    /// It was bound to that circuit already.
    AlreadyBound,
    /// It moved as often as it may, or there is no room for another move.
    Refused,
    /// It was used from a circuit that it had left, and has been revoked by this call.
    Shared,
    /// It was revoked before.
    Revoked,
}

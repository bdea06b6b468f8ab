//! Sessions: signed tokens that a right answer earns.
//!
//! # Layout
//!
//! - [`Sessions`]: creates, checks and revokes sessions; a [`Session`] is one that was checked.
//! - `migration`: moves a session to another circuit.
//! - `verified`: tokens whose signature was found good a moment ago.

pub mod metrics;
mod migration;
mod verified;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use fortify_core::clock::{Clock, MAX_CLOCK_SKEW, Timestamp};
use fortify_core::entropy::Entropy;
use fortify_core::pseudonym::CircuitTag;
use fortify_core::reach::Reach;
use fortify_keys::{KeyRing, KeyRingError, Purpose};
pub use fortify_store::record::Session;
use fortify_store::record::{Secret, SessionId, SessionState};
use fortify_store::{StateStore, StoreError};
use verified::VerifiedTokens;

/// The maximum length of a token in bytes; an issued one has about 330.
const MAX_TOKEN_BYTES: usize = 1024;

/// The most sessions of one request that are looked up in the store. Others can plant cookies beside a visitor's own,
/// but only with what this gate signed.
const MAX_LOOKED_UP: usize = 8;

/// The claims of a session, with the names that the requirements prescribe; times in seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    circuit_id: CircuitTag,
    issued_at: u64,
    expires_at: u64,
    threat_level: u8,
    captcha_solved: bool,
    session_id: SessionId,
}

impl Claims {
    const fn session(&self) -> Session {
        Session {
            id: self.session_id,
            threat_level: self.threat_level,
            issued_at: Timestamp::from_secs(self.issued_at),
            expires_at: Timestamp::from_secs(self.expires_at),
        }
    }
}

/// A session that is in force on the circuit of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The session.
    pub session: Session,
    /// The new value of the cookie, if the current one names another circuit: the same session with the same
    /// expiry.
    pub reissued: Option<Secret<String>>,
    /// Whether this request moved it to this circuit.
    pub moved: bool,
}

/// The reason why a session was rejected. Only metrics distinguish these; the visitor gets a challenge in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The text is not a session signed by a key of the ring.
    Signature,
    /// Expired, not yet valid, or valid for longer than any session may be.
    Time,
    /// It is bound to another circuit and has used up its moves.
    Circuit,
    /// It was used from a circuit that it had left: it is shared, and was ended for that.
    Shared,
    /// It was revoked.
    Revoked,
    /// Records of ended and moved sessions were lost, perhaps its own.
    Unverifiable,
}

impl Rejection {
    /// The label in the metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Time => "time",
            Self::Circuit => "circuit",
            Self::Shared => "shared",
            Self::Revoked => "revoked",
            Self::Unverifiable => "unverifiable",
        }
    }
}

/// A new session and the value of its cookie.
pub struct Minted {
    /// The cookie's value: a JWT.
    pub token: String,
    /// The session in it.
    pub session: Session,
}

/// The reason why a session could not be created, checked or revoked. The visitor gets a 503, never a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The token could not be signed, or no random id could be drawn.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates, checks and revokes sessions.
#[derive(Debug)]
pub struct Sessions {
    keys: Arc<KeyRing>,
    verified: VerifiedTokens,
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The longest lifetime of a session.
    longest: Duration,
    /// The lifetime of a session created now, in milliseconds.
    lifetime: AtomicU64,
    max_moves: u32,
}

impl Sessions {
    /// Creates sessions of at most `lifetime`, signed by `keys`, that may move `max_moves` times an hour each.
    #[must_use]
    pub fn new(
        keys: Arc<KeyRing>,
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        lifetime: Duration,
        max_moves: u32,
    ) -> Self {
        let verified = VerifiedTokens::new();
        let (longest, until_set) = (lifetime, 0.into());
        let sessions =
            Self { keys, verified, store, clock, entropy, longest, lifetime: until_set, max_moves };
        sessions.set_lifetime(lifetime);
        sessions
    }

    /// Returns the same with other limits.
    #[must_use]
    pub fn with_limits(&self, lifetime: Duration, max_moves: u32) -> Self {
        let Self { keys, store, clock, entropy, .. } = self;
        let (keys, store) = (keys.clone(), store.clone());
        Self::new(keys, store, clock.clone(), entropy.clone(), lifetime, max_moves)
    }

    /// The lifetime of a session created now.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        Duration::from_millis(self.lifetime.load(Ordering::Relaxed))
    }

    /// Sets the lifetime of sessions created from now on, capped at the configured one, because retired keys are kept
    /// no longer than that.
    pub fn set_lifetime(&self, lifetime: Duration) {
        let millis = lifetime.min(self.longest).as_millis();
        self.lifetime.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Creates a session for `circuit`.
    ///
    /// # Errors
    ///
    /// Fails if no random id can be drawn or the token cannot be signed.
    pub fn mint(&self, circuit: CircuitTag, threat_level: u8) -> Result<Minted, SessionError> {
        let now = self.clock.now();
        let id = SessionId::random(&*self.entropy).map_err(KeyRingError::from)?;
        let expires_at = Timestamp::from_secs(now.after(self.lifetime()).as_secs());
        // Whole seconds: one that is earned in the second of a loss must not look as if it were from before.
        let valid_after = self.store.valid_after().filter(|after| *after <= now);
        let issued_at = now.as_secs().max(valid_after.map_or(0, |after| after.as_secs() + 1));
        let claims = Claims {
            circuit_id: circuit,
            issued_at,
            expires_at: expires_at.as_secs(),
            threat_level,
            captcha_solved: true,
            session_id: id,
        };
        let token = self.keys.sign(Purpose::Session, &claims)?;
        Ok(Minted { token, session: claims.session() })
    }

    /// Finds the session among `tokens` that is bound to `circuit`, or else moves the first that may move there.
    /// `rejected` is called for each token that was not accepted.
    ///
    /// A session bound to this circuit takes precedence, so that a cookie planted by somebody else is not moved in
    /// place of the visitor's own.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot say whether a session was revoked, or cannot move it; the request must not be
    /// admitted then.
    pub async fn check(
        &self,
        tokens: &[String],
        circuit: CircuitTag,
        mut rejected: impl FnMut(Rejection),
    ) -> Result<Option<Admitted>, SessionError> {
        let (mut elsewhere, mut looked_up) = (Vec::new(), 0);
        for token in tokens {
            if looked_up == MAX_LOOKED_UP {
                break;
            }
            let claims = match self.check_claims(token) {
                Ok(claims) => claims,
                Err(rejection) => {
                    rejected(rejection);
                    continue;
                }
            };
            if self.is_unverifiable(&claims) {
                rejected(Rejection::Unverifiable);
                continue;
            }
            looked_up += 1;
            let Some(bound_to) = self.place_of(&claims.session(), claims.circuit_id).await? else {
                rejected(Rejection::Revoked);
                continue;
            };
            if bound_to == circuit {
                return Ok(Some(self.admit(claims, circuit, false)?));
            }
            elsewhere.push(claims);
        }
        for claims in elsewhere {
            match self.check_moving(claims, circuit).await? {
                Ok(admitted) => return Ok(Some(admitted)),
                Err(rejection) => rejected(rejection),
            }
        }
        Ok(None)
    }

    /// The session in `token`, if it is in force and on `circuit`. Unlike [`Self::check`], this moves nothing.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot say whether the session was revoked.
    pub async fn in_force(
        &self,
        token: &str,
        circuit: CircuitTag,
    ) -> Result<Option<Session>, StoreError> {
        let Ok(claims) = self.check_claims(token) else { return Ok(None) };
        if self.is_unverifiable(&claims) {
            return Ok(None);
        }
        let session = claims.session();
        let place = self.place_of(&session, claims.circuit_id).await?;
        Ok((place == Some(circuit)).then_some(session))
    }

    /// Whether one of `tokens` is not accepted only because records of ended sessions were lost: for the page that
    /// says so.
    #[must_use]
    pub fn any_unverifiable(&self, tokens: &[String]) -> bool {
        let is_unverifiable = |token: &String| {
            self.check_claims(token).is_ok_and(|claims| self.is_unverifiable(&claims))
        };
        self.store.valid_after().is_some() && tokens.iter().any(is_unverifiable)
    }

    /// Whether the record that this session was ended, or left a circuit, may be among those that were lost.
    fn is_unverifiable(&self, claims: &Claims) -> bool {
        self.is_before_loss(claims.issued_at)
    }

    fn is_before_loss(&self, issued_at: u64) -> bool {
        self.store.valid_after().is_some_and(|after| issued_at <= after.as_secs())
    }

    /// The claims of `token`, if its signature and times are valid.
    fn check_claims(&self, token: &str) -> Result<Claims, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::Signature);
        }
        let verify = || self.keys.verify::<Claims>(Purpose::Session, token);
        let verified = self.verified.get_or_verify(token, self.keys.stamp(), verify);
        let verified = verified.ok_or(Rejection::Signature)?;
        let (claims, now) = (&verified.claims, self.clock.now());
        let issued_at = Timestamp::from_secs(claims.issued_at);
        let expires_at = Timestamp::from_secs(claims.expires_at);
        let in_force = now < expires_at
            && issued_at <= now.after(MAX_CLOCK_SKEW)
            && expires_at <= issued_at.after(self.longest)
            && verified.signed_while_its_key_did(issued_at);
        if !in_force {
            return Err(Rejection::Time);
        }
        if !claims.captcha_solved {
            return Err(Rejection::Signature);
        }
        Ok(verified.claims)
    }

    /// The session in a cookie's value, if its signature and times are valid, whatever its circuit and whether or not
    /// it was revoked: for an operator who wants to revoke it.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<Session> {
        self.check_claims(token).ok().map(|claims| claims.session())
    }

    /// Accepts a session that is bound to `circuit`.
    fn admit(
        &self,
        claims: Claims,
        circuit: CircuitTag,
        moved: bool,
    ) -> Result<Admitted, SessionError> {
        let session = claims.session();
        let reissued = if claims.circuit_id == circuit {
            None
        } else {
            // Only the circuit changes, so a move never extends the session.
            let claims = Claims { circuit_id: circuit, ..claims };
            Some(Secret::new(self.keys.sign(Purpose::Session, &claims)?))
        };
        Ok(Admitted { session, reissued, moved })
    }

    /// Whether `circuit` holds `session`, which it is trusted for: the session has neither expired nor been
    /// revoked, as far as that is known, and has not moved to another circuit.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot say whether it was revoked or moved.
    pub async fn is_held(
        &self,
        session: &Session,
        circuit: CircuitTag,
    ) -> Result<bool, StoreError> {
        let place = self.place_of(session, circuit).await?;
        Ok(place == Some(circuit) && self.clock.now() < session.expires_at)
    }

    /// Where `session` lives, which was at `circuit` last as far as the caller knows; `None` if it was revoked, or
    /// ended with all those of its circuit.
    ///
    /// # Errors
    ///
    /// Fails if the store does not know.
    pub(crate) async fn place_of(
        &self,
        session: &Session,
        circuit: CircuitTag,
    ) -> Result<Option<CircuitTag>, StoreError> {
        let place = match self.store.session_state(session.id).await? {
            SessionState::Unmoved => circuit,
            SessionState::BoundTo(other) => {
                for (left, at) in self.store.left_by(session.id) {
                    // Its ban may have been on its way while the session moved, and must not miss it.
                    let ended = self.ended_with(session, left).await?;
                    if ended.is_some_and(|ended| ended < at.after(MAX_CLOCK_SKEW)) {
                        // A later ban of that circuit says nothing of when this one was.
                        let _in_force_here = self.revoke(session).await?;
                        return Ok(None);
                    }
                }
                other
            }
            SessionState::Revoked => return Ok(None),
        };
        // Its record may be among those that were lost.
        if self.is_before_loss(session.issued_at.as_secs()) {
            return Ok(None);
        }
        Ok(self.ended_with(session, place).await?.is_none().then_some(place))
    }

    /// When all those of `circuit` were ended, if `session` was earned before.
    async fn ended_with(
        &self,
        session: &Session,
        circuit: CircuitTag,
    ) -> Result<Option<Timestamp>, StoreError> {
        let ended = self.store.sessions_ended(circuit).await?;
        // A cookie tells the second in which it was earned.
        Ok(ended.filter(|ended| *ended > session.issued_at))
    }

    /// Revokes `session`.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be recorded, neither in the store nor at this node; the session may then stay in force.
    pub async fn revoke(&self, session: &Session) -> Result<Reach, StoreError> {
        self.store.revoke_session(session.id, session.expires_at).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::clock::ManualClock;
    use fortify_core::entropy::SystemEntropy;
    use fortify_store::memory::{MemoryBounds, MemoryStore};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const CIRCUIT: CircuitTag = CircuitTag::from_bytes([1; 16]);

    struct Fixture {
        clock: Arc<ManualClock>,
        keys: Arc<KeyRing>,
        sessions: Sessions,
        _dir: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let keys = Arc::new(KeyRing::open(dir.path(), &*clock, &SystemEntropy).unwrap());
        let sessions = sessions(&keys, &clock, &dir);
        Fixture { clock, keys, sessions, _dir: dir }
    }

    fn sessions(
        keys: &Arc<KeyRing>,
        clock: &Arc<ManualClock>,
        dir: &tempfile::TempDir,
    ) -> Sessions {
        let bounds = MemoryBounds { challenges: 10, challenges_per_circuit: 3 };
        let store = Arc::new(MemoryStore::open(clock.clone(), bounds, dir.path()));
        Sessions::new(keys.clone(), store, clock.clone(), Arc::new(SystemEntropy), HOUR, 0)
    }

    async fn check(
        fixture: &Fixture,
        token: &str,
        circuit: CircuitTag,
    ) -> Result<Session, Rejection> {
        let mut why = None;
        let tokens = [token.to_owned()];
        let found =
            fixture.sessions.check(&tokens, circuit, |rejection| why = Some(rejection)).await;
        found.unwrap().map(|admitted| admitted.session).ok_or_else(|| why.unwrap())
    }

    fn claims() -> Claims {
        Claims {
            circuit_id: CIRCUIT,
            issued_at: NOW.as_secs(),
            expires_at: NOW.after(HOUR).as_secs(),
            threat_level: 2,
            captcha_solved: true,
            session_id: SessionId::random(&SystemEntropy).unwrap(),
        }
    }

    fn signed(fixture: &Fixture, claims: &Claims) -> String {
        fixture.keys.sign(Purpose::Session, claims).unwrap()
    }

    #[tokio::test]
    async fn a_session_expires_at_the_end_of_its_lifetime() {
        let fixture = fixture();
        let minted = fixture.sessions.mint(CIRCUIT, 2).unwrap();
        assert_eq!(check(&fixture, &minted.token, CIRCUIT).await, Ok(minted.session));
        fixture.clock.advance(HOUR - Duration::from_millis(1));
        assert!(check(&fixture, &minted.token, CIRCUIT).await.is_ok());
        fixture.clock.advance(Duration::from_millis(1));
        assert_eq!(check(&fixture, &minted.token, CIRCUIT).await, Err(Rejection::Time));
    }

    #[tokio::test]
    async fn a_session_is_rejected_on_another_circuit() {
        let fixture = fixture();
        let minted = fixture.sessions.mint(CIRCUIT, 2).unwrap();
        let other = CircuitTag::from_bytes([2; 16]);
        assert_eq!(check(&fixture, &minted.token, other).await, Err(Rejection::Circuit));
    }

    #[tokio::test]
    async fn a_revoked_session_is_rejected() {
        let fixture = fixture();
        let minted = fixture.sessions.mint(CIRCUIT, 2).unwrap();
        fixture.sessions.revoke(&minted.session).await.unwrap();
        assert_eq!(check(&fixture, &minted.token, CIRCUIT).await, Err(Rejection::Revoked));
    }

    #[tokio::test]
    async fn abuse_27_a_damaged_file_lets_no_ended_session_in_and_new_ones_count() {
        // One bit in each record of the file, its tail cut off, an old copy of it, and none at all.
        for damage in 0..6_usize {
            let fixture = fixture();
            let (ended, live) =
                (fixture.sessions.mint(CIRCUIT, 2), fixture.sessions.mint(CIRCUIT, 2));
            let (ended, live) = (ended.unwrap(), live.unwrap());
            let path = fixture._dir.path().join("revocations");
            let old = std::fs::read(&path).unwrap();
            fixture.sessions.revoke(&ended.session).await.unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let record = bytes.len() / 2;
            match damage {
                0 | 1 => bytes[damage * record + 3] ^= 1,
                2 => bytes[record + 40] ^= 0x80,
                3 => bytes.truncate(record),
                4 => bytes = old,
                _ => bytes.clear(),
            }
            std::fs::write(&path, bytes).unwrap();
            let later = Fixture {
                sessions: sessions(&fixture.keys, &fixture.clock, &fixture._dir),
                ..fixture
            };
            let refused = check(&later, &ended.token, CIRCUIT).await;
            let expected = if damage == 0 { Rejection::Revoked } else { Rejection::Unverifiable };
            // The head of the file may have said so of earlier losses, so that nothing from before counts.
            assert!(refused == Err(expected) || damage == 0 && refused.is_err(), "{damage}");
            assert!(check(&later, &live.token, CIRCUIT).await.is_err());
            assert!(later.sessions.any_unverifiable(&[live.token]));
            assert_eq!(later.sessions.store.damages().len(), 1, "{damage}");
            // Who solves again is in, in the same second.
            let fresh = later.sessions.mint(CIRCUIT, 2).unwrap();
            assert_eq!(check(&later, &fresh.token, CIRCUIT).await, Ok(fresh.session));
        }
    }

    #[test]
    fn abuse_09_times_that_no_minted_session_has_are_refused() {
        let fixture = fixture();
        let ok = claims();
        assert!(fixture.sessions.check_claims(&signed(&fixture, &ok)).is_ok());
        let far_future = Claims { expires_at: NOW.after(HOUR * 1000).as_secs(), ..ok.clone() };
        let endless = Claims { expires_at: u64::MAX, ..ok.clone() };
        let not_yet = Claims { issued_at: NOW.as_secs() + 6, ..ok.clone() };
        for wrong in [far_future, endless, not_yet] {
            assert_eq!(
                fixture.sessions.check_claims(&signed(&fixture, &wrong)),
                Err(Rejection::Time)
            );
        }
        let token = signed(&fixture, &ok);
        fixture.clock.set(Timestamp::from_secs(NOW.as_secs() - 3600));
        assert_eq!(fixture.sessions.check_claims(&token), Err(Rejection::Time), "a clock set back");
    }

    #[test]
    fn abuse_09_other_algorithms_and_unknown_keys_are_refused() {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
        let (fixture, claims) = (fixture(), claims());
        let token = signed(&fixture, &claims);
        let parts: Vec<_> = token.split('.').collect();
        let kid = fixture.keys.list()[0].id.clone();
        let header = |alg: &str, kid: &str| {
            B64.encode(format!(r#"{{"typ":"JWT","alg":"{alg}","kid":"{kid}"}}"#))
        };
        let refused = |token: String| {
            assert_eq!(fixture.sessions.check_claims(&token), Err(Rejection::Signature), "{token}");
        };
        for alg in ["none", "None", "NONE", "nOnE", "HS384", "HS512", "RS256", "ES256", "", "hs256"]
        {
            let head = header(alg, &kid);
            refused(format!("{head}.{}.{}", parts[1], parts[2]));
            refused(format!("{head}.{}.", parts[1]));
            refused(format!("{head}.{}", parts[1]));
        }
        refused(format!("{}.{}.{}", header("HS256", "nobody"), parts[1], parts[2]));
        refused(format!("{}.{}.{}", B64.encode(r#"{"alg":"HS256"}"#), parts[1], parts[2]));
        refused(format!("{}.{}.{}", parts[0], parts[1], B64.encode([0; 32])));
        refused(format!("{}.{}.", parts[0], parts[1]));
        refused(String::new());
        refused("a.b.c".to_owned());
        refused("x".repeat(100_000));
        let mut tampered = B64.decode(parts[1]).unwrap();
        // Also once the token itself was verified, and is remembered.
        for _ in 0..2 {
            for i in 0..tampered.len() {
                tampered[i] ^= 1;
                refused(format!("{}.{}.{}", parts[0], B64.encode(&tampered), parts[2]));
                tampered[i] ^= 1;
            }
            assert_eq!(fixture.sessions.check_claims(&token), Ok(claims.clone()));
        }
    }

    #[test]
    fn abuse_09_nothing_but_the_whole_token_is_recognised() {
        let fixture = fixture();
        let tokens: Vec<_> = (0..3).map(|_| signed(&fixture, &claims())).collect();
        for token in tokens.iter().chain(&tokens) {
            assert!(fixture.sessions.check_claims(token).is_ok());
            for at in 0..token.len() {
                let (left, right) = (&token[..at], &token[at + 1..]);
                for other in ["A", "_", "", "AA"].map(|byte| format!("{left}{byte}{right}")) {
                    let checked = fixture.sessions.check_claims(&other);
                    assert!(other == *token || checked.is_err(), "{at}");
                }
            }
        }
    }

    #[test]
    fn abuse_09_a_retired_key_signs_nothing_new() {
        let fixture = fixture();
        let old_head = signed(&fixture, &claims());
        let young = Claims { issued_at: NOW.as_secs() + 61, ..claims() };
        let forged = signed(&fixture, &Claims { expires_at: young.issued_at + 3600, ..young });
        fixture.keys.rotate(HOUR, &*fixture.clock, &SystemEntropy).unwrap();
        fixture.clock.advance(Duration::from_secs(61));
        assert!(fixture.sessions.check_claims(&old_head).is_ok());
        assert_eq!(fixture.sessions.check_claims(&forged), Err(Rejection::Time));
        fixture.clock.advance(HOUR);
        fixture.keys.rotate(HOUR, &*fixture.clock, &SystemEntropy).unwrap();
        assert_eq!(fixture.sessions.check_claims(&forged), Err(Rejection::Signature));
    }

    #[test]
    fn abuse_08_the_claims_are_a_structure_that_cannot_be_spliced() {
        let fixture = fixture();
        let mut value = serde_json::to_value(claims()).unwrap();
        value["more"] = 1.into();
        let token = fixture.keys.sign(Purpose::Session, &value).unwrap();
        assert_eq!(fixture.sessions.check_claims(&token), Err(Rejection::Signature));
        let unsolved = Claims { captcha_solved: false, ..claims() };
        assert!(fixture.sessions.check_claims(&signed(&fixture, &unsolved)).is_err());
    }
}

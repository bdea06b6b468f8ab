//! A chain of challenges, whose progress is kept in signed cookies.
//!
//! Each right answer but the last sets a cookie, `captcha_stage_1` and then `captcha_stage_2`, that names the
//! circuit, the chain and the stage. The next answer counts only if all of them come back. Nothing is stored for a
//! chain until it has led to a session; then it is marked as spent on every node, so that it leads to one
//! session only.

use std::time::Duration;

use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use fortify_core::clock::MAX_CLOCK_SKEW;
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::pseudonym::CircuitTag;
use fortify_keys::{KeyRing, KeyRingError, Purpose};
use fortify_store::record::ChainId;
use fortify_store::{StateStore, StoreError};

/// The lifetime of a passed stage: three challenges of five minutes each.
pub const STAGE_LIFETIME: Duration = Duration::from_secs(900);

/// The most stage cookies that a visitor has: one for each of three stages but the last.
pub const MAX_STAGE_COOKIES: usize = 2;

/// The number of spent chains that this process remembers, and for how long: until their cookies have expired.
/// The store remembers them too, for longer than replication takes.
const MAX_SPENT: u64 = 100_000;
const SPENT_LIFETIME: Duration = Duration::from_secs(1000);

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    circuit_id: CircuitTag,
    issued_at: Timestamp,
    chain: ChainId,
    stage: u8,
    /// The threat level at which it was passed.
    level: u8,
}

/// The progress of a visitor in a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Stages passed.
    pub(super) passed: u8,
    /// The chain, once one of its stages was passed.
    chain: Option<ChainId>,
}

/// A stage that was just passed.
pub(super) struct PassedStage {
    pub(super) progress: Progress,
    pub(super) cookie: String,
}

/// Reads, extends and spends chains.
#[derive(Clone, Debug)]
pub(super) struct Chains(Cache<ChainId, ()>);

impl Chains {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_SPENT).time_to_live(SPENT_LIFETIME).build())
    }

    /// Spends the chain of `progress` so that its stages do not count again. Returns whether this call was the
    /// first. Of concurrent answers one succeeds per node; other nodes learn of it as they do of a log-out.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot record it; the chain must not lead to a session then.
    pub(super) async fn spend(
        &self,
        progress: Progress,
        store: &dyn StateStore,
        clock: &dyn Clock,
    ) -> Result<bool, StoreError> {
        let Some(chain) = progress.chain else { return Ok(true) };
        if !self.0.entry(chain).or_insert(()).is_fresh() {
            return Ok(false);
        }
        store.spend_chain(chain, clock.now().after(STAGE_LIFETIME + MAX_CLOCK_SKEW)).await?;
        Ok(true)
    }
}

impl Progress {
    /// Reads the progress from the cookies of `circuit`: the stages from the first without a gap, all of one
    /// chain that is not spent, and none passed more than a step below `level`, the one in force: as with
    /// challenges, what was solved in a quiet hour is worth nothing in an attack.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot say whether the chain is spent.
    pub(super) async fn read(
        cookies: &[Option<String>],
        circuit: CircuitTag,
        keys: &KeyRing,
        clock: &dyn Clock,
        store: &dyn StateStore,
        level: u8,
    ) -> Result<Self, StoreError> {
        let progress = Self::of(cookies, circuit, keys, clock, level, store.valid_after());
        match progress.chain {
            Some(chain) if store.is_chain_spent(chain).await? => Ok(Self::default()),
            _ => Ok(progress),
        }
    }

    /// The stage of `cookie`, which the same answer earned a moment ago, and the progress after it, or `self` if that is
    /// further. `None` if the cookie is not in force, or its chain has led to a session.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot say whether the chain is spent.
    pub(super) async fn at_least(
        self,
        cookie: &str,
        circuit: CircuitTag,
        keys: &KeyRing,
        clock: &dyn Clock,
        store: &dyn StateStore,
    ) -> Result<Option<(u8, Self)>, StoreError> {
        let Some(claims) = open(cookie, circuit, keys, clock) else { return Ok(None) };
        if store.is_chain_spent(claims.chain).await? {
            return Ok(None);
        }
        let earned = Self { passed: claims.stage, chain: Some(claims.chain) };
        let further = self.chain == earned.chain && self.passed > earned.passed;
        Ok(Some((claims.stage, if further { self } else { earned })))
    }

    /// Passes one more stage after the right answer to the challenge `token`, at `level`.
    ///
    /// # Errors
    ///
    /// Fails if the cookie cannot be signed.
    pub(super) fn pass(
        self,
        token: &str,
        circuit: CircuitTag,
        keys: &KeyRing,
        clock: &dyn Clock,
        level: u8,
    ) -> Result<PassedStage, KeyRingError> {
        let stage = self.passed.saturating_add(1);
        let chain = self.chain.unwrap_or_else(|| chain_of(token));
        let claims = Claims { circuit_id: circuit, issued_at: clock.now(), chain, stage, level };
        let cookie = keys.sign(Purpose::Stage, &claims)?;
        Ok(PassedStage { progress: Self { passed: stage, chain: Some(chain) }, cookie })
    }

    fn of(
        cookies: &[Option<String>],
        circuit: CircuitTag,
        keys: &KeyRing,
        clock: &dyn Clock,
        level: u8,
        valid_after: Option<Timestamp>,
    ) -> Self {
        let mut progress = Self::default();
        for (stage, cookie) in (1_u8..).zip(cookies) {
            let claims = cookie.as_deref().and_then(|text| open(text, circuit, keys, clock));
            // Without the record that its chain was spent, an older stage could count again.
            let counts = |claims: &Claims| {
                claims.stage == stage
                    && level <= claims.level.saturating_add(1)
                    && valid_after < Some(claims.issued_at)
            };
            let Some(claims) = claims.filter(counts) else { break };
            if progress.chain.is_some_and(|chain| chain != claims.chain) {
                break;
            }
            progress = Self { passed: stage, chain: Some(claims.chain) };
        }
        progress
    }
}

/// Derives the id of a chain from the token of its first challenge, which only this visitor had.
fn chain_of(token: &str) -> ChainId {
    let digest: [u8; 32] =
        Sha256::new().chain_update(b"fortify/1/chain").chain_update(token).finalize().into();
    let mut chain = [0; ChainId::BYTES];
    chain.copy_from_slice(&digest[..ChainId::BYTES]);
    ChainId::from_bytes(chain)
}

fn open(text: &str, circuit: CircuitTag, keys: &KeyRing, clock: &dyn Clock) -> Option<Claims> {
    let verified = keys.verify::<Claims>(Purpose::Stage, text)?;
    let (claims, now) = (&verified.claims, clock.now());
    let in_force = verified.is_in_force(claims.issued_at, STAGE_LIFETIME, now);
    (in_force && claims.circuit_id == circuit).then(|| claims.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::clock::ManualClock;
    use fortify_core::entropy::SystemEntropy;

    const OWN: CircuitTag = CircuitTag::from_bytes([1; 16]);

    #[test]
    fn stages_count_in_order_within_one_chain_and_circuit_until_they_expire() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let keys = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
        let cookie = |circuit_id, chain: &str, stage| {
            let (issued_at, chain) = (clock.now(), chain_of(chain));
            let claims = Claims { circuit_id, issued_at, chain, stage, level: 8 };
            Some(keys.sign(Purpose::Stage, &claims).unwrap())
        };
        let at = |level, cookies: &[Option<String>]| {
            Progress::of(cookies, OWN, &keys, &clock, level, None).passed
        };
        let passed = |cookies: &[Option<String>]| at(8, cookies);
        let (first, second) = (cookie(OWN, "a", 1), cookie(OWN, "a", 2));
        assert_eq!(passed(&[None, None]), 0);
        assert_eq!(passed(&[first.clone(), None]), 1);
        assert_eq!(passed(&[first.clone(), second.clone()]), 2);
        let both = [first.clone(), second.clone()];
        assert_eq!([7, 9, 10].map(|level| at(level, &both)), [2, 2, 0], "two steps above");
        assert_eq!(passed(&[None, second.clone()]), 0, "the first is missing");
        assert_eq!(passed(&[second.clone(), first.clone()]), 0, "in the wrong order");
        assert_eq!(passed(&[first.clone(), cookie(OWN, "b", 2)]), 1, "of another chain");
        let stranger = CircuitTag::from_bytes([2; 16]);
        assert_eq!(passed(&[cookie(stranger, "a", 1), None]), 0, "of another circuit");
        assert_eq!(passed(&[Some("x.y.z".to_owned()), None]), 0);
        let after_loss = |at| {
            let cookies = [first.clone(), second.clone()];
            Progress::of(&cookies, OWN, &keys, &clock, 8, Some(at)).passed
        };
        assert_eq!(after_loss(clock.now()), 0, "its record may be lost");
        assert_eq!(after_loss(clock.now().before(Duration::from_secs(1))), 2);
        clock.advance(STAGE_LIFETIME);
        assert_eq!(passed(&[first, second]), 0, "too late");
    }
}

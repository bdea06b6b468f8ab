//! Several challenges in a row: how far a visitor has got, in cookies.
//!
//! Each right answer but the last gives a cookie, `captcha_stage_1` and then `captcha_stage_2`, that says
//! whose it is, of which row, and which stage. All of them have to come back for the next one to count.
//! A row that has led to a session is ended like a session, on every node, so that its cookies are good
//! once.

use axum::http::HeaderValue;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;

use super::visitor::Visitor;
use crate::app::App;
use crate::clock::{Clock, Timestamp};
use crate::pseudonym::CircuitTag;
use crate::session::MAX_CLOCK_SKEW;
use crate::session::key_ring::{KeyRing, Purpose};
use crate::store::StoreError;
use crate::store::record::{SessionId, Standing};
use crate::web::error::WebError;

/// How long a stage that was passed counts: three challenges of five minutes.
pub const LIFETIME: Duration = Duration::from_secs(900);

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    circuit_id: CircuitTag,
    issued_at: Timestamp,
    row: SessionId,
    stage: u8,
}

/// How far a visitor has got in a row of challenges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Stages passed.
    pub passed: u8,
    /// The row, once a stage of it was passed.
    row: Option<SessionId>,
}

impl Progress {
    /// What the cookies of `visitor` are worth: the stages from the first one on without a gap, all of
    /// one row that is not used up.
    ///
    /// # Errors
    ///
    /// When the store cannot say whether the row is used up.
    pub(super) async fn of(app: &App, visitor: &Visitor) -> Result<Self, StoreError> {
        let cookies = &visitor.cookies.stages;
        let progress = read(&app.keys, &*app.clock, visitor.circuit, cookies);
        match progress.row {
            Some(row) if app.store.standing(row).await? == Standing::Revoked => Ok(Self::default()),
            _ => Ok(progress),
        }
    }

    /// After the right answer to the challenge `token`: the stage's number and its cookie.
    ///
    /// # Errors
    ///
    /// When the cookie cannot be signed.
    pub(super) fn pass(
        self,
        app: &App,
        visitor: &Visitor,
        token: &str,
    ) -> Result<(u8, String), WebError> {
        let stage = self.passed.saturating_add(1);
        let row = self.row.unwrap_or_else(|| row_of(token));
        let (circuit_id, issued_at) = (visitor.circuit, app.clock.now());
        let claims = Claims { circuit_id, issued_at, row, stage };
        let sealed = app.keys.sign(Purpose::Stage, &claims);
        let sealed = sealed.map_err(|error| WebError::Unavailable(error.to_string()))?;
        Ok((stage, sealed))
    }

    /// Uses the row up, so that what was passed does not count again; whether this was the first to do
    /// so. Of answers that come at once one is, on each node; other nodes hear of it like of a log-out.
    ///
    /// # Errors
    ///
    /// When the store cannot remember it: then it leads to no session.
    pub(super) async fn use_up(self, app: &App) -> Result<bool, StoreError> {
        let Some(row) = self.row else { return Ok(true) };
        if !app.rows.entry(row).or_insert(()).is_fresh() {
            return Ok(false);
        }
        let until = app.clock.now().after(LIFETIME + MAX_CLOCK_SKEW);
        app.store.revoke_session(row, until).await?;
        Ok(true)
    }
}

/// The cookies that take back those of stages that came along.
pub(super) fn take_back(visitor: &Visitor) -> Vec<Option<HeaderValue>> {
    let came = visitor.cookies.stages.iter().any(Option::is_some);
    if came { visitor.jar.no_stages().to_vec() } else { Vec::new() }
}

/// A row is named after its first challenge, whose token nobody else had.
fn row_of(token: &str) -> SessionId {
    let digest: [u8; 32] =
        Sha256::new().chain_update(b"fortify/1/row").chain_update(token).finalize().into();
    let mut row = [0; SessionId::BYTES];
    row.copy_from_slice(&digest[..SessionId::BYTES]);
    SessionId::from_bytes(row)
}

fn read(
    keys: &KeyRing,
    clock: &dyn Clock,
    circuit: CircuitTag,
    cookies: &[Option<String>],
) -> Progress {
    let mut progress = Progress::default();
    for (stage, cookie) in (1_u8..).zip(cookies) {
        let claims = cookie.as_deref().and_then(|text| open(keys, clock, circuit, text));
        let Some(claims) = claims.filter(|claims| claims.stage == stage) else { break };
        if progress.row.is_some_and(|row| row != claims.row) {
            break;
        }
        progress = Progress { passed: stage, row: Some(claims.row) };
    }
    progress
}

fn open(keys: &KeyRing, clock: &dyn Clock, circuit: CircuitTag, text: &str) -> Option<Claims> {
    let verified = keys.verify::<Claims>(Purpose::Stage, text)?;
    let (claims, now) = (&verified.claims, clock.now());
    let in_force = verified.is_in_force(claims.issued_at, LIFETIME, now);
    (in_force && claims.circuit_id == circuit).then(|| claims.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::entropy::SystemEntropy;

    const OWN: CircuitTag = CircuitTag::from_bytes([1; 16]);

    #[test]
    fn stages_count_in_order_of_one_row_and_circuit_for_their_time() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let keys = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
        let cookie = |circuit_id, row: &str, stage| {
            let claims = Claims { circuit_id, issued_at: clock.now(), row: row_of(row), stage };
            Some(keys.sign(Purpose::Stage, &claims).unwrap())
        };
        let passed = |cookies: &[Option<String>]| read(&keys, &clock, OWN, cookies).passed;
        let (first, second) = (cookie(OWN, "a", 1), cookie(OWN, "a", 2));
        assert_eq!(passed(&[None, None]), 0);
        assert_eq!(passed(&[first.clone(), None]), 1);
        assert_eq!(passed(&[first.clone(), second.clone()]), 2);
        assert_eq!(passed(&[None, second.clone()]), 0, "the first is missing");
        assert_eq!(passed(&[second.clone(), first.clone()]), 0, "in the wrong order");
        assert_eq!(passed(&[first.clone(), cookie(OWN, "b", 2)]), 1, "of another row");
        let stranger = CircuitTag::from_bytes([2; 16]);
        assert_eq!(passed(&[cookie(stranger, "a", 1), None]), 0, "of another circuit");
        assert_eq!(passed(&[Some("x.y.z".to_owned()), None]), 0);
        clock.advance(LIFETIME);
        assert_eq!(passed(&[first, second]), 0, "too late");
    }
}

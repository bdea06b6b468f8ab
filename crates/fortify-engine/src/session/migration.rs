//! Moves a session that is used from another circuit than the one it is bound to.
//!
//! A visitor keeps a circuit while using it, and gets a new one after idling or when it breaks. A session may
//! therefore move a few times an hour, but it is bound to one circuit at a time. A request from a circuit that it
//! has left comes from a second holder, and ends it for both.
//!
//! Late requests from the old circuit get no grace period. Requests admitted before the move run to their end,
//! and Tor takes longer to build a new circuit than requests on the old one take to arrive. A grace period would
//! let two circuits share one session.

use std::time::Duration;

use super::{Admitted, Claims, Rejection, SessionError, Sessions};
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::{MoveOutcome, MoveRequest};

/// The window of `session.max_moves`, which is in moves per hour.
const WINDOW: Duration = Duration::from_secs(3600);

impl Sessions {
    /// Moves the session in `claims` to `circuit`, if permitted.
    pub(super) async fn check_moving(
        &self,
        claims: Claims,
        circuit: CircuitTag,
    ) -> Result<Result<Admitted, Rejection>, SessionError> {
        let step = MoveRequest {
            from: claims.circuit_id,
            to: circuit,
            until: Timestamp::from_secs(claims.expires_at),
            most: self.max_moves,
            window: WINDOW,
        };
        let rejection = match self.store.move_session(claims.session_id, step).await? {
            MoveOutcome::Moved => {
                // A ban of the circuit that it left may have come in between.
                if self.place_of(&claims.session(), circuit).await?.is_none() {
                    return Ok(Err(Rejection::Revoked));
                }
                return Ok(Ok(self.admit(claims, circuit, true)?));
            }
            MoveOutcome::AlreadyBound => return Ok(Ok(self.admit(claims, circuit, false)?)),
            MoveOutcome::Refused => Rejection::Circuit,
            MoveOutcome::Shared => Rejection::Shared,
            MoveOutcome::Revoked => Rejection::Revoked,
        };
        Ok(Err(rejection))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::session::Minted;
    use fortify_core::clock::{Clock, ManualClock};
    use fortify_core::entropy::SystemEntropy;
    use fortify_keys::KeyRing;
    use fortify_store::memory::{MemoryBounds, MemoryStore};

    const HOUR: Duration = Duration::from_secs(3600);

    struct Fixture {
        clock: Arc<ManualClock>,
        sessions: Sessions,
        _dir: tempfile::TempDir,
    }

    fn fixture(max_moves: u32) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let entropy = Arc::new(SystemEntropy);
        let keys = Arc::new(KeyRing::open(dir.path(), &*clock, &*entropy).unwrap());
        let bounds = MemoryBounds { challenges: 10, challenges_per_circuit: 3 };
        let store = Arc::new(MemoryStore::open(clock.clone(), bounds, dir.path()));
        let sessions = Sessions::new(keys, store, clock.clone(), entropy, HOUR * 3, max_moves);
        Fixture { clock, sessions, _dir: dir }
    }

    fn circuit(number: u8) -> CircuitTag {
        CircuitTag::from_bytes([number; 16])
    }

    impl Fixture {
        fn minted(&self) -> Minted {
            self.sessions.mint(circuit(1), 5).unwrap()
        }

        async fn use_from(&self, number: u8, tokens: &[&str]) -> Result<Admitted, Rejection> {
            let tokens: Vec<_> = tokens.iter().map(|token| (*token).to_owned()).collect();
            let mut why = None;
            let found = self.sessions.check(&tokens, circuit(number), |r| why = Some(r)).await;
            found.unwrap().ok_or_else(|| why.unwrap())
        }

        /// Uses the session from a circuit that it may move to, and returns its new cookie.
        async fn move_to(&self, number: u8, token: &str) -> String {
            let admitted = self.use_from(number, &[token]).await.unwrap();
            assert!(admitted.moved);
            admitted.reissued.unwrap().expose().clone()
        }
    }

    #[tokio::test]
    async fn a_moved_session_keeps_its_id_and_its_expiry() {
        let fixture = fixture(3);
        let minted = fixture.minted();
        fixture.clock.advance(HOUR);
        let first = fixture.use_from(2, &[&minted.token]).await.unwrap();
        assert_eq!(first.session, minted.session);
        // The rest of the page, requested before the new cookie arrived.
        for _ in 0..9 {
            let more = fixture.use_from(2, &[&minted.token]).await.unwrap();
            assert_eq!(more, Admitted { moved: false, ..first.clone() });
        }
        let token = first.reissued.unwrap().expose().clone();
        let moved_before = fixture.use_from(2, &[&token]).await.unwrap();
        assert_eq!((moved_before.session, moved_before.reissued), (minted.session, None));
        fixture.clock.set(minted.session.expires_at);
        assert_eq!(fixture.use_from(2, &[&token]).await, Err(Rejection::Time), "a move prolonged");
    }

    #[tokio::test]
    async fn abuse_17_each_circuit_that_was_left_ends_the_session_with_each_of_its_cookies() {
        for back in [1, 2] {
            for cookie in 0..3 {
                let fixture = fixture(3);
                let first = fixture.minted().token;
                let second = fixture.move_to(2, &first).await;
                let third = fixture.move_to(3, &second).await;
                let cookies = [first, second, third];
                let used = fixture.use_from(back, &[&cookies[cookie]]).await;
                assert_eq!(used, Err(Rejection::Shared), "cookie {cookie} on circuit {back}");
                for (number, cookie) in [(3, 2), (2, 1), (1, 0), (4, 2)] {
                    let used = fixture.use_from(number, &[&cookies[cookie]]).await;
                    assert_eq!(used, Err(Rejection::Revoked));
                }
            }
        }
    }

    #[tokio::test]
    async fn abuse_17_the_limit_is_in_moves_an_hour_and_past_it_nothing_ends() {
        let fixture = fixture(2);
        let first = fixture.minted().token;
        let second = fixture.move_to(2, &first).await;
        fixture.clock.advance(HOUR / 2);
        let third = fixture.move_to(3, &second).await;
        for token in [&first, &third] {
            assert_eq!(fixture.use_from(4, &[token]).await, Err(Rejection::Circuit));
        }
        assert!(fixture.use_from(3, &[&third]).await.is_ok(), "a refused move ended it");
        fixture.clock.advance(HOUR / 2 - Duration::from_millis(1));
        assert_eq!(fixture.use_from(4, &[&third]).await, Err(Rejection::Circuit));
        fixture.clock.advance(Duration::from_millis(1));
        let fourth = fixture.move_to(4, &third).await;
        assert_eq!(
            fixture.use_from(5, &[&fourth]).await,
            Err(Rejection::Circuit),
            "one an hour ago"
        );
    }

    #[tokio::test]
    async fn abuse_17_a_ban_during_a_move_ends_the_session_that_moved() {
        let fixture = fixture(3);
        let sessions = &fixture.sessions;
        let token = fixture.minted().token;
        let claims = sessions.check_claims(&token).unwrap();
        // The circuit was banned after the session was looked up there.
        fixture.clock.advance(Duration::from_secs(1));
        sessions.store.end_sessions_of(circuit(1), fixture.clock.now()).await.unwrap();
        let moved = sessions.check_moving(claims, circuit(2)).await.unwrap();
        assert_eq!(moved, Err(Rejection::Revoked));
        assert_eq!(fixture.use_from(2, &[&token]).await, Err(Rejection::Revoked));
    }

    #[tokio::test]
    async fn abuse_17_a_ban_ends_the_session_that_left_while_it_was_on_its_way() {
        for (seconds, ended) in [(0, true), (4, true), (5, false)] {
            let fixture = fixture(3);
            let token = fixture.minted().token;
            fixture.clock.advance(Duration::from_secs(1));
            let token = fixture.move_to(2, &token).await;
            fixture.clock.advance(Duration::from_secs(seconds));
            let banned_at = fixture.clock.now();
            fixture.sessions.store.end_sessions_of(circuit(1), banned_at).await.unwrap();
            let used = fixture.use_from(2, &[&token]).await.map(|admitted| admitted.moved);
            let wanted = if ended { Err(Rejection::Revoked) } else { Ok(false) };
            assert_eq!(used, wanted, "{seconds} s after the move");
            // What is earned there later has nothing to do with that, nor does a later ban.
            fixture.clock.advance(Duration::from_secs(60));
            let again = fixture.clock.now();
            fixture.sessions.store.end_sessions_of(circuit(1), again).await.unwrap();
            let used = fixture.use_from(2, &[&token]).await.map(|admitted| admitted.moved);
            assert_eq!(used, wanted, "{seconds} s after the move, after another ban");
            fixture.clock.advance(Duration::from_secs(1));
            let later = fixture.minted().token;
            fixture.move_to(3, &later).await;
            assert!(fixture.use_from(3, &[&later]).await.is_ok());
        }
    }

    #[tokio::test]
    async fn abuse_17_without_moves_a_session_is_its_circuits_alone_and_nobody_can_end_it() {
        let fixture = fixture(0);
        let minted = fixture.minted();
        assert_eq!(fixture.use_from(2, &[&minted.token]).await, Err(Rejection::Circuit));
        let stayed = fixture.use_from(1, &[&minted.token]).await.unwrap();
        assert_eq!((stayed.session, stayed.reissued), (minted.session, None));
    }

    #[tokio::test]
    async fn abuse_23_a_planted_session_is_not_moved_in_place_of_the_visitors_own() {
        let fixture = fixture(3);
        let planted = fixture.sessions.mint(circuit(9), 5).unwrap();
        let own = fixture.minted();
        let used = fixture.use_from(1, &[&planted.token, &own.token]).await.unwrap();
        assert_eq!((used.session, used.moved), (own.session, false));
        assert!(fixture.use_from(9, &[&planted.token]).await.is_ok(), "it was moved");
    }

    #[tokio::test]
    async fn a_moved_session_can_be_logged_out() {
        let fixture = fixture(3);
        let minted = fixture.minted();
        let token = fixture.move_to(2, &minted.token).await;
        fixture.sessions.revoke(&minted.session).await.unwrap();
        for token in [&minted.token, &token] {
            assert_eq!(fixture.use_from(2, &[token]).await, Err(Rejection::Revoked));
        }
        assert!(fixture.clock.now() < minted.session.expires_at);
    }
}

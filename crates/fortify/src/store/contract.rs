//! What every [`StateStore`] has to do, as one suite.
//!
//! A backend's test calls [`check`] with a fresh store and a way to let time pass (a hand on its
//! clock, or real waiting where the server keeps the time). Each rule names what broke.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::StateStore;
use super::record::{ChallengeRecord, ChallengeToken, Failures, Secret, SessionId};
use crate::clock::Timestamp;
use crate::entropy::{SystemEntropy, random_bytes};
use crate::pseudonym::CircuitTag;

/// When the suite starts: any time will do, as long as the store's clock shows it.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Simultaneous takes of one challenge, as many as the acceptance of the gate asks for.
const SIMULTANEOUS: usize = 64;

/// A record that expires at `expires_at` and means nothing.
#[must_use]
pub(crate) fn record(expires_at: Timestamp) -> ChallengeRecord {
    ChallengeRecord {
        variant: Cow::Borrowed("distorted_text"),
        carrier: Cow::Borrowed("ink"),
        mode: Cow::Borrowed("typed"),
        level: 5,
        length: 6,
        seed: Secret::new([7; 32]),
        answer: Secret::new("t:ACDEFH".to_owned()),
        decoy: None,
        style_epoch: 86_400,
        renderer: 1,
        circuit: CircuitTag::from_bytes([1; 16]),
        created_at: START,
        expires_at,
    }
}

/// Runs every rule against `store`, whose clock shows [`START`]; `pass` lets time go by.
///
/// # Panics
///
/// When the store breaks a rule: this is a test.
pub(crate) async fn check(store: Arc<dyn StateStore>, pass: impl Fn(Duration)) {
    store.ping().await.expect("a fresh store answers");
    a_challenge_is_taken_once(&store).await;
    one_of_many_simultaneous_takes_wins(&store).await;
    a_look_takes_nothing(&store).await;
    failures_count_per_circuit_and_are_forgotten(&store, &pass).await;
    a_revoked_session_stays_revoked(&store, &pass).await;
    an_expired_challenge_is_an_absent_one(&store, &pass).await;
}

async fn a_challenge_is_taken_once(store: &Arc<dyn StateStore>) {
    let (token, record) = (token(), record(START.after(Duration::from_secs(3600))));
    assert!(taken(store, &token).await.is_none(), "an unknown token gave a record");
    put(store, &token, record.clone()).await;
    let first = taken(store, &token).await;
    assert_eq!(
        first.map(|r| (r.seed, r.answer, r.circuit, r.level)),
        Some((record.seed.clone(), record.answer.clone(), record.circuit, record.level)),
        "a record changed in the store"
    );
    assert!(taken(store, &token).await.is_none(), "a token was taken twice");
}

async fn one_of_many_simultaneous_takes_wins(store: &Arc<dyn StateStore>) {
    for _ in 0..20 {
        let token = token();
        put(store, &token, record(START.after(Duration::from_secs(3600)))).await;
        let barrier = Arc::new(tokio::sync::Barrier::new(SIMULTANEOUS));
        let takes: Vec<_> = (0..SIMULTANEOUS)
            .map(|_| {
                let (store, token, barrier) = (store.clone(), token.clone(), barrier.clone());
                tokio::spawn(async move {
                    barrier.wait().await;
                    taken(&store, &token).await.is_some()
                })
            })
            .collect();
        let mut winners = 0;
        for take in takes {
            winners += usize::from(take.await.expect("a take panicked"));
        }
        assert_eq!(winners, 1, "simultaneous takes of one token");
    }
}

async fn a_look_takes_nothing(store: &Arc<dyn StateStore>) {
    let token = token();
    put(store, &token, record(START.after(Duration::from_secs(3600)))).await;
    for _ in 0..3 {
        assert!(store.challenge(&token).await.expect("a look").is_some(), "a look took");
    }
    assert!(taken(store, &token).await.is_some());
    assert!(store.challenge(&token).await.expect("a look").is_none(), "a taken token was seen");
}

async fn failures_count_per_circuit_and_are_forgotten(
    store: &Arc<dyn StateStore>,
    pass: &impl Fn(Duration),
) {
    let (circuit, other) = (circuit(), circuit());
    let decay = Duration::from_secs(2);
    assert_eq!(store.failures(circuit).await.expect("failures"), Failures::NONE);
    for expected in 1..=3 {
        let failures = store.record_failure(circuit, decay).await.expect("record_failure");
        assert_eq!(failures.count, expected, "a failure was not counted");
        assert_eq!(store.failures(circuit).await.expect("failures"), failures);
    }
    assert_eq!(store.failures(other).await.expect("failures").count, 0, "circuits share a count");
    pass(decay);
    assert_eq!(store.failures(circuit).await.expect("failures").count, 0, "not forgotten");
    let again = store.record_failure(circuit, decay).await.expect("record_failure");
    assert_eq!(again.count, 1, "a forgotten count went on");

    let many: Vec<_> = (0..SIMULTANEOUS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.record_failure(other, Duration::from_secs(60)).await })
        })
        .collect();
    for one in many {
        one.await.expect("a count panicked").expect("record_failure");
    }
    let counted = store.failures(other).await.expect("failures").count;
    assert_eq!(counted as usize, SIMULTANEOUS, "simultaneous failures were lost");
}

async fn a_revoked_session_stays_revoked(store: &Arc<dyn StateStore>, pass: &impl Fn(Duration)) {
    let (revoked, other) = (session(), session());
    assert!(!store.is_revoked(revoked).await.expect("is_revoked"));
    let until = START.after(Duration::from_secs(3600));
    store.revoke_session(revoked, until).await.expect("revoke_session");
    store.revoke_session(revoked, START).await.expect("a second, shorter revocation");
    pass(Duration::from_secs(1));
    assert!(store.is_revoked(revoked).await.expect("is_revoked"), "a revocation was lost");
    assert!(!store.is_revoked(other).await.expect("is_revoked"), "the wrong session is revoked");
}

async fn an_expired_challenge_is_an_absent_one(
    store: &Arc<dyn StateStore>,
    pass: &impl Fn(Duration),
) {
    let (seen, taken_late) = (token(), token());
    // The suite has let a few seconds pass by now; this leaves enough for the puts themselves.
    let expires_at = START.after(Duration::from_secs(10));
    put(store, &seen, record(expires_at)).await;
    put(store, &taken_late, record(expires_at)).await;
    assert!(store.challenge(&seen).await.expect("a look").is_some());
    pass(Duration::from_secs(10));
    assert!(store.challenge(&seen).await.expect("a look").is_none(), "expired, and seen");
    assert!(taken(store, &taken_late).await.is_none(), "expired, and taken");
}

async fn put(store: &Arc<dyn StateStore>, token: &ChallengeToken, record: ChallengeRecord) {
    store.put_challenge(token, record).await.expect("put_challenge");
}

async fn taken(store: &Arc<dyn StateStore>, token: &ChallengeToken) -> Option<ChallengeRecord> {
    store.take_challenge(token).await.expect("take_challenge")
}

fn token() -> ChallengeToken {
    ChallengeToken::random(&SystemEntropy).expect("entropy")
}

fn session() -> SessionId {
    SessionId::random(&SystemEntropy).expect("entropy")
}

fn circuit() -> CircuitTag {
    CircuitTag::from_bytes(random_bytes(&SystemEntropy).expect("entropy"))
}

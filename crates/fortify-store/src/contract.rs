//! What every [`StateStore`] has to do, as one suite.
//!
//! A backend's test calls [`check`] with a fresh store and a way to let time pass (a hand on its
//! clock, or real waiting where the server keeps the time). Each rule names what broke.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a suite of tests")]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::record::{
    ChallengeRecord, ChallengeToken, DialRecord, Earned, Failures, Lease, LeaseRequest,
    MoveOutcome, MoveRequest, Place, Quota, Receipt, Secret, SessionId, SessionState, Taken,
    WindowLimit,
};
use super::{PENDING_LIFETIME, StateStore};
use fortify_core::clock::Timestamp;
use fortify_core::entropy::{SystemEntropy, random_bytes};
use fortify_core::pseudonym::CircuitTag;

/// When the suite starts: any time will do, as long as the store's clock shows it.
pub const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Simultaneous takes of one challenge, as many as the acceptance of the gate asks for.
const SIMULTANEOUS: usize = 64;

/// A record that expires at `expires_at` and means nothing.
#[must_use]
pub fn record(expires_at: Timestamp) -> ChallengeRecord {
    ChallengeRecord {
        variant: Cow::Borrowed("distorted_text"),
        carrier: Cow::Borrowed("ink"),
        mode: Cow::Borrowed("typed"),
        level: 5,
        length: 6,
        seed: Secret::new([7; 32]),
        answer: Secret::new("t:ACDEFH".to_owned()),
        decoy: None,
        wish: None,
        style_period: 86_400,
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
pub async fn check(store: Arc<dyn StateStore>, pass: impl Fn(Duration)) {
    store.ping().await.expect("a fresh store answers");
    a_challenge_is_taken_once(&store).await;
    one_of_many_simultaneous_takes_wins(&store).await;
    a_look_takes_nothing(&store).await;
    failures_count_per_circuit_and_are_forgotten(&store, &pass).await;
    a_revoked_session_stays_revoked(&store, &pass).await;
    sessions_of_a_circuit_end_together(&store).await;
    an_expired_challenge_is_an_absent_one(&store, &pass).await;
    a_circuit_asks_as_often_as_it_may(&store, &pass).await;
    a_circuit_has_one_challenge_that_all_its_tabs_show(&store).await;
    a_right_answer_is_remembered_for_a_while(&store, &pass).await;
    leases_are_within_rate_and_quota(&store, &pass).await;
}

async fn a_circuit_has_one_challenge_that_all_its_tabs_show(store: &Arc<dyn StateStore>) {
    let (own, [first, second, third]) = (circuit(), [(); 3].map(|()| token()));
    let record =
        || ChallengeRecord { circuit: own, ..record(START.after(Duration::from_secs(86_400))) };
    let place =
        async |token, place| store.put_challenge(token, record(), place).await.expect("put");
    let newest = async || store.newest_challenge(own).await.expect("newest_challenge");
    let seen = async |token| store.challenge(token).await.expect("a look").is_some();
    assert_eq!(newest().await, None);
    assert_eq!(place(&first, Place::Only(None)).await, None);
    assert_eq!(newest().await.as_ref(), Some(&first));
    let stays = place(&second, Place::Only(None)).await;
    assert_eq!(stays.as_ref(), Some(&first), "a second tab had one of its own");
    assert!(seen(&first).await && !seen(&second).await);
    assert_eq!(place(&second, Place::Only(Some(&first))).await, None);
    assert!(!seen(&first).await && seen(&second).await, "another picture replaces the one before");
    let stays = place(&third, Place::Only(Some(&first))).await;
    assert_eq!(stays.as_ref(), Some(&second), "a second click on it had one of its own");
    let fourth = token();
    assert_eq!(place(&fourth, Place::After(&second)).await, None);
    assert_eq!(newest().await.as_ref(), Some(&fourth));
    assert!(seen(&second).await, "one that expires soon can no longer be answered");
    assert!(taken(store, &fourth).await.is_some());
    assert!(taken(store, &second).await.is_some());
    assert_eq!(newest().await, None, "an answered one is not shown again");
    assert!(taken(store, &third).await.is_none() && taken(store, &first).await.is_none());

    // Of many tabs at once, all show one.
    let tokens: Vec<_> = (0..SIMULTANEOUS).map(|_| token()).collect();
    let puts = tokens.iter().map(|token| {
        let (store, token, record) = (store.clone(), token.clone(), record());
        tokio::spawn(async move {
            let stays = store.put_challenge(&token, record, Place::Only(None)).await.expect("put");
            stays.unwrap_or(token)
        })
    });
    let mut shown = Vec::new();
    for put in puts.collect::<Vec<_>>() {
        shown.push(put.await.expect("a put panicked"));
    }
    shown.dedup();
    assert_eq!(shown.len(), 1, "tabs that were opened at once show several");
    assert!(taken(store, &shown[0]).await.is_some());
}

async fn a_right_answer_is_remembered_for_a_while(
    store: &Arc<dyn StateStore>,
    pass: &impl Fn(Duration),
) {
    let (right, wrong, lost) = (token(), token(), token());
    let take = async |token| store.take_challenge(token).await.expect("take_challenge");
    let now = START.after(Duration::from_secs(86_400));
    for token in [&right, &wrong, &lost] {
        put(store, token, record(now)).await;
        assert!(matches!(take(token).await, Taken::Challenge(_)));
        assert!(matches!(take(token).await, Taken::Pending), "nobody knows that it is checked");
    }
    let receipt = Receipt {
        circuit: CircuitTag::from_bytes([1; 16]),
        answer: Secret::new([3; 32]),
        result: Earned::Session(Secret::new("a.b.c".to_owned())),
        expires_at: now,
    };
    let settle = async |token, receipt| {
        store.settle_challenge(token, receipt).await.expect("settle_challenge");
    };
    settle(&right, Some(receipt.clone())).await;
    for _ in 0..2 {
        let Taken::Answered(kept) = take(&right).await else { panic!("not remembered") };
        assert_eq!((kept.circuit, kept.answer), (receipt.circuit, receipt.answer.clone()));
        let Earned::Session(session) = kept.result else { panic!("another result") };
        assert_eq!(session.expose(), "a.b.c");
    }
    settle(&right, Some(Receipt { expires_at: START, ..receipt })).await;
    assert!(matches!(take(&right).await, Taken::Absent), "remembered for ever");
    settle(&wrong, None).await;
    assert!(
        matches!(take(&wrong).await, Taken::Absent),
        "a wrong answer is being checked for ever"
    );
    assert!(matches!(take(&lost).await, Taken::Pending));
    pass(PENDING_LIFETIME);
    assert!(matches!(take(&lost).await, Taken::Absent), "a check that never ends");
    assert!(matches!(take(&token()).await, Taken::Absent));
}

async fn leases_are_within_rate_and_quota(store: &Arc<dyn StateStore>, pass: &impl Fn(Duration)) {
    let id = || SessionId::random(&SystemEntropy).expect("entropy");
    let (own, other) = (id(), id());
    let until = START.after(Duration::from_secs(100_000));
    let request = LeaseRequest { per_minute: 60, burst: 5000, quota: 8000, most: 2000, until };
    let lease = async |session| store.lease_budget(session, request).await.expect("a lease");
    let of = |granted, left| Lease { granted, left, per_minute: 60, burst: 5000 };
    assert_eq!(lease(own).await, of(2000, 6000));
    assert_eq!(lease(own).await, of(2000, 4000));
    assert_eq!(lease(own).await, of(1000, 3000), "the rest of the burst");
    assert_eq!(lease(own).await, of(0, 3000));
    assert_eq!(lease(other).await, of(2000, 6000), "another session");
    pass(Duration::from_millis(1500));
    assert_eq!(lease(own).await, of(1500, 1500), "60 pages a minute are 1.5 in 1.5 s");
    // What the first lease said counts.
    let more = LeaseRequest { per_minute: 6000, burst: 100_000, quota: 100_000, ..request };
    pass(Duration::from_secs(60));
    let taken = store.lease_budget(own, more).await.expect("a lease");
    assert_eq!(taken, of(1500, 0), "the rest of the quota");
    pass(Duration::from_secs(600));
    assert_eq!(lease(own).await, of(0, 0), "time gives none back");

    // Of many at once no more than there is.
    let flood = id();
    let leases = (0..SIMULTANEOUS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.lease_budget(flood, request).await.expect("a lease") })
    });
    let mut granted = 0;
    for lease in leases.collect::<Vec<_>>() {
        granted += lease.await.expect("it ran").granted;
    }
    assert_eq!(granted, 5000, "simultaneous ones");
}

/// Whoever used a session while a node's clock was hours ahead does not wait for that time to come.
pub async fn check_a_clock_set_back(
    store: Arc<dyn StateStore>,
    set: impl Fn(Timestamp),
    now: Timestamp,
) {
    let id = SessionId::random(&SystemEntropy).expect("entropy");
    let until = now.after(Duration::from_secs(100_000));
    let request = LeaseRequest { per_minute: 60, burst: 5000, quota: 80_000, most: 5000, until };
    let lease = async || store.lease_budget(id, request).await.expect("a lease").granted;
    set(now.after(Duration::from_secs(7200)));
    assert_eq!(lease().await, 5000);
    set(now);
    assert_eq!(lease().await, 0, "nothing was given for it");
    set(now.after(Duration::from_secs(2)));
    assert_eq!(lease().await, 2000, "it fills again");
    // A few seconds are the nodes' difference, and give nobody more.
    set(now.after(Duration::from_secs(1)));
    assert_eq!(lease().await, 0);
    set(now.after(Duration::from_secs(2)));
    assert_eq!(lease().await, 0, "it was filled until then");
}

async fn a_circuit_asks_as_often_as_it_may(store: &Arc<dyn StateStore>, pass: &impl Fn(Duration)) {
    let bounds = [
        WindowLimit { within: Duration::from_secs(60), most: 3 },
        WindowLimit { within: Duration::from_secs(3600), most: 5 },
    ];
    let (own, other) = (circuit(), circuit());
    let ask = async |circuit| store.acquire_quota(circuit, bounds, None).await.expect("it asks");
    for recent in 1..=3 {
        assert_eq!(ask(own).await, Quota::Granted { recent });
        pass(Duration::from_secs(1));
    }
    assert_eq!(ask(own).await, Quota::Exceeded(Duration::from_secs(57)), "of the first of three");
    assert_eq!(ask(other).await, Quota::Granted { recent: 1 }, "another circuit");
    pass(Duration::from_secs(57));
    assert_eq!(ask(own).await, Quota::Granted { recent: 4 }, "what was refused did not count");
    pass(Duration::from_secs(60));
    assert_eq!(ask(own).await, Quota::Granted { recent: 5 });
    assert_eq!(ask(own).await, Quota::Exceeded(Duration::from_secs(3480)), "of the hour");
    let longest = Some(Duration::from_secs(300));
    let ask_soon = async || store.acquire_quota(own, bounds, longest).await.expect("it asks");
    assert_eq!(ask_soon().await, Quota::Exceeded(Duration::from_secs(300)), "of the last one");
    pass(Duration::from_secs(300));
    assert!(matches!(ask_soon().await, Quota::Granted { .. }), "waits for longer than the longest");
    assert_eq!(ask_soon().await, Quota::Exceeded(Duration::from_secs(300)), "one at a time");

    // Of many at once no more than may.
    let flood = circuit();
    let asks = (0..SIMULTANEOUS).map(|_| {
        let store = store.clone();
        tokio::spawn(
            async move { store.acquire_quota(flood, bounds, None).await.expect("it asks") },
        )
    });
    let mut granted = 0;
    for ask in asks.collect::<Vec<_>>() {
        granted += usize::from(matches!(ask.await.expect("it ran"), Quota::Granted { .. }));
    }
    assert_eq!(granted, 3, "simultaneous ones");
}

/// Runs the rules of moves against a store that lets sessions move.
///
/// # Panics
///
/// When the store breaks a rule: this is a test.
pub async fn check_moves(store: Arc<dyn StateStore>, pass: impl Fn(Duration)) {
    a_session_moves_as_often_as_it_may(&store, &pass).await;
    a_session_used_where_it_left_is_over(&store).await;
    a_revoked_session_does_not_move(&store).await;
    of_many_simultaneous_moves_as_many_as_may_succeed(&store).await;
}

/// Runs the rules of the dial against two nodes' stores over one state, which has none yet.
///
/// # Panics
///
/// When the store breaks a rule: this is a test.
pub async fn check_dial(here: &Arc<dyn StateStore>, there: &Arc<dyn StateStore>) {
    let dial = |version, level| DialRecord {
        version,
        mode: Cow::Borrowed("auto"),
        level,
        paused_until: (version % 2 == 0).then_some(START),
        by: (version % 2 == 1).then(|| "operator:ada".to_owned()),
    };
    let mut news = there.dial();
    assert_eq!(*news.borrow_and_update(), None);
    let mut previous = None;
    for (version, level) in [(1, 2), (2, 3), (7, 9)] {
        let kept = here.set_dial(dial(version, level)).await.expect("a turn");
        assert_eq!(kept, dial(version, level));
        let heard = news.wait_for(|heard| *heard != previous);
        let heard = tokio::time::timeout(Duration::from_secs(20), heard).await;
        previous = heard.expect("news in time").expect("the store is there").clone();
        assert_eq!(previous, Some(kept));
    }
    for version in [6, 7] {
        let kept = there.set_dial(dial(version, 1)).await.expect("a turn");
        assert_eq!(kept, dial(7, 9), "an older turn, or another of the same version, was kept");
    }

    // Each wants another level, and all go on from the same version.
    let bids = (0..SIMULTANEOUS).map(|number| {
        let store = [here, there][number % 2].clone();
        let bid = dial(8, 1 + (number % 10) as u8);
        tokio::spawn(async move { store.set_dial(bid).await.expect("a bid") })
    });
    let mut kept = Vec::new();
    for bid in bids.collect::<Vec<_>>() {
        kept.push(bid.await.expect("a bid panicked"));
    }
    kept.dedup();
    assert_eq!(kept.len(), 1, "several turns from one version were kept");
    let last = kept.pop();
    for store in [here, there] {
        let mut news = store.dial();
        let heard = news.wait_for(|heard| *heard == last);
        tokio::time::timeout(Duration::from_secs(20), heard)
            .await
            .expect("in time")
            .expect("there");
    }
}

/// Runs the rules of the bound for each circuit against a store that lets a circuit have `most`.
///
/// # Panics
///
/// When the store breaks a rule: this is a test.
pub async fn check_bound(store: Arc<dyn StateStore>, most: usize) {
    let (victim, loud) = (circuit(), circuit());
    let own = put_for(&store, victim).await;
    let mut flood = Vec::new();
    for _ in 0..10 * most {
        flood.push(put_for(&store, loud).await);
    }
    for (back, token) in flood.iter().rev().enumerate() {
        let seen = store.challenge(token).await.expect("a look").is_some();
        assert_eq!(seen, back < most, "number {back} from the newest, seen");
    }
    assert!(taken(&store, &own).await.is_some(), "another circuit's flood cost a challenge");

    // An answered one makes room: the next drops none.
    let newest = flood.last().expect("a flood");
    assert!(taken(&store, newest).await.is_some());
    flood.push(put_for(&store, loud).await);
    for (back, token) in flood.iter().rev().enumerate() {
        let live = taken(&store, token).await.is_some();
        assert_eq!(live, back <= most && back != 1, "number {back} from the newest, taken");
    }

    // Many at once are still no more than there may be.
    let tokens: Vec<_> = (0..SIMULTANEOUS).map(|_| token()).collect();
    let puts = tokens.iter().map(|token| {
        let (store, token) = (store.clone(), token.clone());
        tokio::spawn(async move { put(&store, &token, record_of(loud)).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.expect("a put panicked");
    }
    let mut live = 0;
    for token in &tokens {
        live += usize::from(taken(&store, token).await.is_some());
    }
    assert_eq!(live, most.min(SIMULTANEOUS), "simultaneous challenges of one circuit");
}

fn record_of(circuit: CircuitTag) -> ChallengeRecord {
    ChallengeRecord { circuit, ..record(START.after(Duration::from_secs(3600))) }
}

async fn put_for(store: &Arc<dyn StateStore>, circuit: CircuitTag) -> ChallengeToken {
    let token = token();
    put(store, &token, record_of(circuit)).await;
    token
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
    store.forget_failures(circuit).await.expect("forget_failures");
    assert_eq!(store.failures(circuit).await.expect("failures"), Failures::NONE);
    store.forget_failures(circuit).await.expect("nothing is forgotten without an error");

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

/// A circuit's sessions end together, those that were earned before; later ones do not.
async fn sessions_of_a_circuit_end_together(store: &Arc<dyn StateStore>) {
    let circuit = CircuitTag::from_bytes([71; 16]);
    assert_eq!(store.sessions_ended(circuit).await.unwrap(), None);
    let [first, later] = [3600, 3601].map(|seconds| START.after(Duration::from_secs(seconds)));
    store.end_sessions_of(circuit, first).await.unwrap();
    assert_eq!(store.sessions_ended(circuit).await.unwrap(), Some(first));
    store.end_sessions_of(circuit, later).await.unwrap();
    store.end_sessions_of(circuit, first).await.unwrap();
    assert_eq!(store.sessions_ended(circuit).await.unwrap(), Some(later), "the last counts");
    let other = CircuitTag::from_bytes([72; 16]);
    assert_eq!(store.sessions_ended(other).await.unwrap(), None);
}

async fn a_revoked_session_stays_revoked(store: &Arc<dyn StateStore>, pass: &impl Fn(Duration)) {
    let (revoked, other) = (session(), session());
    assert_eq!(status(store, revoked).await, SessionState::Unmoved);
    let until = START.after(Duration::from_secs(3600));
    store.revoke_session(revoked, until).await.expect("revoke_session");
    store.revoke_session(revoked, START).await.expect("a second, shorter revocation");
    pass(Duration::from_secs(1));
    assert_eq!(status(store, revoked).await, SessionState::Revoked, "a revocation was lost");
    assert_eq!(status(store, other).await, SessionState::Unmoved, "the wrong session is revoked");
}

/// A step from one circuit to another, at most two in two seconds.
fn step(from: CircuitTag, to: CircuitTag) -> MoveRequest {
    let until = START.after(Duration::from_secs(3600));
    MoveRequest { from, to, until, most: 2, window: Duration::from_secs(2) }
}

async fn a_session_moves_as_often_as_it_may(store: &Arc<dyn StateStore>, pass: &impl Fn(Duration)) {
    let (moving, [a, b, c, d]) = (session(), [(); 4].map(|()| circuit()));
    let strict = MoveRequest { most: 0, ..step(a, b) };
    assert_eq!(moved(store, moving, strict).await, MoveOutcome::Refused, "none are allowed");
    assert_eq!(
        moved(store, moving, step(a, a)).await,
        MoveOutcome::AlreadyBound,
        "it lives at its token's"
    );
    assert_eq!(status(store, moving).await, SessionState::Unmoved, "neither was a move");
    assert_eq!(moved(store, moving, step(a, b)).await, MoveOutcome::Moved);
    for from in [a, b] {
        assert_eq!(
            moved(store, moving, step(from, b)).await,
            MoveOutcome::AlreadyBound,
            "a move counted twice"
        );
    }
    assert_eq!(status(store, moving).await, SessionState::BoundTo(b));
    assert_eq!(moved(store, moving, step(a, c)).await, MoveOutcome::Moved, "by its first cookie");
    assert_eq!(moved(store, moving, step(c, d)).await, MoveOutcome::Refused, "a third move of two");
    assert_eq!(status(store, moving).await, SessionState::BoundTo(c), "a refused move moved");
    pass(Duration::from_secs(2));
    assert_eq!(
        moved(store, moving, step(c, d)).await,
        MoveOutcome::Moved,
        "the window does not pass"
    );
    assert_eq!(status(store, moving).await, SessionState::BoundTo(d));
    let left = store.left_by(moving);
    assert_eq!(left.iter().map(|(circuit, _)| *circuit).collect::<Vec<_>>(), [a, b, c]);
    assert!(left.is_sorted_by_key(|(_, at)| *at), "{left:?}");
    assert_eq!(status(store, session()).await, SessionState::Unmoved, "the wrong session moved");
}

async fn a_session_used_where_it_left_is_over(store: &Arc<dyn StateStore>) {
    let [a, b, c] = [(); 3].map(|()| circuit());
    // By each of its cookies; with moves to spare, without, and where none is allowed any more.
    for (from, to) in [(a, a), (b, a), (c, a), (a, b), (b, b), (c, b)] {
        for most in [3, 2, 0] {
            let shared = session();
            assert_eq!(moved(store, shared, step(a, b)).await, MoveOutcome::Moved);
            assert_eq!(moved(store, shared, step(b, c)).await, MoveOutcome::Moved);
            let back = MoveRequest { most, ..step(from, to) };
            assert_eq!(moved(store, shared, back).await, MoveOutcome::Shared);
            assert_eq!(status(store, shared).await, SessionState::Revoked);
            assert_eq!(moved(store, shared, back).await, MoveOutcome::Revoked, "counted twice");
            assert_eq!(moved(store, shared, step(c, c)).await, MoveOutcome::Revoked);
        }
    }
}

async fn a_revoked_session_does_not_move(store: &Arc<dyn StateStore>) {
    let (revoked, [a, b]) = (session(), [(); 2].map(|()| circuit()));
    assert_eq!(moved(store, revoked, step(a, b)).await, MoveOutcome::Moved);
    let until = START.after(Duration::from_secs(3600));
    store.revoke_session(revoked, until).await.expect("revoke_session");
    assert_eq!(status(store, revoked).await, SessionState::Revoked, "its moves hide its end");
    assert_eq!(moved(store, revoked, step(b, circuit())).await, MoveOutcome::Revoked);
    assert_eq!(moved(store, revoked, step(a, b)).await, MoveOutcome::Revoked);
}

async fn of_many_simultaneous_moves_as_many_as_may_succeed(store: &Arc<dyn StateStore>) {
    for most in [1, 3] {
        let (moving, home) = (session(), circuit());
        let barrier = Arc::new(tokio::sync::Barrier::new(SIMULTANEOUS));
        let moves: Vec<_> = (0..SIMULTANEOUS)
            .map(|_| {
                let (store, barrier, to) = (store.clone(), barrier.clone(), circuit());
                tokio::spawn(async move {
                    barrier.wait().await;
                    let window = Duration::from_secs(3600);
                    let step = MoveRequest { most, window, ..step(home, to) };
                    (to, moved(&store, moving, step).await)
                })
            })
            .collect();
        let mut reached = Vec::new();
        for one in moves {
            match one.await.expect("a move panicked") {
                (to, MoveOutcome::Moved) => reached.push(to),
                (_, refused) => assert_eq!(refused, MoveOutcome::Refused),
            }
        }
        assert_eq!(reached.len(), most as usize, "simultaneous moves");
        let SessionState::BoundTo(now) = status(store, moving).await else {
            panic!("it lives nowhere");
        };
        assert_eq!(reached.iter().filter(|circuit| **circuit == now).count(), 1);
    }
}

async fn status(store: &Arc<dyn StateStore>, session: SessionId) -> SessionState {
    store.session_state(session).await.expect("standing")
}

async fn moved(store: &Arc<dyn StateStore>, session: SessionId, step: MoveRequest) -> MoveOutcome {
    store.move_session(session, step).await.expect("move_session")
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
    let stays = store.put_challenge(token, record, Place::Beside(None)).await;
    assert_eq!(stays.expect("put_challenge"), None, "one of several was not stored");
}

async fn taken(store: &Arc<dyn StateStore>, token: &ChallengeToken) -> Option<ChallengeRecord> {
    let taken = store.take_challenge(token).await.expect("take_challenge").challenge();
    if taken.is_some() {
        store.settle_challenge(token, None).await.expect("settle_challenge");
    }
    taken
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

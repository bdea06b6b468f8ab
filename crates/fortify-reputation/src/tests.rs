//! Reputation as a whole: file, memory and writer thread.

use super::*;
use fortify_core::clock::{ManualClock, SystemClock};
use fortify_store::replication::ReplicationPeer as _;

/// Makes the file refuse rows, as a full disk does.
const REFUSE: &str = "
    CREATE TRIGGER refuse_new BEFORE INSERT ON statuses BEGIN SELECT RAISE(ABORT, 'refused'); END;
    CREATE TRIGGER refuse_end BEFORE DELETE ON statuses BEGIN SELECT RAISE(ABORT, 'refused'); END;
";

/// Makes it take rows again.
const ACCEPT: &str = "DROP TRIGGER refuse_new; DROP TRIGGER refuse_end;";

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn circuit(number: u32) -> TorCircuit {
    TorCircuit::from_parts(0, 0, number)
}

fn session(number: u8) -> Session {
    Session::sample(number, in_an_hour().after(Duration::from_secs(3600)))
}

fn in_an_hour() -> Timestamp {
    NOW.after(Duration::from_secs(3600))
}

fn opened(dir: &Path) -> (Reputation, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(NOW));
    (Reputation::open(dir, clock.clone()).unwrap(), clock)
}

fn status(reputation: &Reputation, number: u32) -> Option<CircuitStatus> {
    reputation.status(circuit(number))
}

/// Waits for a condition that another thread fulfils.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("after 60 s still not: {what}");
}

#[tokio::test]
async fn abuse_27_an_acknowledged_ban_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (reputation, _) = opened(dir.path());
    reputation.ban(circuit(1), in_an_hour(), StatusReason::Failures).await.unwrap();
    assert_eq!(status(&reputation, 1), Some(CircuitStatus::Banned));
    // Opened again while the first is still open: as if it had been killed.
    let (again, clock) = opened(dir.path());
    assert_eq!(status(&again, 1), Some(CircuitStatus::Banned));
    assert_eq!(again.wanted(), [(circuit(1), CircuitStatus::Banned)]);
    clock.set(in_an_hour());
    assert_eq!(status(&again, 1), None);
    assert_eq!(again.wanted(), []);
}

#[tokio::test]
async fn what_another_process_writes_is_noticed_and_what_ends_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (reputation, clock) = opened(dir.path());
    let (other, _) = opened(dir.path());
    other
        .set(circuit(7), CircuitStatus::Banned, in_an_hour(), StatusReason::Operator)
        .await
        .unwrap();
    eventually("noticed", || status(&reputation, 7) == Some(CircuitStatus::Banned)).await;
    reputation.changed().await;
    assert_eq!(reputation.take_changes(), Changes::Some(vec![circuit(7)]));
    reputation.confirm();
    clock.set(in_an_hour());
    reputation.changed().await;
    assert_eq!(reputation.take_changes(), Changes::Some(vec![circuit(7)]));
    assert_eq!(status(&reputation, 7), None);
}

#[tokio::test]
async fn trust_never_lifts_a_ban_and_an_operator_does() {
    let dir = tempfile::tempdir().unwrap();
    let (reputation, _) = opened(dir.path());
    reputation.ban(circuit(1), in_an_hour(), StatusReason::Failures).await.unwrap();
    reputation.trust_in_background(circuit(1), session(1), in_an_hour()).unwrap();
    reputation.trust_in_background(circuit(2), session(2), in_an_hour()).unwrap();
    eventually("promoted", || status(&reputation, 2) == Some(CircuitStatus::Trusted)).await;
    assert_eq!(status(&reputation, 1), Some(CircuitStatus::Banned));
    assert_eq!(reputation.counts(), Counts { trusted: 1, banned: 1 });
    reputation
        .set(circuit(1), CircuitStatus::Normal, in_an_hour(), StatusReason::Operator)
        .await
        .unwrap();
    assert_eq!(status(&reputation, 1), None);
}

#[tokio::test]
async fn ten_thousand_bans_at_once_share_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let reputation = Arc::new(Reputation::open(dir.path(), clock.clone()).unwrap());
    let until = clock.now().after(Duration::from_secs(3600));
    let started = std::time::Instant::now();
    let bans: Vec<_> = (0..10_000)
        .map(|number| {
            let reputation = reputation.clone();
            tokio::spawn(async move {
                reputation.ban(circuit(number), until, StatusReason::Failures).await.unwrap();
            })
        })
        .collect();
    for ban in bans {
        ban.await.unwrap();
    }
    println!("10,000 bans acknowledged in {:?}", started.elapsed());
    assert_eq!(reputation.counts().banned, 10_000);
}

#[tokio::test]
async fn no_error_and_no_debug_names_a_circuit() {
    let dir = tempfile::tempdir().unwrap();
    let (reputation, _) = opened(dir.path());
    reputation.ban(circuit(0x7a3f_19c4), in_an_hour(), StatusReason::Failures).await.unwrap();
    let row = reputation.row(circuit(0x7a3f_19c4)).unwrap();
    for text in [format!("{row:?}"), format!("{reputation:?}")] {
        assert!(!text.contains("7a3f") && !text.contains("2050955716"), "{text}");
    }
}

#[tokio::test]
async fn abuse_18_a_flood_of_trusted_circuits_pushes_out_trusted_circuits_and_no_ban_and_memory_is_the_file()
 {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let reputation = Reputation::bounded(dir.path(), clock, 3).unwrap();
    reputation.ban(circuit(1), in_an_hour(), StatusReason::Failures).await.unwrap();
    for round in 0..400 {
        // Not awaited, so that one transaction has many writes, some of the same circuit.
        let until = in_an_hour().after(Duration::from_secs(round));
        reputation.trust_in_background(circuit(2 + (round as u32 % 7)), session(1), until).unwrap();
    }
    reputation.ban(circuit(3), in_an_hour(), StatusReason::Failures).await.unwrap();
    let mut wanted = reputation.wanted();
    let mut db = StatusDb::open_existing(dir.path(), 3).unwrap();
    let rows = db.load(NOW).unwrap();
    let mut kept: Vec<_> = rows.iter().map(|(row, _)| (row.circuit, row.status)).collect();
    wanted.sort_by_key(|(circuit, _)| *circuit);
    kept.sort_by_key(|(circuit, _)| *circuit);
    assert_eq!(wanted, kept);
    assert_eq!(wanted.len(), 3);
    assert_eq!(reputation.counts(), Counts { trusted: 1, banned: 2 });
    reputation.ban(circuit(4), in_an_hour(), StatusReason::Failures).await.unwrap();
    let refused = reputation.ban(circuit(5), in_an_hour(), StatusReason::Failures).await;
    assert!(matches!(refused, Err(ReputationError::Full)));
    for number in [1, 3, 4] {
        assert_eq!(status(&reputation, number), Some(CircuitStatus::Banned));
    }
}

#[tokio::test]
async fn bans_of_here_and_of_another_gate_count_though_the_disk_refuses_them() {
    let dir = tempfile::tempdir().unwrap();
    let (reputation, clock) = opened(dir.path());
    let (reputation, until) = (Arc::new(reputation), in_an_hour());
    let sharing = sharing(&reputation, &clock);
    let file = rusqlite::Connection::open(dir.path().join("reputation.sqlite")).unwrap();
    file.execute_batch(REFUSE).unwrap();
    let (banned, reason) = (CircuitStatus::Banned, StatusReason::Failures);
    let row = StatusRow::new(circuit(1), banned, NOW, until, reason);
    sharing.apply(vec![replication::encoded(row)]).await.unwrap();
    assert_eq!(status(&reputation, 1), Some(CircuitStatus::Banned));
    let kept = reputation.ban(circuit(2), until, StatusReason::Failures).await.unwrap();
    assert_eq!(kept, Durability::InMemory);
    assert_eq!(status(&reputation, 2), Some(CircuitStatus::Banned));
    assert_eq!((reputation.unwritten(), reputation.is_degraded()), (2, true));
    // The row that was decided here is published to the other nodes, once.
    let outgoing = sharing.take_batch(9);
    assert_eq!(outgoing.rows.len(), 1);
    sharing.confirm_published(fortify_store::replication::PublishBatch::default());
    file.execute_batch(ACCEPT).unwrap();
    eventually("written", || !reputation.is_degraded()).await;
    assert_eq!(sharing.pending(), Some(0));
    let db = StatusDb::open_existing(dir.path(), 9).unwrap();
    for number in [1, 2] {
        assert!(db.find(circuit(number), NOW).unwrap().is_some());
    }
}

/// The replication of one node.
fn sharing(reputation: &Arc<Reputation>, clock: &Arc<ManualClock>) -> replication::Replication {
    let histories = Arc::new(answer_history::AnswerHistories::new(
        clock.clone(),
        answer_history::Scoring::default(),
    ));
    let sharing = replication::Replication::new(
        reputation,
        histories,
        clock.clone(),
        TorBoot::default,
        [1; 8],
    );
    sharing.enable();
    sharing
}

#[tokio::test]
async fn a_clock_that_jumps_decides_nothing_that_other_gates_are_told() {
    for jump in [NOW.after(Duration::from_secs(86_400)), NOW.before(Duration::from_secs(600))] {
        let dir = tempfile::tempdir().unwrap();
        let (reputation, clock) = opened(dir.path());
        let reputation = Arc::new(reputation);
        let one = sharing(&reputation, &clock);
        reputation.ban(circuit(1), in_an_hour(), StatusReason::Failures).await.unwrap();
        reputation
            .set(circuit(2), CircuitStatus::Trusted, in_an_hour(), StatusReason::Operator)
            .await
            .unwrap();
        let rows = one.take_batch(9).rows;
        one.confirm_published(fortify_store::replication::PublishBatch::default());
        clock.jump(jump);
        let until = jump.after(Duration::from_secs(3600));
        let has = |reputation: &Reputation, until| {
            let row = |number| reputation.row(circuit(number)).map(|row| row.until);
            [row(1), row(2)] == [Some(until); 2]
        };
        eventually("followed", || has(&reputation, until)).await;
        assert_eq!(one.pending(), Some(0));
        // All nodes have the row as it was decided, even when it is read again.
        one.apply(rows.clone()).await.unwrap();
        assert_eq!(one.pending(), Some(0));
        assert!(has(&reputation, until), "it lasts as long as was said");
        // If the store lost it, it is published again as it was decided.
        one.reconcile(&std::collections::HashSet::new());
        assert!(one.take_batch(9).rows == rows);
        drop((one, reputation));
        // The same holds after a restart.
        let again = Arc::new(Reputation::open(dir.path(), clock.clone()).unwrap());
        let one = sharing(&again, &clock);
        one.apply(rows.clone()).await.unwrap();
        assert!(has(&again, until));
        assert_eq!(one.pending(), Some(0));
        // A new decision is later than the one it replaces, which was made by a different clock.
        again
            .set(circuit(1), CircuitStatus::Normal, in_an_hour(), StatusReason::Operator)
            .await
            .unwrap();
        let outgoing = one.take_batch(9).rows;
        let settled = one.merge(Some(&rows[0].value[..]), &outgoing[0]).unwrap().unwrap();
        assert_eq!(settled.rank, fortify_store::replication::EvictionRank::Normal);
    }
}

#[tokio::test]
async fn a_clock_that_jumps_ends_no_ban_and_makes_none_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (reputation, clock) = opened(dir.path());
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    reputation.ban(circuit(1), in_an_hour(), StatusReason::Failures).await.unwrap();
    for to in [NOW.after(hour * 24), NOW.before(hour)] {
        clock.jump(to);
        assert_eq!(status(&reputation, 1), Some(CircuitStatus::Banned), "before it was noticed");
        let until = clock.now().after(hour);
        eventually("followed", || reputation.row(circuit(1)).unwrap().until == until).await;
        // The command line, and a gate after a restart, know only the wall clock.
        eventually("in the file", || {
            let db = StatusDb::open_existing(dir.path(), 9).unwrap();
            let row = db.find(circuit(1), clock.now()).unwrap();
            row.is_some_and(|row| row.until == until)
        })
        .await;
    }
    clock.advance(hour - minute);
    assert_eq!(status(&reputation, 1), Some(CircuitStatus::Banned));
    clock.advance(minute);
    assert_eq!(status(&reputation, 1), None);
}

#[tokio::test]
async fn a_ban_of_before_a_clock_was_set_back_is_no_longer_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (reputation, _) = opened(dir.path());
    reputation.ban(circuit(1), in_an_hour(), StatusReason::Failures).await.unwrap();
    drop(reputation);
    let clock = Arc::new(ManualClock::at(NOW.before(Duration::from_secs(86_400))));
    let again = Reputation::open(dir.path(), clock.clone()).unwrap();
    assert_eq!(status(&again, 1), Some(CircuitStatus::Banned));
    // The file must be updated, or a later ban would yield to one that has ended.
    let until = clock.now().after(Duration::from_secs(3600));
    eventually("written", || !again.is_degraded()).await;
    let db = StatusDb::open_existing(dir.path(), 9).unwrap();
    let row = db.find(circuit(1), clock.now()).unwrap().unwrap();
    assert_eq!((row.until, Some(row)), (until, again.row(circuit(1))));
    clock.advance(Duration::from_secs(3600));
    assert_eq!(status(&again, 1), None);
    let until = clock.now().after(Duration::from_secs(60));
    assert_eq!(
        again.ban(circuit(1), until, StatusReason::Failures).await.unwrap(),
        Durability::OnDisk
    );
    assert_eq!(status(&again, 1), Some(CircuitStatus::Banned));
    assert_eq!(again.row(circuit(1)).unwrap().until, until);
}

#[tokio::test]
async fn a_ban_that_yields_in_the_file_leaves_in_force_what_the_file_has() {
    let dir = tempfile::tempdir().unwrap();
    let (reputation, _) = opened(dir.path());
    // Written in a way that no gate notices.
    let file = rusqlite::Connection::open(dir.path().join("reputation.sqlite")).unwrap();
    let (since, until) = (NOW.as_millis() as i64, in_an_hour().as_millis() as i64);
    file.execute(
        "INSERT INTO statuses VALUES (0, 0, 1, 2, ?1, ?2, 'operator', 0, 0, NULL, NULL)",
        [since, until],
    )
    .unwrap();
    let sooner = NOW.after(Duration::from_secs(60));
    let kept = reputation.ban(circuit(1), sooner, StatusReason::Failures).await.unwrap();
    assert_eq!(kept, Durability::OnDisk);
    let row = reputation.row(circuit(1)).unwrap();
    assert_eq!((row.status, row.until), (CircuitStatus::Banned, in_an_hour()));
}

#[tokio::test]
async fn a_reset_that_the_disk_refuses_is_written_though_it_was_used_up_or_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (reputation, clock) = opened(dir.path());
    let reputation = Arc::new(reputation);
    let sharing = sharing(&reputation, &clock);
    for number in [1, 2] {
        reputation.ban(circuit(number), in_an_hour(), StatusReason::Failures).await.unwrap();
    }
    let file = rusqlite::Connection::open(dir.path().join("reputation.sqlite")).unwrap();
    file.execute_batch(REFUSE).unwrap();
    let sooner = NOW.after(Duration::from_secs(60));
    for (number, until) in [(1, in_an_hour()), (2, sooner)] {
        let reset = CircuitStatus::Normal;
        let kept =
            reputation.set(circuit(number), reset, until, StatusReason::Operator).await.unwrap();
        assert_eq!(kept, Durability::InMemory);
    }
    sharing.forgive(circuit(1), fortify_core::pseudonym::CircuitTag::from_bytes([1; 16]));
    assert_eq!(reputation.row(circuit(1)), None, "it is used once");
    clock.set(sooner);
    assert_eq!(reputation.row(circuit(2)), None);
    // By now the writer has expired ended rows.
    let (penalised, later) = (circuit(9), sooner.after(Duration::from_secs(1)));
    reputation.penalise(penalised, later);
    clock.set(later);
    eventually("swept", || reputation.penalised().is_empty()).await;
    file.execute_batch(ACCEPT).unwrap();
    eventually("written", || !reputation.is_degraded()).await;
    let db = StatusDb::open_existing(dir.path(), 9).unwrap();
    for number in [1, 2] {
        assert_eq!(db.find(circuit(number), clock.now()).unwrap(), None);
        let until = clock.now().after(Duration::from_secs(60));
        let kept = reputation.ban(circuit(number), until, StatusReason::Failures).await.unwrap();
        assert_eq!(kept, Durability::OnDisk);
        assert_eq!(reputation.row(circuit(number)).unwrap().until, until);
    }
}

#[tokio::test]
async fn abuse_18_what_is_heard_while_the_disk_refuses_it_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let reputation = Arc::new(Reputation::bounded(dir.path(), clock.clone(), 2).unwrap());
    let sharing = sharing(&reputation, &clock);
    let file = rusqlite::Connection::open(dir.path().join("reputation.sqlite")).unwrap();
    file.execute_batch(REFUSE).unwrap();
    let row = |number, status| {
        let (since, until, reason) = (NOW, in_an_hour(), StatusReason::Failures);
        replication::encoded(StatusRow::new(circuit(number), status, since, until, reason))
    };
    let trust = row(1, CircuitStatus::Trusted);
    let bans = [2, 3, 4].map(|number| row(number, CircuitStatus::Banned));
    sharing.apply([vec![trust], bans.to_vec()].concat()).await.unwrap();
    assert_eq!(reputation.counts(), Counts { trusted: 0, banned: 2 });
}

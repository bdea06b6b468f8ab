//! What Redis keeps of standings where there is no more room; `tests/cluster.rs` has the rest, over gates.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fortify_core::circuit::{TorBoot, TorCircuit};
use fortify_core::clock::{Clock as _, ManualClock, SystemClock};
use fortify_core::entropy::SystemEntropy;
use fortify_core::pseudonym::CircuitTag;
use fortify_reputation::answer_history::{AnswerEvent, AnswerHistories, Scoring};
use fortify_reputation::replication::Replication;
use fortify_reputation::{CircuitStatus, Reputation, StatusReason};
use fortify_store::config::RedisConfig;
use fortify_store::record::Session;
use fortify_store::redis::RedisStore;
use fortify_store::{StateStore as _, contract};

use super::server::{Redis, until};

/// A store that has connected.
async fn connected(config: &RedisConfig) -> (RedisStore, tempfile::TempDir) {
    let data_dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(contract::START));
    let store = RedisStore::open(clock, Arc::new(SystemEntropy), config, 3, data_dir.path());
    let store = store.unwrap();
    until("the store to answer", || async { store.ping().await.is_ok() }).await;
    (store, data_dir)
}

/// A node that tells what is decided on it; its clock is what Redis' is, set `ahead` ms.
struct Node {
    clock: Arc<ManualClock>,
    reputation: Arc<Reputation>,
    replication: Arc<Replication>,
    teller: tokio::task::JoinHandle<()>,
    _data_dir: tempfile::TempDir,
}

impl Node {
    fn start(store: &RedisStore, ahead: i64, most: usize) -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock.now().shifted(ahead)));
        let data_dir = tempfile::tempdir().unwrap();
        let reputation = Arc::new(Reputation::open(data_dir.path(), clock.clone()).unwrap());
        let histories = Arc::new(AnswerHistories::new(clock.clone(), Scoring::default()));
        let replication =
            Replication::new(&reputation, histories, clock.clone(), TorBoot::default, [1; 8]);
        replication.enable();
        let replication = Arc::new(replication);
        let teller = tokio::spawn(store.publish(replication.clone(), clock.clone(), most));
        Self { clock, reputation, replication, teller, _data_dir: data_dir }
    }

    /// Bans a circuit for an hour, and waits until that is told.
    async fn ban(&self, number: u32) {
        let then = self.clock.now().after(Duration::from_secs(3600));
        let circuit = TorCircuit::from_parts(0, 0, number);
        self.reputation.ban(circuit, then, StatusReason::Failures).await.unwrap();
        until("all to be told", || async { self.replication.pending() == Some(0) }).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.teller.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_clock_is_ahead_deletes_no_ban_of_anothers() {
    let redis = Redis::start(&[]);
    let (store, _data_dir) = connected(&redis.config()).await;
    let day = 86_400_000;
    let [right, ahead, behind] = [0, day, -day].map(|ahead| Node::start(&store, ahead, 9));
    let kept = || redis.tell(&["HLEN", "fortify:{status}:rows"]);
    right.ban(1).await;
    ahead.ban(2).await;
    assert_eq!(kept(), ":2");
    behind.ban(3).await;
    assert_eq!(kept(), ":3");
    // What is over by Redis' clock and the node's goes with the next one.
    right.ban(4).await;
    assert_eq!(kept(), ":3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_event_that_redis_answers_too_late_is_told_once() {
    let redis = Redis::start(&[]);
    let (store, _data_dir) = connected(&redis.config()).await;
    let node = Node::start(&store, 0, 9);
    redis.signal(rustix::process::Signal::STOP);
    let (stopped, several) = (Instant::now(), redis.config().timeout * 4);
    node.replication.record(CircuitTag::from_bytes([1; 16]), AnswerEvent::Bot);
    until("several attempts to fail", || async {
        several < stopped.elapsed() && store.ping().await.is_err()
    })
    .await;
    redis.signal(rustix::process::Signal::CONT);
    let told = || redis.tell(&["XLEN", "fortify:{status}:events"]);
    until("Redis to go on", || async { told() != ":0" }).await;
    // Whatever was sent before is done before this is.
    node.ban(1).await;
    assert_eq!(told(), ":1");
    // One that cannot be sent waits.
    let event = || node.replication.record(CircuitTag::from_bytes([1; 16]), AnswerEvent::Bot);
    store.refuse_during(event).await.unwrap();
    until("the event to be published", || async { told() == ":2" }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_18_at_the_bound_trusted_make_room_and_bans_never() {
    let redis = Redis::start(&[]);
    let (store, _data_dir) = connected(&redis.config()).await;
    let node = Node::start(&store, 0, 2);
    let (reputation, replication) = (&node.reputation, &node.replication);
    let then = node.clock.now().after(Duration::from_secs(3600));
    let circuit = |number| TorCircuit::from_parts(0, 0, number);
    let all_told =
        || async { until("all to be told", || async { replication.pending() == Some(0) }).await };
    let kept = || {
        ["reset", "vip", "banned"]
            .map(|word| redis.tell(&["ZCARD", &format!("fortify:{{status}}:ends:{word}")]))
    };
    reputation.ban(circuit(1), then, StatusReason::Failures).await.unwrap();
    reputation.trust(circuit(2), Session::sample(2, then), then).await.unwrap();
    all_told().await;
    assert_eq!(kept(), [":0", ":1", ":1"]);
    reputation.ban(circuit(3), then, StatusReason::Failures).await.unwrap();
    all_told().await;
    assert_eq!(kept(), [":0", ":0", ":2"]);
    reputation.ban(circuit(4), then, StatusReason::Failures).await.unwrap();
    all_told().await;
    assert_eq!(kept(), [":0", ":0", ":2"]);
    assert_eq!(redis.tell(&["HLEN", "fortify:{status}:rows"]), ":2");
    assert_eq!(reputation.status(circuit(4)), Some(CircuitStatus::Banned), "it counts here");
    // What can be told is told: one that is kept already needs no room.
    let later = then.after(Duration::from_secs(60));
    reputation.ban(circuit(3), later, StatusReason::Failures).await.unwrap();
    all_told().await;
    let scores = redis.tell(&["ZCOUNT", "fortify:{status}:ends:banned", "-inf", "+inf"]);
    assert_eq!(scores, ":2");
}

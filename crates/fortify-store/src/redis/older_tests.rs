//! A Redis that comes back with older data: from a snapshot, or as a replica that lagged behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::tests::server::{Redis, server, until};
use super::tests::{Fixture, fixture, ready, step};
use super::*;
use crate::contract;
use fortify_core::entropy::SystemEntropy;

fn in_an_hour() -> Timestamp {
    contract::START.after(Duration::from_secs(3600))
}

async fn issued(store: &RedisStore) -> ChallengeToken {
    let token = ChallengeToken::random(&SystemEntropy).unwrap();
    store.put_challenge(&token, contract::record(in_an_hour()), Place::Beside(None)).await.unwrap();
    token
}

async fn is_good(store: &RedisStore, token: &ChallengeToken) -> bool {
    store.take_challenge(token).await.unwrap().challenge().is_some()
}

/// What is acknowledged by one node after a snapshot was taken.
struct Acknowledged {
    answered: Vec<ChallengeToken>,
    open: ChallengeToken,
    ended: SessionId,
    moved: SessionId,
    chain: ChainId,
}

impl Acknowledged {
    /// Has `snapshot` taken when the challenges are issued and before anything else.
    async fn by(node: &RedisStore, snapshot: impl FnOnce()) -> Self {
        let mut answered = Vec::new();
        for _ in 0..20 {
            answered.push(issued(node).await);
        }
        let open = issued(node).await;
        snapshot();
        for token in &answered {
            assert!(is_good(node, token).await);
        }
        let [ended, moved] = [(); 2].map(|()| SessionId::random(&SystemEntropy).unwrap());
        node.revoke_session(ended, in_an_hour()).await.unwrap();
        assert_eq!(node.move_session(moved, step(1, 2)).await.unwrap(), MoveOutcome::Moved);
        let chain = ChainId::from_bytes([9; ChainId::BYTES]);
        node.spend_chain(chain, in_an_hour()).await.unwrap();
        Self { answered, open, ended, moved, chain }
    }

    /// Asserts that all of it holds on `nodes`, of which some were not there.
    async fn holds_on(&self, nodes: [&RedisStore; 2]) {
        for node in nodes {
            for token in self.answered.iter().chain([&self.open]) {
                assert!(!is_good(node, token).await, "an answer was good twice");
            }
            until("the node to know what was ended and moved", || async {
                node.session_state(self.ended).await.unwrap() == SessionState::Revoked
                    && matches!(
                        node.session_state(self.moved).await.unwrap(),
                        SessionState::BoundTo(_)
                    )
                    && node.is_chain_spent(self.chain).await.unwrap()
            })
            .await;
            let token = issued(node).await;
            assert!(is_good(node, &token).await, "what is issued now counts");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_what_was_acknowledged_after_a_snapshot_holds_when_redis_comes_back_from_it() {
    let mut redis = Redis::start(&[]);
    let one = fixture(&redis.config(), 100).await;
    let said = Acknowledged::by(&one.store, || assert_eq!(redis.tell(&["SAVE"]), "+OK")).await;
    redis.kill();
    redis.run();
    // A log that goes on past what was read of it before looks as if nothing was lost.
    let later = fixture(&redis.config(), 100).await;
    let ended = SessionId::random(&SystemEntropy).unwrap();
    later.store.revoke_session(ended, in_an_hour()).await.unwrap();
    ready(&one.store).await;
    said.holds_on([&one.store, &later.store]).await;
}

/// Has `replica` follow `master` up to here, and no further.
fn takes_over(master: &Redis, replica: &Redis) {
    let offsets = || (master.info("master_repl_offset"), replica.info("slave_repl_offset"));
    let is_level = (0..10_000).map(|_| offsets()).any(|(here, there)| here == there);
    assert!(is_level, "{:?}", offsets());
    assert_eq!(replica.tell(&["REPLICAOF", "NO", "ONE"]), "+OK");
}

/// A port behind which is the server at `target`.
async fn address(target: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let target = target.load(Ordering::SeqCst);
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await {
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_what_a_replica_missed_holds_when_it_takes_over_under_the_same_address() {
    let mut master = Redis::start(&[]);
    let of = ["127.0.0.1".to_owned(), master.port.to_string()];
    let replica = Redis::start(&["--replicaof", &of[0], &of[1]]);
    let serving = Arc::new(AtomicU16::new(master.port));
    let port = address(serving.clone()).await;
    let config = RedisConfig { servers: vec![server(port)], ..RedisConfig::default() };
    let one: Fixture = fixture(&config, 100).await;
    until("the replica to follow", || async { replica.info("master_link_status") == "up" }).await;
    let lags = || takes_over(&master, &replica);
    let said = Acknowledged::by(&one.store, lags).await;
    serving.store(replica.port, Ordering::SeqCst);
    master.kill();
    until("the loss to be noticed", || async { one.store.ping().await.is_err() }).await;
    ready(&one.store).await;
    let later = fixture(&config, 100).await;
    said.holds_on([&one.store, &later.store]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_what_a_server_forgot_while_it_was_a_replica_holds_when_it_is_the_master_again() {
    let master = Redis::start(&[]);
    let port = master.port.to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]);
    until("the replica to follow", || async { replica.info("master_link_status") == "up" }).await;
    let one = fixture(&master.config(), 100).await;
    let said = Acknowledged::by(&one.store, || takes_over(&master, &replica)).await;
    // The same process all the time, with the data of the other.
    let port = replica.port.to_string();
    assert_eq!(master.tell(&["REPLICAOF", "127.0.0.1", &port]), "+OK");
    until("it to follow", || async { master.info("master_link_status") == "up" }).await;
    assert_eq!(master.tell(&["REPLICAOF", "NO", "ONE"]), "+OK");
    let later = fixture(&master.config(), 100).await;
    ready(&one.store).await;
    said.holds_on([&one.store, &later.store]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_ended_while_redis_was_away_outlives_its_node() {
    let mut redis = Redis::start(&[]);
    let (one, other) = (fixture(&redis.config(), 3).await, fixture(&redis.config(), 3).await);
    redis.kill();
    until("the loss to be noticed", || async { one.store.ping().await.is_err() }).await;
    let session = SessionId::random(&SystemEntropy).unwrap();
    assert_eq!(one.store.revoke_session(session, in_an_hour()).await.unwrap(), Reach::Node);
    assert_eq!(one.store.unwritten(), 1);
    let Fixture { store, clock, data_dir } = one;
    drop(store);
    redis.run();
    let entropy = Arc::new(SystemEntropy);
    let again = RedisStore::open(clock, entropy, &redis.config(), 3, data_dir.path()).unwrap();
    ready(&again).await;
    assert_eq!(again.session_state(session).await.unwrap(), SessionState::Revoked);
    until("the other node to know", || async {
        matches!(other.store.session_state(session).await, Ok(SessionState::Revoked))
    })
    .await;
}

/// The settings for `redis` with `wait_replicas` of one.
fn waiting(config: &RedisConfig) -> RedisConfig {
    RedisConfig { wait_replicas: 1, ..config.clone() }
}

const LOG: &str = "fortify:{revocations}:log";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_ended_is_acknowledged_when_as_many_replicas_have_it_as_the_operator_asks_for() {
    let master = Redis::start(&[]);
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    until("the replica to follow", || async { replica.info("master_link_status") == "up" }).await;
    let one = fixture(&waiting(&master.config()), 3).await;
    let two = fixture(&master.config(), 3).await;
    let session = || SessionId::random(&SystemEntropy).unwrap();
    let revoke = async |session| one.store.revoke_session(session, in_an_hour()).await.unwrap();
    assert_eq!(revoke(session()).await, Reach::Cluster);
    assert_eq!(replica.tell(&["XLEN", LOG]), ":1");

    replica.signal(rustix::process::Signal::STOP);
    let lacks = session();
    assert_eq!(revoke(lacks).await, Reach::Node);
    assert_eq!(one.store.unwritten(), 1);
    // It is in force everywhere, nobody else waits for the replica, and people come in.
    until("the other node to know", || async {
        two.store.session_state(lacks).await.unwrap() == SessionState::Revoked
    })
    .await;
    let token = issued(&one.store).await;
    assert!(is_good(&one.store, &token).await);
    one.store.spend_chain(ChainId::from_bytes([9; ChainId::BYTES]), in_an_hour()).await.unwrap();
    let heard = one.store.unwritten.owed(contract::START, 9);
    assert!(heard.iter().all(|owed| owed.is_logged && owed.session == lacks), "{heard:?}");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        one.store.is_current().expect("what waits for the replica holds up nothing");
        assert_eq!(one.store.unwritten(), 1);
    }

    replica.signal(rustix::process::Signal::CONT);
    until("the replica to have it", || async { one.store.unwritten() == 0 }).await;
    assert_eq!(replica.tell(&["XLEN", LOG]), ":3", "each was written once");
    assert_eq!(revoke(session()).await, Reach::Cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_a_cluster_the_replicas_of_the_log_are_waited_for() {
    let cluster = tokio::task::spawn_blocking(tests::server::Cluster::with_replicas);
    let cluster = cluster.await.unwrap();
    let one = fixture(&waiting(&cluster.config()), 3).await;
    let revoke = async || {
        let session = SessionId::random(&SystemEntropy).unwrap();
        one.store.revoke_session(session, in_an_hour()).await.unwrap()
    };
    // Replicas follow a moment after the cluster is whole.
    until("the replicas to follow", || async { revoke().await == Reach::Cluster }).await;
    let (holder, others): (Vec<_>, Vec<_>) = cluster.nodes.iter().partition(|node| {
        node.info("role") == "slave" && {
            assert_eq!(node.tell(&["READONLY"]), "+OK");
            let master = node.info("master_port");
            let masters = cluster.nodes.iter();
            masters
                .filter(|it| it.port.to_string() == master)
                .any(|it| it.tell(&["EXISTS", LOG]) == ":1")
        }
    });
    let others = others.into_iter().filter(|node| node.info("role") == "slave");
    others.for_each(|node| node.signal(rustix::process::Signal::STOP));
    assert_eq!(revoke().await, Reach::Cluster, "those of other slots do not matter");
    assert_eq!(holder.len(), 1);
    holder[0].signal(rustix::process::Signal::STOP);
    assert_eq!(revoke().await, Reach::Node);
    cluster.nodes.iter().for_each(|node| node.signal(rustix::process::Signal::CONT));
}

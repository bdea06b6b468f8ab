//! The store against real servers.

#[path = "../../../fortify-testkit/src/redis.rs"]
pub(super) mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::config::{RedisAddress, RedisServer, RedisTls};
use crate::contract;
use follower::MAX_STALENESS;
use fortify_core::clock::ManualClock;
use fortify_core::entropy::{SystemEntropy, random_bytes};
use server::{Cluster, Redis, until};

/// A store over a server, and the clock that the test sets.
pub(super) struct Fixture {
    pub(super) store: Arc<RedisStore>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) data_dir: tempfile::TempDir,
}

/// A store that has connected.
pub(super) async fn fixture(config: &RedisConfig, challenges_per_circuit: usize) -> Fixture {
    let fixture = unready(config, challenges_per_circuit);
    ready(&fixture.store).await;
    fixture
}

fn unready(config: &RedisConfig, challenges_per_circuit: usize) -> Fixture {
    let data_dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(contract::START));
    let store = RedisStore::open(
        clock.clone(),
        Arc::new(SystemEntropy),
        config,
        challenges_per_circuit,
        data_dir.path(),
    );
    Fixture { store: Arc::new(store.unwrap()), clock, data_dir }
}

/// Waits until the store answers, and returns how long that took.
pub(super) async fn ready(store: &RedisStore) -> Duration {
    until("the store to answer", || async { store.ping().await.is_ok() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract_on_one_server() {
    let redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 100).await;
    contract::check(fixture.store.clone(), |by| fixture.clock.advance(by)).await;
    contract::check_moves(fixture.store.clone(), |by| fixture.clock.advance(by)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clock_set_back_empties_no_budget_for_hours() {
    let redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 100).await;
    let set = |now| fixture.clock.set(now);
    contract::check_a_clock_set_back(fixture.store.clone(), set, contract::START).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract_on_a_cluster_of_three() {
    let cluster = Cluster::start();
    let fixture = fixture(&cluster.config(), 100).await;
    contract::check(fixture.store.clone(), |by| fixture.clock.advance(by)).await;
    contract::check_moves(fixture.store.clone(), |by| fixture.clock.advance(by)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_hear_which_keys_others_have() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start());
    let note = |root: u64, period| {
        let root = format!("{root:016x}").parse().unwrap();
        KeyNote { root, period, since: contract::START }
    };
    for config in [redis.config(), cluster.config()] {
        let [one, two] = [fixture(&config, 3).await, fixture(&config, 3).await];
        let say = async |fixture: &Fixture, own| {
            let mut notes = fixture.store.exchange_key_notes(own).await.unwrap();
            notes.sort_by_key(|note| note.root.to_string());
            notes
        };
        assert_eq!(say(&one, note(1, 3)).await, [note(1, 3)]);
        assert_eq!(say(&two, note(1, 4)).await, [note(1, 4)]);
        assert_eq!(say(&one, note(1, 3)).await, [note(1, 4)], "a rotation elsewhere");
        assert_eq!(say(&two, note(2, 1)).await, [note(1, 4), note(2, 1)], "other keys");
        for fixture in [&one, &two] {
            fixture.clock.advance(KEYS_AGE + Duration::from_millis(1));
        }
        assert_eq!(say(&two, note(2, 1)).await, [note(2, 1)], "said long ago");
        // Further ahead than a node follows: whoever writes that must not hide what nodes say.
        assert_eq!(say(&two, note(2, 10)).await, [note(2, 10)]);
        assert_eq!(say(&one, note(2, 1)).await, [note(2, 1)]);
    }
    for junk in ["x", "1 2", "1 2 3 4", "18446744073709551616 1 1", "\u{1F512}"] {
        for name in ["0000000000000002", "0000000000000003", "who"] {
            redis.tell(&["HSET", "fortify:keys", name, junk]);
        }
        let one = fixture(&redis.config(), 3).await;
        let notes = one.store.exchange_key_notes(note(2, 1)).await.unwrap();
        assert_eq!(notes, [note(2, 1)], "{junk}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_18_a_circuit_has_no_more_challenges_than_it_may() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start());
    for most in [1, 3, 100] {
        for config in [redis.config(), cluster.config()] {
            contract::check_bound(fixture(&config, most).await.store.clone(), most).await;
        }
    }
    // Taken and evicted challenges leave nothing behind that does not expire.
    assert_eq!(redis.tell(&["EVAL", "return #redis.call('KEYS', '*:captcha:*')", "0"]), ":0");
    assert_eq!(redis.tell(&["EVAL", "return #redis.call('KEYS', '*:active:*')", "0"]), ":0");
}

/// A move of a session that ends in an hour, with at most three moves per hour.
pub(super) fn step(from: u8, to: u8) -> MoveRequest {
    let [from, to] = [from, to].map(|byte| CircuitTag::from_bytes([byte; 16]));
    let hour = Duration::from_secs(3600);
    MoveRequest { from, to, until: contract::START.after(hour), most: 3, window: hour }
}

/// Asserts that every operation fails with `word` while Redis is unavailable.
async fn refuses(store: &RedisStore, word: &str) {
    let token = ChallengeToken::random(&SystemEntropy).unwrap();
    let circuit = CircuitTag::from_bytes([1; 16]);
    let record = contract::record(contract::START.after(Duration::from_secs(60)));
    let said = [
        store.put_challenge(&token, record, Place::Beside(None)).await.unwrap_err(),
        store.challenge(&token).await.unwrap_err(),
        store.take_challenge(&token).await.unwrap_err(),
        store.record_failure(circuit, Duration::from_secs(60)).await.unwrap_err(),
        store.failures(circuit).await.unwrap_err(),
        store.ping().await.unwrap_err(),
    ];
    for error in said {
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// A server that answers every command after the handshake with one line, or not at all.
struct Fake {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    async fn start(answer: &'static [u8]) -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        // Commands are small here and arrive whole; each begins with its length.
                        let text = String::from_utf8_lossy(&buffer[..length]);
                        let commands = text.matches("\r\n*").count() + 1;
                        for _ in 0..commands {
                            if stream.write_all(answer).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_every_word_of_trouble_is_a_refusal_within_the_deadline() {
    for (answer, word) in [
        (&b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"[..], "volatile-ttl"),
        (b"-READONLY You can't write against a read only replica.\r\n", "name its primary"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING"),
        (b"-CLUSTERDOWN The cluster is down\r\n", "redis-cli cluster info"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", "CLUSTERDOWN"),
        (b"-MOVED 7 127.0.0.1:1\r\n", "storage.cluster = true"),
        (b"-NOAUTH Authentication required.\r\n", "storage.password_file"),
        (b"-NOPERM this user has no permissions\r\n", "docs/redis.md"),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "free space"),
        (b"-ERR unknown command 'GETDEL', with args beginning with: 'tell-tale'\r\n", "6.2"),
        (b"", "no"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"),
        (b"$-1\r\n", "Redis"),
        (b":7\r\n", "Redis"),
    ] {
        let fake = Fake::start(answer).await;
        let mut config = RedisConfig { servers: vec![server::server(fake.port)], ..<_>::default() };
        let fixture = unready(&config, 3);
        until(word, || async {
            let said = fixture.store.ping().await.unwrap_err().to_string();
            assert!(!said.contains("tell-tale"), "{said}");
            said.contains(word) && !said.contains("not connected yet")
        })
        .await;
        let started = Instant::now();
        refuses(&fixture.store, "Redis").await;
        assert!(started.elapsed() < config.timeout * 6, "{word}: {:?}", started.elapsed());
        let session = SessionId::random(&SystemEntropy).unwrap();
        assert!(fixture.store.session_state(session).await.is_err(), "{word}: nobody was asked");
        let revoked = fixture.store.revoke_session(session, contract::START).await;
        assert_eq!(revoked.unwrap(), Reach::Node, "{word}");
        assert!(fixture.store.move_session(session, step(1, 2)).await.is_err(), "{word}");

        config.cluster = true;
        let fixture = unready(&config, 3);
        until(word, || async {
            let said = fixture.store.ping().await.unwrap_err().to_string();
            assert!(!said.contains("tell-tale"), "{said}");
            !said.contains("not connected yet")
        })
        .await;
    }
}

/// Stores a challenge with a long lifetime.
async fn put(store: &RedisStore) -> ChallengeToken {
    let token = ChallengeToken::random(&SystemEntropy).unwrap();
    let record = contract::record(contract::START.after(Duration::from_secs(3600)));
    store.put_challenge(&token, record, Place::Beside(None)).await.unwrap();
    token
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_a_value_that_is_no_text_costs_nobody_else_the_connection() {
    let redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 100).await;
    let circuit = CircuitTag::from_bytes([2; 16]);
    let key = fixture.store.keys.failures(circuit);
    let write = "return redis.call('SET', KEYS[1], string.char(255, 254))";
    assert_eq!(redis.tell(&["EVAL", write, "1", &key]), "+OK");
    for _ in 0..200 {
        let said = fixture.store.failures(circuit).await.unwrap_err().to_string();
        assert!(said.contains("not what Fortify writes there"), "{said}");
        fixture.store.ping().await.expect("the connection was dropped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_a_server_out_of_memory_refuses_and_comes_back() {
    let redis = Redis::start(&["--maxmemory-policy", "noeviction"]);
    let fixture = fixture(&redis.config(), 100).await;
    let token = put(&fixture.store).await;
    assert_eq!(redis.tell(&["CONFIG", "SET", "maxmemory", "1"]), "+OK");
    let record = contract::record(contract::START.after(Duration::from_secs(60)));
    let said = fixture
        .store
        .put_challenge(&token, record, Place::Beside(None))
        .await
        .unwrap_err()
        .to_string();
    assert!(said.contains("OOM") && said.contains("volatile-ttl"), "{said}");
    let circuit = CircuitTag::from_bytes([2; 16]);
    assert!(fixture.store.record_failure(circuit, Duration::from_secs(9)).await.is_err());
    let session = SessionId::random(&SystemEntropy).unwrap();
    let until = contract::START.after(Duration::from_secs(60));
    // A log-out is small and must not be delayed.
    fixture.store.revoke_session(session, until).await.unwrap();
    assert_eq!(fixture.store.session_state(session).await.unwrap(), SessionState::Revoked);
    // A move is refused, as a new challenge is; earlier moves stay in force.
    let moving = SessionId::random(&SystemEntropy).unwrap();
    assert!(fixture.store.move_session(moving, step(1, 2)).await.is_err());
    assert_eq!(fixture.store.session_state(moving).await.unwrap(), SessionState::Unmoved);
    // Challenges issued before can still be answered.
    assert!(fixture.store.take_challenge(&token).await.unwrap().challenge().is_some());
    assert_eq!(redis.tell(&["CONFIG", "SET", "maxmemory", "0"]), "+OK");
    put(&fixture.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_at_the_memory_cap_challenges_make_room_and_log_outs_stay() {
    let redis = Redis::start(&["--maxmemory", "3mb", "--maxmemory-policy", "volatile-ttl"]);
    let fixture = fixture(&redis.config(), 100).await;
    let session = SessionId::random(&SystemEntropy).unwrap();
    let until = contract::START.after(Duration::from_secs(3600));
    fixture.store.revoke_session(session, until).await.unwrap();
    let mut newest = None;
    for _ in 0..5_000 {
        let circuit = CircuitTag::from_bytes(random_bytes(&SystemEntropy).unwrap());
        let record = ChallengeRecord { circuit, ..contract::record(until) };
        let token = ChallengeToken::random(&SystemEntropy).unwrap();
        fixture.store.put_challenge(&token, record, Place::Beside(None)).await.unwrap();
        newest = Some(token);
    }
    assert_ne!(redis.info("evicted_keys"), "0");
    assert!(newest.is_some());
    let other = self::fixture(&redis.config(), 100).await;
    assert_eq!(
        other.store.session_state(session).await.unwrap(),
        SessionState::Revoked,
        "the flood dropped a revocation"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_may_forget_log_outs_is_refused_until_it_may_not() {
    let redis = Redis::start(&["--maxmemory-policy", "allkeys-lru"]);
    let fixture = unready(&redis.config(), 3);
    until("the refusal", || async {
        fixture.store.ping().await.unwrap_err().to_string().contains("maxmemory-policy")
    })
    .await;
    refuses(&fixture.store, "maxmemory-policy").await;
    assert_eq!(redis.tell(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]), "+OK");
    ready(&fixture.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_a_replica_and_a_node_of_a_cluster_are_refused_by_name() {
    let (primary, replica) = (Redis::start(&[]), Redis::start(&[]));
    let port = primary.port.to_string();
    assert_eq!(replica.tell(&["REPLICAOF", "127.0.0.1", &port]), "+OK");
    let fixture = unready(&replica.config(), 3);
    until("the refusal", || async {
        fixture.store.ping().await.unwrap_err().to_string().contains("READONLY")
    })
    .await;
    assert_eq!(replica.tell(&["REPLICAOF", "NO", "ONE"]), "+OK");
    ready(&fixture.store).await;

    let cluster = Cluster::start();
    let mut config = cluster.config();
    config.cluster = false;
    let mut refused = 0;
    for server in &cluster.config().servers {
        config.servers = vec![server.clone()];
        let fixture = unready(&config, 3);
        until("an answer or the refusal", || async {
            match fixture.store.ping().await {
                // The node that has the slot of the revocations; the others answer with an error.
                Ok(()) => true,
                Err(error) => error.to_string().contains("storage.cluster = true"),
            }
        })
        .await;
        refused += usize::from(fixture.store.ping().await.is_err());
    }
    assert_eq!(refused, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_a_value_that_is_no_challenge_is_a_refusal() {
    let redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 3).await;
    for value in ["", "{", "[]", "{\"answer\":\"t:ACDEFH\"}", "\u{0}"] {
        let token = ChallengeToken::random(&SystemEntropy).unwrap();
        let key = format!("fortify:captcha:{}", token.encode());
        redis.tell(&["SET", &key, value]);
        let said = fixture.store.challenge(&token).await.unwrap_err().to_string();
        assert!(said.contains("storage.prefix") && !said.contains("ACDEFH"), "{said}");
        assert!(fixture.store.take_challenge(&token).await.is_err(), "{value}");
        redis.tell(&["DEL", &key]);
        redis.tell(&["LPUSH", &key, value]);
        let said = fixture.store.take_challenge(&token).await.unwrap_err().to_string();
        assert!(said.contains("WRONGTYPE"), "{said}");
    }
    let circuit = CircuitTag::from_bytes([9; 16]);
    redis.tell(&["SET", &format!("fortify:failures:{}", circuit.encode()), "many"]);
    assert!(fixture.store.failures(circuit).await.is_err());
    assert!(fixture.store.record_failure(circuit, Duration::from_secs(9)).await.is_err());
    assert!(fixture.store.ping().await.is_ok(), "one bad value is not the end of the store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_a_server_that_stands_still_refuses_in_time_and_admits_nobody_for_long() {
    let redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 3).await;
    let session = SessionId::random(&SystemEntropy).unwrap();
    redis.signal(rustix::process::Signal::STOP);
    let stopped = Instant::now();
    assert!(fixture.store.ping().await.is_err());
    assert!(stopped.elapsed() < Duration::from_millis(400), "{:?}", stopped.elapsed());
    until("the revocations to be too old", || async {
        fixture.store.session_state(session).await.is_err()
    })
    .await;
    let believed = stopped.elapsed();
    assert!(believed <= MAX_STALENESS + Duration::from_millis(500), "believed for {believed:?}");
    // By now no step waits any more, because there is no connection.
    let started = Instant::now();
    refuses(&fixture.store, "Redis").await;
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    redis.signal(rustix::process::Signal::CONT);
    let back = ready(&fixture.store).await;
    assert!(back < Duration::from_secs(3), "{back:?}");
    assert_eq!(fixture.store.session_state(session).await.unwrap(), SessionState::Unmoved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_log_outs_reach_other_nodes_and_survive_an_empty_restart() {
    let mut redis = Redis::start(&[]);
    let (one, two) = (fixture(&redis.config(), 3).await, fixture(&redis.config(), 3).await);
    let until_when = contract::START.after(Duration::from_secs(3600));
    let sessions: Vec<_> = (0..50).map(|_| SessionId::random(&SystemEntropy).unwrap()).collect();
    let mut slowest = Duration::ZERO;
    for session in &sessions {
        one.store.revoke_session(*session, until_when).await.unwrap();
        let met =
            || async { two.store.session_state(*session).await.unwrap() == SessionState::Revoked };
        slowest = slowest.max(until("the other node to know", met).await);
    }
    assert!(slowest < MAX_STALENESS, "{slowest:?}");

    redis.kill();
    for fixture in [&one, &two] {
        until("the loss to be noticed", || async { fixture.store.ping().await.is_err() }).await;
        let refused = SessionId::random(&SystemEntropy).unwrap();
        assert_eq!(fixture.store.revoke_session(refused, until_when).await.unwrap(), Reach::Node);
    }
    redis.run();
    let back = ready(&one.store).await.max(ready(&two.store).await);
    assert!(back < Duration::from_secs(3), "{back:?}");
    // A new node reads all of them from Redis, and the other nodes still know them.
    let new = fixture(&redis.config(), 3).await;
    for session in &sessions {
        for fixture in [&one, &two, &new] {
            assert_eq!(fixture.store.session_state(*session).await.unwrap(), SessionState::Revoked);
        }
    }
    // A flush closes no connection and is noticed all the same.
    assert_eq!(redis.tell(&["FLUSHALL"]), "+OK");
    let key = "fortify:{revocations}:log";
    until("the log to be written back", || async { redis.tell(&["EXISTS", key]) == ":1" }).await;
    println!(
        r#"{{"test":"log-outs","slowest_ms":{:.1},"back_after_empty_restart_ms":{:.1}}}"#,
        slowest.as_secs_f64() * 1e3,
        back.as_secs_f64() * 1e3
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_log_outs_survive_a_restart_of_everything() {
    let mut redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 3).await;
    let session = SessionId::random(&SystemEntropy).unwrap();
    let until_when = contract::START.after(Duration::from_secs(3600));
    fixture.store.revoke_session(session, until_when).await.unwrap();
    let Fixture { store, clock, data_dir } = fixture;
    drop(store);
    redis.kill();
    redis.run();
    let entropy = Arc::new(SystemEntropy);
    let again = RedisStore::open(clock, entropy, &redis.config(), 3, data_dir.path()).unwrap();
    ready(&again).await;
    assert_eq!(again.session_state(session).await.unwrap(), SessionState::Revoked);
    assert_eq!(redis.tell(&["XLEN", "fortify:{revocations}:log"]), ":1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_what_is_ended_while_redis_does_not_answer_is_over_here_and_soon_everywhere() {
    let redis = Redis::start(&[]);
    let (one, two) = (fixture(&redis.config(), 3).await, fixture(&redis.config(), 3).await);
    let until_when = contract::START.after(Duration::from_secs(3600));
    let session = SessionId::random(&SystemEntropy).unwrap();
    let circuit = CircuitTag::from_bytes([7; 16]);
    let chain = ChainId::from_bytes([3; ChainId::BYTES]);
    let (runtime, store) = (Handle::current(), &one.store);
    let ended = || {
        let all = async {
            (
                store.revoke_session(session, until_when).await.unwrap() == Reach::Node,
                store.end_sessions_of(circuit, contract::START).await.unwrap() == Reach::Node,
                store.spend_chain(chain, until_when).await.is_err(),
            )
        };
        tokio::task::block_in_place(|| runtime.block_on(all))
    };
    assert_eq!(store.refuse_during(ended).await.unwrap(), (true, true, true));
    assert_eq!(store.session_state(session).await.unwrap(), SessionState::Revoked);
    assert_eq!(store.move_session(session, step(1, 2)).await.unwrap(), MoveOutcome::Revoked);
    assert_eq!(store.sessions_ended(circuit).await.unwrap(), Some(contract::START));
    assert!(!store.is_chain_spent(chain).await.unwrap(), "the visitor may answer again");
    until("the other node to know", || async {
        two.store.session_state(session).await.unwrap() == SessionState::Revoked
            && two.store.sessions_ended(circuit).await.unwrap().is_some()
    })
    .await;
    assert!(!two.store.is_chain_spent(chain).await.unwrap());
    let forgotten = || async { one.store.unwritten.until(&session).is_none() };
    until("it to be held no longer", forgotten).await;
    assert_eq!(store.session_state(session).await.unwrap(), SessionState::Revoked);
    assert_eq!(redis.tell(&["XLEN", "fortify:{revocations}:log"]), ":2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_what_redis_refuses_to_write_is_over_here_and_written_when_it_does() {
    let redis = Redis::start(&[]);
    let (one, two) = (fixture(&redis.config(), 3).await, fixture(&redis.config(), 3).await);
    let until_when = contract::START.after(Duration::from_secs(3600));
    // More than are written at once. It goes on reading, so that nobody is refused meanwhile.
    let sessions: Vec<_> = (0..130).map(|_| SessionId::random(&SystemEntropy).unwrap()).collect();
    assert_eq!(redis.tell(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "+OK");
    for session in &sessions {
        assert_eq!(one.store.revoke_session(*session, until_when).await.unwrap(), Reach::Node);
    }
    let state = async |store: &RedisStore, session| store.session_state(session).await.unwrap();
    assert_eq!(state(&one.store, sessions[0]).await, SessionState::Revoked);
    assert_eq!(state(&two.store, sessions[0]).await, SessionState::Unmoved);
    assert_eq!(redis.tell(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "+OK");
    until("the other node to know of all", || async {
        for session in &sessions {
            if state(&two.store, *session).await != SessionState::Revoked {
                return false;
            }
        }
        true
    })
    .await;
    until("nothing to be held any more", || async {
        sessions.iter().all(|session| one.store.unwritten.until(session).is_none())
    })
    .await;
    assert_eq!(state(&one.store, sessions[129]).await, SessionState::Revoked);
    assert_eq!(redis.tell(&["XLEN", "fortify:{revocations}:log"]), ":130");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_log_refuses_a_log_out_and_forgets_none() {
    let redis = Redis::start(&[]);
    let mut fixture = fixture(&redis.config(), 3).await;
    Arc::get_mut(&mut fixture.store).unwrap().most_revocations = 2;
    let until_when = contract::START.after(Duration::from_secs(3600));
    let sessions: Vec<_> = (0..3).map(|_| SessionId::random(&SystemEntropy).unwrap()).collect();
    fixture.store.revoke_session(sessions[0], until_when).await.unwrap();
    fixture.store.revoke_session(sessions[1], until_when).await.unwrap();
    let refused = fixture.store.revoke_session(sessions[2], until_when).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    // The same revocation again takes no further entry.
    fixture.store.revoke_session(sessions[0], until_when).await.unwrap();
    for (session, revoked) in sessions.iter().zip([true, true, false]) {
        let status = fixture.store.session_state(*session).await.unwrap();
        assert_eq!(status == SessionState::Revoked, revoked);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_a_cluster_without_a_node_refuses_and_comes_back() {
    let mut cluster = Cluster::start();
    let fixture = fixture(&cluster.config(), 3).await;
    // The node that does not have the revocations, so that only the challenges are gone.
    let key = "fortify:{revocations}:log";
    let lost = (0..3).find(|n| cluster.nodes[*n].tell(&["EXISTS", key]).starts_with("-MOVED"));
    let lost = lost.unwrap();
    cluster.nodes[lost].kill();
    until("a refusal", || async { fixture.store.ping().await.is_err() }).await;
    let record = contract::record(contract::START.after(Duration::from_secs(60)));
    let refused = || async {
        let token = ChallengeToken::random(&SystemEntropy).unwrap();
        fixture.store.put_challenge(&token, record.clone(), Place::Beside(None)).await.is_err()
    };
    until("every slot to be refused", || async {
        let started = Instant::now();
        let mut all = true;
        for _ in 0..10 {
            all &= refused().await;
        }
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        all
    })
    .await;
    cluster.nodes[lost].run();
    cluster.wait_until_whole();
    let back = until("the store to answer", || async {
        let mut all = fixture.store.ping().await.is_ok();
        for _ in 0..20 {
            all = all && !refused().await;
        }
        all
    })
    .await;
    assert!(back < Duration::from_secs(3), "{back:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_with_the_documented_rights_can_do_everything_and_a_new_password_needs_no_restart() {
    let docs = include_str!("../../../../docs/redis.md");
    let rule = docs.split("```acl\n").nth(1).unwrap().split("\n```").next().unwrap();
    let rule = rule.replace("PASSWORD", "right").replace("\\\n", " ");
    let words: Vec<_> = rule.split_whitespace().skip(1).collect();
    for cluster in [false, true] {
        let (single, cluster) = match cluster {
            false => (Some(Redis::start(&[])), None),
            true => (None, Some(Cluster::start())),
        };
        let nodes = single.iter().chain(cluster.iter().flat_map(|cluster| &cluster.nodes));
        for node in nodes.clone() {
            assert_eq!(node.tell(&[&["ACL", "SETUSER"], &words[..]].concat()), "+OK");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "wrong\n").unwrap();
        let config = match &cluster {
            Some(cluster) => cluster.config(),
            None => single.as_ref().unwrap().config(),
        };
        let config = RedisConfig {
            user: Some(words[0].to_owned()),
            password_file: Some(file.clone()),
            ..config
        };
        let fixture = unready(&config, 3);
        until("the refusal", || async {
            let said = fixture.store.ping().await.unwrap_err().to_string();
            assert!(!said.contains("wrong"), "{said}");
            said.contains("the password is refused")
        })
        .await;
        std::fs::write(&file, "right\n").unwrap();
        ready(&fixture.store).await;
        for node in nodes.clone() {
            assert_eq!(node.tell(&["ACL", "LOG", "RESET"]), "+OK");
        }
        contract::check_bound(fixture.store.clone(), 3).await;
        contract::check(fixture.store.clone(), |by| fixture.clock.advance(by)).await;
        contract::check_moves(fixture.store.clone(), |by| fixture.clock.advance(by)).await;
        let store: Arc<dyn StateStore> = fixture.store.clone();
        contract::check_dial(&store, &store).await;
        for node in nodes {
            assert_eq!(node.tell(&["ACL", "LOG"]), "*0", "a command was denied");
        }
        std::fs::remove_file(&file).unwrap();
        let fixture = unready(&config, 3);
        until("the missing file to be named", || async {
            fixture.store.ping().await.unwrap_err().to_string().contains("cannot be read")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_socket_and_a_database_are_as_good_as_a_port() {
    let redis = Redis::start(&[]);
    let servers = vec![RedisServer { address: RedisAddress::Unix(redis.socket()), database: 3 }];
    let config = RedisConfig { servers, ..RedisConfig::default() };
    let fixture = fixture(&config, 3).await;
    put(&fixture.store).await;
    assert!(redis.info("db3").starts_with("keys=3"), "{}", redis.info("db3"));

    let missing = RedisAddress::Unix(redis.dir.path().join("none.sock"));
    let servers = vec![RedisServer { address: missing, database: 0 }];
    let fixture = unready(&RedisConfig { servers, ..RedisConfig::default() }, 3);
    until("the missing socket to be named", || async {
        let said = fixture.store.ping().await.unwrap_err().to_string();
        said.contains("none.sock") && said.contains("no such socket")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_secret_is_in_a_debug_or_an_error() {
    let redis = Redis::start(&["--requirepass", "hunter22"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "hunter22").unwrap();
    let config = RedisConfig { password_file: Some(file.clone()), ..redis.config() };
    let fixture = fixture(&config, 3).await;
    let token = put(&fixture.store).await;
    assert!(!format!("{:?} {config:?}", fixture.store).contains("hunter22"));
    assert!(fixture.store.challenge(&token).await.unwrap().is_some());
    std::fs::write(&file, "hunter22\nmore").unwrap();
    let fixture = unready(&config, 3);
    until("the file to be refused", || async {
        let said = fixture.store.ping().await.unwrap_err().to_string();
        assert!(!said.contains("hunter22"), "{said}");
        said.contains("one line")
    })
    .await;
}

/// A certificate and its key in `dir`, signed by `by` or by itself.
fn certificate(dir: &Path, name: &str, by: Option<&str>) {
    let path = |name: &str, kind: &str| dir.join(format!("{name}.{kind}")).display().to_string();
    let (key, cert) = (path(name, "key"), path(name, "crt"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-days", "30", "-subj", &format!("/CN={name}")]);
    openssl.args(["-keyout", &key, "-out", &cert]);
    if let Some(by) = by {
        openssl.args(["-CA", &path(by, "crt"), "-CAkey", &path(by, "key")]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    }
    let made = openssl.output().expect("openssl is missing: run scripts/setup.sh test");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_is_spoken_to_a_server_that_its_authority_vouches_for_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    for (name, by) in
        [("ca", None), ("other", None), ("server", Some("ca")), ("client", Some("ca"))]
    {
        certificate(dir.path(), name, by);
    }
    let file = |name: &str| dir.path().join(name);
    let text = |name: &str| file(name).display().to_string();
    let port = server::free_port();
    let redis = Redis::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &text("server.crt"),
        "--tls-key-file",
        &text("server.key"),
        "--tls-ca-cert-file",
        &text("ca.crt"),
    ]);
    let with = |host: &str, ca: &str, client: bool| RedisConfig {
        servers: vec![RedisServer {
            address: RedisAddress::Tcp { host: host.to_owned(), port, tls: true },
            database: 0,
        }],
        tls: RedisTls {
            ca: Some(file(ca)),
            certificate: client.then(|| file("client.crt")),
            key: client.then(|| file("client.key")),
        },
        timeout: Duration::from_secs(1),
        ..redis.config()
    };
    let right = fixture(&with("127.0.0.1", "ca.crt", true), 3).await;
    contract::check_bound(right.store.clone(), 3).await;
    for (wrong, word) in [
        (with("127.0.0.1", "other.crt", true), "storage.tls_ca_file"),
        (with("127.0.0.1", "ca.crt", false), ""),
        (with("localhost", "ca.crt", true), "storage.tls_ca_file"),
        (with("127.0.0.1", "none.crt", true), "storage.tls_ca_file"),
        (with("127.0.0.1", "ca.key.pub", true), "storage.tls_ca_file"),
    ] {
        std::fs::write(file("ca.key.pub"), "no certificate").unwrap();
        let fixture = unready(&wrong, 3);
        until("the refusal", || async {
            let said = fixture.store.ping().await.unwrap_err().to_string();
            !said.contains("not connected yet") && said.contains(word)
        })
        .await;
        refuses(&fixture.store, "Redis").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_18_a_challenge_that_is_not_listed_any_more_is_an_absent_one() {
    let redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 3).await;
    let token = put(&fixture.store).await;
    let circuit = CircuitTag::from_bytes([1; 16]);
    assert_eq!(redis.tell(&["DEL", &format!("fortify:active:{}", circuit.encode())]), ":1");
    assert!(fixture.store.take_challenge(&token).await.unwrap().challenge().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_19_no_more_steps_wait_than_may() {
    let redis = Redis::start(&[]);
    let fixture =
        fixture(&RedisConfig { timeout: Duration::from_secs(1), ..redis.config() }, 3).await;
    redis.signal(rustix::process::Signal::STOP);
    let steps: Vec<_> = (0..1100)
        .map(|_| {
            let store = fixture.store.clone();
            tokio::spawn(async move { store.ping().await.unwrap_err().to_string() })
        })
        .collect();
    let mut refused = 0;
    for step in steps {
        refused += u32::from(step.await.unwrap().contains("1024 requests"));
    }
    assert_eq!(refused, 1100 - 1024);
    redis.signal(rustix::process::Signal::CONT);
    ready(&fixture.store).await;
}

/// Two nodes over one Redis share the dial. Returns how long a change took from one to the other.
async fn share_the_dial(config: &RedisConfig) -> Duration {
    let (here, there) = (fixture(config, 3).await, fixture(config, 3).await);
    let [one, other]: [Arc<dyn StateStore>; 2] = [here.store.clone(), there.store.clone()];
    contract::check_dial(&one, &other).await;
    let mut news = other.dial();
    let dial =
        DialRecord { version: 100, mode: "pinned".into(), level: 4, paused_until: None, by: None };
    let started = Instant::now();
    one.set_dial(dial.clone()).await.unwrap();
    news.wait_for(|heard| *heard == Some(dial.clone())).await.unwrap();
    let took = started.elapsed();
    // A node that starts later receives it too.
    let late = fixture(config, 3).await;
    late.store.dial().wait_for(|heard| heard.as_ref() == Some(&dial)).await.unwrap();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_turn_of_the_dial_is_everywhere_within_100_ms() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start());
    for config in [redis.config(), cluster.config()] {
        let took = share_the_dial(&config).await;
        println!("a turn took {took:?}, cluster: {}", config.cluster);
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dial_that_redis_lost_can_be_set_again() {
    let mut redis = Redis::start(&[]);
    let fixture = fixture(&redis.config(), 3).await;
    let dial =
        DialRecord { version: 5, mode: "auto".into(), level: 4, paused_until: None, by: None };
    fixture.store.set_dial(dial.clone()).await.unwrap();
    redis.kill();
    redis.run();
    let again = DialRecord { version: 2, level: 3, ..dial };
    until("the dial to be kept", || async { fixture.store.set_dial(again.clone()).await.is_ok() })
        .await;
    fixture.store.dial().wait_for(|heard| heard.as_ref() == Some(&again)).await.unwrap();
}

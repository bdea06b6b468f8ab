//! The store against real servers.

#[path = "../../../tests/support/redis.rs"]
mod server;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::entropy::SystemEntropy;
use crate::store::contract;
use server::{Cluster, Redis, until};

/// A store over a server, and the hand on its clock.
struct Bed {
    store: Arc<RedisStore>,
    clock: Arc<ManualClock>,
    _data_dir: tempfile::TempDir,
}

/// A store that has connected.
async fn bed(config: &RedisConfig, challenges_per_circuit: usize) -> Bed {
    let bed = unready(config, challenges_per_circuit);
    ready(&bed.store).await;
    bed
}

fn unready(config: &RedisConfig, challenges_per_circuit: usize) -> Bed {
    let data_dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(contract::START));
    let store = RedisStore::open(
        clock.clone(),
        Arc::new(SystemEntropy),
        config,
        challenges_per_circuit,
        data_dir.path(),
    );
    Bed { store: Arc::new(store.unwrap()), clock, _data_dir: data_dir }
}

/// Waits until the store answers; how long it took.
async fn ready(store: &RedisStore) -> Duration {
    until("the store to answer", || async { store.ping().await.is_ok() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract_on_one_server() {
    let redis = Redis::start(&[]);
    let bed = bed(&redis.config(), 100).await;
    contract::check(bed.store.clone(), |by| bed.clock.advance(by)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract_on_a_cluster_of_three() {
    let cluster = Cluster::start();
    let bed = bed(&cluster.config(), 100).await;
    contract::check(bed.store.clone(), |by| bed.clock.advance(by)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_18_a_circuit_has_no_more_challenges_than_it_may() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start());
    for most in [1, 3, 100] {
        for config in [redis.config(), cluster.config()] {
            contract::check_bound(bed(&config, most).await.store.clone(), most).await;
        }
    }
    // What was taken or made room left nothing behind but what ends by itself.
    assert_eq!(redis.tell(&["EVAL", "return #redis.call('KEYS', '*:captcha:*')", "0"]), ":0");
    assert_eq!(redis.tell(&["EVAL", "return #redis.call('KEYS', '*:active:*')", "0"]), ":0");
}

//! The engine over real stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

// What `redis.rs` names by its path in `fortify` is the store's.

mod replication_in_redis;
#[path = "../../../fortify-testkit/src/redis.rs"]
mod server;
mod waits_in_memory;

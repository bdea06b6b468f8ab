//! Reputation over a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod replication_in_redis;
#[path = "../../../fortify-testkit/src/redis.rs"]
mod server;

//! What the tests, the benches and the browser suite share.
//!
//! - [`wait`]: waiting for a condition, with a bound and a message that says what did not happen.
//! - [`servers`]: HAProxy and nginx from the files in `deploy/`, and processes that end with the test.
//! - [`program`]: the `fortify` binary as a process of its own.
//! - `test_gate`: a gate in the test's process before a real web service, and a visitor who keeps cookies.
//! - `store`: a store whose verbs a test watches, or makes fail.
//! - `redis`: a Redis, or a cluster of three.
//! - `traffic`: visitors and bots as programs, the same for the same seed.
//!
//! The last three need the feature `gate`: they speak of Fortify's types. A unit test cannot use those
//! (the crate under test is another one than the one that this crate is linked to), so the unit tests of
//! the Redis store and of the behaviour module include `redis.rs` and `traffic.rs` by their path.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be set up fails the test"
)]
#![allow(missing_docs, reason = "fields and accessors whose names say all")]

extern crate self as fortify_testkit;

pub mod process;
pub mod program;
#[cfg(feature = "gate")]
pub mod redis;
pub mod servers;
#[cfg(feature = "gate")]
pub mod store;
#[cfg(feature = "gate")]
pub mod test_gate;
#[cfg(feature = "gate")]
pub mod traffic;
pub mod wait;

#[cfg(feature = "gate")]
pub use test_gate::*;

//! Helpers of the tests, the benches and the browser suite.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`wait`]: waits for a condition, with a timeout and a message that names it.
//! - [`process`]: runs a test in its own process.
//! - [`program`]: runs the `fortify` binary.
//! - [`damage`]: what happens to files.
//! - [`servers`]: HAProxy and nginx with the files in `deploy/`, and processes that end with the test.
//! - `redis`: a Redis, or a cluster of three nodes.
//! - `test_gate`: Fortify in the test's process in front of a web service, and a visitor who keeps cookies.
//! - `store`: a store whose verbs a test watches, or makes fail.
//! - `traffic`: simulated visitors and bots; the same seed gives the same traffic.
//!
//! The last three need the feature `gate`, because they use Fortify's types. Unit tests of a crate that `gate`
//! depends on cannot use them (the crate under test is compiled twice, with different types), so those of the
//! Redis store and of the behaviour module include `redis.rs` and `traffic.rs` by path.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be set up fails the test"
)]
#![allow(missing_docs, reason = "fields and accessors whose names say all")]

extern crate self as fortify_testkit;

pub mod damage;
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

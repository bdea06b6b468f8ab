//! HTTP at the edge: an accept loop with a limit on every resource that a client can hold, and a reverse proxy.
//!
//! The crate knows nothing of challenges or sessions, and is useful without them.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`config`]: the sections `[server]` and `[upstream]`.
//! - `tcp`: how sockets are set up.
//! - [`server`]: the accept loop, its deadlines, and checks of message framing.
//! - [`metrics`]: the metrics of both.
//! - [`limiter`]: how many requests the protected service works on at once, and who comes next.
//! - [`proxy`]: the reverse proxy.

pub mod config;
pub mod limiter;
pub mod metrics;
mod occupancy;
pub mod proxy;
pub mod server;
mod tcp;

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! HTTP at the edge: connections in, with a limit on everything a client can hold, and requests out
//! to the protected service.
//!
//! It knows nothing of challenges or sessions, and is useful without them.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`config`]: the sections `[server]` and `[upstream]`.
//! - [`server`]: the accept loop, deadlines, and what raw heads say about lengths.
//! - [`proxy`]: the reverse proxy.
//! - [`metrics`]: what is counted of both.

pub mod config;
pub mod metrics;
pub mod proxy;
pub mod server;

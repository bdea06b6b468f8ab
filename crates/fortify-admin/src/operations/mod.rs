//! What an operator can look at and do: the functions that dashboard, API and command line share.
//!
//! Each takes the [`Context`](super::handler::Context) of its request and a struct, and gives a struct. Who
//! may call which is in the table of [`routes`](super::routes); a change writes itself into the
//! [`log`](super::log) before it is made. No answer holds a circuit's number or a secret, but for a token or
//! a one-time secret that was just made.

pub mod audit;
pub mod behaviour;
pub mod challenges;
pub mod circuits;
pub mod config;
pub mod dial;
pub mod explain;
pub mod metrics;
pub mod reload;
pub mod sessions;
pub mod status;
pub mod tokens;
pub mod users;

//! What operators can see and do: the functions that dashboard, API and command line share.
//!
//! Each takes the [`Context`](super::handler::Context) of its request and a struct of arguments. The table of
//! [`routes`](super::routes) says who may call which. A change is recorded in the [`log`](super::log) before it is
//! made. No answer contains a circuit's number, and none a secret except a token or one-time secret that was just
//! created.

pub mod audit;
pub mod behaviour;
pub mod challenges;
pub mod circuits;
pub mod config;
pub mod dial;
pub mod explain;
pub mod maintenance;
pub mod metrics;
pub mod reload;
pub mod sessions;
pub mod status;
pub mod tokens;
pub mod users;

//! What Fortify says about itself: [`logs`] for a person, [`metrics`] for a machine, in one of the
//! two forms of [`exposition`]; [`process`] is what the kernel says of it.
//!
//! Neither ever holds an answer, a seed, a token, a cookie or a raw circuit.

pub mod admin;
pub mod daemon;
pub mod metrics;
pub mod web;

pub use fortify_core::telemetry::{exposition, instruments, logs, process};

//! Decides: who gets in, who gets a challenge, who waits and who is refused. It knows nothing of HTTP.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`limits`]: how often a circuit may ask, and how long it waits.
//! - [`session`]: what an admitted visitor holds.
//! - [`reputation`]: how circuits stand, and what they did.
//! - [`behaviour`]: what circuits do, and what that makes them look like.
//! - [`threat`]: the dial: how severe the gate is, and when it becomes so.
//! - [`challenge`]: challenges issued, drawn and judged.
//! - [`decision`]: the one place that decides about a request.
//! - [`config`]: the configuration sections of all of these.
//! - [`metrics`]: what is counted of decisions, and all instruments of the engine.

// Traffic that tests and benches share names things by their paths in `fortify`.
#[cfg(test)]
extern crate self as fortify;
#[cfg(test)]
use fortify_core::{clock, entropy, pseudonym};

pub mod behaviour;
pub mod challenge;
pub mod config;
pub mod decision;
pub mod limits;
pub mod metrics;
pub mod reputation;
pub mod session;
pub mod threat;

//! What Fortify says about itself: [`logs`] for a person, [`metrics`] for a machine.
//!
//! Neither ever holds an answer, a seed, a token, a cookie or a raw circuit.

pub mod logs;
pub mod metrics;

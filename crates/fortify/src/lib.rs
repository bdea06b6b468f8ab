//! The program: a gate between the Tor network and a web service that lets people in without scripts and
//! makes bots pay for every try.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`metrics`]: what is counted of the process.
//! - [`daemon`]: a gate that is built, bound and then run; what tests and `fortify serve` start.
//! - [`doctor`]: looks at a gate and all around it, and says what to do.
//! - [`cli`]: the command line.
//!
//! Everything else is in the crates below it: `fortify-engine` decides about visitors, `fortify-web` and
//! `fortify-admin` show what it says; `ARCHITECTURE.md` follows a request through them.

pub mod cli;
pub mod daemon;
pub mod doctor;
pub mod metrics;

//! The program `fortify`: a gate between the Tor network and a web service. People get in without scripts; bots pay for
//! every try.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`metrics`]: metrics of the process.
//! - [`on_change`]: the operator's program that is told when the state of the site changes.
//! - [`daemon`]: a gate as a process, started by `fortify serve` and by tests.
//! - [`doctor`]: examines a gate and everything around it, and says what to do.
//! - [`cli`]: the command line.
//!
//! Everything else is in the crates below: `fortify-engine` decides about visitors, `fortify-web` serves them, and
//! `fortify-admin` serves operators. `ARCHITECTURE.md` follows a request through them.

pub mod cli;
pub mod daemon;
pub mod doctor;
pub mod metrics;
pub mod on_change;

//! What every part of Fortify stands on: who is asking, time, randomness, bounded memory, files.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`advice`]: errors that keep what happened apart from what to do about it.
//! - [`entropy`]: randomness, passed in.
//! - [`clock`]: time, passed in.
//! - [`circuit`]: who is asking: the circuit of an onion visitor, or the address of a clearnet one.
//! - [`pseudonym`]: the name under which a circuit is remembered.
//! - [`recent`]: what is remembered of circuits, the least recently seen of which makes room.
//! - [`sqlite`]: database files: opened, and quarantined when damaged.
//! - [`telemetry`]: the log, and what metrics have in common.

pub mod advice;
pub mod circuit;
pub mod clock;
pub mod entropy;
pub mod pseudonym;
pub mod recent;
pub mod sqlite;
pub mod telemetry;

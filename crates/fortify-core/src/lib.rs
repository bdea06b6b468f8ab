//! The foundation of Fortify: visitors' identities, time, randomness, bounded memory, files and the log.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`advice`]: errors that keep what happened apart from what to do about it.
//! - [`entropy`]: randomness, as a trait that callers pass in.
//! - [`clock`]: time, as a trait that callers pass in.
//! - [`circuit`]: the identity of a visitor: the circuit on an onion service, the address on clearnet.
//! - [`pseudonym`]: keyed hashes of circuits, the only names of them that are stored.
//! - [`allowance`]: how many challenges a rate allows at a moment; pure.
//! - [`draw`]: who gets a place in a queue that is full; pure.
//! - [`load`]: what makes the site busy, in words; pure.
//! - [`sketch`]: how many distinct circuits there were; pure.
//! - [`reach`]: how far reaches what was acknowledged.
//! - [`recent`]: a bounded map of circuits that evicts the least recently used.
//! - [`damage`]: what was lost of a damaged file, and where the damaged file went.
//! - [`manifest`]: how far each file had come, so that a file that was cut off or replaced is noticed.
//! - [`journal`]: an append-only file of numbered records with checksums.
//! - [`notes`]: a table of facts that is written to a journal in the background.
//! - [`sqlite`]: database files: opened, migrated, and quarantined when damaged.
//! - [`processor`]: whether the processor can do what TLS needs.
//! - [`telemetry`]: the log, and what the metrics of all crates have in common.

pub mod advice;
pub mod allowance;
pub mod circuit;
pub mod clock;
pub mod damage;
pub mod draw;
pub mod entropy;
pub mod journal;
pub mod load;
pub mod manifest;
pub mod notes;
pub mod processor;
pub mod pseudonym;
pub mod reach;
pub mod recent;
pub mod sketch;
pub mod sqlite;
pub mod telemetry;

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! Keeps `HAProxy`'s stick table of circuits up to date over its Runtime API.
//!
//! [`fortify_reputation`] decides which circuits are trusted or banned; the stick table is
//! a copy that is lost when `HAProxy` ends, evicts entries when it is full, and forgets them at `expire`. This
//! crate decides nothing: it compares the table with the reputation and corrects the differences.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`command`]: the commands that change the table, as types. A command that clears the table, or a value
//!   without a meaning, cannot be expressed.
//! - [`answer`]: parsers for `HAProxy`'s answers; pure.
//! - [`client`]: one connection per batch, with a deadline and bounded answers.
//! - [`config`]: the section `[haproxy]`.
//! - [`metrics`]: the metrics of the table.
//! - [`checkup`]: the read-only questions of `fortify doctor`.
//! - [`plan`]: the difference between the table and the reputation; pure.
//! - [`reconciler`]: the task that keeps the table up to date.

pub mod answer;
pub mod checkup;
pub mod client;
pub mod command;
pub mod config;
pub mod metrics;
pub mod plan;
pub mod reconciler;

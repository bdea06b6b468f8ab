//! `HAProxy`, told over its Runtime API which circuits to favour and which to refuse.
//!
//! The truth is in [`reputation`](fortify_engine::reputation); the stick table is a copy of it that is lost
//! with the process, evicted when full and gone at `expire`. So nothing here decides: it brings the
//! table to what is wanted, again and again.
//!
//! # Layout
//!
//! - [`command`]: everything that can be said to the table, as types. What would clear it, and a
//!   value that means nothing, cannot be written down.
//! - [`client`]: a connection for each batch, under a deadline, with bounded answers.
//! - [`answer`]: what comes back, read by pure functions.
//! - [`checkup`]: what `fortify doctor` asks, which changes nothing.
//! - [`plan`]: what has to be said so that the table is what is wanted; pure.
//! - [`reconciler`]: the task that says it, and how that goes.
//! - [`config`]: the section `[haproxy]`; [`metrics`]: what is counted.

pub mod answer;
pub mod checkup;
pub mod client;
pub mod command;
pub mod config;
pub mod metrics;
pub mod plan;
pub mod reconciler;

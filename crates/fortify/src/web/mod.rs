//! What visitors, applications and operators reach over HTTP.
//!
//! # Layout
//!
//! - [`gate`]: every request that is not one of ours: admit and forward, or challenge.
//! - [`challenge`]: the challenge page's own addresses.
//! - [`simple_api`]: the same engine as JSON and a bare picture, for static pages.
//! - [`consequence`]: what an answer means for the standing of its circuit.
//! - [`demand`]: what is asked of a visitor now.
//! - [`turn`]: whether a visitor may have a challenge now, and tickets.
//! - [`stages`]: several challenges in a row; [`traps`]: fields that only programs fill in.
//! - [`standing`]: a visitor's own session.
//! - [`operator`]: health, readiness, metrics.
//! - [`visitor`]: who is asking, read once per request.
//! - [`sighting`]: what became of it, told to [`crate::behaviour`].
//! - [`error`]: the one edge where faults become answers.
//! - [`pages`]: HTML and JSON bodies with their headers.
//! - [`form`], [`return_to`], [`carried`], [`cookies`], [`same_origin`]: one job each, pure.

pub mod carried;
pub mod challenge;
pub mod consequence;
pub mod cookies;
pub mod demand;
pub mod error;
pub mod form;
pub mod gate;
pub mod operator;
pub mod pages;
pub mod return_to;
pub mod same_origin;
pub mod sighting;
pub mod simple_api;
pub mod stages;
pub mod standing;
pub mod traps;
pub mod turn;
pub mod visitor;

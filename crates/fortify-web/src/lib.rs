//! What visitors, applications and supervisors reach over HTTP. Handlers parse, call one verb of the engine
//! and show what it says.
//!
//! # Layout
//!
//! - [`reload`]: the gate in force, and another in its place when the configuration changes.
//! - [`router`]: which address leads where.
//! - [`protect`]: every request that is not one of ours: forwarded, or met with a challenge.
//! - [`auth`]: the same question, asked by nginx; [`enter`]: where visitors come back.
//! - [`challenge`]: the challenge page's own addresses.
//! - [`simple_api`]: the same engine as JSON and a bare picture, for static pages.
//! - [`session`]: a visitor's own session.
//! - [`probes`]: health, readiness, metrics.
//! - [`visitor`]: who is asking, read once per request.
//! - [`error`]: the one edge where faults become answers.
//! - [`app`]: the state that requests share; [`metrics`]: the registry of what is counted.
//! - [`pages`]: HTML and JSON bodies with their headers; [`queue`]: the page of one who waits.
//! - [`i18n`]: what visitors read, in their language.
//! - [`traps`]: fields that only programs fill in.
//! - [`form`], [`return_to`], [`carried`], [`cookies`], [`same_origin`]: one job each, pure.

pub mod app;
pub mod auth;
pub mod carried;
pub mod challenge;
pub mod cookies;
pub mod enter;
pub mod error;
pub mod form;
pub mod i18n;
pub mod metrics;
pub mod pages;
pub mod probes;
pub mod protect;
pub mod queue;
pub mod reload;
pub mod request_metrics;
pub mod return_to;
pub mod router;
pub mod same_origin;
pub mod session;
pub mod simple_api;
pub mod traps;
pub mod visitor;

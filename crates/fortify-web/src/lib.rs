//! What visitors, applications and supervisors reach over HTTP. Handlers parse, call one verb of the engine
//! and show what it says.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`i18n`]: the texts that visitors read, in their language.
//! - [`return_to`], [`same_origin`], [`wants`], [`cookies`], [`form`], [`carried`]: one job each, pure.
//! - [`traps`]: fields that only bots fill in.
//! - [`addresses`], [`queue`]: addresses that pages lead to; the page of a visitor in the queue.
//! - [`pages`]: HTML and JSON bodies with their headers.
//! - [`metrics`]: the registry, on which each owner registers its instruments; [`request_metrics`].
//! - `answers`: answers that are checked to the end.
//! - [`app`]: the state that requests share.
//! - [`maintenance`]: an operator's switch that has visitors told that the site is being worked on.
//! - [`error`]: the one edge where faults become answers.
//! - [`visitor`]: the client behind a request, read once.
//! - [`responses`]: what several handlers answer with.
//! - [`challenge`]: the challenge page and its addresses; [`simple_api`]: the same as JSON and a bare picture.
//! - [`protect`]: every other request: forwarded, or answered with a challenge; [`auth`]: the same question,
//!   asked by nginx; [`enter`]: the addresses at which visitors come back.
//! - [`session`]: a visitor's own session; [`probes`]: health, readiness, metrics.
//! - [`router`]: which address leads where.
//! - [`reload`]: the routes in force, and others in their place when the configuration changes.

pub mod addresses;
mod answers;
pub mod app;
pub mod auth;
pub mod carried;
pub mod challenge;
pub mod cookies;
pub mod enter;
pub mod error;
pub mod form;
pub mod i18n;
pub mod maintenance;
pub mod metrics;
pub mod pages;
pub mod probes;
pub mod protect;
pub mod queue;
pub mod reload;
pub mod request_metrics;
pub mod responses;
pub mod return_to;
pub mod router;
pub mod same_origin;
pub mod session;
pub mod simple_api;
pub mod traps;
pub mod visitor;
pub mod wants;

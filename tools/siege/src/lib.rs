//! Attacks on a running Fortify beside generated people, and what both of them got.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - [`numbers`]: percentiles, paces, and when a run is void; pure.
//! - [`client`]: what a visitor sends, and what pages mean.
//! - [`service`]: the protected service, which counts who reaches it.
//! - [`answers`], [`host`]: how generated people know what a picture shows.
//! - [`stack`]: the programs under attack, on a core of their own.
//! - [`monitor`]: what the gate says of itself, once a second.
//! - [`people`]: newcomers, and those who are in.
//! - [`attacks`]: what is done to the gate.
//! - [`mod@run`]: a stack, people and one attack.
//! - [`bars`]: what has to hold, measured on a run; pure.
//! - [`plot`], [`report`]: a run as a picture, and docs/siege.md.
//! - [`cost`]: what a proxied request costs beside another program.
//! - [`endure`]: restarts, reloads, refusals and rotations of keys, as an operator meets them.
//! - [`plan`]: what `make siege` plays. [`short`]: what `make test` plays (`tests/short.rs`).

pub mod answers;
pub mod attacks;
pub mod bars;
pub mod client;
pub mod cost;
pub mod endure;
pub mod host;
pub mod monitor;
pub mod numbers;
pub mod people;
pub mod plan;
pub mod plot;
pub mod report;
pub mod run;
pub mod service;
pub mod short;
pub mod stack;

//! A gate between the Tor network and a web service: it lets people in without scripts and makes
//! bots pay for every try.
//!
//! # Layout
//!
//! A request passes [`server`] (connections and their limits), [`router`], one handler of [`web`],
//! and the services that handler composes: [`challenge`], [`session`], [`proxy`]. What they
//! remember is in a [`store`]. Arrows point one way:
//!
//! `cli → lib → {server, router} → web → app → {challenge, session, proxy} → store →
//! {circuit, config, clock, telemetry}`
//!
//! - [`cli`]: the command line.
//! - [`gate`]: a gate that is built, bound and then run; what tests and `serve` start.
//! - [`admin`]: the operator's side: accounts, roles, the API, its log.
//! - [`app`]: the state that requests share.
//! - [`circuit`], [`pseudonym`]: who is asking, and the name under which that is remembered.
//! - [`reputation`], [`haproxy`]: how circuits stand, and the table that is told.
//! - [`threat`]: the dial: how severe the gate is, and when it becomes so.
//! - [`behaviour`]: what circuits do, and what that makes them look like.
//! - [`doctor`]: looks at a gate and all around it, and says what to do.
//! - [`tor`]: tor's control port: when it starts anew, which circuits close.
//! - [`sqlite`]: the files that several of them keep: opened, and put aside when damaged.
//! - `recent`: what is remembered of circuits, the least recently seen of which makes room.
//! - [`clock`], [`entropy`]: time and randomness, passed in.
//! - [`config`], [`i18n`], [`telemetry`]: what the operator sets, visitors read, and everybody sees.

pub use fortify_config as config;
pub use fortify_core::{circuit, clock, entropy, pseudonym, recent, sqlite};
pub use fortify_engine as engine;
pub use fortify_engine::{behaviour, challenge, limits, reputation, session, threat};
pub use fortify_haproxy as haproxy;
pub use fortify_http::{proxy, server};
pub use fortify_store as store;
pub use fortify_tor as tor;

pub mod admin;
pub mod app;
pub mod cli;
pub mod doctor;
pub mod gate;
pub mod i18n;
pub mod reload;
pub mod router;
pub mod telemetry;
pub mod web;

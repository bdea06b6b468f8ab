//! A small web site that stands for the service behind the gate.
//!
//! `make run` shows it to people and the browser tests put it behind Fortify, so it has what a
//! reverse proxy gets wrong: forms, uploads, downloads, slow and chunked answers, WebSockets, and
//! a page that says which headers arrived. It keeps what it received in [`Seen`], because a test
//! of a proxy has to assert what the backend saw, not only what the visitor got.
//!
//! # Layout
//!
//! - [`router`](fn@router) and [`serve`]: the site as a tower service, and on a socket.
//! - [`DemoSite`]: the site on a free port, for tests.
//! - [`Seen`]: the record of requests.
//! - `pages`: what people read. `streams`: bodies of any length. `probes`: pages for machines.
//! - `guestbook`: the only state that visitors change, bounded.

mod guestbook;
mod pages;
mod probes;
mod seen;
mod site;
mod streams;

pub use seen::{Seen, SeenRequest};
pub use site::{DemoSite, router, serve};

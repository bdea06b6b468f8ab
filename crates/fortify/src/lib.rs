//! The gate.

pub mod circuit;
pub mod config;
pub mod proxy;
pub mod server;

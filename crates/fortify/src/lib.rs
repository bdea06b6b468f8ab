//! The gate.

pub mod circuit;

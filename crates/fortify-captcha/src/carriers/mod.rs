//! Carriers: how figures become visible.

pub(crate) mod ink;

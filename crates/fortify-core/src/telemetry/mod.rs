//! What all parts of the program say about themselves with: [`logs`] for a person; for a machine the
//! metrics, each registered by its owner with what [`instruments`] has in common, read in one of the
//! two forms of [`exposition`]; [`process`] is what the kernel says of it.
//!
//! Neither ever holds an answer, a seed, a token, a cookie or a raw circuit.

pub mod exposition;
pub mod instruments;
pub mod logs;
pub mod process;

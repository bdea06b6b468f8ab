//! The log, and what the metrics of all crates have in common.
//!
//! - [`instruments`]: shared buckets and labels. Each crate registers its own metrics.
//! - [`process`]: metrics that the kernel keeps about this process.
//! - [`exposition`]: the two text formats of metrics.
//! - [`logs`]: the log, and its configuration section `[log]`.
//!
//! Neither log nor metrics ever contain an answer, a seed, a token, a cookie or a raw circuit.

pub mod exposition;
pub mod instruments;
pub mod logs;
pub mod process;
mod repeats;

//! Buckets and labels that the metrics of several crates share.
//!
//! Every label comes from a small fixed set; nothing that a visitor sends can become one.

use prometheus_client::encoding::EncodeLabelSet;

/// Bounds of the latency buckets in seconds: a decision takes tens of microseconds, a render
/// hundreds, and the requirement's limits are 200 and 500 ms.
pub const LATENCY_BUCKETS: [f64; 13] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.2, 0.5,
    2.0,
];

/// No label. A family with it, in place of a plain instrument, is absent until it is first set: 0
/// would look like an alarm where there is nothing to measure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Unlabelled {}

/// The label `outcome`: how an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByOutcome {
    /// A fixed word.
    pub outcome: &'static str,
}

/// The label `event`: what happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByEvent {
    /// A fixed word.
    pub event: &'static str,
}

/// The label `reason`: why it happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByReason {
    /// A fixed word.
    pub reason: &'static str,
}

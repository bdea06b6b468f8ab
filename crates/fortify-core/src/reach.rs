//! How far reaches what was acknowledged.

use schemars::JsonSchema;
use serde::Serialize;

/// How far reaches what was acknowledged. Both outlive the process that acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// It is in force at this node alone. The others are told when the store answers.
    Node,
    /// It is in force at every node within 2 s.
    Cluster,
}

impl Reach {
    /// The reach of two changes together.
    pub fn and(self, other: Self) -> Self {
        if self == Self::Cluster { other } else { self }
    }
}

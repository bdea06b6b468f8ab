//! Whether an answer comes from the gate, and whether the gate saw a circuit.

use std::fmt;

use super::http::ProbeResponse;

/// The meaning of an answer to a request without a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeResult {
    /// From the gate, which saw a circuit without a session.
    Circuit,
    /// From the gate, which saw no circuit.
    NoCircuit,
    /// From the gate, with any other status.
    Gate(u16),
    /// From another program, with this status.
    Foreign(u16),
}

impl fmt::Display for ProbeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Circuit => f.write_str("the gate's 403"),
            Self::NoCircuit => f.write_str("the gate's 400"),
            Self::Gate(status) => write!(f, "the gate's {status}"),
            Self::Foreign(status) => write!(f, "a {status} that is not the gate's"),
        }
    }
}

/// Classifies an answer to a request that asked for JSON.
pub(super) fn classify(answer: &ProbeResponse) -> ProbeResult {
    let refusal: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let ours = refusal.is_some_and(|body| {
        body.get("success") == Some(&serde_json::Value::Bool(false))
            && body.get("message").is_some()
    });
    match (ours, answer.status) {
        (true, 403) => ProbeResult::Circuit,
        (true, 400) => ProbeResult::NoCircuit,
        (true, status) => ProbeResult::Gate(status),
        (false, status) => ProbeResult::Foreign(status),
    }
}

//! What the gate would decide about a circuit now, and why.

use schemars::JsonSchema;
use serde::Serialize;

use super::circuits::{self, Circuit, OfCircuit};
use crate::directory::resolve;
use crate::error::AdminError;
use crate::handler::Context;
use fortify_engine::explain::Explanation;

/// A circuit, what the gate would decide about it, and why.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Explained {
    /// The circuit, and its status.
    pub circuit: Circuit,
    /// Everything that the gate knows about it.
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// Explains a circuit.
///
/// # Errors
///
/// [`AdminError::BadRequest`] if the name is malformed; faults of the store.
pub async fn explain(context: Context, args: OfCircuit) -> Result<Explained, AdminError> {
    let named = resolve(&context, &args.circuit).await?;
    let explanation = context.app().engine.explain(named.tag, named.tor).await?;
    Ok(Explained { explanation, circuit: circuits::view(&context, named) })
}

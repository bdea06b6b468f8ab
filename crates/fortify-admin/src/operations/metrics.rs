//! Metrics, for a Prometheus that cannot reach the gate's own address.

use axum::http::HeaderMap;
use axum::response::Response;

use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use fortify_web::probes;

/// All metrics in Prometheus' text format. If the gate's own address takes PROXY lines, it does not serve
/// `/metrics`.
///
/// # Errors
///
/// [`AdminError::Unavailable`] if they cannot be encoded.
pub async fn show(context: Context, _: Nothing) -> Result<Response, AdminError> {
    let text = probes::exposition(context.app(), &HeaderMap::new()).await;
    text.map_err(|error| AdminError::Unavailable(error.to_string()))
}

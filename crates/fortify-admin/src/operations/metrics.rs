//! What is counted, for a Prometheus that cannot ask the gate's own address.

use axum::http::HeaderMap;
use axum::response::Response;

use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use fortify_web::probes;

/// Everything that is counted, in Prometheus' text form. Where the gate's own address takes PROXY lines it
/// has no `/metrics` for anybody.
///
/// # Errors
///
/// [`AdminError::Unavailable`] where it cannot be written.
pub async fn show(context: Context, _: Nothing) -> Result<Response, AdminError> {
    let told = probes::exposition(context.app(), &HeaderMap::new()).await;
    told.map_err(|error| AdminError::Unavailable(error.to_string()))
}

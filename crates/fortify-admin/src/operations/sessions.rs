//! Revoking visitors' sessions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::AdminError;
use crate::handler::{Context, line};
use fortify_store::record::Secret;

/// The session to revoke.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The value of its cookie, `cerberus_session`. Sessions exist only in their cookies, so those of a circuit
    /// cannot be listed: ban the circuit instead.
    pub session: String,
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// A session that was revoked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Revoked {
    /// Its name for the service behind the gate.
    pub subject: String,
}

/// Revokes a session.
///
/// # Errors
///
/// [`AdminError::NotFound`] if it is not a valid session; faults of the store.
pub async fn revoke(context: Context, args: Revoke) -> Result<Revoked, AdminError> {
    let (app, text) = (context.app(), Secret::new(args.session));
    let reason = line("reason", args.reason.as_deref().unwrap_or_default())?;
    let Some(session) = app.engine.read_session(text.expose().trim()) else {
        let advice = "this is not a valid session of this gate; use the value of the cookie cerberus_session";
        return Err(AdminError::NotFound(advice.to_owned()));
    };
    let subject = app.engine.subject(&session);
    let entry = context.entry("session.revoke", &subject)?;
    context.log(entry.because(&reason)).await?;
    app.engine.revoke(&session).await?;
    Ok(Revoked { subject })
}

//! Visitors' sessions, ended before their time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::AdminError;
use crate::handler::{Context, line};
use fortify_store::record::Secret;

/// A session.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The value of its cookie, `cerberus_session`. Sessions are in their cookies and nowhere else: those
    /// of a circuit cannot be listed; ban the circuit, or have all end with `fortify keys rotate`.
    pub session: String,
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// A session that was ended.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Revoked {
    /// How the service behind the gate knows it.
    pub subject: String,
}

/// Ends a session.
///
/// # Errors
///
/// [`AdminError::NotFound`] where it is none in force; faults of the store.
pub async fn revoke(context: Context, args: Revoke) -> Result<Revoked, AdminError> {
    let (app, text) = (context.app(), Secret::new(args.session));
    let reason = line("reason", args.reason.as_deref().unwrap_or_default())?;
    let Some(session) = app.engine.read_session(text.expose().trim()) else {
        let advice =
            "this is no session of this gate that is in force; use the value of cerberus_session";
        return Err(AdminError::NotFound(advice.to_owned()));
    };
    let subject = app.engine.subject(&session);
    let entry = context.entry("session.revoke", &subject)?;
    context.log(entry.because(&reason)).await?;
    app.engine.revoke(&session).await?;
    Ok(Revoked { subject })
}

//! Revoking visitors' sessions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::{off_thread, resolve};
use crate::error::AdminError;
use crate::handler::{Context, line};
use fortify_engine::operator::Reach;
use fortify_engine::session::Session;
use fortify_store::record::Secret;

/// The session to revoke, named in one of three ways.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The value of its cookie, `cerberus_session`.
    pub session: Option<String>,
    /// Its name for the service behind the gate, `X-Fortify-Subject`. Sessions exist only in their cookies, so this
    /// finds one only while a circuit is trusted for it: within half an hour of its last request, by default.
    pub subject: Option<String>,
    /// A circuit, by its pseudonym, on the unix socket also by its address: all its sessions end.
    pub circuit: Option<String>,
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// What was revoked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Revoked {
    /// The session's name for the service behind the gate; null for all those of a circuit.
    pub subject: Option<String>,
    /// The circuit's pseudonym; null for one session.
    pub circuit: Option<String>,
    /// After a change: `cluster`, or `node` if the other nodes could not be told yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// Revokes a session, or all those of a circuit.
///
/// # Errors
///
/// [`AdminError::NotFound`] if there is no such session; faults of the store.
pub async fn revoke(context: Context, args: Revoke) -> Result<Revoked, AdminError> {
    let reason = line("reason", args.reason.as_deref().unwrap_or_default())?;
    let text = |text: Option<String>| text.filter(|text| !text.trim().is_empty()).map(Secret::new);
    match (text(args.session), text(args.subject), text(args.circuit)) {
        (Some(cookie), None, None) => {
            let session = context.app().engine.read_session(cookie.expose().trim());
            let advice = "this is not a valid session of this gate; use the value of the cookie cerberus_session";
            one(&context, session.ok_or_else(|| not_found(advice))?, &reason).await
        }
        (None, Some(subject), None) => {
            let (engine, permit) = (context.app().engine.clone(), context.admin.scan()?);
            let find = move || {
                // Held for as long as the thread works, even if the caller stops waiting.
                let _permit = permit;
                engine.session_of(subject.expose().trim())
            };
            let found = off_thread(find).await?;
            let advice = "no circuit is trusted for a session with this subject; use the value of the cookie \
                          cerberus_session, or ban the circuit";
            one(&context, found.ok_or_else(|| not_found(advice))?, &reason).await
        }
        (None, None, Some(circuit)) => all_of(&context, circuit.expose().trim(), &reason).await,
        _ => Err(AdminError::BadRequest("name one of session, subject and circuit".to_owned())),
    }
}

async fn one(context: &Context, session: Session, reason: &str) -> Result<Revoked, AdminError> {
    let engine = &context.app().engine;
    let subject = engine.subject(&session);
    let entry = context.entry("session.revoke", &subject)?;
    context.log(entry.because(reason)).await?;
    engine.revoke(&session).await?;
    let reach = Some(context.reach("session.revoke", &subject).await);
    Ok(Revoked { subject: Some(subject), circuit: None, reach })
}

async fn all_of(context: &Context, circuit: &str, reason: &str) -> Result<Revoked, AdminError> {
    let known = resolve(context, circuit).await?;
    let (circuit, name) = (known.circuit()?, known.tag.hex());
    let entry = context.entry("session.revoke", &name)?;
    context.log(entry.because(reason)).await?;
    context.app().engine.revoke_all_on(circuit).await?;
    let reach = Some(context.reach("session.revoke", &name).await);
    Ok(Revoked { subject: None, circuit: Some(name), reach })
}

fn not_found(advice: &str) -> AdminError {
    AdminError::NotFound(advice.to_owned())
}

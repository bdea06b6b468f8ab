//! API tokens.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accounts::{IssuedToken, Token};
use crate::error::AdminError;
use crate::handler::{Context, Nothing, line};
use crate::identity::Role;

/// The lifetime of a token in days: the default and the maximum.
const USUALLY_DAYS: u64 = 90;
const MOST_DAYS: u64 = 3650;

/// API tokens.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Tokens {
    /// The latest first.
    pub tokens: Vec<Token>,
}

/// A new token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Its role.
    pub role: Role,
    /// What it is for.
    pub label: Option<String>,
    /// Days until it expires: 90 by default, at most 3,650.
    pub days: Option<u64>,
}

/// The token to revoke.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfToken {
    /// Its ID.
    pub id: String,
}

/// A token that was just created.
#[derive(Serialize, JsonSchema)]
pub struct NewToken {
    /// The token without its secret.
    pub token: Token,
    /// Its text, which cannot be shown again: send it as Authorization: Bearer.
    pub secret: String,
}

/// Lists all tokens.
///
/// # Errors
///
/// Faults of the file.
pub async fn list(context: Context, _: Nothing) -> Result<Tokens, AdminError> {
    let tokens = context.admin.accounts.with(|accounts| accounts.tokens()).await?;
    Ok(Tokens { tokens })
}

/// Creates a token.
///
/// # Errors
///
/// [`AdminError::BadRequest`] and [`AdminError::Conflict`] with what to do; faults of the file.
pub async fn add(context: Context, args: Add) -> Result<NewToken, AdminError> {
    let label = line("label", args.label.as_deref().unwrap_or_default())?;
    let days = args.days.unwrap_or(USUALLY_DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(AdminError::BadRequest(format!("days: use 1 to {MOST_DAYS}")));
    }
    let (principal, now) = (context.principal()?.clone(), context.app().clock.now());
    let (expires, entropy) =
        (now.after(Duration::from_secs(days * 86_400)), context.app().engine.entropy().clone());
    let add = move |all: &crate::accounts::Accounts| {
        all.add_token(&principal, args.role, &label, now, expires, &*entropy)
    };
    let IssuedToken { token, text } = context.admin.accounts.with(add).await?;
    Ok(NewToken { token, secret: text.expose().clone() })
}

/// Revokes a token.
///
/// # Errors
///
/// [`AdminError::NotFound`], and faults of the file.
pub async fn revoke(context: Context, args: OfToken) -> Result<Token, AdminError> {
    let (principal, now) = (context.principal()?.clone(), context.app().clock.now());
    let accounts = &context.admin.accounts;
    Ok(accounts.with(move |all| all.revoke_token(&principal, &args.id, now)).await?)
}

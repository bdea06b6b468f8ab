//! Accounts.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accounts::{User, UserChange};
use crate::error::AdminError;
use crate::guard::Attempt;
use crate::handler::{Context, Nothing, WithCookies};
use crate::identity::{AuthMethod, Role};
use crate::login::{self, Done, Me, check_name};
use crate::{password as passwords, totp as codes};
use fortify_core::entropy::random_bytes;
use fortify_store::record::Secret;

/// All accounts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Users {
    /// The accounts, sorted by name.
    pub users: Vec<User>,
}

/// A new account.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its password: at least 12 characters.
    pub password: String,
}

/// A change of an account's role.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRole {
    /// The account.
    pub name: String,
    /// The new role.
    pub role: Role,
}

/// A change of an account's password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The account.
    pub name: String,
    /// The new password: at least 12 characters.
    pub password: String,
}

/// A change of an account's one-time codes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTotp {
    /// The account.
    pub name: String,
    /// `true` requires codes, with a new secret; `false` turns them off.
    pub on: bool,
}

/// The account to remove.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfUser {
    /// Its name.
    pub name: String,
}

/// A change of the user's own password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnPassword {
    /// The current password.
    pub password: String,
    /// The new password: at least 12 characters.
    pub new_password: String,
}

/// A change of the user's own one-time codes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnTotp {
    /// The current password.
    pub password: String,
    /// `true` requires codes, with a new secret; `false` turns them off.
    pub on: bool,
}

/// What an authenticator app needs; it cannot be shown again.
#[derive(Serialize, JsonSchema)]
pub struct Enrolled {
    /// The secret, in base 32; `None` if codes were turned off.
    pub secret: Option<String>,
    /// The same as an `otpauth` address, for a QR code.
    pub address: Option<String>,
    /// The new CSRF token, because the session continues with a new cookie.
    pub csrf: Option<String>,
}

/// Lists all accounts.
///
/// # Errors
///
/// Faults of the file.
pub async fn list(context: Context, _: Nothing) -> Result<Users, AdminError> {
    let users = context.admin.accounts.with(|accounts| accounts.users()).await?;
    Ok(Users { users })
}

/// Creates an account.
///
/// # Errors
///
/// [`AdminError::BadRequest`] and [`AdminError::Conflict`] with what to do; faults of the file.
pub async fn add(context: Context, args: Add) -> Result<User, AdminError> {
    check_name(&args.name)?;
    let hash = hashed(&context, args.password).await?;
    let (principal, now) = (context.principal()?.clone(), context.app().clock.now());
    let accounts = &context.admin.accounts;
    let added =
        accounts.with(move |all| all.add_user(&principal, &args.name, args.role, &hash, now));
    Ok(added.await?)
}

/// Changes a role and ends the account's sessions.
///
/// # Errors
///
/// As [`add`].
pub async fn role(context: Context, args: SetRole) -> Result<User, AdminError> {
    change(&context, args.name, UserChange::Role(args.role)).await
}

/// Sets a password and ends the account's sessions.
///
/// # Errors
///
/// As [`add`].
pub async fn password(context: Context, args: SetPassword) -> Result<User, AdminError> {
    let hash = hashed(&context, args.password).await?;
    change(&context, args.name, UserChange::Password(hash)).await
}

/// Sets up one-time codes or turns them off, and ends the account's sessions.
///
/// # Errors
///
/// As [`add`].
pub async fn totp(context: Context, args: SetTotp) -> Result<Enrolled, AdminError> {
    let (secret, enrolled) = enrol(&context, &args.name, args.on)?;
    change(&context, args.name, UserChange::Totp(secret)).await?;
    Ok(enrolled)
}

/// Removes an account and ends its sessions. Its tokens stay valid until they are revoked one by one.
///
/// # Errors
///
/// As [`add`].
pub async fn remove(context: Context, args: OfUser) -> Result<Done, AdminError> {
    change(&context, args.name, UserChange::Remove).await?;
    Ok(Done::YES)
}

/// Changes the user's own password. Other sessions of the account end; this one continues with a new ID.
///
/// # Errors
///
/// [`AdminError::BadLogin`] if the current password is wrong.
pub async fn own_password(
    context: Context,
    args: OwnPassword,
) -> Result<WithCookies<Me>, AdminError> {
    prove(&context, args.password).await?;
    let hash = hashed(&context, args.new_password).await?;
    let principal = context.principal()?.clone();
    let user = change(&context, principal.name.clone(), UserChange::Password(hash)).await?;
    login::begin(&context, user.id, user.generation, principal)
}

/// Sets up the user's own one-time codes with a new secret, or turns them off.
///
/// # Errors
///
/// As [`own_password`].
pub async fn own_totp(
    context: Context,
    args: OwnTotp,
) -> Result<WithCookies<Enrolled>, AdminError> {
    prove(&context, args.password).await?;
    let principal = context.principal()?.clone();
    let (secret, enrolled) = enrol(&context, &principal.name, args.on)?;
    let user = change(&context, principal.name.clone(), UserChange::Totp(secret)).await?;
    let WithCookies(me, cookies) = login::begin(&context, user.id, user.generation, principal)?;
    Ok(WithCookies(Enrolled { csrf: me.csrf, ..enrolled }, cookies))
}

/// Checks the password again, because a session may be in a browser that was left open.
async fn prove(context: &Context, password: String) -> Result<(), AdminError> {
    let (admin, principal) = (&context.admin, context.principal()?);
    if principal.auth_method != AuthMethod::Session {
        let advice = "only an account has a password; log in, or use /admin/api/v1/users";
        return Err(AdminError::Conflict(advice.to_owned()));
    }
    let (name, now) = (principal.name.clone(), admin.app().clock.now());
    let one = Attempt { name: &principal.name, source: context.source, proven: false };
    admin.guard().begin_attempt(one, now).map_err(AdminError::Wait)?;
    let found = admin.accounts.with(move |accounts| accounts.credentials(&name)).await?;
    let hash = found.map(|found| found.password);
    if !admin.hasher.verify(Secret::new(password), hash).await? {
        return Err(AdminError::BadLogin);
    }
    admin.guard().record_success(one);
    Ok(())
}

async fn hashed(context: &Context, password: String) -> Result<String, AdminError> {
    passwords::check(&password)?;
    let admin = &context.admin;
    admin.hasher.hash(Secret::new(password), Arc::clone(admin.app().engine.entropy())).await
}

fn enrol(
    context: &Context,
    name: &str,
    on: bool,
) -> Result<(Option<codes::TotpSecret>, Enrolled), AdminError> {
    if !on {
        return Ok((None, Enrolled { secret: None, address: None, csrf: None }));
    }
    let secret = codes::TotpSecret::new(random_bytes(&**context.app().engine.entropy())?);
    let (text, address) = (codes::base32(&secret), codes::address(&secret, name));
    Ok((Some(secret), Enrolled { secret: Some(text), address: Some(address), csrf: None }))
}

async fn change(context: &Context, name: String, change: UserChange) -> Result<User, AdminError> {
    let (principal, now) = (context.principal()?.clone(), context.app().clock.now());
    let admin = &context.admin;
    let user =
        admin.accounts.with(move |all| all.change_user(&principal, &name, &change, now)).await?;
    admin.sessions.end_all_of(user.id);
    Ok(user)
}

//! Accounts and API tokens.

use askama::Template;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::account::enrolled_page;
use super::view::{self, STYLE, Shell, utc};
use crate::accounts::{Token, User};
use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use crate::identity::Role;
use crate::operations::tokens::{self, OfToken};
use crate::operations::users::{self, OfUser, SetPassword, SetRole, SetTotp};
use fortify_core::clock::Timestamp;

/// The arguments of the page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// The keyword of the message to show.
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersTemplate {
    shell: Shell,
    users: Vec<User>,
    tokens: Vec<Token>,
    made: Option<String>,
    roles: [Role; 3],
    now: Timestamp,
}

/// Shows accounts and tokens.
pub(super) async fn show(context: Context, args: After) -> Result<Response, AdminError> {
    page(context, args.done.as_deref(), None, None).await
}

async fn page(
    context: Context,
    done: Option<&str>,
    made: Option<String>,
    error: Option<AdminError>,
) -> Result<Response, AdminError> {
    let shell = Shell::new(&context, "/admin/users", "Users", done, error.as_ref());
    let now = context.app().clock.now();
    let users = users::list(context.clone(), Nothing {}).await?.users;
    let tokens = tokens::list(context, Nothing {}).await?.tokens;
    let page = UsersTemplate { shell, users, tokens, made, roles: Role::ALL, now };
    Ok(view::html_because(&page, error))
}

async fn after<T>(
    context: Context,
    done: &str,
    result: Result<T, AdminError>,
) -> Result<Response, AdminError> {
    match result {
        Ok(_) => Ok(view::go("/admin/users", Some(done))),
        Err(error) => page(context, None, None, Some(error)).await,
    }
}

/// Creates an account.
pub(super) async fn add(context: Context, args: users::Add) -> Result<Response, AdminError> {
    after(context.clone(), "account", users::add(context, args).await).await
}

/// Changes a role.
pub(super) async fn role(context: Context, args: SetRole) -> Result<Response, AdminError> {
    after(context.clone(), "role", users::role(context, args).await).await
}

/// Sets a password.
pub(super) async fn password(context: Context, args: SetPassword) -> Result<Response, AdminError> {
    after(context.clone(), "password", users::password(context, args).await).await
}

/// Sets up one-time codes with a new secret, or turns them off.
pub(super) async fn totp(context: Context, args: SetTotp) -> Result<Response, AdminError> {
    let name = args.name.clone();
    match users::totp(context.clone(), args).await {
        Ok(enrolled) => Ok(enrolled_page(&context, enrolled, name, false)
            .unwrap_or_else(|| view::go("/admin/users", Some("codes-off")))),
        Err(error) => page(context, None, None, Some(error)).await,
    }
}

/// Removes an account.
pub(super) async fn remove(context: Context, args: OfUser) -> Result<Response, AdminError> {
    after(context.clone(), "remove", users::remove(context, args).await).await
}

/// Creates a token and shows it, only this once.
pub(super) async fn add_token(context: Context, args: tokens::Add) -> Result<Response, AdminError> {
    match tokens::add(context.clone(), args).await {
        Ok(made) => page(context, None, Some(made.secret), None).await,
        Err(error) => page(context, None, None, Some(error)).await,
    }
}

/// Revokes a token.
pub(super) async fn revoke_token(context: Context, args: OfToken) -> Result<Response, AdminError> {
    after(context.clone(), "token", tokens::revoke(context, args).await).await
}

//! The user's own account: password and one-time codes.

use askama::Template;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::qr;
use super::view::{self, STYLE, Shell};
use crate::error::AdminError;
use crate::handler::{Context, Nothing, WithCookies};
use crate::identity::AuthMethod;
use crate::operations::users::{self, Enrolled, OwnPassword, OwnTotp};

/// The arguments of the page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// The keyword of the message to show.
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountTemplate {
    shell: Shell,
    session: bool,
    auth_method: &'static str,
    codes: bool,
}

#[derive(Template)]
#[template(path = "enrolled.html")]
struct EnrolledTemplate {
    shell: Shell,
    own: bool,
    name: String,
    secret: String,
    address: String,
    code: Option<String>,
    back: &'static str,
}

/// Shows the account.
pub(super) async fn show(context: Context, args: After) -> Result<Response, AdminError> {
    page(context, args.done.as_deref(), None).await
}

async fn page(
    context: Context,
    done: Option<&str>,
    error: Option<AdminError>,
) -> Result<Response, AdminError> {
    let shell = Shell::new(&context, "/admin/account", "Your account", done, error.as_ref());
    let principal = context.principal()?.clone();
    let all = users::list(context, Nothing {}).await?.users;
    let codes = all.iter().any(|user| user.name == principal.name && user.totp);
    let session = principal.auth_method == AuthMethod::Session;
    let auth_method = match principal.auth_method {
        AuthMethod::Session => "a session",
        AuthMethod::Token => "an API token",
        AuthMethod::Socket => "the unix socket",
        AuthMethod::File => "the file",
        AuthMethod::Signal => "a signal",
    };
    Ok(view::html_because(&AccountTemplate { shell, session, auth_method, codes }, error))
}

/// Changes the password.
pub(super) async fn password(context: Context, args: OwnPassword) -> Result<Response, AdminError> {
    match users::own_password(context.clone(), args).await {
        Ok(WithCookies(_, cookies)) => {
            Ok(view::with_cookies(view::go("/admin/account", Some("password")), cookies))
        }
        Err(error) => page(context, None, Some(error)).await,
    }
}

/// Sets up one-time codes with a new secret, or turns them off.
pub(super) async fn totp(context: Context, args: OwnTotp) -> Result<Response, AdminError> {
    match users::own_totp(context.clone(), args).await {
        Ok(WithCookies(enrolled, cookies)) => {
            let name = context.principal()?.name.clone();
            let page = match enrolled_page(&context, enrolled, name, true) {
                Some(page) => page,
                None => view::go("/admin/account", Some("codes-off")),
            };
            Ok(view::with_cookies(page, cookies))
        }
        Err(error) => page(context, None, Some(error)).await,
    }
}

/// The page with the new secret, shown once; `None` if codes were turned off.
pub(super) fn enrolled_page(
    context: &Context,
    enrolled: Enrolled,
    name: String,
    own: bool,
) -> Option<Response> {
    let (secret, address) = enrolled.secret.zip(enrolled.address)?;
    let mut shell = Shell::new(context, "", "One-time codes", None, None);
    if let Some(csrf) = enrolled.csrf {
        shell.renew(csrf);
    }
    let code = qr::png(&address).map(|png| STANDARD.encode(png));
    let back = if own { "/admin/account" } else { "/admin/users" };
    Some(view::html(&EnrolledTemplate { shell, own, name, secret, address, code, back }))
}

//! Log-in, log-out and the first account.

use askama::Template;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::view::{self, STYLE, Shell};
use crate::error::AdminError;
use crate::handler::{Context, Nothing, WithCookies};
use crate::identity::AuthMethod;
use crate::login::{self, LogIn, SetUp};

/// The arguments of the page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// The keyword of the message to show.
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginTemplate {
    shell: Shell,
    csrf: String,
    awaits_setup: bool,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupTemplate {
    shell: Shell,
    csrf: String,
    awaits_setup: bool,
}

/// Shows the log-in form.
pub(super) async fn login(context: Context, args: After) -> Result<Response, AdminError> {
    if context.asker.as_ref().is_some_and(|principal| principal.auth_method == AuthMethod::Session)
    {
        return Ok(view::go("/admin", None));
    }
    login_page(context, args.done.as_deref(), None).await
}

/// Logs in.
pub(super) async fn log_in(context: Context, args: LogIn) -> Result<Response, AdminError> {
    match login::log_in(context.clone(), args).await {
        Ok(WithCookies(_, cookies)) => Ok(view::with_cookies(view::go("/admin", None), cookies)),
        Err(error) => login_page(context, None, Some(error)).await,
    }
}

async fn login_page(
    context: Context,
    done: Option<&str>,
    error: Option<AdminError>,
) -> Result<Response, AdminError> {
    let WithCookies(before, cookies) = login::before(context, Nothing {}).await?;
    let alert = error.as_ref().map(ToString::to_string);
    let shell = Shell::outside("Log in to Fortify", alert, done);
    let page = LoginTemplate { shell, csrf: before.csrf, awaits_setup: before.awaits_setup };
    Ok(view::with_cookies(view::html_because(&page, error), cookies))
}

/// Shows the form for the first account.
pub(super) async fn setup(context: Context, _: Nothing) -> Result<Response, AdminError> {
    setup_page(context, None).await
}

/// Creates the first account and logs it in.
pub(super) async fn set_up(context: Context, args: SetUp) -> Result<Response, AdminError> {
    match login::set_up(context.clone(), args).await {
        Ok(WithCookies(_, cookies)) => {
            Ok(view::with_cookies(view::go("/admin/account", Some("setup")), cookies))
        }
        Err(error) => setup_page(context, Some(error)).await,
    }
}

async fn setup_page(context: Context, error: Option<AdminError>) -> Result<Response, AdminError> {
    let WithCookies(before, cookies) = login::before(context, Nothing {}).await?;
    let alert = error.as_ref().map(ToString::to_string);
    let shell = Shell::outside("Set up Fortify", alert, None);
    let page = SetupTemplate { shell, csrf: before.csrf, awaits_setup: before.awaits_setup };
    Ok(view::with_cookies(view::html_because(&page, error), cookies))
}

/// Logs out.
pub(super) async fn log_out(context: Context, args: Nothing) -> Result<Response, AdminError> {
    let WithCookies(_, cookies) = login::log_out(context, args).await?;
    Ok(view::with_cookies(view::go("/admin/login", Some("logout")), cookies))
}

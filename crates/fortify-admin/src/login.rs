//! Log-in with name, password and one-time code; the first account; log-out.

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cookies::{self, BEFORE, SESSION};
use super::error::AdminError;
use super::guard::Attempt;
use super::handler::{Context, Nothing, WithCookies};
use super::identity::{AuthMethod, Principal, Role, is_name};
use super::log::Entry;
use super::password;
use super::totp;
use fortify_core::entropy::random_bytes;
use fortify_store::record::Secret;

/// What a form before log-in needs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Before {
    /// The value of the hidden field `csrf`, bound to the cookie in the same answer.
    pub csrf: String,
    /// Whether the setup token can still create the first account.
    pub awaits_setup: bool,
}

/// A log-in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    /// The account.
    pub name: String,
    /// Its password.
    pub password: String,
    /// The one-time code, if the account uses them.
    pub code: Option<String>,
}

/// The first account.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetUp {
    /// The token that the gate printed when it first started.
    pub token: String,
    /// The account's name: a-z, 0-9, '.', '_', '@' and '-'.
    pub name: String,
    /// Its password: at least 12 characters.
    pub password: String,
}

/// Somebody who is logged in.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Me {
    /// The account, token or operator.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// How they are authenticated.
    pub auth_method: AuthMethod,
    /// The value of the hidden field `csrf` or the header `X-Fortify-CSRF`; only with a session cookie.
    pub csrf: Option<String>,
}

/// Success, with nothing else to report.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Done {
    /// Always true.
    pub done: bool,
}

impl Done {
    /// The only value.
    pub const YES: Self = Self { done: true };
}

/// Prepares a form before log-in: sets the cookie that it is bound to.
pub(super) async fn before(
    context: Context,
    _: Nothing,
) -> Result<WithCookies<Before>, AdminError> {
    let admin = &context.admin;
    let cookie = URL_SAFE_NO_PAD.encode(random_bytes::<16>(&**admin.app().engine.entropy())?);
    let awaits_setup = admin.accounts.with(super::accounts::Accounts::awaits_setup).await?;
    let before = Before { csrf: admin.forms.token(&cookie), awaits_setup };
    let cookies = cookies::set(BEFORE, &cookie, context.https).into_iter().collect();
    Ok(WithCookies(before, cookies))
}

/// Logs in. A failure takes the same time and gives the same message, whatever was wrong.
pub(super) async fn log_in(context: Context, args: LogIn) -> Result<WithCookies<Me>, AdminError> {
    let outcome = authenticate(&context, args).await;
    let label = match &outcome {
        Ok(_) => "ok",
        Err(AdminError::BadLogin) => "wrong",
        Err(AdminError::Wait(_)) => "waiting",
        Err(_) => "error",
    };
    context.admin.metrics.login(label);
    outcome
}

async fn authenticate(context: &Context, args: LogIn) -> Result<WithCookies<Me>, AdminError> {
    let (admin, now) = (&context.admin, context.app().clock.now());
    let password = Secret::new(args.password);
    // All invalid names count as one name.
    let name = if is_name(&args.name) { args.name } else { String::new() };
    let asked = name.clone();
    let found = admin.accounts.with(move |accounts| accounts.credentials(&asked)).await?;
    let step = found.as_ref().and_then(|found| {
        let (secret, code) = (found.totp.as_ref()?, args.code.as_deref()?);
        // Counted before the code is checked, because the result reveals whether it is right.
        if !admin.guard().take_code(&name, now) {
            return None;
        }
        totp::step_of(secret, code, found.totp_step, now)
    });
    let one = Attempt { name: &name, source: context.source, proven: step.is_some() };
    admin.guard().begin_attempt(one, now).map_err(AdminError::Wait)?;
    let hash = found.as_ref().map(|found| found.password.clone());
    let too_long = password.expose().len() > password::MAX_PASSWORD;
    let right = admin.hasher.verify(password, hash).await? && !too_long;
    let Some(found) = found.filter(|_| right) else { return Err(AdminError::BadLogin) };
    if found.totp.is_some() {
        let Some(step) = step else { return Err(AdminError::BadLogin) };
        let id = found.user.id;
        // A code is good for one log-in.
        if !admin.accounts.with(move |accounts| accounts.use_code(id, step)).await? {
            return Err(AdminError::BadLogin);
        }
    }
    let user = found.user;
    let principal =
        Principal { name: user.name, role: user.role, auth_method: AuthMethod::Session };
    context.log(Entry::new(&principal, now, "login", &principal.name)).await?;
    admin.guard().record_success(one);
    begin(context, user.id, user.generation, principal)
}

/// Creates the first account and logs it in.
pub(super) async fn set_up(context: Context, args: SetUp) -> Result<WithCookies<Me>, AdminError> {
    let (admin, now) = (&context.admin, context.app().clock.now());
    let (token, secret) = (Secret::new(args.token), Secret::new(args.password));
    check_name(&args.name)?;
    password::check(secret.expose())?;
    // Rate-limited like log-ins, under a name that no account can have.
    let one = Attempt { name: "setup token", source: context.source, proven: false };
    admin.guard().begin_attempt(one, now).map_err(AdminError::Wait)?;
    if !admin.accounts.with(super::accounts::Accounts::awaits_setup).await? {
        return Err(AdminError::BadSetup);
    }
    let hash = admin.hasher.hash(secret, admin.app().engine.entropy().clone()).await?;
    let name = args.name;
    let user = admin.accounts.with(move |all| all.set_up(&token, &name, &hash, now)).await?;
    admin.guard().record_success(one);
    let principal =
        Principal { name: user.name, role: user.role, auth_method: AuthMethod::Session };
    begin(&context, user.id, user.generation, principal)
}

/// Begins a session with a new ID, and ends the session of the request if there was one.
pub(super) fn begin(
    context: &Context,
    user: i64,
    generation: i64,
    principal: Principal,
) -> Result<WithCookies<Me>, AdminError> {
    let (admin, now) = (&context.admin, context.app().clock.now());
    if let Some(old) = &context.session {
        admin.sessions.end(old);
    }
    let id = admin.sessions.begin(user, generation, &**admin.app().engine.entropy(), now)?;
    let csrf = Some(admin.forms.token(id.expose()));
    let me =
        Me { name: principal.name, role: principal.role, auth_method: AuthMethod::Session, csrf };
    let cookies: [Option<HeaderValue>; 2] =
        [cookies::set(SESSION, id.expose(), context.https), cookies::remove(BEFORE, context.https)];
    Ok(WithCookies(me, cookies.into_iter().flatten().collect()))
}

/// Logs out.
pub(super) async fn log_out(context: Context, _: Nothing) -> Result<WithCookies<Done>, AdminError> {
    if let Some(session) = &context.session {
        context.log(context.entry("logout", &context.principal()?.name)?).await?;
        context.admin.sessions.end(session);
    }
    let cookies = cookies::remove(SESSION, context.https).into_iter().collect();
    Ok(WithCookies(Done::YES, cookies))
}

/// Reports who is authenticated.
pub(super) async fn me(context: Context, _: Nothing) -> Result<Me, AdminError> {
    let principal = context.principal()?.clone();
    Ok(Me {
        name: principal.name,
        role: principal.role,
        auth_method: principal.auth_method,
        csrf: context.form_token(),
    })
}

/// Checks a name for an account.
///
/// # Errors
///
/// [`AdminError::BadRequest`] with the characters to use.
pub(super) fn check_name(name: &str) -> Result<(), AdminError> {
    if is_name(name) {
        return Ok(());
    }
    let advice = "name: use 1 to 64 of a-z, 0-9, '.', '_', '@' and '-'";
    Err(AdminError::BadRequest(advice.to_owned()))
}

//! Authentication, the check of roles and CSRF: the only way to a handler; denies by default.

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::Response;
use serde_json::Value;

use super::error::AdminError;
use super::handler::{Context, Input};
use super::identity::{AuthMethod, MAX_NAME, Principal, Role};
use super::log::RefusalKind;
use super::route::{Access, Route};
use super::{SharedAdmin, cookies, csrf};
use fortify_core::circuit::{Connection, PeerAddress};
use fortify_web::form::{self, Fields};

/// The header in which the command line names its operator. Only believed on the unix socket.
const OPERATOR: HeaderName = HeaderName::from_static("x-fortify-operator");

/// The longest body, in bytes; no field of a form is longer than a password.
const MOST_BODY: usize = 32 * 1024;

/// The listener that a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ingress {
    /// The TCP port.
    Port,
    /// The unix socket, whose peer is root or the gate's own user, as the kernel reports.
    Socket,
}

/// Answers a request for `route`: authenticates and authorizes it, and only then calls the handler.
pub(super) async fn answer(
    admin: SharedAdmin,
    ingress: Ingress,
    route: &Route,
    request: Request,
) -> Response {
    let metrics = admin.metrics.clone();
    let count = {
        let admin = admin.clone();
        move |entry: RequestLog| {
            if let Some(what) = entry.refused {
                admin.accounts.refuse(what, admin.app().clock.now());
            }
            metrics.request(entry.code);
        }
    };
    match enter(admin, ingress, route, request).await {
        Ok(mut response) => {
            let entry = response.extensions_mut().remove::<RequestLog>();
            count(entry.unwrap_or(RequestLog { refused: None, code: "ok" }));
            response
        }
        Err(error) => {
            count(RequestLog::of(&error));
            (route.refuse)(error)
        }
    }
}

/// How an answer is counted. A page that explains a refusal carries it in its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLog {
    refused: Option<RefusalKind>,
    code: &'static str,
}

impl RequestLog {
    /// How a refusal is counted.
    pub(super) const fn of(error: &AdminError) -> Self {
        let refused = match error {
            AdminError::BadLogin => Some(RefusalKind::Login),
            AdminError::Wait(_) => Some(RefusalKind::Waiting),
            AdminError::BadSetup => Some(RefusalKind::Setup),
            AdminError::Form => Some(RefusalKind::Form),
            AdminError::Role(_) => Some(RefusalKind::Role),
            _ => None,
        };
        Self { refused, code: error.code() }
    }
}

async fn enter(
    admin: SharedAdmin,
    ingress: Ingress,
    route: &Route,
    request: Request,
) -> Result<Response, AdminError> {
    let (mut parts, body) = request.into_parts();
    let context = context(admin, ingress, &parts).await?;
    match (route.access, &context.asker) {
        (Access::Public | Access::Form, _) => {}
        (Access::Role(_), None) => return Err(AdminError::Unauthenticated),
        (Access::Role(least), Some(principal)) if principal.role < least => {
            return Err(AdminError::Role(least));
        }
        (Access::Role(_), Some(_)) => {}
    }
    let input = input(&context, route, &mut parts, body).await?;
    (route.handler)(context, input).await
}

/// Authenticates a request. An invalid token or cookie is no reason to refuse a public route.
async fn context(
    admin: SharedAdmin,
    ingress: Ingress,
    parts: &Parts,
) -> Result<Context, AdminError> {
    let headers = &parts.headers;
    let peer = parts.extensions.get::<Connection>().map(|connection| connection.peer);
    let source = match &peer {
        Some(PeerAddress::Tcp(address)) => Some(*address),
        _ => None,
    };
    // Only believed from this machine, where a proxy may terminate TLS.
    let https = source.is_some_and(|source| source.is_loopback())
        && headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let app = admin.app();
    let mut context = Context { admin, app, asker: None, session: None, source, https };
    if ingress == Ingress::Socket {
        let name = headers.get(OPERATOR).and_then(|name| str::from_utf8(name.as_bytes()).ok());
        let name = name.filter(|name| (1..=MAX_NAME).contains(&name.len())).unwrap_or("unknown");
        context.asker = Some(Principal {
            name: name.to_owned(),
            role: Role::Admin,
            auth_method: AuthMethod::Socket,
        });
    } else if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        context.asker = by_token(&context, authorization).await?;
    } else if let Some((session, principal)) = by_session(&context, headers).await? {
        context.session = Some(session);
        context.asker = Some(principal);
    }
    Ok(context)
}

async fn by_token(
    context: &Context,
    authorization: &HeaderValue,
) -> Result<Option<Principal>, AdminError> {
    let now = context.app().clock.now();
    let text = authorization.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let found = match text {
        Some(text) => context.admin.accounts.with(move |all| all.token(&text, now)).await?,
        None => None,
    };
    if found.is_none() {
        context.admin.accounts.refuse(RefusalKind::Token, now);
    }
    Ok(found.map(|token| Principal {
        name: format!("token:{}", token.id),
        role: token.role,
        auth_method: AuthMethod::Token,
    }))
}

async fn by_session(
    context: &Context,
    headers: &HeaderMap,
) -> Result<Option<(String, Principal)>, AdminError> {
    let (admin, now) = (&context.admin, context.app().clock.now());
    for id in cookies::values(headers, cookies::SESSION) {
        let Some(session) = admin.sessions.find(&id, now) else { continue };
        let user = admin.accounts.with(move |accounts| accounts.user(session.user)).await?;
        match user.filter(|user| user.generation == session.generation) {
            Some(user) => {
                let principal = Principal {
                    name: user.name,
                    role: user.role,
                    auth_method: AuthMethod::Session,
                };
                return Ok(Some((id, principal)));
            }
            // The account was removed, or its password, codes or role changed, perhaps by the command line.
            None => admin.sessions.end(&id),
        }
    }
    Ok(None)
}

/// Reads the arguments. If a cookie authenticates the request, also checks that one of our pages sent it.
async fn input(
    context: &Context,
    route: &Route,
    parts: &mut Parts,
    body: Body,
) -> Result<Input, AdminError> {
    let path = RawPathParams::from_request_parts(parts, &()).await;
    let path = path.map_err(|error| AdminError::BadRequest(error.body_text()))?;
    let path = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut input = Input { path, ..Input::default() };
    if route.method == Method::GET {
        let query = parts.uri.query().unwrap_or_default();
        input.fields = fields(query.as_bytes())?;
        return Ok(input);
    }
    let body = form::read_body(body, MOST_BODY).await.map_err(|error| match error {
        form::BodyError::TooLarge => AdminError::TooLarge,
        form::BodyError::Broken | form::BodyError::TooSlow => {
            AdminError::BadRequest("the body ended early; send it again".to_owned())
        }
    })?;
    let headers = &parts.headers;
    let mut token =
        headers.get(csrf::HEADER).and_then(|token| token.to_str().ok()).map(str::to_owned);
    let is_json = form::is_json(headers);
    if is_json {
        input.json = match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Some(fields),
            Ok(_) => {
                return Err(AdminError::BadRequest("the body is not a JSON object".to_owned()));
            }
            Err(error) => {
                return Err(AdminError::BadRequest(format!("the body is not JSON: {error}")));
            }
        };
    } else if form::is_urlencoded(headers) {
        input.fields = fields(&body)?;
        let at = input.fields.iter().position(|(name, _)| name == csrf::FIELD);
        if let Some((_, value)) = at.map(|at| input.fields.remove(at)) {
            token = Some(value);
        }
    } else if !body.is_empty() {
        let advice = "send application/json or application/x-www-form-urlencoded";
        return Err(AdminError::BadRequest(advice.to_owned()));
    }
    let goes_with = |cookie: &str| {
        token.as_ref().is_some_and(|token| context.admin.forms.is_right(cookie, token))
    };
    let intended = match (&context.session, route.access) {
        (Some(session), Access::Role(_)) => goes_with(session),
        // Authenticated by a token or the socket, which another site's page cannot use.
        (None, Access::Role(_)) | (_, Access::Public) => true,
        // A browser sends JSON for another site's page only after a preflight request, which is not answered.
        (_, Access::Form) if is_json => true,
        (_, Access::Form) => {
            cookies::values(headers, cookies::BEFORE).iter().any(|cookie| goes_with(cookie))
        }
    };
    if intended { Ok(input) } else { Err(AdminError::Form) }
}

fn fields(text: &[u8]) -> Result<Fields, AdminError> {
    let unreadable = "the fields cannot be read; use UTF-8 without control characters";
    form::parse(text).ok_or_else(|| AdminError::BadRequest(unreadable.to_owned()))
}

//! Turns a request into an operation's arguments, and its result into an answer.
//!
//! An operation is a function from a [`Context`] and a struct of arguments to a struct of results. The OpenAPI
//! document has the schemas of both structs. Arguments come from the path, from the query of a GET, and from the
//! body of a POST, which is JSON or a form.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::SharedAdmin;
use super::error::AdminError;
use super::identity::{AuthMethod, Principal};
use super::response::json;
use fortify_engine::operator::Reach;
use fortify_web::app::{App, SharedApp};

/// The reason in the audit's second entry of a change that the other nodes were not told of.
const AT_THIS_NODE: &str = "in force at this node only: the store does not answer";

/// The context of a request, which every operation gets.
#[derive(Clone)]
pub struct Context {
    /// The admin interface.
    pub admin: SharedAdmin,
    /// The gate, with the configuration at the time of the request.
    pub app: SharedApp,
    /// The authenticated user; `None` on public routes.
    pub asker: Option<Principal>,
    /// The value of the session cookie, if it authenticates the request.
    pub session: Option<String>,
    /// The peer's address; `None` on the unix socket.
    pub source: Option<IpAddr>,
    /// Whether to set cookies with `Secure`.
    pub https: bool,
}

impl Context {
    /// The authenticated user.
    ///
    /// # Errors
    ///
    /// [`AdminError::Unauthenticated`] if there is none.
    pub fn principal(&self) -> Result<&Principal, AdminError> {
        self.asker.as_ref().ok_or(AdminError::Unauthenticated)
    }

    /// The gate of the request.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Whether circuits may be named by address: only on the unix socket, whose users can read the gate's files
    /// anyway.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.asker.as_ref().is_some_and(|principal| principal.auth_method == AuthMethod::Socket)
    }

    /// The CSRF token for forms of this session.
    #[must_use]
    pub fn form_token(&self) -> Option<String> {
        self.session.as_ref().map(|session| self.admin.forms.token(session))
    }

    /// Records a change in the audit, before it is made.
    ///
    /// # Errors
    ///
    /// If that fails; the change must not be made then.
    pub async fn log(&self, entry: super::log::Entry) -> Result<(), AdminError> {
        self.admin.accounts.with(move |accounts| accounts.log(&entry)).await?;
        Ok(())
    }

    /// How far a change reaches that was just made. That it does not reach the other nodes yet is in the audit too.
    pub async fn reach(&self, action: &str, target: &str) -> Reach {
        let reach = self.app().engine.reach().await;
        if reach == Reach::Node {
            tracing::warn!(
                action,
                "a change is in force at this node only; the others are told when the store answers"
            );
            let entry = self.entry(action, target).map(|entry| entry.because(AT_THIS_NODE));
            let logged = async { self.log(entry?).await };
            if let Err(error) = logged.await {
                tracing::warn!(%error, "the audit does not say so");
            }
        }
        reach
    }

    /// An audit entry for a change made now.
    ///
    /// # Errors
    ///
    /// As [`Self::principal`].
    pub fn entry(&self, action: &str, target: &str) -> Result<super::log::Entry, AdminError> {
        Ok(super::log::Entry::new(self.principal()?, self.app().clock.now(), action, target))
    }
}

/// The arguments of a request, before they are typed.
#[derive(Default)]
pub struct Input {
    /// The arguments in the path, by name.
    pub path: Vec<(String, String)>,
    /// The query of a GET, or the fields of a form.
    pub fields: Vec<(String, String)>,
    /// The fields of a JSON body.
    pub json: Option<Map<String, Value>>,
}

/// A future answer.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response, AdminError>> + Send>>;

/// Answers an authorized request.
pub type Handler = Arc<dyn Fn(Context, Input) -> Answer + Send + Sync>;

/// Generates the schema of a type.
pub type Describe = fn(&mut SchemaGenerator) -> Schema;

/// A handler with the schemas of its arguments and its result.
pub struct Operation {
    /// The handler.
    pub handler: Handler,
    /// The schema of the arguments.
    pub takes: Describe,
    /// The schema of the result; `None` if it is not JSON.
    pub gives: Option<Describe>,
}

/// For operations without arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// A result, and cookies to set.
pub struct WithCookies<R>(pub R, pub Vec<HeaderValue>);

/// Wraps a function whose result is sent as JSON.
pub(super) fn operation<A, R, F, Fut>(work: F) -> Operation
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    R: Serialize + JsonSchema + 'static,
    F: Fn(Context, A) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, AdminError>> + Send,
{
    with_cookies(move |context, args| {
        let done = work(context, args);
        async { Ok(WithCookies(done.await?, Vec::new())) }
    })
}

/// As [`operation`], for functions that set cookies.
pub(super) fn with_cookies<A, R, F, Fut>(work: F) -> Operation
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    R: Serialize + JsonSchema + 'static,
    F: Fn(Context, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<WithCookies<R>, AdminError>> + Send,
{
    let described = raw(work, |WithCookies(body, cookies): WithCookies<R>| {
        let mut response = json(StatusCode::OK, &body);
        for cookie in cookies {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    });
    Operation { gives: Some(|generator| generator.subschema_for::<R>()), ..described }
}

/// Wraps a function whose result `write` turns into an answer, such as the pages of the dashboard.
pub fn raw<A, R, F, Fut>(work: F, write: fn(R) -> Response) -> Operation
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    R: 'static,
    F: Fn(Context, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, AdminError>> + Send,
{
    let properties = properties::<A>();
    let work = Arc::new(work);
    Operation {
        handler: Arc::new(move |context, input| {
            let (args, work) = (read::<A>(input, &properties), work.clone());
            Box::pin(async move { Ok(write(work(context, args?).await?)) })
        }),
        takes: |generator| generator.subschema_for::<A>(),
        gives: None,
    }
}

/// The properties in a type's schema, by name.
fn properties<A: JsonSchema>() -> Value {
    let schema = SchemaGenerator::default().into_root_schema_for::<A>();
    schema.get("properties").cloned().unwrap_or_default()
}

fn read<A: DeserializeOwned>(input: Input, properties: &Value) -> Result<A, AdminError> {
    let mut all = input.json.unwrap_or_default();
    for (name, text) in input.path.into_iter().chain(input.fields) {
        let value = typed(properties.get(&name), text);
        if all.insert(name.clone(), value).is_some() {
            return Err(AdminError::BadRequest(format!("{name:?} is given twice; give it once")));
        }
    }
    serde_json::from_value(Value::Object(all)).map_err(|error| {
        AdminError::BadRequest(format!("{error}; /admin/api/v1/openapi.json lists the arguments"))
    })
}

/// Converts a text from a path, a query or a form to the type in the schema.
fn typed(schema: Option<&Value>, text: String) -> Value {
    let kind = schema.and_then(|schema| schema.get("type"));
    let is = |name: &str| match kind {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    };
    let optional = is("null") || schema.is_some_and(|schema| schema.get("anyOf").is_some());
    if optional && text.is_empty() {
        // An empty field of a form.
        return Value::Null;
    }
    let parsed = match text.as_str() {
        "true" | "on" if is("boolean") => Some(Value::Bool(true)),
        "false" if is("boolean") => Some(Value::Bool(false)),
        digits if is("integer") => digits.parse::<i64>().ok().map(Value::from),
        _ => None,
    };
    parsed.unwrap_or(Value::String(text))
}

/// Checks a line of text, such as a reason or a label.
///
/// # Errors
///
/// [`AdminError::BadRequest`] if it has control characters or is too long.
pub(super) fn line(what: &str, text: &str) -> Result<String, AdminError> {
    let text = text.trim();
    let most = super::log::MAX_TEXT;
    if text.len() > most || text.chars().any(char::is_control) {
        let advice = format!("{what}: use one line of at most {most} bytes");
        return Err(AdminError::BadRequest(advice));
    }
    Ok(text.to_owned())
}

/// Checks a reason, which must not be empty.
///
/// # Errors
///
/// As [`line`].
pub(super) fn reason(text: &str) -> Result<String, AdminError> {
    let text = line("reason", text)?;
    if text.is_empty() {
        return Err(AdminError::BadRequest("reason: say why in a few words".to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Args {
        name: String,
        level: u8,
        seconds: Option<u64>,
        on: Option<bool>,
    }

    fn read_fields(fields: &[(&str, &str)]) -> Result<Args, AdminError> {
        let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let input = Input { fields: fields.iter().map(own).collect(), ..Input::default() };
        read(input, &properties::<Args>())
    }

    #[test]
    fn texts_are_converted_to_the_types_of_the_schema() {
        let args = [("name", "7"), ("level", "7"), ("seconds", ""), ("on", "true")];
        let expected = Args { name: "7".to_owned(), level: 7, seconds: None, on: Some(true) };
        assert_eq!(read_fields(&args).unwrap(), expected);
        for bad in [
            &[("name", "x"), ("level", "300")][..],
            &[("name", "x"), ("level", "7x")],
            &[("name", "x"), ("level", "7"), ("more", "1")],
            &[("name", "x"), ("name", "y"), ("level", "7")],
            &[("level", "7")],
        ] {
            assert!(matches!(read_fields(bad), Err(AdminError::BadRequest(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_line_has_no_control_characters() {
        assert_eq!(line("x", " a b ").unwrap(), "a b");
        for text in ["a\r\nb", "a\0b", "a\u{85}b", &"x".repeat(501)] {
            assert!(line("x", text).is_err());
        }
        assert!(reason("  ").is_err());
    }
}

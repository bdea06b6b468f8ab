//! The dashboard's two cookies: reading, setting and removing them.

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, SameSite};

/// The session cookie. Its path is the dashboard's, because browsers send cookies to every port of a host and
/// the protected site must not receive this one.
pub(super) const SESSION: &str = "fortify_admin";
/// The cookie that a form before log-in is bound to.
pub(super) const BEFORE: &str = "fortify_admin_form";
const COOKIE_PATH: &str = "/admin";

/// Cookies of one name that are examined: an attacker may have planted one beside ours.
const MOST_COOKIES: usize = 4;

/// The values of all cookies called `name`, at most [`MOST_COOKIES`].
pub(super) fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let pairs = headers.get_all(header::COOKIE).into_iter();
    let pairs = pairs.flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    let values = pairs.filter_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        str::from_utf8(value).ok().map(str::to_owned)
    });
    values.take(MOST_COOKIES).collect()
}

/// A `Set-Cookie` header whose cookie lasts until the browser is closed.
pub(super) fn set(name: &str, value: &str, https: bool) -> Option<HeaderValue> {
    write(Cookie::build((name, value)), https)
}

/// A `Set-Cookie` header that removes a cookie.
pub(super) fn remove(name: &str, https: bool) -> Option<HeaderValue> {
    write(Cookie::build((name, "")).max_age(cookie::time::Duration::ZERO), https)
}

fn write(cookie: cookie::CookieBuilder<'_>, https: bool) -> Option<HeaderValue> {
    let cookie =
        cookie.path(COOKIE_PATH).http_only(true).same_site(SameSite::Strict).secure(https).build();
    HeaderValue::from_str(&cookie.to_string()).ok()
}

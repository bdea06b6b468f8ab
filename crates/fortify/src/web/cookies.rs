//! The two cookies of this gate.
//!
//! `cerberus_session` holds the session and is never sent on a request that another site caused.
//! `cerberus_hint` holds nothing worth stealing: it tells a browser that keeps cookies from one
//! that does not, and a visitor who probably has a session from one who has none.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, SameSite};

use crate::proxy::OUR_COOKIES;

/// The session's cookie; the names are the proxy's, which keeps both from the service behind.
pub const SESSION: &str = OUR_COOKIES[0];
/// The hint's cookie.
pub const HINT: &str = OUR_COOKIES[1];

/// Bytes of `Cookie` headers that are looked at; a request may have as many as the server takes.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// What the hint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A challenge was shown: the browser keeps cookies.
    Seen,
    /// A session was issued.
    Member,
}

/// What a request's cookies say.
#[derive(Clone, Default)]
pub struct Cookies {
    /// The text of the session, unless there is none or more than one.
    pub session: Option<String>,
    /// The hint.
    pub hint: Option<Hint>,
}

impl Cookies {
    /// Reads the request's cookies.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut cookies = Self::default();
        let mut sessions = 0;
        let mut budget = MAX_HEADER_BYTES;
        for value in headers.get_all(header::COOKIE) {
            let Some(rest) = budget.checked_sub(value.len()) else { break };
            budget = rest;
            for cookie in Cookie::split_parse(value.to_str().unwrap_or_default()).flatten() {
                match cookie.name() {
                    SESSION => {
                        sessions += 1;
                        cookies.session = Some(cookie.value().to_owned());
                    }
                    HINT if cookie.value() == "member" => cookies.hint = Some(Hint::Member),
                    HINT => cookies.hint = Some(cookies.hint.unwrap_or(Hint::Seen)),
                    _ => {}
                }
            }
        }
        // Which of two the visitor means cannot be told, and a stranger may have planted one.
        cookies.session = cookies.session.filter(|_| sessions == 1);
        cookies
    }
}

/// Writes our cookies for one visitor.
#[derive(Clone, Copy, Debug)]
pub struct Jar {
    /// Whether they get the `Secure` attribute.
    pub secure: bool,
    /// How long a session lasts.
    pub lifetime: Duration,
}

impl Jar {
    /// The cookie that is the session.
    #[must_use]
    pub fn session(&self, token: &str) -> Option<HeaderValue> {
        self.write(SESSION, token, SameSite::Strict, self.lifetime)
    }

    /// The cookie that hints. It is `Lax`, so that it comes along when another site links here.
    #[must_use]
    pub fn hint(&self, hint: Hint) -> Option<HeaderValue> {
        let text = match hint {
            Hint::Seen => "seen",
            Hint::Member => "member",
        };
        self.write(HINT, text, SameSite::Lax, self.lifetime)
    }

    /// The cookies that end a session.
    #[must_use]
    pub fn end(&self) -> [Option<HeaderValue>; 2] {
        [
            self.write(SESSION, "", SameSite::Strict, Duration::ZERO),
            self.write(HINT, "seen", SameSite::Lax, self.lifetime),
        ]
    }

    fn write(
        self,
        name: &str,
        value: &str,
        same_site: SameSite,
        max_age: Duration,
    ) -> Option<HeaderValue> {
        let cookie = Cookie::build((name, value))
            .path("/")
            .http_only(true)
            .same_site(same_site)
            .secure(self.secure)
            .max_age(max_age.try_into().ok()?)
            .build();
        HeaderValue::from_str(&cookie.to_string()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cookie: &str) -> Cookies {
        let value = HeaderValue::from_bytes(cookie.as_bytes()).unwrap();
        Cookies::of(&HeaderMap::from_iter([(header::COOKIE, value)]))
    }

    #[test]
    fn the_session_cookie_has_every_guard() {
        let jar = Jar { secure: true, lifetime: Duration::from_secs(3600) };
        let text = jar.session("a.b.c").unwrap();
        assert_eq!(
            text.to_str().unwrap(),
            "cerberus_session=a.b.c; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=3600"
        );
        let plain = Jar { secure: false, ..jar };
        assert!(!plain.session("a").unwrap().to_str().unwrap().contains("Secure"));
    }

    #[test]
    fn cookies_are_read_among_others() {
        let cookies = read("a=b; cerberus_session=x.y.z; cerberus_hint=member; c");
        assert_eq!(cookies.session.as_deref(), Some("x.y.z"));
        assert_eq!(cookies.hint, Some(Hint::Member));
        assert_eq!(read("cerberus_hint=seen").hint, Some(Hint::Seen));
        assert_eq!(read("").hint, None);
    }

    #[test]
    fn abuse_23_a_cookie_jar_in_disorder_is_no_session() {
        assert_eq!(read("cerberus_session=a; cerberus_session=b").session, None);
        assert_eq!(read("cerberus_session=a; cerberus_session=a").session, None);
        assert_eq!(read("Cerberus_Session=a").session, None);
        assert_eq!(read(&format!("x={}; cerberus_session=a", "y".repeat(20_000))).session, None);
        let _odd_bytes_are_no_panic = read("cerberus_session=\u{e9}\u{e9}; =; ;;;==");
    }
}

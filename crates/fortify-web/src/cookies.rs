//! The cookies of this gate.
//!
//! `cerberus_session` holds the session and is never sent on a request that another site caused.
//! `cerberus_hint` holds nothing worth stealing: it tells a browser that keeps cookies from one
//! that does not, and a visitor who probably has a session from one who has none.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, SameSite};

use fortify_engine::MAX_STAGE_COOKIES;
use fortify_engine::client::Credentials;
use fortify_http::proxy::OUR_COOKIES;
use fortify_store::record::ChallengeToken;

/// The session's cookie; the names are the proxy's, which keeps both from the service behind.
pub const SESSION: &str = OUR_COOKIES[0];
/// The hint's cookie.
pub const HINT: &str = OUR_COOKIES[1];

/// The cookies of stages that were passed, in their order.
pub const STAGES: [&str; MAX_STAGE_COOKIES] = [OUR_COOKIES[2], OUR_COOKIES[3]];

/// Sessions of one request whose signature is tried: the first eight and the last eight that look like
/// one. Another site, or a page of the service, can plant cookies of the same name before or after
/// ours; the right one among them is found by its signature.
const MAX_SESSIONS: usize = 16;

/// The longest text that is tried, in bytes; an issued session has about 330.
const MAX_SESSION_BYTES: usize = 1024;

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
    /// The sessions, at most sixteen, and the stages.
    pub credentials: Credentials,
    /// The hint.
    pub hint: Option<Hint>,
}

/// Separates the hint from the token of the challenge that the browser shows.
const OF_CHALLENGE: u8 = b'.';

impl Cookies {
    /// Reads the request's cookies. Read as bytes: the service behind the gate may set cookies that
    /// are no text, and they come along with ours.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut cookies = Self::default();
        for header in headers.get_all(header::COOKIE) {
            for pair in header.as_bytes().split(|byte| *byte == b';') {
                cookies.read(pair.trim_ascii());
            }
        }
        cookies
    }

    fn read(&mut self, pair: &[u8]) {
        for (name, stage) in STAGES.into_iter().zip(&mut self.credentials.stages) {
            let text = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            if let Some(Ok(text)) = text.map(str::from_utf8) {
                *stage = Some(text.to_owned());
            }
        }
        let session =
            pair.strip_prefix(SESSION.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        let hint = pair.strip_prefix(HINT.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        match (session.map(str::from_utf8), hint) {
            (Some(Ok(text)), _) if looks_like_session(text) => {
                let sessions = &mut self.credentials.sessions;
                if sessions.len() == MAX_SESSIONS {
                    sessions.remove(MAX_SESSIONS / 2);
                }
                sessions.push(text.to_owned());
            }
            (_, Some(b"member")) => self.hint = Some(Hint::Member),
            (_, Some(text)) => {
                self.hint = self.hint.or(Some(Hint::Seen));
                let token = text.splitn(2, |byte| *byte == OF_CHALLENGE).nth(1);
                if let Some(Ok(token)) = token.map(str::from_utf8) {
                    self.credentials.challenge = Some(token.to_owned());
                }
            }
            _ => {}
        }
    }
}

/// Whether a text may be a session: it has three parts. What is in them the signature tells.
fn looks_like_session(text: &str) -> bool {
    let mut parts = text.splitn(4, '.');
    let three = [parts.next(), parts.next(), parts.next()];
    let are_parts = three.iter().all(|part| part.is_some_and(|part| !part.is_empty()));
    are_parts && parts.next().is_none() && text.len() <= MAX_SESSION_BYTES
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

    /// The cookie that hints that the challenge `token` was shown, for a visitor at an address that others may share: its
    /// tabs are told from those of others by it.
    #[must_use]
    pub fn shown(&self, token: &ChallengeToken) -> Option<HeaderValue> {
        let text = format!("seen{}{}", char::from(OF_CHALLENGE), token.encode());
        self.write(HINT, &text, SameSite::Lax, self.lifetime)
    }

    /// The cookie of a stage that was passed, from 1 on; `None` for one that has none.
    #[must_use]
    pub fn stage(&self, stage: u8, text: &str, lifetime: Duration) -> Option<HeaderValue> {
        let name = STAGES.get(usize::from(stage).checked_sub(1)?)?;
        self.write(name, text, SameSite::Strict, lifetime)
    }

    /// The cookies that take the stages back.
    #[must_use]
    pub fn no_stages(&self) -> [Option<HeaderValue>; STAGES.len()] {
        STAGES.map(|name| self.write(name, "", SameSite::Strict, Duration::ZERO))
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
        let cookies = read("a=b; cerberus_session=x.y.z;cerberus_hint=member; c");
        assert_eq!(cookies.credentials.sessions, ["x.y.z"]);
        assert_eq!(cookies.hint, Some(Hint::Member));
        assert_eq!(read("cerberus_hint=seen").hint, Some(Hint::Seen));
        let shown = read("cerberus_hint=seen.abc");
        assert_eq!(
            (shown.hint, shown.credentials.challenge),
            (Some(Hint::Seen), Some("abc".to_owned()))
        );
        assert_eq!(read("cerberus_hint=member; cerberus_hint=x").hint, Some(Hint::Member));
        assert_eq!(read("").hint, None);
        assert!(
            read("Cerberus_Session=a; cerberus_sessions=b; cerberus_session")
                .credentials
                .sessions
                .is_empty()
        );
    }

    #[test]
    fn abuse_23_a_strange_cookie_does_not_hide_ours() {
        for strange in ["city=Z\u{fc}rich", "\u{e9}\u{e9}", "=", ";;;==", "a=\"x;y\""] {
            let cookies = read(&format!("{strange}; cerberus_session=a.b.c; cerberus_hint=seen"));
            assert_eq!(cookies.credentials.sessions, ["a.b.c"], "{strange}");
            assert_eq!(cookies.hint, Some(Hint::Seen), "{strange}");
        }
        assert!(read("cerberus_session=\u{e9}").credentials.sessions.len() <= 1);
    }

    #[test]
    fn abuse_23_planted_sessions_are_few() {
        for (junk, tried) in [("x", 0), ("x.y", 0), ("x..z", 0), ("x.y.z", MAX_SESSIONS)] {
            let many = vec![format!("cerberus_session={junk}"); 1_000].join(";");
            assert_eq!(read(&many).credentials.sessions.len(), tried, "{junk}");
        }
    }

    #[test]
    fn abuse_23_planted_sessions_before_or_after_ours_do_not_hide_it() {
        for (before, after) in [(0, 1_000), (7, 1_000), (1_000, 7), (1_000, 0)] {
            let planted = |count| vec!["cerberus_session=x.y.z"; count];
            let ours = vec!["cerberus_session=a.b.c"];
            let all = [planted(before), ours, planted(after)].concat().join("; ");
            let sessions = read(&all).credentials.sessions;
            assert!(sessions.iter().any(|text| text == "a.b.c"), "{before} before, {after} after");
        }
    }
}

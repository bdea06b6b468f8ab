//! What pages share: head, navigation and security policy, and numbers and times as text.

use std::borrow::Borrow;
use std::sync::LazyLock;

use askama::Template;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::answer_of;
use crate::access::RequestLog;
use crate::error::AdminError;
use crate::handler::Context;
use crate::identity::{Principal, Role};
use fortify_core::clock::Timestamp;
use fortify_engine::behaviour::Class;
use fortify_engine::operator::Reach;

/// The style sheet, inlined in every page to save a round trip through Tor.
pub(super) const STYLE: &str = include_str!("../../templates/style.css");

/// The content security policy: only our own pictures are loaded, no script runs, and forms are only sent to us.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; img-src 'self' data:; style-src 'sha256-{style}'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    )
});

/// The frame of a page.
pub(super) struct Shell {
    /// The heading.
    pub(super) title: &'static str,
    /// The page's path, for the navigation.
    pub(super) path: &'static str,
    /// The user; `None` before log-in.
    pub(super) principal: Option<Principal>,
    /// The error message.
    pub(super) alert: Option<String>,
    /// The message after a successful change.
    pub(super) done: Option<&'static str>,
    /// Whether changes are in force at this node only, because the store does not answer.
    pub(super) at_this_node: bool,
    /// The content of the `refresh` header, if the page reloads itself.
    pub(super) refresh: Option<String>,
    token: Option<String>,
}

impl Shell {
    /// The frame of a page for the user; `done` is the keyword in its address.
    pub(super) fn new(
        context: &Context,
        path: &'static str,
        title: &'static str,
        done: Option<&str>,
        alert: Option<&AdminError>,
    ) -> Self {
        Self {
            title,
            path,
            principal: context.asker.clone(),
            alert: alert.map(ToString::to_string),
            done: done.filter(|_| alert.is_none()).and_then(done_text),
            at_this_node: context.app().engine.reach_now() == Reach::Node,
            refresh: None,
            token: context.form_token(),
        }
    }

    /// The frame of a page before log-in.
    pub(super) fn outside(title: &'static str, alert: Option<String>, done: Option<&str>) -> Self {
        let done = done.and_then(done_text);
        Self {
            title,
            path: "",
            principal: None,
            alert,
            done,
            at_this_node: false,
            refresh: None,
            token: None,
        }
    }

    /// The pages that the user may open.
    pub(super) fn pages(&self) -> Vec<(&'static str, &'static str)> {
        let mut pages = vec![
            ("/admin", "Overview"),
            ("/admin/dial", "Dial"),
            ("/admin/circuits", "Circuits"),
            ("/admin/challenges", "Challenges"),
            ("/admin/behaviour", "Behaviour"),
            ("/admin/maintenance", "Maintenance"),
            ("/admin/audit", "Audit"),
            ("/admin/config", "Configuration"),
        ];
        if self.is_at_least(Role::Admin) {
            pages.push(("/admin/users", "Users"));
        }
        pages
    }

    /// Whether the user may set the threat level and change circuits.
    pub(super) fn operates(&self) -> bool {
        self.is_at_least(Role::Operator)
    }

    fn is_at_least(&self, role: Role) -> bool {
        self.principal.as_ref().is_some_and(|principal| principal.role >= role)
    }

    /// Binds the page's forms to a session that has just begun.
    pub(super) fn renew(&mut self, token: String) {
        self.token = Some(token);
    }

    /// The hidden field of a form. Hexadecimal digits: nothing to escape.
    pub(super) fn csrf(&self) -> String {
        let token = self.token.as_deref().unwrap_or_default();
        format!("<input type=\"hidden\" name=\"csrf\" value=\"{token}\">")
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    shell: Shell,
    text: &'a str,
    link: (&'a str, &'a str),
}

/// A page with a sentence and a link.
pub(super) fn message(title: &'static str, text: &str, link: (&str, &str)) -> Response {
    html(&Message { shell: Shell::outside(title, None, None), text, link })
}

/// Renders a page.
pub(super) fn html(template: &impl Template) -> Response {
    let Ok(body) = template.render() else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, html);
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Gives a page the status and headers of the refusal that it explains, so that it is counted as one.
pub(super) fn because(mut page: Response, error: AdminError) -> Response {
    page.extensions_mut().insert(RequestLog::of(&error));
    let (status, headers) = answer_of(error);
    *page.status_mut() = status;
    page.headers_mut().extend(headers);
    page
}

/// Renders a page; with the status of `error` if there is one.
pub(super) fn html_because(template: &impl Template, error: Option<AdminError>) -> Response {
    let page = html(template);
    match error {
        Some(error) => because(page, error),
        None => page,
    }
}

/// Redirects to one of our pages, which shows the message for `done`.
pub(super) fn go(to: &str, done: Option<&str>) -> Response {
    let to = match done {
        Some(done) => format!("{to}?done={done}"),
        None => to.to_owned(),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(to) = HeaderValue::from_str(&to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// Adds cookies to an answer.
pub(super) fn with_cookies(mut response: Response, cookies: Vec<HeaderValue>) -> Response {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// The message for a keyword in an address. Only these exist, so that a link cannot make us show other text.
fn done_text(word: &str) -> Option<&'static str> {
    Some(match word {
        "logout" => "You are logged out.",
        "setup" => "The account is made. Consider turning on one-time codes.",
        "password" => "The password is changed; other sessions of the account have ended.",
        "codes-off" => "One-time codes are off.",
        "set" => "The dial is turned. Visitors get the new level from now on.",
        "pin" => "The dial is pinned.",
        "auto" => "The threat level is under automatic control.",
        "maintenance-on" => "Visitors are told that the site is being worked on.",
        "maintenance-off" => "Visitors are let in again.",
        "ban" => "The circuit is banned.",
        "promote" => "The circuit is trusted.",
        "reset" => "The circuit is normal again.",
        "kill" => "Tor closed the circuit.",
        "gone" => "Tor no longer had the circuit.",
        "flush" => "The circuits are normal again.",
        "flush-more" => "10,000 circuits are normal again, and there are more: repeat this.",
        "revoke" => "The session has ended.",
        "account" => "The account is made.",
        "role" => "The role is changed; the account's sessions have ended.",
        "remove" => "The account is removed.",
        "token" => "The token is revoked.",
        _ => return None,
    })
}

/// A time as `2027-01-15 08:00:00`, UTC.
pub(super) fn utc(at: Timestamp) -> String {
    let seconds = at.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days since 1970 that are not negative.
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let part = (5 * of_year + 2) / 153;
    let day = of_year - (153 * part + 2) / 5 + 1;
    let month = if part < 10 { part + 3 } else { part - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// As [`utc`], or a dash.
pub(super) fn utc_or_dash(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "–".to_owned(), utc)
}

/// A duration in its two largest units.
pub(super) fn span(seconds: impl Borrow<u64>) -> String {
    let seconds = *seconds.borrow();
    let two = |a: u64, large, b: u64, small| match b {
        0 => format!("{a} {large}"),
        _ => format!("{a} {large} {b} {small}"),
    };
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..=86_399 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// A number with commas as thousands separators.
pub(super) fn number(number: impl Borrow<u64>) -> String {
    let digits = number.borrow().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with one decimal; without if it is 100 or more, or whole.
pub(super) fn tenth(number: impl Into<f64>) -> String {
    // Turns -0 into 0.
    let number = (number.into() * 10.0).round() / 10.0 + 0.0;
    if number.abs() >= 100.0 || number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.1}")
    }
}

/// Who changed the threat level, from its form in the file.
pub(super) fn by(by: &str) -> String {
    match by.strip_prefix("store:") {
        Some(author) => format!("{}, at another node", self::by(author)),
        None => by.strip_prefix("operator:").unwrap_or(by).to_owned(),
    }
}

/// A share in percent, or a dash if the whole is 0.
pub(super) fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{:.0} %", part as f64 * 100.0 / whole as f64),
    }
}

/// A class in words.
pub(super) const fn class_words(class: &Class) -> &'static str {
    match class {
        Class::Probing => "looking for weak places",
        Class::CredentialStuffing => "trying names and passwords",
        Class::SlowDrip => "holding connections",
        Class::Flood => "a flood",
        Class::ChallengeFarming => "collecting challenges",
        Class::Scraping => "copying the service",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_agree_with_the_calendar() {
        // date -u -d @N '+%F %T'
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_800_000_000, "2027-01-15 08:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(Timestamp::from_secs(seconds)), text);
        }
        assert!(!utc(Timestamp::from_millis(u64::MAX)).is_empty());
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        let spans = [0_u64, 59, 60, 61, 3600, 3661, 90_000].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min", "1 min 1 s", "1 h", "1 h 1 min", "1 d 1 h"]);
        assert_eq!((percent(1, 0), percent(1, 3)), ("–".to_owned(), "33 %".to_owned()));
        assert_eq!([-0.0, 0.26, 3.0, 1234.4].map(tenth), ["0", "0.3", "3", "1234"]);
    }
}

//! Whether a client reads pages or JSON.

use axum::http::{HeaderMap, HeaderName, header};

/// What a browser wants a response for: a page, or something that a page loads.
pub(super) const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The kind of answer that a client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// HTML: a person in a browser.
    Page,
    /// JSON: a program.
    Json,
}

impl Wants {
    /// By the address, and for the others by what the browser says: a page's script, or `Accept`.
    ///
    /// The addresses for programs answer in JSON whatever `Accept` says, but for the log-out, which a page without
    /// scripts has as a form.
    #[must_use]
    pub fn of(path: &str, headers: &HeaderMap) -> Self {
        let program = matches!(
            path,
            "/verify-captcha"
                | "/captcha/generate"
                | "/api/captcha-image"
                | "/api/status"
                | "/api/session"
        );
        let api = path.starts_with("/api/");
        let script = headers.get(SEC_FETCH_DEST).is_some_and(|dest| dest.as_bytes() == b"empty");
        let accept =
            headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if program || script || api && !accept.contains("text/html") || prefers_json(accept) {
            Self::Json
        } else {
            Self::Page
        }
    }
}

fn prefers_json(accept: &str) -> bool {
    accept.contains("application/json") && !accept.contains("text/html")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_program_gets_json_and_a_browser_a_page() {
        let accept = |value: &'static str| {
            HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
        };
        assert_eq!(Wants::of("/x", &HeaderMap::new()), Wants::Page);
        assert_eq!(Wants::of("/x", &accept("text/html,application/xhtml+xml")), Wants::Page);
        assert_eq!(Wants::of("/x", &accept("application/json")), Wants::Json);
        assert_eq!(Wants::of("/x", &accept("text/html, application/json")), Wants::Page);
        assert_eq!(Wants::of("/verify-captcha", &HeaderMap::new()), Wants::Json);
        for ours in ["/api/session", "/api/captcha-image", "/verify-captcha"] {
            assert_eq!(Wants::of(ours, &accept("text/html")), Wants::Json, "{ours}");
        }
        assert_eq!(Wants::of("/api/session/logout", &accept("text/html")), Wants::Page);
        assert_eq!(Wants::of("/api/of-the-service", &accept("text/html")), Wants::Page);
        let mut script = accept("*/*");
        script.insert(SEC_FETCH_DEST, HeaderValue::from_static("empty"));
        assert_eq!(Wants::of("/x", &script), Wants::Json);
    }
}

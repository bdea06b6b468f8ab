//! Whether a client reads pages or JSON.

use axum::http::{HeaderMap, header};

/// The kind of answer that a client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// HTML: a person in a browser.
    Page,
    /// JSON: a program.
    Json,
}

impl Wants {
    /// By the address, and for the others by `Accept`.
    #[must_use]
    pub fn of(path: &str, headers: &HeaderMap) -> Self {
        let api =
            path.starts_with("/api/") || matches!(path, "/verify-captcha" | "/captcha/generate");
        let accept =
            headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if api && !accept.contains("text/html") || prefers_json(accept) {
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
        assert_eq!(Wants::of("/api/session", &accept("text/html")), Wants::Page);
    }
}

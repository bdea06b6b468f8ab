//! Whether a form came from a page of this site.

use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};

/// What browsers call the relation of the page that sends a request to the one that gets it.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether the visitor is led somewhere, or a page loads something.
const SEC_FETCH_MODE: &str = "sec-fetch-mode";

/// Whether the browser says that the request comes from this origin, by `Origin` or by
/// `Sec-Fetch-Site`. Where it says both they must agree; where it says neither the answer is no. `Origin: null` says
/// nothing: a page that sends no referrer has it on its own forms too.
#[must_use]
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    let fetch_site = headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes() == b"same-origin");
    let origin = headers.get(header::ORIGIN).filter(|origin| !is_null(origin)).map(|origin| {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        host.is_some() && origin.to_str().ok().and_then(authority_of) == host
    });
    match (fetch_site, origin) {
        (None, None) => false,
        (said, also) => said.unwrap_or(true) && also.unwrap_or(true),
    }
}

/// Whether the browser says that another site's page sent the request. A request that says nothing,
/// or only `Origin: null`, is not known to be foreign: programs and strict browsers send such.
#[must_use]
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let foreign_site = headers
        .get(SEC_FETCH_SITE)
        .is_some_and(|site| matches!(site.as_bytes(), b"cross-site" | b"same-site"));
    let named = headers.get(header::ORIGIN).is_some_and(|origin| !is_null(origin));
    foreign_site || named && !is_same_origin(headers)
}

/// Whether another site's page makes the browser load something from here, a picture, a frame or a script's request,
/// instead of leading the visitor here.
#[must_use]
pub fn is_embedded_elsewhere(method: &Method, headers: &HeaderMap) -> bool {
    let navigates = match headers.get(SEC_FETCH_MODE) {
        Some(mode) => mode.as_bytes() == b"navigate",
        // An old browser. It names the origin of a form that leads here, and of a script's request, but not of a link.
        None => *method == Method::POST || !headers.contains_key(header::ORIGIN),
    };
    !navigates && is_foreign(headers)
}

fn is_null(origin: &HeaderValue) -> bool {
    origin.as_bytes() == b"null"
}

/// The page of this site that a request came from, as its path and query.
#[must_use]
pub fn referring_page(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let referer: Uri = headers.get(header::REFERER)?.to_str().ok()?.parse().ok()?;
    (referer.authority()?.as_str() == host)
        .then(|| referer.path_and_query().map(ToString::to_string))?
}

/// The host and port of an origin such as `http://site.onion:8080`.
fn authority_of(origin: &str) -> Option<&str> {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?;
    (!authority.is_empty() && !authority.contains(['/', '@', ' '])).then_some(authority)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_a_browser_that_says_so_makes_a_form_ours() {
        const HOST: (&str, &str) = ("host", "site.onion:80");
        let ours: [&[_]; 5] = [
            &[HOST, ("origin", "null"), ("sec-fetch-site", "same-origin")],
            &[HOST, ("origin", "http://site.onion:80")],
            &[HOST, ("origin", "https://site.onion:80")],
            &[HOST, ("sec-fetch-site", "same-origin")],
            &[HOST, ("origin", "http://site.onion:80"), ("sec-fetch-site", "same-origin")],
        ];
        for pairs in ours {
            assert!(is_same_origin(&headers(pairs)), "{pairs:?}");
        }
        let not_ours: [&[_]; 12] = [
            &[HOST],
            &[("origin", "http://site.onion:80")],
            &[HOST, ("origin", "null")],
            &[HOST, ("origin", "http://evil.onion")],
            &[HOST, ("origin", "http://site.onion")],
            &[HOST, ("origin", "http://x@site.onion:80")],
            &[HOST, ("origin", "http://site.onion:80/")],
            &[HOST, ("origin", "")],
            &[HOST, ("sec-fetch-site", "same-site")],
            &[HOST, ("sec-fetch-site", "none")],
            &[HOST, ("origin", "http://site.onion:80"), ("sec-fetch-site", "cross-site")],
            &[HOST, ("origin", "http://evil.onion"), ("sec-fetch-site", "same-origin")],
        ];
        for pairs in not_ours {
            assert!(!is_same_origin(&headers(pairs)), "{pairs:?}");
        }
    }

    #[test]
    fn only_a_browser_that_says_so_makes_a_request_foreign() {
        const HOST: (&str, &str) = ("host", "site.onion");
        let foreign: [&[_]; 4] = [
            &[HOST, ("origin", "http://evil.onion")],
            &[HOST, ("sec-fetch-site", "cross-site")],
            &[HOST, ("sec-fetch-site", "same-site")],
            &[HOST, ("origin", "null"), ("sec-fetch-site", "cross-site")],
        ];
        for pairs in foreign {
            assert!(is_foreign(&headers(pairs)), "{pairs:?}");
        }
        let others: [&[_]; 4] = [
            &[HOST],
            &[HOST, ("origin", "null")],
            &[HOST, ("sec-fetch-site", "none")],
            &[HOST, ("origin", "http://site.onion"), ("sec-fetch-site", "same-origin")],
        ];
        for pairs in others {
            assert!(!is_foreign(&headers(pairs)), "{pairs:?}");
        }
    }

    #[test]
    fn what_another_sites_page_loads_is_told_from_where_it_leads() {
        const ELSEWHERE: (&str, &str) = ("sec-fetch-site", "cross-site");
        let embedded = |method, pairs: &[_]| is_embedded_elsewhere(&method, &headers(pairs));
        for mode in ["no-cors", "cors", "websocket"] {
            assert!(embedded(Method::GET, &[ELSEWHERE, ("sec-fetch-mode", mode)]), "{mode}");
            let own = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", mode)];
            assert!(!embedded(Method::GET, &own), "{mode}");
        }
        let old = [("host", "site.onion"), ("origin", "http://evil.onion")];
        assert!(embedded(Method::GET, &old));
        assert!(!embedded(Method::POST, &old), "a form that leads here");
        assert!(!embedded(Method::GET, &[ELSEWHERE, ("sec-fetch-mode", "navigate")]), "a link");
        assert!(!embedded(Method::GET, &[]));
    }

    #[test]
    fn a_referring_page_is_one_of_ours_or_none() {
        const HOST: (&str, &str) = ("host", "site.onion");
        let page = |referer| referring_page(&headers(&[HOST, ("referer", referer)]));
        assert_eq!(page("http://site.onion/a?b=c").as_deref(), Some("/a?b=c"));
        assert_eq!(page("http://evil.onion/a"), None);
        assert_eq!(page("/a"), None);
        assert_eq!(referring_page(&headers(&[HOST])), None);
    }
}

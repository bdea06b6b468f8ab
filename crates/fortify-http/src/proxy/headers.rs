//! Which headers pass between visitor and service, and which are replaced.

use std::net::IpAddr;

use axum::body::Body;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};

/// Fortify's cookies. The service never receives them, so it cannot leak them, and cannot set them, so it cannot
/// admit anybody.
pub const OUR_COOKIES: [&str; 4] =
    ["cerberus_session", "cerberus_hint", "captcha_stage_1", "captcha_stage_2"];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The facts about a visitor that are sent to the service, in place of the visitor's own headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// How the visitor reached the site.
    pub proto: Proto,
    /// The host name of the site, as the visitor sees it.
    pub host: Option<HeaderValue>,
    /// The visitor's address, on clearnet. Never set for a circuit, whose number must not leave Fortify.
    pub for_: Option<IpAddr>,
}

/// How a visitor reached the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// Without TLS.
    Http,
    /// With TLS, terminated by a proxy in front.
    Https,
}

/// Whether this request opens a WebSocket (RFC 6455, section 4.1).
pub(super) fn asks_for_websocket(request: &Request<Body>) -> bool {
    let connection = request.headers().get_all(CONNECTION);
    let upgrade = connection.iter().any(|value| {
        value.as_bytes().split(|&b| b == b',').any(|token| is(token.trim_ascii(), "upgrade"))
    });
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && upgrade
        && names_websocket(request.headers())
}

/// Whether `Upgrade` names WebSocket and nothing else.
pub(super) fn names_websocket(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(UPGRADE).iter();
    let websocket = values.next().is_some_and(|value| is(value.as_bytes(), "websocket"));
    websocket && values.next().is_none()
}

/// The headers the service gets.
pub(super) fn of_request(
    mut headers: HeaderMap,
    forwarded: &Forwarded,
    websocket: bool,
) -> HeaderMap {
    let trailers = headers.get_all(TE).iter().any(|value| {
        value.as_bytes().split(|&b| b == b',').any(|token| is(token.trim_ascii(), "trailers"))
    });
    remove_hop_by_hop(&mut headers);
    // Reading the body already told the visitor to continue.
    headers.remove(EXPECT);
    remove_where(&mut headers, is_for_proxies_only);
    remove_our_cookies(&mut headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if websocket {
        set_websocket(&mut headers);
    }
    let proto = match forwarded.proto {
        Proto::Http => "http",
        Proto::Https => "https",
    };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    if let Some(host) = &forwarded.host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if let Some(Ok(address)) = forwarded.for_.map(|address| address.to_string().parse()) {
        headers.insert(X_FORWARDED_FOR, address);
    }
    headers
}

/// The headers the visitor gets.
pub(super) fn of_response(mut headers: HeaderMap, websocket: bool) -> HeaderMap {
    if headers.contains_key(TRANSFER_ENCODING) {
        // It overrides the length (RFC 9112, section 6.3); without it, the length would count.
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(&mut headers);
    // HAProxy in front takes such a header for Fortify's word.
    remove_where(&mut headers, |name| {
        name.starts_with("x-fortify-") || name.starts_with("x-circuit-")
    });
    let sets_ours = |value: &HeaderValue| {
        // A cookie without a name goes out as its bare value, which may read like one of ours.
        let mut parts = value.as_bytes().split(|&b| b == b'=');
        let first = parts.next().unwrap_or_default();
        let name = if first.trim_ascii().is_empty() { parts.next() } else { Some(first) };
        is_ours(name.unwrap_or_default())
    };
    if headers.get_all(SET_COOKIE).iter().any(sets_ours) {
        let all: Vec<_> = headers.get_all(SET_COOKIE).iter().cloned().collect();
        headers.remove(SET_COOKIE);
        for value in all.into_iter().filter(|value| !sets_ours(value)) {
            headers.append(SET_COOKIE, value);
        }
    }
    if websocket {
        set_websocket(&mut headers);
    }
    headers
}

fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Removes what concerns one connection only (RFC 9110, section 7.6.1), by name and as listed in
/// `Connection`.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        // A visitor must not be able to remove the Host header.
        .filter(|name| *name != HOST)
        .collect();
    for name in listed {
        headers.remove(name);
    }
    remove_where(headers, |name| {
        name.starts_with("proxy-")
            || matches!(
                name,
                "connection"
                    | "keep-alive"
                    | "te"
                    | "trailer"
                    | "trailers"
                    | "transfer-encoding"
                    | "upgrade"
            )
    });
}

/// Whether a header is trusted by services as coming from a proxy. `_` counts as `-`, because CGI and its
/// successors cannot distinguish them; `Proxy` because they read it as `HTTP_PROXY` (CVE-2016-5385).
fn is_for_proxies_only(name: &str) -> bool {
    let name = name.replace('_', "-");
    name.starts_with("x-forwarded-")
        || name.starts_with("x-fortify-")
        || name.starts_with("x-original-")
        || name.starts_with("x-rewrite-")
        || matches!(
            name.as_str(),
            "forwarded"
                | "x-forwarded"
                | "x-real-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "client-ip"
                | "true-client-ip"
                | "cf-connecting-ip"
                | "via"
                | "x-circuit-id"
                | "proxy"
        )
}

/// Names are lower-case in a [`HeaderMap`].
fn remove_where(headers: &mut HeaderMap, condition: impl Fn(&str) -> bool) {
    let names: Vec<_> = headers.keys().filter(|name| condition(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Removes Fortify's cookies; others stay unchanged, byte by byte.
fn remove_our_cookies(headers: &mut HeaderMap) {
    if !headers.get_all(COOKIE).iter().any(holds_ours) {
        return;
    }
    let all: Vec<_> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for value in all.into_iter().filter_map(without_ours) {
        headers.append(COOKIE, value);
    }
}

/// The cookies that the service may see, in one line, for a server that forwards the request itself; `None` if
/// there are none.
#[must_use]
pub fn cookies_for_service(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines: Vec<_> = headers.get_all(COOKIE).iter().cloned().filter_map(without_ours).collect();
    match lines.as_slice() {
        [] => None,
        [line] => Some(line.clone()),
        // As RFC 9113, section 8.2.3, joins them.
        lines => {
            let lines: Vec<_> = lines.iter().map(HeaderValue::as_bytes).collect();
            HeaderValue::from_bytes(&lines.join(&b"; "[..])).ok()
        }
    }
}

fn holds_ours(value: &HeaderValue) -> bool {
    value.as_bytes().split(|&b| b == b';').any(|pair| is_ours(name_of(pair)))
}

/// One `Cookie` line in one pass; `None` if nothing is left of it.
fn without_ours(value: HeaderValue) -> Option<HeaderValue> {
    if !holds_ours(&value) {
        return Some(value).filter(|value| !value.is_empty());
    }
    let pairs = value.as_bytes().split(|&byte| byte == b';');
    let kept: Vec<_> = pairs.filter(|pair| !is_ours(name_of(pair))).collect();
    // Taken from a header, so it can be one.
    let value = HeaderValue::from_bytes(kept.join(&b';').trim_ascii()).ok();
    value.filter(|value| !value.is_empty())
}

fn name_of(pair: &[u8]) -> &[u8] {
    pair.split(|&byte| byte == b'=').next().unwrap_or_default()
}

fn is_ours(name: &[u8]) -> bool {
    let name = name.trim_ascii();
    OUR_COOKIES.iter().any(|ours| ours.as_bytes() == name)
}

fn is(token: &[u8], word: &str) -> bool {
    token.eq_ignore_ascii_case(word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let pairs = headers.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap())
        });
        pairs.collect()
    }

    fn forwarded() -> Forwarded {
        Forwarded { proto: Proto::Http, host: Some("site.onion".parse().unwrap()), for_: None }
    }

    fn to_service(headers: &[(&str, &str)]) -> HeaderMap {
        let mut sent = of_request(map(headers), &forwarded(), false);
        assert_eq!(sent.remove("x-forwarded-proto").unwrap(), "http");
        assert_eq!(sent.remove("x-forwarded-host").unwrap(), "site.onion");
        sent
    }

    #[test]
    fn hop_by_hop_headers_are_removed_as_are_those_that_connection_names() {
        let sent = to_service(&[
            ("connection", "keep-alive, X-Private,,"),
            ("connection", "close, host"),
            ("host", "site.onion"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("x-private", "1"),
            ("te", "gzip"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("accept", "text/html"),
        ]);
        assert_eq!(sent, map(&[("host", "site.onion"), ("accept", "text/html")]));
        let te = to_service(&[("te", "gzip, Trailers;q=1, trailers"), ("connection", "te")]);
        assert_eq!(te, map(&[("te", "trailers")]));
    }

    #[test]
    fn what_a_visitor_says_in_a_proxys_name_is_removed_in_every_spelling() {
        for name in [
            "X-Forwarded-For",
            "X_Forwarded_For",
            "x-forwarded_host",
            "X-Forwarded-Anything",
            "X-Forwarded",
            "Forwarded",
            "X-Real-IP",
            "X_Real_IP",
            "Via",
            "X-Circuit-ID",
            "X_CIRCUIT_ID",
            "X-Fortify-Level",
            "X_Fortify_Admitted",
            "Proxy",
        ] {
            assert_eq!(
                to_service(&[(name, "spoofed"), (name, "again")]),
                HeaderMap::new(),
                "{name}"
            );
        }
    }

    #[test]
    fn the_address_is_told_on_clearnet_only() {
        let clearnet = Forwarded {
            for_: Some("192.0.2.1".parse().unwrap()),
            proto: Proto::Https,
            ..forwarded()
        };
        let sent = of_request(map(&[("x-forwarded-for", "10.0.0.1")]), &clearnet, false);
        assert_eq!(sent.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["192.0.2.1"]);
        assert_eq!(sent["x-forwarded-proto"], "https");
        assert!(!to_service(&[]).contains_key("x-forwarded-for"));
    }

    #[test]
    fn our_cookies_are_taken_out_and_others_stay_as_they_are() {
        for (sent, kept) in [
            ("cerberus_session=a.b.c", None),
            ("cerberus_session=a; cerberus_hint=1", None),
            (" cerberus_session = a ;", None),
            ("cerberus_session", None),
            ("a=1; cerberus_session=x; b=2", Some("a=1; b=2")),
            ("cerberus_hint=1;a=\"x y\";  b==;c", Some("a=\"x y\";  b==;c")),
            ("a=1;cerberus_session=x", Some("a=1")),
            (
                "xcerberus_session=1; cerberus_session2=2",
                Some("xcerberus_session=1; cerberus_session2=2"),
            ),
            ("a=cerberus_session=1", Some("a=cerberus_session=1")),
            ("a=1;;b=2 ", Some("a=1;;b=2 ")),
        ] {
            let result = to_service(&[("cookie", sent)]);
            let result = result.get("cookie").map(|value| value.to_str().unwrap());
            // One lone separator is no cookie either way.
            assert_eq!(result.filter(|&v| v != ";"), kept.filter(|&v| v != ";"), "{sent:?}");
        }
        let several =
            to_service(&[("cookie", "cerberus_session=x"), ("cookie", "a=1"), ("cookie", "b=2")]);
        assert_eq!(several.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
        let odd = HeaderValue::from_bytes(b"a=\xff\xfe; cerberus_session=x").unwrap();
        let sent = of_request([(COOKIE, odd)].into_iter().collect(), &forwarded(), false);
        assert_eq!(sent[COOKIE].as_bytes(), b"a=\xff\xfe");
    }

    #[test]
    fn the_cookies_for_the_service_are_one_line() {
        for (sent, kept) in [
            (&[][..], None),
            (&[""], None),
            (&["cerberus_session=a; captcha_stage_1=b;captcha_stage_2=c"], None),
            (
                &["a=1; cerberus_session=x", "cerberus_hint=1", "b=\"x y\"; c"],
                Some("a=1; b=\"x y\"; c"),
            ),
            (&["a=1;  ;b=2"], Some("a=1;  ;b=2")),
        ] {
            let sent: Vec<_> = sent.iter().map(|cookie| ("cookie", *cookie)).collect();
            let line = cookies_for_service(&map(&sent));
            assert_eq!(line.as_ref().map(|line| line.to_str().unwrap()), kept, "{sent:?}");
        }
    }

    #[test]
    fn an_answer_sets_no_cookie_of_ours_and_keeps_no_hop_by_hop_header() {
        let answer = of_response(
            map(&[
                ("set-cookie", "a=1; Path=/"),
                ("set-cookie", "cerberus_session=forged; Path=/"),
                ("set-cookie", " cerberus_hint =1"),
                ("set-cookie", "=cerberus_session=planted"),
                ("set-cookie", " = cerberus_session =planted; Path=/a"),
                ("set-cookie", "b=cerberus_session=2"),
                ("connection", "close, x-private"),
                ("x-private", "1"),
                ("proxy-authenticate", "Basic"),
                ("upgrade", "h2c"),
                ("transfer-encoding", "chunked"),
                ("content-length", "5"),
                ("server", "x"),
                ("x-fortify-served", "service"),
                ("x-fortify-moved", "cerberus_session=planted"),
                ("x-circuit-id", "1"),
            ]),
            false,
        );
        let expected = map(&[
            ("set-cookie", "a=1; Path=/"),
            ("set-cookie", "b=cerberus_session=2"),
            ("server", "x"),
        ]);
        assert_eq!(answer, expected);
    }

    #[test]
    fn only_a_get_that_asks_for_a_websocket_is_an_upgrade() {
        let asks = |method: &str, version, headers: &[(&str, &str)]| {
            let mut request = Request::new(Body::empty());
            *request.method_mut() = method.parse().unwrap();
            *request.version_mut() = version;
            *request.headers_mut() = map(headers);
            asks_for_websocket(&request)
        };
        let good = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        assert!(asks("GET", Version::HTTP_11, &good));
        assert!(!asks("POST", Version::HTTP_11, &good));
        assert!(!asks("GET", Version::HTTP_10, &good));
        assert!(!asks("GET", Version::HTTP_11, &good[..1]));
        assert!(!asks("GET", Version::HTTP_11, &good[1..]));
        for other in ["h2c", "websocket, h2c", "websocket2", ""] {
            let headers = [("connection", "upgrade"), ("upgrade", other)];
            assert!(!asks("GET", Version::HTTP_11, &headers), "{other}");
        }
    }
}

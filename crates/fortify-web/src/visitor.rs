//! Who is asking, read once per request.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::addresses::AUTH;
use crate::app::{App, SharedApp};
use crate::cookies::{Cookies, Hint, Jar};
use crate::error::WebError;
use crate::same_origin;
use crate::wants::{SEC_FETCH_DEST, Wants};
use fortify_config::SecureCookie;
use fortify_core::circuit::{self, CircuitId, Connection, IdentityMode, PeerAddress};
use fortify_engine::client::{Client, RequestHead};
use fortify_http::proxy::{Forwarded, Proto};
use fortify_http::server::BodyExpired;

/// What nginx asks about, at [`AUTH`].
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");

/// What a request says about its visitor.
pub struct Visitor {
    /// The visitor, for the engine.
    pub client: Client,
    /// What the hint cookie says.
    pub hint: Option<Hint>,
    /// How cookies are written for it.
    pub jar: Jar,
    /// The `Accept-Language` header.
    pub language: Option<String>,
    /// What it reads.
    pub wants: Wants,
    /// Whether another site's page makes the browser load this.
    pub embedded_elsewhere: bool,
    /// What the service behind the gate is told about it.
    pub forwarded: Forwarded,
}

impl FromRequestParts<SharedApp> for Visitor {
    type Rejection = WebError;

    /// Reads who is asking. Every request that is about a visitor passes here, and a banned circuit no
    /// further.
    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Self, WebError> {
        let (config, headers) = (&app.config, &parts.headers);
        let connection = connection(parts)?;
        let circuit = identify(app, connection, headers)?;
        let Cookies { credentials, hint } = Cookies::of(headers);
        let client = app.engine.identify(circuit, credentials, &head(parts)).await?;
        let host = text(headers, header::HOST.as_str());
        let https = config.server.trusted_proxies.trusts(&connection.peer)
            && text(headers, "x-forwarded-proto").as_deref() == Some("https");
        let secure = match config.session.secure {
            SecureCookie::On => true,
            SecureCookie::Off => false,
            SecureCookie::Auto => https || host.as_deref().is_some_and(is_trustworthy_host),
        };
        Ok(Self {
            client,
            hint,
            jar: Jar { secure, lifetime: app.engine.session_lifetime() },
            language: text(headers, header::ACCEPT_LANGUAGE.as_str()),
            wants: Wants::of(parts.uri.path(), headers),
            embedded_elsewhere: same_origin::is_embedded_elsewhere(&parts.method, headers),
            forwarded: Forwarded {
                proto: if https { Proto::Https } else { Proto::Http },
                host: headers.get(header::HOST).cloned(),
                for_: address_of(config.security.identity, connection),
            },
        })
    }
}

fn connection(parts: &Parts) -> Result<&Connection, WebError> {
    let connection = parts.extensions.get::<Connection>();
    connection.ok_or_else(|| WebError::Unavailable("a request without its connection".to_owned()))
}

/// The circuit behind a request.
fn identify(
    app: &App,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<CircuitId, WebError> {
    let (identity, trusted) = (app.config.security.identity, &app.config.server.trusted_proxies);
    let circuit = circuit::identify(identity, trusted, app.boot(), connection, headers);
    Ok(circuit.inspect_err(|error| app.engine.refuse_unidentified(error.label()))?)
}

/// What behaviour counts of a request. What a visitor writes into nginx's headers elsewhere is not read, and
/// where it is read, it says something about that visitor alone.
fn head(parts: &Parts) -> RequestHead<'_> {
    let headers = &parts.headers;
    let (target, method) = if parts.uri.path() == AUTH {
        let method = headers.get(ORIGINAL_METHOD).map_or(&b"GET"[..], HeaderValue::as_bytes);
        (headers.get(ORIGINAL_URI).map(HeaderValue::as_bytes), method)
    } else {
        let sent = parts.uri.path_and_query().map_or("/", |sent| sent.as_str());
        (Some(sent.as_bytes()), parts.method.as_str().as_bytes())
    };
    RequestHead {
        target,
        post: method == b"POST",
        writes: !matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE"),
        loaded: headers.get(SEC_FETCH_DEST).is_some_and(is_loaded),
        body_expired: parts.extensions.get::<BodyExpired>().map(|expired| expired.0.clone()),
    }
}

/// Whether it is a part of a page: neither a page (`document`, or in a frame) nor a script's request (`empty`,
/// `websocket`).
fn is_loaded(dest: &HeaderValue) -> bool {
    let whole = ["document", "iframe", "frame", "fencedframe", "empty", "websocket", ""];
    !whole.iter().any(|other| dest == other)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Hosts that browsers treat as trustworthy without TLS, so that they keep a `Secure` cookie: onion
/// services, whose address is their key, and this very machine.
fn is_trustworthy_host(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.ends_with(".onion")
        || name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The address that the service behind the gate may know: a clearnet visitor's, never a circuit.
fn address_of(identity: IdentityMode, connection: &Connection) -> Option<IpAddr> {
    match (identity, &connection.proxy_line, &connection.peer) {
        (IdentityMode::Circuit, ..) => None,
        (IdentityMode::Peer, Some(line), _) => line.clearnet_address(),
        (IdentityMode::Peer, None, PeerAddress::Tcp(address)) => Some(*address),
        (IdentityMode::Peer, None, PeerAddress::Unix) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_of_pages_are_loaded() {
        let loaded = |dest| is_loaded(&HeaderValue::from_static(dest));
        for part in ["image", "style", "script", "font", "audio", "video", "track", "manifest"] {
            assert!(loaded(part), "{part}");
        }
        for whole in ["document", "iframe", "frame", "empty", "websocket", ""] {
            assert!(!loaded(whole), "{whole}");
        }
    }

    #[test]
    fn abuse_23_secure_is_left_off_only_where_a_browser_would_drop_the_cookie() {
        for host in
            ["abc.onion", "abc.onion:80", "localhost", "127.0.0.1:10002", "[::1]:80", "a.localhost"]
        {
            assert!(is_trustworthy_host(host), "{host}");
        }
        for host in
            ["example.org", "example.org:80", "onion", "abc.onion.example.org", "10.0.0.1", ""]
        {
            assert!(!is_trustworthy_host(host), "{host}");
        }
    }
}

//! Who is asking, read once per request.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::cookies::{Cookies, Jar};
use super::sighting::Sighting;
use crate::app::SharedApp;
use crate::behaviour::Outcome;
use crate::circuit::{self, CircuitId, Connection, IdentityMode, PeerAddress, TorCircuit};
use crate::config::SecureCookie;
use crate::proxy::{Forwarded, Proto};
use crate::pseudonym::CircuitTag;
use crate::reputation::Standing;
use crate::web::error::WebError;

/// What a request says about its visitor.
pub struct Visitor {
    /// The circuit, under its pseudonym.
    pub circuit: CircuitTag,
    /// The circuit itself, which `Debug` does not show: for standings, whose copy in `HAProxy`
    /// knows circuits by their number.
    pub id: CircuitId,
    /// The cookies that came along.
    pub cookies: Cookies,
    /// How cookies are written for it.
    pub jar: Jar,
    /// The `Accept-Language` header.
    pub language: Option<String>,
    /// What it reads.
    pub wants: Wants,
    /// What the service behind the gate is told about it.
    pub forwarded: Forwarded,
    /// What is told of the request when it is over, where requests are counted.
    pub sighting: Option<Sighting>,
}

impl Visitor {
    /// Says what became of the request.
    pub(super) fn came(&self, outcome: Outcome) {
        if let Some(sighting) = &self.sighting {
            sighting.came(outcome);
        }
    }
}

impl FromRequestParts<SharedApp> for Visitor {
    type Rejection = WebError;

    /// Reads who is asking. Here, where every request that is about a visitor passes, a banned
    /// circuit is refused: `HAProxy` may be away, or not be there at all.
    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Self, WebError> {
        let (config, headers) = (&app.config, &parts.headers);
        let connection = parts
            .extensions
            .get::<Connection>()
            .ok_or_else(|| WebError::Unavailable("a request without its connection".to_owned()))?;
        let trusted = &config.server.trusted_proxies;
        let (identity, boot) = (config.security.identity, app.boot());
        let circuit = circuit::identify(identity, trusted, boot, connection, headers).inspect_err(
            |error| {
                app.metrics.circuit_rejected(error.label());
                app.metrics.refused();
            },
        )?;
        let tag = app.pseudonyms.tag(&circuit);
        let tor = circuit.tor();
        if let Some(circuit) = tor {
            meet(app, circuit, tag).await?;
        }
        let host = text(headers, header::HOST.as_str());
        let https = trusted.trusts(&connection.peer)
            && text(headers, "x-forwarded-proto").as_deref() == Some("https");
        let secure = match config.session.secure {
            SecureCookie::On => true,
            SecureCookie::Off => false,
            SecureCookie::Auto => https || host.as_deref().is_some_and(is_trustworthy_host),
        };
        Ok(Self {
            circuit: tag,
            id: circuit,
            cookies: Cookies::of(headers),
            jar: Jar { secure, lifetime: app.sessions.lifetime() },
            language: text(headers, header::ACCEPT_LANGUAGE.as_str()),
            wants: Wants::of(parts.uri.path(), headers),
            forwarded: Forwarded {
                proto: if https { Proto::Https } else { Proto::Http },
                host: headers.get(header::HOST).cloned(),
                for_: address_of(config.security.identity, connection),
            },
            sighting: Sighting::of(parts, tag, tor, app),
        })
    }
}

/// Lets a circuit in as it stands: refuses one that is banned, and forgets the wrong answers of one
/// whose ban an operator took back, so that it gets a challenge and not the rest of its wait.
async fn meet(app: &SharedApp, circuit: TorCircuit, tag: CircuitTag) -> Result<(), WebError> {
    match app.reputation.row(circuit) {
        Some(row) if row.standing == Standing::Banned => {
            app.metrics.refused();
            Err(WebError::Banned(app.clock.now().until(row.until)))
        }
        Some(row) if row.standing == Standing::Reset => {
            app.store.forget_failures(tag).await?;
            app.sharing.forgive(circuit, tag);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What the one who asks can read.
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
        let accept = text(headers, header::ACCEPT.as_str()).unwrap_or_default();
        if api && !accept.contains("text/html") || prefers_json(&accept) {
            Self::Json
        } else {
            Self::Page
        }
    }
}

fn prefers_json(accept: &str) -> bool {
    accept.contains("application/json") && !accept.contains("text/html")
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

    #[test]
    fn a_program_gets_json_and_a_browser_a_page() {
        let accept = |value: &'static str| {
            HeaderMap::from_iter([(header::ACCEPT, header::HeaderValue::from_static(value))])
        };
        assert_eq!(Wants::of("/x", &HeaderMap::new()), Wants::Page);
        assert_eq!(Wants::of("/x", &accept("text/html,application/xhtml+xml")), Wants::Page);
        assert_eq!(Wants::of("/x", &accept("application/json")), Wants::Json);
        assert_eq!(Wants::of("/x", &accept("text/html, application/json")), Wants::Page);
        assert_eq!(Wants::of("/verify-captcha", &HeaderMap::new()), Wants::Json);
        assert_eq!(Wants::of("/api/session", &accept("text/html")), Wants::Page);
    }
}

//! Checks the written values and collects all problems.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use fortify_captcha::{AnswerMode, Carrier, Variant};
use http::Uri;
use http::uri::{Authority, Scheme};

use super::origin::Origins;
use super::problems::Problems;
use super::raw::{
    RawAdmin, RawCaptcha, RawConfig, RawDifficulty, RawHaproxy, RawLevel, RawLimits, RawServer,
    RawStorage, RawThreat, RawTor, RawUpstream,
};
use super::{
    AdminConfig, AdminSocket, CaptchaConfig, Config, ControlAddress, HaproxyConfig, KeyPrefix,
    LimitsConfig, LogFormat, LogLevel, OperatorEndpoints, RedisAddress, RedisServer, SecureCookie,
    ServerConfig, StorageBackend, StorageConfig, TorConfig, UpstreamConfig, UpstreamServer,
};
use fortify_core::circuit::{IdentityMode, TrustedProxies};
use fortify_engine::behaviour;
use fortify_engine::limits::waits::FailureWaits;
use fortify_engine::threat::table::{Admits, LevelOverride};
use fortify_engine::threat::{Mode, ThreatLevel};
use fortify_haproxy::client::Endpoint;
use fortify_haproxy::command::TableName;

/// The longest path a unix socket can have on Linux, in bytes: `sun_path` less its final NUL.
const MAX_SOCKET_PATH: usize = 107;

/// The most nodes in `storage.urls`: one that answers names all others.
const MAX_SERVERS: usize = 32;

/// The defaults, with every written key whose value is valid.
pub(super) fn validate(raw: RawConfig, origins: &Origins, problems: &mut Problems) -> Config {
    let mut check = Check { origins, problems };
    let mut config = Config::default();
    server(&mut check, raw.server, &mut config.server);
    captcha(&mut check, raw.captcha, &mut config.captcha);
    upstream(&mut check, raw.upstream, &mut config.upstream);
    haproxy(&mut check, raw.haproxy, &mut config.haproxy);

    limits(&mut check, raw.limits, &mut config.limits);

    let (written, reputation) = (raw.reputation, &mut config.reputation);
    let (key, target) = ("reputation.vip_seconds", &mut reputation.vip);
    check.seconds(key, written.vip_seconds, 60..=86_400, target);
    let (key, target) = ("reputation.ban_seconds", &mut reputation.ban);
    check.seconds(key, written.ban_seconds, 60..=86_400, target);
    let scoring = &mut reputation.scoring;
    for (key, value, target) in [
        ("failure_points", written.failure_points, &mut scoring.failure),
        ("bot_points", written.bot_points, &mut scoring.bot),
        ("ban_points", written.ban_points, &mut scoring.ban),
    ] {
        let mut points = *target as u8;
        check.whole(&format!("reputation.{key}"), value, 1..=100, &mut points);
        *target = f32::from(points);
    }
    let (key, target) = ("reputation.half_life_seconds", &mut scoring.half_life);
    check.seconds(key, written.half_life_seconds, 60..=86_400, target);
    let (key, target) = ("reputation.forget_seconds", &mut scoring.forget);
    check.seconds(key, written.forget_seconds, 60..=86_400, target);
    scoring.suspects = written.suspicion.unwrap_or(scoring.suspects);
    let words = [
        ("off", behaviour::Mode::Off),
        ("observe", behaviour::Mode::Observe),
        ("learn", behaviour::Mode::Learn),
        ("act", behaviour::Mode::Act),
    ];
    check.word("behaviour.mode", raw.behaviour.mode, &words, &mut config.behaviour.mode);
    tor(&mut check, raw.tor, &mut config.tor);

    let session = &mut config.session;
    check.seconds("session.ttl_seconds", raw.session.ttl_seconds, 60..=86_400, &mut session.ttl);
    check.whole("session.max_moves", raw.session.max_moves, 0..=60, &mut session.max_moves);
    let words =
        [("on", SecureCookie::On), ("off", SecureCookie::Off), ("auto", SecureCookie::Auto)];
    check.word("session.secure", raw.session.secure, &words, &mut session.secure);
    let (key, grace) = ("session.tunnel_grace_seconds", &mut session.tunnel_grace);
    check.seconds(key, raw.session.tunnel_grace_seconds, 0..=86_400, grace);

    let (written, security) = (raw.security, &mut config.security);
    let words = [("circuit", IdentityMode::Circuit), ("peer", IdentityMode::Peer)];
    check.word("security.identity", written.identity, &words, &mut security.identity);
    let (key, target) = ("security.max_captcha_failures", &mut security.max_captcha_failures);
    check.whole(key, written.max_captcha_failures, 1..=100, target);
    let (key, target) = ("security.reputation_decay_seconds", &mut security.reputation_decay);
    check.seconds(key, written.reputation_decay_seconds, 1..=86_400, target);

    storage(&mut check, raw.storage, &mut config.storage);
    threat(&mut check, raw.threat, &mut config);
    admin(&mut check, raw.admin, &mut config.admin);
    let derived = config.admin_socket().filter(|_| config.admin.socket == AdminSocket::InDataDir);
    if let Some(Err(message)) = derived.map(|path| socket_path(&path.display().to_string())) {
        let advice =
            "which is where admin.socket is by default; set that to a shorter one, or to \"\"";
        let message = format!("admin.sock in it has {message}, {advice}");
        check.problems.push(check.origins, "storage.data_dir", message);
    }

    let words = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    check.word("log.level", raw.log.level, &words, &mut config.log.level);
    let words = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    check.word("log.format", raw.log.format, &words, &mut config.log.format);
    config
}

fn server(check: &mut Check<'_>, raw: RawServer, server: &mut ServerConfig) {
    let address = |text: String| {
        let advice = "is no IP address, use one such as 127.0.0.1, ::1 or 0.0.0.0";
        text.parse().map_err(|_parse| format!("{text:?} {advice}"))
    };
    check.with("server.host", raw.host, address, &mut server.host);
    check.whole("server.port", raw.port, 0..=65_535, &mut server.port);
    let path = |text: String| socket_path(&text).map(Some);
    check.with("server.socket", raw.socket, path, &mut server.socket);
    check.with("server.socket_mode", raw.socket_mode, octal, &mut server.socket_mode);
    if let Some(on) = raw.proxy_protocol {
        server.proxy_protocol = on;
    }
    let (key, target) = ("server.trusted_proxies", &mut server.trusted_proxies);
    check.with(key, raw.trusted_proxies, TrustedProxies::parse, target);
    let (key, target) = ("server.max_connections", &mut server.max_connections);
    check.whole(key, raw.max_connections, 1..=65_536, target);
    let key = "server.max_connections_per_circuit";
    let target = &mut server.max_connections_per_circuit;
    check.whole(key, raw.max_connections_per_circuit, 1..=65_536, target);
    for (key, value, least, target) in [
        ("header_timeout_seconds", raw.header_timeout_seconds, 1, &mut server.header_timeout),
        ("body_timeout_seconds", raw.body_timeout_seconds, 1, &mut server.body_timeout),
        ("idle_timeout_seconds", raw.idle_timeout_seconds, 1, &mut server.idle_timeout),
        ("drain_seconds", raw.drain_seconds, 0, &mut server.drain),
    ] {
        check.seconds(&format!("server.{key}"), value, least..=3600, target);
    }
    let words = [("local", OperatorEndpoints::Local), ("off", OperatorEndpoints::Off)];
    let (key, target) = ("server.operator_endpoints", &mut server.operator_endpoints);
    check.word(key, raw.operator_endpoints, &words, target);
}

fn captcha(check: &mut Check<'_>, raw: RawCaptcha, captcha: &mut CaptchaConfig) {
    check.seconds("captcha.ttl_seconds", raw.ttl_seconds, 60..=3600, &mut captcha.ttl);
    check.with("captcha.difficulty", raw.difficulty, level, &mut captcha.level);
    check.whole("captcha.length", raw.length, 4..=8, &mut captcha.length);
    let status = |status: i64| match status {
        200 => Ok(200),
        403 => Ok(403),
        429 => Ok(429),
        503 => Ok(503),
        other => Err(format!("{other} is no status for a challenge, use 200, 403, 429 or 503")),
    };
    let (key, target) = ("captcha.challenge_status", &mut captcha.challenge_status);
    check.with(key, raw.challenge_status, status, target);
    check.whole("captcha.max_active", raw.max_active, 100..=1_000_000, &mut captcha.max_active);
    let (key, target) = ("captcha.max_concurrent_renders", &mut captcha.max_concurrent_renders);
    check.whole(key, raw.max_concurrent_renders, 1..=1000, target);
    let words = [("typed", AnswerMode::Typed), ("choice", AnswerMode::Choice)];
    check.word("captcha.mode", raw.mode, &words, &mut captcha.mode);
    let (key, target) = ("captcha.variant_weights", &mut captcha.variant_weights);
    check.with(key, raw.variant_weights, |written| weights(written, &Variant::ALL), target);
    let (key, target) = ("captcha.carrier_weights", &mut captcha.carrier_weights);
    check.with(key, raw.carrier_weights, |written| weights(written, &Carrier::ALL), target);
    check.whole("captcha.drawn_ahead", raw.drawn_ahead, 0..=10_000, &mut captcha.drawn_ahead);
    let (key, target) = ("captcha.style_period_seconds", &mut captcha.style_period);
    check.seconds(key, raw.style_period_seconds, 3600..=2_592_000, target);
    let (key, target) = ("captcha.max_active_per_circuit", &mut captcha.max_active_per_circuit);
    check.whole(key, raw.max_active_per_circuit, 1..=100, target);
}

/// The members that `written` names, each with its weight.
fn weights<T: Copy + Display + FromStr>(
    written: BTreeMap<String, i64>,
    all: &[T],
) -> Result<Vec<(T, u32)>, String> {
    let known = || all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let weights: Vec<(T, u32)> = (written.iter())
        .map(|(name, weight)| {
            let member = name.parse().map_err(|_unknown| {
                format!("\"{name}\" is not known, use one or more of: {}", known())
            })?;
            match u32::try_from(*weight) {
                Ok(weight) if weight <= 1000 => Ok((member, weight)),
                _ => Err(format!("{name} = {weight} is out of range, use 0 to 1000")),
            }
        })
        .collect::<Result<_, String>>()?;
    if !weights.is_empty() && weights.iter().all(|(_, weight)| *weight == 0) {
        return Err("has no weight above 0, name one or leave it empty".to_owned());
    }
    Ok(weights)
}

fn limits(check: &mut Check<'_>, raw: RawLimits, limits: &mut LimitsConfig) {
    let advice = "use 1 to 20 waits of 0 to 86400 seconds, none shorter than the one before";
    let waits = |written: Vec<i64>| {
        let seconds = |wait: &i64| u64::try_from(*wait).ok().filter(|wait| *wait <= 86_400);
        let waits: Option<Vec<u64>> = written.iter().map(seconds).collect();
        let waits = waits.filter(|waits| waits.len() <= 20);
        let waits = waits.map(|waits| waits.into_iter().map(Duration::from_secs).collect());
        waits
            .and_then(FailureWaits::new)
            .ok_or_else(|| format!("{written:?} are no waits, {advice}"))
    };
    let (key, target) = ("limits.failure_waits_seconds", &mut limits.failure_waits);
    check.with(key, raw.failure_waits_seconds, waits, target);
    let (key, target) = ("limits.challenges_per_minute", &mut limits.challenges_per_minute);
    check.whole(key, raw.challenges_per_minute, 1..=1000, target);
    let key = "limits.service_challenges_per_minute";
    let target = &mut limits.service.per_minute;
    check.whole(key, raw.service_challenges_per_minute, 10..=6_000_000, target);
    let key = "limits.service_challenges_per_second";
    let target = &mut limits.service.per_second;
    check.whole(key, raw.service_challenges_per_second, 1..=100_000, target);
}

fn upstream(check: &mut Check<'_>, raw: RawUpstream, upstream: &mut UpstreamConfig) {
    if raw.url.is_some() && raw.urls.is_some() {
        let message = "is set together with upstream.urls, remove one of them";
        check.problems.push(check.origins, "upstream.url", message);
    }
    let key = if raw.urls.is_some() { "upstream.urls" } else { "upstream.url" };
    let one = |url: String| service_address(&url).map(|server| vec![server]);
    check.with("upstream.url", raw.url, one, &mut upstream.servers);
    let several = |urls: Vec<String>| match urls.len() {
        1..=MAX_SERVERS => {
            let servers: Vec<_> =
                urls.iter().map(|url| service_address(url)).collect::<Result<_, _>>()?;
            let twice = servers.iter().enumerate().find(|(at, it)| servers[..*at].contains(it));
            match twice {
                Some((_, server)) => Err(format!("names {server} twice")),
                None => Ok(servers),
            }
        }
        count => Err(format!("names {count} addresses, use 1 to {MAX_SERVERS}")),
    };
    check.with("upstream.urls", raw.urls, several, &mut upstream.servers);
    let ca = |text: String| match text.is_empty() {
        true => Err("is empty, use the path of a PEM file"),
        false => Ok(Some(PathBuf::from(text))),
    };
    let names_ca = raw.tls_ca_file.is_some();
    check.with("upstream.tls_ca_file", raw.tls_ca_file, ca, &mut upstream.tls_ca);
    let tls = |server: &UpstreamServer| matches!(server, UpstreamServer::Https(_));
    match (upstream.servers.iter().any(tls), &upstream.tls_ca) {
        (true, None) if !names_ca => {
            let message = "is https, which needs upstream.tls_ca_file: the certificate that signed the service's";
            check.problems.push(check.origins, key, message);
        }
        (false, Some(_)) => {
            let message = "is of no use, because no address of the service is https";
            check.problems.push(check.origins, "upstream.tls_ca_file", message);
        }
        _ => {}
    }
    let (key, target) = ("upstream.connect_timeout_seconds", &mut upstream.connect_timeout);
    check.seconds(key, raw.connect_timeout_seconds, 1..=300, target);
    let (key, target) = ("upstream.response_timeout_seconds", &mut upstream.response_timeout);
    check.seconds(key, raw.response_timeout_seconds, 1..=3600, target);
    let (key, target) = ("upstream.max_concurrent", &mut upstream.max_concurrent);
    check.whole(key, raw.max_concurrent, 0..=4096, target);
}

fn haproxy(check: &mut Check<'_>, raw: RawHaproxy, haproxy: &mut HaproxyConfig) {
    if raw.socket_path.is_some() && raw.address.is_some() {
        let message =
            "is set together with haproxy.socket_path, keep the one that HAProxy listens on";
        check.problems.push(check.origins, "haproxy.address", message);
    }
    let path = |text: String| match text.len() {
        1..=MAX_SOCKET_PATH => Ok(Some(Endpoint::Unix(PathBuf::from(text)))),
        length => Err(format!("a path of {length} bytes, use 1 to {MAX_SOCKET_PATH}")),
    };
    check.with("haproxy.socket_path", raw.socket_path, path, &mut haproxy.endpoint);
    let address = |text: String| {
        let advice = "is no address with a port, use one such as 127.0.0.1:9999";
        text.parse()
            .map(|address| Some(Endpoint::Tcp(address)))
            .map_err(|_parse| format!("{text:?} {advice}"))
    };
    check.with("haproxy.address", raw.address, address, &mut haproxy.endpoint);
    let name = |text: String| text.parse::<TableName>().map_err(|bad| format!("{text:?} is {bad}"));
    check.with("haproxy.table_name", raw.table_name, name, &mut haproxy.table);
}

fn storage(check: &mut Check<'_>, raw: RawStorage, storage: &mut StorageConfig) {
    let words = [("memory", StorageBackend::Memory), ("redis", StorageBackend::Redis)];
    check.word("storage.backend", raw.backend, &words, &mut storage.backend);
    let directory = |text: String| match text.is_empty() {
        true => Err("is empty, use the path of a directory"),
        false => Ok(PathBuf::from(text)),
    };
    check.with("storage.data_dir", raw.data_dir, directory, &mut storage.data_dir);

    let redis = &mut storage.redis;
    if raw.url.is_some() && raw.urls.is_some() {
        let message = "is set together with storage.urls, remove one of them";
        check.problems.push(check.origins, "storage.url", message);
    }
    redis.cluster = raw.cluster.unwrap_or(raw.urls.is_some());
    let one = |url: String| RedisServer::parse(&url).map(|server| vec![server]);
    check.with("storage.url", raw.url, one, &mut redis.servers);
    let several = |urls: Vec<String>| match urls.len() {
        1..=MAX_SERVERS => urls.iter().map(|url| RedisServer::parse(url)).collect(),
        count => Err(format!("names {count} nodes, use 1 to {MAX_SERVERS}")),
    };
    let urls_origin = raw.urls.is_some();
    check.with("storage.urls", raw.urls, several, &mut redis.servers);
    let key = if urls_origin { "storage.urls" } else { "storage.url" };
    let over_tls = redis.servers.iter().filter(|server| server.address.is_tls()).count();
    if over_tls > 0 && over_tls < redis.servers.len() {
        let message = "has nodes with TLS and without, use rediss:// for all or for none";
        check.problems.push(check.origins, key, message);
    }
    if redis.cluster {
        let fits = |server: &RedisServer| {
            server.database == 0 && matches!(server.address, RedisAddress::Tcp { .. })
        };
        if !redis.servers.iter().all(fits) {
            let message = "names a socket or a database, and nodes of a cluster are reached over \
                           TCP and have database 0 alone; use redis://HOST:PORT";
            check.problems.push(check.origins, key, message);
        }
    } else if redis.servers.len() > 1 {
        let message = "is false and storage.urls has several nodes; remove it, or use storage.url";
        check.problems.push(check.origins, "storage.cluster", message);
    }
    let user = |text: String| match text.len() {
        1..=128 if !text.contains(char::is_whitespace) => Ok(Some(text)),
        _ => Err("is no user, use 1 to 128 bytes without spaces, or remove it"),
    };
    check.with("storage.user", raw.user, user, &mut redis.user);
    let file = |text: String| match text.is_empty() {
        true => Err("is empty, use the path of a file, or remove it"),
        false => Ok(Some(PathBuf::from(text))),
    };
    check.with("storage.password_file", raw.password_file, file, &mut redis.password_file);
    let tls = &mut redis.tls;
    let has_tls_key = raw.tls_key_file.is_some();
    check.with("storage.tls_ca_file", raw.tls_ca_file, file, &mut tls.ca);
    check.with(
        "storage.tls_certificate_file",
        raw.tls_certificate_file,
        file,
        &mut tls.certificate,
    );
    check.with("storage.tls_key_file", raw.tls_key_file, file, &mut tls.key);
    if tls.certificate.is_some() != tls.key.is_some() {
        let (key, other) = match has_tls_key {
            true => ("storage.tls_key_file", "storage.tls_certificate_file"),
            false => ("storage.tls_certificate_file", "storage.tls_key_file"),
        };
        check.problems.push(check.origins, key, format!("needs {other} as well"));
    }
    if redis.user.is_some() && redis.password_file.is_none() {
        let message = "needs storage.password_file as well";
        check.problems.push(check.origins, "storage.user", message);
    }
    check.with("storage.prefix", raw.prefix, KeyPrefix::parse, &mut redis.prefix);
    let mut millis = redis.timeout.as_millis() as u64;
    check.whole("storage.timeout_ms", raw.timeout_ms, 10..=5000, &mut millis);
    redis.timeout = Duration::from_millis(millis);
    check.whole("storage.wait_replicas", raw.wait_replicas, 0..=5, &mut redis.wait_replicas);
}

fn tor(check: &mut Check<'_>, raw: RawTor, tor: &mut TorConfig) {
    let written = raw.control.is_some();
    let control = |text: String| control_address(&text).map(Some);
    check.with("tor.control", raw.control, control, &mut tor.control);
    let needless = "is set without tor.control, set that too or remove this one";
    for (key, value, target) in [
        ("tor.cookie_file", raw.cookie_file, &mut tor.cookie_file),
        ("tor.password_file", raw.password_file, &mut tor.password_file),
    ] {
        let path = |text: String| match (text.is_empty(), written) {
            (true, _) => Err("is empty, use the path of a file"),
            (false, false) => Err(needless),
            (false, true) => Ok(Some(PathBuf::from(text))),
        };
        check.with(key, value, path, target);
    }
    if tor.cookie_file.is_some() && tor.password_file.is_some() {
        let message = "is set together with tor.cookie_file, keep the one that torrc requires";
        check.problems.push(check.origins, "tor.password_file", message);
    }
    let address = |text: String| metrics_address(&text).map(Some);
    check.with("tor.metrics_address", raw.metrics_address, address, &mut tor.metrics_address);
    check.whole("tor.instance", raw.instance, 0..=65_535, &mut tor.instance);
}

fn admin(check: &mut Check<'_>, raw: RawAdmin, admin: &mut AdminConfig) {
    let is_remote = |address: &SocketAddr| !address.ip().is_loopback();
    let allow_remote = raw.allow_remote.unwrap_or(admin.allow_remote);
    admin.allow_remote = allow_remote;
    let listen = |text: String| match (text.as_str(), text.parse::<SocketAddr>()) {
        ("", _) => Ok(None),
        (_, Ok(address)) if is_remote(&address) && !allow_remote => Err(format!(
            "{text:?} can be reached from other machines, and passwords travel there in the clear; \
             use 127.0.0.1:10009 and put TLS or an onion service in front, or set \
             admin.allow_remote = true if something else protects it"
        )),
        (_, Ok(address)) => Ok(Some(address)),
        (_, Err(_parse)) => Err(format!(
            "{text:?} is no address with a port, use one such as 127.0.0.1:10009, or \"\" for none"
        )),
    };
    check.with("admin.listen", raw.listen, listen, &mut admin.listen);
    let socket = |text: String| match text.is_empty() {
        true => Ok(AdminSocket::Off),
        false => socket_path(&text).map(AdminSocket::At),
    };
    check.with("admin.socket", raw.socket, socket, &mut admin.socket);
    for (key, value, most, target) in [
        ("admin.idle_minutes", raw.idle_minutes, 1440, &mut admin.idle),
        ("admin.session_minutes", raw.session_minutes, 10_080, &mut admin.session),
    ] {
        let mut minutes = target.as_secs() / 60;
        check.whole(key, value, 1..=most, &mut minutes);
        *target = Duration::from_secs(minutes * 60);
    }
    check.whole("admin.login_tries", raw.login_tries, 1..=100, &mut admin.login_tries);
    let (key, target) = ("admin.login_tries_per_minute", &mut admin.login_tries_per_minute);
    check.whole(key, raw.login_tries_per_minute, 1..=1000, target);
    let (key, target) = ("admin.login_wait_seconds", &mut admin.login_wait);
    check.seconds(key, raw.login_wait_seconds, 1..=86_400, target);
}

fn threat(check: &mut Check<'_>, raw: RawThreat, config: &mut Config) {
    let words = [("auto", Mode::Auto), ("manual", Mode::Manual), ("pinned", Mode::Pinned)];
    check.word("threat.mode", raw.mode, &words, &mut config.threat.mode);
    let level = |number| threat_level(number).map(Some);
    check.with("threat.level", raw.level, level, &mut config.threat.level);
    check.with("threat.on_change", raw.on_change, command, &mut config.threat.on_change);
    for (index, written) in raw.levels.unwrap_or_default().into_iter().enumerate() {
        let table = format!("threat.levels[{index}]");
        let Some(row) = threat_row(check, &table, written, config) else { continue };
        if config.threat.levels.iter().any(|other| other.level == row.level) {
            let message = format!("{} has a table already, make one of both", row.level);
            check.problems.push(check.origins, &format!("{table}.level"), message);
        }
        config.threat.levels.push(row);
    }
}

/// A program and its arguments.
fn command(written: Vec<String>) -> Result<Vec<String>, String> {
    match written.first() {
        Some(program) if !program.starts_with('/') => {
            Err(format!("\"{program}\" is no absolute path, write where the program is"))
        }
        _ => Ok(written),
    }
}

/// One table of `[[threat.levels]]`; `None` if it does not say for which level.
fn threat_row(
    check: &mut Check<'_>,
    table: &str,
    raw: RawLevel,
    config: &Config,
) -> Option<LevelOverride> {
    let key = |name: &str| format!("{table}.{name}");
    let Some(number) = raw.level else {
        let message = "is missing, name the level that this table is for, 1 to 10";
        check.problems.push(check.origins, &key("level"), message);
        return None;
    };
    let mut level = None;
    check.with(&key("level"), Some(number), |number| threat_level(number).map(Some), &mut level);
    let mut row = LevelOverride::of(level?);
    let weighed = |written| weights(written, &Variant::ALL).map(Some);
    check.with(&key("variant_weights"), raw.variant_weights, weighed, &mut row.variants);
    let weighed = |written| weights(written, &Carrier::ALL).map(Some);
    check.with(&key("carrier_weights"), raw.carrier_weights, weighed, &mut row.carriers);
    check.some(&key("stages"), raw.stages, 1..=3, &mut row.stages);
    let (name, target) = (key("challenges_per_hour"), &mut row.challenges_per_hour);
    check.some(&name, raw.challenges_per_hour, 1..=1000, target);
    for (name, written, most, target) in [
        ("pages_per_minute", raw.pages_per_minute, 100_000, &mut row.pages_per_minute),
        ("page_burst", raw.page_burst, 100_000, &mut row.page_burst),
        ("pages_per_session", raw.pages_per_session, 1_000_000, &mut row.pages_per_session),
        ("sessions_per_hour", raw.sessions_per_hour, 1000, &mut row.sessions_per_hour),
        (
            "connections_per_circuit",
            raw.connections_per_circuit,
            1000,
            &mut row.connections_per_circuit,
        ),
    ] {
        check.some(&key(name), written, 1..=most, target);
    }
    for (name, written, most, target) in [
        (
            "challenge_ttl_seconds",
            raw.challenge_ttl_seconds,
            config.captcha.ttl,
            &mut row.challenge_ttl,
        ),
        ("session_ttl_seconds", raw.session_ttl_seconds, config.session.ttl, &mut row.session_ttl),
    ] {
        let most = i64::try_from(most.as_secs()).unwrap_or(i64::MAX);
        let mut seconds: Option<u64> = None;
        check.some(&key(name), written, 60..=most, &mut seconds);
        *target = seconds.map(Duration::from_secs);
    }
    let words = [
        ("either", Some(Admits::Either)),
        ("session", Some(Admits::Session)),
        ("both", Some(Admits::Both)),
    ];
    check.word(&key("admits"), raw.admits, &words, &mut row.admits);
    Some(row)
}

fn threat_level(number: i64) -> Result<ThreatLevel, String> {
    let level = u8::try_from(number).ok().and_then(ThreatLevel::new);
    level.ok_or_else(|| format!("{number} is out of range, use 1 to 10"))
}

fn control_address(text: &str) -> Result<ControlAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(ControlAddress::Unix);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(ControlAddress::Tcp(address)),
        _ => Err(format!(
            "{text:?} is no control port, use \"unix:/run/tor/control\" or \"127.0.0.1:9051\", as \
             ControlSocket or ControlPort in torrc say"
        )),
    }
}

fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 && address.ip().is_loopback() => Ok(address),
        _ => Err(format!(
            "{text:?} is no metrics port on this machine, use \"127.0.0.1:9035\", as MetricsPort in torrc says"
        )),
    }
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    match text.len() {
        1..=MAX_SOCKET_PATH => Ok(PathBuf::from(text)),
        length => Err(format!("a path of {length} bytes, use 1 to {MAX_SOCKET_PATH}")),
    }
}

fn level(written: RawDifficulty) -> Result<u8, String> {
    let advice = "use \"low\", \"medium\", \"high\" or a level from 1 to 10";
    match written {
        RawDifficulty::Word(word) => match word.as_str() {
            "low" => Ok(2),
            "medium" => Ok(5),
            "high" => Ok(8),
            _ => Err(format!("{word:?} is not known, {advice}")),
        },
        RawDifficulty::Level(number) => match u8::try_from(number) {
            Ok(level @ 1..=10) => Ok(level),
            _ => Err(format!("{number} is out of range, {advice}")),
        },
    }
}

fn octal(text: String) -> Result<u32, String> {
    let plain = matches!(text.len(), 3 | 4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    match u32::from_str_radix(&text, 8) {
        Ok(mode @ 0..=0o777) if plain => Ok(mode),
        _ => Err(format!("{text:?} is no file mode, use octal digits such as \"0660\"")),
    }
}

/// An address of the protected service: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
fn service_address(url: &str) -> Result<UpstreamServer, String> {
    if let Some(path) = url.strip_prefix("unix:") {
        // unix:///run/app.sock is a URL whose host is empty.
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path.starts_with('/') {
            true => socket_path(path).map(UpstreamServer::Unix),
            false => {
                Err(format!("{url:?} names no absolute path, use for example unix:/run/app.sock"))
            }
        };
    }
    let authority = authority(url)?;
    Ok(match uri_is_https(url) {
        true => UpstreamServer::Https(authority),
        false => UpstreamServer::Http(authority),
    })
}

fn uri_is_https(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.scheme() == Some(&Scheme::HTTPS))
}

/// The host and port of a URL that is nothing but scheme, host and port.
fn authority(url: &str) -> Result<Authority, String> {
    let fail = |what: &str| {
        Err(format!(
            "{url:?} {what}, use http://HOST:PORT, for example http://127.0.0.1:8080, or unix:PATH"
        ))
    };
    let Ok(uri) = url.parse::<Uri>() else {
        return fail("is no URL");
    };
    if ![Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme()) {
        return fail("is not http, https or unix");
    }
    let Some(authority) = uri.authority() else {
        return fail("names no host");
    };
    let rest = uri.path_and_query().map_or("", |rest| rest.as_str());
    if !matches!(rest, "" | "/") || url.contains(['#', '?']) {
        return fail("has a path or a query");
    }
    // Reassembled from its parts, it differs if something was ignored: a user, a port that is no number.
    let again = match authority.port_u16() {
        Some(port) => format!("{}:{port}", authority.host()),
        None => authority.host().to_owned(),
    };
    if authority.host().is_empty() || again != authority.as_str() || again.ends_with(":0") {
        return fail("is not only a host and a port");
    }
    Ok(authority.clone())
}

/// Checks values one by one, and notes the problems.
struct Check<'a> {
    origins: &'a Origins,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn with<R, T, E: Display>(
        &mut self,
        key: &str,
        value: Option<R>,
        convert: impl FnOnce(R) -> Result<T, E>,
        target: &mut T,
    ) {
        match value.map(convert) {
            Some(Ok(value)) => *target = value,
            Some(Err(message)) => self.problems.push(self.origins, key, message),
            None => {}
        }
    }

    fn whole<T: TryFrom<i64>>(
        &mut self,
        key: &str,
        value: Option<i64>,
        allowed: RangeInclusive<i64>,
        target: &mut T,
    ) {
        let (least, most) = (*allowed.start(), *allowed.end());
        let convert = |value: i64| {
            let inside = allowed.contains(&value).then(|| T::try_from(value).ok()).flatten();
            inside.ok_or(format!("{value} is out of range, use {least} to {most}"))
        };
        self.with(key, value, convert, target);
    }

    /// As [`Self::whole`], for a key without a default.
    fn some<T: TryFrom<i64> + Default>(
        &mut self,
        key: &str,
        value: Option<i64>,
        allowed: RangeInclusive<i64>,
        target: &mut Option<T>,
    ) {
        if value.is_some() {
            self.whole(key, value, allowed, target.get_or_insert_default());
        }
    }

    fn seconds(
        &mut self,
        key: &str,
        value: Option<i64>,
        allowed: RangeInclusive<i64>,
        target: &mut Duration,
    ) {
        let mut seconds = target.as_secs();
        self.whole(key, value, allowed, &mut seconds);
        *target = Duration::from_secs(seconds);
    }

    fn word<T: Copy>(
        &mut self,
        key: &str,
        value: Option<String>,
        words: &[(&str, T)],
        target: &mut T,
    ) {
        let convert = |value: String| match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                Err(format!("{value:?} is not known, use {}", known.join(" or ")))
            }
        };
        self.with(key, value, convert, target);
    }
}

//! The configuration in force, as text.
//!
//! The configuration contains no secrets, only the paths of files with secrets, so nothing is redacted here. A key
//! that ever contains a secret must not be added with its value.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use fortify_engine::threat::table::Admits;

/// The text for a key that is not set.
const NOT_SET: &str = "not set";

/// The keys of one section with their values.
pub type Keys = Vec<(&'static str, String)>;

impl Config {
    /// All sections and keys, with the values in force.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, Keys)> {
        let (server, captcha, storage) = (&self.server, &self.captcha, &self.storage);
        let (scoring, redis, admin) = (&self.reputation.scoring, &self.storage.redis, &self.admin);
        let haproxy = |tcp: bool| {
            let endpoint = self.haproxy.endpoint.as_ref();
            text(endpoint.filter(|endpoint| matches!(endpoint, Endpoint::Tcp(_)) == tcp))
        };
        let weights = |names: Vec<(String, u32)>| match names.is_empty() {
            true => "each level's own".to_owned(),
            false => {
                let each = names.iter().map(|(name, weight)| format!("{name} = {weight}"));
                each.collect::<Vec<_>>().join(", ")
            }
        };
        let variants = captcha.variant_weights.iter();
        let variants = weights(variants.map(|(it, n)| (it.to_string(), *n)).collect());
        let carriers = captcha.carrier_weights.iter();
        let carriers = weights(carriers.map(|(it, n)| (it.to_string(), *n)).collect());
        let servers: Vec<_> = redis.servers.iter().map(server_text).collect();
        let (urls, url) = match servers.as_slice() {
            [one] if !redis.cluster => (NOT_SET.to_owned(), one.clone()),
            many => (many.join(", "), NOT_SET.to_owned()),
        };
        let services: Vec<_> = self.upstream.servers.iter().map(ToString::to_string).collect();
        let (service_urls, service_url) = match services.as_slice() {
            [] => (NOT_SET.to_owned(), NOT_SET.to_owned()),
            [one] => (NOT_SET.to_owned(), one.clone()),
            many => (many.join(", "), NOT_SET.to_owned()),
        };
        vec![
            (
                "server",
                vec![
                    ("host", server.host.to_string()),
                    ("port", server.port.to_string()),
                    ("socket", path(server.socket.as_ref())),
                    ("socket_mode", format!("{:04o}", server.socket_mode)),
                    ("proxy_protocol", server.proxy_protocol.to_string()),
                    ("trusted_proxies", server.trusted_proxies.to_string()),
                    ("max_connections", server.max_connections.to_string()),
                    ("max_connections_per_circuit", server.max_connections_per_circuit.to_string()),
                    ("header_timeout_seconds", seconds(server.header_timeout)),
                    ("body_timeout_seconds", seconds(server.body_timeout)),
                    ("idle_timeout_seconds", seconds(server.idle_timeout)),
                    ("drain_seconds", seconds(server.drain)),
                    ("operator_endpoints", word(&server.operator_endpoints)),
                ],
            ),
            (
                "captcha",
                vec![
                    ("ttl_seconds", seconds(captcha.ttl)),
                    ("difficulty", captcha.level.to_string()),
                    ("length", captcha.length.to_string()),
                    ("challenge_status", captcha.challenge_status.to_string()),
                    ("max_active", captcha.max_active.to_string()),
                    ("max_concurrent_renders", captcha.max_concurrent_renders.to_string()),
                    ("max_active_per_circuit", captcha.max_active_per_circuit.to_string()),
                    ("mode", word(&captcha.mode)),
                    ("variant_weights", variants),
                    ("carrier_weights", carriers),
                    ("drawn_ahead", captcha.drawn_ahead.to_string()),
                    ("style_period_seconds", seconds(captcha.style_period)),
                ],
            ),
            (
                "session",
                vec![
                    ("ttl_seconds", seconds(self.session.ttl)),
                    ("max_moves", self.session.max_moves.to_string()),
                    ("secure", word(&self.session.secure)),
                    ("tunnel_grace_seconds", seconds(self.session.tunnel_grace)),
                ],
            ),
            (
                "security",
                vec![
                    ("identity", word(&self.security.identity)),
                    ("max_captcha_failures", self.security.max_captcha_failures.to_string()),
                    ("reputation_decay_seconds", seconds(self.security.reputation_decay)),
                ],
            ),
            (
                "limits",
                vec![
                    ("failure_waits_seconds", self.limits.failure_waits.to_string()),
                    ("challenges_per_minute", self.limits.challenges_per_minute.to_string()),
                    ("service_challenges_per_minute", self.limits.service.per_minute.to_string()),
                    ("service_challenges_per_second", self.limits.service.per_second.to_string()),
                ],
            ),
            (
                "reputation",
                vec![
                    ("vip_seconds", seconds(self.reputation.vip)),
                    ("ban_seconds", seconds(self.reputation.ban)),
                    ("failure_points", scoring.failure.to_string()),
                    ("bot_points", scoring.bot.to_string()),
                    ("ban_points", scoring.ban.to_string()),
                    ("half_life_seconds", seconds(scoring.half_life)),
                    ("forget_seconds", seconds(scoring.forget)),
                    ("suspicion", scoring.suspects.to_string()),
                ],
            ),
            ("behaviour", vec![("mode", word(&self.behaviour.mode))]),
            (
                "haproxy",
                vec![
                    ("socket_path", haproxy(false)),
                    ("address", haproxy(true)),
                    ("table_name", self.haproxy.table.to_string()),
                ],
            ),
            (
                "storage",
                vec![
                    ("backend", word(&storage.backend)),
                    ("data_dir", storage.data_dir.display().to_string()),
                    ("url", url),
                    ("urls", urls),
                    ("cluster", redis.cluster.to_string()),
                    ("user", text(redis.user.as_ref())),
                    ("password_file", path(redis.password_file.as_ref())),
                    ("tls_ca_file", path(redis.tls.ca.as_ref())),
                    ("tls_certificate_file", path(redis.tls.certificate.as_ref())),
                    ("tls_key_file", path(redis.tls.key.as_ref())),
                    ("prefix", redis.prefix.as_str().to_owned()),
                    ("timeout_ms", redis.timeout.as_millis().to_string()),
                    ("wait_replicas", redis.wait_replicas.to_string()),
                ],
            ),
            (
                "upstream",
                vec![
                    ("url", service_url),
                    ("urls", service_urls),
                    ("tls_ca_file", path(self.upstream.tls_ca.as_ref())),
                    ("connect_timeout_seconds", seconds(self.upstream.connect_timeout)),
                    ("response_timeout_seconds", seconds(self.upstream.response_timeout)),
                    ("max_concurrent", self.upstream.max_concurrent.to_string()),
                ],
            ),
            (
                "tor",
                vec![
                    ("control", text(self.tor.control.as_ref())),
                    ("cookie_file", path(self.tor.cookie_file.as_ref())),
                    ("password_file", path(self.tor.password_file.as_ref())),
                    ("metrics_address", text(self.tor.metrics_address.as_ref())),
                    ("instance", self.tor.instance.to_string()),
                ],
            ),
            (
                "threat",
                vec![
                    ("mode", self.threat.mode.as_str().to_owned()),
                    ("level", text(self.threat.level.as_ref())),
                    ("on_change", self.threat.on_change.join(" ")),
                    ("levels", levels(&self.threat.levels)),
                ],
            ),
            (
                "admin",
                vec![
                    ("listen", text(admin.listen.as_ref())),
                    ("socket", path(self.admin_socket().as_ref())),
                    ("allow_remote", admin.allow_remote.to_string()),
                    ("idle_minutes", (admin.idle.as_secs() / 60).to_string()),
                    ("session_minutes", (admin.session.as_secs() / 60).to_string()),
                    ("login_tries", admin.login_tries.to_string()),
                    ("login_tries_per_minute", admin.login_tries_per_minute.to_string()),
                    ("login_wait_seconds", seconds(admin.login_wait)),
                ],
            ),
            ("log", vec![("level", word(&self.log.level)), ("format", word(&self.log.format))]),
        ]
    }
}

fn seconds(time: Duration) -> String {
    time.as_secs().to_string()
}

fn text<T: Display>(value: Option<&T>) -> String {
    value.map_or_else(|| NOT_SET.to_owned(), ToString::to_string)
}

fn path(value: Option<&PathBuf>) -> String {
    value.map_or_else(|| NOT_SET.to_owned(), |path| path.display().to_string())
}

/// The word of an enum value whose variants are named like their words.
fn word<T: fmt::Debug>(value: &T) -> String {
    format!("{value:?}").to_ascii_lowercase()
}

fn server_text(server: &RedisServer) -> String {
    match &server.address {
        RedisAddress::Tcp { host, port, tls } => {
            let scheme = if *tls { "rediss" } else { "redis" };
            format!("{scheme}://{host}:{port}/{}", server.database)
        }
        RedisAddress::Unix(path) => format!("unix://{}?db={}", path.display(), server.database),
    }
}

/// The written keys of each level.
fn levels(written: &[LevelOverride]) -> String {
    let each = written.iter().map(|row| {
        let admits = row.admits.map(|admits| match admits {
            Admits::Either => "either",
            Admits::Session => "session",
            Admits::Both => "both",
        });
        let columns = [
            row.variants.is_some().then(|| "variant_weights".to_owned()),
            row.carriers.is_some().then(|| "carrier_weights".to_owned()),
            row.stages.map(|it| format!("stages = {it}")),
            row.challenge_ttl.map(|it| format!("challenge_ttl_seconds = {}", it.as_secs())),
            row.challenges_per_hour.map(|it| format!("challenges_per_hour = {it}")),
            row.session_ttl.map(|it| format!("session_ttl_seconds = {}", it.as_secs())),
            admits.map(|it| format!("admits = {it}")),
            row.pages_per_minute.map(|it| format!("pages_per_minute = {it}")),
            row.page_burst.map(|it| format!("page_burst = {it}")),
            row.pages_per_session.map(|it| format!("pages_per_session = {it}")),
            row.sessions_per_hour.map(|it| format!("sessions_per_hour = {it}")),
            row.connections_per_circuit.map(|it| format!("connections_per_circuit = {it}")),
        ];
        let columns: Vec<_> = columns.into_iter().flatten().collect();
        format!("{}: {}", row.level, columns.join(", "))
    });
    let each: Vec<_> = each.collect();
    if each.is_empty() { NOT_SET.to_owned() } else { each.join("; ") }
}

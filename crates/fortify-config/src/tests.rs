//! What an operator may write, and what they are told when it is wrong.

use std::path::Path;

use fortify_captcha::{AnswerMode, Carrier, Variant};

use super::raw::{
    RawAdmin, RawBehaviour, RawCaptcha, RawHaproxy, RawLevel, RawLimits, RawLog, RawReputation,
    RawSecurity, RawServer, RawSession, RawStorage, RawThreat, RawTor, RawUpstream,
};
use super::*;
use fortify_core::allowance::Rate;
use fortify_core::circuit::{IdentityMode, TrustedProxies};
use fortify_engine::behaviour;
use fortify_engine::limits::waits::FailureWaits;
use fortify_engine::threat::table::Admits;
use fortify_engine::threat::{Mode, ThreatLevel};
use fortify_reputation::answer_history::Scoring;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fortify.toml");

fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fortify.toml");
    std::fs::write(&path, text).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), env).map_err(|error| {
        assert_eq!(error.to_string(), error.problems().join("\n"));
        let prefix = format!("{}/", directory.path().display());
        error.problems().iter().map(|line| line.replace(&prefix, "")).collect()
    })
}

fn problems(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    load(text, env).unwrap_err()
}

fn problem(text: &str) -> String {
    let mut all = problems(text, &[]);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn from_env(name: &str, value: &str) -> Result<Config, String> {
    Config::load(None, [(name.to_owned(), value.to_owned())]).map_err(|error| error.to_string())
}

#[test]
fn the_shipped_file_is_the_embedded_default_and_shows_every_key() {
    let shipped = Config::load(Some(Path::new(SHIPPED)), []).unwrap();
    assert_eq!(shipped, Config::default());
    assert_eq!(Config::load(None, []).unwrap(), Config::default());

    let text = std::fs::read_to_string(SHIPPED).unwrap();
    let mut sections: Vec<_> = text.split("\n[").skip(1).collect();
    for (section, keys) in [
        ("server", RawServer::KEYS),
        ("captcha", RawCaptcha::KEYS),
        ("session", RawSession::KEYS),
        ("security", RawSecurity::KEYS),
        ("limits", RawLimits::KEYS),
        ("reputation", RawReputation::KEYS),
        ("behaviour", RawBehaviour::KEYS),
        ("haproxy", RawHaproxy::KEYS),
        ("storage", RawStorage::KEYS),
        ("upstream", RawUpstream::KEYS),
        ("tor", RawTor::KEYS),
        ("threat", &[RawThreat::KEYS, RawLevel::KEYS].concat()),
        ("admin", RawAdmin::KEYS),
        ("log", RawLog::KEYS),
    ] {
        let body = sections.remove(0).strip_prefix(&format!("{section}]")).unwrap();
        for key in keys {
            let shown = body
                .lines()
                .any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
            assert!(shown, "{section}.{key} is not in fortify.toml");
        }
    }
    assert!(sections.is_empty());
}

/// A value for each key that is not its default.
const EVERY_KEY: &str = r#"
        [server]
        host = "::1"
        port = 0
        socket = "/run/f.sock"
        socket_mode = "600"
        proxy_protocol = true
        trusted_proxies = ["10.0.0.0/8"]
        max_connections = 7
        max_connections_per_circuit = 3
        header_timeout_seconds = 1
        body_timeout_seconds = 2
        idle_timeout_seconds = 3
        drain_seconds = 0
        operator_endpoints = "off"
        [captcha]
        ttl_seconds = 61
        difficulty = 9
        length = 8
        challenge_status = 200
        max_active = 100
        max_concurrent_renders = 1
        max_active_per_circuit = 7
        mode = "choice"
        drawn_ahead = 0
        style_period_seconds = 3600
        variant_weights = { arithmetic = 1, distorted_text = 3 }
        carrier_weights = { motion = 5 }
        [session]
        ttl_seconds = 60
        max_moves = 0
        secure = "auto"
        tunnel_grace_seconds = 5
        [security]
        identity = "peer"
        max_captcha_failures = 1
        reputation_decay_seconds = 2
        [limits]
        failure_waits_seconds = [1, 2]
        challenges_per_minute = 20
        service_challenges_per_minute = 500
        service_challenges_per_second = 50
        [reputation]
        vip_seconds = 60
        ban_seconds = 86400
        failure_points = 2
        bot_points = 3
        ban_points = 4
        half_life_seconds = 60
        forget_seconds = 61
        suspicion = false
        [behaviour]
        mode = "act"
        [haproxy]
        socket_path = "/run/haproxy/fortify.sock"
        table_name = "t-1"
        [storage]
        backend = "redis"
        data_dir = "data"
        urls = ["redis://[::1]:7000", "redis://b"]
        cluster = true
        user = "gate"
        password_file = "/run/secret"
        tls_ca_file = "/ca"
        tls_certificate_file = "/crt"
        tls_key_file = "/key"
        prefix = "site-1"
        timeout_ms = 50
        wait_replicas = 1
        [upstream]
        urls = ["https://[::1]:8443/", "unix:/run/app.sock"]
        tls_ca_file = "/service-ca"
        connect_timeout_seconds = 1
        response_timeout_seconds = 2
        max_concurrent = 40
        [tor]
        control = "unix:/run/tor/control"
        cookie_file = "/run/tor/control.authcookie"
        metrics_address = "127.0.0.1:9035"
        instance = 3
        [threat]
        mode = "pinned"
        level = 4
        on_change = ["/bin/told", "-v"]
        [[threat.levels]]
        level = 3
        variant_weights = { arithmetic = 2 }
        carrier_weights = { ink = 1 }
        stages = 2
        challenge_ttl_seconds = 60
        challenges_per_hour = 7
        session_ttl_seconds = 60
        admits = "both"
        pages_per_minute = 8
        page_burst = 9
        pages_per_session = 11
        sessions_per_hour = 12
        connections_per_circuit = 13
        [[threat.levels]]
        level = 10
        [admin]
        listen = "0.0.0.0:7"
        socket = "/run/a.sock"
        allow_remote = true
        idle_minutes = 1
        session_minutes = 2
        login_tries = 3
        login_tries_per_minute = 4
        login_wait_seconds = 5
        [log]
        level = "trace"
        format = "json"
        "#;

#[test]
fn every_key_takes_effect() {
    let config = load(EVERY_KEY, &[]);
    let seconds = Duration::from_secs;
    let expected = Config {
        server: ServerConfig {
            host: "::1".parse().unwrap(),
            port: 0,
            socket: Some("/run/f.sock".into()),
            socket_mode: 0o600,
            proxy_protocol: true,
            trusted_proxies: TrustedProxies::parse(["10.0.0.0/8"]).unwrap(),
            max_connections: 7,
            max_connections_per_circuit: 3,
            header_timeout: seconds(1),
            body_timeout: seconds(2),
            idle_timeout: seconds(3),
            drain: seconds(0),
            operator_endpoints: OperatorEndpoints::Off,
        },
        captcha: CaptchaConfig {
            ttl: seconds(61),
            level: 9,
            length: 8,
            challenge_status: 200,
            max_active: 100,
            max_concurrent_renders: 1,
            max_active_per_circuit: 7,
            mode: AnswerMode::Choice,
            drawn_ahead: 0,
            style_period: seconds(3600),
            variant_weights: vec![(Variant::Arithmetic, 1), (Variant::DistortedText, 3)],
            carrier_weights: vec![(Carrier::Motion, 5)],
        },
        session: SessionConfig {
            ttl: seconds(60),
            max_moves: 0,
            secure: SecureCookie::Auto,
            tunnel_grace: seconds(5),
        },
        security: SecurityConfig {
            identity: IdentityMode::Peer,
            max_captcha_failures: 1,
            reputation_decay: seconds(2),
        },
        limits: LimitsConfig {
            failure_waits: FailureWaits::new([1, 2].map(Duration::from_secs).to_vec()).unwrap(),
            challenges_per_minute: 20,
            service: Rate { per_minute: 500, per_second: 50 },
        },
        reputation: ReputationConfig {
            vip: seconds(60),
            ban: seconds(86_400),
            scoring: Scoring {
                failure: 2.0,
                bot: 3.0,
                ban: 4.0,
                half_life: seconds(60),
                forget: seconds(61),
                suspects: false,
            },
        },
        behaviour: BehaviourConfig { mode: behaviour::Mode::Act },
        haproxy: HaproxyConfig {
            endpoint: Some(Endpoint::Unix("/run/haproxy/fortify.sock".into())),
            table: "t-1".parse().unwrap(),
        },
        storage: StorageConfig {
            backend: StorageBackend::Redis,
            data_dir: "data".into(),
            redis: RedisConfig {
                servers: vec![tcp("::1", 7000), tcp("b", 6379)],
                cluster: true,
                user: Some("gate".to_owned()),
                password_file: Some("/run/secret".into()),
                tls: RedisTls {
                    ca: Some("/ca".into()),
                    certificate: Some("/crt".into()),
                    key: Some("/key".into()),
                },
                prefix: KeyPrefix::parse("site-1".to_owned()).unwrap(),
                timeout: Duration::from_millis(50),
                wait_replicas: 1,
            },
        },
        upstream: UpstreamConfig {
            servers: vec![
                UpstreamServer::Https("[::1]:8443".parse().unwrap()),
                UpstreamServer::Unix("/run/app.sock".into()),
            ],
            tls_ca: Some("/service-ca".into()),
            connect_timeout: seconds(1),
            response_timeout: seconds(2),
            max_concurrent: 40,
        },
        tor: TorConfig {
            control: Some(ControlAddress::Unix("/run/tor/control".into())),
            cookie_file: Some("/run/tor/control.authcookie".into()),
            password_file: None,
            metrics_address: Some("127.0.0.1:9035".parse().unwrap()),
            instance: 3,
        },
        threat: ThreatConfig {
            mode: Mode::Pinned,
            level: ThreatLevel::new(4),
            on_change: ["/bin/told", "-v"].map(str::to_owned).to_vec(),
            levels: vec![
                LevelOverride {
                    variants: Some(vec![(Variant::Arithmetic, 2)]),
                    carriers: Some(vec![(Carrier::Ink, 1)]),
                    stages: Some(2),
                    challenge_ttl: Some(seconds(60)),
                    challenges_per_hour: Some(7),
                    session_ttl: Some(seconds(60)),
                    admits: Some(Admits::Both),
                    pages_per_minute: Some(8),
                    page_burst: Some(9),
                    pages_per_session: Some(11),
                    sessions_per_hour: Some(12),
                    connections_per_circuit: Some(13),
                    ..LevelOverride::of(ThreatLevel::new(3).unwrap())
                },
                LevelOverride::of(ThreatLevel::MAX),
            ],
        },
        admin: AdminConfig {
            listen: Some("0.0.0.0:7".parse().unwrap()),
            socket: AdminSocket::At("/run/a.sock".into()),
            allow_remote: true,
            idle: seconds(60),
            session: seconds(120),
            login_tries: 3,
            login_tries_per_minute: 4,
            login_wait: seconds(5),
        },
        log: LogConfig { level: LogLevel::Trace, format: LogFormat::Json },
    };
    assert_eq!(config.unwrap(), expected);
}

fn tcp(host: &str, port: u16) -> RedisServer {
    let address = RedisAddress::Tcp { host: host.to_owned(), port, tls: false };
    RedisServer { address, database: 0 }
}

/// What needs a restart is known by key where it is told, and by field where it is held back: the same.
#[test]
fn a_reload_puts_in_force_what_needs_no_restart_and_that_alone() {
    let whole: toml::Table = toml::from_str(EVERY_KEY).unwrap();
    let only = |restart: bool| {
        let mut table = toml::Table::new();
        for (section, keys) in &whole {
            let keys = keys.as_table().unwrap().iter();
            let some =
                keys.filter(|(key, _)| needs_restart(&format!("{section}.{key}")) == restart);
            let some: toml::Table = some.map(|(key, value)| (key.clone(), value.clone())).collect();
            table.insert(section.clone(), some.into());
        }
        // Bounds of the one half that follow from the other.
        if restart {
            table.remove("threat");
        }
        load(&toml::to_string(&table).unwrap(), &[]).unwrap()
    };
    let running = Config::default();
    let (cold, hot) = (only(true), only(false));
    assert_ne!(cold, running);
    assert_eq!(cold.until_restart(&running), running);
    assert_eq!(hot.clone().until_restart(&running), hot);
}

#[test]
fn what_was_written_otherwise_is_named_with_both_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    let written = |text: &str, env: &[(&str, &str)]| {
        std::fs::write(&path, text).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load_written(Some(&path), env).unwrap().1
    };
    let before = written("[captcha]\nlength = 5\n[server]\nport = 1\n", &[]);
    let after =
        written("[captcha]\nlength = 6\nttl_seconds = 60\n", &[("FORTIFY__LOG__LEVEL", "debug")]);
    let told: Vec<String> = before.changes(&after).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "captcha.length: 5 -> 6",
            "captcha.ttl_seconds: default -> 60",
            "log.level: default -> \"debug\"",
            "server.port: 1 -> default",
        ]
    );
    assert!(after.changes(&after).is_empty());
    // What waits for a restart keeps its former value, and is told again.
    let waits: Vec<_> = before.changes(&after).into_iter().filter(Change::needs_restart).collect();
    let running = after.clone().but(&before, &waits);
    assert_eq!(running.changes(&after), waits);
    let applied: Vec<String> = before.changes(&running).iter().map(|it| it.key.clone()).collect();
    assert_eq!(applied, ["captcha.length", "captcha.ttl_seconds"]);
}

#[test]
fn redis_is_reached_by_one_url_or_the_nodes_of_a_cluster() {
    let redis = |text: &str| load(&format!("[storage]\n{text}"), &[]).unwrap().storage.redis;
    assert_eq!(redis("").servers, [tcp("127.0.0.1", 6379)]);
    assert_eq!(redis("url = \"redis://cache.internal/\"").servers, [tcp("cache.internal", 6379)]);
    assert_eq!(redis("url = \"redis://10.0.0.1:7/3\"").servers[0].database, 3);
    let socket = &redis("url = \"unix:///run/redis/a%20b.sock?db=2\"").servers[0];
    assert_eq!(socket.address, RedisAddress::Unix("/run/redis/a b.sock".into()));
    assert_eq!(socket.database, 2);
    let tls = &redis("url = \"rediss://a\"").servers[0];
    assert!(tls.address.is_tls() && tls.to_string() == "a:6379");
    assert!(!redis("url = \"redis://a\"").cluster);
    assert!(redis("url = \"redis://a\"\ncluster = true").cluster);
    assert!(redis("urls = [\"redis://a\", \"redis://b\"]").cluster);
}

#[test]
fn a_redis_that_cannot_be_reached_as_written_is_refused() {
    for (text, expected) in [
        ("url = \"\"", "is no URL, use redis://HOST:PORT"),
        ("url = \"127.0.0.1:6379\"", "is no URL, use redis://HOST:PORT"),
        ("url = \"http://a\"", "another scheme than redis, rediss and unix"),
        ("urls = [\"redis://a\", \"rediss://b\"]", "has nodes with TLS and without"),
        ("tls_key_file = \"k\"", "needs storage.tls_certificate_file as well"),
        ("tls_certificate_file = \"c\"", "needs storage.tls_key_file as well"),
        ("tls_ca_file = \"\"", "is empty, use the path of a file"),
        ("url = \"redis://\"", "names no host"),
        ("url = \"redis://a:0\"", "has port 0"),
        ("url = \"redis://a:99999\"", "is no URL"),
        ("url = \"redis://a/x\"", "names a database that is no number"),
        ("url = \"redis://a/-1\"", "names a database that is no number"),
        ("url = \"redis://a?db=1\"", "has a query"),
        ("url = \"redis://a#b\"", "has a fragment"),
        ("url = \"unix://run/redis.sock\"", "needs three slashes"),
        ("url = \"unix:///\"", "has no path of at most 107 bytes"),
        ("url = \"unix:///s?d=1\"", "has a query but db="),
        ("urls = []", "names 0 nodes, use 1 to 32"),
        ("urls = [\"redis://a\", \"redis://b/1\"]", "names a socket or a database"),
        ("url = \"unix:///s1\"\ncluster = true", "names a socket or a database"),
        ("prefix = \"a{b}\"", "is no prefix, use up to 32 of a-z, 0-9, _ and -, or \"\" for none"),
        ("prefix = \"a:b\"", "is no prefix"),
        ("prefix = \"a b\"", "is no prefix"),
        ("prefix = \"a*\"", "is no prefix"),
        ("timeout_ms = 9", "9 is out of range, use 10 to 5000"),
        ("wait_replicas = 6", "6 is out of range, use 0 to 5"),
        ("password_file = \"\"", "is empty, use the path of a file"),
        ("user = \"a b\"\npassword_file = \"p\"", "is no user"),
        ("user = \"a\"", "needs storage.password_file as well"),
    ] {
        let (key, said) = (text.split(' ').next().unwrap(), problem(&format!("[storage]\n{text}")));
        assert!(said.starts_with(&format!("fortify.toml:2: storage.{key}: ")), "{said}");
        assert!(said.contains(expected), "{text}: {said}");
    }
    let both = problem("[storage]\nurls = [\"redis://a\"]\nurl = \"redis://a\"");
    assert!(
        both.starts_with("fortify.toml:3: storage.url: is set together with storage.urls"),
        "{both}"
    );
    let many = "[storage]\nurls = [\"redis://a\", \"redis://b\"]\ncluster = false";
    assert!(
        problem(many).starts_with("fortify.toml:3: storage.cluster: is false and storage.urls")
    );
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    for url in ["redis://:hunter22@a", "redis://gate:hunter22@a:1/2", "rediss://x:hunter22@a"] {
        let said = problem(&format!("storage.url = {url:?}"));
        assert!(said.contains("storage.password_file"), "{said}");
        assert!(!said.contains("hunter22") && !said.contains("gate"), "{said}");
    }
}

#[test]
fn difficulty_words_are_levels() {
    for (written, level) in
        [("\"low\"", 2), ("\"medium\"", 5), ("\"high\"", 8), ("1", 1), ("10", 10)]
    {
        let config = load(&format!("[captcha]\ndifficulty = {written}"), &[]).unwrap();
        assert_eq!(config.captcha.level, level);
    }
}

#[test]
fn a_value_out_of_range_names_line_key_and_range() {
    let text = "# one\n[server]\nport = 1\n\n[captcha]\nttl_seconds = 300\nlength = 12\n";
    assert_eq!(problem(text), "fortify.toml:7: captcha.length: 12 is out of range, use 4 to 8");
    for (key, value, allowed) in [
        ("server.port", "65536", "0 to 65535"),
        ("server.port", "-1", "0 to 65535"),
        ("server.max_connections", "0", "1 to 65536"),
        ("server.max_connections_per_circuit", "0", "1 to 65536"),
        ("server.header_timeout_seconds", "0", "1 to 3600"),
        ("captcha.ttl_seconds", "29", "60 to 3600"),
        ("captcha.max_active", "99", "100 to 1000000"),
        ("captcha.max_concurrent_renders", "1001", "1 to 1000"),
        ("captcha.max_active_per_circuit", "0", "1 to 100"),
        ("session.ttl_seconds", "86401", "60 to 86400"),
        ("session.max_moves", "-1", "0 to 60"),
        ("session.max_moves", "61", "0 to 60"),
        ("session.tunnel_grace_seconds", "86401", "0 to 86400"),
        ("security.max_captcha_failures", "0", "1 to 100"),
        ("security.reputation_decay_seconds", "9223372036854775807", "1 to 86400"),
        ("upstream.connect_timeout_seconds", "0", "1 to 300"),
        ("upstream.max_concurrent", "-1", "0 to 4096"),
        ("limits.challenges_per_minute", "0", "1 to 1000"),
        ("limits.service_challenges_per_minute", "9", "10 to 6000000"),
        ("limits.service_challenges_per_second", "0", "1 to 100000"),
        ("reputation.vip_seconds", "59", "60 to 86400"),
        ("reputation.ban_seconds", "86401", "60 to 86400"),
        ("reputation.ban_points", "0", "1 to 100"),
        ("tor.instance", "65536", "0 to 65535"),
        ("admin.idle_minutes", "0", "1 to 1440"),
        ("admin.session_minutes", "10081", "1 to 10080"),
        ("admin.login_tries", "0", "1 to 100"),
        ("admin.login_tries_per_minute", "1001", "1 to 1000"),
        ("admin.login_wait_seconds", "0", "1 to 86400"),
    ] {
        let expected = format!("fortify.toml:1: {key}: {value} is out of range, use {allowed}");
        assert_eq!(problem(&format!("{key} = {value}")), expected);
    }
}

#[test]
fn weights_name_what_there_is_and_weigh_something() {
    for (key, value, words) in [
        ("variant_weights", "{ riddle = 1 }", "\"riddle\" is not known"),
        ("variant_weights", "{ riddle = 1 }", "distorted_text, arithmetic, object_recognition"),
        ("carrier_weights", "{ ink = -1 }", "ink = -1 is out of range, use 0 to 1000"),
        ("carrier_weights", "{ ink = 0, swirl = 0 }", "no weight above 0"),
    ] {
        let message = problem(&format!("[captcha]\n{key} = {value}\n"));
        let place = format!("fortify.toml:2: captcha.{key}: ");
        assert!(message.starts_with(&place) && message.contains(words), "{message}");
    }
}

#[test]
fn a_value_that_is_not_known_names_the_known_ones() {
    for (text, expected) in [
        ("log.level = \"loud\"", "\"loud\" is not known, use \"error\" or \"warn\" or"),
        ("session.secure = \"yes\"", "\"yes\" is not known, use \"on\" or \"off\" or \"auto\""),
        ("security.identity = \"\"", "\"\" is not known, use \"circuit\" or \"peer\""),
        ("storage.backend = \"disk\"", "\"disk\" is not known, use \"memory\" or \"redis\""),
        ("server.operator_endpoints = \"all\"", "use \"local\" or \"off\""),
        ("captcha.difficulty = \"hard\"", "use \"low\", \"medium\", \"high\" or a level from 1"),
        ("captcha.difficulty = 11", "11 is out of range, use \"low\","),
        ("captcha.difficulty = true", "use \"low\", \"medium\", \"high\" or a level from 1"),
        ("captcha.challenge_status = 500", "use 200, 403, 429 or 503"),
        ("server.host = \"localhost\"", "\"localhost\" is no IP address, use one such as 127.0"),
        ("server.socket_mode = \"0999\"", "\"0999\" is no file mode, use octal digits such as"),
        ("server.socket_mode = \"4755\"", "is no file mode"),
        ("server.socket_mode = \"+66\"", "is no file mode"),
        ("server.socket = \"\"", "a path of 0 bytes, use 1 to 107"),
        ("server.trusted_proxies = [\"10.0.0.0/8\", \"lan\"]", "\"lan\" is not a network, use"),
        ("storage.data_dir = \"\"", "is empty, use the path of a directory"),
        ("haproxy.socket_path = \"\"", "a path of 0 bytes, use 1 to 107"),
        ("haproxy.address = \"localhost:9999\"", "is no address with a port, use one such as"),
        ("haproxy.address = \"127.0.0.1\"", "is no address with a port, use one such as"),
        ("admin.listen = \"10009\"", "is no address with a port, use one such as 127.0.0.1:10009"),
        ("haproxy.table_name = \"a b\"", "is not the name of a stick table, use 1 to 64 of"),
    ] {
        let key = text.split(' ').next().unwrap();
        let said = problem(text);
        assert!(said.starts_with(&format!("fortify.toml:1: {key}: ")), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn haproxy_is_reached_one_way_and_its_table_is_a_name() {
    let config = load("haproxy.address = \"[::1]:9999\"", &[]).unwrap();
    let expected = Endpoint::Tcp("[::1]:9999".parse().unwrap());
    assert_eq!(config.haproxy.endpoint, Some(expected));
    assert_eq!(config.haproxy.table.as_str(), "tor_ingress");
    assert_eq!(Config::default().haproxy.endpoint, None);
    assert_eq!(
        problem("[haproxy]\nsocket_path = \"/run/h.sock\"\naddress = \"127.0.0.1:9999\""),
        "fortify.toml:3: haproxy.address: is set together with haproxy.socket_path, keep the one that \
         HAProxy listens on"
    );
}

#[test]
fn abuse_20_no_table_name_that_says_more_than_a_name_is_taken() {
    for bad in ["", "t;clear table t", "t\nshow info", "t <<", "t key", "t\u{0}", "tä"] {
        let said = problem(&format!("haproxy.table_name = {}", toml::Value::from(bad)));
        assert!(said.starts_with("fortify.toml:1: haproxy.table_name: "), "{said}");
    }
}

#[test]
fn an_upstream_is_an_address_and_nothing_else() {
    let http = |authority: &str| UpstreamServer::Http(authority.parse().unwrap());
    for (good, server) in [
        ("http://127.0.0.1:8080", http("127.0.0.1:8080")),
        ("http://backend.internal/", http("backend.internal")),
        ("HTTP://[::1]", http("[::1]")),
        ("unix:/run/app.sock", UpstreamServer::Unix("/run/app.sock".into())),
        ("unix:///run/app.sock", UpstreamServer::Unix("/run/app.sock".into())),
    ] {
        let config = load(&format!("upstream.url = {good:?}"), &[]).unwrap();
        assert_eq!(config.upstream.servers, [server]);
    }
    for bad in [
        "",
        "127.0.0.1:8080",
        "/",
        "ftp://127.0.0.1",
        "http://",
        "http://u:p@127.0.0.1",
        "http://127.0.0.1/app",
        "http://127.0.0.1/?q",
        "http://127.0.0.1/#f",
        "http://127.0.0.1:0",
        "http://127.0.0.1:",
        "http://127.0.0.1:99999",
        "http://127.0.0.1 /",
    ] {
        let said = problem(&format!("upstream.url = {bad:?}"));
        let start = format!("fortify.toml:1: upstream.url: {bad:?} ");
        assert!(said.starts_with(&start) && said.contains("use http://HOST:PORT"), "{said}");
    }
    for (bad, message) in [
        ("url = \"unix:app.sock\"", "url: \"unix:app.sock\" names no absolute path"),
        ("url = \"unix:\"", "url: \"unix:\" names no absolute path"),
        ("url = \"https://a\"", "url: is https, which needs upstream.tls_ca_file"),
        ("urls = []", "urls: names 0 addresses, use 1 to 32"),
        ("urls = [\"http://a\", \"http://b/x\"]", "urls: \"http://b/x\" has a path"),
        ("urls = [\"http://a\", \"http://a\"]", "urls: names http://a twice"),
        ("urls = [\"http://a\", \"https://b\"]", "urls: is https, which needs"),
        ("urls = [\"http://a\"]\nurl = \"http://b\"", "url: is set together with upstream.urls"),
        ("url = \"http://a\"\ntls_ca_file = \"x\"", "tls_ca_file: is of no use"),
        ("url = \"https://a\"\ntls_ca_file = \"\"", "tls_ca_file: is empty"),
    ] {
        let said = problem(&format!("[upstream]\n{bad}"));
        assert!(said.contains(&format!(": upstream.{message}")), "{bad}: {said}");
        assert!(said.starts_with("fortify.toml:"), "{said}");
    }
}

#[test]
fn a_control_port_is_a_socket_or_an_address_and_has_one_way_in() {
    for (good, control) in [
        ("unix:/run/tor/control", ControlAddress::Unix("/run/tor/control".into())),
        ("127.0.0.1:9051", ControlAddress::Tcp("127.0.0.1:9051".parse().unwrap())),
        ("[::1]:9051", ControlAddress::Tcp("[::1]:9051".parse().unwrap())),
    ] {
        let config = load(&format!("tor.control = {good:?}\ntor.password_file = \"p\""), &[]);
        let tor = config.unwrap().tor;
        assert_eq!((tor.control, tor.password_file), (Some(control.clone()), Some("p".into())));
        assert_eq!(control.to_string(), good);
    }
    for (bad, words) in [
        ("", "is no control port, use \"unix:/run/tor/control\" or \"127.0.0.1:9051\""),
        ("localhost:9051", "is no control port"),
        ("127.0.0.1", "is no control port"),
        ("127.0.0.1:0", "is no control port"),
        ("/run/tor/control", "is no control port"),
        ("unix:", "a path of 0 bytes, use 1 to 107"),
        (&format!("unix:/{}", "x".repeat(107)), "a path of 108 bytes, use 1 to 107"),
    ] {
        let said = problem(&format!("tor.control = {bad:?}"));
        assert!(said.starts_with("fortify.toml:1: tor.control: "), "{said}");
        assert!(said.contains(words), "{said}");
    }
    for key in ["cookie_file", "password_file"] {
        let said = problem(&format!("tor.{key} = \"/x\""));
        assert!(said.contains("without tor.control"), "{said}");
    }
    let both = "[tor]\ncontrol = \"[::1]:9051\"\ncookie_file = \"/a\"\npassword_file = \"/b\"";
    let said = problem(both);
    assert!(said.starts_with("fortify.toml:4: tor.password_file: is set together with"), "{said}");
}

#[test]
fn tors_metrics_port_is_an_address_of_this_machine() {
    for good in ["127.0.0.1:9035", "[::1]:9035"] {
        let config = load(&format!("tor.metrics_address = {good:?}"), &[]).unwrap();
        assert_eq!(config.tor.metrics_address, Some(good.parse().unwrap()));
    }
    for bad in ["", "localhost:9035", "127.0.0.1", "127.0.0.1:0", "192.0.2.1:9035", "0.0.0.0:9035"]
    {
        let said = problem(&format!("tor.metrics_address = {bad:?}"));
        let expected = "fortify.toml:1: tor.metrics_address: ";
        assert!(said.starts_with(expected) && said.contains("is no metrics port"), "{said}");
    }
}

#[test]
fn a_level_of_the_dial_is_described_once_and_within_its_bounds() {
    let said = problems(
        "[captcha]\nttl_seconds = 120\n[threat]\nmode = \"off\"\nlevel = 11\n\
         [[threat.levels]]\nlevel = 3\nstages = 4\nchallenge_ttl_seconds = 121\n\
         [[threat.levels]]\nlevel = 3\nadmits = \"none\"\n\
         [[threat.levels]]\nsession_ttl_seconds = 60\n",
        &[],
    );
    let expected = [
        "fortify.toml:4: threat.mode: \"off\" is not known, use \"auto\" or \"manual\" or \"pinned\"",
        "fortify.toml:5: threat.level: 11 is out of range, use 1 to 10",
        "fortify.toml:8: threat.levels[0].stages: 4 is out of range, use 1 to 3",
        "fortify.toml:9: threat.levels[0].challenge_ttl_seconds: 121 is out of range, use 60 to 120",
        "fortify.toml:11: threat.levels[1].level: 3 has a table already, make one of both",
        "fortify.toml:12: threat.levels[1].admits: \"none\" is not known, use \"either\" or \"session\" or \"both\"",
        "fortify.toml:13: threat.levels[2].level: is missing, name the level that this table is for, \
         1 to 10",
    ];
    assert_eq!(said, expected);
    let unknown = problem("[threat]\n[[threat.levels]]\nlevel = 3\nstage = 2\n");
    assert!(unknown.starts_with("fortify.toml:4: threat.levels[0].stage: not known"), "{unknown}");
    let wrong = problem("[threat]\n[[threat.levels]]\nlevel = 3\nstages = \"2\"\n");
    assert!(wrong.starts_with("fortify.toml:4: threat.levels[0].stages: "), "{wrong}");
}

#[test]
fn a_value_of_the_wrong_kind_says_which_kind_to_use() {
    for (text, expected) in [
        ("server.port = \"x\"", "invalid type: string \"x\", use a whole number"),
        ("server.port = 1.5", "use a whole number"),
        ("server.proxy_protocol = \"on\"", "use true or false"),
        ("server.host = 5", "use text in quotes"),
        ("server.trusted_proxies = \"unix\"", "use a list such as"),
        ("server.trusted_proxies = [1]", "use text in quotes"),
        ("log.level = []", "use text in quotes"),
    ] {
        let key = text.split(' ').next().unwrap();
        let said = problem(text);
        assert!(said.starts_with(&format!("fortify.toml:1: {key}: ")), "{said}");
        assert!(said.ends_with(expected) || said.contains(expected), "{said}");
    }
    let said = problem("\nserver = 3");
    assert!(said.starts_with("fortify.toml:2: server: ") && said.contains("[server]"), "{said}");
}

#[test]
fn unknown_keys_and_sections_are_refused_with_the_known_ones() {
    assert_eq!(
        problem("[log]\nlevel = \"info\"\ncolour = true"),
        "fortify.toml:3: log.colour: not known, remove it or use one of: level or format"
    );
    let said = problem("\n[servr]\nport = 1");
    assert!(said.starts_with("fortify.toml:2: servr: not known"), "{said}");
    assert!(said.contains("server, captcha, session"), "{said}");
}

#[test]
fn a_syntax_error_names_its_line() {
    for (text, line) in [
        ("[server]\nport = \n", 2),
        ("[server\nport = 1", 1),
        ("a = 1\n\n\nport == 1", 4),
        ("[log]\n[log]\n", 2),
        ("[log]\nlevel = \"info\"\nlevel = \"info\"", 3),
    ] {
        let said = problem(text);
        let start = format!("fortify.toml:{line}: not valid TOML: ");
        assert!(said.starts_with(&start), "{said}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = Path::new("/nonexistent/fortify.toml");
    let said = Config::load(Some(missing), []).unwrap_err().to_string();
    assert!(said.starts_with("/nonexistent/fortify.toml: cannot be read"), "{said}");
    let directory = tempfile::tempdir().unwrap();
    assert!(Config::load(Some(directory.path()), []).is_err());
    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert!(Config::load(Some(&binary), []).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn all_problems_are_reported_together_in_the_order_of_the_file() {
    let text = "[server]\nport = \"x\"\nprot = 1\n[captcha]\nlength = 12\nlngth = 6\n\
                [log]\nlevel = 3\nformat = \"xml\"\n[nope]\n";
    let env = [("FORTIFY__SESSION__TTL_SECONDS", "1"), ("FORTIFY__LOG", "debug")];
    let places: Vec<_> = problems(text, &env)
        .iter()
        .map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        places,
        [
            "fortify.toml:2 server.port",
            "fortify.toml:3 server.prot",
            "fortify.toml:5 captcha.length",
            "fortify.toml:6 captcha.lngth",
            "fortify.toml:8 log.level",
            "fortify.toml:9 log.format",
            "fortify.toml:10 nope",
            "environment variable FORTIFY__LOG is not of the form FORTIFY__SECTION__KEY, \
             rename or unset it",
            "environment variable FORTIFY__SESSION__TTL_SECONDS session.ttl_seconds",
        ]
    );
}

#[test]
fn the_environment_wins_over_the_file_and_is_named_when_wrong() {
    let text = "[captcha]\nlength = 5";
    let config = load(text, &[("FORTIFY__CAPTCHA__LENGTH", "7")]).unwrap();
    assert_eq!(config.captcha.length, 7);
    assert_eq!(
        problems(text, &[("FORTIFY__CAPTCHA__LENGTH", "12")]),
        ["environment variable FORTIFY__CAPTCHA__LENGTH: captcha.length: 12 is out of range, \
          use 4 to 8"]
    );
    // A wrong value in the file does not matter once the environment has set the key.
    assert!(load("[captcha]\nlength = 12", &[("FORTIFY__CAPTCHA__LENGTH", "7")]).is_ok());
}

#[test]
fn environment_values_are_toml_where_they_parse_and_text_otherwise() {
    let get = |name, value| from_env(name, value).unwrap();
    assert_eq!(get("FORTIFY__SERVER__PORT", "8080").server.port, 8080);
    assert!(get("FORTIFY__SERVER__PROXY_PROTOCOL", "true").server.proxy_protocol);
    assert_eq!(get("FORTIFY__LOG__LEVEL", "debug").log.level, LogLevel::Debug);
    assert_eq!(get("FORTIFY__LOG__LEVEL", "\"debug\"").log.level, LogLevel::Debug);
    assert_eq!(get("FORTIFY__CAPTCHA__DIFFICULTY", "high").captcha.level, 8);
    assert_eq!(get("FORTIFY__CAPTCHA__DIFFICULTY", "9").captcha.level, 9);
    assert_eq!(get("FORTIFY__SERVER__SOCKET_MODE", "0600").server.socket_mode, 0o600);
    assert_eq!(get("FORTIFY__SERVER__SOCKET_MODE", "600").server.socket_mode, 0o600);
    assert_eq!(get("FORTIFY__SERVER__HOST", "::1").server.host.to_string(), "::1");
    assert_eq!(
        get("FORTIFY__STORAGE__DATA_DIR", "2026-01-01").storage.data_dir.as_os_str(),
        "2026-01-01"
    );
    let trusted = get("FORTIFY__SERVER__TRUSTED_PROXIES", "[\"unix\"]").server.trusted_proxies;
    assert_eq!(trusted, TrustedProxies::parse(["unix"]).unwrap());
}

#[test]
fn an_unknown_variable_of_ours_is_refused_and_others_are_let_be() {
    for (name, key) in [("FORTIFY__SERVER__PROT", "server.prot"), ("FORTIFY__SERVR__PORT", "servr")]
    {
        let said = from_env(name, "1").unwrap_err();
        assert!(said.contains(&format!("{key}: not known, remove it or use one of")), "{said}");
    }
    let said = from_env("FORTIFY__SERVR__PORT", "1").unwrap_err();
    assert!(said.starts_with("environment variable FORTIFY__SERVR__PORT: "), "{said}");
    for name in ["FORTIFY__", "FORTIFY__SERVER", "FORTIFY__SERVER__", "FORTIFY__A__B__C"] {
        let said = from_env(name, "1").unwrap_err();
        assert!(said.starts_with(&format!("environment variable {name}: ")), "{said}");
    }
    assert!(from_env("FORTIFY_HOME", "/x").is_ok());
    assert!(from_env("PATH", "/x").is_ok());
}

#[test]
fn a_problem_never_takes_more_than_one_line() {
    for text in ["log.level = \"a\\nb\"", "\"a\\nb\" = 1", "captcha.difficulty = \"\\r\\n\""] {
        assert!(!problem(text).contains(['\n', '\r']));
    }
}

#[test]
fn operators_are_not_served_to_the_world_by_accident() {
    for address in ["0.0.0.0:10009", "[::]:10009", "192.0.2.1:10009"] {
        let text = format!("admin.listen = \"{address}\"");
        let said = problem(&text);
        let place = "fortify.toml:1: admin.listen: ";
        assert!(said.starts_with(place) && said.contains("admin.allow_remote = true"), "{said}");
        assert!(said.contains("put TLS or an onion service in front"), "{said}");
        let allowed = load(&format!("{text}\nadmin.allow_remote = true"), &[]).unwrap();
        assert_eq!(allowed.admin.listen, Some(address.parse().unwrap()));
    }
    for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
        let config = load(&format!("admin.listen = \"{address}\""), &[]).unwrap();
        assert_eq!(config.admin.listen, Some(address.parse().unwrap()));
    }
    assert_eq!(load("admin.listen = \"\"", &[]).unwrap().admin.listen, None);
}

#[test]
fn the_operators_socket_is_in_the_data_directory_unless_it_is_written() {
    let socket = |text: &str| load(text, &[]).unwrap().admin_socket();
    assert_eq!(socket(""), Some("/var/lib/fortify/admin.sock".into()));
    assert_eq!(socket("storage.data_dir = \"/d\""), Some("/d/admin.sock".into()));
    assert_eq!(socket("admin.socket = \"/a\"\nstorage.data_dir = \"/d\""), Some("/a".into()));
    assert_eq!(socket("admin.socket = \"\""), None);
    let long = format!("storage.data_dir = \"/{}\"", "d".repeat(100));
    let said = problem(&long);
    assert!(said.starts_with("fortify.toml:1: storage.data_dir: admin.sock in it"), "{said}");
    assert!(said.contains("admin.socket"), "{said}");
    assert_eq!(socket(&format!("{long}\nadmin.socket = \"\"")), None);
}

#[test]
fn what_is_in_force_is_shown_with_every_key() {
    let shown = Config::default().shown();
    for (section, keys) in [
        ("server", RawServer::KEYS),
        ("captcha", RawCaptcha::KEYS),
        ("session", RawSession::KEYS),
        ("security", RawSecurity::KEYS),
        ("limits", RawLimits::KEYS),
        ("reputation", RawReputation::KEYS),
        ("behaviour", RawBehaviour::KEYS),
        ("haproxy", RawHaproxy::KEYS),
        ("storage", RawStorage::KEYS),
        ("upstream", RawUpstream::KEYS),
        ("tor", RawTor::KEYS),
        ("threat", RawThreat::KEYS),
        ("admin", RawAdmin::KEYS),
        ("log", RawLog::KEYS),
    ] {
        let found = &shown.iter().find(|(name, _)| *name == section).unwrap().1;
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, keys, "{section}");
    }
    let value = |section: &str, key: &str| {
        let section = &shown.iter().find(|(name, _)| *name == section).unwrap().1;
        section.iter().find(|(name, _)| *name == key).unwrap().1.clone()
    };
    assert_eq!(value("server", "socket_mode"), "0660");
    assert_eq!(value("session", "secure"), "on");
    assert_eq!(value("storage", "url"), "redis://127.0.0.1:6379/0");
    assert_eq!(value("haproxy", "socket_path"), "not set");
}

#[test]
fn the_program_told_of_changes_is_named_in_the_file_alone_and_in_full() {
    let told = problems("", &[("FORTIFY__THREAT__ON_CHANGE", "[\"/bin/sh\"]")]);
    assert!(told[0].ends_with("sets threat.on_change, which the file alone may set, unset it"));
    let told = problems("[threat]\non_change = [\"told\"]", &[]);
    assert!(told[0].contains("threat.on_change: \"told\" is no absolute path"), "{told:?}");
}

//! Redis: whether it accepts Fortify's user, and is configured as the store needs it (`docs/redis.md`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Finding, within};
use fortify_config::{Config, RedisConfig, StorageBackend};
use fortify_store::StoreError;
use fortify_store::redis::{self, Checkup, SLOTS};

/// The first version with `GETDEL` and `XTRIM MINID`.
const MIN_VERSION: (u64, u64) = (6, 2);

pub(super) type RedisProbe = Result<Checkup, StoreError>;

pub(super) async fn probe(config: &Config) -> Option<RedisProbe> {
    if config.storage.backend != StorageBackend::Redis {
        return None;
    }
    let asked = within(redis::checkup(&config.storage.redis)).await;
    Some(asked.unwrap_or_else(|| Err(slow(config))))
}

/// The error for a Redis that does not answer at all.
pub(super) fn slow(config: &Config) -> StoreError {
    StoreError::Redis {
        place: place(&config.storage.redis),
        problem: "no answer within 2 s".into(),
        advice: Some("is it overloaded or stopped?".into()),
    }
}

fn place(config: &RedisConfig) -> String {
    let places: Vec<_> = config.servers.iter().map(ToString::to_string).collect();
    places.join(", ")
}

pub(super) fn check(config: &Config, found: Option<&RedisProbe>) -> Vec<Finding> {
    const CHECK: &str = "redis";
    match found {
        None => vec![Finding::skipped(CHECK, "storage.backend is \"memory\"")],
        Some(Err(error)) => vec![Finding::error(CHECK, error)],
        Some(Ok(found)) => check_checkup(&config.storage.redis, found),
    }
}

fn check_checkup(config: &RedisConfig, found: &Checkup) -> Vec<Finding> {
    let place = place(config);
    let mut findings = Vec::new();
    for node in &found.nodes {
        findings.push(check_version(&place, node));
        findings.push(check_policy(node));
        findings.push(check_memory(node));
        findings.push(check_persistence(node));
        findings.push(check_role(config, node));
    }
    if found.nodes.is_empty() {
        let advice = "give the user +info (docs/redis.md has the complete rule)";
        findings.push(Finding::fail("redis", format!("{place} does not answer INFO"), advice));
    }
    findings.extend(found.cluster.map(|(served, failing)| check_slots(served, failing)));
    findings.push(check_rights(config, &found.refused));
    findings.push(check_latency(config.timeout, found.latency));
    findings
}

fn field<'a>(node: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    node.get(name).map_or("", String::as_str)
}

fn number(node: &BTreeMap<String, String>, name: &str) -> u64 {
    field(node, name).parse().unwrap_or(0)
}

fn check_version(place: &str, node: &BTreeMap<String, String>) -> Finding {
    const CHECK: &str = "redis";
    let version = field(node, "redis_version");
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let is_old = (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < MIN_VERSION;
    if is_old {
        let found = format!("version {version:?} at {place} lacks commands that the store needs");
        return Finding::fail(CHECK, found, "install Redis 6.2 or later, or Valkey");
    }
    let name = match node.get("valkey_version") {
        Some(version) => format!("Valkey {version}"),
        None => format!("Redis {version}"),
    };
    Finding::ok(CHECK, format!("{name} at {place} accepts Fortify"))
}

fn check_policy(node: &BTreeMap<String, String>) -> Finding {
    const CHECK: &str = "redis.policy";
    const FIX: &str = "set maxmemory-policy volatile-ttl in redis.conf, and for now: redis-cli config \
                        set maxmemory-policy volatile-ttl";
    let policy = field(node, "maxmemory_policy");
    let found = format!("maxmemory-policy {policy}");
    match policy {
        "volatile-ttl" => Finding::ok(CHECK, found),
        "noeviction" if number(node, "maxmemory") == 0 => Finding::ok(CHECK, found),
        "noeviction" => {
            let found =
                format!("{found}: once maxmemory is reached, new challenges are refused with 503");
            Finding::warn(CHECK, found, FIX)
        }
        _ if policy.starts_with("volatile-") => {
            let found = format!("{found}: failure counts may be evicted before challenges");
            Finding::warn(CHECK, found, FIX)
        }
        _ => {
            let found = format!("{found} lets Redis evict log-outs, so the gate refuses to work");
            Finding::fail(CHECK, found, FIX)
        }
    }
}

fn check_memory(node: &BTreeMap<String, String>) -> Finding {
    const CHECK: &str = "redis.memory";
    let (used, most) = (number(node, "used_memory"), number(node, "maxmemory"));
    if most == 0 {
        let found = format!("{} MiB used, and no limit: a flood may take all memory", used >> 20);
        return Finding::warn(CHECK, found, "set maxmemory 512mb in redis.conf");
    }
    let found = format!("{} of {} MiB used", used >> 20, most >> 20);
    if used >= most / 10 * 9 {
        let advice = "raise maxmemory; 100,000 challenges take 63 MB (docs/redis.md)";
        return Finding::warn(CHECK, found, advice);
    }
    Finding::ok(CHECK, found)
}

fn check_persistence(node: &BTreeMap<String, String>) -> Finding {
    const CHECK: &str = "redis.persistence";
    if number(node, "loading") == 1 {
        let advice = "wait: the gate answers 503 until Redis is done";
        return Finding::fail(CHECK, "Redis is loading its data from disk", advice);
    }
    let failed = ["rdb_last_bgsave_status", "aof_last_write_status"]
        .iter()
        .find(|name| field(node, name) == "err");
    if let Some(name) = failed {
        let found = format!("{name} is err: Redis may take no writes");
        return Finding::fail(CHECK, found, "see Redis' log; check the free space in its dir");
    }
    let kept = if number(node, "aof_enabled") == 1 { "appendonly yes" } else { "appendonly no" };
    Finding::ok(CHECK, format!("{kept}; either works: nodes write lost log-outs back"))
}

fn check_role(config: &RedisConfig, node: &BTreeMap<String, String>) -> Finding {
    const CHECK: &str = "redis.role";
    let is_cluster = number(node, "cluster_enabled") == 1;
    if is_cluster != config.cluster {
        let (found, advice) = match is_cluster {
            true => ("Redis is a node of a cluster", "set storage.cluster = true and storage.urls"),
            false => (
                "Redis is not a cluster",
                "set storage.cluster = false, or name the cluster's nodes",
            ),
        };
        return Finding::fail(CHECK, found, advice);
    }
    match field(node, "role") {
        "slave" if !is_cluster => Finding::fail(
            CHECK,
            "Redis is a replica, which accepts no writes",
            "name its primary in storage.url",
        ),
        role => Finding::ok(CHECK, if role == "slave" { "replica" } else { "primary" }),
    }
}

fn check_slots(served: u32, failing: u32) -> Finding {
    const CHECK: &str = "redis.cluster";
    let found = format!("{served} of {SLOTS} slots served, {failing} nodes failing");
    let advice = "run redis-cli --cluster check HOST:PORT; start the failing nodes, or fail over";
    match (served, failing) {
        (SLOTS, 0) => Finding::ok(CHECK, found),
        (SLOTS, _) => Finding::warn(CHECK, found, advice),
        _ => Finding::fail(CHECK, found, advice),
    }
}

fn check_rights(config: &RedisConfig, refused: &[&str]) -> Finding {
    const CHECK: &str = "redis.rights";
    if refused.is_empty() {
        return Finding::ok(CHECK, "every command that the store uses is allowed");
    }
    let user = config.user.as_deref().unwrap_or("default");
    let found = format!("the user {user} may not: {}", refused.join(", "));
    Finding::fail(CHECK, found, "give it the ACL rule in docs/redis.md")
}

fn check_latency(limit: Duration, latency: Duration) -> Finding {
    const CHECK: &str = "redis.latency";
    let found = format!(
        "a round trip takes {} us; storage.timeout_ms is {}",
        latency.as_micros(),
        limit.as_millis()
    );
    // A step of the store takes up to three.
    if latency * 3 > limit / 2 {
        let advice =
            "move Redis closer (use a unix socket), see its SLOWLOG, or raise storage.timeout_ms";
        return Finding::warn(CHECK, found, advice);
    }
    Finding::ok(CHECK, found)
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    fn problems(fields: &[(&str, &str)]) -> Vec<(&'static str, CheckStatus)> {
        let mut node: BTreeMap<String, String> = [
            ("redis_version", "7.0.15"),
            ("maxmemory", "536870912"),
            ("maxmemory_policy", "volatile-ttl"),
            ("used_memory", "1000000"),
            ("role", "master"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        node.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let found = Checkup { nodes: vec![node], ..Checkup::default() };
        let findings = check_checkup(&RedisConfig::default(), &found);
        let ill = findings.iter().filter(|finding| finding.status != CheckStatus::Ok);
        ill.map(|finding| (finding.check, finding.status)).collect()
    }

    #[test]
    fn each_wrong_setting_has_its_finding() {
        use CheckStatus::{Fail, Warn};
        assert_eq!(problems(&[]), []);
        assert_eq!(problems(&[("redis_version", "6.0.16")]), [("redis", Fail)]);
        assert_eq!(problems(&[("redis_version", "6.2.0")]), []);
        assert_eq!(problems(&[("maxmemory_policy", "allkeys-lru")]), [("redis.policy", Fail)]);
        assert_eq!(problems(&[("maxmemory_policy", "volatile-lru")]), [("redis.policy", Warn)]);
        assert_eq!(problems(&[("maxmemory_policy", "noeviction")]), [("redis.policy", Warn)]);
        assert_eq!(problems(&[("maxmemory", "0")]), [("redis.memory", Warn)]);
        assert_eq!(problems(&[("used_memory", "536870000")]), [("redis.memory", Warn)]);
        assert_eq!(problems(&[("rdb_last_bgsave_status", "err")]), [("redis.persistence", Fail)]);
        assert_eq!(problems(&[("loading", "1")]), [("redis.persistence", Fail)]);
        assert_eq!(problems(&[("role", "slave")]), [("redis.role", Fail)]);
        assert_eq!(problems(&[("cluster_enabled", "1")]), [("redis.role", Fail)]);
    }

    #[test]
    fn a_cluster_must_serve_all_slots() {
        let verdicts =
            [(SLOTS, 0), (SLOTS, 1), (SLOTS - 1, 0)].map(|(a, b)| check_slots(a, b).status);
        assert_eq!(verdicts, [CheckStatus::Ok, CheckStatus::Warn, CheckStatus::Fail]);
    }

    #[test]
    fn three_round_trips_must_fit_into_half_the_timeout() {
        let limit = Duration::from_millis(200);
        let verdict = |millis| check_latency(limit, Duration::from_millis(millis)).status;
        assert_eq!([verdict(33), verdict(34)], [CheckStatus::Ok, CheckStatus::Warn]);
    }
}

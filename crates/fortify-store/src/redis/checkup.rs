//! The checks of `fortify doctor` on Redis. Nothing is written: writing commands are tried in a form that has no effect
//! on a missing key.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use tokio::time::Instant;

use super::fault::Fault;
use super::follower::collect_texts;
use super::link::Link;
use crate::StoreError;
use crate::config::RedisConfig;
use fortify_core::clock::Timestamp;

/// Slots of a cluster (Redis Cluster specification).
pub const SLOTS: u32 = 16_384;

/// How often the round trip is measured; the shortest counts.
const ROUND_TRIPS: usize = 3;

/// The findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkup {
    /// The fields of `INFO`, for each node.
    pub nodes: Vec<BTreeMap<String, String>>,
    /// Redis' clock.
    pub time: Option<Timestamp>,
    /// The shortest round trip.
    pub latency: Duration,
    /// Commands that the ACL user may not run.
    pub refused: Vec<&'static str>,
    /// The number of served slots and of failing nodes; `None` without a cluster.
    pub cluster: Option<(u32, u32)>,
}

/// Checks the Redis of `config` over a connection of its own.
///
/// # Errors
///
/// [`StoreError`], which says what to do.
pub async fn checkup(config: &RedisConfig) -> Result<Checkup, StoreError> {
    let link = Link::new(config.clone());
    let connection = link.open(Duration::ZERO).await?;
    // This step consists of many commands, each of which may take as long as a whole step of the store.
    let limit = Duration::from_secs(2);
    let (key, cluster) = (config.prefix.key("doctor"), config.cluster);
    let looked = link.within(limit, &connection, |mut connection| async move {
        let info: Value = cmd("INFO").query_async(&mut connection).await?;
        let mut texts = Vec::new();
        collect_texts(&info, &mut texts);
        let mut found = Checkup {
            nodes: texts.iter().map(|text| fields(text)).filter(|node| node.len() > 1).collect(),
            ..Checkup::default()
        };
        let time: Value = cmd("TIME").query_async(&mut connection).await?;
        let mut words = Vec::new();
        collect_texts(&time, &mut words);
        found.time = timestamp(&words);
        let mut fastest = None;
        for _ in 0..ROUND_TRIPS {
            let asked = Instant::now();
            cmd("PING").query_async::<Value>(&mut connection).await?;
            let took = asked.elapsed();
            fastest = Some(fastest.map_or(took, |least: Duration| least.min(took)));
        }
        found.latency = fastest.unwrap_or_default();
        for (name, harmless) in harmless(&key) {
            let answer = harmless.query_async::<Value>(&mut connection).await;
            if answer.is_err_and(|error| error.code() == Some("NOPERM")) {
                found.refused.push(name);
            }
        }
        if cluster {
            let nodes: Value = cmd("CLUSTER").arg("NODES").query_async(&mut connection).await?;
            let mut texts = Vec::new();
            collect_texts(&nodes, &mut texts);
            found.cluster = texts.iter().map(|text| slots(text)).max();
        }
        Ok::<_, Fault>(found)
    });
    looked.await
}

/// Commands that the store uses, in a form that does nothing if `key` does not exist.
fn harmless(key: &str) -> Vec<(&'static str, Cmd)> {
    let with = |name: &str, arguments: &[&str]| {
        let mut command = cmd(name);
        command.arg(key);
        arguments.iter().for_each(|argument| {
            command.arg(*argument);
        });
        command
    };
    let mut evaluate = cmd("EVALSHA");
    evaluate.arg("0".repeat(40)).arg(1).arg(key);
    vec![
        ("GET", with("GET", &[])),
        ("GETDEL", with("GETDEL", &[])),
        ("UNLINK", with("UNLINK", &[])),
        ("PTTL", with("PTTL", &[])),
        ("PEXPIRE", with("PEXPIRE", &["1"])),
        ("SET", with("SET", &["", "XX", "PX", "1"])),
        ("ZADD", with("ZADD", &["XX", "1", "x"])),
        ("ZREM", with("ZREM", &["x"])),
        ("ZCARD", with("ZCARD", &[])),
        ("ZREVRANGE", with("ZREVRANGE", &["0", "0"])),
        ("ZRANGEBYSCORE", with("ZRANGEBYSCORE", &["0", "0"])),
        ("ZPOPMIN", with("ZPOPMIN", &["0"])),
        ("HGET", with("HGET", &["x"])),
        ("HMGET", with("HMGET", &["x"])),
        ("HDEL", with("HDEL", &["x"])),
        ("HLEN", with("HLEN", &[])),
        ("HSCAN", with("HSCAN", &["0"])),
        ("LRANGE", with("LRANGE", &["0", "0"])),
        ("LTRIM", with("LTRIM", &["0", "0"])),
        ("XADD", with("XADD", &["NOMKSTREAM", "*", "x", "x"])),
        ("XRANGE", with("XRANGE", &["-", "+", "COUNT", "1"])),
        ("XREVRANGE", with("XREVRANGE", &["+", "-", "COUNT", "1"])),
        ("XTRIM", with("XTRIM", &["MAXLEN", "1"])),
        ("XLEN", with("XLEN", &[])),
        ("EVALSHA", evaluate),
    ]
}

fn fields(info: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (name, value) = line.trim_end().split_once(':')?;
        let value = value.chars().filter(|c| !c.is_control()).take(200).collect();
        Some((name.to_owned(), value))
    };
    info.lines().filter_map(line).collect()
}

/// Parses seconds and microseconds.
fn timestamp(words: &[String]) -> Option<Timestamp> {
    let [seconds, micros, ..] = words else { return None };
    let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
    Some(Timestamp::from_millis(seconds.checked_mul(1000)?.checked_add(micros / 1000)?))
}

/// Reads `CLUSTER NODES`: how many slots are served by a working master, and how many nodes are failing.
fn slots(text: &str) -> (u32, u32) {
    let (mut served, mut failing) = (0, 0);
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [_, _, flags, _, _, _, _, _, ranges @ ..] = &words[..] else { continue };
        let has = |flag: &str| flags.split(',').any(|word| word == flag);
        if has("fail") || has("noaddr") {
            failing += 1;
            continue;
        }
        for range in ranges.iter().filter(|range| !range.starts_with('[')) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
                && first <= last
                && last < SLOTS
            {
                served += last - first + 1;
            }
        }
    }
    (served, failing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_masters_that_work_are_counted() {
        let nodes = "07c3 127.0.0.1:1@2,h myself,master - 0 0 1 connected 0-5460\n\
                     67ed 127.0.0.1:2@3 master - 0 0 2 connected 5461-10922 [93-<-292f]\n\
                     292f 127.0.0.1:3@4 master,fail - 0 0 3 disconnected 10923-16383\n\
                     e7d1 127.0.0.1:4@5 slave 07c3 0 0 4 connected\n\
                     rubbish\n";
        assert_eq!(slots(nodes), (10_923, 1));
    }

    #[test]
    fn a_time_has_two_parts() {
        let words = ["1800000000", "123456"].map(str::to_owned);
        assert_eq!(timestamp(&words), Some(Timestamp::from_millis(1_800_000_000_123)));
        assert_eq!(timestamp(&words[..1]), None);
    }

    /// All rights in `docs/redis.md`, except commands that name no key, those that have no form without effect (HSET
    /// and RPUSH, which only scripts use), and XREAD, which names its keys last.
    #[test]
    fn every_right_of_the_documentation_is_asked_for() {
        let document = include_str!("../../../../docs/redis.md");
        let rights = document.split("```acl").nth(1).unwrap().split("```").next().unwrap();
        let apart =
            ["ping", "info", "select", "cluster", "script", "time", "hset", "rpush", "xread"];
        let asked: Vec<String> =
            harmless("x").iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        let mut known = 0;
        for right in rights.split_whitespace().filter_map(|word| word.strip_prefix('+')) {
            let name = right.split('|').next().unwrap();
            known += 1;
            assert!(apart.contains(&name) || asked.contains(&name.to_owned()), "{name}");
        }
        assert!(known > 25, "{rights}");
    }
}

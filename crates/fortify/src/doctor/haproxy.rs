//! `HAProxy`'s stats socket and its table of circuits.

use super::{Finding, within};
use fortify_config::Config;
use fortify_haproxy::checkup::{self, Checkup, Table};
use fortify_haproxy::client::{Client, ClientError, Endpoint};

/// The shortest `expire`, in ms: entries are refreshed once a minute (`deploy/haproxy.cfg`).
const MIN_EXPIRE: u64 = 5 * 60 * 1000;

/// How much of its `expire` a refreshed entry may have used up, in ms.
const REFRESH: u64 = 60 * 1000;

/// The smallest useful table: in a smaller one, an attack evicts visitors and bans.
const MIN_SIZE: u64 = 10_000;

pub(super) type HaproxyProbe = Result<Checkup, ClientError>;

pub(super) async fn probe(config: &Config) -> Option<HaproxyProbe> {
    let endpoint = config.haproxy.endpoint.clone()?;
    let client = Client::new(endpoint.clone());
    let asked = within(checkup::checkup(&client, &config.haproxy.table)).await;
    Some(asked.unwrap_or(Err(ClientError::Slow(endpoint))))
}

pub(super) fn check(config: &Config, found: Option<&HaproxyProbe>) -> Vec<Finding> {
    const CHECK: &str = "haproxy";
    match (found, &config.haproxy.endpoint) {
        (Some(Ok(found)), Some(endpoint)) => check_checkup(config, endpoint, found),
        (Some(Err(error)), _) => vec![Finding::error(CHECK, error)],
        _ => {
            let why = "[haproxy] socket_path and address are not set, so no HAProxy learns of bans";
            vec![Finding::skipped(CHECK, why)]
        }
    }
}

fn check_checkup(config: &Config, endpoint: &Endpoint, found: &Checkup) -> Vec<Finding> {
    let version = &found.version;
    let mut findings = vec![match found.stopping {
        false => Finding::ok("haproxy", format!("HAProxy {version} answers at {endpoint}")),
        true => Finding::warn(
            "haproxy",
            format!("HAProxy {version} at {endpoint} is an old process that a reload left behind"),
            "set hard-stop-after in its global section, and make sure that the new process has the socket",
        ),
    }];
    findings.push(check_level(endpoint, &found.level));
    let name = config.haproxy.table.as_str();
    let table = found.tables.iter().find(|table| table.name == name);
    findings.push(check_table(name, table, found));
    if let Some(table) = table {
        findings.push(check_room(table));
        findings.push(check_expire(name, found.longest));
    }
    findings
}

fn check_level(endpoint: &Endpoint, level: &str) -> Finding {
    const CHECK: &str = "haproxy.level";
    if checkup::may_set(level) {
        return Finding::ok(CHECK, format!("the socket has level {level} and may set entries"));
    }
    let found = format!("the socket has level {level:?}: bans and trust are refused");
    let advice = format!(
        "in haproxy.cfg, global: stats socket {endpoint} mode 660 level operator; then reload HAProxy"
    );
    Finding::fail(CHECK, found, advice)
}

fn check_table(name: &str, table: Option<&Table>, found: &Checkup) -> Finding {
    const CHECK: &str = "haproxy.table";
    const LINE: &str = "stick-table type ipv6 size 1m expire 30m store \
                        gpc0,gpc1,conn_cur,conn_rate(10s),http_req_rate(10s),http_err_rate(10s)";
    let Some(table) = table else {
        let names: Vec<_> = found.tables.iter().map(|table| table.name.as_str()).collect();
        let others = match names.is_empty() {
            true => "it has none".to_owned(),
            false => format!("it has {}", names.join(", ")),
        };
        let advice = format!(
            "correct [haproxy] table_name, or add to haproxy.cfg: backend {name}, with {LINE} (deploy/haproxy.cfg)"
        );
        return Finding::fail(CHECK, format!("HAProxy has no table {name}; {others}"), advice);
    };
    if table.kind != "ipv6" {
        let found =
            format!("the table {name} has type {}, but circuits are IPv6 addresses", table.kind);
        return Finding::fail(CHECK, found, format!("in haproxy.cfg: {LINE}"));
    }
    if !found.missing.is_empty() {
        let missing = found.missing.join(" and ");
        let found = format!("the table {name} does not store {missing}, which bans need");
        return Finding::fail(CHECK, found, format!("in haproxy.cfg, backend {name}: {LINE}"));
    }
    Finding::ok(CHECK, format!("{name}: type ipv6, stores gpc0 and gpc1"))
}

fn check_room(table: &Table) -> Finding {
    const CHECK: &str = "haproxy.room";
    let found = format!("{} of {} entries used", table.used, table.size);
    if table.size < MIN_SIZE {
        let advice = "set size 1m in the stick-table line (240 bytes an entry, allocated on use)";
        return Finding::warn(CHECK, found, advice);
    }
    if table.used >= table.size / 10 * 9 {
        let advice = "a full table drops an entry for each new one, and a dropped ban is missing until Fortify \
                      sets it again: raise size in the stick-table line, or lower expire";
        return Finding::warn(CHECK, found, advice);
    }
    Finding::ok(CHECK, found)
}

/// Judges `expire` by the entries' remaining time, because `HAProxy` does not report it.
fn check_expire(name: &str, longest: Option<u64>) -> Finding {
    const CHECK: &str = "haproxy.expire";
    match longest {
        None => Finding::skipped(
            CHECK,
            format!(
                "HAProxy does not report expire, and {name} has no entry to infer it from: make sure that it is \
                 5m or longer in haproxy.cfg"
            ),
        ),
        Some(left) if left + REFRESH < MIN_EXPIRE => Finding::warn(
            CHECK,
            format!("no entry has more than {} s left, so expire may be too short", left / 1000),
            format!("set expire 30m in the stick-table line of {name}; at least 5m"),
        ),
        Some(left) => Finding::ok(CHECK, format!("entries last {} s or longer", left / 1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    fn healthy() -> Checkup {
        Checkup {
            version: "2.6".to_owned(),
            stopping: false,
            level: "operator".to_owned(),
            tables: vec![Table {
                name: "tor_ingress".to_owned(),
                kind: "ipv6".to_owned(),
                size: 1_048_576,
                used: 3,
            }],
            missing: Vec::new(),
            longest: Some(1_799_000),
            servers: Vec::new(),
        }
    }

    /// The checks that are not ok once `change` was applied to a healthy `HAProxy`.
    fn problems(change: impl FnOnce(&mut Checkup)) -> Vec<(&'static str, CheckStatus)> {
        let mut checkup = healthy();
        change(&mut checkup);
        let endpoint = Endpoint::Unix("/run/haproxy/fortify.sock".into());
        let findings = check_checkup(&Config::default(), &endpoint, &checkup);
        let ill = findings.iter().filter(|finding| finding.status != CheckStatus::Ok);
        ill.map(|finding| (finding.check, finding.status)).collect()
    }

    #[test]
    fn each_fault_has_its_finding() {
        assert_eq!(problems(|_| {}), []);
        assert_eq!(problems(|c| c.stopping = true), [("haproxy", CheckStatus::Warn)]);
        assert_eq!(
            problems(|c| c.level = "user".to_owned()),
            [("haproxy.level", CheckStatus::Fail)]
        );
        assert_eq!(problems(|c| c.level = "admin".to_owned()), []);
        assert_eq!(problems(|c| c.tables.clear()), [("haproxy.table", CheckStatus::Fail)]);
        assert_eq!(
            problems(|c| c.tables[0].kind = "ip".to_owned()),
            [("haproxy.table", CheckStatus::Fail)]
        );
        assert_eq!(problems(|c| c.missing.push("gpc0")), [("haproxy.table", CheckStatus::Fail)]);
        assert_eq!(problems(|c| c.tables[0].size = 100), [("haproxy.room", CheckStatus::Warn)]);
        assert_eq!(
            problems(|c| c.tables[0].used = 1_000_000),
            [("haproxy.room", CheckStatus::Warn)]
        );
        assert_eq!(problems(|c| c.longest = None), [("haproxy.expire", CheckStatus::Skipped)]);
        assert_eq!(
            problems(|c| c.longest = Some(239_999)),
            [("haproxy.expire", CheckStatus::Warn)]
        );
        assert_eq!(problems(|c| c.longest = Some(240_000)), []);
    }
}

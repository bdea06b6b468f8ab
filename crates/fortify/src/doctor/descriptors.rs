//! Whether the limit on open files leaves room for every connection.

use std::fs;

use super::Finding;
use super::service_user::ServiceUser;
use fortify_config::Config;

/// Open files other than connections: databases, sockets, Redis, `HAProxy`, tor; about 40 were observed.
const RESERVE: u64 = 128;

pub(super) fn check(config: &Config, user: &ServiceUser) -> Finding {
    let (path, whose) = match user.pid {
        Some(pid) => (format!("/proc/{pid}/limits"), "the gate"),
        None => ("/proc/self/limits".to_owned(), "this shell (no running gate was found)"),
    };
    let limit = fs::read_to_string(&path).ok().and_then(|text| open_files(&text));
    let connections = config.server.max_connections as u64;
    check_limit(limit, connections, !config.upstream.servers.is_empty(), whose)
}

/// As [`check`], of this process, which is the gate.
pub(crate) fn check_own(config: &Config) -> Finding {
    let limit = fs::read_to_string("/proc/self/limits").ok().and_then(|text| open_files(&text));
    let connections = config.server.max_connections as u64;
    check_limit(limit, connections, !config.upstream.servers.is_empty(), "this process")
}

fn check_limit(limit: Option<u64>, connections: u64, proxies: bool, whose: &str) -> Finding {
    const CHECK: &str = "limits.files";
    let Some(limit) = limit else {
        return Finding::skipped(CHECK, "the limit cannot be read from /proc as this user");
    };
    // As a proxy, the gate has a second connection, to the service, for each visitor's.
    let needed = connections * if proxies { 2 } else { 1 } + RESERVE;
    let found = format!(
        "{whose} may open {limit} files; server.max_connections = {connections} needs up to {needed}"
    );
    if limit >= needed {
        return Finding::ok(CHECK, found);
    }
    let advice = format!(
        "set LimitNOFILE={} in the unit (systemctl edit fortify) or ulimit -n, or lower \
         server.max_connections",
        needed.next_power_of_two()
    );
    Finding::warn(CHECK, found, advice)
}

/// The soft limit in `/proc/PID/limits`.
fn open_files(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    #[test]
    fn a_connection_takes_one_file_and_two_in_proxy_mode() {
        let verdict = |limit, proxies| check_limit(limit, 4096, proxies, "the gate").status;
        assert_eq!(verdict(Some(4224), false), CheckStatus::Ok);
        assert_eq!(verdict(Some(4223), false), CheckStatus::Warn);
        assert_eq!(verdict(Some(4224), true), CheckStatus::Warn);
        assert_eq!(verdict(None, true), CheckStatus::Skipped);
    }

    #[test]
    fn the_soft_limit_counts() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 1048576              files     \n";
        assert_eq!(open_files(text), Some(1024));
        assert_eq!(open_files(""), None);
        assert!(open_files(&fs::read_to_string("/proc/self/limits").unwrap()).is_some());
    }
}

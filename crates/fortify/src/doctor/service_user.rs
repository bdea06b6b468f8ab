//! The gate's process and user, and the user who runs this command.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Finding;
use fortify_config::Config;

/// Processes that are searched for the one that listens.
const MAX_PROCESSES: usize = 10_000;

/// Open files of one process that are searched.
const MAX_DESCRIPTORS: usize = 4096;

/// The gate's user, and the user who runs this command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceUser {
    /// The user that runs this command.
    pub(super) me: u32,
    /// The gate's process, if it was found.
    pub(super) pid: Option<i32>,
    /// The gate's user: that of its process, or else the owner of `storage.data_dir`.
    pub(super) gate: Option<u32>,
    /// The groups of that user, the primary one first: those of its process, or else those in `/etc/group` and
    /// that of `storage.data_dir`.
    pub(super) groups: Vec<u32>,
}

impl ServiceUser {
    /// Finds them. `known_pid` is the process that the gate's socket reports.
    pub(super) fn find(config: &Config, known_pid: Option<i32>) -> Self {
        let listening = || match (&config.server.socket, config.server.port) {
            (None, port @ 1..) => find_listener(port),
            _ => None,
        };
        let pid = known_pid.filter(|pid| *pid > 0).or_else(listening);
        let owner = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.uid(), meta.gid()));
        let of_process = |pid| {
            let (gate, group) = owner(Path::new(&format!("/proc/{pid}")))?;
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            Some((gate, own_first(group, groups_of_process(&status))))
        };
        let of_directory = || {
            let (gate, group) = owner(&config.storage.data_dir)?;
            let read = |path| fs::read_to_string(path).unwrap_or_default();
            let groups = groups_of_user(gate, &read("/etc/passwd"), &read("/etc/group"));
            Some((gate, own_first(group, groups)))
        };
        let found = pid.and_then(of_process).or_else(of_directory);
        let (gate, groups) =
            found.map_or((None, Vec::new()), |(gate, groups)| (Some(gate), groups));
        Self { me: rustix::process::geteuid().as_raw(), pid, gate, groups }
    }

    /// Whether a file's owner, group and mode let the gate's user read it; `true` if that user is not known.
    pub(super) fn may_read(&self, meta: &Metadata) -> bool {
        let bit = match self.gate {
            None | Some(0) => return true,
            Some(gate) if gate == meta.uid() => 0o400,
            Some(_) if self.groups.contains(&meta.gid()) => 0o040,
            Some(_) => 0o004,
        };
        meta.mode() & bit != 0
    }

    /// The gate's primary group as `chgrp` takes it: its name, or its number if it has none.
    pub(super) fn group(&self) -> String {
        let Some(gid) = self.groups.first() else { return "<the gate's group>".to_owned() };
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let gid = gid.to_string();
        let name = entries(&groups).find(|entry| entry.get(2) == Some(&gid.as_str()));
        name.and_then(|entry| entry.first().map(|name| (*name).to_owned())).unwrap_or(gid)
    }

    /// Whether this command has the gate's permissions.
    pub(super) fn is_gate(&self) -> bool {
        self.gate == Some(self.me)
    }

    pub(super) fn is_root(&self) -> bool {
        self.me == 0
    }

    pub(super) fn check(&self, config: &Config) -> Finding {
        const CHECK: &str = "user";
        let process = match self.pid {
            Some(pid) => format!(", process {pid}"),
            None => String::new(),
        };
        match self.gate {
            None => Finding::skipped(
                CHECK,
                format!(
                    "no gate is running and {} does not exist, so the gate's user is not known",
                    config.storage.data_dir.display()
                ),
            ),
            Some(_) if self.is_gate() => {
                Finding::ok(CHECK, format!("runs as the gate's user (uid {}{process})", self.me))
            }
            Some(gate) => {
                let advice = format!(
                    "this user may be able to open sockets that the gate's user cannot, or the reverse; to be \
                     sure, run this as the gate's user: setpriv --reuid {gate} --init-groups fortify doctor"
                );
                let found = format!(
                    "runs as uid {}, but the gate as uid {gate}{process}: file permissions are judged for the \
                     gate's user, sockets are tried as this user",
                    self.me
                );
                Finding::warn(CHECK, found, advice)
            }
        }
    }
}

fn own_first(own: u32, others: Vec<u32>) -> Vec<u32> {
    let others = others.into_iter().filter(|group| *group != own);
    std::iter::once(own).chain(others).collect()
}

/// The fields of each line of `/etc/passwd` or `/etc/group` (passwd(5), group(5)).
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

/// The supplementary groups of `/proc/<pid>/status` (proc(5)).
fn groups_of_process(status: &str) -> Vec<u32> {
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    groups.unwrap_or_default().split_ascii_whitespace().filter_map(|gid| gid.parse().ok()).collect()
}

/// The groups of the user `uid`: the one in its entry, and those that list its name.
fn groups_of_user(uid: u32, passwd: &str, group: &str) -> Vec<u32> {
    let uid = uid.to_string();
    let Some(user) = entries(passwd).find(|entry| entry.get(2) == Some(&uid.as_str())) else {
        return Vec::new();
    };
    let own = user.get(3).and_then(|gid| gid.parse().ok());
    let listed = entries(group).filter_map(|entry| {
        let is_in = entry.get(3)?.split(',').any(|member| Some(&member) == user.first());
        is_in.then(|| entry.get(2)?.parse().ok()).flatten()
    });
    own.into_iter().chain(listed).collect()
}

/// The process that listens on `port`, if this user may see it.
fn find_listener(port: u16) -> Option<i32> {
    let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| listening(&text, port))
        .collect();
    let links: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if links.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten().take(MAX_PROCESSES);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors.flatten().take(MAX_DESCRIPTORS).any(|descriptor| {
            let link = fs::read_link(descriptor.path());
            link.is_ok_and(|link| links.iter().any(|socket| link.as_os_str() == socket.as_str()))
        })
    })
}

/// The inodes of sockets that listen on `port`, from `/proc/net/tcp`.
fn listening(text: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let (local, state) = (words.get(1)?, words.get(3)?);
        let (_, known_pid) = local.rsplit_once(':')?;
        let is_ours = *state == "0A" && u16::from_str_radix(known_pid, 16) == Ok(port);
        is_ours.then(|| words.get(9)?.parse().ok()).flatten()
    };
    text.lines().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_port() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:2712 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   \
            1: 0100007F:2712 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(listening(text, 10002), [4711]);
        assert!(listening(text, 10003).is_empty());
    }

    #[test]
    fn groups_come_from_the_process_or_from_the_user() {
        let status = "Name:\tfortify\nUid:\t998\t998\t998\t998\nGroups:\t107 112 \nVmPeak:\t1 kB\n";
        assert_eq!(own_first(107, groups_of_process(status)), [107, 112]);
        assert!(groups_of_process("Name:\tfortify\n").is_empty());
        let passwd =
            "root:x:0:0::/root:/bin/sh\nfortify:x:998:998::/nonexistent:/usr/sbin/nologin\n";
        let group =
            "root:x:0:\nfortify:x:998:www-data\nhaproxy:x:112:fortify,ada\nno:x:113:fortify2\n";
        assert_eq!(groups_of_user(998, passwd, group), [998, 112]);
        assert!(groups_of_user(7, passwd, group).is_empty());
    }

    #[test]
    fn this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = find_listener(listener.local_addr().unwrap().port());
        assert_eq!(found, i32::try_from(std::process::id()).ok());
    }

    #[test]
    fn a_user_other_than_the_gates_gets_a_warning() {
        let config = Config::default();
        let user = |me, gate| ServiceUser { me, gate, ..ServiceUser::default() };
        assert_eq!(user(7, Some(7)).check(&config).status, super::super::CheckStatus::Ok);
        let other = user(0, Some(7)).check(&config);
        assert!(other.found.contains("judged for the gate's user"), "{}", other.found);
        assert_eq!(user(0, None).check(&config).status, super::super::CheckStatus::Skipped);
    }
}

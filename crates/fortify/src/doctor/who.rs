//! Which process and user is the gate, and who looks.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Finding;
use crate::config::Config;

/// Processes that are looked through for the one that listens.
const MAX_PROCESSES: usize = 10_000;

/// Open files of one process that are looked through.
const MAX_DESCRIPTORS: usize = 4096;

/// Who looks, and at whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    /// The user that runs this command.
    pub(super) me: u32,
    /// The gate's process, where it is found.
    pub(super) pid: Option<i32>,
    /// The gate's user: that process', or else the owner of `storage.data_dir`.
    pub(super) gate: Option<u32>,
}

impl Who {
    /// `told`: the process that the gate's socket names.
    pub(super) fn find(config: &Config, told: Option<i32>) -> Self {
        let listening = || match (&config.server.socket, config.server.port) {
            (None, port @ 1..) => find_listener(port),
            _ => None,
        };
        let pid = told.filter(|pid| *pid > 0).or_else(listening);
        let owner = |path: &Path| fs::metadata(path).ok().map(|meta| meta.uid());
        let gate = pid
            .and_then(|pid| owner(Path::new(&format!("/proc/{pid}"))))
            .or_else(|| owner(&config.storage.data_dir));
        Self { me: rustix::process::geteuid().as_raw(), pid, gate }
    }

    /// Whether what this command may not do, the gate may not either.
    pub(super) fn is_gate(&self) -> bool {
        self.gate == Some(self.me)
    }

    pub(super) fn is_root(&self) -> bool {
        self.me == 0
    }

    pub(super) fn judge(&self, config: &Config) -> Finding {
        const CHECK: &str = "user";
        let process = match self.pid {
            Some(pid) => format!(", process {pid}"),
            None => String::new(),
        };
        match self.gate {
            None => Finding::skipped(
                CHECK,
                format!(
                    "no gate runs and {} is not there, so that the gate's user is not known",
                    config.storage.data_dir.display()
                ),
            ),
            Some(_) if self.is_gate() => {
                Finding::ok(CHECK, format!("runs as the gate's user (uid {}{process})", self.me))
            }
            Some(gate) => {
                let advice = format!(
                    "sockets that this user may open, the gate's may not, and the other way round; to be \
                     sure, run it as the gate's: setpriv --reuid {gate} --init-groups fortify doctor"
                );
                let found = format!(
                    "runs as uid {}, the gate as uid {gate}{process}: permissions of files are judged for \
                     the owner, sockets are tried as this user",
                    self.me
                );
                Finding::warn(CHECK, found, advice)
            }
        }
    }
}

/// The process that listens on `port`, where this user may see it.
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
        let (_, told) = local.rsplit_once(':')?;
        let is_ours = *state == "0A" && u16::from_str_radix(told, 16) == Ok(port);
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
    fn this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = find_listener(listener.local_addr().unwrap().port());
        assert_eq!(found, i32::try_from(std::process::id()).ok());
    }

    #[test]
    fn it_is_said_whose_permissions_are_judged() {
        let config = Config::default();
        let who = |me, gate| Who { me, pid: None, gate };
        assert_eq!(who(7, Some(7)).judge(&config).verdict, super::super::Verdict::Ok);
        let other = who(0, Some(7)).judge(&config);
        assert!(other.found.contains("judged for the owner"), "{}", other.found);
        assert_eq!(who(0, None).judge(&config).verdict, super::super::Verdict::Skipped);
    }
}

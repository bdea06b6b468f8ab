//! Owners, permissions and free space: `storage.data_dir`, the configuration file, password files.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{Access, access, statvfs};

use super::Finding;
use super::service_user::ServiceUser;
use fortify_config::{Config, StorageBackend};
use fortify_core::clock::Timestamp;

/// Files of the directory that are examined; it has about ten.
const MAX_FILES: usize = 1000;

/// Free bytes below which the gate soon cannot save a ban, and those below which a warning is due.
const NO_ROOM: u64 = 16 << 20;
const LITTLE_ROOM: u64 = 256 << 20;

/// Permission bits of everyone but the owner, and of everyone but owner and group.
const ANYBODY_ELSE: u32 = 0o077;
const EVERYBODY: u32 = 0o007;

pub(super) fn check(config: &Config, file: Option<&Path>, user: &ServiceUser) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(path) = file {
        findings.push(configuration(path, user));
    }
    findings.extend(secrets(config, user));
    findings.extend(data_dir(&config.storage.data_dir, user));
    findings
}

/// Checks the configuration file. It names addresses and limits, but no secrets.
fn configuration(path: &Path, user: &ServiceUser) -> Finding {
    const CHECK: &str = "files.configuration";
    let place = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => {
            return Finding::fail(CHECK, format!("{place}: {error}"), "name it with --config");
        }
    };
    let mode = meta.mode() & 0o7777;
    let found = format!("{place}: mode {mode:04o}");
    if mode & 0o022 != 0 {
        Finding::fail(CHECK, found, format!("others may change it: {}", how_to_share(path, user)))
    } else if is_shut(path, &meta, user) {
        let found = format!("{found}, and the gate's user cannot read it");
        Finding::fail(CHECK, found, how_to_share(path, user))
    } else if mode & EVERYBODY != 0 {
        let advice = format!("every local user can read your limits: {}", how_to_share(path, user));
        Finding::warn(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, found)
    }
}

/// The command that makes a file readable for the gate but not for everyone.
fn how_to_share(path: &Path, user: &ServiceUser) -> String {
    let (group, place) = (user.group(), path.display());
    format!("chgrp {group} {place} && chmod 640 {place}")
}

/// Whether the gate's user cannot read the file, as far as that is known.
fn is_shut(path: &Path, meta: &Metadata, user: &ServiceUser) -> bool {
    // As the gate's user, just try: that covers access control lists too.
    let tried = user.is_gate() && access(path, Access::READ_OK).is_ok();
    !tried && !user.may_read(meta)
}

/// Checks the files that hold passwords and keys for other servers.
fn secrets(config: &Config, user: &ServiceUser) -> Vec<Finding> {
    let redis = &config.storage.redis;
    let mut files = vec![("tor.password_file", &config.tor.password_file)];
    if config.storage.backend == StorageBackend::Redis {
        files.push(("storage.password_file", &redis.password_file));
        files.push(("storage.tls_key_file", &redis.tls.key));
    }
    let named = files.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)));
    named.map(|(key, path)| secret(key, path, user)).collect()
}

fn secret(key: &str, path: &Path, user: &ServiceUser) -> Finding {
    const CHECK: &str = "files.secrets";
    let place = path.display();
    match fs::metadata(path) {
        Err(error) => Finding::fail(
            CHECK,
            format!("{key} {place}: {error}"),
            format!("make it readable for the gate's user, or correct {key}"),
        ),
        Ok(meta) if meta.mode() & EVERYBODY != 0 => Finding::fail(
            CHECK,
            format!("{key} {place}: mode {:04o} lets everyone read it", meta.mode() & 0o7777),
            format!(
                "{}; and change the secret if others use this machine",
                how_to_share(path, user)
            ),
        ),
        Ok(meta) if is_shut(path, &meta, user) => {
            let mode = meta.mode() & 0o7777;
            let found =
                format!("{key} {place}: mode {mode:04o}, and the gate's user cannot read it");
            Finding::fail(CHECK, found, how_to_share(path, user))
        }
        Ok(meta) => Finding::ok(CHECK, format!("{key} {place}: mode {:04o}", meta.mode() & 0o7777)),
    }
}

fn data_dir(path: &Path, user: &ServiceUser) -> Vec<Finding> {
    const CHECK: &str = "files.data_dir";
    let place = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            let advice = "name a directory in storage.data_dir";
            return vec![Finding::fail(CHECK, format!("{place} is not a directory"), advice)];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let advice = "the gate creates it at its first start (fortify serve); if it has run already, \
                          correct storage.data_dir";
            return vec![Finding::fail(CHECK, format!("{place} does not exist"), advice)];
        }
        Err(error) => {
            let advice = "run this as the gate's user or as root";
            return vec![Finding::fail(CHECK, format!("{place}: {error}"), advice)];
        }
    };
    let mut findings = vec![directory(path, &meta, user)];
    findings.push(match listed(path) {
        Err(error) => {
            Finding::skipped("files.data", format!("{place}: {error}; run this as the gate's user"))
        }
        Ok(files) => files_in(path, &meta, &files),
    });
    findings.extend(listed(path).ok().and_then(|files| damaged(path, &files)));
    findings.push(match statvfs(path) {
        Ok(disk) => room(path, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => Finding::skipped("files.space", format!("{place}: {error}")),
    });
    findings
}

fn directory(path: &Path, meta: &Metadata, user: &ServiceUser) -> Finding {
    const CHECK: &str = "files.data_dir";
    let (place, mode, owner) = (path.display(), meta.mode() & 0o7777, meta.uid());
    let found = format!("{place}: uid {owner}, mode {mode:04o}");
    if let (Some(gate), Some(_)) = (user.gate, user.pid)
        && gate != owner
        && gate != 0
    {
        let advice = format!("the gate runs as uid {gate}: chown -R {gate} {place}");
        return Finding::fail(CHECK, format!("{found}, which is not the gate's"), advice);
    }
    if mode & 0o300 != 0o300 || (user.is_gate() && access(path, Access::WRITE_OK).is_err()) {
        return Finding::fail(
            CHECK,
            format!("{found}, and the owner cannot write there"),
            format!("chmod 700 {place}, and make sure that its file system is mounted read-write"),
        );
    }
    if mode & EVERYBODY != 0 {
        let advice = format!("chmod 700 {place}: it holds the keys");
        return Finding::fail(CHECK, format!("{found} lets everyone in"), advice);
    }
    if mode & ANYBODY_ELSE != 0 {
        let advice = format!("chmod 700 {place}, unless you gave the group access on purpose");
        return Finding::warn(CHECK, format!("{found} lets its group in"), advice);
    }
    Finding::ok(CHECK, format!("{found}, writable by its owner"))
}

/// A file of the directory.
struct Listed {
    name: String,
    meta: Metadata,
}

fn listed(path: &Path) -> io::Result<Vec<Listed>> {
    let entries = fs::read_dir(path)?.take(MAX_FILES).flatten();
    let files = entries.filter_map(|entry| {
        let meta = entry.metadata().ok().filter(Metadata::is_file)?;
        Some(Listed { name: entry.file_name().to_string_lossy().into_owned(), meta })
    });
    Ok(files.collect())
}

fn files_in(path: &Path, directory: &Metadata, files: &[Listed]) -> Finding {
    const CHECK: &str = "files.data";
    let place = path.display();
    let open = files.iter().find(|file| file.meta.mode() & ANYBODY_ELSE != 0);
    if let Some(Listed { name, meta }) = open {
        let found =
            format!("{place}/{name}: mode {:04o} lets others read it", meta.mode() & 0o7777);
        return Finding::fail(CHECK, found, format!("chmod 600 {place}/{name}"));
    }
    let foreign = files.iter().find(|file| file.meta.uid() != directory.uid());
    if let Some(Listed { name, meta }) = foreign {
        let found =
            format!("{place}/{name} belongs to uid {}, but its directory does not", meta.uid());
        let advice = format!("the gate cannot use it: chown {} {place}/{name}", directory.uid());
        return Finding::fail(CHECK, found, advice);
    }
    Finding::ok(CHECK, format!("{} files, readable by their owner only", files.len()))
}

/// Reports databases that were moved aside because they were damaged.
fn damaged(path: &Path, files: &[Listed]) -> Option<Finding> {
    let aside = files.iter().filter(|file| file.name.contains(".damaged-"));
    let names: Vec<_> = aside.take(5).map(|file| file.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        let found = format!("{} moved aside as damaged: {}", path.display(), names.join(", "));
        let advice = "check the disk (dmesg, smartctl); delete them once you need nothing in them";
        Finding::warn("files.damaged", found, advice)
    })
}

fn room(path: &Path, free: u64) -> Finding {
    const CHECK: &str = "files.space";
    let found = format!("{} MiB free under {}", free >> 20, path.display());
    match free {
        0..NO_ROOM => Finding::fail(
            CHECK,
            found,
            "free some space: bans, log-outs and changes of the threat level can no longer be saved",
        ),
        NO_ROOM..LITTLE_ROOM => {
            Finding::warn(CHECK, found, "free some space, or give it a disk of its own")
        }
        _ => Finding::ok(CHECK, found),
    }
}

/// When the newest file in `storage.data_dir` was written.
pub(super) fn youngest(config: &Config) -> Option<Timestamp> {
    let files = listed(&config.storage.data_dir).ok()?;
    files.iter().filter_map(|file| written(&file.meta)).max()
}

/// When this program's file was written, which is no earlier than its build.
pub(super) fn program() -> Option<Timestamp> {
    let path: PathBuf = std::env::current_exe().ok()?;
    written(&fs::metadata(path).ok()?)
}

fn written(meta: &Metadata) -> Option<Timestamp> {
    let since = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_secs(since.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::CheckStatus;
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_the_owner_may_enter_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let (data, key) = (dir.path().join("data"), dir.path().join("data/keys.json"));
        fs::create_dir(&data).unwrap();
        fs::write(&key, "{}").unwrap();
        let verdicts = |mode, inside| {
            chmod(&key, inside);
            chmod(&data, mode);
            let findings = data_dir(&data, &ServiceUser::default());
            [findings[0].status, findings[1].status]
        };
        assert_eq!(verdicts(0o700, 0o600), [CheckStatus::Ok, CheckStatus::Ok]);
        assert_eq!(verdicts(0o750, 0o600), [CheckStatus::Warn, CheckStatus::Ok]);
        assert_eq!(verdicts(0o701, 0o640), [CheckStatus::Fail, CheckStatus::Fail]);
        assert_eq!(verdicts(0o500, 0o600)[0], CheckStatus::Fail);
    }

    #[test]
    fn damaged_files_that_were_moved_aside_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        chmod(dir.path(), 0o700);
        let name = dir.path().join("audit.sqlite.damaged-1800000000");
        fs::write(&name, "x").unwrap();
        chmod(&name, 0o600);
        let findings = data_dir(dir.path(), &ServiceUser::default());
        let moved = findings.iter().find(|finding| finding.check == "files.damaged").unwrap();
        assert!(moved.found.contains("audit.sqlite.damaged-1800000000"), "{}", moved.found);
    }

    #[test]
    fn too_little_free_space_is_reported() {
        let path = Path::new("/");
        let verdicts = [0, 20 << 20, 1 << 40].map(|free| room(path, free).status);
        assert_eq!(verdicts, [CheckStatus::Fail, CheckStatus::Warn, CheckStatus::Ok]);
    }

    #[test]
    fn others_may_not_read_a_password_nor_change_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let nobody = ServiceUser::default();
        assert_eq!(secret("tor.password_file", &path, &nobody).status, CheckStatus::Fail);
        fs::write(&path, "x").unwrap();
        for (mode, of_secret, of_configuration) in [
            (0o600, CheckStatus::Ok, CheckStatus::Ok),
            (0o640, CheckStatus::Ok, CheckStatus::Ok),
            (0o644, CheckStatus::Fail, CheckStatus::Warn),
            (0o660, CheckStatus::Ok, CheckStatus::Fail),
        ] {
            chmod(&path, mode);
            assert_eq!(secret("tor.password_file", &path, &nobody).status, of_secret, "{mode:o}");
            assert_eq!(configuration(&path, &nobody).status, of_configuration, "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_the_gate_cannot_read_is_reported_with_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let meta = fs::metadata(&path).unwrap();
        // Another user, who is in the file's group or not.
        let gate = |groups: &[u32]| ServiceUser {
            me: meta.uid(),
            gate: Some(meta.uid() + 1),
            groups: groups.to_vec(),
            ..ServiceUser::default()
        };
        let (member, stranger) = (gate(&[meta.gid() + 1, meta.gid()]), gate(&[4_000_000_000]));
        for (mode, user, verdict) in [
            (0o640, &member, CheckStatus::Ok),
            (0o600, &member, CheckStatus::Fail),
            (0o640, &stranger, CheckStatus::Fail),
            (
                0o400,
                &ServiceUser { gate: Some(meta.uid()), ..ServiceUser::default() },
                CheckStatus::Ok,
            ),
            (0o600, &ServiceUser { gate: Some(0), ..ServiceUser::default() }, CheckStatus::Ok),
        ] {
            chmod(&path, mode);
            for finding in [secret("tor.password_file", &path, user), configuration(&path, user)] {
                assert_eq!(finding.status, verdict, "{mode:o} {finding:?}");
            }
        }
        let place = path.display();
        let mend = format!("chgrp 4000000000 {place} && chmod 640 {place}");
        for mode in [0o600, 0o644] {
            chmod(&path, mode);
            for finding in
                [secret("tor.password_file", &path, &stranger), configuration(&path, &stranger)]
            {
                assert!(finding.advice.as_ref().unwrap().contains(&mend), "{finding:?}");
            }
        }
    }
}

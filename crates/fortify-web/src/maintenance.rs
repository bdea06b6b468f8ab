//! Maintenance: an operator has visitors told that the site is being worked on, for a while or until further notice.
//!
//! It is on disk before it is in force, and outlasts a restart. It concerns this node alone. The file has a format
//! version and a checksum; one that is damaged counts as no maintenance and is reported, because the gate must not stay
//! shut over a file that protects nothing.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The file, below `storage.data_dir`.
const FILE: &str = "maintenance";

/// The most bytes of the file: a message in which every character is escaped.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// The first line of the file: its format.
const VERSION: &str = "fortify maintenance 1";

/// The longest message to visitors, in bytes.
pub const MAX_MESSAGE: usize = 500;

/// The longest maintenance with an end: a week.
pub const MAX_MINUTES: u32 = 7 * 24 * 60;

/// One maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself; `None` for when an operator ends it.
    pub until: Option<Timestamp>,
    /// What visitors read instead of the usual text.
    pub message: Option<String>,
}

/// Whether there is maintenance now.
pub struct MaintenanceSwitch {
    path: PathBuf,
    /// Held while the file is written, so that file and switch say the same.
    writing: Mutex<()>,
    set: ArcSwapOption<Maintenance>,
}

impl MaintenanceSwitch {
    /// The switch as the file in `data_dir` has it. A file that cannot be used is reported, and counts as off.
    #[must_use]
    pub fn open(data_dir: &Path) -> (Self, Option<Damage>) {
        let path = data_dir.join(FILE);
        let read = File::open(&path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        let (set, damaged) = match read {
            Ok(bytes) => match read_text(&bytes) {
                Some(set) => (set, false),
                None => {
                    tracing::error!(
                        file = %path.display(),
                        "the file is damaged: there is no maintenance; fortify maintenance on writes it again"
                    );
                    (None, true)
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, false),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "cannot be read: there is no maintenance");
                (None, true)
            }
        };
        let damage = damaged.then_some(Damage { file: FILE, lost: Some(1) });
        let set = ArcSwapOption::from_pointee(set);
        (Self { path, writing: Mutex::new(()), set }, damage)
    }

    /// The maintenance at `now`, if there is any.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Option<Arc<Maintenance>> {
        let set = self.set.load_full();
        set.filter(|maintenance| maintenance.until.is_none_or(|until| now < until))
    }

    /// Begins or ends maintenance: on disk first. Blocks.
    ///
    /// # Errors
    ///
    /// If it cannot be written; then nothing has changed.
    pub fn set(&self, maintenance: Option<Maintenance>) -> io::Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(&write(maintenance.as_ref())?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        self.set.store(maintenance.map(Arc::new));
        Ok(())
    }
}

impl fmt::Debug for MaintenanceSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaintenanceSwitch").finish_non_exhaustive()
    }
}

/// Three lines: format, checksum of the last, and the maintenance as JSON.
fn write(maintenance: Option<&Maintenance>) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(&maintenance)?;
    Ok(format!("{VERSION}\n{}\n{json}\n", checksum(&json)).into_bytes())
}

/// What a file says; `None` if it is damaged.
fn read_text(bytes: &[u8]) -> Option<Option<Maintenance>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (version, sum, json) = (lines.next()?, lines.next()?, lines.next()?);
    let whole = version == VERSION && sum == checksum(json) && lines.next().is_none();
    if whole { serde_json::from_str(json).ok() } else { None }
}

fn checksum(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a visitor is told.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The time to its end, if that is known.
    left: Option<Duration>,
    /// The operator's message.
    pub(super) message: Option<String>,
}

impl Notice {
    /// What is said at `now` about `maintenance`.
    pub(super) fn of(maintenance: &Maintenance, now: Timestamp) -> Self {
        let left = maintenance.until.map(|until| now.until(until));
        Self { left, message: maintenance.message.clone() }
    }

    /// Seconds after which trying again makes sense: at the end, but within five minutes, since an operator may end it
    /// before, and not all at once.
    pub(super) fn retry_after(&self) -> u64 {
        self.left.map_or(120, |left| left.as_secs() + 1).clamp(5, 300)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maintenance() -> Maintenance {
        Maintenance {
            since: Timestamp::from_secs(1_800_000_000),
            until: Some(Timestamp::from_secs(1_800_000_600)),
            message: Some("We move house.\n<b>Back soon</b>".to_owned()),
        }
    }

    #[test]
    fn it_outlasts_a_restart_and_ends_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let (switch, _) = MaintenanceSwitch::open(directory.path());
        let (during, after) = (maintenance().since, maintenance().until.unwrap());
        assert_eq!(switch.at(during), None);
        switch.set(Some(maintenance())).unwrap();
        let (again, damage) = MaintenanceSwitch::open(directory.path());
        assert_eq!(damage, None);
        assert_eq!(again.at(during).as_deref(), Some(&maintenance()));
        assert_eq!(again.at(after), None);
        again.set(None).unwrap();
        assert_eq!(MaintenanceSwitch::open(directory.path()).0.at(during), None);
    }

    #[test]
    fn a_damaged_file_is_noticed_and_is_no_maintenance() {
        let directory = tempfile::tempdir().unwrap();
        let whole = write(Some(&maintenance())).unwrap();
        assert_eq!(read_text(&whole), Some(Some(maintenance())));
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(read_text(&damaged), None, "byte {at}");
            assert_eq!(read_text(&whole[..at]), None, "cut at {at}");
        }
        fs::write(directory.path().join(FILE), b"nonsense").unwrap();
        let (switch, damage) = MaintenanceSwitch::open(directory.path());
        assert_eq!(switch.at(maintenance().since), None);
        assert_eq!(damage, Some(Damage { file: FILE, lost: Some(1) }), "for /ready and the rest");
    }

    #[test]
    fn what_cannot_be_written_is_not_in_force() {
        let (switch, _) = MaintenanceSwitch::open(Path::new("/nowhere/at/all"));
        assert!(switch.set(Some(maintenance())).is_err());
        assert_eq!(switch.at(maintenance().since), None);
    }
}

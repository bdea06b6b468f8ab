//! What was lost when a file was found damaged, and where the damaged file went.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::clock::Timestamp;

/// The number of damaged files of one name that are kept for inspection: the latest ones.
pub const MAX_DAMAGED: usize = 3;

/// The suffixes of the files that make up a database; a `-journal` that a killed process left behind would empty
/// the file that replaces this one. The main file is last: an interrupted quarantine is
/// repeated at the next start as long as that file is in place. Other files have only the last.
const PARTS: [&str; 4] = ["-journal", "-wal", "-shm", ""];

/// A file that was found damaged since this process started. Shown in the log, `/ready`, metrics and the
/// dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file's name in `storage.data_dir`.
    pub file: &'static str,
    /// How many records were lost; `None` if that cannot be told.
    pub lost: Option<u64>,
}

impl Damage {
    /// `damages` with one entry for each file: what was lost of it in all.
    #[must_use]
    pub fn by_file(damages: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut sums: Vec<Self> = Vec::new();
        for one in damages {
            match sums.iter_mut().find(|sum| sum.file == one.file) {
                Some(sum) => sum.lost = sum.lost.zip(one.lost).map(|(a, b)| a.saturating_add(b)),
                None => sums.push(one),
            }
        }
        sums
    }
}

/// Copies the file at `path` to `NAME.damaged-<seconds>` and returns the new path. The original stays until it
/// is replaced, so that a full disk loses nothing of it.
///
/// # Errors
///
/// If it cannot be read, or the copy cannot be written: nothing of the copy stays then.
pub fn copy_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let damaged = damaged_before(path)?;
    let aside = next_name(path, &damaged, now);
    // First, so that there is room for this one.
    remove_old(path, &damaged)?;
    if let Err(error) = std::fs::copy(path, &aside) {
        // Half a copy is of no use, and takes the room that the file itself needs to be rewritten.
        let _never_made = std::fs::remove_file(&aside);
        return Err(error);
    }
    Ok(aside)
}

/// Renames the file to `NAME.damaged-<seconds>`, together with those that SQLite keeps beside it, and returns
/// the new path. An empty or missing file is not kept.
///
/// # Errors
///
/// If it cannot be renamed.
pub fn move_aside(path: &Path, now: Timestamp) -> io::Result<Option<PathBuf>> {
    if std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        remove(path)?;
        return Ok(None);
    }
    let damaged = damaged_before(path)?;
    let aside = next_name(path, &damaged, now);
    for part in PARTS {
        match std::fs::rename(with(path, part), with(&aside, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    remove_old(path, &damaged)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(Some(aside))
}

fn next_name(path: &Path, damaged: &[u64], now: Timestamp) -> PathBuf {
    let seconds =
        damaged.last().map_or(now.as_secs(), |last| now.as_secs().max(last.saturating_add(1)));
    with(path, &format!(".damaged-{seconds}"))
}

fn remove_old(path: &Path, damaged: &[u64]) -> io::Result<()> {
    for old in damaged.iter().rev().skip(MAX_DAMAGED - 1) {
        remove(&with(path, &format!(".damaged-{old}")))?;
    }
    Ok(())
}

/// Deletes a file and those that SQLite keeps beside it.
fn remove(path: &Path) -> io::Result<()> {
    for part in PARTS {
        match std::fs::remove_file(with(path, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The times at which files of this name were put aside, in seconds, the latest last.
fn damaged_before(path: &Path) -> io::Result<Vec<u64>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let start = format!("{}.damaged-", name.to_string_lossy());
    let mut damaged = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let seconds = entry.to_str().and_then(|name| name.strip_prefix(&start));
        damaged.extend(seconds.and_then(|seconds| seconds.parse::<u64>().ok()));
    }
    damaged.sort_unstable();
    Ok(damaged)
}

pub(crate) fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_fails_leaves_nothing_and_has_made_room_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("moves");
        for seconds in 1..=3 {
            std::fs::write(with(&path, &format!(".damaged-{seconds}")), "old").unwrap();
        }
        // A file that can be opened, and cannot be read.
        std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
        copy_aside(&path, Timestamp::from_secs(9)).unwrap_err();
        assert_eq!(damaged_before(&path).unwrap(), [2, 3]);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "damaged").unwrap();
        let aside = copy_aside(&path, Timestamp::from_secs(9)).unwrap();
        assert_eq!(std::fs::read(aside).unwrap(), b"damaged");
        assert_eq!(damaged_before(&path).unwrap(), [2, 3, 9]);
    }
}

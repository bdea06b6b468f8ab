//! How far each file in `storage.data_dir` had come, kept in a file of its own.
//!
//! A checksum shows that what is there is what was written, but not that all of it is there: a file that was cut
//! off, emptied, deleted or replaced by an old copy is in itself sound. So the last number of each file is also
//! in `manifest`, and a file that is behind its number has lost records.
//!
//! A number is written after the record that it counts, without waiting for the disk: a killed process loses no
//! number, a machine that loses power those of the last seconds, and a file that is ahead of its number has lost
//! nothing. A directory that was restored as a whole from a backup cannot be told from the one it was.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The file in `storage.data_dir`.
pub const FILE_NAME: &str = "manifest";

/// The files that have a number. Each has a slot of its own, so their order must not change.
const FILES: [&str; 11] = [
    FILE_NAME,
    "revocations",
    "moves",
    "reputation.sqlite",
    "audit.sqlite",
    "admin.sqlite",
    "facts.sqlite",
    "tor-generation.json",
    "answers",
    "earned",
    "budgets",
];

/// Bytes of a slot: a file system writes a sector of 512 whole, and slots do not cross one.
const SLOT_BYTES: usize = 64;

/// Bytes of the file: room for 64 slots.
const FILE_BYTES: u64 = 4096;

/// The start of a written slot; the last byte is the version of the format.
const MAGIC: [u8; 4] = *b"FMF\x01";

/// How far a file had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of the file's first record, for files that begin again.
    pub first: u64,
    /// The number of its last record.
    pub last: u64,
}

/// What the manifest says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing: the file is new, or an earlier version of Fortify wrote it.
    Nothing,
    /// So far.
    Progress(Progress),
    /// What was written there is damaged.
    Damaged,
}

impl Recorded {
    /// The progress, if it is known.
    #[must_use]
    pub const fn progress(self) -> Option<Progress> {
        match self {
            Self::Progress(progress) => Some(progress),
            Self::Nothing | Self::Damaged => None,
        }
    }
}

/// One file's slot. `None` of a file: the manifest cannot be used, which is logged, and nothing depends on it.
#[derive(Debug)]
pub struct Slot {
    file: Option<File>,
    index: usize,
}

impl Slot {
    /// Opens the slot of the file `name` in the manifest of `data_dir`, and reads it.
    #[must_use]
    pub fn open(data_dir: &Path, name: &str) -> (Self, Recorded) {
        let Some(index) = FILES.iter().position(|file| *file == name) else {
            return (Self { file: None, index: 0 }, Recorded::Nothing);
        };
        match open(data_dir).and_then(|file| Ok((read(&file, index)?, file))) {
            Ok((recorded, file)) => {
                if recorded == Recorded::Damaged {
                    tracing::error!(
                        file = name,
                        "manifest: damaged; whether all of this file is there cannot be told"
                    );
                }
                (Self { file: Some(file), index }, recorded)
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    file = name,
                    "manifest: cannot be used; if this file is cut off or replaced, nobody notices"
                );
                (Self { file: None, index }, Recorded::Damaged)
            }
        }
    }

    /// Records how far the file has come. An error is no reason to refuse the record that was just written.
    pub fn set(&self, progress: Progress) {
        if let Some(file) = &self.file
            && self.index > 0
        {
            // The head too: what was damaged is whole again.
            let _behind = file
                .write_all_at(&encode(self.index, progress), (self.index * SLOT_BYTES) as u64)
                .and_then(|()| file.write_all_at(&encode(0, Progress::default()), 0));
        }
    }

    /// Waits until what was recorded is on disk.
    pub fn sync(&self) {
        if let Some(file) = &self.file {
            let _behind = file.sync_data();
        }
    }
}

fn open(data_dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(data_dir.join(FILE_NAME))?;
    if file.metadata()?.len() == 0 {
        file.set_len(FILE_BYTES)?;
        file.write_all_at(&encode(0, Progress::default()), 0)?;
    }
    Ok(file)
}

fn read(file: &File, index: usize) -> io::Result<Recorded> {
    // Of another length it was cut off or is another file: the first slot that is written mends it.
    let whole = file.metadata()?.len() == FILE_BYTES;
    if !whole {
        file.set_len(FILE_BYTES)?;
    }
    let slot = |index: usize| -> io::Result<[u8; SLOT_BYTES]> {
        let mut bytes = [0; SLOT_BYTES];
        file.read_exact_at(&mut bytes, (index * SLOT_BYTES) as u64)?;
        Ok(bytes)
    };
    let (head, own) = (slot(0)?, slot(index)?);
    Ok(match own {
        _ if !whole || decode(&head, 0).is_none() => Recorded::Damaged,
        own if own == [0; SLOT_BYTES] => Recorded::Nothing,
        own => decode(&own, index).map_or(Recorded::Damaged, Recorded::Progress),
    })
}

fn encode(index: usize, progress: Progress) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..4].copy_from_slice(&MAGIC);
    slot[4..8].copy_from_slice(&(index as u32).to_be_bytes());
    slot[8..16].copy_from_slice(&progress.first.to_be_bytes());
    slot[16..24].copy_from_slice(&progress.last.to_be_bytes());
    let sum = crc32fast::hash(&slot[..SLOT_BYTES - 4]);
    slot[SLOT_BYTES - 4..].copy_from_slice(&sum.to_be_bytes());
    slot
}

fn decode(slot: &[u8; SLOT_BYTES], index: usize) -> Option<Progress> {
    let number = |at: usize| -> Option<u64> {
        Some(u64::from_be_bytes(slot.get(at..at + 8)?.try_into().ok()?))
    };
    let progress = Progress { first: number(8)?, last: number(16)? };
    (encode(index, progress) == *slot).then_some(progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Progress = Progress { first: 3, last: 9 };

    #[test]
    fn what_was_recorded_is_read_again_for_each_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (slot, before) = Slot::open(dir.path(), "moves");
        assert_eq!(before, Recorded::Nothing);
        slot.set(FAR);
        slot.sync();
        assert_eq!(Slot::open(dir.path(), "moves").1, Recorded::Progress(FAR));
        assert_eq!(Slot::open(dir.path(), "revocations").1, Recorded::Nothing);
    }

    #[test]
    fn a_damaged_manifest_is_no_progress_and_can_be_written_again() {
        let damages: [fn(&mut Vec<u8>); 3] = [
            |bytes| bytes[2] ^= 4,
            |bytes| bytes[2 * SLOT_BYTES + 20] ^= 4,
            |bytes| bytes.truncate(100),
        ];
        for damage in damages {
            let dir = tempfile::tempdir().unwrap();
            Slot::open(dir.path(), "moves").0.set(FAR);
            let path = dir.path().join(FILE_NAME);
            let mut bytes = std::fs::read(&path).unwrap();
            damage(&mut bytes);
            std::fs::write(&path, &bytes).unwrap();
            let (slot, recorded) = Slot::open(dir.path(), "moves");
            assert_eq!(recorded, Recorded::Damaged);
            slot.set(FAR);
            assert_eq!(Slot::open(dir.path(), "moves").1, Recorded::Progress(FAR));
        }
    }

    #[test]
    fn a_directory_without_room_for_it_stops_nothing() {
        let (slot, recorded) = Slot::open(Path::new("/nowhere"), "moves");
        assert_eq!(recorded, Recorded::Damaged);
        slot.set(FAR);
        slot.sync();
    }
}

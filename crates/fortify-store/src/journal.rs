//! An append-only file of entries. Flushed entries survive a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file, and the length of its complete entries.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes; more than its table can hold means that it is time to rewrite it.
    length: u64,
}

impl Journal {
    /// The content of the file at `path`; empty if there is none.
    pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    /// Replaces the file by `bytes`. It is written under another name first, so that a crash loses neither.
    pub(super) fn write(path: PathBuf, bytes: &[u8]) -> io::Result<Self> {
        let temporary = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(Self { path, file, length: bytes.len() as u64 })
    }

    /// Appends complete entries and waits until they are on disk.
    pub(super) fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(entries).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.length += entries.len() as u64,
            // Half an entry must not put every later one out of step.
            Err(_) => {
                self.file.set_len(self.length)?;
                self.file.seek(io::SeekFrom::Start(self.length))?;
            }
        }
        written
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// As if every write from now on found the disk full.
    #[cfg(test)]
    pub(super) fn fail_writes(&mut self) -> io::Result<()> {
        self.file = OpenOptions::new().write(true).open("/dev/full")?;
        Ok(())
    }
}

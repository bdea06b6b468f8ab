//! The key file: read and written as a whole, and accessible to its owner only.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::KeyRingError;
use crate::period::Period;
use fortify_core::clock::Timestamp;
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_core::pseudonym::hmac_sha256;

/// The maximum size of the file in bytes; eight keys take about 1 KiB.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// The contents of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RingFile {
    pub(crate) version: u32,
    /// What the keys are derived from; files of versions 1 and 2 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<String>,
    pub(crate) pseudonym_key: String,
    pub(crate) keys: Vec<KeyRecord>,
    /// The checksum of the rest; files of version 1 have none. A damaged key would be a key all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checksum: Option<String>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRecord {
    #[zeroize(skip)]
    pub(crate) id: String,
    /// That of a key which was made before there was a root; otherwise the id says which one it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    #[zeroize(skip)]
    pub(crate) created_at: Timestamp,
    #[zeroize(skip)]
    pub(crate) retired_at: Option<Timestamp>,
}

impl Drop for RingFile {
    fn drop(&mut self) {
        self.root.zeroize();
        self.pseudonym_key.zeroize();
    }
}

impl RingFile {
    pub(crate) const VERSION: u32 = 3;

    pub(crate) fn fresh(now: Timestamp, entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self {
            version: Self::VERSION,
            root: Some(random_text::<32>(entropy)?),
            pseudonym_key: random_text::<32>(entropy)?,
            keys: vec![KeyRecord::of(Period::FIRST, now)],
            checksum: None,
        })
    }

    fn sum(&self) -> String {
        let mut sum = crc32fast::Hasher::new();
        sum.update(self.root.as_deref().unwrap_or_default().as_bytes());
        sum.update(self.pseudonym_key.as_bytes());
        for key in &self.keys {
            sum.update(key.id.as_bytes());
            sum.update(key.secret.as_deref().unwrap_or_default().as_bytes());
            sum.update(&key.created_at.as_millis().to_be_bytes());
            sum.update(&key.retired_at.map_or(0, Timestamp::as_millis).to_be_bytes());
        }
        format!("{:08x}", sum.finalize())
    }

    pub(crate) fn read(file: File, path: &Path) -> Result<Self, KeyRingError> {
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| {
            match error.kind() {
                io::ErrorKind::InvalidData => malformed(path, "not a text"),
                _ => io_error("read the file", path, "check the disk")(error),
            }
        })?;
        // serde_json quotes the input; the line number is enough and reveals no secret.
        let ring: Self = serde_json::from_str(&text)
            .map_err(|e| malformed(path, &format!("line {}: not a key ring", e.line())))?;
        let is_whole = (ring.version > 1) == ring.checksum.is_some()
            && (ring.version > 2) == ring.root.is_some();
        if !is_whole {
            return Err(malformed(path, "its version does not fit what is in it"));
        }
        if ring.checksum.as_ref().is_some_and(|sum| *sum != ring.sum()) {
            return Err(malformed(path, "its checksum is not right"));
        }
        Ok(ring)
    }
}

impl RingFile {
    /// The number of the newest key; 0 of one that was made before there was a root.
    pub(crate) fn newest(&self) -> Period {
        let periods = self.keys.iter().filter_map(|key| Period::of(&key.id));
        periods.max().unwrap_or(Period(0))
    }

    /// What the keys are derived from. Where the file has none yet, it is derived from the key that signs: nodes with
    /// the same file then go on with the same root.
    pub(crate) fn root(&self, path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyRingError> {
        let signing = || secret(self.keys.first()?.secret.as_deref()?).map(Zeroizing::new);
        let root = match &self.root {
            Some(text) => secret(text),
            None => signing().map(|key| hmac_sha256(&key, &[b"fortify/1/root"])),
        };
        root.map(Zeroizing::new).ok_or_else(|| malformed(path, "its root is not a valid key"))
    }
}

impl KeyRecord {
    /// The key of `period`, which signs from `created_at` on.
    pub(crate) fn of(period: Period, created_at: Timestamp) -> Self {
        Self { id: period.id(), secret: None, created_at, retired_at: None }
    }
}

/// Identifies a version of the file. A rotation replaces the file, so its inode changes too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

/// Opens the file; fails if anybody but its owner may read it.
pub(crate) fn open_file(path: &Path) -> Result<(File, FileStamp), KeyRingError> {
    const ADVICE: &str = "the user that runs Fortify must be able to read it";
    let file = File::open(path).map_err(io_error("open the file", path, ADVICE))?;
    let meta =
        file.metadata().map_err(io_error("read the permissions of the file", path, ADVICE))?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyRingError::Readable { path: path.to_owned(), mode });
    }
    let modified = (meta.mtime(), meta.mtime_nsec());
    Ok((file, FileStamp { inode: meta.ino(), modified, length: meta.len() }))
}

pub(crate) fn create_dir(path: &Path) -> Result<(), KeyRingError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error(
        "create the directory",
        path,
        "create it for the user that runs Fortify, or set storage.data_dir to a folder it may write",
    ))
}

/// What to do if the file exists already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfPresent {
    /// Keep it: another process has just created it.
    Keep,
    Replace,
}

/// Writes a temporary file, flushes it to disk and renames it, so that readers never see half of it, even after a
/// crash.
pub(crate) fn write_file(
    path: &Path,
    contents: &mut RingFile,
    entropy: &dyn Entropy,
    if_present: IfPresent,
) -> Result<(), KeyRingError> {
    const ADVICE: &str = "check free space and that the user that runs Fortify may write there";
    (contents.version, contents.checksum) = (RingFile::VERSION, Some(contents.sum()));
    let text = serde_json::to_vec_pretty(contents).map_err(|_never| KeyRingError::Signing)?;
    let text = Zeroizing::new(text);
    let temporary = path.with_extension(format!("new-{}", random_text::<6>(entropy)?));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        match if_present {
            IfPresent::Replace => {
                keep_owner(&file, &fs::metadata(path)?)?;
                fs::rename(&temporary, path)
            }
            IfPresent::Keep => match fs::hard_link(&temporary, path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            },
        }?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    })();
    // A rename has removed it already; after a link or a failure it must not stay.
    let _gone = fs::remove_file(&temporary);
    written.map_err(io_error("write the file", path, ADVICE))
}

/// Gives the new file the owner of the old one, so that the gate can still read its keys after a rotation by root.
fn keep_owner(file: &File, old: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    fchown(file, Some(old.uid()), Some(old.gid()))
}

fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
    advice: &'static str,
) -> impl FnOnce(io::Error) -> KeyRingError + 'a {
    move |source| KeyRingError::Io { doing, path: path.to_owned(), source, advice }
}

pub(crate) fn malformed(path: &Path, problem: &str) -> KeyRingError {
    KeyRingError::Malformed { path: path.to_owned(), problem: problem.to_owned() }
}

fn random_text<const N: usize>(entropy: &dyn Entropy) -> Result<String, EntropyError> {
    Ok(URL_SAFE_NO_PAD.encode(random_bytes::<N>(entropy)?))
}

/// Writes the 32 bytes of a key.
pub(crate) fn text_of(key: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// Decodes the 32 bytes of a key.
pub(crate) fn secret(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

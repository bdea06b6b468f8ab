//! The keys that sign what visitors carry, and the file that holds them.
//!
//! One key signs, several verify: a rotation takes effect at once and logs nobody out. The file
//! `keys.json` is made at the first start, readable by its owner alone. A running gate notices a
//! rotation by [`KeyRing::refresh`], without a restart.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::jws;
use crate::clock::{Clock, Timestamp};
use crate::entropy::{Entropy, EntropyError, random_bytes};
use crate::pseudonym::{Pseudonyms, hmac_sha256};

/// The file in the data directory.
const FILE_NAME: &str = "keys.json";

/// Keys that one file may hold. Rotation drops keys that can no longer verify anything, so only a
/// key an hour for a third of a day reaches this.
const MAX_KEYS: usize = 8;

/// Bytes that the file may have: eight keys are about 1 KiB.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// How long after a rotation a running gate may still sign with the old key: it looks for a new file
/// every few seconds, and a slow disk may take some more.
const RETIREMENT_GRACE: Duration = Duration::from_secs(60);

/// Bytes of text that a signed value may have: a carried form of 16 KiB in base64 with room for
/// its address. Longer text is refused before anything is computed over it.
const MAX_SIGNED_BYTES: usize = 32 * 1024;

/// Why the keys cannot be used. Each message says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The directory or the file cannot be read or written.
    #[error("{}: cannot {doing}: {source}; {advice}", path.display())]
    Io {
        /// What was being done, as an infinitive.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
        /// What the operator should do.
        advice: &'static str,
    },
    /// Others than the owner may read the secret keys.
    #[error("{}: mode {mode:04o} lets others read the signing keys; run: chmod 600 {}", path.display(), path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is there and makes no sense.
    #[error("{}: {problem}; restore it from a backup, or move it away to start with new keys (everyone is asked to solve a challenge again)", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without any of its contents.
        problem: String,
    },
    /// Every place in the ring holds a key that sessions still need.
    #[error("{}: holds {MAX_KEYS} keys that still verify sessions; rotate again when the oldest has outlived session.ttl_seconds, or move the file away and restart to end every session now", .0.display())]
    Full(PathBuf),
    /// There is no ring yet.
    #[error("{}: there are no keys yet; they are made when the gate first starts", .0.display())]
    Missing(PathBuf),
    /// No new key could be made.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The library that writes tokens refused.
    #[error("a token could not be signed")]
    Signing,
}

/// What a signature is for. Each purpose signs under a key of its own, derived from the ring's,
/// so that a value signed for one can never be passed off as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The session cookie.
    Session,
    /// A form that waits in a challenge page to be sent on.
    CarriedForm,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"fortify/1/session",
            Self::CarriedForm => b"fortify/1/carried-form",
        }
    }
}

/// The keys of one deployment.
pub struct KeyRing {
    path: PathBuf,
    ring: ArcSwap<Ring>,
}

/// What `fortify keys list` shows of a key: nothing of its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The `kid` that tokens name it by.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it only verifies; `None` for the key that signs.
    pub retired_at: Option<Timestamp>,
}

/// A verified value and the key it was signed with.
pub struct Verified<T> {
    /// What was signed.
    pub claims: T,
    /// Since when its key no longer signs.
    key_retired_at: Option<Timestamp>,
}

impl<T> Verified<T> {
    /// Whether its key still signed at `issued_at`: a value that claims to be younger than its key's
    /// retirement was made with a stolen old key.
    #[must_use]
    pub fn signed_while_its_key_did(&self, issued_at: Timestamp) -> bool {
        self.key_retired_at.is_none_or(|at| issued_at <= at.after(RETIREMENT_GRACE))
    }
}

impl KeyRing {
    /// Opens the ring in `data_dir`, or makes the directory, the file and a first key.
    ///
    /// # Errors
    ///
    /// [`KeyRingError`], with the file and what to do.
    pub fn open(
        data_dir: &Path,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyRingError> {
        let path = data_dir.join(FILE_NAME);
        if !path.exists() {
            create_dir(data_dir)?;
            write_file(&path, &RingFile::fresh(clock.now(), entropy)?, entropy, IfPresent::Keep)?;
        }
        Self::load(data_dir)
    }

    /// Opens the ring in `data_dir` and makes none: for whoever only looks, perhaps as another user
    /// than the gate's, whom the gate's keys must not belong to.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and [`KeyRingError::Missing`].
    pub fn load(data_dir: &Path) -> Result<Self, KeyRingError> {
        jws::install();
        let path = data_dir.join(FILE_NAME);
        if !path.exists() {
            return Err(KeyRingError::Missing(path));
        }
        let ring = Ring::read(&path)?;
        Ok(Self { path, ring: ArcSwap::from_pointee(ring) })
    }

    /// Reads the file again if it changed since it was last read. Says whether it had.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; the keys read before stay in use.
    pub fn refresh(&self) -> Result<bool, KeyRingError> {
        let (_, stamp) = open_file(&self.path)?;
        if stamp == self.ring.load().stamp {
            return Ok(false);
        }
        self.ring.store(Arc::new(Ring::read(&self.path)?));
        Ok(true)
    }

    /// Makes a new signing key; the old one goes on verifying for `lifetime`, the longest that a
    /// value signed with it can live. Keys past that are dropped.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn rotate(
        &self,
        lifetime: Duration,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<KeyInfo, KeyRingError> {
        let now = clock.now();
        let (file, _) = open_file(&self.path)?;
        let mut contents = RingFile::read(file, &self.path)?;
        for key in &mut contents.keys {
            key.retired_at.get_or_insert(now);
        }
        contents.keys.retain(|key| key.retired_at.is_none_or(|at| now < at.after(lifetime)));
        contents.keys.insert(0, KeyRecord::fresh(now, entropy)?);
        if contents.keys.len() > MAX_KEYS {
            return Err(KeyRingError::Full(self.path.clone()));
        }
        write_file(&self.path, &contents, entropy, IfPresent::Replace)?;
        self.ring.store(Arc::new(Ring::read(&self.path)?));
        self.list().into_iter().next().ok_or(KeyRingError::Signing)
    }

    /// The keys, the signing one first.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        self.ring.load().keys.iter().map(|key| key.info.clone()).collect()
    }

    /// How circuits are named under this ring. Rotation does not change it, so that a visitor's
    /// record and session stay the visitor's.
    #[must_use]
    pub fn pseudonyms(&self) -> Pseudonyms {
        self.ring.load().pseudonyms.clone()
    }

    /// Signs `claims` as a compact JWT.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Signing`] when the claims cannot be written as JSON.
    pub fn sign<T: Serialize>(&self, purpose: Purpose, claims: &T) -> Result<String, KeyRingError> {
        let ring = self.ring.load();
        let key = ring.keys.first().ok_or(KeyRingError::Signing)?;
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key.info.id.clone());
        jsonwebtoken::encode(&header, claims, &key.derived(purpose).signing)
            .map_err(|_unwritable| KeyRingError::Signing)
    }

    /// The claims of `text`, if a key of this ring signed it for `purpose`. Whether they are still
    /// in force is for the caller to judge: only it knows its claims and its clock.
    #[must_use]
    pub fn verify<T: DeserializeOwned + Clone>(
        &self,
        purpose: Purpose,
        text: &str,
    ) -> Option<Verified<T>> {
        if text.len() > MAX_SIGNED_BYTES {
            return None;
        }
        let kid = jsonwebtoken::decode_header(text).ok()?.kid?;
        let ring = self.ring.load();
        let key = ring.keys.iter().find(|key| key.info.id == kid)?;
        let token = jsonwebtoken::decode(text, &key.derived(purpose).verifying, &validation());
        Some(Verified { claims: token.ok()?.claims, key_retired_at: key.info.retired_at })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("path", &self.path).finish_non_exhaustive()
    }
}

/// HS256 and a signature, nothing else: times are judged by the caller against its own clock.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.leeway = 0;
    validation
}

/// The keys as they are used.
struct Ring {
    keys: Vec<Key>,
    pseudonyms: Pseudonyms,
    stamp: FileStamp,
}

struct Key {
    info: KeyInfo,
    session: Derived,
    carried_form: Derived,
}

/// A key of one purpose.
struct Derived {
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Ring {
    fn read(path: &Path) -> Result<Self, KeyRingError> {
        let (file, stamp) = open_file(path)?;
        let contents = RingFile::read(file, path)?;
        let malformed = |problem: &str| malformed(path, problem);
        if contents.version != RingFile::VERSION {
            return Err(malformed("it was written by another version"));
        }
        if contents.keys.is_empty() || contents.keys.len() > MAX_KEYS {
            return Err(malformed("it must hold 1 to 8 keys"));
        }
        if contents.keys.first().is_none_or(|key| key.retired_at.is_some()) {
            return Err(malformed("its first key must be the one that signs"));
        }
        let pseudonym_key =
            secret(&contents.pseudonym_key).ok_or_else(|| malformed("pseudonym_key is no key"))?;
        let keys = contents.keys.iter().map(Key::new).collect::<Option<_>>();
        let keys = keys.ok_or_else(|| malformed("a key's secret is no key"))?;
        Ok(Self { keys, pseudonyms: Pseudonyms::new(pseudonym_key), stamp })
    }
}

impl Key {
    fn new(record: &KeyRecord) -> Option<Self> {
        let mut master = secret(&record.secret)?;
        let key = Self {
            info: KeyInfo {
                id: record.id.clone(),
                created_at: record.created_at,
                retired_at: record.retired_at,
            },
            session: Derived::new(&master, Purpose::Session),
            carried_form: Derived::new(&master, Purpose::CarriedForm),
        };
        master.zeroize();
        Some(key)
    }

    const fn derived(&self, purpose: Purpose) -> &Derived {
        match purpose {
            Purpose::Session => &self.session,
            Purpose::CarriedForm => &self.carried_form,
        }
    }
}

impl Derived {
    fn new(master: &[u8; 32], purpose: Purpose) -> Self {
        let mut key = hmac_sha256(master, &[purpose.label()]);
        let derived = Self {
            signing: EncodingKey::from_secret(&key),
            verifying: DecodingKey::from_secret(&key),
        };
        key.zeroize();
        derived
    }
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RingFile {
    version: u32,
    pseudonym_key: String,
    keys: Vec<KeyRecord>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    #[zeroize(skip)]
    id: String,
    secret: String,
    #[zeroize(skip)]
    created_at: Timestamp,
    #[zeroize(skip)]
    retired_at: Option<Timestamp>,
}

impl Drop for RingFile {
    fn drop(&mut self) {
        self.pseudonym_key.zeroize();
    }
}

impl RingFile {
    const VERSION: u32 = 1;

    fn fresh(now: Timestamp, entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self {
            version: Self::VERSION,
            pseudonym_key: random_text::<32>(entropy)?,
            keys: vec![KeyRecord::fresh(now, entropy)?],
        })
    }

    fn read(file: File, path: &Path) -> Result<Self, KeyRingError> {
        let mut text = zeroize::Zeroizing::new(String::new());
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(io_error(
            "read it",
            path,
            "it must be a text file of at most 16 KiB",
        ))?;
        // serde_json quotes what it met; the position alone is enough, and holds no secret.
        serde_json::from_str(&text)
            .map_err(|e| malformed(path, &format!("line {}: not a key ring", e.line())))
    }
}

impl KeyRecord {
    fn fresh(now: Timestamp, entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self {
            id: random_text::<6>(entropy)?,
            secret: random_text::<32>(entropy)?,
            created_at: now,
            retired_at: None,
        })
    }
}

fn random_text<const N: usize>(entropy: &dyn Entropy) -> Result<String, EntropyError> {
    Ok(URL_SAFE_NO_PAD.encode(random_bytes::<N>(entropy)?))
}

fn secret(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// What changes when the file does: a rotation replaces it, so its inode changes too.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

/// Opens the file, and refuses it while others than its owner may read it.
fn open_file(path: &Path) -> Result<(File, FileStamp), KeyRingError> {
    const ADVICE: &str = "the user that runs Fortify must be able to read it";
    let file = File::open(path).map_err(io_error("open it", path, ADVICE))?;
    let meta = file.metadata().map_err(io_error("look at it", path, ADVICE))?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyRingError::Readable { path: path.to_owned(), mode });
    }
    let modified = (meta.mtime(), meta.mtime_nsec());
    Ok((file, FileStamp { inode: meta.ino(), modified, length: meta.len() }))
}

fn create_dir(path: &Path) -> Result<(), KeyRingError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error(
        "create it",
        path,
        "create it for the user that runs Fortify, or set storage.data_dir to a folder it may write",
    ))
}

/// What to do with a file that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfPresent {
    /// Another process made it a moment ago: its keys are the keys.
    Keep,
    Replace,
}

/// Writes the whole file under another name, flushes it to disk and then puts it in place, so that
/// no reader and no crash ever sees half of it.
fn write_file(
    path: &Path,
    contents: &RingFile,
    entropy: &dyn Entropy,
    if_present: IfPresent,
) -> Result<(), KeyRingError> {
    const ADVICE: &str = "check free space and that the user that runs Fortify may write there";
    let text = serde_json::to_vec_pretty(contents).map_err(|_never| KeyRingError::Signing)?;
    let text = zeroize::Zeroizing::new(text);
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
    // After a rename it is gone already; after a link or a failure it must not stay.
    let _gone = fs::remove_file(&temporary);
    written.map_err(io_error("write it", path, ADVICE))
}

/// Gives a new file to whom the old one belongs: a rotation by root must leave the gate its keys.
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

fn malformed(path: &Path, problem: &str) -> KeyRingError {
    KeyRingError::Malformed { path: path.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::ManualClock;
    use crate::entropy::SystemEntropy;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn open(dir: &Path) -> Result<KeyRing, KeyRingError> {
        KeyRing::open(dir, &ManualClock::at(NOW), &SystemEntropy)
    }

    fn signed(ring: &KeyRing, purpose: Purpose) -> String {
        ring.sign(purpose, &BTreeMap::from([("is", "claims")])).unwrap()
    }

    fn verifies(ring: &KeyRing, purpose: Purpose, text: &str) -> bool {
        let verified = ring.verify::<BTreeMap<String, String>>(purpose, text);
        verified.is_some_and(|v| v.claims["is"] == "claims")
    }

    #[test]
    fn the_first_start_makes_keys_that_only_the_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("deep/data");
        let ring = open(&data).unwrap();
        let mode = fs::metadata(data.join(FILE_NAME)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "a temporary file stayed");

        let text = signed(&ring, Purpose::Session);
        let again = open(&data).unwrap();
        assert!(verifies(&again, Purpose::Session, &text));
    }

    #[test]
    fn a_value_signed_for_one_purpose_is_nothing_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(dir.path()).unwrap();
        let text = signed(&ring, Purpose::CarriedForm);
        assert!(verifies(&ring, Purpose::CarriedForm, &text));
        assert!(!verifies(&ring, Purpose::Session, &text));
    }

    #[test]
    fn rotation_signs_with_a_new_key_and_lets_the_old_one_verify_for_its_lifetime() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW);
        let running = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
        let old = signed(&running, Purpose::Session);

        let operator = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
        operator.rotate(HOUR, &clock, &SystemEntropy).unwrap();
        assert!(running.refresh().unwrap(), "the running gate did not notice");
        assert!(!running.refresh().unwrap(), "read again without a change");
        assert_eq!(running.list().len(), 2);
        assert!(verifies(&running, Purpose::Session, &old));
        let new = signed(&running, Purpose::Session);
        assert!(verifies(&operator, Purpose::Session, &new));

        clock.advance(HOUR);
        operator.rotate(HOUR, &clock, &SystemEntropy).unwrap();
        assert!(!verifies(&operator, Purpose::Session, &old), "a dead key verified");
        assert!(verifies(&operator, Purpose::Session, &new));
        while operator.list().len() < MAX_KEYS {
            operator.rotate(HOUR, &clock, &SystemEntropy).unwrap();
        }
        let full = operator.rotate(HOUR, &clock, &SystemEntropy);
        assert!(matches!(full, Err(KeyRingError::Full(_))), "a live key was dropped");
        assert!(verifies(&operator, Purpose::Session, &new));
        clock.advance(HOUR);
        operator.rotate(HOUR, &clock, &SystemEntropy).unwrap();
        assert_eq!(operator.list().len(), 2);
    }

    #[test]
    fn a_rotation_by_root_leaves_the_keys_to_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(dir.path()).unwrap();
        let path = dir.path().join(FILE_NAME);
        if std::os::unix::fs::chown(&path, Some(12_345), Some(54_321)).is_err() {
            return; // Only root can give a file away, and only for root does it matter.
        }
        ring.rotate(HOUR, &ManualClock::at(NOW), &SystemEntropy).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (12_345, 54_321, 0o600));
    }

    #[test]
    fn whoever_only_looks_makes_no_keys() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(KeyRing::load(dir.path()), Err(KeyRingError::Missing(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn rotation_leaves_circuits_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(dir.path()).unwrap();
        let before = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        ring.rotate(HOUR, &ManualClock::at(NOW), &SystemEntropy).unwrap();
        let after = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        let key = |text: &str| {
            serde_json::from_str::<serde_json::Value>(text).unwrap()["pseudonym_key"].clone()
        };
        assert_eq!(key(&before), key(&after));
    }

    #[test]
    fn keys_that_others_may_read_are_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let message = open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("0640") && message.contains("chmod 600"), "{message}");
    }

    #[test]
    fn a_broken_file_is_refused_without_showing_it_and_kept_in_use_as_it_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(dir.path()).unwrap();
        let text = signed(&ring, Purpose::Session);
        let path = dir.path().join(FILE_NAME);
        let whole = fs::read_to_string(&path).unwrap();
        for broken in ["", "{}", "[]", "secretsecret", &whole[..whole.len() / 2]] {
            fs::write(&path, broken).unwrap();
            let message = ring.refresh().unwrap_err().to_string();
            assert!(message.contains("keys.json") && !message.contains("secretsecret"));
            assert!(verifies(&ring, Purpose::Session, &text));
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_which_key_to_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let message = open(&file.join("data")).unwrap_err().to_string();
        assert!(message.contains("storage.data_dir"), "{message}");
    }

    #[test]
    fn two_first_starts_at_once_agree_on_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let rings: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| open(dir.path()).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let text = signed(&rings[0], Purpose::Session);
        assert!(rings.iter().all(|ring| verifies(ring, Purpose::Session, &text)));
    }
}

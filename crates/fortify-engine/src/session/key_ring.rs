//! The keys that sign what visitors carry, and the file that holds them.
//!
//! One key signs, several verify: a rotation takes effect at once and logs nobody out. The file
//! `keys.json` is made at the first start, readable by its owner alone. A running gate notices a
//! rotation by [`KeyRing::refresh`], without a restart.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, Zeroizing};

use super::MAX_CLOCK_SKEW;
use super::jws;
use super::key_file::{
    FileStamp, IfPresent, KeyRecord, RingFile, create_dir, malformed, open_file, secret, write_file,
};
use fortify_core::advice::{Advise, both};
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::entropy::{Entropy, EntropyError};
use fortify_core::pseudonym::{Pseudonyms, hmac_sha256};

/// The file in the data directory.
const FILE_NAME: &str = "keys.json";

/// Keys that one file may hold. Rotation drops keys that can no longer verify anything, so only a
/// key an hour for a third of a day reaches this.
const MAX_KEYS: usize = 8;

/// How long after a rotation a running gate may still sign with the old key: it looks for a new file
/// every few seconds, and a slow disk may take some more.
const RETIREMENT_GRACE: Duration = Duration::from_secs(60);

/// Bytes of text that a signed value may have: a carried form of 16 KiB in base64 with room for
/// its address. Longer text is refused before anything is computed over it.
const MAX_SIGNED_BYTES: usize = 32 * 1024;

/// Why the keys cannot be used. Each message says which file and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}", both(self))]
pub enum KeyRingError {
    /// The directory or the file cannot be read or written.
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
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is there and makes no sense.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without any of its contents.
        problem: String,
    },
    /// Every place in the ring holds a key that sessions still need.
    Full(PathBuf),
    /// There is no ring yet.
    Missing(PathBuf),
    /// No new key could be made.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The library that writes tokens refused.
    Signing,
}

impl Advise for KeyRingError {
    fn problem(&self) -> String {
        match self {
            Self::Io { doing, path, source, .. } => {
                format!("{}: cannot {doing}: {source}", path.display())
            }
            Self::Readable { path, mode } => {
                format!("{}: mode {mode:04o} lets others read the signing keys", path.display())
            }
            Self::Malformed { path, problem } => format!("{}: {problem}", path.display()),
            Self::Full(path) => {
                format!("{}: holds {MAX_KEYS} keys that still verify sessions", path.display())
            }
            Self::Missing(path) => format!("{}: there are no keys yet", path.display()),
            Self::Entropy(error) => error.to_string(),
            Self::Signing => "a token could not be signed".to_owned(),
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Io { advice, .. } => (*advice).into(),
            Self::Readable { path, .. } => format!("run: chmod 600 {}", path.display()).into(),
            Self::Malformed { .. } => {
                "restore it from a backup, or move it away to start with new keys (everyone is asked to \
                 solve a challenge again)"
                    .into()
            }
            Self::Full(_) => {
                "rotate again when the oldest has outlived session.ttl_seconds, or move the file away \
                 and restart to end every session now"
                    .into()
            }
            Self::Missing(_) => "they are made when the gate first starts".into(),
            Self::Entropy(_) | Self::Signing => return None,
        })
    }
}

/// What a signature is for. Each purpose signs under a key of its own, derived from the ring's,
/// so that a value signed for one can never be passed off as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The session cookie.
    Session,
    /// A form that waits in a challenge page to be sent on.
    CarriedForm,
    /// A place in the queue.
    Ticket,
    /// A stage of a row of challenges.
    Stage,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"fortify/1/session",
            Self::CarriedForm => b"fortify/1/carried-form",
            Self::Ticket => b"fortify/1/ticket",
            Self::Stage => b"fortify/1/stage",
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
    pub(super) fn signed_while_its_key_did(&self, issued_at: Timestamp) -> bool {
        self.key_retired_at.is_none_or(|at| issued_at <= at.after(RETIREMENT_GRACE))
    }

    /// Whether what was signed at `issued_at`, by this node or one whose clock differs a little, and is
    /// good for `lifetime`, is so at `now`.
    #[must_use]
    pub fn is_in_force(&self, issued_at: Timestamp, lifetime: Duration, now: Timestamp) -> bool {
        now < issued_at.after(lifetime)
            && issued_at <= now.after(MAX_CLOCK_SKEW)
            && self.signed_while_its_key_did(issued_at)
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

    /// The secret from which this deployment's styles follow. Rotation does not change it, so that
    /// pictures on their way are drawn the same after one.
    #[must_use]
    pub fn style_secret(&self) -> Zeroizing<[u8; 32]> {
        self.ring.load().style_secret.clone()
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
    style_secret: Zeroizing<[u8; 32]>,
    stamp: FileStamp,
}

struct Key {
    info: KeyInfo,
    session: Derived,
    carried_form: Derived,
    ticket: Derived,
    stage: Derived,
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
        // A circuit is named by twelve bytes, so that none has this text's hash.
        let style_secret = Zeroizing::new(hmac_sha256(&pseudonym_key, &[b"fortify styles"]));
        Ok(Self { keys, pseudonyms: Pseudonyms::new(pseudonym_key), style_secret, stamp })
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
            ticket: Derived::new(&master, Purpose::Ticket),
            stage: Derived::new(&master, Purpose::Stage),
        };
        master.zeroize();
        Some(key)
    }

    const fn derived(&self, purpose: Purpose) -> &Derived {
        match purpose {
            Purpose::Session => &self.session,
            Purpose::CarriedForm => &self.carried_form,
            Purpose::Ticket => &self.ticket,
            Purpose::Stage => &self.stage,
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

#[cfg(test)]
mod tests;

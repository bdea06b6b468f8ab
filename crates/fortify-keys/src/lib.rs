//! The keys that sign cookies, forms and tickets, and the secrets beside them.
//!
//! One key signs and several verify, so a rotation takes effect at once and logs nobody out. The file `keys.json`
//! is created at the first start, readable by its owner only. [`KeyRing::refresh`] lets a running gate pick up a
//! rotation without a restart.
//!
//! # Several nodes
//!
//! They have the same file, once copied. The keys are derived from a root in it and the number of a period, so a rotation
//! on one node needs nothing copied: another node verifies what was signed in the next period at once, and follows when
//! it hears of it ([`KeyRing::follow`]). What nodes tell each other is a [`KeyNote`], which is no secret.
//!
//! # Layout
//!
//! - this file: [`KeyRing`], and what it signs and verifies;
//! - `file`: `keys.json`, read and written whole, and its owner's only;
//! - `jws`: HS256 for the JWT library;
//! - `period`: the keys that follow each other;
//! - `error`: what goes wrong, and what to do.

mod error;
mod file;
mod jws;
mod period;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::MAX_KEYS;
use crate::file::{
    IfPresent, KeyRecord, RingFile, create_dir, malformed, open_file, secret, text_of, write_file,
};
use crate::period::Period;
use fortify_core::clock::{Clock, MAX_CLOCK_SKEW, Timestamp};
use fortify_core::entropy::Entropy;
use fortify_core::pseudonym::{Pseudonyms, hmac_sha256};

pub use crate::error::KeyRingError;
pub use crate::file::FileStamp;
pub use crate::period::{KeyNote, RootName};

/// The file in the data directory.
const FILE_NAME: &str = "keys.json";

/// How long after a rotation a running gate may still sign with the old key: it checks the file every few
/// seconds, and a slow disk may add some.
const RETIREMENT_GRACE: Duration = Duration::from_secs(60);

/// The maximum length of a signed value in bytes: a carried form of 16 KiB in base64, and room for its address.
/// Longer text is rejected before any computation.
const MAX_SIGNED_BYTES: usize = 32 * 1024;

/// The purpose of a signature. Each purpose has its own key, derived from the ring's, so that a value signed for one
/// purpose is never valid for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The session cookie.
    Session,
    /// A form embedded in a challenge page, submitted after the challenge is solved.
    CarriedForm,
    /// A place in the queue.
    Ticket,
    /// A passed stage of a chain.
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

/// The public properties of a key, as `fortify keys list` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The `kid` in tokens.
    pub id: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was retired to only verify; `None` for the signing key.
    pub retired_at: Option<Timestamp>,
}

/// A verified value and the state of its key.
#[derive(Clone)]
pub struct Verified<T> {
    /// The signed value.
    pub claims: T,
    /// When its key stopped signing.
    key_retired_at: Option<Timestamp>,
}

impl<T> Verified<T> {
    /// Whether its key still signed at `issued_at`. A value that claims to be newer than the retirement of its key
    /// was made with a stolen old key.
    #[must_use]
    pub fn signed_while_its_key_did(&self, issued_at: Timestamp) -> bool {
        self.key_retired_at.is_none_or(|at| issued_at <= at.after(RETIREMENT_GRACE))
    }

    /// Whether a value signed at `issued_at` and valid for `lifetime` is valid at `now`. The clocks of nodes may
    /// differ by [`MAX_CLOCK_SKEW`].
    #[must_use]
    pub fn is_in_force(&self, issued_at: Timestamp, lifetime: Duration, now: Timestamp) -> bool {
        now < issued_at.after(lifetime)
            && issued_at <= now.after(MAX_CLOCK_SKEW)
            && self.signed_while_its_key_did(issued_at)
    }
}

impl KeyRing {
    /// Opens the ring in `data_dir`; creates the directory, the file and a first key if necessary.
    ///
    /// # Errors
    ///
    /// [`KeyRingError`], which names the file and says what to do.
    pub fn open(
        data_dir: &Path,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyRingError> {
        let path = data_dir.join(FILE_NAME);
        if !path.exists() {
            create_dir(data_dir)?;
            write_file(
                &path,
                &mut RingFile::fresh(clock.now(), entropy)?,
                entropy,
                IfPresent::Keep,
            )?;
        }
        Self::load(data_dir)
    }

    /// Opens the ring in `data_dir` without creating one: for commands that may run as another user than the gate,
    /// which must not become the owner of its keys.
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

    /// Reloads the file if it has changed, and returns whether it had.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; the current keys stay in use.
    pub fn refresh(&self) -> Result<bool, KeyRingError> {
        let (_, stamp) = open_file(&self.path)?;
        if stamp == self.ring.load().stamp {
            return Ok(false);
        }
        self.ring.store(Arc::new(Ring::read(&self.path)?));
        Ok(true)
    }

    /// Begins the next period, whose key signs from now on. The key before verifies for another `lifetime`, the longest
    /// lifetime of a value signed with it; older keys are dropped.
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
        let (file, _) = open_file(&self.path)?;
        let contents = RingFile::read(file, &self.path)?;
        let (next, now) = (contents.newest().next(), clock.now());
        self.begin(contents, (next, now), lifetime, now, entropy)?;
        self.list().into_iter().next().ok_or(KeyRingError::Signing)
    }

    /// Begins the period that another node with the same root is in, if it is ahead of this one's, and returns whether
    /// it was. `lifetime` is as for [`Self::rotate`].
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn follow(
        &self,
        other: KeyNote,
        lifetime: Duration,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<bool, KeyRingError> {
        let (own, period) = (self.note(), Period(other.period));
        if other.root != own.root || !period.is_soon_after(Period(own.period)) {
            return Ok(false);
        }
        let (file, _) = open_file(&self.path)?;
        let (contents, now) = (RingFile::read(file, &self.path)?, clock.now());
        // An operator may have rotated the keys here too.
        let is_ahead = period > contents.newest();
        if is_ahead {
            self.begin(contents, (period, other.since.min(now)), lifetime, now, entropy)?;
        }
        Ok(is_ahead)
    }

    /// Begins `period`, in which others have been `since`.
    fn begin(
        &self,
        mut contents: RingFile,
        (period, since): (Period, Timestamp),
        lifetime: Duration,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(), KeyRingError> {
        let root = contents.root(&self.path)?;
        contents.root.get_or_insert_with(|| text_of(&root));
        for key in &mut contents.keys {
            key.retired_at.get_or_insert(since);
        }
        contents.keys.retain(|key| key.retired_at.is_none_or(|at| now < at.after(lifetime)));
        contents.keys.insert(0, KeyRecord::of(period, since));
        if contents.keys.len() > MAX_KEYS {
            return Err(KeyRingError::Full(self.path.clone()));
        }
        write_file(&self.path, &mut contents, entropy, IfPresent::Replace)?;
        self.ring.store(Arc::new(Ring::read(&self.path)?));
        Ok(())
    }

    /// What other nodes may know of these keys.
    #[must_use]
    pub fn note(&self) -> KeyNote {
        self.ring.load().note
    }

    /// All keys, the signing key first.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        self.ring.load().keys.iter().map(|key| key.info.clone()).collect()
    }

    /// The file in force: another one may have other keys.
    #[must_use]
    pub fn stamp(&self) -> FileStamp {
        self.ring.load().stamp
    }

    /// Derives pseudonyms of circuits. Rotation does not change them, so records and sessions stay assigned to their
    /// circuits.
    #[must_use]
    pub fn pseudonyms(&self) -> Pseudonyms {
        self.ring.load().pseudonyms.clone()
    }

    /// The secret from which this deployment's styles are derived. Rotation does not change it, so pictures of open
    /// challenges stay the same.
    #[must_use]
    pub fn style_secret(&self) -> Zeroizing<[u8; 32]> {
        self.ring.load().style_secret.clone()
    }

    /// Signs `claims` as a compact JWT.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Signing`] if the claims cannot be written as JSON.
    pub fn sign<T: Serialize>(&self, purpose: Purpose, claims: &T) -> Result<String, KeyRingError> {
        let ring = self.ring.load();
        let key = ring.keys.first().ok_or(KeyRingError::Signing)?;
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key.info.id.clone());
        jsonwebtoken::encode(&header, claims, &key.derived(purpose).signing)
            .map_err(|_unwritable| KeyRingError::Signing)
    }

    /// The claims of `text`, if a key of this ring signed it for `purpose`. The caller has to check times with
    /// [`Verified::is_in_force`].
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
        let known = ring.keys.iter().find(|key| key.info.id == kid);
        let upcoming = || {
            let period =
                Period::of(&kid).filter(|it| it.is_soon_after(Period(ring.note.period)))?;
            Some(Derived::new(&period.secret(&ring.root), purpose))
        };
        let derived;
        let key = match known {
            Some(key) => key.derived(purpose),
            // Another node has rotated its keys, and this one will hear of it.
            None => {
                derived = upcoming()?;
                &derived
            }
        };
        let token = jsonwebtoken::decode(text, &key.verifying, &validation());
        let key_retired_at = known.and_then(|key| key.info.retired_at);
        Some(Verified { claims: token.ok()?.claims, key_retired_at })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Validates the HS256 signature only; the caller checks times against its own clock.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.leeway = 0;
    validation
}

/// The loaded keys.
struct Ring {
    keys: Vec<Key>,
    root: Zeroizing<[u8; 32]>,
    note: KeyNote,
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

/// The key for one purpose.
struct Derived {
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Ring {
    fn read(path: &Path) -> Result<Self, KeyRingError> {
        let (file, stamp) = open_file(path)?;
        let contents = RingFile::read(file, path)?;
        let malformed = |problem: &str| malformed(path, problem);
        if !(1..=RingFile::VERSION).contains(&contents.version) {
            return Err(malformed("it was written by another version of Fortify"));
        }
        if contents.keys.is_empty() || contents.keys.len() > MAX_KEYS {
            return Err(malformed("it must hold 1 to 8 keys"));
        }
        if contents.keys.first().is_none_or(|key| key.retired_at.is_some()) {
            return Err(malformed("its first key must be the one that signs"));
        }
        let pseudonym_key = secret(&contents.pseudonym_key)
            .ok_or_else(|| malformed("pseudonym_key is not a valid key"))?;
        let root = contents.root(path)?;
        let keys = contents.keys.iter().map(|key| Key::new(key, &root)).collect::<Option<_>>();
        let keys = keys.ok_or_else(|| malformed("the secret of a key is not valid"))?;
        let since = contents.keys.first().map_or(Timestamp::default(), |key| key.created_at);
        let note = KeyNote { root: RootName::of(&root), period: contents.newest().0, since };
        // The input for a circuit is twelve bytes long, so no circuit shares this text's hash.
        let style_secret = Zeroizing::new(hmac_sha256(&pseudonym_key, &[b"fortify styles"]));
        let pseudonyms = Pseudonyms::new(pseudonym_key);
        Ok(Self { keys, root, note, pseudonyms, style_secret, stamp })
    }
}

impl Key {
    fn new(record: &KeyRecord, root: &[u8; 32]) -> Option<Self> {
        let master = match &record.secret {
            Some(text) => Zeroizing::new(secret(text)?),
            None => Period::of(&record.id)?.secret(root),
        };
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

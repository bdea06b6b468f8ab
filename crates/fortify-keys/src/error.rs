//! Errors of the signing keys.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use fortify_core::advice::{Advise, both};
use fortify_core::entropy::EntropyError;

/// The most keys in one file. Rotation drops keys that cannot verify anything any more, so with sessions of one
/// hour only a rotation every few minutes reaches this.
pub(crate) const MAX_KEYS: usize = 8;

/// Why the keys cannot be used. Each message says which file and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}", both(self))]
pub enum KeyRingError {
    /// The directory or the file cannot be read or written.
    Io {
        /// The failed operation, in the infinitive.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
        /// Advice for the operator.
        advice: &'static str,
    },
    /// Others than the owner may read the secret keys.
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file exists and cannot be read as keys.
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem, without any of the contents.
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

//! Errors of the signing keys.

use std::io;
use std::path::PathBuf;

use fortify_core::entropy::EntropyError;

/// The most keys in one file. Rotation drops keys that cannot verify anything any more, so with sessions of one
/// hour only a rotation every few minutes reaches this.
pub(super) const MAX_KEYS: usize = 8;

/// The reason why the keys cannot be used. Each message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The directory or the file cannot be read or written.
    #[error("{}: cannot {doing}: {source}; {advice}", path.display())]
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
    /// Others than the owner may read the keys.
    #[error("{}: mode {mode:04o} lets others read the signing keys; run: chmod 600 {}", path.display(), path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The contents of the file are invalid.
    #[error("{}: {problem}; restore it from a backup, or move it away to start with new keys (everyone is asked to solve a challenge again)", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem, without any of the contents.
        problem: String,
    },
    /// The ring is full of keys that sessions still need.
    #[error("{}: holds {MAX_KEYS} keys that still verify sessions; rotate again when the oldest has outlived session.ttl_seconds, or move the file away and restart to end every session now", .0.display())]
    Full(PathBuf),
    /// The file does not exist.
    #[error("{}: there are no keys yet; the gate creates them at its first start", .0.display())]
    Missing(PathBuf),
    /// No random key could be drawn.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The JWT library failed to sign a token.
    #[error("a token could not be signed")]
    Signing,
}

//! What can go wrong with the signing keys.

use std::io;
use std::path::PathBuf;

use fortify_core::entropy::EntropyError;

/// Keys that one file may hold. Rotation drops keys that can no longer verify anything, so only a
/// key an hour for a third of a day reaches this.
pub(super) const MAX_KEYS: usize = 8;

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

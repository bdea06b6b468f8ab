//! Randomness, as a trait that callers pass in.
//!
//! Tokens, seeds, session ids and keys all come from an [`Entropy`]. A source that fails is an error and
//! never falls back to guessable bytes.

use std::fmt;

/// The source of randomness failed.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct EntropyError;

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if the source failed; `buffer` must then not be used.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(buffer).map_err(|_unavailable| EntropyError)
    }
}

/// `N` bytes from `source`.
///
/// # Errors
///
/// As [`Entropy::fill`].
pub fn random_bytes<const N: usize>(source: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    source.fill(&mut bytes)?;
    Ok(bytes)
}

//! The secrets that pictures follow from: a [`Seed`] for each picture, a [`StyleKey`] for each style.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::{SeedError, StyleKeyError};
use crate::hex;

/// The 32 secret bytes from which a picture and its answer follow.
///
/// Knowing the seed is knowing the answer, so `Debug` hides it and its memory is overwritten when it is
/// dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A seed from bytes that the operating system's generator gave.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A seed from 64 hexadecimal digits of either case.
    ///
    /// # Errors
    ///
    /// [`SeedError`] for any other length or character.
    pub fn from_hex(hex: &str) -> Result<Self, SeedError> {
        hex::decode(hex).map(Self).ok_or(SeedError)
    }

    /// 64 lower-case hexadecimal digits, for a command line that reproduces a picture.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The 32 bytes from which a [`Style`](crate::Style) follows.
///
/// Anyone who knows them can draw any number of labelled pictures in the style, so `Debug` hides them
/// and their memory is overwritten when they are dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct StyleKey([u8; 32]);

impl StyleKey {
    /// The style that is used without a key: anybody can draw it.
    pub const PUBLIC: Self = Self([0; 32]);

    /// A key from secret bytes, such as an HMAC of the date under a secret of the site.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key from 64 hexadecimal digits of either case.
    ///
    /// # Errors
    ///
    /// [`StyleKeyError`] for any other length or character.
    pub fn from_hex(hex: &str) -> Result<Self, StyleKeyError> {
        hex::decode(hex).map(Self).ok_or(StyleKeyError)
    }

    /// 64 lower-case hexadecimal digits, for a command line that draws in this style.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }
}

impl fmt::Debug for StyleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StyleKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_survives_hex_and_shows_nothing() {
        let seed = Seed::from_bytes(std::array::from_fn(|index| index as u8 * 7));
        let hex = seed.to_hex();
        assert_eq!(hex.len(), 64);
        assert!(Seed::from_hex(&hex.to_uppercase()).is_ok_and(|back| back == seed));
        assert!(Seed::from_hex(&hex[1..]).is_err());
        assert!(Seed::from_hex(&hex.replace('0', "g")).is_err());
        assert_eq!(format!("{seed:?}"), "Seed(..)");
    }
}

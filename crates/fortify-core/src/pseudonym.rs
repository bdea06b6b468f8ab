//! Pseudonyms of circuits.
//!
//! Records, cookies and logs name a circuit by a keyed hash, which distinguishes circuits without revealing
//! them. Only its status is kept under its number (in the crate `fortify-engine`), because that is its key in
//! `HAProxy`'s table.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::circuit::CircuitId;

/// Bytes of a tag: 128 bits, so that no two circuits share one by chance.
pub const TAG_BYTES: usize = 16;

/// The prefix of a session's id in the message that is hashed to its subject. It makes the message longer
/// than that of any circuit, so that no circuit's tag is also a subject.
const SUBJECT: &[u8] = b"fortify subject ";

/// A keyed hash of a [`CircuitId`].
///
/// Compared in constant time; `Debug` shows nothing of it.
#[derive(Clone, Copy, Eq)]
pub struct CircuitTag([u8; TAG_BYTES]);

impl CircuitTag {
    /// The tag with these bytes: for tests and for stores that read one back.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; TAG_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a store.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; TAG_BYTES] {
        self.0
    }

    /// Base64url, as the session's `circuit_id` claim carries it.
    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// 32 lower-case hexadecimal digits, as operators see the circuit.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads [`Self::hex`] back; `None` for every other text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let plain = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 2 * TAG_BYTES || !digits.iter().all(plain) {
            return None;
        }
        let mut bytes = [0; TAG_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Reads [`Self::encode`] back; `None` for every other text.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl From<CircuitTag> for [u8; TAG_BYTES] {
    fn from(tag: CircuitTag) -> Self {
        tag.0
    }
}

impl PartialEq for CircuitTag {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::hash::Hash for CircuitTag {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for CircuitTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CircuitTag(..)")
    }
}

impl Serialize for CircuitTag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for CircuitTag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::decode(&text).ok_or_else(|| serde::de::Error::custom("not a circuit tag"))
    }
}

/// Computes pseudonyms with one secret key.
#[derive(Clone)]
pub struct Pseudonyms {
    key: Zeroizing<[u8; 32]>,
}

impl Pseudonyms {
    /// Pseudonyms by `key`. Another key gives every circuit another tag.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key: Zeroizing::new(key) }
    }

    /// The tag of `circuit`.
    #[must_use]
    pub fn tag(&self, circuit: &CircuitId) -> CircuitTag {
        let message = circuit.canonical_bytes();
        let digest = hmac_sha256(&self.key, &[message.as_ref()]);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&digest[..TAG_BYTES]);
        CircuitTag(tag)
    }

    /// The subject of the session with this id, its name for the protected service: 22 characters, the same
    /// for the whole session and different on every site. The cookie cannot be derived from it.
    #[must_use]
    pub fn subject(&self, session: [u8; 16]) -> String {
        let digest = hmac_sha256(&self.key, &[SUBJECT, &session]);
        URL_SAFE_NO_PAD.encode(&digest[..TAG_BYTES])
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms(..)")
    }
}

/// HMAC-SHA256 of the parts one after another; callers delimit them.
pub fn hmac_sha256<const N: usize>(key: &[u8; N], parts: &[&[u8]]) -> [u8; 32] {
    const { assert!(N <= 64, "a longer key would have to be hashed first") };
    // A key shorter than SHA-256's block of 64 bytes is padded with zeros (RFC 2104); done here,
    // it has the one length that cannot be refused.
    let mut block = [0; 64];
    block[..N].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::{Origin, TorCircuit};

    fn circuit(text: &str) -> TorCircuit {
        text.parse().unwrap()
    }

    #[test]
    fn a_tag_tells_circuits_apart_and_not_which_they_are() {
        let names = Pseudonyms::new([7; 32]);
        let one = CircuitId::Header(circuit("fc00:dead:beef:4dad::19"));
        let tag = names.tag(&one);
        assert_eq!(tag, names.tag(&one));
        assert_ne!(tag, names.tag(&CircuitId::Header(circuit("fc00:dead:beef:4dad::1a"))));
        let line = CircuitId::ProxyLine(Origin::Tor(circuit("fc00:dead:beef:4dad::19")));
        assert_ne!(tag, names.tag(&line), "two sources are two visitors");
        assert_ne!(tag, Pseudonyms::new([8; 32]).tag(&one), "the key does not matter");
    }

    #[test]
    fn a_subject_is_a_sessions_own_on_this_site_and_names_neither() {
        let (here, there) = (Pseudonyms::new([7; 32]), Pseudonyms::new([8; 32]));
        let name = here.subject([1; 16]);
        assert_eq!((name.len(), &name), (22, &here.subject([1; 16])));
        assert_ne!(name, here.subject([2; 16]), "two sessions are one subject");
        assert_ne!(name, there.subject([1; 16]), "two sites can compare notes");
        assert_ne!(name, URL_SAFE_NO_PAD.encode([1; 16]), "the id itself");
    }

    #[test]
    fn a_tag_is_read_back_from_its_one_spelling() {
        let tag = CircuitTag::from_bytes([0xab; TAG_BYTES]);
        assert_eq!(CircuitTag::decode(&tag.encode()), Some(tag));
        for text in ["", "q6urq6urq6urq6urq6urqx", "q6urq6urq6urq6urq6urqw==", "q6ur"] {
            assert_eq!(CircuitTag::decode(text), None, "{text}");
        }
    }

    #[test]
    fn debug_shows_neither_tag_nor_key() {
        assert_eq!(format!("{:?}", CircuitTag::from_bytes([1; TAG_BYTES])), "CircuitTag(..)");
        assert_eq!(format!("{:?}", Pseudonyms::new([1; 32])), "Pseudonyms(..)");
    }

    #[test]
    fn the_hash_is_hmac_sha256() {
        // RFC 4231, test case 2, with its key padded to 32 bytes, which HMAC pads with zeros anyway.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let digest = hmac_sha256(&key, &[b"what do ya want ", b"for nothing?"]);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}

//! Periods: one key each, derived from the root.
//!
//! Every node with the same root has the same key of a period, so a rotation is no more than the number of the next one.

use std::fmt;
use std::str::FromStr;

use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::hmac_sha256;
use zeroize::Zeroizing;

/// What nodes tell each other of their keys. It is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyNote {
    /// Which root they are derived from.
    pub root: RootName,
    /// The number of the period, whose key signs; 0 of a key that was made before there was a root.
    pub period: u32,
    /// Since when it signs.
    pub since: Timestamp,
}

impl KeyNote {
    /// How many periods another node may be ahead for this one to follow: as many as a file holds keys. Whoever can write
    /// into the shared store must not be able to use up the numbers.
    pub const AHEAD: u32 = 8;
}

/// Names a root, and says nothing else of it. Its text is 16 digits in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootName(u64);

impl RootName {
    pub(crate) fn of(root: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = hmac_sha256(root, &[b"fortify/1/name"]);
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// It is no name of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a root")]
pub struct NotARootName;

impl FromStr for RootName {
    type Err = NotARootName;

    fn from_str(text: &str) -> Result<Self, NotARootName> {
        let name = u64::from_str_radix(text, 16).map(Self).map_err(|_invalid| NotARootName)?;
        if name.to_string() == text { Ok(name) } else { Err(NotARootName) }
    }
}

/// The number of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(pub(crate) u32);

impl Period {
    pub(crate) const FIRST: Self = Self(1);

    /// The next one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The `kid` of its key, which says nothing of the key.
    pub(crate) fn id(self) -> String {
        format!("p{}", self.0)
    }

    /// The period that a `kid` names.
    pub(crate) fn of(id: &str) -> Option<Self> {
        let period = Self(id.strip_prefix('p')?.parse().ok()?);
        (period.id() == id).then_some(period)
    }

    /// Whether a node may be in this period while another is in `newest` still.
    pub(crate) fn is_soon_after(self, newest: Self) -> bool {
        self > newest && self.0 - newest.0 <= KeyNote::AHEAD
    }

    /// The secret of its key.
    pub(crate) fn secret(self, root: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(hmac_sha256(root, &[b"fortify/1/period", &self.0.to_be_bytes()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_other_way() {
        let name = RootName::of(&[7; 32]);
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!(RootName(7).to_string().parse(), Ok(RootName(7)));
        for other in ["", "7", "+000000000000007", "000000000000000G", "000000000000000A"] {
            assert_eq!(other.parse::<RootName>(), Err(NotARootName), "{other}");
        }
        assert_eq!(Period::of("p7"), Some(Period(7)));
        for other in ["7", "p", "p07", "p+7", "p-1", "P7", "p4294967296", "Zm9ydGlm"] {
            assert_eq!(Period::of(other), None, "{other}");
        }
    }
}

//! Who is asking, by what means, and what that lets them do.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest name of an account or a token.
pub const MAX_NAME: usize = 64;

/// What somebody may do; each may do what those before may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Turn the dial, change how circuits stand, end sessions.
    Operator,
    /// And change accounts and tokens, and have the configuration read again.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word in the file, the API and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role that a word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// By what somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthMethod {
    /// A session: the cookie of a log-in.
    Session,
    /// An API token.
    Token,
    /// The unix socket: its peer is root or the gate's own user.
    Socket,
    /// The file itself: the command line without a gate.
    File,
    /// SIGHUP: whoever may send signals to the gate.
    Signal,
}

impl AuthMethod {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Token => "token",
            Self::Socket => "socket",
            Self::File => "file",
            Self::Signal => "signal",
        }
    }
}

/// Somebody who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The account's name, the token's (`token:ID`), or what the command line says.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// By what they are known.
    pub auth_method: AuthMethod,
}

/// Whether `name` is one that an account may have: 1 to 64 of `a-z 0-9 . _ @ -`, so that two names never
/// look alike and none does anything to a log or a header.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'@' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_the_lesser_may() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn a_name_is_plain() {
        for name in ["a", "ada.l-1_x@site"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "Ada", "a b", "a\r\nb", "é", "a:b", &"a".repeat(65)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}

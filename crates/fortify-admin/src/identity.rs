//! Who makes a request, how they are authenticated, and their role.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest name of an account or a token.
pub const MAX_NAME: usize = 64;

/// A role. Each role includes those before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything.
    Viewer,
    /// Also sets the threat level, bans and trusts circuits, and revokes sessions.
    Operator,
    /// Also manages accounts and tokens, and reloads the configuration.
    Admin,
}

impl Role {
    /// All roles, the lowest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The name in the file, the API and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role with this name.
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

/// How a request is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthMethod {
    /// By the session cookie of a log-in.
    Session,
    /// By an API token.
    Token,
    /// By the unix socket, whose peer is root or the gate's own user.
    Socket,
    /// By access to the files: the command line without a running gate.
    File,
    /// By SIGHUP, from a user who may send signals to the gate.
    Signal,
}

impl AuthMethod {
    /// The name in the log.
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

/// An authenticated user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The account's name, the token's (`token:ID`), or what the command line says.
    pub name: String,
    /// The role.
    pub role: Role,
    /// How the user was authenticated.
    pub auth_method: AuthMethod,
}

/// Whether an account may have this name: 1 to 64 of `a-z 0-9 . _ @ -`, so that no two names look alike and none
/// needs escaping in a log or a header.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'@' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_and_parse_their_names() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn names_have_only_plain_characters() {
        for name in ["a", "ada.l-1_x@site"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "Ada", "a b", "a\r\nb", "é", "a:b", &"a".repeat(65)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}

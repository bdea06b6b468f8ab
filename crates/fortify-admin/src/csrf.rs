//! CSRF tokens: proof that a request with a session cookie was sent from a page of that session.
//!
//! The token is an HMAC over the session's ID, in a hidden field. It needs no script, no `Referer` and no state, and
//! expires with the session. A form before log-in is bound to a cookie of its own, so that another site cannot log
//! a user in as someone else.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use fortify_core::pseudonym::hmac_sha256;

/// The hidden field of a form.
pub(super) const FIELD: &str = "csrf";
/// The header that replaces the field for JSON bodies.
pub(super) const HEADER: &str = "x-fortify-csrf";

/// The key of the tokens of this process.
pub(super) struct FormKey(Zeroizing<[u8; 32]>);

impl FormKey {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// The token for forms bound to `cookie`, a session's or one from before log-in.
    pub(super) fn token(&self, cookie: &str) -> String {
        let digest = hmac_sha256(&self.0, &[b"fortify admin form ", cookie.as_bytes()]);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn is_right(&self, cookie: &str, token: &str) -> bool {
        self.token(cookie).as_bytes().ct_eq(token.as_bytes()).into()
    }
}

impl fmt::Debug for FormKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FormKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_with_one_cookie_and_one_key() {
        let (here, there) = (FormKey::new([1; 32]), FormKey::new([2; 32]));
        let token = here.token("a");
        assert!(here.is_right("a", &token));
        assert!(!here.is_right("b", &token) && !there.is_right("a", &token));
        assert!(!here.is_right("a", "") && !here.is_right("", ""));
    }
}

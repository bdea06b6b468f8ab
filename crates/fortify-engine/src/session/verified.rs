//! Session tokens whose signature was found good a moment ago.
//!
//! A page is dozens of requests with the same token, and only a change of the keys changes what its signature says.
//! Reading base64 and JSON and computing the signature takes a fifth of the instructions of a proxied request (by
//! callgrind; `make bench-cost` compares whole requests).

use std::sync::Arc;

use fortify_core::recent::Recent;
use fortify_keys::{FileStamp, Verified};
use fortify_store::record::Secret;

use super::Claims;

/// The most tokens that are remembered: below 3 MiB at 330 bytes each. Others are verified again.
const MOST: usize = 4096;

/// Tokens are found by their last bytes, which are of the signature.
type Ending = [u8; 16];

/// Remembers tokens with what they claim.
#[derive(Debug)]
pub(super) struct VerifiedTokens(Recent<Known, Ending>);

#[derive(Clone)]
struct Known {
    token: Arc<Secret<String>>,
    verified: Verified<Claims>,
    /// The keys that verified it.
    keys: FileStamp,
}

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self(Recent::new(MOST))
    }

    /// What `token` claims, if it is exactly one that `keys` verified, and otherwise whatever `verify` says, which is
    /// remembered if it is good.
    pub(super) fn get_or_verify(
        &self,
        token: &str,
        keys: FileStamp,
        verify: impl FnOnce() -> Option<Verified<Claims>>,
    ) -> Option<Verified<Claims>> {
        let Some(ending) = token.as_bytes().last_chunk().copied() else { return verify() };
        let is_another = |known: &Known| known.token.expose() != token || known.keys != keys;
        if let Some(known) = self.0.get(ending, is_another) {
            return Some(known.verified);
        }
        let verified = verify()?;
        let token = Arc::new(Secret::new(token.to_owned()));
        let known = Known { token, verified: verified.clone(), keys };
        self.0.change(ending, |known| known.keys != keys, |_| (known, ()));
        Some(verified)
    }
}

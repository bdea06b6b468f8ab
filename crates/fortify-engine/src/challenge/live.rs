//! Pictures that were shown lately, and the turns of circuits that want one.
//!
//! All tabs of a circuit show one challenge, so a page that is loaded again shows the same picture. Drawing it again costs
//! as much as a new one and counts against no quota, so pictures are kept for a while, and how often one is drawn again is
//! limited ([`super::fetch_counter`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fortify_captcha::Media;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{Mutex, OwnedMutexGuard};

use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::ChallengeToken;

/// Pictures that are kept, at most 50 KB each, 30 MB in all.
const MAX_PICTURES: u64 = 600;

/// How long one is kept: the usual lifetime of a challenge.
const PICTURE_LIFETIME: Duration = Duration::from_secs(300);

/// Circuits whose turn is known, and for how long after it: longer than a challenge takes to draw. More circuits at once, or
/// a slower drawing, cost a picture that nobody sees.
const MAX_TURNS: u64 = 10_000;
const TURN_LIFETIME: Duration = Duration::from_secs(60);

/// The pictures of challenges that are live.
pub(super) struct Pictures(Cache<ChallengeToken, Arc<Media>>);

impl Pictures {
    pub(super) fn new() -> Self {
        let cache = Cache::builder().max_capacity(MAX_PICTURES).time_to_live(PICTURE_LIFETIME);
        Self(cache.eviction_policy(EvictionPolicy::lru()).build())
    }

    pub(super) fn keep(&self, token: &ChallengeToken, media: &Media) {
        self.0.insert(token.clone(), Arc::new(media.clone()));
    }

    pub(super) fn get(&self, token: &ChallengeToken) -> Option<Media> {
        self.0.get(token).map(Arc::unwrap_or_clone)
    }

    pub(super) fn forget(&self, token: &ChallengeToken) {
        self.0.invalidate(token);
    }
}

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pictures").finish_non_exhaustive()
    }
}

/// Lets one request of a circuit at a time decide whether a challenge has to be drawn: of tabs that are opened at once,
/// the first draws, and the others show the same.
pub(super) struct Turns(Cache<CircuitTag, Arc<Mutex<()>>>);

impl Turns {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_TURNS).time_to_idle(TURN_LIFETIME).build())
    }

    /// Waits for the turn of a request of `circuit`, which ends when the result is dropped.
    pub(super) async fn wait(&self, circuit: CircuitTag) -> OwnedMutexGuard<()> {
        self.0.get_with(circuit, Arc::default).lock_owned().await
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

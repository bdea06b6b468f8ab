//! Counts fetches of pictures from their own URL.
//!
//! A challenge page contains its picture, but API clients fetch it separately, and each fetch draws it again. So
//! answers are timed from the first fetch, and the number of fetches is limited.

use std::fmt;
use std::time::Duration;

use moka::sync::Cache;

use fortify_core::clock::Timestamp;
use fortify_store::record::ChallengeToken;

/// The most fetches of one picture, far more than reloading a page takes.
const MOST: u8 = 10;

/// The number of challenges that are remembered (half of the default `captcha.max_active`), and for how long (the
/// longest lifetime of a challenge).
const MAX_CHALLENGES: u64 = 50_000;
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy)]
struct Fetches {
    first: Timestamp,
    times: u8,
}

/// The fetches of each picture on this node.
pub(super) struct FetchCounter(Cache<ChallengeToken, Fetches>);

impl FetchCounter {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_CHALLENGES).time_to_live(LONGEST).build())
    }

    /// Counts a fetch, and returns whether it is permitted.
    pub(super) fn count(&self, token: &ChallengeToken, now: Timestamp) -> bool {
        let entry = self.0.entry_by_ref(token).and_upsert_with(|before| {
            let before = before.map(moka::Entry::into_value);
            before.map_or(Fetches { first: now, times: 1 }, |fetches| Fetches {
                times: fetches.times.saturating_add(1),
                ..fetches
            })
        });
        entry.into_value().times <= MOST
    }

    /// When the picture of a challenge issued at `issued` was first fetched; `issued` if the page contained it.
    /// Forgets the challenge.
    pub(super) fn first_fetch(&self, token: &ChallengeToken, issued: Timestamp) -> Timestamp {
        self.0.remove(token).map_or(issued, |fetches| fetches.first.max(issued))
    }
}

impl fmt::Debug for FetchCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchCounter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::entropy::SystemEntropy;

    #[test]
    fn answers_are_timed_from_the_first_fetch_and_the_eleventh_is_refused() {
        let (counter, now) = (FetchCounter::new(), Timestamp::from_secs(1_800_000_000));
        let token = ChallengeToken::random(&SystemEntropy).unwrap();
        let later = now.after(Duration::from_secs(9));
        assert_eq!(counter.first_fetch(&token, now), now, "nobody fetched it: its page had it");
        assert!(counter.count(&token, later));
        for _ in 1..MOST {
            assert!(counter.count(&token, later.after(Duration::from_secs(9))));
        }
        assert!(!counter.count(&token, later));
        assert_eq!(counter.first_fetch(&token, now), later);
        assert_eq!(counter.first_fetch(&token, now), now, "remembered");
    }
}

//! Pictures that are fetched from an address of their own: when first, and how often.
//!
//! A page carries its picture. Programs of others fetch it when they like, and each time it is drawn
//! anew: so an answer is timed from the first look, and there is a last one.

use std::fmt;
use std::time::Duration;

use moka::sync::Cache;

use fortify_core::clock::Timestamp;
use fortify_store::record::ChallengeToken;

/// How often one picture is drawn for whoever fetches it: far more than a page that is loaded again.
const MOST: u8 = 10;

/// Challenges that are remembered, and for how long: half of those that may be active, as long as the
/// longest of them can be answered.
const MAX_CHALLENGES: u64 = 50_000;
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy)]
struct Fetches {
    first: Timestamp,
    times: u8,
}

/// Who looked at what; of this node alone.
pub(super) struct FetchCounter(Cache<ChallengeToken, Fetches>);

impl FetchCounter {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_CHALLENGES).time_to_live(LONGEST).build())
    }

    /// A picture is fetched; whether it may be once more.
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

    /// When the picture of a challenge that was issued at `issued` was there to be looked at. Forgets it:
    /// the challenge is no more.
    pub(super) fn first_fetch(&self, token: &ChallengeToken, issued: Timestamp) -> Timestamp {
        self.0.remove(token).map_or(issued, |fetches| fetches.first.max(issued))
    }
}

impl fmt::Debug for FetchCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewings").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::entropy::SystemEntropy;

    #[test]
    fn the_first_look_counts_and_the_eleventh_is_refused() {
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

//! Counts fetches of pictures from their own URL.
//!
//! A challenge page contains its picture, but API clients fetch it separately, and each fetch draws it again. So
//! answers are timed from the first fetch, and the number of fetches is limited. A page that is loaded again may draw its
//! picture again too, which counts against the same limit; its answer is timed from when it was shown first.

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

#[derive(Clone, Copy, Default)]
struct Fetches {
    first: Option<Timestamp>,
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
        self.draw(token, Some(now))
    }

    /// Counts that a page draws its picture again, and returns whether it is permitted.
    pub(super) fn count_redraw(&self, token: &ChallengeToken) -> bool {
        self.draw(token, None)
    }

    fn draw(&self, token: &ChallengeToken, fetched: Option<Timestamp>) -> bool {
        let entry = self.0.entry_by_ref(token).and_upsert_with(|before| {
            let before = before.map_or_else(Fetches::default, moka::Entry::into_value);
            Fetches { first: before.first.or(fetched), times: before.times.saturating_add(1) }
        });
        entry.into_value().times <= MOST
    }

    /// When the picture of a challenge issued at `issued` was first fetched; `issued` if the page contained it.
    /// Forgets the challenge.
    pub(super) fn first_fetch(&self, token: &ChallengeToken, issued: Timestamp) -> Timestamp {
        self.0.remove(token).and_then(|fetches| fetches.first).map_or(issued, |at| at.max(issued))
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
        assert!(counter.count_redraw(&token));
        assert_eq!(counter.first_fetch(&token, now), now, "timed from when it was shown again");
        let drawn = (0..20).filter(|_| counter.count_redraw(&token)).count();
        assert_eq!(drawn, usize::from(MOST));
    }
}

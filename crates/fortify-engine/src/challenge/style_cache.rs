//! The styles that pictures are drawn in: one per period, derived from a secret of this deployment.
//!
//! A style is identified by the start of its period, which challenge records contain. All nodes that share the key
//! ring derive the same style from it, and nobody else can.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fortify_captcha::{Style, StyleKey};
use zeroize::Zeroizing;

use super::render::Render;
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::pseudonym::hmac_sha256;

/// The number of cached styles: the current one, and the previous one for challenges issued before the change.
const KEPT: usize = 2;

/// The start of a style's period, in seconds since the Unix epoch.
pub type StylePeriod = u64;

/// Derives styles and caches the last ones.
pub struct StyleCache {
    renderer: Arc<dyn Render>,
    clock: Arc<dyn Clock>,
    secret: Zeroizing<[u8; 32]>,
    /// The length of a period in seconds, at least 1.
    period_s: u64,
    /// The cached styles, the last used in front.
    made: Mutex<VecDeque<(StylePeriod, Arc<Style>)>>,
}

impl StyleCache {
    /// Creates a cache of styles that `renderer` derives from `secret`, one per `period`.
    #[must_use]
    pub fn new(
        renderer: Arc<dyn Render>,
        clock: Arc<dyn Clock>,
        secret: Zeroizing<[u8; 32]>,
        period: Duration,
    ) -> Self {
        let made = Mutex::new(VecDeque::with_capacity(KEPT + 1));
        Self { renderer, clock, secret, period_s: period.as_secs().max(1), made }
    }

    /// The current period.
    #[must_use]
    pub fn period(&self) -> StylePeriod {
        period_of(self.clock.now(), self.period_s)
    }

    /// The style of `period`. If it is not cached, deriving it takes tens of milliseconds, during which other callers
    /// wait; call this only on threads that may block.
    #[must_use]
    pub fn style(&self, period: StylePeriod) -> Arc<Style> {
        // A panic while a style is derived leaves the others intact.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = made.iter().position(|(of, _)| *of == period) {
            made.swap(0, at);
        } else {
            made.push_front((period, Arc::new(self.renderer.style(&self.key(period)))));
            made.truncate(KEPT);
        }
        // The style is in front now.
        match made.front() {
            Some((_, style)) => style.clone(),
            None => Arc::new(self.renderer.style(&self.key(period))),
        }
    }

    /// The key of a period's style, to draw the same pictures elsewhere.
    #[must_use]
    pub fn key(&self, period: StylePeriod) -> StyleKey {
        key_of(&self.secret, period)
    }
}

/// The key of the style in use at `at` by a deployment with `secret` and periods of `length`: for commands that run
/// without a gate.
#[must_use]
pub fn key_at(secret: &[u8; 32], at: Timestamp, length: Duration) -> StyleKey {
    key_of(secret, period_of(at, length.as_secs()))
}

fn key_of(secret: &[u8; 32], period: StylePeriod) -> StyleKey {
    StyleKey::from_bytes(hmac_sha256(secret, &[b"style epoch\0", &period.to_be_bytes()]))
}

/// The start of the period that contains `now`, in seconds.
fn period_of(now: Timestamp, length_s: u64) -> StylePeriod {
    let now = now.as_secs();
    now - now % length_s.max(1)
}

impl fmt::Debug for StyleCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StyleCache").field("period_s", &self.period_s).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use fortify_captcha::{Generator, Puzzle, RenderError, Rendered, Seed, Spec};

    use super::*;
    use fortify_core::clock::ManualClock;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Counts derived styles.
    struct Counting {
        generator: Generator,
        styles: AtomicUsize,
    }

    impl Render for Counting {
        fn style(&self, key: &StyleKey) -> Style {
            self.styles.fetch_add(1, Ordering::SeqCst);
            self.generator.style(key)
        }

        fn render(&self, spec: &Spec, style: &Style, seed: &Seed) -> Result<Rendered, RenderError> {
            self.generator.render(spec, style, seed)
        }

        fn puzzle(&self, spec: &Spec, seed: &Seed) -> Result<Puzzle, RenderError> {
            self.generator.puzzle(spec, seed)
        }
    }

    fn styles(secret: u8, clock: &Arc<ManualClock>) -> (Arc<Counting>, StyleCache) {
        let generator = Generator::new().unwrap();
        let renderer = Arc::new(Counting { generator, styles: AtomicUsize::new(0) });
        let styles =
            StyleCache::new(renderer.clone(), clock.clone(), Zeroizing::new([secret; 32]), DAY);
        (renderer, styles)
    }

    #[test]
    fn a_period_starts_at_midnight_and_has_a_key_of_its_own() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(86_400 * 3 - 1)));
        let (_, styles) = styles(1, &clock);
        assert_eq!(styles.period(), 86_400 * 2);
        clock.advance(Duration::from_secs(1));
        assert_eq!(styles.period(), 86_400 * 3);
        assert_ne!(styles.key(86_400 * 2), styles.key(86_400 * 3));
        assert_ne!(styles.key(0), self::styles(2, &clock).1.key(0), "the secret does not matter");
    }

    #[test]
    fn two_styles_are_kept_and_no_more() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        let (renderer, styles) = styles(1, &clock);
        for period in [0, 1, 0, 1, 1, 0] {
            let _ready = styles.style(period);
        }
        assert_eq!(renderer.styles.load(Ordering::SeqCst), 2);
        let _third = styles.style(2);
        let _latest_of_the_two = styles.style(0);
        assert_eq!(renderer.styles.load(Ordering::SeqCst), 3);
        let _forgotten = styles.style(1);
        assert_eq!(renderer.styles.load(Ordering::SeqCst), 4);
    }
}

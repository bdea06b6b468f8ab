//! The styles that pictures are drawn in: one per epoch, from a secret of this deployment.
//!
//! A style is known by the start of its epoch, which challenge records carry. Every node of a cluster
//! that shares the key ring makes the same style of it, and nobody else can.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fortify_captcha::{Style, StyleKey};
use zeroize::Zeroizing;

use super::renderer::Draw;
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::pseudonym::hmac_sha256;

/// Styles kept ready: that of today, and that of yesterday for pictures that were issued before
/// midnight.
const KEPT: usize = 2;

/// The start of a style's epoch, s since the Unix epoch.
pub type StyleEpoch = u64;

/// Makes styles and keeps the last ones.
pub struct Wardrobe {
    drawer: Arc<dyn Draw>,
    clock: Arc<dyn Clock>,
    secret: Zeroizing<[u8; 32]>,
    /// How long a style is drawn in, s; at least 1.
    epoch_s: u64,
    /// The last ones used, the latest in front.
    made: Mutex<VecDeque<(StyleEpoch, Arc<Style>)>>,
}

impl Wardrobe {
    /// Styles made by `drawer` from `secret`, a new one every `epoch`.
    #[must_use]
    pub fn new(
        drawer: Arc<dyn Draw>,
        clock: Arc<dyn Clock>,
        secret: Zeroizing<[u8; 32]>,
        epoch: Duration,
    ) -> Self {
        let made = Mutex::new(VecDeque::with_capacity(KEPT + 1));
        Self { drawer, clock, secret, epoch_s: epoch.as_secs().max(1), made }
    }

    /// The epoch that pictures are drawn in now.
    #[must_use]
    pub fn epoch(&self) -> StyleEpoch {
        epoch_of(self.clock.now(), self.epoch_s)
    }

    /// The style of `epoch`. Takes tens of milliseconds when it is not among the last used, during
    /// which others wait for it: for threads that may take the time.
    #[must_use]
    pub fn style(&self, epoch: StyleEpoch) -> Arc<Style> {
        // A panic while one is made leaves the others as they were.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = made.iter().position(|(of, _)| *of == epoch) {
            made.swap(0, at);
        } else {
            made.push_front((epoch, Arc::new(self.drawer.style(&self.key(epoch)))));
            made.truncate(KEPT);
        }
        // There is one in front now.
        match made.front() {
            Some((_, style)) => style.clone(),
            None => Arc::new(self.drawer.style(&self.key(epoch))),
        }
    }

    /// The key of an epoch's style, for drawing the same pictures elsewhere.
    #[must_use]
    pub fn key(&self, epoch: StyleEpoch) -> StyleKey {
        key_of(&self.secret, epoch)
    }
}

/// The key of the style that a deployment with `secret` draws in at `at`, when it makes a new one every
/// `length`: for an operator, who has the files and perhaps no running gate.
#[must_use]
pub fn key_at(secret: &[u8; 32], at: Timestamp, length: Duration) -> StyleKey {
    key_of(secret, epoch_of(at, length.as_secs()))
}

fn key_of(secret: &[u8; 32], epoch: StyleEpoch) -> StyleKey {
    StyleKey::from_bytes(hmac_sha256(secret, &[b"style epoch\0", &epoch.to_be_bytes()]))
}

/// The start of the epoch that `now` is in, s.
fn epoch_of(now: Timestamp, length_s: u64) -> StyleEpoch {
    let now = now.as_secs();
    now - now % length_s.max(1)
}

impl fmt::Debug for Wardrobe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wardrobe").field("epoch_s", &self.epoch_s).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use fortify_captcha::{Generator, Puzzle, RenderError, Rendered, Seed, Spec};

    use super::*;
    use fortify_core::clock::ManualClock;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Counts the styles that are made.
    struct Counting {
        generator: Generator,
        styles: AtomicUsize,
    }

    impl Draw for Counting {
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

    fn wardrobe(secret: u8, clock: &Arc<ManualClock>) -> (Arc<Counting>, Wardrobe) {
        let generator = Generator::new().unwrap();
        let drawer = Arc::new(Counting { generator, styles: AtomicUsize::new(0) });
        let wardrobe =
            Wardrobe::new(drawer.clone(), clock.clone(), Zeroizing::new([secret; 32]), DAY);
        (drawer, wardrobe)
    }

    #[test]
    fn an_epoch_starts_at_midnight_and_has_a_key_of_its_own() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(86_400 * 3 - 1)));
        let (_, wardrobe) = wardrobe(1, &clock);
        assert_eq!(wardrobe.epoch(), 86_400 * 2);
        clock.advance(Duration::from_secs(1));
        assert_eq!(wardrobe.epoch(), 86_400 * 3);
        assert_ne!(wardrobe.key(86_400 * 2), wardrobe.key(86_400 * 3));
        assert_ne!(
            wardrobe.key(0),
            self::wardrobe(2, &clock).1.key(0),
            "the secret does not matter"
        );
    }

    #[test]
    fn two_styles_are_kept_and_no_more() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        let (drawer, wardrobe) = wardrobe(1, &clock);
        for epoch in [0, 1, 0, 1, 1, 0] {
            let _ready = wardrobe.style(epoch);
        }
        assert_eq!(drawer.styles.load(Ordering::SeqCst), 2);
        let _third = wardrobe.style(2);
        let _latest_of_the_two = wardrobe.style(0);
        assert_eq!(drawer.styles.load(Ordering::SeqCst), 3);
        let _forgotten = wardrobe.style(1);
        assert_eq!(drawer.styles.load(Ordering::SeqCst), 4);
    }
}

//! The generator, kept off the threads that serve requests.
//!
//! A render takes a tenth of a millisecond, and a hundred of them at once would still hold every
//! async worker for longer than a request takes. They run on the blocking pool, as many at a time
//! as `captcha.max_concurrent_renders` says; one more is refused with
//! [`ChallengeError::Busy`] rather than queued without bound.

use std::fmt;
use std::sync::Arc;

use fortify_captcha::{Generator, Level, Puzzle, RenderError, Rendered, Seed, Spec, Variant};
use tokio::sync::Semaphore;

use super::ChallengeError;

/// Draws pictures under a bound.
pub struct Renderer {
    generator: Arc<Generator>,
    slots: Arc<Semaphore>,
}

impl Renderer {
    /// A renderer that draws at most `max_concurrent` pictures at a time.
    #[must_use]
    pub fn new(generator: Arc<Generator>, max_concurrent: usize) -> Self {
        Self { generator, slots: Arc::new(Semaphore::new(max_concurrent)) }
    }

    /// The task alone, without a picture: microseconds, so done in place.
    pub(super) fn puzzle(&self, spec: &Spec, seed: &Seed) -> Result<Puzzle, RenderError> {
        self.generator.puzzle(spec, seed)
    }

    pub(super) async fn render(
        &self,
        spec: &Spec,
        seed: &Seed,
    ) -> Result<Rendered, ChallengeError> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_full| ChallengeError::Busy)?;
        let (generator, spec, seed) = (self.generator.clone(), *spec, seed.clone());
        let render = tokio::task::spawn_blocking(move || {
            let rendered = generator.render(&spec, &seed);
            drop(slot);
            rendered
        });
        Ok(render.await.map_err(|ended| ChallengeError::Render(ended.to_string()))??)
    }

    /// Whether a picture can be drawn now. All slots taken is warm, and busy.
    pub(super) async fn is_warm(&self) -> bool {
        let spec = Spec::new(Variant::DistortedText, Level::MIN);
        let rendered = self.render(&spec, &Seed::from_bytes([0; 32])).await;
        matches!(rendered, Ok(_) | Err(ChallengeError::Busy))
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renderer").field("slots", &self.slots.available_permits()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_picture_past_the_bound_is_refused_and_not_queued() {
        let renderer = Renderer::new(Arc::new(Generator::new().unwrap()), 1);
        let spec = Spec::new(Variant::Arithmetic, Level::MIN);
        let held = renderer.slots.clone().try_acquire_owned().unwrap();
        let refused = renderer.render(&spec, &Seed::from_bytes([1; 32])).await;
        assert!(matches!(refused, Err(ChallengeError::Busy)));
        drop(held);
        assert!(renderer.render(&spec, &Seed::from_bytes([1; 32])).await.is_ok());
    }
}

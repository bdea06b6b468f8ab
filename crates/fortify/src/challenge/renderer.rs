//! The generator, kept off the threads that serve requests.
//!
//! A hundred renders at once would hold every async worker for longer than a request takes. They
//! run on the blocking pool, as many at a time as there are cores; others wait their turn, up to
//! `captcha.max_concurrent_renders` in all, and one more is refused with
//! [`ChallengeError::Busy`] rather than queued without bound.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fortify_captcha::{Generator, Level, Puzzle, RenderError, Rendered, Seed, Spec, Variant};
use tokio::sync::Semaphore;

use super::ChallengeError;

/// Draws pictures under a bound.
pub struct Renderer {
    generator: Arc<Generator>,
    /// Drawing or waiting to.
    places: Arc<Semaphore>,
    /// Drawing.
    cores: Arc<Semaphore>,
    /// Whether a picture was ever drawn. Drawing is pure: what worked once works.
    warm: AtomicBool,
}

impl Renderer {
    /// A renderer that draws and keeps waiting at most `max_concurrent` pictures at a time.
    #[must_use]
    pub fn new(generator: Arc<Generator>, max_concurrent: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            generator,
            places: Arc::new(Semaphore::new(max_concurrent)),
            cores: Arc::new(Semaphore::new(cores)),
            warm: AtomicBool::new(false),
        }
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
        let place = self.places.try_acquire().map_err(|_full| ChallengeError::Busy)?;
        let core = self.cores.clone().acquire_owned().await;
        let (generator, spec, seed) = (self.generator.clone(), *spec, seed.clone());
        let render = tokio::task::spawn_blocking(move || {
            let rendered = generator.render(&spec, &seed);
            drop(core);
            rendered
        });
        let rendered =
            render.await.map_err(|ended| ChallengeError::Render(ended.to_string()))??;
        drop(place);
        self.warm.store(true, Ordering::Relaxed);
        Ok(rendered)
    }

    /// Whether pictures can be drawn: finds out once.
    pub(super) async fn is_warm(&self) -> bool {
        if self.warm.load(Ordering::Relaxed) {
            return true;
        }
        let spec = Spec::new(Variant::DistortedText, Level::MIN);
        let rendered = self.render(&spec, &Seed::from_bytes([0; 32])).await;
        matches!(rendered, Ok(_) | Err(ChallengeError::Busy))
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renderer").field("places", &self.places.available_permits()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_picture_past_the_bound_is_refused_and_not_queued() {
        let renderer = Renderer::new(Arc::new(Generator::new().unwrap()), 1);
        let spec = Spec::new(Variant::Arithmetic, Level::MIN);
        let held = renderer.places.try_acquire().unwrap();
        let refused = renderer.render(&spec, &Seed::from_bytes([1; 32])).await;
        assert!(matches!(refused, Err(ChallengeError::Busy)));
        drop(held);
        assert!(renderer.render(&spec, &Seed::from_bytes([1; 32])).await.is_ok());
    }
}

//! Draws pictures off the threads that serve requests, and measures the time.
//!
//! A hundred concurrent renders would block every async worker for longer than a request takes. They run on the
//! blocking pool instead, at most one per core at a time. Others wait, up to `captcha.max_concurrent_renders` in
//! all; beyond that, requests fail with [`ChallengeError::Busy`] instead of queueing without bound.

use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fortify_captcha::{Level, Puzzle, RenderError, Rendered, Seed, Spec, Variant};
use tokio::sync::Semaphore;
use tokio::time;

use super::ChallengeError;
use super::breaker::{Breaker, Change};
use super::metrics::{ChallengeMetrics, Outcome};
use super::recipe::Recipe;
use super::render::Render;
use super::style_cache::{StyleCache, StylePeriod};

/// Pictures are delivered at whole multiples of this time, because drawing takes some microseconds more or less
/// depending on the answer (`make bench` prints how many). Nearly every picture takes less than one step.
const STEP: Duration = Duration::from_millis(2);

/// Draws pictures, and switches to plain ones while drawing takes too long.
pub struct RenderService {
    renderer: Arc<dyn Render>,
    styles: StyleCache,
    breaker: Mutex<Breaker>,
    metrics: ChallengeMetrics,
}

impl RenderService {
    /// Creates a service that draws with `renderer` in the styles of `styles`.
    #[must_use]
    pub fn new(renderer: Arc<dyn Render>, styles: StyleCache, metrics: ChallengeMetrics) -> Self {
        Self { renderer, styles, breaker: Mutex::default(), metrics }
    }

    /// The style period that pictures are drawn in now.
    pub(super) fn style_period(&self) -> StylePeriod {
        self.styles.period()
    }

    /// Whether drawing takes so long that only plain pictures are to be drawn.
    #[must_use]
    pub fn is_strained(&self) -> bool {
        self.breaker().is_open()
    }

    pub(super) fn puzzle(&self, spec: &Spec, seed: &Seed) -> Result<Puzzle, RenderError> {
        self.renderer.puzzle(spec, seed)
    }

    /// Draws on the current thread, which must be allowed to block.
    pub(super) fn render_now(&self, recipe: &Recipe) -> Result<Rendered, RenderError> {
        let Recipe { spec, style_period: period, seed } = recipe;
        // Not measured: a style is made once per period, and the breaker is about pictures.
        let style = self.styles.style(*period);
        let started = Instant::now();
        let rendered = self.renderer.render(spec, &style, seed);
        let took = started.elapsed();
        let outcome = if rendered.is_ok() { Outcome::Ok } else { Outcome::Error };
        self.metrics.render(took, spec.variant.as_str(), spec.carrier.as_str(), outcome);
        self.observe(took);
        rendered
    }

    fn observe(&self, took: Duration) {
        let Some(change) = self.breaker().observe(took) else {
            return;
        };
        self.metrics.set_strained(change == Change::Opened);
        match change {
            Change::Opened => {
                tracing::warn!("pictures take more than 500 ms; drawing plain ones only")
            }
            Change::Closed => {
                tracing::info!("pictures take less than 500 ms again; drawing all kinds")
            }
        }
    }

    /// The breaker stays consistent after a panic: it consists of two plain values.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RenderService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderService")
            .field("strained", &self.is_strained())
            .finish_non_exhaustive()
    }
}

/// Draws pictures for requests, up to a limit of concurrent ones.
pub struct RenderLimiter {
    service: Arc<RenderService>,
    /// Renders in progress or waiting.
    slots: Arc<Semaphore>,
    /// Renders in progress.
    cores: Arc<Semaphore>,
    /// Whether a picture was ever drawn. Drawing is pure, so it keeps working once it has worked.
    warm: AtomicBool,
}

impl RenderLimiter {
    /// Limits renders in progress or waiting to `max_concurrent`.
    #[must_use]
    pub fn new(service: Arc<RenderService>, max_concurrent: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::on(cores, service, max_concurrent)
    }

    /// As [`Self::new`], with this number of cores.
    fn on(cores: usize, service: Arc<RenderService>, max_concurrent: usize) -> Self {
        Self {
            service,
            slots: Arc::new(Semaphore::new(max_concurrent)),
            cores: Arc::new(Semaphore::new(cores)),
            warm: AtomicBool::new(false),
        }
    }

    /// Draws a picture and returns it at the end of the [`STEP`] in which it was finished.
    pub(super) async fn render(&self, recipe: &Recipe) -> Result<Rendered, ChallengeError> {
        let started = time::Instant::now();
        let place = self.slots.try_acquire().map_err(|_full| ChallengeError::Busy)?;
        let core = self.cores.clone().acquire_owned().await;
        let (service, recipe) = (self.service.clone(), recipe.clone());
        let render = tokio::task::spawn_blocking(move || {
            let rendered = service.render_now(&recipe);
            drop(core);
            rendered
        });
        let rendered =
            render.await.map_err(|ended| ChallengeError::Render(ended.to_string()))??;
        let steps = started.elapsed().as_nanos() / STEP.as_nanos() + 1;
        time::sleep_until(started + STEP * u32::try_from(steps).unwrap_or(u32::MAX)).await;
        drop(place);
        self.warm.store(true, Ordering::Relaxed);
        Ok(rendered)
    }

    /// Whether pictures can be drawn; tries it the first time.
    pub(super) async fn is_warm(&self) -> bool {
        if self.warm.load(Ordering::Relaxed) {
            return true;
        }
        let spec = Spec::new(Variant::DistortedText, Level::MIN);
        let seed = Seed::from_bytes([0; 32]);
        let rendered =
            self.render(&Recipe { spec, style_period: self.service.style_period(), seed }).await;
        matches!(rendered, Ok(_) | Err(ChallengeError::Busy))
    }
}

impl fmt::Debug for RenderLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderLimiter").field("slots", &self.slots.available_permits()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use fortify_captcha::{Generator, Style, StyleKey};
    use zeroize::Zeroizing;

    use super::*;
    use fortify_core::clock::{ManualClock, Timestamp};

    fn service(renderer: Arc<dyn Render>) -> Arc<RenderService> {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        let day = Duration::from_secs(86_400);
        let styles = StyleCache::new(renderer.clone(), clock, Zeroizing::new([1; 32]), day);
        Arc::new(RenderService::new(renderer, styles, ChallengeMetrics::default()))
    }

    fn recipe(seed: u8) -> Recipe {
        let spec = Spec::new(Variant::Arithmetic, Level::MIN);
        Recipe { spec, style_period: 0, seed: Seed::from_bytes([seed; 32]) }
    }

    /// A renderer that proceeds only once two renders have started.
    struct InPairs {
        generator: Generator,
        begun: Mutex<usize>,
        another: Condvar,
    }

    impl Render for InPairs {
        fn style(&self, key: &StyleKey) -> Style {
            self.generator.style(key)
        }

        fn render(&self, spec: &Spec, style: &Style, seed: &Seed) -> Result<Rendered, RenderError> {
            let mut begun = self.begun.lock().unwrap();
            *begun += 1;
            self.another.notify_all();
            let (longest, alone) = (Duration::from_secs(20), |begun: &mut usize| *begun < 2);
            let (begun, late) = self.another.wait_timeout_while(begun, longest, alone).unwrap();
            drop(begun);
            assert!(!late.timed_out(), "pictures are drawn one after another");
            self.generator.render(spec, style, seed)
        }

        fn puzzle(&self, spec: &Spec, seed: &Seed) -> Result<Puzzle, RenderError> {
            self.generator.puzzle(spec, seed)
        }
    }

    #[tokio::test]
    async fn two_pictures_are_drawn_at_the_same_time() {
        let (generator, begun) = (Generator::new().unwrap(), Mutex::default());
        let renderer = Arc::new(InPairs { generator, begun, another: Condvar::new() });
        let renderer = RenderLimiter::on(2, service(renderer), 2);
        let (one, two) = (recipe(1), recipe(2));
        let (one, two) = tokio::join!(renderer.render(&one), renderer.render(&two));
        assert!(one.is_ok() && two.is_ok());
    }

    /// Paused time advances only while the runtime is idle, so drawing itself takes none.
    #[tokio::test(start_paused = true)]
    async fn a_picture_is_delivered_after_a_whole_number_of_steps() {
        let renderer = RenderLimiter::new(service(Arc::new(Generator::new().unwrap())), 1);
        let started = time::Instant::now();
        renderer.render(&recipe(1)).await.unwrap();
        assert_eq!(started.elapsed(), STEP);
    }

    #[tokio::test]
    async fn a_picture_beyond_the_limit_is_refused_and_not_queued() {
        let renderer = RenderLimiter::new(service(Arc::new(Generator::new().unwrap())), 1);
        let recipe = recipe(1);
        let held = renderer.slots.try_acquire().unwrap();
        let refused = renderer.render(&recipe).await;
        assert!(matches!(refused, Err(ChallengeError::Busy)));
        drop(held);
        assert!(renderer.render(&recipe).await.is_ok());
    }
}

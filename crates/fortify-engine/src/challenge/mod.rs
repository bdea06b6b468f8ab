//! Challenges: drawn, issued, fetched and judged.
//!
//! # Layout
//!
//! - [`Challenges`]: `issue`, `picture`, `redeem`.
//! - [`policy`]: what a level asks, and how it is shown.
//! - [`take_and_check`]: whether an answer is right; pure.
//! - `recipe`: a challenge as the store keeps it, and back.
//! - [`renderer`]: the generator off the async threads, under a bound, and watched.
//! - `fetch_counter`: pictures that are fetched apart from their page.
//! - [`styles`]: the styles that pictures are drawn in.
//! - [`tally`]: how challenges were answered, by kind.
//! - [`pool`]: pictures drawn ahead; [`breaker`]: what to draw when drawing takes too long; pure.

pub mod answer_check;
pub mod breaker;
mod fetch_counter;
pub mod metrics;
pub mod policy;
pub mod pool;
mod recipe;
pub mod render;
pub mod renderer;
pub mod style_cache;
pub mod tally;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fortify_captcha::{
    AnswerMode, Choice, Level, Media, Question, RenderError, Rendered, Seed, Variant,
};
use tokio::time::Instant;

use crate::limits::waits::FailureWaits;
use answer_check::AnswerVerdict;
use fetch_counter::FetchCounter;
use fortify_core::clock::Clock;
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::{ChallengeRecord, ChallengeToken, Failures};
use fortify_store::{StateStore, StoreError};
use metrics::{ChallengeMetrics, Outcome};
use policy::{ChallengeConfig, ChallengeMix, ChallengeRequest};
use pool::Pool;
use recipe::Recipe;
use renderer::{RenderLimiter, RenderService};
use tally::{AnswerResult, Tally};

/// Threads that draw ahead: one keeps a stock for thousands of pages a second, and leaves the other
/// cores to those who ask.
const POOL_THREADS: usize = 1;

/// What the configuration makes of challenges.
#[derive(Clone, Debug)]
pub struct ChallengeSettings {
    /// What holds at first; [`Challenges::set_config`] changes it.
    pub config: ChallengeConfig,
    /// Pictures to draw ahead.
    pub pool: usize,
    /// What holds at first; [`Challenges::set_failure_policy`] changes it.
    pub failure_policy: FailurePolicy,
}

/// What wrong answers cost.
#[derive(Clone, Debug)]
pub struct FailurePolicy {
    /// How long a circuit waits after them.
    pub waits: FailureWaits,
    /// How long a circuit without a further one stays counted.
    pub decay: Duration,
}

/// A challenge as the visitor gets it.
#[derive(Debug)]
pub struct Issued {
    /// Its name.
    pub token: ChallengeToken,
    /// What is asked.
    pub question: Question,
    /// The task, as the API names it.
    pub variant: &'static str,
    /// How it is made visible, as the API names it.
    pub carrier: &'static str,
    /// How the answer is given.
    pub mode: AnswerMode,
    /// The options of a choice; empty for a typed answer.
    pub choices: Vec<Choice>,
    /// Its difficulty.
    pub level: u8,
    /// How long an answer is accepted.
    pub expires_in: Duration,
}

/// An answer as it came.
#[derive(Clone, Copy)]
pub struct Submission<'a> {
    /// What names the challenge, whatever it is.
    pub token: &'a str,
    /// The answer.
    pub answer: &'a str,
    /// Whether a field that no person sees was filled in.
    pub trapped: bool,
}

/// What became of an answer, and what that says of who gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redemption {
    /// For the visitor.
    pub redeemed: RedeemOutcome,
    /// For this side alone.
    pub evidence: Evidence,
    /// Wrong answers that its circuit has given, this one included; 0 unless it is one.
    pub failures: u32,
}

/// What an answer says of who gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// There was nothing to answer.
    None,
    /// It was right, this long after it was asked for.
    Solved(Duration),
    /// It was wrong.
    Wrong,
    /// It is what only a program gives.
    Bot,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedeemOutcome {
    /// It was right: the level it was earned at.
    Solved {
        /// The challenge's level.
        level: u8,
    },
    /// It was not. Unknown, expired, foreign and wrong are one.
    Failed,
    /// The circuit has to wait: for this wrong answer, or for earlier ones, and then the challenge was
    /// not touched.
    MustWait(Duration),
}

/// Why a challenge could not be issued, drawn or judged. None of them admits anybody.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No seed or token could be drawn.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// As many pictures are being drawn as the configuration allows.
    #[error("captcha.max_concurrent_renders pictures are being drawn already")]
    Busy,
    /// The renderer refused, or ended.
    #[error("the renderer failed: {0}")]
    Render(String),
    /// The picture was fetched as often as it may be.
    #[error("the picture was fetched too often")]
    FetchedTooOften,
}

impl From<RenderError> for ChallengeError {
    fn from(error: RenderError) -> Self {
        Self::Render(error.to_string())
    }
}

/// Issues, draws and judges challenges.
#[derive(Debug)]
pub struct Challenges {
    render_service: Arc<RenderService>,
    render_limiter: RenderLimiter,
    pool: Pool<Picture>,
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: ChallengeMetrics,
    config: Arc<ArcSwap<ChallengeConfig>>,
    failure_policy: ArcSwap<FailurePolicy>,
    fetches: FetchCounter,
    tally: Tally,
}

impl Challenges {
    /// Challenges by `settings`, drawn in `render_service`, at most `max_renders` at a time, and kept in
    /// `store`.
    #[must_use]
    pub fn new(
        render_service: Arc<RenderService>,
        max_renders: usize,
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: ChallengeMetrics,
        settings: ChallengeSettings,
    ) -> Self {
        let config = Arc::new(ArcSwap::from_pointee(settings.config));
        let ahead = (render_service.clone(), entropy.clone(), config.clone());
        let pool = Pool::start(settings.pool, POOL_THREADS, move || {
            let config = ahead.2.load_full();
            let recipe =
                choose(&ahead.0, &*ahead.1, &config.mix, ChallengeRequest::default()).ok()?;
            let rendered = ahead.0.render_now(&recipe).ok()?;
            Some(Picture { recipe, rendered, config })
        });
        let renderer = RenderLimiter::new(render_service.clone(), max_renders);
        let failure_policy = ArcSwap::from_pointee(settings.failure_policy);
        let tally = Tally::new();
        Self {
            render_service,
            render_limiter: renderer,
            pool,
            store,
            clock,
            entropy,
            metrics,
            config,
            failure_policy,
            fetches: FetchCounter::new(),
            tally,
        }
    }

    /// Issues by other terms from now on; pictures drawn ahead by the ones before are thrown away.
    pub fn set_config(&self, config: ChallengeConfig) {
        self.config.store(Arc::new(config));
        self.pool.clear();
    }

    /// Has wrong answers cost this from now on, those given before included.
    pub fn set_failure_policy(&self, failure_policy: FailurePolicy) {
        self.failure_policy.store(Arc::new(failure_policy));
    }

    /// How challenges were answered so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many pictures are drawn ahead: a gauge.
    #[must_use]
    pub fn pictures_ready(&self) -> usize {
        self.pool.len()
    }

    /// Whether a picture can be drawn: for `/ready`.
    pub async fn is_warm(&self) -> bool {
        self.render_limiter.is_warm().await
    }

    /// A new challenge for `circuit`, without its picture. Whether the circuit may have one is for the caller
    /// to say.
    ///
    /// # Errors
    ///
    /// Faults of this side.
    pub async fn issue(
        &self,
        circuit: CircuitTag,
        order: ChallengeRequest,
    ) -> Result<Issued, ChallengeError> {
        let config = self.config.load_full();
        let recipe = choose(&self.render_service, &*self.entropy, &config.mix, order)?;
        let puzzle = self.render_service.puzzle(&recipe.spec, &recipe.seed)?;
        self.keep(circuit, &recipe, puzzle, config.ttl).await
    }

    /// A new challenge for `circuit` with its picture, in one go: what a page needs. Without a wish
    /// it is one that was drawn ahead.
    ///
    /// # Errors
    ///
    /// As [`Self::issue`], and [`ChallengeError::Busy`].
    pub async fn issue_with_picture(
        &self,
        circuit: CircuitTag,
        order: ChallengeRequest,
    ) -> Result<(Issued, Media), ChallengeError> {
        let config = self.config.load_full();
        // One that was being drawn while the terms changed is in stock and not what they ask for.
        let in_force = |picture: &Picture| Arc::ptr_eq(&picture.config, &config);
        let plain = order == ChallengeRequest::default();
        let ahead = if plain { self.pool.take().filter(in_force) } else { None };
        let (recipe, rendered) = match ahead {
            Some(picture) => (picture.recipe, picture.rendered),
            None => {
                let recipe = choose(&self.render_service, &*self.entropy, &config.mix, order)?;
                let rendered = self.render_limiter.render(&recipe).await?;
                (recipe, rendered)
            }
        };
        let issued = self.keep(circuit, &recipe, rendered.puzzle, config.ttl).await?;
        Ok((issued, rendered.media))
    }

    /// The picture of a challenge of `circuit`'s; `None` for any other token. Drawn anew each time, and so
    /// not without end.
    ///
    /// # Errors
    ///
    /// [`ChallengeError::FetchedTooOften`]; when the store or the renderer fails.
    pub async fn picture(
        &self,
        token: &ChallengeToken,
        circuit: CircuitTag,
    ) -> Result<Option<Media>, ChallengeError> {
        let record = self.store.challenge(token).await?;
        let Some(record) = record.filter(|record| record.circuit == circuit) else {
            return Ok(None);
        };
        let Some(recipe) = recipe::read(&record) else {
            return Ok(None);
        };
        if !self.fetches.count(token, self.clock.now()) {
            return Err(ChallengeError::FetchedTooOften);
        }
        Ok(Some(self.render_limiter.render(&recipe).await?.media))
    }

    /// A picture of what `mix` has, for whoever looks after the gate: no challenge, and no answer is kept.
    ///
    /// # Errors
    ///
    /// [`ChallengeError::Busy`]; when the renderer fails.
    pub async fn sample(&self, mix: &ChallengeMix) -> Result<Media, ChallengeError> {
        let recipe =
            choose(&self.render_service, &*self.entropy, mix, ChallengeRequest::default())?;
        Ok(self.render_limiter.render(&recipe).await?.media)
    }

    /// Takes the challenge and judges the answer. A token that is none at all goes the way of a wrong
    /// answer.
    ///
    /// # Errors
    ///
    /// When the store fails: nothing is solved then.
    pub async fn redeem(
        &self,
        submission: Submission<'_>,
        circuit: CircuitTag,
    ) -> Result<Redemption, ChallengeError> {
        let started = Instant::now();
        let judged = self.take_and_check(submission, circuit).await;
        let outcome = match &judged {
            Err(_) => Outcome::Error,
            Ok(Redemption { evidence: Evidence::Bot, .. }) => Outcome::Decoy,
            Ok(Redemption { redeemed: RedeemOutcome::Solved { .. }, .. }) => Outcome::Ok,
            Ok(Redemption { redeemed: RedeemOutcome::MustWait(_), failures: 0, .. }) => {
                Outcome::Wait
            }
            Ok(_) => Outcome::Failed,
        };
        self.metrics.redeem(started.elapsed(), outcome);
        judged
    }

    /// Takes a challenge away unanswered: the visitor asked for another. What is no token is
    /// nothing to take.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn discard(&self, token: &str) -> Result<(), StoreError> {
        if let Ok(token) = token.parse() {
            self.store.take_challenge(&token).await?;
        }
        Ok(())
    }

    /// How long `circuit` has to wait for its next challenge; `None` when it need not.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn wait(&self, circuit: CircuitTag) -> Result<Option<Duration>, StoreError> {
        Ok(self.wait_after(self.store.failures(circuit).await?))
    }

    async fn take_and_check(
        &self,
        submission: Submission<'_>,
        circuit: CircuitTag,
    ) -> Result<Redemption, ChallengeError> {
        let Submission { token, answer, trapped } = submission;
        if let Some(wait) = self.wait(circuit).await? {
            let redeemed = RedeemOutcome::MustWait(wait);
            return Ok(Redemption { redeemed, evidence: Evidence::None, failures: 0 });
        }
        // A text that is no token is looked up under a name that nothing has, so that it takes the
        // same steps as one that was never issued.
        let token = match token.parse() {
            Ok(token) => token,
            Err(_malformed) => ChallengeToken::random(&*self.entropy)?,
        };
        // Taken first, judged then: only the request that took the record can judge it.
        let record = self.store.take_challenge(&token).await?;
        let verdict = answer_check::check_answer(record.as_ref(), answer, circuit);
        // Nothing was guessed at where there was nothing: a visitor who answers in an old tab must
        // not be locked out for it. The response is the same.
        let Some(record) = record else {
            return Ok(Redemption {
                redeemed: RedeemOutcome::Failed,
                evidence: Evidence::None,
                failures: 0,
            });
        };
        let kind = (&*record.variant, &*record.carrier, record.level);
        let tell = |became| self.tally.answered(kind.0, kind.1, kind.2, became);
        let evidence = match verdict {
            _ if trapped => Evidence::Bot,
            AnswerVerdict::Right { level } => {
                let seen = self.fetches.first_fetch(&token, record.created_at);
                let took = seen.until(self.clock.now());
                tell(AnswerResult::Solved(took));
                self.count_answer(&record, Outcome::Ok);
                if let Some(variant) = variant_of(&record) {
                    self.metrics.answered_after(took, variant);
                }
                let redeemed = RedeemOutcome::Solved { level };
                return Ok(Redemption { redeemed, evidence: Evidence::Solved(took), failures: 0 });
            }
            AnswerVerdict::Wrong => Evidence::Wrong,
            AnswerVerdict::Bot => Evidence::Bot,
        };
        let is_bot = evidence == Evidence::Bot;
        tell(if is_bot { AnswerResult::Decoy } else { AnswerResult::Failed });
        self.count_answer(&record, if is_bot { Outcome::Decoy } else { Outcome::Failed });
        self.count_pick(&record, answer, circuit);
        let decay = self.failure_policy.load().decay;
        let failures = self.store.record_failure(circuit, decay).await?;
        let wait = self.wait_after(failures);
        let redeemed = wait.map_or(RedeemOutcome::Failed, RedeemOutcome::MustWait);
        Ok(Redemption { redeemed, evidence, failures: failures.count })
    }

    /// Counts an answer by what was asked, so that an operator sees which task, at which level, people fail.
    fn count_answer(&self, record: &ChallengeRecord, outcome: Outcome) {
        // What another version kept may be no task or level that is known here.
        if let (Some(variant), Ok(level)) = (variant_of(record), Level::new(record.level)) {
            self.metrics.answer(variant, level.get(), outcome);
        }
    }

    /// Counts what a wrong answer picked, so that an operator sees which decoys mislead. Another
    /// circuit's answers say nothing about reading and are left out.
    ///
    /// The store keeps no choices: the task is made once more from its seed, which takes a few
    /// microseconds and no picture. Where it cannot be, nothing is counted.
    fn count_pick(&self, record: &ChallengeRecord, answer: &str, circuit: CircuitTag) {
        if record.circuit != circuit || record.mode != AnswerMode::Choice.as_str() {
            return;
        }
        let Some(Recipe { spec, seed, .. }) = recipe::read(record) else {
            return;
        };
        let picked =
            self.render_service.puzzle(&spec, &seed).ok().and_then(|p| p.decoy_picked(answer));
        if let Some(kind) = picked {
            self.metrics.wrong_pick(spec.variant.as_str(), kind.as_str());
        }
    }

    /// How long a circuit with these wrong answers has to wait for its next challenge.
    pub fn wait_after(&self, failures: Failures) -> Option<Duration> {
        let failure_policy = self.failure_policy.load();
        failure_policy.waits.remaining(failures, failure_policy.decay, self.clock.now())
    }

    async fn keep(
        &self,
        circuit: CircuitTag,
        recipe: &Recipe,
        puzzle: fortify_captcha::Puzzle,
        ttl: Duration,
    ) -> Result<Issued, ChallengeError> {
        let (started, spec) = (Instant::now(), &recipe.spec);
        let token = ChallengeToken::random(&*self.entropy)?;
        let now = self.clock.now();
        let expires_at = now.after(ttl);
        let record = recipe::write(recipe, &puzzle, circuit, now, expires_at);
        let kept = self.store.put_challenge(&token, record).await;
        let outcome = if kept.is_ok() { Outcome::Ok } else { Outcome::Error };
        self.metrics.issue(started.elapsed(), spec.variant.as_str(), outcome);
        kept?;
        self.tally.issued(spec.variant.as_str(), spec.carrier.as_str(), spec.level.get());
        Ok(Issued {
            token,
            question: puzzle.question,
            variant: spec.variant.as_str(),
            carrier: spec.carrier.as_str(),
            mode: spec.mode,
            choices: puzzle.choices,
            level: spec.level.get(),
            expires_in: ttl,
        })
    }
}

/// The task of a challenge, as one of the words that may be a label.
fn variant_of(record: &ChallengeRecord) -> Option<&'static str> {
    record.variant.parse::<Variant>().ok().map(Variant::as_str)
}

/// A picture drawn ahead, what it was drawn from, and under which terms.
struct Picture {
    recipe: Recipe,
    rendered: Rendered,
    config: Arc<ChallengeConfig>,
}

/// What to draw next, and the seed to draw it from.
fn choose(
    render_service: &RenderService,
    entropy: &dyn Entropy,
    mix: &ChallengeMix,
    order: ChallengeRequest,
) -> Result<Recipe, EntropyError> {
    let seed = Seed::from_bytes(random_bytes(entropy)?);
    let draws = [random_bytes(entropy)?, random_bytes(entropy)?].map(u32::from_le_bytes);
    let spec = if render_service.is_strained() { mix.fallback() } else { mix.choose(order, draws) };
    Ok(Recipe { spec, style_period: render_service.style_period(), seed })
}

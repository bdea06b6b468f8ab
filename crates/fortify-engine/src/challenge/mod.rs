//! Challenges: issuing, drawing, and checking answers.
//!
//! # Layout
//!
//! - [`policy`]: selects the task and its rendering; pure.
//! - [`breaker`]: switches to plain pictures when drawing takes too long; pure.
//! - [`answer_check`]: whether an answer is right; pure.
//! - [`render`]: the interface to the picture generator.
//! - [`style_cache`]: the styles that pictures are drawn in.
//! - `recipe`: converts a challenge to the record in the store, and back.
//! - [`renderer`]: draws off the async threads, with a limit, and measures the time.
//! - [`pool`]: pictures drawn ahead.
//! - `fetch_counter`: limits fetches of a picture from its own URL.
//! - [`tally`]: statistics of answers by kind of challenge.
//! - [`Challenges`]: the operations `issue`, `picture` and `redeem`.

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

/// The number of threads that draw ahead. One is enough for the pool, and leaves the other cores to requests.
const POOL_THREADS: usize = 1;

/// The settings of challenges.
#[derive(Clone, Debug)]
pub struct ChallengeSettings {
    /// The initial configuration; [`Challenges::set_config`] changes it.
    pub config: ChallengeConfig,
    /// The number of pictures to draw ahead.
    pub pool: usize,
    /// The initial policy; [`Challenges::set_failure_policy`] changes it.
    pub failure_policy: FailurePolicy,
}

/// The consequences of wrong answers.
#[derive(Clone, Debug)]
pub struct FailurePolicy {
    /// How long a circuit waits after wrong answers.
    pub waits: FailureWaits,
    /// How long a wrong answer counts if no other follows.
    pub decay: Duration,
}

/// An issued challenge, as presented to the visitor.
#[derive(Debug)]
pub struct Issued {
    /// Its token.
    pub token: ChallengeToken,
    /// The question.
    pub question: Question,
    /// The name of the task in the API.
    pub variant: &'static str,
    /// The name of the rendering in the API.
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

/// A submitted answer.
#[derive(Clone, Copy)]
pub struct Submission<'a> {
    /// The token of the challenge; any text.
    pub token: &'a str,
    /// The answer.
    pub answer: &'a str,
    /// Whether a hidden field was filled in.
    pub trapped: bool,
}

/// The result of an answer, and the evidence about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redemption {
    /// The outcome for the visitor.
    pub redeemed: RedeemOutcome,
    /// The evidence about the sender, which the visitor does not learn.
    pub evidence: Evidence,
    /// The number of the circuit's wrong answers, this one included; 0 if it is not a wrong answer.
    pub failures: u32,
}

/// The evidence that an answer gives about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// None: there was no such challenge.
    None,
    /// The answer was right, and came this long after the picture was delivered.
    Solved(Duration),
    /// The answer was wrong.
    Wrong,
    /// Only a bot gives this answer.
    Bot,
}

/// The outcome of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedeemOutcome {
    /// The answer was right.
    Solved {
        /// The challenge's level.
        level: u8,
    },
    /// The answer was not right. Unknown, expired, foreign and wrong answers are not distinguished.
    Failed,
    /// The circuit has to wait, for this wrong answer or for earlier ones; in the latter case the challenge is still
    /// open.
    MustWait(Duration),
}

/// The reason why a challenge could not be issued, drawn or checked. No visitor is admitted on an error.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No seed or token could be drawn.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// As many pictures are being drawn as `captcha.max_concurrent_renders` permits.
    #[error("captcha.max_concurrent_renders pictures are being drawn already")]
    Busy,
    /// The renderer returned an error or panicked.
    #[error("the renderer failed: {0}")]
    Render(String),
    /// The picture was fetched as often as permitted.
    #[error("the picture was fetched too often")]
    FetchedTooOften,
}

impl From<RenderError> for ChallengeError {
    fn from(error: RenderError) -> Self {
        Self::Render(error.to_string())
    }
}

/// Issues, draws and checks challenges.
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
    /// Creates challenges by `settings` that are drawn by `render_service`, at most `max_renders` at a time, and stored
    /// in `store`.
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

    /// Changes the configuration and drops the pictures drawn ahead under the old one.
    pub fn set_config(&self, config: ChallengeConfig) {
        self.config.store(Arc::new(config));
        self.pool.clear();
    }

    /// Changes the policy for wrong answers, earlier ones included.
    pub fn set_failure_policy(&self, failure_policy: FailurePolicy) {
        self.failure_policy.store(Arc::new(failure_policy));
    }

    /// The statistics of answers since the start.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The number of pictures drawn ahead.
    #[must_use]
    pub fn pictures_ready(&self) -> usize {
        self.pool.len()
    }

    /// Whether pictures can be drawn, for `/ready`.
    pub async fn is_warm(&self) -> bool {
        self.render_limiter.is_warm().await
    }

    /// Issues a challenge to `circuit` without its picture. The caller has to check limits and waits first.
    ///
    /// # Errors
    ///
    /// Fails if the store, the renderer or the source of randomness fail.
    pub async fn issue(
        &self,
        circuit: CircuitTag,
        request: ChallengeRequest,
    ) -> Result<Issued, ChallengeError> {
        let config = self.config.load_full();
        let recipe = choose(&self.render_service, &*self.entropy, &config.mix, request)?;
        let puzzle = self.render_service.puzzle(&recipe.spec, &recipe.seed)?;
        self.keep(circuit, &recipe, puzzle, config.ttl).await
    }

    /// Issues a challenge to `circuit` together with its picture, as a page needs it. A default request takes a
    /// picture that was drawn ahead, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Self::issue`], and [`ChallengeError::Busy`].
    pub async fn issue_with_picture(
        &self,
        circuit: CircuitTag,
        request: ChallengeRequest,
    ) -> Result<(Issued, Media), ChallengeError> {
        let config = self.config.load_full();
        // A picture that was being drawn during a change of configuration may still follow the old one.
        let in_force = |picture: &Picture| Arc::ptr_eq(&picture.config, &config);
        let plain = request == ChallengeRequest::default();
        let ahead = if plain { self.pool.take().filter(in_force) } else { None };
        let (recipe, rendered) = match ahead {
            Some(picture) => (picture.recipe, picture.rendered),
            None => {
                let recipe = choose(&self.render_service, &*self.entropy, &config.mix, request)?;
                let rendered = self.render_limiter.render(&recipe).await?;
                (recipe, rendered)
            }
        };
        let issued = self.keep(circuit, &recipe, rendered.puzzle, config.ttl).await?;
        Ok((issued, rendered.media))
    }

    /// Draws the picture of a challenge of `circuit`; `None` for any other token. Each call draws the picture again,
    /// so the number of calls is limited.
    ///
    /// # Errors
    ///
    /// [`ChallengeError::FetchedTooOften`], or the error of the store or the renderer.
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

    /// Draws a sample picture from `mix`, for operators. It belongs to no challenge.
    ///
    /// # Errors
    ///
    /// [`ChallengeError::Busy`], or the renderer's error.
    pub async fn sample(&self, mix: &ChallengeMix) -> Result<Media, ChallengeError> {
        let recipe =
            choose(&self.render_service, &*self.entropy, mix, ChallengeRequest::default())?;
        Ok(self.render_limiter.render(&recipe).await?.media)
    }

    /// Takes the challenge from the store, then checks the answer. A malformed token takes the same steps as an unknown
    /// one.
    ///
    /// # Errors
    ///
    /// Fails if the store fails; the challenge does not count as solved then.
    pub async fn redeem(
        &self,
        submission: Submission<'_>,
        circuit: CircuitTag,
    ) -> Result<Redemption, ChallengeError> {
        let started = Instant::now();
        let checked = self.take_and_check(submission, circuit).await;
        let outcome = match &checked {
            Err(_) => Outcome::Error,
            Ok(Redemption { evidence: Evidence::Bot, .. }) => Outcome::Decoy,
            Ok(Redemption { redeemed: RedeemOutcome::Solved { .. }, .. }) => Outcome::Ok,
            Ok(Redemption { redeemed: RedeemOutcome::MustWait(_), failures: 0, .. }) => {
                Outcome::Wait
            }
            Ok(_) => Outcome::Failed,
        };
        self.metrics.redeem(started.elapsed(), outcome);
        checked
    }

    /// Discards an unanswered challenge because the visitor requested another. A malformed token is ignored.
    ///
    /// # Errors
    ///
    /// Fails if the store fails.
    pub async fn discard(&self, token: &str) -> Result<(), StoreError> {
        if let Ok(token) = token.parse() {
            self.store.take_challenge(&token).await?;
        }
        Ok(())
    }

    /// How long `circuit` has to wait for its next challenge; `None` if it need not wait.
    ///
    /// # Errors
    ///
    /// Fails if the store fails.
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
        // For a malformed token a random one is looked up, so that it takes the same steps as an unknown one.
        let token = match token.parse() {
            Ok(token) => token,
            Err(_malformed) => ChallengeToken::random(&*self.entropy)?,
        };
        // Take, then check: only the request that took the record can be checked against it.
        let record = self.store.take_challenge(&token).await?;
        let verdict = answer_check::check_answer(record.as_ref(), answer, circuit);
        // Without a record nothing was guessed: a visitor who answers in an old tab must not be locked out for it.
        // The response is the same.
        let Some(record) = record else {
            return Ok(Redemption {
                redeemed: RedeemOutcome::Failed,
                evidence: Evidence::None,
                failures: 0,
            });
        };
        let kind = (&*record.variant, &*record.carrier, record.level);
        let count = |result| self.tally.answered(kind.0, kind.1, kind.2, result);
        let evidence = match verdict {
            _ if trapped => Evidence::Bot,
            AnswerVerdict::Right { level } => {
                let delivered = self.fetches.first_fetch(&token, record.created_at);
                let took = delivered.until(self.clock.now());
                count(AnswerResult::Solved(took));
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
        count(if is_bot { AnswerResult::Decoy } else { AnswerResult::Failed });
        self.count_answer(&record, if is_bot { Outcome::Decoy } else { Outcome::Failed });
        self.count_pick(&record, answer, circuit);
        let decay = self.failure_policy.load().decay;
        let failures = self.store.record_failure(circuit, decay).await?;
        let wait = self.wait_after(failures);
        let redeemed = wait.map_or(RedeemOutcome::Failed, RedeemOutcome::MustWait);
        Ok(Redemption { redeemed, evidence, failures: failures.count })
    }

    /// Counts an answer by task and level, so that an operator sees which ones people fail.
    fn count_answer(&self, record: &ChallengeRecord, outcome: Outcome) {
        // A record of another version may have an unknown task or level.
        if let (Some(variant), Ok(level)) = (variant_of(record), Level::new(record.level)) {
            self.metrics.answer(variant, level.get(), outcome);
        }
    }

    /// Counts which decoy a wrong answer picked, so that an operator sees which ones mislead. Answers from another
    /// circuit are left out.
    ///
    /// The store does not keep the choices: the task is generated again from its seed, which takes a few microseconds
    /// and draws no picture. If that fails, nothing is counted.
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
        let policy = self.failure_policy.load();
        policy.waits.remaining(failures, policy.decay, self.clock.now())
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

/// The task of a challenge, as a metric label.
fn variant_of(record: &ChallengeRecord) -> Option<&'static str> {
    record.variant.parse::<Variant>().ok().map(Variant::as_str)
}

/// A picture drawn ahead, with its recipe and the configuration that it follows.
struct Picture {
    recipe: Recipe,
    rendered: Rendered,
    config: Arc<ChallengeConfig>,
}

/// Chooses what to draw next, with a random seed.
fn choose(
    render_service: &RenderService,
    entropy: &dyn Entropy,
    mix: &ChallengeMix,
    request: ChallengeRequest,
) -> Result<Recipe, EntropyError> {
    let seed = Seed::from_bytes(random_bytes(entropy)?);
    let draws = [random_bytes(entropy)?, random_bytes(entropy)?].map(u32::from_le_bytes);
    let spec =
        if render_service.is_strained() { mix.fallback() } else { mix.choose(request, draws) };
    Ok(Recipe { spec, style_period: render_service.style_period(), seed })
}

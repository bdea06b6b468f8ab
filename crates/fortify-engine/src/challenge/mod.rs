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
//! - `live`: pictures that were shown lately, and the turns of circuits that want one.
//! - [`tally`]: statistics of answers by kind of challenge.
//! - [`Challenges`]: the operations `issue`, `picture` and `redeem`.

pub mod answer_check;
pub mod breaker;
mod fetch_counter;
mod live;
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
    AnswerMode, Choice, Level, Media, Puzzle, Question, RenderError, Rendered, Seed, Variant,
};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep};

use crate::limits::waits::FailureWaits;
use answer_check::AnswerVerdict;
use fetch_counter::FetchCounter;
use fortify_core::clock::Clock;
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::{
    ChallengeRecord, ChallengeToken, Earned, Failures, Place, Receipt, Secret, Taken,
};
use fortify_store::{StateStore, StoreError};
use live::{Pictures, Turns};
use metrics::{ChallengeMetrics, Outcome};
use policy::{ChallengeConfig, ChallengeMix, ChallengeRequest, Preference};
use pool::Pool;
use recipe::Recipe;
use renderer::{RenderLimiter, RenderService};
use tally::{AnswerResult, Tally};

/// The number of threads that draw ahead. One is enough for the pool, and leaves the other cores to requests.
const POOL_THREADS: usize = 1;

/// How long a right answer is remembered, so that the same answer again leads to the same: longer than the second click
/// of somebody who waits for a page over Tor.
pub const RECEIPT_LIFETIME: Duration = Duration::from_secs(60);

/// The part of a challenge's lifetime that has to be left for it to be shown again: a fifth, a minute by default.
const LEAST_TIME_LEFT: u32 = 5;

/// How long an answer waits for the check of the same one that came first: longer than a check takes. In
/// milliseconds, after how long it looks again each time; two seconds in all.
const LOOKS_AGAIN: [u64; 8] = [10, 20, 40, 80, 160, 320, 640, 730];

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

/// What became of an answer.
#[derive(Debug)]
pub enum Redeemed {
    /// It was checked.
    Checked(Redemption),
    /// It is the same right answer again, which led to this a moment ago.
    Again(Earned),
    /// There is no such challenge: it expired, was replaced or used up, or never was one.
    Gone,
}

/// A challenge that a circuit has.
#[derive(Debug)]
pub struct Live {
    token: ChallengeToken,
    /// `None` if it has expired.
    record: Option<ChallengeRecord>,
}

impl Live {
    /// Whether its token is `token`.
    #[must_use]
    pub fn is(&self, token: &str) -> bool {
        token.parse().is_ok_and(|token: ChallengeToken| token == self.token)
    }

    /// The kind that its visitor wished for.
    #[must_use]
    pub fn wish(&self) -> Preference {
        self.record.as_ref().map(wish_of).unwrap_or_default()
    }
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
    /// The kind that the visitor wished for, which the next challenge is of too.
    pub wish: Preference,
}

/// The evidence that an answer gives about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// None: nothing was answered.
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
    /// The answer was not right, or given on another circuit.
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
    pictures: Pictures,
    turns: Turns,
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
            pictures: Pictures::new(),
            turns: Turns::new(),
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

    /// Waits until no other request of `circuit` is about to draw a challenge.
    pub async fn turn(&self, circuit: CircuitTag) -> OwnedMutexGuard<()> {
        self.turns.wait(circuit).await
    }

    /// The newest challenge of `circuit`.
    ///
    /// # Errors
    ///
    /// Fails if the store fails.
    pub async fn newest(&self, circuit: CircuitTag) -> Result<Option<Live>, StoreError> {
        let Some(token) = self.store.newest_challenge(circuit).await? else { return Ok(None) };
        let record = self.store.challenge(&token).await?;
        Ok(Some(Live { token, record }))
    }

    /// The challenge `token`, if it is one of `circuit` and can be answered.
    ///
    /// # Errors
    ///
    /// Fails if the store fails.
    pub async fn own(&self, circuit: CircuitTag, token: &str) -> Result<Option<Live>, StoreError> {
        let Ok(token) = token.parse() else { return Ok(None) };
        let record = self.store.challenge(&token).await?;
        let own = record.filter(|record| record.circuit == circuit);
        Ok(own.map(|record| Live { token, record: Some(record) }))
    }

    /// Whether `token` is that of a challenge that can be answered, of whatever circuit.
    ///
    /// # Errors
    ///
    /// Fails if the store fails.
    pub async fn is_open(&self, token: &str) -> Result<bool, StoreError> {
        let Ok(token) = token.parse() else { return Ok(false) };
        Ok(self.store.challenge(&token).await?.is_some())
    }

    /// Whether `live` can be shown to somebody who has to get a challenge by `request`: there is time to answer it, and it
    /// is as hard.
    #[must_use]
    pub fn serves(&self, live: &Live, request: ChallengeRequest) -> bool {
        let (config, Some(record)) = (self.config.load(), &live.record) else { return false };
        let left = self.clock.now().until(record.expires_at);
        let Some(Recipe { spec, .. }) = recipe::read(record) else { return false };
        left * LEAST_TIME_LEFT >= config.ttl && config.mix.serves(&spec, request)
    }

    /// How a new challenge is kept beside `live`, the one until now, of a circuit or of a browser at a `shared` address. One
    /// that can still be answered stays until it expires, unless the new one is meant to replace it.
    #[must_use]
    pub fn place(live: Option<&Live>, replaces: bool, shared: bool) -> Place<'_> {
        match (live, shared) {
            (Some(live), true) => Place::Beside(replaces.then_some(&live.token)),
            (None, true) => Place::Beside(None),
            (Some(Live { token, record: Some(_) }), false) if !replaces => Place::After(token),
            (live, false) => Place::Only(live.map(|live| &live.token)),
        }
    }

    /// Shows `live` again: the same picture with the same bytes, if a `picture` is asked for, and the same time to answer it.
    ///
    /// # Errors
    ///
    /// [`ChallengeError::Busy`] if it expired meanwhile; as [`Self::picture`] if the picture has to be drawn again.
    pub async fn show(
        &self,
        live: Live,
        picture: bool,
    ) -> Result<(Issued, Option<Media>), ChallengeError> {
        let Live { token, record } = live;
        let recipe = record.as_ref().and_then(recipe::read);
        let (Some(record), Some(recipe)) = (record, recipe) else {
            return Err(ChallengeError::Busy);
        };
        let media = if picture { Some(self.shown(&token, &recipe).await?) } else { None };
        let puzzle = self.render_service.puzzle(&recipe.spec, &recipe.seed)?;
        let left = self.clock.now().until(record.expires_at);
        Ok((issued(token, &recipe, puzzle, left), media))
    }

    async fn shown(
        &self,
        token: &ChallengeToken,
        recipe: &Recipe,
    ) -> Result<Media, ChallengeError> {
        if let Some(media) = self.pictures.get(token) {
            return Ok(media);
        }
        if !self.fetches.count_redraw(token) {
            return Err(ChallengeError::FetchedTooOften);
        }
        let media = self.render_limiter.render(recipe).await?.media;
        self.pictures.keep(token, &media);
        Ok(media)
    }

    /// Issues a challenge to `circuit`, kept as `place` says, and draws its picture if `picture` asks for it, as a page
    /// does. The caller has to check limits and waits first. A default request takes a picture that was drawn ahead, if
    /// there is one. If the circuit has another challenge by now, returns that one.
    ///
    /// # Errors
    ///
    /// Fails if the store, the renderer or the source of randomness fail.
    pub async fn issue(
        &self,
        circuit: CircuitTag,
        request: ChallengeRequest,
        picture: bool,
        place: Place<'_>,
    ) -> Result<Result<(Issued, Option<Media>), Live>, ChallengeError> {
        let config = self.config.load_full();
        // A picture that was being drawn during a change of configuration may still follow the old one.
        let in_force = |picture: &Picture| Arc::ptr_eq(&picture.config, &config);
        let plain = picture && request == ChallengeRequest::default();
        let ahead = if plain { self.pool.take().filter(in_force) } else { None };
        let (recipe, puzzle, media) = match ahead {
            Some(Picture { recipe, rendered, .. }) => {
                (recipe, rendered.puzzle, Some(rendered.media))
            }
            None => {
                let recipe = choose(&self.render_service, &*self.entropy, &config.mix, request)?;
                if picture {
                    let rendered = self.render_limiter.render(&recipe).await?;
                    (recipe, rendered.puzzle, Some(rendered.media))
                } else {
                    let puzzle = self.render_service.puzzle(&recipe.spec, &recipe.seed)?;
                    (recipe, puzzle, None)
                }
            }
        };
        let (wish, ttl) = (request.preference, config.ttl);
        let kept = self.keep(circuit, &recipe, puzzle, wish, ttl, place).await?;
        let issued = match kept {
            Ok(issued) => issued,
            Err(other) => {
                let record = self.store.challenge(&other).await?;
                return Ok(Err(Live { token: other, record }));
            }
        };
        if let Some(replaced) = place.replaces() {
            self.pictures.forget(replaced);
        }
        if let Some(media) = &media {
            self.pictures.keep(&issued.token, media);
        }
        Ok(Ok((issued, media)))
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
    /// one. An answer that comes while the same one is being checked waits for the result, for two seconds at most.
    ///
    /// After a right answer the caller has to call [`Self::settle`]. Whether the same answer counts `again` is the
    /// caller's to say: on a circuit it does, at an address that many people may share only for the browser that got
    /// the challenge.
    ///
    /// # Errors
    ///
    /// Fails if the store fails; the challenge does not count as solved then.
    pub async fn redeem(
        &self,
        submission: Submission<'_>,
        circuit: CircuitTag,
        again: bool,
    ) -> Result<Redeemed, ChallengeError> {
        let started = Instant::now();
        let redeemed = self.take_and_check(submission, circuit, again).await;
        let outcome = match &redeemed {
            Err(_) => Outcome::Error,
            Ok(Redeemed::Again(_)) => Outcome::Again,
            Ok(Redeemed::Gone) => Outcome::Gone,
            Ok(Redeemed::Checked(checked)) => match checked {
                Redemption { evidence: Evidence::Bot, .. } => Outcome::Decoy,
                Redemption { redeemed: RedeemOutcome::Solved { .. }, .. } => Outcome::Ok,
                Redemption { redeemed: RedeemOutcome::MustWait(_), failures: 0, .. } => {
                    Outcome::Wait
                }
                _ => Outcome::Failed,
            },
        };
        self.metrics.redeem(started.elapsed(), outcome);
        redeemed
    }

    /// Remembers what the right answer `submission` led to for [`RECEIPT_LIFETIME`], or that it led to nothing. A fault of
    /// the store is logged and no more: the answer counts.
    pub async fn settle(
        &self,
        submission: Submission<'_>,
        circuit: CircuitTag,
        result: Option<Earned>,
    ) {
        let Ok(token) = submission.token.parse() else { return };
        let receipt = result.map(|result| Receipt {
            circuit,
            answer: digest(submission),
            result,
            expires_at: self.clock.now().after(RECEIPT_LIFETIME),
        });
        if let Err(error) = self.store.settle_challenge(&token, receipt).await {
            tracing::debug!(%error, "a right answer is not remembered");
        }
    }

    async fn take_and_check(
        &self,
        submission: Submission<'_>,
        circuit: CircuitTag,
        again: bool,
    ) -> Result<Redeemed, ChallengeError> {
        let Submission { token, answer, trapped } = submission;
        if let Some(wait) = self.wait_after(self.store.failures(circuit).await?) {
            let redeemed = RedeemOutcome::MustWait(wait);
            let checked = Redemption {
                redeemed,
                evidence: Evidence::None,
                failures: 0,
                wish: Preference::Any,
            };
            return Ok(Redeemed::Checked(checked));
        }
        // For a malformed token a random one is looked up, so that it takes the same steps as an unknown one.
        let token = match token.parse() {
            Ok(token) => token,
            Err(_malformed) => ChallengeToken::random(&*self.entropy)?,
        };
        // Take, then check: only the request that took the record can be checked against it.
        let (record, receipt) = match self.take(&token).await? {
            Taken::Challenge(record) => (Some(record), None),
            Taken::Answered(receipt) => (None, Some(receipt)),
            Taken::Pending | Taken::Absent => (None, None),
        };
        let verdict = answer_check::check_answer(record.as_ref(), answer, circuit);
        // Without a record nothing was guessed: a visitor who answers in an old tab must not be locked out for it.
        let Some(record) = record else {
            let same = |receipt: &Receipt| {
                again && receipt.circuit == circuit && receipt.answer == digest(submission)
            };
            let receipt = receipt.filter(same);
            return Ok(receipt.map_or(Redeemed::Gone, |receipt| Redeemed::Again(receipt.result)));
        };
        self.pictures.forget(&token);
        let wish = wish_of(&record);
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
                let (redeemed, evidence) =
                    (RedeemOutcome::Solved { level }, Evidence::Solved(took));
                return Ok(Redeemed::Checked(Redemption { redeemed, evidence, failures: 0, wish }));
            }
            AnswerVerdict::Wrong => Evidence::Wrong,
            AnswerVerdict::Bot => Evidence::Bot,
        };
        let is_bot = evidence == Evidence::Bot;
        count(if is_bot { AnswerResult::Decoy } else { AnswerResult::Failed });
        self.count_answer(&record, if is_bot { Outcome::Decoy } else { Outcome::Failed });
        self.count_pick(&record, answer, circuit);
        let decay = self.failure_policy.load().decay;
        let failures = self.store.record_failure(circuit, decay).await;
        // Whoever sends the same form meanwhile waits for this.
        self.settle(submission, circuit, None).await;
        let failures = failures?;
        let wait = self.wait_after(failures);
        let redeemed = wait.map_or(RedeemOutcome::Failed, RedeemOutcome::MustWait);
        Ok(Redeemed::Checked(Redemption { redeemed, evidence, failures: failures.count, wish }))
    }

    /// Takes a challenge. One that another request is checking is waited for.
    async fn take(&self, token: &ChallengeToken) -> Result<Taken, StoreError> {
        for millis in LOOKS_AGAIN {
            match self.store.take_challenge(token).await? {
                Taken::Pending => sleep(Duration::from_millis(millis)).await,
                taken => return Ok(taken),
            }
        }
        self.store.take_challenge(token).await
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

    /// How long a circuit waits after its wrong answer number `count`.
    pub fn wait_of(&self, count: u32) -> Duration {
        self.failure_policy.load().waits.after(count)
    }

    async fn keep(
        &self,
        circuit: CircuitTag,
        recipe: &Recipe,
        puzzle: Puzzle,
        wish: Preference,
        ttl: Duration,
        place: Place<'_>,
    ) -> Result<Result<Issued, ChallengeToken>, ChallengeError> {
        let (started, spec) = (Instant::now(), &recipe.spec);
        let token = ChallengeToken::random(&*self.entropy)?;
        let now = self.clock.now();
        let expires_at = now.after(ttl);
        let record = recipe::write(recipe, &puzzle, wish, circuit, now, expires_at);
        let kept = self.store.put_challenge(&token, record, place).await;
        let outcome = if kept.is_ok() { Outcome::Ok } else { Outcome::Error };
        self.metrics.issue(started.elapsed(), spec.variant.as_str(), outcome);
        if let Some(other) = kept? {
            return Ok(Err(other));
        }
        self.tally.issued(spec.variant.as_str(), spec.carrier.as_str(), spec.level.get());
        Ok(Ok(issued(token, recipe, puzzle, ttl)))
    }
}

/// A challenge as presented to the visitor, who has `expires_in` to answer it.
fn issued(token: ChallengeToken, recipe: &Recipe, puzzle: Puzzle, expires_in: Duration) -> Issued {
    let spec = &recipe.spec;
    Issued {
        token,
        question: puzzle.question,
        variant: spec.variant.as_str(),
        carrier: spec.carrier.as_str(),
        mode: spec.mode,
        choices: puzzle.choices,
        level: spec.level.get(),
        expires_in,
    }
}

/// A hash of an answer as it was sent, so that nothing keeps the answer itself.
fn digest(submission: Submission<'_>) -> Secret<[u8; 32]> {
    let Submission { token, answer, .. } = submission;
    let hash = Sha256::new().chain_update(b"fortify/1/answer").chain_update(token);
    Secret::new(hash.chain_update(answer).finalize().into())
}

/// The kind that the visitor who got a challenge had wished for.
fn wish_of(record: &ChallengeRecord) -> Preference {
    record.wish.as_deref().map(Preference::parse).unwrap_or_default()
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

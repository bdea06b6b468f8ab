//! Challenges: drawn, issued, fetched and judged.
//!
//! # Layout
//!
//! - [`Challenges`]: `issue`, `picture`, `redeem`.
//! - [`policy`]: which task a level asks.
//! - [`judge`]: whether an answer is right; pure.
//! - `recipe`: a challenge as the store keeps it, and back.
//! - `renderer`: the generator off the async threads, under a bound.

pub mod judge;
pub mod policy;
mod recipe;
pub mod renderer;

use std::sync::Arc;
use std::time::Duration;

use fortify_captcha::{Choice, Level, Media, Question, RenderError, Seed, Spec};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::entropy::{Entropy, EntropyError, random_bytes};
use crate::pseudonym::CircuitTag;
use crate::store::record::{ChallengeToken, Failures};
use crate::store::{StateStore, StoreError};
use crate::telemetry::metrics::{Metrics, Outcome};
use judge::Verdict;
use renderer::Renderer;

/// Pictures are 300 x 100 px: the size at which the budget of 50 KB and the time of a render were
/// measured, and wide enough for eight characters.
const PICTURE_PX: (u16, u16) = (300, 100);

/// What a level and the configuration make of a challenge.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeSettings {
    /// How long an answer is accepted.
    pub ttl: Duration,
    /// Difficulty.
    pub level: Level,
    /// Characters of a `distorted_text`.
    pub length: u8,
    /// Wrong answers after which a circuit has to wait.
    pub max_failures: u32,
    /// How long a circuit without a further wrong answer stays counted.
    pub failure_decay: Duration,
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
    /// How the answer is given, as the API names it.
    pub mode: &'static str,
    /// The options of a choice; empty for a typed answer.
    pub choices: Vec<String>,
    /// Its difficulty.
    pub level: u8,
    /// How long an answer is accepted.
    pub expires_in: Duration,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// It was right: the level it was earned at.
    Solved {
        /// The challenge's level.
        level: u8,
    },
    /// It was not. Unknown, expired, foreign and wrong are one.
    Failed,
    /// The circuit has to wait first; the challenge was not touched.
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
    /// The circuit has to wait before it is given another challenge.
    #[error("the circuit has used up its tries")]
    MustWait(Duration),
}

impl From<RenderError> for ChallengeError {
    fn from(error: RenderError) -> Self {
        Self::Render(error.to_string())
    }
}

/// Issues, draws and judges challenges.
#[derive(Debug)]
pub struct Challenges {
    renderer: Renderer,
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    settings: ChallengeSettings,
}

impl Challenges {
    /// Challenges by `settings`, drawn by `renderer` and kept in `store`.
    #[must_use]
    pub fn new(
        renderer: Renderer,
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
        settings: ChallengeSettings,
    ) -> Self {
        Self { renderer, store, clock, entropy, metrics, settings }
    }

    /// Whether a picture can be drawn: for `/ready`.
    pub async fn is_warm(&self) -> bool {
        self.renderer.is_warm().await
    }

    /// A new challenge for `circuit`, without its picture.
    ///
    /// # Errors
    ///
    /// [`ChallengeError::MustWait`] for a circuit with too many wrong answers; everything else is a
    /// fault of this side.
    pub async fn issue(&self, circuit: CircuitTag) -> Result<Issued, ChallengeError> {
        let (spec, seed) = self.prepare(circuit).await?;
        let puzzle = self.renderer.puzzle(&spec, &seed)?;
        self.keep(circuit, &spec, &seed, puzzle).await
    }

    /// A new challenge for `circuit` with its picture, in one go: what a page needs.
    ///
    /// # Errors
    ///
    /// As [`Self::issue`], and [`ChallengeError::Busy`].
    pub async fn issue_with_picture(
        &self,
        circuit: CircuitTag,
    ) -> Result<(Issued, Media), ChallengeError> {
        let (spec, seed) = self.prepare(circuit).await?;
        let rendered = self.render(&spec, &seed).await?;
        let issued = self.keep(circuit, &spec, &seed, rendered.puzzle).await?;
        Ok((issued, rendered.media))
    }

    /// The picture of a challenge of `circuit`'s; `None` for any other token.
    ///
    /// # Errors
    ///
    /// When the store or the renderer fails.
    pub async fn picture(
        &self,
        token: &ChallengeToken,
        circuit: CircuitTag,
    ) -> Result<Option<Media>, ChallengeError> {
        let record = self.store.challenge(token).await?;
        let Some(record) = record.filter(|record| record.circuit == circuit) else {
            return Ok(None);
        };
        let Some((spec, seed)) = recipe::read(&record, PICTURE_PX) else {
            return Ok(None);
        };
        Ok(Some(self.render(&spec, &seed).await?.media))
    }

    /// Takes the challenge and judges `answer`. `token` is what the visitor sent, whatever it is:
    /// one that is no token at all goes the way of a wrong answer.
    ///
    /// # Errors
    ///
    /// When the store fails: nothing is solved then.
    pub async fn redeem(
        &self,
        token: &str,
        answer: &str,
        circuit: CircuitTag,
    ) -> Result<Redeemed, ChallengeError> {
        let started = Instant::now();
        let outcome = self.judge(token, answer, circuit).await;
        self.metrics.redeem(started.elapsed(), redeem_outcome(&outcome));
        outcome
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

    async fn judge(
        &self,
        token: &str,
        answer: &str,
        circuit: CircuitTag,
    ) -> Result<Redeemed, ChallengeError> {
        if let Some(wait) = self.wait(circuit).await? {
            return Ok(Redeemed::MustWait(wait));
        }
        // A text that is no token is looked up under a name that nothing has, so that it takes the
        // same steps as one that was never issued.
        let token = match token.parse() {
            Ok(token) => token,
            Err(_malformed) => ChallengeToken::random(&*self.entropy)?,
        };
        // Taken first, judged then: only the request that took the record can judge it.
        let record = self.store.take_challenge(&token).await?;
        match judge::judge(record.as_ref(), answer, circuit) {
            Verdict::Right { level } => Ok(Redeemed::Solved { level }),
            // Nothing was guessed at where there was nothing: a visitor who answers in an old tab
            // must not be locked out for it. The response is the same.
            Verdict::Wrong if record.is_none() => Ok(Redeemed::Failed),
            Verdict::Wrong => {
                let decay = self.settings.failure_decay;
                let failures = self.store.record_failure(circuit, decay).await?;
                Ok(self.wait_after(failures).map_or(Redeemed::Failed, Redeemed::MustWait))
            }
        }
    }

    fn wait_after(&self, failures: Failures) -> Option<Duration> {
        (failures.count >= self.settings.max_failures)
            .then(|| self.clock.now().until(failures.until))
    }

    async fn prepare(&self, circuit: CircuitTag) -> Result<(Spec, Seed), ChallengeError> {
        if let Some(wait) = self.wait(circuit).await? {
            return Err(ChallengeError::MustWait(wait));
        }
        let seed = Seed::from_bytes(random_bytes(&*self.entropy)?);
        let draw = u32::from_le_bytes(random_bytes(&*self.entropy)?);
        let mut spec = Spec::new(policy::variant(self.settings.level, draw), self.settings.level);
        (spec.width, spec.height) = PICTURE_PX;
        spec.length = self.settings.length;
        Ok((spec, seed))
    }

    async fn render(
        &self,
        spec: &Spec,
        seed: &Seed,
    ) -> Result<fortify_captcha::Rendered, ChallengeError> {
        let started = Instant::now();
        let rendered = self.renderer.render(spec, seed).await;
        let outcome = if rendered.is_ok() { Outcome::Ok } else { Outcome::Error };
        self.metrics.render(started.elapsed(), spec.variant.as_str(), outcome);
        rendered
    }

    async fn keep(
        &self,
        circuit: CircuitTag,
        spec: &Spec,
        seed: &Seed,
        puzzle: fortify_captcha::Puzzle,
    ) -> Result<Issued, ChallengeError> {
        let started = Instant::now();
        let token = ChallengeToken::random(&*self.entropy)?;
        let now = self.clock.now();
        let record =
            recipe::write(spec, seed, &puzzle.answer, circuit, now, now.after(self.settings.ttl));
        let kept = self.store.put_challenge(&token, record).await;
        let outcome = if kept.is_ok() { Outcome::Ok } else { Outcome::Error };
        self.metrics.issue(started.elapsed(), spec.variant.as_str(), outcome);
        kept?;
        Ok(Issued {
            token,
            question: puzzle.question,
            variant: spec.variant.as_str(),
            mode: spec.mode.as_str(),
            choices: puzzle.choices.iter().map(Choice::value).collect(),
            level: spec.level.get(),
            expires_in: self.settings.ttl,
        })
    }
}

fn redeem_outcome(outcome: &Result<Redeemed, ChallengeError>) -> Outcome {
    match outcome {
        Ok(Redeemed::Solved { .. }) => Outcome::Ok,
        Ok(Redeemed::Failed) => Outcome::Failed,
        Ok(Redeemed::MustWait(_)) => Outcome::Wait,
        Err(_) => Outcome::Error,
    }
}

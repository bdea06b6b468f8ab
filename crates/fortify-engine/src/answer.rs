//! The verb `answer`: checks an answer and applies its effects on the circuit.

use super::chain::PassedStage;
use super::client::Client;
use super::issue::{IssueRequest, Wait};
use super::{Engine, EngineError};
use crate::behaviour::Outcome;
use crate::challenge::{Evidence, RedeemOutcome, Redeemed, Redemption, Submission};
use crate::session::{Minted, Session};
use crate::threat::table::Admits;
use fortify_core::circuit::TorCircuit;
use fortify_core::reach::Reach;
use fortify_reputation::answer_history::AnswerEvent;
use fortify_reputation::{CircuitStatus, StatusReason};
use fortify_store::StoreError;
use fortify_store::record::{Earned, Secret};

/// The result of an answer.
pub enum Answered {
    /// Right, and the last of its chain: the session it earned.
    Granted(Minted),
    /// Right, with more challenges to come.
    Next(Stage),
    /// Right, but the challenge was drawn at a level more than a step below the one in force, and is worth nothing
    /// there: with the request for another one. It is not a wrong answer.
    Outdated(IssueRequest<'static>),
    /// Not right, or given on another circuit, with the request for another challenge.
    Wrong(IssueRequest<'static>),
    /// The challenge expired, or was replaced or used up elsewhere, or never was one; with the request for the one that
    /// the circuit has, or else for another. It counts for nothing.
    Gone(IssueRequest<'static>),
    /// The circuit has to wait, for this wrong answer or for earlier ones; in the latter case the challenge is
    /// still open.
    Wait(Wait),
}

/// A passed stage of a chain that has more.
pub struct Stage {
    /// Its number, from 1.
    pub number: u8,
    /// The value of its cookie.
    pub cookie: String,
    /// The request for the next challenge.
    pub next: IssueRequest<'static>,
}

impl Engine {
    /// Checks an answer of `client` and applies its effects, and remembers for a minute what a right one led to: the same
    /// answer again, on the same circuit, leads to the same and counts for nothing. Taking the challenge from the store comes first,
    /// so only one request can be checked against it.
    ///
    /// A Tor circuit that has used up its tries is banned for as long as it has to wait. One whose score reaches
    /// `reputation.ban_points`, or that has no wait, is banned for `reputation.ban_seconds`. Bans apply with or
    /// without `HAProxy`. Failures stay counted, so the next wrong answer brings the next wait. A clearnet address is
    /// never banned because many people may share it: its wrong answers delay its next challenge and do not
    /// affect anybody with a session.
    ///
    /// # Errors
    ///
    /// Fails if the store, the disk or the keys fail; no session is granted then.
    pub async fn answer(
        &self,
        client: &Client,
        submission: Submission<'_>,
    ) -> Result<Answered, EngineError> {
        let gone = || Answered::Gone(IssueRequest::first(self.requirement(client)));
        let again = client.shows(submission.token);
        let checked = match self.challenges.redeem(submission, client.tag, again).await? {
            Redeemed::Checked(checked) => checked,
            Redeemed::Again(result) => {
                return Ok(self.repeat(client, result).await?.unwrap_or_else(gone));
            }
            Redeemed::Gone => return Ok(gone()),
        };
        let solved = matches!(checked.redeemed, RedeemOutcome::Solved { .. });
        let answered = self.conclude(client, submission, checked).await;
        if solved {
            let result = match &answered {
                Ok(Answered::Granted(minted)) => {
                    Some(Earned::Session(Secret::new(minted.token.clone())))
                }
                Ok(Answered::Next(stage)) => Some(Earned::Stage(Secret::new(stage.cookie.clone()))),
                _ => None,
            };
            self.challenges.settle(submission, client.tag, result).await;
        }
        answered
    }

    /// The session that the same answer of `client` earned a moment ago, for a visitor who is in by the circuit: an answer
    /// that is not known is not checked.
    ///
    /// # Errors
    ///
    /// Fails if the store fails.
    pub async fn earned(
        &self,
        client: &Client,
        submission: Submission<'_>,
    ) -> Result<Option<Minted>, EngineError> {
        if !client.shows(submission.token) || self.challenges.is_open(submission.token).await? {
            return Ok(None);
        }
        // Nothing can be taken: the challenge is gone, and none is ever stored again under its token.
        let result = match self.challenges.redeem(submission, client.tag, true).await? {
            Redeemed::Again(result) => result,
            Redeemed::Checked(_) | Redeemed::Gone => return Ok(None),
        };
        Ok(match self.repeat(client, result).await? {
            Some(Answered::Granted(minted)) => Some(minted),
            _ => None,
        })
    }

    /// What the same right answer led to a moment ago, if that is still in force. Nothing is counted.
    async fn repeat(
        &self,
        client: &Client,
        result: Earned,
    ) -> Result<Option<Answered>, EngineError> {
        match result {
            Earned::Session(token) => {
                let session = self.sessions.in_force(token.expose(), client.tag).await?;
                let token = token.expose().clone();
                Ok(session.map(|session| Answered::Granted(Minted { token, session })))
            }
            Earned::Stage(cookie) => {
                let (keys, clock, store) = (&self.keys, &*self.clock, &*self.store);
                let progress = self.progress(client).await?;
                let progress =
                    progress.at_least(cookie.expose(), client.tag, keys, clock, store).await?;
                let Some((number, progress)) = progress else { return Ok(None) };
                let cookie = cookie.expose().clone();
                let next = IssueRequest::again(self.requirement(client), progress);
                Ok(Some(Answered::Next(Stage { number, cookie, next })))
            }
        }
    }

    /// Applies the effects of an answer that was checked, and says what it leads to.
    async fn conclude(
        &self,
        client: &Client,
        submission: Submission<'_>,
        checked: Redemption,
    ) -> Result<Answered, EngineError> {
        let (redeemed, wish) = (self.apply_answer(client, checked).await, checked.wish);
        let requirement = self.requirement(client);
        let level = match redeemed {
            RedeemOutcome::Solved { level } => level,
            RedeemOutcome::Failed => {
                return Ok(Answered::Wrong(IssueRequest::retry(requirement).with_preference(wish)));
            }
            RedeemOutcome::MustWait(wait) => return Ok(Answered::Wait(Wait::Failures(wait))),
        };
        let progress = self.progress(client).await?;
        // A challenge is worth the level at which it is answered, or challenges of a quiet hour could be kept for an
        // attack. Within a step, so that nobody who was solving while the level rose has to begin again.
        let in_force = self.threat.level().get();
        if level.saturating_add(1) < in_force {
            return Ok(Answered::Outdated(
                IssueRequest::next(requirement, progress).with_preference(wish),
            ));
        }
        if progress.passed.saturating_add(1) < requirement.stages {
            let (token, keys, clock) = (submission.token, &self.keys, &*self.clock);
            let passed = progress.pass(token, client.tag, keys, clock, in_force)?;
            let PassedStage { progress, cookie } = passed;
            let next = IssueRequest::next(requirement, progress).with_preference(wish);
            return Ok(Answered::Next(Stage { number: progress.passed, cookie, next }));
        }
        if !self.chains.spend(progress, &*self.store, &*self.clock).await? {
            return Ok(Answered::Wrong(IssueRequest::retry(requirement).with_preference(wish)));
        }
        self.grant(client, in_force).await.map(Answered::Granted)
    }

    /// Ends `session` and the trust in the circuit of `client`, so that a visitor who logs out is not admitted by
    /// the circuit, whichever session it was trusted for. The session need not be sufficient for admission.
    ///
    /// # Errors
    ///
    /// Fails if the other nodes may still admit the session: then the visitor is to try again.
    pub async fn log_out(&self, client: &Client, session: &Session) -> Result<(), EngineError> {
        let reach = self.revoke(session).await?;
        if let Some(circuit) = client.tor()
            && self.reputation.status(circuit) == Some(CircuitStatus::Trusted)
            && let Err(error) = self.reputation.end_trust(circuit).await
        {
            tracing::warn!(%error, "could not end the trust in a circuit at log-out; it stays trusted until it expires");
        }
        match reach {
            Reach::Cluster => Ok(()),
            Reach::Node => {
                let said = "a session that was ended is over at this node only until it does";
                Err(StoreError::Unavailable(said.to_owned()).into())
            }
        }
    }

    /// Applies the effects of an answer on its circuit and on the threat level.
    async fn apply_answer(&self, client: &Client, checked: Redemption) -> RedeemOutcome {
        let event = match checked.evidence {
            Evidence::None => None,
            Evidence::Solved(took) => Some(AnswerEvent::Solved(took)),
            Evidence::Wrong => Some(AnswerEvent::Failed),
            Evidence::Bot => Some(AnswerEvent::Bot),
        };
        let before = self.answer_histories.get(client.tag);
        let first_try = !before.is_some_and(|history| history.missed());
        let is_bot = event.is_some_and(|event| self.replication.record(client.tag, event));
        let solved = matches!(checked.redeemed, RedeemOutcome::Solved { .. });
        client.record(Outcome::Answered { solved });
        // An answer without a challenge costs nothing, so it must not influence the dial.
        match checked.evidence {
            Evidence::None => {}
            Evidence::Solved(_) => {
                self.threat.signals().solved(client.tag);
                if first_try {
                    self.metrics.challenge.first_try();
                }
            }
            Evidence::Wrong | Evidence::Bot => self.threat.signals().failed(client.tag),
        }
        let Some(circuit) = client.tor() else { return checked.redeemed };
        if event.is_some() {
            self.penalise(client, circuit);
        }
        if solved { checked.redeemed } else { self.punish(client, circuit, checked, is_bot).await }
    }

    /// Bans a circuit that has used up its tries or whose score reaches the limit. If the disk does not take the
    /// ban, it is in force in memory and the health report says so; if there is no room for it, the wait for
    /// the failures still applies.
    async fn punish(
        &self,
        client: &Client,
        circuit: TorCircuit,
        checked: Redemption,
        is_bot: bool,
    ) -> RedeemOutcome {
        let usual = self.config.reputation.ban;
        let (time, reason) = match checked.redeemed {
            _ if is_bot => (usual, StatusReason::Score),
            _ if checked.failures < self.config.security.max_captcha_failures => {
                return checked.redeemed;
            }
            RedeemOutcome::MustWait(wait) => (wait, StatusReason::Failures),
            RedeemOutcome::Solved { .. } | RedeemOutcome::Failed => (usual, StatusReason::Failures),
        };
        let now = self.clock.now();
        // First, so that no cookie moves away between the two.
        if let Err(error) = self.store.end_sessions_of(client.tag, now).await {
            tracing::error!(%error, "could not end the sessions of a circuit that is banned; it is banned all the same");
        }
        match self.reputation.ban(circuit, now.after(time), reason).await {
            Ok(_durability) => {
                self.threat.signals().banned(client.tag);
                RedeemOutcome::MustWait(time)
            }
            Err(error) => {
                tracing::error!(%error, "could not ban a circuit; only its wait applies");
                checked.redeemed
            }
        }
    }

    /// Penalises a circuit in `HAProxy` while its answers look automated: until they no longer do, or one half-life
    /// of the score has passed.
    fn penalise(&self, client: &Client, circuit: TorCircuit) {
        if self.answer_histories.suspicions(client.tag).is_empty() {
            self.reputation.lift_penalty(circuit);
        } else {
            let decayed = self.clock.now().after(self.config.reputation.scoring.half_life);
            self.reputation.penalise(circuit, decayed);
        }
    }

    /// Admits a client that has passed all stages: grants a session and trusts its circuit.
    ///
    /// # Errors
    ///
    /// Fails if the session cannot be created; at a level that requires both, also if the trust cannot be set.
    async fn grant(&self, client: &Client, level: u8) -> Result<Minted, EngineError> {
        let minted = self.sessions.mint(client.tag, level)?;
        self.metrics.session.issued(level);
        self.open_budget(client, &minted.session).await;
        let Some(circuit) = client.tor() else { return Ok(minted) };
        if self.threat.policy().admits == Admits::Both {
            // The next request depends on it.
            let until = self.clock.now().after(self.config.reputation.vip);
            self.reputation.trust(circuit, minted.session, until).await?;
        } else {
            self.trust(circuit, minted.session);
        }
        Ok(minted)
    }
}

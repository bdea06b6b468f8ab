//! `answer`: is it right, and what does it mean for the circuit?

use super::chain::PassedStage;
use super::client::Client;
use super::issue::{IssueRequest, Wait};
use super::{Engine, EngineError};
use crate::behaviour::Outcome;
use crate::challenge::{Evidence, RedeemOutcome, Redemption, Submission};
use crate::reputation::StatusReason;
use crate::reputation::answer_history::AnswerEvent;
use crate::session::{Minted, Session};
use crate::threat::table::Admits;
use fortify_core::circuit::TorCircuit;

/// What an answer led to.
pub enum Answered {
    /// It was the last of its chain, and earned this session.
    Granted(Minted),
    /// It was right, and more are asked.
    Next(Stage),
    /// It was not right. Unknown, expired, foreign and wrong are one. This asks for another challenge.
    Wrong(IssueRequest<'static>),
    /// The circuit has to wait: for this wrong answer, or for earlier ones, and then the challenge was not
    /// touched.
    Wait(Wait),
}

/// A stage of a chain that was passed, and is not its last.
pub struct Stage {
    /// Which one, from 1 on.
    pub number: u8,
    /// The text of its cookie.
    pub cookie: String,
    /// This asks for the next challenge.
    pub next: IssueRequest<'static>,
}

impl Engine {
    /// Judges an answer of `client` and carries out what it means. Only the request that takes the
    /// challenge from the store can judge it.
    ///
    /// A circuit of tor's that has used up its tries is banned for as long as it has to wait, and one whose
    /// answers are a program's, or that has no wait to serve, for `reputation.ban_seconds`, whether or not
    /// there is a `HAProxy`. Its failures stay counted, so that the next wrong answer brings the next wait. A
    /// clearnet address is neither: it may be many people's, so that its wrong answers make it wait for
    /// challenges and keep nobody out who has a session.
    ///
    /// # Errors
    ///
    /// Faults of the store, the disk or the keys: nothing is earned then.
    pub async fn answer(
        &self,
        client: &Client,
        submission: Submission<'_>,
    ) -> Result<Answered, EngineError> {
        let judged = self.challenges.redeem(submission, client.tag).await?;
        let redeemed = self.weigh(client, judged).await;
        let requirement = self.requirement(client);
        let level = match redeemed {
            RedeemOutcome::Solved { level } => level,
            RedeemOutcome::Failed => return Ok(Answered::Wrong(IssueRequest::retry(requirement))),
            RedeemOutcome::MustWait(wait) => return Ok(Answered::Wait(Wait::Failures(wait))),
        };
        let progress = self.progress(client).await?;
        if progress.passed.saturating_add(1) < requirement.stages {
            let passed = progress.pass(submission.token, client.tag, &self.keys, &*self.clock)?;
            let PassedStage { progress, cookie } = passed;
            let next = IssueRequest::next(requirement, progress);
            return Ok(Answered::Next(Stage { number: progress.passed, cookie, next }));
        }
        if !self.chains.spend(progress, &*self.store, &*self.clock).await? {
            return Ok(Answered::Wrong(IssueRequest::retry(requirement)));
        }
        self.grant(client, level).await.map(Answered::Granted)
    }

    /// Ends the session of `client` and its circuit's trust: who leaves is not let in again for having been
    /// here. Also a session that is not enough to be admitted.
    ///
    /// # Errors
    ///
    /// When the store did not keep it; the session is then still in force.
    pub async fn log_out(&self, client: &Client, session: &Session) -> Result<(), EngineError> {
        self.sessions.revoke(session).await?;
        if let Some(circuit) = client.tor()
            && self.is_trusted(circuit)
            && let Err(error) = self.reputation.trust(circuit, self.clock.now()).await
        {
            tracing::warn!(%error, "a visitor who left is still trusted");
        }
        Ok(())
    }

    /// What an answer means for the standing of its circuit and for the threat dial.
    async fn weigh(&self, client: &Client, judged: Redemption) -> RedeemOutcome {
        let event = match judged.evidence {
            Evidence::None => None,
            Evidence::Solved(took) => Some(AnswerEvent::Solved(took)),
            Evidence::Wrong => Some(AnswerEvent::Failed),
            Evidence::Bot => Some(AnswerEvent::Bot),
        };
        let is_program = event.is_some_and(|event| self.replication.record(client.tag, event));
        let solved = matches!(judged.redeemed, RedeemOutcome::Solved { .. });
        client.record(Outcome::Answered { solved });
        // What was no answer to anything says nothing: it would turn the dial for everybody, for free.
        match judged.evidence {
            Evidence::None => {}
            Evidence::Solved(_) => self.threat.signals().solved(client.tag),
            Evidence::Wrong | Evidence::Bot => self.threat.signals().failed(client.tag),
        }
        let Some(circuit) = client.tor() else { return judged.redeemed };
        if event.is_some() {
            self.penalise(client, circuit);
        }
        if solved {
            judged.redeemed
        } else {
            self.punish(client, circuit, judged, is_program).await
        }
    }

    /// Bans a circuit that has used up its tries, or whose answers are a program's. A ban that the disk does
    /// not take is in force in memory, and the reputation says so; one for which there is no room is left to
    /// the wait for which the failures stand.
    async fn punish(
        &self,
        client: &Client,
        circuit: TorCircuit,
        judged: Redemption,
        is_program: bool,
    ) -> RedeemOutcome {
        let usual = self.config.reputation.ban;
        let (time, reason) = match judged.redeemed {
            _ if is_program => (usual, StatusReason::Score),
            _ if judged.failures < self.config.security.max_captcha_failures => {
                return judged.redeemed;
            }
            RedeemOutcome::MustWait(wait) => (wait, StatusReason::Failures),
            RedeemOutcome::Solved { .. } | RedeemOutcome::Failed => (usual, StatusReason::Failures),
        };
        match self.reputation.ban(circuit, self.clock.now().after(time), reason).await {
            Ok(_wherever) => {
                self.threat.signals().banned(client.tag);
                RedeemOutcome::MustWait(time)
            }
            Err(error) => {
                tracing::error!(%error, "a circuit that is to be banned is not");
                judged.redeemed
            }
        }
    }

    /// Has `HAProxy` be strict with a circuit for as long as its answers look like a program's: until they
    /// do not, or half of what they cost has decayed.
    fn penalise(&self, client: &Client, circuit: TorCircuit) {
        if self.answer_histories.suspicions(client.tag).is_empty() {
            self.reputation.lift_penalty(circuit);
        } else {
            let decayed = self.clock.now().after(self.config.reputation.scoring.half_life);
            self.reputation.penalise(circuit, decayed);
        }
    }

    /// Lets a client in that has passed all stages: a session, and trust for its circuit.
    ///
    /// # Errors
    ///
    /// When the session cannot be made; or the trust, at a level that asks for both.
    async fn grant(&self, client: &Client, level: u8) -> Result<Minted, EngineError> {
        let minted = self.sessions.mint(client.tag, level)?;
        self.metrics.session.issued(level);
        let Some(circuit) = client.tor() else { return Ok(minted) };
        if self.threat.policy().admits == Admits::Both {
            // The next request asks for it.
            let until = self.clock.now().after(self.config.reputation.vip);
            self.reputation.trust(circuit, until).await?;
        } else {
            self.trust(circuit);
        }
        Ok(minted)
    }
}

//! `issue`: may this client have a challenge now, and which one?

use std::time::Duration;

use fortify_captcha::Media;
use tokio::time::Instant;

use super::chain::Progress;
use super::client::Client;
use super::decision::Requirement;
use super::ticket::Ticket;
use super::{Engine, EngineError};
use crate::behaviour::Outcome;
use crate::challenge;
use crate::challenge::policy::{ChallengeRequest, Preference};
use crate::limits::Admission;
use crate::limits::admission_queue::QueuePosition;
use fortify_store::record::ChallengeToken;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct IssueRequest<'a> {
    requirement: Requirement,
    entry: Entry,
    ticket: Option<&'a str>,
    preference: Preference,
    picture: bool,
    replaces: Option<&'a str>,
}

/// Where in its chain a challenge is asked for.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// By somebody whose wrong answers are not known.
    First,
    /// After a wrong answer, which brought no wait. It counts and may queue like a first one.
    Retry,
    /// After a right answer that was not the last of its chain: it neither counts nor queues.
    Next(Progress),
}

/// A challenge, and where in its chain it is.
#[derive(Debug)]
pub struct Issued {
    /// The challenge.
    pub challenge: challenge::Issued,
    /// Its picture, where it was asked for.
    pub media: Option<Media>,
    /// Which of the chain's challenges it is, from 1 on.
    pub stage: u8,
    /// How many the chain has.
    pub stages: u8,
}

/// What became of asking for a challenge.
#[derive(Debug)]
pub enum Issue {
    /// Here it is.
    Issued(Box<Issued>),
    /// Not now.
    Wait(Wait),
}

/// Why there is no challenge now, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For this long, after too many wrong answers.
    Failures(Duration),
    /// For this long, after as many challenges as one circuit may ask for.
    TooMany(Duration),
    /// In the queue, at this place, by this ticket.
    Queued(QueuePosition, Ticket),
    /// Until there is room in the queue.
    QueueFull,
}

impl<'a> IssueRequest<'a> {
    /// A first challenge by `requirement`, with its picture, of any kind.
    #[must_use]
    pub const fn first(requirement: Requirement) -> Self {
        Self::at(Entry::First, requirement)
    }

    /// Another one after a wrong answer.
    pub(super) const fn retry(requirement: Requirement) -> Self {
        Self::at(Entry::Retry, requirement)
    }

    /// The next one of a chain.
    pub(super) const fn next(requirement: Requirement, progress: Progress) -> Self {
        Self::at(Entry::Next(progress), requirement)
    }

    /// By the ticket of a place in the queue, whatever that is: one that is not good any more asks like
    /// anybody without.
    #[must_use]
    pub const fn with_ticket(self, ticket: Option<&'a str>) -> Self {
        Self { ticket, ..self }
    }

    /// Of the kind of picture that the visitor wishes for.
    #[must_use]
    pub const fn with_wish(self, preference: Preference) -> Self {
        Self { preference, ..self }
    }

    /// In place of a challenge that the visitor gives back unanswered, whatever that is.
    #[must_use]
    pub const fn in_place_of(self, token: &'a str) -> Self {
        Self { replaces: Some(token), ..self }
    }

    /// Without its picture, which is fetched later, and so of any kind.
    #[must_use]
    pub const fn without_picture(self) -> Self {
        Self { picture: false, preference: Preference::Any, ..self }
    }

    /// The kind of picture that is wished for.
    #[must_use]
    pub const fn preference(&self) -> Preference {
        self.preference
    }

    const fn at(entry: Entry, requirement: Requirement) -> Self {
        Self {
            requirement,
            entry,
            ticket: None,
            preference: Preference::Any,
            picture: true,
            replaces: None,
        }
    }
}

impl Engine {
    /// A challenge for `client`, if it may have one now.
    ///
    /// # Errors
    ///
    /// Faults of this side.
    pub async fn issue(
        &self,
        client: &Client,
        request: IssueRequest<'_>,
    ) -> Result<Issue, EngineError> {
        if let Some(wait) = self.wait_before(client, &request).await? {
            return Ok(Issue::Wait(wait));
        }
        if let Some(token) = request.replaces {
            self.challenges.discard(token).await?;
        }
        let progress = match request.entry {
            Entry::Next(progress) => progress,
            Entry::First | Entry::Retry => self.progress(client).await?,
        };
        let Requirement { stages, harder } = request.requirement;
        let stage = progress.passed.saturating_add(1).min(stages);
        let order = ChallengeRequest { preference: request.preference, harder };
        let (challenge, media) = self.render_now(client, order, request.picture).await?;
        Ok(Issue::Issued(Box::new(Issued { challenge, media, stage, stages })))
    }

    /// The picture of a challenge that was issued to `client`, the same bytes each time; `None` for any
    /// other token.
    ///
    /// # Errors
    ///
    /// A picture that was fetched too often; faults of this side.
    pub async fn picture(
        &self,
        client: &Client,
        token: &ChallengeToken,
    ) -> Result<Option<Media>, EngineError> {
        Ok(self.challenges.picture(token, client.tag).await?)
    }

    /// How far `client` has got in its chain.
    pub(super) async fn progress(&self, client: &Client) -> Result<Progress, EngineError> {
        let stages = &client.credentials.stages;
        let progress = Progress::read(stages, client.tag, &self.keys, &*self.clock, &*self.store);
        Ok(progress.await?)
    }

    /// Why `client` has to wait, if it does. Whoever comes by a ticket was counted when it got that, and
    /// waits for wrong answers once it is called; whoever waits for wrong answers takes no place meanwhile.
    async fn wait_before(
        &self,
        client: &Client,
        request: &IssueRequest<'_>,
    ) -> Result<Option<Wait>, EngineError> {
        let called = match request.entry {
            Entry::Next(_) => return Ok(None),
            Entry::Retry => return self.queue(client).await,
            Entry::First => request.ticket.and_then(|ticket| self.call(client, ticket)),
        };
        if let Some(turn) = called.filter(|turn| *turn != Admission::Now) {
            return self.wait_of(turn, client);
        }
        if let Some(wait) = self.challenges.wait(client.tag).await? {
            return Ok(Some(Wait::Failures(wait)));
        }
        if called.is_some() { Ok(None) } else { self.queue(client).await }
    }

    /// Counts that `client` asks, and gives it a place where others come first.
    async fn queue(&self, client: &Client) -> Result<Option<Wait>, EngineError> {
        let trusted = client.tor().is_some_and(|circuit| self.is_trusted(circuit));
        let per_hour = self.threat.policy().challenges_per_hour;
        let turn = self.limits.request_slot(client.tag, trusted, per_hour).await?;
        self.wait_of(turn, client)
    }

    /// Whether the holder of `ticket` is called; `None` for a ticket that is not good.
    fn call(&self, client: &Client, ticket: &str) -> Option<Admission> {
        let queue = self.limits.queue_id();
        let held = Ticket::open(ticket, client.tag, queue, &self.keys, &*self.clock);
        held.and_then(|(priority, number)| self.limits.redeem(priority, number))
    }

    fn wait_of(&self, turn: Admission, client: &Client) -> Result<Option<Wait>, EngineError> {
        Ok(match turn {
            Admission::Now => None,
            Admission::TooMany(wait) => Some(Wait::TooMany(wait)),
            Admission::Full => Some(Wait::QueueFull),
            Admission::Wait(place) => {
                let queue = self.limits.queue_id();
                let ticket = Ticket::seal(place, client.tag, queue, &self.keys, &*self.clock)?;
                Some(Wait::Queued(place, ticket))
            }
        })
    }

    async fn render_now(
        &self,
        client: &Client,
        order: ChallengeRequest,
        picture: bool,
    ) -> Result<(challenge::Issued, Option<Media>), EngineError> {
        let issued = if picture {
            let started = Instant::now();
            let (issued, media) = self.challenges.issue_with_picture(client.tag, order).await?;
            self.threat.signals().rendered(started.elapsed());
            (issued, Some(media))
        } else {
            (self.challenges.issue(client.tag, order).await?, None)
        };
        self.threat.signals().issued(client.tag);
        client.record(Outcome::Challenged);
        Ok(issued)
    }
}

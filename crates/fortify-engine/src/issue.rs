//! The verb `issue`: gives a client a challenge, or says how long it has to wait for one.

use std::fmt;
use std::time::Duration;

use fortify_captcha::Media;
use tokio::time::Instant;

use super::chain::Progress;
use super::client::Client;
use super::decision::{Requirement, Trust};
use super::ticket::Ticket;
use super::{Engine, EngineError};
use crate::behaviour::Outcome;
use crate::challenge::policy::{ChallengeRequest, Preference};
use crate::challenge::{self, Challenges, Live};
use crate::limits::Admission;
use crate::limits::admission_queue::{QueuePosition, TicketNumber};
use fortify_store::record::{ChallengeToken, Place};

/// How long somebody waits at most who gave no answer within `reputation.forget_seconds`.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// From this wrong answer on, tasks are of a kind that is hard for bots: the requirement's "after 2 failures".
const HARD_AFTER: u32 = 2;

/// A request for a challenge.
#[derive(Clone, Copy)]
pub struct IssueRequest<'a> {
    requirement: Requirement,
    entry: Entry,
    ticket: Option<&'a str>,
    preference: Preference,
    picture: bool,
    replaces: Option<&'a str>,
}

/// Without the ticket and the token that it replaces, which belong into no log.
impl fmt::Debug for IssueRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("IssueRequest");
        shown.field("requirement", &self.requirement).finish_non_exhaustive()
    }
}

/// The point of a chain at which a challenge is requested.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// At the start of a visit; earlier wrong answers may require a wait.
    First,
    /// After a wrong answer that required no wait. It counts against the limits and may queue, as a first one does.
    Retry,
    /// After a right answer that was not the last of its chain. It neither counts against the limits nor queues.
    Next(Progress),
    /// After the same right answer again. If the next challenge is gone by now, another one counts, as a first one does.
    Again(Progress),
}

/// A challenge and its place in the chain.
#[derive(Debug)]
pub struct Issued {
    /// The challenge.
    pub challenge: challenge::Issued,
    /// Its picture, if requested.
    pub media: Option<Media>,
    /// The stage of the chain, from 1.
    pub stage: u8,
    /// The number of stages in the chain.
    pub stages: u8,
    /// The circuit's wrong answers.
    pub tries: Tries,
}

/// Wrong answers, as the visitor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How many count.
    pub wrong: u32,
    /// How long the next one makes the circuit wait.
    pub next: Duration,
}

/// The result of requesting a challenge.
#[derive(Debug)]
pub enum Issue {
    /// The challenge.
    Issued(Box<Issued>),
    /// The client has to wait.
    Wait(Wait),
}

/// The reason why there is no challenge now, and how long to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Too many wrong answers; wait this long.
    Failures(Duration),
    /// The circuit has requested as many challenges as it may; wait this long.
    TooMany(Duration),
    /// The client has this place in the queue, and this ticket for it.
    Queued(QueuePosition, Ticket),
}

impl<'a> IssueRequest<'a> {
    /// Requests a first challenge for `requirement`, with a picture of any kind.
    #[must_use]
    pub const fn first(requirement: Requirement) -> Self {
        Self::at(Entry::First, requirement)
    }

    /// Requests another challenge after a wrong answer.
    pub(super) const fn retry(requirement: Requirement) -> Self {
        Self::at(Entry::Retry, requirement)
    }

    /// Requests the next challenge of a chain.
    pub(super) const fn next(requirement: Requirement, progress: Progress) -> Self {
        Self::at(Entry::Next(progress), requirement)
    }

    /// Requests the next challenge of a chain after the same right answer again.
    pub(super) const fn again(requirement: Requirement, progress: Progress) -> Self {
        Self::at(Entry::Again(progress), requirement)
    }

    /// Presents the ticket of a place in the queue. An invalid or expired ticket counts as none.
    #[must_use]
    pub const fn with_ticket(self, ticket: Option<&'a str>) -> Self {
        Self { ticket, ..self }
    }

    /// Sets the kind of picture that the visitor prefers.
    #[must_use]
    pub const fn with_preference(self, preference: Preference) -> Self {
        Self { preference, ..self }
    }

    /// Asks for another challenge in place of `token`, which the visitor did not answer. Any text is accepted; if it is
    /// not the circuit's challenge by now, the one that is there is shown, because another one was asked for already.
    #[must_use]
    pub const fn in_place_of(self, token: &'a str) -> Self {
        Self { replaces: Some(token), ..self }
    }

    /// Requests no picture, because it is fetched later.
    #[must_use]
    pub const fn without_picture(self) -> Self {
        Self { picture: false, ..self }
    }

    /// Whether it is for the next challenge of a chain.
    #[must_use]
    pub const fn continues(&self) -> bool {
        matches!(self.entry, Entry::Next(_) | Entry::Again(_))
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
    /// Gives `client` a challenge, unless it has to wait: the one that its circuit has, with the same picture, which counts
    /// for nothing, or a new one, which counts against its limits.
    ///
    /// # Errors
    ///
    /// Fails if the store, the keys or the renderer fail.
    pub async fn issue(
        &self,
        client: &Client,
        request: IssueRequest<'_>,
    ) -> Result<Issue, EngineError> {
        let signals = self.threat.signals();
        signals.asked(client.tag);
        let progress = match request.entry {
            Entry::Next(progress) | Entry::Again(progress) => progress,
            Entry::First | Entry::Retry => self.progress(client).await?,
        };
        let Requirement { stages, harder } = request.requirement;
        let stage = progress.passed.saturating_add(1).min(stages);
        let failures = self.store.failures(client.tag).await?;
        let wait = self.challenges.wait_after(failures);
        let tries =
            Tries { wrong: failures.count, next: self.challenges.wait_of(failures.count + 1) };
        let found = |(challenge, media)| {
            Issue::Issued(Box::new(Issued { challenge, media, stage, stages, tries }))
        };

        // Of the tabs of a circuit one at a time finds out whether there is a challenge to show.
        let shared = client.tor().is_none();
        let turn = if shared { None } else { Some(self.challenges.turn(client.tag).await) };
        let live = match (shared, request.replaces.or(client.credentials.challenge.as_deref())) {
            (false, _) => self.challenges.newest(client.tag).await?,
            (true, Some(token)) => self.challenges.own(client.tag, token).await?,
            (true, None) => None,
        };
        // Whoever waits in line for another picture asks for it again with the ticket.
        let ticket = request.ticket.and_then(|ticket| self.open_ticket(client, ticket));
        let called = match ticket {
            Some((number, Some(wish))) => self.limits.redeem(number).map(|called| (called, wish)),
            _ => None,
        };
        let replaces = live.as_ref().is_some_and(|live| {
            called.is_some() || request.replaces.is_some_and(|token| live.is(token))
        });
        let wished = called.map_or(request.preference, |(_, wish)| wish);
        // A wish is good for a challenge that is there, and another one is drawn for it.
        let preference = match (&live, wished) {
            (Some(live), Preference::Any) if replaces => live.wish(),
            (_, wish) if replaces || request.replaces.is_none() => wish,
            _ => Preference::Any,
        };
        let hard_task = failures.count >= HARD_AFTER;
        let details = ChallengeRequest { preference, harder, hard_task };
        let serves = |live: &Live| !replaces && self.challenges.serves(live, details);
        let live = match live {
            Some(live) if wait.is_none() && serves(&live) => {
                drop(turn);
                return Ok(found(self.challenges.show(live, request.picture).await?));
            }
            live => live,
        };
        let called = match (called, ticket) {
            (Some((called, _)), _) => Some(called),
            (None, Some((number, None))) => self.limits.redeem(number),
            (None, _) => None,
        };
        let wish = replaces.then_some(preference);
        let waits = self.wait_before(client, request.entry, called, wait, wish).await?;
        signals.queued(self.limits.waiting());
        if let Some(wait) = waits {
            signals.refused(client.tag);
            return Ok(Issue::Wait(wait));
        }
        let place = Challenges::place(live.as_ref(), replaces, shared);
        Ok(found(self.draw(client, details, request.picture, place).await?))
    }

    /// Draws the picture of a challenge that was issued to `client`, with the same bytes each time. Returns
    /// `None` for any other token.
    ///
    /// # Errors
    ///
    /// Fails if the picture was fetched too often, or if the store or the renderer fail.
    pub async fn picture(
        &self,
        client: &Client,
        token: &ChallengeToken,
    ) -> Result<Option<Media>, EngineError> {
        Ok(self.challenges.picture(token, client.tag).await?)
    }

    /// The progress of `client` in its chain.
    pub(super) async fn progress(&self, client: &Client) -> Result<Progress, EngineError> {
        let (stages, level) = (&client.credentials.stages, self.threat.level().get());
        let (keys, clock, store) = (&self.keys, &*self.clock, &*self.store);
        Ok(Progress::read(stages, client.tag, keys, clock, store, level).await?)
    }

    /// The wait of `client` before a new challenge, if any; `failures` is the one for wrong answers, and `wish` the kind
    /// of another picture that it asks for. A client that was `called` was counted when it got its ticket, and its wait
    /// for wrong answers applies once it is called. A client that waits for wrong answers takes no place in the queue.
    async fn wait_before(
        &self,
        client: &Client,
        entry: Entry,
        called: Option<Admission>,
        failures: Option<Duration>,
        wish: Option<Preference>,
    ) -> Result<Option<Wait>, EngineError> {
        match entry {
            Entry::Next(_) => return Ok(None),
            Entry::Retry => return self.queue(client, wish).await,
            Entry::First | Entry::Again(_) => {}
        }
        let is_called = called.is_some();
        if let Some(admission) = called.filter(|admission| *admission != Admission::Now) {
            return self.wait_of(admission, client, wish);
        }
        if let Some(wait) = failures {
            return Ok(Some(Wait::Failures(wait)));
        }
        if is_called { Ok(None) } else { self.queue(client, wish).await }
    }

    /// Counts the request against the limits of `client`, and enters it into the queue if necessary.
    async fn queue(
        &self,
        client: &Client,
        wish: Option<Preference>,
    ) -> Result<Option<Wait>, EngineError> {
        let trust = self.trust_in(client.tor(), client.tag).await?;
        let trusted = matches!(trust, Trust::For(_));
        let per_hour = self.threat.policy().challenges_per_hour;
        let admission = self
            .limits
            .request_slot(client.tag, trusted, per_hour, self.longest_wait(client))
            .await?;
        self.wait_of(admission, client, wish)
    }

    /// How long `client` waits at most for a challenge because it had many. Somebody who gave no wrong answer lately, and no
    /// right one that earned a session, is more likely to be a person with a slow circuit than a program, and costs a
    /// picture in five minutes.
    fn longest_wait(&self, client: &Client) -> Option<Duration> {
        self.answer_histories.get(client.tag).is_none().then_some(LONGEST_WAIT)
    }

    /// The number on `ticket` and the wish on it; `None` if it is invalid.
    fn open_ticket(
        &self,
        client: &Client,
        ticket: &str,
    ) -> Option<(TicketNumber, Option<Preference>)> {
        Ticket::open(ticket, client.tag, self.limits.queue_id(), &self.keys, &*self.clock)
    }

    fn wait_of(
        &self,
        admission: Admission,
        client: &Client,
        wish: Option<Preference>,
    ) -> Result<Option<Wait>, EngineError> {
        Ok(match admission {
            Admission::Now => None,
            Admission::TooMany(wait) => Some(Wait::TooMany(wait)),
            Admission::Wait(place) => {
                let queue = self.limits.queue_id();
                let ticket =
                    Ticket::seal(place, wish, client.tag, queue, &self.keys, &*self.clock)?;
                Some(Wait::Queued(place, ticket))
            }
        })
    }

    /// Draws a challenge for `client`, or shows the one that another node gave it meanwhile.
    async fn draw(
        &self,
        client: &Client,
        order: ChallengeRequest,
        picture: bool,
        place: Place<'_>,
    ) -> Result<(challenge::Issued, Option<Media>), EngineError> {
        let started = Instant::now();
        let shown = match self.challenges.issue(client.tag, order, picture, place).await? {
            Ok(shown) => shown,
            Err(other) => return Ok(self.challenges.show(other, picture).await?),
        };
        if picture {
            self.threat.signals().rendered(started.elapsed());
        }
        self.threat.signals().issued(client.tag);
        client.record(Outcome::Challenged);
        Ok(shown)
    }
}

//! The queue for challenges when more are requested than the service may issue; pure.
//!
//! Requests queue instead of failing, because with a limit that refuses, an attacker could shut people out.
//!
//! - **Lanes have shares.** Requests are sorted into [`Lane`]s. While several lanes wait, each gets its share
//!   (start-time fair queuing), and circuits that ask for their first challenges at least half; what a lane does not
//!   use goes to the others.
//! - **A place is taken up, not reserved.** A ticket becomes a place when its page refreshes for the first time, so
//!   circuits that ask once take none. A place is called only while its page keeps refreshing, and passes on when
//!   two refreshes are missed. How many called places are taken up is learned, and as many more are called.
//! - **A long lane is served from its end.** In order of arrival, everybody would wait as long as the whole flood
//!   takes. With the newest first, those who come later are in at once, and one call in `OLDEST` still goes to
//!   the one that waits longest.
//! - **A full lane is a draw**, see [`fortify_core::draw`].
//!
//! Visitors keep their numbers in signed tickets.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use fortify_core::allowance::{Allowance, Rate};
use fortify_core::clock::Timestamp;
use fortify_core::draw::{Draw, INTERVAL};

/// The times between which a waiting page refreshes: often enough to be there when it is called, and no more often
/// than a page over Tor takes. The longest is that of a draw.
const REFRESH: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(INTERVAL));

/// What a slow circuit needs in addition to the two refreshes within which a place has to be taken up: their round
/// trips, of 2 s each.
const ROUND_TRIPS: Duration = Duration::from_secs(4);

/// How long used numbers are remembered: longer than any ticket is valid, the skew of clocks included.
const USED: u64 = 180_000;

/// How often absent places are removed, in ms.
const SWEEP: u64 = 250;

/// A lane is long if its waiting places take longer than this, in ms. Then the newest are called first.
const LONG: u64 = 10_000;

/// One call in this many of a long lane goes to the place that waits longest.
const OLDEST: u64 = 16;

/// How far ahead places are called, in ms: the shortest refresh, until which a called place is not taken up.
const AHEAD: u64 = 3_000;

/// The places of a lane: what is issued in five minutes, within these bounds. Beyond, places are drawn for.
const MINUTES: u32 = 5;
const PLACES: (usize, usize) = (64, 16_384);

/// The unit of [`AdmissionQueue::turnout`], and its least value: 16 places are called for each challenge.
const ALL: u64 = 1024;
const LEAST_TURNOUT: u64 = ALL / 16;

/// The weight of one event in the turnout: 1 in 32.
const LEARN: u64 = 32;

/// The time that a lane of weight 1 is charged for a call.
const CHARGE: u64 = 60;

/// The lane of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Circuits that ask for their first challenge in an hour.
    First,
    /// Circuits that asked for two or three, for example after a slip.
    Few,
    /// Circuits that recently solved a challenge.
    Trusted,
    /// All others.
    Repeat,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 4] = [Self::First, Self::Few, Self::Trusted, Self::Repeat];

    /// The lane of a circuit with `recent` requests in the last hour, this one included.
    #[must_use]
    pub const fn of(trusted: bool, recent: u32) -> Self {
        match recent {
            _ if trusted => Self::Trusted,
            ..=1 => Self::First,
            2..=3 => Self::Few,
            _ => Self::Repeat,
        }
    }

    /// The index in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> u8 {
        match self {
            Self::First => 0,
            Self::Few => 1,
            Self::Trusted => 2,
            Self::Repeat => 3,
        }
    }

    /// The lane at this index.
    #[must_use]
    pub fn at(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// The weight of its share. `First` and `Few` are the newcomers; either alone weighs as much as `Trusted` and
    /// `Repeat` together.
    const fn weight(self) -> u64 {
        match self {
            Self::First => 8,
            Self::Few => 2,
            Self::Trusted | Self::Repeat => 1,
        }
    }
}

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketNumber {
    /// The lane.
    pub lane: Lane,
    /// The number.
    pub number: u64,
    /// The draw in which it took part last; 0 if in none.
    pub draw: u64,
}

/// A place in the queue, as its visitor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePosition {
    /// What its ticket says.
    pub ticket: TicketNumber,
    /// The places of its lane that are called before it, if nobody joins.
    pub ahead: u64,
    /// The estimated wait.
    pub estimate: Duration,
    /// When its page refreshes.
    pub refresh: Duration,
    /// In a draw: one in this many wins a place.
    pub odds: Option<u64>,
}

impl QueuePosition {
    /// How long its ticket is valid: two refreshes and their round trips.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        self.refresh * 2 + ROUND_TRIPS
    }
}

/// The result of redeeming a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOutcome {
    /// A challenge may be issued now.
    Admitted,
    /// The visitor waits.
    Wait(QueuePosition),
    /// The number was already used, or never issued.
    Expired,
}

/// The state of the queue.
#[derive(Debug)]
pub struct AdmissionQueue {
    allowance: Allowance,
    at: Timestamp,
    /// The time since the start, in ms. It advances by at most a minute at a time, whatever happens to the clock.
    age: u64,
    swept: u64,
    lines: [Line; Lane::ALL.len()],
    /// Where the numbers are that have a place or had one.
    numbers: HashMap<u64, Spot>,
    /// The called numbers, and when they pass on.
    called: BTreeMap<u64, u64>,
    /// The used numbers, and when they are forgotten.
    used: VecDeque<(u64, u64)>,
    issued: u64,
    /// The share of called places that are taken up, in units of 1 / [`ALL`].
    turnout: u64,
    /// The start of the last call, for start-time fair queuing.
    virtual_time: u64,
}

#[derive(Clone, Copy, Debug)]
enum Spot {
    /// It waits in this lane, at this place in the order.
    Waiting(Lane, u64),
    Called,
    Used,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    order: u64,
    number: u64,
    /// When it passes on, unless its page refreshes.
    until: u64,
}

/// The places of one lane.
#[derive(Debug)]
struct Line {
    /// In the order in which they were taken.
    waiting: Vec<Place>,
    placed: u64,
    calls: u64,
    /// The end of its last call, for start-time fair queuing.
    finish: u64,
    draw: Draw,
}

impl Line {
    const fn new(key: u64, places: usize) -> Self {
        let draw = Draw::new(key, places / 2);
        Self { waiting: Vec::new(), placed: 0, calls: 0, finish: 0, draw }
    }

    fn find(&self, order: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&order, |place| place.order).ok()
    }

    fn push(&mut self, number: u64, until: u64) -> u64 {
        self.placed += 1;
        self.waiting.push(Place { order: self.placed, number, until });
        self.placed
    }

    /// Removes the place to call next, if a page of this lane is there.
    fn call(&mut self, long: bool, age: u64) -> Option<Place> {
        let present = |place: &Place| place.until > age;
        let oldest = !long || (self.calls + 1).is_multiple_of(OLDEST);
        let index = match oldest {
            true => self.waiting.iter().position(present),
            false => self.waiting.iter().rposition(present),
        };
        let place = self.waiting.remove(index?);
        self.calls += 1;
        Some(place)
    }
}

impl AdmissionQueue {
    /// Creates a queue that admits at `rate`. `key` is random and secret: it decides who wins a draw.
    #[must_use]
    pub fn new(rate: Rate, key: u64, now: Timestamp) -> Self {
        let places = places(rate);
        let lines = Lane::ALL.map(|lane| Line::new(key ^ u64::from(lane.index()), places));
        Self {
            allowance: Allowance::new(rate),
            at: now,
            age: 0,
            swept: 0,
            lines,
            numbers: HashMap::new(),
            called: BTreeMap::new(),
            used: VecDeque::new(),
            issued: 0,
            turnout: ALL,
            virtual_time: 0,
        }
    }

    /// Changes the rate.
    pub fn set_rate(&mut self, rate: Rate, now: Timestamp) {
        self.advance(now);
        self.allowance.set_rate(rate);
        let places = places(rate);
        for line in &mut self.lines {
            line.draw.set_most(places / 2);
        }
    }

    /// Enters the queue: `None` if a challenge may be issued at once because nobody waits, otherwise a ticket.
    pub fn enter(&mut self, lane: Lane, now: Timestamp) -> Option<QueuePosition> {
        self.advance(now);
        if self.waiting() == 0 && self.has_spare(0) && self.allowance.take() {
            return None;
        }
        self.issued += 1;
        let ticket = TicketNumber { lane, number: self.issued, draw: 0 };
        Some(self.first_position(ticket))
    }

    /// Redeems a ticket, which is valid for [`QueuePosition::valid_for`] from when its place was last looked at.
    pub fn redeem(&mut self, ticket: TicketNumber, now: Timestamp) -> QueueOutcome {
        self.advance(now);
        let number = ticket.number;
        if number == 0 || number > self.issued {
            return QueueOutcome::Expired;
        }
        if !self.numbers.contains_key(&number) {
            if !self.place(ticket) {
                return QueueOutcome::Wait(self.lottery(ticket));
            }
            self.call();
        }
        match self.numbers.get(&number).copied() {
            Some(Spot::Called) => self.take_up(ticket),
            Some(Spot::Waiting(lane, order)) => {
                let ticket = TicketNumber { lane, draw: 0, ..ticket };
                let position = self.position(ticket, order);
                let until = self.until(&position);
                let line = self.line(lane);
                if let Some(place) = line.find(order).and_then(|i| line.waiting.get_mut(i)) {
                    place.until = until;
                }
                QueueOutcome::Wait(position)
            }
            Some(Spot::Used) | None => QueueOutcome::Expired,
        }
    }

    /// The number of places that wait at `now`, without those whose pages stopped refreshing.
    pub fn waiting_at(&mut self, now: Timestamp) -> u64 {
        self.advance(now);
        self.waiting()
    }

    /// The number of places that waited at the last call.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lines.iter().map(|line| line.waiting.len() as u64).sum()
    }

    /// A called number is taken up. If more came than were expected, it stays the next.
    fn take_up(&mut self, ticket: TicketNumber) -> QueueOutcome {
        let number = ticket.number;
        if self.allowance.take() {
            self.called.remove(&number);
            self.numbers.insert(number, Spot::Used);
            self.used.push_back((self.age + USED, number));
            self.turnout += (ALL - self.turnout).div_ceil(LEARN);
            return QueueOutcome::Admitted;
        }
        let (least, _) = REFRESH;
        let position =
            QueuePosition { ticket, ahead: 0, estimate: least, refresh: least, odds: None };
        self.called.insert(number, self.until(&position));
        QueueOutcome::Wait(position)
    }

    /// Gives a ticket its place, unless the lane is full and it won none.
    fn place(&mut self, ticket: TicketNumber) -> bool {
        let (places, age) = (places(self.allowance.rate()), self.age);
        let (least, _) = REFRESH;
        let until = age + ms(least * 2 + ROUND_TRIPS);
        let line = self.line(ticket.lane);
        if line.waiting.len() >= places {
            line.draw.begin();
        } else if line.waiting.len() < places / 2 {
            line.draw.end();
        }
        if line.draw.is_on() && !line.draw.has_won(ticket.draw, ticket.number) {
            return false;
        }
        // Winners of several draws may come together.
        if line.waiting.len() >= places * 2 {
            return false;
        }
        let order = line.push(ticket.number, until);
        self.numbers.insert(ticket.number, Spot::Waiting(ticket.lane, order));
        true
    }

    /// Takes part in the current draw.
    fn lottery(&mut self, ticket: TicketNumber) -> QueuePosition {
        let calls = self.rate_of(ticket.lane) * INTERVAL / 60_000;
        let line = self.line(ticket.lane);
        let draw = line.draw.enter(ticket.number);
        let odds = line.draw.odds(calls);
        let (_, most) = REFRESH;
        let estimate = most * u32::try_from(odds).unwrap_or(u32::MAX);
        let ticket = TicketNumber { draw, ..ticket };
        let ahead = line.waiting.len() as u64;
        QueuePosition { ticket, ahead, estimate, refresh: most, odds: Some(odds) }
    }

    /// Where a ticket stands that has no place yet: its page has to refresh once.
    fn first_position(&self, ticket: TicketNumber) -> QueuePosition {
        let (refresh, _) = REFRESH;
        QueuePosition { refresh, ..self.position(ticket, u64::MAX) }
    }

    /// Earns credit, lets absent places pass on, and calls the next.
    fn advance(&mut self, now: Timestamp) {
        let passed = ms(self.at.until(now)).min(61_000);
        self.at = now;
        self.age += passed;
        self.allowance.advance(passed);
        if self.age >= self.swept + SWEEP {
            self.swept = self.age;
            self.sweep();
        }
        self.call();
    }

    fn sweep(&mut self) {
        let (age, places) = (self.age, places(self.allowance.rate()));
        let (numbers, turnout) = (&mut self.numbers, &mut self.turnout);
        for line in &mut self.lines {
            line.waiting.retain(|place| {
                let present = place.until > age;
                if !present {
                    numbers.remove(&place.number);
                }
                present
            });
            line.draw.advance(age, places.saturating_sub(line.waiting.len()));
        }
        self.called.retain(|number, until| {
            let present = *until > age;
            if !present {
                numbers.remove(number);
                *turnout = (*turnout - *turnout / LEARN).max(LEAST_TURNOUT);
            }
            present
        });
        while self.used.front().is_some_and(|(until, _)| *until <= age) {
            if let Some((_, number)) = self.used.pop_front() {
                numbers.remove(&number);
            }
        }
    }

    /// Whether more challenges than called places will take up are available, or will be in `soon` ms.
    fn has_spare(&self, soon: u64) -> bool {
        let expected = (self.called.len() as u64 * self.turnout).div_ceil(ALL);
        self.allowance.available() + self.allowance.per_minute() * soon / 60_000 > expected
    }

    /// Calls as many places as there will be challenges when their pages refresh.
    fn call(&mut self) {
        while self.has_spare(AHEAD) && self.call_one() {}
    }

    /// Calls the next place, and returns whether there was one.
    fn call_one(&mut self) -> bool {
        let (age, now) = (self.age, self.virtual_time);
        let mut lanes = Lane::ALL.map(|lane| (self.line(lane).finish.max(now), lane));
        lanes.sort_by_key(|(start, _)| *start);
        for (start, lane) in lanes {
            let long = self.is_long(lane);
            let until = age + ms(REFRESH.1 * 2 + ROUND_TRIPS);
            let line = self.line(lane);
            let Some(place) = line.call(long, age) else { continue };
            line.finish = start + CHARGE / lane.weight();
            self.virtual_time = start;
            // It is there until its page misses the refreshes that it was told.
            self.called.insert(place.number, place.until.min(until));
            self.numbers.insert(place.number, Spot::Called);
            return true;
        }
        false
    }

    /// Whether the newest of `lane` are called first.
    fn is_long(&self, lane: Lane) -> bool {
        let waiting = self.lines.get(usize::from(lane.index())).map_or(0, |l| l.waiting.len());
        waiting as u64 * 60_000 > self.rate_of(lane) * LONG
    }

    /// The calls that `lane` gets in a minute while the lanes that wait now do so.
    fn rate_of(&self, lane: Lane) -> u64 {
        let waits = |other: &Lane| {
            *other == lane
                || self.lines.get(usize::from(other.index())).is_some_and(|l| !l.waiting.is_empty())
        };
        let all: u64 = Lane::ALL.into_iter().filter(waits).map(Lane::weight).sum();
        (self.allowance.per_minute() * lane.weight() / all.max(1)).max(1)
    }

    /// Where a place of this order stands.
    fn position(&self, ticket: TicketNumber, order: u64) -> QueuePosition {
        let rate = self.rate_of(ticket.lane);
        let long = self.is_long(ticket.lane);
        let (older, newer) = self.lines.get(usize::from(ticket.lane.index())).map_or((0, 0), |l| {
            let older = l.waiting.partition_point(|place| place.order < order);
            let newer = l.waiting.len() - l.waiting.partition_point(|place| place.order <= order);
            (older as u64, newer as u64)
        });
        let ahead = if long { newer } else { older };
        let after =
            |ahead: u64, rate: u64| Duration::from_millis((ahead + 1) * 60_000 / rate.max(1));
        let mut estimate = after(ahead, rate);
        if long {
            estimate = estimate.min(after(older, rate / OLDEST));
        }
        let (least, most) = REFRESH;
        QueuePosition { ticket, ahead, estimate, refresh: estimate.clamp(least, most), odds: None }
    }

    fn until(&self, position: &QueuePosition) -> u64 {
        self.age + ms(position.valid_for())
    }

    fn line(&mut self, lane: Lane) -> &mut Line {
        let [first, few, trusted, repeat] = &mut self.lines;
        match lane {
            Lane::First => first,
            Lane::Few => few,
            Lane::Trusted => trusted,
            Lane::Repeat => repeat,
        }
    }
}

/// The places of each lane.
fn places(rate: Rate) -> usize {
    let (least, most) = PLACES;
    (rate.per_minute.saturating_mul(MINUTES) as usize).clamp(least, most)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

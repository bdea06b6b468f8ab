//! Single rules of the queue, and crowds on simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use proptest::prelude::*;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const MINUTE: u64 = 60_000;
const RATE: Rate = Rate { per_minute: 1_000, per_second: 1_000 };

fn at(ms: u64) -> Timestamp {
    START.after(Duration::from_millis(ms))
}

/// Visitors and attackers on simulated time.
struct Crowd {
    queue: AdmissionQueue,
    now: u64,
    /// What happens when, and to whom.
    events: BinaryHeap<Reverse<(u64, u64)>>,
    visitors: Vec<Visitor>,
    /// When challenges were issued.
    issued: Vec<u64>,
}

struct Visitor {
    came: u64,
    /// The challenges that it asked for before.
    asks: u32,
    trusted: bool,
    ticket: Option<TicketNumber>,
    served: Option<u64>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Waits as its page says, and asks once.
    Person,
    /// Asks and never comes back.
    Once,
    /// Waits as its page says, and asks again after each challenge.
    Patient,
    /// Asks again every 6 s, without its ticket.
    Impatient,
    /// Takes a place and does not take it up.
    Vanishing,
}

impl Crowd {
    fn new() -> Self {
        let queue = AdmissionQueue::new(RATE, 42, START);
        Self { queue, now: 0, events: BinaryHeap::new(), visitors: Vec::new(), issued: Vec::new() }
    }

    fn come(&mut self, kind: Kind, came: u64) {
        let id = self.visitors.len() as u64;
        self.visitors.push(Visitor {
            came,
            asks: 0,
            trusted: false,
            ticket: None,
            served: None,
            kind,
        });
        self.events.push(Reverse((came, id)));
    }

    /// `count` of `kind`, evenly from `from` to `to`, in ms.
    fn crowd(&mut self, kind: Kind, count: u64, from: u64, to: u64) {
        for index in 0..count {
            self.come(kind, from + (to - from) * index / count);
        }
    }

    fn run(&mut self, until: u64) {
        while let Some(Reverse((when, id))) = self.events.peek().copied().filter(|e| e.0.0 < until)
        {
            self.events.pop();
            self.now = when;
            self.act(id);
        }
    }

    fn act(&mut self, id: u64) {
        let (now, visitor) = (self.now, &mut self.visitors[id as usize]);
        let outcome = match visitor.ticket.take() {
            Some(ticket) => self.queue.redeem(ticket, at(now)),
            None => {
                visitor.asks += 1;
                match self.queue.enter(Lane::of(visitor.trusted, visitor.asks), at(now)) {
                    Some(position) => QueueOutcome::Wait(position),
                    None => QueueOutcome::Admitted,
                }
            }
        };
        let mut next = None;
        match outcome {
            QueueOutcome::Admitted => {
                self.issued.push(now);
                visitor.served.get_or_insert(now);
                if matches!(visitor.kind, Kind::Patient | Kind::Impatient) {
                    next = Some(now + 1_000 + id % 1_000);
                }
            }
            QueueOutcome::Wait(position) => {
                // A round trip of 1 s.
                let refreshed = now + 1_000 + position.refresh.as_millis() as u64;
                match visitor.kind {
                    Kind::Once => {}
                    Kind::Impatient => next = Some(now + 6_000),
                    Kind::Vanishing if visitor.asks == 2 => {}
                    Kind::Vanishing => {
                        // Its first refresh is its last.
                        visitor.asks = 2;
                        visitor.ticket = Some(position.ticket);
                        next = Some(refreshed);
                    }
                    Kind::Person | Kind::Patient => {
                        visitor.ticket = Some(position.ticket);
                        next = Some(refreshed);
                    }
                }
            }
            QueueOutcome::Expired => next = Some(now + 1_000),
        }
        if let Some(next) = next {
            self.events.push(Reverse((next, id)));
        }
    }

    /// The share of the people who came between the two times and were served within `within`, in percent.
    fn served(&self, from: u64, to: u64, within: u64) -> f64 {
        let people = || {
            self.visitors
                .iter()
                .filter(move |v| v.kind == Kind::Person && (from..to).contains(&v.came))
        };
        let in_time = people().filter(|v| v.served.is_some_and(|at| at - v.came <= within)).count();
        100.0 * in_time as f64 / people().count() as f64
    }

    /// The challenges issued from `from` to `to`, in percent of the rate.
    fn used(&self, from: u64, to: u64) -> f64 {
        let issued = self.issued.iter().filter(|at| (from..to).contains(*at)).count();
        100.0 * issued as f64 / ((to - from) as f64 / 60.0)
    }
}

fn crowds(all: &[(Kind, u64, u64)], people: u64, until: u64) -> Crowd {
    let mut crowd = Crowd::new();
    for (kind, count, within) in all {
        crowd.crowd(*kind, *count, 0, *within);
    }
    crowd.crowd(Kind::Person, people, 0, until);
    crowd.run(until + MINUTE);
    crowd
}

#[test]
fn abuse_18_newcomers_are_in_at_once_beside_250_000_circuits_that_ask_once() {
    let crowd = crowds(&[(Kind::Once, 250_000, MINUTE)], 60, MINUTE);
    assert!(crowd.served(0, MINUTE, 15_000) >= 98.0);
    assert!(crowd.used(0, MINUTE) >= 95.0);
    assert!(crowd.queue.numbers.len() < 2_000, "they have no places");
}

#[test]
fn abuse_18_newcomers_are_in_within_a_minute_beside_five_times_the_rate_that_keeps_asking() {
    let crowd = crowds(&[(Kind::Patient, 4_900, 1_000)], 180, 3 * MINUTE);
    assert!(crowd.served(0, 3 * MINUTE, MINUTE) >= 98.0);
    assert!(crowd.used(0, 3 * MINUTE) >= 95.0);
    let wave = crowds(&[(Kind::Patient, 4_900, 20_000)], 240, 4 * MINUTE);
    assert!(wave.served(25_000, 4 * MINUTE, MINUTE) >= 98.0, "after the wave");
}

#[test]
fn abuse_18_circuits_that_keep_asking_without_their_tickets_take_nobodys_place() {
    let mut crowd = Crowd::new();
    crowd.crowd(Kind::Impatient, 2_000, 0, 6_000);
    for visitor in crowd.visitors.iter_mut().step_by(2) {
        visitor.trusted = true;
    }
    crowd.crowd(Kind::Person, 60, 0, MINUTE);
    crowd.run(2 * MINUTE);
    assert!(crowd.served(0, MINUTE, 15_000) >= 98.0);
    assert!(crowd.used(0, MINUTE) >= 95.0);
}

#[test]
fn abuse_18_places_that_are_not_taken_up_hold_no_capacity() {
    // 20 a second take a place and never come back: more than the rate.
    let crowd = crowds(
        &[(Kind::Vanishing, 3_600, 3 * MINUTE), (Kind::Person, 2_400, 3 * MINUTE)],
        180,
        3 * MINUTE,
    );
    assert!(crowd.served(0, 3 * MINUTE, MINUTE) >= 95.0);
    assert!(crowd.queue.turnout < ALL, "how many come is learned");
}

#[test]
fn beyond_five_times_the_rate_everybody_has_its_chance() {
    let crowd = crowds(&[(Kind::Patient, 12_000, 10_000)], 240, 4 * MINUTE);
    // A minute's challenges for so many that ask.
    let fair = 100.0 * 1_000.0 / 12_000.0;
    let served = crowd.served(30_000, 4 * MINUTE, MINUTE);
    assert!(served >= 0.9 * fair, "{served:.1} % of {fair:.1} %");
    assert!(crowd.used(0, 3 * MINUTE) >= 95.0);
}

#[test]
fn newcomers_are_in_at_once_when_the_flood_is_over() {
    let mut crowd = Crowd::new();
    crowd.crowd(Kind::Patient, 8_000, 0, 30_000);
    crowd.run(2 * MINUTE);
    // All of them leave.
    crowd.events.clear();
    crowd.crowd(Kind::Person, 120, 2 * MINUTE + 30_000, 3 * MINUTE);
    crowd.run(5 * MINUTE);
    assert!(crowd.served(2 * MINUTE, 4 * MINUTE, 15_000) >= 95.0);
    assert_eq!(crowd.queue.waiting(), 0);
    crowd.queue.advance(at(5 * MINUTE + USED));
    crowd.queue.advance(at(6 * MINUTE + USED));
    crowd.queue.advance(at(7 * MINUTE + USED));
    assert_eq!(crowd.queue.numbers.len(), 0, "nothing is kept");
}

/// A queue whose saved challenges are used up.
fn drained() -> AdmissionQueue {
    let mut queue = AdmissionQueue::new(RATE, 42, START);
    while queue.enter(Lane::First, START).is_none() {}
    queue
}

fn ticket(queue: &mut AdmissionQueue, lane: Lane, now: u64) -> TicketNumber {
    queue.enter(lane, at(now)).unwrap().ticket
}

fn waits(outcome: QueueOutcome) -> QueuePosition {
    match outcome {
        QueueOutcome::Wait(position) => position,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_number_is_good_for_one_challenge() {
    let mut queue = drained();
    let own = ticket(&mut queue, Lane::First, 0);
    let position = waits(queue.redeem(own, at(1)));
    assert_eq!(position.ahead, 0);
    assert_eq!(position.refresh, Duration::from_secs(3));
    assert_eq!(queue.redeem(own, at(3_000)), QueueOutcome::Admitted);
    for later in [3_000, 10_000, 60_000] {
        assert_eq!(queue.redeem(own, at(later)), QueueOutcome::Expired);
    }
    for number in [0, own.number + 1, u64::MAX] {
        let other = TicketNumber { number, ..own };
        assert_eq!(queue.redeem(other, at(60_000)), QueueOutcome::Expired, "never issued");
    }
}

#[test]
fn a_short_lane_is_served_in_order_and_nobody_passes_those_who_wait() {
    let mut queue = drained();
    let tickets: Vec<_> = (0..100).map(|_| ticket(&mut queue, Lane::First, 0)).collect();
    for (index, ticket) in tickets.iter().enumerate() {
        let ahead = waits(queue.redeem(*ticket, at(1))).ahead;
        // The first are called already.
        assert_eq!(ahead, (index as u64).saturating_sub(queue.called.len() as u64));
    }
    assert!(queue.enter(Lane::Trusted, at(2_000)).is_some(), "others wait");
    let mut order = Vec::new();
    for second in 1..=10 {
        for ticket in tickets.iter().filter(|t| !order.contains(&t.number)).collect::<Vec<_>>() {
            if queue.redeem(*ticket, at(second * 1_000)) == QueueOutcome::Admitted {
                order.push(ticket.number);
            }
        }
    }
    assert_eq!(order.len(), 100);
    let early = order.iter().take(50).filter(|number| **number <= tickets[69].number).count();
    assert_eq!(early, 50, "{order:?}");
}

#[test]
fn a_place_that_is_not_taken_up_within_two_refreshes_passes_on() {
    let mut queue = drained();
    let absent: Vec<_> = (0..60).map(|_| ticket(&mut queue, Lane::First, 0)).collect();
    for ticket in &absent {
        waits(queue.redeem(*ticket, at(1)));
    }
    let there = ticket(&mut queue, Lane::First, 1);
    waits(queue.redeem(there, at(2)));
    for ms in (1_000..9_000).step_by(1_000) {
        queue.redeem(there, at(ms));
    }
    assert_eq!(queue.redeem(there, at(9_000)), QueueOutcome::Expired, "it was served");
    queue.advance(at(10_500));
    assert_eq!((queue.waiting(), queue.called.len()), (0, 0));
    assert!(queue.turnout < ALL);
}

#[test]
fn a_full_lane_is_a_draw_that_tells_its_odds_and_displaces_nobody() {
    let mut queue = drained();
    let tickets: Vec<_> = (0..20_000).map(|_| ticket(&mut queue, Lane::First, 0)).collect();
    let outcomes: Vec<_> = tickets.iter().map(|t| waits(queue.redeem(*t, at(1)))).collect();
    let (placed, drawing): (Vec<&QueuePosition>, Vec<&QueuePosition>) =
        outcomes.iter().partition(|p| p.odds.is_none());
    assert!((5_000..5_100).contains(&placed.len()), "{}", placed.len());
    let last = drawing.last().unwrap();
    // A tenth of a minute's challenges for 15,000.
    assert!((100..200).contains(&last.odds.unwrap()), "{last:?}");
    assert_eq!(last.refresh, Duration::from_millis(INTERVAL));
    for position in &placed {
        queue.redeem(position.ticket, at(4_000));
    }
    // At the next refresh some won, about as many as places became free, and the others take part again.
    let now = INTERVAL + 1_000;
    let (before, free) = (queue.waiting(), 5_000 - queue.waiting());
    let again: Vec<_> = drawing.iter().map(|p| queue.redeem(p.ticket, at(now))).collect();
    let lost = again
        .iter()
        .filter(|o| matches!(o, QueueOutcome::Wait(QueuePosition { odds: Some(_), .. })));
    let won = again.len() - lost.count();
    assert!(won as u64 <= free + 150, "{won} of {free}");
    assert!(won >= 10 && queue.waiting() >= before, "{won}");
    // Tickets of the first draw win no later one.
    let old = drawing.iter().map(|p| queue.redeem(p.ticket, at(now + 5 * INTERVAL)));
    assert!(old.count() > 0);
    assert!(queue.waiting() <= 5_100);
}

#[test]
fn abuse_18_memory_is_flat_and_nobody_is_asked_to_wait_for_ever() {
    let mut queue = drained();
    for second in 0..20 {
        for _ in 0..5_000 {
            let ticket = ticket(&mut queue, Lane::Repeat, second * 1_000);
            if let QueueOutcome::Wait(position) = queue.redeem(ticket, at(second * 1_000)) {
                assert!(position.refresh <= Duration::from_millis(INTERVAL));
            }
        }
    }
    assert!(queue.numbers.len() < 7_000, "{}", queue.numbers.len());
    let newcomer = ticket(&mut queue, Lane::First, 20_000);
    assert_eq!(waits(queue.redeem(newcomer, at(20_000))).ahead, 0);
}

#[test]
fn a_clock_that_jumps_admits_no_more_than_the_rate() {
    let mut queue = drained();
    for jump in [START.after(Duration::from_hours(24)), START.before(Duration::from_hours(1))] {
        let admitted = (0..2_000).filter(|_| queue.enter(Lane::First, jump).is_none()).count();
        assert!(admitted <= 353, "{admitted}");
    }
}

#[test]
fn a_new_rate_takes_effect() {
    let mut queue = drained();
    queue.set_rate(Rate { per_minute: 60_000, per_second: 60_000 }, START);
    let admitted = (0..2_000).filter(|_| queue.enter(Lane::First, at(1_000)).is_none()).count();
    assert!(admitted > 600, "{admitted}");
}

proptest! {
    #[test]
    fn newcomers_get_at_least_half_and_every_lane_its_share_for_any_order_of_arrival(
        steps in prop::collection::vec((0_u8..4, 1_u64..40, 0_u64..40), 1..60),
    ) {
        let mut queue = AdmissionQueue::new(RATE, 42, START);
        let mut number = 0;
        // Calls since each lane has waited: its own, and all.
        let mut waited = [(0_u64, 0_u64); 4];
        let mut newcomers = (0_u64, 0_u64);
        for (index, joins, calls) in steps {
            let lane = Lane::at(index).unwrap();
            for _ in 0..joins {
                number += 1;
                queue.line(lane).push(number, u64::MAX);
            }
            for _ in 0..calls {
                let before = queue.lines.each_ref().map(|line| line.waiting.len());
                let called = queue.call_one();
                prop_assert_eq!(called, before.iter().sum::<usize>() > 0, "never idle");
                for (index, line) in queue.lines.iter().enumerate() {
                    let (own, all) = &mut waited[index];
                    *own += (before[index] - line.waiting.len()) as u64;
                    *all += u64::from(called);
                    if before[index] == 0 {
                        waited[index] = (0, 0);
                    }
                }
                for lane in Lane::ALL {
                    let (own, all) = waited[usize::from(lane.index())];
                    let share = lane.weight() * all / 12;
                    prop_assert!(own + 2 >= share, "{lane:?} got {own} of {all}");
                }
                let waiting = before[0] + before[1] > 0;
                let own = before[0] + before[1]
                    - queue.lines[0].waiting.len() - queue.lines[1].waiting.len();
                newcomers = match waiting {
                    true => (newcomers.0 + own as u64, newcomers.1 + u64::from(called)),
                    false => (0, 0),
                };
                prop_assert!(newcomers.0 + 2 >= newcomers.1 / 2, "{newcomers:?}");
            }
        }
    }
}

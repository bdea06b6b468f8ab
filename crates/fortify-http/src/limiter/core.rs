//! The limit itself and who comes next: pure, without clock, locks or tasks.
//!
//! The limit follows the *slowdown*: a request's latency over what its kind of page takes when hardly anything else runs.
//! Kinds are compared with themselves alone, so a page that always takes a minute, or another mix of pages, is no
//! slowdown. What a kind takes is learned from requests that begin with at most [`CALM`] under way, and while
//! requests wait, the limit is lowered to that for a moment every half minute (a probe, as Envoy's gradient controller
//! measures its `minRTT`).

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::occupancy::Figures;

/// The lowest limit, and the most requests under way that do not slow each other down: with one process behind it, a
/// service still has something to do while an answer travels.
pub(super) const CALM: usize = 2;

/// The limit at the start: what services with a handful of processes take.
const FIRST_LIMIT: f64 = 32.0;

/// The most requests that wait. Beyond it, who waits with the most requests loses the latest of them.
pub(super) const MAX_WAITING: usize = 512;

/// Sessions whose use is remembered.
const MAX_KEYS: usize = 4096;

/// Kinds of pages; each is a slot that a hash of its path names. Two that share a slot are taken for one.
const KINDS: usize = 1024;

/// The slowdown up to which the limit rises. At one and a quarter, a service that has nothing idle holds a quarter more
/// than it works on, and whoever comes next takes less than twice as long as alone.
const TOLERANCE: f64 = 1.25;

/// The least time, and the fewest samples, between two changes of the limit.
const WINDOW: Duration = Duration::from_millis(250);
const SAMPLES: usize = 10;

/// Samples of a probe, how long it lasts at most, and the time between two.
const PROBE_SAMPLES: usize = 8;
const PROBE_LONGEST: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_secs(30);

/// The weight of the latest calm sample in what its kind takes.
const LEARNING: f64 = 0.4;

/// A median below this says that pages take less than is known, so a probe is due.
const FASTER: f64 = 0.75;

/// After this long, half of what a session used is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// A request that waits.
#[derive(Clone, Debug)]
struct Waiting<K> {
    id: u64,
    key: K,
}

/// What a session used lately.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// Under way now.
    in_flight: usize,
    /// Requests that wait.
    waiting: usize,
    /// Seconds of the service, forgotten by half every [`HALF_LIFE`].
    seconds: f64,
    /// When `seconds` was true.
    at: Duration,
}

impl Use {
    const fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting == 0
    }

    fn seconds_at(&self, now: Duration) -> f64 {
        let halves = now.saturating_sub(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.seconds * 0.5_f64.powf(halves)
    }
}

/// The answer to a request for a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It may go on, with this place.
    Go(Place),
    /// It waits under this number.
    Wait(u64),
    /// It waits under the first number, and the request of the second, of a session that waits with more, is refused.
    InsteadOf(u64, u64),
    /// Everything is full, and nobody waits with more requests than this session.
    Full,
}

/// A place of a request that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Whether hardly anything else was under way when it began.
    calm: bool,
}

/// What a place was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A page of this kind took this long. Only the low bits of the kind count.
    Answered(u64, Duration),
    /// Nothing can be learned from it: it was cancelled, had a body, or had no answer.
    Unknown(Duration),
}

/// The limit, and who holds or waits for a place. All times are those since any moment that the caller chose.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    limit: f64,
    most: f64,
    in_flight: usize,
    uses: HashMap<K, Use>,
    waiting: Vec<Waiting<K>>,
    next_id: u64,
    /// Seconds that each kind takes when calm; 0 is unknown.
    usual: Vec<f64>,
    slowdowns: Vec<f64>,
    window_began: Duration,
    /// Whether somebody had to wait in this window.
    saturated: bool,
    probe: Probe,
}

#[derive(Clone, Copy, Debug)]
enum Probe {
    /// None until then.
    NotBefore(Duration),
    /// One that began then and has so many samples.
    Running(Duration, usize),
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    /// A limiter of at most `most` requests at once.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(CALM) as f64;
        Self {
            limit: FIRST_LIMIT.min(most),
            most,
            in_flight: 0,
            uses: HashMap::new(),
            waiting: Vec::new(),
            next_id: 0,
            usual: vec![0.0; KINDS],
            slowdowns: Vec::new(),
            window_began: Duration::ZERO,
            saturated: false,
            probe: Probe::NotBefore(Duration::ZERO),
        }
    }

    /// A request of session `key` asks for a place.
    pub(super) fn ask(&mut self, key: &K, now: Duration) -> Asked {
        // Requests that hold their places for long, and end with nothing to learn, must not make it last.
        self.end_probe_if_over(now);
        if self.waiting.is_empty() && self.in_flight < self.limit_now() {
            return Asked::Go(self.begin(key, now));
        }
        self.saturated = true;
        self.probe_if_due(now);
        let waits = |key: &K| self.uses.get(key).map_or(0, |used| used.waiting);
        let mut displaced = None;
        if self.waiting.len() >= MAX_WAITING {
            // The latest request of the session that waits with most, if that is more than this one has.
            let most = self.waiting.iter().max_by_key(|it| (waits(&it.key), it.id));
            let most = most.filter(|it| waits(&it.key) > waits(key) + 1);
            let Some(id) = most.map(|it| it.id) else { return Asked::Full };
            displaced = Some(id);
            self.leave(id);
        }
        self.make_room(key, now);
        self.uses.entry(key.clone()).or_default().waiting += 1;
        self.next_id += 1;
        self.waiting.push(Waiting { id: self.next_id, key: key.clone() });
        match displaced {
            Some(other) => Asked::InsteadOf(self.next_id, other),
            None => Asked::Wait(self.next_id),
        }
    }

    /// The request that waited under this number went away.
    pub(super) fn leave(&mut self, id: u64) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) {
            self.take(at);
        }
    }

    /// A place of session `key` is free again.
    pub(super) fn end(&mut self, key: &K, place: Place, ended: Ended, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let took = match ended {
            Ended::Answered(_, took) | Ended::Unknown(took) => took,
        };
        let entry = self.uses.entry(key.clone()).or_default();
        entry.in_flight = entry.in_flight.saturating_sub(1);
        entry.seconds = entry.seconds_at(now) + took.as_secs_f64();
        entry.at = now;
        if let Ended::Answered(kind, took) = ended {
            self.learn(kind, took, place, now);
        }
    }

    /// The next request that may go on, with its place; to be called until there is none.
    pub(super) fn next(&mut self, now: Duration) -> Option<(u64, Place)> {
        self.end_probe_if_over(now);
        if self.in_flight >= self.limit_now() {
            return None;
        }
        let rank = |waiting: &Waiting<K>| {
            let used = self.uses.get(&waiting.key).copied().unwrap_or_default();
            (used.in_flight, used.seconds_at(now), waiting.id)
        };
        let ranks = self.waiting.iter().map(rank).enumerate();
        let least = ranks
            .min_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        let (at, _) = least?;
        let waiting = self.take(at)?;
        Some((waiting.id, self.begin(&waiting.key, now)))
    }

    /// When the probe that runs is over at the latest: who waits may go on then, although no place came free.
    pub(super) fn probe_until(&self) -> Option<Duration> {
        match self.probe {
            Probe::Running(began, _) => Some(began + PROBE_LONGEST),
            Probe::NotBefore(_) => None,
        }
    }

    /// The numbers for metrics.
    pub(super) fn figures(&self) -> Figures {
        let (limit, waiting) = (self.limit_now(), self.waiting.len());
        Figures { limit, in_flight: self.in_flight, waiting }
    }

    fn limit_now(&self) -> usize {
        match self.probe {
            Probe::Running(..) => CALM,
            Probe::NotBefore(_) => self.limit as usize,
        }
    }

    fn begin(&mut self, key: &K, now: Duration) -> Place {
        self.in_flight += 1;
        self.make_room(key, now);
        self.uses.entry(key.clone()).or_default().in_flight += 1;
        Place { calm: self.in_flight <= CALM }
    }

    fn take(&mut self, at: usize) -> Option<Waiting<K>> {
        let waiting = (at < self.waiting.len()).then(|| self.waiting.remove(at))?;
        if let Some(used) = self.uses.get_mut(&waiting.key) {
            used.waiting = used.waiting.saturating_sub(1);
        }
        Some(waiting)
    }

    /// Forgets half of those who have nothing under way and do not wait, those who used least, if there is no room for
    /// `key`.
    fn make_room(&mut self, key: &K, now: Duration) {
        if self.uses.len() < MAX_KEYS || self.uses.contains_key(key) {
            return;
        }
        let idle = self.uses.values().filter(|it| it.is_idle());
        let mut seconds: Vec<f64> = idle.map(|it| it.seconds_at(now)).collect();
        seconds.sort_unstable_by(f64::total_cmp);
        let Some(half) = seconds.get(seconds.len() / 2).copied() else { return };
        self.uses.retain(|_, it| !it.is_idle() || it.seconds_at(now) > half);
    }

    fn learn(&mut self, kind: u64, took: Duration, place: Place, now: Duration) {
        let Some(usual) = self.usual.get_mut(kind as usize % KINDS) else { return };
        let took = took.as_secs_f64().max(1e-6);
        if place.calm {
            *usual = if *usual > 0.0 { *usual + LEARNING * (took - *usual) } else { took };
            if let Probe::Running(_, samples) = &mut self.probe {
                *samples += 1;
            }
        } else if *usual > 0.0 {
            self.slowdowns.push(took / *usual);
        }
        self.end_probe_if_over(now);
        let whole = now.saturating_sub(self.window_began) >= WINDOW;
        if !whole || matches!(self.probe, Probe::Running(..)) {
            return;
        }
        if self.slowdowns.len() >= SAMPLES {
            self.slowdowns.sort_unstable_by(f64::total_cmp);
            let median = self.slowdowns.get(self.slowdowns.len() / 2).copied().unwrap_or(1.0);
            if median > TOLERANCE {
                self.limit *= (TOLERANCE / median).max(0.5);
            } else if self.saturated && median < FASTER {
                self.probe = Probe::NotBefore(now);
            } else if self.saturated {
                self.limit += (self.limit / 10.0).max(1.0);
            }
        } else if self.saturated && (place.calm || self.slowdowns.is_empty()) {
            // At the floor everything is calm, and nothing known is slow: the way up.
            self.limit += 1.0;
        } else {
            return;
        }
        self.limit = self.limit.clamp(CALM as f64, self.most);
        self.slowdowns.clear();
        self.window_began = now;
        self.saturated = !self.waiting.is_empty();
    }

    fn probe_if_due(&mut self, now: Duration) {
        if let Probe::NotBefore(due) = self.probe
            && now >= due
        {
            self.probe = Probe::Running(now, 0);
        }
    }

    fn end_probe_if_over(&mut self, now: Duration) {
        if let Probe::Running(began, samples) = self.probe
            && (samples >= PROBE_SAMPLES || now.saturating_sub(began) >= PROBE_LONGEST)
        {
            self.probe = Probe::NotBefore(now + PROBE_EVERY);
            self.slowdowns.clear();
            self.window_began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BinaryHeap, VecDeque};

    /// `SplitMix64`.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % end
        }
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The first reader; scrapers have lower numbers.
    const READERS: u32 = 1_000;

    /// A service of so many workers, and what comes to it through a limiter, or without one.
    struct Simulation {
        limiter: Limiter<u32>,
        workers: usize,
        busy: usize,
        backlog: VecDeque<u64>,
        /// By time: the latest comes first in this heap, so times are negative.
        events: BinaryHeap<(i64, u64, Event)>,
        requests: HashMap<u64, Request>,
        of_waiting: HashMap<u64, u64>,
        number: u64,
        now: u64,
        work: fn(u64, u64) -> u64,
        readers: Vec<(u64, u64)>,
        served: u64,
        lowest: usize,
    }

    #[derive(Clone, Copy)]
    struct Request {
        key: u32,
        kind: u64,
        asked: u64,
        sent: u64,
        place: Option<Place>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        Ask(u32, u64),
        Done(u64),
    }

    impl Simulation {
        fn new(workers: usize, work: fn(u64, u64) -> u64) -> Self {
            Self {
                limiter: Limiter::new(256),
                workers,
                busy: 0,
                backlog: VecDeque::new(),
                events: BinaryHeap::new(),
                requests: HashMap::new(),
                of_waiting: HashMap::new(),
                number: 0,
                now: 0,
                work,
                readers: Vec::new(),
                served: 0,
                lowest: usize::MAX,
            }
        }

        fn at(&mut self, when: u64, event: Event) {
            self.number += 1;
            self.events.push((-(when as i64), self.number, event));
        }

        fn run(&mut self, until: u64) {
            while let Some((when, _, event)) = self.events.pop() {
                self.now = when.unsigned_abs();
                if self.now > until {
                    return;
                }
                match event {
                    Event::Ask(key, kind) => self.ask(key, kind),
                    Event::Done(id) => self.done(id),
                }
                let figures = self.limiter.figures();
                self.lowest = self.lowest.min(figures.limit);
                assert!(
                    figures.waiting == 0 || figures.in_flight >= figures.limit,
                    "idle while somebody waits: {figures:?}"
                );
            }
        }

        fn ask(&mut self, key: u32, kind: u64) {
            self.number += 1;
            let id = self.number;
            let request = Request { key, kind, asked: self.now, sent: self.now, place: None };
            self.requests.insert(id, request);
            let now = ms(self.now);
            match self.limiter.ask(&key, now) {
                Asked::Go(place) => self.send(id, place),
                Asked::Wait(waits) => {
                    self.of_waiting.insert(waits, id);
                }
                Asked::InsteadOf(waits, other) => {
                    self.of_waiting.insert(waits, id);
                    let other = self.of_waiting.remove(&other).unwrap();
                    self.refuse(other);
                }
                Asked::Full => self.refuse(id),
            }
            self.go_on();
        }

        fn refuse(&mut self, id: u64) {
            let request = self.requests.remove(&id).unwrap();
            assert!(request.key < READERS, "a reader is refused");
            self.at(self.now + 1_000, Event::Ask(request.key, request.kind));
        }

        fn send(&mut self, id: u64, place: Place) {
            let request = self.requests.get_mut(&id).unwrap();
            (request.sent, request.place) = (self.now, Some(place));
            self.backlog.push_back(id);
            self.work();
        }

        fn work(&mut self) {
            while self.busy < self.workers {
                let Some(id) = self.backlog.pop_front() else { return };
                self.busy += 1;
                let takes = (self.work)(self.requests[&id].kind, self.now);
                self.at(self.now + takes, Event::Done(id));
            }
        }

        fn done(&mut self, id: u64) {
            self.busy -= 1;
            self.served += 1;
            let request = self.requests.remove(&id).unwrap();
            let ended = Ended::Answered(request.kind, ms(self.now - request.sent));
            self.limiter.end(&request.key, request.place.unwrap(), ended, ms(self.now));
            if request.key >= READERS {
                self.readers.push((request.asked, self.now - request.asked));
            } else {
                // A scraper asks for the next page at once.
                self.at(self.now, Event::Ask(request.key, request.kind));
            }
            self.work();
            self.go_on();
        }

        fn go_on(&mut self) {
            while let Some((waits, place)) = self.limiter.next(ms(self.now)) {
                let id = self.of_waiting.remove(&waits).unwrap();
                self.send(id, place);
            }
        }
    }

    /// How long readers took who asked between these times: nine in ten, and all.
    fn took(simulation: &Simulation, from: u64, until: u64) -> (u64, u64) {
        let among = simulation.readers.iter().filter(|(asked, _)| (from..until).contains(asked));
        let mut times: Vec<_> = among.map(|(_, took)| *took).collect();
        times.sort_unstable();
        (times[times.len() * 9 / 10], times[times.len() - 1])
    }

    /// Fifty sessions with twelve requests each at all times, and ten readers who ask for a page every ten seconds.
    fn fifty_scrapers(simulation: &mut Simulation, until: u64) {
        for key in 1..=50 {
            for _ in 0..12 {
                simulation.at(0, Event::Ask(key, 1));
            }
        }
        for number in 1..until / 1_000 {
            let reader = READERS + (number % 10) as u32;
            simulation.at(1_000 * number, Event::Ask(reader, 1));
        }
        simulation.run(until);
    }

    #[test]
    fn abuse_26_a_reader_among_fifty_scrapers_waits_for_no_more_than_two_pages() {
        // A page takes 20 ms, then 200 ms, then 20 ms again.
        let work = |_, now| if (20_000..50_000).contains(&now) { 200 } else { 20 };
        for workers in [2, 8] {
            let mut simulation = Simulation::new(workers, work);
            fifty_scrapers(&mut simulation, 70_000);
            let lasting = [(5_000, 19_000, 20), (30_000, 49_000, 200), (55_000, 69_000, 20)];
            for (from, until, page) in lasting {
                let (most, all) = took(&simulation, from, until);
                let says = format!("{workers} workers, {page} ms a page: {most} ms, at most {all}");
                // Waiting for two and then its own; with more than a few workers, mostly for one.
                assert!(all <= 3 * page, "{says}");
                assert!(workers < 8 || most <= 2 * page, "{says}");
            }
            let (_, turn) = took(&simulation, 20_000, 30_000);
            assert!(turn <= 4 * 200, "{workers} workers: {turn} ms when it turns slow");
            assert!(simulation.lowest >= CALM);
            // The scrapers lose little of what the service can do: probes, and rising again.
            let able = workers as u64 * (40_000 / 20 + 30_000 / 200);
            assert!(simulation.served * 10 >= able * 8, "{} of {able}", simulation.served);
        }
    }

    #[test]
    fn a_page_that_always_takes_long_is_no_slowdown() {
        // Kind 2 is asked for by script and held for 5 s, which costs the service nothing.
        let work = |kind, _| if kind == 2 { 5_000 } else { 20 };
        let mut simulation = Simulation::new(1_000, work);
        for key in 100..200 {
            simulation.at(u64::from(key), Event::Ask(key, 2));
        }
        for number in 1..600 {
            simulation.at(100 * number, Event::Ask(READERS, 1));
        }
        simulation.run(60_000);
        let (_, longest) = took(&simulation, 20_000, 59_000);
        assert!(longest <= 40, "{longest} ms of 20; {:?}", simulation.limiter.figures());
        assert!(simulation.limiter.figures().limit > 100, "{:?}", simulation.limiter.figures());
    }

    #[test]
    fn the_limit_keeps_its_bounds_and_no_place_is_lost_or_idle() {
        for seed in 0..200 {
            let mut dice = Dice(seed);
            let most = 2 + dice.below(40) as usize;
            let mut limiter = Limiter::new(most);
            let (mut held, mut waiting, mut now) = (Vec::new(), Vec::new(), 0);
            for _ in 0..2_000 {
                now += dice.below(60);
                let at = ms(now);
                let key = dice.below(6) as u32;
                match dice.below(5) {
                    0..=1 => match limiter.ask(&key, at) {
                        Asked::Go(place) => held.push((key, place)),
                        Asked::Wait(id) => waiting.push((id, key)),
                        Asked::InsteadOf(id, other) => {
                            waiting.retain(|(waits, _)| *waits != other);
                            waiting.push((id, key));
                        }
                        Asked::Full => assert_eq!(waiting.len(), MAX_WAITING),
                    },
                    2..=3 if !held.is_empty() => {
                        let (key, place) = held.swap_remove(dice.below(held.len() as u64) as usize);
                        let took = ms(1 + dice.below(10_000));
                        let ended = match dice.below(4) {
                            0 => Ended::Unknown(took),
                            _ => Ended::Answered(dice.below(3), took),
                        };
                        limiter.end(&key, place, ended, at);
                    }
                    _ if !waiting.is_empty() => {
                        let at = dice.below(waiting.len() as u64) as usize;
                        limiter.leave(waiting.swap_remove(at).0);
                    }
                    _ => {}
                }
                while let Some((id, place)) = limiter.next(at) {
                    let found = waiting.iter().position(|(waits, _)| *waits == id).unwrap();
                    held.push((waiting.swap_remove(found).1, place));
                }
                let figures = limiter.figures();
                assert!((CALM..=most).contains(&figures.limit), "{figures:?}");
                assert_eq!((figures.in_flight, figures.waiting), (held.len(), waiting.len()));
                assert!(figures.waiting == 0 || figures.in_flight >= figures.limit, "{figures:?}");
            }
        }
    }

    #[test]
    fn who_has_least_comes_first_and_a_full_queue_takes_from_who_waits_with_most() {
        let mut limiter = Limiter::new(2);
        let mut heavy = Vec::new();
        for _ in 0..2 {
            let Asked::Go(place) = limiter.ask(&1, ms(0)) else { panic!("no place") };
            heavy.push(place);
        }
        let mut latest = 0;
        for _ in 0..MAX_WAITING {
            let Asked::Wait(id) = limiter.ask(&1, ms(1)) else { panic!("no room") };
            latest = id;
        }
        assert_eq!(limiter.ask(&1, ms(2)), Asked::Full);
        let Asked::InsteadOf(reader, other) = limiter.ask(&2, ms(2)) else { panic!("refused") };
        assert_eq!(other, latest);
        limiter.end(&1, heavy.remove(0), Ended::Unknown(ms(50)), ms(50));
        let (first, _) = limiter.next(ms(50)).unwrap();
        assert_eq!(first, reader);
        assert_eq!(limiter.next(ms(50)), None);
    }

    #[test]
    fn a_probe_ends_when_somebody_asks_although_no_place_came_free() {
        let mut limiter = Limiter::new(64);
        let mut held = 0;
        // The first that finds no place begins a probe.
        while let Asked::Go(_) = limiter.ask(&1, ms(0)) {
            held += 1;
        }
        assert_eq!((held, limiter.figures().limit), (FIRST_LIMIT as usize, CALM));
        let until = limiter.probe_until().unwrap();
        assert_eq!(until, PROBE_LONGEST);
        limiter.ask(&1, until - ms(1));
        assert_eq!(limiter.figures().limit, CALM);
        limiter.ask(&1, until);
        assert_eq!((limiter.figures().limit, limiter.probe_until()), (held, None));
    }

    #[test]
    fn sessions_that_are_remembered_are_bounded() {
        let mut limiter = Limiter::new(8);
        for key in 0..3 * MAX_KEYS as u64 {
            let Asked::Go(place) = limiter.ask(&key, ms(key)) else { panic!("no place") };
            limiter.end(&key, place, Ended::Unknown(ms(1)), ms(key));
            assert!(limiter.uses.len() <= MAX_KEYS);
        }
    }
}

//! Simulated traffic: people with pages, assets, pauses, tabs and mistakes, and bots of each class, crude and
//! careful. The same seed gives the same traffic; a bench and a test replay it.
#![allow(dead_code, unreachable_pub, reason = "bench and test each use a part of it")]
#![allow(clippy::unwrap_used, reason = "broken traffic fails the test")]

use std::sync::Arc;
use std::time::Duration;

use fortify_core::clock::{ManualClock, Timestamp};
use fortify_core::entropy::{Entropy, EntropyError};
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::behaviour::{Behaviour, Class, Outcome, Request};

/// When the simulation starts.
pub const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// How long it lasts; visitors arrive in its first three quarters.
const LENGTH_MS: u64 = 2 * 3_600_000;

/// The kind of visitor behind a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Person,
    /// A typical bot of this class.
    Crude(Class),
    /// A bot that knows of Fortify: slower, with jitter, hidden among ordinary pages.
    Careful(Class),
}

/// A request at a given time.
pub struct Event {
    pub at: u64,
    pub actor: usize,
    pub path: String,
    pub post: bool,
    pub outcome: Outcome,
    pub crawled: bool,
}

/// The visitors, and all their requests in order.
pub struct Traffic {
    pub actors: Vec<Who>,
    pub events: Vec<Event>,
}

impl Traffic {
    /// Traffic of `people` people and, of each class of bot, `bots` crude and `bots` careful ones.
    pub fn new(seed: u64, people: usize, bots: usize) -> Self {
        let mut traffic = Self { actors: Vec::new(), events: Vec::new() };
        let everybody = (std::iter::repeat_n(Who::Person, people)).chain(
            Class::ALL.into_iter().flat_map(|class| {
                [Who::Crude(class), Who::Careful(class)]
                    .into_iter()
                    .flat_map(move |who| std::iter::repeat_n(who, bots))
            }),
        );
        for who in everybody {
            let mut dice = Dice(seed ^ (traffic.actors.len() as u64).wrapping_mul(0x9e37_79b9));
            let now = dice.below(LENGTH_MS / 4 * 3);
            let actor = traffic.actors.len();
            let mut visit = Visit { events: &mut traffic.events, actor, now, dice };
            match who {
                Who::Person => person(&mut visit),
                Who::Crude(class) => crude(&mut visit, class),
                Who::Careful(class) => careful(&mut visit, class),
            }
            traffic.actors.push(who);
        }
        traffic.events.retain(|event| event.at < LENGTH_MS);
        traffic.events.sort_by_key(|event| event.at);
        traffic
    }

    /// Plays the traffic to `behaviour`, and returns the most frequent finding for each actor.
    pub fn play(&self, behaviour: &Behaviour, clock: &ManualClock) -> Vec<Option<Class>> {
        let mut found = vec![[0_u32; Class::ALL.len()]; self.actors.len()];
        for event in &self.events {
            clock.set(START.after(Duration::from_millis(event.at)));
            let circuit = circuit(event.actor);
            behaviour.record(circuit, &event.request(behaviour));
            if let Some(finding) = behaviour.finding(circuit) {
                found[event.actor][finding.class as usize] += 1;
            }
        }
        let most = |counts: [u32; Class::ALL.len()]| {
            let (class, count) =
                Class::ALL.into_iter().zip(counts).max_by_key(|(_, count)| *count)?;
            (count > 0).then_some(class)
        };
        found.into_iter().map(most).collect()
    }
}

impl Event {
    pub fn request(&self, behaviour: &Behaviour) -> Request {
        let target = behaviour.read(self.path.as_bytes());
        let (post, outcome, crawled) = (self.post, self.outcome, self.crawled);
        Request { target, post, outcome, loaded: false, crawled }
    }
}

/// The tag of an actor's circuit, distributed like a hash.
pub fn circuit(actor: usize) -> CircuitTag {
    let mut dice = Dice(actor as u64);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&dice.roll().to_be_bytes());
    bytes[8..].copy_from_slice(&(actor as u64).to_be_bytes());
    CircuitTag::from_bytes(bytes)
}

/// A clock for [`Traffic::play`].
pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(START))
}

/// The same key in every run: pages that share a bit of the sketch must not make runs differ.
#[derive(Debug)]
pub struct SameKey;

impl Entropy for SameKey {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        buffer.fill(7);
        Ok(())
    }
}

/// `SplitMix64`, and the laws by which people wait.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A lognormal number: reading times have long tails.
    fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        // The sum of twelve uniform numbers approximates a normal distribution.
        let normal: f64 = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        median * (sigma * normal).exp()
    }

    /// A Pareto number: the length of a long pause.
    fn pareto(&mut self, least: f64, alpha: f64) -> f64 {
        least * self.unit().max(1e-9).powf(-1.0 / alpha)
    }
}

struct Visit<'a> {
    events: &'a mut Vec<Event>,
    actor: usize,
    now: u64,
    dice: Dice,
}

impl Visit<'_> {
    fn wait(&mut self, seconds: f64) {
        self.now += (seconds * 1000.0).min(1e9) as u64;
    }

    fn pause(&mut self, median: f64, sigma: f64) {
        let seconds = self.dice.lognormal(median, sigma);
        self.wait(seconds);
    }

    fn push(&mut self, path: String, post: bool, outcome: Outcome) {
        let (at, actor) = (self.now, self.actor);
        self.events.push(Event { at, actor, path, post, outcome, crawled: false });
    }

    fn ask(&mut self, path: impl Into<String>, status: u16) {
        self.push(path.into(), false, Outcome::Passed(Some(status)));
    }

    fn post(&mut self, path: &str, status: u16) {
        self.push(path.to_owned(), true, Outcome::Passed(Some(status)));
    }

    /// A request body that timed out.
    fn crawl(&mut self) {
        let (at, actor, outcome) = (self.now, self.actor, Outcome::Passed(None));
        let path = "/upload".to_owned();
        self.events.push(Event { at, actor, path, post: true, outcome, crawled: true });
    }

    fn challenge(&mut self) {
        self.push("/".to_owned(), false, Outcome::Challenged);
    }

    fn answer(&mut self, solved: bool) {
        self.push("/validate-captcha".to_owned(), true, Outcome::Answered { solved });
    }

    /// What a page loads, six connections at a time over Tor.
    fn assets(&mut self, count: u64) {
        for number in 0..count {
            let gap = self.dice.between(40, 250);
            self.now += gap;
            let name = number + self.dice.below(400);
            self.ask(format!("/static/{name}.png"), 200);
        }
    }

    /// Solves a challenge like a person: some ask for another picture, some make mistakes.
    fn solve(&mut self) {
        self.challenge();
        while self.dice.chance(0.12) {
            self.pause(4.0, 0.5);
            self.challenge();
        }
        self.pause(9.0, 0.5);
        while self.dice.chance(0.15) {
            self.answer(false);
            self.pause(9.0, 0.5);
        }
        self.answer(true);
    }
}

/// What differs between people.
struct Habits {
    pages: f64,
    reads: f64,
    images: u64,
    tabs: u64,
    /// A browser that has everything already, on a new circuit.
    warm: bool,
    /// A page that asks for news by script, with a changing query.
    polls: bool,
}

fn person(visit: &mut Visit<'_>) {
    let usual = Habits { pages: 12.0, reads: 18.0, images: 8, tabs: 4, warm: false, polls: false };
    let habits = match visit.dice.below(100) {
        0..58 => usual,
        58..78 => Habits { pages: 25.0, reads: 6.0, images: 30, ..usual },
        78..92 => Habits { warm: true, ..usual },
        92..97 => Habits { pages: 70.0, reads: 8.0, tabs: 12, ..usual },
        _ => Habits { polls: true, ..usual },
    };
    visit.solve();
    if !habits.warm {
        visit.ask("/", 200);
        visit.assets(8);
    }
    if visit.dice.chance(0.25) {
        log_in(visit);
    }
    let pages = visit.dice.lognormal(habits.pages, 0.7).clamp(2.0, 250.0) as u64;
    let mut read = 0;
    while read < pages {
        read += 1;
        match visit.dice.below(100) {
            // The page before, once more: mostly from the browser's memory.
            0..12 => visit.ask("/", 200),
            12..24 => {
                for _ in 0..visit.dice.between(2, habits.tabs) {
                    read += 1;
                    page(visit, &habits);
                    visit.pause(1.2, 0.4);
                }
            }
            24..26 => visit.ask(format!("/gone/{read}"), 404),
            26..28 => visit.post("/comment", 302),
            28 => {
                // An upload on a bad circuit.
                visit.crawl();
                visit.wait(30.0);
            }
            _ => page(visit, &habits),
        }
        if visit.dice.chance(0.04) {
            let seconds = visit.dice.pareto(60.0, 1.2);
            visit.wait(seconds);
        } else {
            visit.pause(habits.reads, 1.0);
        }
        if habits.polls {
            for number in 0..12 {
                visit.ask(format!("/api/news?since={read}-{number}"), 200);
                visit.wait(10.0);
            }
        }
    }
}

fn page(visit: &mut Visit<'_>, habits: &Habits) {
    let number = visit.dice.lognormal(60.0, 1.5) as u64;
    visit.ask(format!("/topic?id={number}"), 200);
    if !habits.warm && habits.images > 0 {
        let images = visit.dice.below(habits.images);
        visit.assets(images);
    }
}

fn log_in(visit: &mut Visit<'_>) {
    visit.ask("/login", 200);
    visit.pause(12.0, 0.5);
    while visit.dice.chance(0.3) {
        visit.post("/login", 401);
        visit.pause(10.0, 0.6);
    }
    visit.post("/login", 302);
}

const SCANNED: [&str; 12] = [
    "/.env",
    "/wp-login.php",
    "/.git/config",
    "/phpmyadmin/",
    "/admin/.env",
    "/actuator/health",
    "/.aws/credentials",
    "/server-status",
    "/backup.zip",
    "/xmlrpc.php",
    "/.svn/entries",
    "/old/",
];

fn crude(visit: &mut Visit<'_>, class: Class) {
    let inside = visit.dice.chance(0.5);
    if inside || matches!(class, Class::Scraping | Class::CredentialStuffing | Class::SlowDrip) {
        visit.solve();
    }
    match class {
        Class::Flood => {
            let gap = visit.dice.between(12, 50) as f64 / 1000.0;
            for _ in 0..4_000 {
                if inside {
                    visit.ask("/search?q=x", 200)
                } else {
                    visit.challenge()
                }
                visit.wait(gap);
            }
        }
        Class::Scraping => {
            let gap = visit.dice.between(400, 2_500) as f64 / 1000.0;
            for number in 0..400 {
                visit.ask(format!("/topic?id={number}"), 200);
                visit.wait(gap);
            }
        }
        Class::CredentialStuffing => {
            let gap = visit.dice.between(1, 10) as f64;
            for _ in 0..150 {
                visit.post("/login", 401);
                visit.wait(gap);
            }
        }
        Class::ChallengeFarming => {
            let gap = visit.dice.between(3, 12) as f64;
            for _ in 0..150 {
                visit.challenge();
                visit.wait(gap);
            }
        }
        Class::Probing => {
            let gap = visit.dice.between(200, 3_000) as f64 / 1000.0;
            for round in 0..10 {
                for path in SCANNED {
                    let outcome =
                        if inside { Outcome::Passed(Some(404)) } else { Outcome::Challenged };
                    visit.push(format!("{path}?{round}"), false, outcome);
                    visit.wait(gap);
                }
            }
        }
        Class::SlowDrip => {
            for _ in 0..20 {
                (0..4).for_each(|_| visit.crawl());
                visit.wait(31.0);
            }
        }
    }
}

fn careful(visit: &mut Visit<'_>, class: Class) {
    let browses = Habits { pages: 0.0, reads: 12.0, images: 6, tabs: 2, warm: false, polls: false };
    visit.solve();
    match class {
        // Three to six a second, never evenly, and a page's assets among them.
        Class::Flood => {
            for _ in 0..3_000 {
                visit.ask("/search?q=x", 200);
                visit.pause(0.2, 0.6);
            }
        }
        // Half of them fetch what a page loads.
        Class::Scraping => {
            let habits = Habits { warm: visit.dice.chance(0.5), ..browses };
            for number in 0..400 {
                visit.ask(format!("/topic?id={number}"), 200);
                if !habits.warm {
                    visit.assets(3);
                }
                visit.pause(6.0, 0.7);
            }
        }
        Class::CredentialStuffing => {
            for _ in 0..60 {
                page(visit, &browses);
                visit.pause(20.0, 0.8);
                visit.post("/login", 401);
                visit.pause(60.0, 0.8);
            }
        }
        // Answers some, so as not to look like what it is.
        Class::ChallengeFarming => {
            let answers = visit.dice.between(1, 4) as f64 / 10.0;
            for _ in 0..150 {
                visit.challenge();
                visit.pause(20.0, 0.5);
                if visit.dice.chance(answers) {
                    visit.answer(true);
                }
            }
        }
        Class::Probing => {
            for round in 0..6 {
                for path in SCANNED {
                    (0..5).for_each(|_| {
                        page(visit, &browses);
                        visit.pause(20.0, 0.8);
                    });
                    visit.ask(format!("{path}?{round}"), 404);
                }
            }
        }
        Class::SlowDrip => {
            for _ in 0..40 {
                page(visit, &browses);
                visit.crawl();
                visit.pause(180.0, 0.5);
            }
        }
    }
}

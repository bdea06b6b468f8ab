//! Generated people: those who come for the first time, and those who are in.
//!
//! They do what pages let them do: read, type, press the button (now and then twice), open a page in other tabs,
//! wait where a page says that it goes on by itself, and reload what failed.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::answers::Answers;
use crate::client::{Browser, Fault, Page, Reply, form, token};
use crate::numbers::{Dice, Punctuality};
use crate::service::{PEOPLE, Service};

/// What people do, and how often.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Habits {
    /// How long somebody looks at a challenge, in seconds.
    pub reads: (f64, f64),
    /// The share of answers that are wrong.
    pub errs: f64,
    /// The share of answers that are sent twice.
    pub double_clicks: f64,
    /// The share of newcomers who open the page in two more tabs.
    pub tabs: f64,
    /// How long somebody who is in looks at a page, in seconds.
    pub lingers: (f64, f64),
    /// What a page loads.
    pub assets: u32,
    /// Pages that a newcomer reads after coming in.
    pub pages: u32,
}

impl Habits {
    /// People as they are.
    pub const PEOPLE: Self = Self {
        reads: (5.0, 25.0),
        errs: 1.0 / 12.0,
        double_clicks: 0.1,
        tabs: 0.2,
        lingers: (5.0, 25.0),
        assets: 3,
        pages: 4,
    };

    /// Whoever is let in before a run: without errors, and quickly, so that the run can begin.
    pub const EARLY: Self =
        Self { reads: (2.0, 4.0), errs: 0.0, double_clicks: 0.0, tabs: 0.0, ..Self::PEOPLE };
}

/// What all clients of a run share.
#[derive(Debug)]
pub struct World {
    /// Where visitors connect.
    pub front: SocketAddr,
    /// What pictures show.
    pub answers: Answers,
    /// When the run began: times are seconds since.
    pub begun: Instant,
    /// How punctual the generator is.
    pub punctuality: Punctuality,
    /// The protected service.
    pub service: Arc<Service>,
    /// The next circuit that nobody had.
    next_circuit: AtomicU32,
    /// Whether visitors stop.
    pub over: AtomicBool,
    newcomers: Mutex<Vec<Newcomer>>,
    requests: Mutex<Vec<Visit>>,
    residents: Mutex<Vec<u32>>,
}

/// A newcomer's way in.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Newcomer {
    /// When.
    pub came: f64,
    /// Seconds until the first page of the service; missing for one who was not in when the run ended.
    pub in_after: Option<f64>,
    /// Challenges that were read.
    pub challenges: u32,
    /// Pages that said to wait.
    pub waits: u32,
    /// Responses that let one do nothing but reload.
    pub refusals: u32,
    /// Requests without a response.
    pub faults: u32,
}

/// A request of somebody who is in.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Visit {
    /// Whose: the circuit.
    pub who: u32,
    /// When.
    pub at: f64,
    /// How long it took, in milliseconds.
    pub took: f64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request of somebody who is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The page of the service.
    Page,
    /// Another challenge: answered, but in the way.
    Challenge,
    /// A page that says to wait, or an error.
    Refused,
    /// No response.
    Fault,
}

impl World {
    /// A run that begins now.
    #[must_use]
    pub fn new(front: SocketAddr, answers: Answers, service: Arc<Service>) -> Self {
        Self {
            front,
            answers,
            begun: Instant::now(),
            punctuality: Punctuality::default(),
            service,
            // Tor's first circuits are its own.
            next_circuit: AtomicU32::new(24),
            over: AtomicBool::new(false),
            newcomers: Mutex::default(),
            requests: Mutex::default(),
            residents: Mutex::default(),
        }
    }

    /// Seconds since the start.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// A circuit that nobody had.
    pub fn circuit(&self) -> u32 {
        self.next_circuit.fetch_add(1, Ordering::Relaxed)
    }

    /// A browser on a circuit that nobody had.
    pub fn browser(&self) -> Browser {
        Browser::new(self.front, self.circuit())
    }

    /// The newcomers, in and not.
    #[must_use]
    pub fn newcomers(&self) -> Vec<Newcomer> {
        self.newcomers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests of those who are in.
    #[must_use]
    pub fn requests(&self) -> Vec<Visit> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether everybody who was let in before the run got a page that they asked for after `at`.
    pub fn residents_read_after(&self, at: f64) -> bool {
        let residents = self.residents.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        residents.iter().all(|who| has_page(&requests, *who, at))
    }

    /// The circuits of those who were let in before the run.
    #[must_use]
    pub fn residents(&self) -> Vec<u32> {
        self.residents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record(&self, who: u32, at: f64, took: Duration, outcome: Outcome) {
        let took = took.as_secs_f64() * 1000.0;
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(Visit { who, at, took, outcome });
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Whether `who` got a page that they asked for after `at`.
#[must_use]
pub fn has_page(requests: &[Visit], who: u32, at: f64) -> bool {
    // The latest are at the end.
    let mut latest = requests.iter().rev().take_while(|visit| visit.at > at - 60.0);
    latest.any(|visit| visit.who == who && visit.at >= at && visit.outcome == Outcome::Page)
}

/// How long the way in may take whoever has to be in before a measurement.
const LONGEST_WAY: Duration = Duration::from_secs(60);

/// How long somebody waits who got nothing that says how long.
const PATIENCE: (f64, f64) = (2.0, 5.0);

/// The way from no session to the first page of the service.
#[derive(Debug)]
pub struct WayIn<'a> {
    world: &'a World,
    habits: Habits,
    dice: Dice,
    /// What happened on it.
    pub seen: Newcomer,
}

impl<'a> WayIn<'a> {
    /// That of somebody with these habits.
    #[must_use]
    pub fn new(world: &'a World, habits: Habits, seed: u64) -> Self {
        Self { world, habits, dice: Dice(seed), seen: Newcomer::default() }
    }

    /// Goes it in `browser` until the service answers, or the run is over: whether it did.
    pub async fn go(&mut self, browser: &mut Browser, path: &str) -> bool {
        let started = Instant::now();
        let mut page = browser.get(path).await;
        if self.dice.chance(self.habits.tabs) {
            for tab in 0..2 {
                let mut other = browser.tab();
                let _shows_the_same = other.get(&format!("{PEOPLE}tab{tab}")).await;
            }
        }
        loop {
            if self.world.is_over() {
                return false;
            }
            let reply = match page {
                Ok(reply) => reply,
                Err(_) => {
                    self.seen.faults += 1;
                    tokio::time::sleep(self.dice.seconds(PATIENCE)).await;
                    page = browser.get(path).await;
                    continue;
                }
            };
            page = match reply.page() {
                Page::Service => {
                    self.seen.in_after = Some(started.elapsed().as_secs_f64());
                    return true;
                }
                Page::Redirect(to) => browser.get(&to).await,
                Page::Challenge(fields) => self.meet(browser, fields, path).await,
                Page::Later(after, to) => {
                    self.seen.waits += 1;
                    tokio::time::sleep(after).await;
                    browser.get(&to).await
                }
                Page::Other => {
                    self.seen.refusals += 1;
                    let after = reply.retry_after().unwrap_or(Duration::ZERO);
                    tokio::time::sleep(after.max(self.dice.seconds(PATIENCE))).await;
                    browser.get(path).await
                }
            };
        }
    }

    /// Reads a challenge and answers it, and gives what comes then.
    async fn meet(
        &mut self,
        browser: &mut Browser,
        mut fields: Vec<(String, String)>,
        path: &str,
    ) -> Result<Reply, Fault> {
        self.seen.challenges += 1;
        tokio::time::sleep(self.dice.seconds(self.habits.reads)).await;
        let Some(answer) = self.world.answers.of(token(&fields)).await else {
            // It ran out, or was used in another tab.
            return browser.get(path).await;
        };
        let wrong = self.dice.chance(self.habits.errs);
        fields.push(("answer".to_owned(), if wrong { "wrong".to_owned() } else { answer }));
        let form = form(&fields);
        if !self.dice.chance(self.habits.double_clicks) {
            return browser.post("/validate-captcha", form).await;
        }
        // The browser shows what the second click got, and keeps the cookies of both.
        let mut first = browser.tab();
        let (_, second) = tokio::join!(
            first.post("/validate-captcha", form.clone()),
            browser.post("/validate-captcha", form)
        );
        browser.share(&first);
        match second {
            Ok(reply) if matches!(reply.page(), Page::Other) => browser.get(path).await,
            second => second,
        }
    }
}

/// Lets somebody in on each of `circuits`, all at once, and gives their browsers.
///
/// # Errors
///
/// If somebody was not let in.
pub async fn let_in(
    world: &Arc<World>,
    circuits: Range<u32>,
    habits: Habits,
) -> anyhow::Result<Vec<Browser>> {
    let (many, mut coming) = (circuits.len(), JoinSet::new());
    for circuit in circuits {
        let world = world.clone();
        coming.spawn(async move {
            let mut browser = Browser::new(world.front, circuit);
            let mut way = WayIn::new(&world, habits, u64::from(circuit));
            let went = timeout(LONGEST_WAY, way.go(&mut browser, PEOPLE)).await;
            (went == Ok(true)).then_some(browser)
        });
    }
    let visitors: Vec<_> = coming.join_all().await.into_iter().flatten().collect();
    anyhow::ensure!(visitors.len() == many, "{} of {many} were let in", visitors.len());
    Ok(visitors)
}

/// A newcomer: the way in, then a few pages.
pub async fn newcomer(world: Arc<World>, habits: Habits, number: usize) {
    let came = world.now();
    // Written down at once, so that one who never gets in is there too.
    let place = {
        let mut all = world.newcomers.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Newcomer { came, ..Newcomer::default() });
        all.len() - 1
    };
    let mut browser = world.browser();
    let mut way = WayIn::new(&world, habits, number as u64 ^ 0xbeef);
    let path = format!("{PEOPLE}{number}");
    let came_in = way.go(&mut browser, &path).await;
    {
        let mut all = world.newcomers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = all.get_mut(place) {
            *kept = Newcomer { came, ..way.seen.clone() };
        }
    }
    if came_in {
        browse(&world, &mut browser, habits, number as u64, Some(habits.pages)).await;
    }
}

/// Lets somebody in before the run, who then reads until its end; whether that worked is told through `inside`.
pub async fn resident(
    world: Arc<World>,
    habits: Habits,
    number: usize,
    inside: tokio::sync::mpsc::UnboundedSender<()>,
) {
    let mut browser = world.browser();
    let early =
        Habits { reads: (habits.reads.0.min(2.0), habits.reads.1.min(4.0)), ..Habits::EARLY };
    let mut way = WayIn::new(&world, early, number as u64 ^ 0xcafe);
    if way.go(&mut browser, PEOPLE).await {
        world.residents.lock().unwrap_or_else(PoisonError::into_inner).push(browser.circuit);
        // Nobody counts any more once the run has begun.
        let _begun = inside.send(());
        browse(&world, &mut browser, habits, number as u64, None).await;
    }
}

/// Reads page after page, each with what it loads; whoever meets a challenge answers it.
async fn browse(
    world: &World,
    browser: &mut Browser,
    habits: Habits,
    seed: u64,
    mut pages: Option<u32>,
) {
    let mut dice = Dice(seed ^ 0x5eed);
    let mut number = 0_u32;
    while pages.is_none_or(|left| left > 0) && !world.is_over() {
        tokio::time::sleep(dice.seconds(habits.lingers)).await;
        number += 1;
        pages = pages.map(|left| left - 1);
        let path = format!("{PEOPLE}{seed}/{number}");
        match ask(world, browser, &path).await {
            Outcome::Page => {
                for asset in 0..habits.assets {
                    ask(world, browser, &format!("{PEOPLE}asset{asset}")).await;
                }
            }
            Outcome::Challenge => {
                WayIn::new(world, Habits { tabs: 0.0, ..habits }, dice.roll())
                    .go(browser, &path)
                    .await;
            }
            // The next page will be asked for in any case.
            Outcome::Refused | Outcome::Fault => {}
        }
    }
}

async fn ask(world: &World, browser: &mut Browser, path: &str) -> Outcome {
    let (at, started) = (world.now(), Instant::now());
    let reply = browser.get(path).await;
    let outcome = match reply.map(|reply| reply.page()) {
        Ok(Page::Service) => Outcome::Page,
        Ok(Page::Challenge(_) | Page::Redirect(_)) => Outcome::Challenge,
        Ok(Page::Later(..) | Page::Other) => Outcome::Refused,
        Err(_) => Outcome::Fault,
    };
    if !world.is_over() {
        world.record(browser.circuit, at, started.elapsed(), outcome);
    }
    outcome
}

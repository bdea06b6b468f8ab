//! The attacks. Each is bounded in circuits, in what it sends a second, and in what it holds open; when its future is
//! dropped, everything that it began ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::{
    Browser, Fault, Fields, HOST, Page, address, connect, fire, form, single, token,
};
use crate::monitor::ask;
use crate::numbers::{Dice, Pacer};
use crate::people::{Habits, WayIn, World};
use crate::service::{DOWNLOAD, Part, TUNNEL};

/// An attack, by the number that it has in docs/siege.md, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// 1: circuits with many streams each post bodies that never end.
    SlowBodies,
    /// 2: trusted and ordinary circuits keep asking for challenges, and answer none.
    Askers,
    /// 3: fresh circuits ask once.
    FreshOnce,
    /// 4: circuits ask again and again, and answer none.
    NeverAnswered,
    /// 5: one session sends as much as it can.
    OneSession,
    /// 9: one circuit opens thousands of connections.
    Connections,
    /// 10: cookie lines full of blanks.
    CookieBlanks,
    /// 12, and the smallest flood: what the proxy itself refuses, from one circuit, beside fifty that never answer.
    Few,
    /// 13: challenges of a low level, kept until the level is the highest.
    Hoard,
    /// Circuits that answer as people do, spend what they got, and answer again.
    Farm,
    /// Thousands of circuits with a connection each on which a request never ends.
    Dawdlers,
    /// Downloads that are hardly read, and silent tunnels.
    Held,
    /// Scrapers ask for more than the service can do, and it becomes ten times slower.
    SlowService,
    /// All of them, each a quarter as strong, and the service ten times slower.
    All,
}

impl Attack {
    /// All, in the order in which they are played.
    pub const ALL: [Self; 14] = [
        Self::SlowBodies,
        Self::Askers,
        Self::FreshOnce,
        Self::NeverAnswered,
        Self::OneSession,
        Self::Connections,
        Self::CookieBlanks,
        Self::Few,
        Self::Hoard,
        Self::Farm,
        Self::Dawdlers,
        Self::Held,
        Self::SlowService,
        Self::All,
    ];

    /// What it is called in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowBodies => "slow-bodies",
            Self::Askers => "askers",
            Self::FreshOnce => "fresh-once",
            Self::NeverAnswered => "never-answered",
            Self::OneSession => "one-session",
            Self::Connections => "connections",
            Self::CookieBlanks => "cookie-blanks",
            Self::Few => "few",
            Self::Hoard => "hoard",
            Self::Farm => "farm",
            Self::Dawdlers => "dawdlers",
            Self::Held => "held",
            Self::SlowService => "slow-service",
            Self::All => "all",
        }
    }

    /// What it does, for the table.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::SlowBodies => "20 circuits x 40 streams post bodies that do not end",
            Self::Askers => "100 trusted and 100 ordinary circuits keep asking for challenges",
            Self::FreshOnce => "250,000 fresh circuits ask once",
            Self::NeverAnswered => "2,000 circuits ask 100 times a second, none answers",
            Self::OneSession => "one session sends 2,000 requests a second",
            Self::Connections => "one circuit opens 8,000 connections, 1,000 others dawdle on one",
            Self::CookieBlanks => "two Cookie lines with 6,900 blanks, 23 times a second",
            Self::Few => "one circuit sends what the proxy refuses; 50 circuits never answer",
            Self::Hoard => "100 circuits keep challenges of level 2 until the level is 10",
            Self::Farm => "200 circuits answer after 8 to 30 s and spend what they got",
            Self::Dawdlers => "4,000 circuits with a dawdling connection each, twice",
            Self::Held => "600 downloads and tunnels are held",
            Self::SlowService => {
                "100 scrapers above the service's capacity; it is ten times slower"
            }
            Self::All => {
                "all of these at once, each a quarter as strong; a ten times slower service"
            }
        }
    }

    /// The number of the attack in the list of docs/siege.md.
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        match self {
            Self::SlowBodies => Some(1),
            Self::Askers => Some(2),
            Self::FreshOnce => Some(3),
            Self::NeverAnswered => Some(4),
            Self::OneSession => Some(5),
            Self::Connections => Some(9),
            Self::CookieBlanks => Some(10),
            Self::Few => Some(12),
            Self::Hoard => Some(13),
            _ => None,
        }
    }

    /// Whether its effect is on the queue, whose recovery is looked at after half a minute; after the others it is
    /// looked at sooner.
    #[must_use]
    pub const fn is_for_challenges(self) -> bool {
        matches!(
            self,
            Self::Askers
                | Self::FreshOnce
                | Self::NeverAnswered
                | Self::Hoard
                | Self::Farm
                | Self::All
        )
    }

    /// Whether 200 circuits or more take part who ask for challenges, so that the level has to rise; `None` where
    /// neither is promised.
    #[must_use]
    pub const fn raises_the_level(self) -> Option<bool> {
        match self {
            Self::Askers | Self::FreshOnce | Self::NeverAnswered | Self::All => Some(true),
            Self::OneSession | Self::Few | Self::CookieBlanks | Self::SlowBodies => Some(false),
            _ => None,
        }
    }

    /// What it consists of. A run in which one of them did nothing is void.
    #[must_use]
    pub const fn parts(self) -> &'static [Part] {
        match self {
            Self::SlowBodies => &[Part::Bodies],
            Self::Askers => &[Part::Askers],
            Self::FreshOnce => &[Part::Fresh],
            Self::NeverAnswered => &[Part::Flood],
            Self::OneSession => &[Part::One],
            Self::Connections => &[Part::Greedy, Part::Dawdlers],
            Self::CookieBlanks => &[Part::Blanks],
            Self::Few => &[Part::Refused, Part::Flood],
            Self::Hoard => &[Part::Hoard],
            Self::Farm => &[Part::Farm],
            Self::Dawdlers => &[Part::Dawdlers],
            Self::Held => &[Part::Held],
            Self::SlowService => &[Part::Scrapers],
            Self::All => &Part::ALL,
        }
    }

    /// What of it never happened.
    #[must_use]
    pub fn missing(self, counted: &Counted) -> Option<String> {
        self.parts().iter().find_map(|part| {
            let (name, did) = (part.name(), counted.part(*part));
            if part.has_sessions() && did.sessions == 0 {
                return Some(format!(
                    "the attack never happened: no session for its part \"{name}\""
                ));
            }
            // Its level did not rise, so nobody who hoards had a reason to go.
            let waits = self == Self::All && *part == Part::Hoard;
            (did.sent == 0 && !waits)
                .then(|| format!("the attack never happened: its part \"{name}\" sent nothing"))
        })
    }
}

/// What an attack did and got.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were not sent because too many were under way: the stack was slower than the attack.
    held_back: AtomicU64,
    /// Connections that are held now, and the most at once.
    held: AtomicU64,
    most_held: AtomicU64,
    /// Hoarded challenges that were answered, and sessions that they gave at once.
    redeemed: AtomicU64,
    hoarded: AtomicU64,
    parts: Mutex<BTreeMap<Part, Did>>,
    statuses: Mutex<BTreeMap<u16, u64>>,
    faults: Mutex<BTreeMap<Fault, u64>>,
}

/// What one part of an attack did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Did {
    /// Requests sent, and held connections opened.
    pub sent: u64,
    /// Circuits that asked for a challenge.
    pub circuits: u64,
    /// Sessions that its circuits earned.
    pub sessions: u64,
    /// Circuits that earned them, one after another.
    pub holders: u64,
}

/// A [`Tally`] at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counted {
    /// What each part did.
    pub parts: BTreeMap<Part, Did>,
    /// Requests that were not sent because too many were under way.
    pub held_back: u64,
    /// The most connections at once.
    pub most_held: u64,
    /// Hoarded challenges that were answered.
    pub redeemed: u64,
    /// Sessions that hoarded challenges gave at once.
    pub hoarded: u64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a response.
    pub faults: BTreeMap<Fault, u64>,
}

impl Counted {
    /// What a part did; nothing, if it has no part in the attack.
    #[must_use]
    pub fn part(&self, part: Part) -> Did {
        self.parts.get(&part).copied().unwrap_or_default()
    }

    /// The sum of a figure over all parts.
    #[must_use]
    pub fn sum(&self, figure: impl Fn(&Did) -> u64) -> u64 {
        self.parts.values().map(figure).sum()
    }
}

impl Tally {
    /// What was counted so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            parts: self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            held_back: of(&self.held_back),
            most_held: of(&self.most_held),
            redeemed: of(&self.redeemed),
            hoarded: of(&self.hoarded),
            statuses: self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            faults: self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn did(&self, part: Part, change: impl FnOnce(&mut Did)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(parts.entry(part).or_default());
    }

    fn asks(&self, part: Part) {
        self.did(part, |did| did.circuits += 1);
    }

    fn got(&self, part: Part, response: Result<u16, Fault>) {
        self.did(part, |did| did.sent += 1);
        self.response(response);
    }

    /// Counts a response to what was counted as sent before.
    fn response(&self, response: Result<u16, Fault>) {
        match response {
            Ok(status) => {
                let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
                *statuses.entry(status).or_default() += 1;
            }
            Err(fault) => {
                let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
                *faults.entry(fault).or_default() += 1;
            }
        }
    }

    /// Counts a connection that is held until the guard is dropped.
    fn hold(self: &Arc<Self>) -> Holding {
        let held = self.held.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_held.fetch_max(held, Ordering::Relaxed);
        Holding(self.clone())
    }
}

struct Holding(Arc<Tally>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An attack on a running stack.
#[derive(Clone, Debug)]
pub struct Field {
    /// The run.
    pub world: Arc<World>,
    /// What it counts.
    pub tally: Arc<Tally>,
    /// The admin API, for what the operator does meanwhile.
    pub admin: std::path::PathBuf,
    /// The share of its full strength.
    pub strength: f64,
    /// What people do, beside whom a farm's take a little longer.
    pub people: Habits,
    /// How long a ban may take until it holds.
    pub ban_holds: Duration,
}

/// What an attack has before it begins.
#[derive(Debug, Default)]
pub struct Prepared {
    sessions: BTreeMap<Part, Vec<Browser>>,
    hoard: Vec<(Browser, Vec<Fields>)>,
}

impl Prepared {
    fn sessions(&mut self, part: Part) -> Vec<Browser> {
        self.sessions.remove(&part).unwrap_or_default()
    }
}

/// How long sessions that an attack needs may take.
const SESSIONS_WAIT: Duration = Duration::from_secs(30);
/// How long after the operator's ban the cookie is tried: by then it holds on every node.
pub const BAN_HOLDS: Duration = Duration::from_secs(2);

impl Field {
    fn many(&self, count: usize) -> usize {
        ((count as f64 * self.strength).round() as usize).max(1)
    }

    fn rate(&self, rate: f64) -> f64 {
        (rate * self.strength).max(0.2)
    }

    /// Gets what the attack needs: sessions, challenges.
    pub async fn prepare(&self, attack: Attack) -> Prepared {
        let strong = if attack == Attack::All { self.quarter() } else { self.clone() };
        let count = |part: Part| match part {
            Part::Askers | Part::Scrapers => strong.many(100),
            Part::Held => strong.many(26),
            Part::One | Part::Banned => 1,
            _ => 0,
        };
        let wanted = attack.parts().iter().map(|part| (*part, count(*part)));
        let sessions = self.sessions(wanted.filter(|(_, count)| *count > 0)).await;
        let hoard = match attack.parts().contains(&Part::Hoard) {
            true => strong.hoard(strong.many(100)).await,
            false => Vec::new(),
        };
        Prepared { sessions, hoard }
    }

    /// The same with a quarter of the strength.
    fn quarter(&self) -> Self {
        Self { strength: self.strength / 4.0, ..self.clone() }
    }

    /// Attacks until it is dropped.
    pub async fn attack(&self, attack: Attack, mut prepared: Prepared) {
        match attack {
            Attack::SlowBodies => self.slow_bodies().await,
            Attack::Askers => self.askers(prepared.sessions(Part::Askers)).await,
            Attack::FreshOnce => self.fresh_once().await,
            Attack::NeverAnswered => self.never_answered(self.many(2000), self.rate(100.0)).await,
            Attack::OneSession => self.one_session(prepared.sessions(Part::One)).await,
            Attack::Connections => self.connections().await,
            Attack::CookieBlanks => self.cookie_blanks().await,
            Attack::Few => {
                tokio::join!(self.refused_by_the_proxy(), self.never_answered(50, 10.0));
            }
            Attack::Hoard => {
                let _shown_by_the_level = self.set_level(10).await;
                self.redeem(prepared.hoard).await;
                let _shown_by_the_level = self.set_level(2).await;
            }
            Attack::Farm => self.farm(self.many(200)).await,
            Attack::Dawdlers => self.dawdle(self.many(4000)).await,
            Attack::Held => self.hold(prepared.sessions(Part::Held)).await,
            Attack::SlowService => {
                self.world.service.slow_down(10);
                self.scrape(prepared.sessions(Part::Scrapers)).await;
            }
            Attack::All => self.all(prepared).await,
        }
        // Those that are done before their time.
        std::future::pending::<()>().await;
    }

    async fn all(&self, mut prepared: Prepared) {
        let quarter = self.quarter();
        let level = self.level().await.unwrap_or(1);
        let hoard = std::mem::take(&mut prepared.hoard);
        let hoarding = async {
            // As whoever hoards would: not before the level makes it worth while.
            while self.level().await.is_none_or(|now| now < level.saturating_add(2)) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            quarter.redeem(hoard).await;
        };
        self.world.service.slow_down(10);
        tokio::join!(
            quarter.slow_bodies(),
            quarter.askers(prepared.sessions(Part::Askers)),
            quarter.fresh_once(),
            quarter.never_answered(quarter.many(2000), quarter.rate(100.0)),
            quarter.one_session(prepared.sessions(Part::One)),
            quarter.connections(),
            quarter.cookie_blanks(),
            quarter.refused_by_the_proxy(),
            hoarding,
            quarter.farm(quarter.many(200)),
            quarter.dawdle(quarter.many(4000)),
            quarter.hold(prepared.sessions(Part::Held)),
            quarter.scrape(prepared.sessions(Part::Scrapers)),
            quarter.banned(prepared.sessions(Part::Banned)),
        );
    }

    /// The level in force.
    async fn level(&self) -> Option<u64> {
        let dial = ask(&self.admin, http::Method::GET, "/dial", None).await.ok()?;
        serde_json::from_str::<serde_json::Value>(&dial).ok()?.get("level")?.as_u64()
    }

    async fn set_level(&self, level: u8) -> anyhow::Result<String> {
        let body = serde_json::json!({"level": level, "reason": "under attack"}).to_string();
        ask(&self.admin, http::Method::POST, "/dial/set", Some(body)).await
    }

    /// This many sessions for each part, each on a circuit of its own; fewer if they cannot be had in time.
    async fn sessions(
        &self,
        wanted: impl Iterator<Item = (Part, usize)>,
    ) -> BTreeMap<Part, Vec<Browser>> {
        let mut coming = JoinSet::new();
        for (part, count) in wanted {
            for number in 0..count {
                let field = self.clone();
                coming.spawn(async move {
                    let mut browser = field.world.browser();
                    let came_in = field.come_in(part, &mut browser, number, Habits::EARLY).await;
                    came_in.then_some((part, browser))
                });
            }
        }
        let mut all: BTreeMap<Part, Vec<Browser>> = BTreeMap::new();
        let gather = async {
            while let Some(one) = coming.join_next().await {
                if let Ok(Some((part, browser))) = one {
                    all.entry(part).or_default().push(browser);
                }
            }
        };
        let _fewer = tokio::time::timeout(SESSIONS_WAIT, gather).await;
        all
    }

    async fn come_in(
        &self,
        part: Part,
        browser: &mut Browser,
        number: usize,
        habits: Habits,
    ) -> bool {
        let first = !browser.cookies.contains_key("cerberus_session");
        let mut way = WayIn::new(&self.world, habits, number as u64 ^ 0xbad);
        let came_in = way.go(browser, &part.path(number)).await;
        // Whoever was let in without a challenge earned nothing by it.
        if came_in && way.seen.challenges > 0 {
            self.tally.did(part, |did| {
                did.sessions += 1;
                did.holders += u64::from(first);
            });
        }
        came_in
    }

    /// 1.
    async fn slow_bodies(&self) {
        let mut streams = JoinSet::new();
        for _ in 0..self.many(20) {
            let circuit = self.world.circuit();
            for _ in 0..40 {
                let head = format!(
                    "POST /validate-captcha HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: \
                     application/x-www-form-urlencoded\r\nContent-Length: 200\r\n\r\ntoken="
                );
                let field = self.clone();
                streams.spawn(async move {
                    loop {
                        field.drip(Part::Bodies, circuit, &head, "a", Duration::from_secs(3)).await;
                    }
                });
            }
        }
        while streams.join_next().await.is_some() {}
    }

    /// Opens a connection, sends `head` and then `more` every few seconds, until it is closed.
    async fn drip(&self, part: Part, circuit: u32, head: &str, more: &str, every: Duration) {
        self.tally.did(part, |did| did.sent += 1);
        let Ok(mut stream) = connect(self.world.front, circuit).await else {
            self.tally.response(Err(Fault::Connect));
            tokio::time::sleep(Duration::from_secs(1)).await;
            return;
        };
        let holding = self.tally.hold();
        let mut open = stream.write_all(head.as_bytes()).await.is_ok();
        let mut start = [0; 64];
        while open {
            match tokio::time::timeout(every, stream.read(&mut start)).await {
                Ok(Ok(read)) => {
                    let status = start.get(9..12).filter(|_| read > 12);
                    let status =
                        status.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
                    self.tally.response(status.ok_or(Fault::Closed));
                    open = false;
                }
                Ok(Err(_)) => {
                    self.tally.response(Err(Fault::Closed));
                    open = false;
                }
                Err(_) => open = stream.write_all(more.as_bytes()).await.is_ok(),
            }
        }
        drop(holding);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// 2.
    async fn askers(&self, trusted: Vec<Browser>) {
        let ordinary = (0..self.many(100)).map(|_| self.world.browser());
        let mut all = JoinSet::new();
        for (number, mut browser) in trusted.into_iter().chain(ordinary).enumerate() {
            let field = self.clone();
            self.tally.asks(Part::Askers);
            all.spawn(async move {
                let mut ticket: Option<String> = None;
                tokio::time::sleep(Duration::from_millis(5 * number as u64)).await;
                loop {
                    let body = ticket.take().map_or_else(String::new, |ticket| {
                        serde_json::json!({"ticket": ticket}).to_string()
                    });
                    let reply = browser.post_json("/captcha/generate", body).await;
                    let status = reply.as_ref().map(|r| r.status.as_u16()).map_err(|e| *e);
                    field.tally.got(Part::Askers, status);
                    let body = reply.ok().and_then(|reply| {
                        serde_json::from_slice::<serde_json::Value>(&reply.body).ok()
                    });
                    ticket = body.and_then(|body| Some(body.get("ticket")?.as_str()?.to_owned()));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
        }
        while all.join_next().await.is_some() {}
    }

    /// Sends single requests at `rate`, each as `next` writes it, at most two thousand at once.
    async fn at_rate(
        &self,
        part: Part,
        rate: f64,
        mut next: impl FnMut() -> Option<(u32, String)>,
    ) {
        // Descriptors are bounded too: fewer where the attack is weaker.
        let slots = Arc::new(Semaphore::new(self.many(2000).max(64)));
        let mut pacer = Pacer::new(rate, &self.world.punctuality);
        let mut all = JoinSet::new();
        loop {
            pacer.next().await;
            while all.try_join_next().is_some() {}
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                self.tally.held_back.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let Some((circuit, request)) = next() else { break };
            let field = self.clone();
            all.spawn(async move {
                field.tally.got(part, fire(field.world.front, circuit, &request).await);
                drop(slot);
            });
        }
        while all.join_next().await.is_some() {}
    }

    /// 3.
    async fn fresh_once(&self) {
        let (mut left, request) = (self.many(250_000), single(&Part::Fresh.path(0)));
        self.at_rate(Part::Fresh, self.rate(2500.0), || {
            left = left.checked_sub(1)?;
            self.tally.asks(Part::Fresh);
            Some((self.world.circuit(), request.clone()))
        })
        .await;
    }

    /// 4. Whoever is told to wait waits as the page says, and asks again at its turn once it has what it came for.
    async fn never_answered(&self, circuits: usize, rate: f64) {
        let mut free: VecDeque<Browser> = (0..circuits).map(|_| self.world.browser()).collect();
        let (back, mut returned) = tokio::sync::mpsc::unbounded_channel();
        let (mut pacer, mut fresh) = (Pacer::new(rate, &self.world.punctuality), circuits);
        let mut all = JoinSet::new();
        loop {
            pacer.next().await;
            while all.try_join_next().is_some() {}
            while let Ok(browser) = returned.try_recv() {
                free.push_back(browser);
            }
            // Every circuit waits already: more would be other circuits.
            let Some(browser) = free.pop_front() else { continue };
            if fresh > 0 {
                fresh -= 1;
                self.tally.asks(Part::Flood);
            }
            let (field, back) = (self.clone(), back.clone());
            all.spawn(async move {
                let _the_attack_is_over = back.send(field.ask_and_wait(browser).await);
            });
        }
    }

    /// Asks for a page, follows waiting pages to a challenge, and leaves it.
    async fn ask_and_wait(&self, mut browser: Browser) -> Browser {
        let mut path = Part::Flood.path(0);
        loop {
            let reply = browser.get(&path).await;
            browser.hang_up();
            let status = reply.as_ref().map(|reply| reply.status.as_u16());
            self.tally.got(Part::Flood, status.map_err(|fault| *fault));
            match reply.map(|reply| reply.page()) {
                Ok(Page::Later(after, to)) => {
                    tokio::time::sleep(after).await;
                    path = to;
                }
                Ok(Page::Redirect(to)) if to != path => path = to,
                _ => return browser,
            }
        }
    }

    /// 5.
    async fn one_session(&self, sessions: Vec<Browser>) {
        let Some(session) = sessions.into_iter().next() else { return };
        let mut streams = JoinSet::new();
        for stream in 0..16 {
            let (mut browser, field) = (session.tab(), self.clone());
            let rate = self.rate(2000.0) / 16.0;
            streams.spawn(async move {
                let mut number = 0_u64;
                let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
                tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    tick.tick().await;
                    number += 1;
                    let path = Part::One.path(format!("{stream}/{number}"));
                    let reply = browser.get(&path).await;
                    field.tally.got(Part::One, reply.map(|reply| reply.status.as_u16()));
                }
            });
        }
        while streams.join_next().await.is_some() {}
    }

    /// 9.
    async fn connections(&self) {
        let (one, greedy) = (self.clone(), self.world.circuit());
        let greedy = async move {
            let mut pacer = Pacer::new(500.0, &one.world.punctuality);
            let mut all = JoinSet::new();
            for _ in 0..one.many(8000) {
                pacer.next().await;
                let field = one.clone();
                all.spawn(async move {
                    let path = Part::Greedy.path(0);
                    let head = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n");
                    field
                        .drip(Part::Greedy, greedy, &head, "X-A: a\r\n", Duration::from_secs(4))
                        .await;
                });
            }
            while all.join_next().await.is_some() {}
        };
        tokio::join!(greedy, self.dawdle(self.many(1000)));
    }

    /// 10.
    async fn cookie_blanks(&self) {
        let circuits: Vec<u32> = (0..8).map(|_| self.world.circuit()).collect();
        let (mut at, blanks, path) = (0, " ".repeat(6900), Part::Blanks.path(0));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=1;{blanks}x\r\nCookie: b=1;{blanks}x\r\n\
             Connection: close\r\n\r\n"
        );
        self.at_rate(Part::Blanks, self.rate(23.0), || {
            at += 1;
            Some((*circuits.get(at % circuits.len())?, request.clone()))
        })
        .await;
    }

    /// 12.
    async fn refused_by_the_proxy(&self) {
        let (circuit, mut at, path) = (self.world.circuit(), 0, Part::Refused.path(0));
        let requests = [
            format!(
                "GET http://elsewhere.onion{path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
            ),
            format!(
                "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nHost: elsewhere.onion\r\nConnection: close\r\n\r\n"
            ),
        ];
        self.at_rate(Part::Refused, self.rate(20.0), || {
            at += 1;
            Some((circuit, requests.get(at % 2)?.clone()))
        })
        .await;
    }

    /// 13, before: challenges of the level in force.
    async fn hoard(&self, count: usize) -> Vec<(Browser, Vec<Fields>)> {
        let mut all = Vec::new();
        for _ in 0..count {
            let mut browser = self.world.browser();
            let mut kept: Vec<Fields> = Vec::new();
            self.tally.asks(Part::Hoard);
            // As many as one circuit may keep; where it is shown the same one again, that one.
            for _ in 0..3 {
                if let Ok(reply) = browser.get(&Part::Hoard.path(0)).await
                    && let Page::Challenge(fields) = reply.page()
                    && !kept.iter().any(|other| token(other) == token(&fields))
                {
                    kept.push(fields);
                }
            }
            all.push((browser, kept));
        }
        all
    }

    /// 13, after: every kept challenge is answered at the level of now.
    async fn redeem(&self, hoard: Vec<(Browser, Vec<Fields>)>) {
        let mut dice = Dice(13);
        for (browser, kept) in hoard {
            for mut fields in kept {
                // It ran out.
                let Some(answer) = self.world.answers.of(token(&fields)).await else { continue };
                fields.push(("answer".to_owned(), answer));
                let mut tab = browser.tab();
                let reply = tab.post("/validate-captcha", form(&fields)).await;
                self.tally.got(Part::Hoard, reply.map(|reply| reply.status.as_u16()));
                let paid = tab.cookies.get("cerberus_session").is_some_and(|it| it.len() > 20);
                self.tally.redeemed.fetch_add(1, Ordering::Relaxed);
                self.tally.hoarded.fetch_add(u64::from(paid), Ordering::Relaxed);
                tokio::time::sleep(dice.seconds((0.01, 0.05))).await;
            }
        }
    }

    /// 7: the operator bans a circuit with a session, and its cookie is tried there and on another circuit.
    async fn banned(&self, sessions: Vec<Browser>) {
        let Some(mut here) = sessions.into_iter().next() else { return };
        let path = format!("/circuits/{}/ban", address(here.circuit));
        let body = serde_json::json!({"reason": "under attack"}).to_string();
        if ask(&self.admin, http::Method::POST, &path, Some(body)).await.is_err() {
            return;
        }
        tokio::time::sleep(self.ban_holds).await;
        // A connection of before would be another question.
        here.hang_up();
        let cookies = here.cookies.clone();
        for page in 0.. {
            let mut there = self.world.browser();
            for browser in [&mut here, &mut there] {
                browser.cookies.clone_from(&cookies);
                let reply = browser.get(&Part::Banned.path(page)).await;
                self.tally.got(Part::Banned, reply.map(|reply| reply.status.as_u16()));
            }
            // Each of the others is a circuit more that asks.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Ten pages a second to a circuit: several times what a session may.
    async fn farm(&self, count: usize) {
        let mut all = JoinSet::new();
        let (least, most) = self.people.reads;
        let habits = Habits { reads: (1.6 * least, 1.2 * most), errs: 0.15, ..Habits::EARLY };
        for number in 0..count {
            let (field, mut browser) = (self.clone(), self.world.browser());
            self.tally.asks(Part::Farm);
            all.spawn(async move {
                loop {
                    if !field.come_in(Part::Farm, &mut browser, number, habits).await {
                        return;
                    }
                    let pause = Duration::from_millis(100);
                    field.spend(Part::Farm, &mut browser, number, pause).await;
                }
            });
        }
        while all.join_next().await.is_some() {}
    }

    /// Asks for page after page until another challenge has to be answered.
    async fn spend(&self, part: Part, browser: &mut Browser, number: usize, pause: Duration) {
        for page in 0.. {
            let path = part.path(format!("{number}/{page}"));
            let reply = browser.get(&path).await;
            let challenged = reply.as_ref().is_ok_and(|r| matches!(r.page(), Page::Challenge(_)));
            self.tally.got(part, reply.map(|reply| reply.status.as_u16()));
            if challenged {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Scrapers that are in: 1.5 pages a second each, which one session may.
    async fn scrape(&self, sessions: Vec<Browser>) {
        let mut all = JoinSet::new();
        for (number, mut browser) in sessions.into_iter().enumerate() {
            let field = self.clone();
            all.spawn(async move {
                loop {
                    let pause = Duration::from_millis(660);
                    field.spend(Part::Scrapers, &mut browser, number, pause).await;
                    let habits = Habits::EARLY;
                    if !field.come_in(Part::Scrapers, &mut browser, number, habits).await {
                        return;
                    }
                }
            });
        }
        while all.join_next().await.is_some() {}
    }

    /// A connection each, on which a head never ends; all of them closed and opened again after twenty seconds.
    async fn dawdle(&self, count: usize) {
        let circuits: Vec<u32> = (0..count).map(|_| self.world.circuit()).collect();
        loop {
            let mut wave = JoinSet::new();
            let fill = async {
                let mut pacer = Pacer::new(1000.0, &self.world.punctuality);
                for circuit in &circuits {
                    pacer.next().await;
                    let (field, circuit) = (self.clone(), *circuit);
                    wave.spawn(async move {
                        let (path, every) = (Part::Dawdlers.path(0), Duration::from_secs(4));
                        let head = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n");
                        loop {
                            field.drip(Part::Dawdlers, circuit, &head, "X-A: a\r\n", every).await;
                        }
                    });
                }
                while wave.join_next().await.is_some() {}
            };
            let _next_wave = tokio::time::timeout(Duration::from_secs(20), fill).await;
            wave.shutdown().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    /// Downloads that are read by a KiB a second, and tunnels that say nothing: 24 to a session.
    async fn hold(&self, sessions: Vec<Browser>) {
        let mut all = JoinSet::new();
        for session in sessions {
            let cookies: Vec<_> = session.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let cookies = cookies.join("; ");
            for number in 0..24 {
                let (field, cookies, circuit) = (self.clone(), cookies.clone(), session.circuit);
                all.spawn(async move {
                    let tunnel = number % 2 == 0;
                    let (path, upgrade) = match tunnel {
                        true => (TUNNEL, "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
                        false => (DOWNLOAD, ""),
                    };
                    let path = Part::Held.path(path.trim_start_matches('/'));
                    let request = format!(
                        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookies}\r\n{upgrade}\r\n"
                    );
                    loop {
                        field.read_slowly(circuit, &request).await;
                        tokio::time::sleep(Duration::from_secs(2)).await;
                    }
                });
            }
        }
        while all.join_next().await.is_some() {}
    }

    async fn read_slowly(&self, circuit: u32, request: &str) {
        let Ok(mut stream) = connect(self.world.front, circuit).await else {
            self.tally.got(Part::Held, Err(Fault::Connect));
            return;
        };
        if stream.write_all(request.as_bytes()).await.is_err() {
            return;
        }
        let mut buffer = [0; 1024];
        let Ok(read) = stream.read(&mut buffer).await else { return };
        let status = buffer.get(9..12).filter(|_| read > 12);
        let status = status.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        self.tally.got(Part::Held, status.ok_or(Fault::Closed));
        if !matches!(status, Some(101 | 200)) {
            return;
        }
        let _holding = self.tally.hold();
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

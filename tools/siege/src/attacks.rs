//! The attacks. Each is bounded in circuits, in what it sends a second, and in what it holds open; when its future is
//! dropped, everything that it began ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::{Browser, Fault, Fields, HOST, Page, connect, fire, form, single};
use crate::monitor::ask;
use crate::numbers::{Dice, Pacer};
use crate::people::{Habits, WayIn, World};
use crate::service::{ATTACKERS, DOWNLOAD, TUNNEL};

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
    /// All of them, each a quarter as strong.
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
            Self::All => "all of these at once, each a quarter as strong",
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

    /// Whether fresh circuits that ask stay under five times what a minute gives out, so that every newcomer has to
    /// be in within a minute.
    #[must_use]
    pub const fn leaves_room(self) -> bool {
        !matches!(self, Self::FreshOnce | Self::All)
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

    /// Whether its sessions send requests to the service.
    #[must_use]
    pub const fn spends_sessions(self) -> bool {
        matches!(self, Self::OneSession | Self::Farm | Self::SlowService | Self::All)
    }
}

/// What an attack did and got.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests sent.
    sent: AtomicU64,
    /// Requests that were not sent because too many were under way: the stack was slower than the attack.
    held_back: AtomicU64,
    /// Circuits that asked for a challenge.
    circuits: AtomicU64,
    /// Sessions that its circuits earned.
    sessions: AtomicU64,
    /// Connections that are held now, and the most at once.
    held: AtomicU64,
    most_held: AtomicU64,
    /// Sessions that hoarded challenges gave at once.
    hoarded: AtomicU64,
    statuses: Mutex<BTreeMap<u16, u64>>,
    faults: Mutex<BTreeMap<Fault, u64>>,
}

/// A [`Tally`] at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counted {
    /// Requests sent.
    pub sent: u64,
    /// Requests that were not sent because too many were under way.
    pub held_back: u64,
    /// Circuits that asked for a challenge.
    pub circuits: u64,
    /// Sessions that its circuits earned.
    pub sessions: u64,
    /// The most connections at once.
    pub most_held: u64,
    /// Sessions that hoarded challenges gave at once.
    pub hoarded: u64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a response.
    pub faults: BTreeMap<Fault, u64>,
}

impl Tally {
    /// What was counted so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            sent: of(&self.sent),
            held_back: of(&self.held_back),
            circuits: of(&self.circuits),
            sessions: of(&self.sessions),
            most_held: of(&self.most_held),
            hoarded: of(&self.hoarded),
            statuses: self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            faults: self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn got(&self, response: Result<u16, Fault>) {
        self.sent.fetch_add(1, Ordering::Relaxed);
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
}

/// What an attack has before it begins.
#[derive(Debug, Default)]
pub struct Prepared {
    sessions: Vec<Browser>,
    hoard: Vec<(Browser, Vec<Fields>)>,
}

impl Field {
    fn many(&self, count: usize) -> usize {
        ((count as f64 * self.strength).round() as usize).max(1)
    }

    fn rate(&self, rate: f64) -> f64 {
        (rate * self.strength).max(0.2)
    }

    /// Gets what the attack needs: sessions, challenges.
    pub async fn prepare(&self, attack: Attack) -> Prepared {
        let count = match attack {
            Attack::Askers => self.many(100),
            Attack::OneSession => 1,
            Attack::Held => self.many(26),
            Attack::SlowService => self.many(100),
            Attack::All => {
                let quarter = self.quarter();
                1 + quarter.many(26) + quarter.many(100)
            }
            _ => 0,
        };
        let sessions = self.sessions(count).await;
        let hoard = match attack {
            Attack::Hoard => self.hoard(self.many(100)).await,
            _ => Vec::new(),
        };
        Prepared { sessions, hoard }
    }

    /// The same with a quarter of the strength.
    fn quarter(&self) -> Self {
        Self { strength: self.strength / 4.0, ..self.clone() }
    }

    /// Attacks until it is dropped.
    pub async fn attack(&self, attack: Attack, prepared: Prepared) {
        match attack {
            Attack::SlowBodies => self.slow_bodies().await,
            Attack::Askers => self.askers(prepared.sessions).await,
            Attack::FreshOnce => self.fresh_once().await,
            Attack::NeverAnswered => self.never_answered(self.many(2000), self.rate(100.0)).await,
            Attack::OneSession => self.one_session(prepared.sessions).await,
            Attack::Connections => self.connections().await,
            Attack::CookieBlanks => self.cookie_blanks().await,
            Attack::Few => {
                tokio::join!(self.refused_by_the_proxy(), self.never_answered(50, 10.0));
            }
            Attack::Hoard => self.redeem(prepared.hoard).await,
            Attack::Farm => self.farm(self.many(200)).await,
            Attack::Dawdlers => self.dawdle(self.many(4000)).await,
            Attack::Held => self.hold(prepared.sessions).await,
            Attack::SlowService => {
                self.world.service.slow_down(10);
                self.scrape(prepared.sessions).await;
            }
            Attack::All => self.all(prepared.sessions).await,
        }
        // Those that are done before their time.
        std::future::pending::<()>().await;
    }

    async fn all(&self, mut sessions: Vec<Browser>) {
        let quarter = self.quarter();
        let mut held = sessions.split_off(sessions.len().min(1));
        let one = sessions;
        let scrapers = held.split_off(held.len().min(quarter.many(26)));
        let (bodies, dawdlers) = (quarter.clone(), quarter.clone());
        tokio::join!(
            bodies.slow_bodies(),
            quarter.fresh_once(),
            quarter.never_answered(quarter.many(2000), quarter.rate(100.0)),
            quarter.one_session(one),
            quarter.cookie_blanks(),
            quarter.refused_by_the_proxy(),
            quarter.farm(quarter.many(200)),
            dawdlers.dawdle(quarter.many(4000)),
            quarter.hold(held),
            quarter.scrape(scrapers),
        );
    }

    /// This many sessions, each on a circuit of its own; fewer if they cannot be had within half a minute.
    async fn sessions(&self, count: usize) -> Vec<Browser> {
        let mut coming = JoinSet::new();
        for number in 0..count {
            let field = self.clone();
            coming.spawn(async move {
                let mut browser = field.world.browser();
                field.come_in(&mut browser, number, Habits::EARLY).await.then_some(browser)
            });
        }
        let mut all = Vec::new();
        let gather = async {
            while let Some(one) = coming.join_next().await {
                all.extend(one.ok().flatten());
            }
        };
        let _fewer = tokio::time::timeout(Duration::from_secs(30), gather).await;
        all
    }

    async fn come_in(&self, browser: &mut Browser, number: usize, habits: Habits) -> bool {
        let mut way = WayIn::new(&self.world, habits, number as u64 ^ 0xbad);
        let came_in = way.go(browser, &format!("{ATTACKERS}{number}")).await;
        self.tally.sessions.fetch_add(u64::from(came_in), Ordering::Relaxed);
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
                        field.drip(circuit, &head, "a", Duration::from_secs(3)).await;
                    }
                });
            }
        }
        while streams.join_next().await.is_some() {}
    }

    /// Opens a connection, sends `head` and then `more` every few seconds, until it is closed.
    async fn drip(&self, circuit: u32, head: &str, more: &str, every: Duration) {
        let Ok(mut stream) = connect(self.world.front, circuit).await else {
            self.tally.got(Err(Fault::Connect));
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
                    self.tally.got(status.ok_or(Fault::Closed));
                    open = false;
                }
                Ok(Err(_)) => {
                    self.tally.got(Err(Fault::Closed));
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
            self.tally.circuits.fetch_add(1, Ordering::Relaxed);
            all.spawn(async move {
                let mut ticket: Option<String> = None;
                tokio::time::sleep(Duration::from_millis(5 * number as u64)).await;
                loop {
                    let body = ticket.take().map_or_else(String::new, |ticket| {
                        serde_json::json!({"ticket": ticket}).to_string()
                    });
                    let reply = browser.post_json("/captcha/generate", body).await;
                    field.tally.got(reply.as_ref().map(|r| r.status.as_u16()).map_err(|e| *e));
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

    /// Sends single requests at `rate`, each as `next` writes it, at most this many at once.
    async fn at_rate(&self, rate: f64, mut next: impl FnMut() -> Option<(u32, String)>) {
        let slots = Arc::new(Semaphore::new(2000));
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
                field.tally.got(fire(field.world.front, circuit, &request).await);
                drop(slot);
            });
        }
        while all.join_next().await.is_some() {}
    }

    /// 3.
    async fn fresh_once(&self) {
        let (mut left, request) = (self.many(250_000), single("/x/fresh"));
        self.at_rate(self.rate(2500.0), || {
            left = left.checked_sub(1)?;
            self.tally.circuits.fetch_add(1, Ordering::Relaxed);
            Some((self.world.circuit(), request.clone()))
        })
        .await;
    }

    /// 4.
    async fn never_answered(&self, circuits: usize, rate: f64) {
        let circuits: Vec<u32> = (0..circuits).map(|_| self.world.circuit()).collect();
        let (mut at, request) = (0, single("/x/flood"));
        self.at_rate(rate, || {
            at += 1;
            if at <= circuits.len() {
                self.tally.circuits.fetch_add(1, Ordering::Relaxed);
            }
            Some((*circuits.get((at - 1) % circuits.len())?, request.clone()))
        })
        .await;
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
                    let reply = browser.get(&format!("{ATTACKERS}{stream}/{number}")).await;
                    field.tally.got(reply.map(|reply| reply.status.as_u16()));
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
                    let head = format!("GET /x/greedy HTTP/1.1\r\nHost: {HOST}\r\n");
                    field.drip(greedy, &head, "X-A: a\r\n", Duration::from_secs(4)).await;
                });
            }
            while all.join_next().await.is_some() {}
        };
        tokio::join!(greedy, self.dawdle(self.many(1000)));
    }

    /// 10.
    async fn cookie_blanks(&self) {
        let circuits: Vec<u32> = (0..8).map(|_| self.world.circuit()).collect();
        let (mut at, blanks) = (0, " ".repeat(6900));
        let request = format!(
            "GET /x/blanks HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=1;{blanks}x\r\nCookie: b=1;{blanks}x\r\n\
             Connection: close\r\n\r\n"
        );
        self.at_rate(self.rate(23.0), || {
            at += 1;
            Some((*circuits.get(at % circuits.len())?, request.clone()))
        })
        .await;
    }

    /// 12.
    async fn refused_by_the_proxy(&self) {
        let (circuit, mut at) = (self.world.circuit(), 0);
        let requests = [
            format!(
                "GET http://elsewhere.onion/ HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
            ),
            format!(
                "GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: elsewhere.onion\r\nConnection: close\r\n\r\n"
            ),
        ];
        self.at_rate(self.rate(20.0), || {
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
            let mut kept = Vec::new();
            self.tally.circuits.fetch_add(1, Ordering::Relaxed);
            // As many as one circuit may keep.
            for _ in 0..3 {
                if let Ok(reply) = browser.get("/x/hoard").await
                    && let Page::Challenge(fields) = reply.page()
                {
                    kept.push(fields);
                }
            }
            all.push((browser, kept));
        }
        all
    }

    /// 13, after: the operator turns the dial, and every kept challenge is answered.
    async fn redeem(&self, hoard: Vec<(Browser, Vec<Fields>)>) {
        let set = |level: u8| {
            let body = serde_json::json!({"level": level, "reason": "under attack"}).to_string();
            let admin = self.admin.clone();
            async move { ask(&admin, http::Method::POST, "/dial/set", Some(body)).await }
        };
        let _shown_by_the_level = set(10).await;
        let mut dice = Dice(13);
        for (browser, kept) in hoard {
            for mut fields in kept {
                let token = fields.iter().find(|(name, _)| name == "token").cloned();
                let token = token.map(|(_, token)| token).unwrap_or_default();
                let Some(answer) = self.world.answers.of(&token).await else { continue };
                fields.push(("answer".to_owned(), answer));
                let mut tab = browser.tab();
                let reply = tab.post("/validate-captcha", form(&fields)).await;
                self.tally.got(reply.map(|reply| reply.status.as_u16()));
                let paid = tab.cookies.get("cerberus_session").is_some_and(|it| it.len() > 20);
                self.tally.hoarded.fetch_add(u64::from(paid), Ordering::Relaxed);
                tokio::time::sleep(dice.seconds((0.01, 0.05))).await;
            }
        }
        let _shown_by_the_level = set(2).await;
    }

    async fn farm(&self, count: usize) {
        let mut all = JoinSet::new();
        let habits = Habits { reads: (8.0, 30.0), errs: 0.15, ..Habits::EARLY };
        for number in 0..count {
            let (field, mut browser) = (self.clone(), self.world.browser());
            self.tally.circuits.fetch_add(1, Ordering::Relaxed);
            all.spawn(async move {
                loop {
                    if !field.come_in(&mut browser, number, habits).await {
                        return;
                    }
                    field.spend(&mut browser, number, Duration::from_millis(500)).await;
                }
            });
        }
        while all.join_next().await.is_some() {}
    }

    /// Asks for page after page until another challenge has to be answered.
    async fn spend(&self, browser: &mut Browser, number: usize, pause: Duration) {
        for page in 0.. {
            let reply = browser.get(&format!("{ATTACKERS}{number}/{page}")).await;
            let challenged = reply.as_ref().is_ok_and(|r| matches!(r.page(), Page::Challenge(_)));
            self.tally.got(reply.map(|reply| reply.status.as_u16()));
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
                    field.spend(&mut browser, number, Duration::from_millis(660)).await;
                    if !field.come_in(&mut browser, number, Habits::EARLY).await {
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
                        let head = format!("GET /x/dawdle HTTP/1.1\r\nHost: {HOST}\r\n");
                        loop {
                            field.drip(circuit, &head, "X-A: a\r\n", Duration::from_secs(4)).await;
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
            self.tally.got(Err(Fault::Connect));
            return;
        };
        if stream.write_all(request.as_bytes()).await.is_err() {
            return;
        }
        let mut buffer = [0; 1024];
        let Ok(read) = stream.read(&mut buffer).await else { return };
        let status = buffer.get(9..12).filter(|_| read > 12);
        let status = status.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        self.tally.got(status.ok_or(Fault::Closed));
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

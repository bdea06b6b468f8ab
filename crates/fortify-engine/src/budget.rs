//! Budgets: how fast the holder of a session may request pages, and how many in all.
//!
//! A solved challenge buys a session, and a session buys a number of pages, so that one solve is no flood. The rate is
//! a token bucket, the quota a counter that only falls. Both are in milli-pages, so that an asset may cost a tenth.
//!
//! Pure but for the map: [`Account`] is one session's budget, and [`Budgets`] those of all sessions.
//!
//! # Several nodes
//!
//! The budget is then in the shared store, and a node takes a tenth of the bucket at a time, ahead of need, so that
//! requests are paid for in memory. Together all nodes never spend more than the quota. What a node holds it may spend at
//! once: at most one lease and the one taken ahead, so that n nodes exceed the rate by at most 3n twentieths of a bucket,
//! once. When the store does not answer, a node spends what it holds, and then the request fails, as it does where the
//! store cannot say whether a session is in force.
//!
//! # A restart
//!
//! A single node writes what is left every few seconds ([`Budgets::keep`]), and at its end. One that is killed gives each
//! session back at most what it spent since then, and a full bucket.
//!
//! # When the map is full
//!
//! The session that was used least recently is forgotten, and goes on as after a restart; where nodes share budgets, as
//! the store has it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use fortify_core::pseudonym::CircuitTag;
use fortify_core::recent::Recent;
use fortify_reputation::budget_notes::{BudgetNote, BudgetNotes};
use fortify_reputation::earned::EarnedSessions;
use fortify_store::record::{Lease, LeaseRequest, Session, SessionId};

use crate::threat::table::LevelPolicy;

/// Milli-pages of a page.
pub const PAGE: u32 = 1000;

/// Milli-pages of a request that changes something: services do more for it than for a page.
pub const WRITE: u32 = 2 * PAGE;

/// Milli-pages of a picture, style sheet or script of a page.
pub const ASSET: u32 = PAGE / 10;

/// The most assets that follow one page at the price of assets, and for how long. The visitor's browser says what is an
/// asset, so the discount is bounded: a page of more than 40 parts is rare, and over Tor it has loaded within 30 s.
pub const ASSETS_OF_A_PAGE: u8 = 40;
/// See [`ASSETS_OF_A_PAGE`].
pub const ASSETS_WITHIN: Duration = Duration::from_secs(30);

/// The most sessions whose budgets are remembered; see the head of this file. The default limit of challenges is
/// 60,000 an hour.
pub const MOST_SESSIONS: usize = 100_000;

/// How long a session that exceeds its rate without a pause keeps it, and how long a pause is. A browser that waits as
/// `Retry-After` says pauses for longer after a refusal than [`PAUSE`] only if its page is closed, so the number of
/// refusals counts too: twice what is allowed in a minute, which reloading pages do not reach. The assets of a page do not
/// count.
pub const KEPT_UP: Duration = Duration::from_secs(60);
/// See [`KEPT_UP`].
pub const PAUSE: Duration = Duration::from_secs(10);

/// The part of the rate that a session has beyond those that its circuit may earn in an hour.
pub const THROTTLED: u32 = 10;

/// How many times as much a request costs while behaviour finds a flood or a scraper.
pub const SUSPECTED: u32 = 4;

/// Locks of leases: sessions of one lock wait for each other's round trip.
const LEASING: usize = 64;

/// How far the clock may be behind the last request before it counts as set back: otherwise the bucket would not fill
/// until it has caught up.
const SET_BACK: Duration = Duration::from_secs(60);

/// What a session buys, from the level at which it was earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Pages a minute.
    pub per_minute: u32,
    /// Pages at once.
    pub burst: u32,
    /// Pages in all.
    pub pages: u32,
}

impl Allowance {
    /// The allowance of a session earned at the level of `policy`.
    #[must_use]
    pub const fn of(policy: &LevelPolicy) -> Self {
        Self {
            per_minute: policy.pages_per_minute,
            burst: policy.page_burst,
            pages: policy.pages_per_session,
        }
    }

    /// The same at a tenth of the rate, of at least two pages: less would refuse every form.
    #[must_use]
    pub fn throttled(self) -> Self {
        Self {
            per_minute: (self.per_minute / THROTTLED).max(1),
            burst: (self.burst / THROTTLED).max(WRITE / PAGE),
            ..self
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Whether it may change something at the service: any method but `GET`, `HEAD`, `OPTIONS` and `TRACE`.
    pub writes: bool,
    /// Whether the browser, or the file's name, says that it is part of a page.
    pub asset: bool,
    /// Whether behaviour finds a flood or a scraper.
    pub suspected: bool,
    /// Whether it sends a log-in form while behaviour finds somebody who tries passwords.
    pub stuffing: bool,
}

/// Whether a request is within its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It is, and cost so many milli-pages.
    Paid(u32),
    /// It is too fast. There is room again after this long.
    TooFast(Slow),
    /// The quota is used up: there has to be another session.
    UsedUp,
    /// It needs another challenge before it may send a log-in form.
    LogIn,
    /// This node has to take a lease of so many milli-pages from the shared store first.
    Lease(u64),
}

/// A request that was too fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// After how long there is room for a few pages.
    pub wait: Duration,
    /// When the circuit may earn a session of the full rate again, if this one is throttled.
    pub full_rate_in: Option<Duration>,
    /// Whether this went on for so long that the session has to end.
    pub kept_up: bool,
}

impl Slow {
    /// A request that may be sent again in a second.
    #[must_use]
    pub const fn briefly() -> Self {
        Self { wait: Duration::from_secs(1), full_rate_in: None, kept_up: false }
    }
}

/// The budget of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    allowance: Allowance,
    /// What is in the bucket at `filled_at`, in sixtieths of a milli-page.
    grains: u64,
    filled_at: Timestamp,
    /// Milli-pages left of the quota.
    left: u64,
    /// When the last page was requested, and how many assets followed it.
    page_at: Option<Timestamp>,
    assets: u8,
    /// The first and the last refusal without a pause, and their number.
    refused: Option<(Timestamp, Timestamp, u32)>,
    /// When it is of the full rate again, if it is throttled.
    full_rate_at: Option<Timestamp>,
    /// Whether it may send one log-in form while behaviour finds that passwords are tried.
    log_in: bool,
    /// Where the budget is shared with other nodes: `grains` are then what this node holds, which only a lease adds to,
    /// and here is until when the store has none to give. `left` counts what the store has too.
    shared: Option<Timestamp>,
    /// The circuit that it was last used on.
    circuit: Option<CircuitTag>,
    /// When its session expires.
    until: Timestamp,
}

impl Account {
    /// A whole budget.
    #[must_use]
    pub fn new(allowance: Allowance, now: Timestamp, until: Timestamp) -> Self {
        Self {
            allowance,
            grains: grains(milli(allowance.burst)),
            filled_at: now,
            left: milli(allowance.pages),
            page_at: None,
            assets: 0,
            refused: None,
            full_rate_at: None,
            log_in: false,
            shared: None,
            circuit: None,
            until,
        }
    }

    /// Milli-pages in the bucket.
    const fn tokens(&self) -> u64 {
        self.grains / 60
    }

    /// Milli-pages left of the quota.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Pays for a request, if there is enough.
    #[must_use]
    pub fn spend(&mut self, price: Price, now: Timestamp) -> Spent {
        if price.stuffing && !self.log_in {
            return Spent::LogIn;
        }
        self.fill(now);
        let cost = self.cost(price, now);
        if self.left < u64::from(cost) + self.reserve(price, now) {
            return Spent::UsedUp;
        }
        if self.tokens() < u64::from(cost)
            && self.shared.is_some_and(|none_until| none_until <= now)
        {
            return Spent::Lease(self.lease_size().max(u64::from(cost) - self.tokens()));
        }
        if self.tokens() < u64::from(cost) {
            return Spent::TooFast(self.refuse(cost, now));
        }
        self.grains -= grains(cost.into());
        self.left -= u64::from(cost);
        self.log_in &= !price.stuffing;
        if self.is_discounted(price, now) {
            self.assets = self.assets.saturating_add(1);
        } else {
            (self.page_at, self.assets) = (Some(now), 0);
        }
        Spent::Paid(cost)
    }

    /// What [`Self::spend`] would say, without paying.
    #[must_use]
    pub fn would(&self, price: Price, now: Timestamp) -> Spent {
        let mut copy = *self;
        // A question is no refusal.
        match copy.spend(price, now) {
            Spent::TooFast(slow) => Spent::TooFast(Slow { kept_up: false, ..slow }),
            other => other,
        }
    }

    /// Takes a page for a minute of a tunnel, whatever the rate: it was opened within it. Returns whether any are left.
    fn charge(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        self.grains = self.grains.saturating_sub(grains(PAGE.into()));
        self.left = self.left.saturating_sub(PAGE.into());
        self.left > 0
    }

    /// Gives back what a page cost more than an asset, because the service's answer was one. `paid` is what
    /// [`Self::spend`] took, so a budget never grows.
    pub fn refund(&mut self, paid: u32) {
        let back = u64::from(paid - paid / (PAGE / ASSET));
        self.grains = (self.grains + grains(back)).min(grains(milli(self.allowance.burst)));
        self.left = (self.left + back).min(milli(self.allowance.pages));
        // It was no page, so no assets follow it at their price.
        self.assets = ASSETS_OF_A_PAGE;
    }

    /// Takes what a page costs more than an asset, because the service's answer to what the browser called an asset was
    /// one. `paid` is what [`Self::spend`] took.
    pub fn surcharge(&mut self, paid: u32) {
        let more = u64::from(paid) * u64::from(PAGE / ASSET - 1);
        self.grains = self.grains.saturating_sub(grains(more));
        self.left = self.left.saturating_sub(more);
    }

    /// Whether it was refused for its rate within the last [`PAUSE`].
    #[must_use]
    pub fn was_refused(&self, now: Timestamp) -> bool {
        self.refused.is_some_and(|(_, last, _)| last.until(now) < PAUSE)
    }

    /// The same, shared with other nodes: it holds nothing until it has a lease.
    #[must_use]
    pub fn share(self) -> Self {
        Self { grains: 0, shared: Some(Timestamp::from_millis(0)), ..self }
    }

    /// A tenth of the bucket, at least what a form costs.
    fn lease_size(&self) -> u64 {
        (milli(self.allowance.burst) / 10).max(WRITE.into())
    }

    /// How much to take ahead of need: a lease, once less than half of one is held.
    fn ahead(&self, now: Timestamp) -> Option<u64> {
        let asks = self.shared.is_some_and(|none_until| none_until <= now)
            && self.tokens() < self.lease_size() / 2
            && self.left > self.tokens();
        asks.then(|| self.lease_size())
    }

    /// Adds a lease, of which `most` was asked for.
    fn leased(&mut self, most: u64, lease: Lease, now: Timestamp) {
        self.grains = self.grains.saturating_add(grains(lease.granted));
        self.left = self.left.min(self.tokens().saturating_add(lease.left));
        // Another node may have opened it, with a tenth of the rate.
        self.allowance.per_minute = lease.per_minute;
        let burst = u32::try_from(lease.burst / u64::from(PAGE)).unwrap_or(u32::MAX);
        self.allowance.burst = burst;
        let missing = most.saturating_sub(lease.granted);
        let millis = (missing * 60).div_ceil(u64::from(lease.per_minute).max(1));
        self.shared = Some(now.after(Duration::from_millis(millis)));
    }

    fn cost(&self, price: Price, now: Timestamp) -> u32 {
        let one = match price {
            Price { writes: true, .. } => WRITE,
            _ if self.is_discounted(price, now) => ASSET,
            _ => PAGE,
        };
        // Never more than a full bucket holds, or it could not be paid at all.
        let most = u32::try_from(milli(self.allowance.burst)).unwrap_or(u32::MAX);
        (if price.suspected { one * SUSPECTED } else { one }).min(most)
    }

    /// Milli-pages that a page leaves for its assets, so that the last page of a quota is whole.
    fn reserve(&self, price: Price, now: Timestamp) -> u64 {
        let assets = u64::from(ASSETS_OF_A_PAGE) * u64::from(ASSET);
        if self.is_discounted(price, now) {
            0
        } else {
            assets.min(milli(self.allowance.pages) / 10)
        }
    }

    fn is_discounted(&self, price: Price, now: Timestamp) -> bool {
        price.asset
            && !price.writes
            && self.assets < ASSETS_OF_A_PAGE
            && self.page_at.is_some_and(|page| page.until(now) < ASSETS_WITHIN)
    }

    /// Fills the bucket up to `now`. A clock that is set back fills nothing.
    fn fill(&mut self, now: Timestamp) {
        if self.shared.is_some() {
            return;
        }
        if now.until(self.filled_at) > SET_BACK {
            self.filled_at = now;
        }
        let millis = u64::try_from(self.filled_at.until(now).as_millis()).unwrap_or(u64::MAX);
        // A page is 60,000 grains and a minute 60,000 ms: pages a minute are grains a millisecond.
        let new = millis.saturating_mul(u64::from(self.allowance.per_minute));
        self.grains = self.grains.saturating_add(new).min(grains(milli(self.allowance.burst)));
        self.filled_at = self.filled_at.max(now);
    }

    /// Notes a refusal. The wait is for a tenth of a bucket, so that a person's ten tabs are not refused over and over.
    fn refuse(&mut self, cost: u32, now: Timestamp) -> Slow {
        let (first, count) = match self.refused {
            Some((first, last, count)) if last.until(now) < PAUSE => (first, count),
            _ => (now, 0),
        };
        let count = count.saturating_add((cost >= PAGE).into());
        self.refused = Some((first, now, count));
        let room = u64::from(cost).max(milli(self.allowance.burst) / 10);
        let missing = room.saturating_sub(self.tokens());
        let millis = (missing * 60).div_ceil(u64::from(self.allowance.per_minute).max(1));
        let many = self.allowance.per_minute.saturating_mul(2);
        let none_for = self.shared.map_or(Duration::ZERO, |none_until| now.until(none_until));
        Slow {
            wait: Duration::from_millis(millis).max(none_for).max(Duration::from_secs(1)),
            full_rate_in: self.full_rate_at.map(|at| now.until(at)),
            kept_up: first.until(now) >= KEPT_UP && count >= many,
        }
    }
}

/// A sixtieth of a milli-page, so that a bucket is filled without rounding.
const fn grains(milli_pages: u64) -> u64 {
    milli_pages.saturating_mul(60)
}

const fn milli(pages: u32) -> u64 {
    pages as u64 * PAGE as u64
}

/// The budgets of all sessions, and how many sessions circuits earned.
#[derive(Debug)]
pub struct Budgets {
    accounts: Recent<Account, SessionId>,
    earned: EarnedSessions,
    /// What is left of them over a restart of a single node.
    notes: BudgetNotes,
    /// Whether other nodes have them too, and leases have to be taken.
    shared: bool,
    /// Held while a lease is taken, so that the requests of a session do not each take one.
    leasing: [Arc<tokio::sync::Mutex<()>>; LEASING],
}

impl Budgets {
    /// No budgets yet; `shared` with other nodes or not.
    #[must_use]
    pub fn new(shared: bool) -> Self {
        Self {
            accounts: Recent::new(MOST_SESSIONS),
            earned: EarnedSessions::default(),
            notes: BudgetNotes::default(),
            shared,
            leasing: std::array::from_fn(|_| Arc::default()),
        }
    }

    /// As [`Self::new`], with what the files in `data_dir` say if there is no other node.
    #[must_use]
    pub fn from_files(shared: bool, data_dir: &Path, now: Timestamp) -> Self {
        if shared {
            return Self::new(shared);
        }
        let (earned, notes) =
            (EarnedSessions::open(data_dir, now), BudgetNotes::open(data_dir, now));
        Self { earned, notes, ..Self::new(shared) }
    }

    /// Writes what changed since the last time. Blocks.
    pub fn keep(&self, now: Timestamp) {
        if self.notes.are_kept() {
            let accounts = self.accounts.all();
            self.notes.keep(accounts.into_iter().map(|(id, account)| (id, account.note())), now);
            self.earned.keep(now);
        }
    }

    /// What was lost of the files.
    #[must_use]
    pub fn damages(&self) -> Vec<Damage> {
        [self.notes.damages(), self.earned.damages()].concat()
    }

    /// The account of a `session` whose whole budget is `whole`, as far as the files know.
    pub fn resume(&self, session: &Session, whole: Account, now: Timestamp) -> Account {
        self.notes.of(session, now).map_or(whole, |note| whole.after(&note, now))
    }

    /// Counts a session that `circuit` earned; see [`EarnedSessions::earn`].
    pub fn earn(&self, circuit: CircuitTag, most: u32, now: Timestamp) -> Option<Timestamp> {
        self.earned.earn(circuit, most, now)
    }

    /// Whether they are shared with other nodes.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    /// The lock under which leases of `session` are taken.
    #[must_use]
    pub fn leasing(&self, session: SessionId) -> Arc<tokio::sync::Mutex<()>> {
        let [first, ..] = session.to_bytes();
        self.leasing[usize::from(first) % LEASING].clone()
    }

    /// What to ask the store for, to lease `most` milli-pages for `session`.
    pub fn lease_request(
        &self,
        session: SessionId,
        most: u64,
        now: Timestamp,
    ) -> Option<LeaseRequest> {
        let Account { allowance, until, .. } = self.account(session, now)?;
        let Allowance { per_minute, burst, pages } = allowance;
        Some(LeaseRequest { per_minute, burst: milli(burst), quota: milli(pages), most, until })
    }

    /// Adds a lease of `session`, of which `most` milli-pages were asked for.
    pub fn leased(&self, session: SessionId, most: u64, lease: Lease, now: Timestamp) {
        self.adjust(session, now, |account| account.leased(most, lease, now));
    }

    /// Opens the account of a session that `circuit` just earned.
    pub fn open(&self, session: SessionId, circuit: CircuitTag, account: Account) {
        let account = Account { circuit: Some(circuit), ..account };
        self.accounts.change(session, |_| false, |_| (account, ()));
    }

    /// Has an account of `session`: `new`, if there is none.
    pub fn know(&self, session: SessionId, now: Timestamp, new: impl FnOnce() -> Account) {
        let is_over = |account: &Account| account.until <= now;
        self.accounts.change(session, is_over, |known| (known.unwrap_or_else(new), ()));
    }

    /// Pays for a request of `session` on `circuit`; `new` is its account if it has none. Returns too how much this node
    /// should lease before it runs out.
    pub fn spend(
        &self,
        session: SessionId,
        circuit: CircuitTag,
        price: Price,
        now: Timestamp,
        new: impl FnOnce() -> Account,
    ) -> (Spent, Option<u64>) {
        let is_over = |account: &Account| account.until <= now;
        let (spent, ahead, before) = self.accounts.change(session, is_over, |known| {
            let mut account = known.unwrap_or_else(new);
            let spent = account.spend(price, now);
            let before = account.circuit.replace(circuit);
            (account, (spent, account.ahead(now), before))
        });
        if let Some(before) = before.filter(|before| *before != circuit) {
            self.earned.moved(before, circuit, now);
        }
        (spent, ahead)
    }

    /// Takes a page from `session` for a minute of a tunnel. Returns whether it has any left.
    pub fn charge(
        &self,
        session: SessionId,
        now: Timestamp,
        new: impl FnOnce() -> Account,
    ) -> bool {
        self.accounts.change(
            session,
            |account| account.until <= now,
            |known| {
                let mut account = known.unwrap_or_else(new);
                let some_left = account.charge(now);
                (account, some_left)
            },
        )
    }

    /// What [`Self::spend`] would say, without paying; `None` without an account.
    pub fn would(&self, session: SessionId, price: Price, now: Timestamp) -> Option<Spent> {
        let account = self.account(session, now)?;
        Some(account.would(price, now))
    }

    /// The account of `session`, if it has spent anything.
    pub fn account(&self, session: SessionId, now: Timestamp) -> Option<Account> {
        self.accounts.get(session, |account| account.until <= now)
    }

    /// Gives back what a request cost more than an asset; see [`Account::refund`].
    pub fn refund(&self, session: SessionId, paid: u32, now: Timestamp) {
        self.adjust(session, now, |account| account.refund(paid));
    }

    /// Takes what a request cost less than a page; see [`Account::surcharge`].
    pub fn surcharge(&self, session: SessionId, paid: u32, now: Timestamp) {
        self.adjust(session, now, |account| account.surcharge(paid));
    }

    /// Changes the account of `session`, if there is one.
    fn adjust(&self, session: SessionId, now: Timestamp, change: impl FnOnce(&mut Account)) {
        let Some(account) = self.account(session, now) else { return };
        self.accounts.change(
            session,
            |account| account.until <= now,
            |known| {
                let mut account = known.unwrap_or(account);
                change(&mut account);
                (account, ())
            },
        );
    }
}

impl Account {
    const fn note(&self) -> BudgetNote {
        BudgetNote { left: self.left, until: self.until, full_rate_at: self.full_rate_at }
    }

    /// The same with what an earlier process left of it.
    fn after(self, note: &BudgetNote, now: Timestamp) -> Self {
        let slowed = note.full_rate_at.map(|eases| self.throttled_until(eases, now));
        let account = slowed.unwrap_or(self);
        Self { left: account.left.min(note.left), ..account }
    }

    /// The same for a circuit that earned as many sessions as it may until `eases`.
    #[must_use]
    pub fn throttled_until(self, eases: Timestamp, now: Timestamp) -> Self {
        let slow = Self::new(self.allowance.throttled(), now, self.until);
        let slow = if self.shared.is_some() { slow.share() } else { slow };
        Self { full_rate_at: Some(eases), log_in: self.log_in, ..slow }
    }

    /// The same, with leave to send one log-in form while passwords are tried: whoever just solved for it.
    #[must_use]
    pub const fn with_log_in(self) -> Self {
        Self { log_in: true, ..self }
    }
}

#[cfg(test)]
mod tests;

//! What requests cost their sessions: the part of `admit` that pays.

use super::check::Purpose;
use super::client::Client;
use super::decision::Grant;
use super::{Engine, EngineError};
use crate::behaviour::Class;
use crate::budget::{Account, Allowance, Budgets, PAGE, Price, Slow, Spent};
use crate::session::Session;
use crate::threat::ThreatLevel;
use fortify_core::clock::Timestamp;
use fortify_store::record::SessionId;
use fortify_store::{StateStore, StoreError};

impl Engine {
    /// Gives back what the request of `client` cost more than an asset, because the service's answer was one.
    pub fn refund(&self, client: &Client) {
        if let Some((session, paid)) = client.paid_for_page() {
            self.budgets.refund(session, paid, self.clock.now());
        }
    }

    /// Takes what the request of `client` cost less than a page, because the service's answer was one.
    pub fn surcharge(&self, client: &Client) {
        if let Some((session, paid)) = client.paid_for_asset() {
            self.budgets.surcharge(session, paid, self.clock.now());
        }
    }

    /// Whether a request that `grant` would admit was refused for its rate a moment ago.
    #[must_use]
    pub fn was_too_fast(&self, grant: &Grant) -> bool {
        let now = self.clock.now();
        let account = self.budgets.account(grant.session().id, now);
        account.is_some_and(|account| account.was_refused(now))
    }

    /// Pays for a request that draws on `session`, or says only whether it could be paid for.
    ///
    /// # Errors
    ///
    /// Fails if the budget is shared with other nodes, this one holds too little, and the store does not answer.
    pub(super) async fn spend(
        &self,
        client: &Client,
        session: &Session,
        finding: Option<Class>,
        purpose: Purpose,
    ) -> Result<Spent, EngineError> {
        let now = self.clock.now();
        let price = Price {
            suspected: matches!(finding, Some(Class::Flood | Class::Scraping)),
            stuffing: (client.login || purpose == Purpose::Answer)
                && finding == Some(Class::CredentialStuffing),
            ..client.price
        };
        if purpose != Purpose::Service {
            let ask = || self.budgets.would(session.id, price, now);
            let mut would = ask();
            if self.budgets.is_shared() && matches!(would, None | Some(Spent::Lease(_))) {
                // Nothing is leased for a question, but other nodes may have spent all of it.
                self.budgets.know(session.id, now, || self.account(session));
                take_lease(&*self.store, &self.budgets, session.id, 0, now).await?;
                would = ask();
            }
            return Ok(match would {
                None | Some(Spent::Lease(_)) => Spent::Paid(0),
                Some(spent) => spent,
            });
        }
        let pay = || {
            let new = || self.account(session);
            self.budgets.spend(session.id, client.tag, price, now, new)
        };
        let (mut spent, ahead) = pay();
        if let Spent::Lease(_) = spent {
            let leasing = self.budgets.leasing(session.id);
            let _alone = leasing.lock().await;
            // Another request may have brought a lease meanwhile.
            (spent, _) = pay();
            if let Spent::Lease(most) = spent {
                take_lease(&*self.store, &self.budgets, session.id, most, now).await?;
                (spent, _) = pay();
            }
        } else if let Some(most) = ahead {
            self.lease_ahead(session.id, most);
        }
        match spent {
            // It was granted less than this request costs, and is told when there is more.
            Spent::Lease(_) => return Ok(Spent::TooFast(Slow::briefly())),
            Spent::Paid(cost) => _ = client.paid.get_or_init(|| (session.id, cost)),
            Spent::UsedUp => self.threat.signals().exhausted(client.tag),
            Spent::TooFast(_) | Spent::LogIn => {}
        }
        Ok(spent)
    }

    /// Takes a lease in the background, unless one is being taken.
    fn lease_ahead(&self, session: SessionId, most: u64) {
        let (store, budgets, now) = (self.store.clone(), self.budgets.clone(), self.clock.now());
        let Ok(alone) = budgets.leasing(session).try_lock_owned() else { return };
        tokio::spawn(async move {
            if let Err(error) = take_lease(&*store, &budgets, session, most, now).await {
                tracing::debug!(%error, "no lease of a budget; what this node holds is spent first");
            }
            drop(alone);
        });
    }

    /// Has the session of each tunnel pay a page for a minute of it, and lets the tunnels of those end whose pages are used
    /// up. To be called once a minute.
    pub async fn charge_tunnels(&self) {
        let now = self.clock.now();
        let mut leases = self.budgets.is_shared();
        for session in self.tunnels().into_iter().filter(|session| now < session.expires_at) {
            if leases {
                // What cannot be leased is taken from what this node holds. A store that is away is asked once.
                let leased = take_lease(&*self.store, &self.budgets, session.id, PAGE.into(), now);
                if let Err(error) = leased.await {
                    tracing::debug!(%error, "no leases for tunnels");
                    leases = false;
                }
            }
            if !self.budgets.charge(session.id, now, || self.account(&session)) {
                self.end_tunnels_of(session.id);
            }
        }
    }

    /// Opens the budget of a session that `client` just earned. One beyond those that its circuit may earn in an hour
    /// gets a tenth of the rate. Many people may share a clearnet address, so its sessions are not counted.
    pub(super) async fn open_budget(&self, client: &Client, session: &Session) {
        let now = self.clock.now();
        let mut account = self.account(session);
        if client.tor().is_some() {
            let most = self.threat.policy().sessions_per_hour;
            if let Some(eases) = self.budgets.earn(client.tag, most, now) {
                account = account.throttled_until(eases, now);
            }
            let finding = self.behaviour.finding(client.tag);
            if finding.is_some_and(|finding| finding.class == Class::CredentialStuffing) {
                account = account.with_log_in();
            }
        }
        self.budgets.open(session.id, client.tag, account);
        if self.budgets.is_shared() {
            // The first lease says the rate to all nodes, and it may be a tenth: before the cookie reaches another one.
            let leased = take_lease(&*self.store, &self.budgets, session.id, PAGE.into(), now);
            if let Err(error) = leased.await {
                tracing::debug!(%error, "no lease of a budget; the first request takes it");
            }
        }
    }

    /// Counts and reports a client whose session was ended for its rate.
    pub(super) fn flooded(&self, client: &Client) {
        self.threat.signals().flagged(client.tag);
        tracing::info!("session ended: it exceeded its rate for a minute");
    }

    /// A whole budget, that of the level at which `session` was earned, or what an earlier process left of it.
    fn account(&self, session: &Session) -> Account {
        let level = ThreatLevel::new(session.threat_level);
        let policy = level.map_or_else(|| self.threat.policy(), |at| self.threat.policy_at(at));
        let now = self.clock.now();
        let account = Account::new(Allowance::of(&policy), now, session.expires_at);
        match self.budgets.is_shared() {
            true => account.share(),
            false => self.budgets.resume(session, account, now),
        }
    }
}

/// Takes a lease of `most` milli-pages for `session`.
async fn take_lease(
    store: &dyn StateStore,
    budgets: &Budgets,
    session: SessionId,
    most: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let Some(request) = budgets.lease_request(session, most, now) {
        let lease = store.lease_budget(session, request).await?;
        budgets.leased(session, most, lease, now);
    }
    Ok(())
}

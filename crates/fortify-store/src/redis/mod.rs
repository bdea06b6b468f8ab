//! The shared store: Redis or Valkey, one server or a cluster, for any number of nodes.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - `keys`, `stored`, `scripts`: names, values and Lua scripts; `docs/redis.md` has a table of them.
//! - `fault`: errors, with advice.
//! - `tls`: certificates.
//! - `link`: the connection, with a deadline for every operation.
//! - `epoch`: which streams a node has read, and in which process.
//! - `gauge`: the number of unanswered challenges.
//! - `shared_dial`: the threat dial of all nodes.
//! - `replication`: statuses and answer events of circuits, shared by all nodes.
//! - `unwritten`: revocations that Redis has not taken yet.
//! - `follower`: the task that opens the connection and keeps revocations and moves in memory current.
//! - `checkup`: the questions of `fortify doctor`.
//! - this file: [`RedisStore`].
//!
//! A challenge's key contains its token only, because an answer names nothing else. The list of a circuit's live
//! tokens is another key, on a cluster perhaps on another node, and that list decides: a challenge counts while
//! its token is listed. So the bound per circuit is exact without a script over both keys.

#[cfg(test)]
mod binding_tests;
mod checkup;
mod epoch;
mod fault;
mod follower;
mod gauge;
mod keys;
mod link;
#[cfg(test)]
mod older_tests;
mod replication;
mod scripts;
mod shared_dial;
mod stored;
#[cfg(test)]
mod tests;
mod tls;
mod unwritten;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use redis::cmd;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use super::binding::{BindingChange, MoveDecision, SessionBinding};
use super::binding_table::{BindingTable, MAX_MOVES};
use super::record::{
    ChainId, ChallengeRecord, ChallengeToken, DialRecord, Failures, Lease, LeaseRequest,
    MoveOutcome, MoveRequest, Place, Quota, Receipt, SessionId, SessionState, Taken, WindowLimit,
};
use super::replication::ReplicationPeer;
use super::revocations::{MAX_REVOCATIONS, Revocations};
use super::{KEYS_AGE, PENDING_LIFETIME, StateStore, StoreError};
use crate::config::RedisConfig;
pub use checkup::{Checkup, SLOTS, checkup};
use epoch::Identify;
use fault::{Cause, Fault};
use follower::{Follower, Freshness, LogPosition};
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::damage::Damage;
use fortify_core::entropy::Entropy;
use fortify_core::pseudonym::CircuitTag;
use fortify_core::reach::Reach;
use fortify_keys::KeyNote;
use gauge::Gauge;
use keys::Keys;
use link::{Connection, Link};
use replication::ReplicationTasks;
use scripts::Scripts;
use shared_dial::SharedDial;
use unwritten::Unwritten;

/// How much longer Redis keeps a key than the node's clock, which decides: the clocks of nodes differ by a second or
/// so, and no node may lose a key too early.
const GRACE: Duration = Duration::from_secs(5);

/// The most entries in the log of moves: half of what a node can hold. The other half is for entries that Redis lost
/// before every node had read them, and that nodes write back.
const MAX_LOGGED_MOVES: usize = MAX_MOVES / 2;

/// The shared implementation of [`StateStore`].
pub struct RedisStore {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    runtime: Handle,
    link: Arc<Link>,
    keys: Keys,
    scripts: Arc<Scripts>,
    challenges_per_circuit: usize,
    /// The most entries in the log of revocations.
    most_revocations: usize,
    /// The most entries in the log of moves.
    most_moves: usize,
    revocations: Arc<Revocations>,
    unwritten: Arc<Unwritten>,
    moves: Arc<BindingTable>,
    fresh: Arc<Freshness>,
    waiting: Gauge,
    dial: SharedDial,
    /// Set by the first [`StateStore::replicate`].
    statuses: OnceLock<ReplicationTasks>,
    follower: AbortHandle,
}

impl RedisStore {
    /// Opens a store in the Redis of `config`, which also keeps revocations and moves in `data_dir`. It connects
    /// and reconnects in the background; without a connection every operation is an error.
    ///
    /// # Errors
    ///
    /// Without a tokio runtime.
    pub fn open(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        config: &RedisConfig,
        challenges_per_circuit: usize,
        data_dir: &Path,
    ) -> std::io::Result<Self> {
        let runtime = Handle::try_current().map_err(std::io::Error::other)?;
        let revocations = Arc::new(Revocations::open(data_dir, clock.now()));
        let moves = Arc::new(BindingTable::open(data_dir, clock.now()));
        let unwritten = Arc::new(Unwritten::default());
        let link = Arc::new(Link::new(config.clone()));
        let (keys, fresh) = (Keys::new(config.prefix.clone()), Arc::new(Freshness::never()));
        let scripts = Arc::new(Scripts::new());
        let follower = Follower {
            link: link.clone(),
            keys: keys.clone(),
            scripts: scripts.clone(),
            identify: Identify::new(),
            revocations: revocations.clone(),
            unwritten: unwritten.clone(),
            moves: moves.clone(),
            fresh: fresh.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            known: LogPosition::default(),
            refused: None,
        };
        let follower = runtime.spawn(follower.run()).abort_handle();
        let waiting = Gauge::default();
        let dial = SharedDial::follow(&runtime, link.clone(), keys.dial());
        Ok(Self {
            clock,
            entropy,
            runtime,
            link,
            keys,
            scripts,
            challenges_per_circuit,
            most_revocations: MAX_REVOCATIONS,
            most_moves: MAX_LOGGED_MOVES,
            revocations,
            unwritten,
            moves,
            fresh,
            waiting,
            dial,
            statuses: OnceLock::new(),
            follower,
        })
    }

    fn require_fresh(&self) -> Result<(), StoreError> {
        if !self.fresh.is_fresh() {
            return Err(self
                .link
                .unavailable("it is not known which sessions were ended or moved"));
        }
        if self.statuses.get().is_some_and(|statuses| !statuses.is_fresh()) {
            return Err(self
                .link
                .unavailable("it is not known which circuits are banned; the log says why"));
        }
        Ok(())
    }

    /// What the value at a challenge's key means now.
    fn kept(&self, value: Option<Vec<u8>>) -> Result<Taken, StoreError> {
        let Some(value) = value.map(Zeroizing::new) else { return Ok(Taken::Absent) };
        stored::read_taken(&value, self.clock.now()).ok_or_else(|| {
            self.link.unavailable(
                Cause::new("a challenge is not what Fortify writes")
                    .advise("another program, or a newer version, uses the same storage.prefix"),
            )
        })
    }

    /// Whether `session` is revoked, as far as this node knows.
    fn is_revoked(&self, session: &SessionId) -> bool {
        self.revocations.contains(session) || self.unwritten.until(session).is_some()
    }

    /// Decides a move across all nodes. If the session moves, the move is in Redis when this returns.
    ///
    /// What this node has `heard` may be slightly stale, and Redis may have lost or evicted its own record, so both
    /// count. A node that finds that another move came first decides again. Each retry is due to a move that another
    /// node made, so there are no more retries than allowed moves.
    async fn move_step(
        &self,
        session: SessionId,
        step: &MoveRequest,
        now: Timestamp,
        heard: SessionBinding,
    ) -> Result<MoveDecision, StoreError> {
        const FOREIGN: Fault = Fault::Foreign("a session's binding");
        let (key, log) = (self.keys.binding(session), self.keys.moves());
        let decided = self.link.step(|mut connection| async move {
            let get = cmd("GET").arg(&key).to_owned();
            let kept: Option<Vec<u8>> = get.query_async(&mut connection).await?;
            let mut kept = kept.unwrap_or_default();
            let mut binding = heard;
            loop {
                binding.merge(session, &kept).ok_or(FOREIGN)?;
                let verdict = binding.decide_move(session, step, now);
                let MoveDecision::Proceed(change) = verdict else { return Ok(verdict) };
                let mut next = binding.clone();
                next.add(change);
                let mut relocate = self.scripts.move_session.key(&key);
                relocate.key(&log).arg(&kept).arg(next.encode());
                relocate.arg(&change.encode()[..]).arg(step.until.as_millis());
                relocate.arg(millis(now.until(next.until()) + GRACE));
                // The other nodes' clocks may be behind.
                relocate.arg(now.as_millis().saturating_sub(millis(GRACE))).arg(self.most_moves);
                match relocate.invoke_async::<(u8, Vec<u8>)>(&mut connection).await? {
                    (0, other) => kept = other,
                    (1, _) => return Ok(verdict),
                    _ => return Ok(MoveDecision::Refused),
                }
            }
        });
        decided.await
    }

    /// Whether the log is known to have this revocation.
    fn is_logged(&self, session: &SessionId, until: Timestamp) -> bool {
        self.unwritten.until(session).is_none() && self.revocations.until(session) >= Some(until)
    }

    /// Adds a revocation to the log, and then to this node's memory and disk. If it `is_awaited`, as many replicas as
    /// the operator asked for have it when this returns.
    async fn log_revocation(
        &self,
        session: SessionId,
        until: Timestamp,
        is_awaited: bool,
    ) -> Result<(), StoreError> {
        self.require_fresh()?;
        let log = self.keys.revocations();
        let revoke = self.scripts.revocation(&log, session, until, self.most_revocations);
        let (unwritten, link) = (&self.unwritten, &self.link);
        let logged = link.step(|connection| async move {
            scripts::revoke(revoke, connection).await?;
            unwritten.logged(session, until);
            if is_awaited { link.await_replicas(&log).await } else { Ok(()) }
        });
        logged.await?;
        follower::insert(&self.revocations, (session, until), self.clock.now()).await
    }

    /// Records a move in this node's memory and on its disk.
    async fn remember(&self, change: BindingChange, now: Timestamp) -> Result<(), StoreError> {
        let moves = self.moves.clone();
        // Waiting for the disk must not block the threads that serve requests.
        tokio::task::spawn_blocking(move || moves.insert_all(&[change], now))
            .await
            .map_err(|ended| StoreError::Unavailable(ended.to_string()))?
    }

    fn is_live(&self, record: &ChallengeRecord) -> bool {
        self.clock.now() < record.expires_at
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

/// What tests of other crates need beyond [`StateStore`].
#[cfg(feature = "test-support")]
impl RedisStore {
    /// Publishes what `peer` has pending, for at most `most` rows in Redis; never returns. Unlike
    /// [`StateStore::replicate`], it does not receive what others publish.
    pub fn publish(
        &self,
        peer: Arc<dyn ReplicationPeer>,
        clock: Arc<dyn Clock>,
        most: usize,
    ) -> impl Future<Output = ()> + Send + 'static {
        replication::Publisher::new(self.link.clone(), self.keys.clone(), peer, clock, most).run()
    }

    /// Refuses every step while `meanwhile` runs, as if the connection were lost.
    ///
    /// # Errors
    ///
    /// Fails if no connection can be opened to continue with.
    pub async fn refuse_during<T>(&self, meanwhile: impl FnOnce() -> T) -> Result<T, StoreError> {
        let connection = self.link.open(Duration::ZERO).await?;
        let waiting = self.link.open_waiting().await?;
        self.link.refuse(self.link.unavailable("the connection was lost"));
        let done = meanwhile();
        self.link.serve(connection, waiting).await;
        Ok(done)
    }
}

#[async_trait]
impl StateStore for RedisStore {
    async fn put_challenge(
        &self,
        token: &ChallengeToken,
        record: ChallengeRecord,
        place: Place<'_>,
    ) -> Result<Option<ChallengeToken>, StoreError> {
        let now = self.clock.now();
        let ttl = millis(now.until(record.expires_at) + GRACE);
        let value = stored::write(&record)
            .map_err(|_never| StoreError::Unavailable("a challenge is no JSON".to_owned()))?;
        let mut put = self.scripts.put.key(self.keys.challenge(token));
        put.arg(value.as_slice()).arg(ttl);
        let mut enlist = self.scripts.enlist.key(self.keys.active(record.circuit));
        enlist.arg(token.as_bytes()).arg(self.challenges_per_circuit).arg(ttl);
        let (only, before) = match place {
            Place::Only(before) => ("only", before),
            Place::After(before) => ("only", Some(before)),
            Place::Beside(_) => ("", None),
        };
        let bytes = |token: Option<&ChallengeToken>| {
            token.map_or(Vec::new(), |token| token.as_bytes().to_vec())
        };
        enlist.arg(only).arg(bytes(place.replaces())).arg(bytes(before));
        let keys = &self.keys;
        let listed = self.link.step(|connection| async move {
            let (mut putting, mut listing) = (connection.clone(), connection.clone());
            let ((), listed): ((), Vec<redis::Value>) = tokio::try_join!(
                put.invoke_async(&mut putting),
                enlist.invoke_async(&mut listing)
            )?;
            let mut listed = listed.into_iter();
            let stored = listed.next() == Some(redis::Value::Int(1));
            let tokens = listed.map(token_of).collect::<Result<Vec<_>, _>>()?;
            // The circuit's own challenge stays, and this one goes; or this one stays, and what it displaced goes.
            let unwanted = if stored { &tokens[..] } else { std::slice::from_ref(token) };
            unlink(connection, keys, unwanted).await?;
            Ok((stored, tokens))
        });
        let (stored, tokens) = listed.await?;
        if !stored {
            return Ok(tokens.into_iter().next());
        }
        self.waiting.put(record.expires_at);
        if !tokens.is_empty() {
            self.waiting.dropped(tokens.len() as u64, now);
        }
        Ok(None)
    }

    async fn newest_challenge(
        &self,
        circuit: CircuitTag,
    ) -> Result<Option<ChallengeToken>, StoreError> {
        let newest = cmd("ZREVRANGE").arg(self.keys.active(circuit)).arg(0).arg(0).to_owned();
        let newest = self.link.step(|mut connection| async move {
            let listed: Vec<redis::Value> = newest.query_async(&mut connection).await?;
            listed.into_iter().next().map(token_of).transpose()
        });
        newest.await
    }

    async fn challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError> {
        let get = cmd("GET").arg(self.keys.challenge(token)).to_owned();
        let value = self.link.step(|mut connection| async move {
            Ok(get.query_async::<Option<Vec<u8>>>(&mut connection).await?)
        });
        let record = self.kept(value.await?)?.challenge();
        Ok(record.filter(|record| self.is_live(record)))
    }

    async fn take_challenge(&self, token: &ChallengeToken) -> Result<Taken, StoreError> {
        let mut take = self.scripts.take.key(self.keys.challenge(token));
        let until = self.clock.now().after(PENDING_LIFETIME);
        take.arg(stored::CHALLENGE)
            .arg(stored::pending(until))
            .arg(millis(PENDING_LIFETIME + GRACE));
        let value = self.link.step(|mut connection| async move {
            Ok(take.invoke_async::<Option<Vec<u8>>>(&mut connection).await?)
        });
        let record = match self.kept(value.await?)? {
            Taken::Challenge(record) => record,
            other => return Ok(other),
        };
        self.waiting.taken(record.expires_at);
        let mut strike = cmd("ZREM");
        strike.arg(self.keys.active(record.circuit)).arg(token.as_bytes());
        let listed: u64 = self
            .link
            .step(|mut connection| async move { Ok(strike.query_async(&mut connection).await?) })
            .await?;
        if listed > 0 && self.is_live(&record) {
            return Ok(Taken::Challenge(record));
        }
        self.settle_challenge(token, None).await?;
        Ok(Taken::Absent)
    }

    async fn settle_challenge(
        &self,
        token: &ChallengeToken,
        receipt: Option<Receipt>,
    ) -> Result<(), StoreError> {
        let key = self.keys.challenge(token);
        let command = match &receipt {
            Some(receipt) => {
                let value = stored::write_receipt(receipt)
                    .map_err(|_never| StoreError::Unavailable("a receipt is no JSON".to_owned()))?;
                let ttl = millis(self.clock.now().until(receipt.expires_at) + GRACE);
                cmd("SET").arg(key).arg(value.as_slice()).arg("PX").arg(ttl).to_owned()
            }
            None => cmd("UNLINK").arg(key).to_owned(),
        };
        let settled = self.link.step(|mut connection| async move {
            Ok(command.query_async::<()>(&mut connection).await?)
        });
        settled.await
    }

    async fn record_failure(
        &self,
        circuit: CircuitTag,
        decay: Duration,
    ) -> Result<Failures, StoreError> {
        let now = self.clock.now();
        let until = now.after(decay);
        let mut fail = self.scripts.fail.key(self.keys.failures(circuit));
        fail.arg(now.as_millis()).arg(until.as_millis()).arg(millis(decay + GRACE));
        let count = self.link.step(|mut connection| async move {
            let count: i64 = fail.invoke_async(&mut connection).await?;
            u32::try_from(count).map_err(|_negative| Fault::Foreign("a count of failures"))
        });
        Ok(Failures { count: count.await?, until })
    }

    async fn forget_failures(&self, circuit: CircuitTag) -> Result<(), StoreError> {
        let key = self.keys.failures(circuit);
        let forgotten = self.link.step(|mut connection| async move {
            Ok(cmd("UNLINK").arg(key).query_async::<()>(&mut connection).await?)
        });
        forgotten.await
    }

    async fn failures(&self, circuit: CircuitTag) -> Result<Failures, StoreError> {
        let key = self.keys.failures(circuit);
        let kept = self.link.step(|mut connection| async move {
            let kept: Option<Vec<u8>> = cmd("GET").arg(key).query_async(&mut connection).await?;
            kept.map_or(Ok(Failures::NONE), |text| {
                let text = str::from_utf8(&text).ok();
                text.and_then(failures_of).ok_or(Fault::Foreign("a count of failures"))
            })
        });
        let kept = kept.await?;
        Ok(if self.clock.now() < kept.until { kept } else { Failures::NONE })
    }

    async fn acquire_quota(
        &self,
        circuit: CircuitTag,
        bounds: [WindowLimit; 2],
        longest: Option<Duration>,
    ) -> Result<Quota, StoreError> {
        let widest = bounds.map(|bound| bound.within).into_iter().max().unwrap_or_default();
        let mut ask = self.scripts.acquire_quota.key(self.keys.requests(circuit));
        ask.arg(self.clock.now().as_millis()).arg(millis(widest + GRACE));
        ask.arg(longest.map_or(0, millis));
        for bound in bounds {
            ask.arg(millis(bound.within)).arg(bound.most);
        }
        let said = self.link.step(|mut connection| async move {
            Ok(ask.invoke_async::<i64>(&mut connection).await?)
        });
        let said = said.await?;
        Ok(match u32::try_from(said) {
            Ok(recent) => Quota::Granted { recent },
            Err(_negative) => Quota::Exceeded(Duration::from_millis(said.unsigned_abs())),
        })
    }

    async fn revoke_session(
        &self,
        session: SessionId,
        until: Timestamp,
    ) -> Result<Reach, StoreError> {
        if self.is_logged(&session, until) {
            return Ok(Reach::Cluster);
        }
        let is_held = self.unwritten.hold(session, until);
        let logged = self.log_revocation(session, until, true).await;
        if matches!(logged, Ok(()) | Err(StoreError::Full(_))) {
            self.unwritten.release(session, until);
        }
        match logged {
            Ok(()) => Ok(Reach::Cluster),
            // Whatever else Redis says, or does not, it stays in force here, and the follower writes it, of this process or
            // of the next.
            Err(StoreError::Redis { .. } | StoreError::Unavailable(_)) if is_held => {
                follower::insert(&self.revocations, (session, until), self.clock.now()).await?;
                Ok(Reach::Node)
            }
            Err(error) => Err(error),
        }
    }

    async fn spend_chain(&self, chain: ChainId, until: Timestamp) -> Result<(), StoreError> {
        let spent = chain.revocation();
        if self.is_logged(&spent, until) {
            return Ok(());
        }
        // If this fails the visitor answers again, so it must not be spent at this node. Replicas are not waited for: a
        // chain is worth one session, and without its replicas Redis would let nobody in.
        self.log_revocation(spent, until, false).await
    }

    async fn session_state(&self, session: SessionId) -> Result<SessionState, StoreError> {
        self.require_fresh()?;
        if self.is_revoked(&session) {
            return Ok(SessionState::Revoked);
        }
        Ok(self.moves.bound_to(&session).map_or(SessionState::Unmoved, SessionState::BoundTo))
    }

    async fn revoked_until(&self, session: SessionId) -> Result<Option<Timestamp>, StoreError> {
        self.require_fresh()?;
        Ok(self.revocations.until(&session).max(self.unwritten.until(&session)))
    }

    fn left_by(&self, session: SessionId) -> Vec<(CircuitTag, Timestamp)> {
        self.moves.left_by(&session)
    }

    async fn move_session(
        &self,
        session: SessionId,
        step: MoveRequest,
    ) -> Result<MoveOutcome, StoreError> {
        self.require_fresh()?;
        let now = self.clock.now();
        if self.is_revoked(&session) {
            return Ok(MoveOutcome::Revoked);
        }
        if let Some(settled) = self.moves.decide_from_memory(&session, &step, now) {
            return Ok(settled);
        }
        let heard = self.moves.binding(&session);
        match self.move_step(session, &step, now, heard).await? {
            MoveDecision::AlreadyBound => Ok(MoveOutcome::AlreadyBound),
            MoveDecision::Refused => Ok(MoveOutcome::Refused),
            MoveDecision::Shared => {
                let _in_force_here = self.revoke_session(session, step.until).await?;
                Ok(MoveOutcome::Shared)
            }
            MoveDecision::Proceed(change) => {
                self.remember(change, now).await?;
                Ok(MoveOutcome::Moved)
            }
        }
    }

    async fn lease_budget(
        &self,
        session: SessionId,
        request: LeaseRequest,
    ) -> Result<Lease, StoreError> {
        let now = self.clock.now();
        let mut ask = self.scripts.lease.key(self.keys.budget(session));
        ask.arg(now.as_millis()).arg(millis(now.until(request.until) + GRACE)).arg(request.most);
        ask.arg(request.per_minute).arg(request.burst).arg(request.quota);
        let taken = self.link.step(|mut connection| async move {
            let taken: Vec<i64> = ask.invoke_async(&mut connection).await?;
            let numbers = taken.into_iter().map(u64::try_from).collect::<Result<Vec<_>, _>>();
            match numbers.as_deref() {
                Ok(&[granted, left, per_minute, burst]) => {
                    let per_minute = u32::try_from(per_minute).unwrap_or(u32::MAX);
                    Ok(Lease { granted, left, per_minute, burst })
                }
                _ => Err(Fault::Foreign("a session's budget")),
            }
        });
        taken.await
    }

    async fn exchange_key_notes(&self, own: KeyNote) -> Result<Vec<KeyNote>, StoreError> {
        let mut tell = self.scripts.key_notes.key(self.keys.key_notes());
        tell.arg(self.clock.now().as_millis()).arg(own.root.to_string()).arg(own.period);
        tell.arg(own.since.as_millis()).arg(millis(KEYS_AGE)).arg(KeyNote::AHEAD);
        let said = self.link.step(|mut connection| async move {
            let said: Vec<String> = tell.invoke_async(&mut connection).await?;
            Ok(said.chunks(2).filter_map(note_of).collect())
        });
        said.await
    }

    async fn set_dial(&self, dial: DialRecord) -> Result<DialRecord, StoreError> {
        self.dial.set(dial).await
    }

    fn dial(&self) -> watch::Receiver<Option<DialRecord>> {
        self.dial.news()
    }

    fn replicate(&self, peer: Arc<dyn ReplicationPeer>) {
        let _the_first_is_the_only_one = self.statuses.get_or_init(|| {
            let (link, keys) = (self.link.clone(), self.keys.clone());
            let (clock, entropy) = (self.clock.clone(), self.entropy.clone());
            ReplicationTasks::follow(&self.runtime, link, keys, clock, entropy, peer)
        });
    }

    fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    fn is_current(&self) -> Result<(), StoreError> {
        self.require_fresh()
    }

    // No `valid_after`: what this node lost is in Redis' logs, which it reads before it admits anybody.

    fn damages(&self) -> Vec<Damage> {
        self.revocations.loss().and(self.moves.loss())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let pong = self.link.step(|mut connection| async move {
            Ok(cmd("PING").query_async::<redis::Value>(&mut connection).await?)
        });
        pong.await?;
        self.require_fresh()
    }

    async fn active_challenges(&self) -> Result<u64, StoreError> {
        Ok(self.waiting.count(self.clock.now()))
    }
}

/// Deletes evicted challenges, one by one, because on a cluster they may be on different nodes.
async fn unlink(
    connection: Connection,
    keys: &Keys,
    tokens: &[ChallengeToken],
) -> Result<(), Fault> {
    for token in tokens {
        let mut connection = connection.clone();
        let unlink = cmd("UNLINK").arg(keys.challenge(token)).to_owned();
        unlink.query_async::<u64>(&mut connection).await?;
    }
    Ok(())
}

/// Which keys a node has, as the script writes it; `None` for what no node wrote.
fn note_of(note: &[String]) -> Option<KeyNote> {
    let [root, text] = note else { return None };
    let (period, since) = text.split_once(' ')?;
    let since = Timestamp::from_millis(since.parse().ok()?);
    Some(KeyNote { root: root.parse().ok()?, period: period.parse().ok()?, since })
}

/// A token in a circuit's list.
fn token_of(listed: redis::Value) -> Result<ChallengeToken, Fault> {
    let redis::Value::BulkString(bytes) = &listed else { return Err(FOREIGN_LIST) };
    let token = bytes.as_slice().try_into().map(ChallengeToken::from_bytes);
    token.map_err(|_length| FOREIGN_LIST)
}

const FOREIGN_LIST: Fault = Fault::Foreign("a circuit's list of challenges");

/// Parses what the script writes: the count, a space, and the time until which it counts.
fn failures_of(text: &str) -> Option<Failures> {
    let (count, until) = text.split_once(' ')?;
    Some(Failures {
        count: count.parse().ok()?,
        until: Timestamp::from_millis(until.parse().ok()?),
    })
}

/// Whole milliseconds, as Redis counts them.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! Replication of circuits' statuses and answer events over Redis.
//!
//! Two tasks: the follower reads two streams, of rows and of events, with one `XREAD BLOCK` and applies them on
//! this node; the publisher writes this node's decisions. Rows are also in a hash, which a node reads completely
//! when it starts, was away for longer than the stream reaches back, or finds that Redis lost its data. Rows in
//! the stream are numbered, so that a reader notices missing ones.
//!
//! To publish a row, a node reads the stored one, merges both ([`ReplicationPeer::merge`]), and writes the result only
//! if the stored row is unchanged. So one of several nodes comes first, and all read the same order.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{FromRedisValue, Script, Value, cmd, pipe};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::epoch::{Epoch, Identify};
use super::fault::Fault;
use super::follower::Freshness;
use super::keys::Keys;
use super::link::{Connection, Link};
use super::{GRACE, millis};
use crate::StoreError;
use crate::replication::{
    CIRCUIT_BYTES, EventBytes, PublishBatch, ReplicatedRow, ReplicationPeer, VALUE_BYTES,
};
use fortify_core::clock::Clock;
use fortify_core::entropy::{Entropy, random_bytes};

/// How long one read waits for new entries: a quarter of the staleness that [`Freshness`] tolerates.
const BLOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Rows or answer events read at once: about 150 KiB.
const BATCH: usize = 1000;

/// Rows published at once; the script that writes them blocks Redis for about a millisecond.
const PUBLISH_BATCH: usize = 256;

/// How often a batch is retried because another node was first. Rows still left wait for the next batch.
const MAX_PUBLISH_ATTEMPTS: usize = 8;

/// The most rows in the log; a node that is further behind reads everything.
const MAX_LOGGED_ROWS: usize = 65_536;

/// The most answer events in the log. A node that is further behind misses some, so a bot gets a few more answers.
const MAX_LOGGED_EVENTS: usize = 50_000;

/// The most circuits with a stored row: as many as a node holds (`MAX_STATUS_ROWS` of `fortify-reputation`).
const MAX_ROWS: usize = 500_000;

/// The pause before a failed step is retried.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Stores and logs each row whose stored value is the one that the caller read. Returns for each 1; 0 if the stored
/// value has changed; or 2 if there is no room.
///
/// The trim comes first because Redis refuses no write of a script that has already written, so bans are stored even at
/// `maxmemory`. Expired rows are deleted, up to 100 of each status per call. A row counts as expired if it is by Redis'
/// clock and by the caller's, so that a clock that is ahead deletes nothing.
const KEEP: &str = "
local now = redis.call('TIME')
local over = string.format('%.0f', math.min(now[1] * 1000, tonumber(ARGV[1])) - ARGV[4])
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[3])
for i = 3, 5 do
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', over, 'LIMIT', 0, 100)) do
    redis.call('ZREM', KEYS[i], gone)
    redis.call('HDEL', KEYS[2], gone)
  end
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local number = last and tonumber(last[2][2]) or 0
local said = {}
for i = 5, #ARGV, 5 do
  local circuit, kept = ARGV[i], redis.call('HGET', KEYS[2], ARGV[i]) or ''
  local answer = 1
  if kept ~= ARGV[i + 1] then
    answer = 0
  elseif kept == '' and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[2]) then
    local gone = redis.call('ZPOPMIN', KEYS[3])[1] or redis.call('ZPOPMIN', KEYS[4])[1]
    if gone then redis.call('HDEL', KEYS[2], gone) else answer = 2 end
  end
  if answer == 1 then
    number = number + 1
    local n = string.format('%.0f', number)
    redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], '*', 'n', n, 'r', circuit .. ARGV[i + 2])
    redis.call('HSET', KEYS[2], circuit, ARGV[i + 2])
    for j = 3, 5 do redis.call('ZREM', KEYS[j], circuit) end
    redis.call('ZADD', KEYS[tonumber(ARGV[i + 3])], ARGV[i + 4], circuit)
  end
  said[#said + 1] = answer
end
return said";

/// The script's result for a row that there is no room for.
const NO_ROOM: u8 = 2;

/// The two tasks.
pub(super) struct ReplicationTasks {
    fresh: Arc<Freshness>,
    tasks: [AbortHandle; 2],
}

impl ReplicationTasks {
    /// Starts to replicate `peer`'s statuses and answer events.
    pub(super) fn follow(
        runtime: &Handle,
        link: Arc<Link>,
        keys: Keys,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        peer: Arc<dyn ReplicationPeer>,
    ) -> Self {
        let fresh = Arc::new(Freshness::never());
        let teller = Publisher::new(link.clone(), keys.clone(), peer.clone(), clock, MAX_ROWS);
        let (known, heard) = (LogPosition::default(), fresh.clone());
        let identify = Identify::new();
        let follower = Follower { link, keys, identify, peer, entropy, fresh: heard, known };
        let tasks = [runtime.spawn(follower.run()), runtime.spawn(teller.run())];
        Self { fresh, tasks: tasks.map(|task| task.abort_handle()) }
    }

    /// Whether this node has recently read both logs to their ends.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.is_fresh()
    }
}

impl Drop for ReplicationTasks {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The task that publishes.
pub(super) struct Publisher {
    link: Arc<Link>,
    keys: Keys,
    peer: Arc<dyn ReplicationPeer>,
    clock: Arc<dyn Clock>,
    keep: Script,
    /// The most rows in Redis.
    most: usize,
    /// Whether it was logged that the table is full.
    full: AtomicBool,
}

impl Publisher {
    /// Creates the publisher of `peer`, for at most `most` rows in Redis.
    pub(super) fn new(
        link: Arc<Link>,
        keys: Keys,
        peer: Arc<dyn ReplicationPeer>,
        clock: Arc<dyn Clock>,
        most: usize,
    ) -> Self {
        let (keep, full) = (Script::new(KEEP), AtomicBool::new(false));
        Self { link, keys, peer, clock, keep, most, full }
    }

    /// Publishes everything that is pending; never returns.
    pub(super) async fn run(self) {
        let mut said = None;
        loop {
            self.peer.wait_for_pending().await;
            let outgoing = self.peer.take_batch(PUBLISH_BATCH);
            match self.publish(outgoing).await {
                Ok(()) => {
                    if said.take().is_some() {
                        tracing::info!("changes of circuit status reach the other nodes again");
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    // Once per cause, not at every attempt.
                    if said.as_ref() != Some(&text) {
                        tracing::warn!(
                            error = %text,
                            "changes of circuit status do not reach the other nodes; they apply \
                             here, and are published later"
                        );
                        said = Some(text);
                    }
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    /// Publishes a batch, and tells the peer what could not be published.
    async fn publish(&self, outgoing: PublishBatch) -> Result<(), StoreError> {
        let result = self.publish_rows(outgoing.rows.clone()).await;
        let (rows, first) = match result {
            Ok(left) => (left, None),
            Err(error) => (outgoing.rows, Some(error)),
        };
        let mut events = outgoing.events;
        let result = if first.is_none() { self.publish_events(&mut events).await } else { Ok(()) };
        self.peer.confirm_published(PublishBatch { rows, events });
        first.map_or(result, Err)
    }

    /// Publishes rows, and returns those that other nodes changed first at every attempt.
    async fn publish_rows(
        &self,
        mut rows: Vec<ReplicatedRow>,
    ) -> Result<Vec<ReplicatedRow>, StoreError> {
        for _bid in 0..MAX_PUBLISH_ATTEMPTS {
            if rows.is_empty() {
                break;
            }
            let batch = &rows;
            let published = |connection| async move {
                let bid = self.try_publish(connection, batch).await?;
                // Also for those that are there already: they may be from an attempt that lacked replicas.
                self.link.await_replicas(&self.keys.status_log()).await?;
                Ok(bid)
            };
            let bid = self.link.step(published).await?;
            // Another node's row may win, and may have been published before this node read the log.
            if !bid.stays.is_empty() {
                self.peer.apply(bid.stays).await?;
            }
            rows = bid.again;
        }
        Ok(rows)
    }

    /// Merges `rows` with the stored ones and writes the results.
    async fn try_publish(
        &self,
        mut connection: Connection,
        rows: &[ReplicatedRow],
    ) -> Result<PublishOutcome, Fault> {
        let mut get = cmd("HMGET");
        get.arg(self.keys.status_rows());
        for row in rows {
            get.arg(&row.circuit[..]);
        }
        let kept: Vec<Option<Vec<u8>>> = get.query_async(&mut connection).await?;
        let mut keep = self.keep.key(self.keys.status_log());
        keep.key(self.keys.status_rows());
        for rank in RANKS {
            keep.key(self.keys.status_ends(rank));
        }
        keep.arg(self.clock.now().as_millis()).arg(self.most).arg(MAX_LOGGED_ROWS);
        keep.arg(millis(GRACE));
        let (mut bids, mut stays) = (Vec::new(), Vec::new());
        for (row, kept) in rows.iter().zip(kept) {
            let settled = self.peer.merge(kept.as_deref(), row).map_err(|_foreign| FOREIGN)?;
            let Some(settled) = settled else {
                let value = kept.and_then(|value| value.try_into().ok());
                stays.extend(value.map(|value| ReplicatedRow { value, ..*row }));
                continue;
            };
            keep.arg(&settled.row.circuit[..]).arg(kept.unwrap_or_default());
            keep.arg(&settled.row.value[..]).arg(settled.rank as usize + 3);
            keep.arg(settled.end.as_millis());
            bids.push(*row);
        }
        if bids.is_empty() {
            return Ok(PublishOutcome { stays, again: bids });
        }
        let said: Vec<u8> = keep.invoke_async(&mut connection).await?;
        // A ban that there is no room for applies on this node only: retried forever, it would hold up others.
        let full = said.contains(&NO_ROOM);
        if full && !self.full.swap(full, Ordering::Relaxed) {
            tracing::error!(
                most = self.most,
                "the table of bans in Redis is full: further bans apply on this node only"
            );
        }
        let again = bids.into_iter().zip(said).filter(|(_, said)| *said == 0);
        Ok(PublishOutcome { stays, again: again.map(|(row, _)| row).collect() })
    }

    /// Publishes answer events; `events` keeps those that were not sent. Events that were sent but not confirmed in
    /// time are dropped, because they may have arrived and would then count twice: a lost event gives a bot one more
    /// answer, a duplicate may ban a person.
    async fn publish_events(&self, events: &mut Vec<EventBytes>) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let (key, mut all) = (self.keys.answer_events(), pipe());
        for event in &*events {
            let add = all.cmd("XADD").arg(&key).arg("MAXLEN").arg("~").arg(MAX_LOGGED_EVENTS);
            add.arg("*").arg("d").arg(&event[..]).ignore();
        }
        let lasts = millis(self.peer.event_lifetime() + GRACE);
        all.cmd("PEXPIRE").arg(&key).arg(lasts).ignore();
        let result = self.link.step(|mut connection| {
            events.clear();
            async move { Ok(all.query_async::<()>(&mut connection).await?) }
        });
        result.await
    }
}

/// The outcome of publishing rows.
struct PublishOutcome {
    /// The stored rows that were not changed by the published ones.
    stays: Vec<ReplicatedRow>,
    /// Rows to publish again, because another node was first.
    again: Vec<ReplicatedRow>,
}

/// The words in the names of the keys, in the order of `EvictionRank`.
const RANKS: [&str; 3] = ["reset", "vip", "banned"];

const FOREIGN: Fault = Fault::Foreign("a circuit status");

/// The task that receives.
struct Follower {
    link: Arc<Link>,
    keys: Keys,
    identify: Identify,
    peer: Arc<dyn ReplicationPeer>,
    entropy: Arc<dyn Entropy>,
    fresh: Arc<Freshness>,
    known: LogPosition,
}

/// What this node has read.
struct LogPosition {
    epoch: Epoch,
    /// The last row, by its entry id and its number.
    row: (String, u64),
    /// The last answer event.
    event: String,
}

impl Default for LogPosition {
    /// Before the first entries.
    fn default() -> Self {
        Self { epoch: Epoch::default(), row: (FIRST.to_owned(), 0), event: FIRST.to_owned() }
    }
}

const FIRST: &str = "0-0";

/// What one read found, in the order of each log.
#[derive(Default)]
struct LogEntries {
    rows: Vec<(String, u64, ReplicatedRow)>,
    events: Vec<(String, EventBytes)>,
}

impl LogEntries {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.events.is_empty()
    }

    /// Whether both logs were read to their ends.
    fn is_complete(&self) -> bool {
        self.rows.len() < BATCH && self.events.len() < BATCH
    }
}

impl Follower {
    /// Reads the logs, and reconnects whenever that fails; never returns.
    async fn run(mut self) {
        let mut said = None;
        loop {
            let Err(error) = self.follow(&mut said).await;
            let text = error.to_string();
            if said.as_ref() != Some(&text) {
                tracing::error!(error = %text, "bans of other nodes are not received");
                said = Some(text);
            }
            sleep(BACK_OFF).await;
        }
    }

    /// Follows the logs until the connection fails.
    async fn follow(&mut self, said: &mut Option<String>) -> Result<Infallible, StoreError> {
        let connection = self.link.open(BLOCK_TIMEOUT).await?;
        // The first read does not wait: entries may have come meanwhile.
        let mut wait = None;
        loop {
            let epoch = self.epoch(&connection).await?;
            if epoch != self.known.epoch {
                // What of these streams was read counts once, also if the server is another one.
                if !epoch.has_streams_of(&self.known.epoch) {
                    self.known.event = FIRST.to_owned();
                }
                self.read_everything(&connection).await?;
                self.known.epoch = epoch;
            }
            let asked = Instant::now();
            let news = self.read(&connection, wait).await?;
            wait = Some(BLOCK_TIMEOUT);
            let asked = if news.is_empty() { asked } else { Instant::now() };
            let whole = news.is_complete();
            if !self.apply_entries(news).await? {
                self.read_everything(&connection).await?;
            } else if whole && self.epoch(&connection).await? == self.known.epoch {
                self.fresh.confirm(asked);
                if said.take().is_some() {
                    tracing::info!("bans of other nodes are received again");
                }
            }
        }
    }

    /// The epoch of the stream, which is created if it does not exist.
    async fn epoch(&self, connection: &Connection) -> Result<Epoch, StoreError> {
        let fresh: [u8; 16] = random_bytes(&*self.entropy)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let (key, fresh) = (self.keys.status_stream_id(), URL_SAFE_NO_PAD.encode(fresh));
        let asked = |connection| self.identify.epoch(&key, &fresh, connection);
        self.link.within_deadline(connection, asked).await
    }

    /// Applies every stored row, and has the rows published that only this node holds.
    async fn read_everything(&mut self, connection: &Connection) -> Result<(), StoreError> {
        // The log is read on from here: changes made during the scan are applied twice, and none is missed.
        let asked = Instant::now();
        let place = self.end_of_log(connection).await?;
        let (mut cursor, mut kept) = (0, HashSet::new());
        loop {
            let mut scan = cmd("HSCAN");
            scan.arg(self.keys.status_rows()).arg(cursor).arg("COUNT").arg(BATCH);
            let page = self.link.within_deadline(connection, |mut connection| async move {
                let (next, pairs): Page = scan.query_async(&mut connection).await?;
                let rows: Option<Vec<_>> = pairs.iter().map(|(c, value)| row(c, value)).collect();
                Ok((next, rows.ok_or(FOREIGN)?))
            });
            let (next, rows) = page.await?;
            kept.extend(rows.iter().map(|row| row.circuit));
            self.peer.apply(rows).await?;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        self.peer.reconcile(&kept);
        self.known.row = place;
        self.fresh.confirm(asked);
        Ok(())
    }

    /// The entry id and the number of the last row in the log.
    async fn end_of_log(&self, connection: &Connection) -> Result<(String, u64), StoreError> {
        let mut look = cmd("XREVRANGE");
        look.arg(self.keys.status_log()).arg("+").arg("-").arg("COUNT").arg(1);
        let last = self.link.within_deadline(connection, |mut connection| async move {
            let entries: Entries = look.query_async(&mut connection).await?;
            entries.into_iter().next().map(|(id, fields)| logged(id, &fields)).transpose()
        });
        let last = last.await?;
        Ok(last.map_or((FIRST.to_owned(), 0), |(id, number, _)| (id, number)))
    }

    /// The entries after the last known ones, at most [`BATCH`] of each log; waits for some if `wait` is given.
    async fn read(
        &self,
        connection: &Connection,
        wait: Option<Duration>,
    ) -> Result<LogEntries, StoreError> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(BATCH);
        if let Some(wait) = wait {
            read.arg("BLOCK").arg(millis(wait));
        }
        let (rows, events) = (self.keys.status_log(), self.keys.answer_events());
        read.arg("STREAMS").arg(&rows).arg(&events);
        read.arg(&self.known.row.0).arg(&self.known.event);
        let limit = self.link.timeout() + wait.unwrap_or_default();
        let answer = self.link.within(limit, connection, |mut connection| async move {
            news(read.query_async(&mut connection).await?, &rows)
        });
        answer.await
    }

    /// Applies new entries; returns false, without applying rows, if some are missing before the first.
    async fn apply_entries(&mut self, news: LogEntries) -> Result<bool, StoreError> {
        if let Some((id, _)) = news.events.last() {
            self.known.event.clone_from(id);
            let events: Vec<_> = news.events.iter().map(|(_, event)| *event).collect();
            self.peer.apply_events(&events);
        }
        let (Some(first), Some(last)) = (news.rows.first(), news.rows.last()) else {
            return Ok(true);
        };
        if first.1 != self.known.row.1 + 1 {
            return Ok(false);
        }
        let place = (last.0.clone(), last.1);
        self.peer.apply(news.rows.into_iter().map(|(_, _, row)| row).collect()).await?;
        self.known.row = place;
        Ok(true)
    }
}

/// A page of the hash: the next cursor, and circuits with their statuses.
type Page = (u64, Vec<(Vec<u8>, Vec<u8>)>);

/// Entries of a log: their ids, and their fields with values.
type Entries = Vec<(String, Vec<(String, Vec<u8>)>)>;

fn row(circuit: &[u8], value: &[u8]) -> Option<ReplicatedRow> {
    Some(ReplicatedRow { circuit: circuit.try_into().ok()?, value: value.try_into().ok()? })
}

/// Parses the reply to `XREAD`: nil, or the name and the new entries of each log that has any.
fn news(answer: Value, rows: &str) -> Result<LogEntries, Fault> {
    let streams: Option<Vec<(String, Entries)>> =
        FromRedisValue::from_redis_value(answer).map_err(|_parse| FOREIGN)?;
    let mut news = LogEntries::default();
    for (name, entries) in streams.into_iter().flatten() {
        for (id, fields) in entries {
            if name == rows {
                news.rows.push(logged(id, &fields)?);
            } else {
                let event = field(&fields, "d").and_then(|bytes| bytes.try_into().ok());
                news.events.push((id, event.ok_or(Fault::Foreign("an answer event"))?));
            }
        }
    }
    Ok(news)
}

/// An entry of the log of rows: its id, its number and its row.
fn logged(id: String, fields: &[(String, Vec<u8>)]) -> Result<(String, u64, ReplicatedRow), Fault> {
    let number = field(fields, "n").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let bytes = field(fields, "r").filter(|bytes| bytes.len() == CIRCUIT_BYTES + VALUE_BYTES);
    let both = bytes.and_then(|bytes| bytes.split_at_checked(CIRCUIT_BYTES));
    let row = both.and_then(|(circuit, value)| row(circuit, value));
    Ok((id, number.ok_or(FOREIGN)?, row.ok_or(FOREIGN)?))
}

fn field<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| &value[..])
}

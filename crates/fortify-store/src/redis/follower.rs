//! The task that keeps the connection open and this node's revocations and moves current.
//!
//! Every admitted request asks whether its session was revoked or moved, so the answer is in memory (and in the
//! files that the embedded store has too). Two streams in Redis keep it current, one of revocations and one of
//! moves. Every node adds its own entries and reads both with one `XREAD BLOCK`: new entries arrive at once, none
//! is lost, and an empty answer proves that there is none. A node without that proof for [`MAX_STALENESS`] does not
//! know which sessions are valid, and refuses every request until it does.
//!
//! The streams have an [`Epoch`]. A Redis that lost its data has none, so the first node that notices begins a new
//! one; one that restarted or was replaced has another, whatever it still has. Every node then reads everything and
//! writes back the entries that are missing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{FromRedisValue, Pipeline, Value, cmd, pipe};
use tokio::time::{Instant, sleep};

use super::epoch::{Epoch, Identify};
use super::fault::{Cause, Fault};
use super::keys::Keys;
use super::link::{Connection, Link};
use super::scripts::{self, Scripts};
use super::unwritten::{Owed, Unwritten};
use crate::StoreError;
use crate::binding::BindingChange;
use crate::binding_table::BindingTable;
use crate::record::SessionId;
use crate::revocations::{MAX_REVOCATIONS, Revocations};
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::entropy::{Entropy, random_bytes};

/// The greatest age of the proof that no revocation and no move is missing. Redis may restart within this time without
/// a visitor noticing; a revocation or a move takes effect on other nodes at most this much later.
pub(super) const MAX_STALENESS: Duration = Duration::from_secs(2);

/// How long one read waits for new entries: a quarter of [`MAX_STALENESS`].
const BLOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Entries of each log read at once: about 150 KiB.
const BATCH: usize = 1000;

/// Revocations that are written at once, one round trip each.
const UNWRITTEN_AT_ONCE: usize = 100;

/// The pause before a reconnect: the first, and the longest.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// When the logs were last known to be read to their ends.
#[derive(Debug)]
pub(super) struct Freshness {
    started: Instant,
    /// Milliseconds since `started`, plus one; 0 means never.
    at: AtomicU64,
}

impl Freshness {
    pub(super) fn never() -> Self {
        Self { started: Instant::now(), at: AtomicU64::new(0) }
    }

    /// Whether that was recent enough to rely on the tables.
    pub(super) fn is_fresh(&self) -> bool {
        let (at, now) = (self.at.load(Ordering::Acquire), self.millis(Instant::now()));
        at > 0 && now.saturating_sub(at) < MAX_STALENESS.as_millis() as u64
    }

    /// Confirms that the logs were read to their ends at `then`.
    pub(super) fn confirm(&self, then: Instant) {
        self.at.fetch_max(self.millis(then), Ordering::AcqRel);
    }

    fn millis(&self, then: Instant) -> u64 {
        let since = then.saturating_duration_since(self.started).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The task.
pub(super) struct Follower {
    pub(super) link: Arc<Link>,
    pub(super) keys: Keys,
    pub(super) scripts: Arc<Scripts>,
    pub(super) identify: Identify,
    pub(super) revocations: Arc<Revocations>,
    pub(super) unwritten: Arc<Unwritten>,
    pub(super) moves: Arc<BindingTable>,
    pub(super) fresh: Arc<Freshness>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) known: LogPosition,
    /// Why revocations could not be written at the last turn: said once for each cause.
    pub(super) refused: Option<String>,
}

/// What this node has read of the logs.
#[derive(Default)]
pub(super) struct LogPosition {
    epoch: Epoch,
    /// The last entry of each log.
    last: EntryIds,
}

/// An entry of each log.
#[derive(Clone)]
struct EntryIds {
    revocations: String,
    moves: String,
}

impl Default for EntryIds {
    /// Before the first entries.
    fn default() -> Self {
        Self { revocations: "0-0".to_owned(), moves: "0-0".to_owned() }
    }
}

/// What one read found, in the order of each log.
#[derive(Default)]
struct LogEntries {
    revoked: Vec<(String, (SessionId, Timestamp))>,
    moved: Vec<(String, BindingChange)>,
}

impl LogEntries {
    fn is_empty(&self) -> bool {
        self.revoked.is_empty() && self.moved.is_empty()
    }

    /// Whether both logs were read to their ends.
    fn is_complete(&self) -> bool {
        self.revoked.len() < BATCH && self.moved.len() < BATCH
    }
}

/// What the logs hold.
#[derive(Default)]
struct StoreContents {
    /// Until when each is revoked, by the entry that says the latest.
    revoked: HashMap<SessionId, Timestamp>,
    moved: HashSet<BindingChange>,
}

impl StoreContents {
    fn add_revoked(&mut self, entries: impl IntoIterator<Item = (SessionId, Timestamp)>) {
        for (session, until) in entries {
            let kept = self.revoked.entry(session).or_insert(until);
            *kept = until.max(*kept);
        }
    }

    /// Those of `held` that are not there, or not for as long.
    fn lacking(&self, held: Vec<(SessionId, Timestamp)>) -> Vec<(SessionId, Timestamp)> {
        let is_there = |(id, until): &(SessionId, Timestamp)| self.revoked.get(id) >= Some(until);
        held.into_iter().filter(|one| !is_there(one)).collect()
    }
}

/// Adds a revocation that is in the log to this node's memory and disk.
pub(super) async fn insert(
    revocations: &Arc<Revocations>,
    (session, until): (SessionId, Timestamp),
    now: Timestamp,
) -> Result<(), StoreError> {
    let revocations = revocations.clone();
    // Waiting for the disk must not block the threads that serve requests.
    tokio::task::spawn_blocking(move || revocations.insert(session, until, now))
        .await
        .map_err(|ended| StoreError::Unavailable(ended.to_string()))?
}

impl Follower {
    /// Connects, follows the logs, and reconnects whenever that fails; never returns.
    pub(super) async fn run(mut self) {
        let mut pause = BACK_OFF[0];
        let mut reported = None;
        loop {
            let started = Instant::now();
            let Err(why) = self.follow(&mut reported).await;
            let text = why.to_string();
            self.link.refuse(why);
            // Once per cause, not at every attempt.
            if reported.as_ref() != Some(&text) {
                tracing::error!(error = %text, "the state store does not answer: requests are refused with 503");
                reported = Some(text);
            }
            if started.elapsed() > BACK_OFF[1] {
                pause = BACK_OFF[0];
            }
            sleep(pause).await;
            pause = BACK_OFF[1].min(pause * 2);
        }
    }

    /// Follows the logs until a connection fails.
    async fn follow(
        &mut self,
        reported: &mut Option<String>,
    ) -> Result<std::convert::Infallible, StoreError> {
        let serving = self.link.open(Duration::ZERO).await?;
        self.require_safe_policy(&serving).await?;
        let reading = self.link.open(BLOCK_TIMEOUT).await?;
        let waiting = self.link.open_waiting().await?;
        self.catch_up(&serving).await?;
        self.link.serve(serving.clone(), waiting).await;
        if reported.take().is_some() {
            tracing::info!("the state store answers again");
        }
        loop {
            let asked = Instant::now();
            let news = tokio::select! {
                () = self.link.broken() => {
                    return Err(self.link.unavailable("the connection was lost"));
                }
                news = self.read(&reading, Some(BLOCK_TIMEOUT)) => news?,
            };
            let asked = if news.is_empty() { asked } else { Instant::now() };
            let whole = news.is_complete();
            self.apply(news).await?;
            self.write_unwritten(&serving).await;
            if self.epoch(&serving, "").await? != self.known.epoch {
                // Redis was flushed, or another server of a cluster took over. What this node knows is still true.
                self.catch_up(&serving).await?;
            } else if whole {
                self.fresh.confirm(asked);
            }
        }
    }

    /// Writes revocations that Redis did not take when they were asked for: a few at each turn, so that the other nodes'
    /// news do not wait. What it refuses again is asked again, because it may still serve everybody else.
    async fn write_unwritten(&mut self, connection: &Connection) {
        let refused = self.try_to_write(connection).await.err();
        let refused = refused.map(|error| error.to_string());
        if let Some(error) = refused.as_ref().filter(|_| refused != self.refused) {
            tracing::error!(%error, "sessions that were ended are over at this node only, or lack replicas");
        }
        self.refused = refused;
    }

    async fn try_to_write(&self, connection: &Connection) -> Result<(), StoreError> {
        let log = self.keys.revocations();
        let owed = self.unwritten.owed(self.clock.now(), UNWRITTEN_AT_ONCE);
        if owed.is_empty() {
            return Ok(());
        }
        for &Owed { session, until, is_logged } in &owed {
            if is_logged {
                continue;
            }
            let revoke = self.scripts.revocation(&log, session, until, MAX_REVOCATIONS);
            let sent = |connection| scripts::revoke(revoke, connection);
            self.link.within_deadline(connection, sent).await?;
            insert(&self.revocations, (session, until), self.clock.now()).await?;
            self.unwritten.logged(session, until);
        }
        self.link.within_deadline(connection, |_| self.link.await_replicas(&log)).await?;
        for Owed { session, until, .. } in owed {
            self.unwritten.release(session, until);
        }
        Ok(())
    }

    /// Reads the new entries or, in another epoch, all; then writes back the entries that they lack.
    async fn catch_up(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let epoch = self.begin_epoch(connection).await?;
        let same = epoch == self.known.epoch;
        if !same {
            self.known.last = EntryIds::default();
        }
        let mut there = StoreContents::default();
        let whole = loop {
            let asked = Instant::now();
            let news = self.read(connection, None).await?;
            if news.is_empty() {
                break asked;
            }
            if !same {
                there.add_revoked(news.revoked.iter().map(|(_, entry)| *entry));
                there.moved.extend(news.moved.iter().map(|(_, change)| *change));
            }
            self.apply(news).await?;
        };
        if !same {
            self.write_back_revocations(connection, &there).await?;
            self.write_back_moves(connection, &there.moved).await?;
            self.known.epoch = epoch;
        }
        self.fresh.confirm(whole);
        Ok(())
    }

    /// The epoch of the streams, which are created if they do not exist.
    async fn begin_epoch(&self, connection: &Connection) -> Result<Epoch, StoreError> {
        let fresh: [u8; 16] = random_bytes(&*self.entropy)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.epoch(connection, &URL_SAFE_NO_PAD.encode(fresh)).await
    }

    async fn epoch(&self, connection: &Connection, fresh: &str) -> Result<Epoch, StoreError> {
        let key = self.keys.stream_id();
        let asked = |connection| self.identify.epoch(&key, fresh, connection);
        self.link.within_deadline(connection, asked).await
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
            read.arg("BLOCK").arg(wait.as_millis() as u64);
        }
        let (revocations, moves) = (self.keys.revocations(), self.keys.moves());
        read.arg("STREAMS").arg(&revocations).arg(&moves);
        read.arg(&self.known.last.revocations).arg(&self.known.last.moves);
        let limit = self.link.timeout() + wait.unwrap_or_default();
        let answer = self.link.within(limit, connection, |mut connection| async move {
            news(read.query_async(&mut connection).await?, &revocations, &moves)
        });
        answer.await
    }

    /// Applies entries to the tables and their files.
    async fn apply(&mut self, news: LogEntries) -> Result<(), StoreError> {
        if news.is_empty() {
            return Ok(());
        }
        let mut last = self.known.last.clone();
        if let Some((id, _)) = news.revoked.last() {
            last.revocations.clone_from(id);
        }
        if let Some((id, _)) = news.moved.last() {
            last.moves.clone_from(id);
        }
        for (_, (session, until)) in &news.revoked {
            self.unwritten.logged(*session, *until);
        }
        let (revocations, moves) = (self.revocations.clone(), self.moves.clone());
        let now = self.clock.now();
        // Waiting for the disk must not block the threads that serve requests.
        tokio::task::spawn_blocking(move || {
            let revoked: Vec<_> = news.revoked.into_iter().map(|(_, entry)| entry).collect();
            revocations.insert_all(&revoked, now)?;
            let moved: Vec<_> = news.moved.into_iter().map(|(_, entry)| entry).collect();
            moves.insert_all(&moved, now)
        })
        .await
        .map_err(|ended| StoreError::Unavailable(ended.to_string()))??;
        self.known.last = last;
        Ok(())
    }

    /// Writes back the revocations that this node has and the log lacks, or has for a shorter time, so that an
    /// acknowledged log-out stays in force.
    async fn write_back_revocations(
        &self,
        connection: &Connection,
        there: &StoreContents,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let missing = there.lacking(self.revocations.in_force(now));
        self.add_revocations(connection, &missing).await?;
        if !missing.is_empty() {
            tracing::warn!(count = missing.len(), "wrote back revocations that Redis had lost");
        }
        Ok(())
    }

    async fn add_revocations(
        &self,
        connection: &Connection,
        all: &[(SessionId, Timestamp)],
    ) -> Result<(), StoreError> {
        for batch in all.chunks(BATCH) {
            let mut commands = pipe();
            for (session, until) in batch {
                let (s, u) = (URL_SAFE_NO_PAD.encode(session.to_bytes()), until.as_millis());
                let add = commands.cmd("XADD").arg(self.keys.revocations()).arg("*");
                add.arg("s").arg(s).arg("u").arg(u).ignore();
            }
            self.write_all(connection, commands).await?;
        }
        Ok(())
    }

    /// Writes back the moves that this node has and the log lacks. A session's own key is written when it moves next;
    /// until then the log, which nodes trust as much, is enough.
    async fn write_back_moves(
        &self,
        connection: &Connection,
        there: &HashSet<BindingChange>,
    ) -> Result<(), StoreError> {
        let held = self.moves.in_force(self.clock.now());
        let missing: Vec<_> = held.into_iter().filter(|one| !there.contains(one)).collect();
        for batch in missing.chunks(BATCH) {
            let mut all = pipe();
            for change in batch {
                let add = all.cmd("XADD").arg(self.keys.moves()).arg("*");
                add.arg("m").arg(&change.encode()[..]);
                add.arg("u").arg(change.until.as_millis()).ignore();
            }
            self.write_all(connection, all).await?;
        }
        if !missing.is_empty() {
            tracing::warn!(count = missing.len(), "wrote back moves that Redis had lost");
        }
        Ok(())
    }

    async fn write_all(&self, connection: &Connection, all: Pipeline) -> Result<(), StoreError> {
        let written = self.link.within_deadline(connection, |mut connection| async move {
            Ok(all.query_async::<()>(&mut connection).await?)
        });
        written.await
    }

    /// Refuses a Redis that evicts keys without a TTL when it is full, because the logs of revocations and moves have
    /// none.
    async fn require_safe_policy(&self, connection: &Connection) -> Result<(), StoreError> {
        let info = self.link.within_deadline(connection, |mut connection| async move {
            Ok(cmd("INFO").arg("memory").query_async::<Value>(&mut connection).await?)
        });
        let mut texts = Vec::new();
        collect_texts(&info.await?, &mut texts);
        let policies = texts.iter().flat_map(|text| {
            text.lines().filter_map(|line| line.trim_end().strip_prefix("maxmemory_policy:"))
        });
        for policy in policies {
            match policy {
                "noeviction" | "volatile-ttl" => {}
                _ if policy.starts_with("volatile-") => tracing::warn!(
                    policy,
                    "at its maxmemory Redis may forget failure counts before challenges; set \
                     maxmemory-policy volatile-ttl"
                ),
                _ => {
                    let cause =
                        Cause::new("its maxmemory-policy lets it forget log-outs and moves");
                    return Err(self.link.unavailable(cause.advise(
                        "set maxmemory-policy volatile-ttl (or noeviction) in redis.conf",
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Parses the reply to `XREAD`: nil, or the name and the new entries of each log that has any.
fn news(answer: Value, revocations: &str, moves: &str) -> Result<LogEntries, Fault> {
    type Entries = Vec<(String, Vec<(String, Vec<u8>)>)>;
    const WHAT: Fault = Fault::Foreign("an entry of a log");
    let streams: Option<Vec<(String, Entries)>> =
        FromRedisValue::from_redis_value(answer).map_err(|_parse| WHAT)?;
    let mut news = LogEntries::default();
    for (name, entries) in streams.into_iter().flatten() {
        for (id, fields) in entries {
            let field = |name| fields.iter().find(|(n, _)| n == name).map(|(_, value)| &value[..]);
            if name == revocations {
                news.revoked.push((id, revocation(field("s"), field("u")).ok_or(WHAT)?));
            } else if name == moves {
                let moved = field("m").filter(|bytes| bytes.len() == BindingChange::BYTES);
                news.moved.push((id, moved.and_then(BindingChange::decode).ok_or(WHAT)?));
            } else {
                return Err(WHAT);
            }
        }
    }
    Ok(news)
}

fn revocation(session: Option<&[u8]>, until: Option<&[u8]>) -> Option<(SessionId, Timestamp)> {
    let session = URL_SAFE_NO_PAD.decode(session?).ok()?.try_into().ok()?;
    let until = std::str::from_utf8(until?).ok()?.parse().ok()?;
    Some((SessionId::from_bytes(session), Timestamp::from_millis(until)))
}

/// Every text in a reply: one from a server, one per node from a cluster.
pub(super) fn collect_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::BulkString(bytes) => texts.push(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => texts.push(text.clone()),
        Value::VerbatimString { text, .. } => texts.push(text.clone()),
        Value::Array(values) | Value::Set(values) => {
            values.iter().for_each(|value| collect_texts(value, texts));
        }
        Value::Map(pairs) => pairs.iter().for_each(|(_, value)| collect_texts(value, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_out_that_is_there_for_a_shorter_time_is_written_back() {
        let [short, same, longer, gone] =
            [1, 2, 3, 4].map(|number| SessionId::from_bytes([number; SessionId::BYTES]));
        let [soon, later] = [100, 200].map(Timestamp::from_secs);
        let mut there = StoreContents::default();
        there.add_revoked([(short, soon), (same, later), (longer, later), (same, soon)]);
        let held = vec![(short, later), (same, later), (longer, soon), (gone, soon)];
        assert_eq!(there.lacking(held), [(short, later), (gone, soon)]);
    }
}

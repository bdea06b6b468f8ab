//! The task that keeps this node's revocations true and the connection open.
//!
//! Every admitted request asks whether its session was ended, so the answer is in memory (and in
//! the file that the embedded store has too). What makes it true is a log in Redis, a stream, that
//! every node writes its log-outs to and reads with `XREAD BLOCK`: news comes at once, none is
//! lost, and an answer without news is proof that there is none. A node without that proof for
//! [`MAX_STALENESS`] does not know who was logged out, and refuses everybody until it does.
//!
//! The log's life has a name, the epoch. A Redis that came back empty has none, so the first node
//! that notices gives it a new one, and every node writes back what it still holds.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{FromRedisValue, Value, cmd, pipe};
use tokio::time::{Instant, sleep};

use super::fault::Fault;
use super::keys::Keys;
use super::link::{Connection, Link};
use crate::clock::{Clock, Timestamp};
use crate::entropy::{Entropy, random_bytes};
use crate::store::StoreError;
use crate::store::record::SessionId;
use crate::store::revocations::Revocations;

/// How old the proof may be that no revocation is missing. Redis may restart within it without a
/// visitor noticing; a log-out on another node is met at most this much later.
pub(super) const MAX_STALENESS: Duration = Duration::from_secs(2);

/// How long one read waits for news: a quarter of what the proof may age.
const WAIT_FOR_NEWS: Duration = Duration::from_millis(500);

/// Entries read at once: about 60 KiB.
const BATCH: usize = 1000;

/// The pause before a connection is opened again: the first, and the longest.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// When the log was last known to be read to its end.
#[derive(Debug)]
pub(super) struct Freshness {
    started: Instant,
    /// Milliseconds since `started`, and one; 0 is never.
    at: AtomicU64,
}

impl Freshness {
    pub(super) fn never() -> Self {
        Self { started: Instant::now(), at: AtomicU64::new(0) }
    }

    /// Whether it was so lately enough to believe the table.
    pub(super) fn is_fresh(&self) -> bool {
        let (at, now) = (self.at.load(Ordering::Acquire), self.millis(Instant::now()));
        at > 0 && now.saturating_sub(at) < MAX_STALENESS.as_millis() as u64
    }

    /// It was so at `then`.
    fn prove(&self, then: Instant) {
        self.at.fetch_max(self.millis(then), Ordering::AcqRel);
    }

    fn millis(&self, then: Instant) -> u64 {
        let since = then.saturating_duration_since(self.started).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The task's parts.
pub(super) struct Follower {
    pub(super) link: Arc<Link>,
    pub(super) keys: Keys,
    pub(super) revocations: Arc<Revocations>,
    pub(super) fresh: Arc<Freshness>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) known: Known,
}

/// What this node has read of the log.
#[derive(Default)]
pub(super) struct Known {
    /// The name of the log's life.
    epoch: Vec<u8>,
    /// The last entry.
    last: String,
}

impl Follower {
    /// Connects, follows the log, and connects again when that ends; never returns.
    pub(super) async fn run(mut self) {
        let mut pause = BACK_OFF[0];
        let mut said = None;
        loop {
            let started = Instant::now();
            let Err(why) = self.follow(&mut said).await;
            let text = why.to_string();
            self.link.refuse(why);
            // Once for each change of mind, not once for each try.
            if said.as_ref() != Some(&text) {
                tracing::error!(error = %text, "no state store: requests are refused with 503");
                said = Some(text);
            }
            if started.elapsed() > BACK_OFF[1] {
                pause = BACK_OFF[0];
            }
            sleep(pause).await;
            pause = BACK_OFF[1].min(pause * 2);
        }
    }

    /// One life of the connections, to its end.
    async fn follow(
        &mut self,
        said: &mut Option<String>,
    ) -> Result<std::convert::Infallible, StoreError> {
        let serving = self.link.open(Duration::ZERO).await?;
        self.require_safe_policy(&serving).await?;
        let reading = self.link.open(WAIT_FOR_NEWS).await?;
        self.catch_up(&serving).await?;
        self.link.serve(serving.clone()).await;
        if said.take().is_some() {
            tracing::info!("the state store answers again");
        }
        loop {
            let asked = Instant::now();
            let news = tokio::select! {
                () = self.link.broken() => {
                    return Err(self.link.unavailable("the connection was lost"));
                }
                news = self.read(&reading, Some(WAIT_FOR_NEWS)) => news?,
            };
            let asked = if news.is_empty() { asked } else { Instant::now() };
            let whole = news.len() < BATCH;
            self.apply(news).await?;
            if self.epoch(&serving).await? != self.known.epoch {
                // Flushed under us. What this node knows is still true.
                self.catch_up(&serving).await?;
            } else if whole {
                self.fresh.prove(asked);
            }
        }
    }

    /// Reads what is new, or everything where the log is another one; then writes back what it
    /// misses.
    async fn catch_up(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let epoch = self.begin_epoch(connection).await?;
        let same = epoch == self.known.epoch;
        if !same {
            self.known.last = "0-0".to_owned();
        }
        let mut there = HashSet::new();
        let whole = loop {
            let asked = Instant::now();
            let news = self.read(connection, None).await?;
            if news.is_empty() {
                break asked;
            }
            if !same {
                there.extend(news.iter().map(|entry| entry.session));
            }
            self.apply(news).await?;
        };
        if !same {
            self.write_back(connection, &there).await?;
            self.known.epoch = epoch;
        }
        self.fresh.prove(whole);
        Ok(())
    }

    /// The name of the log's life, given now if it has none.
    async fn begin_epoch(&self, connection: &Connection) -> Result<Vec<u8>, StoreError> {
        let fresh: [u8; 16] = random_bytes(&*self.entropy)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let fresh = URL_SAFE_NO_PAD.encode(fresh);
        let key = self.keys.epoch();
        let named = self.link.within_deadline(connection, |mut connection| async move {
            let set = cmd("SET").arg(&key).arg(&fresh).arg("NX").to_owned();
            set.query_async::<Value>(&mut connection).await?;
            Ok(cmd("GET").arg(&key).query_async::<Option<Vec<u8>>>(&mut connection).await?)
        });
        named.await?.ok_or_else(|| self.link.unavailable("forgot a key at once; is it flushed?"))
    }

    async fn epoch(&self, connection: &Connection) -> Result<Vec<u8>, StoreError> {
        let key = self.keys.epoch();
        let epoch = self.link.within_deadline(connection, |mut connection| async move {
            Ok(cmd("GET").arg(&key).query_async::<Option<Vec<u8>>>(&mut connection).await?)
        });
        Ok(epoch.await?.unwrap_or_default())
    }

    /// The entries after the last one known, at most [`BATCH`]; waits for some if told to.
    async fn read(
        &self,
        connection: &Connection,
        wait: Option<Duration>,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(BATCH);
        if let Some(wait) = wait {
            read.arg("BLOCK").arg(wait.as_millis() as u64);
        }
        read.arg("STREAMS").arg(self.keys.revocations()).arg(&self.known.last);
        let limit = self.link.timeout() + wait.unwrap_or_default();
        let answer = self.link.within(limit, connection, |mut connection| async move {
            entries(read.query_async(&mut connection).await?)
        });
        answer.await
    }

    /// Takes entries over into the table and its file.
    async fn apply(&mut self, news: Vec<Entry>) -> Result<(), StoreError> {
        let Some(last) = news.last().map(|entry| entry.id.clone()) else { return Ok(()) };
        let (revocations, now) = (self.revocations.clone(), self.clock.now());
        let news = news.into_iter().map(|entry| (entry.session, entry.until)).collect::<Vec<_>>();
        // The disk is waited for off the threads that serve.
        tokio::task::spawn_blocking(move || revocations.insert_all(&news, now))
            .await
            .map_err(|ended| StoreError::Unavailable(ended.to_string()))??;
        self.known.last = last;
        Ok(())
    }

    /// Writes what this node holds and the log does not: what was acknowledged stays so.
    async fn write_back(
        &self,
        connection: &Connection,
        there: &HashSet<SessionId>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let held = self.revocations.in_force(now);
        let missing: Vec<_> = held.into_iter().filter(|(id, _)| !there.contains(id)).collect();
        for batch in missing.chunks(BATCH) {
            let mut all = pipe();
            for (session, until) in batch {
                let (s, u) = (URL_SAFE_NO_PAD.encode(session.to_bytes()), until.as_millis());
                let add = all.cmd("XADD").arg(self.keys.revocations()).arg("*");
                add.arg("s").arg(s).arg("u").arg(u).ignore();
            }
            let written = self.link.within_deadline(connection, |mut connection| async move {
                Ok(all.query_async::<()>(&mut connection).await?)
            });
            written.await?;
        }
        if !missing.is_empty() {
            tracing::warn!(count = missing.len(), "wrote revocations back that Redis had lost");
        }
        Ok(())
    }

    /// Refuses a Redis that makes room by forgetting keys that have no TTL: a log-out would be one.
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
                    return Err(self.link.unavailable(
                        "its maxmemory-policy lets it forget log-outs; set maxmemory-policy \
                         volatile-ttl (or noeviction) in redis.conf",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// One entry of the log.
struct Entry {
    id: String,
    session: SessionId,
    until: Timestamp,
}

/// What `XREAD` of one stream gives: nil, or the stream's name with its entries.
fn entries(answer: Value) -> Result<Vec<Entry>, Fault> {
    const WHAT: Fault = Fault::Foreign("an entry of the log of revocations");
    type Entries = Vec<(String, Vec<(String, String)>)>;
    let streams: Option<Vec<(String, Entries)>> =
        FromRedisValue::from_redis_value(answer).map_err(|_parse| WHAT)?;
    let all = streams.into_iter().flatten().flat_map(|(_name, entries)| entries);
    all.map(|(id, fields)| {
        let field = |name| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value);
        let session = field("s").and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let session = session.and_then(|bytes| bytes.try_into().ok());
        let until = field("u").and_then(|text| text.parse().ok());
        match (session, until) {
            (Some(session), Some(until)) => Ok(Entry {
                id,
                session: SessionId::from_bytes(session),
                until: Timestamp::from_millis(until),
            }),
            _ => Err(WHAT),
        }
    })
    .collect()
}

/// Every text in an answer: one from a server, one for each node from a cluster.
fn collect_texts(value: &Value, texts: &mut Vec<String>) {
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

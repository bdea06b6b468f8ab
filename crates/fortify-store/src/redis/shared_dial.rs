//! The threat dial of all nodes: a short stream whose last entry is in force.
//!
//! A stream rather than a key with publish/subscribe: `XREAD BLOCK` returns the last entry at once and further
//! ones as they come, and none is lost while a node is away.

use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, Script, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::fault::Fault;
use super::link::{Connection, Link};
use crate::StoreError;
use crate::record::DialRecord;

/// How long one read waits for new entries.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause before a reconnect.
const BACK_OFF: Duration = Duration::from_millis(500);

/// Adds a change if its version is above the last one's, and returns the last entry.
///
/// A few entries are kept, so that the log can be inspected by hand.
const TURN: &str = "
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last then
  local kept = {}
  for i = 1, #last[2], 2 do kept[last[2][i]] = last[2][i + 1] end
  if tonumber(kept.v) >= tonumber(ARGV[1]) then return kept.d end
end
redis.call('XADD', KEYS[1], 'MAXLEN', 16, '*', 'v', ARGV[1], 'd', ARGV[2])
return ARGV[2]";

/// The dial in Redis, and the task that follows it.
pub(super) struct SharedDial {
    link: Arc<Link>,
    key: String,
    turn: Script,
    known: Arc<watch::Sender<Option<DialRecord>>>,
    follower: AbortHandle,
}

impl SharedDial {
    /// Starts to follow the stream `key`.
    pub(super) fn follow(runtime: &Handle, link: Arc<Link>, key: String) -> Self {
        let known = Arc::new(watch::Sender::default());
        let follower = Follower { link: link.clone(), key: key.clone(), known: known.clone() };
        let follower = runtime.spawn(follower.run()).abort_handle();
        Self { link, key, turn: Script::new(TURN), known, follower }
    }

    pub(super) fn news(&self) -> watch::Receiver<Option<DialRecord>> {
        self.known.subscribe()
    }

    pub(super) async fn set(&self, dial: DialRecord) -> Result<DialRecord, StoreError> {
        let text = serde_json::to_string(&dial)
            .map_err(|_never| StoreError::Unavailable("the dial is no JSON".to_owned()))?;
        let mut turn = self.turn.key(&self.key);
        turn.arg(dial.version).arg(text);
        let kept = self.link.step(|mut connection| async move {
            read(&turn.invoke_async::<String>(&mut connection).await?)
        });
        kept.await
    }
}

impl Drop for SharedDial {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// The task that follows the stream.
struct Follower {
    link: Arc<Link>,
    key: String,
    known: Arc<watch::Sender<Option<DialRecord>>>,
}

impl Follower {
    /// Reads the stream, and reconnects whenever that fails; never returns. The task that keeps the other connections
    /// logs what is wrong with Redis.
    async fn run(self) {
        loop {
            let Err(error) = self.read().await;
            tracing::debug!(%error, "changes of the threat dial by other nodes are not received");
            tokio::time::sleep(BACK_OFF).await;
        }
    }

    /// Reads until the connection fails. It starts at the beginning of the stream, because the ids start again in a
    /// Redis that lost its data.
    async fn read(&self) -> Result<std::convert::Infallible, StoreError> {
        let connection = self.link.open(BLOCK_TIMEOUT).await?;
        let mut last = "0-0".to_owned();
        loop {
            let Some((id, dial)) = self.next(&connection, &last).await? else { continue };
            last = id;
            self.known.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&dial);
                *known = Some(dial);
                changed
            });
        }
    }

    /// The last entry after `last`, if there is one.
    async fn next(
        &self,
        connection: &Connection,
        last: &str,
    ) -> Result<Option<(String, DialRecord)>, StoreError> {
        let mut read = cmd("XREAD");
        read.arg("BLOCK").arg(BLOCK_TIMEOUT.as_millis() as u64);
        read.arg("STREAMS").arg(&self.key).arg(last);
        let limit = self.link.timeout() + BLOCK_TIMEOUT;
        let answer = self.link.within(limit, connection, |mut connection| async move {
            last_entry(read.query_async(&mut connection).await?)
        });
        answer.await
    }
}

/// The last entry in the reply to `XREAD` of one stream: nil, or the name of the stream with its entries.
fn last_entry(answer: Value) -> Result<Option<(String, DialRecord)>, Fault> {
    type Entries = Vec<(String, Vec<(String, String)>)>;
    let streams: Option<Vec<(String, Entries)>> =
        FromRedisValue::from_redis_value(answer).map_err(|_parse| FOREIGN)?;
    let Some((id, fields)) = streams.into_iter().flatten().flat_map(|(_, all)| all).last() else {
        return Ok(None);
    };
    let text = fields.iter().find(|(name, _)| name == "d").map(|(_, text)| text);
    Ok(Some((id, read(text.ok_or(FOREIGN)?)?)))
}

const FOREIGN: Fault = Fault::Foreign("a change of the threat dial");

fn read(text: &str) -> Result<DialRecord, Fault> {
    serde_json::from_str(text).map_err(|_not_ours| FOREIGN)
}

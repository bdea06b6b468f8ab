//! The epoch of a node's tables: which streams it has read, and in which process.
//!
//! A Redis that restarts from a snapshot, or a replica that takes over, has *older* data under the same names, and nothing
//! in the data says so. But it is another process, with another `run_id`, or its data has another history: a server that
//! was a replica in between has a new `master_replid`.

use redis::Script;

use super::fault::Fault;
use super::link::Connection;

/// Returns the id of the streams, and the run and the history of the server that holds them. Without an id, creates the one that is given,
/// if there is one.
///
/// It writes only where there is nothing, so a server that may be read may be asked.
const IDENTIFY: &str = "
local id = redis.call('GET', KEYS[1])
if not id and ARGV[1] ~= '' then
  id = ARGV[1]
  redis.call('SET', KEYS[1], id)
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
return {id or '', run .. (string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or '')}";

/// Asks for epochs.
pub(super) struct Identify(Script);

/// An epoch; none has an empty id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epoch {
    id: Vec<u8>,
    run: Vec<u8>,
}

impl Epoch {
    /// Whether both are of the same streams, perhaps on another server.
    pub(super) fn has_streams_of(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Identify {
    pub(super) fn new() -> Self {
        Self(Script::new(IDENTIFY))
    }

    /// The epoch of the streams whose id is at `key`, which are created with the id `fresh` if it is not empty.
    pub(super) async fn epoch(
        &self,
        key: &str,
        fresh: &str,
        mut connection: Connection,
    ) -> Result<Epoch, Fault> {
        let mut ask = self.0.key(key);
        let (id, run) = ask.arg(fresh).invoke_async(&mut connection).await?;
        Ok(Epoch { id, run })
    }
}

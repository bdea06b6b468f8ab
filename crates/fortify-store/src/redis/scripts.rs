//! The Lua scripts. Each uses one key, except the one that moves a session: its two keys share a hash tag and so
//! a node of a cluster.

use redis::Script;

/// Adds a token to its circuit's and gives back those that are too much, the oldest first.
///
/// The score is one more than the newest's, whatever the clocks say, so the oldest is exactly that.
const ENLIST: &str = "
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
redis.call('ZADD', KEYS[1], newest[2] and newest[2] + 1 or 1, ARGV[1])
local dropped = {}
local surplus = redis.call('ZCARD', KEYS[1]) - ARGV[2]
if surplus > 0 then
  local oldest = redis.call('ZPOPMIN', KEYS[1], surplus)
  for i = 1, #oldest, 2 do dropped[#dropped + 1] = oldest[i] end
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return dropped";

/// Counts one failure. The time is the caller's; a count that has expired starts again.
const FAIL: &str = "
local kept, count = redis.call('GET', KEYS[1]), 0
if kept then
  local n, till = string.match(kept, '^(%d+) (%d+)$')
  if not n then return -1 end
  if tonumber(till) > tonumber(ARGV[1]) then count = tonumber(n) end
end
count = math.min(count + 1, 4294967295)
redis.call('SET', KEYS[1], string.format('%.0f %s', count, ARGV[2]), 'PX', ARGV[3])
return count";

/// Adds a revocation to the log, which first loses what is older than any session.
///
/// Redis refuses no write of a script that has written before, so after the trim a log-out is taken
/// at the memory cap too: it is small, and must not be put off.
const REVOKE: &str = "
local now = redis.call('TIME')
local oldest = string.format('%.0f', now[1] * 1000 - ARGV[4])
redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest)
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('XADD', KEYS[1], '*', 's', ARGV[1], 'u', ARGV[2])
return 1";

/// Asks once more for a circuit, whose times are a list, the newest last. `store::window` says the same
/// in Rust, and a test holds both to one contract.
const ACQUIRE_QUOTA: &str = "
local now = tonumber(ARGV[1])
local times = redis.call('LRANGE', KEYS[1], 0, -1)
local wait, most, widest = 0, 0, 0
for i = 3, #ARGV, 2 do
  local within, bound = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local first = tonumber(times[#times - bound + 1])
  if first and first + within > now then
    wait = math.max(wait, math.min(first + within - now, within))
  end
  most, widest = math.max(most, bound), math.max(widest, within)
end
if wait > 0 then return -wait end
local lately = 1
for _, time in ipairs(times) do
  if tonumber(time) + widest > now then lately = lately + 1 end
end
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -most, -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return lately";

/// Makes a move if the session is still where the caller thinks, and tells of it, in one step.
///
/// What a step comes to is judged by the caller (`binding`), in one place for every store; here is
/// only a comparison: of any number of callers who thought the same, one writes. The log comes first,
/// because that write may be refused (no memory, another type), and nothing is then written. From its
/// head go the moves of sessions that ended: up to 100 for each that comes, so it does not lag.
const MOVE: &str = "
local kept = redis.call('GET', KEYS[1]) or ''
if kept ~= ARGV[1] then return {0, kept} end
local ended = 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 100)) do
  if tonumber(entry[2][4]) > tonumber(ARGV[6]) then break end
  ended = ended + 1
end
local length = redis.call('XLEN', KEYS[2]) - ended
local full = length >= tonumber(ARGV[7])
if not full then
  redis.call('XADD', KEYS[2], '*', 'm', ARGV[3], 'u', ARGV[4])
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[5])
  length = length + 1
end
if ended > 0 then redis.call('XTRIM', KEYS[2], 'MAXLEN', length) end
return {full and 2 or 1, ''}";

/// The scripts with their hashes, made once.
#[derive(Debug)]
pub(super) struct Scripts {
    /// KEYS: active. ARGV: token, most, TTL in ms. Returns the dropped tokens.
    pub(super) enlist: Script,
    /// KEYS: failures. ARGV: now in ms, until in ms, TTL in ms. Returns the count, or -1 for a
    /// value that is none of ours.
    pub(super) fail: Script,
    /// KEYS: asked. ARGV: now in ms, TTL in ms, then for each bound how far back it counts in ms, and how
    /// many there may be. Returns how often was asked, or less than 0: the ms to wait.
    pub(super) acquire_quota: Script,
    /// KEYS: log. ARGV: session, until in ms, most, age in ms. Returns 0 when the log is full.
    pub(super) revoke: Script,
    /// KEYS: a session's moves, the log of moves. ARGV: what the first holds, what it is to hold,
    /// the move, until in ms, TTL in ms, until when entries have ended in ms, most. Returns 1; or 0
    /// with what the first key holds where that is something else; or 2 when the log is full.
    pub(super) move_session: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            enlist: Script::new(ENLIST),
            fail: Script::new(FAIL),
            acquire_quota: Script::new(ACQUIRE_QUOTA),
            revoke: Script::new(REVOKE),
            move_session: Script::new(MOVE),
        }
    }
}

//! The Lua scripts. Each uses one key, except the one that moves a session: its two keys share a hash tag and so
//! a node of a cluster.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{Script, ScriptInvocation};

use super::fault::Fault;
use super::link::Connection;
use super::millis;
use crate::record::SessionId;
use fortify_core::clock::Timestamp;

/// How long the log keeps a revocation: a session lasts at most a day (`session.ttl_seconds`), and an hour
/// covers differences of clocks.
const REVOCATION_AGE: Duration = Duration::from_secs(90_000);

/// Adds a token to those of its circuit, and removes and returns the one that it replaces and the surplus, oldest first.
/// A circuit's only challenge is added only if the newest is the one that it replaces, or there is none.
///
/// The score is one more than that of the newest, whatever the clocks say, so the order is exact.
const ENLIST: &str = "
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if ARGV[4] ~= '' and newest[1] and newest[1] ~= ARGV[6] then return {0, newest[1]} end
redis.call('ZADD', KEYS[1], newest[2] and newest[2] + 1 or 1, ARGV[1])
local dropped = {}
if ARGV[5] ~= '' and redis.call('ZREM', KEYS[1], ARGV[5]) == 1 then dropped[1] = ARGV[5] end
local surplus = redis.call('ZCARD', KEYS[1]) - ARGV[2]
if surplus > 0 then
  local oldest = redis.call('ZPOPMIN', KEYS[1], surplus)
  for i = 1, #oldest, 2 do dropped[#dropped + 1] = oldest[i] end
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {1, unpack(dropped)}";

/// The run of the server that executes the script, and the history of its data: six digits of a hash of both, which two
/// have in common once in 16 million.
macro_rules! run {
    () => {
        "local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
run = run .. (string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or '')
run = string.sub(redis.sha1hex(run), 1, 6)"
    };
}

/// Puts a challenge, which names the server that took it: the last field, for which the value leaves room.
const PUT: &str = concat!(
    run!(),
    "
redis.call('SET', KEYS[1], string.sub(ARGV[1], 1, -10) .. run .. string.sub(ARGV[1], -3), 'PX', ARGV[2])"
);

/// Takes a challenge, and leaves a mark that it is being checked. A mark or the receipt of a right answer that is there
/// instead stays. A challenge that another server took is void, and goes: a server that has restarted from a snapshot, or a
/// replica that took over, may not know that it was answered.
///
/// Redis refuses no write of a script that has already written, so the mark is written even at `maxmemory`.
const TAKE: &str = concat!(
    run!(),
    "
local kept = redis.call('GET', KEYS[1])
if not kept or string.sub(kept, 1, 1) ~= ARGV[1] then return kept end
redis.call('GETDEL', KEYS[1])
local by = string.match(kept, '\"(%x%x%x%x%x%x)\"%]}$')
if by and by ~= run then return false end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return kept"
);

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

/// Adds a revocation to the log, after removing entries older than any session.
///
/// Redis refuses no write of a script that has already written, so after the trim a log-out is accepted even at
/// `maxmemory`: it is small, and must not be delayed.
const REVOKE: &str = "
local now = redis.call('TIME')
local oldest = string.format('%.0f', now[1] * 1000 - ARGV[4])
redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest)
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('XADD', KEYS[1], '*', 's', ARGV[1], 'u', ARGV[2])
return 1";

/// Acquires quota for one request of a circuit, whose request times are a list, the newest last. `window` is the same
/// in Rust, and one test holds both to one contract.
const ACQUIRE_QUOTA: &str = "
local now = tonumber(ARGV[1])
local times = redis.call('LRANGE', KEYS[1], 0, -1)
local wait, most, widest = 0, 0, 0
for i = 4, #ARGV, 2 do
  local within, bound = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local first = tonumber(times[#times - bound + 1])
  if first and first + within > now then
    wait = math.max(wait, math.min(first + within - now, within))
  end
  most, widest = math.max(most, bound), math.max(widest, within)
end
local newest, longest = tonumber(times[#times]), tonumber(ARGV[3])
if newest and longest > 0 then
  wait = math.min(wait, math.max(0, math.min(newest + longest - now, longest)))
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

/// Moves a session, if its binding is still the one that the caller read, and logs the move, atomically.
///
/// The caller decides (`binding`), so that the rules are in one place for every store. The script only compares: of
/// several callers that read the same binding, one writes. The log is written first, because that write may be refused
/// (no memory, another type), and then nothing is written. Moves of ended sessions are removed from the head of the
/// log, up to 100 for each new move, so that it does not grow.
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

/// Takes a lease of a session's budget, which is kept as pages a minute, burst, the bucket in sixtieths of a milli-page, the ms that these are of, and what
/// is left of the quota. `lease` is the same in Rust, and one test holds both to one contract. Numbers are below 2^53.
const LEASE: &str = "
local now, ttl, most = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local rate, burst, left = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local grains, filled = burst * 60, now
local kept = redis.call('GET', KEYS[1])
if kept then
  local r, b, t, f, l = string.match(kept, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not r then return {-1} end
  rate, burst, grains, filled, left = tonumber(r), tonumber(b), tonumber(t), tonumber(f), tonumber(l)
end
if filled > now + 60000 then filled = now end
grains = math.min(grains + math.max(now - filled, 0) * rate, burst * 60)
filled = math.max(filled, now)
local granted = math.min(most, math.floor(grains / 60), left)
local text = string.format('%.0f %.0f %.0f %.0f %.0f', rate, burst, grains - granted * 60, filled, left - granted)
redis.call('SET', KEYS[1], text, 'PX', ttl)
return {granted, left - granted, rate, burst}";

/// Notes which keys a node has, and returns what all said: for each root its name and the newest period, with the time
/// of its beginning. A number that is further ahead than nodes follow is none of ours.
const KEY_NOTES: &str = "
local now, root, period, since, age = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local all, said = redis.call('HSCAN', KEYS[1], 0, 'COUNT', 100)[2], {}
for i = 1, #all, 2 do
  local name = all[i]
  local p, s, seen = string.match(all[i + 1], '^(%d+) (%d+) (%d+)$')
  if name == root then
    local ahead = p and tonumber(p) - period
    if ahead and ahead > 0 and ahead <= tonumber(ARGV[6]) then period, since = tonumber(p), s end
  elseif not p or now - tonumber(seen) > age or #said >= 30 or not string.match(name, '^%x+$') then
    redis.call('HDEL', KEYS[1], name)
  else
    said[#said + 1] = name
    said[#said + 1] = p .. ' ' .. s
  end
end
local own = string.format('%.0f %s', period, since)
redis.call('HSET', KEYS[1], root, own .. ' ' .. ARGV[1])
redis.call('PEXPIRE', KEYS[1], age)
said[#said + 1] = root
said[#said + 1] = own
return said";

/// The scripts with their hashes, computed once.
#[derive(Debug)]
pub(super) struct Scripts {
    /// KEYS: active. ARGV: token, most, TTL in ms, a word for a circuit's only challenge, the token that it replaces
    /// or nothing, the token that may be the newest or nothing. Returns 1 and the dropped tokens, or 0 and the newest token, which stays.
    pub(super) enlist: Script,
    /// KEYS: challenge. ARGV: the first byte of a challenge, the mark of one that is being checked, TTL of the mark in
    /// ms. Returns the value before.
    pub(super) take: Script,
    /// KEYS: a challenge. ARGV: its value, TTL in ms.
    pub(super) put: Script,
    /// KEYS: failures. ARGV: now in ms, until in ms, TTL in ms. Returns the count, or -1 for a value that Fortify did
    /// not write.
    pub(super) fail: Script,
    /// KEYS: requests. ARGV: now in ms, TTL in ms, the longest wait after the last request in ms or 0, then for each limit its window in ms and its maximum. Returns the
    /// number of requests in the widest window, or the negated ms to wait.
    pub(super) acquire_quota: Script,
    /// KEYS: log. ARGV: session, until in ms, most, age in ms. Returns 0 when the log is full.
    pub(super) revoke: Script,
    /// KEYS: a session's moves, the log of moves. ARGV: the expected value of the first key, its new value, the move,
    /// until in ms, TTL in ms, the time in ms before which entries have ended, most. Returns 1; 0 with the value of the
    /// first key if it is not the expected one; or 2 if the log is full.
    pub(super) move_session: Script,
    /// KEYS: a session's budget. ARGV: now in ms, TTL in ms, how much to take, pages a minute, burst, quota. Returns how
    /// much was taken, what is left of the quota, the rate and the burst; -1 for a value that Fortify did not write.
    pub(super) lease: Script,
    /// KEYS: which keys nodes have. ARGV: now in ms, the name of the root in hex, the period, since when in ms, for how
    /// many ms a note counts, how far ahead nodes are followed. Returns names and notes, one after the other.
    pub(super) key_notes: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            enlist: Script::new(ENLIST),
            put: Script::new(PUT),
            take: Script::new(TAKE),
            fail: Script::new(FAIL),
            acquire_quota: Script::new(ACQUIRE_QUOTA),
            revoke: Script::new(REVOKE),
            move_session: Script::new(MOVE),
            lease: Script::new(LEASE),
            key_notes: Script::new(KEY_NOTES),
        }
    }

    /// The revocation of `session`, for a `log` of at most `most` entries.
    pub(super) fn revocation<'a>(
        &'a self,
        log: &str,
        session: SessionId,
        until: Timestamp,
        most: usize,
    ) -> ScriptInvocation<'a> {
        let mut revoke = self.revoke.key(log);
        revoke.arg(URL_SAFE_NO_PAD.encode(session.to_bytes())).arg(until.as_millis());
        revoke.arg(most).arg(millis(REVOCATION_AGE));
        revoke
    }
}

/// Sends a [`Scripts::revocation`].
pub(super) async fn revoke(
    revocation: ScriptInvocation<'_>,
    mut connection: Connection,
) -> Result<(), Fault> {
    match revocation.invoke_async::<u8>(&mut connection).await? {
        0 => Err(Fault::Full("revocations")),
        _ => Ok(()),
    }
}

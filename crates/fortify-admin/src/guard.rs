//! How often passwords may be tried. Pure: the clock is passed in, and memory is bounded.
//!
//! Three limits, each of which makes wait and none of which locks for good:
//!
//! - for an account: after [`Settings::tries`] wrong passwords 1 s, and twice as long with each further
//!   one, up to [`Settings::longest`]; forgotten an hour after the last, and by a right one;
//! - for a source, where that says something: over an onion service or a local proxy all sources are this
//!   machine, so loopback addresses have no limit of their own;
//! - for all together: [`Settings::per_minute`] passwords are looked at in a minute.
//!
//! What is tried while it waits is refused without a look and does not prolong the wait.
//!
//! One-time codes have a limit of their own, before any of these: [`Guard::take_code`] says whether a code is
//! looked at, and one that is not is as if none came. Codes that are tried during a wait are counted so too;
//! otherwise whoever has the password could try all of them, and would learn the code in force.
//!
//! Somebody who tries the operator's name without end would keep the operator out, for of those who come when
//! a wait is over one is looked at. Three ways stay open. A right one-time code is not counted with the tries
//! that have none, and makes wait for half a minute at most; a flood of codes delays it, for of those that
//! come when a look is to be had one has it. API tokens and sessions are never limited. And the unix socket
//! asks for no password at all.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use fortify_core::clock::Timestamp;

/// Names, and sources, that are remembered; the one that was silent for longest makes room.
pub const MOST_REMEMBERED: usize = 10_000;

/// After how long without a wrong password everything is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// The wait after the first wrong password too many.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait of those who have a right one-time code: a code's life. Whoever guesses codes without
/// end guesses one now and then, and must not keep out who has the app.
const LONGEST_PROVEN: Duration = Duration::from_secs(30);

/// One-time codes of an account that are looked at in a row: as many as wrong passwords are by default.
const CODES: f64 = 5.0;

/// How often one more is looked at: six a minute. Three codes of a million are right at a time (RFC 6238,
/// section 5.2), so that whoever has the password and guesses for a day gets in with a chance of 1 in 40.
const CODE_EVERY: Duration = Duration::from_secs(10);

/// Tries of a source are this many times those of an account: several people may share it.
const SOURCE_FACTOR: u32 = 4;

/// What holds.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Wrong passwords for an account before it waits.
    pub tries: u32,
    /// Passwords that are looked at in a minute.
    pub per_minute: u32,
    /// The longest wait.
    pub longest: Duration,
}

/// A log-in that is about to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The account's name, whether or not there is one.
    pub name: &'a str,
    /// Where it comes from; nothing where that says nothing.
    pub source: Option<IpAddr>,
    /// Whether it came with a right one-time code.
    pub proven: bool,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    wrong: u32,
    last: Timestamp,
}

/// Looks at codes that an account has left, and when that was so.
#[derive(Clone, Copy, Debug)]
struct CodeBudget {
    left: f64,
    at: Timestamp,
}

/// Wrong passwords and looks at codes, counted.
#[derive(Debug)]
pub struct Guard {
    settings: Settings,
    names: HashMap<(String, bool), Record>,
    sources: HashMap<IpAddr, Record>,
    codes: HashMap<String, CodeBudget>,
    /// Of all together: looks left, and when that was so.
    left: f64,
    at: Option<Timestamp>,
}

impl Guard {
    /// Nobody tried yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let left = f64::from(settings.per_minute);
        let (names, sources, codes) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { settings, names, sources, codes, left, at: None }
    }

    /// Whether a one-time code for `account` may be looked at. Right or wrong, the look is used up.
    ///
    /// To be asked of accounts that there are and that have codes, so that made-up names take no memory.
    pub fn take_code(&mut self, account: &str, now: Timestamp) -> bool {
        let earned = |looks: &CodeBudget| {
            let earned = looks.at.until(now).as_secs_f64() / CODE_EVERY.as_secs_f64();
            (looks.left + earned).min(CODES)
        };
        if self.codes.len() >= MOST_REMEMBERED && !self.codes.contains_key(account) {
            // One that has all its looks is like one that is not there.
            self.codes.retain(|_, looks| earned(looks) < CODES);
            if self.codes.len() >= MOST_REMEMBERED {
                return false;
            }
        }
        let looks =
            self.codes.entry(account.to_owned()).or_insert(CodeBudget { left: CODES, at: now });
        // A clock that was set back earns nothing twice.
        *looks = CodeBudget { left: earned(looks), at: looks.at.max(now) };
        let granted = looks.left >= 1.0;
        if granted {
            looks.left -= 1.0;
        }
        granted
    }

    /// Whether a password may be looked at. It counts as wrong until [`Self::right`] says otherwise, so that
    /// many at once are no different from many in a row.
    ///
    /// # Errors
    ///
    /// How long to wait.
    pub fn begin_attempt(&mut self, one: Attempt<'_>, now: Timestamp) -> Result<(), Duration> {
        let key = (one.name.to_owned(), one.proven);
        let source = one.source.map(block).filter(|source| !source.is_loopback());
        let (tries, longest) = (self.settings.tries, self.settings.longest);
        let longest_of_name = if one.proven { longest.min(LONGEST_PROVEN) } else { longest };
        let of_name = wait(self.names.get(&key), tries, longest_of_name, now);
        let of_source = source.and_then(|source| self.sources.get(&source));
        let of_source = wait(of_source, tries.saturating_mul(SOURCE_FACTOR), longest, now);
        // Whoever has the code is not held up by those who have not.
        let of_all = if one.proven { Duration::ZERO } else { self.wait_of_all(now) };
        let wait = of_name.max(of_all).max(if one.proven { Duration::ZERO } else { of_source });
        if !wait.is_zero() {
            return Err(wait);
        }
        if !one.proven {
            self.left -= 1.0;
        }
        count(&mut self.names, key, now);
        if let Some(source) = source {
            count(&mut self.sources, source, now);
        }
        Ok(())
    }

    /// Says that what was looked at last for this name was right.
    pub fn record_success(&mut self, one: Attempt<'_>) {
        for proven in [false, true] {
            self.names.remove(&(one.name.to_owned(), proven));
        }
        if let Some(record) = one.source.map(block).and_then(|it| self.sources.get_mut(&it)) {
            record.wrong = record.wrong.saturating_sub(1);
        }
        self.left = (self.left + 1.0).min(f64::from(self.settings.per_minute));
    }

    /// How many names and sources are remembered.
    #[must_use]
    pub fn remembered(&self) -> (usize, usize) {
        (self.names.len(), self.sources.len())
    }

    fn wait_of_all(&mut self, now: Timestamp) -> Duration {
        let most = f64::from(self.settings.per_minute);
        let passed = self.at.map_or(Duration::ZERO, |at| at.until(now));
        self.left = (self.left + passed.as_secs_f64() * most / 60.0).min(most);
        // A clock that was set back earns nothing twice.
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        if self.left >= 1.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((1.0 - self.left) * 60.0 / most.max(1.0))
    }
}

/// The network of a source: who has an IPv6 address has the 2^64 beside it.
fn block(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None if address.is_loopback() => source,
            None => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        },
    }
}

fn wait(record: Option<&Record>, tries: u32, longest: Duration, now: Timestamp) -> Duration {
    let Some(record) = record.filter(|record| record.last.until(now) < FORGOTTEN) else {
        return Duration::ZERO;
    };
    let Some(too_many) = record.wrong.checked_sub(tries) else { return Duration::ZERO };
    let wait = FIRST_WAIT.saturating_mul(1 << too_many.min(20)).min(longest);
    // A clock that was set back makes no wait longer than it was.
    now.until(record.last.after(wait)).min(wait)
}

fn count<K: Eq + Hash + Clone>(records: &mut HashMap<K, Record>, key: K, now: Timestamp) {
    if records.len() >= MOST_REMEMBERED && !records.contains_key(&key) {
        records.retain(|_, record| record.last.until(now) < FORGOTTEN);
        if records.len() >= MOST_REMEMBERED {
            let oldest = records.iter().min_by_key(|(_, record)| record.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                records.remove(&oldest);
            }
        }
    }
    let record = records.entry(key).or_insert(Record { wrong: 0, last: now });
    if record.last.until(now) >= FORGOTTEN {
        record.wrong = 0;
    }
    *record = Record { wrong: record.wrong.saturating_add(1), last: now };
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const SETTINGS: Settings =
        Settings { tries: 5, per_minute: 30, longest: Duration::from_secs(900) };

    fn at(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn plain(name: &str) -> Attempt<'_> {
        Attempt { name, source: None, proven: false }
    }

    #[test]
    fn an_account_waits_twice_as_long_each_time() {
        let mut guard = Guard::new(Settings { per_minute: 1000, ..SETTINGS });
        for _ in 0..5 {
            assert_eq!(guard.begin_attempt(plain("ada"), NOW), Ok(()));
        }
        let mut now = NOW;
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(guard.begin_attempt(plain("ada"), now), Err(wait));
            assert_eq!(
                guard.begin_attempt(plain("ada"), now),
                Err(wait),
                "trying prolonged the wait"
            );
            assert_eq!(guard.begin_attempt(plain("bob"), now), Ok(()), "another waits with it");
            guard.record_success(plain("bob"));
            now = now.after(wait);
            assert_eq!(guard.begin_attempt(plain("ada"), now), Ok(()));
        }
        guard.record_success(plain("ada"));
        assert_eq!(guard.begin_attempt(plain("ada"), now), Ok(()));
    }

    #[test]
    fn many_names_reach_the_limit_of_all() {
        let mut guard = Guard::new(SETTINGS);
        let looked =
            (0..10_000).filter(|i| guard.begin_attempt(plain(&i.to_string()), NOW).is_ok());
        assert_eq!(looked.count(), 30);
        assert_eq!(guard.begin_attempt(plain("x"), NOW), Err(Duration::from_secs(2)));
        assert_eq!(guard.begin_attempt(plain("x"), at(2)), Ok(()));
        assert!(guard.begin_attempt(plain("x"), at(2)).is_err());
    }

    #[test]
    fn a_right_code_is_not_held_up_by_any_number_of_tries_without() {
        let mut guard = Guard::new(SETTINGS);
        for i in 0..100_000_u64 {
            let _refused_or_not = guard.begin_attempt(plain("ada"), at(i / 100));
            let _refused_or_not = guard.begin_attempt(plain(&i.to_string()), at(i / 100));
        }
        let proven = Attempt { proven: true, ..plain("ada") };
        assert!(guard.begin_attempt(plain("ada"), at(1000)).is_err());
        assert_eq!(guard.begin_attempt(proven, at(1000)), Ok(()));
        for _ in 0..4 {
            assert_eq!(guard.begin_attempt(proven, at(1000)), Ok(()));
        }
        assert!(guard.begin_attempt(proven, at(1000)).is_err(), "codes can be guessed without end");
        // One that was guessed, again and again, makes the app's owner wait for half a minute.
        for second in 1000..4000 {
            let _refused_or_not = guard.begin_attempt(proven, at(second));
        }
        assert_eq!(guard.begin_attempt(proven, at(4030)), Ok(()));
    }

    #[test]
    fn of_a_flood_of_codes_a_few_are_looked_at() {
        let mut guard = Guard::new(SETTINGS);
        let looked = (0..10_000).filter(|_| guard.take_code("ada", NOW)).count();
        assert_eq!(looked, 5);
        assert!(guard.take_code("bob", NOW), "another waits with it");
        assert!(!guard.take_code("ada", at(9)));
        assert!(guard.take_code("ada", at(10)));
        assert!(!guard.take_code("ada", at(10)));
        // What password and code say changes nothing.
        let proven = Attempt { proven: true, ..plain("ada") };
        assert_eq!(guard.begin_attempt(proven, at(10)), Ok(()));
        guard.record_success(proven);
        assert!(!guard.take_code("ada", at(10)));
        // A clock that goes to and fro earns nothing.
        for _ in 0..100 {
            assert!(!guard.take_code("ada", NOW));
            assert!(!guard.take_code("ada", at(10)));
        }
        let hour = (10..3610).filter(|second| guard.take_code("ada", at(*second))).count();
        assert!((355..=361).contains(&hour), "{hour} in an hour");
        let looked = (0..100).filter(|_| guard.take_code("ada", at(100_000))).count();
        assert_eq!(looked, 5, "looks are saved up without end");
    }

    #[test]
    fn a_source_has_its_limit_and_this_machine_has_none() {
        let mut guard = Guard::new(Settings { per_minute: 10_000, ..SETTINGS });
        let mut tries = |source: &str| {
            let source = Some(source.parse().unwrap());
            (0..100)
                .filter(|i| {
                    let name = i.to_string();
                    guard.begin_attempt(Attempt { name: &name, source, proven: false }, NOW).is_ok()
                })
                .count()
        };
        assert_eq!(tries("192.0.2.1"), 20);
        assert_eq!(tries("2001:db8::1"), 20);
        assert_eq!(tries("2001:db8::2"), 0, "a neighbour in the same /64");
        assert_eq!(tries("::ffff:192.0.2.1"), 0);
        let mut guard = Guard::new(Settings { per_minute: 10_000, ..SETTINGS });
        for i in 0..100 {
            let (name, source) = (i.to_string(), Some("127.0.0.1".parse().unwrap()));
            assert_eq!(
                guard.begin_attempt(Attempt { name: &name, source, proven: false }, NOW),
                Ok(())
            );
        }
    }

    #[test]
    fn memory_is_bounded_and_an_hour_forgives() {
        let mut guard = Guard::new(Settings { per_minute: u32::MAX, ..SETTINGS });
        for i in 0..(MOST_REMEMBERED as u32 + 500) {
            let source = Some(IpAddr::V4(i.into()));
            let name = i.to_string();
            assert_eq!(
                guard.begin_attempt(Attempt { name: &name, source, proven: false }, NOW),
                Ok(())
            );
        }
        assert_eq!(guard.remembered(), (MOST_REMEMBERED, MOST_REMEMBERED));
        for _ in 0..5 {
            assert_eq!(guard.begin_attempt(plain("ada"), NOW), Ok(()));
        }
        assert!(guard.begin_attempt(plain("ada"), NOW).is_err());
        assert_eq!(guard.begin_attempt(plain("ada"), at(3600)), Ok(()));
    }
}

//! Rate limits for passwords. Pure: the clock is passed in, and memory is bounded.
//!
//! There are three limits. Each imposes a wait; none locks an account for good:
//!
//! - per account: after [`Settings::tries`] wrong passwords the wait is 1 s, and doubles with each further one, up to
//!   [`Settings::longest`]. It is reset by a right password, and an hour after the last wrong one;
//! - per source address. Through an onion service or a local proxy all connections come from this machine, so loopback
//!   addresses have no such limit;
//! - in total: [`Settings::per_minute`] passwords are checked in a minute.
//!
//! An attempt during a wait is refused without a check and does not prolong the wait.
//!
//! One-time codes have a limit of their own, which applies first: [`Guard::take_code`] says whether a code is checked;
//! otherwise it counts as absent. Codes that are tried during a wait count too. Otherwise an attacker with the password
//! could try all codes and learn the valid one.
//!
//! An attacker who keeps trying an operator's name could lock the operator out, because after each wait only one
//! attempt is checked. Three ways stay open. An attempt with a right one-time code is counted separately from those
//! without, and waits for at most half a minute (a flood of codes delays it, because each check goes to whichever code
//! comes first). API tokens and sessions are never limited. And the unix socket needs no password.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use fortify_core::clock::Timestamp;

/// The most names, and the most sources, that are remembered; the least recently seen is dropped.
pub const MOST_REMEMBERED: usize = 10_000;

/// The time without a wrong password after which a record is reset.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// The first wait.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait for attempts with a right one-time code: the lifetime of a code. An attacker who keeps guessing
/// codes hits one now and then, and must not lock out the owner of the app.
const LONGEST_PROVEN: Duration = Duration::from_secs(30);

/// One-time codes of an account that are checked in a row: as many as the default limit of wrong passwords.
const CODES: f64 = 5.0;

/// The time until one more code is checked: six a minute. Three of a million codes are valid at a time (RFC 6238,
/// section 5.2), so an attacker with the password who guesses for a day gets in with a chance of 1 in 40.
const CODE_EVERY: Duration = Duration::from_secs(10);

/// The limit of a source, as a multiple of an account's: several people may share an address.
const SOURCE_FACTOR: u32 = 4;

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Wrong passwords for an account before the first wait.
    pub tries: u32,
    /// Passwords that are checked in a minute.
    pub per_minute: u32,
    /// The longest wait.
    pub longest: Duration,
}

/// A log-in attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The account's name, whether or not it exists.
    pub name: &'a str,
    /// The source address, if it is known.
    pub source: Option<IpAddr>,
    /// Whether its one-time code is right.
    pub proven: bool,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    wrong: u32,
    last: Timestamp,
}

/// The checks of codes that an account had left at a time.
#[derive(Clone, Copy, Debug)]
struct CodeBudget {
    left: f64,
    at: Timestamp,
}

/// Counts of wrong passwords and of checked codes.
#[derive(Debug)]
pub struct Guard {
    settings: Settings,
    names: HashMap<(String, bool), Record>,
    sources: HashMap<IpAddr, Record>,
    codes: HashMap<String, CodeBudget>,
    /// The checks left in total, at the time `at`.
    left: f64,
    at: Option<Timestamp>,
}

impl Guard {
    /// A guard without any attempts.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let left = f64::from(settings.per_minute);
        let (names, sources, codes) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { settings, names, sources, codes, left, at: None }
    }

    /// Whether a one-time code for `account` may be checked. Right or wrong, this uses up one check.
    ///
    /// Call it only for existing accounts with codes, so that made-up names take no memory.
    pub fn take_code(&mut self, account: &str, now: Timestamp) -> bool {
        let earned = |looks: &CodeBudget| {
            let earned = looks.at.until(now).as_secs_f64() / CODE_EVERY.as_secs_f64();
            (looks.left + earned).min(CODES)
        };
        if self.codes.len() >= MOST_REMEMBERED && !self.codes.contains_key(account) {
            // A full budget is the same as no entry.
            self.codes.retain(|_, looks| earned(looks) < CODES);
            if self.codes.len() >= MOST_REMEMBERED {
                return false;
            }
        }
        let looks =
            self.codes.entry(account.to_owned()).or_insert(CodeBudget { left: CODES, at: now });
        // A clock that is set back must not earn anything twice.
        *looks = CodeBudget { left: earned(looks), at: looks.at.max(now) };
        let granted = looks.left >= 1.0;
        if granted {
            looks.left -= 1.0;
        }
        granted
    }

    /// Begins an attempt, which counts as wrong until [`Self::record_success`], so that concurrent attempts are
    /// limited like consecutive ones.
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
        // Attempts without a code do not delay those with one.
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

    /// Records that the attempt was right.
    pub fn record_success(&mut self, one: Attempt<'_>) {
        for proven in [false, true] {
            self.names.remove(&(one.name.to_owned(), proven));
        }
        if let Some(record) = one.source.map(block).and_then(|it| self.sources.get_mut(&it)) {
            record.wrong = record.wrong.saturating_sub(1);
        }
        self.left = (self.left + 1.0).min(f64::from(self.settings.per_minute));
    }

    /// The numbers of names and sources that are remembered.
    #[must_use]
    pub fn remembered(&self) -> (usize, usize) {
        (self.names.len(), self.sources.len())
    }

    fn wait_of_all(&mut self, now: Timestamp) -> Duration {
        let most = f64::from(self.settings.per_minute);
        let passed = self.at.map_or(Duration::ZERO, |at| at.until(now));
        self.left = (self.left + passed.as_secs_f64() * most / 60.0).min(most);
        // A clock that is set back must not earn anything twice.
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        if self.left >= 1.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((1.0 - self.left) * 60.0 / most.max(1.0))
    }
}

/// The network of a source: an IPv6 address stands for its /64.
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
    // A clock that is set back must not prolong a wait.
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
    fn many_names_reach_the_total_limit() {
        let mut guard = Guard::new(SETTINGS);
        let looked =
            (0..10_000).filter(|i| guard.begin_attempt(plain(&i.to_string()), NOW).is_ok());
        assert_eq!(looked.count(), 30);
        assert_eq!(guard.begin_attempt(plain("x"), NOW), Err(Duration::from_secs(2)));
        assert_eq!(guard.begin_attempt(plain("x"), at(2)), Ok(()));
        assert!(guard.begin_attempt(plain("x"), at(2)).is_err());
    }

    #[test]
    fn attempts_without_a_code_do_not_delay_a_right_code() {
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
    fn only_a_few_codes_of_a_flood_are_checked() {
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
    fn a_source_has_a_limit_and_this_machine_has_none() {
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
    fn memory_is_bounded_and_records_reset_after_an_hour() {
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

//! The keys that sign sessions: readable only by the gate, and not too old.

use std::time::Duration;

use super::Finding;
use super::service_user::ServiceUser;
use fortify_config::Config;
use fortify_core::clock::Timestamp;
use fortify_keys::{KeyInfo, KeyRing};

/// The age at which a signing key should be rotated. A key that leaked unnoticed is useful for no longer.
const MAX_AGE: Duration = Duration::from_secs(90 * 86_400);

const CHECK: &str = "keys";

/// The findings, and when the newest key was created.
pub(super) fn check(
    config: &Config,
    user: &ServiceUser,
    now: Timestamp,
) -> (Vec<Finding>, Option<Timestamp>) {
    let data_dir = &config.storage.data_dir;
    if !data_dir.is_dir() {
        return (vec![Finding::skipped(CHECK, "storage.data_dir does not exist")], None);
    }
    match KeyRing::load(data_dir) {
        Ok(ring) => {
            let keys = ring.list();
            let made = keys.iter().map(|key| key.created_at).max();
            (vec![check_keys(&keys, config.session.ttl, now)], made)
        }
        Err(_) if !user.is_gate() && !user.is_root() => {
            let why = "this user may not read them; run this as the gate's user, or as root";
            (vec![Finding::skipped(CHECK, why)], None)
        }
        Err(error) => (vec![Finding::error(CHECK, &error)], None),
    }
}

fn check_keys(keys: &[KeyInfo], lifetime: Duration, now: Timestamp) -> Finding {
    let signing = keys.iter().find(|key| key.retired_at.is_none());
    let Some(signing) = signing else {
        return Finding::fail(CHECK, "there is no signing key", "run: fortify keys rotate");
    };
    let age = signing.created_at.until(now);
    let days = age.as_secs() / 86_400;
    let retired: Vec<_> = keys.iter().filter_map(|key| key.retired_at).collect();
    let over = retired.iter().filter(|at| at.after(lifetime) <= now).count();
    let found = format!(
        "the signing key {} is {days} days old; {} retired, {over} of them no longer verify anything",
        signing.id,
        retired.len()
    );
    if age > MAX_AGE {
        let advice = "run: fortify keys rotate; it logs nobody out, and cron can do it each month";
        return Finding::warn(CHECK, found, advice);
    }
    Finding::ok(CHECK, found)
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn a_key_is_rotated_after_90_days() {
        let key = |age: u64, retired: Option<u64>| KeyInfo {
            id: "a".to_owned(),
            created_at: NOW.before(Duration::from_secs(age)),
            retired_at: retired.map(|age| NOW.before(Duration::from_secs(age))),
        };
        let hour = Duration::from_secs(3600);
        let day = 86_400;
        assert_eq!(check_keys(&[key(90 * day, None)], hour, NOW).status, CheckStatus::Ok);
        let old = check_keys(&[key(91 * day, None)], hour, NOW);
        assert_eq!(old.status, CheckStatus::Warn);
        assert!(old.advice.unwrap().contains("fortify keys rotate"));
        let keys = [key(0, None), key(day, Some(60)), key(day, Some(7200))];
        let found = check_keys(&keys, hour, NOW).found;
        assert!(found.contains("2 retired, 1 of them"), "{found}");
        assert_eq!(check_keys(&keys[1..], hour, NOW).status, CheckStatus::Fail);
    }
}

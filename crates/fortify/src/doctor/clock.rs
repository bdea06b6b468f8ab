//! Whether this machine's clock agrees with its files and with other clocks.

use std::time::Duration;

use super::Finding;
use fortify_core::clock::Timestamp;

/// How far a file's time may be ahead: time stamps are coarse, and clocks are slewed.
const SLACK: Duration = Duration::from_secs(60);

/// How far Redis' clock may be off: its keys live 5 s longer than the node assumes (`fortify_store::redis`).
const STORE_SLACK: Duration = Duration::from_secs(5);

/// How far a `Date` header may be off: it has whole seconds, and took time to arrive.
const HEADER_SLACK: Duration = Duration::from_secs(5);

/// Times from other sources; `None` for each that gave none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OtherClocks {
    /// When the newest key was created.
    pub(super) made: Option<Timestamp>,
    /// When the newest file in `storage.data_dir` was written.
    pub(super) youngest: Option<Timestamp>,
    /// When this program's file was written.
    pub(super) program: Option<Timestamp>,
    pub(super) gate: Option<Timestamp>,
    pub(super) upstream: Option<Timestamp>,
    pub(super) redis: Option<Timestamp>,
    /// The period for which tor's consensus is valid.
    pub(super) consensus: Option<[Timestamp; 2]>,
}

const ADVICE: &str = "set the clock and keep it synchronized: timedatectl set-ntp true; sessions, \
                      bans and challenges expire by it";

pub(super) fn check(now: Timestamp, others: &OtherClocks) -> Vec<Finding> {
    let mut findings = vec![check_past(now, others)];
    findings.extend(check_others(now, others));
    findings
}

/// No file may be newer than now.
fn check_past(now: Timestamp, others: &OtherClocks) -> Finding {
    const CHECK: &str = "clock";
    let past = [
        ("the signing key was made", others.made),
        ("the newest file in storage.data_dir was written", others.youngest),
        ("this program was built or installed", others.program),
    ];
    let late = past.iter().find_map(|(what, then)| {
        let ahead = now.after(SLACK).until((*then)?);
        (!ahead.is_zero()).then(|| (*what, now.until(then.unwrap_or(now))))
    });
    match late {
        None => Finding::ok(CHECK, "later than the keys, the files and this program"),
        Some((what, ahead)) => {
            let found =
                format!("{what} {} after the time that this machine's clock shows", span(ahead));
            Finding::fail(CHECK, found, ADVICE)
        }
    }
}

fn check_others(now: Timestamp, others: &OtherClocks) -> Vec<Finding> {
    let against = [
        ("clock.redis", "Redis'", others.redis, STORE_SLACK, true),
        ("clock.gate", "the gate's (Date)", others.gate, HEADER_SLACK, false),
        ("clock.upstream", "the service's (Date)", others.upstream, SLACK, false),
    ];
    let mut findings: Vec<_> = against
        .into_iter()
        .filter_map(|(check, whose, time, slack, fails)| {
            let time = time?;
            let apart = now.until(time).max(time.until(now));
            if apart <= slack {
                return Some(Finding::ok(check, format!("{whose} clock is {} off", span(apart))));
            }
            let direction = if time > now { "ahead of" } else { "behind" };
            let found = format!("{whose} clock is {} {direction} this one", span(apart));
            Some(match fails {
                true => Finding::fail(check, found, ADVICE),
                false => Finding::warn(check, found, ADVICE),
            })
        })
        .collect();
    findings.extend(others.consensus.map(|[after, until]| check_consensus(now, after, until)));
    findings
}

fn check_consensus(now: Timestamp, after: Timestamp, until: Timestamp) -> Finding {
    const CHECK: &str = "clock.tor";
    if now < after {
        let early = span(now.until(after));
        return Finding::fail(CHECK, format!("tor's consensus is only valid in {early}"), ADVICE);
    }
    if now > until {
        let late = span(until.until(now));
        let advice = "if tor reaches the network, the clock is ahead: timedatectl set-ntp true; if not, tor's \
                      log says why";
        return Finding::warn(CHECK, format!("tor's consensus ended {late} ago"), advice);
    }
    Finding::ok(CHECK, "within the validity of tor's consensus")
}

/// A duration in words.
fn span(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn statuses(others: &OtherClocks) -> Vec<CheckStatus> {
        check(NOW, others).iter().map(|finding| finding.status).collect()
    }

    #[test]
    fn a_clock_behind_a_file_fails() {
        let later = Some(NOW.after(Duration::from_secs(61)));
        for others in [
            OtherClocks { made: later, ..OtherClocks::default() },
            OtherClocks { youngest: later, ..OtherClocks::default() },
            OtherClocks { program: later, ..OtherClocks::default() },
        ] {
            assert_eq!(statuses(&others), [CheckStatus::Fail]);
        }
        let just = Some(NOW.after(Duration::from_secs(60)));
        let others = OtherClocks {
            made: just,
            youngest: just,
            program: Some(NOW),
            ..OtherClocks::default()
        };
        assert_eq!(statuses(&others), [CheckStatus::Ok]);
    }

    #[test]
    fn other_clocks_may_differ_a_little() {
        let off = |seconds| Some(NOW.before(Duration::from_secs(seconds)));
        let redis = |seconds| OtherClocks { redis: off(seconds), ..OtherClocks::default() };
        assert_eq!(statuses(&redis(5)), [CheckStatus::Ok, CheckStatus::Ok]);
        assert_eq!(statuses(&redis(6)), [CheckStatus::Ok, CheckStatus::Fail]);
        let gate = OtherClocks { gate: off(6), ..OtherClocks::default() };
        assert_eq!(statuses(&gate), [CheckStatus::Ok, CheckStatus::Warn]);
    }

    #[test]
    fn tors_consensus_bounds_the_time() {
        let hour = Duration::from_secs(3600);
        for (times, verdict) in [
            ([NOW.before(hour), NOW.after(hour)], CheckStatus::Ok),
            ([NOW.after(hour), NOW.after(hour * 3)], CheckStatus::Fail),
            ([NOW.before(hour * 3), NOW.before(hour)], CheckStatus::Warn),
        ] {
            let others = OtherClocks { consensus: Some(times), ..OtherClocks::default() };
            assert_eq!(statuses(&others)[1], verdict);
        }
    }
}

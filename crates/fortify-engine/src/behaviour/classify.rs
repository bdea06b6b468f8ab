//! From what was counted to what it is: a pure function and its thresholds.
//!
//! Every threshold is so high that people do not reach it in the simulation of `benches/behaviour.rs`,
//! and so that one accident (a page with a hundred pictures, a mistyped password, a stalled upload)
//! is far from it; `docs/behaviour.md` has the reasons for each.

use schemars::JsonSchema;
use serde::Serialize;

use super::baseline::Baseline;
use super::class::Class;
use super::features::Features;
use fortify_core::clock::Timestamp;

/// Requests for what only scanners look for.
const PROBES: u32 = 3;
/// Pages that are not there, if they are at least [`MISSING_SHARE`] of all.
const MISSING: u32 = 30;
const MISSING_SHARE: f32 = 0.6;
/// Forms sent to log-ins. Who mistypes gives up or asks for a new password before.
const LOGINS: u32 = 10;
/// Bodies that ran out of time. The first waits 30 s by default, so that five by accident are rare.
const CRAWLS: u32 = 5;
/// Challenges without an answer, if fewer than [`ANSWERED_SHARE`] are answered.
const UNANSWERED: u32 = 20;
const ANSWERED_SHARE: f32 = 0.25;
/// Standard deviation over mean of the gaps between pages; people's is about 1 and above.
const REGULAR: f32 = 0.25;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingReason {
    /// Scanner paths.
    ScannerPaths,
    /// Pages that are not there.
    MissingPages,
    /// Log-ins.
    LogIns,
    /// Bodies that hardly move.
    CrawlingBodies,
    /// Requests in a minute.
    RequestRate,
    /// Challenges without answers.
    UnansweredChallenges,
    /// Distinct pages.
    ManyPages,
    /// Pages in five minutes.
    PageRate,
    /// Pages without what they load.
    NoAssets,
    /// Evenly spaced pages.
    Regular,
}

impl FindingReason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::ScannerPaths,
        Self::MissingPages,
        Self::LogIns,
        Self::CrawlingBodies,
        Self::RequestRate,
        Self::UnansweredChallenges,
        Self::ManyPages,
        Self::PageRate,
        Self::NoAssets,
        Self::Regular,
    ];

    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::ScannerPaths => "asks for files that only scanners look for",
            Self::MissingPages => "most pages that it asks for are not there",
            Self::LogIns => "sends forms to a log-in again and again",
            Self::CrawlingBodies => "sends bodies that hardly move",
            Self::RequestRate => "asks far more often than other visitors",
            Self::UnansweredChallenges => "takes challenges and does not answer them",
            Self::ManyPages => "asks for far more pages than other visitors",
            Self::PageRate => "asks for pages faster than anybody reads",
            Self::NoAssets => "never fetches what its pages load",
            Self::Regular => "asks for pages at even distances",
        }
    }
}

/// A few [`FindingReason`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(u16);

impl Reasons {
    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = FindingReason> {
        FindingReason::ALL.into_iter().filter(move |reason| self.has(*reason))
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn has(self, reason: FindingReason) -> bool {
        self.0 & (1 << reason as u16) != 0
    }

    const fn with(self, reason: FindingReason, holds: bool) -> Self {
        if holds { Self(self.0 | 1 << reason as u16) } else { self }
    }
}

/// What a circuit was found to be, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub class: Class,
    /// Why: at least one.
    pub reasons: Reasons,
}

/// What a circuit looks like at `now`; `None` is like anybody.
#[must_use]
pub fn classify(features: &Features, baseline: &Baseline, now: Timestamp) -> Option<Finding> {
    let features = features.as_of(now);
    Class::ALL.into_iter().find_map(|class| {
        let reasons = reasons(class, &features, baseline)?;
        Some(Finding { class, reasons })
    })
}

fn reasons(class: Class, features: &Features, baseline: &Baseline) -> Option<Reasons> {
    let counts = &features.counts;
    let only = |reason, holds| Reasons::default().with(reason, holds);
    let reasons = match class {
        Class::Probing => only(FindingReason::ScannerPaths, counts.probes >= PROBES).with(
            FindingReason::MissingPages,
            counts.missing >= MISSING
                && counts.missing as f32 >= MISSING_SHARE * counts.pages as f32
                && !baseline.is_broken(),
        ),
        Class::CredentialStuffing => only(FindingReason::LogIns, counts.logins >= LOGINS),
        Class::SlowDrip => only(FindingReason::CrawlingBodies, counts.crawls >= CRAWLS),
        Class::Flood => only(FindingReason::RequestRate, features.rate > baseline.most_requests()),
        Class::ChallengeFarming => only(
            FindingReason::UnansweredChallenges,
            counts.challenges.saturating_sub(counts.answers) >= UNANSWERED
                && (counts.answers as f32) < ANSWERED_SHARE * counts.challenges as f32,
        ),
        Class::Scraping => scraping(features, baseline),
    };
    (reasons != Reasons::default()).then_some(reasons)
}

/// Many pages alone may be a long evening: there must be another sign that nobody reads them.
fn scraping(features: &Features, baseline: &Baseline) -> Reasons {
    if features.distinct_pages() <= baseline.most_distinct_pages() {
        return Reasons::default();
    }
    let no_assets = !features.loads_assets;
    let spread = features.gap_variance.max(0.0).sqrt();
    let regular = no_assets && spread < REGULAR * features.gap_mean;
    let signs = Reasons::default()
        .with(FindingReason::PageRate, features.page_rate > baseline.most_pages())
        .with(FindingReason::NoAssets, no_assets && baseline.has_assets())
        .with(FindingReason::Regular, regular);
    let any = signs != Reasons::default();
    signs.with(FindingReason::ManyPages, any)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::features::tests::{any_features, request};
    use super::super::features::{Features, Outcome};
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn class_of(features: &Features) -> Option<Class> {
        classify(features, &Baseline::default(), features.last()).map(|finding| finding.class)
    }

    fn after(count: u32, path: &str, outcome: Outcome) -> Features {
        let mut features = Features::new(NOW);
        (0..count).for_each(|_| features.record(&request(path, outcome), NOW));
        features
    }

    #[test]
    fn each_class_begins_at_its_threshold() {
        let classes = |outcome, path: &str, count| {
            [count - 1, count].map(|count| class_of(&after(count, path, outcome)))
        };
        assert_eq!(classes(Outcome::Challenged, "/.env", PROBES), [None, Some(Class::Probing)]);
        assert_eq!(
            classes(Outcome::Passed(Some(404)), "/x", MISSING),
            [None, Some(Class::Probing)]
        );
        assert_eq!(
            classes(Outcome::Challenged, "/", UNANSWERED),
            [None, Some(Class::ChallengeFarming)]
        );
        let flood = |count| class_of(&after(count, "/", Outcome::Passed(Some(200))));
        assert_eq!([flood(599), flood(602)], [None, Some(Class::Flood)]);
        assert_eq!(class_of(&after(500, "/", Outcome::Answered { solved: false })), None);
    }

    #[test]
    fn a_name_never_ends_in_two_spellings() {
        for class in Class::ALL {
            let written = serde_json::to_value(class).unwrap();
            assert_eq!(written, class.label());
        }
    }

    proptest! {
        #[test]
        fn no_record_is_too_odd_to_judge(features in any_features(), now: u64) {
            if let Some(finding) =
                classify(&features, &Baseline::default(), Timestamp::from_millis(now))
            {
                prop_assert!(finding.reasons.iter().count() > 0);
            }
        }

        #[test]
        fn more_of_what_is_bad_never_unflags(
            features in any_features(),
            more in prop::array::uniform5(0_u32..1000),
        ) {
            let now = features.last();
            let mut worse = features;
            let [probes, logins, crawls, challenges, rate] = more;
            for (count, more) in [
                (&mut worse.counts.probes, probes),
                (&mut worse.counts.logins, logins),
                (&mut worse.counts.crawls, crawls),
                (&mut worse.counts.challenges, challenges),
            ] {
                *count = count.saturating_add(more);
            }
            worse.rate += rate as f32;
            let found = |features| classify(features, &Baseline::default(), now).is_some();
            prop_assert!(!found(&features) || found(&worse));
        }

        #[test]
        fn silence_never_flags(count in 0_u32..700, path in "(/|/a|/\\.env)", later: u32) {
            let features = after(count, &path, Outcome::Passed(None));
            let found = |now| classify(&features, &Baseline::default(), now).is_some();
            let later = NOW.after(std::time::Duration::from_millis(u64::from(later)));
            prop_assert!(found(NOW) || !found(later));
        }
    }
}

//! Classifies a circuit by its record: a pure function and its thresholds.
//!
//! Every threshold is so high that people do not reach it in the simulation of `benches/behaviour.rs`, and that a
//! single accident (a page with a hundred pictures, a mistyped password, a stalled upload) stays far below it.
//! `docs/behaviour.md` explains each.

use schemars::JsonSchema;
use serde::Serialize;

use super::baseline::Baseline;
use super::class::Class;
use super::features::Features;
use fortify_core::clock::Timestamp;

/// Requests for paths that only scanners look for.
const PROBES: u32 = 3;
/// Missing pages, if they are at least [`MISSING_SHARE`] of all.
const MISSING: u32 = 30;
const MISSING_SHARE: f32 = 0.6;
/// Forms sent to log-ins. People who mistype give up or reset their password sooner.
const LOGINS: u32 = 10;
/// Bodies that exceeded their deadline. Each takes 30 s by default, so five by accident are rare.
const CRAWLS: u32 = 5;
/// Unanswered challenges, if fewer than [`ANSWERED_SHARE`] are answered.
const UNANSWERED: u32 = 20;
const ANSWERED_SHARE: f32 = 0.25;
/// The standard deviation of the gaps between pages divided by their mean. For people it is about 1 or more.
const REGULAR: f32 = 0.25;

/// The reason for a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingReason {
    /// Requests paths that only scanners look for.
    ScannerPaths,
    /// Requests mostly missing pages.
    MissingPages,
    /// Sends forms to log-ins repeatedly.
    LogIns,
    /// Sends very slow bodies.
    CrawlingBodies,
    /// Sends too many requests per minute.
    RequestRate,
    /// Leaves challenges unanswered.
    UnansweredChallenges,
    /// Requests too many distinct pages.
    ManyPages,
    /// Requests too many pages in five minutes.
    PageRate,
    /// Never loads assets of pages.
    NoAssets,
    /// Requests pages at even intervals.
    Regular,
}

impl FindingReason {
    /// All reasons.
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

    /// The description for operators.
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

/// A set of [`FindingReason`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(u16);

impl Reasons {
    /// Iterates over the reasons.
    pub fn iter(self) -> impl Iterator<Item = FindingReason> {
        FindingReason::ALL.into_iter().filter(move |reason| self.has(*reason))
    }

    /// Whether the set contains `reason`.
    #[must_use]
    pub const fn has(self, reason: FindingReason) -> bool {
        self.0 & (1 << reason as u16) != 0
    }

    const fn with(self, reason: FindingReason, holds: bool) -> Self {
        if holds { Self(self.0 | 1 << reason as u16) } else { self }
    }
}

/// The class of a circuit, and the reasons for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The class.
    pub class: Class,
    /// The reasons, at least one.
    pub reasons: Reasons,
}

/// Classifies a circuit at `now`; `None` if it looks like any visitor.
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

/// Many pages alone may be one person's long evening, so another sign is required.
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

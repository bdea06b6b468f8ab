//! The record of one circuit's requests, of fixed size.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::baseline::Sample;
use super::class::{Class, Classes};
use super::target::{Probe, Target};
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;

/// The half-life of counts. One odd visit is forgiven within the hour; a steady rate shows as about 1.5 times the
/// requests of this time.
pub(super) const HALF_LIFE: Duration = Duration::from_secs(600);

/// The time constant of the request rate: longer than loading a page with all assets takes over Tor, so that one
/// page does not look like a flood.
const REQUESTS_OVER: Duration = Duration::from_secs(60);

/// The time constant of the page rate: longer than the burst of opening ten tabs.
const PAGES_OVER: Duration = Duration::from_secs(300);

/// How often a circuit contributes a sample to the baseline.
const SAMPLE_EVERY: Duration = Duration::from_secs(300);

/// The weight of a new gap between pages in the moving mean and variance, which so cover about the last sixteen.
const GAP_WEIGHT: f32 = 1.0 / 16.0;

/// The counted properties of one request.
pub struct Request {
    /// The result of analysing its URL.
    pub target: Target,
    /// Whether it is a POST.
    pub post: bool,
    /// Its outcome.
    pub outcome: Outcome,
    /// Whether the browser says that a page loads it as a subresource. Nobody chose to request it then, and whoever
    /// can embed a picture in a page must not make its readers look like scanners. A bot can claim the same and so
    /// hide its paths, which is better than blaming people.
    pub loaded: bool,
    /// Whether its body exceeded the deadline.
    pub crawled: bool,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It was admitted to the service; the status of the response, if known.
    Passed(Option<u16>),
    /// It got a challenge.
    Challenged,
    /// It answered a challenge.
    Answered {
        /// Whether the answer was right; a wrong one gets the next challenge.
        solved: bool,
    },
    /// Anything else: refused, or handled by the gate itself.
    #[default]
    Other,
}

/// Recent counts, halved every ten minutes. All saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Requests to the service other than assets.
    pub pages: u32,
    /// Assets that pages load.
    pub assets: u32,
    /// Missing pages: 404 or 410. Other 4xx are normal responses to log-ins and forms, and a 5xx is the service's
    /// fault.
    pub missing: u32,
    /// Forms sent to URLs that look like a log-in.
    pub logins: u32,
    /// Challenges shown.
    pub challenges: u32,
    /// Answers given, right or wrong.
    pub answers: u32,
    /// Requests for paths that only scanners look for.
    pub probes: u32,
    /// Bodies that exceeded their deadline.
    pub crawls: u32,
}

impl Counts {
    fn each(&mut self) -> [&mut u32; 8] {
        let Self { pages, assets, missing, logins, challenges, answers, probes, crawls } = self;
        [pages, assets, missing, logins, challenges, answers, probes, crawls]
    }
}

/// The record of one circuit.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    last: Timestamp,
    /// When the counts were halved last.
    halved: Timestamp,
    sampled: Timestamp,
    last_page: Option<Timestamp>,
    /// Requests in about the last minute.
    pub(super) rate: f32,
    /// Pages in about the last five minutes.
    pub(super) page_rate: f32,
    /// The peaks of both rates since the last sample.
    peaks: (f32, f32),
    /// The moving mean and variance of the gaps between pages, in milliseconds.
    pub(super) gap_mean: f32,
    pub(super) gap_variance: f32,
    pub(super) counts: Counts,
    /// Pages of this half-life and of the one before.
    sketches: [Sketch; 2],
    admitted: bool,
    /// Whether it ever fetched assets. Never reset, because browsers cache them.
    pub(super) loads_assets: bool,
    /// All classes it was ever found to be in.
    found: Classes,
    /// The Tor circuit, for operators who act on findings.
    tor: Option<TorCircuit>,
}

impl Features {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            last: now,
            halved: now,
            sampled: now,
            last_page: None,
            rate: 0.0,
            page_rate: 0.0,
            peaks: (0.0, 0.0),
            gap_mean: 0.0,
            gap_variance: 0.0,
            counts: Counts::default(),
            sketches: [Sketch::default(); 2],
            admitted: false,
            loads_assets: false,
            found: Classes::default(),
            tor: None,
        }
    }

    /// The record at `now`: rates decay and counts halve. After the clock was set back, time continues from there, at
    /// the cost of one gap.
    #[must_use]
    pub(super) fn as_of(mut self, now: Timestamp) -> Self {
        for past in [&mut self.last, &mut self.halved, &mut self.sampled] {
            *past = (*past).min(now);
        }
        self.last_page = self.last_page.map(|page| page.min(now));
        let idle = self.last.until(now);
        self.rate *= fade(idle, REQUESTS_OVER);
        self.page_rate *= fade(idle, PAGES_OVER);
        self.last = now;
        let halvings = self.halved.until(now).as_secs() / HALF_LIFE.as_secs();
        if halvings > 0 {
            let shift = u32::try_from(halvings).unwrap_or(u32::MAX);
            for count in self.counts.each() {
                *count = count.checked_shr(shift).unwrap_or(0);
            }
            let [this, _before] = self.sketches;
            let before = if halvings == 1 { this } else { Sketch::default() };
            self.sketches = [Sketch::default(), before];
            self.halved = self.halved.after(HALF_LIFE.saturating_mul(shift)).min(now);
        }
        self
    }

    /// Counts one request.
    pub(super) fn record(&mut self, request: &Request, now: Timestamp) {
        *self = self.as_of(now);
        self.rate += 1.0;
        let counts = &mut self.counts;
        add(&mut counts.crawls, request.crawled);
        match request.outcome {
            Outcome::Passed(status) => {
                self.admitted = true;
                self.passed(request, status, now);
            }
            Outcome::Challenged => add(&mut counts.challenges, true),
            Outcome::Answered { solved } => {
                add(&mut counts.answers, true);
                add(&mut counts.challenges, !solved);
            }
            Outcome::Other => {}
        }
        let status = match request.outcome {
            Outcome::Passed(status) => status,
            _ => None,
        };
        let probed = match (request.target.probe, status) {
            _ if request.loaded => false,
            (None, _) => false,
            // A path that the service answers is part of the service.
            (Some(_), Some(status)) => (400..500).contains(&status),
            (Some(probe), None) => probe == Probe::Leak,
        };
        add(&mut self.counts.probes, probed);
        self.peaks = (self.peaks.0.max(self.rate), self.peaks.1.max(self.page_rate));
    }

    /// Counts a request that was admitted to the service.
    fn passed(&mut self, request: &Request, status: Option<u16>, now: Timestamp) {
        let (target, counts) = (request.target, &mut self.counts);
        if target.asset || request.loaded {
            // Only assets after a page are a sign of a browser.
            self.loads_assets |= counts.pages > 0;
            add(&mut counts.assets, true);
            return;
        }
        add(&mut counts.pages, true);
        add(&mut counts.logins, request.post && target.login);
        add(&mut counts.missing, matches!(status, Some(404 | 410)));
        self.page_rate += 1.0;
        let [this, _before] = &mut self.sketches;
        this.add(target.hash);
        if let Some(last) = self.last_page.replace(now) {
            let gap = last.until(now).as_millis() as f32;
            let off = gap - self.gap_mean;
            self.gap_mean += off * GAP_WEIGHT;
            self.gap_variance = (1.0 - GAP_WEIGHT) * (self.gap_variance + GAP_WEIGHT * off * off);
        }
    }

    /// The approximate number of distinct pages in the last ten to twenty minutes.
    #[must_use]
    pub(super) fn distinct_pages(&self) -> f32 {
        let [this, before] = &self.sketches;
        this.with(before).estimate()
    }

    /// A sample for the baseline, when one is due: only from circuits that were admitted and never in any class.
    pub(super) fn sample(&mut self, now: Timestamp) -> Option<Sample> {
        if self.sampled.until(now) < SAMPLE_EVERY {
            return None;
        }
        self.sampled = now;
        let (rate, page_rate) = std::mem::replace(&mut self.peaks, (0.0, 0.0));
        let Counts { pages, assets, missing, .. } = self.counts;
        let of = |part: u32, whole: u32| part as f32 / whole.max(1) as f32;
        (self.admitted && self.found.is_empty() && pages > 0).then(|| Sample {
            rate,
            page_rate,
            distinct_pages: self.distinct_pages(),
            asset_share: of(assets, assets.saturating_add(pages)),
            missing_share: of(missing, pages),
        })
    }

    /// Records a class, and returns whether it is new.
    pub(super) fn note(&mut self, class: Class) -> bool {
        self.found.insert(class)
    }

    /// The time since its last request.
    pub(super) fn idle(&self, now: Timestamp) -> Duration {
        self.last.until(now)
    }

    pub(super) const fn last(&self) -> Timestamp {
        self.last
    }

    pub(super) const fn circuit(&self) -> Option<TorCircuit> {
        self.tor
    }

    pub(super) const fn is(&mut self, circuit: TorCircuit) {
        self.tor = Some(circuit);
    }
}

/// The share of a moving sum over `over` that remains after `idle`.
fn fade(idle: Duration, over: Duration) -> f32 {
    (-idle.as_secs_f32() / over.as_secs_f32()).exp()
}

fn add(count: &mut u32, one: bool) {
    *count = count.saturating_add(u32::from(one));
}

/// Counts distinct hashes by the bits they set (linear counting; Whang et al. 1990): 256 bits tell 60
/// within 10 % and 300 within 15 %, and end at about 1,400.
#[derive(Clone, Copy, Debug, Default)]
struct Sketch([u64; 4]);

impl Sketch {
    fn add(&mut self, hash: u64) {
        let [bit, word, ..] = hash.to_le_bytes();
        if let Some(word) = self.0.get_mut(usize::from(word % 4)) {
            *word |= 1 << (bit % 64);
        }
    }

    fn with(&self, other: &Self) -> Self {
        let mut both = *self;
        both.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        both
    }

    fn estimate(&self) -> f32 {
        let zeros: u32 = self.0.iter().map(|word| word.count_zeros()).sum();
        // A full sketch counts as one that lacks a bit.
        -256.0 * (zeros.max(1) as f32 / 256.0).ln()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use fortify_core::pseudonym::CircuitTag;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    pub(in super::super) fn request(path: &str, outcome: Outcome) -> Request {
        let target = Target::read(&[7; 16], path.as_bytes());
        Request { target, post: false, outcome, loaded: false, crawled: false }
    }

    /// Records with arbitrary values, even ones that never occur.
    pub(in super::super) fn any_features() -> impl Strategy<Value = Features> {
        let floats = (any::<f32>(), any::<f32>(), any::<f32>(), any::<f32>());
        let times = (any::<u64>(), any::<u64>());
        let counts = prop_oneof![any::<[u32; 8]>(), prop::array::uniform8(0_u32..200)];
        (floats, times, counts, any::<[u64; 8]>()).prop_map(|(floats, times, counts, bits)| {
            let mut features = Features::new(Timestamp::from_millis(times.0));
            (features.rate, features.page_rate, features.gap_mean, features.gap_variance) = floats;
            features.halved = Timestamp::from_millis(times.1);
            features.counts.each().into_iter().zip(counts).for_each(|(to, from)| *to = from);
            let [a, b, c, d, e, f, g, h] = bits;
            features.sketches = [Sketch([a, b, c, d]), Sketch([e, f, g, h])];
            features
        })
    }

    #[test]
    fn a_circuit_costs_at_most_512_bytes() {
        assert!(size_of::<(CircuitTag, Features)>() <= 512, "{}", size_of::<Features>());
    }

    #[test]
    fn distinct_pages_are_counted_and_repeated_ones_are_not() {
        let mut features = Features::new(NOW);
        for number in 0..120 {
            let path = format!("/page/{}", number % 60);
            features.record(&request(&path, Outcome::Passed(Some(200))), NOW);
        }
        let distinct = features.distinct_pages();
        assert!((48.0..72.0).contains(&distinct), "{distinct}");
        assert_eq!(features.counts.pages, 120);
    }

    #[test]
    fn existing_paths_are_no_probes_and_leaks_are_probes_without_a_session() {
        let probes = |path: &str, outcome| {
            let mut features = Features::new(NOW);
            features.record(&request(path, outcome), NOW);
            features.counts.probes
        };
        assert_eq!(probes("/wp-login.php", Outcome::Passed(Some(200))), 0);
        assert_eq!(probes("/wp-login.php", Outcome::Passed(None)), 0);
        assert_eq!(probes("/wp-login.php", Outcome::Passed(Some(404))), 1);
        assert_eq!(probes("/.env", Outcome::Challenged), 1);
        assert_eq!(probes("/.env", Outcome::Passed(Some(200))), 0);
    }

    #[test]
    fn subresources_of_a_page_do_not_count_against_its_reader() {
        let mut features = Features::new(NOW);
        for number in 0..100 {
            for path in ["/.env".to_owned(), format!("/gone/{number}")] {
                let asked = request(&path, Outcome::Passed(Some(404)));
                features.record(&Request { loaded: true, ..asked }, NOW);
            }
        }
        let Counts { probes, missing, pages, .. } = features.counts;
        assert_eq!((probes, missing, pages), (0, 0, 0));
    }

    #[test]
    fn counts_decay_and_a_clock_set_back_changes_nothing() {
        let mut features = Features::new(NOW);
        for _ in 0..100 {
            features.record(&request("/.env", Outcome::Challenged), NOW);
        }
        assert_eq!(features.as_of(NOW.after(HALF_LIFE)).counts.probes, 50);
        assert_eq!(features.as_of(NOW.after(HALF_LIFE * 40)).counts, Counts::default());
        let back = features.as_of(Timestamp::from_millis(5));
        assert_eq!((back.counts, back.rate), (features.counts, features.rate));
        let on = back.as_of(Timestamp::from_millis(5).after(HALF_LIFE));
        assert_eq!(on.counts.probes, 50, "time stands still after the clock was set back");
    }

    proptest! {
        #[test]
        fn any_record_takes_any_request(
            mut features in any_features(),
            path in ".{0,40}",
            status: Option<u16>,
            now: u64,
        ) {
            features.record(&request(&path, Outcome::Passed(status)), Timestamp::from_millis(now));
            let _sample = features.sample(Timestamp::from_millis(now));
        }

        #[test]
        fn counts_never_grow_with_time(features in any_features(), early: u64, late: u64) {
            let (early, late) = (early.min(late), early.max(late));
            let [mut early, mut late] =
                [early, late].map(|now| features.as_of(Timestamp::from_millis(now)));
            for (early, late) in early.counts.each().into_iter().zip(late.counts.each()) {
                prop_assert!(late <= early);
            }
        }
    }
}

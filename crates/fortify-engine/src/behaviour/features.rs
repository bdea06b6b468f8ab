//! What is known of one circuit's requests, in a record of fixed size.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::baseline::Sample;
use super::class::{Class, Classes};
use super::target::{Probe, Target};
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;

/// After how long counts are worth half. A visit that was odd once is forgiven within the hour, and
/// whoever keeps a steady rate is seen with about 1.5 times what he does in this time.
pub(super) const HALF_LIFE: Duration = Duration::from_secs(600);

/// Over how long requests make up a rate: longer than a page with everything that it loads takes over
/// Tor, so that one page is no flood.
const REQUESTS_OVER: Duration = Duration::from_secs(60);

/// Over how long pages make up a rate: longer than the burst of somebody who opens ten tabs.
const PAGES_OVER: Duration = Duration::from_secs(300);

/// How often a circuit tells the baseline about itself.
const SAMPLE_EVERY: Duration = Duration::from_secs(300);

/// The weight of a new gap between pages in mean and variance: about the last sixteen count.
const GAP_WEIGHT: f32 = 1.0 / 16.0;

/// One request, as far as it is counted.
pub struct Request {
    /// What its address says.
    pub target: Target,
    /// Whether it is a POST.
    pub post: bool,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether the browser says that a page loads it: then nobody chose to ask for it, and who can
    /// put a picture into a page must not make its readers look like scanners. A program can say so
    /// too, and is then not seen by its paths; better that than a person blamed.
    pub loaded: bool,
    /// Whether its body ran out of time.
    pub crawled: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It went on to the service with a session: the status of the answer, where it is known.
    Passed(Option<u16>),
    /// It was met with a challenge.
    Challenged,
    /// It answered one.
    Answered {
        /// Whether rightly; a wrong answer is met with the next challenge.
        solved: bool,
    },
    /// Anything else: refused, or for the gate itself.
    #[default]
    Other,
}

/// How many there were, lately: halved every `HALF_LIFE`. All saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Requests of the service that are no assets.
    pub pages: u32,
    /// What pages load.
    pub assets: u32,
    /// Pages that are not there: 404 or 410. Other 4xx are what log-ins and forms are answered with, and
    /// a 5xx is the service's fault.
    pub missing: u32,
    /// Forms sent to addresses that look like a log-in.
    pub logins: u32,
    /// Challenges shown.
    pub challenges: u32,
    /// Answers given, right or wrong.
    pub answers: u32,
    /// Requests for what only scanners look for.
    pub probes: u32,
    /// Bodies that ran out of time.
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
    /// The highest of both since the last sample.
    peaks: (f32, f32),
    /// Between pages, in milliseconds: a moving mean and variance.
    pub(super) gap_mean: f32,
    pub(super) gap_variance: f32,
    pub(super) counts: Counts,
    /// Pages of this half-life and of the one before.
    sketches: [Sketch; 2],
    admitted: bool,
    /// Whether it ever fetched what a page loads: never taken back, because browsers keep those.
    pub(super) loads_assets: bool,
    /// As what it was found, ever.
    found: Classes,
    /// Which it is: its number, for operators who act on what they see here.
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

    /// The record at a time: rates fade and counts halve. After a clock that went back it goes on
    /// from there, at the price of one gap.
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

    /// Takes one request in.
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
            // What the service gives out is no secret to it.
            (Some(_), Some(status)) => (400..500).contains(&status),
            (Some(probe), None) => probe == Probe::Leak,
        };
        add(&mut self.counts.probes, probed);
        self.peaks = (self.peaks.0.max(self.rate), self.peaks.1.max(self.page_rate));
    }

    /// What only the service's own pages tell.
    fn passed(&mut self, request: &Request, status: Option<u16>, now: Timestamp) {
        let (target, counts) = (request.target, &mut self.counts);
        if target.asset || request.loaded {
            // In this order: what comes without a page before it is no sign of a browser.
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

    /// About how many distinct pages it asked for in the last ten to twenty minutes.
    #[must_use]
    pub(super) fn distinct_pages(&self) -> f32 {
        let [this, before] = &self.sketches;
        this.with(before).estimate()
    }

    /// What the baseline may learn from it, when it is time. Only from whoever has a session and was
    /// never found to be anything.
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

    /// Notes what it was found to be, and tells whether that is new.
    pub(super) fn note(&mut self, class: Class) -> bool {
        self.found.insert(class)
    }

    /// How long nothing came from it.
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

/// What is left after `idle` of a sum over about `over`.
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

    /// Records with any numbers in them, also such as never come about.
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
    fn a_door_that_the_service_has_is_no_probe_and_a_leak_is_one_to_whoever_has_no_session() {
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
    fn what_a_page_was_made_to_load_is_not_held_against_its_reader() {
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
    fn time_forgives_and_a_clock_that_went_back_takes_and_gives_nothing() {
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
        fn time_only_forgives(features in any_features(), early: u64, late: u64) {
            let (early, late) = (early.min(late), early.max(late));
            let [mut early, mut late] =
                [early, late].map(|now| features.as_of(Timestamp::from_millis(now)));
            for (early, late) in early.counts.each().into_iter().zip(late.counts.each()) {
                prop_assert!(late <= early);
            }
        }
    }
}

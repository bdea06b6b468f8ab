//! Selects the task of a challenge and how it is rendered. Pure.

use std::time::Duration;

use fortify_captcha::{
    AnswerMode, Carrier, Level, Spec, Variant, carrier_weights, variant_weights,
};

/// A visitor's preferred kind of picture, so that nobody is locked out by a kind they cannot solve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// No preference.
    #[default]
    Any,
    /// Nothing that moves.
    Still,
    /// Letters, rather than colours, shapes or objects.
    Letters,
}

impl Preference {
    /// Parses the value of the form field.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "still" => Self::Still,
            "letters" => Self::Letters,
            _ => Self::Any,
        }
    }

    /// The value of the form field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Still => "still",
            Self::Letters => "letters",
        }
    }

    const fn allows(self, carrier: Carrier) -> bool {
        !matches!((self, carrier), (Self::Still, Carrier::Motion))
    }
}

/// The properties that a challenge has to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChallengeRequest {
    /// The visitor's preference.
    pub preference: Preference,
    /// Whether the visitor is suspected of being a bot. The challenge is then one level higher, with objects or
    /// patterns, which are harder for bots. This overrides a preference for letters.
    pub harder: bool,
    /// Whether the task has to be objects or patterns, at the usual level: after two wrong answers. This overrides a
    /// preference for letters too.
    pub hard_task: bool,
}

/// The tasks that are hardest for bots, with their weights.
const HARD_TASKS: [(Variant, u32); 2] =
    [(Variant::ObjectRecognition, 1), (Variant::PatternCompletion, 1)];

/// The configuration of new challenges.
#[derive(Clone, Debug)]
pub struct ChallengeConfig {
    /// How long an answer is accepted.
    pub ttl: Duration,
    /// The mix of tasks and renderings.
    pub mix: ChallengeMix,
}

/// The mix of tasks and renderings that challenges are drawn from.
#[derive(Clone, Debug)]
pub struct ChallengeMix {
    /// The difficulty.
    pub level: Level,
    /// How answers are given.
    pub mode: AnswerMode,
    /// Characters of a `distorted_text`.
    pub length: u8,
    /// The weight of each task; empty for the level's own weights.
    pub variants: Vec<(Variant, u32)>,
    /// The weight of each carrier; empty for the level's own weights.
    pub carriers: Vec<(Carrier, u32)>,
}

impl ChallengeMix {
    /// The specification of the next picture, from two uniformly random draws.
    ///
    /// The carrier is drawn by weight among those that support the task in this mode and fit the preference. If none
    /// of them has a weight, all of them are equally likely: for example, at levels 1 and 2, which use ink only, sums
    /// in choice mode use motion. If there is none at all (sums in choice mode without motion), letters are used.
    #[must_use]
    pub fn choose(
        &self,
        ChallengeRequest { preference, harder, hard_task }: ChallengeRequest,
        draws: [u32; 2],
    ) -> Spec {
        if harder || hard_task {
            let level = Level::new(self.level.get() + u8::from(harder)).unwrap_or(self.level);
            let variants = HARD_TASKS.to_vec();
            let preference =
                if preference == Preference::Letters { Preference::Any } else { preference };
            let mix = Self { level, variants, ..self.clone() };
            return mix
                .choose(ChallengeRequest { preference, ..ChallengeRequest::default() }, draws);
        }
        let variants = or(&self.variants, variant_weights(self.level));
        let drawn = match preference {
            Preference::Letters => Variant::DistortedText,
            _ => pick(variants, draws[0], |_| true).unwrap_or(Variant::DistortedText),
        };
        let shown = |variant| {
            self.carrier(variant, preference, draws[1]).map(|carrier| self.spec(variant, carrier))
        };
        let letters = Variant::DistortedText;
        // Letters in swirl are supported in every mode and do not move.
        shown(drawn)
            .or_else(|| shown(letters))
            .unwrap_or_else(|| self.spec(letters, Carrier::Swirl))
    }

    /// Whether a challenge of `spec` can be shown to somebody who has to get one by `request`: no more than a level below,
    /// and of a kind that is allowed. A preference is no reason against one that is there: it is for the next.
    #[must_use]
    pub fn serves(&self, spec: &Spec, request: ChallengeRequest) -> bool {
        let level = self.level.get() + u8::from(request.harder);
        let hard = HARD_TASKS.iter().any(|(variant, _)| *variant == spec.variant);
        spec.level.get() + 1 >= level.min(Level::ALL.len() as u8)
            && (hard || !(request.harder || request.hard_task))
    }

    /// The carrier selected by `draw`; `None` if no carrier supports `variant` with this preference.
    fn carrier(&self, variant: Variant, preference: Preference, draw: u32) -> Option<Carrier> {
        let fits =
            |carrier: Carrier| carrier.carries(variant, self.mode) && preference.allows(carrier);
        let evenly = Carrier::ALL.map(|carrier| (carrier, 1));
        let weights = or(&self.carriers, carrier_weights(self.level));
        pick(weights, draw, fits).or_else(|| pick(&evenly, draw, fits))
    }

    /// The plain picture for when drawing takes too long, with the task that the requirements name.
    #[must_use]
    pub fn fallback(&self) -> Spec {
        self.spec(Variant::PatternCompletion, Carrier::Ink)
    }

    fn spec(&self, variant: Variant, carrier: Carrier) -> Spec {
        let mut spec = Spec::new(variant, self.level).with_carrier(carrier);
        (spec.mode, spec.length) = (self.mode, self.length);
        spec
    }
}

fn or<'a, T>(own: &'a [T], level: &'a [T]) -> &'a [T] {
    if own.is_empty() { level } else { own }
}

/// The member selected by `draw` among those that fit.
fn pick<T: Copy>(weights: &[(T, u32)], draw: u32, fits: impl Fn(T) -> bool) -> Option<T> {
    let fitting = || weights.iter().filter(|(member, _)| fits(*member));
    let total: u32 = fitting().map(|(_, weight)| weight).sum();
    let mut rest = draw.checked_rem(total)?;
    fitting().find_map(|(member, weight)| match rest.checked_sub(*weight) {
        None => Some(*member),
        Some(less) => {
            rest = less;
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use fortify_captcha::{Generator, Seed};

    use super::*;
    use fortify_core::entropy::{SystemEntropy, random_bytes};

    const PREFERENCES: [Preference; 3] = [Preference::Any, Preference::Still, Preference::Letters];

    fn level(level: u8) -> Level {
        Level::new(level).unwrap()
    }

    fn mix(level: Level) -> ChallengeMix {
        ChallengeMix {
            level,
            mode: AnswerMode::Typed,
            length: 6,
            variants: Vec::new(),
            carriers: Vec::new(),
        }
    }

    fn drawn(level: Level, preference: Preference) -> Spec {
        drawn_from(&mix(level), preference)
    }

    fn drawn_from(mix: &ChallengeMix, preference: Preference) -> Spec {
        let bytes: [u8; 8] = random_bytes(&SystemEntropy).unwrap();
        let (a, b) = bytes.split_at(4);
        let draws = [a, b].map(|half| u32::from_le_bytes(half.try_into().unwrap()));
        mix.choose(ChallengeRequest { preference, ..ChallengeRequest::default() }, draws)
    }

    #[test]
    fn a_suspected_visitor_gets_a_higher_level_and_tasks_harder_for_bots() {
        for (number, preference) in
            [(2, Preference::Any), (5, Preference::Letters), (10, Preference::Still)]
        {
            for draw in 0..200 {
                let order = ChallengeRequest { preference, harder: true, hard_task: false };
                let spec = mix(level(number)).choose(order, [draw, draw / 2]);
                assert_eq!(spec.level.get(), (number + 1).min(10));
                assert!(matches!(
                    spec.variant,
                    Variant::ObjectRecognition | Variant::PatternCompletion
                ));
                assert!(preference != Preference::Still || spec.carrier != Carrier::Motion);
            }
        }
    }

    #[test]
    fn after_two_wrong_answers_the_task_is_hard_for_bots_and_no_level_higher() {
        for number in [2, 5, 10] {
            for (draw, preference) in (0..200).zip(PREFERENCES.into_iter().cycle()) {
                let order = ChallengeRequest { preference, harder: false, hard_task: true };
                let spec = mix(level(number)).choose(order, [draw, draw / 2]);
                assert_eq!(spec.level.get(), number);
                assert!(HARD_TASKS.iter().any(|(variant, _)| *variant == spec.variant));
                assert!(preference != Preference::Still || spec.carrier != Carrier::Motion);
                assert!(mix(level(number)).serves(&spec, order));
            }
        }
        let letters = Spec::new(Variant::DistortedText, level(5));
        let order = ChallengeRequest { hard_task: true, ..ChallengeRequest::default() };
        assert!(!mix(level(5)).serves(&letters, order));
        assert!(mix(level(6)).serves(&letters, ChallengeRequest::default()));
        assert!(!mix(level(7)).serves(&letters, ChallengeRequest::default()), "worth too little");
    }

    /// Chi-square of `counts` against shares of all that was drawn; nothing else may be among them.
    fn chi_square<K: Ord + std::fmt::Debug>(
        mut counts: BTreeMap<K, u32>,
        shares: impl IntoIterator<Item = (K, f64)>,
    ) -> f64 {
        let all = f64::from(counts.values().sum::<u32>());
        let term = |(class, share): (K, f64)| {
            let seen = f64::from(counts.remove(&class).unwrap_or(0));
            (seen - all * share).powi(2) / (all * share)
        };
        let chi = shares.into_iter().map(term).sum();
        assert!(counts.is_empty(), "{counts:?}");
        chi
    }

    /// The share of each member among those that fit.
    fn shares<T: Copy>(weights: &[(T, u32)], fits: impl Fn(T) -> bool) -> Vec<(T, f64)> {
        let fitting: Vec<_> =
            weights.iter().filter(|(t, weight)| *weight > 0 && fits(*t)).collect();
        let total: u32 = fitting.iter().map(|(_, weight)| weight).sum();
        fitting.iter().map(|(t, weight)| (*t, f64::from(*weight) / f64::from(total))).collect()
    }

    /// Chi-square of 100,000 draws of each level against the weights. The bounds are passed once in a
    /// million honest runs: 27.6 with 2 degrees of freedom (at most 3 tasks), 42.7 with 8 (at most 3
    /// carriers for each).
    #[test]
    fn tasks_and_their_carriers_are_drawn_by_their_weights_at_every_level() {
        for level in Level::ALL {
            let (mut tasks, mut pairs) = (BTreeMap::new(), BTreeMap::new());
            for _ in 0..100_000 {
                let Spec { variant, carrier, .. } = drawn(level, Preference::Any);
                *tasks.entry(variant.as_str()).or_insert(0_u32) += 1;
                *pairs.entry((variant.as_str(), carrier.as_str())).or_insert(0_u32) += 1;
            }
            let of_tasks = shares(variant_weights(level), |_| true);
            let of_pairs = of_tasks.iter().flat_map(|(variant, task)| {
                let carries = |carrier: Carrier| carrier.carries(*variant, AnswerMode::Typed);
                let carriers = shares(carrier_weights(level), carries).into_iter();
                carriers.map(move |(carrier, share)| {
                    ((variant.as_str(), carrier.as_str()), task * share)
                })
            });
            let chi = chi_square(pairs, of_pairs);
            assert!(chi < 42.7, "pairs of level {level}: {chi}");
            let chi =
                chi_square(tasks, of_tasks.iter().map(|(task, share)| (task.as_str(), *share)));
            assert!(chi < 27.6, "tasks of level {level}: {chi}");
        }
    }

    #[test]
    fn letters_are_carried_by_the_weights_of_their_level() {
        let share = |number: u8, carrier: Carrier| {
            let letters = (0..2_000).map(|_| drawn(level(number), Preference::Letters));
            letters.filter(|spec| spec.carrier == carrier).count()
        };
        assert_eq!(share(1, Carrier::Ink), 2_000);
        assert!((800..1000).contains(&share(4, Carrier::Swirl)));
        assert_eq!(share(7, Carrier::Ink), 0);
        assert!(share(7, Carrier::Motion) > 800);
    }

    #[test]
    fn a_preference_is_granted_at_every_level() {
        for level in Level::ALL {
            for _ in 0..500 {
                assert_ne!(drawn(level, Preference::Still).carrier, Carrier::Motion);
                assert_eq!(drawn(level, Preference::Letters).variant, Variant::DistortedText);
            }
        }
    }

    #[test]
    fn the_operators_weights_count_instead_of_the_levels() {
        let mix = ChallengeMix {
            variants: vec![(Variant::Arithmetic, 1), (Variant::DistortedText, 0)],
            carriers: vec![(Carrier::Motion, 1)],
            ..mix(level(9))
        };
        for _ in 0..500 {
            let spec = drawn_from(&mix, Preference::Any);
            assert_eq!((spec.variant, spec.carrier), (Variant::Arithmetic, Carrier::Motion));
        }
        let sums = ChallengeMix { carriers: vec![(Carrier::Swirl, 1)], ..mix };
        for _ in 0..100 {
            let spec = drawn_from(&sums, Preference::Any);
            assert_eq!(spec.variant, Variant::Arithmetic);
            assert_ne!(spec.carrier, Carrier::Swirl, "swirl has no sums");
            assert_eq!(drawn_from(&sums, Preference::Still).carrier, Carrier::Ink);
        }
    }

    /// Mixes that a configuration can produce: the level's own weights, and each single task and carrier.
    fn mixes() -> impl Iterator<Item = ChallengeMix> {
        let own = |level| AnswerMode::ALL.map(move |mode| ChallengeMix { mode, ..mix(level) });
        Level::ALL.into_iter().flat_map(own).flat_map(|mix| {
            let carriers =
                [vec![]].into_iter().chain(Carrier::ALL.map(|carrier| vec![(carrier, 1)]));
            let mixes = carriers.map(move |carriers| ChallengeMix { carriers, ..mix.clone() });
            mixes.flat_map(|mix| {
                let variants =
                    [vec![]].into_iter().chain(Variant::ALL.map(|variant| vec![(variant, 1)]));
                variants.map(move |variants| ChallengeMix { variants, ..mix.clone() })
            })
        })
    }

    #[test]
    fn whatever_is_chosen_can_be_drawn_and_is_as_wished_for() {
        let generator = Generator::new().unwrap();
        let seed = Seed::from_bytes([5; 32]);
        let mut drawn = HashSet::new();
        for mix in mixes() {
            for (preference, draw) in PREFERENCES
                .into_iter()
                .flat_map(|preference| (0..100).map(move |n| (preference, n)))
            {
                for harder in [false, true] {
                    let spec = mix.choose(
                        ChallengeRequest { preference, harder, hard_task: false },
                        [draw, draw.wrapping_mul(7)],
                    );
                    let letters = spec.variant == Variant::DistortedText;
                    let right = spec.carrier.carries(spec.variant, spec.mode)
                        && (preference != Preference::Still || spec.carrier != Carrier::Motion)
                        && (preference != Preference::Letters || harder || letters)
                        && (!drawn.insert(spec) || generator.puzzle(&spec, &seed).is_ok());
                    assert!(right, "{mix:?} {preference:?} {spec:?}");
                }
            }
            assert!(generator.puzzle(&mix.fallback(), &seed).is_ok());
        }
    }

    #[test]
    fn what_engines_read_is_never_picked_in_ink() {
        for mix in mixes().filter(|mix| mix.mode == AnswerMode::Choice) {
            for (preference, draw) in PREFERENCES
                .into_iter()
                .flat_map(|preference| (0..100).map(move |n| (preference, n)))
            {
                let spec = mix.choose(
                    ChallengeRequest { preference, ..ChallengeRequest::default() },
                    [draw, draw / 3],
                );
                let told_by_shape = [Variant::ObjectRecognition, Variant::PatternCompletion];
                let read = !told_by_shape.contains(&spec.variant);
                assert!(!read || spec.carrier != Carrier::Ink, "{mix:?} {preference:?} {spec:?}");
            }
        }
    }

    #[test]
    fn where_no_carrier_of_the_level_shows_the_task_the_others_are_as_likely() {
        let mix = ChallengeMix { mode: AnswerMode::Choice, ..mix(level(1)) };
        let specs: Vec<Spec> = (0..4_000).map(|_| drawn_from(&mix, Preference::Any)).collect();
        let share = |variant: Variant, carrier: Carrier| {
            let of = specs.iter().filter(|spec| spec.variant == variant);
            let (all, with) =
                (of.clone().count(), of.filter(|spec| spec.carrier == carrier).count());
            with as f64 / all as f64
        };
        assert!((share(Variant::Arithmetic, Carrier::Motion) - 1.0).abs() < f64::EPSILON);
        assert!((0.4..0.6).contains(&share(Variant::DistortedText, Carrier::Swirl)));
        // A sum that is picked and does not move is not drawn.
        for _ in 0..500 {
            let still = drawn_from(&mix, Preference::Still);
            assert_eq!((still.variant, still.carrier), (Variant::DistortedText, Carrier::Swirl));
        }
    }

    #[test]
    fn a_preference_has_one_name() {
        for preference in PREFERENCES {
            assert_eq!(Preference::parse(preference.as_str()), preference);
        }
        assert_eq!(Preference::parse("1"), Preference::Any);
    }
}

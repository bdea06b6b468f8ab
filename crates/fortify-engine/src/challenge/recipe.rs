//! Converts between a challenge and its record in the store, from which the same picture can be drawn again.

use std::borrow::Cow;

use fortify_captcha::{Carrier, Level, Puzzle, RENDERER_VERSION, Seed, Spec};

use super::policy::Preference;
use super::style_cache::StylePeriod;
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;
use fortify_store::record::{ChallengeRecord, Secret};

/// Everything that determines a picture.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// What to draw.
    pub(super) spec: Spec,
    /// The period whose style it is drawn in.
    pub(super) style_period: StylePeriod,
    /// The random seed.
    pub(super) seed: Seed,
}

/// Writes the record of a challenge.
pub(super) fn write(
    recipe: &Recipe,
    puzzle: &Puzzle,
    wish: Preference,
    circuit: CircuitTag,
    created_at: Timestamp,
    expires_at: Timestamp,
) -> ChallengeRecord {
    let Recipe { spec, style_period: period, seed } = recipe;
    ChallengeRecord {
        variant: Cow::Borrowed(spec.variant.as_str()),
        carrier: Cow::Borrowed(spec.carrier.as_str()),
        mode: Cow::Borrowed(spec.mode.as_str()),
        level: spec.level.get(),
        length: spec.length,
        seed: Secret::new(*seed.as_bytes()),
        answer: Secret::new(puzzle.answer.encode()),
        wish: (wish != Preference::Any).then(|| Cow::Borrowed(wish.as_str())),
        decoy: puzzle.decoy.as_ref().map(|decoy| Secret::new(decoy.encode())),
        renderer: RENDERER_VERSION,
        style_period: *period,
        circuit,
        created_at,
        expires_at,
    }
}

/// Reads what to draw for `record`; `None` if this version cannot draw the same picture.
pub(super) fn read(record: &ChallengeRecord) -> Option<Recipe> {
    if record.renderer != RENDERER_VERSION {
        return None;
    }
    let carrier: Carrier = record.carrier.parse().ok()?;
    let mut spec = Spec::new(record.variant.parse().ok()?, Level::new(record.level).ok()?);
    spec = spec.with_carrier(carrier);
    spec.mode = record.mode.parse().ok()?;
    spec.length = record.length;
    let seed = Seed::from_bytes(*record.seed.expose());
    Some(Recipe { spec, style_period: record.style_period, seed })
}

#[cfg(test)]
mod tests {
    use fortify_captcha::{AnswerMode, Generator, StyleKey, Variant};

    use super::*;

    #[test]
    fn a_record_reproduces_its_picture() {
        let generator = Generator::new().unwrap();
        for variant in Variant::ALL {
            for (carrier, mode) in
                Carrier::ALL.into_iter().flat_map(|c| AnswerMode::ALL.map(|m| (c, m)))
            {
                if carrier.carries(variant, mode) {
                    check(&generator, variant, carrier, mode);
                }
            }
        }
    }

    fn check(generator: &Generator, variant: Variant, carrier: Carrier, mode: AnswerMode) {
        let mut spec = Spec::new(variant, Level::new(5).unwrap()).with_carrier(carrier);
        (spec.length, spec.mode) = (8, mode);
        let recipe = Recipe { spec, style_period: 86_400, seed: Seed::from_bytes([3; 32]) };
        let style = generator.style(&StyleKey::PUBLIC);
        let rendered = generator.render(&recipe.spec, &style, &recipe.seed).unwrap();
        let circuit = CircuitTag::from_bytes([1; 16]);
        let times = [1, 2].map(Timestamp::from_secs);
        let record = write(&recipe, &rendered.puzzle, Preference::Any, circuit, times[0], times[1]);
        let json = serde_json::to_string(&record).unwrap();
        let record: ChallengeRecord = serde_json::from_str(&json).unwrap();
        let Recipe { spec, style_period: period, seed } = read(&record).unwrap();
        assert_eq!(period, recipe.style_period);
        let again = generator.render(&spec, &style, &seed).unwrap();
        assert_eq!(again.media.bytes, rendered.media.bytes, "{variant} {carrier} {mode}");
        let decoyed = carrier == Carrier::Motion && mode == AnswerMode::Typed;
        assert_eq!(record.decoy.is_some(), decoyed, "{variant} {carrier} {mode}");
    }
}

//! A challenge as the store keeps it: names and numbers, from which the same picture is drawn.

use std::borrow::Cow;

use fortify_captcha::{Answer, Level, RENDERER_VERSION, Seed, Spec};

use crate::clock::Timestamp;
use crate::pseudonym::CircuitTag;
use crate::store::record::{ChallengeRecord, Secret};

/// The record of a challenge.
pub(super) fn write(
    spec: &Spec,
    seed: &Seed,
    answer: &Answer,
    circuit: CircuitTag,
    created_at: Timestamp,
    expires_at: Timestamp,
) -> ChallengeRecord {
    ChallengeRecord {
        variant: Cow::Borrowed(spec.variant.as_str()),
        carrier: Cow::Borrowed(spec.carrier.as_str()),
        mode: Cow::Borrowed(spec.mode.as_str()),
        level: spec.level.get(),
        length: spec.length,
        seed: Secret::new(*seed.as_bytes()),
        answer: Secret::new(answer.encode()),
        renderer: RENDERER_VERSION,
        circuit,
        created_at,
        expires_at,
    }
}

/// What to draw for `record`; `None` when this version does not draw such a picture, or would draw
/// another one.
pub(super) fn read(record: &ChallengeRecord, (width, height): (u16, u16)) -> Option<(Spec, Seed)> {
    if record.renderer != RENDERER_VERSION {
        return None;
    }
    let mut spec = Spec::new(record.variant.parse().ok()?, Level::new(record.level).ok()?);
    spec.carrier = record.carrier.parse().ok()?;
    spec.mode = record.mode.parse().ok()?;
    spec.length = record.length;
    (spec.width, spec.height) = (width, height);
    Some((spec, Seed::from_bytes(*record.seed.expose())))
}

#[cfg(test)]
mod tests {
    use fortify_captcha::{Generator, Variant};

    use super::*;

    #[test]
    fn a_record_draws_the_picture_it_was_made_for() {
        let generator = Generator::new().unwrap();
        for variant in Variant::ALL {
            let (mut spec, seed) = (Spec::new(variant, Level::new(5).unwrap()), [3; 32]);
            spec.length = 8;
            let seed = Seed::from_bytes(seed);
            let rendered = generator.render(&spec, &seed).unwrap();
            let record = write(
                &spec,
                &seed,
                &rendered.puzzle.answer,
                CircuitTag::from_bytes([1; 16]),
                Timestamp::from_secs(1),
                Timestamp::from_secs(2),
            );
            let json = serde_json::to_string(&record).unwrap();
            let record: ChallengeRecord = serde_json::from_str(&json).unwrap();
            let (spec, seed) = read(&record, (spec.width, spec.height)).unwrap();
            assert_eq!(generator.render(&spec, &seed).unwrap().media.bytes, rendered.media.bytes);
        }
    }
}

//! Which task a level asks.

use fortify_captcha::{Level, Variant};

/// The weights of the tasks at a level, in percent, in the order of the requirement's table. At
/// levels 1 and 2 it is the table's own row; above, its other tasks are not drawn yet, and letters
/// carry their share: a sum is for calm times only.
const fn weights(level: Level) -> &'static [(Variant, u32)] {
    match level.get() {
        1..=2 => &[(Variant::Arithmetic, 80), (Variant::DistortedText, 20)],
        _ => &[(Variant::DistortedText, 100)],
    }
}

/// The task at `level` for a uniformly random `draw`.
#[must_use]
pub fn variant(level: Level, draw: u32) -> Variant {
    let weights = weights(level);
    let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
    let mut rest = draw % total.max(1);
    for (variant, weight) in weights {
        if rest < *weight {
            return *variant;
        }
        rest -= weight;
    }
    Variant::DistortedText
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_draws_its_tasks_by_their_weights() {
        let arithmetic = |level: u8| {
            let level = Level::new(level).unwrap();
            (0..100).filter(|draw| variant(level, *draw) == Variant::Arithmetic).count()
        };
        assert_eq!((1..=10).map(arithmetic).collect::<Vec<_>>(), [80, 80, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

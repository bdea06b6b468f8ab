//! How often each level asks each task.

use crate::spec::{Level, Variant};

/// The weights of the tasks at `level`, in percent; the table of the requirements. The caller
/// draws from them, because some visitors ask for another kind.
pub const fn variant_weights(level: Level) -> &'static [(Variant, u32)] {
    match level.get() {
        1..=2 => &[(Variant::Arithmetic, 80), (Variant::DistortedText, 20)],
        3..=5 => &[
            (Variant::DistortedText, 50),
            (Variant::PatternCompletion, 30),
            (Variant::ObjectRecognition, 20),
        ],
        6..=8 => &[
            (Variant::ObjectRecognition, 40),
            (Variant::PatternCompletion, 40),
            (Variant::ColorTextMismatch, 20),
        ],
        _ => &[
            (Variant::ObjectRecognition, 50),
            (Variant::ColorTextMismatch, 30),
            (Variant::PatternCompletion, 20),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_every_level_add_up_to_a_hundred() {
        for level in Level::ALL {
            let total: u32 = variant_weights(level).iter().map(|(_, weight)| weight).sum();
            assert_eq!(total, 100, "{level}");
        }
    }
}

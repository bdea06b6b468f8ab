//! Carriers: the renderings that make figures visible.

pub(crate) mod ink;
mod mask;
pub(crate) mod motion;
pub(crate) mod swirl;

use crate::figure::{Figure, Sign};
use crate::number;
use crate::spec::{Carrier, Spec};

/// `spec` with no more characters than its carrier can show legibly.
///
/// Ink shows any length. The other carriers need large glyphs: three characters for every two heights
/// of the picture's width, four at least, which is what fits beside each other at full height.
pub(crate) fn fitted(spec: &Spec) -> Spec {
    let most = match spec.carrier {
        Carrier::Ink => u16::from(*Spec::LENGTHS.end()),
        Carrier::Swirl | Carrier::Motion => spec.width * 3 / (spec.height * 2).max(1),
    };
    let most = u8::try_from(most).unwrap_or(u8::MAX).max(*Spec::LENGTHS.start());
    Spec { length: spec.length.min(most), ..*spec }
}

/// The figures as carriers with large glyphs show them: numbers as digits, and a sum without its
/// `= ?`, which the question says anyway.
fn for_large_glyphs(figures: &[Figure]) -> Vec<Figure> {
    let equals = figures.iter().position(|figure| *figure == Figure::Scribble(Sign::Equals));
    let shown = figures.get(..equals.unwrap_or(figures.len())).unwrap_or(figures);
    shown
        .iter()
        .map(|figure| match figure {
            Figure::Word(word) => number::parse(word)
                .map_or_else(|| figure.clone(), |number| Figure::Number(number.to_string())),
            _ => figure.clone(),
        })
        .collect()
}

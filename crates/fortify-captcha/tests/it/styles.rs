//! A style changes the picture, and neither its size nor its answer.

use std::collections::HashSet;

use fortify_captcha::{AnswerMode, Carrier, Generator, Level, Seed, Spec, StyleKey, Variant};

/// Styles that are tried.
const STYLES: u8 = 12;

fn key(number: u8) -> StyleKey {
    StyleKey::from_bytes(std::array::from_fn(|at| number.wrapping_mul(31).wrapping_add(at as u8)))
}

fn seed(number: u8) -> Seed {
    Seed::from_bytes([number; 32])
}

fn specs() -> Vec<Spec> {
    let pairs = Variant::ALL.into_iter().flat_map(|v| Carrier::ALL.map(|c| (v, c)));
    pairs
        .filter(|(variant, carrier)| carrier.carries(*variant, AnswerMode::Typed))
        .flat_map(|(variant, carrier)| {
            let levels = [Level::ALL[0], Level::ALL[4], Level::ALL[9]];
            levels.map(|level| Spec::new(variant, level).with_carrier(carrier))
        })
        .collect()
}

#[test]
fn a_style_changes_the_picture_and_neither_its_size_nor_its_answer() {
    let generator = Generator::new().unwrap();
    let public = generator.style(&StyleKey::PUBLIC);
    let specs = specs();
    let expected: Vec<_> =
        specs.iter().map(|spec| generator.render(spec, &public, &seed(7)).unwrap()).collect();
    let mut seen: HashSet<Vec<u8>> = expected.iter().map(|r| r.media.bytes.clone()).collect();
    for number in 0..STYLES {
        let style = generator.style(&key(number));
        for (spec, expected) in specs.iter().zip(&expected) {
            let rendered = generator.render(spec, &style, &seed(7)).unwrap();
            assert_eq!(rendered.media.bytes.len(), expected.media.bytes.len(), "{spec:?}");
            assert_eq!(rendered.puzzle.answer, expected.puzzle.answer, "{spec:?}");
            assert_eq!(rendered.puzzle.decoy, expected.puzzle.decoy, "{spec:?}");
            assert!(seen.insert(rendered.media.bytes), "{spec:?}: style {number} is no other");
        }
    }
}

#[test]
fn a_key_stands_for_one_style_and_shows_nothing() {
    let generators = [Generator::new().unwrap(), Generator::new().unwrap()];
    let hex = key(3).to_hex();
    let again = StyleKey::from_hex(&hex.to_uppercase()).unwrap();
    for spec in specs() {
        let [one, other] = [(&generators[0], &key(3)), (&generators[1], &again)]
            .map(|(g, key)| g.render(&spec, &g.style(key), &seed(9)).unwrap().media.bytes);
        assert!(one == other, "{spec:?}");
        if spec.carrier == Carrier::Ink && spec.variant == Variant::Arithmetic {
            break;
        }
    }
    assert_eq!(
        format!("{:?} {:?}", key(3), generators[0].style(&key(3))),
        "StyleKey(..) Style(..)"
    );
    for wrong in ["", "00", &hex[1..], &hex.replace(|c: char| c.is_ascii_digit(), "g")] {
        assert!(StyleKey::from_hex(wrong).is_err());
    }
}

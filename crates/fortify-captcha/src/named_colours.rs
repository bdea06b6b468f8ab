//! The named colours that pictures are drawn with, on a dark ground.
//!
//! Found by a search over each name's own range of hues for the set whose nearest pair is farthest
//! apart for people with normal vision, protanopia, deuteranopia and tritanopia alike. The test
//! below simulates them.

use crate::term::Colour;

/// Red, green and blue, sRGB.
pub(crate) fn rgb(colour: Colour) -> [u8; 3] {
    match colour {
        Colour::Red => [200, 12, 12],
        Colour::Orange => [240, 124, 0],
        Colour::Yellow => [255, 213, 0],
        Colour::Green => [75, 198, 130],
        Colour::Blue => [16, 93, 255],
        Colour::Purple => [133, 80, 178],
        Colour::Pink => [246, 131, 208],
        Colour::White => [245, 245, 245],
        // Words only.
        Colour::Black => [0, 0, 0],
        Colour::Brown => [120, 70, 20],
        Colour::Grey => [130, 130, 130],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::palette;

    type Matrix = [[f64; 3]; 3];

    /// Normal vision, then protanopia, deuteranopia and tritanopia: the matrices of severity 1.0 for
    /// linear sRGB of Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation
    /// of Color Vision Deficiency", IEEE TVCG 15 (6), 2009.
    const VISIONS: [(&str, Matrix); 4] = [
        ("normal", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "protanopia",
            [
                [0.152_286, 1.052_583, -0.204_868],
                [0.114_503, 0.786_281, 0.099_216],
                [-0.003_882, -0.048_116, 1.051_998],
            ],
        ),
        (
            "deuteranopia",
            [
                [0.367_322, 0.860_646, -0.227_968],
                [0.280_085, 0.672_501, 0.047_413],
                [-0.011_820, 0.042_940, 0.968_881],
            ],
        ),
        (
            "tritanopia",
            [
                [1.255_528, -0.076_749, -0.178_779],
                [-0.078_411, 0.930_809, 0.147_602],
                [0.004_733, 0.691_367, 0.303_900],
            ],
        ),
    ];

    fn linear(byte: u8) -> f64 {
        let value = f64::from(byte) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    }

    fn times(matrix: &Matrix, vector: [f64; 3]) -> [f64; 3] {
        matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
    }

    fn distance(one: [f64; 3], other: [f64; 3]) -> f64 {
        one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    /// CIELAB under D65 of a colour, in linear light, as it is seen.
    fn lab(colour: [f64; 3], vision: &Matrix) -> [f64; 3] {
        let seen = times(vision, colour).map(|value| value.clamp(0.0, 1.0));
        let xyz = times(
            &[
                [0.412_456_4, 0.357_576_1, 0.180_437_5],
                [0.212_672_9, 0.715_152_2, 0.072_175],
                [0.019_333_9, 0.119_192, 0.950_304_1],
            ],
            seen,
        );
        let fit = |value: f64| {
            if value > 216.0 / 24389.0 {
                value.cbrt()
            } else {
                (24389.0 / 27.0 * value + 16.0) / 116.0
            }
        };
        let [x, y, z] = [fit(xyz[0] / 0.950_47), fit(xyz[1]), fit(xyz[2] / 1.088_83)];
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn bands_can_be_told_apart_with_every_vision() {
        // The shades of stripes and dots, mixed as eyes mix small areas.
        const FAR_ENOUGH: f64 = 18.0;
        let mean = |colour| {
            let shades: Vec<[u8; 3]> =
                (0..8).map(|step| palette::shade(colour, f32::from(step as u8) / 7.0)).collect();
            [0, 1, 2]
                .map(|channel| shades.iter().map(|shade| linear(shade[channel])).sum::<f64>() / 8.0)
        };
        for (vision, matrix) in &VISIONS {
            for (index, one) in Colour::BANDS.into_iter().enumerate() {
                for other in Colour::BANDS.into_iter().skip(index + 1) {
                    let distance = distance(lab(mean(one), matrix), lab(mean(other), matrix));
                    assert!(distance >= FAR_ENOUGH, "{one:?} {other:?} {vision}: {distance:.1}");
                }
            }
        }
    }

    #[test]
    fn every_pair_can_be_told_apart_with_every_vision() {
        // Ten times the just noticeable difference. The palette moves each channel by at most 5.
        const FAR_ENOUGH: f64 = 23.0;
        let mut nearest = f64::INFINITY;
        for (vision, matrix) in &VISIONS {
            for (index, one) in Colour::PAINTS.into_iter().enumerate() {
                for other in Colour::PAINTS.into_iter().skip(index + 1) {
                    let seen = |colour| lab(rgb(colour).map(linear), matrix);
                    let distance = distance(seen(one), seen(other));
                    assert!(distance >= FAR_ENOUGH, "{one:?} {other:?} {vision}: {distance:.1}");
                    nearest = nearest.min(distance);
                }
            }
        }
        assert!(nearest < 40.0, "the simulation does nothing");
    }
}

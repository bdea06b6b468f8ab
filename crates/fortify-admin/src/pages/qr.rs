//! A QR code as a PNG, for authenticator apps to scan.

use png::BitDepth;
use qrcode::{Color, EcLevel, QrCode};

use crate::chart::indexed;

/// Light modules around the code, as ISO/IEC 18004, 9.1 requires.
const QUIET: usize = 4;
/// Pixels per module.
const SCALE: usize = 4;

/// The code of `text`, black on white regardless of the page's colours; `None` if `text` is too long.
pub(super) fn png(text: &str) -> Option<Vec<u8>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let (modules, colours) = (code.width(), code.to_colors());
    let side = (modules + 2 * QUIET) * SCALE;
    let dark = |x: usize, y: usize| {
        let (x, y) = ((x / SCALE).checked_sub(QUIET), (y / SCALE).checked_sub(QUIET));
        let module = x.zip(y).filter(|(x, y)| *x < modules && *y < modules);
        module.and_then(|(x, y)| colours.get(y * modules + x)) == Some(&Color::Dark)
    };
    let row = |y: usize| {
        (0..side.div_ceil(8)).map(move |byte| {
            (0..8).fold(0_u8, |bits, bit| bits << 1 | u8::from(dark(byte * 8 + bit, y)))
        })
    };
    let rows: Vec<u8> = (0..side).flat_map(row).collect();
    let file = indexed((side, side), BitDepth::One, vec![255, 255, 255, 0, 0, 0], None, &rows);
    (!file.is_empty()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_finder_patterns_and_a_quiet_zone() {
        let text =
            "otpauth://totp/Fortify:ada?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Fortify";
        let file = png(text).unwrap();
        let mut decoder = ::png::Decoder::new(std::io::Cursor::new(&file));
        decoder.set_transformations(::png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let side = reader.next_frame(&mut bytes).unwrap().width as usize;
        let dark = |x: usize, y: usize| bytes[(y * SCALE * side + x * SCALE) * 3] == 0;
        let modules = side / SCALE;
        for at in 0..modules {
            assert!(!dark(at, 0) && !dark(0, at) && !dark(at, 3) && !dark(modules - 1, at));
        }
        // Seven dark, a light ring, three dark: along the upper left corner.
        let row: Vec<bool> = (4..11).map(|x| dark(x, 7)).collect();
        assert_eq!(row, [true, false, true, true, true, false, true]);
        assert!(dark(modules - 5, 4) && dark(4, modules - 5));
        assert!(png(&"x".repeat(5000)).is_none());
    }
}

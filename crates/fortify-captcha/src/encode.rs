//! From the canvas to a PNG of 4 bits per px.

use png::{BitDepth, ColorType, Compression, Encoder, Filter};

use crate::canvas::Canvas;
use crate::error::RenderError;
use crate::palette::Palette;

/// Packs the canvas into `packed` (two px per byte, kept between pictures) and encodes it.
///
/// The file holds IHDR, PLTE, IDAT and IEND and nothing else. No filter: filters are made for grey
/// levels, and on palette indices they only add noise.
pub(crate) fn png(
    canvas: &Canvas,
    palette: &Palette,
    packed: &mut Vec<u8>,
) -> Result<Vec<u8>, RenderError> {
    pack(canvas, packed);
    compress(canvas.width(), canvas.height(), palette, packed)
}

/// The encoder alone, on a canvas that is packed already; benches compare against it.
pub(crate) fn compress(
    width: usize,
    height: usize,
    palette: &Palette,
    packed: &[u8],
) -> Result<Vec<u8>, RenderError> {
    let refused = |error: png::EncodingError| RenderError::Encode { reason: error.to_string() };
    let mut bytes = Vec::with_capacity(packed.len() + 256);
    let mut encoder = Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Four);
    encoder.set_palette(palette.bytes());
    encoder.set_compression(Compression::Fast);
    encoder.set_filter(Filter::NoFilter);
    let mut writer = encoder.write_header().map_err(refused)?;
    writer.write_image_data(packed).map_err(refused)?;
    writer.finish().map_err(refused)?;
    Ok(bytes)
}

/// Two px per byte, the left one in the upper half; a row starts on a byte.
fn pack(canvas: &Canvas, packed: &mut Vec<u8>) {
    packed.clear();
    packed.reserve(canvas.width().div_ceil(2) * canvas.height());
    for row in canvas.rows() {
        let (pairs, rest) = row.as_chunks::<2>();
        packed.extend(pairs.iter().map(|[left, right]| (left << 4) | right));
        packed.extend(rest.iter().map(|left| left << 4));
    }
}

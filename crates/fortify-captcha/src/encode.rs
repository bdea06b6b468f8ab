//! From the canvas to a PNG of 4 bits per px.

use png::{BitDepth, ColorType, Compression, Encoder, Filter};

use crate::canvas::Canvas;
use crate::error::RenderError;
use crate::palette::Palette;

/// Packs the canvas into `packed` (two px per byte, kept between pictures) and encodes it.
///
/// The file holds IHDR, PLTE, IDAT and IEND and nothing else. No filter: filters are made for grey
/// levels, and on palette indices they only add noise. No compression either, by measurement: the
/// encoder's fast mode tries, finds no gain on a textured ground, and stores the bytes as they are (a
/// test holds that for thousands of pictures). Storing them at once gives the same file in a
/// quarter of the time, and makes its size a matter of width and height alone: it tells nothing.
pub(crate) fn png(
    canvas: &Canvas,
    palette: &Palette,
    packed: &mut Vec<u8>,
) -> Result<Vec<u8>, RenderError> {
    pack(canvas, packed);
    encode(canvas.width(), canvas.height(), palette, packed, Compression::NoCompression)
}

/// The encoder alone, on a canvas that is packed already.
pub(crate) fn encode(
    width: usize,
    height: usize,
    palette: &Palette,
    packed: &[u8],
    compression: Compression,
) -> Result<Vec<u8>, RenderError> {
    let refused = |error: png::EncodingError| RenderError::Encode { reason: error.to_string() };
    let mut bytes = Vec::with_capacity(packed.len() + 256);
    let mut encoder = Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Four);
    encoder.set_palette(palette.bytes());
    encoder.set_compression(compression);
    encoder.set_filter(Filter::NoFilter);
    let mut writer = encoder.write_header().map_err(refused)?;
    writer.write_image_data(packed).map_err(refused)?;
    writer.finish().map_err(refused)?;
    Ok(bytes)
}

/// Two px per byte, the left one in the upper half; a row starts on a byte.
fn pack(canvas: &Canvas, packed: &mut Vec<u8>) {
    let stride = canvas.width().div_ceil(2);
    packed.resize(stride * canvas.height(), 0);
    for (row, target) in canvas.rows().zip(packed.chunks_exact_mut(stride.max(1))) {
        let (pairs, rest) = row.as_chunks::<2>();
        for (pair, byte) in pairs.iter().zip(target.iter_mut()) {
            // As one number, so that many pairs are shifted at once.
            let both = u16::from_le_bytes(*pair);
            *byte = ((both << 4) | (both >> 8)) as u8;
        }
        if let (Some(left), Some(byte)) = (rest.first(), target.last_mut()) {
            *byte = left << 4;
        }
    }
}

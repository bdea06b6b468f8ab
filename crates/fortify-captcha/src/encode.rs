//! PNG files: stills of 4 bits per px, and animations of 1 or 2.

use png::{BitDepth, ColorType, Compression, Encoder, EncodingError, Filter};

use crate::canvas::Canvas;
use crate::palette::{DotColours, Palette};
use crate::spec::RenderError;

/// Packs the canvas into `packed` (two px per byte, kept between pictures) and encodes it.
///
/// The file holds IHDR, PLTE, IDAT and IEND and nothing else. No filter: filters are made for grey
/// levels, and on palette indices they only add noise. No compression either: the encoder's fast mode
/// tries, finds no gain on a textured ground, and stores the bytes as they are (a test holds that for
/// thousands of pictures). Storing them at once gives the same file in a quarter of the time, and
/// makes its size depend on width and height alone, so that it gives nothing away.
pub(crate) fn png(
    canvas: &Canvas,
    palette: &Palette,
    packed: &mut Vec<u8>,
) -> Result<Vec<u8>, RenderError> {
    pack(canvas, packed);
    encode(canvas.width(), canvas.height(), palette, packed, Compression::NoCompression)
}

/// Encodes an animated PNG of two or four colours: `packed` holds the default image, which is no frame
/// of the animation, and then every frame, one or two bits per px.
///
/// The file holds IHDR, acTL, PLTE, IDAT, then fcTL and fdAT for each frame, and IEND. The frames are
/// noise, so they are stored as they are, and the size of the file follows from its dimensions.
pub(crate) fn animation(
    width: usize,
    height: usize,
    colours: &DotColours,
    frame_ms: u16,
    packed: &[u8],
) -> Result<Vec<u8>, RenderError> {
    let depth = colours.depth();
    let image = ((depth * width).div_ceil(8) * height).max(1);
    let frames = (packed.len() / image).saturating_sub(1);
    // Per frame: fcTL and the frames of chunk, deflate and Adler-32 come to 74 bytes and a filter byte
    // per row.
    let mut bytes = Vec::with_capacity(packed.len() + (frames + 1) * (height + 80) + 128);
    let mut encoder = Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(if depth == 1 { BitDepth::One } else { BitDepth::Two });
    encoder.set_palette(colours.bytes());
    encoder.set_compression(Compression::NoCompression);
    encoder.set_filter(Filter::NoFilter);
    encoder.set_animated(frames as u32, 0).map_err(refused)?;
    encoder.set_sep_def_img(true).map_err(refused)?;
    encoder.set_frame_delay(frame_ms, 1000).map_err(refused)?;
    let mut writer = encoder.write_header().map_err(refused)?;
    for image in packed.chunks_exact(image) {
        writer.write_image_data(image).map_err(refused)?;
    }
    writer.finish().map_err(refused)?;
    Ok(bytes)
}

/// The encoder alone, on a canvas that is packed already.
pub(crate) fn encode(
    width: usize,
    height: usize,
    palette: &Palette,
    packed: &[u8],
    compression: Compression,
) -> Result<Vec<u8>, RenderError> {
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

fn refused(error: EncodingError) -> RenderError {
    RenderError::Encode { reason: error.to_string() }
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

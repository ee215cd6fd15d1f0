//! Files of images to their pixels.

use super::Pixels;
use crate::error::DataError;
use crate::file;
use std::path::Path;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_core::result::DecodingResult;
use zune_jpeg::JpegDecoder;
use zune_png::PngDecoder;

/// Larger files are no photographs.
const MOST_BYTES: u64 = 256 << 20;

/// The most pixels on a side.
const MOST_SIDE: usize = 1 << 14;

/// Reads an image, PNG or JPEG by what it begins with: red, green and blue of every pixel, without what is transparent.
///
/// # Errors
/// `Io`, `NotRegular`; `BadImage` where it cannot be decoded.
pub(super) fn read(path: &Path, row: usize) -> Result<Pixels, DataError> {
    let bytes = file::read(path, MOST_BYTES)?;
    let bad = |what: String| DataError::BadImage { path: path.to_owned(), row, what };
    // A panic over a damaged file is an error of the file.
    let decoded = std::panic::catch_unwind(|| decode(&bytes));
    decoded.map_err(|_| bad("it is damaged".into()))?.map_err(bad)
}

fn decode(bytes: &[u8]) -> Result<Pixels, String> {
    let options = DecoderOptions::default().set_max_width(MOST_SIDE).set_max_height(MOST_SIDE).set_strict_mode(true);
    let none = || "it says no size".to_string();
    let (size, space, bytes) = if bytes.starts_with(b"\x89PNG") {
        let options = options.png_set_strip_to_8bit(true).png_set_decode_animated(false).png_set_confirm_crc(true);
        let mut decoder = PngDecoder::new_with_options(ZCursor::new(bytes), options);
        let DecodingResult::U8(found) = decoder.decode().map_err(|e| e.to_string())? else {
            return Err("its channels have more than 8 bits".into());
        };
        (decoder.dimensions().ok_or_else(none)?, decoder.colorspace().ok_or_else(none)?, found)
    } else if bytes.starts_with(b"\xff\xd8") {
        let options = options.jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        let found = decoder.decode().map_err(|e| e.to_string())?;
        let info = decoder.info().ok_or_else(none)?;
        let space = decoder.output_colorspace().ok_or_else(none)?;
        ((usize::from(info.width), usize::from(info.height)), space, found)
    } else {
        return Err("it is neither a PNG nor a JPEG file".into());
    };
    let (width, height) = size;
    let channels = match space {
        ColorSpace::Luma => 1,
        ColorSpace::LumaA => 2,
        ColorSpace::RGB => 3,
        ColorSpace::RGBA => 4,
        other => return Err(format!("its colours are {other:?}, which are not read")),
    };
    if width == 0 || height == 0 || bytes.len() != width * height * channels {
        return Err("it ends early".into());
    }
    let bytes = match channels {
        1 | 2 => bytes.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect(),
        4 => bytes.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        _ => bytes,
    };
    Ok(Pixels { width, height, channels: 3, bytes })
}

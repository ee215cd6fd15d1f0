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

/// The most pixels: a small file can say that it has any number of them. Pillow refuses more than this as well.
const MOST_PIXELS: usize = 178_956_970;

/// Reads an image, PNG or JPEG by what it begins with: red, green and blue of every pixel, without what is transparent.
///
/// # Errors
/// `Io`, `NotRegular`; `BadImage` where it cannot be decoded, `LargeImage` where it has too many pixels.
pub(super) fn read(path: &Path, row: usize) -> Result<Pixels, DataError> {
    let bytes = file::read(path, MOST_BYTES)?;
    let bad = |what: String| DataError::BadImage { path: path.to_owned(), row, what };
    // A panic over a damaged file is an error of the file.
    let decoded = std::panic::catch_unwind(|| decode(&bytes, MOST_PIXELS));
    decoded.map_err(|_| bad("it is damaged".into()))?.map_err(|fault| match fault {
        Fault::Bad(what) => bad(what),
        Fault::Large { width, height } => {
            DataError::LargeImage { path: path.to_owned(), row, width, height, most: MOST_PIXELS }
        }
    })
}

/// Why bytes are no image that is read.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Bad(String),
    Large { width: usize, height: usize },
}

impl<T: ToString> From<T> for Fault {
    fn from(what: T) -> Fault {
        Fault::Bad(what.to_string())
    }
}

/// What is said of the size before a pixel is decoded.
fn fits(size: Option<(usize, usize)>, most: usize) -> Result<(usize, usize), Fault> {
    let (width, height) = size.ok_or("it says no size")?;
    match width.checked_mul(height) {
        Some(pixels) if pixels <= most => Ok((width, height)),
        _ => Err(Fault::Large { width, height }),
    }
}

fn decode(bytes: &[u8], most: usize) -> Result<Pixels, Fault> {
    let options = DecoderOptions::default().set_max_width(MOST_SIDE).set_max_height(MOST_SIDE).set_strict_mode(true);
    let none = || "it says no colours".to_string();
    let (size, space, bytes) = if bytes.starts_with(b"\x89PNG") {
        let options = options.png_set_strip_to_8bit(true).png_set_decode_animated(false).png_set_confirm_crc(true);
        let mut decoder = PngDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers()?;
        let size = fits(decoder.dimensions(), most)?;
        let DecodingResult::U8(found) = decoder.decode()? else {
            return Err("its channels have more than 8 bits".into());
        };
        (size, decoder.colorspace().ok_or_else(none)?, found)
    } else if bytes.starts_with(b"\xff\xd8") {
        let options = options.jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers()?;
        let size = fits(decoder.dimensions(), most)?;
        let found = decoder.decode()?;
        (size, decoder.output_colorspace().ok_or_else(none)?, found)
    } else {
        return Err("it is neither a PNG nor a JPEG file".into());
    };
    let (width, height) = size;
    let channels = match space {
        ColorSpace::Luma => 1,
        ColorSpace::LumaA => 2,
        ColorSpace::RGB => 3,
        ColorSpace::RGBA => 4,
        other => return Err(format!("its colours are {other:?}, which are not read").into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG of shades of grey that says that it has so many pixels, and holds none.
    fn empty_png(width: u32, height: u32) -> Vec<u8> {
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
        let chunk = |kind: &[u8; 4], content: &[u8]| {
            let named = [kind, content].concat();
            [&(content.len() as u32).to_be_bytes()[..], &named, &crc(&named).to_be_bytes()].concat()
        };
        [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            chunk(b"IHDR", &header),
            chunk(b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]),
            chunk(b"IEND", &[]),
        ]
        .concat()
    }

    fn crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
    }

    #[test]
    fn an_image_of_too_many_pixels_is_refused_before_they_are_decoded() {
        let large = decode(&empty_png(16_000, 15_000), MOST_PIXELS);
        assert_eq!(large.map(drop), Err(Fault::Large { width: 16_000, height: 15_000 }));
        let few = decode(&empty_png(4, 4), MOST_PIXELS);
        assert!(matches!(few, Err(Fault::Bad(_))), "it has no pixels");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/truth/images");
        for (name, size) in [("rgb.png", (37, 29)), ("tall.jpg", (24, 41)), ("progressive.jpg", (24, 41))] {
            let Ok(bytes) = std::fs::read(folder.join(name)) else { continue };
            let (width, height) = size;
            assert_eq!(decode(&bytes, width * height - 1).map(drop), Err(Fault::Large { width, height }), "{name}");
            assert!(decode(&bytes, width * height).is_ok(), "{name}");
        }
    }
}

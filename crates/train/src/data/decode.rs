//! Decodes image files to RGB.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use super::error::{DataError, Result};
use super::preprocess::Fit;
use super::resize::resize;

/// Largest width or height of an image file.
const MAX_SIDE: u32 = 1 << 15;
/// Memory limit of a decoder, in bytes.
const MAX_BYTES: u64 = 512 << 20;
/// Upper limit of pixel bytes per byte of file; deflate reaches 1032.
const MAX_RATIO: u64 = 1100;

/// A picture as it was decoded: RGB pixels (HWC), width and height.
pub type Decoded = (Vec<u8>, usize, usize);

/// Decodes a PNG or JPEG file (by its contents, not its name) to RGB, at its own size.
///
/// # Errors
/// As [`decode_file`].
pub fn decode_original(path: &Path) -> Result<Decoded> {
    let file = File::open(path).map_err(DataError::io("read", path))?;
    let bytes = file.metadata().map_err(DataError::io("read", path))?.len();
    decode(BufReader::new(file), bytes).map_err(|reason| DataError::Decode { path: path.into(), reason })
}

/// Decodes a PNG or JPEG file (by its contents, not its name) to RGB, resized as `fit` says into `out`.
///
/// # Errors
/// [`DataError::Decode`] with the path. An image whose declared size is out of proportion to the file is refused before
/// anything is allocated for it.
pub fn decode_file(path: &Path, fit: impl Into<Fit>, out: &mut [u8]) -> Result<()> {
    let file = File::open(path).map_err(DataError::io("read", path))?;
    let bytes = file.metadata().map_err(DataError::io("read", path))?.len();
    let fail = |reason: String| DataError::Decode { path: path.into(), reason };
    let (pixels, width, height) = decode(BufReader::new(file), bytes).map_err(fail)?;
    resize(&pixels, width, height, fit, out).map_err(fail)
}

/// Decodes an image file of `bytes` bytes to RGB; returns pixels (HWC), width and height.
///
/// # Errors
/// The decoder's message, or that the image is too large.
pub fn decode(source: impl BufRead + Seek, bytes: u64) -> Result<(Vec<u8>, usize, usize), String> {
    use image::ImageDecoder;
    let mut reader = image::ImageReader::new(source).with_guessed_format().map_err(|error| error.to_string())?;
    match reader.format() {
        Some(image::ImageFormat::Png | image::ImageFormat::Jpeg) => {}
        Some(other) => return Err(format!("it is {other:?}, expected PNG or JPEG")),
        None if bytes == 0 => return Err("the file is empty".into()),
        None => return Err("it is neither PNG nor JPEG".into()),
    }
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    let (need, most) = (decoder.total_bytes(), (bytes.saturating_mul(MAX_RATIO)).saturating_add(1 << 16));
    if need > most || need > MAX_BYTES {
        return Err(format!("it declares {width}×{height} pixels, too many for a file of {bytes} bytes"));
    }
    let image = image::DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    Ok((image.into_rgb8().into_raw(), width as usize, height as usize))
}

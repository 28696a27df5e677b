//! Decodes image files to RGB: PNG, JPEG, WebP, GIF, BMP, TIFF.
//!
//! Of an animation the first frame is decoded. Alpha is dropped, as Pillow's `convert("RGB")` drops it; 16 bits are
//! rounded to 8. Damaged files are errors, never pictures with a part in grey.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use serde::{Deserialize, Serialize};

use super::error::{DataError, Result};
use super::preprocess::Fit;
use super::resize::resize;
use crate::file_kind::{FileKind, Group, START};
use crate::regular_file;

mod container;
mod jpeg;
#[cfg(test)]
mod tests;

/// Extensions, in lower case, of the files that are taken for pictures in folders.
pub const EXTENSIONS: &[&str] =
    &["png", "apng", "jpg", "jpeg", "jpe", "jfif", "mpo", "webp", "gif", "bmp", "dib", "tif", "tiff"];

/// Largest width or height of an image file.
const MAX_SIDE: u32 = 1 << 15;
/// Limit of the decoded pixels, in bytes: 89 million of RGB, where Pillow warns of a bomb, and a second to decode. All that
/// decoding takes beyond the file is at most twice the pixels' bytes and 64 MiB.
const MAX_BYTES: u64 = 256 << 20;
/// A picture that takes at most this many bytes is decoded whatever its ratio to the file.
const ANY_RATIO: u64 = 56 << 20;
/// Largest file.
const MAX_FILE: u64 = 1 << 30;
/// Most that is read from a pipe.
const MAX_PIPE: u64 = 64 << 20;

/// What is done with the orientation in a picture's metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exif {
    /// Turn pictures upright, as viewers show them
    #[default]
    Apply,
    /// Take the pixels as they are stored
    Ignore,
}

/// A picture as it was decoded: RGB pixels (HWC), width and height.
pub type Decoded = (Vec<u8>, usize, usize);

/// Whether a file is taken for a picture, by its extension.
pub fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

/// Decodes an image file (by its contents, not its name) to RGB, resized as `fit` says into `out`.
///
/// # Errors
/// As [`decode_original`].
pub fn decode_file(path: &Path, exif: Exif, fit: impl Into<Fit>, out: &mut [u8]) -> Result<()> {
    let (pixels, width, height) = decode_original(path, exif)?;
    let fail = |reason: String| DataError::Decode { path: path.into(), reason };
    resize(&pixels, width, height, fit, out).map_err(fail)
}

/// Decodes an image file (by its contents, not its name) to RGB, at its own size. A pipe is read to its end.
///
/// # Errors
/// [`DataError::Decode`] with the path. An image whose declared size is out of proportion to the file is refused before
/// anything is allocated for it.
pub fn decode_original(path: &Path, exif: Exif) -> Result<Decoded> {
    let fail = |reason: String| DataError::Decode { path: path.into(), reason };
    // The shell's pipes, as in <(cat x.png). Others may have no writer, and devices no end.
    let piped = ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|folder| path.starts_with(folder));
    let mut file =
        if piped { File::open(path) } else { regular_file::open(path) }.map_err(DataError::io("read", path))?;
    let metadata = file.metadata().map_err(DataError::io("read", path))?;
    let (most, len) = if metadata.is_file() { (MAX_FILE, metadata.len()) } else { (MAX_PIPE, 0) };
    // Its first bytes tell that a file is no picture, before all of it is read.
    let mut bytes = Vec::new();
    (&mut file).take(START as u64).read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    format(&bytes).map_err(fail)?;
    if len > most {
        return Err(fail(format!("it has {} MiB, the limit is {} MiB", len >> 20, most >> 20)));
    }
    bytes.reserve_exact((len as usize).saturating_sub(bytes.len()));
    file.take(most - bytes.len() as u64 + 1).read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    if bytes.len() as u64 > most {
        return Err(fail(format!("it has more than {} MiB, the limit", most >> 20)));
    }
    decode(&bytes, exif).map_err(fail)
}

/// Decodes the contents of an image file to RGB.
///
/// # Errors
/// What kind of file it is, what is wrong with it, or which limit it exceeds, as text.
pub fn decode(bytes: &[u8], exif: Exif) -> Result<Decoded, String> {
    let format = format(&bytes[..bytes.len().min(START)])?;
    // The decoders are others' work, and one malformed file must not end a training run.
    let decoded = std::panic::catch_unwind(|| decode_as(format, bytes, exif));
    decoded.unwrap_or_else(|_| Err("the file is damaged: its decoder failed".into()))
}

/// Width and height that a picture states, if its start can be read.
pub fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let format = format(&bytes[..bytes.len().min(START)]).ok()?;
    std::panic::catch_unwind(|| {
        headers(format, bytes).ok()?;
        Some(ImageReader::with_format(Cursor::new(bytes), format).into_decoder().ok()?.dimensions())
    })
    .ok()?
}

/// Checks what precedes the pixels.
fn headers(format: ImageFormat, bytes: &[u8]) -> Result<(), String> {
    match format {
        ImageFormat::Png => drop(container::png(bytes)?),
        ImageFormat::Gif => container::gif(bytes)?,
        ImageFormat::WebP => container::webp(bytes)?,
        ImageFormat::Tiff => container::tiff(bytes)?,
        ImageFormat::Jpeg => jpeg::headers(bytes)?,
        _ => {}
    }
    Ok(())
}

fn decode_as(format: ImageFormat, bytes: &[u8], exif: Exif) -> Result<Decoded, String> {
    headers(format, bytes)?;
    if format == ImageFormat::Tiff
        && let Some((grey, colours)) = container::tiff_palette(bytes)
    {
        let (mut pixels, width, height) = pixels(format, &grey, exif)?;
        pixels.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = colours[usize::from(pixel[0])]);
        return Ok((pixels, width, height));
    }
    pixels(format, bytes, exif)
}

fn pixels(format: ImageFormat, bytes: &[u8], exif: Exif) -> Result<Decoded, String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(message)?;
    within_limits(&decoder, format, bytes)?;
    if format == ImageFormat::Jpeg {
        jpeg::check(bytes)?;
    }
    let orientation = match exif {
        Exif::Apply => orientation(&mut decoder, format, bytes),
        Exif::Ignore => image::metadata::Orientation::NoTransforms,
    };
    let image = DynamicImage::from_decoder(decoder).map_err(message)?;
    let mut image = DynamicImage::ImageRgb8(rgb(image));
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    Ok((image.into_rgb8().into_raw(), width, height))
}

/// RGB of 8 bits. Grey is repeated here: for that the library takes 15 ns per pixel, more than for decoding.
fn rgb(image: DynamicImage) -> RgbImage {
    // 16 bits are rounded, as the library does.
    let narrow = |value: u16| ((u32::from(value) + 128) / 257) as u8;
    let (width, height) = (image.width(), image.height());
    let grey: Vec<u8> = match image {
        DynamicImage::ImageLuma8(grey) => grey.into_raw(),
        DynamicImage::ImageLumaA8(grey) => grey.pixels().map(|pixel| pixel.0[0]).collect(),
        DynamicImage::ImageLuma16(grey) => grey.pixels().map(|pixel| narrow(pixel.0[0])).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().map(|pixel| narrow(pixel.0[0])).collect(),
        other => return other.into_rgb8(),
    };
    let mut pixels = vec![0; 3 * grey.len()];
    pixels.as_chunks_mut::<3>().0.iter_mut().zip(grey).for_each(|(pixel, value)| *pixel = [value; 3]);
    RgbImage::from_raw(width, height, pixels).unwrap_or_else(|| unreachable!("three bytes per pixel"))
}

/// The format of a picture by its first bytes.
fn format(start: &[u8]) -> Result<ImageFormat, String> {
    let kind = FileKind::of(start);
    Ok(match kind {
        FileKind::Png => ImageFormat::Png,
        FileKind::Jpeg => ImageFormat::Jpeg,
        FileKind::WebP => ImageFormat::WebP,
        FileKind::Gif => ImageFormat::Gif,
        FileKind::Bmp => ImageFormat::Bmp,
        FileKind::Tiff => ImageFormat::Tiff,
        kind => return Err(refusal(kind)),
    })
}

/// What a file is that is no picture, or one in a format that is not read, and what to do.
fn refusal(kind: FileKind) -> String {
    let advice = match kind {
        FileKind::Empty => return "the file is empty".into(),
        FileKind::Unknown => return "it is neither PNG nor JPEG, WebP, GIF, BMP or TIFF".into(),
        FileKind::Heic => {
            "set the iPhone's camera to Most Compatible, or convert it: `heif-convert IN.heic OUT.jpg` or \
             `magick IN.heic OUT.jpg`"
        }
        FileKind::Avif => "convert it: `avifdec IN.avif OUT.png` or `magick IN.avif OUT.png`",
        FileKind::Svg | FileKind::Pdf | FileKind::PostScript => "draw it as a PNG: `magick -density 150 IN OUT.png`",
        FileKind::Raw => "export it as a JPEG: `dcraw -c -w IN | magick - OUT.jpg`, or with the camera's program",
        FileKind::Mp4 | FileKind::Matroska | FileKind::Avi => "extract frames: `ffmpeg -i IN -r 1 frame-%05d.png`",
        FileKind::Html => "a download has probably saved an error page: download the picture itself",
        FileKind::GitLfs => "fetch the files with `git lfs pull`",
        FileKind::Zeros => "a download or copy has probably failed: copy it again",
        kind => match kind.group() {
            Group::Picture => "convert it to PNG or JPEG: `magick IN OUT.png`",
            Group::Archive => "unpack it first",
            Group::Weights => "the run or checkpoint comes first, then the pictures",
            _ => "",
        },
    };
    let before = if advice.is_empty() { "" } else { ": " };
    format!("it is {kind}, expected PNG, JPEG, WebP, GIF, BMP or TIFF{before}{advice}")
}

/// Checks the declared size before memory is taken for it.
fn within_limits(decoder: &impl ImageDecoder, format: ImageFormat, bytes: &[u8]) -> Result<(), String> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(format!("it has no pixels: {width}×{height}"));
    }
    for (what, side) in [("width", width), ("height", height)] {
        if side > MAX_SIDE {
            return Err(format!("its {what} is {side} pixels, the limit is {MAX_SIDE}"));
        }
    }
    let rgb = 3 * pixels;
    let need = decoder.total_bytes().max(rgb);
    if need > MAX_BYTES {
        return Err(format!(
            "its {width}×{height} pixels take {} MiB of memory, the limit is {} MiB: make it smaller",
            need >> 20,
            MAX_BYTES >> 20
        ));
    }
    // Pixels as stored, per byte of file at the most: deflate packs 1032 bytes in one, LZW 2700, fax a row of one colour
    // in a bit. A JPEG's block of 64 takes a bit per component, WebP's pixels next to nothing.
    let (stored, ratio) = match format {
        ImageFormat::Png => (container::png_bits(bytes) * pixels / 8, 1100),
        ImageFormat::Jpeg => (decoder.total_bytes(), 1600),
        ImageFormat::Gif => (pixels, 2800),
        ImageFormat::Tiff if decoder.original_color_type() == image::ExtendedColorType::L1 => (pixels / 8, 1 << 13),
        ImageFormat::Tiff => (decoder.total_bytes(), 2800),
        ImageFormat::WebP => (pixels, 1 << 14),
        // Runs of 255 pixels in two bytes, 24 times as large with one bit per pixel.
        _ => (rgb, 400),
    };
    // The decoder's own buffers: coefficients of a progressive JPEG, a frame of a WebP before it is placed.
    let own = match format {
        ImageFormat::Jpeg => 2 * decoder.total_bytes(),
        ImageFormat::WebP => 4 * pixels,
        ImageFormat::Tiff | ImageFormat::Gif => decoder.total_bytes(),
        _ => 0,
    };
    let converted = if decoder.color_type() == image::ColorType::Rgb8 { 0 } else { rgb };
    let most = (bytes.len() as u64).saturating_mul(ratio);
    if stored > most && decoder.total_bytes() + converted + own > ANY_RATIO {
        return Err(format!(
            "it declares {width}×{height} pixels, too many for a file of {} bytes: its format stores at most {} in them",
            bytes.len(),
            (most as u128 * u128::from(pixels) / u128::from(stored.max(1)))
        ));
    }
    Ok(())
}

/// The orientation in the metadata; metadata that cannot be read are ignored, as by viewers.
fn orientation(decoder: &mut impl ImageDecoder, format: ImageFormat, bytes: &[u8]) -> image::metadata::Orientation {
    use image::metadata::Orientation;
    let found = match format {
        ImageFormat::Tiff => decoder.orientation().ok(),
        _ => {
            let exif = match format {
                ImageFormat::Png => container::png(bytes).ok().flatten().map(<[u8]>::to_vec),
                _ => decoder.exif_metadata().ok().flatten(),
            };
            // Some programs write the prefix that JPEG has into WebP and PNG, too.
            exif.and_then(|exif| Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif)))
        }
    };
    found.unwrap_or(Orientation::NoTransforms)
}

/// What of a file is missing at its end.
fn cut(part: &str) -> String {
    format!("the file is cut short: {part}")
}

/// A decoder's error for readers.
fn message(error: image::ImageError) -> String {
    match &error {
        image::ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return "the file is cut short".into();
        }
        image::ImageError::Limits(_) => {
            return format!("decoding it takes more memory than the limit of {} MiB", MAX_BYTES >> 20);
        }
        _ => {}
    }
    let text = error.to_string();
    let lower = text.to_lowercase();
    if lower.contains("crc") || lower.contains("checksum") {
        "the file is damaged: a checksum is wrong".into()
    } else if lower.contains("unexpected end") || lower.contains("eof") {
        "the file is cut short".into()
    } else {
        text
    }
}

//! Decodes image files and resizes images to the network's input size.
//!
//! The filter is bilinear and antialiased (its support grows when an image shrinks, as in PIL and torchvision). The
//! shorter side is fitted and the centre cropped, so that the aspect ratio stays.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::error::{DataError, Result};

/// Largest width or height of an image file.
const MAX_SIDE: u32 = 1 << 15;
/// Memory limit of a decoder, in bytes.
const MAX_BYTES: u64 = 512 << 20;
/// Upper limit of pixel bytes per byte of file; deflate reaches 1032.
const MAX_RATIO: u64 = 1100;

thread_local! {
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Resizes an RGB image (HWC) to `image_size`×`image_size` into `out`: shorter side fitted, centre cropped.
///
/// # Errors
/// Width and height do not match the length of `pixels`, or `image_size` that of `out`.
pub fn resize(pixels: &[u8], width: usize, height: usize, image_size: usize, out: &mut [u8]) -> Result<(), String> {
    if width == image_size && height == image_size && pixels.len() == out.len() {
        out.copy_from_slice(pixels);
        return Ok(());
    }
    let source = TypedImageRef::<U8x3>::from_buffer(width as u32, height as u32, pixels);
    let source = source.map_err(|error| error.to_string())?;
    let target = TypedImage::<U8x3>::from_buffer(image_size as u32, image_size as u32, out);
    let mut target = target.map_err(|error| error.to_string())?;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .use_alpha(false)
        .fit_into_destination(None);
    // The typed call: the generic one compiles the code for every pixel type.
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize_typed(&source, &mut target, &options))
        .map_err(|error| error.to_string())
}

/// Decodes a PNG or JPEG file (by its contents, not its name) to RGB, resized to `image_size`×`image_size` into `out`.
///
/// # Errors
/// [`DataError::Decode`] with the path. An image whose declared size is out of proportion to the file is refused before
/// anything is allocated for it.
pub fn decode_file(path: &Path, image_size: usize, out: &mut [u8]) -> Result<()> {
    let file = File::open(path).map_err(DataError::io("read", path))?;
    let bytes = file.metadata().map_err(DataError::io("read", path))?.len();
    let fail = |reason: String| DataError::Decode { path: path.into(), reason };
    let (pixels, width, height) = decode(BufReader::new(file), bytes).map_err(fail)?;
    resize(&pixels, width, height, image_size, out).map_err(fail)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize) -> Vec<u8> {
        (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [(x * 255 / width) as u8, (y * 255 / height) as u8, 77]))
            .collect()
    }

    #[test]
    fn the_middle_is_kept_in_proportion() {
        // 64 wide, 32 high: columns 16..48 stay.
        let image: Vec<u8> = (0..32)
            .flat_map(|_| (0..64).flat_map(|x| [if (16..48).contains(&x) { 200 } else { 0 }, x as u8, 9]))
            .collect();
        let mut out = vec![0; 32 * 32 * 3];
        resize(&image, 64, 32, 32, &mut out).unwrap();
        assert!(out.chunks_exact(3).all(|pixel| pixel[0] == 200 && pixel[2] == 9));
        assert_eq!((out[1], out[31 * 3 + 1]), (16, 47));
    }

    #[test]
    fn a_constant_stays_constant_and_a_gradient_monotone() {
        let mut out = vec![0; 96 * 96 * 3];
        resize(&[50; 32 * 32 * 3], 32, 32, 96, &mut out).unwrap();
        assert!(out.iter().all(|&value| value == 50));
        let mut out = vec![0; 16 * 16 * 3];
        resize(&gradient(101, 77), 101, 77, 16, &mut out).unwrap();
        let reds: Vec<u8> = out.chunks_exact(3).take(16).map(|pixel| pixel[0]).collect();
        assert!(reds.is_sorted() && reds[15] > reds[0] + 100, "{reds:?}");
        assert!(out.chunks_exact(3).all(|pixel| pixel[2] == 77));
    }

    #[test]
    fn wrong_lengths_are_errors() {
        assert!(resize(&[0; 10], 4, 4, 2, &mut [0; 12]).is_err());
        assert!(resize(&[0; 48], 4, 4, 2, &mut [0; 11]).is_err());
    }
}

//! Resizes images to the network's input size.
//!
//! The filter is bilinear and antialiased (its support grows when an image shrinks, as in PIL and torchvision). The
//! shorter side is fitted and the centre cropped, so that the aspect ratio stays. See [`Fit`] for the lengths.

use std::cell::RefCell;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::preprocess::Fit;
use super::resample;

thread_local! {
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Resizes an RGB image (HWC) to `fit.crop`×`fit.crop` into `out`: shorter side resized, centre cropped.
///
/// If the shorter side is to be the crop's, the source is cropped to a square and resized at once. Otherwise the result is
/// that of torchvision's `Resize(fit.short)` and `CenterCrop(fit.crop)` on a PIL image, with its rounding of lengths.
///
/// # Errors
/// Width and height do not match the length of `pixels`, or `fit.crop` that of `out`.
pub fn resize(pixels: &[u8], width: usize, height: usize, fit: impl Into<Fit>, out: &mut [u8]) -> Result<(), String> {
    let Fit { short, crop: image_size } = fit.into();
    if short != image_size {
        return resize_and_crop(pixels, [width, height], short, image_size, out);
    }
    if width == image_size && height == image_size && pixels.len() == out.len() {
        out.copy_from_slice(pixels);
        return Ok(());
    }
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .use_alpha(false)
        .fit_into_destination(None);
    convolve(pixels, [width, height], image_size, out, &options)
}

fn convolve(
    pixels: &[u8],
    [width, height]: [usize; 2],
    image_size: usize,
    out: &mut [u8],
    options: &ResizeOptions,
) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("an image of {width}x{height} pixels is empty"));
    }
    let source = TypedImageRef::<U8x3>::from_buffer(width as u32, height as u32, pixels);
    let source = source.map_err(|error| error.to_string())?;
    let target = TypedImage::<U8x3>::from_buffer(image_size as u32, image_size as u32, out);
    let mut target = target.map_err(|error| error.to_string())?;
    // The typed call: the generic one compiles the code for every pixel type.
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize_typed(&source, &mut target, options))
        .map_err(|error| error.to_string())
}

/// As torchvision's `Resize(short)` and `CenterCrop(crop)` of a PIL image.
fn resize_and_crop(pixels: &[u8], size: [usize; 2], short: usize, crop: usize, out: &mut [u8]) -> Result<(), String> {
    let shorter = size[0].min(size[1]);
    if shorter == 0
        || crop == 0
        || pixels.len() != size[0] * size[1] * 3
        || short < crop
        || out.len() != crop * crop * 3
    {
        return Err(format!("{} bytes do not hold an image of {}x{} pixels", pixels.len(), size[0], size[1]));
    }
    let resized = size.map(|side| short * side / shorter);
    // Python rounds half to even.
    let start = resized.map(|side| ((side - crop) as f64 / 2.0).round_ties_even() as usize);
    resample::bilinear(pixels, size, resized, start, crop, out);
    Ok(())
}

/// Resizes an RGB image (HWC) to `image_size`×`image_size` into `out`, whatever its aspect ratio.
///
/// # Errors
/// As [`resize`].
pub fn stretch(pixels: &[u8], width: usize, height: usize, image_size: usize, out: &mut [u8]) -> Result<(), String> {
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    convolve(pixels, [width, height], image_size, out, &options)
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
        assert!(resize(&[], 4, 0, 2, &mut [0; 12]).is_err());
    }
}

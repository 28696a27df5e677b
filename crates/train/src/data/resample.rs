//! Bilinear resampling with the bits of Pillow's `Image.resize`, which torchvision's `Resize` calls for a PIL image.
//!
//! Pillow sums bytes with weights of 22 fractional bits, first along rows, then along columns, and rounds to bytes after
//! each (`Resample.c`). fast_image_resize follows the SIMD version, whose weights have 16 bits: some bytes differ by one,
//! which is more than the rounding of a network's logits.

/// Fractional bits of a weight.
const PRECISION: u32 = 32 - 8 - 2;

/// The source pixels of one target pixel, along one axis.
struct Window {
    first: usize,
    /// Fixed-point weights, which sum to about one.
    weights: Vec<i32>,
}

/// The windows of target pixels `start..start + count` when `from` pixels become `to`: a triangle as wide as a target
/// pixel and its neighbours, or as a source pixel and its neighbours if that is more.
fn windows(from: usize, to: usize, start: usize, count: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let per_support = 1.0 / support;
    let window = |target: usize| {
        let centre = (target as f64 + 0.5) * scale;
        // Truncated towards zero, as Pillow's.
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight = |source: usize| (1.0 - ((source as f64 - centre + 0.5) * per_support).abs()).max(0.0);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: f64| (0.5 + weight / sum * f64::from(1 << PRECISION)) as i32;
        Window { first, weights: weights.into_iter().map(fixed).collect() }
    };
    (start..start + count).map(window).collect()
}

/// A sum of bytes by weights, rounded.
fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Half of a byte's step, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// Resizes an RGB image (HWC) of `from` (width, height) to `to`, and writes the square of `side` pixels of it whose left
/// and upper corner is `start` into `out`.
///
/// # Panics
/// If a length is zero, the square is not within the resized image, or `pixels` or `out` has another length.
pub fn bilinear(pixels: &[u8], from: [usize; 2], to: [usize; 2], start: [usize; 2], side: usize, out: &mut [u8]) {
    assert_eq!(pixels.len(), from[0] * from[1] * 3);
    assert_eq!(out.len(), side * side * 3);
    assert!(
        (0..2).all(|axis| from[axis] > 0 && side > 0 && start[axis] + side <= to[axis]),
        "{from:?} {to:?} {start:?}"
    );
    let [columns, rows] = [0, 1].map(|axis| windows(from[axis], to[axis], start[axis], side));
    let first = rows[0].first;
    let end = rows.iter().map(|window| window.first + window.weights.len()).max().unwrap_or(first);
    let mut narrow = vec![0; (end - first) * side * 3];
    let source = pixels[first * from[0] * 3..].chunks_exact(from[0] * 3);
    for (narrow, source) in narrow.chunks_exact_mut(side * 3).zip(source) {
        let source = source.as_chunks::<3>().0;
        for (pixel, window) in narrow.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
            let mut sums = [HALF; 3];
            for (&weight, source) in window.weights.iter().zip(&source[window.first..]) {
                for (sum, &byte) in sums.iter_mut().zip(source) {
                    *sum += weight * i32::from(byte);
                }
            }
            *pixel = sums.map(to_byte);
        }
    }
    let mut sums = vec![0; side * 3];
    for (out, window) in out.chunks_exact_mut(side * 3).zip(&rows) {
        sums.fill(HALF);
        let narrow = narrow[(window.first - first) * side * 3..].chunks_exact(side * 3);
        for (&weight, row) in window.weights.iter().zip(narrow) {
            sums.iter_mut().zip(row).for_each(|(sum, &byte)| *sum += weight * i32::from(byte));
        }
        out.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = to_byte(sum));
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use crate::data::Fit;
    use crate::data::resize::resize;
    use crate::hex::hex;

    fn picture([width, height]: [usize; 2]) -> Vec<u8> {
        let byte = |x: usize, y: usize, c: usize| ((x * x * 7 + y * y * 13 + x * y * 3 + c * 59) >> 3) as u8;
        (0..width * height * 3).map(|i| byte(i / 3 % width, i / 3 / width, i % 3)).collect()
    }

    /// SHA-256 of the bytes of `CenterCrop(crop)(Resize(short)(picture))` of torchvision 0.29 with Pillow 13.
    #[test]
    fn the_bytes_are_those_of_torchvision_on_pillow() {
        for (size, short, crop, expected) in [
            ([301, 200], 64, 56, "9c3fe3fe48fee91f"),
            ([40, 33], 256, 224, "0bd1e1300204deb0"),
            ([97, 1200], 109, 96, "2f787cb1f960c498"),
            ([256, 300], 256, 224, "28e86abf90bf6c46"),
            ([3, 300], 36, 32, "912d8c390e45f145"),
            ([500, 375], 256, 224, "2fc72e1203d1eb44"),
            ([1, 1], 36, 32, "fb5563b99b2b8a4e"),
            ([375, 500], 259, 227, "f5d712d5a9a8b87d"),
        ] {
            let mut out = vec![0; crop * crop * 3];
            resize(&picture(size), size[0], size[1], Fit { short, crop }, &mut out).unwrap();
            assert_eq!(hex(&Sha256::digest(&out))[..16], *expected, "{size:?} {short} {crop}");
        }
    }

    #[test]
    fn a_long_strip_is_not_enlarged_as_a_whole() {
        let mut out = vec![7; 32 * 32 * 3];
        resize(&[200; 30_000 * 3], 30_000, 1, Fit { short: 512, crop: 32 }, &mut out).unwrap();
        assert!(out.iter().all(|&byte| byte == 200));
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        for (size, bytes, fit) in [
            ([4, 4], 47, Fit { short: 8, crop: 4 }),
            ([0, 4], 0, Fit { short: 8, crop: 4 }),
            ([4, 4], 48, Fit { short: 3, crop: 4 }),
            ([4, 4], 48, Fit { short: 8, crop: 5 }),
        ] {
            assert!(resize(&vec![0; bytes], size[0], size[1], fit, &mut [0; 48]).is_err(), "{size:?} {bytes} {fit:?}");
        }
    }
}

//! Fast version of the colour jitter that [`transform`](alexnet_core::reference::transform) defines, with the same bits.

/// Table of every byte times a brightness factor, in 0..1.
pub(super) fn brightness(factor: f32) -> [f32; 256] {
    std::array::from_fn(|value| unit(value as f32 / 255.0 * factor))
}

/// Applies contrast and saturation to an image of values in 0..1 (HWC).
pub(super) fn contrast_and_saturation([_, contrast, saturation]: [f32; 3], image: &mut [f32]) {
    let pixels = image.as_chunks_mut::<3>().0;
    let sum: u64 = pixels.iter().map(|pixel| u64::from((grey(pixel) * STEPS) as u32)).sum();
    let mean = sum as f32 / (pixels.len() as f32 * STEPS);
    for pixel in pixels {
        *pixel = pixel.map(|v| blend(v, mean, contrast));
        let grey = grey(pixel);
        *pixel = pixel.map(|v| blend(v, grey, saturation));
    }
}

const STEPS: f32 = (1 << 24) as f32;

fn grey(&[r, g, b]: &[f32; 3]) -> f32 {
    0.2989 * r + 0.587 * g + 0.114 * b
}

fn blend(a: f32, b: f32, factor: f32) -> f32 {
    unit(factor * a + (1.0 - factor) * b)
}

fn unit(value: f32) -> f32 {
    value.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alexnet_core::reference::{SampledTransform, jitter_factors, transform};
    use proptest::prelude::*;

    /// Mean 0 and deviation 1, so that normalisation changes nothing.
    const PLAIN: [[f32; 3]; 2] = [[0.0; 3], [1.0; 3]];

    /// The definition, in f64.
    fn defined(pixels: &[u8], side: usize, factors: [f32; 3]) -> Vec<f64> {
        let mut out = vec![0.0; pixels.len()];
        let sampled = SampledTransform { jitter: Some(factors), ..SampledTransform::default() };
        transform(pixels, side, &sampled, PLAIN, &mut out);
        out
    }

    fn jittered(pixels: &[u8], factors: [f32; 3]) -> Vec<f32> {
        let table = brightness(factors[0]);
        let mut out: Vec<f32> = pixels.iter().map(|&v| table[usize::from(v)]).collect();
        contrast_and_saturation(factors, &mut out);
        out
    }

    proptest! {
        #[test]
        fn as_defined(
            (side, pixels) in (1usize..15).prop_flat_map(|side| {
                (Just(side), proptest::collection::vec(any::<u8>(), side * side * 3))
            }),
            words: [u32; 4], strength in 0.0f32..1.0,
        ) {
            let factors = jitter_factors(words, strength);
            prop_assert!(factors.iter().all(|f| (1.0 - strength..=1.0 + strength).contains(f)), "{:?}", factors);
            // In units of u = 2⁻²⁴; every value is at most 1, a factor at most 2 and |1 − f| at most 1, clamping never
            // widens. Brightness: v/255 off by 1, times f by 2, rounded by 1: 2·1 + 1·2 = 4 before clamping to 1.
            // A grey is off by its values' error and, with weights, products and sums rounded, 5 more. The mean: that
            // and 2 for truncation (a step is 2u), and 2 for rounding sum and quotient.
            // A blend of a (off by e) and b (off by g): 2·e + 1·g + (2 + 1 for products, 1 for 1 − f, 2 for the sum).
            let (brightness, blend) = (4.0, |e: f64, g: f64| 2.0 * e + g + 8.0);
            let contrast = blend(brightness, brightness + 5.0 + 4.0);
            let bound = blend(contrast, contrast + 5.0) / f64::from(1 << 24);
            for (found, expected) in jittered(&pixels, factors).into_iter().zip(defined(&pixels, side, factors)) {
                prop_assert!((f64::from(found) - expected).abs() <= bound, "{} for {}", found, expected);
            }
        }
    }

    #[test]
    fn as_torchvision() {
        // torchvision.transforms.v2.functional adjust_brightness, adjust_contrast, adjust_saturation, one after the
        // other, with the factors 1.25, 0.5, 1.5 on the float32 pixels (255, 128, 0), (10, 20, 30), (200, 200, 200).
        let expected = [0.872623, 0.593212, 0.122623, 0.303950, 0.340715, 0.377479, 0.779647, 0.779647, 0.779647];
        let found = jittered(&[255, 128, 0, 10, 20, 30, 200, 200, 200], [1.25, 0.5, 1.5]);
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
    }
}

//! What is done to a batch of images: augmentation and mixing.

use super::rand_augment;
use crate::arguments::{Augment, MixPairs, Slices};
use crate::device::Element;
use crate::random::{below, purpose, uniform_f32};
use crate::shape::{AugmentShape, Draw, Mix, jitter_range};

/// What one image undergoes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SampledTransform {
    /// How far to the right of a pixel, before the flip, its source lies.
    pub right: i32,
    /// How far below a pixel its source lies.
    pub down: i32,
    /// Whether the image is mirrored.
    pub flip: bool,
    /// The factors of brightness, contrast and saturation.
    pub jitter: Option<[f32; 3]>,
    /// The square that is taken out: first column, first row, side.
    pub cutout: Option<[i32; 3]>,
}

/// What the image of a [`Draw`] undergoes, of which `element` is [`Draw::element`]: a pure function of (seed, epoch, element).
///
/// The image takes one block of Philox words per [`purpose`], whichever transformations are on, so that switching one
/// off leaves the others as they are. `below(w, n) = (w · n) >> 32` in 64 bits.
/// - `AUGMENT`: the shift is `below(w[0], 2p + 1) − p` to the right and `below(w[1], 2p + 1) − p` down, where p is the
///   padding; flip if the top bit of `w[2]` is set. `w[3]` is not used.
/// - `JITTER`: [`jitter_factors`].
/// - `CUTOUT`: the square's centre is at x = `below(w[0], S)`, y = `below(w[1], S)`.
pub fn sample(s: &AugmentShape, element: u64) -> SampledTransform {
    let word = s.philox.block(purpose::AUGMENT, s.epoch, element);
    let shift = |word| below(word, 2 * s.padding as u32 + 1) as i32 - s.padding as i32;
    let colour = || jitter_factors(s.philox.block(purpose::JITTER, s.epoch, element), s.jitter);
    let square = || {
        let word = s.philox.block(purpose::CUTOUT, s.epoch, element);
        let first = |word| below(word, s.side as u32) as i32 - (s.cutout / 2) as i32;
        [first(word[0]), first(word[1]), s.cutout as i32]
    };
    SampledTransform {
        right: shift(word[0]),
        down: shift(word[1]),
        flip: s.flip && word[2] >> 31 == 1,
        jitter: (s.jitter > 0.0).then(colour),
        cutout: (s.cutout > 0).then(square),
    }
}

/// The factors of brightness, contrast and saturation: uniform in `[max(0, 1 − strength), 1 + strength)`.
pub fn jitter_factors(words: [u32; 4], strength: f32) -> [f32; 3] {
    let [low, span] = jitter_range(strength);
    std::array::from_fn(|i| low + uniform_f32(words[i]) * span)
}

/// Crops, flips, jitters, normalises and cuts out of one image of bytes (S, S, 3), with every operation rounded to `T`.
///
/// For 0 ≤ y, x < S with x' = S − 1 − x if flipped and x otherwise, v is the byte at (y + down, x' + right, c), or 0
/// outside the image: the padding is black, as in torchvision. `v / 255` is jittered, and the result is
/// `(v / 255 − mean[c]) / std[c]`; in f32 these are the bits of torchvision's `ToTensor` and `Normalize`. At last the
/// square, clipped at the border, becomes 0, the mean (DeVries and Taylor, 2017).
///
/// The jitter is `torchvision.transforms.ColorJitter(s, s, s)` in a fixed order, without hue. With
/// `blend(a, b, f) = min(max(f·a + (1 − f)·b, 0), 1)` and `grey = 0.2989 r + 0.587 g + 0.114 b`, brightness is
/// `blend(v, 0, f)`, contrast `blend(v, mean of the image's grey, f)` and saturation `blend(v, the pixel's grey, f)`. The
/// mean is a sum of whole 2⁻²⁴ths, cut off, so that it has the same bits in any order.
pub fn transform<T: Element>(
    pixels: &[u8],
    side: usize,
    sampled: &SampledTransform,
    [mean, std]: [[f32; 3]; 2],
    out: &mut [T],
) {
    let (number, s) = (|x: f32| T::from_f64(x.into()), side as i64);
    let mut image: Vec<[T; 3]> = Vec::with_capacity(side * side);
    for (y, x) in (0..s).flat_map(|y| (0..s).map(move |x| (y, x))) {
        let mirrored = if sampled.flip { s - 1 - x } else { x };
        let (y, x) = (y + i64::from(sampled.down), mirrored + i64::from(sampled.right));
        let inside = (0..s).contains(&y) && (0..s).contains(&x);
        let value = |c| if inside { f32::from(pixels[((y * s + x) * 3) as usize + c]) } else { 0.0 };
        image.push([0, 1, 2].map(|c| number(value(c)) / number(255.0)));
    }
    if let Some([brightness, contrast, saturation]) = sampled.jitter {
        let steps = T::from_f64(16_777_216.0);
        let blend = |a: T, b: T, f: f32| {
            let mixed = number(f) * a + (T::one() - number(f)) * b;
            mixed.max(T::zero()).min(T::one())
        };
        let [red, green, blue] = [0.2989, 0.587, 0.114].map(T::from_f64);
        let grey = |[r, g, b]: &[T; 3]| red * *r + green * *g + blue * *b;
        image.iter_mut().for_each(|p| *p = p.map(|v| blend(v, T::zero(), brightness)));
        let sum: u64 = image.iter().map(|p| (grey(p) * steps).to_f64() as u64).sum();
        let mean = T::from_f64(sum as f64) / (T::from_f64(image.len() as f64) * steps);
        image.iter_mut().for_each(|p| *p = p.map(|v| blend(v, mean, contrast)));
        image.iter_mut().for_each(|p| *p = p.map(|v| blend(v, grey(p), saturation)));
    }
    for (i, (pixel, out)) in image.iter().zip(out.as_chunks_mut::<3>().0).enumerate() {
        let (y, x) = ((i / side) as i32, (i % side) as i32);
        let cut = sampled
            .cutout
            .is_some_and(|[left, top, length]| (left..left + length).contains(&x) && (top..top + length).contains(&y));
        *out = std::array::from_fn(|c| match cut {
            true => T::zero(),
            false => (pixel[c] - number(mean[c])) / number(std[c]),
        });
    }
}

/// A batch (N, S, S, 3) of images in bytes (·, S, S, 3): image n is that of draw n out of the data set, or else the n-th, as
/// [`sample`] draws and [`transform`] changes it, with [`rand_augment`] after crop and flip.
pub fn augment<T: Element>(a: Augment<'_, Slices<T>>) {
    let Augment { shape: s, images, draws, out } = a;
    let len = s.side * s.side * 3;
    for (n, (&[index, repeat], out)) in draws.as_chunks::<2>().0.iter().zip(out.chunks_exact_mut(len)).enumerate() {
        let place = if s.dataset.is_some() { index as usize } else { n };
        let (pixels, element) = (&images[place * len..][..len], Draw { index, repeat }.element());
        let sampled = sample(s, element);
        if s.operations == 0 {
            transform(pixels, s.side, &sampled, [s.mean, s.std], out);
            continue;
        }
        let side = s.side as i64;
        let byte = |i: usize| {
            let (y, x) = ((i / 3 / s.side) as i64, (i / 3 % s.side) as i64);
            let (y, x) =
                (y + i64::from(sampled.down), if sampled.flip { side - 1 - x } else { x } + i64::from(sampled.right));
            let inside = (0..side).contains(&y) && (0..side).contains(&x);
            if inside { pixels[((y * side + x) * 3) as usize + i % 3] } else { 0 }
        };
        let mut image: Vec<u8> = (0..len).map(byte).collect();
        rand_augment(s, element, &mut image, &mut Vec::new());
        let left = SampledTransform { right: 0, down: 0, flip: false, ..sampled };
        transform(&image, s.side, &left, [s.mean, s.std], out);
    }
}

/// See [`Mix`].
pub fn mix<T: Element>(a: MixPairs<'_, Slices<T>>) {
    let MixPairs { shape: s, x } = a;
    for n in 0..s.batch / 2 {
        let (first, second) = x.split_at_mut((s.batch - 1 - n) * s.image());
        let first = &mut first[n * s.image()..];
        for (i, (a, b)) in first.iter_mut().zip(&mut second[..s.image()]).enumerate() {
            let (column, row) = (i / s.channels % s.side, i / s.channels / s.side);
            match s.mix {
                Mix::Blend { weight } => {
                    let [own, other] = [weight, 1.0 - weight].map(|w| T::from_f64(w.into()));
                    (*a, *b) = (own * *a + other * *b, own * *b + other * *a);
                }
                Mix::Paste { left, top, right, bottom } => {
                    if (left..right).contains(&column) && (top..bottom).contains(&row) {
                        std::mem::swap(a, b);
                    }
                }
            }
        }
    }
}

//! A random box of a picture, resized: `torchvision.transforms.RandomResizedCrop`.

use crate::device::Element;
use crate::random::{Philox, below, purpose};

/// A box of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropBox {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Attempts before the fallback.
const ATTEMPTS: u64 = 10;
/// Least and largest ratio of a box's width to its height.
const RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

/// The box of image number `index`, of `width`×`height` pixels: a pure function of (seed, epoch, index), as
/// `torchvision.transforms.RandomResizedCrop.get_params` samples it.
///
/// Attempt a of 10 uses `w = philox.block(RESIZED_CROP, epoch, index + a·2³²)`, with u(w) = w / 2³²: the area is
/// width·height·(`scale`\[0\] + u(w\[0\])·(`scale`\[1\] − `scale`\[0\])), the ratio r = exp(ln ¾ + u(w\[1\])·(ln 4/3 − ln ¾)),
/// the box √(area·r) wide and √(area/r) high, rounded half to even. If it has pixels and fits, its left is
/// `below(w[2], width − w + 1)` and its top `below(w[3], height − h + 1)`. If no attempt fits, it is the largest box in
/// the centre whose ratio is within ¾ and 4/3.
pub fn sample_box(philox: &Philox, epoch: u32, index: u64, [width, height]: [usize; 2], scale: [f64; 2]) -> CropBox {
    let uniform = |word: u32| f64::from(word) / 4_294_967_296.0;
    let between = |[least, most]: [f64; 2], word: u32| least + uniform(word) * (most - least);
    for attempt in 0..ATTEMPTS {
        let word = philox.block(purpose::RESIZED_CROP, epoch, index + (attempt << 32));
        let area = (width * height) as f64 * between(scale, word[0]);
        let ratio = between(RATIO.map(f64::ln), word[1]).exp();
        let [w, h] = [(area * ratio).sqrt(), (area / ratio).sqrt()].map(|side| side.round_ties_even() as usize);
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let [left, top] =
                [(word[2], width - w), (word[3], height - h)].map(|(word, room)| below(word, room as u32 + 1) as usize);
            return CropBox { left, top, width: w, height: h };
        }
    }
    let rounded = |side: f64| (side.round_ties_even() as usize).max(1);
    let ratio = width as f64 / height as f64;
    let (w, h) = if ratio < RATIO[0] {
        (width, rounded(width as f64 / RATIO[0]))
    } else if ratio > RATIO[1] {
        (rounded(height as f64 * RATIO[1]), height)
    } else {
        (width, height)
    };
    CropBox { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

/// Resizes the box of a picture (H, W, 3) of bytes, of `width` columns, to (`size`, `size`, 3) by an antialiased bilinear
/// filter that reads no pixel outside the box, as `torchvision.transforms.functional.resized_crop` does; not rounded to
/// bytes.
///
/// Along each axis, with n pixels of the box, s = n / `size` and f = max(s, 1), output o is the mean of the pixels i weighted
/// by max(0, 1 − |i + ½ − (o + ½)·s| / f).
pub fn resize_box<T: Element>(pixels: &[u8], width: usize, from: &CropBox, size: usize, out: &mut [T]) {
    let [columns, rows] = [from.width, from.height].map(|n| (0..size).map(move |o| weights(n, size, o)));
    let (columns, rows): (Vec<_>, Vec<_>) = (columns.collect(), rows.collect());
    for (row, line) in rows.iter().zip(out.chunks_exact_mut(size * 3)) {
        for (column, pixel) in columns.iter().zip(line.as_chunks_mut::<3>().0) {
            *pixel = std::array::from_fn(|c| {
                let mut sum = 0.0;
                for (y, wy) in row {
                    for (x, wx) in column {
                        sum += wy * wx * f64::from(pixels[((from.top + y) * width + from.left + x) * 3 + c]);
                    }
                }
                T::from_f64(sum)
            });
        }
    }
}

/// The pixels that output `o` is a mean of, with their weights.
fn weights(n: usize, size: usize, o: usize) -> Vec<(usize, f64)> {
    let scale = n as f64 / size as f64;
    let centre = (o as f64 + 0.5) * scale;
    let weight = |i: usize| 1.0 - (i as f64 + 0.5 - centre).abs() / scale.max(1.0);
    let pixels: Vec<_> = (0..n).map(|i| (i, weight(i))).filter(|&(_, weight)| weight > 0.0).collect();
    let sum: f64 = pixels.iter().map(|(_, weight)| weight).sum();
    pixels.into_iter().map(|(i, weight)| (i, weight / sum)).collect()
}

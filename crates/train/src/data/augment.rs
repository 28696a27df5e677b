//! Random crop, flip and normalisation of one image: a pure function of the image and of (seed, epoch, index), so
//! that a device can do the same bit for bit.
//!
//! **The draws.** Image `index` of the split in `epoch` takes the one block
//! `w = Philox::new(seed).block(AUGMENT, epoch, index)`:
//! - `dx = below(w[0], 2p + 1)` and `dy = below(w[1], 2p + 1)`, where `below(w, n) = (w · n) >> 32` in 64 bits and
//!   p is the padding, S / 8 for images of side S (4 at 32);
//! - flip if the top bit of `w[2]` is set. `w[3]` is not used.
//!
//! All words are drawn whichever transformations are on.
//!
//! **The result.** For 0 ≤ y, x < S with x' = S − 1 − x if flipped and x otherwise, output (y, x, c) is
//! `table[c][v]` where v is the input at (y + dy − p, x' + dx − p, c), or 0 outside it: as in torchvision the padding is
//! black before the normalisation. `table[c][v] = (v / 255 − mean[c]) / std[c]`, each operation rounded to f32, which
//! are the bits of torchvision's `ToTensor` and `Normalize`.

use alexnet_core::random::{Philox, below, purpose};

use super::error::{DataError, Result};

/// CIFAR-10's mean a channel, of values in 0..1.
pub const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
/// The standard deviation a channel of the recipe that everyone uses.
pub const STD: [f32; 3] = [0.2023, 0.1994, 0.2010];

/// Which random transformations are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Shift by up to an eighth of the side, black beyond the border.
    pub crop: bool,
    /// Mirror every second image or so.
    pub flip: bool,
}

impl Augment {
    /// No transformation, as for test images.
    pub const NONE: Augment = Augment { crop: false, flip: false };
    /// Crop and flip, the recipe.
    pub const ALL: Augment = Augment { crop: true, flip: true };
}

impl std::str::FromStr for Augment {
    type Err = DataError;

    /// `none`, or `crop` and `flip` with a comma between them.
    fn from_str(text: &str) -> Result<Self> {
        let mut augment = Augment::NONE;
        if text == "none" {
            return Ok(augment);
        }
        for word in text.split(',') {
            match word.trim() {
                "crop" => augment.crop = true,
                "flip" => augment.flip = true,
                _ => {
                    return Err(DataError::Setting {
                        what: "augmentation",
                        value: format!("`{text}`"),
                        expected: "none, crop, flip or crop,flip",
                    });
                }
            }
        }
        Ok(augment)
    }
}

impl std::fmt::Display for Augment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.crop, self.flip) {
            (true, true) => "crop,flip",
            (true, false) => "crop",
            (false, true) => "flip",
            (false, false) => "none",
        })
    }
}

/// What one image undergoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// How far the window lies to the right of the padded image's left side.
    pub dx: u32,
    /// How far the window lies below the padded image's top.
    pub dy: u32,
    /// Whether the window is mirrored.
    pub flip: bool,
}

/// The padding at every side of images of side `size`.
pub const fn padding(size: usize) -> usize {
    size / 8
}

/// Draws what image `index` undergoes in `epoch`; see the head of this file.
pub fn draw(philox: &Philox, epoch: u32, index: u64, size: usize, augment: Augment) -> Draw {
    let padding = padding(size) as u32;
    let word = philox.block(purpose::AUGMENT, epoch, index);
    let (dx, dy) = match augment.crop {
        true => (below(word[0], 2 * padding + 1), below(word[1], 2 * padding + 1)),
        false => (padding, padding),
    };
    Draw { dx, dy, flip: augment.flip && word[2] >> 31 == 1 }
}

/// The normalised value of each byte in each channel.
#[derive(Clone, Debug)]
pub struct Normalize {
    table: [[f32; 256]; 3],
}

impl Default for Normalize {
    fn default() -> Self {
        Normalize::new(MEAN, STD)
    }
}

impl Normalize {
    /// The table for a mean and a standard deviation a channel.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let channel = |c: usize| std::array::from_fn(|value| (value as f32 / 255.0 - mean[c]) / std[c]);
        Normalize { table: std::array::from_fn(channel) }
    }

    /// The table, by channel and byte.
    pub fn table(&self) -> &[[f32; 256]; 3] {
        &self.table
    }

    /// Crops, flips and normalises an image of side `size` (HWC) into `out` (HWC).
    ///
    /// # Panics
    /// If `pixels` or `out` are not `size`·`size`·3 long.
    pub fn apply(&self, pixels: &[u8], size: usize, draw: Draw, out: &mut [f32]) {
        assert_eq!(pixels.len(), size * size * 3);
        assert_eq!(out.len(), size * size * 3);
        let padding = padding(size) as isize;
        let [red, green, blue] = &self.table;
        let black = [red[0], green[0], blue[0]];
        let (shift_x, shift_y) = (draw.dx as isize - padding, draw.dy as isize - padding);
        // The columns before the flip whose source lies inside the image.
        let inside =
            (-shift_x).clamp(0, size as isize) as usize..(size as isize - shift_x).clamp(0, size as isize) as usize;
        for (y, row) in out.chunks_exact_mut(size * 3).enumerate() {
            let source = y as isize + shift_y;
            if !(0..size as isize).contains(&source) {
                row.as_chunks_mut::<3>().0.fill(black);
                continue;
            }
            let from = (source * size as isize + inside.start as isize + shift_x) as usize * 3;
            let source = pixels[from..from + inside.len() * 3].as_chunks::<3>().0;
            let normalise = |pixel: &[u8; 3]| {
                [red[usize::from(pixel[0])], green[usize::from(pixel[1])], blue[usize::from(pixel[2])]]
            };
            let row = row.as_chunks_mut::<3>().0;
            if draw.flip {
                row[..size - inside.end].fill(black);
                row[size - inside.start..].fill(black);
                let target = &mut row[size - inside.end..size - inside.start];
                target.iter_mut().rev().zip(source).for_each(|(out, pixel)| *out = normalise(pixel));
            } else {
                row[..inside.start].fill(black);
                row[inside.end..].fill(black);
                row[inside.clone()].iter_mut().zip(source).for_each(|(out, pixel)| *out = normalise(pixel));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition at the head of this file, word for word.
    fn defined(pixels: &[u8], size: usize, draw: Draw) -> Vec<f32> {
        let (s, p) = (size as i64, padding(size) as i64);
        let mut out = Vec::new();
        for y in 0..s {
            for x in 0..s {
                let mirrored = if draw.flip { s - 1 - x } else { x };
                let (from_y, from_x) = (y + i64::from(draw.dy) - p, mirrored + i64::from(draw.dx) - p);
                for c in 0..3 {
                    let inside = (0..s).contains(&from_y) && (0..s).contains(&from_x);
                    let value = if inside { pixels[((from_y * s + from_x) * 3) as usize + c] } else { 0 };
                    out.push((f32::from(value) / 255.0 - MEAN[c]) / STD[c]);
                }
            }
        }
        out
    }

    #[test]
    fn draws_are_the_documented_words() {
        let (philox, index) = (Philox::new(42), (1 << 33) | 7);
        let word = philox.block(purpose::AUGMENT, 3, index);
        let expected = Draw {
            dx: ((u64::from(word[0]) * 9) >> 32) as u32,
            dy: ((u64::from(word[1]) * 9) >> 32) as u32,
            flip: word[2] >= 1 << 31,
        };
        assert_eq!(draw(&philox, 3, index, 32, Augment::ALL), expected);
        assert_eq!(draw(&philox, 3, index, 32, Augment::NONE), Draw { dx: 4, dy: 4, flip: false });
        // Switching one off leaves the other's draw.
        assert_eq!(draw(&philox, 3, index, 32, Augment { crop: true, flip: false }), Draw { flip: false, ..expected });
    }

    #[test]
    fn draws_are_uniform() {
        let philox = Philox::new(1);
        let (mut shifts, mut flips, n) = ([[0i32; 9]; 2], 0, 9000);
        for index in 0..n {
            let draw = draw(&philox, 0, index, 32, Augment::ALL);
            shifts[0][draw.dx as usize] += 1;
            shifts[1][draw.dy as usize] += 1;
            flips += i32::from(draw.flip);
        }
        // Five standard deviations of a binomial.
        let five = |p: f64| (5.0 * (n as f64 * p * (1.0 - p)).sqrt()) as i32;
        assert!(shifts.as_flattened().iter().all(|count| (count - 1000).abs() < five(1.0 / 9.0)), "{shifts:?}");
        assert!((flips - 4500).abs() < five(0.5), "{flips}");
    }

    #[test]
    fn normalised_as_torchvision() {
        // torchvision: ToTensor, then Normalize, on the bytes 0, 128, 255, as hexadecimal of the f32 bits.
        let table = Normalize::default();
        for (c, mean, std) in [(0, 0.4914, 0.2023), (1, 0.4822, 0.1994), (2, 0.4465, 0.2010)] {
            for value in [0u8, 1, 128, 255] {
                let exact = (f64::from(value) / 255.0 - mean) / std;
                assert!((f64::from(table.table()[c][usize::from(value)]) - exact).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn words_round_trip() {
        for text in ["none", "crop", "flip", "crop,flip"] {
            assert_eq!(text.parse::<Augment>().unwrap().to_string(), text);
        }
        assert_eq!("flip, crop".parse::<Augment>().unwrap(), Augment::ALL);
        let error = "crop,flop".parse::<Augment>().unwrap_err();
        assert_eq!(error.to_string(), "augmentation is `crop,flop`, expected none, crop, flip or crop,flip");
    }

    proptest! {
        #[test]
        fn applied_as_defined(
            size in 1usize..40, dx: u32, dy: u32, flip: bool, seed in 0u8..255,
        ) {
            let pixels: Vec<u8> = (0..size * size * 3).map(|i| (i as u8).wrapping_mul(37).wrapping_add(seed)).collect();
            let most = 2 * padding(size) as u32 + 1;
            let draw = Draw { dx: dx % most, dy: dy % most, flip };
            let mut out = vec![f32::NAN; pixels.len()];
            Normalize::default().apply(&pixels, size, draw, &mut out);
            prop_assert_eq!(out, defined(&pixels, size, draw));
        }
    }
}

//! Philox4x32-10, the one source of randomness (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
//!
//! A counter-based generator: the numbers are a pure function of (seed; purpose, step, block), so the
//! same element gets the same number on every device, at any thread count, and after a resume.

/// What a stream of random numbers is for. Each has its own counters, so none can repeat another.
pub mod purpose {
    /// The order of the training images; `step` is the epoch.
    pub const SHUFFLE: u32 = 1;
    /// Crop and flip; `step` is the epoch, the element is the image's index in the data set.
    pub const AUGMENT: u32 = 2;
    /// Initial weights; `step` is the index of the parameter.
    pub const INIT: u32 = 3;
    /// Colour jitter; counted as [`AUGMENT`] is.
    pub const JITTER: u32 = 4;
    /// Cutout; counted as [`AUGMENT`] is.
    pub const CUTOUT: u32 = 5;
    /// MixUp and CutMix; `step` is the epoch, the block is the number of the batch, and of the attempt above 32 bits.
    pub const MIX: u32 = 6;
    /// RandAugment; counted as [`AUGMENT`] is, the block being the image's index and the operation's number above 32 bits.
    pub const RAND_AUGMENT: u32 = 7;
    /// The box of a resized crop; counted as [`AUGMENT`] is, the block being the image's index and the attempt above 32 bits.
    pub const RESIZED_CROP: u32 = 8;
    /// The order of the images of each class for a balanced epoch; `step` is the epoch.
    pub const BALANCE: u32 = 9;
    /// Dropout masks of the layer with index `layer`; `step` is the optimiser's step.
    pub const fn dropout(layer: u32) -> u32 {
        0x100 + layer
    }
}

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The generator for one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The generator whose key is `seed`, low word first.
    pub const fn new(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// The seed given to [`Philox::new`].
    pub const fn seed(&self) -> u64 {
        self.key[0] as u64 | (self.key[1] as u64) << 32
    }

    /// Four words for the counter (block low, block high, step, purpose).
    #[inline]
    pub const fn block(&self, purpose: u32, step: u32, block: u64) -> [u32; 4] {
        philox4x32_10([block as u32, (block >> 32) as u32, step, purpose], self.key)
    }

    /// The word of `element`: word `element % 4` of block `element / 4`.
    #[inline]
    pub const fn word(&self, purpose: u32, step: u32, element: u64) -> u32 {
        self.block(purpose, step, element / 4)[(element % 4) as usize]
    }
}

/// Ten rounds of Philox4x32.
#[inline]
pub const fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let mut round = 0;
    while round < 10 {
        let a = MULTIPLIER[0] as u64 * counter[0] as u64;
        let b = MULTIPLIER[1] as u64 * counter[2] as u64;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        round += 1;
    }
    counter
}

/// A number in [0, 1) with 24 random bits: the top 24 bits of `word` over 2^24.
#[inline]
pub const fn uniform_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// A number in 0..n, by the high half of word · n (Lemire; the bias is below n / 2^32).
#[inline]
pub const fn below(word: u32, n: u32) -> u32 {
    ((word as u64 * n as u64) >> 32) as u32
}

/// Two standard normal numbers from two words by Box and Muller, computed in f64.
#[inline]
pub fn normal_pair(first: u32, second: u32) -> [f64; 2] {
    // (first + 1) / 2^32 lies in (0, 1], so the logarithm is finite.
    let radius = (-2.0 * ((first as f64 + 1.0) / 4_294_967_296.0).ln()).sqrt();
    let angle = std::f64::consts::TAU * (second as f64 / 4_294_967_296.0);
    [radius * angle.cos(), radius * angle.sin()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_authors() {
        // kat_vectors of Random123.
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox4x32_10([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn ranges() {
        assert_eq!(uniform_f32(0), 0.0);
        assert!(uniform_f32(u32::MAX) < 1.0);
        assert_eq!(below(u32::MAX, 9), 8);
        assert_eq!(below(0, 9), 0);
        assert!(normal_pair(0, 0).iter().all(|x| x.is_finite()));
    }

    #[test]
    fn normal_moments() {
        let philox = Philox::new(7);
        let n = 40_000;
        let (mut sum, mut square) = (0.0, 0.0);
        for i in 0..n / 4 {
            let w = philox.block(purpose::INIT, 0, i);
            for x in normal_pair(w[0], w[1]).into_iter().chain(normal_pair(w[2], w[3])) {
                sum += x;
                square += x * x;
            }
        }
        let n = n as f64;
        // Five standard errors: 1/sqrt(n) for the mean, sqrt(2/n) for the variance.
        assert!((sum / n).abs() < 5.0 / n.sqrt());
        assert!((square / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
    }
}

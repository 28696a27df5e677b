//! MixUp (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch, a pure function of (seed, epoch, index of the batch
//! in the epoch). A batch has one λ, and image n is mixed with image N − 1 − n, as [`Mix`] defines.
//!
//! **Random numbers.** `w = Philox::new(seed).block(MIX, epoch, batch)`. If both are on, the top bit of `w[0]` selects
//! CutMix. λ ~ Beta(α, α), see [`beta`]. The box of CutMix, as in torchvision, has its centre at x = `below(w[1], S)`,
//! y = `below(w[2], S)`, extends ⌊S·√(1 − λ)/2⌋ pixels to each side and is clipped to the image; λ is then the share of
//! the image outside the box.

use alexnet_core::random::{Philox, below, purpose};
use alexnet_core::shape::Mix;

/// α of MixUp and CutMix; 0 switches one off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MixConfig {
    /// α of MixUp.
    pub mixup: f64,
    /// α of CutMix.
    pub cutmix: f64,
}

impl MixConfig {
    /// How batch `batch` of `epoch` is mixed; `None` if both are off. `image_size` is the height and width of the images.
    pub fn draw(&self, philox: &Philox, epoch: u32, batch: u32, image_size: usize) -> Option<Mix> {
        let word = philox.block(purpose::MIX, epoch, batch.into());
        let pastes = match (self.mixup > 0.0, self.cutmix > 0.0) {
            (false, false) => return None,
            (true, true) => word[0] >> 31 == 1,
            (_, cutmix) => cutmix,
        };
        let weight = beta(philox, epoch, batch, if pastes { self.cutmix } else { self.mixup });
        if !pastes {
            return Some(Mix::Blend { weight: weight as f32 });
        }
        let half = (image_size as f64 * ((1.0 - weight).sqrt() / 2.0)) as usize;
        let [x, y] = [word[1], word[2]].map(|word| below(word, image_size as u32) as usize);
        let edges = |centre: usize| (centre.saturating_sub(half), (centre + half).min(image_size));
        let ((left, right), (top, bottom)) = (edges(x), edges(y));
        Some(Mix::Paste { left, top, right, bottom })
    }
}

/// A sample of Beta(α, α).
///
/// Attempt k = 1, 2, … takes u and v in (0, 1), of 52 bits each, from the words of block `batch + k·2³²`.
/// - α ≤ 1: Jöhnk's algorithm (1964): X = u^(1/α), Y = v^(1/α); X/(X + Y) if X + Y ≤ 1. In logarithms, since both may
///   underflow.
/// - α > 1: Cheng's BB (1978) without its shortcuts: V = ln(u/(1 − u))/√α, W = α·exp V; W/(α + W) if
///   (α + √α)·V − ln 4 + 2α·ln(2α/(α + W)) ≥ ln(u²·v).
pub fn beta(philox: &Philox, epoch: u32, batch: u32, alpha: f64) -> f64 {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let w = philox.block(purpose::MIX, epoch, attempt << 32 | u64::from(batch));
        let [u, v] = [[w[0], w[1]], [w[2], w[3]]]
            .map(|[high, low]| ((u64::from(high) << 20 | u64::from(low) >> 12) as f64 + 0.5) / (1u64 << 52) as f64);
        if alpha <= 1.0 {
            let [x, y] = [u, v].map(|uniform| uniform.ln() / alpha);
            if x.exp() + y.exp() <= 1.0 {
                return 1.0 / (1.0 + (y - x).exp());
            }
        } else {
            let logit = (u / (1.0 - u)).ln() / alpha.sqrt();
            let w = alpha * logit.exp();
            let ratio = 2.0 * alpha * (2.0 * alpha / (alpha + w)).ln();
            if (alpha + alpha.sqrt()) * logit - 4f64.ln() + ratio >= (u * u * v).ln() {
                return w / (alpha + w);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: u32 = 20_000;

    fn drawn(alpha: f64) -> Vec<f64> {
        let philox = Philox::new(9);
        let mut values: Vec<f64> = (0..N).map(|batch| beta(&philox, 3, batch, alpha)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    #[test]
    fn beta_has_its_distribution() {
        // α with a known distribution function.
        type Function = fn(f64) -> f64;
        let known: [(f64, Function); 4] = [
            (0.5, |x| x.sqrt().asin() / std::f64::consts::FRAC_PI_2),
            (1.0, |x| x),
            (2.0, |x| x * x * (3.0 - 2.0 * x)),
            (3.0, |x| x.powi(3) * (10.0 - 15.0 * x + 6.0 * x * x)),
        ];
        for (alpha, function) in known {
            // Kolmogorov-Smirnov: exceeds 2.4/√n with probability 1e-5.
            let n = f64::from(N);
            let distance = drawn(alpha)
                .into_iter()
                .enumerate()
                .map(|(i, x)| (function(x) - i as f64 / n).abs().max((function(x) - (i + 1) as f64 / n).abs()))
                .fold(0.0, f64::max);
            assert!(distance < 2.4 / n.sqrt(), "{alpha}: {distance}");
        }
    }

    #[test]
    fn beta_has_its_moments_at_any_alpha() {
        for alpha in [0.001, 0.2, 0.4, 1.0, 1.0001, 8.0, 1000.0] {
            let values = drawn(alpha);
            assert!(values.iter().all(|x| (0.0..=1.0).contains(x)));
            let n = f64::from(N);
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|x| (x - 0.5).powi(2)).sum::<f64>() / n;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 5.0 * (expected / n).sqrt(), "{alpha}: mean {mean}");
            // The kurtosis of Beta(α, α) is 3 − 6/(2α + 3), so that of a mean of squares is below 3 variances².
            assert!((variance - expected).abs() < 5.0 * expected * (2.0 / n).sqrt(), "{alpha}: variance {variance}");
        }
    }

    #[test]
    fn both_take_turns_and_boxes_have_the_share_of_the_partner() {
        let philox = Philox::new(1);
        let draws = |mixup, cutmix| {
            let config = MixConfig { mixup, cutmix };
            (0..4000).map(move |batch| config.draw(&philox, 0, batch, 32))
        };
        assert!(draws(0.0, 0.0).all(|mix| mix.is_none()));
        assert!(draws(0.2, 0.0).all(|mix| matches!(mix, Some(Mix::Blend { .. }))));
        let pastes = draws(0.2, 1.0).filter(|mix| matches!(mix, Some(Mix::Paste { .. }))).count();
        // Five standard deviations.
        assert!((pastes as i64 - 2000).abs() < 158, "{pastes}");
        for (batch, mix) in draws(0.0, 1.0).enumerate() {
            let Some(Mix::Paste { left, top, right, bottom }) = mix else { panic!("{mix:?}") };
            // λ is uniform; the box is a square with an even side, clipped at the border.
            let side = (32.0 * (1.0 - beta(&philox, 0, batch as u32, 1.0)).sqrt() / 2.0) as usize * 2;
            assert!(right <= 32 && bottom <= 32 && right - left <= side && bottom - top <= side);
            if left > 0 && right < 32 && top > 0 && bottom < 32 {
                assert_eq!((right - left, bottom - top), (side, side));
            }
        }
    }
}

//! The order of the images in an epoch.
//!
//! A Fisher-Yates shuffle with Philox: starting from 0, 1, …, n − 1, for i = n − 1 down to 1, elements i and
//! j = below(word(SHUFFLE, epoch, i), i + 1) are swapped. The word is a pure function of seed, epoch and i.

use alexnet_core::random::{Philox, below, purpose};

/// The order in which `epoch` visits `n` images.
pub fn shuffled(n: usize, seed: u64, epoch: u32) -> Vec<u32> {
    let philox = Philox::new(seed);
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        let word = philox.word(purpose::SHUFFLE, epoch, i as u64);
        order.swap(i, below(word, i as u32 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_algorithm_is_fixed() {
        // Written out by hand from the definition above: a change would break resuming old runs.
        let philox = Philox::new(5);
        let mut order = [0, 1, 2, 3];
        order.swap(3, ((u64::from(philox.block(1, 2, 0)[3]) * 4) >> 32) as usize);
        order.swap(2, ((u64::from(philox.block(1, 2, 0)[2]) * 3) >> 32) as usize);
        order.swap(1, ((u64::from(philox.block(1, 2, 0)[1]) * 2) >> 32) as usize);
        assert_eq!(shuffled(4, 5, 2), order);
    }

    #[test]
    fn small_and_empty() {
        assert!(shuffled(0, 1, 1).is_empty());
        assert_eq!(shuffled(1, 1, 1), [0]);
    }

    #[test]
    fn every_position_is_as_likely() {
        // Element 0 lands at each of 8 positions in 1000 of 8000 shuffles, ± 5 standard deviations.
        let mut counts = [0i32; 8];
        for epoch in 0..8000 {
            counts[shuffled(8, 9, epoch).iter().position(|&x| x == 0).unwrap()] += 1;
        }
        let deviation = (8000.0f64 * 0.125 * 0.875).sqrt();
        assert!(counts.iter().all(|&n| f64::from((n - 1000).abs()) < 5.0 * deviation), "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_permutation_that_depends_on_seed_and_epoch(n in 20usize..500, seed: u64, epoch in 0u32..1000) {
            let order = shuffled(n, seed, epoch);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.iter().copied().eq(0..n as u32));
            prop_assert_eq!(&order, &shuffled(n, seed, epoch));
            prop_assert_ne!(&order, &shuffled(n, seed, epoch + 1));
            prop_assert_ne!(&order, &shuffled(n, seed.wrapping_add(1), epoch));
        }
    }
}

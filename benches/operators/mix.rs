use alexnet_core::arguments::MixPairs;
use alexnet_core::shape::{Mix, MixShape};

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let (batch, side) = (net.batch, net.layers[0].input.height);
    let half = side / 2;
    let shape = |mix| MixShape { batch, side, channels: 3, mix };
    let mixup = shape(Mix::Blend { weight: 0.7 });
    let cutmix = shape(Mix::Paste { left: 0, top: side / 4, right: half, bottom: side / 4 + half });
    let pairs = batch / 2 * 2;
    [("MixUp", mixup, mixup.image()), ("CutMix", cutmix, half * half * 3)]
        .map(|(name, shape, moved)| {
            Case::new("mix", format!("{} {name}", net.name), move |kernels| {
                let mut x = stored(kernels, shape.len())?;
                Ok(Box::new(move || kernels.mix(MixPairs { shape: &shape, x: &mut x })))
            })
            .moves(2 * pairs * moved, 0)
        })
        .into()
}

/// MixUp and CutMix of a batch of images.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::MixPairs;
    use alexnet_core::device::Operators;
    use alexnet_core::shape::{Mix, MixShape};
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in BATCHES {
            let blend = Mix::Blend { weight: 0.5 };
            let paste = Mix::Paste { left: 8, top: 8, right: 24, bottom: 24 };
            for (name, mix, pixels) in [("blend", blend, 32 * 32), ("paste", paste, 16 * 16)] {
                let s = MixShape { batch, side: 32, channels: 3, mix };
                let mut x = array(s.len());
                let numbers = 2 * batch * pixels * 3;
                measure(criterion, &format!("mix/{batch}"), name, Work::Numbers(numbers), || {
                    cpu().mix(MixPairs { shape: &s, x: &mut x })
                });
            }
        }
    }
}

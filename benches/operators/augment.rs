use alexnet_core::arguments::Augment;
use alexnet_core::random::Philox;
use alexnet_core::shape::AugmentShape;
use alexnet_kernels::{Kernels, Number};

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let (batch, side) = (net.batch, net.layers[0].input.height);
    let image = side * side * 3;
    let shape = AugmentShape {
        dataset: Some(batch),
        padding: 4,
        flip: true,
        mean: [0.5; 3],
        std: [0.25; 3],
        ..AugmentShape::plain(batch, side, Philox::new(1))
    };
    let case = Case::new("augment", format!("{} batch", net.name), move |kernels| {
        let (mut images, mut draws) =
            (kernels.zeros(Number::U8, batch * image)?, kernels.zeros(Number::U32, 2 * batch)?);
        kernels.write(&(0..batch * image).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>(), &mut images)?;
        kernels.write(&(0..batch as u32).flat_map(|n| [n, 0]).collect::<Vec<_>>(), &mut draws)?;
        let mut out = stored(kernels, batch * image)?;
        let mut workspace = kernels.zeros(Number::F32, Kernels::augment_workspace(&shape).max(1))?;
        Ok(Box::new(move || {
            let augment = Augment { shape: &shape, images: &images, draws: &draws, out: &mut out };
            kernels.augment(augment, &mut workspace)
        }))
    });
    vec![case.moves(batch * image, batch * (image + 8))]
}

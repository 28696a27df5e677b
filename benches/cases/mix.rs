use alexnet_kernels::Paste;

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let (batch, side) = (net.batch, net.layers[0].input.height);
    let (row, image) = (side * 3, side * side * 3);
    let (width, height) = (side / 2 * 3, side / 2);
    let paste = Paste { batch, image, row, first: 0, width, top: side / 4, height };
    let pairs = batch / 2 * 2;
    vec![
        Case::new("mix", format!("{} MixUp", net.name), move |kernels| {
            let mut x = stored(kernels, batch * image)?;
            Ok(Box::new(move || kernels.mix_blend(batch, image, 0.7, &mut x)))
        })
        .moves(2 * pairs * image, 0),
        Case::new("mix", format!("{} CutMix", net.name), move |kernels| {
            let mut x = stored(kernels, batch * image)?;
            Ok(Box::new(move || kernels.mix_paste(&paste, &mut x)))
        })
        .moves(2 * pairs * width * height, 0),
    ]
}

//! Launcher of `rand_augment.cu`.

use alexnet_ops::random::purpose;
use alexnet_ops::shape::{AugmentShape, RandAugmentStrengths};

use crate::Kernels;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, Value, count};

const THREADS: u32 = 512;

/// `Strengths` of `rand_augment.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Strengths {
    shear: f64,
    translation: f64,
    sin: f64,
    cos: f64,
    own: f32,
    other: f32,
}

/// `RandAugment` of `rand_augment.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    seed: u64,
    strengths: [Strengths; 2],
    purposes: [u32; 2],
    epoch: u32,
    side: u32,
    padding: u32,
    flip: u32,
    operations: u32,
    cleared: u32,
    threshold: f32,
    dataset: u32,
}
// SAFETY: the same fields in the same order, without padding.
unsafe impl Value for Argument {}

impl Kernels {
    /// Cropped, flipped and RandAugmented images (N, S, S, 3) in `workspace`, of which this returns the address. The caller has checked
    /// the lengths, of the workspace by [`Kernels::augment_workspace`].
    pub(crate) fn rand_augment(
        &self,
        s: &AugmentShape,
        images: &Array,
        draws: &Array,
        workspace: &Array,
    ) -> Result<u64> {
        const NAME: &str = "rand_augment";
        let blocks = count(NAME, "images", s.batch)?;
        let [positive, negative] = [false, true].map(|sign| RandAugmentStrengths::new(s.magnitude, sign, s.side));
        let strengths = [positive, negative].map(|m| {
            let RandAugmentStrengths { shear, translation, sin, cos, own, other, .. } = m;
            Strengths { shear, translation, sin, cos, own, other }
        });
        let argument = Argument {
            seed: s.philox.seed(),
            strengths,
            purposes: [purpose::AUGMENT, purpose::RAND_AUGMENT],
            epoch: s.epoch,
            side: s.side as u32,
            padding: s.padding as u32,
            flip: s.flip.into(),
            operations: s.operations,
            cleared: positive.cleared,
            threshold: positive.threshold,
            dataset: s.dataset.is_some().into(),
        };
        let launch = self.launch(NAME, NAME)?.array(images).array(draws).value(workspace.address()).value(argument);
        // SAFETY: one block per image; the workspace holds all of them twice.
        unsafe { launch.run(Grid::new([blocks, 1, 1], THREADS))? };
        let last = s.operations as usize % 2 * s.batch * s.image_len();
        Ok(workspace.address() + last as u64)
    }
}

//! Launcher of `augment.cu`.

use alexnet_ops::arguments::Augment;
use alexnet_ops::random::purpose;
use alexnet_ops::shape::AugmentShape;

use crate::array::Array;
use crate::error::{Error, Result};
use crate::launch::{Grid, Value, count};
use crate::{Kernels, Number};

const THREADS: u32 = 256;
/// Maximum size of a block's rows, in bytes.
const BAND: usize = 16 << 10;
/// Maximum padding or cutout, in pixels: far below the limit of 32 bits.
const MOST: usize = 1 << 20;

/// `Augment` of `augment.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    seed: u64,
    purposes: [u32; 3],
    epoch: u32,
    side: u32,
    padding: u32,
    rows: u32,
    bands: u32,
    flip: u32,
    cutout: u32,
    jitter: [f32; 2],
    mean: [f32; 3],
    std: [f32; 3],
    reciprocal: [f32; 3],
    dataset: u32,
}
// SAFETY: the same fields in the same order, without padding.
unsafe impl Value for Argument {}

impl Kernels {
    /// Floats of workspace for [`Kernels::augment`]: with RandAugment, all images in bytes, twice.
    pub fn augment_workspace(s: &AugmentShape) -> usize {
        if s.operations > 0 { (2 * s.batch * s.image_len()).div_ceil(4) } else { 0 }
    }

    /// out (N, S, S, 3) from the images of the given `draws`, whose indices must be below the data set's length, or from the
    /// batch's own. `workspace` holds [`Kernels::augment_workspace`] floats.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn augment(&self, a: Augment<'_, Self>, workspace: &mut Array) -> Result<()> {
        let Augment { shape: s, images, draws, out } = a.view(self)?;
        const NAME: &str = Augment::<Kernels>::NAME;
        if s.side == 0 || s.side * 3 > BAND {
            let reason = format!("has a side of {}, expected 1 to {}", s.side, BAND / 3);
            return Err(Error::Argument { operator: NAME, argument: "shape", reason });
        }
        for (argument, pixels) in [("padding", s.padding), ("cutout", s.cutout)] {
            if pixels > MOST {
                let reason = format!("is {pixels}, expected at most {MOST}");
                return Err(Error::Argument { operator: NAME, argument, reason });
            }
        }
        workspace.expect(NAME, "workspace", Number::F32, Self::augment_workspace(s))?;
        let _turn = self.turn();
        let (images, s) = match s.operations {
            0 => (images.address(), *s),
            // What comes of them is the batch's own.
            _ => {
                let changed = self.rand_augment(s, images, draws, workspace)?;
                (changed, AugmentShape { dataset: None, padding: 0, flip: false, ..*s })
            }
        };
        // Whole images at AlexNet's 32 pixels; otherwise a number of rows that is a whole number of packs.
        let rows = s.side.min(BAND / (s.side * 3));
        let rows = if rows < s.side && rows >= 4 { rows / 4 * 4 } else { rows };
        let bands = s.side.div_ceil(rows);
        let blocks = count(NAME, "out", s.batch * bands)?;
        let argument = Argument {
            seed: s.philox.seed(),
            purposes: [purpose::AUGMENT, purpose::JITTER, purpose::CUTOUT],
            epoch: s.epoch,
            side: s.side as u32,
            padding: s.padding as u32,
            rows: rows as u32,
            bands: bands as u32,
            flip: s.flip.into(),
            cutout: s.cutout as u32,
            jitter: s.jitter_range(),
            mean: s.mean,
            std: s.std,
            reciprocal: s.std.map(|std| 1.0 / std),
            dataset: s.dataset.is_some().into(),
        };
        let shared = (rows * s.side * 3).next_multiple_of(16) + 16;
        let launch = self.launch("augment", NAME)?.value(images).array(draws).array_mut(out).value(argument);
        // SAFETY: one block per band of an image; a band's bytes fit the shared memory at any alignment.
        unsafe { launch.run(Grid::new([blocks, 1, 1], THREADS).shared(shared as u32)) }
    }
}

//! Launcher of `augment.cu`.

use crate::Kernels;
use crate::array::{Array, Number};
use crate::error::{Error, Result};
use crate::launch::{Grid, Value, count};

const THREADS: u32 = 256;
/// Bytes of a block's rows at most.
const BAND: usize = 16 << 10;

/// What a batch undergoes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Images in the batch.
    pub batch: usize,
    /// Images in the data set.
    pub images: usize,
    /// S, the side of an image.
    pub side: usize,
    /// The padding at every side.
    pub padding: usize,
    /// Key of the generator.
    pub seed: u64,
    /// The stream.
    pub purpose: u32,
    /// The epoch.
    pub epoch: u32,
    /// Shift at random.
    pub crop: bool,
    /// Mirror at random.
    pub flip: bool,
    /// Mean a channel.
    pub mean: [f32; 3],
    /// Standard deviation a channel.
    pub std: [f32; 3],
}

/// `Augment` of `augment.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    seed: u64,
    purpose: u32,
    epoch: u32,
    side: u32,
    padding: u32,
    rows: u32,
    bands: u32,
    crop: u32,
    flip: u32,
    mean: [f32; 3],
    std: [f32; 3],
    reciprocal: [f32; 3],
    /// The structure's end, up to a multiple of 8.
    end: u32,
}
// SAFETY: the same fields in the same order; the end is written.
unsafe impl Value for Argument {}

impl Kernels {
    /// out (N, S, S, 3) from the images that `indices` names, which must be below `images`.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn augment(&self, s: &Augment, images: &Array, indices: &Array, out: &mut Array) -> Result<()> {
        const NAME: &str = "augment";
        let image = s.side * s.side * 3;
        images.expect(NAME, "images", Number::U8, s.images * image)?;
        indices.expect(NAME, "indices", Number::U32, s.batch)?;
        out.expect(NAME, "out", self.storage(), s.batch * image)?;
        if s.side == 0 || s.side * 3 > BAND {
            let reason = format!("has a side of {}, expected 1 to {}", s.side, BAND / 3);
            return Err(Error::Argument { operator: NAME, argument: "shape", reason });
        }
        // Whole images at AlexNet's 32 pixels; else a number of rows that makes packs.
        let rows = s.side.min(BAND / (s.side * 3));
        let rows = if rows < s.side && rows >= 4 { rows / 4 * 4 } else { rows };
        let bands = s.side.div_ceil(rows);
        let blocks = count(NAME, "out", s.batch * bands)?;
        let argument = Argument {
            seed: s.seed,
            purpose: s.purpose,
            epoch: s.epoch,
            side: s.side as u32,
            padding: s.padding as u32,
            rows: rows as u32,
            bands: bands as u32,
            crop: s.crop.into(),
            flip: s.flip.into(),
            mean: s.mean,
            std: s.std,
            reciprocal: s.std.map(|std| 1.0 / std),
            end: 0,
        };
        let shared = (rows * s.side * 3).next_multiple_of(16) + 16;
        let launch = self.launch("augment", NAME)?.array(images).array(indices).array_mut(out).value(argument);
        // SAFETY: a block a band of an image; a band's bytes, wherever they start, fit the shared memory.
        unsafe { launch.run(Grid::new([blocks, 1, 1], THREADS).shared(shared as u32)) }
    }
}

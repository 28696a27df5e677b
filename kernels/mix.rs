//! Launchers of `mix.cu`.

use crate::Kernels;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::launch::{Grid, count};

const THREADS: u32 = 256;

/// The box that the images of a batch exchange, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paste {
    /// Images in the batch.
    pub batch: usize,
    /// Elements of an image.
    pub image: usize,
    /// Elements of a row of an image.
    pub row: usize,
    /// The box's first element in each of its rows.
    pub first: usize,
    /// Elements of a row of the box.
    pub width: usize,
    /// Its first row.
    pub top: usize,
    /// Its rows.
    pub height: usize,
}

impl Kernels {
    /// x\[n\] = λ·x\[n\] + (1 − λ)·x\[N−1−n\] for images of `image` elements.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn mix_blend(&self, batch: usize, image: usize, weight: f32, x: &mut Array) -> Result<()> {
        const NAME: &str = "mix_blend";
        x.expect(NAME, "x", self.storage(), batch * image)?;
        count(NAME, "x", batch * image)?;
        let work = batch / 2 * image;
        if work == 0 {
            return Ok(());
        }
        let launch = self.launch("mix", NAME)?.array_mut(x).value(batch as u32).value(image as u32);
        let launch = launch.value(weight).value(1.0 - weight);
        // SAFETY: a thread for every four elements begun of the first half; the kernel stays within the batch.
        unsafe { launch.run(Grid::linear(work.div_ceil(4), THREADS)) }
    }

    /// x\[n\] = x\[N−1−n\] within the box.
    ///
    /// # Errors
    /// An array that does not fit; a box that is not within the image; the driver's.
    pub fn mix_paste(&self, s: &Paste, x: &mut Array) -> Result<()> {
        const NAME: &str = "mix_paste";
        x.expect(NAME, "x", self.storage(), s.batch * s.image)?;
        count(NAME, "x", s.batch * s.image)?;
        let work = s.batch / 2 * s.width * s.height;
        if work == 0 {
            return Ok(());
        }
        if s.first + s.width > s.row || (s.top + s.height) * s.row > s.image {
            let reason = format!("has a box beyond the image: {s:?}");
            return Err(Error::Argument { operator: NAME, argument: "shape", reason });
        }
        let launch = self.launch("mix", NAME)?.array_mut(x);
        let launch = [s.batch, s.image, s.row, s.first, s.width, s.top, s.height]
            .into_iter()
            .fold(launch, |launch, value| launch.value(value as u32));
        // SAFETY: a thread for every element of the boxes of the first half; the box lies within the image.
        unsafe { launch.run(Grid::linear(work, THREADS)) }
    }
}

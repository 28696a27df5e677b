//! Launchers of `mix.cu`.

use alexnet_ops::arguments::MixPairs;
use alexnet_ops::shape::Mix;

use crate::Kernels;
use crate::error::Result;
use crate::launch::{Grid, count};

const THREADS: u32 = 256;

impl Kernels {
    /// Mixes the images x of a batch in pairs, see [`Mix`].
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn mix(&self, a: MixPairs<'_, Self>) -> Result<()> {
        let MixPairs { shape: s, x } = a.view(self)?;
        count("mix", "x", s.len())?;
        let (batch, image, row) = (s.batch, s.image(), s.side * s.channels);
        match s.mix {
            Mix::Blend { weight } => {
                let work = batch / 2 * image;
                if work == 0 {
                    return Ok(());
                }
                let launch = self.launch("mix", "mix_blend")?.array_mut(x).value(batch as u32).value(image as u32);
                let launch = launch.value(weight).value(1.0 - weight);
                // SAFETY: one thread per four elements of the first half; the kernel stays within the batch.
                unsafe { launch.run(Grid::linear(work.div_ceil(4), THREADS)) }
            }
            Mix::Paste { left, top, right, bottom } => {
                let [left, top, width, height] = s.pasted([left, top, right, bottom]);
                let (first, width) = (left * s.channels, width * s.channels);
                let work = batch / 2 * width * height;
                if work == 0 {
                    return Ok(());
                }
                let launch = self.launch("mix", "mix_paste")?.array_mut(x);
                let launch = [batch, image, row, first, width, top, height]
                    .into_iter()
                    .fold(launch, |launch, value| launch.value(value as u32));
                // SAFETY: one thread per element of the boxes of the first half; `pasted` clips them to the image.
                unsafe { launch.run(Grid::linear(work, THREADS)) }
            }
        }
    }
}

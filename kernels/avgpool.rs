//! Launchers of `avgpool.cu`.

use alexnet_ops::arguments::{AvgPoolBackward, AvgPoolForward};
use alexnet_ops::shape::AvgPoolShape;

use crate::Kernels;
use crate::error::{Error, Result};
use crate::launch::{Grid, Value, count};

const THREADS: u32 = 256;

/// `AvgPool` of `avgpool.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    work: u32,
    height: u32,
    width: u32,
    channels: u32,
    out_height: u32,
    out_width: u32,
}
// SAFETY: the same six words in the same order, without padding.
unsafe impl Value for Argument {}

/// Whether packs of four channels can be used, and the number of threads.
fn packs(s: &AvgPoolShape, len: usize) -> (bool, usize) {
    if s.channels.is_multiple_of(4) { (true, len / 4) } else { (false, len) }
}
fn argument(s: &AvgPoolShape, operator: &'static str, work: usize) -> Result<Argument> {
    // The kernel computes (p + 1)·H + P in 32 bits.
    let small = [s.height, s.width, s.output_height, s.output_width].iter().all(|n| (1..=1 << 15).contains(n));
    if !small {
        let reason = format!("is impossible: {s:?}");
        return Err(Error::Argument { operator, argument: "shape", reason });
    }
    Ok(Argument {
        work: count(operator, "shape", work)?,
        height: s.height as u32,
        width: s.width as u32,
        channels: count(operator, "shape", s.channels)?,
        out_height: s.output_height as u32,
        out_width: s.output_width as u32,
    })
}

impl Kernels {
    /// y = mean of x over each window.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn avgpool_forward(&self, a: AvgPoolForward<'_, Self>) -> Result<()> {
        let AvgPoolForward { shape: s, x, y } = a.view(self)?;
        const NAME: &str = AvgPoolForward::<Kernels>::NAME;
        let (packed, work) = packs(s, s.output_len());
        let launch = self.launch("avgpool", if packed { NAME } else { "avgpool_forward_odd" })?.array(x).array_mut(y);
        // SAFETY: one thread per pack of outputs; windows are inside x by definition.
        unsafe { launch.value(argument(s, NAME, work)?).run(Grid::linear(work, THREADS)) }
    }

    /// dx = Σ of dy / window size over the windows that contain x.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn avgpool_backward(&self, a: AvgPoolBackward<'_, Self>) -> Result<()> {
        let AvgPoolBackward { shape: s, dy, dx } = a.view(self)?;
        const NAME: &str = AvgPoolBackward::<Kernels>::NAME;
        let (packed, work) = packs(s, s.input_len());
        let launch =
            self.launch("avgpool", if packed { NAME } else { "avgpool_backward_odd" })?.array(dy).array_mut(dx);
        // SAFETY: one thread per pack of inputs; the windows that contain it are inside dy by definition.
        unsafe { launch.value(argument(s, NAME, work)?).run(Grid::linear(work, THREADS)) }
    }
}

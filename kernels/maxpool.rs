//! Launchers of `maxpool.cu`.

use crate::Kernels;
use crate::array::{Array, Number};
use crate::error::{Error, Result};
use crate::launch::{Grid, Value, count};

const THREADS: u32 = 256;

/// Shape: N images of H×W pixels and C channels, NHWC; windows of R×R.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// N.
    pub batch: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C.
    pub channels: usize,
    /// R, from 1 to 16.
    pub kernel: usize,
    /// Pixels between windows.
    pub stride: usize,
    /// Padding on each side, at most half the window.
    pub padding: usize,
    /// P; no window may begin beyond the image.
    pub out_height: usize,
    /// Q.
    pub out_width: usize,
}

/// `MaxPool` of `maxpool.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    work: u32,
    height: u32,
    width: u32,
    channels: u32,
    kernel: u32,
    stride: u32,
    padding: u32,
    out_height: u32,
    out_width: u32,
}
// SAFETY: the same nine words in the same order, no padding.
unsafe impl Value for Argument {}

impl MaxPool {
    fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
    fn output_len(&self) -> usize {
        self.batch * self.out_height * self.out_width * self.channels
    }

    fn argument(&self, operator: &'static str, work: usize) -> Result<Argument> {
        let fits =
            |out: usize, side: usize| out > 0 && (out - 1) * self.stride + self.kernel <= side + 2 * self.padding;
        let possible = (1..=16).contains(&self.kernel)
            && self.stride > 0
            && self.padding * 2 <= self.kernel
            && fits(self.out_height, self.height)
            && fits(self.out_width, self.width);
        if !possible {
            let reason = format!("is impossible: {self:?}");
            return Err(Error::Argument { operator, argument: "shape", reason });
        }
        count(operator, "x", self.input_len())?;
        count(operator, "y", self.output_len())?;
        Ok(Argument {
            work: count(operator, "shape", work)?,
            height: self.height as u32,
            width: self.width as u32,
            channels: self.channels as u32,
            kernel: self.kernel as u32,
            stride: self.stride as u32,
            padding: self.padding as u32,
            out_height: self.out_height as u32,
            out_width: self.out_width as u32,
        })
    }
}

impl Kernels {
    /// y = the largest x of each window, `argmax` its position in the window.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn maxpool_forward(&self, s: &MaxPool, x: &Array, y: &mut Array, argmax: &mut Array) -> Result<()> {
        const NAME: &str = "maxpool_forward";
        x.expect(NAME, "x", self.storage(), s.input_len())?;
        y.expect(NAME, "y", self.storage(), s.output_len())?;
        argmax.expect(NAME, "argmax", Number::U8, s.output_len())?;
        let (kernel, pack) = if s.channels.is_multiple_of(4) { (NAME, 4) } else { ("maxpool_forward_odd", 1) };
        let work = s.output_len() / pack;
        let launch = self.launch("maxpool", kernel)?.array(x).array_mut(y).array_mut(argmax);
        // SAFETY: a thread a pack of outputs; the windows lie inside x, checked above.
        unsafe { launch.value(s.argument(NAME, work)?).run(Grid::linear(work, THREADS)) }
    }

    /// dx = Σ of the dy whose window's largest element x was.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn maxpool_backward(&self, s: &MaxPool, dy: &Array, argmax: &Array, dx: &mut Array) -> Result<()> {
        const NAME: &str = "maxpool_backward";
        dy.expect(NAME, "dy", self.storage(), s.output_len())?;
        argmax.expect(NAME, "argmax", Number::U8, s.output_len())?;
        dx.expect(NAME, "dx", self.storage(), s.input_len())?;
        let packed = s.channels.is_multiple_of(4) && s.stride == 2;
        let (kernel, pack, cell) = if packed { (NAME, 4, 2) } else { ("maxpool_backward_odd", 1, 1) };
        let cells = (s.height + s.padding).div_ceil(cell) * (s.width + s.padding).div_ceil(cell);
        let work = s.batch * cells * (s.channels / pack);
        let launch = self.launch("maxpool", kernel)?.array(dy).array(argmax).array_mut(dx);
        // SAFETY: a thread a pack of channels of a cell; pixels outside the image and windows that are none are skipped.
        unsafe { launch.value(s.argument(NAME, work)?).run(Grid::linear(work, THREADS)) }
    }
}

//! Launchers of `sgd.cu`.

use alexnet_ops::{Scaler, Sgd};

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::Result;
use crate::launch::Grid;
use crate::table::{self, Tables};

const NAME: &str = "sgd";
const THREADS: u32 = 256;

/// `Entry` of `sgd.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Entry {
    w: u64,
    g: u64,
    v: u64,
    copy: u64,
    len: u32,
    first_block: u32,
    decays: u32,
    rate: f32,
}
// SAFETY: the same words in the same order, without padding.
unsafe impl table::Entry for Entry {
    const OPERATOR: &'static str = NAME;
}

/// The settings of one parameter, as those of a parameter group in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct ParameterGroup {
    /// Whether weight decay applies to it.
    pub decays: bool,
    /// Factor of the optimizer's learning rate.
    pub rate: f32,
}

/// The arrays that an update reads and writes.
#[derive(Debug, Default)]
pub struct Parameters<'a>(Tables<'a, Entry>);

impl<'a> Parameters<'a> {
    /// Adds a parameter of `len` elements with its gradient, its momentum and its copy in the storage type.
    ///
    /// # Errors
    /// An array that is too short or of another type.
    pub fn push(
        &mut self,
        len: usize,
        group: ParameterGroup,
        w: &'a mut Array,
        g: &'a Array,
        v: &'a mut Array,
        copy: Option<&'a mut Array>,
    ) -> Result<()> {
        w.expect(NAME, "w", Number::F32, len)?;
        g.expect(NAME, "g", Number::F32, len)?;
        v.expect(NAME, "v", Number::F32, len)?;
        if let Some(copy) = &copy {
            copy.expect(NAME, "copy", copy.number(), len)?;
        }
        let copy = copy.map_or(0, |copy| copy.address());
        let [w, g, v] = [w.address(), g.address(), v.address()];
        let ParameterGroup { decays, rate } = group;
        let decays = decays.into();
        self.0.push(len, |len, first_block| Entry { w, g, v, copy, len, first_block, decays, rate })
    }
}

impl Kernels {
    /// Writes the optimizer's constants into an array of 4 words that [`Kernels::sgd`] reads.
    ///
    /// # Errors
    /// The driver's.
    pub fn write_sgd(&self, sgd: &Sgd, to: &mut Array) -> Result<()> {
        let [rate, momentum, decay] = [sgd.learning_rate, sgd.momentum, sgd.weight_decay].map(|x| x as f32);
        self.write(&[rate, momentum, decay, f32::from_bits(sgd.nesterov.into())], to)
    }

    /// Writes the state of loss scaling into an array of 4 words; the first is the scale.
    ///
    /// # Errors
    /// The driver's.
    pub fn write_scaler(&self, scaler: &Scaler, to: &mut Array) -> Result<()> {
        let words = [scaler.scale.to_bits(), scaler.good_steps, 0, scaler.skipped];
        self.write(&words.map(f32::from_bits), to)
    }

    /// Reads the state of loss scaling, which the steps change.
    ///
    /// # Errors
    /// The driver's.
    pub fn read_scaler(&self, from: &Array) -> Result<Scaler> {
        let mut words = [0f32; 4];
        self.read(from, &mut words)?;
        Ok(Scaler { scale: words[0], good_steps: words[1].to_bits(), skipped: words[3].to_bits() })
    }

    /// One update of all parameters, by the optimizer's constants and the loss scaling in memory.
    ///
    /// With `interval` a step with a gradient that is not finite is skipped, and the scale changes as in `GradScaler`: ×2 after
    /// `interval` good steps, ×½ after a bad one.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn sgd(
        &self,
        parameters: &Parameters<'_>,
        optimizer: &Array,
        scaler: &mut Array,
        interval: Option<u32>,
    ) -> Result<()> {
        optimizer.expect(NAME, "optimizer", Number::F32, 4)?;
        scaler.expect(NAME, "scaler", Number::F32, 4)?;
        let Parameters(tables) = parameters;
        if interval.is_some() {
            // All gradients, before any weight changes.
            for table in tables.iter() {
                let launch = self.launch("sgd", "sgd_test")?.reference(&table.rows).value(table.entries);
                // SAFETY: the table's arrays were checked when they were added; one block per chunk.
                unsafe { launch.array_mut(scaler).run(Grid::new([table.blocks, 1, 1], THREADS)) }?;
            }
        }
        for table in tables.iter() {
            let launch = self.launch("sgd", NAME)?.reference(&table.rows).value(table.entries).array(optimizer);
            // SAFETY: as above.
            unsafe { launch.array_mut(scaler).run(Grid::new([table.blocks, 1, 1], THREADS)) }?;
        }
        if let Some(interval) = interval.filter(|_| tables.iter().next().is_some()) {
            let launch = self.launch("sgd", "sgd_rescale")?.array_mut(scaler).value(interval);
            // SAFETY: one thread, which accesses the scaler's four words.
            unsafe { launch.run(Grid::new([1, 1, 1], 1)) }?;
        }
        Ok(())
    }
}

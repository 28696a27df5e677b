//! Launchers of `sgd.cu`, and the update that `gemm` fuses.

use alexnet_ops::{Scaler, Sgd};

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, Value};
use crate::table::{self, Tables};

const NAME: &str = "sgd";
const THREADS: u32 = 256;

/// `Entry` of `update.cuh`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Entry {
    pub w: u64,
    pub g: u64,
    pub v: u64,
    pub copy: u64,
    pub parts: u64,
    pub len: u32,
    pub first_block: u32,
    pub decays: u32,
    pub factor: f32,
}
// SAFETY: the same words in the same order, without padding.
unsafe impl table::Entry for Entry {
    const OPERATOR: &'static str = NAME;
}

/// `Tested` of `sgd.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct TestedEntry {
    p: u64,
    len: u32,
    first_block: u32,
    stored: u64,
}
// SAFETY: the same words in the same order, without padding.
unsafe impl table::Entry for TestedEntry {
    const OPERATOR: &'static str = "sgd_test";
}

/// `Updated` of `update.cuh`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct UpdatedArguments {
    w: u64,
    v: u64,
    copy: u64,
    decays: u32,
    factor: f32,
}

/// `Update` of `update.cuh`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct UpdateArguments {
    optimizer: u64,
    scaler: u64,
    weight: UpdatedArguments,
    bias: UpdatedArguments,
}
// SAFETY: the same fields in the same order as in update.cuh, without padding.
unsafe impl Value for UpdateArguments {}

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
pub struct Parameters<'a>(pub(crate) Tables<'a, Entry>);

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
        for (name, array) in [("w", &*w), ("g", g), ("v", &*v)] {
            array.expect(NAME, name, Number::F32, len)?;
        }
        if let Some(copy) = &copy {
            copy.expect(NAME, "copy", copy.number(), len)?;
        }
        let ([w, g, v], copy) = ([w, g, v].map(|array| array.address()), copy.map_or(0, |copy| copy.address()));
        let ParameterGroup { decays, rate: factor } = group;
        let (decays, parts) = (decays.into(), 0);
        self.0.push(len, |len, first_block| Entry { w, g, v, copy, parts, len, first_block, decays, factor })
    }
}

/// The arrays that [`Kernels::sgd_test`] tests.
#[derive(Debug, Default)]
pub struct Tested<'a>(Tables<'a, TestedEntry>);

impl<'a> Tested<'a> {
    /// Adds the first `len` elements of an array of floats or of the storage type of `kernels`.
    ///
    /// # Errors
    /// An array that is too short or of another type.
    pub fn push(&mut self, kernels: &Kernels, array: &'a Array, len: usize) -> Result<()> {
        let float = array.number() == Number::F32;
        array.expect("sgd_test", "array", if float { Number::F32 } else { kernels.storage() }, len)?;
        let stored = u64::from(!float);
        self.0.push(len, |len, first_block| TestedEntry { p: array.address(), len, first_block, stored })
    }
}

/// The update of a weight and its bias by the product that computes their gradients, see [`Kernels::linear_backward_update`].
#[derive(Debug)]
pub struct Update<'a> {
    /// As [`Kernels::write_sgd`] writes them.
    pub optimizer: &'a Array,
    /// As [`Kernels::write_scaler`] writes it.
    pub scaler: &'a Array,
    /// The weight.
    pub weight: Updated<'a>,
    /// The bias.
    pub bias: Updated<'a>,
}

/// A parameter that is updated.
#[derive(Debug)]
pub struct Updated<'a> {
    /// Its settings.
    pub group: ParameterGroup,
    /// It, in float.
    pub w: &'a mut Array,
    /// Its momentum, in float.
    pub v: &'a mut Array,
    /// Its copy in the storage type, unless that is float.
    pub copy: Option<&'a mut Array>,
}

impl Update<'_> {
    /// The kernel's argument, for a weight and a bias of `lens` elements.
    pub(crate) fn arguments(
        self,
        operator: &'static str,
        lens: [usize; 2],
        storage: Number,
    ) -> Result<UpdateArguments> {
        let Update { optimizer, scaler, weight, bias } = self;
        optimizer.expect(operator, "optimizer", Number::F32, 4)?;
        scaler.expect(operator, "scaler", Number::F32, 4)?;
        let entry = |Updated { group, w, v, copy }: Updated<'_>, len| -> Result<_> {
            w.expect(operator, "w", Number::F32, len)?;
            v.expect(operator, "v", Number::F32, len)?;
            if let Some(copy) = &copy {
                copy.expect(operator, "copy", storage, len)?;
            }
            let copy = copy.map_or(0, |copy| copy.address());
            Ok(UpdatedArguments {
                w: w.address(),
                v: v.address(),
                copy,
                decays: group.decays.into(),
                factor: group.rate,
            })
        };
        Ok(UpdateArguments {
            optimizer: optimizer.address(),
            scaler: scaler.address(),
            weight: entry(weight, lens[0])?,
            bias: entry(bias, lens[1])?,
        })
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

    /// Notes in the scaler's state whether an array has an infinity or a NaN: then updates change nothing until
    /// [`Kernels::sgd_rescale`].
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn sgd_test(&self, tested: &Tested<'_>, scaler: &mut Array) -> Result<()> {
        scaler.expect("sgd_test", "scaler", Number::F32, 4)?;
        for table in tested.0.iter() {
            let launch = self.launch("sgd", "sgd_test")?.reference(&table.rows).value(table.entries);
            // SAFETY: the table's arrays were checked when they were added; one block per chunk.
            unsafe { launch.array_mut(scaler).run(Grid::new([table.blocks, 1, 1], THREADS)) }?;
        }
        Ok(())
    }

    /// One update of all parameters, by the optimizer's constants and the loss scaling in memory.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn sgd(&self, parameters: &Parameters<'_>, optimizer: &Array, scaler: &Array) -> Result<()> {
        optimizer.expect(NAME, "optimizer", Number::F32, 4)?;
        scaler.expect(NAME, "scaler", Number::F32, 4)?;
        for table in parameters.0.iter() {
            let launch = self.launch("sgd", NAME)?.reference(&table.rows).value(table.entries).array(optimizer);
            // SAFETY: as above.
            unsafe { launch.array(scaler).run(Grid::new([table.blocks, 1, 1], THREADS)) }?;
        }
        Ok(())
    }

    /// Changes the loss's scale for the next step as `GradScaler` does: ×2 after `interval` good steps, ×½ after a bad one, and
    /// forgets what [`Kernels::sgd_test`] noted.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn sgd_rescale(&self, scaler: &mut Array, interval: u32) -> Result<()> {
        scaler.expect("sgd_rescale", "scaler", Number::F32, 4)?;
        let launch = self.launch("sgd", "sgd_rescale")?.array_mut(scaler).value(interval);
        // SAFETY: one thread, which accesses the scaler's four words.
        unsafe { launch.run(Grid::new([1, 1, 1], 1)) }
    }
}

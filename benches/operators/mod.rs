//! The operators at the shapes they have in AlexNet, one file per operator: cases for the GPU, and a bench of the CPU.
#![allow(dead_code)] // Benchmarks and tests use a part each.

mod add;
mod augment;
mod avgpool;
mod batchnorm;
mod conv;
mod dropout;
mod ema;
mod flatten;
mod linear;
mod lrn;
mod maxpool;
mod mix;
mod relu;
mod sgd;
mod softmax_cross_entropy;
mod total;

use alexnet_core::alexnet::{Options, Variant, architecture};
use alexnet_core::architecture::TracedLayer;
use alexnet_core::random::{Philox, uniform_f32};
use alexnet_kernels::{Array, Kernels, Number, Result, Tf32};
use half::{bf16, f16};

/// Something a GPU does, ready to be done again and again.
pub type Work<'a> = Box<dyn FnMut() -> Result<()> + 'a>;
type Start = Box<dyn for<'a> Fn(&'a Kernels) -> Result<Work<'a>>>;

/// An operator at one shape.
pub struct Case {
    /// The operator, by the name of its file.
    pub operator: &'static str,
    /// The network's layer and the direction.
    pub name: String,
    /// Operations that the work takes, a multiply-add counting 2; 0 where they do not matter.
    pub operations: u64,
    /// Numbers of the storage's type that have to be read or written.
    pub stored: u64,
    /// Other bytes that have to be.
    pub bytes: u64,
    start: Start,
}

impl Case {
    fn new<F>(operator: &'static str, name: String, start: F) -> Self
    where
        F: for<'a> Fn(&'a Kernels) -> Result<Work<'a>> + 'static,
    {
        Self { operator, name, operations: 0, stored: 0, bytes: 0, start: Box::new(start) }
    }
    fn moves(mut self, stored: usize, bytes: usize) -> Self {
        (self.stored, self.bytes) = (stored as u64, bytes as u64);
        self
    }
    fn multiply_adds(mut self, count: usize) -> Self {
        self.operations = 2 * count as u64;
        self
    }
    /// Bytes at least, on a device of this precision.
    pub fn least_bytes(&self, kernels: &Kernels) -> u64 {
        self.stored * kernels.storage().size() as u64 + self.bytes
    }
    /// Allocates what the work needs.
    ///
    /// # Errors
    /// Too little memory; the driver's.
    pub fn start<'a>(&self, kernels: &'a Kernels) -> Result<Work<'a>> {
        (self.start)(kernels)
    }
}

/// The layers of a network, and how many images it takes at once.
pub struct Net {
    name: &'static str,
    batch: usize,
    layers: Vec<TracedLayer>,
}

impl Net {
    /// A variant at a batch size.
    pub fn new(variant: Variant, batch: usize) -> Self {
        let classes = if matches!(variant, Variant::Cifar | Variant::PaperK11 | Variant::Modern) { 10 } else { 1000 };
        let options = Options::new(variant.image_size(), classes);
        let layers = architecture(variant, options).trace().expect("a variant at its own image size");
        Self { name: variant.name(), batch, layers }
    }
    fn label(&self, layer: &TracedLayer, what: &str) -> String {
        format!("{} {} {what}", self.name, layer.spec.name).trim_end().to_owned()
    }
    /// Every operator of the network's training step.
    pub fn cases(&self) -> Vec<Case> {
        let operators: [fn(&Net) -> Vec<Case>; 16] = [
            augment::cases,
            mix::cases,
            conv::cases,
            batchnorm::cases,
            add::cases,
            relu::cases,
            lrn::cases,
            maxpool::cases,
            avgpool::cases,
            flatten::cases,
            linear::cases,
            dropout::cases,
            softmax_cross_entropy::cases,
            total::cases,
            sgd::cases,
            ema::cases,
        ];
        operators.iter().flat_map(|cases| cases(self)).collect()
    }
}

/// `len` numbers of the storage's type in [-1, 1), of which half are less than 0, as activations' gradients are.
fn stored(kernels: &Kernels, len: usize) -> Result<Array> {
    let mut array = kernels.zeros(kernels.storage(), len)?;
    let numbers: Vec<f32> = numbers(len).collect();
    match kernels.storage() {
        Number::F16 => kernels.write_rounded::<f16>(&numbers, &mut array, 0, &mut Vec::new())?,
        Number::Bf16 => kernels.write_rounded::<bf16>(&numbers, &mut array, 0, &mut Vec::new())?,
        Number::Tf32 => kernels.write_rounded::<Tf32>(&numbers, &mut array, 0, &mut Vec::new())?,
        _ => kernels.write(&numbers, &mut array)?,
    }
    Ok(array)
}

/// `len` floats in [-1, 1).
fn floats(kernels: &Kernels, len: usize) -> Result<Array> {
    let mut array = kernels.zeros(Number::F32, len)?;
    kernels.write(&numbers(len).collect::<Vec<f32>>(), &mut array)?;
    Ok(array)
}

/// Random numbers: a GPU needs less power, and runs faster, where all are the same.
fn numbers(len: usize) -> impl Iterator<Item = f32> {
    let philox = Philox::new(1);
    (0..len.div_ceil(4)).flat_map(move |i| philox.block(99, 0, i as u64)).take(len).map(|w| uniform_f32(w) * 2.0 - 1.0)
}

/// Runs the benches of an operator on the CPU.
pub type Bench = fn(&mut criterion::Criterion);
/// The benches of the CPU by operator.
pub const CPU: [(&str, Bench); 14] = [
    ("add", add::cpu::bench),
    ("avgpool", avgpool::cpu::bench),
    ("batchnorm", batchnorm::cpu::bench),
    ("conv", conv::cpu::bench),
    ("dropout", dropout::cpu::bench),
    ("ema", ema::cpu::bench),
    ("flatten", flatten::cpu::bench),
    ("linear", linear::cpu::bench),
    ("lrn", lrn::cpu::bench),
    ("maxpool", maxpool::cpu::bench),
    ("mix", mix::cpu::bench),
    ("relu", relu::cpu::bench),
    ("sgd", sgd::cpu::bench),
    ("softmax_cross_entropy", softmax_cross_entropy::cpu::bench),
];

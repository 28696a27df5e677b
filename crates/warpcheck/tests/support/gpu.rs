//! A machine to launch kernels on, and what it takes to do so.

use std::sync::Arc;

use bytemuck::{Pod, bytes_of, cast_slice, cast_slice_mut};
use warpcheck::engine::{Engine, Module};
use warpcheck::launch::{Launch, LaunchOptions, Outcome};
use warpcheck::memory::Kind;
use warpcheck::profile::Profile;

/// An engine with a device.
pub struct Gpu {
    pub engine: Engine,
    pub profile: Profile,
}

/// Device memory of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Buffer(pub u64);

/// A kernel's argument: its bytes.
pub struct Arg(Vec<u8>);

impl<T: Pod> From<T> for Arg {
    fn from(value: T) -> Arg {
        Arg(bytes_of(&value).to_vec())
    }
}

/// Arguments of any types, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::support::Arg::from($value)),*] };
}

// SAFETY: a transparent address, any bits of which are valid.
unsafe impl bytemuck::Zeroable for Buffer {}
// SAFETY: as above; no padding.
unsafe impl Pod for Buffer {}

impl Gpu {
    /// A machine with one device of this profile.
    pub fn of(profile: &str) -> Gpu {
        Gpu { engine: Engine::new(), profile: Profile::by_name(profile).expect("a known profile") }
    }

    /// A machine with one device that runs PTX of every target up to sm_90.
    pub fn new() -> Gpu {
        Gpu::of("h100")
    }

    /// Loads PTX.
    pub fn load(&self, ptx: &str) -> Arc<Module> {
        match self.engine.load(0, &self.profile, ptx.as_bytes()) {
            Ok(module) => module,
            Err(e) => panic!("{e}\n{ptx}"),
        }
    }

    /// Memory that nobody wrote.
    pub fn allocate(&self, bytes: usize) -> Buffer {
        let address = self.engine.memory().allocate(Kind::Device, 0, bytes as u64, 256, "test");
        Buffer(address.expect("room for a test's memory"))
    }

    /// Memory with these contents.
    pub fn upload<T: Pod>(&self, data: &[T]) -> Buffer {
        let buffer = self.allocate(size_of_val(data));
        self.engine.memory().write(buffer.0, cast_slice(data)).expect("a range just allocated");
        buffer
    }

    /// Memory of zeros.
    pub fn zeros(&self, bytes: usize) -> Buffer {
        self.upload(&vec![0u8; bytes])
    }

    /// The contents of memory.
    pub fn download<T: Pod>(&self, buffer: Buffer, count: usize) -> Vec<T> {
        let mut data = vec![T::zeroed(); count];
        self.engine.memory().read(buffer.0, cast_slice_mut(&mut data)).expect("a live range");
        data
    }

    /// Ends an allocation.
    pub fn free(&self, buffer: Buffer) {
        self.engine.memory().free(buffer.0).expect("an allocation's start");
    }

    /// Runs a kernel.
    pub fn launch(
        &self,
        module: &Module,
        kernel: &str,
        (grid, block, dynamic_shared): ([u32; 3], [u32; 3], u32),
        args: &[Arg],
        options: &LaunchOptions,
    ) -> Outcome {
        let kernel = module.kernel(kernel).unwrap_or_else(|| panic!("no kernel {kernel}"));
        assert_eq!(kernel.params.len(), args.len(), "{} takes other arguments", kernel.name);
        let mut params = vec![0; kernel.param_bytes];
        for (param, arg) in kernel.params.iter().zip(args) {
            assert_eq!(param.size, arg.0.len(), "an argument of {} has another size", kernel.name);
            params[param.offset..][..param.size].copy_from_slice(&arg.0);
        }
        let launch =
            Launch { kernel: &kernel, device: 0, profile: &self.profile, grid, block, dynamic_shared, params: &params };
        self.engine.launch(&launch, options)
    }

    /// Runs a kernel with all checks and expects nothing to be found.
    pub fn run(&self, module: &Module, kernel: &str, shape: ([u32; 3], [u32; 3], u32), args: &[Arg]) -> Outcome {
        let outcome = self.launch(module, kernel, shape, args, &LaunchOptions::checked());
        assert_clean(kernel, &outcome);
        outcome
    }
}

/// Panics with what a launch found.
pub fn assert_clean(kernel: &str, outcome: &Outcome) {
    let found: Vec<_> = outcome.findings.iter().map(|f| &f.message).collect();
    assert!(outcome.error.is_none() && found.is_empty(), "{kernel}: {:?} {found:#?}", outcome.error);
}

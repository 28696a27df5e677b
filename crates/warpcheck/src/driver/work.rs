//! The operations of streams and graphs, and how each is run.

use super::clock::{self, Cost};
use super::context::Context;
use super::event::Event;
use super::ffi;
use super::graph_exec::GraphPlan;
use super::launch::KernelLaunch;
use super::ownership;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::table::Handle;
use crate::engine::Grid;
use std::ffi::c_void;
use std::sync::Arc;

/// One operation.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Nothing: a place in the order.
    Nothing,
    /// A kernel.
    Kernel(Arc<KernelLaunch>),
    /// A copy of rows.
    Copy(Arc<Copy>),
    /// A pattern over rows.
    Fill(Fill),
    /// A function of the client.
    Host(HostFunction),
    /// An event's mark, as a node of a graph.
    Record(Arc<Event>),
    /// A wait for an event, as a node of a graph.
    Wait(Arc<Event>),
    /// Allocates memory of a graph: it exists as long as the graph.
    Allocate,
    /// The end of an allocation.
    Free(u64),
    /// Frees memory of a graph: it stays mapped, for the graph's next launch.
    Retire(u64),
    /// A graph's nodes.
    Graph(Arc<GraphPlan>),
}

/// One side of a copy.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// An address in the devices' space.
    Device(u64),
    /// An address of the process.
    Host(usize),
    /// The bytes at an address of the process when the client asked for the copy.
    Staged(Arc<Vec<u8>>),
}

/// A copy of `depth` planes of `height` rows of `width` bytes.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub to: End,
    pub from: End,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    /// Row and plane pitch in bytes.
    pub to_pitch: [usize; 2],
    pub from_pitch: [usize; 2],
}

/// A pattern of 1, 2 or 4 bytes over `height` rows of `width` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    pub address: u64,
    pub pattern: u32,
    pub element: u32,
    pub width: usize,
    pub height: usize,
    pub pitch: usize,
}

/// A host function to be called in stream order.
#[derive(Debug, Clone, Copy)]
pub(super) enum HostFunction {
    /// `cuLaunchHostFunc`.
    Plain { function: unsafe extern "C" fn(*mut c_void), data: usize },
    /// `cuStreamAddCallback`.
    Callback { function: unsafe extern "C" fn(usize, CuResult, *mut c_void), stream: Handle, data: usize },
}

/// Where an operation stands in a stream or a graph.
#[derive(Debug)]
pub(super) struct Position<'p> {
    /// The modelled time at which it begins.
    pub begun: f64,
    /// The fixed cost of a kernel there, in ns.
    pub fixed: f64,
    /// The kernels before it that it may overlap.
    pub overlapped: &'p [Arc<Grid>],
    /// After a kernel: what it was, for those that may overlap it.
    pub grid: Option<Arc<Grid>>,
}

impl Work {
    /// Whether it is a kernel that may overlap the one before it.
    pub fn is_programmatic(&self) -> bool {
        matches!(self, Work::Kernel(kernel) if kernel.programmatic)
    }

    /// Whether it may wait for the client's threads: in a host function, or for an event.
    pub fn calls_host(&self) -> bool {
        match self {
            Work::Host(_) | Work::Wait(_) => true,
            Work::Graph(program) => program.calls_host(),
            _ => false,
        }
    }

    /// Replaces the operation after an earlier fault: only a callback is still called, with the error.
    pub fn skip(&self, status: CuResult) {
        if let Work::Host(function @ HostFunction::Callback { .. }) = self {
            function.call(status);
        }
    }

    /// Runs the operation; returns its modelled cost.
    pub fn run(
        &self,
        driver: &'static Driver,
        context: &Arc<Context>,
        position: &mut Position<'_>,
    ) -> DriverResult<Cost> {
        let profile = driver.profile(context.device);
        match self {
            Work::Nothing | Work::Allocate | Work::Retire(_) => Ok(Cost::default()),
            Work::Kernel(kernel) => kernel.run(driver, context, position),
            Work::Copy(copy) => copy.run(driver).map(|()| clock::copy(profile, copy).into()),
            Work::Fill(fill) => fill.run(driver).map(|()| clock::fill(profile, fill).into()),
            Work::Host(function) => {
                function.call(CuResult::SUCCESS);
                Ok(clock::HOST_FUNCTION.into())
            }
            Work::Record(event) => {
                event.mark_now(position.begun);
                Ok(Cost::default())
            }
            Work::Wait(event) => {
                event.wait_inside()?;
                Ok(Cost::default())
            }
            Work::Free(address) => {
                ownership::release(driver, *address)?;
                Ok(Cost::default())
            }
            Work::Graph(program) => program.run(driver, context, position.begun),
        }
    }
}

impl HostFunction {
    /// Calls it, with the status of the work before.
    fn call(&self, status: CuResult) {
        ffi::calling_back(|| match *self {
            // SAFETY: the client gave the function and its argument to be called here.
            HostFunction::Plain { function, data } => unsafe { function(data as *mut c_void) },
            // SAFETY: as above.
            HostFunction::Callback { function, stream, data } => unsafe {
                function(stream, status, data as *mut c_void)
            },
        });
    }
}

impl Copy {
    /// A plain copy of bytes.
    pub fn flat(to: End, from: End, bytes: usize) -> Copy {
        Copy { to, from, width: bytes, height: 1, depth: 1, to_pitch: [0; 2], from_pitch: [0; 2] }
    }

    /// The bytes copied.
    pub fn bytes(&self) -> u64 {
        self.width as u64 * self.height as u64 * self.depth as u64
    }

    fn run(&self, driver: &Driver) -> DriverResult {
        for plane in 0..self.depth {
            for row in 0..self.height {
                let to = plane * self.to_pitch[1] + row * self.to_pitch[0];
                let from = plane * self.from_pitch[1] + row * self.from_pitch[0];
                self.run_row(driver, to, from)?;
            }
        }
        Ok(())
    }

    fn run_row(&self, driver: &Driver, to: usize, from: usize) -> DriverResult {
        let memory = driver.engine.memory();
        let width = self.width;
        let done = match (&self.to, &self.from) {
            (End::Device(target), End::Device(source)) => {
                memory.copy(target + to as u64, source + from as u64, width as u64)
            }
            (End::Device(target), End::Host(source)) => {
                // SAFETY: the client promises that the source can be read until the copy is done.
                let row = unsafe { std::slice::from_raw_parts((source + from) as *const u8, width) };
                memory.write(target + to as u64, row)
            }
            (End::Device(target), End::Staged(data)) => memory.write(target + to as u64, &data[from..from + width]),
            (End::Host(target), End::Device(source)) => {
                // SAFETY: the client promises that the target can be written until the copy is done.
                let row = unsafe { std::slice::from_raw_parts_mut((target + to) as *mut u8, width) };
                memory.read(source + from as u64, row)
            }
            (End::Host(target), End::Host(source)) => {
                // SAFETY: the client promises both ranges; they may overlap.
                unsafe {
                    std::ptr::copy((source + from) as *const u8, (target + to) as *mut u8, width);
                }
                Ok(())
            }
            (End::Host(target), End::Staged(data)) => {
                // SAFETY: the client promises that the target can be written.
                let row = unsafe { std::slice::from_raw_parts_mut((target + to) as *mut u8, width) };
                row.copy_from_slice(&data[from..from + width]);
                Ok(())
            }
            (End::Staged(_), _) => return Err(CuResult::INVALID_VALUE),
        };
        // The memory was freed after the check at submission.
        done.map_err(|_| CuResult::ILLEGAL_ADDRESS)
    }
}

impl Fill {
    /// The bytes written.
    pub fn bytes(&self) -> u64 {
        self.width as u64 * self.height as u64 * u64::from(self.element)
    }

    fn run(&self, driver: &Driver) -> DriverResult {
        for row in 0..self.height {
            driver
                .engine
                .memory()
                .fill(self.address + (row * self.pitch) as u64, self.pattern, self.element, self.width as u64)
                .map_err(|_| CuResult::ILLEGAL_ADDRESS)?;
        }
        Ok(())
    }
}

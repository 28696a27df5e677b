//! Adding nodes to graphs, and their parameters.

use super::capture::NodeId;
use super::copy_shape;
use super::ffi::{In, Out, api};
use super::fill;
use super::graph;
use super::graph_exec::GraphPlan;
use super::launch::KernelLaunch;
use super::ownership;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::structs::{AllocationNode, Copy3D, FillNode, HostNode, KernelNode};
use super::table::Handle;
use super::work::{Copy, End, Fill, HostFunction, Work};
use crate::memory::Kind;
use std::sync::Arc;

/// Where to store a new node's handle.
struct Place {
    out: Out<Handle>,
    graph: Handle,
    after: In<NodeId>,
    count: usize,
}

impl Place {
    fn add(self, driver: &Driver, work: DriverResult<Work>) -> DriverResult {
        self.out.required()?;
        let graph = driver.graphs.get(self.graph)?;
        let after = self.after.list(self.count)?;
        self.out.set(graph.add(driver, work?, after, Vec::new())?)
    }
}

/// The launch of a kernel node.
pub(super) fn kernel(driver: &Driver, node: In<KernelNode>) -> DriverResult<Work> {
    let node = node.get()?;
    let function = if node.function == 0 { node.kernel } else { node.function };
    let parameters = (In::from_address(node.parameters as usize), In::from_address(node.extra as usize));
    let launch = KernelLaunch::check(driver, function, node.grid, node.block, node.shared_bytes, parameters)?;
    Ok(Work::Kernel(Arc::new(launch)))
}

/// The copy of a copy node.
pub(super) fn copy(driver: &Driver, shape: In<Copy3D>) -> DriverResult<Work> {
    let copy = copy_shape::copy_of(driver, &shape.get()?)?;
    Ok(Work::Copy(Arc::new(copy.ok_or(CuResult::INVALID_VALUE)?)))
}

/// The fill of a fill node.
pub(super) fn filled(driver: &Driver, node: In<FillNode>) -> DriverResult<Work> {
    let FillNode { address, pitch, value, element, width, height } = node.get()?;
    if !matches!(element, 1 | 2 | 4) || (element < 4 && value >> (8 * element) != 0) {
        return Err(CuResult::INVALID_VALUE);
    }
    let fill = Fill { address, pattern: value, element, width, height, pitch };
    fill::checked(driver, fill)?.map(Work::Fill).ok_or(CuResult::INVALID_VALUE)
}

/// The function of a host node.
pub(super) fn host(node: In<HostNode>) -> DriverResult<Work> {
    let HostNode { function, data } = node.get()?;
    let function = function.ok_or(CuResult::INVALID_VALUE)?;
    Ok(Work::Host(HostFunction::Plain { function, data }))
}

/// Replaces what a node does; its kind stays.
fn set(driver: &Driver, id: NodeId, work: DriverResult<Work>) -> DriverResult {
    let graph = driver.nodes.get(id)?;
    let work = work?;
    graph.change(id, |node| {
        if std::mem::discriminant(&node.work) != std::mem::discriminant(&work) {
            return Err(CuResult::INVALID_VALUE);
        }
        node.work = work;
        Ok(())
    })
}

fn work_of(driver: &Driver, id: NodeId) -> DriverResult<Work> {
    graph::node(driver, id).map(|(_, node)| node.work)
}

/// The description of a copy, in the client's structure.
fn described(copy: &Copy) -> Copy3D {
    let side = |end: &End, [pitch, plane]: [usize; 2]| {
        let (memory, host, device) = match end {
            End::Device(address) => (2, 0, *address),
            End::Host(address) => (1, *address, 0),
            // Only streams stage copies.
            End::Staged(data) => (1, data.as_ptr() as usize, 0),
        };
        let height = plane.checked_div(pitch).unwrap_or(0);
        super::structs::Side3D {
            x_bytes: 0,
            y: 0,
            z: 0,
            lod: 0,
            memory,
            host,
            device,
            array: 0,
            reserved: 0,
            pitch,
            height,
        }
    };
    Copy3D {
        from: side(&copy.from, copy.from_pitch),
        to: side(&copy.to, copy.to_pitch),
        width_bytes: copy.width,
        height: copy.height,
        depth: copy.depth,
    }
}

api! {
    /// Adds a node that does nothing.
    fn cuGraphAddEmptyNode[driver](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize,
    ) {
        Place { out, graph, after, count }.add(driver, Ok(Work::Nothing))
    }

    /// Adds a kernel.
    fn cuGraphAddKernelNode_v2[driver](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, node: In<KernelNode>,
    ) {
        Place { out, graph, after, count }.add(driver, kernel(driver, node))
    }

    /// Adds a copy.
    fn cuGraphAddMemcpyNode[driver](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize,
        shape: In<Copy3D>, _context: Handle,
    ) {
        Place { out, graph, after, count }.add(driver, copy(driver, shape))
    }

    /// Adds a fill.
    fn cuGraphAddMemsetNode[driver](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize,
        node: In<FillNode>, _context: Handle,
    ) {
        Place { out, graph, after, count }.add(driver, filled(driver, node))
    }

    /// Adds a host function.
    fn cuGraphAddHostNode[driver](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, node: In<HostNode>,
    ) {
        Place { out, graph, after, count }.add(driver, host(node))
    }

    /// Adds a child graph: a copy of the graph as it is now.
    fn cuGraphAddChildGraphNode[driver](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, child: Handle,
    ) {
        let work = driver.graphs.get(child).and_then(|child| GraphPlan::of(&child));
        Place { out, graph, after, count }
            .add(driver, work.map(|program| Work::Graph(Arc::new(program))))
    }

    /// Adds the mark of an event.
    fn cuGraphAddEventRecordNode[driver](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, event: Handle,
    ) {
        Place { out, graph, after, count }.add(driver, driver.events.get(event).map(Work::Record))
    }

    /// Adds a wait for an event.
    fn cuGraphAddEventWaitNode[driver](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, event: Handle,
    ) {
        Place { out, graph, after, count }.add(driver, driver.events.get(event).map(Work::Wait))
    }

    /// Adds an allocation node: the memory exists from now on, as long as the graph.
    fn cuGraphAddMemAllocNode[driver, context](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize,
        node: Out<AllocationNode>,
    ) {
        let mut parameters = node.get()?;
        if parameters.bytes == 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        let owner = driver.graphs.get(graph)?;
        let bytes = parameters.bytes as u64;
        let address =
            ownership::allocate(driver, Kind::Device, context, 0, bytes, "cuGraphAddMemAllocNode")?;
        owner.own(address);
        parameters.address = address;
        node.set(parameters)?;
        Place { out, graph, after, count }.add(driver, Ok(Work::Allocate))
    }

    /// Adds a free node.
    fn cuGraphAddMemFreeNode[driver](
        out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, address: u64,
    ) {
        Place { out, graph, after, count }.add(driver, Ok(Work::Free(address)))
    }

    /// The parameters of a kernel node.
    fn cuGraphKernelNodeGetParams_v2[driver](id: Handle, out: Out<KernelNode>) {
        let Work::Kernel(launch) = work_of(driver, id)? else {
            return Err(CuResult::INVALID_VALUE);
        };
        out.set(KernelNode {
            function: launch.function_handle,
            grid: launch.grid,
            block: launch.block,
            shared_bytes: launch.dynamic_shared,
            // Valid as long as the node keeps its parameters.
            parameters: launch.pointers().as_ptr().cast(),
            extra: std::ptr::null(),
            kernel: 0,
            context: launch.function.context_handle,
        })
    }

    /// Sets the parameters of a kernel node.
    fn cuGraphKernelNodeSetParams_v2[driver](id: Handle, node: In<KernelNode>) {
        set(driver, id, kernel(driver, node))
    }

    /// The parameters of a copy node.
    fn cuGraphMemcpyNodeGetParams[driver](id: Handle, out: Out<Copy3D>) {
        let Work::Copy(copy) = work_of(driver, id)? else {
            return Err(CuResult::INVALID_VALUE);
        };
        out.set(described(&copy))
    }

    /// Sets the parameters of a copy node.
    fn cuGraphMemcpyNodeSetParams[driver](id: Handle, shape: In<Copy3D>) {
        set(driver, id, copy(driver, shape))
    }

    /// The parameters of a fill node.
    fn cuGraphMemsetNodeGetParams[driver](id: Handle, out: Out<FillNode>) {
        let Work::Fill(Fill { address, pattern, element, width, height, pitch }) =
            work_of(driver, id)?
        else {
            return Err(CuResult::INVALID_VALUE);
        };
        out.set(FillNode { address, pitch, value: pattern, element, width, height })
    }

    /// Sets the parameters of a fill node.
    fn cuGraphMemsetNodeSetParams[driver](id: Handle, node: In<FillNode>) {
        set(driver, id, filled(driver, node))
    }

    /// The parameters of a host node.
    fn cuGraphHostNodeGetParams[driver](id: Handle, out: Out<HostNode>) {
        let Work::Host(HostFunction::Plain { function, data }) = work_of(driver, id)? else {
            return Err(CuResult::INVALID_VALUE);
        };
        out.set(HostNode { function: Some(function), data })
    }

    /// Sets the parameters of a host node.
    fn cuGraphHostNodeSetParams[driver](id: Handle, node: In<HostNode>) {
        set(driver, id, host(node))
    }

    /// Sets the event of an event-record node.
    fn cuGraphEventRecordNodeSetEvent[driver](id: Handle, event: Handle) {
        set(driver, id, driver.events.get(event).map(Work::Record))
    }

    /// Sets the event of an event-wait node.
    fn cuGraphEventWaitNodeSetEvent[driver](id: Handle, event: Handle) {
        set(driver, id, driver.events.get(event).map(Work::Wait))
    }

    /// The memory that a node frees.
    fn cuGraphMemFreeNodeGetParams[driver](id: Handle, out: Out<u64>) {
        match work_of(driver, id)? {
            Work::Free(address) | Work::Retire(address) => out.set(address),
            _ => Err(CuResult::INVALID_VALUE),
        }
    }
}

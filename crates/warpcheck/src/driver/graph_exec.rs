//! Instantiated graphs: launching and updating them.

use super::capture::NodeId;
use super::clock::{self, Cost};
use super::context::Context;
use super::ffi::{In, Out, api};
use super::graph::{Graph, GraphMemory, Node};
use super::graph_node;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::stream;
use super::structs::{Copy3D, FillNode, HostNode, InstantiateParameters, KernelNode, UpdateResult};
use super::table::{Handle, lock};
use super::work::{Position, Work};
use crate::clock::Times;
use crate::engine::Grid;
use std::collections::HashMap;
use std::ffi::c_uint;
use std::sync::{Arc, Mutex};

const AUTO_FREE: u64 = 1;
const DEVICE_LAUNCH: u64 = 4;
const ALL_FLAGS: u64 = 15;

/// A graph's nodes in an order that respects their dependencies.
#[derive(Debug, Clone)]
pub(super) struct GraphPlan {
    steps: Vec<Step>,
    /// The graph's own memory stays while the plan can run.
    _memory: Arc<GraphMemory>,
}

#[derive(Debug, Clone)]
struct Step {
    id: NodeId,
    kind: u32,
    work: Work,
    /// Earlier steps that it depends on.
    after: Vec<usize>,
    /// Of these the kernels that it may overlap.
    programmatic: Vec<usize>,
    enabled: bool,
}

/// An instantiated graph.
#[derive(Debug)]
pub(super) struct Exec {
    plan: Mutex<Arc<GraphPlan>>,
    flags: u64,
}

impl GraphPlan {
    /// Orders the nodes topologically, stable with respect to the graph's order.
    pub fn of(graph: &Graph) -> DriverResult<GraphPlan> {
        let mut open = graph.nodes();
        let mut place: HashMap<NodeId, usize> = HashMap::new();
        let mut steps = Vec::with_capacity(open.len());
        while !open.is_empty() {
            let before = open.len();
            let mut later = Vec::new();
            for node in open {
                if node.after.iter().all(|id| place.contains_key(id)) {
                    let kind = node.kind();
                    let Node { id, work, after, programmatic, .. } = node;
                    let [after, programmatic] =
                        [after, programmatic].map(|list| list.iter().map(|id| place[id]).collect());
                    place.insert(id, steps.len());
                    steps.push(Step { id, kind, work, after, programmatic, enabled: true });
                } else {
                    later.push(node);
                }
            }
            if later.len() == before {
                // A circle.
                return Err(CuResult::INVALID_VALUE);
            }
            open = later;
        }
        Ok(GraphPlan { steps, _memory: graph.memory() })
    }

    /// Whether some step may wait for the client's threads.
    pub fn calls_host(&self) -> bool {
        self.steps.iter().any(|step| step.enabled && step.work.calls_host())
    }

    /// The order in which the steps run: that of the graph. With a schedule, step number `schedule` (modulo their number) and
    /// what depends on it come after all others: of two steps that no edge orders, in some schedule each runs first.
    fn order(&self, schedule: Option<u64>) -> Vec<usize> {
        let count = self.steps.len();
        let late = schedule.and_then(|seed| seed.checked_rem(count as u64)).map(|late| late as usize);
        let mut follows = vec![false; count];
        for (index, step) in self.steps.iter().enumerate() {
            follows[index] = late == Some(index) || step.after.iter().any(|&before| follows[before]);
        }
        let (later, first): (Vec<usize>, Vec<usize>) = (0..count).partition(|&index| follows[index]);
        first.into_iter().chain(later).collect()
    }

    /// Runs all steps. The modelled time is that of the longest path, or what all kernels together take of the device's units,
    /// if that is longer.
    pub fn run(&self, driver: &'static Driver, context: &Arc<Context>, begun: f64) -> DriverResult<Cost> {
        let mut units = Times::default();
        let mut ends = vec![0.0; self.steps.len()];
        let mut grids: Vec<Option<Arc<Grid>>> = vec![None; self.steps.len()];
        for index in self.order(driver.options().launch.schedule) {
            let step = &self.steps[index];
            let start = step.after.iter().map(|index| ends[*index]).fold(0.0, f64::max);
            let overlapped: Vec<_> = step.programmatic.iter().filter_map(|&index| grids[index].clone()).collect();
            let mut position =
                Position { begun: begun + start, fixed: clock::NODE, overlapped: &overlapped, grid: None };
            let cost = match step.enabled {
                true => step.work.run(driver, context, &mut position)?,
                false => Cost::default(),
            };
            grids[index] = position.grid;
            units.add(&cost.units);
            ends[index] = start + cost.time;
        }
        Ok(Cost { time: ends.into_iter().fold(units.total(), f64::max), units })
    }

    /// Why this plan cannot replace another one (`CUgraphExecUpdateResult`), with the step.
    fn differs(&self, other: &GraphPlan) -> Option<(c_uint, NodeId)> {
        if self.steps.len() != other.steps.len() {
            return Some((2, 0));
        }
        self.steps.iter().zip(&other.steps).find_map(|(old, new)| {
            let result = if old.kind != new.kind {
                3
            } else if old.after != new.after || old.programmatic != new.programmatic {
                2
            } else {
                return None;
            };
            Some((result, new.id))
        })
    }
}

fn instantiate(driver: &Driver, out: Out<Handle>, graph: Handle, flags: u64) -> DriverResult {
    out.required()?;
    if flags & !ALL_FLAGS != 0 || flags & (AUTO_FREE | DEVICE_LAUNCH) == AUTO_FREE | DEVICE_LAUNCH {
        return Err(CuResult::INVALID_VALUE);
    }
    if flags & DEVICE_LAUNCH != 0 {
        driver.report.note("a graph to be launched by kernels is refused: not supported");
        return Err(CuResult::NOT_SUPPORTED);
    }
    let plan = GraphPlan::of(&*driver.graphs.get(graph)?)?;
    out.set(driver.execs.add(Exec { plan: Mutex::new(Arc::new(plan)), flags }))
}

/// Changes a step of an executable graph; queued launches keep the old one.
fn change(driver: &Driver, exec: Handle, id: NodeId, change: impl FnOnce(&mut Step) -> DriverResult) -> DriverResult {
    let exec = driver.execs.get(exec)?;
    let mut plan = lock(&exec.plan);
    let steps = &mut Arc::make_mut(&mut plan).steps;
    let step = steps.iter_mut().find(|step| step.id == id);
    change(step.ok_or(CuResult::INVALID_VALUE)?)
}

fn set(driver: &Driver, exec: Handle, id: NodeId, work: DriverResult<Work>) -> DriverResult {
    let work = work?;
    change(driver, exec, id, |step| {
        if std::mem::discriminant(&step.work) != std::mem::discriminant(&work) {
            return Err(CuResult::INVALID_VALUE);
        }
        step.work = work;
        Ok(())
    })
}

api! {
    /// Makes a graph ready to launch.
    fn cuGraphInstantiateWithFlags[driver](out: Out<Handle>, graph: Handle, flags: u64) {
        instantiate(driver, out, graph, flags)
    }

    /// Makes a graph ready to launch.
    fn cuGraphInstantiateWithParams[driver](
        out: Out<Handle>, graph: Handle, parameters: Out<InstantiateParameters>,
    ) {
        let mut given = parameters.get()?;
        let answer = instantiate(driver, out, graph, given.flags);
        given.error_node = 0;
        given.result = c_uint::from(answer.is_err());
        parameters.set(given)?;
        answer
    }

    /// Makes a graph ready to launch; the log buffer stays empty.
    fn cuGraphInstantiate_v2[driver](
        out: Out<Handle>, graph: Handle, node: Out<Handle>, log: Out<u8>, room: usize,
    ) {
        node.set_if(0);
        if room > 0 {
            log.set_if(0);
        }
        instantiate(driver, out, graph, 0)
    }

    /// The flags that a graph was instantiated with.
    fn cuGraphExecGetFlags[driver](exec: Handle, flags: Out<u64>) {
        flags.required()?;
        flags.set(driver.execs.get(exec)?.flags)
    }

    /// Destroys an executable graph; queued launches still run.
    fn cuGraphExecDestroy[driver](exec: Handle) {
        driver.execs.remove(exec).map(|_| ())
    }

    /// Uploads a graph: nothing to do.
    fn cuGraphUpload[driver](exec: Handle, stream: Handle) {
        driver.execs.get(exec)?;
        let stream = stream::named(driver, stream)?;
        stream.context()?.check_error()?;
        stream.add(driver, Work::Nothing).map(|_| ())
    }

    /// Launches a graph.
    fn cuGraphLaunch[driver](exec: Handle, stream: Handle) {
        let exec = driver.execs.get(exec)?;
        let stream = stream::named(driver, stream)?;
        stream.context()?.check_error()?;
        let plan = lock(&exec.plan).clone();
        stream.add(driver, Work::Graph(plan)).map(|_| ())
    }

    /// Updates an executable graph from another graph of the same topology.
    fn cuGraphExecUpdate_v2[driver](exec: Handle, graph: Handle, result: Out<UpdateResult>) {
        result.required()?;
        let exec = driver.execs.get(exec)?;
        let new = GraphPlan::of(&*driver.graphs.get(graph)?)?;
        let mut plan = lock(&exec.plan);
        if let Some((code, node)) = plan.differs(&new) {
            result.set(UpdateResult { result: code, error_node: node, error_from_node: 0 })?;
            return Err(CuResult::GRAPH_EXEC_UPDATE_FAILURE);
        }
        // Steps keep the client's node handles.
        let mut steps = plan.steps.clone();
        for (old, new) in steps.iter_mut().zip(new.steps) {
            old.work = new.work;
        }
        *plan = Arc::new(GraphPlan { steps, _memory: new._memory });
        result.set(UpdateResult { result: 0, error_node: 0, error_from_node: 0 })
    }

    /// Sets the launch of a kernel node.
    fn cuGraphExecKernelNodeSetParams_v2[driver](
        exec: Handle, id: Handle, node: In<KernelNode>,
    ) {
        set(driver, exec, id, graph_node::kernel(driver, node))
    }

    /// Sets the copy of a copy node.
    fn cuGraphExecMemcpyNodeSetParams[driver](
        exec: Handle, id: Handle, shape: In<Copy3D>, _context: Handle,
    ) {
        set(driver, exec, id, graph_node::copy(driver, shape))
    }

    /// Sets the fill of a fill node.
    fn cuGraphExecMemsetNodeSetParams[driver](
        exec: Handle, id: Handle, node: In<FillNode>, _context: Handle,
    ) {
        set(driver, exec, id, graph_node::filled(driver, node))
    }

    /// Sets the function of a host node.
    fn cuGraphExecHostNodeSetParams[driver](exec: Handle, id: Handle, node: In<HostNode>) {
        set(driver, exec, id, graph_node::host(node))
    }

    /// Sets the graph of a child node.
    fn cuGraphExecChildGraphNodeSetParams[driver](exec: Handle, id: Handle, child: Handle) {
        let plan = driver.graphs.get(child).and_then(|child| GraphPlan::of(&child));
        set(driver, exec, id, plan.map(|plan| Work::Graph(Arc::new(plan))))
    }

    /// Sets the event of an event-record node.
    fn cuGraphExecEventRecordNodeSetEvent[driver](exec: Handle, id: Handle, event: Handle) {
        set(driver, exec, id, driver.events.get(event).map(Work::Record))
    }

    /// Sets the event of an event-wait node.
    fn cuGraphExecEventWaitNodeSetEvent[driver](exec: Handle, id: Handle, event: Handle) {
        set(driver, exec, id, driver.events.get(event).map(Work::Wait))
    }

    /// Enables or disables a kernel, copy or fill node of an executable graph.
    fn cuGraphNodeSetEnabled[driver](exec: Handle, id: Handle, enabled: c_uint) {
        change(driver, exec, id, |step| {
            if enabled > 1 || step.kind > 2 {
                return Err(CuResult::INVALID_VALUE);
            }
            step.enabled = enabled == 1;
            Ok(())
        })
    }

    /// Whether a node of an executable graph is enabled.
    fn cuGraphNodeGetEnabled[driver](exec: Handle, id: Handle, enabled: Out<c_uint>) {
        enabled.required()?;
        let exec = driver.execs.get(exec)?;
        let plan = lock(&exec.plan).clone();
        let step = plan.steps.iter().find(|step| step.id == id);
        enabled.set(c_uint::from(step.ok_or(CuResult::INVALID_VALUE)?.enabled))
    }
}

//! Graphs: nodes and what each depends on.

use super::capture::NodeId;
use super::ffi::{In, Out, Text, api};
use super::ownership;
use super::result::{CuResult, DriverResult};
use super::state::{self, Driver};
use super::table::{Handle, Table, lock};
use super::work::Work;
use std::collections::{HashMap, HashSet};
use std::ffi::c_uint;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

/// One graph.
#[derive(Debug)]
pub(super) struct Graph {
    pub handle: Handle,
    body: Mutex<Vec<Node>>,
    memory: Arc<GraphMemory>,
}

/// One node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub id: NodeId,
    /// In a clone: the node that this one is a copy of.
    pub original: NodeId,
    pub work: Work,
    pub after: Vec<NodeId>,
    /// Of these the kernels that this one, a kernel too, may overlap: programmatic edges.
    pub programmatic: Vec<NodeId>,
}

/// `CUgraphEdgeData` of a programmatic edge: from the kernel's port `PROGRAMMATIC` (1), of type `PROGRAMMATIC` (1).
const PROGRAMMATIC: u64 = 0x01_00_01;

/// Memory that was allocated by nodes of a graph: it lives as long as the graph and what was
/// made of it.
#[derive(Debug, Default)]
pub(super) struct GraphMemory(Mutex<Vec<u64>>);

impl Drop for GraphMemory {
    fn drop(&mut self) {
        if let Ok(driver) = state::driver() {
            for address in lock(&self.0).drain(..) {
                // The client may have freed it already.
                let _ = ownership::release(driver, address);
            }
        }
    }
}

impl Node {
    /// The node's kind (`CUgraphNodeType`).
    pub fn kind(&self) -> u32 {
        match &self.work {
            Work::Kernel(_) => 0,
            Work::Copy(_) => 1,
            Work::Fill(_) => 2,
            Work::Host(_) => 3,
            Work::Graph(_) => 4,
            Work::Nothing => 5,
            Work::Wait(_) => 6,
            Work::Record(_) => 7,
            Work::Allocate => 10,
            Work::Free(_) | Work::Retire(_) => 11,
        }
    }

    /// What it depends on, with the data of each edge.
    fn edges(&self) -> Vec<Edge> {
        let data = |id| if self.programmatic.contains(id) { PROGRAMMATIC } else { 0 };
        self.after.iter().map(|id| (*id, data(id))).collect()
    }
}

impl Graph {
    /// A new graph without nodes.
    pub fn create(driver: &Driver) -> Arc<Graph> {
        Graph::with(driver, Vec::new(), Arc::default())
    }

    fn with(driver: &Driver, nodes: Vec<Node>, memory: Arc<GraphMemory>) -> Arc<Graph> {
        let handle = Table::<Graph>::reserve();
        let graph = Arc::new(Graph { handle, body: Mutex::new(nodes), memory });
        for node in lock(&graph.body).iter() {
            driver.nodes.enter(node.id, graph.clone());
        }
        driver.graphs.enter(handle, graph.clone());
        graph
    }

    /// Takes a graph and its nodes out of the tables.
    pub fn destroy(driver: &Driver, handle: Handle) -> DriverResult {
        let graph = driver.graphs.remove(handle)?;
        for node in lock(&graph.body).iter() {
            driver.nodes.remove(node.id)?;
        }
        Ok(())
    }

    fn copy(&self, driver: &Driver) -> Arc<Graph> {
        let mut nodes = self.nodes();
        let new: HashMap<NodeId, NodeId> = nodes.iter().map(|node| (node.id, Table::<Graph>::reserve())).collect();
        for node in &mut nodes {
            node.original = node.id;
            node.id = new[&node.id];
            node.after.iter_mut().chain(&mut node.programmatic).for_each(|id| *id = new[id]);
        }
        Graph::with(driver, nodes, self.memory.clone())
    }

    /// Adds a node; some of its dependencies may be programmatic.
    pub fn add(
        self: &Arc<Self>,
        driver: &Driver,
        work: Work,
        after: Vec<NodeId>,
        programmatic: Vec<NodeId>,
    ) -> DriverResult<NodeId> {
        let work = match work {
            Work::Free(address) if lock(&self.memory.0).contains(&address) => Work::Retire(address),
            work => work,
        };
        let id = Table::<Graph>::reserve();
        let mut nodes = lock(&self.body);
        let known = |id: &NodeId| nodes.iter().any(|node| node.id == *id);
        let distinct: HashSet<&NodeId> = after.iter().collect();
        if !after.iter().all(known) || distinct.len() != after.len() {
            return Err(CuResult::INVALID_VALUE);
        }
        nodes.push(Node { id, original: 0, work, after, programmatic });
        driver.nodes.enter(id, self.clone());
        Ok(id)
    }

    /// Gives memory to the graph.
    pub fn own(&self, address: u64) {
        lock(&self.memory.0).push(address);
    }

    /// The owner of the graph's memory.
    pub fn memory(&self) -> Arc<GraphMemory> {
        self.memory.clone()
    }

    /// The nodes as they are now.
    pub fn nodes(&self) -> Vec<Node> {
        lock(&self.body).clone()
    }

    /// Whether a node is one of the graph's.
    pub fn has(&self, id: NodeId) -> bool {
        lock(&self.body).iter().any(|node| node.id == id)
    }

    /// These nodes and all that they depend on.
    pub fn ancestors(&self, of: &[NodeId]) -> HashSet<NodeId> {
        let nodes = lock(&self.body);
        let after: HashMap<NodeId, &[NodeId]> = nodes.iter().map(|node| (node.id, node.after.as_slice())).collect();
        let mut found = HashSet::new();
        let mut open = of.to_vec();
        while let Some(id) = open.pop() {
            if found.insert(id) {
                open.extend(after.get(&id).copied().unwrap_or_default());
            }
        }
        found
    }

    /// Changes a node.
    pub fn change(&self, id: NodeId, change: impl FnOnce(&mut Node) -> DriverResult) -> DriverResult {
        let mut nodes = lock(&self.body);
        let node = nodes.iter_mut().find(|node| node.id == id);
        change(node.ok_or(CuResult::INVALID_HANDLE)?)
    }
}

/// A node of a handle, with its graph.
pub(super) fn node(driver: &Driver, id: NodeId) -> DriverResult<(Arc<Graph>, Node)> {
    let graph = driver.nodes.get(id)?;
    let node = graph.nodes().into_iter().find(|node| node.id == id);
    Ok((graph, node.ok_or(CuResult::INVALID_HANDLE)?))
}

/// Returns a list as CUDA does: without a buffer its length; otherwise as many as fit,
/// the rest of the buffer filled with null.
fn give(values: &[Handle], place: Out<Handle>, count: Out<usize>) -> DriverResult {
    count.required()?;
    if !place.wanted() {
        return count.set(values.len());
    }
    let room = count.get()?;
    for index in 0..room {
        place.at(index).set_if(values.get(index).copied().unwrap_or(0));
    }
    count.set(values.len().min(room))
}

fn edges(
    driver: &Driver,
    graph: Handle,
    (from, to, data): (Out<Handle>, Out<Handle>, Out<u64>),
    count: Out<usize>,
) -> DriverResult {
    let nodes = driver.graphs.get(graph)?.nodes();
    let edges: Vec<(Edge, Handle)> =
        nodes.iter().flat_map(|node| node.edges().into_iter().map(|edge| (edge, node.id))).collect();
    count.required()?;
    if from.wanted() != to.wanted() {
        return Err(CuResult::INVALID_VALUE);
    }
    let (before, after): (Vec<_>, Vec<_>) = edges.into_iter().unzip();
    let room = if from.wanted() { count.get()? } else { 0 };
    give_edges(&before, (from, data), count)?;
    if from.wanted() {
        count.set(room)?;
        give(&after, to, count)?;
    }
    Ok(())
}

/// A node at the other end of an edge, and the edge's data.
type Edge = (NodeId, u64);

/// [`give`] with the edges' data; it is an error not to ask for data that is not zero.
fn give_edges(edges: &[Edge], (place, data): (Out<Handle>, Out<u64>), count: Out<usize>) -> DriverResult {
    if place.wanted() && !data.wanted() && edges.iter().any(|(_, data)| *data != 0) {
        return Err(CuResult::LOSSY_QUERY);
    }
    let (nodes, values): (Vec<_>, Vec<_>) = edges.iter().copied().unzip();
    if place.wanted() && data.wanted() {
        (0..count.get()?).for_each(|index| data.at(index).set_if(values.get(index).copied().unwrap_or(0)));
    }
    give(&nodes, place, count)
}

fn dependents(driver: &Driver, id: NodeId) -> DriverResult<Vec<Edge>> {
    let (graph, _) = node(driver, id)?;
    let edge =
        |node: &Node| node.edges().into_iter().find(|(before, _)| *before == id).map(|(_, data)| (node.id, data));
    Ok(graph.nodes().iter().filter_map(edge).collect())
}

fn change_edges(
    driver: &Driver,
    graph: Handle,
    (from, to, data): (In<Handle>, In<Handle>, In<u64>),
    count: usize,
    add: bool,
) -> DriverResult {
    let graph = driver.graphs.get(graph)?;
    let data = if data.is_null() { vec![0; count] } else { data.list(count)? };
    let pairs = from.list(count)?.into_iter().zip(to.list(count)?);
    for ((from, to), data) in pairs.zip(data) {
        if !graph.has(from) || !graph.has(to) || from == to {
            return Err(CuResult::INVALID_VALUE);
        }
        // A dependency that would create a cycle is an error.
        if add && graph.ancestors(&[from]).contains(&to) {
            return Err(CuResult::INVALID_VALUE);
        }
        let from_kernel = self::node(driver, from)?.1.kind() == 0;
        graph.change(to, |node| match (add, node.after.contains(&from)) {
            (true, false) => {
                match data {
                    0 => {}
                    PROGRAMMATIC if from_kernel && node.kind() == 0 => node.programmatic.push(from),
                    _ => return Err(CuResult::INVALID_VALUE),
                }
                node.after.push(from);
                Ok(())
            }
            (false, true) if node.edges().contains(&(from, data)) => {
                node.after.retain(|id| *id != from);
                node.programmatic.retain(|id| *id != from);
                Ok(())
            }
            _ => Err(CuResult::INVALID_VALUE),
        })?;
    }
    Ok(())
}

/// The graph in Graphviz's DOT language.
fn dot(nodes: &[Node]) -> String {
    let names = ["kernel", "memcpy", "memset", "host", "graph", "empty", "wait", "record"];
    let mut text = String::from("digraph warpcheck {\n");
    for node in nodes {
        let name = names.get(node.kind() as usize).copied().unwrap_or("memory");
        let label = match &node.work {
            Work::Kernel(launch) => format!("{name} {}", launch.function.kernel.name),
            _ => name.to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  \"{:#x}\" [label=\"{label}\"];", node.id);
        for before in &node.after {
            let _ = writeln!(text, "  \"{before:#x}\" -> \"{:#x}\";", node.id);
        }
    }
    text + "}\n"
}

api! {
    /// Creates a graph.
    fn cuGraphCreate[driver](out: Out<Handle>, flags: c_uint) {
        out.required()?;
        if flags != 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        out.set(Graph::create(driver).handle)
    }

    /// Destroys a graph; executable graphs made from it stay.
    fn cuGraphDestroy[driver](graph: Handle) {
        Graph::destroy(driver, graph)
    }

    /// Copies a graph.
    fn cuGraphClone[driver](out: Out<Handle>, graph: Handle) {
        out.required()?;
        out.set(driver.graphs.get(graph)?.copy(driver).handle)
    }

    /// The node in a clone that is the copy of another.
    fn cuGraphNodeFindInClone[driver](out: Out<Handle>, original: Handle, clone: Handle) {
        out.required()?;
        let nodes = driver.graphs.get(clone)?.nodes();
        let found = nodes.iter().find(|node| node.original == original && original != 0);
        out.set(found.ok_or(CuResult::INVALID_VALUE)?.id)
    }

    /// The nodes of a graph.
    fn cuGraphGetNodes[driver](graph: Handle, place: Out<Handle>, count: Out<usize>) {
        let nodes = driver.graphs.get(graph)?.nodes();
        give(&nodes.iter().map(|node| node.id).collect::<Vec<_>>(), place, count)
    }

    /// The nodes of a graph that depend on nothing.
    fn cuGraphGetRootNodes[driver](graph: Handle, place: Out<Handle>, count: Out<usize>) {
        let nodes = driver.graphs.get(graph)?.nodes();
        let roots = nodes.iter().filter(|node| node.after.is_empty());
        give(&roots.map(|node| node.id).collect::<Vec<_>>(), place, count)
    }

    /// The dependencies of a graph.
    fn cuGraphGetEdges[driver](
        graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>,
    ) {
        edges(driver, graph, (from, to, Out::nowhere()), count)
    }

    /// The dependencies of a graph, with their data.
    fn cuGraphGetEdges_v2[driver](
        graph: Handle, from: Out<Handle>, to: Out<Handle>, data: Out<u64>, count: Out<usize>,
    ) {
        edges(driver, graph, (from, to, data), count)
    }

    /// The dependencies of a node.
    fn cuGraphNodeGetDependencies[driver](id: Handle, place: Out<Handle>, count: Out<usize>) {
        give_edges(&node(driver, id)?.1.edges(), (place, Out::nowhere()), count)
    }

    /// The dependencies of a node, with their data.
    fn cuGraphNodeGetDependencies_v2[driver](
        id: Handle, place: Out<Handle>, data: Out<u64>, count: Out<usize>,
    ) {
        give_edges(&node(driver, id)?.1.edges(), (place, data), count)
    }

    /// The nodes that depend on a node.
    fn cuGraphNodeGetDependentNodes[driver](id: Handle, place: Out<Handle>, count: Out<usize>) {
        give_edges(&dependents(driver, id)?, (place, Out::nowhere()), count)
    }

    /// The nodes that depend on a node, with the edges' data.
    fn cuGraphNodeGetDependentNodes_v2[driver](
        id: Handle, place: Out<Handle>, data: Out<u64>, count: Out<usize>,
    ) {
        give_edges(&dependents(driver, id)?, (place, data), count)
    }

    /// The kind of a node.
    fn cuGraphNodeGetType[driver](id: Handle, out: Out<c_uint>) {
        out.required()?;
        out.set(node(driver, id)?.1.kind())
    }

    /// Adds dependencies.
    fn cuGraphAddDependencies[driver](
        graph: Handle, from: In<Handle>, to: In<Handle>, count: usize,
    ) {
        change_edges(driver, graph, (from, to, In::from_address(0)), count, true)
    }

    /// Adds dependencies with data: none, or that of a programmatic edge.
    fn cuGraphAddDependencies_v2[driver](
        graph: Handle, from: In<Handle>, to: In<Handle>, data: In<u64>, count: usize,
    ) {
        change_edges(driver, graph, (from, to, data), count, true)
    }

    /// Removes dependencies.
    fn cuGraphRemoveDependencies[driver](
        graph: Handle, from: In<Handle>, to: In<Handle>, count: usize,
    ) {
        change_edges(driver, graph, (from, to, In::from_address(0)), count, false)
    }

    /// Removes dependencies with data.
    fn cuGraphRemoveDependencies_v2[driver](
        graph: Handle, from: In<Handle>, to: In<Handle>, data: In<u64>, count: usize,
    ) {
        change_edges(driver, graph, (from, to, data), count, false)
    }

    /// Removes a node and its dependencies.
    fn cuGraphDestroyNode[driver](id: Handle) {
        let graph = driver.nodes.remove(id)?;
        let mut nodes = lock(&graph.body);
        nodes.retain(|node| node.id != id);
        for node in nodes.iter_mut() {
            node.after.retain(|before| *before != id);
            node.programmatic.retain(|before| *before != id);
        }
        Ok(())
    }

    /// Writes a graph to a file in Graphviz's DOT language.
    fn cuGraphDebugDotPrint[driver](graph: Handle, path: Text, _flags: c_uint) {
        let text = dot(&driver.graphs.get(graph)?.nodes());
        std::fs::write(path.get()?, text).map_err(|_| CuResult::OPERATING_SYSTEM)
    }
}

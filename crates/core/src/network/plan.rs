//! Which arrays each layer reads and writes, and how long they are, before any is allocated.

use crate::architecture::{LayerKind, Operation, TracedLayer, gradients_in_use};

/// The array that a layer uses besides its input, its output and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auxiliary {
    None,
    /// The positions of a max pool's largest elements, by index in the network's `argmax`.
    Argmax(usize),
    /// A batch norm's mean and inverse deviation of the batch, by index in `statistics`.
    Statistics(usize),
    /// The activation that an addition adds, by index in `activations`.
    Shortcut(usize),
}

/// A layer with the indices of its arrays.
#[derive(Debug)]
pub(super) struct PlannedLayer {
    pub layer: TracedLayer,
    /// Index in the architecture.
    pub index: u32,
    /// The layer's first parameter; its others follow.
    pub weight: usize,
    /// The activation it reads, and writes if it works in place; otherwise it writes the next one.
    pub input: usize,
    pub auxiliary: Auxiliary,
    /// A ReLU follows and is computed with this layer.
    pub relu: bool,
    /// Backward masks dy by output > 0. For conv + ReLU + pool it does so after the pool, where there are fewer elements:
    /// dy goes to each window's largest element, which is 0 exactly where the pool's output is.
    pub masks: bool,
    /// Instead of the layer before, backward masks dx by input > 0.
    pub masks_input: bool,
    /// The dropout that forward applies to the output, and the one that backward applies to dx before it masks it.
    pub drops_output: Option<DropoutLayer>,
    pub drops_input: Option<DropoutLayer>,
    /// Whether the forward and the backward pass are done by the layers around it: a dropout between linear layers.
    pub fused: [bool; 2],
}

/// A dropout that is computed with a linear layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropoutLayer {
    /// Index in the architecture.
    pub index: u32,
    pub rate: f64,
}

/// The layers and the lengths of all arrays, in elements per image.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub layers: Vec<PlannedLayer>,
    /// The image, then the output of each layer that does not work in place.
    pub activations: Vec<usize>,
    pub argmax: Vec<usize>,
    /// Channels of each batch norm; does not depend on the images.
    pub statistics: Vec<usize>,
    /// How many gradients of activations are held at a time, each as long as the longest output.
    pub gradients: usize,
    pub widest: usize,
}

impl Plan {
    /// Plans `traced` layers for images of `image` elements.
    pub fn new(traced: Vec<TracedLayer>, image: usize, training: bool) -> Self {
        let gradients = if training { gradients_in_use(&traced) } else { 0 };
        let mut plan = Self { activations: vec![image], gradients, ..Self::default() };
        let from = |layer: &TracedLayer| match layer.spec.kind {
            LayerKind::Add { from } => Some(from),
            _ => None,
        };
        let shortcuts: Vec<usize> = traced.iter().filter_map(from).collect();
        let mut weight = 0;
        for (index, layer) in traced.into_iter().enumerate() {
            let parameters = layer.parameters().len();
            // A shortcut around a pool brings a gradient that the pool does not see.
            plan.push(layer, index, weight, shortcuts.contains(&index));
            weight += parameters;
        }
        plan.fuse(&shortcuts);
        plan
    }

    /// Moves dropouts and masks of gradients into the products beside them, which write those arrays anyway.
    fn fuse(&mut self, shortcuts: &[usize]) {
        for position in 1..self.layers.len() {
            let (before, own) = self.layers.split_at_mut(position);
            let ([others @ .., previous], [own, ..]) = (before, own) else { return };
            let linear = |planned: &PlannedLayer| matches!(planned.layer.spec.kind, LayerKind::Linear { .. });
            if let (true, LayerKind::Dropout { rate }) = (linear(previous), own.layer.spec.kind) {
                previous.drops_output = Some(DropoutLayer { index: own.index, rate });
                own.fused[0] = true;
            }
            // The gradient of a shortcut joins dx before it is masked.
            let product = linear(own) || matches!(own.layer.spec.kind, LayerKind::Conv { .. });
            if !product || shortcuts.contains(&(own.index as usize)) {
                continue;
            }
            let mut source = previous;
            if let (true, LayerKind::Dropout { rate }) = (linear(own), source.layer.spec.kind) {
                own.drops_input = Some(DropoutLayer { index: source.index, rate });
                source.fused[1] = true;
                let Some(next) = others.last_mut() else { continue };
                source = next;
            }
            own.masks_input = std::mem::take(&mut source.masks);
        }
    }

    fn push(&mut self, layer: TracedLayer, index: usize, weight: usize, begins_shortcut: bool) {
        let fuses = |operation| {
            matches!(
                operation,
                Operation::Conv(_) | Operation::Linear(_) | Operation::BatchNorm(_) | Operation::Add { .. }
            )
        };
        if let (LayerKind::Relu, Some(previous)) = (layer.spec.kind, self.layers.last_mut())
            && fuses(previous.layer.operation(1))
        {
            (previous.relu, previous.masks) = (true, true);
            return;
        }
        let input = self.activations.len() - 1;
        if !layer.in_place() {
            self.activations.push(layer.output.len());
            self.widest = self.widest.max(layer.output.len());
        }
        let mut masks = false;
        let auxiliary = match layer.spec.kind {
            LayerKind::MaxPool { .. } => {
                if let Some(previous) = self.layers.last_mut().filter(|_| !begins_shortcut) {
                    masks = std::mem::take(&mut previous.masks);
                }
                self.argmax.push(layer.output.len());
                Auxiliary::Argmax(self.argmax.len() - 1)
            }
            LayerKind::BatchNorm { .. } => {
                self.statistics.push(layer.input.channels);
                Auxiliary::Statistics(self.statistics.len() - 1)
            }
            LayerKind::Add { from } => {
                let first = self.layers.iter().find(|planned| planned.index as usize == from);
                Auxiliary::Shortcut(first.map_or_else(|| unreachable!("checked when traced"), |first| first.input))
            }
            _ => Auxiliary::None,
        };
        self.layers.push(PlannedLayer {
            layer,
            index: index as u32,
            weight,
            input,
            auxiliary,
            relu: false,
            masks,
            masks_input: false,
            drops_output: None,
            drops_input: None,
            fused: [false; 2],
        });
    }
}

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
    /// How many it has.
    pub parameters: usize,
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
    /// The arrays of dL/d(output) and dL/d(input), by index in `gradients`; a layer in place leaves the second alone.
    pub dy: usize,
    pub dx: usize,
    /// The shortcut's gradient that is added to dL/d(input).
    pub joins: Option<usize>,
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
    /// The gradients of activations: some used in turn, each as long as the longest output, and those that are kept.
    pub gradients: Vec<usize>,
}

impl Plan {
    /// Plans `traced` layers for images of `image` elements. With `keeps` the gradients of linear layers' outputs are kept until
    /// the end of the backward pass.
    pub fn new(traced: Vec<TracedLayer>, image: usize, training: bool, keeps: bool) -> Self {
        let in_turn = if training { gradients_in_use(&traced) } else { 0 };
        let mut plan = Self { activations: vec![image], ..Self::default() };
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
        if in_turn > 0 {
            plan.place_gradients(in_turn, keeps);
        }
        plan
    }

    /// Gives the gradient of every activation its array, in the order of the backward pass. The gradient of a shortcut is that of
    /// its end; it stays until it joins the gradient of the input of the shortcut's first layer.
    fn place_gradients(&mut self, in_turn: usize, keeps: bool) {
        let widest = self.activations.iter().skip(1).copied().max().unwrap_or(0);
        self.gradients = vec![widest; in_turn];
        let Self { layers, gradients, .. } = self;
        let is_kept = |layer: &TracedLayer| keeps && layer.is_linear();
        let mut free: Vec<usize> = (0..in_turn).rev().collect();
        // The array for the gradient of what these layers put out.
        let mut place = |layers: &[PlannedLayer], free: &mut Vec<usize>| {
            let source = layers.iter().rev().find(|planned| !planned.layer.in_place());
            let kept = source.map(|planned| &planned.layer).filter(|layer| is_kept(layer));
            match (kept, free.pop()) {
                (None, Some(array)) => array,
                (kept, unused) => {
                    free.extend(unused);
                    gradients.push(kept.map_or(widest, |layer| layer.output.len()));
                    gradients.len() - 1
                }
            }
        };
        let mut dy = place(layers, &mut free);
        // A shortcut whose end the pass has just met, and the one whose gradient waits: its first layer, and the array.
        let (mut met, mut waiting) = (None, None);
        for position in (0..layers.len()).rev() {
            let (before, own) = layers.split_at_mut(position);
            let Some(planned) = own.first_mut() else { continue };
            planned.dy = dy;
            if let LayerKind::Add { from } = planned.layer.spec.kind {
                met = Some(from);
            }
            if planned.layer.in_place() {
                planned.dx = usize::from(dy == 0);
                continue;
            }
            planned.dx = place(before, &mut free);
            match met.take() {
                Some(from) => waiting = Some((from, dy)),
                None if dy < in_turn => free.push(dy),
                None => {}
            }
            if let Some((_, array)) = waiting.take_if(|(from, _)| *from == planned.index as usize) {
                planned.joins = Some(array);
                if array < in_turn {
                    free.push(array);
                }
            }
            dy = planned.dx;
        }
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
            parameters: layer.parameters().len(),
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
            dy: 0,
            dx: 0,
            joins: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Architecture, LayerSpec};

    #[test]
    fn no_gradient_is_overwritten_before_its_last_use() {
        let conv = LayerKind::Conv { filters: 8, kernel: 3, stride: 1, padding: 1, groups: 1 };
        let linear = |outputs| LayerKind::Linear { outputs };
        let dropout = LayerKind::Dropout { rate: 0.5 };
        let relu = LayerKind::Relu;
        // Shortcuts around a convolution, around two linear layers and around one.
        let first = [conv, conv, LayerKind::Add { from: 1 }, relu, LayerKind::Flatten, linear(16), relu, dropout];
        let second = [linear(16), relu, linear(16), LayerKind::Add { from: 8 }, relu];
        let third = [linear(16), LayerKind::Add { from: 13 }, dropout, linear(3)];
        let kinds = first.into_iter().chain(second).chain(third);
        let layers = kinds.enumerate().map(|(i, kind)| LayerSpec { name: i.to_string(), kind }).collect();
        let architecture = Architecture { name: "test".into(), image_size: 4, channels: 3, classes: 3, layers };
        for keeps in [false, true] {
            let plan = Plan::new(architecture.trace().unwrap(), architecture.image_len(), true, keeps);
            // Of which activation each array has the gradient.
            let mut gradient_of = vec![None; plan.gradients.len()];
            let last = plan.layers.last().unwrap();
            gradient_of[last.dy] = Some(plan.activations.len() - 1);
            for planned in plan.layers.iter().rev() {
                let output = planned.input + usize::from(!planned.layer.in_place());
                assert_eq!(gradient_of[planned.dy], Some(output), "{}", planned.index);
                assert_ne!(planned.dy, planned.dx);
                if planned.layer.in_place() {
                    continue;
                }
                gradient_of[planned.dx] = Some(planned.input);
                let len = plan.gradients[planned.dx];
                assert!(planned.input == 0 || len >= plan.activations[planned.input], "{}", planned.index);
                let ends = plan.layers.iter().find(
                    |end| matches!(end.layer.spec.kind, LayerKind::Add { from } if from == planned.index as usize),
                );
                assert_eq!(planned.joins.is_some(), ends.is_some());
                if let (Some(array), Some(end)) = (planned.joins, ends) {
                    assert_eq!(gradient_of[array], Some(end.input), "{}", planned.index);
                }
            }
            let kept = |planned: &&PlannedLayer| keeps && planned.layer.is_linear();
            for planned in plan.layers.iter().filter(kept) {
                assert_eq!(gradient_of[planned.dy], Some(planned.input + 1), "{} is not kept", planned.index);
            }
            let own = plan.layers.iter().filter(kept).count();
            assert_eq!(plan.gradients.len(), 3 + own);
        }
    }
}

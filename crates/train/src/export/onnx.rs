//! ONNX: writes the graph as a protocol buffer `onnx.ModelProto`; field numbers are those of `onnx.proto`.
//!
//! The input is `input`: normalised float (N, 3, H, W), or with preprocessing uint8 (N, H, W, 3);
//! the output is `output` (N, classes). N is any batch. The metadata's `classes` is the JSON list of their names, and
//! `preprocess` how pictures become the input, whose numbers are also keys of their own.
//! In half precision the weights and all layers but LRN are fp16, between two casts; input and output stay float.

use alexnet_core::LayerKind;
use alexnet_core::architecture::TracedLayer;
use alexnet_core::shape::AvgPoolShape;

use super::fold::fold;
use super::{Error, Model, Wrapping, half};
use crate::data::Preprocess;
use crate::protobuf::Message;

const FLOAT: i64 = 1;
const UINT8: i64 = 2;
const FLOAT16: i64 = 10;
/// Operator set of ONNX 1.12 (2022).
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// The bytes of the ONNX file.
///
/// # Errors
/// Layers that do not fit each other; a weight that is beyond fp16.
pub fn to_bytes(model: &Model<'_>, wrapping: Wrapping) -> Result<Vec<u8>, Error> {
    let mut graph = Graph { half: wrapping.half, ..Graph::default() };
    let (architecture, mut parameters) = fold(model)?;
    if wrapping.half {
        parameters = half::round(parameters)?;
    }
    let kind = graph.layer_kind();
    for tensor in &parameters {
        graph.initializer(&tensor.name, kind, &tensor.shape, &tensor.bytes);
    }
    let mut value = "input".to_owned();
    if wrapping.preprocess {
        value = graph.preprocess(value, &model.preprocess);
    }
    if wrapping.half {
        value = graph.cast("half.input", &value, FLOAT16);
    }
    let mut inputs = Vec::new();
    for layer in architecture.trace()? {
        inputs.push(value.clone());
        value = graph.layer(&layer, value, &inputs);
    }
    if wrapping.half {
        value = graph.cast("half.output", &value, FLOAT);
    }
    if wrapping.softmax {
        value = graph.node("Softmax", "softmax", &[&value], &[int("axis", 1)]);
    }
    graph.nodes.push(node("Identity", "output", &[&value], "output", &[]));

    let (side, channels) = (architecture.image_size as i64, architecture.channels as i64);
    let input = if wrapping.preprocess {
        value_info("input", UINT8, &[None, Some(side), Some(side), Some(channels)])
    } else {
        value_info("input", FLOAT, &[None, Some(channels), Some(side), Some(side)])
    };
    let output = value_info("output", FLOAT, &[None, Some(architecture.classes as i64)]);
    let graph = Message::new()
        .messages(1, graph.nodes)
        .bytes(2, &architecture.name)
        .messages(5, graph.initializers)
        .message(11, &input)
        .message(12, &output);
    let opset = Message::new().bytes(1, "").int(2, OPSET);
    let properties = properties(model);
    let model = Message::new()
        .int(1, IR_VERSION)
        .bytes(2, "alexnet")
        .bytes(3, env!("CARGO_PKG_VERSION"))
        .message(7, &graph)
        .message(8, &opset)
        .messages(14, properties);
    Ok(model.into_bytes())
}

/// The entries of `metadata_props`.
fn properties(model: &Model<'_>) -> Vec<Message> {
    let preprocess = model.preprocess.to_json(model.architecture.image_size);
    let entry = |key: &str, value: &str| Message::new().bytes(1, key).bytes(2, value);
    let mut entries = vec![
        entry("classes", &serde_json::json!(model.classes).to_string()),
        entry("preprocess", &preprocess.to_string()),
    ];
    for (key, value) in [
        ("mean", "mean"),
        ("std", "std"),
        ("channel_order", "channels"),
        ("range", "range"),
        ("resize", "resize"),
        ("image_size", "crop"),
        ("interpolation", "interpolation"),
    ] {
        let value = &preprocess[value];
        entries.push(entry(key, &value.as_str().map_or_else(|| value.to_string(), String::from)));
    }
    entries
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    /// Whether layers are fp16.
    half: bool,
}

impl Graph {
    /// Adds a constant and returns its name.
    fn initializer(&mut self, name: &str, kind: i64, shape: &[usize], bytes: &[u8]) -> String {
        let tensor = shape.iter().fold(Message::new(), |message, &side| message.int(1, side as i64));
        self.initializers.push(tensor.int(2, kind).bytes(8, name).bytes(9, bytes));
        name.into()
    }

    /// The type that layers compute in.
    const fn layer_kind(&self) -> i64 {
        if self.half { FLOAT16 } else { FLOAT }
    }

    fn cast(&mut self, name: &str, value: &str, kind: i64) -> String {
        self.node("Cast", name, &[value], &[int("to", kind)])
    }

    /// Adds a constant of the layers' type.
    fn layer_constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes = |x: &f32| -> Vec<u8> {
            if self.half { ::half::f16::from_f32(*x).to_le_bytes().into() } else { x.to_le_bytes().into() }
        };
        let bytes: Vec<u8> = values.iter().flat_map(bytes).collect();
        self.initializer(name, self.layer_kind(), shape, &bytes)
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.initializer(name, FLOAT, shape, &bytes)
    }

    /// Adds a node whose output has the node's name, and returns that name.
    fn node(&mut self, operator: &str, name: &str, inputs: &[&str], attributes: &[Message]) -> String {
        self.nodes.push(node(operator, name, inputs, name, attributes));
        name.into()
    }

    /// uint8 (N, H, W, 3) to normalised float (N, 3, H, W), with the operations in the order of evaluation.
    fn preprocess(&mut self, input: String, preprocess: &Preprocess) -> String {
        let float = self.node("Cast", "preprocess.float", &[&input], &[int("to", FLOAT)]);
        let full = self.constant("preprocess.255", &[], &[255.0]);
        let unit = self.node("Div", "preprocess.unit", &[&float, &full], &[]);
        let mean = self.constant("preprocess.mean", &[3], &preprocess.mean);
        let centred = self.node("Sub", "preprocess.centred", &[&unit, &mean], &[]);
        let std = self.constant("preprocess.std", &[3], &preprocess.std);
        let normalised = self.node("Div", "preprocess.normalised", &[&centred, &std], &[]);
        self.node("Transpose", "preprocess", &[&normalised], &[ints("perm", &[0, 3, 1, 2])])
    }

    /// Adds a layer's nodes and returns the name of its output. `inputs` are the inputs of all layers up to this one.
    fn layer(&mut self, layer: &TracedLayer, x: String, inputs: &[String]) -> String {
        let name = layer.spec.name.as_str();
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        match layer.spec.kind {
            LayerKind::Conv { kernel, stride, padding, groups, .. } => {
                let mut attributes = window(kernel, stride, padding);
                attributes.push(int("group", groups as i64));
                self.node("Conv", name, &[&x, &weight, &bias], &attributes)
            }
            LayerKind::Relu => self.node("Relu", name, &[&x], &[]),
            LayerKind::MaxPool { kernel, stride, padding } => {
                self.node("MaxPool", name, &[&x], &window(kernel, stride, padding))
            }
            LayerKind::AdaptiveAvgPool { side } => {
                // ONNX has no adaptive pooling: two constant matrices average rows and columns.
                let rows = averages(layer.input.height, side);
                let columns = averages(layer.input.width, side);
                let transposed: Vec<f32> =
                    (0..layer.input.width * side).map(|i| columns[i % side * layer.input.width + i / side]).collect();
                let rows = self.layer_constant(&format!("{name}.rows"), &[side, layer.input.height], &rows);
                let columns = self.layer_constant(&format!("{name}.columns"), &[layer.input.width, side], &transposed);
                let narrow = self.node("MatMul", &format!("{name}.narrow"), &[&x, &columns], &[]);
                self.node("MatMul", name, &[&rows, &narrow], &[])
            }
            LayerKind::Lrn { size, alpha, beta, k } => {
                let constants = [float("alpha", alpha as f32), float("beta", beta as f32), float("bias", k as f32)];
                let attributes = [&constants[..], &[int("size", size as i64)]].concat();
                if !self.half {
                    return self.node("LRN", name, &[&x], &attributes);
                }
                // Sums of squares may be beyond fp16.
                let wide = self.cast(&format!("{name}.float"), &x, FLOAT);
                let wide = self.node("LRN", &format!("{name}.lrn"), &[&wide], &attributes);
                self.cast(name, &wide, FLOAT16)
            }
            LayerKind::BatchNorm { .. } => unreachable!("folded into the layer before it"),
            LayerKind::Add { from } => self.node("Add", name, &[&x, &inputs[from]], &[]),
            LayerKind::Dropout { .. } => x,
            LayerKind::Flatten => self.node("Flatten", name, &[&x], &[int("axis", 1)]),
            LayerKind::Linear { .. } => self.node("Gemm", name, &[&x, &weight, &bias], &[int("transB", 1)]),
        }
    }
}

/// A matrix (outputs, inputs) whose row i averages the inputs in window i.
fn averages(inputs: usize, outputs: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; inputs * outputs];
    for (output, row) in matrix.chunks_exact_mut(inputs).enumerate() {
        let window = AvgPoolShape::window(output, inputs, outputs);
        let share = 1.0 / window.len() as f32;
        row[window].fill(share);
    }
    matrix
}

fn node(operator: &str, name: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> Message {
    let message = inputs.iter().fold(Message::new(), |message, input| message.bytes(1, input));
    message.bytes(2, output).bytes(3, name).bytes(4, operator).messages(5, attributes.iter().cloned())
}

fn window(kernel: usize, stride: usize, padding: usize) -> Vec<Message> {
    let [kernel, stride, padding] = [kernel, stride, padding].map(|side| side as i64);
    vec![ints("kernel_shape", &[kernel; 2]), ints("strides", &[stride; 2]), ints("pads", &[padding; 4])]
}

fn int(name: &str, value: i64) -> Message {
    Message::new().bytes(1, name).int(3, value).int(20, 2)
}

fn float(name: &str, value: f32) -> Message {
    Message::new().bytes(1, name).float(2, value).int(20, 1)
}

fn ints(name: &str, values: &[i64]) -> Message {
    values.iter().fold(Message::new().bytes(1, name), |message, &value| message.int(8, value)).int(20, 7)
}

/// A value's name, type and shape; `None` is the batch dimension.
fn value_info(name: &str, kind: i64, sides: &[Option<i64>]) -> Message {
    let side = |side: &Option<i64>| match side {
        Some(side) => Message::new().int(1, *side),
        None => Message::new().bytes(2, "batch"),
    };
    let shape = Message::new().messages(1, sides.iter().map(side));
    let tensor = Message::new().int(1, kind).message(2, &shape);
    Message::new().bytes(1, name).message(2, &Message::new().message(1, &tensor))
}

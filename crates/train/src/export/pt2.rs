//! torch.export's archive (`.pt2`), for `torch.export.load`: PyTorch's successor of TorchScript.
//!
//! A zip with the weights as raw bytes, their description, and the graph of ATen operators as JSON, after the schema in
//! PyTorch's `torch/_export/serde/schema.py`, version 8. The batch is a symbol. Parameters have torchvision's names; the
//! extra files `classes.json` and `preprocess.json` are TorchScript's.

use std::io::Cursor;

use alexnet_core::LayerKind;
use alexnet_core::architecture::{Extent, TracedLayer};
use serde_json::{Map, Value, json};

use super::fold::fold;
use super::pytorch::Archive;
use super::{Error, Model, Tensor, Wrapping};

/// Versions of the archive, of the schema of the graph, and of the operators.
const ARCHIVE: &str = "0";
const SCHEMA: [u32; 2] = [8, 1];
const ATEN: u32 = 10;
/// Codes of `ScalarType` and `Layout` in the schema.
const BYTE: u32 = 1;
const FLOAT: u32 = 7;
const STRIDED: u32 = 7;
/// The batch in a shape.
const BATCH: usize = usize::MAX;

/// The bytes of the archive.
///
/// # Errors
/// Layers that do not fit each other; an archive that cannot be written.
pub fn to_bytes(model: &Model<'_>, wrapping: Wrapping) -> Result<Vec<u8>, Error> {
    let (architecture, mut tensors) = fold(model)?;
    if wrapping.preprocess {
        tensors.extend(model.preprocess_tensors());
    }
    let mut graph = Graph::default();
    for tensor in &tensors {
        graph.value(&argument(&tensor.name), FLOAT, &tensor.shape);
    }
    let (side, channels) = (architecture.image_size, architecture.channels);
    let mut value = "input".to_owned();
    if wrapping.preprocess {
        graph.value(&value, BYTE, &[BATCH, side, side, channels]);
        value = graph.preprocess(&value, side, channels);
    } else {
        graph.value(&value, FLOAT, &[BATCH, channels, side, side]);
    }
    let mut inputs = Vec::new();
    for layer in architecture.trace()? {
        inputs.push(value.clone());
        value = graph.layer(&layer, value, &inputs);
    }
    if wrapping.softmax {
        let shape = [BATCH, architecture.classes];
        value = graph.node("softmax.int", &[("self", tensor(&value)), ("dim", int(1))], &shape);
    }

    let mut archive = Archive::new(Cursor::new(Vec::new()));
    archive.record("archive_format", b"pt2")?;
    archive.record("archive_version", ARCHIVE.as_bytes())?;
    let mut weights = Map::new();
    for (number, tensor) in tensors.iter().enumerate() {
        let file = format!("weight_{number}");
        archive.record(&format!("data/weights/{file}"), &tensor.bytes)?;
        let config = json!({
            "path_name": file,
            "is_param": is_parameter(tensor),
            "use_pickle": false,
            "tensor_meta": meta(FLOAT, &tensor.shape),
        });
        weights.insert(tensor.name.clone(), config);
    }
    let mut json = |name: &str, value: &Value| archive.record(name, value.to_string().as_bytes());
    json("data/weights/model_weights_config.json", &json!({ "config": weights }))?;
    json("data/constants/model_constants_config.json", &json!({ "config": {} }))?;
    json("models/model.json", &program(&graph, &tensors, &value))?;
    json("extra/classes.json", &json!(model.classes))?;
    archive.record("extra/preprocess.json", model.preprocess_json().as_bytes())?;
    // The reader asks for sample inputs; none are needed.
    archive.record("data/sample_inputs/model.pt", b"")?;
    archive.record(".data/version", b"6\n")?;
    Ok(archive.finish(&[], "6")?.into_inner())
}

fn is_parameter(tensor: &Tensor<'_>) -> bool {
    tensor.name.contains('.')
}

/// The name of a parameter as an input of the graph: `p_features_0_weight`.
fn argument(name: &str) -> String {
    format!("{}_{}", if name.contains('.') { 'p' } else { 'b' }, name.replace('.', "_"))
}

/// The exported program: graph, signature, versions.
fn program(graph: &Graph, tensors: &[Tensor<'_>], output: &str) -> Value {
    let mut inputs: Vec<Value> = tensors.iter().map(|own| tensor(&argument(&own.name))).collect();
    inputs.push(tensor("input"));
    let spec = |own: &Tensor<'_>| {
        let arg = json!({ "name": argument(&own.name) });
        match is_parameter(own) {
            true => json!({ "parameter": { "arg": arg, "parameter_name": own.name } }),
            false => json!({ "buffer": { "arg": arg, "buffer_name": own.name, "persistent": true } }),
        }
    };
    let mut specs: Vec<Value> = tensors.iter().map(spec).collect();
    specs.push(json!({ "user_input": { "arg": tensor("input") } }));
    // How Python's arguments become the graph's: one positional argument, no others.
    let leaf = json!({ "type": null, "context": null, "children_spec": [] });
    let arguments = json!([1, { "type": "builtins.tuple", "context": "null", "children_spec": [
        { "type": "builtins.tuple", "context": "null", "children_spec": [leaf] },
        { "type": "builtins.dict", "context": "[]", "children_spec": [] },
    ] }]);
    let call = json!({ "fqn": "", "signature": {
        "inputs": [],
        "outputs": [],
        "in_spec": arguments.to_string(),
        "out_spec": json!([1, leaf]).to_string(),
        "forward_arg_names": ["input"],
    } });
    json!({
        "graph_module": {
            "graph": {
                "inputs": inputs,
                "outputs": [tensor(output)],
                "nodes": graph.nodes,
                "tensor_values": graph.values,
                "sym_int_values": {},
                "sym_bool_values": {},
                "sym_float_values": {},
                "custom_obj_values": {},
                "is_single_tensor_return": false,
            },
            "signature": {
                "input_specs": specs,
                "output_specs": [{ "user_output": { "arg": tensor(output) } }],
            },
            "module_call_graph": [call],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": { "aten": ATEN },
        "range_constraints": { "s0": { "min_val": 1, "max_val": null } },
        "schema_version": { "major": SCHEMA[0], "minor": SCHEMA[1] },
        "verifiers": ["TRAINING"],
        "torch_version": concat!("alexnet ", env!("CARGO_PKG_VERSION")),
        "guards_code": [],
    })
}

fn tensor(name: &str) -> Value {
    json!({ "as_tensor": { "name": name } })
}

fn int(value: usize) -> Value {
    json!({ "as_int": value })
}

fn ints(values: &[usize]) -> Value {
    json!({ "as_ints": values })
}

fn float(value: f64) -> Value {
    json!({ "as_float": value })
}

/// Type, shape and strides of a contiguous tensor on the CPU.
fn meta(kind: u32, shape: &[usize]) -> Value {
    let side = |&side: &usize| match side {
        BATCH => json!({ "as_expr": {
            "expr_str": "Symbol('s0', positive=True, integer=True)",
            "hint": int(2),
        } }),
        side => int(side),
    };
    let strides = (0..shape.len()).map(|i| int(shape[i + 1..].iter().product()));
    json!({
        "dtype": kind,
        "sizes": shape.iter().map(side).collect::<Vec<_>>(),
        "requires_grad": false,
        "device": { "type": "cpu", "index": null },
        "strides": strides.collect::<Vec<_>>(),
        "storage_offset": int(0),
        "layout": STRIDED,
    })
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Value>,
    values: Map<String, Value>,
    /// Whether the layers so far have left rows, not images.
    flat: bool,
}

impl Graph {
    fn value(&mut self, name: &str, kind: u32, shape: &[usize]) {
        self.values.insert(name.into(), meta(kind, shape));
    }

    /// Adds a node with positional arguments and returns the name of its output, floats of this shape.
    fn node(&mut self, operator: &str, inputs: &[(&str, Value)], shape: &[usize]) -> String {
        let name = format!("x{}", self.nodes.len());
        let argument = |(name, arg): &(&str, Value)| json!({ "name": name, "arg": arg, "kind": 1 });
        self.nodes.push(json!({
            "target": format!("torch.ops.aten.{operator}"),
            "inputs": inputs.iter().map(argument).collect::<Vec<_>>(),
            "outputs": [tensor(&name)],
            "metadata": {},
            "is_hop_single_tensor_return": null,
            "name": name,
        }));
        self.value(&name, FLOAT, shape);
        name
    }

    /// A node with one tensor or number beside `x`.
    fn binary(&mut self, operator: &str, x: &str, other: Value, shape: &[usize]) -> String {
        self.node(operator, &[("self", tensor(x)), ("other", other)], shape)
    }

    /// uint8 (N, H, W, 3) to normalised float (N, 3, H, W), with the operations in the order of evaluation.
    fn preprocess(&mut self, input: &str, side: usize, channels: usize) -> String {
        let shape = [BATCH, side, side, channels];
        let kind = json!({ "as_scalar_type": FLOAT });
        let x = self.node("to.dtype", &[("self", tensor(input)), ("dtype", kind)], &shape);
        let x = self.binary("div.Tensor", &x, float(255.0), &shape);
        let x = self.binary("sub.Tensor", &x, tensor("b_mean"), &shape);
        let x = self.binary("div.Tensor", &x, tensor("b_std"), &shape);
        let shape = [BATCH, channels, side, side];
        let x = self.node("permute.default", &[("self", tensor(&x)), ("dims", ints(&[0, 3, 1, 2]))], &shape);
        self.node("contiguous.default", &[("self", tensor(&x))], &shape)
    }

    /// Adds a layer's nodes and returns the name of its output. `inputs` are the inputs of all layers up to this one.
    fn layer(&mut self, layer: &TracedLayer, x: String, inputs: &[String]) -> String {
        let parameter = |kind: &str| tensor(&argument(&format!("{}.{kind}", layer.spec.name)));
        let Extent { channels, height, width } = layer.output;
        let shape = &[BATCH, channels, height, width][..if self.flat { 2 } else { 4 }];
        let own = ("self", tensor(&x));
        match layer.spec.kind {
            LayerKind::Conv { stride, padding, groups, .. } => {
                let arguments = [
                    ("input", tensor(&x)),
                    ("weight", parameter("weight")),
                    ("bias", parameter("bias")),
                    ("stride", ints(&[stride; 2])),
                    ("padding", ints(&[padding; 2])),
                    ("dilation", ints(&[1; 2])),
                    ("groups", int(groups)),
                ];
                self.node("conv2d.default", &arguments, shape)
            }
            LayerKind::Relu => self.node("relu.default", &[own], shape),
            LayerKind::MaxPool { kernel, stride, padding } => {
                let arguments = [
                    own,
                    ("kernel_size", ints(&[kernel; 2])),
                    ("stride", ints(&[stride; 2])),
                    ("padding", ints(&[padding; 2])),
                ];
                self.node("max_pool2d.default", &arguments, shape)
            }
            LayerKind::AdaptiveAvgPool { side } => {
                self.node("adaptive_avg_pool2d.default", &[own, ("output_size", ints(&[side; 2]))], shape)
            }
            LayerKind::Lrn { size, alpha, beta, k } => {
                // As torch.nn.functional.local_response_norm: a mean over channels, zero-padded.
                let squares = self.binary("mul.Tensor", &x, tensor(&x), shape);
                let cube = [BATCH, 1, channels, height, width];
                let x1 = self.node("unsqueeze.default", &[("self", tensor(&squares)), ("dim", int(1))], &cube);
                let pad = ints(&[0, 0, 0, 0, size / 2, (size - 1) / 2]);
                let padded = [BATCH, 1, channels + size - 1, height, width];
                let x2 = self.node("constant_pad_nd.default", &[("self", tensor(&x1)), ("pad", pad)], &padded);
                let (window, stride) = (("kernel_size", ints(&[size, 1, 1])), ("stride", ints(&[1; 3])));
                let x3 = self.node("avg_pool3d.default", &[("self", tensor(&x2)), window, stride], &cube);
                let mean = self.node("squeeze.dim", &[("self", tensor(&x3)), ("dim", int(1))], shape);
                let scaled = self.binary("mul.Tensor", &mean, float(alpha), shape);
                let raised = self.binary("add.Tensor", &scaled, float(k), shape);
                let exponent = ("exponent", float(beta));
                let scale = self.node("pow.Tensor_Scalar", &[("self", tensor(&raised)), exponent], shape);
                self.binary("div.Tensor", &x, tensor(&scale), shape)
            }
            LayerKind::BatchNorm { .. } => unreachable!("folded into the layer before it"),
            LayerKind::Add { from } => self.binary("add.Tensor", &x, tensor(&inputs[from]), shape),
            LayerKind::Dropout { .. } => x,
            LayerKind::Flatten => {
                self.flat = true;
                self.node("flatten.using_ints", &[own, ("start_dim", int(1))], &[BATCH, layer.output.len()])
            }
            LayerKind::Linear { .. } => {
                let arguments = [("input", tensor(&x)), ("weight", parameter("weight")), ("bias", parameter("bias"))];
                self.node("linear.default", &arguments, &[BATCH, channels])
            }
        }
    }
}

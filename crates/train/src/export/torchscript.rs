//! TorchScript: an archive for `torch.jit.load`, in Python and in C++.
//!
//! It holds the source of `forward` in TorchScript's subset of Python, and a pickle of the module's attributes. The
//! submodules have torchvision's names, so `state_dict()` has them, too. The extra file `classes.json` lists the class
//! names, `preprocess.json` says how pictures become the input.

use std::fmt::Write as _;
use std::io::Cursor;

use alexnet_core::LayerKind;
use alexnet_core::architecture::TracedLayer;

use super::fold::fold;
use super::pickle::Pickle;
use super::pytorch::Archive;
use super::{Error, Model, Tensor, Wrapping};

/// The format's version since PyTorch 1.12.
const VERSION: &str = "10";

/// The bytes of the archive.
///
/// # Errors
/// Layers that do not fit each other; an archive that cannot be written.
pub fn to_bytes(model: &Model<'_>, wrapping: Wrapping) -> Result<Vec<u8>, Error> {
    let (architecture, mut tensors) = fold(model)?;
    if wrapping.preprocess {
        tensors.extend(model.preprocess_tensors());
    }
    let traced = architecture.trace()?;
    let code = code(&groups(&tensors), &traced, wrapping);
    let mut archive = Archive::new(Cursor::new(Vec::new()));
    archive.record("data.pkl", &attributes(&tensors))?;
    archive.record("code/__torch__.py", code.as_bytes())?;
    archive.record("extra/classes.json", serde_json::json!(model.classes).to_string().as_bytes())?;
    archive.record("extra/preprocess.json", model.preprocess_json().as_bytes())?;
    archive.record("constants.pkl", &{
        let mut pickle = Pickle::new();
        pickle.empty_tuple();
        pickle.finish()
    })?;
    Ok(archive.finish(&tensors, VERSION)?.into_inner())
}

/// `features` and `classifier`, each with the numbers of its layers with parameters.
fn groups<'a>(tensors: &'a [Tensor<'_>]) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for tensor in tensors {
        let mut parts = tensor.name.split('.');
        let (Some(group), Some(layer), Some("weight")) = (parts.next(), parts.next(), parts.next()) else { continue };
        match groups.last_mut() {
            Some((last, layers)) if *last == group => layers.push(layer),
            _ => groups.push((group, vec![layer])),
        }
    }
    groups
}

/// The pickled module, with its attributes in the order of their declaration in the code.
fn attributes(tensors: &[Tensor<'_>]) -> Vec<u8> {
    let key = |name: &str| tensors.iter().position(|tensor| tensor.name == name).unwrap_or_default();
    let mut pickle = Pickle::new();
    let open = |pickle: &mut Pickle, class: &str| {
        pickle.global("__torch__", class).empty_tuple().new_object().empty_dict().mark();
        pickle.string("training").bool(false);
    };
    open(&mut pickle, "AlexNet");
    for (group, layers) in groups(tensors) {
        pickle.string(group);
        open(&mut pickle, group);
        for layer in layers {
            pickle.string(layer);
            open(&mut pickle, "Layer");
            for parameter in ["weight", "bias"] {
                let key = key(&format!("{group}.{layer}.{parameter}"));
                pickle.string(parameter).tensor(&key.to_string(), &tensors[key].shape);
            }
            pickle.set_items().build();
        }
        pickle.set_items().build();
    }
    for tensor in tensors.iter().filter(|tensor| !tensor.name.contains('.')) {
        pickle.string(&tensor.name).tensor(&key(&tensor.name).to_string(), &tensor.shape);
    }
    pickle.set_items().build();
    pickle.finish()
}

fn code(groups: &[(&str, Vec<&str>)], layers: &[TracedLayer], wrapping: Wrapping) -> String {
    let mut code = String::new();
    let mut line = |indent: usize, text: &str| {
        let _ = writeln!(code, "{:indent$}{text}", "", indent = indent * 2);
    };
    let class = |line: &mut dyn FnMut(usize, &str), name: &str, parameters: &[&str], buffers: &[&str]| {
        let list = |names: &[&str]| names.iter().map(|name| format!("\"{name}\", ")).collect::<String>();
        line(0, &format!("class {name}(Module):"));
        line(1, &format!("__parameters__ = [{}]", list(parameters)));
        line(1, &format!("__buffers__ = [{}]", list(buffers)));
        line(1, "training : bool");
        for name in parameters.iter().chain(buffers) {
            line(1, &format!("{name} : Tensor"));
        }
    };
    class(&mut line, "Layer", &["weight", "bias"], &[]);
    for (group, layers) in groups {
        class(&mut line, group, &[], &[]);
        for layer in layers {
            line(1, &format!("__annotations__[\"{layer}\"] = __torch__.Layer"));
        }
    }
    let buffers: &[&str] = if wrapping.preprocess { &["mean", "std"] } else { &[] };
    line(0, "class AlexNet(Module):");
    line(1, "__parameters__ = []");
    line(1, if wrapping.preprocess { "__buffers__ = [\"mean\", \"std\", ]" } else { "__buffers__ = []" });
    line(1, "training : bool");
    for (group, _) in groups {
        line(1, &format!("{group} : __torch__.{group}"));
    }
    for buffer in buffers {
        line(1, &format!("{buffer} : Tensor"));
    }
    line(1, "def forward(self: __torch__.AlexNet,");
    line(1, "    input: Tensor) -> Tensor:");
    let mut value = "input".to_owned();
    let mut count = 0;
    let mut assign = |expression: String| {
        let name = format!("x{count}");
        count += 1;
        line(2, &format!("{name} = {expression}"));
        name
    };
    if wrapping.preprocess {
        let unit = assign(format!("torch.div(torch.to({value}, 6), 255.)"));
        let centred = assign(format!("torch.sub({unit}, self.mean)"));
        let normalised = assign(format!("torch.div({centred}, self.std)"));
        value = assign(format!("torch.permute({normalised}, [0, 3, 1, 2])"));
    }
    let mut inputs = Vec::new();
    for layer in layers {
        inputs.push(value.clone());
        value = expression(layer, value, &inputs, &mut assign);
    }
    if wrapping.softmax {
        value = assign(format!("torch.softmax({value}, 1)"));
    }
    line(2, &format!("return {value}"));
    code
}

/// Writes a layer's statements and returns the name of its output; `inputs` are the inputs of all layers up to this one.
fn expression(layer: &TracedLayer, x: String, inputs: &[String], assign: &mut impl FnMut(String) -> String) -> String {
    let parameters = || {
        let (group, number) = layer.spec.name.split_once('.').unwrap_or((&layer.spec.name, ""));
        let module = format!("getattr(self.{group}, \"{number}\")");
        format!("{module}.weight, {module}.bias")
    };
    let pair = |side: usize| format!("[{side}, {side}]");
    match layer.spec.kind {
        LayerKind::Conv { stride, padding, groups, .. } => {
            let (stride, padding) = (pair(stride), pair(padding));
            assign(format!("torch.conv2d({x}, {}, {stride}, {padding}, [1, 1], {groups})", parameters()))
        }
        LayerKind::Relu => assign(format!("torch.relu({x})")),
        LayerKind::MaxPool { kernel, stride, padding } => {
            let (kernel, stride, padding) = (pair(kernel), pair(stride), pair(padding));
            assign(format!("torch.max_pool2d({x}, {kernel}, {stride}, {padding}, [1, 1], False)"))
        }
        LayerKind::AdaptiveAvgPool { side } => assign(format!("torch.adaptive_avg_pool2d({x}, {})", pair(side))),
        LayerKind::Lrn { size, alpha, beta, k } => {
            // As torch.nn.functional.local_response_norm: a mean over channels, zero-padded.
            let (before, after) = (size / 2, (size - 1) / 2);
            let squares = assign(format!("torch.unsqueeze(torch.mul({x}, {x}), 1)"));
            let padded = assign(format!("torch.constant_pad_nd({squares}, [0, 0, 0, 0, {before}, {after}])"));
            let mean = assign(format!("torch.squeeze(torch.avg_pool3d({padded}, [{size}, 1, 1], [1, 1, 1]), 1)"));
            let scale = assign(format!("torch.pow(torch.add(torch.mul({mean}, {alpha:?}), {k:?}), {beta:?})"));
            assign(format!("torch.div({x}, {scale})"))
        }
        LayerKind::BatchNorm { .. } => unreachable!("folded into the layer before it"),
        LayerKind::Add { from } => assign(format!("torch.add({x}, {})", inputs[from])),
        LayerKind::Dropout { .. } => x,
        LayerKind::Flatten => assign(format!("torch.flatten({x}, 1, -1)")),
        LayerKind::Linear { .. } => assign(format!("torch.linear({x}, {})", parameters())),
    }
}

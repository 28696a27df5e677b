"""Proves what `alexnet export` writes: `make` writes weights, `check` has them exported and compares all with PyTorch.

Called by tests/python.rs, a variant at a time, in a folder of its own.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

CLASSES = 10
IMAGES = 64
# Of the largest logit: two fp32 programs that add up in different orders.
TOLERANCE = 1e-4
# Weights and layers in fp16, of the largest logit.
HALF = 1e-2


class Plain(nn.Module):
    """The layers of the variants as a PyTorch user writes them."""

    def __init__(self, variant, groups, side):
        super().__init__()
        self.residual = variant.endswith("-residual")
        variant = variant.removesuffix("-residual")
        lrn = [nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)] if variant == "original" else []
        filters = [96, 256, 384, 384, 256] if variant == "original" else [64, 192, 384, 256, 256]
        stem, pad, pool = (11, 0, 3) if variant == "original" else (11, 2, 3)
        first = nn.Conv2d(3, filters[0], stem, 4, pad)
        second = nn.Conv2d(filters[0], filters[1], 5, padding=2, groups=groups)
        if variant.startswith("cifar"):
            pool = 2
            first = nn.Conv2d(3, filters[0], 3, 2, 1)
            second = nn.Conv2d(filters[0], filters[1], 3, padding=1)
        if variant == "modern":
            filters, pool = [64, 64, 256, 384, 512], 2
            first, second = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)
        # Window and stride of the pool after each convolution that has one.
        pools = {i: (pool, 2) for i in [0, 1, 4]}
        if variant == "modern":
            pools = {1: (2, 2), 2: (2, 2), 3: (2, 2), 4: (4, 4)}
        others = [
            nn.Conv2d(filters[i - 1], filters[i], 3, padding=1, groups=1 if i == 2 else groups) for i in [2, 3, 4]
        ]
        layers = []
        for i, conv in enumerate([first, second, *others]):
            layers += [conv, nn.ReLU(), *(lrn if i < 2 else [])]
            if i in pools:
                layers.append(nn.MaxPool2d(*pools[i]))

        def norm(layer):
            if variant not in ["modern", "cifar-batch-norm"]:
                return []
            if isinstance(layer, nn.Conv2d):
                return [nn.BatchNorm2d(layer.out_channels)]
            return [nn.BatchNorm1d(layer.out_features)] if isinstance(layer, nn.Linear) else []

        layers = [part for layer in layers for part in [layer, *norm(layer)]]
        self.features = nn.Sequential(*layers)
        inputs = self.features(torch.zeros(1, 3, side, side)).numel()
        hidden = 512 if variant == "modern" else 4096
        layers = [nn.Dropout(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU()]
        layers = [part for layer in layers for part in [layer, *norm(layer)]]
        self.classifier = nn.Sequential(*layers, nn.Linear(hidden, CLASSES))

    def forward(self, x):
        kept = None
        for layer in self.features:
            if isinstance(layer, nn.ReLU) and kept is not None:
                x, kept = x + kept, None
            if self.residual and isinstance(layer, nn.Conv2d) and layer.in_channels == layer.out_channels:
                kept = x
            x = layer(x)
        return self.classifier(torch.flatten(x, 1))


def module(variant, groups, side):
    if variant == "torchvision":
        return torchvision.models.alexnet(num_classes=CLASSES).eval()
    return Plain(variant, groups, side).eval()


def make(folder, variant, groups, side):
    torch.manual_seed(7)
    state = module(variant, groups, side).state_dict()
    for name, tensor in state.items():
        # PyTorch's own start leaves logits that hardly differ.
        if name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5)
        else:
            scale = 0.1 if tensor.dim() == 1 else (2.0 / tensor[0].numel()) ** 0.5
            tensor.normal_(0, scale)
    torch.save(state, folder / "source.pth")


def alexnet(arguments):
    """Has tests/python.rs run the binary, and returns what it prints."""
    print(f"alexnet {arguments}", flush=True)
    return json.loads(sys.stdin.readline())


@contextmanager
def exported(folder, name, options="", checkpoint="checkpoint.safetensors"):
    """A file that `alexnet export` writes, gone afterwards: a dozen of them would take gigabytes."""
    alexnet(f"export {checkpoint} -o {name} {options}")
    yield folder / name
    (folder / name).unlink()


def close(what, found, expected, tolerance=TOLERANCE):
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    assert found.dtype == np.float32 and found.shape == expected.shape and worst <= tolerance, f"{what}: {found.dtype} {found.shape}, {worst:.2e}"
    ranked = np.sort(expected, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 2 * tolerance * np.abs(expected).max()
    assert clear.sum() >= (IMAGES - 8 if tolerance == TOLERANCE else IMAGES // 2), f"{what}: only {clear.sum()} images have a clear winner"
    same = found.argmax(1) == expected.argmax(1)
    assert same[clear].all(), f"{what}: top-1 differs on {(~same[clear]).sum()} images"
    print(f"  {what}: off by {worst:.1e} of the largest")


def equal(what, found, expected):
    assert list(found) == list(expected), f"{what}: {list(found)}"
    for name in expected:
        a, b = found[name], expected[name]
        assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {name}"
        bits = torch.int16 if a.dtype == torch.float16 else torch.int32
        assert torch.equal(a.view(bits), b.view(bits)), f"{what}: {name} differs"


def recorded(preprocess, variant, side):
    """The preprocessing in a file: ImageNet's for torchvision's architecture, else CIFAR-10's."""
    imagenet = variant == "torchvision"
    assert preprocess == {
        "mean": [0.485, 0.456, 0.406] if imagenet else [0.4914, 0.4822, 0.4465],
        "std": [0.229, 0.224, 0.225] if imagenet else [0.2023, 0.1994, 0.201],
        "resize": 256 if imagenet else side,
        "crop": side,
        "interpolation": "bilinear",
        "antialias": True,
        "channels": "RGB",
        "range": [0, 1],
    }, preprocess


def read_exported(path, images, variant, side):
    extra = {"classes.json": "", "preprocess.json": ""}
    program = torch.export.load(path, extra_files=extra)
    assert json.loads(extra["classes.json"])[2] == "bird"
    recorded(json.loads(extra["preprocess.json"]), variant, side)
    model = program.module()
    with torch.inference_mode():
        whole = model(torch.from_numpy(images)).numpy()
        for count in [1, 5]:
            part = model(torch.from_numpy(images[:count])).numpy()
            assert np.abs(part - whole[:count]).max() <= TOLERANCE * np.abs(whole).max(), f"batch {count}"
    return whole, program.state_dict


def read_onnx(path, images, variant, side, tolerance=TOLERANCE):
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["input"] and [o.name for o in session.get_outputs()] == ["output"]
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["classes"])[2] == "bird"
    preprocess = json.loads(notes["preprocess"])
    recorded(preprocess, variant, side)
    assert [json.loads(notes[key]) for key in ["mean", "std", "range", "resize", "image_size"]] == [
        preprocess[key] for key in ["mean", "std", "range", "resize", "crop"]
    ]
    assert (notes["channel_order"], notes["interpolation"]) == ("RGB", "bilinear")
    whole = session.run(None, {"input": images})[0]
    for count in [1, 5]:
        part = session.run(None, {"input": images[:count]})[0]
        assert np.abs(part - whole[:count]).max() <= tolerance * np.abs(whole).max(), f"batch {count}"
    return whole


def read_script(path, images, variant, side):
    extra = {"classes.json": "", "preprocess.json": ""}
    script = torch.jit.load(str(path), _extra_files=extra)
    assert json.loads(extra["classes.json"])[2] == "bird"
    recorded(json.loads(extra["preprocess.json"]), variant, side)
    with torch.inference_mode():
        return script.eval()(torch.from_numpy(images)).numpy(), script.state_dict()


def probable(what, found, ours, tolerance):
    """Compares probabilities from uint8 images with our logits."""
    powers = np.exp(ours - ours.max(1, keepdims=True), dtype=np.float64)
    worst = np.abs(found - powers / powers.sum(1, keepdims=True)).max()
    # d softmax ≤ half of twice the largest change of a logit.
    assert found.dtype == np.float32 and worst <= tolerance * np.abs(ours).max(), f"{what}: {worst:.2e}"
    assert np.abs(found.sum(1) - 1).max() < (1e-5 if tolerance == TOLERANCE else 1e-3)


def imported(folder, name, state, variant, **how):
    """What comes out of a file that PyTorch wrote, imported and exported again."""
    torch.save(state, folder / f"{name}.pth", **how)
    arch = variant.removesuffix("-residual").removesuffix("-batch-norm")
    residual = "--residual" if variant.endswith("-residual") else ""
    alexnet(f"import {name}.pth -o {name}.safetensors --arch {arch} --classes cifar10 {residual}")
    (folder / f"{name}.pth").unlink()
    with exported(folder, f"{name}-out.pth", checkpoint=f"{name}.safetensors") as path:
        (folder / f"{name}.safetensors").unlink()
        return torch.load(path, weights_only=True)


def check(folder, variant, groups, side):
    shape = (IMAGES, side, side, 3)
    pixels = np.fromfile(folder / "pixels.u8", np.uint8).reshape(shape)
    images = np.fromfile(folder / "images.f32", np.float32).reshape(shape).transpose(0, 3, 1, 2).copy()
    ours = np.fromfile(folder / "logits.f32", np.float32).reshape(IMAGES, CLASSES)
    saved = torch.load(folder / "source.pth", weights_only=True)
    # Only PyTorch counts the batches, for a momentum of None; it takes a state dict without.
    source = {name: tensor for name, tensor in saved.items() if not name.endswith("num_batches_tracked")}
    half = {name: tensor.half() for name, tensor in source.items()}
    plain = module(variant, groups, side)
    sizes = {}

    def predicted(state):
        plain.load_state_dict(state)
        with torch.inference_mode():
            return plain(torch.from_numpy(images)).numpy()

    with exported(folder, "out.pth") as path:
        state = torch.load(path, weights_only=True)
        equal("PyTorch file", state, source)
        close("plain PyTorch module", ours, predicted(state))
        sizes["pth"] = path.stat().st_size
    with exported(folder, "out.onnx") as path:
        close("onnxruntime", ours, read_onnx(path, images, variant, side))
        sizes["onnx"] = path.stat().st_size
    for what, name, read in [("torch.jit.load", "out.pt", read_script), ("torch.export.load", "out.pt2", read_exported)]:
        with exported(folder, name) as path:
            found, own = read(path, images, variant, side)
        close(what, ours, found)
        if any(name.endswith("running_mean") for name in source):
            # The batch norms are part of the layers before them: the last layer alone is as it was.
            assert not any("running" in name for name in own)
            last = dict(list(source.items())[-2:])
            equal(f"{what}: last layer", {name: own[name] for name in last}, last)
        else:
            equal(f"{what}: state dict", own, source)

    def stored(path):
        """In the order of the file; the package itself sorts by name."""
        with safe_open(path, "pt") as file:
            recorded(json.loads(file.metadata()["preprocess"]), variant, side)
        found = load_file(path)
        assert set(found) == set(source)
        return {key: found[key] for key in source}

    equal("checkpoint", stored(folder / "checkpoint.safetensors"), source)
    with exported(folder, "out.safetensors") as path:
        equal("safetensors", stored(path), source)
        sizes["safetensors"] = path.stat().st_size

    # In fp16: weights, and with ONNX the layers; input and output stay fp32.
    for kind in ["onnx", "pth", "safetensors"]:
        with exported(folder, f"fp16.{kind}", "--half") as path:
            assert path.stat().st_size < 0.51 * sizes[kind], f"{kind}: {path.stat().st_size} of {sizes[kind]}"
            if kind == "onnx":
                close("onnxruntime, fp16", read_onnx(path, images, variant, side, HALF), ours, HALF)
                continue
            found = stored(path) if kind == "safetensors" else torch.load(path, weights_only=True)
            equal(path.name, found, half)
            close(f"plain PyTorch module, {path.name}", predicted(found), ours, HALF)

    for what, name, read in [("ONNX", "whole.onnx", read_onnx),
                             ("TorchScript", "whole.pt", lambda *arguments: read_script(*arguments)[0]),
                             ("torch.export", "whole.pt2", lambda *arguments: read_exported(*arguments)[0])]:
        with exported(folder, name, "--softmax --with-preprocess") as path:
            probable(f"{what} with preprocessing and softmax", read(path, pixels, variant, side), ours, TOLERANCE)
    with exported(folder, "fp16-whole.onnx", "--half --softmax --with-preprocess") as path:
        probable("ONNX in fp16", read_onnx(path, pixels, variant, side, HALF), ours, HALF)

    wrapped = {f"module.{name}": tensor for name, tensor in saved.items()}
    equal("legacy file", imported(folder, "legacy", wrapped, variant, _use_new_zipfile_serialization=False), source)
    rounded = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in saved.items()}
    found = imported(folder, "half", {"epoch": 3, "state_dict": rounded}, variant)
    equal("half file", found, {name: tensor.float() for name, tensor in half.items()})


if __name__ == "__main__":
    _, action, folder, variant, groups, side = sys.argv
    {"make": make, "check": check}[action](Path(folder), variant, int(groups), int(side))

"""Weights as public training scripts save them, each imported by `alexnet import` and compared with what was saved.

Called by tests/python.rs, in a folder of its own.
"""

import argparse
import collections
import copy
import datetime
import enum
import functools
import pathlib
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file, save_file

from proof import alexnet, module

OD = collections.OrderedDict
LEGACY = {"_use_new_zipfile_serialization": False}


class Colour(enum.Enum):
    RED = 1


def prefixed(state, prefix):
    return OD((prefix + name, tensor) for name, tensor in state.items())


def scaled(state, factor):
    return OD((name, tensor * factor if tensor.is_floating_point() else tensor) for name, tensor in state.items())


def optimizer(kind, net):
    net = copy.deepcopy(net)
    made = kind(net.parameters(), lr=0.1)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    made.step()
    return made.state_dict()


def beside():
    """What scripts put beside the weights."""
    attributed = torch.arange(3.0)
    attributed.note = "x"
    return {
        "args": argparse.Namespace(lr=0.1, path=Path("runs/1"), device=torch.device("cuda:1"), dtype=torch.bfloat16),
        "space": types.SimpleNamespace(a=1),
        "best": np.float64(84.2),
        "losses": np.arange(5, dtype=np.float32),
        "objects": np.array(["a", None], dtype=object),
        "history": collections.defaultdict(list, {"loss": [0.5, 0.25]}),
        "counts": collections.Counter("abca"),
        "queue": collections.deque([1, 2], maxlen=5),
        "size": torch.Size([3, 224, 224]),
        "path": pathlib.PurePosixPath("a/b"),
        "time": datetime.datetime(2024, 1, 2, 3, 4, 5),
        "delta": datetime.timedelta(days=1),
        "set": {1, 2},
        "frozen": frozenset("ab"),
        "complex": 1 + 2j,
        "range": range(3),
        "slice": slice(1, 2),
        "bytes": b"\x00\xff",
        "array": bytearray(b"\x00\xff"),
        "big": 1 << 200,
        "enum": Colour.RED,
        "partial": functools.partial(int, base=2),
        "schedule": torch.optim.lr_scheduler.LambdaLR,
        "error": ValueError("x"),
        "rng": torch.get_rng_state(),
        "numpy_rng": np.random.get_state(),
        "generator": np.random.default_rng(1),
        "sparse": torch.eye(3).to_sparse(),
        "quantised": torch.quantize_per_tensor(torch.arange(4.0), 0.1, 0, torch.qint8),
        "small": torch.arange(3).to(torch.uint16),
        "fp8": torch.arange(3.0).to(torch.float8_e4m3fn),
        "complexes": torch.arange(3).to(torch.complex64),
        "attributed": attributed,
        "meta": torch.empty(3, device="meta"),
        "ragged": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "self": None,
    }


def python_2(state, two):
    """What PyTorch 0.1.10 to 0.3 wrote, by Python 2 or 3."""

    def text(value):
        value = value.encode("latin1")
        return b"U" + bytes([len(value)]) + value if two else b"X" + struct.pack("<I", len(value)) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    types_ = {torch.float32: b"FloatStorage", torch.int64: b"LongStorage"}
    body = b"\x80\x02ccollections\nOrderedDict\n" + (b"](" if two else b")R(")
    for key, (name, value) in enumerate(state.items()):
        storage = text("storage") + b"ctorch\n" + types_[value.dtype] + b"\n" + text(str(key)) + text("cpu")
        shape = b"(" + b"".join(map(number, value.shape)) + b"t(" + b"".join(map(number, value.stride())) + b"t"
        tensor = b"ctorch._utils\n_rebuild_tensor\n((" + storage + number(value.numel()) + b"NtQ" + number(0) + shape + b"tR"
        body += b"](" + text(name) + tensor + b"e" if two else text(name) + tensor
    body += b"e\x85R." if two else b"u."
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    file = b"".join(pickle.dumps(part, protocol=2) for part in [0x1950A86A20F9469CFC6C, 1001, system])
    file += body + pickle.dumps([str(key) for key in range(len(state))], protocol=2)
    for value in state.values():
        file += struct.pack("<q", value.numel()) + value.contiguous().numpy().tobytes()
    return file


def cases(state, net):
    """Name, what is saved, how, and the type that the weights are rounded to."""
    sgd, adam = optimizer(torch.optim.SGD, net), optimizer(torch.optim.AdamW, net)
    inner = OD((name.replace("features.", "features.module."), tensor) for name, tensor in state.items())
    half, double = (OD((n, t.to(d) if t.is_floating_point() else t) for n, t in state.items())
                    for d in [torch.float16, torch.float64])
    flat = torch.cat([tensor.flatten() for tensor in state.values() if tensor.is_floating_point()])
    views, at = OD(), 0
    for name, tensor in state.items():
        if tensor.is_floating_point():
            views[name] = flat[at:at + tensor.numel()].view(tensor.shape)
            at += tensor.numel()
    ema = scaled(state, 2)
    for name, value in [
        ("plain", state),
        ("module", prefixed(state, "module.")),
        ("features_module", inner),
        ("module_features_module", prefixed(inner, "module.")),
        ("orig_mod", prefixed(state, "module._orig_mod.")),
        ("lightning", {"state_dict": prefixed(state, "model."), "optimizer_states": [adam], "hyper_parameters": {"lr": 0.1}}),
        ("backbone", prefixed(state, "backbone.net.")),
        ("fsdp", prefixed(state, "_fsdp_wrapped_module.")),
        ("imagenet_example", {"epoch": 3, "arch": "alexnet", "state_dict": prefixed(inner, ""), "optimizer": sgd}),
        ("kuangliu", {"net": prefixed(state, "module."), "acc": 84.1, "epoch": 7}),
        ("optimizer_first", {"optimizer": adam, "model": state}),
        ("timm", {"state_dict": state, "state_dict_ema": state, "args": argparse.Namespace(model="alexnet")}),
        ("timm_ema_differs", {"state_dict_ema": ema, "state_dict": state}),
        ("yolo_like", {"ema": ema, "model": state, "updates": 7}),
        ("only_ema", {"model_ema": state}),
        ("unusual_key", {"trained things": {"alexnet": state}}),
        ("tuple", (3, state, "x")),
        ("list", [sgd, state]),
        ("beside", {"state_dict": state, "optimizer": adam, **beside()}),
        ("beside_first", {**beside(), "weights": state}),
        ("half", half),
        ("double", double),
        ("bfloat16", OD((n, t.bfloat16() if t.is_floating_point() else t) for n, t in state.items())),
        ("views", views),
        ("channels_last", OD((n, t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t)
                             for n, t in state.items())),
        ("transposed", OD((n, t.t().contiguous().t() if t.ndim == 2 else t) for n, t in state.items())),
        ("parameters", {**dict(net.named_parameters()), **dict(net.named_buffers())}),
        # A name of 21 letters: the first entry of the directory is then as long as the records after the directory.
        ("parameters_with_state", {"net": net.state_dict(keep_vars=True)}),
        ("extra", {**state, "fc.weight": torch.zeros(3, 3)}),
    ]:
        dtype = {"half": torch.float16, "bfloat16": torch.bfloat16}.get(name, torch.float32)
        yield name, value, {}, dtype
        # These have no form in the old format.
        old = {k: v for k, v in value.items() if k != "meta"} if name.startswith("beside") else value
        yield f"{name}_legacy", old, LEGACY, dtype
    for protocol in [3, 4, 5]:
        yield f"protocol_{protocol}", {"state_dict": state, **beside()}, {"pickle_protocol": protocol}, torch.float32


def check(folder):
    torch.manual_seed(7)
    net = module("modern", 1, 32)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_().abs_().add_(0.1)
    state = OD((name, tensor.clone()) for name, tensor in net.state_dict().items())
    wanted = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    count = 0

    def compare(name, dtype=torch.float32):
        """The file's weights, imported, have the bits of `state`, rounded to the type. The file goes."""
        nonlocal count
        # PyTorch itself reads it, so that it is what it should be.
        if name.endswith(".pth") and not name.startswith(("beside", "protocol_", "timm")):
            torch.load(folder / name, weights_only=True)
        out = alexnet(f"import {name} -o out.safetensors --force")
        assert "modern, images 32x32, 10 classes" in out, f"{name}: {out}"
        found = load_file(folder / "out.safetensors")
        assert sorted(found) == sorted(wanted), f"{name}: {sorted(found)}"
        for key, tensor in wanted.items():
            same = torch.equal(found[key].view(torch.int32), tensor.to(dtype).float().contiguous().view(torch.int32))
            assert same, f"{name}: {key} differs"
        (folder / name).unlink()
        count += 1

    for name, value, how, dtype in cases(state, net):
        torch.save(value, folder / f"{name}.pth", **how)
        compare(f"{name}.pth", dtype)
    for name, two in [("python_2", True), ("before_0_4", False)]:
        (folder / f"{name}.pth").write_bytes(python_2(state, two))
        compare(f"{name}.pth")
    torch.save(state, folder / "plain.pth")
    with zipfile.ZipFile(folder / "packed_again.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        with zipfile.ZipFile(folder / "plain.pth") as plain:
            for record in plain.infolist():
                packed.writestr(record.filename, plain.read(record.filename))
    compare("packed_again.pth")
    torch.serialization.set_crc32_options(False)
    torch.save(state, folder / "no_checksums.pth")
    compare("no_checksums.pth")
    save_file(dict(prefixed(state, "module.")), folder / "wrapped.safetensors", metadata={"format": "pt", "author": "ü"})
    compare("wrapped.safetensors")
    save_file({name.replace("features.", "features.module."): tensor for name, tensor in state.items()}, folder / "inner.safetensors")
    compare("inner.safetensors")
    print(f"  {count} files of weights, bits equal")

    categories = torchvision.models.AlexNet_Weights.DEFAULT.meta["categories"]
    (folder / "imagenet.txt").write_text("".join(f"{name}\n" for name in categories))


if __name__ == "__main__":
    _, action, folder = sys.argv
    {"check": check}[action](Path(folder))

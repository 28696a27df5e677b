"""Compares our RandomResizedCrop with torchvision's: `resized_crop.py check FOLDER`, where the test left its boxes and bytes."""
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional


def distance(a, b):
    """The two-sample statistic of Kolmogorov and Smirnov."""
    a, b = np.sort(a), np.sort(b)
    at = np.concatenate([a, b])
    return np.abs(np.searchsorted(a, at, side="right") / len(a) - np.searchsorted(b, at, side="right") / len(b)).max()


folder = Path(sys.argv[2])
cases = json.loads((folder / "crops.json").read_text())

width, height = cases["extent"]
picture = torch.from_numpy(np.fromfile(folder / "picture.u8", np.uint8)).reshape(height, width, 3).permute(2, 0, 1)
worst = differing = pixels = 0
ours = (folder / "crops.u8").read_bytes()
for left, top, w, h, size in cases["crops"]:
    length = size * size * 3
    found, ours = torch.frombuffer(bytearray(ours[:length]), dtype=torch.uint8), ours[length:]
    expected = functional.resized_crop(picture, top, left, h, w, [size, size], antialias=True).permute(1, 2, 0).flatten()
    difference = (found.int() - expected.int()).abs()
    worst = max(worst, int(difference.max()))
    differing += int((difference > 0).sum())
    pixels += length
assert not ours
assert worst <= 1, f"off by {worst} of 255"
print(f"{len(cases['crops'])} crops: off by {worst} of 255 at most, {differing / pixels:.2%} of the bytes differ")

torch.manual_seed(1)
for case in cases["samples"]:
    (width, height), scale = case["extent"], case["scale"]
    empty = torch.zeros(3, height, width)
    boxes = np.array([RandomResizedCrop.get_params(empty, scale, (3 / 4, 4 / 3)) for _ in case["boxes"]], float)
    top, left, h, w = boxes.T
    theirs = {"area": w * h, "ratio": w / h, "left": left, "top": top, "width": w, "height": h}
    left, top, w, h = np.array(case["boxes"], float).T
    found = {"area": w * h, "ratio": w / h, "left": left, "top": top, "width": w, "height": h}
    # One pair of samples of one distribution in 10^5 is further apart.
    limit = 2.5 * np.sqrt(2 / len(boxes))
    for name, values in theirs.items():
        apart = distance(values, found[name])
        assert apart < limit, f"{name} of {width}x{height}, scale {scale}: {apart} >= {limit}"
        print(f"{width}x{height}, scale {scale}, {name}: {apart:.4f} of {limit:.4f}")

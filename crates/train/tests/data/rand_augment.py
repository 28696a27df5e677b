#!/usr/bin/env python3
"""Makes rand_augment.txt beside this file: what torchvision's RandAugment makes of a picture of 10x10, operation by
operation, at magnitudes 9, 20 and 30 of 30.

    pip install torch torchvision
    python crates/train/tests/data/rand_augment.py
"""
import pathlib

import torch
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

SIDE = 10

# Smooth with noise: (pixel, channel) as crates/train/src/data/augment/rand_augment.rs makes it.
values = [[[(x * 11 + y * 7 * (c + 1) + (x * y * 37 + c * 91) % 60) % 230 + 10 for c in range(3)] for x in range(SIDE)]
          for y in range(SIDE)]
picture = torch.tensor(values, dtype=torch.uint8).permute(2, 0, 1)
lines = []
for name, (magnitudes, signed) in RandAugment()._augmentation_space(31, (SIDE, SIDE)).items():
    for bin in (9, 20, 30) if magnitudes.ndim > 0 else (9,):
        for sign in (1, -1) if signed else (1,):
            magnitude = sign * float(magnitudes[bin].item()) if magnitudes.ndim > 0 else 0.0
            out = _apply_op(picture, name, magnitude, InterpolationMode.NEAREST, None)
            lines.append(f'{name} {bin} {sign} {bytes(out.permute(1, 2, 0).reshape(-1).tolist()).hex()}\n')
pathlib.Path(__file__).with_suffix('.txt').write_text(''.join(lines))

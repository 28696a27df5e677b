"""Compares imported torchvision weights with torchvision's preset: `make` writes weights and pictures, `check` reads what
`alexnet predict` and `alexnet eval` said of them.

Called by tests/python.rs, in a folder of its own.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.models import AlexNet_Weights

CLASSES = 1000
# Of the largest logit: two fp32 programs that add up in different orders.
TOLERANCE = 1e-4
# For JPEG, whose decoders may differ by a step of a byte here and there.
JPEG_TOLERANCE = 2e-2
# Width and height: wide, tall, square, small, of the preset's lengths, one pixel more.
SIZES = [(500, 375), (375, 500), (640, 427), (256, 256), (224, 224), (256, 341), (257, 256), (900, 160), (150, 800),
         (40, 33), (17, 64), (1200, 800), (333, 251), (1, 300), (225, 1023), (1, 1), (255, 257)]


def picture(random, width, height):
    """Like a photo: smooth light, objects with edges, noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    image = np.zeros((height, width, 3))
    for channel in range(3):
        a, b, c = random.uniform(-1, 1, 3)
        image[..., channel] = 128 + 60 * np.sin(a * x / 40 + b * y / 30 + 3 * c) + 40 * (a * x / width + b * y / height)
    for _ in range(6):
        left, top, radius = random.uniform(0, width), random.uniform(0, height), random.uniform(2, max(3, width / 4))
        inside = (x - left) ** 2 + (y - top) ** 2 < radius**2
        image[inside] = 0.3 * image[inside] + 0.7 * random.uniform(0, 255, 3)
    image += random.normal(0, random.uniform(0, 12), image.shape)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def paths(folder):
    """The pictures in the order of the program: by class and name."""
    return sorted(path for path in (folder / "photos").glob("*/*"))


def make(folder):
    torch.manual_seed(11)
    model = torchvision.models.alexnet(num_classes=CLASSES)
    for tensor in model.state_dict().values():
        # PyTorch's own start leaves logits that hardly differ.
        tensor.normal_(0, 0.1 if tensor.dim() == 1 else (2.0 / tensor[0].numel()) ** 0.5)
    torch.save(model.state_dict(), folder / "alexnet.pth")
    # Classes as `eval` needs them: as many as the weights have; all but two are empty in its `val`.
    random = np.random.default_rng(5)
    for index in range(50):
        image = picture(random, *SIZES[index % len(SIZES)])
        kind = index % 3
        target = folder / "photos" / ["png", "jpeg"][kind > 0]
        target.mkdir(parents=True, exist_ok=True)
        if kind == 0:
            image.save(target / f"{index:02}.png")
        else:
            image.save(target / f"{index:02}.jpg", quality=[95, 75][kind - 1], subsampling=[0, 2][kind - 1])


def logits(folder, files):
    model = torchvision.models.alexnet(num_classes=CLASSES).eval()
    model.load_state_dict(torch.load(folder / "alexnet.pth", weights_only=True))
    preset = AlexNet_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        return torch.cat([model(preset(Image.open(file).convert("RGB"))[None]) for file in files]).double()


def check(folder):
    files = paths(folder)
    assert len(files) == 50
    lines = [json.loads(line) for line in (folder / "predict.jsonl").read_text().splitlines()]
    assert [folder / line["image"] for line in lines] == files, [line["image"] for line in lines]
    ours = np.zeros((len(files), CLASSES))
    for row, line in zip(ours, lines):
        assert len(line["predictions"]) == CLASSES
        for entry in line["predictions"]:
            row[entry["index"]] = entry["probability"]
    theirs = logits(folder, files)
    # log softmax is the logits but for a constant per picture, which a mean takes out.
    centred = lambda values: values - values.mean(1, keepdims=True)
    assert (ours > 0).all()
    found, expected = centred(np.log(ours)), centred(theirs.numpy())
    off = np.abs(found - expected).max(1) / np.abs(theirs.numpy()).max(1)
    png = np.array([file.suffix == ".png" for file in files])
    print(f"  predict: off by {off[png].max():.1e} of a picture's largest logit from PNG, {off[~png].max():.1e} from JPEG")
    assert off[png].max() <= TOLERANCE, off[png]
    assert off[~png].max() <= JPEG_TOLERANCE, off[~png]
    same = found.argmax(1) == expected.argmax(1)
    assert same[png].all() and same.sum() >= 48, same


if __name__ == "__main__":
    _, action, folder = sys.argv
    {"make": make, "check": check}[action](Path(folder))

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
# The same for a JPEG that each program has decoded: libjpeg-turbo and zune-jpeg round the inverse DCT, the interpolation of
# the colours and their conversion differently. 1.3e-2 was measured; tests/python/pictures.py compares the pixels.
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


def make(folder):
    torch.manual_seed(11)
    model = torchvision.models.alexnet(num_classes=CLASSES)
    for tensor in model.state_dict().values():
        # PyTorch's own start leaves logits that hardly differ.
        tensor.normal_(0, 0.1 if tensor.dim() == 1 else (2.0 / tensor[0].numel()) ** 0.5)
    torch.save(model.state_dict(), folder / "alexnet.pth")
    random = np.random.default_rng(5)
    for index in range(50):
        image = picture(random, *SIZES[index % len(SIZES)])
        kind = index % 3
        target = folder / "photos"
        target.mkdir(exist_ok=True)
        if kind == 0:
            image.save(target / f"{index:02}.png")
        else:
            image.save(target / f"{index:02}.jpg", quality=[95, 75][kind - 1], subsampling=[0, 2][kind - 1])


def logits(folder, images):
    model = torchvision.models.alexnet(num_classes=CLASSES).eval()
    model.load_state_dict(torch.load(folder / "alexnet.pth", weights_only=True))
    preset = AlexNet_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        return torch.cat([model(preset(image)[None]) for image in images]).double().numpy()


def check(folder):
    lines = [json.loads(line) for line in (folder / "predict.jsonl").read_text().splitlines()]
    files = sorted((folder / "photos").glob("*"))
    assert len(files) == 50 and [folder / line["image"] for line in lines] == files
    ours = np.zeros((len(files), CLASSES))
    for row, line in zip(ours, lines):
        assert len(line["predictions"]) == CLASSES
        for entry in line["predictions"]:
            row[entry["index"]] = entry["probability"]
    # log softmax is the logits but for a constant per picture, which the mean takes out.
    centred = lambda values: values - values.mean(1, keepdims=True)
    assert (ours > 0).all()
    found = centred(np.log(ours))

    def off(images):
        theirs = logits(folder, images)
        expected = centred(theirs)
        away = np.abs(found - expected).max(1) / np.abs(theirs).max(1)
        return away, found.argmax(1) == expected.argmax(1)

    own = {folder / seen["file"]: seen for seen in map(json.loads, (folder / "photos.jsonl").read_text().splitlines())}
    pixels = lambda seen: np.fromfile(folder / seen["pixels"], np.uint8).reshape(seen["height"], seen["width"], 3)
    away, same = off([Image.fromarray(pixels(own[file])) for file in files])
    print(f"  predict: off by {away.max():.1e} of a picture's largest logit, from the same pixels")
    assert away.max() <= TOLERANCE and same.all(), away

    png = np.array([file.suffix == ".png" for file in files])
    away, same = off([Image.open(file).convert("RGB") for file in files])
    print(f"  with Pillow's decoders: {away[png].max():.1e} from PNG, {away[~png].max():.1e} from JPEG")
    assert away[png].max() <= TOLERANCE and same[png].all(), away[png]
    assert away[~png].max() <= JPEG_TOLERANCE and same.sum() >= 48, away[~png]


if __name__ == "__main__":
    _, action, folder = sys.argv
    {"make": make, "check": check}[action](Path(folder))

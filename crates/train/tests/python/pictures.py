"""Compares how `alexnet` reads pictures with Pillow and torchvision: `make` writes them, `check` reads what the program saw.

Called by tests/python.rs, in a folder of its own.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torchvision.io import ImageReadMode, decode_image

ORIENTATION = 0x0112
# libjpeg-turbo and zune-jpeg round the inverse DCT and, with subsampled colours, their interpolation differently: mean
# and largest difference of 255. A wrong colour space, offset or orientation is far more.
JPEG_MEAN, JPEG_LARGEST = 0.6, 4


def photo(seed, width, height):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    a, b, c, d = random.uniform(0.5, 2, 4)
    channels = [127 + 90 * np.sin(x / (9 * a) + k) * np.cos(y / (11 * b) + k * c) + 20 * d * x / width for k in range(3)]
    image = np.stack(channels, 2) + random.normal(0, 3, (height, width, 3))
    image[height // 3 : height // 2, width // 4 : width // 2] = [200, 30, 60]
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def make(folder):
    target = folder / "pictures"
    target.mkdir(exist_ok=True)
    rgb = photo(1, 75, 50)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(rgb.size))
    palette = rgb.quantize(64)
    for name, image in [("rgb", rgb), ("rgba", alpha), ("grey", rgb.convert("L")), ("grey-alpha", alpha.convert("LA")),
                        ("palette", palette), ("bits", rgb.convert("1")), ("palette-4", rgb.quantize(4)), ("one", photo(2, 1, 1)),
                        ("odd", photo(3, 33, 1))]:
        image.save(target / f"{name}.png")
        if image.mode in ["RGB", "L", "P", "1"]:
            image.save(target / f"{name}.bmp")
            if image.mode != "P":  # A TIFF with a palette is refused.
                image.save(target / f"{name}.tif")
            image.save(target / f"{name}.gif")
    palette.save(target / "palette-clear.png", transparency=3)
    for compression in ["tiff_lzw", "tiff_adobe_deflate", "packbits"]:
        rgb.save(target / f"{compression}.tif", compression=compression)
    rgb.save(target / "lossless.webp", lossless=True)
    for quality in [30, 80, 100]:
        rgb.save(target / f"lossy-{quality}.webp", quality=quality)
        for subsampling in [0, 1, 2]:
            rgb.save(target / f"jpeg-{quality}-{subsampling}.jpg", quality=quality, subsampling=subsampling)
    rgb.save(target / "progressive.jpg", progressive=True, quality=85)
    rgb.save(target / "optimised.jpg", optimize=True, quality=85)
    rgb.convert("L").save(target / "grey.jpg", quality=85)
    rgb.convert("CMYK").save(target / "cmyk.jpg", quality=95)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        rgb.save(target / f"turned-{orientation}.jpg", exif=exif, quality=95, subsampling=0)
        rgb.save(target / f"turned-{orientation}.png", exif=exif)
        rgb.save(target / f"turned-{orientation}.webp", exif=exif, lossless=True)


def check(folder):
    worst = {}
    for line in (folder / "pictures.jsonl").read_text().splitlines():
        seen = json.loads(line)
        path = folder / seen["file"]
        ours = np.fromfile(folder / seen["pixels"], np.uint8).reshape(seen["height"], seen["width"], 3).astype(int)
        theirs = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
        assert ours.shape == theirs.shape, (path.name, ours.shape, theirs.shape)
        off = np.abs(ours - theirs)
        worst[path.suffix] = max(worst.get(path.suffix, (0, 0)), (off.mean(), off.max()))
        mean, largest = (JPEG_MEAN, JPEG_LARGEST) if path.suffix == ".jpg" else (0, 0)
        assert off.mean() <= mean and off.max() <= largest, f"{path.name}: mean {off.mean():.3f}, largest {off.max()}"
        # torchvision reads neither BMP nor TIFF, and turns no WebP.
        if path.suffix in [".png", ".jpg", ".gif"]:
            other = decode_image(str(path), ImageReadMode.RGB, apply_exif_orientation=True)
            other = (other[0] if other.dim() == 4 else other).permute(1, 2, 0).numpy().astype(int)
            off = np.abs(ours - other)
            assert off.mean() <= mean and off.max() <= largest, f"{path.name}, torchvision: {off.mean():.3f}, {off.max()}"
    for kind, (mean, largest) in sorted(worst.items()):
        print(f"  {kind}: off by at most {largest} of 255, {mean:.3f} in the mean")
    assert set(worst) == {".png", ".jpg", ".bmp", ".tif", ".gif", ".webp"}, worst


if __name__ == "__main__":
    _, action, folder = sys.argv
    {"make": make, "check": check}[action](Path(folder))

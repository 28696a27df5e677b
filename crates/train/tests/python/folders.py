"""Compares the order and the labels of a folder's pictures with torchvision's ImageFolder: folders.py check FOLDER"""
import json
import pathlib
import sys

from torchvision.datasets import ImageFolder

folder = pathlib.Path(sys.argv[2])
ours = json.loads((folder / "ours.json").read_text())
theirs = ImageFolder(folder / "pictures/train")
assert theirs.classes == ours["classes"], (theirs.classes, ours["classes"])
found = [[str(pathlib.Path(path).relative_to(folder)), label] for path, label in theirs.samples]
assert found == ours["images"], (found, ours["images"])
print(f"{len(found)} pictures of {len(theirs.classes)} classes in the same order")

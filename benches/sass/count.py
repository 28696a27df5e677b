"""Counts the instructions in the main loops of compiled kernels, by NVIDIA's disassembler.

    count.py FOLDER         prints a line for each kernel with a product in FOLDER/*.cubin
    count.py FOLDER TABLE   and fails if one has more than TABLE says

A main loop is the loop with the most multiply-adds (HMMA or FFMA). Needs `pip install nvidia-cuda-nvdisasm`.
The second test command compiles the kernels and compares them with loops.txt, which is for NVRTC 12.9.
"""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path


def disassemble(cubin):
    """The instructions of each kernel, and the index of the instruction at each label."""
    nvdisasm = next(Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin/nvdisasm"))
    text = subprocess.run([nvdisasm, "-c", cubin], check=True, capture_output=True, text=True).stdout
    kernels, instructions, labels = {}, [], {}
    for line in text.splitlines():
        line = line.strip()
        if kernel := re.match(r"\.text\.(\w+):", line):
            instructions, labels = kernels[kernel[1]] = [], {}
        elif label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.search(r"/\*[0-9a-f]+\*/\s+(.*?);", line):
            instructions.append(re.sub(r"^@!?U?P\w+\s+", "", instruction[1]))
    return kernels


def main_loop(instructions, labels):
    """How many instructions the loop has, and how many of them are products; None without a loop of products."""
    loops = []
    for end, instruction in enumerate(instructions):
        target = re.search(r"BRA.*`\((\.L_x_\d+)\)", instruction)
        if target and labels.get(target[1], end + 1) <= end:
            body = instructions[labels[target[1]] : end + 1]
            loops.append((sum("HMMA" in i or i.startswith("FFMA") for i in body), -len(body)))
    products, length = max(loops, default=(0, 0))
    return (-length, products) if products else None


def main():
    folder, *table = map(Path, sys.argv[1:])
    limits = dict(line.rsplit(maxsplit=1) for path in table for line in path.read_text().splitlines())
    failed = False
    for cubin in sorted(folder.glob("*.cubin")):
        for kernel, code in sorted(disassemble(cubin).items()):
            # Kernels for odd shapes are not tuned.
            if kernel.endswith("_odd") or not (loop := main_loop(*code)):
                continue
            name = f"{cubin.stem} {kernel}"
            print(f"{name} {loop[0]}")
            if table and loop[0] > int(limits.get(name, 0)):
                print(f"{name}: {loop[0]} instructions for {loop[1]} products, at most {limits.get(name)} in the table")
                failed = True
    sys.exit(failed)


main()

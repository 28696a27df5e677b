"""Counts the instructions in the main loops of compiled kernels, by NVIDIA's disassembler.

    count.py FOLDER         prints a line for each kernel with a product in FOLDER/*.cubin
    count.py FOLDER TABLE   and fails if one has more than TABLE says

A main loop is the loop with the most multiply-adds (HMMA or FFMA). What is printed are its instructions per 32 HMMA or 512 FFMA,
rounded up: for a warp's 32×64 outputs over a slice of 64 bytes along K, or 8 floats. Needs `pip install nvidia-cuda-nvdisasm`.
The second test command compiles the kernels and compares them with loops.txt, which is for NVRTC 12.9.
"""

import math
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
    """How many instructions the loop has for 32 HMMA or 512 FFMA; None without a loop of products."""
    loops = []
    for end, instruction in enumerate(instructions):
        target = re.search(r"BRA.*`\((\.L_x_\d+)\)", instruction)
        if target and labels.get(target[1], end + 1) <= end:
            body = instructions[labels[target[1]] : end + 1]
            tensor, lanes = (sum(i.startswith(name) for i in body) for name in ("HMMA", "FFMA"))
            loops.append((max(tensor / 32, lanes / 512), -len(body)))
    slices, length = max(loops, default=(0, 0))
    return math.ceil(-length / slices) if slices else None


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
            print(f"{name} {loop}")
            if table and loop > int(limits.get(name, 0)):
                print(f"{name}: {loop} instructions, at most {limits.get(name)} in the table")
                failed = True
    sys.exit(failed)


main()

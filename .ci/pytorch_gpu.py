"""PyTorch on the GPU for .ci/gpu: the `cifar` variant, batch 128, images a second of a training step whose data is
there already, in each precision; the best of plain and compiled, channels last and not."""

import itertools
import time

import torch
from torch import nn


def network():
    def conv(i, o, stride=1):
        return [nn.Conv2d(i, o, 3, stride, 1), nn.ReLU(inplace=True)]

    pool = nn.MaxPool2d(2)
    features = [*conv(3, 64, 2), pool, *conv(64, 192), pool, *conv(192, 384), *conv(384, 256), *conv(256, 256), pool]
    full = [nn.Dropout(), nn.Linear(1024, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*features, nn.Flatten(), *full, nn.Linear(4096, 10)).cuda()


def rate(precision, layout, compiled, batch=128, steps=100):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    model = network().to(memory_format=layout)
    forward = torch.compile(model, mode="max-autotune") if compiled else model
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
    x = torch.randn(batch, 3, 32, 32, device="cuda").to(memory_format=layout)
    y = torch.randint(0, 10, (batch,), device="cuda")

    def step():
        optimiser.zero_grad()
        with torch.autocast("cuda", dtype=half, enabled=half is not None):
            loss = nn.functional.cross_entropy(forward(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()

    times = []
    for _ in range(6):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return batch * steps / sorted(times)[len(times) // 2]


print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}, training step, batch 128")
for precision in ["fp32", "tf32", "fp16", "bf16"]:
    rates = {}
    for layout, compiled in itertools.product([torch.contiguous_format, torch.channels_last], [False, True]):
        name = f"{'channels_last' if layout == torch.channels_last else 'contiguous'}{', compiled' if compiled else ''}"
        try:
            rates[name] = rate(precision, layout, compiled)
        except Exception as error:  # a machine without a C++ compiler cannot compile
            print(f"{precision}: {name}: not measured: {str(error).splitlines()[0]}")
    best = max(rates, key=rates.get)
    print(f"{precision}: plain {rates['contiguous']:,.0f} img/s, best {rates[best]:,.0f} img/s ({best})")

"""PyTorch's time for what `alexnet` does on the GPU, for `.ci/gpu torch`; a JSON object per figure.

    pytorch_gpu.py linear PRECISION BATCH   products of the linear layers of cifar and torchvision (cuBLAS)
    pytorch_gpu.py conv PRECISION BATCH     their convolutions, the faster of both layouts (cuDNN)
    pytorch_gpu.py step PRECISION BATCH     training step of cifar whose data is on the GPU, in several variants

PRECISION is fp32, tf32, fp16 or bf16. Products and convolutions are bare: those of `alexnet` that they are compared with
also add the bias, apply ReLU or sum the bias' gradient. With `--device cpu` all of it runs without a GPU, for tests."""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

# Layer, input channels, side, filters, window, stride, padding.
CONVOLUTIONS = {
    "cifar": [
        ("features.0", 3, 32, 64, 3, 2, 1),
        ("features.3", 64, 8, 192, 3, 1, 1),
        ("features.6", 192, 4, 384, 3, 1, 1),
        ("features.8", 384, 4, 256, 3, 1, 1),
        ("features.10", 256, 4, 256, 3, 1, 1),
    ],
    "torchvision": [
        ("features.0", 3, 224, 64, 11, 4, 2),
        ("features.3", 64, 27, 192, 5, 1, 2),
        ("features.6", 192, 13, 384, 3, 1, 1),
        ("features.8", 384, 13, 256, 3, 1, 1),
        ("features.10", 256, 13, 256, 3, 1, 1),
    ],
}
# Layer, inputs, outputs.
LINEAR = {
    "cifar": [("classifier.1", 1024, 4096), ("classifier.4", 4096, 4096), ("classifier.6", 4096, 10)],
    "torchvision": [("classifier.1", 9216, 4096), ("classifier.4", 4096, 4096), ("classifier.6", 4096, 1000)],
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Cpu:
    device = "cpu"

    def cold(self, work):
        """Median seconds of a call."""
        return self.steady(work, 1)

    def steady(self, work, repetitions):
        """Median seconds of a call among `repetitions`, of three rounds."""
        work()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            for _ in range(repetitions):
                work()
            times.append((time.perf_counter() - start) / repetitions)
        return statistics.median(times)


class Cuda:
    device = "cuda"

    def __init__(self):
        # Larger than any second-level cache.
        self.flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")

    def cold(self, work, runs=30):
        """Median seconds of a call by events, with L2 overwritten before it, as the kernels' bench does."""
        for _ in range(5):
            work()
        pairs = []
        for _ in range(runs):
            pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self.flush.zero_()
            # Keeps the GPU busy while the host queues the work, so that no launch is timed.
            torch.cuda._sleep(400_000)
            pair[0].record()
            work()
            pair[1].record()
            pairs.append(pair)
        torch.cuda.synchronize()
        return statistics.median(start.elapsed_time(end) for start, end in pairs) / 1e3

    def steady(self, work, repetitions):
        """Median seconds of a call, of five rounds of `repetitions` between two events."""
        for _ in range(10):
            work()
        times = []
        for _ in range(5):
            start, end = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            start.record()
            for _ in range(repetitions):
                work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / repetitions / 1e3)
        return statistics.median(times)


def emit(name, **figures):
    print(json.dumps({"name": name, **figures}), flush=True)


def first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def linear(clock, precision, batch, dtype):
    for net, layers in LINEAR.items():
        for layer, inputs, outputs in layers:
            x = torch.randn(batch, inputs, device=clock.device, dtype=dtype)
            w = torch.randn(outputs, inputs, device=clock.device, dtype=dtype)
            b = torch.randn(outputs, device=clock.device, dtype=dtype)
            dy = torch.randn(batch, outputs, device=clock.device, dtype=dtype)
            for direction, work in [
                ("forward", lambda: functional.linear(x, w, b)),
                ("backward data", lambda: dy @ w),
                ("backward weight", lambda: dy.t() @ x),
            ]:
                seconds = clock.cold(work)
                tflops = 2 * batch * inputs * outputs / seconds / 1e12
                emit(f"{precision} linear {net} {layer} {direction}", us=seconds * 1e6, tflops=tflops)


def conv(clock, precision, batch, dtype):
    for net, layers in CONVOLUTIONS.items():
        for layer, channels, side, filters, window, stride, padding in layers:
            times = {}
            for layout, memory in LAYOUTS.items():
                x = torch.randn(batch, channels, side, side, device=clock.device, dtype=dtype).to(memory_format=memory)
                w = torch.randn(filters, channels, window, window, device=clock.device, dtype=dtype).to(memory_format=memory)
                b = torch.randn(filters, device=clock.device, dtype=dtype)
                y = functional.conv2d(x, w, b, stride, padding)
                dy = torch.randn_like(y)

                def backward(data, weight):
                    mask = [data, weight, False]
                    two = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0]
                    return torch.ops.aten.convolution_backward(dy, x, w, None, *two, 1, mask)

                work = {
                    "forward": lambda: functional.conv2d(x, w, b, stride, padding),
                    "backward data": lambda: backward(True, False),
                    "backward weight": lambda: backward(False, True),
                }
                if layer == "features.0":  # nobody wants the image's gradient
                    del work["backward data"]
                for direction, call in work.items():
                    times.setdefault(direction, {})[layout] = clock.cold(call)
            operations = 2 * y.numel() * channels * window * window
            for direction, layouts in times.items():
                best = min(layouts, key=layouts.get)
                seconds = layouts[best]
                name = f"{precision} conv {net} {layer} {direction}"
                emit(name, us=seconds * 1e6, tflops=operations / seconds / 1e12, layout=best)


def network():
    def conv(i, o, stride=1):
        return [nn.Conv2d(i, o, 3, stride, 1), nn.ReLU(inplace=True)]

    pool = nn.MaxPool2d(2)
    features = [*conv(3, 64, 2), pool, *conv(64, 192), pool, *conv(192, 384), *conv(384, 256), *conv(256, 256), pool]
    full = [nn.Dropout(), nn.Linear(1024, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*features, nn.Flatten(), *full, nn.Linear(4096, 10))


def training_step(clock, precision, batch, half, layout, compiled, graph):
    """A function that does one step: zero, forward, backward, update."""
    model = network().to(clock.device, memory_format=LAYOUTS[layout])
    forward = torch.compile(model) if compiled else model
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4, fused=True)
    scaler = torch.amp.GradScaler(clock.device, enabled=precision == "fp16")
    x = torch.randn(batch, 3, 32, 32, device=clock.device).to(memory_format=LAYOUTS[layout])
    y = torch.randint(0, 10, (batch,), device=clock.device)

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(clock.device, dtype=half, enabled=half is not None):
            loss = functional.cross_entropy(forward(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()

    if not graph:
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(side)
    optimiser.zero_grad(set_to_none=True)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step()
    # What was captured lies in memory that these own.
    captured.owners = (model, optimiser, scaler, x, y)
    return captured.replay


def step(clock, precision, batch, dtype):
    half = dtype if dtype != torch.float32 else None
    variants = [("contiguous", False, False), ("channels_last", False, False)]
    if clock.device == "cuda":
        variants += [("contiguous", False, True), ("channels_last", False, True), ("channels_last", True, True)]
    times, errors = {}, {}
    for layout, compiled, graph in variants:
        name = layout + (", compiled" if compiled else "") + (", CUDA graph" if graph else "")
        try:
            work = training_step(clock, precision, batch, half, layout, compiled, graph)
            times[name] = 1e3 * clock.steady(work, 50 if clock.device == "cuda" else 1)
        except Exception as error:  # a machine without a C++ compiler cannot compile
            errors[name] = first_line(error)
    if not times:
        raise SystemExit(f"no variant ran: {errors}")
    best = min(times, key=times.get)
    figures = {"step_ms": times[best], "images_per_second": 1e3 * batch / times[best], "best": best}
    emit(f"{precision} batch {batch}", **figures, variants_ms=times, errors=errors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["linear", "conv", "step"])
    parser.add_argument("precision", choices=["fp32", "tf32", "fp16", "bf16"])
    parser.add_argument("batch", type=int)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    clock = Cuda() if args.device == "cuda" else Cpu()
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(args.precision, torch.float32)
    {"linear": linear, "conv": conv, "step": step}[args.what](clock, args.precision, args.batch, dtype)


if __name__ == "__main__":
    main()

"""PyTorch, onnxruntime and OpenVINO, as `benches/against-pytorch` starts them: one process per program and variant.

    rivals.py train ARCH BATCH VARIANT THREADS        a training step
    rivals.py infer BATCH VARIANT THREADS FOLDER      a forward pass with the weights in FOLDER/net.pth and net.onnx
    rivals.py epoch BATCH VARIANT THREADS DATA        an epoch of CIFAR-10 as a tutorial writes it

Prints a JSON line when it is ready, then one per line that it reads: the median of the seconds of as many calls as fit into
that many seconds, and its largest memory in MiB.
"""
import json
import resource
import statistics
import sys
import time

# Memory layout, arguments of torch.optim.SGD, torch.compile.
VARIANTS = {
    "plain": ("contiguous_format", {}, False),
    "fused": ("contiguous_format", {"fused": True}, False),
    "channels_last": ("channels_last", {"fused": True}, False),
    "compile": ("contiguous_format", {"fused": True}, True),
    "compile_last": ("channels_last", {"fused": True}, True),
}
SIDES = {"cifar": 32, "modern": 32, "torchvision": 224}


def network(arch):
    import torch
    from torch import nn

    if arch == "torchvision":
        import torchvision
        return torchvision.models.alexnet(num_classes=10)
    modern = arch == "modern"

    def unit(layer, width):
        norm = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
        return [layer, *([norm(width)] if modern else []), nn.ReLU(inplace=True)]

    filters, hidden = ([64, 64, 256, 384, 512], 512) if modern else ([64, 192, 384, 256, 256], 4096)
    pools = {1: 2, 2: 2, 3: 2, 4: 4} if modern else {0: 2, 1: 2, 4: 2}
    features, channels = [], 3
    for i, width in enumerate(filters):
        stride = 2 if i == 0 and not modern else 1
        features += unit(nn.Conv2d(channels, width, 3, stride, 1), width)
        features += [nn.MaxPool2d(pools[i])] if i in pools else []
        channels = width
    features = nn.Sequential(*features)
    inputs = features(torch.zeros(2, 3, 32, 32)).numel() // 2
    classifier = nn.Sequential(
        nn.Dropout(), *unit(nn.Linear(inputs, hidden), hidden),
        nn.Dropout(), *unit(nn.Linear(hidden, hidden), hidden), nn.Linear(hidden, 10))

    class AlexNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.classifier = features, classifier

        def forward(self, x):
            return self.classifier(self.features(x).flatten(1))

    return AlexNet()


def pytorch(arch, variant, threads, weights=None):
    """Network, its compiled form and the optimiser."""
    import torch
    torch.set_num_threads(threads)
    layout, options, compiled = VARIANTS[variant]
    model = network(arch)
    if weights:
        model.load_state_dict(torch.load(weights, weights_only=True))
    model = model.to(memory_format=getattr(torch, layout))
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, **options)
    return model, torch.compile(model) if compiled else model, sgd, getattr(torch, layout)


def train(arch, batch, variant, threads):
    import torch
    _, forward, sgd, layout = pytorch(arch, variant, threads)
    loss, side = torch.nn.CrossEntropyLoss(), SIDES[arch]
    x, y = torch.randn(batch, 3, side, side).to(memory_format=layout), torch.randint(0, 10, (batch,))

    def step():
        sgd.zero_grad()
        loss(forward(x), y).backward()
        sgd.step()

    return step


def infer(batch, variant, threads, folder):
    """A forward pass that returns the logits."""
    import numpy
    x = (numpy.arange(batch * 3 * 32 * 32) * 37 % 199 / 100 - 1).astype(numpy.float32).reshape(batch, 3, 32, 32)
    if variant == "onnxruntime":
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(f"{folder}/net.onnx", options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"input": x})[0]
    if variant == "openvino":
        import openvino
        core = openvino.Core()
        model = core.read_model(f"{folder}/net.onnx")
        model.reshape({"input": list(x.shape)})
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        return lambda: request.infer({0: x})[0]
    import torch
    model, forward, _, layout = pytorch("cifar", variant, threads, f"{folder}/net.pth")
    model.eval()
    x = torch.from_numpy(x).to(memory_format=layout)

    def work():
        with torch.inference_mode():
            return forward(x).numpy()

    return work


def epoch(batch, variant, threads, data):
    """Training with augmentation and loader, and the evaluation."""
    import numpy
    import torch
    import torchvision.transforms as T
    from PIL import Image
    scale = [T.ToTensor(), T.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))]

    class Cifar(torch.utils.data.Dataset):
        def __init__(self, names, transform):
            raw = numpy.concatenate([numpy.fromfile(f"{data}/{n}.bin", numpy.uint8).reshape(-1, 3073) for n in names])
            self.x, self.y = raw[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy(), raw[:, 0].astype(int)
            self.transform = transform

        def __len__(self):
            return len(self.y)

        def __getitem__(self, i):
            return self.transform(Image.fromarray(self.x[i])), int(self.y[i])

    augment = T.Compose([T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), *scale])
    images = Cifar([f"data_batch_{i}" for i in range(1, 6)], augment)
    train = torch.utils.data.DataLoader(images, batch, shuffle=True)
    test = torch.utils.data.DataLoader(Cifar(["test_batch"], T.Compose(scale)), 256)
    model, forward, sgd, layout = pytorch("cifar", variant, threads)
    loss = torch.nn.CrossEntropyLoss()

    def work():
        model.train()
        for x, y in train:
            sgd.zero_grad()
            loss(forward(x.to(memory_format=layout)), y).backward()
            sgd.step()
        model.eval()
        with torch.inference_mode():
            for x, y in test:
                forward(x.to(memory_format=layout)).argmax(1)

    return work


def measure(work, seconds):
    times, begin = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    kind, *words = sys.argv[1:]
    words = [int(word) if word.isdigit() else word for word in words]
    work = {"train": train, "infer": infer, "epoch": epoch}[kind](*words)
    ready = {}
    if kind != "epoch":
        work(), work()
    if kind == "infer":
        ready["logits"] = [float(x) for x in work()[0]]
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        if kind == "epoch":
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
        else:
            work(), work()
            seconds = measure(work, float(line))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "memory": memory}), flush=True)


if __name__ == "__main__":
    main()

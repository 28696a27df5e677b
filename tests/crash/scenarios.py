"""The commands of the campaign: what is there before, the command, and what brings it to its end afterwards."""
import dataclasses
import random
import struct
import threading
import zlib

SMALL = "--data sample --limit-train 4 --limit-test 2 --batch-size 2 --arch modern --threads 1 --device cpu --log-every 1"
TRAIN = f"train {SMALL} --epochs 2"
MANY = f"{TRAIN} --limit-train 8 --accumulate 2 --val 4 --ema 0.9 --mixup 0.2 --schedule cosine --checkpoint-every 0.001s"
RUN = f"{TRAIN} --epochs 1 --out run"


@dataclasses.dataclass(eq=False)
class Scenario:
    """A command in a folder of its own."""

    name: str
    command: list
    # Commands that prepare the folder, after `setup`.
    before: list = ()
    # After the crash: the commands to the end, of the folder as it is.
    then: object = None
    setup: object = lambda folder: None
    code: int = 0
    # Files that grow line by line: their last line may be torn.
    appended: tuple = ("metrics.jsonl", "steps.jsonl")

    def __post_init__(self):
        self.lock, self.seen, self.recovered = threading.Lock(), set(), {}

    def recovery(self, place):
        return self.then(place) if self.then else [self.command]


def resume_or(command, more=""):
    """Resumes `run` if it has a checkpoint, as its user would; otherwise the command again."""

    def then(place):
        there = (place / "run/last.safetensors").exists()
        return [f"alexnet train --resume run {more}".split() if there else command]

    return then


def png(path, seed):
    pixels = random.Random(seed)
    rows = b"".join(b"\0" + bytes(pixels.randrange(256) for _ in range(96)) for _ in range(32))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def pictures(folder):
    """Two classes; one training picture is broken."""
    for number in range(8):
        png(folder / f"pictures/{'val' if number > 5 else 'train'}/{'ab'[number % 2]}/{number}.png", number)
    broken = folder / "pictures/train/a/2.png"
    broken.write_bytes(broken.read_bytes()[:200])


def scenarios():
    alexnet = lambda text: ["alexnet", *text.split()]

    def train(name, flags, **more):
        command = alexnet(f"{flags} --out run")
        return Scenario(name, command, then=resume_or(command), **more)

    def export(file, flags=""):
        # Over an older file, of other weights.
        old = [alexnet(f"{RUN} --seed 1"), alexnet(f"export run -o {file} {flags}")]
        new = [["remove", "run"], alexnet(RUN)]
        return Scenario(f"export-{file.split('.')[-1]}", alexnet(f"export run -o {file} --force {flags}"), before=old + new)

    return [
        # The same command goes on.
        Scenario("train", alexnet(f"{TRAIN} --checkpoint-every 1 --out run")),
        train("train-options", MANY),
        Scenario("resume", alexnet("train --resume run --epochs 2"), before=[alexnet(RUN)], then=resume_or([], "--epochs 2")),
        Scenario("runs", alexnet(f"{TRAIN} --epochs 1 --runs 2 --out runs")),
        train("init", f"{TRAIN} --epochs 1 --init net.pth", before=[alexnet(f"{TRAIN} --epochs 0 --out old"), alexnet("export old -o net.pth"), ["remove", "old"]]),
        train("pictures", f"{TRAIN} --epochs 1 --data pictures --skip-broken", setup=pictures),
        export("net.onnx"), export("net.pth"), export("net.pt2"), export("net.safetensors"),
        Scenario("import", alexnet("import net.pth -o net.safetensors --force"),
                 before=[alexnet(RUN), alexnet("export run -o net.pth"), alexnet("import net.pth -o net.safetensors"), ["remove", "run"], alexnet(f"{RUN} --seed 1"), alexnet("export run -o net.pth --force")]),
        Scenario("report", alexnet("report run -o page.html --force --no-test"), before=[alexnet(RUN)]),
        # Refused: the folder holds another run, of which nothing may be touched.
        Scenario("occupied", alexnet(f"{TRAIN} --seed 1 --out run"), before=[alexnet(RUN)], code=2),
        Scenario("fetch-archive", ["fetch", "archive", "cache"]),
        Scenario("fetch-npm", ["fetch", "npm", "cache"], before=[["fetch", "prepare", "cache"]]),
    ]

"""The disk as the log of system calls leaves it: what is there after a call, and what may be there after a power cut.

The rules are POSIX's, with no help from a particular file system. What a file holds is certain only as of its last fsync
or fdatasync, its name only once its folder was flushed. A write since then may be whole, missing, torn, or there as zeros
(the new size without the bytes). Names change in order within a folder: those of a folder that happened since its last
flush are there up to any one of them. Renames are atomic. Folders do not wait for each other.
"""
import collections
import hashlib
import os
import pathlib
import random

Call = collections.namedtuple("Call", "number name result path other flags existed offset length at")
O_CREAT, O_TRUNC, AT_REMOVEDIR = os.O_CREAT, os.O_TRUNC, 0x200
WRITES = ("write", "pwrite64", "writev", "copy_file_range", "sendfile")
PAGE = 4096


class LoggedCall(Call):
    @property
    def creates(self):
        return self.name in ("open", "openat", "creat") and bool(self.flags & O_CREAT) and not self.existed

    @property
    def needs_room(self):
        return self.creates or self.name in WRITES or self.name.startswith(("fsync", "fdatasync", "rename", "link", "mkdir"))

    @property
    def changes(self):
        """Whether the disk may differ after it."""
        changing = self.name.startswith(("rename", "link", "unlink", "mkdir", "rmdir", "ftruncate", "truncate", "fsync", "fdatasync"))
        return self.result >= 0 and (self.creates or changing or self.name in WRITES)


def read_log(path, root):
    """The calls, with paths relative to the folder."""
    root, calls, at = str(root), [], 0
    for line in path.read_text().splitlines():
        number, name, result, one, other, flags, existed, offset, length = line.split("\t")
        one, other = (os.path.relpath(path, root) if path else "" for path in (one, other))
        call = LoggedCall(int(number), name, int(result), one, other, int(flags), existed == "1", int(offset), int(length), at)
        at += call.length if name in WRITES else 0
        calls.append(call)
    return calls


class File:
    """What is certain, as (bytes of a file on this machine or of the log), and the changes since."""

    def __init__(self, source=None):
        self.source, self.flushed, self.pending = source, [], []

    def apply(self, changes, log):
        data = bytearray(self.source.read_bytes() if self.source else b"")
        for kind, offset, length, at in changes:
            if kind == "size":
                del data[length:]
                data.extend(bytes(length - len(data)))
                continue
            data.extend(bytes(max(0, offset + length - len(data))))
            if kind == "bytes":
                log.seek(at)
                data[offset : offset + length] = log.read(length)
        return bytes(data)


class Model:
    """Files, and the changes of names: (folder, name, file or None to remove, the name that it had before)."""

    def __init__(self, base):
        self.now, self.names, self.flushed = {}, [], collections.Counter()
        for path in sorted(base.rglob("*")):
            self.now[str(path.relative_to(base))] = "folder" if path.is_dir() else File(path)
        self.first = dict(self.now)

    def name(self, path, what, old=None):
        self.names.append((path, what, old))
        if old:
            # With a folder goes what is in it.
            for inner in [name for name in self.now if name == old or name.startswith(old + "/")]:
                self.now[path + inner[len(old) :]] = self.now.pop(inner)
        elif what is None:
            self.now.pop(path, None)
        else:
            self.now[path] = what

    def step(self, call):
        if call.result < 0:
            return
        name, file = call.name, self.now.get(call.path)
        if call.creates:
            self.name(call.path, File())
        elif name in ("open", "openat", "creat") and call.flags & O_TRUNC and isinstance(file, File):
            file.pending.append(("size", 0, 0, 0))
        elif name in WRITES and call.result and isinstance(file, File):
            file.pending.append(("bytes", call.offset, call.length, call.at))
        elif name in ("ftruncate", "truncate") and isinstance(file, File):
            file.pending.append(("size", 0, call.length, 0))
        elif name.startswith("rename"):
            self.name(call.other, file, call.path)
        elif name.startswith("link"):
            self.name(call.other, file)
        elif name.startswith("unlink") or name == "rmdir":
            self.name(call.path, None)
        elif name.startswith("mkdir"):
            self.name(call.path, "folder")
        elif name in ("fsync", "fdatasync"):
            if isinstance(file, File):
                file.flushed, file.pending = file.flushed + file.pending, []
            else:
                self.flushed[call.path] = len(self.names)

    def tree(self, cut):
        """The names if of each folder's changes those before cut(folder) are there."""
        tree = dict(self.first)
        for index, (path, what, old) in enumerate(self.names):
            if index >= cut(folder_of(path)):
                continue
            if old:
                tree.pop(old, None)
            if what is None:
                tree.pop(path, None)
            else:
                tree[path] = what
        return {path: what for path, what in tree.items() if all(tree.get(above) == "folder" for above in parents(path))}


def folder_of(path):
    return os.path.dirname(path) or "."


def parents(path):
    return [str(parent) for parent in pathlib.PurePath(path).parents if str(parent) != "."]


class State:
    def __init__(self, tree, data, log):
        self.tree, self.data, self.log = tree, data, log
        what = [(path, "folder" if file == "folder" else (str(file.source), data[file])) for path, file in sorted(tree.items())]
        self.key = hashlib.sha256(repr(what).encode()).digest()

    def write(self, place):
        place.mkdir()
        written = {}
        with open(self.log, "rb") as log:
            for path, file in sorted(self.tree.items()):
                if file == "folder":
                    (place / path).mkdir()
                elif file in written:
                    os.link(written[file], place / path)
                else:
                    written[file] = place / path
                    written[file].write_bytes(file.apply(self.data[file], log))


def model_at(scenario, number):
    model = Model(scenario.base)
    for call in scenario.calls:
        if call.number > number:
            break
        model.step(call)
    return model


def state(scenario, number, which):
    """One of the states in which a power cut after the call can leave the disk. The first three are the extremes: all that
    was not flushed is missing; only bytes are missing; bytes are zeros."""
    model = model_at(scenario, number)
    rng = random.Random(f"{number} {which}")
    folders = {folder_of(path) for path, _, _ in model.names}
    every = len(model.names)
    cuts = {folder: model.flushed[folder] if which == 0 else every if which < 3 else rng.randint(model.flushed[folder], every)
            for folder in sorted(folders)}
    tree = model.tree(cuts.__getitem__)
    data = {}
    for _, file in sorted(tree.items()):
        if file == "folder" or file in data:
            continue
        data[file] = tuple(file.flushed)
        if which == 2:
            data[file] += tuple(zeros(change) for change in file.pending)
        elif which > 2:
            data[file] += tuple(torn(file.pending, rng))
    return State(tree, data, str(scenario.log) + ".bytes")


def zeros(change):
    kind, offset, length, at = change
    return ("zeros" if kind == "bytes" else kind), offset, length, at


def torn(pending, rng):
    """Some of the changes: the first few, with the last of them torn or zeros; or each page by itself."""
    if rng.random() < 0.6:
        kept = pending[: rng.randint(0, len(pending))]
        how = rng.random()
        if kept and kept[-1][0] == "bytes" and how < 0.7:
            kind, offset, length, at = kept.pop()
            part = rng.randrange(length)
            kept.append((kind, offset, part, at))
            if how < 0.3:
                kept.append(("zeros", offset + part, length - part, at))
        return kept
    kept = []
    for change in pending:
        kind, offset, length, at = change
        if kind == "size":
            kept.append(change)
            continue
        # At most eight parts, at borders of pages.
        stride = max(PAGE, -(-length // 8 // PAGE) * PAGE)
        begin = offset
        while begin < offset + length:
            end = min(offset + length, (begin // stride + 1) * stride)
            kept.append((kind if rng.random() < 0.5 else "zeros", begin, end - begin, at + begin - offset))
            begin = end
    return kept


def versions(scenario, place):
    """What each path held whenever a name changed, as `check` compares it."""
    from check import remember

    found, known = collections.defaultdict(set), {}
    model = Model(scenario.base)
    for path, file in model.now.items():
        if isinstance(file, File):
            found[path].add(remember(path, file.source.read_bytes()))
    with open(str(scenario.log) + ".bytes", "rb") as log:
        for call in scenario.calls:
            model.step(call)
            if call.result < 0 or not call.name.startswith(("rename", "link")):
                continue
            file = model.now.get(call.other)
            if isinstance(file, File):
                changes = tuple(file.flushed + file.pending)
                if (file, changes) not in known:
                    known[file, changes] = remember(call.other, file.apply(changes, log))
                found[call.other].add(known[file, changes])
    return found

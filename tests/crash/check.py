"""What must hold after a point."""
import csv
import hashlib
import io
import json
import re
import struct
import threading

CLOCK = re.compile("second|images_per|img_per|time")
TEMPORARY = re.compile(r"\.tmp-|^\.npm\.|\.partial$")

# Checkpoints that undisturbed runs left, by length: comparing with them is faster than a hash.
known = {}
buffers = threading.local()


def remember(path, data):
    """`canonical`, and the same answer for the same checkpoint from now on."""
    answer = canonical(path, data)
    if path.endswith(".safetensors"):
        entries = known.setdefault(len(data), [])
        if all(bytes != data for bytes, _ in entries):
            entries.append((data, answer))
    return answer


def of_file(path, file):
    """`canonical` of a file."""
    size = file.stat().st_size
    if size not in known:
        return canonical(path, file.read_bytes())
    if getattr(buffers, "size", None) != size:
        buffers.size, buffers.data = size, bytearray(size)
    with open(file, "rb", buffering=0) as reader:
        if reader.readinto(buffers.data) == size:
            for data, answer in known[size]:
                if data == buffers.data:
                    return answer
    return canonical(path, file.read_bytes())


def canonical(path, data):
    """Contents without what a clock measured; ValueError for a file that is not whole."""
    name = path.rsplit("/", 1)[-1]
    if name.startswith("events.out."):
        return "events"
    try:
        if name.endswith(".safetensors"):
            (length,) = struct.unpack("<Q", data[:8])
            header = json.loads(data[8 : 8 + length])
            end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
            if 8 + length + end != len(data):
                raise ValueError("cut")
            words = header["__metadata__"]
            for key in ["checksum", "inference_checksum"]:
                words.pop(key, None)
            if "progress" in words:
                words["progress"] = without_clock(json.loads(words["progress"]))
            return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + data[8 + length :]).hexdigest()
        if name.endswith(".jsonl"):
            if data and not data.endswith(b"\n"):
                raise ValueError("cut")
            return json.dumps([without_clock(json.loads(line)) for line in data.splitlines()])
        if name.endswith(".json"):
            return json.dumps(without_clock(json.loads(data)), sort_keys=True)
        if name.endswith(".csv"):
            if data and not data.endswith(b"\n"):
                raise ValueError("cut")
            return json.dumps([without_clock(row) for row in csv.DictReader(io.StringIO(data.decode()))])
        if name.endswith(".html"):
            if not data.rstrip().endswith(b"</html>"):
                raise ValueError("cut")
            return "page"
    except (struct.error, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(repr(error)) from error
    return hashlib.sha256(data).hexdigest()


def without_clock(value):
    if isinstance(value, dict):
        return {key: without_clock(item) for key, item in value.items() if not CLOCK.search(key)}
    return [without_clock(item) for item in value] if isinstance(value, list) else value


def files(place):
    return {str(path.relative_to(place)): path for path in sorted(place.rglob("*")) if path.is_file()}


def temporary(place):
    return [str(path.relative_to(place)) for path in sorted(place.rglob("*")) if TEMPORARY.search(path.name)]


def contents(place):
    return {path: remember(path, file.read_bytes()) for path, file in files(place).items() if "events.out." not in path}


def fingerprint(place):
    """The same for two folders that differ only in what a clock measured, in random parts of names, and in the bytes of
    temporary files, which nobody reads."""
    parts = []
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if path.is_dir():
            parts.append(re.sub(r"\.npm\..*", ".npm.", name))
        elif (TEMPORARY.search(path.name) and path.suffix != ".partial") or "events.out." in path.name:
            parts.append((re.sub(r"(\.tmp-|\.out\.|\.npm\.).*", r"\1", name), path.stat().st_size > 0))
        else:
            try:
                parts.append((name, of_file(name, path)))
            except ValueError:
                parts.append((name, hashlib.sha256(path.read_bytes()).hexdigest()))
    return repr(parts)


def ending(point, code, out, error, lines, expected):
    """The exit code and the message."""
    faults = []
    if "panicked" in error + out:
        faults.append(f"panic: {error.strip()[-300:]}")
    if code is None:
        return [*faults, "it hangs"]
    if point.kind == "kill":
        if code != 137 and lines:
            faults.append(f"exit code {code} after a kill")
    elif code != expected:
        if code != 1:
            faults.append(f"exit code {code}: {error.strip()[-300:]}")
        elif not re.search(r"(^|\n)error: .{10,}", error):
            faults.append(f"exit code 1 without a message: {error.strip()[-300:]}")
        if point.kind == "short":
            faults.append(f"short reads and writes are an error: {error.strip()[-300:]}")
    return faults


def whole(scenario, place, point):
    """Every file that is replaced as one has contents that it had in the undisturbed run, before or after."""
    faults = []
    for path, file in files(place).items():
        if TEMPORARY.search(path.rsplit("/", 1)[-1]) or path not in scenario.versions:
            continue
        if any(path.endswith(name) for name in scenario.appended):
            continue
        try:
            if of_file(path, file) not in scenario.versions[path]:
                faults.append(f"{path} has contents that it never had")
        except ValueError as error:
            faults.append(f"{path} is not whole: {error}")
    return faults


def result(scenario, place, prefix):
    """The same files as after the undisturbed run, and no others."""
    faults = [f"{prefix}{path} stays" for path in temporary(place)]
    found = files(place)
    for path, expected in scenario.expected.items():
        try:
            if path not in found:
                faults.append(f"{prefix}no {path}")
            elif of_file(path, found[path]) != expected:
                faults.append(f"{prefix}{path} differs")
        except ValueError as error:
            faults.append(f"{prefix}{path} is not whole: {error}")
    more = [path for path in found if path not in scenario.expected and "events.out." not in path and not TEMPORARY.search(path)]
    return faults + [f"{prefix}there is also {path}" for path in more]

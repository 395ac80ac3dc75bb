"""Files of the names that documents use, small, into the current folder."""
import gzip
import io
import json
import math
import random
import struct
import tarfile


def _idx(kind, shape, data):
    return struct.pack(">BBBB", 0, 0, kind, len(shape)) + struct.pack(">%dI" % len(shape), *shape) + data


_DARK = bytes(v % 40 for v in range(256))


def _digits(n, rng):
    """Images of ten classes, 28x28: a bright square in one of ten places, and noise."""
    labels, images = [i % 10 for i in range(n)], []
    for label in labels:
        image = bytearray(rng.randbytes(784).translate(_DARK))
        top, left = 2 + 5 * (label // 2), 3 + 13 * (label % 2)
        for y in range(5):
            image[28 * (top + y) + left:28 * (top + y) + left + 9] = bytes(200 + rng.randrange(40) for _ in range(9))
        images.append(bytes(image))
    return labels, images


def mnist():
    rng = random.Random(1)
    for name, n in (("train", 3000), ("t10k", 200)):
        labels, images = _digits(n, rng)
        with gzip.open(name + "-images-idx3-ubyte.gz", "wb", 1) as f:
            f.write(_idx(8, (n, 28, 28), b"".join(images)))
        with gzip.open(name + "-labels-idx1-ubyte.gz", "wb", 1) as f:
            f.write(_idx(8, (n,), bytes(labels)))


def tar():
    """WebDataset: images as .pgm and their classes."""
    labels, images = _digits(120, random.Random(2))
    with tarfile.open("wds-0000.tar", "w") as t:
        for i, (label, image) in enumerate(zip(labels, images)):
            for ending, data in (("pgm", b"P5\n28 28\n255\n" + image), ("cls", b"%d" % label)):
                info = tarfile.TarInfo("%06d.%s" % (i, ending))
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))


def texts():
    """book.txt, text.txt, wanted.txt, and shards web*.taut of lines, some of them twice."""
    import subprocess
    rng = random.Random(3)
    words = ["w%d" % (i * i % 997) for i in range(600)]
    lines = [" ".join(rng.choice(words) for _ in range(30)) for _ in range(400)]
    lines += lines[:40]
    rng.shuffle(lines)
    for name, part in (("book.txt", lines), ("text.txt", lines * 2), ("web-0.txt", lines[:220]), ("web-1.txt", lines[220:]), ("web.txt", lines), ("wanted.txt", lines[:30])):
        with open(name, "w") as f:
            f.write("\n".join(part) + "\n")
    for name in ("web", "web-0", "web-1"):
        subprocess.run(["taut", "data", "pack", name + ".txt", "-o", name + ".taut"], check=True, stdout=subprocess.DEVNULL)


def gradients():
    """G.f32, TRACE.json and traces/gpt.json: two layers, steps 20 and 21, two ranks."""
    import os
    rng = random.Random(4)
    layers = [("a.weight", (64, 64)), ("b.weight", (128, 64))]
    count = sum(x * y for _, (x, y) in layers)
    os.makedirs("traces", exist_ok=True)
    files = []
    for rank in range(2):
        values = [rng.gauss(0, 1) * math.exp(rng.gauss(0, 1)) for _ in range(count)]
        data = struct.pack("<%df" % count, *values)
        for folder in (".", "traces"):
            with open("%s/g-step20-rank%d.f32" % (folder, rank), "wb") as f:
                f.write(data)
        files.append("g-step20-rank%d.f32" % rank)
    with open("G.f32", "wb") as f:
        f.write(data)
    at, entries = 0, []
    for name, (x, y) in layers:
        entries.append({"name": name, "offset": at, "elements": x * y, "shape": [x, y]})
        at += x * y
    for name in ("TRACE.json", "traces/gpt.json"):
        with open(name, "w") as f:
            json.dump({"floats": count, "layers": entries, "files": files}, f)

#!/usr/bin/env python3
"""A rank's gradient of one step, from two checkpoints of `taut train` with Adam that lie one step apart.

    gradients.py TRACE.json A.model B.model OUT     writes OUT.json, OUT.f32 and OUT-scaled.f32

Adam keeps m' = 0.9 m + 0.1 g, so g follows from both; OUT-scaled is g over the scale that B's step was coded by, sqrt(v) of A, no less than 0.03 of the
layer's mean (as --scale element). With several ranks g is their mean; it is clipped, if it was. Layers' shapes are those of the trace, of the same model but for its number of tokens.
"""
import array
import json
import math
import sys
import zipfile

BETA1, FLOOR = 0.9, 0.03


def moments(path, count):
    """[(m, v)] of the parameters: what follows the parameters themselves in the archive."""
    with zipfile.ZipFile(path) as z:
        def floats(i):
            return array.array("f", z.read(f"archive/data/{i}"))
        return [(floats(count + 2 * i), floats(count + 2 * i + 1)) for i in range(count)]


def main(trace, before, after, out):
    layers = json.load(open(trace))["layers"]
    first, second = moments(before, len(layers)), moments(after, len(layers))
    made, plain, scaled = [], array.array("f"), array.array("f")
    for layer, (m, v), (later, _) in zip(layers, first, second):
        shape = [len(m) // math.prod(layer["shape"][1:])] + layer["shape"][1:]
        if math.prod(shape) != len(m):
            sys.exit(f"{layer['name']}: {len(m)} elements, of shape {layer['shape']} in {trace}")
        made.append({"name": layer["name"], "shape": shape, "offset": len(plain)})
        scale = [math.sqrt(x) for x in v]
        least = FLOOR * sum(scale) / len(scale)
        g = [(b - BETA1 * a) / (1 - BETA1) for a, b in zip(m, later)]
        plain.extend(g)
        scaled.extend(x / max(s, least, 1e-30) for x, s in zip(g, scale))
    json.dump({"floats": len(plain), "layers": made, "files": [f"{out}.f32"]}, open(f"{out}.json", "w"), indent=1)
    plain.tofile(open(f"{out}.f32", "wb"))
    scaled.tofile(open(f"{out}-scaled.f32", "wb"))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""script_models.py : writes TorchScript modules for `taut train --model script:FILE`, with nothing but Python's own library.

    script_models.py FOLDER     writes FOLDER/cnn.pt (images of 28 x 28, 10 classes) and FOLDER/lstm.pt (characters)

An archive is a zip of stored files: the code of the classes, a pickle of the module, and one file of little-endian float32 per parameter. Parameters are
drawn uniformly, as PyTorch's layers do it, from a fixed seed, so the files are the same everywhere.
"""
import random
import struct
import sys
import zipfile

HIDDEN = 128  # of the LSTM
CNN = """class Net(Module):
  __parameters__ = [%(names)s]
  __buffers__ = []
%(fields)s
  def forward(self: __torch__.Net, x: Tensor) -> Tensor:
    c1 = torch.conv2d(x, self.conv1_weight, self.conv1_bias, [2, 2], [0, 0], [1, 1], 1)
    c2 = torch.conv2d(torch.relu(c1), self.conv2_weight, self.conv2_bias, [2, 2], [0, 0], [1, 1], 1)
    h = torch.linear(torch.flatten(torch.relu(c2), 1), self.fc_weight, self.fc_bias)
    return torch.linear(torch.relu(h), self.head_weight, self.head_bias)
"""
LSTM = """class Net(Module):
  __parameters__ = [%(names)s]
  __buffers__ = []
%(fields)s
  def forward(self: __torch__.Net, x: Tensor) -> Tensor:
    e = torch.embedding(self.embed_weight, x)
    h = torch.zeros_like(torch.unsqueeze(torch.linear(torch.select(e, 1, 0), torch.narrow(self.cell_input, 0, 0, %(hidden)d)), 0))
    y, hn, cn = torch.lstm(e, [h, h], [self.cell_input, self.cell_hidden, self.cell_bias_input, self.cell_bias_hidden], True, 1, 0., False, False, True)
    return torch.linear(y, self.head_weight, self.head_bias)
"""


def uniform(rng, shape, fan_in):
    n = 1
    for s in shape:
        n *= s
    bound = fan_in ** -0.5
    return shape, [rng.uniform(-bound, bound) for _ in range(n)]


def cnn(rng, width=24, hidden=128):
    return CNN, {
        "conv1_weight": uniform(rng, (width, 1, 5, 5), 25), "conv1_bias": uniform(rng, (width,), 25),
        "conv2_weight": uniform(rng, (2 * width, width, 5, 5), 25 * width), "conv2_bias": uniform(rng, (2 * width,), 25 * width),
        "fc_weight": uniform(rng, (hidden, 2 * width * 16), 2 * width * 16), "fc_bias": uniform(rng, (hidden,), 2 * width * 16),
        "head_weight": uniform(rng, (10, hidden), hidden), "head_bias": uniform(rng, (10,), hidden),
    }


def lstm(rng, vocab=65, embed=64, hidden=HIDDEN):
    return LSTM, {
        "embed_weight": uniform(rng, (vocab, embed), 4),
        "cell_input": uniform(rng, (4 * hidden, embed), hidden), "cell_hidden": uniform(rng, (4 * hidden, hidden), hidden),
        "cell_bias_input": uniform(rng, (4 * hidden,), hidden), "cell_bias_hidden": uniform(rng, (4 * hidden,), hidden),
        "head_weight": uniform(rng, (vocab, hidden), hidden), "head_bias": uniform(rng, (vocab,), hidden),
    }


# ---- the pickle, opcode by opcode: classes are named, not imported ----
def text(s):
    s = s.encode()
    return b"X" + struct.pack("<I", len(s)) + s


def number(n):
    return b"J" + struct.pack("<i", n)


def tensor(key, shape):
    strides, step = [], 1
    for s in reversed(shape):
        strides.insert(0, step)
        step *= s
    ints = lambda v: b"(" + b"".join(number(i) for i in v) + b"t"  # noqa: E731
    storage = b"((" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(key)) + text("cpu") + number(step) + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + number(0) + ints(shape) + ints(strides) + b"\x89ccollections\nOrderedDict\n)RtR"


def pickled(params):
    out = b"\x80\x02c__torch__\nNet\n)\x81}("
    for key, (name, (shape, _)) in enumerate(params.items()):
        out += text(name) + tensor(key, shape)
    return out + b"ub."


def write(path, top, made):
    code, params = made
    names = "".join('"%s", ' % n for n in params)
    fields = "".join("  %s : Tensor\n" % n for n in params).rstrip("\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        def put(name, data):
            z.writestr(zipfile.ZipInfo(top + "/" + name), data)
        put("data.pkl", pickled(params))
        put("code/__torch__.py", (code % {"names": names, "fields": fields, "hidden": HIDDEN}).encode())
        for key, (_, values) in enumerate(params.values()):
            put("data/%d" % key, struct.pack("<%df" % len(values), *values))
        put("constants.pkl", b"\x80\x02).")
        put("version", b"3\n")


def main():
    folder = sys.argv[1]
    write(folder + "/cnn.pt", "cnn", cnn(random.Random(1)))
    write(folder + "/lstm.pt", "lstm", lstm(random.Random(2)))


if __name__ == "__main__":
    main()

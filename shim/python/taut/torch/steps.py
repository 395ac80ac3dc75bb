"""Steps of programs that do not say where one ends: a layer that comes again begins a new one, on all ranks alike."""

import hashlib

MOST_DIMENSIONS = 8  # of a layer


def fitting(name):
    """name, or, where a layer's may not be so long, its end and a digest of the whole."""
    raw = name.encode()
    return name if len(raw) < 128 else "%s ...%s" % (hashlib.blake2b(raw, digest_size=8).hexdigest(), raw[-100:].decode("utf-8", "ignore"))


class Steps:
    def __init__(self, comm):
        self.comm, self._seen = comm, set()

    def enter(self, layer):
        """Before a collective of this layer."""
        if layer in self._seen:
            self.end()
        self._seen.add(layer)

    def end(self):
        if self._seen:
            self._seen.clear()
            self.comm.step_end()


def matrix_shape(shape):
    """One-dimensional tensors travel uncompressed, since a model's are biases and norms; a flat buffer is none of those."""
    n = 1
    for k in shape:
        n *= k
    return tuple(shape) if 1 < len(shape) <= MOST_DIMENSIONS or n < 1024 and len(shape) < 2 else (1, n)

"""One tensor to one frame (docs/wire-format.md), and back."""

import ctypes as c

from . import _lib, arrays
from ._lib import check, lib


def _float32(x, what):
    """x, or a copy of it, as contiguous float32."""
    if arrays.is_torch(x):
        import torch
        x = x.detach().to(device="cpu", dtype=torch.float32).contiguous()
    elif hasattr(x, "astype"):
        import numpy
        x = numpy.ascontiguousarray(x, dtype=numpy.float32)
    return arrays.memory(x, what, write=False)


def encode(x, codec, seed=1):
    """x, an array or tensor of real numbers, as bytes of a frame. codec: a spec as in "quant:bits=4"; seed: of stochastic rounding."""
    if arrays.is_torch(x) and x.is_complex() or getattr(getattr(x, "dtype", None), "kind", "f") == "c":
        raise TypeError("taut: cannot encode complex numbers: encode the real and the imaginary part")
    m = _float32(x, "what is to be encoded")
    shape, bound, n = _lib.shape_array(m.shape), c.c_size_t(), c.c_size_t()
    check(lib.taut_encode_bound(_lib.text(codec), len(m.shape), shape, c.byref(bound)))
    frame = c.create_string_buffer(max(bound.value, 1))
    check(lib.taut_encode(_lib.text(codec), len(m.shape), shape, m.pointer, seed, frame, bound.value, c.byref(n)))
    return frame.raw[:n.value]


def frame_info(frame):
    """dict of a frame's elements, bytes and codec."""
    pointer, length, owner = arrays.bytes_like(frame)
    elements, n, spec = c.c_size_t(), c.c_size_t(), c.create_string_buffer(256)
    check(lib.taut_frame_info(pointer, length, c.byref(elements), c.byref(n), spec, len(spec)))
    del owner
    return {"elements": elements.value, "bytes": n.value, "codec": spec.value.decode()}


def decode(frame, out=None):
    """The numbers in a frame, as a flat float32 array of NumPy, or in `out`, a float32 array or tensor of as many elements, which is returned."""
    info = frame_info(frame)
    if out is None:
        import numpy
        out = numpy.empty(info["elements"], dtype=numpy.float32)
    m = arrays.memory(out, "out")
    if m.dtype != _lib.F32 or m.elements != info["elements"]:
        raise ValueError("taut: out must be float32 with %d elements, and has %d" % (info["elements"], m.elements))
    pointer, length, owner = arrays.bytes_like(frame)
    check(lib.taut_decode(pointer, length, m.pointer, m.elements))
    del owner
    return out

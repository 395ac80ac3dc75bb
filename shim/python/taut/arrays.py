"""Memory of NumPy arrays, torch tensors and whatever has the buffer protocol, as libtaut wants it: a pointer, a type, a shape."""

import ctypes as c

from . import _lib

_NUMPY = {"float32": _lib.F32, "float16": _lib.F16}
_TORCH = {"torch.float32": _lib.F32, "torch.float16": _lib.F16, "torch.bfloat16": _lib.BF16}
TYPES = "float32, float16, bfloat16"


class Memory:
    """pointer, dtype (of libtaut), shape, nbytes; owner keeps it alive."""

    __slots__ = ("pointer", "dtype", "shape", "elements", "owner")

    def __init__(self, pointer, dtype, shape, owner):
        self.pointer, self.dtype, self.shape, self.owner = pointer, dtype, tuple(int(n) for n in shape), owner
        self.elements = 1
        for n in self.shape:
            self.elements *= n


def is_torch(x):
    return type(x).__module__.split(".")[0] == "torch" or hasattr(x, "data_ptr")


def _of_tensor(x, what):
    dtype = _TORCH.get(str(x.dtype))
    if x.is_sparse or str(x.layout) != "torch.strided":
        raise TypeError("taut: %s is a %s tensor: must be dense" % (what, str(x.layout).replace("torch.", "")))
    if dtype is None:
        raise TypeError("taut: %s has dtype %s: must be one of %s" % (what, str(x.dtype).replace("torch.", ""), TYPES))
    if x.device.type != "cpu":
        raise TypeError("taut: %s is on %s: must be on the CPU" % (what, x.device))
    if not x.is_contiguous():
        raise ValueError("taut: %s has strides %s for shape %s: must be contiguous; .contiguous() makes a copy that is" % (what, tuple(x.stride()), tuple(x.shape)))
    return Memory(x.data_ptr(), dtype, x.shape, x)


def _of_array(x, what):
    dtype = _NUMPY.get(str(x.dtype))
    if dtype is None or not x.dtype.isnative:
        raise TypeError("taut: %s has dtype %s: must be one of float32, float16 (bfloat16 as a torch tensor), in native byte order" % (what, x.dtype))
    if not x.flags["C_CONTIGUOUS"]:
        raise ValueError("taut: %s is not contiguous in C's order; numpy.ascontiguousarray() makes a copy that is" % what)
    return Memory(x.ctypes.data, dtype, x.shape, x)


def memory(x, what="the tensor", write=True):
    """Memory of x. TypeError or ValueError say what it would have to be."""
    if is_torch(x):
        m = _of_tensor(x, what)
    elif hasattr(x, "__array_interface__") and hasattr(x, "dtype") and hasattr(x, "ctypes"):
        m = _of_array(x, what)
        if write and not x.flags["WRITEABLE"]:
            raise ValueError("taut: %s is read-only" % what)
    else:
        raise TypeError("taut: %s is a %s: must be a NumPy array or a torch tensor" % (what, type(x).__name__))
    if m.elements == 0:
        raise ValueError("taut: %s has no elements (shape %s)" % (what, m.shape))
    if len(m.shape) > 8:
        raise ValueError("taut: %s has %d dimensions: must have at most 8" % (what, len(m.shape)))
    return m


def place(tensor, what):
    """(space, device, stream) of a tensor on a device, as libtaut wants them."""
    if tensor.device.type != "cuda":
        raise TypeError("taut: %s is on %s: must be on the CPU or a CUDA device" % (what, tensor.device))
    import torch
    return _lib.CUDA, tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream


def bytes_like(data):
    """(pointer, length, owner) of bytes, bytearray, memoryview, or a uint8 array or tensor."""
    if is_torch(data):
        if str(data.dtype) != "torch.uint8" or not data.is_contiguous() or data.device.type != "cpu":
            raise TypeError("taut: bytes as a tensor must be contiguous uint8 on the CPU")
        return data.data_ptr(), data.numel(), data
    view = memoryview(data)
    if not view.contiguous:
        raise ValueError("taut: bytes must be contiguous")
    if view.readonly:
        owner = bytes(view)
        return c.cast(c.c_char_p(owner), c.c_void_p).value, len(owner), owner
    owner = (c.c_char * view.nbytes).from_buffer(view)
    return c.addressof(owner), view.nbytes, owner

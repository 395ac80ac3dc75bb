"""Taut for Python: compressed allreduce for distributed training.

    import taut
    comm = taut.Comm.tcp(rank, size, root="10.0.0.1:29400")     # or taut.Comm.mpi()
    comm.start(grad, "fc1.weight"); ...; comm.step_end()          # NumPy arrays and torch tensors, in place

    taut.torch.ddp(model, optimizer=opt)                          # PyTorch DDP in one line: import taut.torch
    taut.mpi4py.allreduce(MPI.COMM_WORLD, grad, "fc1.weight")      # mpi4py: import taut.mpi4py
    frame = taut.encode(grad, "grid:rel=0.03"); back = taut.decode(frame)
"""

from ._lib import Error
from .comm import Comm, Layer
from .codecs import decode, encode, frame_info
from .default import allreduce, close, init, step_end

__version__ = "0.1.0"
__all__ = ["Comm", "Error", "Layer", "allreduce", "close", "decode", "encode", "frame_info", "init", "step_end", "features", "library_version"]


def features():
    """What the library was built with, as a list: "threads", "tcp" ..."""
    from . import _lib
    built = [f for f in _lib.lib.taut_features().decode().split() if f != "mpi"]
    return built + (["mpi"] if _lib.has_mpi() else [])


def library_version():
    """Version of the library that is running, as in "0.1.0"."""
    from ._lib import lib
    v = lib.taut_version()
    return "%d.%d.%d" % (v // 10000, v // 100 % 100, v % 100)

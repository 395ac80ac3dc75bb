"""The communicator of those who make none: init(), allreduce(x), step_end()."""

import os
import sys

from . import arrays
from .comm import Comm

_named = None   # of tensors with a name
_unnamed = None  # of those without: no error feedback, which would come back in another tensor
_settings = {}
_seen = set()


def under_mpirun():
    """Whether an MPI launcher started this process, with how many others; 0: none did. Workers of a torchrun that one started have its variables, and
    are no ranks of MPI."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return 0
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MV2_COMM_WORLD_SIZE"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def _torch_group():
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return None
    return dist.group.WORLD


def _root(offset):
    named = os.environ.get("TAUT_ROOT")
    if named:
        host, _, port = named.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError("taut: TAUT_ROOT=%r: must be HOST:PORT" % named)
        return "%s:%d" % (host, int(port) + offset)
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", "")
    if not host or not port.isdigit():
        raise RuntimeError("taut.init: RANK and WORLD_SIZE are set, but neither TAUT_ROOT (HOST:PORT) nor MASTER_ADDR and MASTER_PORT")
    return "%s:%d" % (host, int(port) + 1 + offset)


def _number(name):
    value = os.environ.get(name, "")
    if not value.isdigit():
        raise RuntimeError("taut.init: %s=%r: must be a number" % (name, value))
    return int(value)


def _make(settings, offset):
    group = _torch_group()
    if group is not None:
        from .torch.meeting import comm_of_group
        return comm_of_group(group, settings)
    if under_mpirun() > 1:
        return Comm.mpi(**settings)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        rank, size = _number("RANK"), _number("WORLD_SIZE")
        return Comm.tcp(rank, size, root=_root(offset) if size > 1 else None, **settings)
    return Comm.tcp(**settings)  # a single rank


def init(**settings):
    """The default communicator, made of what started this program: an initialised torch.distributed, mpirun, or RANK, WORLD_SIZE and TAUT_ROOT
    (default MASTER_ADDR at MASTER_PORT + 1); else a single rank. Collective. settings: as of Comm."""
    global _named, _settings
    if _named is not None:
        if settings and settings != _settings:
            raise RuntimeError("taut.init: there is a communicator with other settings; taut.close() first")
        return _named
    _named = _make(settings, 0)
    _settings = dict(settings)
    _seen.clear()
    return _named


def _without_names():
    global _unnamed
    if _unnamed is None:
        init()
        _unnamed = _make(dict(_settings, feedback="off"), 1)
    return _unnamed


def allreduce(x, name=None, op="mean"):
    """Reduces an array or tensor over all ranks in place, and returns it.

    With a name, of one tensor of the model: errors are carried over to its next call, and a name that comes again begins a new step. Without one,
    tensors of one shape and dtype share a layer, nothing is carried over, and every call is a step of its own."""
    if name is None:
        comm = _without_names()
        m = arrays.memory(x)
        comm.allreduce(x, "unnamed %d %s" % (m.dtype, list(m.shape)), op)
        comm.step_end()
        return x
    comm = init()
    if name in _seen:
        step_end()
    comm.allreduce(x, name, op)
    _seen.add(name)
    return x


def step_end():
    """Ends the step of the default communicator (Comm.step_end)."""
    if _named is None:
        raise RuntimeError("taut.step_end: nothing was reduced")
    _seen.clear()
    _named.step_end()


def close():
    """Closes the default communicator; the next call makes another one."""
    global _named, _unnamed, _settings
    for comm in (_named, _unnamed):
        if comm is not None:
            comm.close()
    _named = _unnamed = None
    _settings = {}
    _seen.clear()

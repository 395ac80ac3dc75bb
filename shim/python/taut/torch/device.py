"""Gradients on CUDA devices: whether this libtaut can reduce them, and by what.

A group of NCCL's: its gradients lie on devices and travel by NCCL (taut_nccl.h), or, where it was asked for by transport="group", as frames through the group.
Other groups: a libtaut built with CUDA takes tensors of devices too, and their frames travel as ever."""

import contextlib

import torch
import torch.distributed as dist

from .. import _lib
from .gathered import GatheredComm
from .meeting import gather_any, gather_bytes

_ASK = "build libtaut with CUDA (make CUDA=1), or use transport='group', which encodes on the CPU"


def place_of(module):
    """The CUDA device of a module's parameters, which need not be the current one (device_ids=[rank]); None."""
    return next((p.device for p in module.parameters() if p.device.type == "cuda"), None) if module is not None else None


def at(place):
    """`with`: on that device."""
    return contextlib.nullcontext() if place is None else torch.cuda.device(place)


def _lack(comm):
    """What this rank lacks for layers on a device by NCCL; None."""
    if "cuda" not in _lib.lib.taut_features().decode().split():
        return "this libtaut was built without CUDA: %s" % _ASK
    if not hasattr(comm._so, "taut_comm_open_nccl"):
        return "this libtaut has no NCCL"
    return None if comm._so.taut_nccl_version() > 0 else "no NCCL: %s" % comm._so.taut_last_error().decode("utf-8", "replace")


def open(comm, group):
    """Types of devices whose tensors comm reduces from now on. Collective; RuntimeError, on all ranks, says which rank lacks what."""
    nccl = dist.get_backend(group) == "nccl"
    if isinstance(comm, GatheredComm):
        return ("cuda",) if nccl else ("cpu", "cuda")
    if not nccl:
        return ("cpu", "cuda") if _can_cuda(comm) else ("cpu",)
    lacks = gather_any((_lack(comm) or "").encode(), lambda mine: gather_bytes(mine, group))
    for rank, lack in enumerate(lacks):
        if lack:
            comm.close()
            raise RuntimeError("taut: the process group is NCCL's, and rank %d cannot reduce on its GPU: %s" % (rank, lack.decode()))
    comm.open_nccl(torch.cuda.current_device())
    return ("cuda",)


def _can_cuda(comm):
    return hasattr(comm._so, "taut_allreduce_start_on") and "cuda" in _lib.lib.taut_features().decode().split()

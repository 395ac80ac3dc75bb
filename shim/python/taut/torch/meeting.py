"""How the ranks of a process group get a communicator: over MPI where one launcher started exactly them, else over TCP, whose addresses travel
through the group."""

import os

import torch
import torch.distributed as dist

from ..comm import Comm
from ..default import under_mpirun


def _device(group):
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend(group) == "nccl" else torch.device("cpu")


def gather_bytes(mine, group):
    """Bytes of every rank, all of one length, in order of rank."""
    device = _device(group)
    own = torch.frombuffer(bytearray(mine), dtype=torch.uint8).to(device)
    out = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(out, own, group=group)
    return [bytes(t.cpu().numpy().tobytes()) for t in out]


def all_agree(yes, group):
    """Whether it is true on all ranks."""
    return all(b == b"\1" for b in gather_bytes(b"\1" if yes else b"\0", group))


def _mpi_for(group):
    """The MPI whose world are exactly the ranks of this group; None."""
    if under_mpirun() != dist.get_world_size(group) or under_mpirun() < 2:
        return None
    from .. import mpi
    try:
        found = mpi.mpi()
        return found if found.size(found.world()) == dist.get_world_size(group) else None
    except mpi.Unusable:
        return None


def _interface(bind):
    """gloo's choice of an interface is ours too."""
    named = bind or os.environ.get("GLOO_SOCKET_IFNAME")
    return named.split(",")[0] if named else None


def comm_of_group(group, settings, transport="auto", bind=None):
    """Collective over the group. transport: "auto", "tcp" or "mpi"."""
    if transport not in ("auto", "tcp", "mpi"):
        raise ValueError("taut: transport=%r: must be 'auto', 'tcp' or 'mpi'" % (transport,))
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    if rank < 0:
        raise ValueError("taut: this process is not a member of the process group")
    if size == 1:
        return Comm.tcp(**settings)
    found = _mpi_for(group) if transport != "tcp" else None
    if transport != "tcp" and all_agree(found is not None, group):
        from .. import mpi
        ordered = found.sorted_world(rank)
        try:
            return mpi.create_at(Comm, ordered, settings)
        finally:
            found.release(ordered)
    if transport == "mpi":
        raise RuntimeError("taut: transport='mpi': the ranks of this group are not those that an MPI launcher started, or no MPI can be used")
    return Comm.tcp(rank, size, exchange=lambda _, mine: gather_bytes(mine, group), bind=_interface(bind), **settings)


def comm_of_store(store, rank, size, name, settings, bind=None):
    """The same through a key-value store of torch.distributed, before there is a group."""
    if size == 1:
        return Comm.tcp(**settings)

    def exchange(number, mine):
        store.set("taut/%s/%d/%d" % (name, number, rank), mine)
        return [bytes(store.get("taut/%s/%d/%d" % (name, number, r))) for r in range(size)]

    return Comm.tcp(rank, size, exchange=exchange, bind=_interface(bind), **settings)

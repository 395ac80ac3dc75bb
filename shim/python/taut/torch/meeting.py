"""How the ranks of a process group get a communicator: over MPI where one launcher started exactly them, else over TCP, whose addresses travel
through the group, else, where that cannot be had, by the group's own collectives (gathered.py)."""

import os
import warnings

import torch
import torch.distributed as dist

from .. import _lib
from ..comm import Comm
from ..default import under_mpirun
from .gathered import GatheredComm

TRANSPORTS = ("auto", "tcp", "mpi", "group")
MOST_MS = 2**31 - 1
CONNECT_MS = 20000  # for TCP where there is another way: all ranks are there, so this is long
_NO_WAY = ("TAUT_E_UNSUPPORTED", "TAUT_E_PEER", "TAUT_E_TIMEOUT", "TAUT_E_TRANSPORT")  # what TCP answers where it is not to be had


def _device(group):
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend(group) == "nccl" else torch.device("cpu")


def to_ms(timeout):
    """A timedelta as a taut_config.timeout_ms."""
    return max(1, min(MOST_MS, int(timeout.total_seconds() * 1000)))


def patience_ms(group):
    """How long the group's own collectives wait. What a rank does meanwhile, such as writing a checkpoint, may take as long as in plain DDP."""
    import torch.distributed.distributed_c10d as c10d
    asked = (lambda: group._get_backend(_device(group)).options._timeout, lambda: group.options._timeout, lambda: c10d._pg_map[group][1].timeout)
    for ask in asked:  # torch 2, NCCL's of torch 1.13, others' there
        try:
            return to_ms(ask())
        except Exception:
            continue
    return to_ms(c10d.default_pg_timeout)


def gather_bytes(mine, group):
    """Bytes of every rank, all of one length, in order of rank."""
    device = _device(group)
    own = torch.frombuffer(bytearray(mine), dtype=torch.uint8).to(device)
    out = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(out, own, group=group)
    return [t.cpu().numpy().tobytes() for t in out]


def gather_any(mine, gather):
    """Bytes of every rank, of any lengths. gather: as gather_bytes(), for one group."""
    longest = max(int.from_bytes(b, "little") for b in gather(len(mine).to_bytes(8, "little")))
    padded = len(mine).to_bytes(8, "little") + mine + bytes(longest - len(mine))
    return [b[8:8 + int.from_bytes(b[:8], "little")] for b in gather(padded)]


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


def tcp_or_gathered(rank, size, gather, settings, bind=None):
    """Comm.tcp(), or, where the ranks cannot reach each other by it, a GatheredComm; the same on all ranks, who are told. gather: an allgather of bytes
    of one length."""
    if size == 1:
        return Comm.tcp(**settings)
    made = failure = None
    without = [r for r, b in enumerate(gather(b"\1" if Comm.has_tcp() else b"\0")) if b == b"\0"]
    if without:
        failure = _lib.Error(_lib.UNSUPPORTED, "the libtaut of rank %d was built without TCP" % without[0])
    else:
        try:
            made = Comm.tcp(rank, size, exchange=lambda _, mine: gather(mine), bind=_interface(bind), connect_ms=CONNECT_MS, **settings)
        except _lib.Error as e:
            failure = e
    verdicts = gather((failure.code if failure else 0).to_bytes(4, "little", signed=True))
    codes = [int.from_bytes(v, "little", signed=True) for v in verdicts]
    if not any(codes):
        return made
    if made is not None:
        made.close()
        worst = next(r for r, code in enumerate(codes) if code)
        failure = _lib.Error(codes[worst], "rank %d could not make its communicator" % worst)
    if not all(code == 0 or _lib.status_name(code) in _NO_WAY for code in codes):
        raise failure
    comm = GatheredComm(rank, size, gather, settings)
    warnings.warn("taut: the ranks of this group cannot reach each other by TCP of ours (%s): encoded gradients travel by all_gather of the process group, "
                  "with codec=%s, which is slower; bind= or GLOO_SOCKET_IFNAME names another interface, transport='tcp' makes this an error" % (
                      failure, comm.spec), RuntimeWarning, stacklevel=4)
    return comm


def comm_of_group(group, settings, transport="auto", bind=None):
    """Collective over the group. transport: one of TRANSPORTS."""
    if transport not in TRANSPORTS:
        raise ValueError("taut: transport=%r: must be one of %s" % (transport, ", ".join(map(repr, TRANSPORTS))))
    _lib.config(settings)  # a wrong name is an error before anybody waits for anybody
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    if rank < 0:
        raise ValueError("taut: this process is not a member of the process group")
    asked_ms = settings.get("timeout_ms")
    settings = dict(settings, timeout_ms=asked_ms or patience_ms(group))

    def gather(mine):
        return gather_bytes(mine, group)

    if transport == "group":
        return GatheredComm(rank, size, gather, settings)
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
    if transport == "tcp":
        return Comm.tcp(rank, size, exchange=lambda _, mine: gather(mine), bind=_interface(bind), connect_ms=0 if asked_ms else 60000, **settings)
    return tcp_or_gathered(rank, size, gather, settings, bind)

"""A backend of torch.distributed: init_process_group("taut"). All-reduces and reduce-scatters of dense float32, float16 and bfloat16 tensors on the CPU, sums and
means, are compressed; everything else is gloo's. That is DistributedDataParallel without a hook, FSDP2 with one mesh dimension or two (HSDP), replicate(),
and loops by hand.

Such calls name no tensor, so tensors of one shape and dtype share a layer, nothing is carried over from one call to the next (feedback=off), and
a layer that comes again begins a new step. What must stay exact: fewer than 1024 elements, whole numbers, float64, other operations, and all within
`with taut.torch.backend.exact():`. Settings: TAUT_CODEC, TAUT_BUDGET ... of the environment."""

import contextlib
import re
import threading

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

from .. import _lib
from ..arrays import _TORCH
from .fsdp import reduce_row
from .meeting import tcp_or_gathered, to_ms
from .steps import Steps, matrix_shape

if not hasattr(dist.ProcessGroup, "_register_backend"):
    raise ImportError("taut.torch.backend: needs torch 2.0 or later, and this is %s" % torch.__version__)

from torch._C._distributed_c10d import _create_work_from_future  # noqa: E402

MOST_LAYERS = 1024  # of a group: where every tensor has another shape, as of sequences, further ones are gloo's
_exact = threading.local()


@contextlib.contextmanager
def exact():
    """Sums of this thread are gloo's: for those that must not be compressed."""
    before, _exact.on = getattr(_exact, "on", False), True
    try:
        yield
    finally:
        _exact.on = before


def _done(tensors):
    future = torch.futures.Future()
    future.set_result(tensors)
    return _create_work_from_future(future)


def _ours(tensor, op):
    if getattr(_exact, "on", False) or not (op == ReduceOp.SUM or op == ReduceOp.AVG):  # not `in`, which compares the other way round
        return False
    return (tensor.layout == torch.strided and tensor.device.type == "cpu" and str(tensor.dtype) in _TORCH and tensor.is_contiguous()
            and tensor.numel() >= 1024)


class Group(dist.ProcessGroup):
    """gloo's, except for allreduce() and reduce-scatters."""

    def __init__(self, store, rank, size, timeout):
        super().__init__(rank, size)
        self._gloo = dist.ProcessGroupGloo(dist.PrefixStore("gloo", store), rank, size, timeout)
        self._register_backend(torch.device("cpu"), dist.ProcessGroup.BackendType.GLOO, self._gloo)
        self._set_default_backend(dist.ProcessGroup.BackendType.GLOO)
        self._timeout_ms = to_ms(timeout)
        self._comm = self._steps = None
        self._names = set()  # of layers

    def getBackendName(self):
        return "taut"

    def _gather(self, mine):
        own = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
        out = [torch.empty_like(own) for _ in range(self.size())]
        self._gloo.allgather([out], [own]).wait()
        return [t.numpy().tobytes() for t in out]

    def _open(self):
        """At the first sum: groups that never add need no connections."""
        if self._comm is None:
            self._comm = tcp_or_gathered(self.rank(), self.size(), self._gather, dict(feedback="off", timeout_ms=self._timeout_ms))
            self._steps = Steps(self._comm)
        return self._comm

    def _layer(self, dtype, shape, kind=""):
        """None where there are too many."""
        comm = self._open()
        name = "%s%s %s" % (kind, str(dtype).replace("torch.", ""), list(shape))
        if name not in self._names:
            if len(self._names) >= MOST_LAYERS:
                return None
            self._names.add(name)
        layer = comm.layer(name, dtype=_TORCH[str(dtype)], shape=shape)
        self._steps.enter(layer)
        return layer

    def _sum(self, tensor, op, opts):
        layer = self._layer(tensor.dtype, matrix_shape(tensor.shape))
        if layer is None:
            self._gloos(self._gloo.allreduce, [tensor], ([tensor], opts)).wait()
            return
        layer.start_tensor(tensor, _lib.MEAN if op == ReduceOp.AVG else _lib.SUM)
        layer.wait()

    def allreduce(self, tensors, opts=None):
        tensors = [tensors] if torch.is_tensor(tensors) else tensors
        op = opts.reduceOp if isinstance(opts, dist.AllreduceOptions) else ReduceOp.SUM if opts is None else opts
        if not isinstance(opts, dist.AllreduceOptions):
            opts = dist.AllreduceOptions()
            opts.reduceOp = op
        if self.size() == 1 or not all(_ours(t, op) for t in tensors):
            return self._gloos(self._gloo.allreduce, tensors, (tensors, opts))
        for tensor in tensors:
            self._sum(tensor, op, opts)
        return _done(tensors)

    def _gloos(self, call, results, arguments):
        """A sum of gloo's. That of some versions makes no means: it adds, and here is divided."""
        opts = arguments[-1]
        if opts.reduceOp != ReduceOp.AVG:
            return call(*arguments)
        opts.reduceOp = ReduceOp.SUM
        call(*arguments).wait()
        opts.reduceOp = ReduceOp.AVG
        for tensor in results:
            tensor /= self.size()
        return _done(results)

    def _reduce_scatter_base(self, output, whole, opts):
        """Of FSDP2 and dist.reduce_scatter_tensor()."""
        op, size = opts.reduceOp, self.size()
        ours = size > 1 and output.numel() * size == whole.numel() and output.dtype == whole.dtype and _ours(whole, op) and output.is_contiguous()
        layer = self._layer(whole.dtype, (size, output.numel()), "scattered ") if ours else None
        if layer is None:
            return self._gloos(self._gloo._reduce_scatter_base, [output], (output, whole, opts))
        reduce_row(layer, output, whole.clone(), _lib.MEAN if op == ReduceOp.AVG else _lib.SUM)
        return _done([output])

    reduce_scatter_single = _reduce_scatter_base  # its name in later versions

    def taut_stats(self):
        """dict, as of taut.Comm.stats()."""
        return self._open().stats()


def _gloos_own(name):
    def call(self, *arguments, **named):
        return getattr(self._gloo, name)(*arguments, **named)
    call.__name__ = name
    return call


# Called here, not by what torch has for subclasses in Python: that holds the interpreter's lock while it waits for gloo's, and a thread of gloo's, which drops
# tensors, waits the other way round (seen with torch 2.8 and 2.15, once in ten runs).
for _name in set(dir(dist.ProcessGroup)) & set(dir(dist.ProcessGroupGloo)) - set(vars(Group)):
    if re.search("gather|reduce|scatter|broadcast|barrier|all_?to_?all|send|recv", _name) and not _name.startswith("__"):
        setattr(Group, _name, _gloos_own(_name))


def _create(store, rank, size, timeout):
    return Group(store, rank, size, timeout)


dist.Backend.register_backend("taut", _create, devices=["cpu"])

"""FSDP2 (torch.distributed.fsdp.fully_shard): the reduce-scatter of gradients, compressed."""

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

from .. import _lib
from ..arrays import _TORCH
from .meeting import comm_of_group
from .steps import Steps


def _interface():
    try:
        from torch.distributed.fsdp import FSDPModule
    except Exception:  # Debian's torch 1.13 cannot import its own FSDP1: a ValueError
        FSDPModule = None
    if FSDPModule is None or not hasattr(FSDPModule, "set_custom_reduce_scatter"):
        raise RuntimeError("taut.torch.fsdp: needs FSDP2 of torch 2.9 or later (set_custom_reduce_scatter), and this is %s" % torch.__version__)
    from torch.distributed.fsdp._fully_shard._fsdp_api import ReduceScatter
    return FSDPModule, ReduceScatter


class Fsdp:
    """Made by fsdp(). One communicator for each group that gradients are scattered over."""

    def __init__(self, settings):
        self.settings, self._steps = settings, {}

    def of(self, group):
        if group not in self._steps:
            self._steps[group] = Steps(comm_of_group(group, self.settings))
        return self._steps[group]

    def step_end(self):
        """Once per training step, on all ranks; else a module whose gradients come again begins a new step."""
        for steps in self._steps.values():
            steps.end()

    def stats(self):
        """A list of dicts, one for each group, as of taut.Comm.stats()."""
        return [steps.comm.stats() for steps in self._steps.values()]

    def close(self):
        for steps in self._steps.values():
            steps.comm.close()


def _make_reduce_scatter(base):
    class TautReduceScatter(base):
        """Of one module. The input is one row per rank, which is what a layer's parts are where they can be; where they cannot, the whole is
        reduced, and a rank takes its row."""

        def __init__(self, owner, name):
            self.owner, self.name = owner, name

        def allocate(self, size, *, dtype, device):
            return torch.empty(*size, dtype=dtype, device=device)

        def _op(self, op):
            if op == ReduceOp.SUM or op == ReduceOp.AVG:
                return _lib.MEAN if op == ReduceOp.AVG else _lib.SUM
            raise RuntimeError("taut: FSDP module '%s' reduces with %s: sums and means only (no gradient divide factor)" % (self.name, op))

        def __call__(self, output_tensor, input_tensor, group, op, async_op=False):
            size, rank, chunk = dist.get_world_size(group), dist.get_rank(group), output_tensor.numel()
            kind, op = _TORCH.get(str(input_tensor.dtype)), self._op(op)
            if kind is None or input_tensor.device.type != "cpu":
                raise RuntimeError("taut: gradients of FSDP module '%s' are %s on %s: must be float32, float16 or bfloat16 on the CPU" % (
                    self.name, input_tensor.dtype, input_tensor.device))
            steps = self.owner.of(group)
            layer = steps.comm.layer("%s %s" % (self.name, str(input_tensor.dtype).replace("torch.", "")), dtype=kind, shape=(size, chunk))
            steps.enter(layer)
            if all(layer.part(r) == (r * chunk, chunk) for r in range(size)):
                layer.reduce_scatter_at(input_tensor.data_ptr(), op)
            else:
                layer.start_at(input_tensor.data_ptr(), op)
                layer.wait()
            output_tensor.copy_(input_tensor.view(size, chunk)[rank])
            return None

    return TautReduceScatter


def fsdp(model, **settings):
    """Compresses the reduce-scatters of all FSDP2 modules in model; returns an object with step_end(), stats() and close(). RuntimeError names a
    module that cannot be served. The all-reduce of HSDP and replicate() is the process group's: init_process_group("taut") compresses that."""
    FSDPModule, base = _interface()
    modules = [(name or "root", m) for name, m in model.named_modules() if isinstance(m, FSDPModule)]
    if not modules:
        raise RuntimeError("taut.torch.fsdp: there is no FSDP2 module in the model: fully_shard() comes first (FullyShardedDataParallel is FSDP1, and not served)")
    owner, kind = Fsdp(settings), _make_reduce_scatter(base)
    for name, module in modules:
        try:
            module.set_custom_reduce_scatter(kind(owner, name))
        except (ValueError, AssertionError) as e:
            raise RuntimeError("taut.torch.fsdp: module '%s' cannot be served: %s" % (name, e)) from e
    return owner

"""FSDP2 (torch.distributed.fsdp.fully_shard): the reduce-scatter of gradients, and the all-reduce over replicas of the shards, compressed."""

import warnings

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

from .. import _lib
from ..arrays import _TORCH
from .meeting import comm_of_group
from .steps import Steps, fitting, matrix_shape


def _fsdp_module():
    try:
        from torch.distributed.fsdp import FSDPModule
    except Exception:  # Debian's torch 1.13 cannot import its own FSDP1: a ValueError
        FSDPModule = None
    if FSDPModule is None or not hasattr(FSDPModule, "set_all_reduce_hook"):
        raise RuntimeError("taut.torch.fsdp: needs FSDP2 of torch 2.7 or later (set_all_reduce_hook), and this is %s" % torch.__version__)
    return FSDPModule


def can_reduce_scatter():
    """Whether this torch lets others do FSDP2's reduce-scatter (2.9)."""
    return hasattr(_fsdp_module(), "set_custom_reduce_scatter")


class Fsdp:
    """Made by fsdp(). One communicator for each group that gradients are reduced over."""

    def __init__(self, settings, transport, bind):
        self.settings, self.transport, self.bind, self._steps = settings, transport, bind, {}
        self._shapes = {}  # that a layer of this name had first

    def of(self, group):
        if group not in self._steps:
            self._steps[group] = Steps(comm_of_group(group, self.settings, self.transport, self.bind))
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

    def layer(self, steps, name, tensor, shape):
        kind = _TORCH.get(str(tensor.dtype))
        if kind is None or tensor.device.type != "cpu":
            raise RuntimeError("taut: gradients of FSDP module '%s' are %s on %s: must be float32, float16 or bfloat16 on the CPU" % (
                name, tensor.dtype, tensor.device))
        title = "%s %s" % (name, str(tensor.dtype).replace("torch.", ""))
        first = self._shapes.setdefault((steps, title), shape)
        if first != shape:  # a module reduces what has gradients: not all parameters, where some were not used, or are frozen
            title += " %s" % (list(shape),)
        layer = steps.comm.layer(fitting(title), dtype=kind, shape=shape)
        steps.enter(layer)
        return layer


def _make_reduce_scatter():
    from torch.distributed.fsdp._fully_shard._fsdp_api import ReduceScatter

    class TautReduceScatter(ReduceScatter):
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
            op, steps = self._op(op), self.owner.of(group)
            layer = self.owner.layer(steps, self.name, input_tensor, (dist.get_world_size(group), output_tensor.numel()))
            reduce_row(layer, output_tensor, input_tensor, op)
            return None

    return TautReduceScatter


def reduce_row(layer, output, whole, op):
    """This rank's row of whole, (ranks, elements of output) in memory, reduced by the layer of that shape; whole is lost."""
    size, chunk = layer.shape
    if all(layer.part(r) == (r * chunk, chunk) for r in range(size)):
        layer.reduce_scatter_tensor(whole, op)
    else:
        layer.start_tensor(whole, op)
        layer.wait()
    output.view(-1).copy_(whole.view(size, chunk)[layer.comm.rank])


def _missing_factor(module):
    """By what torch forgets to divide: gloo of torch 2.8 and before adds where FSDP2's reduce-scatter asks for a mean. Collective over the shards."""
    for g in _param_groups(module):
        group = g._reduce_scatter_process_group
        size = dist.get_world_size(group)
        if size > 1 and g.device.type == "cpu":
            one = torch.zeros(1, device="cpu")
            dist.reduce_scatter_tensor(one, torch.ones(size, device="cpu"), op=ReduceOp.AVG, group=group)
            return max(1, round(one.item()))
    return 1


def _make_hook(owner, name, group, forgotten):
    def hook(shard):
        if forgotten > 1 and shard.dtype != torch.float16:  # of which torch asks for sums, and divides itself
            shard /= forgotten
        layer = owner.layer(owner.of(group), name, shard, matrix_shape(shard.shape))
        layer.start_tensor(shard, _lib.MEAN)
        layer.wait()
    return hook


# ---- which modules can be served ----

def _param_groups(module):
    """torch's own of this module; [] for one without parameters."""
    state = module._get_fsdp_state()
    groups = getattr(state, "_fsdp_param_groups", None)  # before 2.11 there is at most one
    return list(groups) if groups is not None else [g for g in (getattr(state, "_fsdp_param_group", None),) if g is not None]


def _meshes(module):
    """What its gradients are reduced over, as torch calls it: "FSDPMeshInfo", "HSDPMeshInfo", "DDPMeshInfo"."""
    return [type(g.mesh_info).__name__ for g in _param_groups(module)]


def _all_reduce_groups(module):
    return [g._all_reduce_process_group for g in _param_groups(module)]


def _is_ours(group):
    return dist.get_backend(group) == "taut"


def _check(name, module, replicate, scatter):
    """RuntimeError for a module that cannot be served as it was asked."""
    meshes = _meshes(module)
    if not scatter and replicate is None:
        raise RuntimeError("taut.torch.fsdp: nothing to do: reduce_scatter=False, and no group of replicas")
    if "DDPMeshInfo" in meshes:
        raise RuntimeError("taut.torch.fsdp: module '%s' is replicated by replicate(), which scatters nothing and sums by its process group: "
                           "init_process_group('taut') compresses that" % name)
    if "HSDPMeshInfo" in meshes and replicate is None and not all(_is_ours(g) for g in _all_reduce_groups(module)):
        warnings.warn("taut.torch.fsdp: of module '%s' the reduce-scatter is compressed, and its all-reduce over replicas is not: that is its process "
                      "group's, and init_process_group('taut') compresses it" % name, RuntimeWarning, stacklevel=4)
    if "HSDPMeshInfo" in meshes and replicate is not None:
        raise RuntimeError("taut.torch.fsdp: module '%s' is sharded over a mesh of two dimensions, whose all-reduce torch does itself: give fully_shard() the "
                           "sharding dimension alone with replicate=, or init_process_group('taut')" % name)


def fsdp(model, replicate=None, reduce_scatter=None, transport="auto", bind=None, **settings):
    """Compresses what all FSDP2 modules in model send with their gradients; returns an object with step_end(), stats() and close().

    replicate      : a process group (or a mesh of one dimension) over which every shard has replicas: gradients are averaged over it, compressed, by an
                     all-reduce hook after torch's reduce-scatter. Parameters must be equal on all of it. torch 2.7.
    reduce_scatter : whether the reduce-scatter is compressed; default: where there is no replicate. torch 2.9.
    transport, bind, settings: as of State.

    RuntimeError names a module that cannot be served. The all-reduce of HSDP (a mesh of two dimensions) and of replicate() is the process group's:
    init_process_group("taut") compresses that."""
    FSDPModule = _fsdp_module()
    replicate = replicate.get_group() if hasattr(replicate, "get_group") else replicate
    scatter = replicate is None if reduce_scatter is None else reduce_scatter
    if scatter and not can_reduce_scatter():
        raise RuntimeError("taut.torch.fsdp: torch %s lets nobody do its reduce-scatter (2.9 does): give replicate=, a group of replicas, whose all-reduce can be "
                           "done, or init_process_group('taut'), which compresses both" % torch.__version__)
    modules = [(name or "root", m) for name, m in model.named_modules() if isinstance(m, FSDPModule)]
    if not modules:
        raise RuntimeError("taut.torch.fsdp: there is no FSDP2 module in the model: fully_shard() comes first (FullyShardedDataParallel is FSDP1, and not served)")
    for name, module in modules:
        _check(name, module, replicate, scatter)
    owner, kind = Fsdp(settings, transport, bind), _make_reduce_scatter() if scatter else None
    for name, module in modules:
        forgotten = _missing_factor(module) if replicate is not None and not scatter else 1
        if forgotten > 1:
            warnings.warn("taut.torch.fsdp: gloo of torch %s adds the gradients of module '%s' over its %d shards where FSDP2 asks for their mean: divided here, "
                          "and not without taut" % (torch.__version__, name, forgotten), RuntimeWarning, stacklevel=2)
        try:
            if scatter:
                module.set_custom_reduce_scatter(kind(owner, name))
            if replicate is not None:
                module.set_all_reduce_hook(_make_hook(owner, name, replicate, forgotten))
        except (ValueError, AssertionError) as e:
            raise RuntimeError("taut.torch.fsdp: module '%s' cannot be served: %s" % (name, e)) from e
    if replicate is not None:
        owner.of(replicate)  # collective, and now, where all are
    return owner

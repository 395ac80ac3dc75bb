"""The communication hook of DistributedDataParallel.

DDP hands over one bucket after the other during backward; the hook starts a reduction for each parameter in it, in place, and returns a future. With
the last bucket of the backward pass it ends the step, which waits for all, and completes the futures. Parameters are known by their names in
the model, however DDP arranges its buckets."""

import itertools
import os
import struct
import warnings
import weakref

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from .. import _lib
from ..arrays import _TORCH
from . import device
from .gathered import GatheredComm
from .meeting import comm_of_group, gather_any, gather_bytes
from .scales import Scales
from .steps import MOST_DIMENSIONS, fitting


def _future(buffer, value=None):
    f = torch.futures.Future(devices=[buffer.device]) if buffer.device.type == "cuda" else torch.futures.Future()
    if value is not None:
        f.set_result(value)
    return f


def _order(t):
    """Dimensions of a parameter in the order in which DDP lays out its gradient: as the parameter lies in memory, or, if that has gaps or
    overlaps, in their own. (bucket.gradients() says "in their own" of all.)"""
    order = sorted(range(t.dim()), key=lambda d: (-t.stride(d), -t.size(d)))
    expected = 1
    for d in reversed(order):
        if t.size(d) != 1 and t.stride(d) != expected:
            return tuple(range(t.dim()))
        expected *= t.size(d)
    return tuple(order)


def _scale_counts(settings):
    """Whether any codec looks at a scale."""
    codec = os.environ.get("TAUT_CODEC") or settings.get("codec") or "auto"
    metric = os.environ.get("TAUT_METRIC") or settings.get("metric") or "optimizer"
    return metric == "optimizer" and ("auto" in codec or "grid" in codec)


class State:
    """What a hook needs between calls: the communicator, names, the optimizer's scales. One per model; collective to make.

    module        : the model, or what DistributedDataParallel made of it; its parameters' names are the layers'. None: parameters are numbered as
                    buckets bring them (and load_state_dict() cannot be used before the first backward pass).
    process_group : the ranks; default that of the DDP model, else all.
    optimizer     : errors count in units of what it divides by (Adam, AdamW, RMSprop, Adagrad, Adadelta); may be set later (.optimizer).
    scale         : "element" (default), "row" or "none": how finely.
    transport     : "auto" (MPI where the ranks are those that mpirun started, else TCP, else, with a warning, the group's own collectives), "tcp",
                    "mpi", "group". Gradients on CUDA devices travel by NCCL where the group is NCCL's.
    bind          : address or interface for TCP; default GLOO_SOCKET_IFNAME, else all.
    exclude       : names, or a function of a name: these travel uncompressed.
    settings      : fields of taut_config: codec, budget, feedback, timeout_ms ... (docs/env.md)."""

    def __init__(self, module=None, process_group=None, optimizer=None, scale="element", transport="auto", bind=None, exclude=(), **settings):
        if not dist.is_initialized():
            raise RuntimeError("taut.torch.State: torch.distributed.init_process_group() comes first")
        self._ddp = lambda: None
        if isinstance(module, DistributedDataParallel):
            self._ddp = weakref.ref(module)
            process_group = process_group or module.process_group
            module = module.module
        self.group = process_group or dist.group.WORLD
        self.exclude = exclude if callable(exclude) else self._names_to_exclude(exclude, module).__contains__
        self._names = {}  # of parameters, which are kept: an id is not reused while they live
        self._layers = {}  # (parameter's name, dtype) -> (layer, order of dimensions)
        self._found = {}  # parameter -> (layer, what it and its gradient were like then)
        self._count = itertools.count()
        self._pending = []  # (future, value) of this backward pass
        self._zeros = []  # (layer, gradient) of this backward pass that this rank did not use
        self._keeps = (os.environ.get("TAUT_FEEDBACK") or settings.get("feedback")) != "off"
        self._open = False  # a step is under way
        self._failed = self.error = None
        self._steps = 0  # ended, those before a checkpoint included
        self._anew = False  # scales are due in the next step: of the run that saves a checkpoint and of the one that loads it
        self._numbered = module is None
        self.scales = Scales(optimizer, scale if _scale_counts(settings) else "none")
        self._place = device.place_of(module)
        with device.at(self._place):
            self.comm = comm_of_group(self.group, settings, transport, bind)
            self._on_device = device.open(self.comm, self.group)
        if module is not None:
            self._register_all(module)

    # ---- names ----

    @staticmethod
    def _names_to_exclude(names, module):
        """As named_parameters() has them: tied weights have further names."""
        names = {names} if isinstance(names, str) else set(names)
        if module is None:
            return names
        first, other = {p: n for n, p in module.named_parameters()}, {}
        for prefix, m in module.named_modules(remove_duplicate=False):
            other.update(("%s.%s" % (prefix, n) if prefix else n, first[p]) for n, p in m._parameters.items() if p is not None)
        for name in sorted(names):
            if name not in other:
                raise ValueError("taut.torch.State: exclude has '%s', which is no parameter of the model; it has %s" % (name, ", ".join(sorted(other)[:8])))
        return {other[name] for name in names}

    def _register_all(self, module):
        for name, p in module.named_parameters():  # tied weights once, by their first name
            self._names[p] = name
            if p.requires_grad and str(p.dtype) in _TORCH and p.numel() > 0:
                self._layer(name, p.dtype, p)

    def _name(self, param):
        if param not in self._names:
            if not self._numbered:
                raise RuntimeError("taut: a gradient of shape %s belongs to no parameter of the model that this State was made for: make one State per "
                                   "model, after its last change" % (tuple(param.shape),))
            self._names[param] = "parameter %d" % next(self._count)
        return self._names[param]

    def _layer(self, name, dtype, param):
        key, order = (name, dtype), _order(param)
        shape = tuple(param.size(d) for d in order)
        if len(shape) > MOST_DIMENSIONS:
            shape = shape[:1] + (param.numel() // shape[0],)
        if key not in self._layers:
            known = any(n == name for n, _ in self._layers)  # of another dtype
            title = fitting("%s as %s" % (name, str(dtype).replace("torch.", "")) if known else name)
            layer = self.comm.layer(title, dtype=_TORCH[str(dtype)], shape=shape)
            if self.exclude(name):
                layer.codec("none")
            self._layers[key] = (layer, order)
        layer, registered = self._layers[key]
        if registered != order or layer.shape != shape:
            raise RuntimeError("taut: '%s' lies in memory as %s (dimensions %s), and did as %s (%s) when it was registered: make a new State after such a "
                               "change of the model" % (name, shape, order, layer.shape, registered))
        return layer

    # ---- the hook ----

    @property
    def optimizer(self):
        return self.scales.optimizer

    @optimizer.setter
    def optimizer(self, optimizer):
        self.scales = Scales(optimizer, self.scales.per)

    def _set_scales(self):
        """The same on all ranks, or none: optimizers differ by a bit where hosts compute in other orders, or one was not stepped (join())."""
        by_name, seen = {n: p for p, n in self._names.items()}, 0
        for (name, _), (layer, order) in self._layers.items():
            s = self.scales.of(by_name[name], order)
            if s is None:
                continue
            even = s.numel() & ~1
            bits = int(s[:even].view(torch.int64).sum()) + int(s[even:].view(torch.int32).sum())
            seen = (31 * seen + bits) % 2**64
            try:
                layer.scale_at(s.data_ptr(), s.numel())
            except _lib.Error as e:
                if e.status != "TAUT_E_RANGE":  # no finite numbers: on no rank, and the earlier scale stays
                    raise
        if not self._same_on_all(struct.pack("<Q", seen)):
            self.scales = Scales(None, "none")
            for layer, _ in self._layers.values():
                layer.scale_at(None, 0)
            warnings.warn("taut: the optimizer's state is not the same on all ranks, which a scale has to be: errors count without it from now on", RuntimeWarning)

    def _same_on_all(self, mine):
        try:
            return len(set(gather_bytes(mine, self.group))) == 1
        except Exception:  # the group is gone, or a rank: the library says which
            return True

    def _begin(self):
        if self._failed is not None:
            raise RuntimeError("taut: an earlier step failed (%s); the model's State cannot be used any more" % self._failed)
        config = getattr(self._ddp(), "_join_config", None)
        if config is not None and config.enable and not self._ddp()._divide_by_initial_world_size:
            raise RuntimeError("taut: join(divide_by_initial_world_size=False): a hook's mean is that of all ranks, whoever has left: join() without it")
        self._pending, self._zeros = [], []
        if not isinstance(self.comm, GatheredComm) and (self.scales.due(self._steps) or (self._anew and self.scales.per != "none")):
            self._set_scales()
        self._anew = False
        self._open = True

    def _pass_through(self, buffer):
        """Plain DDP's behaviour: the mean, by the process group itself."""
        if buffer.is_sparse:
            buffer = buffer.coalesce()
        buffer = buffer / self.comm.size
        dist.all_reduce(buffer, group=self.group)
        return buffer

    def _start_bucket(self, bucket, buffer):
        grads = list(bucket.gradients())
        # All before the first is started: of a model that has changed on all ranks each says which parameter, not that another rank is gone.
        pairs = [(self._layer_for(param, grad), grad) for param, grad in zip(bucket.parameters(), grads) if grad.numel() > 0]
        unused = self._finds_unused() and buffer.device.type == "cpu"
        for layer, grad in pairs:
            if unused and not grad.any():
                self._zeros.append((layer, grad))
            else:
                layer.start_tensor(grad, _lib.MEAN)

    def _finds_unused(self):
        return self._keeps and getattr(self._ddp(), "find_unused_parameters", False)

    def _start_unused(self):
        """DDP throws the result away where no rank used a parameter: what feedback would put into it is not sent then, but kept."""
        mine, zeros = [layer for layer, _ in self._layers.values()], {layer for layer, _ in self._zeros}
        gathered = gather_bytes(bytes(layer in zeros for layer in mine), self.group)
        nowhere = {layer for k, layer in enumerate(mine) if all(bits[k] for bits in gathered)}
        for layer, grad in self._zeros:
            if layer not in nowhere:
                layer.start_tensor(grad, _lib.MEAN)
        self._zeros = []

    def _layer_for(self, param, grad):
        now = (grad.dtype, param.shape, param.stride(), grad.numel())
        found = self._found.get(param)
        if found is not None and found[1] == now:
            return found[0]
        name = self._name(param)
        if grad.numel() != param.numel():
            raise RuntimeError("taut: the gradient of '%s' has %d elements, and the parameter %d" % (name, grad.numel(), param.numel()))
        layer = self._layer(name, grad.dtype, param)
        self._found[param] = (layer, now)
        return layer

    def reduce(self, bucket):
        """What hook() does: a future of the bucket's mean."""
        buffer = bucket.buffer()
        if not self._open:
            self._begin()
        self._served(bucket, buffer)
        if bucket.is_last():
            self._end()
        return self._pending_future

    def _served(self, bucket, buffer):
        # A bucket of complex parameters may come as one of twice as many floats, whose places in it are not told.
        if buffer.is_sparse or str(buffer.dtype) not in _TORCH or sum(p.numel() for p in bucket.parameters()) != buffer.numel():
            self._pending_future = _future(buffer, self._pass_through(buffer))
            return
        if buffer.device.type not in self._on_device:
            names = ", ".join("'%s'" % self._name(p) for p in bucket.parameters()[:3])
            raise RuntimeError("taut: gradients of %s are on %s: must be on %s, as the process group's backend and libtaut are" % (
                names, buffer.device, " or ".join(self._on_device)))
        self._start_bucket(bucket, buffer)
        self._pending_future = _future(buffer)
        self._pending.append((self._pending_future, buffer))

    def _end(self):
        if self._finds_unused():
            self._start_unused()
        self._open = False
        self.comm.step_end()
        self._steps += 1
        pending, self._pending = self._pending, []
        for future, value in pending:
            future.set_result(value)

    def fail(self, why):
        """After an exception in the hook nothing is under way any more: peers are told."""
        if self._failed is None:
            self._failed, self.error = "%s: %s" % (type(why).__name__, why), why
        self._open, self._pending, self._zeros = False, [], []
        self.comm.close()

    # ---- for programs ----

    def drop(self):
        """The gradients of the last backward pass are not used: what compression left of them shall not come back. Steps with NaN or Inf, as
        GradScaler finds them, are dropped without this."""
        self.comm.step_drop()

    def stats(self):
        """dict: steps, bytes_sent, bytes_dense, rel_err2, budget, budget_violations, plans ... (taut_comm_stats)."""
        return self.comm.stats()

    def state_dict(self):
        """The compressor's state of all ranks, for a checkpoint: collective; the same on all ranks."""
        with device.at(self._place):
            blobs = gather_any(self.comm.save(), lambda mine: gather_bytes(mine, self.group))
        self._anew = True
        return {"version": 1, "steps": self._steps, "blobs": [torch.frombuffer(bytearray(b), dtype=torch.uint8) for b in blobs]}

    def load_state_dict(self, state):
        """Takes what state_dict() gave, of as many ranks as there were, on all ranks that there are now."""
        if not isinstance(state, dict) or state.get("version") != 1 or "blobs" not in state or "steps" not in state:
            raise ValueError("taut: this is no state of taut.torch.State: a dict with version 1, steps and blobs")
        if not self._layers:
            raise RuntimeError("taut: load_state_dict() needs the layers: give State the model, or run a backward pass first")
        self.comm.load([t.cpu().contiguous() for t in state["blobs"]])
        self._steps, self._anew = state["steps"], True

    def close(self):
        self.comm.close()

    def __reduce__(self):
        """Of a copied or pickled model: as DistributedDataParallel copies itself, without its hook."""
        warnings.warn("taut: copies of a model have no hook and no State: taut.torch.ddp() gives them one", RuntimeWarning, stacklevel=3)
        return type(None), ()


def hook(state, bucket):
    """For model.register_comm_hook(state, hook)."""
    if not isinstance(state, State):
        raise TypeError("taut.torch.hook: the state is a %s: must be a taut.torch.State" % type(state).__name__)
    try:
        return state.reduce(bucket)
    except BaseException as e:
        state.fail(e)
        raise


def ddp(model, optimizer=None, process_group=None, scale="element", transport="auto", bind=None, exclude=(), ddp_args=None, **settings):
    """model, wrapped by DistributedDataParallel (ddp_args: its arguments) unless it is already, with the hook; .taut is its State, whose
    arguments are the others. Buckets are of 1 MB then, not 25: what a layer needs is sent as soon as it is there, bucket or not, and the first
    layers of a backward pass need not wait for the last."""
    if not isinstance(model, DistributedDataParallel):
        model = DistributedDataParallel(model, process_group=process_group, **dict({"bucket_cap_mb": 1}, **(ddp_args or {})))
    elif ddp_args:
        raise ValueError("taut.torch.ddp: ddp_args are for a model that is not wrapped yet")
    state = State(model, process_group, optimizer, scale, transport, bind, exclude, **settings)
    model.register_comm_hook(state, hook)
    model.taut = state
    return model
